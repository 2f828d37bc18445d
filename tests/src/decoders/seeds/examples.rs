//! One message of each kind, with all its fields.

use annulet_protocol::bucket::{Bucket, Durability, Mode};
use annulet_protocol::clock::Stamp;
use annulet_protocol::copy::{Copied, CopiedEntry, CopyArc};
use annulet_protocol::hash::{KeyHash, storage_key};
use annulet_protocol::hints::{HintAside, HintsReport, HintsWaiting};
use annulet_protocol::ids::{ClusterId, EpochHash, Incarnation, NodeId, OpId};
use annulet_protocol::level::Level;
use annulet_protocol::message::{
    Answer, DiskState, Failure, FailureKind, Hello, Hint, Load, Operation, Read, Reply, Request,
    Source, Write,
};
use annulet_protocol::record::{Expiry, Origin, Record};
use annulet_protocol::scan::{PageEntry, Scan};
use annulet_protocol::siblings::message::{Compare, Found, Merge, Mint, Minted, Spread};
use annulet_protocol::siblings::{self, Actor, Siblings};
use annulet_protocol::table::{RegionTable, Table};
use annulet_protocol::view::{Member, MemberState, Tip, View};
use annulet_replica::layout;
use bytes::Bytes;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
/// Number of the bucket.
pub(super) const BUCKET: u32 = 1;
/// The key.
pub(super) const KEY: Bytes = Bytes::from_static(b"key");

/// A record of [`KEY`] with its checksums; a tombstone without a value.
pub(super) fn record(value: Option<&'static str>, expires_at_ms: Option<u64>) -> Record {
    let op = OpId {
        client: Incarnation([0xaa; 16]),
        sequence: 3,
        first_sent_ms: 1_700_000_000_000,
    };
    let stamp = Stamp::at(1_700_000_000_001).next();
    let origin = Origin { stamp, op };
    let value = value.map(Bytes::from);
    Record::seal(BUCKET, &KEY, origin, value, expires_at_ms)
}

/// An expiry of a record, set after it.
pub(super) fn expiry(record: &Record) -> Expiry {
    let stamp = Stamp::at(1_700_000_000_005);
    Expiry::seal(BUCKET, &KEY, &record.head.version, 1_700_000_090_000, stamp)
}

/// A request of these operations.
pub(super) fn request(operations: Vec<Operation>) -> Request {
    Request {
        cluster: CLUSTER,
        epoch: 7,
        budget_ms: 5_000,
        operations,
    }
}

/// A read with all that can be said in one.
pub(super) fn read_anywhere() -> Read {
    Read {
        head_only: true,
        value_bytes_max: Some(4_096),
        hinted: true,
        ..Read::new(BUCKET, KEY)
    }
}

/// A write of this record.
pub(super) fn write(source: Source, record: Record) -> Operation {
    Operation::Write(Write {
        bucket: BUCKET,
        key: KEY,
        source,
        record,
        gone: false,
    })
}

/// The head of a record whose value nobody has any more.
pub(super) fn write_gone(record: Record) -> Operation {
    Operation::Write(Write {
        bucket: BUCKET,
        key: KEY,
        source: Source::Repair,
        record: Record {
            value: Bytes::new(),
            ..record
        },
        gone: true,
    })
}

/// A hint for two owners.
pub(super) fn hint(record: Record) -> Hint {
    Hint {
        bucket: BUCKET,
        key: KEY,
        owners: vec![NodeId(2), NodeId(u64::MAX)],
        source: Source::FirstHand,
        record,
    }
}

/// A scan with all that can be said in one.
pub(super) fn scan() -> Scan {
    Scan {
        bucket: BUCKET,
        from: KeyHash(5),
        until: KeyHash(u64::MAX),
        after: "after".into(),
        entries_max: 100,
        bytes_max: 65_536,
        value_bytes_max: 4_096,
    }
}

/// A question for all that is held of an arc, with all that can be said in one.
pub(super) fn copy_arc() -> CopyArc {
    CopyArc {
        node: NodeId(4),
        since: 7,
        from: KeyHash(5),
        until: KeyHash(u64::MAX),
        after: "after".into(),
        last: "last".into(),
        digest: Some(8),
        bytes_max: 65_536,
    }
}

/// A page of what is copied: a record as it is stored.
pub(super) fn copied(record: &Record) -> Copied {
    let (entry, value) = layout::encode(record);
    Copied {
        entries: vec![CopiedEntry {
            key: storage_key(KeyHash(5), BUCKET, &KEY),
            entry,
            value,
        }],
        reached: Some("reached".into()),
    }
}

/// An entry of a page.
pub(super) fn page_entry(record: &Record, value: Option<Bytes>) -> PageEntry {
    PageEntry {
        key: KEY,
        head: record.head,
        value,
    }
}

/// A reply of these answers.
pub(super) fn reply(results: Vec<Answer>) -> Reply {
    Reply {
        cluster: CLUSTER,
        node: NodeId(0x0102_0304_0506_0708),
        epoch: 8,
        time_ms: 1_700_000_000_002,
        load: Load {
            in_flight: 2,
            service_us: 150,
        },
        results,
    }
}

/// A failure with all that can be said in one.
pub(super) fn failure() -> Failure {
    Failure {
        kind: FailureKind::Overloaded,
        message: "busy".into(),
        retry_after_ms: Some(40),
    }
}

/// A greeting.
pub(super) fn hello() -> Hello {
    Hello {
        cluster: CLUSTER,
        node: NodeId(9),
        epoch: 8,
        view_digest: 0xdead_beef,
        time_ms: 1_700_000_000_002,
        disk: DiskState::Filling,
        hash: EpochHash([5; 16]),
        first: 1,
        generation: 0,
    }
}

/// A report with one hint of each sort.
pub(super) fn report() -> HintsReport {
    HintsReport {
        node: NodeId(9),
        bytes: 500,
        bytes_max: 1_000,
        waiting: vec![HintsWaiting {
            owner: NodeId(2),
            count: 3,
        }],
        aside: 1,
        aside_listed: vec![HintAside {
            bucket: BUCKET,
            key: KEY,
            version: record(Some("value"), None).head.version,
            owners: vec![NodeId(3)],
            since_ms: 1_700_000_000_002,
        }],
    }
}

/// A view of two regions.
pub(super) fn view() -> View {
    let member = |id: u64, zone: &str, region: &str| Member {
        id: NodeId(id),
        address: format!("host{id}:7400"),
        capacity: 2,
        zone: zone.into(),
        region: region.into(),
        state: MemberState::Active,
    };
    View {
        cluster: CLUSTER,
        name: "prod".into(),
        seed: 42,
        epoch: 8,
        value_bytes_max: 16 << 20,
        members: vec![
            member(1, "a", "north"),
            member(2, "b", "north"),
            member(3, "", "south"),
        ]
        .into(),
        table: Table {
            partitions: 2,
            epoch: 5,
            list_length: 2,
            regions: vec![
                region("north", 2, &[0, 1, 1, 0]),
                region("south", 1, &[2, 2]),
            ],
            ..Table::default()
        },
        buckets: vec![
            Bucket::new(1, "default"),
            Bucket {
                mode: Mode::Strong,
                durability: Durability::Group,
                read_level: Level::Explicit { read: 1, write: 3 },
                ttl_ms: Some(60_000),
                ..Bucket::new(4, "carts")
            },
        ],
        tip: Tip {
            generation: 1,
            hash: EpochHash([5; 16]),
            keepers: vec![NodeId(1), NodeId(2), NodeId(3)],
            next_bucket: 9,
        },
    }
}

/// The owner lists of a region, as indices of members.
pub(super) fn region(name: &str, length: u8, owners: &[u32]) -> RegionTable {
    RegionTable::new(name, length, 3, owners.iter().copied())
}

/// A put of one of possibly many concurrent values, under a context.
pub(super) fn mint(owners: Vec<NodeId>) -> Operation {
    Operation::Mint(Mint {
        bucket: BUCKET,
        key: KEY,
        context: siblings().context().seal(BUCKET, &KEY),
        write: siblings_write(2),
        again: !owners.is_empty(),
        owners,
    })
}

/// Concurrent values that are brought to an owner.
pub(super) fn merge() -> Operation {
    Operation::Merge(Merge {
        bucket: BUCKET,
        key: KEY,
        source: Source::Repair,
        record: siblings().seal(BUCKET, &KEY),
        owners: vec![NodeId(2)],
    })
}

/// Whether concurrent values are the same.
pub(super) fn compare() -> Operation {
    Operation::Compare(Compare {
        bucket: BUCKET,
        key: KEY,
        fingerprint: siblings().fingerprint(),
    })
}

/// What was minted is everywhere.
pub(super) fn spread() -> Operation {
    Operation::Spread(Spread {
        bucket: BUCKET,
        key: KEY,
        incarnation: Incarnation([1; 16]),
        stamp: Stamp(9),
    })
}

/// Concurrent values that were found.
pub(super) fn found_siblings(bare: bool) -> Answer {
    let record = match bare {
        true => siblings().bare(),
        false => siblings(),
    };
    Answer::Siblings(Found {
        record: record.seal(BUCKET, &KEY),
        bare,
    })
}

/// A put that is done.
pub(super) fn minted() -> Answer {
    Answer::Minted(Minted {
        record: siblings().seal(BUCKET, &KEY),
    })
}

fn siblings_write(sequence: u64) -> siblings::Write {
    let op = OpId {
        client: Incarnation([0xaa; 16]),
        sequence,
        first_sent_ms: 1_700_000_000_000,
    };
    siblings::Write::seal(BUCKET, &KEY, op, "value".into(), Some(1_700_000_060_000))
}

pub(super) fn siblings() -> Siblings {
    let actor = Actor {
        node: NodeId(3),
        incarnation: Incarnation([3; 16]),
        tenure: 7,
    };
    let minter = (actor, Stamp::at(1_700_000_000_001));
    let mut record = Siblings::default();
    let put = record.put(
        &Siblings::default(),
        (siblings_write(1), false),
        minter,
        1 << 20,
    );
    put.expect("the first");
    record
}
