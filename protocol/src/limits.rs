//! Bounds on everything that may come over the wire. A message that exceeds one is refused before
//! anything of it is acted upon.

/// Longest key in bytes; the shortest is 1.
pub const KEY_BYTES_MAX: usize = 4096;
/// Longest bucket name in bytes; the shortest is 1.
pub const BUCKET_NAME_BYTES_MAX: usize = 64;
/// Longest value in bytes unless the cluster says otherwise (16 MiB).
pub const VALUE_BYTES_DEFAULT: usize = 16 << 20;
/// Longest value in bytes that a cluster may be set to take (64 MiB).
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// Most replicas a bucket may have in a region, and longest owner list.
pub const REPLICAS_MAX: usize = 7;
/// Most operations in one request.
pub const OPERATIONS_MAX: usize = 1024;
/// What a request may need beyond its values: names, keys, versions.
pub const REQUEST_OVERHEAD_BYTES: usize = 1 << 20;
/// Most partitions of a ring.
pub const PARTITIONS_MAX: u32 = 1 << 20;
/// Most members of a ring.
pub const MEMBERS_MAX: usize = 100_000;
/// Most buckets of a cluster.
pub const BUCKETS_MAX: usize = 10_000;
/// Most regions of a cluster.
pub const REGIONS_MAX: usize = 64;
/// Most owners of a key: in each region one list.
pub const OWNERS_MAX: usize = REPLICAS_MAX * REGIONS_MAX;
/// Longest member address, zone or region name in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest encoded view in bytes, before compression.
pub const VIEW_BYTES_MAX: usize = 64 << 20;
/// Deepest nesting of a message.
pub const DEPTH_MAX: usize = 16;
/// Furthest that a first-hand stamp may lie ahead of a server's clock, unless configured.
pub const SKEW_MS_MAX: u64 = 1_000;
/// Longest time that an operation may be given, in milliseconds (10 minutes).
pub const BUDGET_MS_MAX: u32 = 600_000;
/// Longest time that a deleted record is remembered without proof that every owner knows of it, in
/// milliseconds (7 days).
pub const GRACE_MS: u64 = 7 * 24 * 3_600_000;
/// Longest time that a record is kept for an owner that is away: half of the grace, so that it
/// comes while a later delete is still remembered.
pub const HINT_AGE_MS_MAX: u64 = GRACE_MS / 2;
/// Most concurrent values of a key; a put that would make one more is refused.
pub const SIBLINGS_MAX: usize = 100;
/// Most concurrent values in one record: each owner of a key may have taken as many as it takes,
/// and a merge drops none of them; what would make more is not merged.
pub const SIBLINGS_MERGED_MAX: usize = SIBLINGS_MAX * OWNERS_MAX;
/// So many values of the longest length may one record hold: each owner of a key may have taken one
/// that no other has.
pub const SIBLINGS_LONGEST_MAX: usize = 4;
/// More concurrent values than this are warned of: nobody merges them.
pub const SIBLINGS_WARNED: usize = 25;
/// Most entries in one page of a scan.
pub const PAGE_ENTRIES_MAX: u32 = 1_024;
/// Most bytes of keys and values in one page of a scan, one long key apart.
pub const PAGE_BYTES_MAX: u32 = 1 << 20;
/// Most keepers of an epoch.
pub const KEEPERS_MAX: usize = 5;
/// Highest number of an epoch.
pub const EPOCH_NUMBER_MAX: u64 = (1 << 48) - 1;
/// Highest generation of an epoch: how often a chain can be begun anew.
pub const GENERATION_MAX: u64 = u64::MAX >> 48;
/// Longest record of an epoch in bytes.
pub const EPOCH_BYTES_MAX: usize = 256 << 10;
/// Most changes of buckets in one epoch.
pub const BUCKET_CHANGES_MAX: usize = 64;
/// Most changes of members in one epoch.
pub const MEMBER_CHANGES_MAX: usize = 64;
/// Most partitions whose lists one epoch changes.
pub const LIST_CHANGES_MAX: usize = 512;
/// Most partitions that are joint at a time.
pub const JOINT_MAX: usize = 4_096;
/// Most partitions of which it is known which epoch set their lists.
pub const CHANGED_MAX: usize = 16_384;
/// Most records of epochs in one message, which has at most [`REQUEST_OVERHEAD_BYTES`] anyway.
pub const EPOCHS_MAX: usize = 1_024;
