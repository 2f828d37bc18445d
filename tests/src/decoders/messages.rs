//! Checks of the messages' decoders.

use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::Mode;
use annulet_protocol::codec::{
    DecodeError, decode_failure, decode_hello, decode_hints, decode_reply, decode_request,
    decode_view, encode, request_bytes_max,
};
use annulet_protocol::copy::CopiedEntry;
use annulet_protocol::limits::{OPERATIONS_MAX, REQUEST_OVERHEAD_BYTES};
use annulet_protocol::message::{Answer, Operation};
use annulet_protocol::record::{Head, Record};
use annulet_protocol::register::{self, Change, LOG_MAX, Log, Register, Turn};
use annulet_protocol::session::{Known, SESSION_KEYS_MAX, TOKEN_BYTES_MAX, Token};
use annulet_protocol::siblings::Siblings;
use annulet_protocol::siblings::merges::{Counter, Set};
use annulet_protocol::siblings::message::{Found, Minted};
use annulet_replica::copy::brought::Brought;
use serde::Serialize;
use std::cmp::Ordering;
use std::fmt::Debug;

/// Longest value of the cluster that the requests are for. Short, so that requests over a limit
/// fit into memory many times.
const VALUE_BYTES_MAX: usize = 4_096;

pub(super) fn request(bytes: &[u8]) -> bool {
    let decode = |bytes: &[u8]| decode_request(bytes, VALUE_BYTES_MAX);
    let Some(request) = round_trip(bytes, decode) else {
        return false;
    };
    assert!(bytes.len() <= request_bytes_max(VALUE_BYTES_MAX));
    assert!(request.operations.len() <= OPERATIONS_MAX);
    let content: usize = request.operations.iter().map(operation_bytes).sum();
    assert!(content <= bytes.len(), "{content} bytes out of nothing");
    true
}

/// Bytes of keys, values and owners of an operation, each at least as long as it was on the wire.
fn operation_bytes(operation: &Operation) -> usize {
    match operation {
        Operation::Read(read) => read.key.len(),
        Operation::Write(write) => {
            check_record(write.bucket, &write.key, &write.record);
            write.key.len() + write.record.value.len()
        }
        Operation::Hint(hint) => {
            check_record(hint.bucket, &hint.key, &hint.record);
            hint.key.len() + hint.record.value.len() + hint.owners.len()
        }
        Operation::Touch(touch) => {
            let _ = touch
                .expiry
                .verify(touch.bucket, &touch.key, &touch.version);
            touch.key.len()
        }
        Operation::Scan(scan) => scan.after.len(),
        Operation::CopyArc(asked) => asked.after.len() + asked.last.len(),
        Operation::Mint(mint) => {
            let write = &mint.write;
            let _ = write.is_sound(mint.bucket, &mint.key);
            let _ = Siblings::unseal(mint.bucket, &mint.key, &mint.context);
            mint.key.len() + mint.context.len() + write.value.len() + mint.owners.len()
        }
        Operation::Merge(merge) => {
            let _ = Siblings::unseal(merge.bucket, &merge.key, &merge.record);
            merge.key.len() + merge.record.len() + merge.owners.len()
        }
        Operation::Compare(compare) => compare.key.len(),
        Operation::Spread(spread) => spread.key.len(),
        Operation::ReadRegister(read) => read.key.len(),
        Operation::Prepare(prepare) => prepare.key.len(),
        Operation::Accept(accept) => {
            check_register(&accept.head, &accept.log, &accept.value);
            accept.key.len() + accept.log.encode().len() + accept.value.len()
        }
        Operation::Learn(learn) => {
            check_register(&learn.head, &learn.log, &learn.value);
            learn.key.len() + learn.log.encode().len() + learn.value.len()
        }
        Operation::Unknown => 0,
    }
}

pub(super) fn reply(bytes: &[u8]) -> bool {
    let Some(reply) = round_trip(bytes, decode_reply) else {
        return false;
    };
    assert!(reply.results.len() <= OPERATIONS_MAX);
    let content: usize = reply.results.iter().map(answer_bytes).sum();
    assert!(content <= bytes.len(), "{content} bytes out of nothing");
    true
}

fn answer_bytes(answer: &Answer) -> usize {
    match answer {
        Answer::Found(record) => {
            check_record(1, b"key", record);
            record.value.len()
        }
        Answer::FoundHead(head) => {
            check_head(1, b"key", head);
            0
        }
        Answer::Copied(page) => {
            let entry_bytes = |entry: &CopiedEntry| {
                for mode in [Mode::Lww, Mode::Siblings, Mode::Strong] {
                    let _ = Brought::read(mode, entry);
                }
                let value = entry.value.as_ref().map_or(0, |value| value.len());
                entry.key.len() + entry.entry.len() + value
            };
            let entries: usize = page.entries.iter().map(entry_bytes).sum();
            entries + page.reached.as_ref().map_or(0, |reached| reached.len())
        }
        Answer::Page(page) => {
            let entry_bytes = |entry: &annulet_protocol::scan::PageEntry| {
                check_head(1, &entry.key, &entry.head);
                entry.key.len() + entry.value.as_ref().map_or(0, |value| value.len())
            };
            let entries: usize = page.entries.iter().map(entry_bytes).sum();
            entries + page.reached.as_ref().map_or(0, |reached| reached.len())
        }
        Answer::Siblings(Found { record, .. }) | Answer::Minted(Minted { record }) => {
            let _ = Siblings::unseal(1, b"key", record);
            record.len()
        }
        Answer::Promise(promise) => promise.accepted.as_ref().map_or(0, |shown| {
            let log = shown.log.clone().unwrap_or_default();
            let value = shown.value.as_deref().unwrap_or_default();
            check_register(&shown.head, &log, value);
            log.encode().len() + value.len()
        }),
        Answer::Accepted(_) | Answer::Outbid(_) => 0,
        Answer::Refused(refusal) => refusal.message.len(),
        Answer::Absent(_) | Answer::Written(_) | Answer::Lacking(_) | Answer::Unknown => 0,
    }
}

/// Whatever a record says, it can be looked at.
fn check_record(bucket: u32, key: &[u8], record: &Record) {
    let _ = record.verify(bucket, key);
    check_head(bucket, key, &record.head);
}

/// Whatever a register says, it can be looked at and changed.
fn check_register(head: &register::Head, log: &Log, value: &[u8]) {
    let _ = head.verify(1, b"key");
    let _ = head.verify_value(1, b"key", value);
    assert!(!(head.is_live(u64::MAX) && head.is_expired(u64::MAX)));
    assert!(log.iter().len() <= LOG_MAX);
    let register = Register {
        head: *head,
        log: log.clone(),
    };
    let sound = register.verify(1, b"key").is_ok();
    let turn = Turn {
        ballot: Ballot::default(),
        op: head.op,
        since: None,
        now_ms: u64::MAX,
    };
    let changed = register.change((1, b"key"), &turn, &Change::Resolve);
    assert!(!sound || changed.register.verify(1, b"key").is_ok());
}

fn check_head(bucket: u32, key: &[u8], head: &Head) {
    let _ = head.verify_expiry(bucket, key);
    assert_eq!(head.freshness(head), Ordering::Equal);
    assert!(!(head.is_live(u64::MAX) && head.is_expired(u64::MAX)));
}

pub(super) fn failure(bytes: &[u8]) -> bool {
    let failure = round_trip(bytes, decode_failure);
    failure.is_some_and(|failure| {
        assert!(failure.message.len() <= bytes.len());
        true
    })
}

pub(super) fn hello(bytes: &[u8]) -> bool {
    round_trip(bytes, decode_hello).is_some()
}

pub(super) fn hints_report(bytes: &[u8]) -> bool {
    let Some(report) = round_trip(bytes, decode_hints) else {
        return false;
    };
    let keys: usize = report.aside_listed.iter().map(|hint| hint.key.len()).sum();
    assert!(keys + report.waiting.len() <= bytes.len());
    true
}

pub(super) fn siblings(bytes: &[u8]) -> bool {
    let Ok(record) = Siblings::decode(bytes) else {
        return false;
    };
    let again = Siblings::decode(&record.encode());
    assert_eq!(again.as_ref(), Ok(&record), "written and read again");
    assert_eq!(record.merge(&record), record);
    let sealed = record.seal(1, b"key");
    assert_eq!(Siblings::unseal(1, b"key", &sealed).as_ref(), Ok(&record));
    assert!(Siblings::unseal(2, b"key", &sealed).is_err());
    assert_eq!(record.bare().fingerprint(), record.fingerprint());
    let context = record.context();
    assert_eq!(context.iter().len(), 0);
    assert_eq!(record.merge(&context).iter().len(), 0, "all of it was seen");
    for sibling in record.iter() {
        assert!(record.has_done(&sibling.write.op));
        assert!(
            sibling
                .minted
                .iter()
                .all(|minting| record.knows(&minting.dot))
        );
    }
    true
}

pub(super) fn session(bytes: &[u8]) -> bool {
    let Ok(token) = Token::decode(bytes) else {
        return false;
    };
    assert!(bytes.len() <= TOKEN_BYTES_MAX && token.entries.len() <= SESSION_KEYS_MAX);
    let written = token.encode();
    // Ours may be longer than it came: some writers pack numbers more tightly.
    if written.len() <= TOKEN_BYTES_MAX {
        assert_eq!(Token::decode(&written), Ok(token.clone()), "read again");
    }
    for (_, known) in &token.entries {
        if let Known::Siblings(record) = known {
            assert!(record.iter().all(|one| one.write.value.is_empty()));
        }
    }
    true
}

pub(super) fn set(bytes: &[u8]) -> bool {
    let Ok(set) = Set::decode(bytes) else {
        return false;
    };
    let again = set.encode().map(|bytes| Set::decode(&bytes));
    assert_eq!(again, Ok(Ok(set)), "written and read again");
    true
}

pub(super) fn counter(bytes: &[u8]) -> bool {
    let Ok(counter) = Counter::decode(bytes) else {
        return false;
    };
    counter.total();
    let again = counter.encode().map(|bytes| Counter::decode(&bytes));
    assert_eq!(again, Ok(Ok(counter)), "written and read again");
    true
}

pub(super) fn view(bytes: &[u8]) -> bool {
    let Some(view) = round_trip(bytes, decode_view) else {
        return false;
    };
    assert_eq!(view.validate(), Ok(()));
    let partition = view.hash(1, bytes).partition(view.table.partitions);
    for table in &view.table.regions {
        for partition in [0, partition, view.table.partitions - 1] {
            let owners: Vec<_> = table.list(partition).collect();
            assert!(owners.len() <= usize::from(table.length));
            for owner in owners {
                assert_eq!(view.members[owner].region, table.region);
            }
        }
    }
    for member in &view.members {
        assert_eq!(view.member(member.id), Some(member));
    }
    for bucket in &view.buckets {
        assert_eq!(view.bucket(bucket.number), Some(bucket));
        assert_eq!(view.bucket_named(&bucket.name), Some(bucket));
    }
    true
}

/// Reads a message. If it is one, it is written and read as the same, and it is none with less or
/// more at its end.
pub(super) fn round_trip<M: Serialize + PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<M, DecodeError>,
) -> Option<M> {
    let message = decode(bytes).ok()?;
    let written = encode(&message);
    match decode(&written) {
        // What came without the names of its fields is longer with them, and may be too long.
        Err(DecodeError::Limit(_)) if written.len() > REQUEST_OVERHEAD_BYTES => {}
        again => assert_eq!(again.as_ref(), Ok(&message), "written and read again"),
    }
    let (_, shorter) = bytes.split_last()?;
    assert!(decode(shorter).is_err(), "without its last byte");
    let longer = [bytes, &[0xc0]].concat();
    assert!(decode(&longer).is_err(), "with a byte after its end");
    Some(message)
}
