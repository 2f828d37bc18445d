//! Seeds of sessions: what one client hands to another.

use super::Seeds;
use super::examples::{record, siblings};
use super::messages::changed;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::{ClusterId, Incarnation};
use annulet_protocol::session::{Known, Token};

pub(super) fn add(seeds: &mut Seeds) {
    let token = |entries: Vec<(KeyHash, Known)>| Token {
        cluster: ClusterId([0xc1; 16]),
        overflowed: !entries.is_empty(),
        reached: Stamp::default(),
        entries,
    };
    let ballot = Ballot {
        number: 7,
        proposer: Incarnation([5; 16]),
    };
    let entries = vec![
        (KeyHash(1), Known::Version(record(None, None).head.version)),
        (KeyHash(2), Known::Register(ballot)),
        (KeyHash(u64::MAX), Known::Siblings(siblings().bare())),
    ];
    seeds.add("session", "empty", token(Vec::new()).encode());
    let timed = Token {
        reached: Stamp::at(1_700_000_000_001),
        ..token(entries.clone())
    };
    seeds.add("session", "with_a_time", timed.encode());
    let all = token(entries).encode();
    seeds.add("session", "all_kinds", all.clone());
    let newer = [&[2], &all[1..]].concat();
    seeds.add("session", "of_a_newer_format", newer);
    let nothing = changed(&all, b"\xa7version", b"\xa7versiom");
    seeds.add("session", "a_key_without_a_version", nothing);
}
