//! The bytes that are kept in `tests/corpus`, a folder for each decoder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes that are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name of the file.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// The folder of all.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// What is kept for a decoder, in order of names; nothing if it has no folder.
///
/// # Errors
/// If a file cannot be read.
pub fn of(decoder: &str) -> io::Result<Vec<Entry>> {
    let folder = folder().join(decoder);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        entries.push(Entry {
            name: file.file_name().to_string_lossy().into_owned(),
            bytes: fs::read(file.path())?,
        });
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// The names of all folders, in order.
///
/// # Errors
/// If the folder of all cannot be read.
pub fn folders() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(folder())? {
        names.push(file?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Keeps bytes under this name.
///
/// # Errors
/// If the file cannot be written.
pub fn keep(decoder: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = folder().join(decoder);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}
