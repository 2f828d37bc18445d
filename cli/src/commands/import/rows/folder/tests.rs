use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

/// Each row as `key=value`, each broken one as `path! why`.
fn read(mut rows: FolderRows) -> Vec<String> {
    let mut read = Vec::new();
    while let Some(row) = rows.next() {
        read.push(match row {
            Ok(row) => {
                assert_eq!(row.lifetime, Lifetime::Unsaid);
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                format!("{}={}", text(&row.key), text(&row.value))
            }
            Err(broken) => format!("{}! {}", broken.place, broken.why),
        });
    }
    read
}

fn after(folder: &TempDir, done: &'static str) -> Vec<String> {
    let mut rows = FolderRows::new(folder.path(), "").unwrap();
    rows.skip_to(Some(done.into()));
    read(rows)
}

#[test]
fn every_file_is_a_row_in_the_order_of_the_parts_of_its_path() {
    let folder = folder(&[
        ("b", "4"),
        ("a-b", "3"),
        ("a/z", "2"),
        ("a/b/c", "1"),
        (".hidden", ""),
        ("a/\n", "0"),
    ]);
    std::fs::create_dir_all(folder.path().join("empty/deep")).unwrap();
    let rows = read(FolderRows::new(folder.path(), "p:").unwrap());
    assert_eq!(
        rows,
        [
            "p:.hidden=",
            "p:a/\n=0",
            "p:a/b/c=1",
            "p:a/z=2",
            "p:a-b=3",
            "p:b=4"
        ]
    );
}

#[test]
fn a_folder_is_gone_on_with_after_any_of_its_paths() {
    let files = ["a/b/c", "a/b/d", "a/z", "a-b", "b"];
    let folder = folder(&files.map(|path| (path, "v")));
    for (at, done) in files.into_iter().enumerate() {
        let left: Vec<String> = files[at + 1..]
            .iter()
            .map(|path| format!("{path}=v"))
            .collect();
        assert_eq!(after(&folder, done), left, "{done}");
    }
    assert_eq!(after(&folder, "a/b"), files.map(|path| format!("{path}=v")));
    assert_eq!(
        after(&folder, "a/bb"),
        ["a/z=v", "a-b=v", "b=v"],
        "it is gone by now"
    );
    assert!(after(&folder, "c").is_empty());
}

#[test]
fn what_is_no_plain_file_is_told_and_not_followed() {
    let folder = folder(&[("a", "1"), ("d/file", "2"), ("z", "3")]);
    let at = |name: &str| folder.path().join(name);
    symlink(at("d"), at("link-to-folder")).unwrap();
    symlink(at("a"), at("link-to-file")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(at("pipe"))
        .status();
    assert!(made.unwrap().success());
    let long = std::fs::File::create(at("long")).unwrap();
    long.set_len(VALUE_BYTES_MAX as u64 + 1).unwrap();
    let rows = read(FolderRows::new(folder.path(), "").unwrap());
    let expected = [
        "a=1",
        "d/file=2",
        "link-to-file! it is a symbolic link",
        "link-to-folder! it is a symbolic link",
        "long! it is longer than 67108864 bytes",
        "pipe! it is neither a file nor a folder",
        "z=3",
    ];
    assert_eq!(rows.len(), expected.len(), "{rows:?}");
    for (row, expected) in rows.iter().zip(expected) {
        assert!(row.starts_with(expected), "{row}");
    }
}

#[test]
fn a_key_that_would_be_too_long_is_told() {
    let folder = folder(&[("abc", "v"), ("deep/er", "v")]);
    let prefix = "p".repeat(KEY_BYTES_MAX - 3);
    let rows = read(FolderRows::new(folder.path(), &prefix).unwrap());
    assert_eq!(rows[0], format!("{prefix}abc=v"));
    assert!(
        rows[1].starts_with("deep! its key would be longer"),
        "{}",
        rows[1]
    );
    assert_eq!(rows.len(), 2);
}

#[test]
fn a_folder_that_is_none_is_refused() {
    let folder = folder(&[("file", "v")]);
    for name in ["missing", "file"] {
        let error = FolderRows::new(&folder.path().join(name), "")
            .err()
            .unwrap();
        assert!(error.starts_with("cannot be listed"), "{error}");
    }
}
