//! The bytes that a corpus begins with: well-formed ones of every kind, and ones that are wrong in
//! a way that chance would hardly find.
//!
//! They are files in `tests/corpus` like those that were found, so that a fuzzer can read them and
//! a change of the format is seen as a change of files.

mod epochs;
mod examples;
mod messages;
mod session;
mod status;
mod stored;
mod strong;
mod texts;

/// Bytes to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Name of the decoder.
    pub decoder: &'static str,
    /// What it is; the name of its file.
    pub name: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The seeds of all decoders.
pub fn all() -> Vec<Seed> {
    let mut seeds = Seeds::default();
    messages::add(&mut seeds);
    epochs::add(&mut seeds);
    status::add(&mut seeds);
    stored::add(&mut seeds);
    session::add(&mut seeds);
    strong::add(&mut seeds);
    texts::add(&mut seeds);
    seeds.list
}

/// Bytes that are too many to keep: each is one list of as many entries as fit. They show what an
/// entry takes in memory, which must not be much more than it has on the wire.
pub fn crowded() -> Vec<Seed> {
    let mut seeds = Seeds::default();
    messages::add_crowded(&mut seeds);
    epochs::add_crowded(&mut seeds);
    status::add_crowded(&mut seeds);
    seeds.list
}

#[derive(Default)]
struct Seeds {
    list: Vec<Seed>,
}

impl Seeds {
    fn add(&mut self, decoder: &'static str, name: &'static str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.list.push(Seed {
            decoder,
            name,
            bytes,
        });
    }
}
