//! One decoder of `annulet_tests::decoders` under libFuzzer, which follows coverage: inputs that
//! reach new code are kept and changed further. `make fuzz` builds and runs it.
//!
//! The variable `TARGET` names the decoder; arguments are libFuzzer's own, as `main` is. With
//! `READ_INTO`, inputs that are read as something are copied into that folder.
#![no_main]

use annulet_tests::decoders::memory::Counting;
use annulet_tests::decoders::{self, Decoder};
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(|bytes: &[u8]| {
    let setup = setup();
    if setup.decoder.read(bytes)
        && let Some(folder) = &setup.read_into
    {
        copy(folder, bytes);
    }
});

struct Setup {
    decoder: &'static Decoder,
    read_into: Option<PathBuf>,
}

fn setup() -> &'static Setup {
    static SETUP: OnceLock<Setup> = OnceLock::new();
    SETUP.get_or_init(|| {
        let name = std::env::var("TARGET").unwrap_or_default();
        let decoder = decoders::named(&name);
        Setup {
            decoder: decoder.unwrap_or_else(|| panic!("TARGET={name} is not a decoder")),
            read_into: std::env::var_os("READ_INTO").map(PathBuf::from),
        }
    })
}

fn copy(folder: &Path, bytes: &[u8]) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    std::fs::write(folder.join(name), bytes).expect("the folder can be written to");
}
