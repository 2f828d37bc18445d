//! Names of clusters, nodes, clients and operations.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Declares a 128-bit identifier: 16 bytes on the wire, 32 hexadecimal digits in text.
macro_rules! wide_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match u128::from_str_radix(text, 16) {
                    Ok(n) if are_digits(text, 32) => Ok(Self(n.to_be_bytes())),
                    _ => Err(format!("`{text}` is not an id of 32 hexadecimal digits")),
                }
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_bytes(&self.0) }
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                use serde::de::Error;
                if d.is_human_readable() {
                    return String::deserialize(d)?.parse().map_err(D::Error::custom);
                }
                Ok(Self(serde_bytes::ByteArray::<16>::deserialize(d)?.into_array()))
            }
        }
    };
}

wide_id!(
    /// A cluster, random at its birth. It is in every message; a foreign one is refused.
    ClusterId
);
wide_id!(
    /// One life of a client core: 128 random bits, drawn anew at every start and after a fork.
    Incarnation
);
wide_id!(
    /// What an epoch is: the hash of its record, which names the hash of the one before; of the
    /// first, for which there is no record, that of its view.
    EpochHash
);
wide_id!(
    /// One change that somebody asks for, 128 random bits: asked for again, it is not made twice.
    ChangeId
);

/// Whether a text is so many hexadecimal digits: numbers are also read with a sign before them.
fn are_digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A server's store. Minted once with the store; a server that lost its disk gets a new one.
///
/// ```
/// # use annulet_protocol::ids::NodeId;
/// let id: NodeId = "00000000000000ff".parse()?;
/// assert_eq!((id, id.to_string()), (NodeId(255), "00000000000000ff".into()));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for NodeId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match u64::from_str_radix(text, 16) {
            Ok(n) if are_digits(text, 16) => Ok(Self(n)),
            _ => Err(format!(
                "`{text}` is not a node id of 16 hexadecimal digits"
            )),
        }
    }
}
impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.collect_str(self)
        } else {
            s.serialize_u64(self.0)
        }
    }
}
impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if d.is_human_readable() {
            return String::deserialize(d)?.parse().map_err(D::Error::custom);
        }
        u64::deserialize(d).map(Self)
    }
}

/// One operation, for life: every attempt and every replica sees the same.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct OpId {
    /// The client core that began it.
    pub client: Incarnation,
    /// Its number there, from 1.
    pub sequence: u64,
    /// When it was first sent, in milliseconds since the Unix epoch by the client's clock.
    pub first_sent_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_digits_and_nothing_else() {
        let digits = "000102030405060708090a0b0c0d0e0F";
        let id: ClusterId = digits.parse().unwrap();
        assert_eq!(id.to_string(), digits.to_lowercase());
        let node: NodeId = digits[16..].parse().unwrap();
        assert_eq!(node.to_string(), digits[16..].to_lowercase());
        for bad in [
            "+00102030405060708090a0b0c0d0e0f",
            "-0000000000000000000000000000000",
            "\u{e9}0102030405060708090a0b0c0d0e0f",
            "000102030405060708090a0b0c0d0e0",
        ] {
            assert!(bad.parse::<ClusterId>().is_err(), "{bad}");
        }
        for bad in ["+102030405060708", "-000000000000000", "1", ""] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }
}
