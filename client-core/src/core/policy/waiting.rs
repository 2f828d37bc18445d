//! When there is too much to do: an operation that would only wait until it is too late is refused
//! at once, before anything is sent.
//!
//! Messages to a server wait in order until there is room. If what comes is more than what goes,
//! they would in the end all wait so long that each is done just too late: all the work, and
//! nothing for it. So the age of the oldest message that waits for a server is watched, as CoDel
//! does (Nichols and Jacobson, 2012), and while it is more than half of the time that an operation
//! has, the operation does not count on that server. Those that are begun are then done in time.

use annulet_protocol::message::Operation;

/// Values longer than this travel alone.
pub const ALONE_BYTES: usize = 64 << 10;
/// How long it is believed what was seen of a queue.
const SEEN_MS: u64 = 1_000;

/// What waits together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reads.
    Read,
    /// Writes of short values.
    Write,
    /// Writes of long values, one to a request.
    Large,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Large];

    /// Where a message belongs.
    pub fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Write(write) => Self::of_value(write.record.value.len()),
            Operation::Hint(hint) => Self::of_value(hint.record.value.len()),
            Operation::Mint(mint) => Self::of_value(mint.context.len() + mint.write.value.len()),
            Operation::Merge(merge) => Self::of_value(merge.record.len()),
            Operation::Accept(accept) => Self::of_value(accept.value.len()),
            Operation::Learn(learn) => Self::of_value(learn.value.len()),
            Operation::Touch(_) | Operation::Compare(_) | Operation::Prepare(_) => Self::Write,
            Operation::Read(_)
            | Operation::ReadRegister(_)
            | Operation::Scan(_)
            | Operation::Spread(_)
            | Operation::CopyArc(_)
            | Operation::Unknown => Self::Read,
        }
    }

    /// Where a write of so many bytes belongs.
    pub fn of_value(bytes: usize) -> Self {
        match bytes > ALONE_BYTES {
            true => Self::Large,
            false => Self::Write,
        }
    }
}

/// How long the oldest message of each class waits for one server, and when that was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    seen: [(u64, u64); Class::ALL.len()],
}

impl Waiting {
    /// Notes that the oldest waits since so long; 0: none waits.
    pub fn note(&mut self, class: Class, waits_ms: u64, now_ms: u64) {
        self.seen[class as usize] = (waits_ms, now_ms);
    }

    /// Whether what is sent now would wait for more than half of its time.
    pub fn is_too_long(&self, class: Class, timeout_ms: u64, now_ms: u64) -> bool {
        let (waits_ms, at_ms) = self.seen[class as usize];
        waits_ms > timeout_ms / 2 && at_ms + SEEN_MS > now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_time_may_be_spent_waiting() {
        let mut waiting = Waiting::default();
        assert!(!waiting.is_too_long(Class::Write, 1, 5));
        waiting.note(Class::Write, 500, 5);
        assert!(waiting.is_too_long(Class::Write, 999, 5));
        assert!(!waiting.is_too_long(Class::Write, 1_000, 5));
        assert!(!waiting.is_too_long(Class::Read, 999, 5), "another queue");
        assert!(!waiting.is_too_long(Class::Write, 999, 5 + SEEN_MS));
        waiting.note(Class::Write, 0, 6);
        assert!(!waiting.is_too_long(Class::Write, 1, 6));
    }
}
