//! What an operation says when it is over.

use super::round::Proposal;
use super::{StrongOperation, Task};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::op_id::OpId;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::record::Kind;
use annulet_protocol::register::{Change, Head, Verdict};
use bytes::Bytes;

/// What an operation that is done says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrongDone {
    /// What is there, or was put there; `None`: nobody has written the key.
    pub head: Option<Head>,
    /// The value, if a read found one that is not expired and was to give it.
    pub value: Option<Bytes>,
    /// Whether the key has a value that is not expired.
    pub live: bool,
    /// The version that a write made, or a touch found; `None`: a touch found none.
    pub written: Option<Ballot>,
    /// What became of the write that was asked about.
    pub resolved: Option<Resolved<Ballot>>,
}

/// What became of a write whose outcome was not known: see [`crate::Bucket::resolve`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let names = client.bucket("strong");
/// # let op_id = "00112233445566778899aabbccddeeff-3-18bcfe56800-1".parse()?;
/// use annulet::Resolved;
///
/// // `op_id` is what `Error::op_id` gave.
/// let resolved = names.resolve("name:resolved", &op_id).await?;
/// let is_mine = matches!(resolved, Resolved::Applied { .. });
/// assert!(!is_mine);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved<V = String> {
    /// It was applied, and made this version.
    Applied {
        /// The version, an opaque string.
        version: V,
    },
    /// It was not applied and never will be.
    NotApplied,
    /// So many other writes of the key came after it that nobody knows any more. It will not be
    /// applied from now on.
    Forgotten,
}

impl StrongDone {
    pub(super) fn read(head: Option<Head>, live: bool, value: Option<Bytes>) -> Self {
        Self {
            head,
            value,
            live,
            written: None,
            resolved: None,
        }
    }
}

impl StrongOperation {
    /// What a completed round says.
    pub(super) fn outcome(&self, proposal: &Proposal, now_ms: u64) -> Result<StrongDone> {
        let head = proposal.register.head;
        let live = head.is_live(now_ms);
        let value = proposal.value.clone();
        let value = value.filter(|_| live && self.wants_value());
        let known = head.version != Ballot::default();
        let done = StrongDone::read(Some(head).filter(|_| known), live, value);
        match (&self.task, proposal.verdict) {
            (Task::Read { .. }, _) => Ok(done),
            (Task::Resolve(_), verdict) => {
                let resolved = match verdict {
                    Verdict::Applied(version) => Resolved::Applied { version },
                    Verdict::Forgotten => Resolved::Forgotten,
                    Verdict::Refused | Verdict::Failed | Verdict::Settled => Resolved::NotApplied,
                };
                Ok(StrongDone {
                    resolved: Some(resolved),
                    ..done
                })
            }
            (Task::Write(_), Verdict::Applied(version)) => Ok(StrongDone {
                written: Some(version),
                ..done
            }),
            (Task::Write(Change::Touch { .. }), Verdict::Failed | Verdict::Settled) => Ok(done),
            (Task::Write(_), Verdict::Failed | Verdict::Settled) => {
                let why = match head.kind {
                    Kind::Value if live => format!("the key has version {}", head.version),
                    Kind::Value | Kind::Tombstone => "the key has no value".into(),
                };
                let why = format!("the condition does not hold: {why}");
                let error = Error::new(ErrorKind::Conflict, why);
                Err(error.with_outcome(Outcome::NotApplied))
            }
            (Task::Write(_), Verdict::Refused) => {
                let why = "somebody asked what had become of the write before it was applied, so \
                           it never will be";
                let error = Error::new(ErrorKind::Conflict, why);
                Err(error.with_outcome(Outcome::NotApplied))
            }
            (Task::Write(_), Verdict::Forgotten) => {
                let why = "so many other writes of the key came after it that it is not known \
                           whether it was applied; it was not tried again";
                let error = Error::new(ErrorKind::Unavailable, why);
                Err(self.unknown(error))
            }
        }
    }

    /// An error with the outcome that is certain: `not_applied` only if no message that carried the
    /// change may have been accepted.
    pub(super) fn failed(&self, error: Error) -> Error {
        match (&self.task, self.exposed) {
            (Task::Read { .. } | Task::Resolve(_), _) => error,
            (Task::Write(_), false) => error.with_outcome(Outcome::NotApplied),
            (Task::Write(_), true) => self.unknown(error),
        }
    }

    fn unknown(&self, error: Error) -> Error {
        let error = error.with_outcome(Outcome::Unknown);
        match self.tried {
            Some(tried) => error.with_op_id(OpId::new(self.start.op, tried.first)),
            None => error,
        }
    }
}
