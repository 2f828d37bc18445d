//! How many replicas must answer before an operation counts as done.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A consistency level. Only distinct current owners of the key count, in every level but
/// `available`. Its text is what profiles, bucket options and the command line take.
///
/// ```
/// # use annulet_protocol::level::Level;
/// assert_eq!("local_quorum".parse(), Ok(Level::LocalQuorum));
/// let explicit = Level::Explicit { read: 1, write: 3 };
/// assert_eq!(explicit.to_string(), "r=1,w=3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// One owner.
    One,
    /// A majority of all owners, of all regions.
    Quorum,
    /// Every owner.
    All,
    /// A majority of the owners in the client's region.
    LocalQuorum,
    /// A majority of the owners in every region.
    EachQuorum,
    /// Any one server: an owner, or where none can be reached one that keeps the record for it and
    /// hands it over later. A write is taken while a single server is reachable.
    Available,
    /// So many owners for reads and so many for writes. A read sees every write acknowledged
    /// before it began only where `read + write` exceeds the owners.
    Explicit {
        /// Owners that must answer a read, at least 1.
        read: u8,
        /// Owners that must take a write, at least 1.
        write: u8,
    },
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("one"),
            Self::Quorum => f.write_str("quorum"),
            Self::All => f.write_str("all"),
            Self::LocalQuorum => f.write_str("local_quorum"),
            Self::EachQuorum => f.write_str("each_quorum"),
            Self::Available => f.write_str("available"),
            Self::Explicit { read, write } => write!(f, "r={read},w={write}"),
        }
    }
}

impl FromStr for Level {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "one" => Self::One,
            "quorum" => Self::Quorum,
            "all" => Self::All,
            "local_quorum" => Self::LocalQuorum,
            "each_quorum" => Self::EachQuorum,
            "available" => Self::Available,
            _ => explicit(text).ok_or_else(|| {
                format!(
                    "unknown level `{text}`; it is one of: one, quorum, all, local_quorum, \
                     each_quorum, available, or explicit as r=2,w=2"
                )
            })?,
        })
    }
}

/// Reads `r=2,w=2`.
fn explicit(text: &str) -> Option<Level> {
    let (read, write) = text.strip_prefix("r=")?.split_once(",w=")?;
    let (read, write) = (read.parse().ok()?, write.parse().ok()?);
    (read > 0 && write > 0).then_some(Level::Explicit { read, write })
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written() {
        let explicit = Level::Explicit { read: 1, write: 3 };
        for level in [
            Level::One,
            Level::Quorum,
            Level::All,
            Level::LocalQuorum,
            Level::EachQuorum,
            explicit,
        ] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        for bad in ["", "two", "r=0,w=1", "r=1", "r=1,w=300"] {
            assert!(bad.parse::<Level>().is_err(), "{bad}");
        }
    }
}
