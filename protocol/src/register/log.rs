//! The operations that a register remembers, so that none is applied twice.

use crate::ballot::Ballot;
use crate::ids::{Incarnation, OpId};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Operations that a register remembers; the oldest goes for one more.
pub const LOG_MAX: usize = 32;

/// What became of an operation for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It took effect.
    Applied,
    /// Somebody asked what had become of it when it had not been applied: it never will be.
    Refused,
}

/// One operation and its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The operation.
    pub op: OpId,
    /// The round that decided its fate; of one that was applied the version that it made.
    pub at: Ballot,
    /// What became of it.
    pub fate: Fate,
}

/// The last operations of a register, in the order of their rounds.
///
/// As bytes, on the wire and on disk: nothing for a log of nothing; else the ballot after which it
/// is complete (8, 16), and for each entry one byte of flags, the operation's client (16), sequence
/// (8) and first-sent time (8), the ballot's number (8) and, if flagged, its proposer (16, else the
/// client). All numbers are big-endian.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Log {
    complete_since: Ballot,
    entries: Vec<Entry>,
}

const REFUSED: u8 = 1;
const OTHER_PROPOSER: u8 = 1 << 1;
/// Shortest entry, whose proposer is its client.
const ENTRY_BYTES_MIN: usize = 41;
const KNOWN_FLAGS: u8 = REFUSED | OTHER_PROPOSER;

impl Log {
    /// The fate of an operation, if it is remembered.
    pub fn find(&self, op: &OpId) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.op == *op)
    }

    /// Whether every operation is remembered whose fate was decided by a round from this one on.
    /// Then one that began with it and is not there was not applied.
    pub fn is_complete_since(&self, ballot: Ballot) -> bool {
        self.complete_since < ballot
    }

    /// Adds the fate of an operation. The round must be above all before it.
    pub fn push(&mut self, entry: Entry) {
        if self.entries.len() == LOG_MAX {
            self.complete_since = self.entries.remove(0).at;
        }
        self.entries.push(entry);
    }

    /// All entries, the oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        if *self == Self::default() {
            return Bytes::new();
        }
        let mut bytes = BytesMut::with_capacity(24 + 57 * self.entries.len());
        bytes.put_u64(self.complete_since.number);
        bytes.put_slice(&self.complete_since.proposer.0);
        for Entry { op, at, fate } in &self.entries {
            let refused = u8::from(*fate == Fate::Refused) * REFUSED;
            let other = u8::from(at.proposer != op.client) * OTHER_PROPOSER;
            bytes.put_u8(refused | other);
            bytes.put_slice(&op.client.0);
            bytes.put_u64(op.sequence);
            bytes.put_u64(op.first_sent_ms);
            bytes.put_u64(at.number);
            if other != 0 {
                bytes.put_slice(&at.proposer.0);
            }
        }
        bytes.freeze()
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// If they are none: cut off, too long, not in order, or not as [`Log::encode`] writes them.
    pub fn decode(mut bytes: Bytes) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let cut = |e: bytes::TryGetError| format!("a log of operations is cut off: {e}");
        let mut log = Self {
            complete_since: Ballot {
                number: bytes.try_get_u64().map_err(cut)?,
                proposer: take_incarnation(&mut bytes).map_err(cut)?,
            },
            entries: Vec::new(),
        };
        let mut last = log.complete_since;
        let most = bytes.remaining() / ENTRY_BYTES_MIN;
        log.entries.reserve_exact(most.min(LOG_MAX));
        while bytes.has_remaining() {
            let entry = take_entry(&mut bytes)?;
            if entry.at <= last || log.entries.len() == LOG_MAX {
                return Err("a log of operations is out of order, or too long".into());
            }
            last = entry.at;
            log.entries.push(entry);
        }
        match log == Self::default() {
            true => Err("a log of nothing has no bytes".into()),
            false => Ok(log),
        }
    }
}

fn take_entry(bytes: &mut Bytes) -> Result<Entry, String> {
    let cut = |e: bytes::TryGetError| format!("a log of operations is cut off: {e}");
    let flags = bytes.try_get_u8().map_err(cut)?;
    let op = OpId {
        client: take_incarnation(bytes).map_err(cut)?,
        sequence: bytes.try_get_u64().map_err(cut)?,
        first_sent_ms: bytes.try_get_u64().map_err(cut)?,
    };
    let number = bytes.try_get_u64().map_err(cut)?;
    let proposer = match flags & OTHER_PROPOSER {
        0 => op.client,
        _ => take_incarnation(bytes).map_err(cut)?,
    };
    let as_written = flags & OTHER_PROPOSER == 0 || proposer != op.client;
    if flags & !KNOWN_FLAGS != 0 || !as_written {
        return Err(format!("an operation with flags {flags:#010b}"));
    }
    let fate = match flags & REFUSED {
        0 => Fate::Applied,
        _ => Fate::Refused,
    };
    let at = Ballot { number, proposer };
    Ok(Entry { op, at, fate })
}

fn take_incarnation(bytes: &mut Bytes) -> Result<Incarnation, bytes::TryGetError> {
    let mut incarnation = [0; 16];
    bytes.try_copy_to_slice(&mut incarnation)?;
    Ok(Incarnation(incarnation))
}

impl Serialize for Log {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Log {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        Self::decode(Bytes::deserialize(d)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(number: u64, client: u8, proposer: u8, refused: bool) -> Entry {
        Entry {
            op: OpId {
                client: Incarnation([client; 16]),
                sequence: number,
                first_sent_ms: 9,
            },
            at: Ballot {
                number,
                proposer: Incarnation([proposer; 16]),
            },
            fate: match refused {
                true => Fate::Refused,
                false => Fate::Applied,
            },
        }
    }

    #[test]
    fn the_oldest_goes_and_with_it_the_proof_of_absence() {
        let mut log = Log::default();
        let all: Vec<_> = (1..=40).map(|n| entry(n, 1, 1, false)).collect();
        for entry in &all {
            log.push(*entry);
        }
        assert_eq!(log.iter().len(), LOG_MAX);
        assert_eq!(log.find(&all[7].op), None);
        assert_eq!(log.find(&all[8].op), Some(&all[8]));
        // What was decided in round 8 is forgotten, so absence proves nothing of what began there.
        assert!(!log.is_complete_since(all[7].at));
        assert!(log.is_complete_since(all[8].at));
        assert!(Log::default().is_complete_since(all[0].at));
    }

    #[test]
    fn bytes_that_are_no_log_are_refused() {
        let mut log = Log::default();
        log.push(entry(5, 1, 2, true));
        let good = log.encode();
        assert_eq!(Log::decode(good.clone()), Ok(log.clone()));
        for length in (1..good.len()).filter(|length| *length != 24) {
            assert!(
                Log::decode(good.slice(..length)).is_err(),
                "cut at {length}"
            );
        }
        assert!(Log::decode(good.slice(..24)).is_err(), "of nothing");
        let twice = [&good[..], &good[24..]].concat();
        assert!(Log::decode(twice.into()).is_err(), "out of order");
        let mut flags = good.to_vec();
        flags[24] |= 4;
        assert!(Log::decode(flags.into()).is_err(), "an unknown flag");
        let own = entry(5, 1, 1, false);
        log.entries[0] = own;
        let mut otherwise = log.encode().to_vec();
        otherwise[24] |= OTHER_PROPOSER;
        otherwise.extend_from_slice(&own.op.client.0);
        assert!(Log::decode(otherwise.into()).is_err(), "written otherwise");
    }

    proptest! {
        #[test]
        fn a_log_is_read_as_it_was_written(
            entries in prop::collection::vec((1u64..9, 1u8..3, 1u8..3, any::<bool>()), 0..40)
        ) {
            let mut log = Log::default();
            let mut number = 0;
            for (step, client, proposer, refused) in entries {
                number += step;
                log.push(entry(number, client, proposer, refused));
            }
            prop_assert_eq!(Log::decode(log.encode()), Ok(log));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(log) = Log::decode(Bytes::from(bytes.clone())) {
                prop_assert_eq!(log.encode(), bytes);
            }
        }
    }
}
