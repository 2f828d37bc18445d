//! Writing files so that nobody else reads a key, and nothing is overwritten by mistake.

use crate::failure::Failure;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Who may read a file.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    /// Its owner only.
    Private,
    /// Everyone.
    Public,
}

/// Writes a new file. One that is there already is replaced only with `force`.
pub(crate) fn write_new(
    path: &Path,
    contents: &str,
    access: Access,
    force: bool,
) -> Result<(), Failure> {
    if force {
        // A new file, so that the permissions are those asked for whatever the old one had.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Failure::unwritable(path, &error));
            }
            _ => {}
        }
    }
    let mode = match access {
        Access::Private => 0o600,
        Access::Public => 0o644,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => already_there(path),
            _ => Failure::unwritable(path, &error),
        })?;
    file.write_all(contents.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| Failure::unwritable(path, &error))
}

/// Fails if one of these is there already, before any of them is written.
pub(crate) fn refuse_existing(paths: &[&Path]) -> Result<(), Failure> {
    match paths.iter().find(|path| path.exists()) {
        Some(path) => Err(already_there(path)),
        None => Ok(()),
    }
}

/// A folder, made with its parents if it is not there.
pub(crate) fn ensure_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|error| Failure::unwritable(path, &error))
}

/// A text file as a whole. The files read this way are short; a long one is a mistake.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(TEXT_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| Failure::unreadable(path, &error))?;
    Ok(text)
}

/// What is said where something would be overwritten.
pub(crate) fn already_there(path: &Path) -> Failure {
    Failure::usage(format!("{} is there already", path.display()))
        .advise("choose another folder or name, or replace it with --force")
}

const TEXT_BYTES_MAX: u64 = 16 << 20;
