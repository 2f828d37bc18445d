use super::*;
use crate::sample::{at, delete, delete_if, get, get_nothing, put, put_if};
use crate::{STEPS_MAX, check, check_versions};

/// Lines of every kind, which outside checkers read.
const GOLDEN: &str = include_str!("golden.jsonl");

/// The operations of these lines.
fn golden() -> Vec<Operation> {
    let by = |process, operation: Operation| Operation {
        process,
        ..operation
    };
    let mut binary = put("", 10..20);
    binary.key = Bytes::from_static(b"\xff\x00");
    binary.op = Op::Put {
        value: Bytes::from_static(b"\xfe"),
    };
    let mut never_ended = delete_if("v2", 80..80).unknown();
    never_ended.end_ns = None;
    let mut operations = vec![
        by(1, put("x", 10..20).told("v1")),
        by(2, get("x", 15..30).told("v1")),
        by(3, binary),
        by(1, put_if(Condition::Absent, "y", 40..50).not_held()),
        by(2, put_if(at("v1"), "z", 40..55).told("v2")),
        by(1, put("w", 60..70).not_applied()),
        by(2, never_ended),
        by(1, get_nothing(90..95)),
        by(1, put_if(Condition::Absent, "u", 100..110).told("v4")),
        by(1, delete(120..130).told("v5")),
    ];
    for operation in &mut operations {
        if operation.process != 3 {
            operation.key = Bytes::from_static(b"a");
        }
    }
    operations
}

#[test]
fn operations_are_written_as_the_golden_lines_and_read_from_them() {
    let mut written = Vec::new();
    for operation in golden() {
        write(&operation, &mut written);
    }
    assert_eq!(String::from_utf8(written).as_deref(), Ok(GOLDEN));
    assert_eq!(read(GOLDEN.as_bytes()), Ok(golden()));
    assert_eq!(check(&golden(), STEPS_MAX), Ok(()));
    assert_eq!(check_versions(&golden()), Ok(()));
}

#[test]
fn empty_lines_and_ends_of_lines_do_not_matter() {
    let text = GOLDEN.replace('\n', " \r\n\n");
    assert_eq!(read(text.as_bytes()), Ok(golden()));
    assert_eq!(read(GOLDEN.trim_end().as_bytes()), Ok(golden()));
    assert_eq!(read(b""), Ok(Vec::new()));
}

#[test]
fn null_may_be_left_out_and_text_may_be_base64() {
    let line =
        br#"{"outcome":"unknown","start_ns":1,"key":{"base64":"YQ=="},"op":"get","process":2}"#;
    let operations = read(line).expect("a good line");
    assert_eq!(operations[0].key, "a");
    assert_eq!(operations[0].end_ns, None);
}

#[test]
fn the_example_in_the_documentation_can_be_read() {
    let text = include_str!("../../../docs/histories.md");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(lines.len(), 3);
    read(lines.join("\n").as_bytes()).expect("good lines");
}

#[test]
fn a_bad_line_is_named_with_what_is_wrong() {
    let good = GOLDEN.lines().next().expect("there is a line");
    let check = |from: &str, to: &str, why: &str| {
        assert!(good.contains(from), "{from}");
        let text = format!("\n{good}\n{}\n", good.replace(from, to));
        let error = read(text.as_bytes()).expect_err(to);
        assert!(error.why.contains(why), "{to}: {error}");
        assert_eq!(error.line, 3);
        assert!(error.to_string().starts_with("line 3: "));
    };
    check(good, "[1]", "not a JSON object");
    check("}", "", "column");
    check("\"process\":1,", "", "missing field `process`");
    check(
        "\"process\":1",
        "\"process\":1,\"process\":1",
        "duplicate field",
    );
    check("\"process\":1", "\"process\":-1", "invalid value");
    check(
        "\"process\":1",
        "\"process\":1,\"extra\":2",
        "unknown field `extra`",
    );
    check("\"put\"", "\"post\"", "unknown variant `post`");
    check(
        "\"key\":\"a\"",
        "\"key\":7",
        "a string, or an object with the field `base64`",
    );
    check("\"key\":\"a\"", "\"key\":{\"base64\":\"!\"}", "key: ");
    check("\"x\"", "{\"base64\":\"QQ\"}", "arg.value: ");
    check("\"x\"", "null", "needs arg.value");
    check(
        "\"value\":\"x\"",
        "\"value\":\"x\",\"if_absent\":true",
        "has no condition",
    );
    check("\"put\"", "\"get\"", "has no arg");
    check("\"put\"", "\"cas\"", "needs arg.if_version");
    check("{\"version\":\"v1\"}", "null", "needs a result");
    check("\"version\":\"v1\"", "\"held\":true", "only op `cas`");
    check("\"version\":\"v1\"", "\"value\":null", "only op `get`");
    check("\"end_ns\":20", "\"end_ns\":9", "end_ns is before start_ns");
    check("\"end_ns\":20", "\"end_ns\":null", "needs end_ns");
    check("\"ok\"", "\"unknown\"", "only outcome `ok` has a result");
}

#[test]
fn a_bad_result_of_a_get_or_cas_is_named() {
    let check = |op: &str, arg: &str, result: &str, why: &str| {
        let line =
            format!(r#"{{"process":1,"op":"{op}","key":"k","arg":{arg},"result":{result},{REST}"#);
        let error = read(line.as_bytes()).expect_err(result);
        assert!(error.why.contains(why), "{result}: {error}");
    };
    const REST: &str = r#""start_ns":1,"end_ns":2,"outcome":"ok"}"#;
    check("get", "null", "{}", "needs result.value");
    check(
        "get",
        "null",
        r#"{"value":null,"version":"1"}"#,
        "without a value",
    );
    check(
        "cas",
        "{}",
        r#"{"held":true}"#,
        "needs arg.if_version or arg.if_absent",
    );
    let both = r#"{"if_version":"1","if_absent":true}"#;
    check(
        "cas",
        both,
        r#"{"held":true}"#,
        "both if_version and if_absent",
    );
    let condition = r#"{"if_version":"1"}"#;
    check("cas", condition, "{}", "needs result.held");
    check(
        "cas",
        condition,
        r#"{"held":false,"version":"1"}"#,
        "did not hold",
    );
}
