use super::*;

fn entry(key: &[u8], value: &[u8], expires_at_ms: Option<u64>) -> ScanEntry {
    ScanEntry {
        key: Bytes::copy_from_slice(key),
        value: Some(Bytes::copy_from_slice(value)),
        version: String::new(),
        expires_at_ms,
    }
}

fn json(entry: &ScanEntry) -> String {
    let mut line = Vec::new();
    write_json(entry, &mut line).unwrap();
    String::from_utf8(line).unwrap()
}

fn csv(entry: &ScanEntry) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    write_csv(entry, &mut writer).unwrap();
    String::from_utf8(writer.into_inner().unwrap()).unwrap()
}

#[test]
fn text_stands_as_it_is_and_other_bytes_as_base64() {
    let text = entry(b"k\"1", "ä,\n".as_bytes(), Some(7));
    assert_eq!(
        json(&text),
        "{\"key\":\"k\\\"1\",\"value\":\"ä,\\n\",\"expires_at_ms\":7}\n"
    );
    assert_eq!(csv(&text), "\"k\"\"1\",\"ä,\n\",,,7\n");
    let bytes = entry(b"\xff", b"\x80\x81", None);
    assert_eq!(
        json(&bytes),
        "{\"key_base64\":\"/w==\",\"value_base64\":\"gIE=\"}\n"
    );
    assert_eq!(csv(&bytes), ",,/w==,gIE=,\n");
    let empty = entry(b"\xff", b"", None);
    assert_eq!(json(&empty), "{\"key_base64\":\"/w==\",\"value\":\"\"}\n");
    assert_eq!(csv(&empty), ",,/w==,,\n");
}

#[test]
fn every_record_is_read_back_from_json_as_it_was() {
    for key in [
        &b"k"[..],
        b"\0",
        b"\r\n",
        b"\xc3\x28",
        "\u{2028}😀".as_bytes(),
    ] {
        for value in [&b""[..], b"\x1b[0m", b"\xff\0", b" ", b"null", b"\\u0000"] {
            for expires_at_ms in [None, Some(1), Some(u64::MAX)] {
                let entry = entry(key, value, expires_at_ms);
                let read = read_json(json(&entry).trim_end().as_bytes()).unwrap();
                assert_eq!((&read.key[..], &read.value[..]), (key, value));
                assert_eq!(read.expires_at_ms, expires_at_ms);
            }
        }
    }
}

#[test]
fn what_is_no_record_says_why() {
    let check = |line: &str, expected: &str| {
        let why = read_json(line.as_bytes()).unwrap_err();
        assert!(why.contains(expected), "{line}: {why}");
    };
    check("", "not a record");
    check(r#"["k",null,"v",null,7]"#, "not a JSON object");
    check(r#"{"id":"k"}"#, "unknown field `id`");
    check(r#"{"value":"v"}"#, "neither key nor key_base64");
    check(r#"{"key":"","value":"v"}"#, "the key is empty");
    check(r#"{"key":7,"value":"v"}"#, "not a record");
    check(r#"{"key":"k"}"#, "neither value nor value_base64");
    check(
        r#"{"key":"k","value":"v","value_base64":"dg=="}"#,
        "both value and value_base64",
    );
    check(r#"{"key_base64":"?","value":"v"}"#, "key_base64: ");
    check(
        r#"{"key":"k","value":"v","expires_at_ms":-1}"#,
        "not a record",
    );
    check(r#"{"key":"k","value":"v"} x"#, "not a record");
}

#[test]
fn no_line_is_longer_than_import_reads() {
    let check = |value: Vec<u8>, expected: &str| {
        let line = json(&entry(b"k", &value, None));
        assert!(line.len() as u64 <= ROW_BYTES_MAX, "{}", line.len());
        assert!(line.contains(expected), "{expected}");
    };
    check(vec![b'"'; VALUE_BYTES_MAX], "\"value\":");
    check(vec![1; VALUE_BYTES_MAX], "\"value_base64\":");
    check(vec![1; 1 << 20], "\"value\":");
}
