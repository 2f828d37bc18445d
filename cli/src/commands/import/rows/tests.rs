use super::*;
use std::io;

fn shape(key: &str, value: Option<&str>) -> Shape {
    Shape {
        key: key.into(),
        value: value.map(str::to_owned),
        prefix: "p:".into(),
    }
}

/// Each row as `line key=value`, each broken one as `line! why`.
fn read(mut rows: Rows) -> Vec<String> {
    let mut read = Vec::new();
    while let Some(item) = rows.next() {
        read.push(match item {
            Ok(Row { line, key, value }) => {
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                format!("{line} {}={}", text(&key), text(&value))
            }
            Err(Broken { line, why, is_last }) => {
                let mark = if is_last { "!!" } else { "!" };
                format!("{line}{mark} {why}")
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
            Ok(row) => read.push(format!("{} row", row.line)),
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
