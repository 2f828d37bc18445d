use super::*;
use bytes::Bytes;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

fn entry(key: &[u8], value: &[u8]) -> ScanEntry {
    ScanEntry {
        key: Bytes::copy_from_slice(key),
        value: Some(Bytes::copy_from_slice(value)),
        version: String::new(),
        expires_at_ms: None,
    }
}

/// A folder to write into, with something beside it that must stay as it is.
struct Rig {
    around: TempDir,
    sink: FolderSink,
}

impl Rig {
    fn new(replace: bool) -> Self {
        let around = tempfile::tempdir().unwrap();
        std::fs::write(around.path().join("beside"), "untouched").unwrap();
        let sink = FolderSink::open(&around.path().join("out"), replace, true).unwrap();
        Self { around, sink }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sink.path().join(name)
    }

    #[track_caller]
    fn write(&mut self, key: &[u8], value: &[u8]) {
        self.sink.write(&entry(key, value)).unwrap();
    }

    #[track_caller]
    fn left_out(&mut self, key: &[u8], expected: &str) {
        match self.sink.write(&entry(key, b"hostile")) {
            Err(Trouble::LeftOut(why)) => assert!(why.contains(expected), "{why}"),
            done => panic!("{key:?}: {done:?}"),
        }
        let beside = std::fs::read_to_string(self.around.path().join("beside")).unwrap();
        assert_eq!(beside, "untouched");
        let names = std::fs::read_dir(self.around.path()).unwrap().count();
        assert_eq!(names, 2, "nothing new is outside of the folder");
    }
}

#[test]
fn slashes_make_folders() {
    let mut rig = Rig::new(false);
    let deep = ["d"; 1_000].join("/");
    for (key, value) in [
        (&b"a"[..], &b"1"[..]),
        (b"b/c/d", b"2"),
        (b"b/c/e", b""),
        (b"...", b"3"),
        (b"-rf ~;\n", b"4"),
        (b"b/.hidden", b"5"),
        (deep.as_bytes(), b"6"),
    ] {
        rig.write(key, value);
        let path = rig.sink.path().join(OsStr::from_bytes(key));
        assert_eq!(std::fs::read(path).unwrap(), value, "{key:?}");
    }
    rig.sink.sync().unwrap();
}

#[test]
fn a_key_that_leads_elsewhere_is_left_out() {
    let mut rig = Rig::new(true);
    let outside = rig.around.path().join("escaped");
    for (key, expected) in [
        ("../beside", "lead elsewhere"),
        ("a/../../beside", "lead elsewhere"),
        ("..", "lead elsewhere"),
        (".", "lead elsewhere"),
        ("./a", "lead elsewhere"),
        ("", "slash"),
        ("/", "slash"),
        ("a//b", "slash"),
        ("a/", "slash"),
        (outside.to_str().unwrap(), "slash"),
        ("a\0b", "zero byte"),
        (&"n".repeat(256), "255 bytes"),
        (&format!("{}/a", "n".repeat(256)), "255 bytes"),
    ] {
        rig.left_out(key.as_bytes(), expected);
    }
    rig.write("n".repeat(255).as_bytes(), b"v");
}

#[test]
fn links_are_not_followed_whoever_laid_them() {
    let mut rig = Rig::new(true);
    let beside = rig.around.path().join("beside");
    symlink(rig.around.path(), rig.path("folder")).unwrap();
    symlink(&beside, rig.path("file")).unwrap();
    symlink(rig.around.path().join("nowhere"), rig.path("dangling")).unwrap();
    rig.left_out(b"folder/beside", "not a folder");
    rig.left_out(b"folder/new/deep", "not a folder");
    for key in ["file", "dangling", "folder"] {
        rig.write(key.as_bytes(), b"mine");
        let about = rig.path(key).symlink_metadata().unwrap();
        assert!(about.is_file(), "the link {key} was replaced");
    }
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "untouched");
    assert!(!rig.around.path().join("nowhere").exists());
}

#[test]
fn a_key_that_clashes_with_another_is_left_out() {
    for replace in [false, true] {
        let mut rig = Rig::new(replace);
        rig.write(b"a", b"file");
        rig.left_out(b"a/b", "not a folder");
        rig.left_out(b"a/b/c", "not a folder");
        rig.write(b"d/e", b"file");
        rig.left_out(b"d", "other keys go on where it ends");
        assert_eq!(std::fs::read(rig.path("a")).unwrap(), b"file");
        assert_eq!(std::fs::read(rig.path("d/e")).unwrap(), b"file");
    }
}

#[test]
fn what_is_there_is_replaced_only_if_it_may_be() {
    let mut rig = Rig::new(false);
    rig.write(b"a", b"long and old");
    rig.left_out(b"a", "something of this name");
    assert_eq!(std::fs::read(rig.path("a")).unwrap(), b"long and old");
    let mut rig = Rig::new(true);
    rig.write(b"a", b"long and old");
    rig.write(b"a", b"new");
    assert_eq!(std::fs::read(rig.path("a")).unwrap(), b"new");
}
