use super::*;
use annulet::{Error, ErrorKind};

fn row(line: u64, fate: Fate) -> Judged {
    Judged {
        place: Place::Line(line),
        fate,
    }
}

fn stored(line: u64) -> Judged {
    row(line, Fate::Tried(Outcome::Stored, 10))
}

fn failed(line: u64, kind: ErrorKind) -> Judged {
    let outcome = Outcome::Failed(Error::new(kind, "why"));
    row(line, Fate::Tried(outcome, 10))
}

fn broken(line: u64, is_last: bool) -> Judged {
    Judged::broken(Broken {
        place: Place::Line(line),
        why: String::from("why"),
        is_last,
    })
}

fn summary(rows: Vec<Judged>, strict: bool) -> Summary {
    let mut summary = Summary::new(Done::default(), strict);
    let progress = Progress::start("rows", None, true);
    for row in rows {
        summary.add(row, &progress);
    }
    summary
}

#[test]
fn a_later_run_begins_with_the_first_row_that_may_still_be_stored() {
    let check = |rows: Vec<Judged>, strict, expected: u64, whole: bool| {
        let summary = summary(rows, strict);
        assert_eq!(summary.done().rows(), expected);
        assert_eq!(summary.is_whole(), whole);
    };
    check(vec![stored(1), stored(2)], false, 2, true);
    let own = || {
        vec![
            stored(1),
            failed(2, ErrorKind::InvalidInput),
            broken(3, false),
        ]
    };
    check(own(), false, 3, true);
    check(own(), true, 1, false);
    let away = || vec![stored(1), failed(2, ErrorKind::Unavailable), stored(3)];
    check(away(), false, 1, false);
    for kind in [
        ErrorKind::Timeout,
        ErrorKind::Unauthorized,
        ErrorKind::Internal,
    ] {
        check(vec![failed(1, kind), stored(2)], false, 0, false);
    }
    check(vec![stored(1), broken(2, true)], false, 1, false);
    let expired = row(1, Fate::Tried(Outcome::Expired, 10));
    check(vec![expired, stored(2)], false, 2, true);
}

#[test]
fn a_later_run_counts_on() {
    let first = summary(vec![stored(1), broken(2, false), stored(3)], false);
    let state = serde_json::to_string(first.done()).unwrap();
    let done: Done = serde_json::from_str(&state).unwrap();
    let mut second = Summary::new(done, false);
    second.add(stored(4), &Progress::start("rows", None, true));
    let object = second.to_json();
    assert_eq!(object["rows"], 4);
    assert_eq!(object["rows_before"], 3);
    assert_eq!(
        (&object["stored"], &object["bytes"]),
        (&json!(3), &json!(30))
    );
    assert_eq!(
        (&object["broken"], &object["problems"]),
        (&json!(1), &json!([]))
    );
    assert!(second.to_text().contains("3 of the rows before"));
}

#[test]
fn the_last_path_is_remembered_whatever_its_bytes() {
    let path = Bytes::from_static(b"a/\xff");
    let file = Judged {
        place: Place::File(path.clone()),
        fate: Fate::Tried(Outcome::Stored, 1),
    };
    let summary = summary(vec![file], false);
    assert_eq!(summary.done().last_path(), Some(path));
}
