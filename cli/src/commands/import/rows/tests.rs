use super::*;
use crate::transfer::record::ROW_BYTES_MAX;
use std::io;

fn shape(key: &str, value: Option<&str>) -> Shape {
    let fields = Fields::Named {
        key: key.into(),
        value: value.map(str::to_owned),
    };
    Shape {
        fields,
        prefix: "p:".into(),
    }
}

fn line(place: &Place) -> u64 {
    match place {
        Place::Line(line) => *line,
        Place::File(path) => panic!("{path:?} in a file"),
    }
}

/// Each row as `line key=value`, each broken one as `line! why`.
fn read(mut rows: Rows) -> Vec<String> {
    let mut read = Vec::new();
    while let Some(item) = rows.next() {
        read.push(match item {
            Ok(row) => {
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                let lifetime = match row.lifetime {
                    Lifetime::Unsaid => String::new(),
                    Lifetime::Never => " never".to_owned(),
                    Lifetime::Until(at_ms) => format!(" until {at_ms}"),
                };
                let (line, key, value) = (line(&row.place), text(&row.key), text(&row.value));
                format!("{line} {key}={value}{lifetime}")
            }
            Err(broken) => {
                let mark = if broken.is_last { "!!" } else { "!" };
                format!("{}{mark} {}", line(&broken.place), broken.why)
            }
        });
    }
    read
}

fn csv(text: &str, key: &str, value: Option<&str>) -> Result<Vec<String>, String> {
    Rows::csv(io::Cursor::new(text.to_owned()), shape(key, value)).map(read)
}

fn jsonl(text: &str, value: Option<&str>) -> Vec<String> {
    read(Rows::jsonl(
        io::Cursor::new(text.to_owned()),
        shape("id", value),
    ))
}

#[test]
fn a_row_of_a_table_is_stored_whole_or_by_one_column() {
    let table = "id,name\n1,\"a, b\"\n2,\"two\nlines\"\n3,c\n";
    assert_eq!(
        csv(table, "id", None).unwrap(),
        [
            r#"2 p:1={"id":"1","name":"a, b"}"#,
            r#"3 p:2={"id":"2","name":"two\nlines"}"#,
            r#"5 p:3={"id":"3","name":"c"}"#,
        ]
    );
    assert_eq!(csv(table, "id", Some("name")).unwrap()[0], "2 p:1=a, b");
}

#[test]
fn broken_rows_of_a_table_are_told_by_line_and_the_rest_is_read() {
    let table = "id,name\n1,a\n2\n3,c,extra\n,no key\n5,e\n";
    assert_eq!(
        csv(table, "id", Some("name")).unwrap(),
        [
            "2 p:1=a",
            "3! 1 fields where there are 2 columns",
            "4! 3 fields where there are 2 columns",
            "5! column id is empty",
            "6 p:5=e",
        ]
    );
}

#[test]
fn a_table_without_the_columns_asked_for_is_refused() {
    let refused = |table: &str, value| csv(table, "id", value).unwrap_err();
    assert!(refused("", None).contains("empty"));
    assert!(refused("a,b\n", None).contains("no column is named id; there are: a, b"));
    assert!(refused("id,b\n", Some("c")).contains("no column is named c"));
    assert!(refused("id,id\n", Some("id")).contains("two columns are named id"));
    assert!(refused("id,a,a\n", None).contains("two columns are named a"));
    assert!(csv("id,a,a,b\n", "id", Some("b")).is_ok());
}

#[test]
fn a_row_that_is_not_text_is_stored_by_column_only() {
    let table = b"id,name\n1,\xff\n2,b\n";
    let rows = |value| {
        let shape = shape("id", value);
        read(Rows::csv(io::Cursor::new(table.to_vec()), shape).unwrap())
    };
    assert_eq!(rows(Some("name"))[1], "3 p:2=b");
    assert_eq!(
        rows(None)[0],
        "2! column name is not UTF-8, which JSON needs"
    );
    assert_eq!(rows(None).len(), 2);
}

#[test]
fn a_quote_that_is_never_closed_does_not_fill_the_memory() {
    let start = io::Cursor::new(b"id,name\n1,a\n2,\"b".to_vec());
    let endless = start.chain(io::repeat(b'x'));
    let rows = read_until_last(Rows::csv(endless, shape("id", None)).unwrap());
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows[1].contains("is a quote not closed?"), "{rows:?}");
}

fn read_until_last(mut rows: Rows) -> Vec<String> {
    let mut read = Vec::new();
    while let Some(item) = rows.next() {
        match item {
            Ok(row) => read.push(format!("{} row", line(&row.place))),
            Err(broken) => {
                read.push(broken.why);
                if broken.is_last {
                    break;
                }
            }
        }
    }
    read
}

#[test]
fn a_line_of_json_is_stored_whole_or_by_one_field() {
    let lines = "{\"id\": \"a\", \"v\": \"text\"}\n\n {\"id\": 7, \"v\": {\"x\": 1}} \r\n";
    assert_eq!(
        jsonl(lines, None),
        [
            r#"1 p:a={"id": "a", "v": "text"}"#,
            r#"3 p:7={"id": 7, "v": {"x": 1}}"#
        ]
    );
    assert_eq!(jsonl(lines, Some("v")), ["1 p:a=text", r#"3 p:7={"x":1}"#]);
}

#[test]
fn broken_lines_of_json_are_told_and_the_rest_is_read() {
    let lines = "{\"id\": \"a\"\n[1]\n{\"v\": 1}\n{\"id\": \"\"}\n{\"id\": null}\n{\"id\": \"b\"}";
    let read = jsonl(lines, None);
    for (at, expected) in [
        (0, "1! not a JSON object"),
        (1, "2! not a JSON object"),
        (2, "3! there is no field id"),
        (3, "4! field id is empty"),
        (4, "5! field id is no text or number"),
        (5, "6 p:b="),
    ] {
        assert!(read[at].starts_with(expected), "{}", read[at]);
    }
    assert_eq!(
        jsonl("{\"id\": \"a\"}", Some("v")),
        ["1! there is no field v"]
    );
}

#[test]
fn a_line_that_is_too_long_is_skipped() {
    let long = io::repeat(b'x').take(ROW_BYTES_MAX + 10);
    let file = long.chain(io::Cursor::new(b"\n{\"id\": \"b\"}\n".to_vec()));
    let read = read(Rows::jsonl(file, shape("id", None)));
    assert_eq!(
        read,
        [format!("1! {TOO_LONG}"), r#"2 p:b={"id": "b"}"#.to_owned()]
    );
}

fn exported(prefix: &str) -> Shape {
    Shape {
        fields: Fields::Exported,
        prefix: prefix.to_owned(),
    }
}

fn exported_csv(text: &[u8]) -> Result<Vec<String>, String> {
    Rows::csv(io::Cursor::new(text.to_vec()), exported("p:")).map(read)
}

#[test]
fn a_table_that_export_wrote_needs_no_names() {
    let table = b"key,value,key_base64,value_base64,expires_at_ms\n\
        k,\"a, b\",,,\n,,a2V5,,7\nk,,,dg==,\n,,,,\nk,v,a2V5,,\nk,,,?,\nk,v,,,soon\nk,v\n";
    assert_eq!(
        exported_csv(table).unwrap(),
        [
            "2 p:k=a, b never",
            "3 p:key= until 7",
            "4 p:k=v never",
            "5! there is neither key nor key_base64",
            "6! there are both key and key_base64",
            "7! value_base64: Invalid symbol 63, offset 0.",
            "8! expires_at_ms is no whole number of milliseconds",
            "9! 2 fields where there are 5 columns",
        ]
    );
    let own = exported_csv(b"value,key\nv,k\n\xff,\xfe\n").unwrap();
    assert_eq!(own, ["2 p:k=v never", "3 p:\u{fffd}=\u{fffd} never"]);
}

#[test]
fn a_table_that_export_did_not_write_is_refused_with_what_to_do() {
    let check = |table: &str, expected: &str| {
        let why = exported_csv(table.as_bytes()).unwrap_err();
        assert!(why.contains(expected), "{why}");
    };
    check("id,name\n", "column id is none that export writes");
    check("id,name\n", "--key");
    check("key\n", "--key");
    check("value,expires_at_ms\n", "--key");
    check("key,value,key\n", "two columns are named key");
}

#[test]
fn lines_that_export_wrote_need_no_names() {
    let lines = "{\"key\":\"k\",\"value\":\"v\",\"expires_at_ms\":7}\n\n\
        {\"key_base64\":\"a2V5\",\"value_base64\":\"dg==\"}\n{\"id\":1}\n";
    let rows = Rows::jsonl(io::Cursor::new(lines), exported(""));
    let rows = read(rows);
    assert_eq!(rows[..2], ["1 k=v until 7", "3 key=v never"]);
    assert!(rows[2].starts_with("4! not a record"), "{rows:?}");
    assert!(rows[2].contains("--key"), "{rows:?}");
}

#[test]
fn rows_that_were_done_are_left_out() {
    let lines = "{\"id\": \"a\"}\nbroken\n{\"id\": \"c\"}\n{\"id\": \"d\"}\n";
    let left = |count| {
        let mut rows = Rows::jsonl(io::Cursor::new(lines), shape("id", None));
        rows.skip(count, None);
        read(rows).len()
    };
    assert_eq!([0, 1, 2, 3, 4, 5].map(left), [4, 3, 2, 1, 0, 0]);
    let mut rows = Rows::csv(io::Cursor::new("id\n1\n2\n"), shape("id", Some("id"))).unwrap();
    rows.skip(1, None);
    assert_eq!(read(rows), ["3 p:2=2"]);
}
