use super::*;
use annulet_protocol::bucket::Bucket;
use annulet_protocol::hints::HintsWaiting;
use annulet_protocol::ids::ClusterId;
use annulet_protocol::record::Version;
use annulet_protocol::table::Table;
use annulet_protocol::view::{Member as ViewMember, MemberState, Tip};

fn view() -> View {
    let member = |id: u64| ViewMember {
        id: NodeId(id),
        address: format!("server-{id}:1"),
        capacity: 1,
        zone: String::new(),
        region: String::new(),
        state: MemberState::Active,
    };
    View {
        cluster: ClusterId::default(),
        name: String::new(),
        seed: 0,
        epoch: 1,
        value_bytes_max: 1,
        members: (1..=3).map(member).collect(),
        table: Table {
            partitions: 1,
            epoch: 1,
            list_length: 1,
            regions: Vec::new(),
            ..Table::default()
        },
        buckets: vec![Bucket::new(1, "carts")],
        tip: Tip::default(),
    }
}

fn aside(bucket: u32, key: &'static [u8], since_ms: u64) -> HintAside {
    HintAside {
        bucket,
        key: key.into(),
        version: Version::default(),
        owners: vec![NodeId(2), NodeId(9)],
        since_ms,
    }
}

/// One server that has nothing, one that has everything, one that does not answer.
fn members() -> Vec<Member> {
    let report = HintsReport {
        node: NodeId(2),
        bytes: 2048,
        bytes_max: 1 << 30,
        waiting: vec![
            HintsWaiting {
                owner: NodeId(1),
                count: 7,
            },
            HintsWaiting {
                owner: NodeId(9),
                count: 2,
            },
        ],
        aside: 1_002,
        aside_listed: vec![aside(1, b"user\n1", 0), aside(8, b"\xff", u64::MAX)],
    };
    let member = |id: u64, report| Member {
        id: NodeId(id),
        address: format!("server-{id}:1"),
        report,
    };
    vec![
        member(1, Ok(HintsReport::default())),
        member(2, Ok(report)),
        member(3, Err("no answer within 2000 ms".to_owned())),
    ]
}

#[test]
fn people_see_how_much_waits_for_whom_and_why_a_server_says_nothing() {
    let rows = rows(&view(), &members());
    assert_eq!(rows[1][0], "server-1:1");
    assert_eq!(rows[1][3..], ["0", "none"]);
    assert_eq!(rows[2][1..3], ["2.00 KiB", "1.00 GiB"]);
    assert_eq!(
        rows[2][3..],
        ["1002", "7 for server-1:1, 2 for server 0000000000000009"]
    );
    assert_eq!(rows[3], ["server-3:1", "does not say"]);
}

#[test]
fn what_was_set_aside_is_told_record_by_record_with_what_to_do() {
    let remarks = remarks(&view(), &members());
    let expected = [
        "set aside on server-2:1: bucket carts, key user\\n1, since 1970-01-01T00:00:00Z, for \
         server-2:1, server 0000000000000009",
        "set aside on server-2:1: bucket number 8 (no longer there), key <1 bytes that are not \
         text>, since 18446744073709551615 ms, for server-2:1, server 0000000000000009",
        "set aside on server-2:1: 1000 more",
        "server-3:1: no answer within 2000 ms",
        ASIDE_TO_DO,
    ];
    assert_eq!(remarks, expected);
    let healthy = [Member {
        id: NodeId(1),
        address: String::from("server-1:1"),
        report: Ok(HintsReport::default()),
    }];
    assert!(super::remarks(&view(), &healthy).is_empty());
}

#[test]
fn programs_get_every_field_whether_a_server_answered_or_not() {
    let object = to_json(&view(), &members());
    let members = object["members"].as_array().unwrap();
    assert_eq!(members[0]["waiting"], json!([]));
    assert_eq!(members[0]["error"], Value::Null);
    assert_eq!(
        members[1]["waiting"][0],
        json!({ "owner": "0000000000000001", "address": "server-1:1", "count": 7 })
    );
    assert_eq!(members[1]["waiting"][1]["address"], Value::Null);
    let listed = &members[1]["aside_listed"];
    assert_eq!(listed[0]["bucket_name"], "carts");
    assert_eq!(listed[0]["key"], "user\n1");
    assert_eq!(
        (&listed[1]["key"], &listed[1]["key_base64"]),
        (&Value::Null, &json!("/w=="))
    );
    assert_eq!(members[2]["bytes"], Value::Null);
    assert_eq!(members[2]["error"], "no answer within 2000 ms");
}
