//! The store on disk: RocksDB with a column family for each of the replica's.

use crate::store::{Engine, Entry, Usage};
use annulet_protocol::limits::KEY_BYTES_MAX;
use annulet_replica::layout::INLINE_VALUE_BYTES_MAX;
use annulet_replica::store::{Batch, Change, Family, Slice, Span, Store, StoreError};
use bytes::Bytes;
use rocksdb::properties::{
    CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_NUM_KEYS, ESTIMATE_PENDING_COMPACTION_BYTES,
    LIVE_SST_FILES_SIZE,
};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB,
    DBCompressionType, DBPinnableSlice, DBRecoveryMode, DataBlockIndexType, Error, ErrorKind,
    Options, ReadOptions, ReadTier, WriteBatch,
};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const RECORDS: &str = "records";
const VALUES: &str = "values";
const HINTS: &str = "hints";
const NOTES: &str = "notes";
/// RocksDB opens this one whether it is used or not.
const UNUSED: &str = "default";
/// Families of the first format; a folder of that time is given the others when it is opened.
const FIRST: [Family; 2] = [Family::Records, Family::Values];

/// Bits of filter a key; about one read in a hundred of an absent key still looks into a file.
const FILTER_BITS: f64 = 10.0;
/// Size of the log's files together that forces the oldest memtables out, which bounds the time of
/// recovery.
const WAL_BYTES_MAX: u64 = 256 << 20;
/// How much is written between two hints to the system to write it out.
const BYTES_PER_SYNC: u64 = 1 << 20;
/// Longest sorted file of a family whose values lie elsewhere, some ten thousand of them.
const POINTERS_BYTES: u64 = 2 << 20;
/// Such files that one compaction takes at most, as a rule.
const POINTER_FILES_AT_ONCE: u64 = 8;
/// The part of the files of long values that compaction moves values out of, the oldest ones.
const GC_AGE_CUTOFF: &str = "blob_garbage_collection_age_cutoff";
const GC_AGE_CUTOFF_USUAL: f64 = 0.25;
/// Whether compaction does so.
const GC_ENABLED: &str = "enable_blob_garbage_collection";
/// It does so once such a part of a family's long values is garbage, until less than such a part
/// is: where nothing was overwritten, moving values costs as much as writing them, and gains
/// nothing.
const GARBAGE_MOST: f64 = 0.2;
const GARBAGE_LEAST: f64 = 0.1;
/// It does so, too, while there are over so many files that are shorter than this on average: each
/// takes memory, and a look at all of them time.
const FILES_MANY: u64 = 1_000;
const FILE_SHORT: u64 = 32 << 20;
/// Families whose long values lie in files of their own.
const WITH_BLOBS: [Family; 2] = [Family::Values, Family::Hints];
const INFO_LOG_BYTES_MAX: usize = 10 << 20;
const INFO_LOGS_MAX: usize = 4;
const BACKGROUND_JOBS_MAX: usize = 4;

/// Memory and files that the store may use.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Blocks in memory, in bytes.
    pub cache: usize,
    /// Writes that are not yet in sorted files, in bytes.
    pub write_buffer: usize,
    /// Data files kept open.
    pub open_files: u32,
}

/// The store on disk.
pub struct RocksStore {
    db: DB,
    cache: Cache,
    anywhere: ReadOptions,
    in_memory: ReadOptions,
    /// Whether compaction collects garbage among long values, of each of [`WITH_BLOBS`].
    collects: [AtomicBool; WITH_BLOBS.len()],
}

impl RocksStore {
    /// Opens the store in a folder; with `create` it makes it if there is none.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn open(path: &Path, sizes: Sizes, create: bool) -> Result<Self, String> {
        let cache = Cache::new_hyper_clock_cache(sizes.cache, 0);
        let mut options = database_options(sizes, create).map_err(String::from)?;
        if !create {
            if !path.join("CURRENT").exists() {
                return Err("it does not exist, or has lost its file CURRENT".into());
            }
            let there = DB::list_cf(&options, path).map_err(String::from)?;
            for family in FIRST.map(name_of) {
                if !there.iter().any(|name| name == family) {
                    return Err(format!("it has no column family `{family}`"));
                }
            }
            options.create_missing_column_families(true);
        }
        let family = |family| {
            let options = match family {
                Family::Records => records_options(sizes, &cache),
                Family::Values => values_options(sizes, &cache, 0),
                Family::Hints => values_options(sizes, &cache, INLINE_VALUE_BYTES_MAX as u64),
                Family::Notes => family_options(sizes, &cache),
            };
            ColumnFamilyDescriptor::new(name_of(family), options)
        };
        let unused = ColumnFamilyDescriptor::new(UNUSED, Options::default());
        let families = std::iter::once(unused).chain(Family::ALL.map(family));
        let db = DB::open_cf_descriptors(&options, path, families).map_err(String::from)?;
        let mut in_memory = ReadOptions::default();
        in_memory.set_read_tier(ReadTier::BlockCache);
        Ok(Self {
            db,
            cache,
            anywhere: ReadOptions::default(),
            in_memory,
            collects: Default::default(),
        })
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        // `open` opened each, and none is ever dropped.
        let family = self.db.cf_handle(name_of(family));
        family.expect("every family is open")
    }

    /// Sets options of a family while it is open. They take effect although they cannot be noted,
    /// on a disk that is full.
    fn set(&self, family: Family, options: &[(&str, &str)]) {
        let handle = self.family(family);
        if let Err(error) = self.db.set_options_cf(handle, options) {
            tracing::warn!(%error, "options of the store cannot be noted");
        }
    }

    /// A number that RocksDB tells of a family.
    fn number(&self, family: Family, property: &str) -> u64 {
        let found = self.db.property_int_value_cf(self.family(family), property);
        found.ok().flatten().unwrap_or(0)
    }

    /// Bytes of long values that one compaction moves at most, roughly.
    fn moved_at_once(&self, family: Family) -> u64 {
        let blobs = self.number(family, LIVE_BLOB_FILE_SIZE);
        let live = self.db.live_files().unwrap_or_default();
        let of_family = live
            .iter()
            .filter(|file| file.column_family_name == name_of(family));
        let files = of_family.count().max(1) as u64;
        let together = files.min(POINTER_FILES_AT_ONCE);
        blobs / files * together
    }

    /// Rewrites what is not in its place yet, and what a delete concerns.
    fn compact(&self, family: Family) {
        let [from, until]: [Option<&[u8]>; 2] = [None, None];
        self.db.compact_range_cf(self.family(family), from, until);
    }

    fn sum(&self, property: &rocksdb::properties::PropName) -> u64 {
        let of = |family| {
            let value = self.db.property_int_value_cf(self.family(family), property);
            value.ok().flatten().unwrap_or(0)
        };
        Family::ALL.into_iter().map(of).sum()
    }
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStore")
            .field("path", &self.db.path())
            .finish_non_exhaustive()
    }
}

impl Store for RocksStore {
    /// All keys as of one moment: a batched read takes one snapshot of its family.
    fn read(&self, family: Family, keys: &[Bytes]) -> Vec<Entry> {
        let family = self.family(family);
        let found = match keys {
            [] => Vec::new(),
            [key] => vec![self.db.get_pinned_cf_opt(family, key, &self.anywhere)],
            keys => self
                .db
                .batched_multi_get_cf_opt(family, keys, false, &self.anywhere),
        };
        found.into_iter().map(entry).collect()
    }

    /// What is read leaves the cache to single keys: an arc is read once.
    fn range(&self, family: Family, span: &Span) -> Result<Slice, StoreError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        if let Some(until) = &span.until {
            options.set_iterate_upper_bound(until.clone());
        }
        let mut found = self.db.raw_iterator_cf_opt(self.family(family), options);
        let mut slice = Slice::default();
        let mut bytes = 0;
        found.seek(&span.from);
        while let Some((key, value)) = found.item() {
            if slice.entries.len() >= span.entries_max || bytes >= span.bytes_max {
                slice.cut = true;
                break;
            }
            bytes += key.len() + value.len();
            let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            slice.entries.push((key, value));
            found.next();
        }
        found.status().map_err(unreadable)?;
        Ok(slice)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut changes = WriteBatch::default();
        for change in &batch {
            match change {
                Change::Put(family, key, value) => changes.put_cf(self.family(*family), key, value),
                Change::Delete(family, key) => changes.delete_cf(self.family(*family), key),
                Change::DeleteRange(family, from, until) => {
                    // No key is as long as this one.
                    let end = || Bytes::from(vec![u8::MAX; 2 * KEY_BYTES_MAX]);
                    let until = until.clone().unwrap_or_else(end);
                    changes.delete_range_cf(self.family(*family), from.clone(), until);
                }
            }
        }
        self.db.write(changes).map_err(failed)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush_wal(true).map_err(failed)
    }
}

impl Engine for RocksStore {
    /// One by one: a batched read waits for the disk whatever tier it is told.
    fn read_cached(&self, keys: &[Bytes]) -> Option<Vec<Entry>> {
        let family = self.family(Family::Records);
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            match self.db.get_pinned_cf_opt(family, key, &self.in_memory) {
                Err(error) if error.kind() == ErrorKind::Incomplete => return None,
                result => found.push(entry(result)),
            }
        }
        Some(found)
    }

    fn usage(&self) -> Usage {
        Usage {
            memtables: self.sum(CUR_SIZE_ALL_MEM_TABLES),
            tables: self.sum(LIVE_SST_FILES_SIZE),
            blobs: WITH_BLOBS
                .map(|family| self.number(family, LIVE_BLOB_FILE_SIZE))
                .iter()
                .sum(),
            cache: self.cache.get_usage() as u64,
            pending_compaction: self.sum(ESTIMATE_PENDING_COMPACTION_BYTES),
            keys: self.sum(ESTIMATE_NUM_KEYS),
        }
    }

    fn changes(&self) -> u64 {
        self.db.latest_sequence_number()
    }

    /// Deletes lie in memory until that is full, and in young files until there are enough of
    /// them: while nothing new is written, neither happens. So both are driven on. Old files that
    /// no delete concerns are not rewritten.
    ///
    /// A file of long values goes when nothing points to it any more. What is alive in it is moved
    /// out of the way if there is room for what one compaction moves.
    fn reclaim(&self, room: u64) -> Result<(), StoreError> {
        self.settle()?;
        self.compact(Family::Records);
        for (family, collects) in WITH_BLOBS.into_iter().zip(&self.collects) {
            let moves = self.moved_at_once(family) <= room / 2;
            if moves {
                self.set(family, &[(GC_ENABLED, "true"), (GC_AGE_CUTOFF, "1")]);
            }
            self.compact(family);
            if moves {
                let usual = GC_AGE_CUTOFF_USUAL.to_string();
                let collects = collects.load(Ordering::Relaxed).to_string();
                self.set(family, &[(GC_ENABLED, &collects), (GC_AGE_CUTOFF, &usual)]);
            }
        }
        Ok(())
    }

    fn tend(&self) {
        for (family, collects) in WITH_BLOBS.into_iter().zip(&self.collects) {
            let now = collects.load(Ordering::Relaxed);
            let blobs = Blobs {
                files: self.number(family, BLOB_FILES),
                bytes: self.number(family, LIVE_BLOB_FILE_SIZE),
                garbage: self.number(family, LIVE_BLOB_FILE_GARBAGE_SIZE),
            };
            let next = blobs.are_to_be_collected(now);
            if next != now {
                self.set(family, &[(GC_ENABLED, &next.to_string())]);
                collects.store(next, Ordering::Relaxed);
            }
        }
    }

    fn settle(&self) -> Result<(), StoreError> {
        for family in Family::ALL {
            self.db.flush_cf(self.family(family)).map_err(failed)?;
        }
        Ok(())
    }
}

fn name_of(family: Family) -> &'static str {
    match family {
        Family::Records => RECORDS,
        Family::Values => VALUES,
        Family::Hints => HINTS,
        Family::Notes => NOTES,
    }
}

/// The crate has no constants for them.
const BLOB_FILES: &str = "rocksdb.num-blob-files";
const LIVE_BLOB_FILE_SIZE: &str = "rocksdb.live-blob-file-size";
const LIVE_BLOB_FILE_GARBAGE_SIZE: &str = "rocksdb.live-blob-file-garbage-size";

/// Files of a family's long values.
#[derive(Clone, Copy, Debug)]
struct Blobs {
    files: u64,
    /// Bytes of all of them, and how many of these nothing points to any more.
    bytes: u64,
    garbage: u64,
}

impl Blobs {
    /// Whether compaction is to move what is alive out of the oldest ones from now on.
    fn are_to_be_collected(self, now: bool) -> bool {
        let part = self.garbage as f64 / (self.bytes as f64).max(1.0);
        let many = self.files > FILES_MANY && self.bytes / self.files < FILE_SHORT;
        many || part >= if now { GARBAGE_LEAST } else { GARBAGE_MOST }
    }
}

fn entry(found: Result<Option<DBPinnableSlice<'_>>, Error>) -> Entry {
    match found {
        Ok(value) => Ok(value.map(|value| Bytes::copy_from_slice(&value))),
        Err(error) => Err(unreadable(error)),
    }
}

/// A key that cannot be read is damaged, whatever the reason: other keys may be well, and the
/// other owners have this one.
fn unreadable(error: Error) -> StoreError {
    tracing::error!(%error, "a key cannot be read from disk; it is answered as damaged");
    StoreError::Damaged(error.into_string())
}

fn failed(error: Error) -> StoreError {
    StoreError::Failed(error.into_string())
}

/// A write whose sync fails must never be tried again behind our back: with no automatic
/// resumption, every error of the log or a flush ends writing until the next start.
fn database_options(sizes: Sizes, create: bool) -> Result<Options, Error> {
    // A store whose disk is full must open: what its log holds is not written out for that.
    const TEXT: &str = "max_bgerror_resume_count=0;avoid_flush_during_recovery=true;\
         strict_bytes_per_sync=true";
    let mut options = Options::default().get_options_from_string(TEXT)?;
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_paranoid_checks(true);
    // An unsynced tail of the log may be torn by a crash; damage anywhere before it means that
    // acknowledged writes are gone, and the store does not open.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_recycle_log_file_num(0);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_wal_bytes_per_sync(BYTES_PER_SYNC);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_db_write_buffer_size(sizes.write_buffer);
    options.set_max_open_files(i32::try_from(sizes.open_files).unwrap_or(i32::MAX));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    options.set_max_background_jobs(cores.clamp(2, BACKGROUND_JOBS_MAX) as i32);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options.set_keep_log_file_num(INFO_LOGS_MAX);
    options.set_stats_persist_period_sec(0);
    // One writer thread writes: nothing is gained by several writing to a memtable at a time.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    Ok(options)
}

fn family_options(sizes: Sizes, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_pin_top_level_index_and_filter(true);
    // Index and filter in parts: of a large file only the parts in use take memory.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_whole_key_filtering(true);
    // Ribbon filters are smaller, Bloom filters cheaper to build: the newest files are rebuilt
    // soon.
    table.set_hybrid_ribbon_filter(FILTER_BITS, 1);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_data_block_hash_ratio(0.75);
    table.set_format_version(6);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_write_buffer_size(sizes.write_buffer / 4);
    options.set_max_write_buffer_number(3);
    options
}

fn records_options(sizes: Sizes, cache: &Cache) -> Options {
    let mut options = family_options(sizes, cache);
    // Most writes first look for a record that is not there.
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.05);
    options
}

/// What has so many bytes is long: it lies in blob files that compaction does not rewrite. They are
/// not compressed: what is long mostly is already, and its reader would wait for it.
fn values_options(sizes: Sizes, cache: &Cache, least: u64) -> Options {
    let mut options = family_options(sizes, cache);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(least);
    options.set_blob_compression_type(DBCompressionType::None);
    // Until there is something to collect.
    options.set_enable_blob_gc(false);
    options.set_blob_gc_age_cutoff(GC_AGE_CUTOFF_USUAL);
    options.set_blob_gc_force_threshold(0.5);
    // Compaction of one file moves the old values that it points to, and gives up their room only
    // afterwards: short files, little room.
    options.set_target_file_size_base(POINTERS_BYTES);
    options.set_max_compaction_bytes(POINTER_FILES_AT_ONCE * POINTERS_BYTES);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_collected_from_a_fifth_on_down_to_a_tenth() {
        let mut collects = false;
        for (garbage, expected) in [(0, false), (19, false), (20, true), (11, true), (9, false)] {
            let blobs = Blobs {
                files: 10,
                bytes: 100,
                garbage,
            };
            collects = blobs.are_to_be_collected(collects);
            assert_eq!(collects, expected, "{garbage}");
        }
    }

    #[test]
    fn many_short_files_are_made_into_longer_ones() {
        let blobs = |files, bytes| Blobs {
            files,
            bytes,
            garbage: 0,
        };
        assert!(!blobs(0, 0).are_to_be_collected(false));
        assert!(!blobs(FILES_MANY, FILES_MANY).are_to_be_collected(false));
        let files = 2 * FILES_MANY;
        assert!(blobs(files, files * FILE_SHORT / 2).are_to_be_collected(false));
        assert!(!blobs(files, files * FILE_SHORT).are_to_be_collected(true));
    }
}
