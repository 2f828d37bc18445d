//! Everything that reads bytes from outside, against the corpus and seeded mutations of it.
//!
//! `MUTATIONS=n` makes n of them for each decoder, `SEED=n` begins at that seed, and `TARGET=name`
//! takes one decoder alone; a failure prints all three and the bytes.

#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet_tests::decoders::corpus::{self, Entry};
use annulet_tests::decoders::memory::{Counting, peak_of};
use annulet_tests::decoders::mutator::Mutator;
use annulet_tests::decoders::{DECODERS, Decoder, named, seeds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Mutations of an ordinary run, for each decoder.
const MUTATIONS: u64 = 100_000;
/// Mutations that a thread takes at a time.
const SHARE: u64 = 2_000;
/// So many mutations must show each decoder at work: one in so many is read, and one is refused.
const SHOWN_IN: u64 = 1_000;
/// Failures that are enough to look at.
const FAILURES_MAX: usize = 10;
/// Largest corpus of all decoders, in bytes.
const CORPUS_BYTES_MAX: usize = 200 << 10;

#[test]
fn the_corpus_holds_every_seed() {
    let write = std::env::var_os("WRITE_SEEDS").is_some();
    for seeds::Seed {
        decoder,
        name,
        bytes,
    } in seeds::all()
    {
        if write {
            corpus::keep(decoder, name, &bytes).unwrap();
        }
        let entries = corpus::of(decoder).unwrap();
        let kept = entries.iter().find(|entry| entry.name == name);
        assert_eq!(
            kept.map(|entry| &entry.bytes),
            Some(&bytes),
            "tests/corpus/{decoder}/{name} differs: `make fuzz-seeds` writes it"
        );
    }
}

#[test]
fn the_corpus_has_a_folder_for_each_decoder_and_stays_small() {
    let mut names: Vec<_> = DECODERS.iter().map(|decoder| decoder.name).collect();
    names.sort_unstable();
    assert_eq!(corpus::folders().unwrap(), names);
    let entries = DECODERS.iter().flat_map(entries);
    let bytes: usize = entries.map(|entry| entry.bytes.len()).sum();
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn every_decoder_withstands_its_corpus() {
    let mut failed = Vec::new();
    for decoder in DECODERS {
        let mut read = 0;
        let entries = entries(decoder);
        for Entry { name, bytes } in &entries {
            match attempt(decoder, bytes) {
                Ok(was_read) => read += usize::from(was_read),
                Err(why) => failed.push(format!("tests/corpus/{}/{name}: {why}", decoder.name)),
            }
        }
        let (name, count) = (decoder.name, entries.len());
        assert!(read > 0, "{name}: nothing in its corpus is well-formed");
        assert!(read < count, "{name}: nothing in its corpus is malformed");
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn lists_of_many_short_entries_take_little_memory() {
    let mut failed = Vec::new();
    for seeds::Seed {
        decoder,
        name,
        bytes,
    } in seeds::crowded()
    {
        let decoder = named(decoder).expect("a seed names a decoder");
        match attempt(decoder, &bytes) {
            Ok(read) => println!("{}, {name}: read {read}", decoder.name),
            Err(why) => failed.push(format!("{name}: {why}")),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_decoder_withstands_mutations() {
    let first = number("SEED").unwrap_or(0);
    let count = number("MUTATIONS").unwrap_or(MUTATIONS);
    let only = std::env::var("TARGET").ok();
    let only = only.map(|name| named(&name).unwrap_or_else(|| panic!("no decoder {name}")));
    let corpora: Vec<_> = DECODERS
        .iter()
        .filter(|decoder| only.is_none_or(|only| only.name == decoder.name))
        .map(|decoder| (decoder, entries(decoder)))
        .collect();
    let runs: Vec<_> = corpora
        .iter()
        .map(|(decoder, corpus)| Run::new(decoder, corpus, first, first + count))
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| runs.iter().for_each(Run::help));
        }
    });
    let failed: Vec<_> = runs.iter().flat_map(Run::failures).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    for run in &runs {
        run.report(count);
    }
}

/// The mutations of one decoder, which many threads share.
struct Run<'a> {
    decoder: &'a Decoder,
    mutator: Mutator<'a>,
    next: AtomicU64,
    end: u64,
    read: AtomicU64,
    failed: Mutex<Vec<(u64, String)>>,
}

impl<'a> Run<'a> {
    fn new(decoder: &'a Decoder, corpus: &'a [Entry], first: u64, end: u64) -> Self {
        Self {
            decoder,
            mutator: Mutator::new(decoder.shape, corpus),
            next: AtomicU64::new(first),
            end,
            read: AtomicU64::new(0),
            failed: Mutex::new(Vec::new()),
        }
    }

    /// Takes shares of the mutations until none is left.
    fn help(&self) {
        while self.failed.lock().unwrap().len() < FAILURES_MAX {
            let first = self.next.fetch_add(SHARE, Ordering::Relaxed);
            if first >= self.end {
                return;
            }
            let mut read = 0;
            for seed in first..self.end.min(first + SHARE) {
                match attempt(self.decoder, &self.mutator.mutation(seed)) {
                    Ok(was_read) => read += u64::from(was_read),
                    Err(why) => self.failed.lock().unwrap().push((seed, why)),
                }
            }
            self.read.fetch_add(read, Ordering::Relaxed);
        }
    }

    /// What failed first, each with how to see it again.
    fn failures(&self) -> Vec<String> {
        let mut failed = self.failed.lock().unwrap().clone();
        failed.sort();
        failed.truncate(FAILURES_MAX);
        let tell = |(seed, why): (u64, String)| {
            let name = self.decoder.name;
            let bytes = self.mutator.mutation(seed);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!(
                "{name}, seed {seed}: {why}\n\
                 replay: TARGET={name} SEED={seed} MUTATIONS=1 cargo nextest run --cargo-profile \
                 checked -p annulet-tests -E 'test(=every_decoder_withstands_mutations)'\n\
                 keep: echo {hex} | xxd -r -p >tests/corpus/{name}/NAME"
            )
        };
        failed.into_iter().map(tell).collect()
    }

    /// Says how many were read, and fails where the decoder was hardly reached at all.
    fn report(&self, count: u64) {
        let name = self.decoder.name;
        let read = self.read.load(Ordering::Relaxed);
        println!("{name}: {read} of {count} mutations were read");
        let least = count / SHOWN_IN;
        assert!(read >= least, "{name}: only {read} of {count} were read");
        let refused = count - read;
        assert!(
            refused >= least,
            "{name}: only {refused} of {count} were refused"
        );
    }
}

#[test]
fn a_mutation_follows_from_its_seed() {
    for decoder in DECODERS {
        let corpus = entries(decoder);
        let mutator = Mutator::new(decoder.shape, &corpus);
        let mutations: Vec<_> = (0..100).map(|seed| mutator.mutation(seed)).collect();
        let again = Mutator::new(decoder.shape, &corpus);
        assert!((0..100).all(|seed| mutations[seed as usize] == again.mutation(seed)));
        let is_new = |bytes: &&Vec<u8>| corpus.iter().all(|entry| entry.bytes != **bytes);
        let new = mutations.iter().filter(is_new).count();
        assert!(new >= 50, "{}: {new} of 100 are new", decoder.name);
    }
}

#[test]
fn memory_that_is_taken_is_counted() {
    let (kept, peak) = peak_of(|| {
        drop(vec![1u8; 1_000_000]);
        vec![2u8; 1_000]
    });
    assert_eq!(kept.len(), 1_000);
    assert!((1_000_000..1_010_000).contains(&peak), "{peak}");
    let (_, peak) = peak_of(|| drop(kept));
    assert_eq!(peak, 0);
}

/// What is kept for a decoder.
fn entries(decoder: &Decoder) -> Vec<Entry> {
    let entries = corpus::of(decoder.name).unwrap();
    assert!(
        !entries.is_empty(),
        "tests/corpus/{} is empty",
        decoder.name
    );
    entries
}

/// Lets a decoder read bytes; a panic anywhere in it is a failure that says why.
fn attempt(decoder: &Decoder, bytes: &[u8]) -> Result<bool, String> {
    catch_unwind(AssertUnwindSafe(|| decoder.read(bytes))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        text.unwrap_or_else(|| "it panicked, see above".into())
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
