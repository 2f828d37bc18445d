//! The store on disk keeps the promises that the store in memory keeps.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use annulet_replica::memory::MemoryStore;
use annulet_replica::store::{Change, Family, Span, Store};
use annulet_server::store::Engine;
use annulet_server::store::rocks::{RocksStore, Sizes};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const SIZES: Sizes = Sizes {
    cache: 8 << 20,
    write_buffer: 8 << 20,
    open_files: 64,
};

fn open(folder: &Path) -> RocksStore {
    RocksStore::open(&folder.join("store"), SIZES, true).unwrap()
}

fn put(family: Family, key: &'static str, value: impl Into<Bytes>) -> Change {
    Change::Put(family, key.into(), value.into())
}

fn read(store: &impl Store, family: Family, keys: &[&'static str]) -> Vec<Option<Bytes>> {
    let keys: Vec<_> = keys.iter().map(|key| Bytes::from(*key)).collect();
    store
        .read(family, &keys)
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

fn some(value: &'static str) -> Option<Bytes> {
    Some(value.into())
}

/// What every store promises, durability apart.
fn keeps_its_promises(store: &impl Store) {
    use Family::{Records, Values};
    assert_eq!(read(store, Records, &[]), Vec::<Option<Bytes>>::new());
    assert_eq!(read(store, Records, &["a"]), [None]);
    store.write(Vec::new()).unwrap();

    store
        .write(vec![put(Records, "a", "1"), put(Records, "b", "2")])
        .unwrap();
    assert_eq!(
        read(store, Records, &["b", "x", "a", "b"]),
        [some("2"), None, some("1"), some("2")]
    );
    assert_eq!(read(store, Values, &["a"]), [None], "families are apart");

    store
        .write(vec![
            put(Values, "a", "long"),
            Change::Delete(Records, "b".into()),
        ])
        .unwrap();
    assert_eq!(read(store, Records, &["a", "b"]), [some("1"), None]);
    assert_eq!(read(store, Values, &["a", "b"]), [some("long"), None]);

    let delete = Change::Delete(Records, "a".into());
    store
        .write(vec![put(Records, "a", "9"), delete, put(Records, "c", "3")])
        .unwrap();
    assert_eq!(
        read(store, Records, &["a", "c"]),
        [None, some("3")],
        "the last change counts"
    );
    store
        .write(vec![
            Change::Delete(Records, "never".into()),
            put(Records, "", ""),
        ])
        .unwrap();
    assert_eq!(
        read(store, Records, &["", "never"]),
        [some(""), None],
        "empty is not absent"
    );

    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    store
        .write(vec![put(Values, "long", bytes.clone())])
        .unwrap();
    store.sync().unwrap();
    assert_eq!(read(store, Values, &["long"]), [Some(bytes.into())]);
    let many: Vec<_> = (0..500u32)
        .map(|i| Bytes::from(i.to_be_bytes().to_vec()))
        .collect();
    let puts = many
        .iter()
        .map(|key| Change::Put(Records, key.clone(), key.clone()));
    store.write(puts.collect()).unwrap();
    let found = store.read(Records, &many);
    assert!(
        found
            .into_iter()
            .zip(many)
            .all(|(found, key)| found == Ok(Some(key)))
    );
    store.sync().unwrap();
    reads_spans(store);
}

/// Spans are read in order of keys, to their limits.
fn reads_spans(store: &impl Store) {
    let keys = |span: &Span| {
        let slice = store.range(Family::Notes, span).unwrap();
        let key = |(key, value): (Bytes, Bytes)| {
            assert_eq!(key, value);
            String::from_utf8(key.to_vec()).unwrap()
        };
        (
            slice.entries.into_iter().map(key).collect::<Vec<_>>(),
            slice.cut,
        )
    };
    let all = Span::prefix(b"", 100, usize::MAX);
    assert_eq!(keys(&all), (vec![], false));
    let names = ["a", "b1", "b2", "b3", "c"];
    let puts = names.map(|name| put(Family::Notes, name, name));
    store.write(puts.to_vec()).unwrap();
    assert_eq!(keys(&all).0, names);
    let b = Span::prefix(b"b", 100, usize::MAX);
    assert_eq!(
        keys(&b),
        (vec!["b1".into(), "b2".into(), "b3".into()], false)
    );
    let after = b.clone().after(b"b1");
    assert_eq!(keys(&after), (vec!["b2".into(), "b3".into()], false));
    let few = Span::prefix(b"b", 2, usize::MAX);
    assert_eq!(keys(&few), (vec!["b1".into(), "b2".into()], true));
    let short = Span::prefix(b"b", 100, 3);
    assert_eq!(
        keys(&short),
        (vec!["b1".into()], true),
        "an entry has 4 bytes"
    );
    assert_eq!(keys(&Span::prefix(b"bb", 100, usize::MAX)), (vec![], false));
}

#[test]
fn a_store_in_memory_keeps_its_promises() {
    keeps_its_promises(&MemoryStore::default());
}

#[test]
fn a_store_on_disk_keeps_its_promises() {
    let folder = tempfile::tempdir().unwrap();
    keeps_its_promises(&open(folder.path()));
}

#[test]
fn what_was_written_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let long = vec![7; 100_000];
    for written_out in [false, true] {
        let store = open(folder.path());
        store.write(vec![put(Family::Records, "a", "1")]).unwrap();
        store
            .write(vec![put(Family::Values, "a", long.clone())])
            .unwrap();
        store.sync().unwrap();
        if written_out {
            store.settle().unwrap();
        }
        drop(store);
        let store = open(folder.path());
        assert_eq!(read(&store, Family::Records, &["a"]), [some("1")]);
        assert_eq!(
            read(&store, Family::Values, &["a"]),
            [Some(long.clone().into())]
        );
    }
}

#[test]
fn long_values_lie_in_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .write(vec![put(Family::Values, "a", vec![7; 100_000])])
        .unwrap();
    store.write(vec![put(Family::Records, "a", "1")]).unwrap();
    assert!(store.usage().memtables > 100_000);
    store.settle().unwrap();
    let usage = store.usage();
    assert!(usage.blobs >= 100_000, "{usage:?}");
    assert!(usage.tables > 0 && usage.tables < 10_000, "{usage:?}");
    let blobs = std::fs::read_dir(folder.path().join("store")).unwrap();
    let blobs = blobs.filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".blob")
    });
    assert_eq!(blobs.count(), 1);
}

#[test]
fn the_room_of_what_is_deleted_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let key = |at: usize| Bytes::from(format!("k{at}"));
    let value = Bytes::from(vec![7; 100_000]);
    let put = |at| Change::Put(Family::Values, key(at), value.clone());
    store.write((0..40).map(put).collect()).unwrap();
    store.settle().unwrap();
    assert!(store.usage().blobs > 4_000_000);
    let changes = store.changes();
    let delete = |at| Change::Delete(Family::Values, key(at));
    store.write((1..40).map(delete).collect()).unwrap();
    assert!(store.changes() > changes);
    store.reclaim(1 << 30).unwrap();
    let left = store.usage().blobs;
    assert!(left < 200_000, "{left} bytes are left of one value");
    assert_eq!(store.read(Family::Values, &[key(0)]), [Ok(Some(value))]);
}

/// Names of files in the store's folder that end so.
fn files(folder: &Path, end: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(folder.join("store")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(end)).collect()
}

/// Waits for what the store does in the background.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells when it is done: this waits for a condition with a bound"
)]
fn comes_true(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{what} does not come true");
}

#[test]
fn long_values_that_nobody_overwrites_are_written_once() {
    const ROUNDS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let value = Bytes::from(vec![7; 10_000]);
    let mut written = BTreeSet::new();
    for round in 0..ROUNDS {
        let key = |at: usize| Bytes::from(format!("{at}/{round}"));
        let puts = (0..100).map(|at| Change::Put(Family::Values, key(at), value.clone()));
        store.write(puts.collect()).unwrap();
        store.settle().unwrap();
        store.tend();
        written.extend(files(folder.path(), ".blob"));
    }
    comes_true("compaction", || {
        files(folder.path(), ".sst").len() < ROUNDS / 2
    });
    assert_eq!(files(folder.path(), ".blob"), written);
}

#[test]
fn the_room_of_long_values_that_are_overwritten_is_given_back_in_the_background() {
    const ROUNDS: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let value = Bytes::from(vec![7; 50_000]);
    // One value in each file stays, and so would all of the file.
    for round in 0..ROUNDS {
        let overwritten = (0..40).map(|at| format!("overwritten/{at}"));
        let stays = [format!("stays/{round}")];
        let keys = overwritten.chain(stays).map(Bytes::from);
        let puts = keys.map(|key| Change::Put(Family::Values, key, value.clone()));
        store.write(puts.collect()).unwrap();
        store.settle().unwrap();
        store.tend();
    }
    let alive = (ROUNDS + 40) * value.len();
    let mut turn = 0;
    comes_true("room", || {
        // Compaction is driven on by what is written.
        let last = Change::Put(Family::Values, Bytes::from("last"), value.clone());
        store.write(vec![last]).unwrap();
        turn += 1;
        if turn % 10 == 0 {
            store.settle().unwrap();
        }
        store.tend();
        store.usage().blobs < 3 * alive as u64
    });
}

#[test]
fn memory_answers_what_it_has_and_says_what_it_has_not() {
    let folder = tempfile::tempdir().unwrap();
    let keys = [Bytes::from("a"), Bytes::from("none")];
    let store = open(folder.path());
    store.write(vec![put(Family::Records, "a", "1")]).unwrap();
    let expected = Some(vec![Ok(some("1")), Ok(None)]);
    assert_eq!(store.read_cached(&keys), expected, "from the memtable");
    store.settle().unwrap();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.read_cached(&keys[..1]), None, "no block was read yet");
    assert_eq!(store.read_cached(&keys), None);
    store.read(Family::Records, &keys);
    assert_eq!(store.read_cached(&keys), expected, "from the cache");
    assert_eq!(store.read_cached(&keys[..1]), Some(vec![Ok(some("1"))]));
}

#[test]
fn a_store_of_the_first_version_is_given_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let first = ["default", "records", "values"];
    let db = rocksdb::DB::open_cf(&options, &path, first).unwrap();
    let records = db.cf_handle("records").unwrap();
    db.put_cf(records, "a", "1").unwrap();
    drop(db);
    let store = RocksStore::open(&path, SIZES, false).unwrap();
    assert_eq!(read(&store, Family::Records, &["a"]), [some("1")]);
    assert_eq!(read(&store, Family::Hints, &["a"]), [None]);
    store.write(vec![put(Family::Notes, "a", "2")]).unwrap();
    assert_eq!(read(&store, Family::Notes, &["a"]), [some("2")]);
}

#[test]
fn a_store_that_is_missing_is_not_made_unless_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let missing = RocksStore::open(&folder.path().join("store"), SIZES, false);
    assert!(missing.unwrap_err().contains("does not exist"));
}

#[test]
fn a_damaged_block_is_damage_of_its_keys_not_absence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = open(folder.path());
    store
        .write(vec![put(Family::Records, "a", vec![1; 3000])])
        .unwrap();
    store
        .write(vec![put(Family::Values, "b", vec![2; 30_000])])
        .unwrap();
    store.settle().unwrap();
    drop(store);
    for file in std::fs::read_dir(&path).unwrap() {
        let file = file.unwrap().path();
        let kind = file
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut bytes = std::fs::read(&file).unwrap();
        match kind.as_str() {
            // Into the block of the data, which is the first.
            "sst" => bytes[10] ^= 1,
            // Into the value, which is nearly all.
            "blob" => *bytes.get_mut(15_000).unwrap() ^= 1,
            _ => continue,
        }
        std::fs::write(&file, bytes).unwrap();
    }
    let store = open(folder.path());
    let damaged = |family, key: &'static str| store.read(family, &[key.into()]).remove(0).is_err();
    assert!(damaged(Family::Records, "a"));
    assert!(damaged(Family::Values, "b"));
    assert_eq!(store.read(Family::Records, &["x".into()]), [Ok(None)]);
}

/// A store with three synced records in its log: its folder, its log, the log's bytes.
fn logged() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = open(folder.path());
    for key in ["a", "b", "c"] {
        store
            .write(vec![put(Family::Records, key, vec![1; 50_000])])
            .unwrap();
    }
    store.sync().unwrap();
    drop(store);
    let logs = std::fs::read_dir(&path)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut logs: Vec<_> = logs
        .filter(|f| f.extension().is_some_and(|k| k == "log"))
        .collect();
    logs.sort_by_key(|log| std::fs::metadata(log).unwrap().len());
    let log = logs.pop().unwrap();
    let whole = std::fs::read(&log).unwrap();
    assert!(whole.len() > 150_000);
    (folder, log, whole)
}

#[test]
fn a_log_that_was_cut_off_is_read_up_to_there() {
    let (folder, log, whole) = logged();
    let path = folder.path().join("store");
    std::fs::write(&log, &whole[..whole.len() - 1000]).unwrap();
    let store = RocksStore::open(&path, SIZES, false).unwrap();
    let lengths = read(&store, Family::Records, &["a", "b", "c"]);
    let lengths: Vec<_> = lengths
        .iter()
        .map(|value| value.as_ref().map(Bytes::len))
        .collect();
    assert_eq!(
        lengths,
        [Some(50_000), Some(50_000), None],
        "a torn end is what a crash leaves"
    );
    drop(store);
}

#[test]
fn damage_before_the_end_of_the_log_is_not_passed_over() {
    let (folder, log, whole) = logged();
    let path = folder.path().join("store");
    let mut damaged = whole;
    damaged[1000] ^= 1;
    std::fs::write(&log, damaged).unwrap();
    let opened = RocksStore::open(&path, SIZES, false);
    assert!(
        opened.unwrap_err().contains("Corruption"),
        "acknowledged writes would be gone"
    );
}

#[test]
fn checksums_are_made_by_the_processor() {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let log = std::fs::read_to_string(folder.path().join("store/LOG")).unwrap();
    let line = log
        .lines()
        .find(|line| line.contains("Fast CRC32 supported"));
    assert!(
        line.unwrap().contains("Supported on x86"),
        "{line:?}: RocksDB was built without it"
    );
}
