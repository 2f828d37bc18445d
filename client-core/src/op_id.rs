//! Names of single writes, for asking later what became of them.

use annulet_protocol::ballot::Ballot;
use annulet_protocol::ids;
use std::fmt;
use std::str::FromStr;

/// Names one write of a strong bucket whose outcome is not known. [`crate::Bucket::resolve`] tells
/// what became of it, in this process or another: it can be kept as text.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let locks = client.bucket("strong");
/// use annulet::{OpId, Resolved};
///
/// // What `Error::op_id` gave, kept as text, perhaps by another process.
/// let kept = "00112233445566778899aabbccddeeff-1-18bcfe56800-1";
/// let op_id: OpId = kept.parse()?;
/// let outcome = locks.resolve("job:name", &op_id).await?;
/// assert!(!matches!(outcome, Resolved::Applied { .. }));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpId {
    op: ids::OpId,
    /// Number of the round in which it may first have been accepted.
    since: u64,
}

impl OpId {
    pub(crate) fn new(op: ids::OpId, since: Ballot) -> Self {
        let since = since.number;
        Self { op, since }
    }

    /// The operation.
    pub(crate) fn op(&self) -> ids::OpId {
        self.op
    }

    /// The round in which it may first have been accepted.
    pub(crate) fn since(&self) -> Ballot {
        Ballot {
            number: self.since,
            proposer: self.op.client,
        }
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids::OpId {
            client,
            sequence,
            first_sent_ms,
        } = self.op;
        write!(
            f,
            "{client}-{sequence:x}-{first_sent_ms:x}-{:x}",
            self.since
        )
    }
}

impl FromStr for OpId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` does not name a write");
        let number = |part: &str| {
            let digits = (1..=16).contains(&part.len());
            let digits = digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u64::from_str_radix(part, 16).ok();
            number.filter(|_| digits).ok_or_else(wrong)
        };
        let parts: Vec<_> = text.splitn(5, '-').collect();
        let [client, sequence, first_sent_ms, since] = parts[..] else {
            return Err(wrong());
        };
        Ok(Self {
            op: ids::OpId {
                client: client.parse().map_err(|_| wrong())?,
                sequence: number(sequence)?,
                first_sent_ms: number(first_sent_ms)?,
            },
            since: number(since)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulet_protocol::ids::Incarnation;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let op = ids::OpId {
            client: Incarnation([0xab; 16]),
            sequence: 3,
            first_sent_ms: u64::MAX,
        };
        let since = Ballot {
            number: 0x1234,
            proposer: op.client,
        };
        let name = OpId::new(op, since);
        assert_eq!(name.to_string().parse(), Ok(name));
        assert_eq!((name.op(), name.since()), (op, since));
        let text = name.to_string();
        for bad in [
            "",
            "-",
            "---",
            &text[1..],
            &format!("{text}-1"),
            &format!("{text}{:013}", 0),
        ] {
            assert!(bad.parse::<OpId>().is_err(), "{bad}");
        }
    }
}
