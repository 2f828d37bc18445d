//! What reads bytes that come from the network, a file or a user, and what must hold for it.
//!
//! [`DECODERS`] is the one list: `tests/tests/hostile_bytes.rs` replays the corpus and seeded
//! mutations against it, and the program in `fuzz/` runs it under a fuzzer that follows coverage.
//! Each check asserts more than that nothing panics: what is read is written and read again as the
//! same, limits hold, and memory stays in proportion to the bytes.
//!
//! # Layout
//! - `messages`, `epochs`, `status`, `stored`, `texts`: the checks
//! - [`corpus`]: the bytes kept in `tests/corpus`; [`seeds`]: those of them that are made here
//! - [`mutator`]: other bytes out of them
//! - [`memory`]: how much a check takes

pub mod corpus;
mod epochs;
pub mod memory;
mod messages;
pub mod mutator;
pub mod seeds;
mod status;
mod stored;
mod texts;

/// One thing that reads bytes.
#[derive(Debug)]
pub struct Decoder {
    /// Its name, and that of its folder in `tests/corpus`.
    pub name: &'static str,
    /// What its bytes look like, which directs mutations.
    pub shape: Shape,
    check: fn(&[u8]) -> bool,
}

/// What bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// MessagePack maps.
    Message,
    /// Numbers of fixed width.
    Fixed,
    /// Text.
    Text,
}

/// Everything that reads bytes from outside.
pub const DECODERS: &[Decoder] = &[
    Decoder::new("request", Shape::Message, messages::request),
    Decoder::new("reply", Shape::Message, messages::reply),
    Decoder::new("failure", Shape::Message, messages::failure),
    Decoder::new("hello", Shape::Message, messages::hello),
    Decoder::new("view", Shape::Message, messages::view),
    Decoder::new("epoch_record", Shape::Message, epochs::record),
    Decoder::new("chain_request", Shape::Message, epochs::request),
    Decoder::new("chain_reply", Shape::Message, epochs::reply),
    Decoder::new("deltas", Shape::Message, epochs::deltas),
    Decoder::new("bucket_request", Shape::Message, epochs::bucket_request),
    Decoder::new("bucket_reply", Shape::Message, epochs::bucket_reply),
    Decoder::new("member_request", Shape::Message, epochs::member_request),
    Decoder::new("member_reply", Shape::Message, epochs::member_reply),
    Decoder::new("recover_request", Shape::Message, epochs::recover_request),
    Decoder::new("recover_reply", Shape::Message, epochs::recover_reply),
    Decoder::new("hints_report", Shape::Message, messages::hints_report),
    Decoder::new("status_report", Shape::Message, status::report),
    Decoder::new("stop_reply", Shape::Message, status::stop_reply),
    Decoder::new("siblings", Shape::Message, messages::siblings),
    Decoder::new("session", Shape::Message, messages::session),
    Decoder::new("set", Shape::Message, messages::set),
    Decoder::new("counter", Shape::Message, messages::counter),
    Decoder::new("stored_record", Shape::Fixed, stored::record),
    Decoder::new("stored_value", Shape::Fixed, stored::value),
    Decoder::new("stored_siblings", Shape::Message, stored::siblings),
    Decoder::new("stored_register", Shape::Fixed, stored::register),
    Decoder::new("log", Shape::Fixed, stored::log),
    Decoder::new("kept_record", Shape::Message, stored::kept),
    Decoder::new("tally", Shape::Fixed, stored::tally),
    Decoder::new("storage_key", Shape::Fixed, stored::key),
    Decoder::new("level", Shape::Text, texts::level),
    Decoder::new("cluster_id", Shape::Text, texts::cluster_id),
    Decoder::new("node_id", Shape::Text, texts::node_id),
    Decoder::new("cluster_file", Shape::Text, texts::cluster_file),
    Decoder::new("server_config", Shape::Text, texts::server_config),
    Decoder::new("profile", Shape::Text, texts::profile),
    Decoder::new("history", Shape::Text, texts::history),
];

/// The decoder of this name.
pub fn named(name: &str) -> Option<&'static Decoder> {
    DECODERS.iter().find(|decoder| decoder.name == name)
}

impl Decoder {
    const fn new(name: &'static str, shape: Shape, check: fn(&[u8]) -> bool) -> Self {
        Self { name, shape, check }
    }

    /// Reads bytes and checks what must hold. Returns whether they were read as something.
    ///
    /// # Panics
    /// If it does not hold: that is a bug of the decoder.
    pub fn read(&self, bytes: &[u8]) -> bool {
        let (read, peak) = memory::peak_of(|| (self.check)(bytes));
        let most = self.memory_bytes_max(bytes.len());
        assert!(
            peak <= most,
            "{}: {} bytes took {peak} bytes of memory, at most {most} are allowed",
            self.name,
            bytes.len()
        );
        read
    }

    /// Most memory that a check of so many bytes may take. It holds what was read twice and its
    /// bytes; a length that is not there must not count.
    pub fn memory_bytes_max(&self, length: usize) -> usize {
        match self.shape {
            // Where a list is announced, serde makes room for 1 MiB of it before anything is
            // there, once on each level. An id of one byte is a number of eight, a list that grows
            // is held twice meanwhile.
            Shape::Message => (4 << 20) + 32 * length,
            Shape::Fixed => 1_024 + 8 * length,
            // The parser of TOML goes on after an error, and may note one for each byte; and a
            // cluster file's view is made.
            Shape::Text => (64 << 10) + 1_024 * length,
        }
    }
}
