//! Sessions, pinned: one process hands them to another, which may run another version.

use annulet_protocol::ballot::Ballot;
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::{ClusterId, Incarnation, NodeId, OpId};
use annulet_protocol::record::Version;
use annulet_protocol::session::{Known, SESSION_KEYS_MAX, TOKEN_BYTES_MAX, Token};
use annulet_protocol::siblings::{Actor, Siblings, Write};

const TEXT: &str = "a value";

fn siblings() -> Siblings {
    let op = OpId {
        client: Incarnation([0xaa; 16]),
        sequence: 1,
        first_sent_ms: 1_700_000_000_000,
    };
    let write = Write::seal(1, b"key", op, TEXT.into(), None);
    let actor = Actor {
        node: NodeId(3),
        incarnation: Incarnation([3; 16]),
        tenure: 7,
    };
    let minter = (actor, Stamp::at(1_700_000_000_001));
    let mut record = Siblings::default();
    let put = record.put(&Siblings::default(), (write, false), minter, 99);
    put.expect("the first");
    record
}

fn token() -> Token {
    let version = Version {
        stamp: Stamp::at(1_700_000_000_001),
        writer: Incarnation([0xbb; 16]),
        checksum: 5,
    };
    let ballot = Ballot {
        number: 7,
        proposer: Incarnation([0xcc; 16]),
    };
    Token {
        cluster: ClusterId([0xc1; 16]),
        overflowed: true,
        reached: Stamp::default(),
        entries: vec![
            (KeyHash(1), Known::Version(version)),
            (KeyHash(2), Known::Register(ballot)),
            (KeyHash(u64::MAX), Known::Siblings(siblings().bare())),
        ],
    }
}

#[test]
fn bytes_of_a_session() {
    let bytes = token().encode();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "0183a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1aa6f766572666c6f776564c3a7656e747\
         26965739382a46861736801a776657273696f6e83a57374616d70cf018bcfe568010000a6777269746572c410\
         bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbba8636865636b73756d0582a46861736802a8726567697374657282a66\
         e756d62657207a870726f706f736572c410cccccccccccccccccccccccccccccccc82a468617368cfffffffff\
         ffffffffa87369626c696e6773c49b83a46261736500a6766563746f72c428000000000000000303030303030\
         3030303030303030303030000000000000007018bcfe568010000a87369626c696e6773c45800aaaaaaaaaaaa\
         aaaaaaaaaaaaaaaaaaaa00000000000000010000018bcfe568009f1150a5b2970935000000000001000000000\
         000000003030303030303030303030303030303030000000000000007018bcfe568010000"
    );
    assert_eq!(Token::decode(&bytes), Ok(token()));
    for length in 0..bytes.len() {
        assert!(Token::decode(&bytes[..length]).is_err(), "cut at {length}");
    }
    let newer = [&[2], &bytes[1..]].concat();
    let error = Token::decode(&newer).expect_err("not this format");
    assert!(error.to_string().contains("format 2"), "{error}");
}

#[test]
fn a_time_in_a_session_is_left_out_where_nobody_says_it() {
    let timed = Token {
        reached: Stamp::at(1_700_000_000_001),
        entries: Vec::new(),
        ..token()
    };
    let bytes = timed.encode();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "0184a7636c7573746572c410c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1aa6f766572666c6f776564c3a7726561\
         63686564cf018bcfe568010000a7656e747269657390"
    );
    assert_eq!(Token::decode(&bytes), Ok(timed));
    // A field of a later version is passed over, as this one is by those before.
    let at = bytes.windows(7).position(|name| name == b"reached");
    let mut later = bytes.to_vec();
    later[at.expect("its name") + 6] = b'r';
    let without = Token {
        entries: Vec::new(),
        ..token()
    };
    assert_eq!(Token::decode(&later), Ok(without));
}

#[test]
fn values_never_travel_in_a_session() {
    let whole = Token {
        entries: vec![(KeyHash(1), Known::Siblings(siblings()))],
        ..token()
    };
    let bytes = whole.encode();
    assert!(
        !bytes
            .windows(TEXT.len())
            .any(|part| part == TEXT.as_bytes())
    );
}

#[test]
fn a_session_over_its_limits_is_refused() {
    let ballot = Known::Register(Ballot::default());
    let many = |count: u64| Token {
        entries: (0..count).map(|n| (KeyHash(n), ballot.clone())).collect(),
        ..token()
    };
    let fits = many(500).encode();
    assert!(fits.len() <= TOKEN_BYTES_MAX);
    assert!(Token::decode(&fits).is_ok());
    let long = many(SESSION_KEYS_MAX as u64).encode();
    assert!(long.len() > TOKEN_BYTES_MAX);
    assert!(Token::decode(&long).is_err());
}
