//! A file for each key. Keys come from applications: whatever is in them, nothing outside of the
//! folder is touched, and no link is followed on the way.

use crate::failure::Failure;
use crate::files;
use annulet::ScanEntry;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The folder that keys are written into.
pub(super) struct FolderSink {
    path: PathBuf,
    root: OwnedFd,
    /// Whether files that are there already are replaced.
    replace: bool,
    /// Whether each file is to be on disk before it counts as written.
    durable: bool,
    /// Whether something was written since the last sync.
    unsynced: bool,
}

/// Why a key has no file.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It cannot have one, which says nothing about other keys.
    LeftOut(String),
    /// Nothing more can be written.
    Failed(io::Error),
}

impl FolderSink {
    /// Opens the folder, and makes it if it is not there.
    pub(super) fn open(path: &Path, replace: bool, durable: bool) -> Result<Self, Failure> {
        files::ensure_folder(path)?;
        let root = rustix::fs::open(path, FOLDER, Mode::empty())
            .map_err(|error| Failure::unwritable(path, &error.into()))?;
        Ok(Self {
            path: path.to_owned(),
            root,
            replace,
            durable,
            unsynced: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file of a key.
    pub(super) fn write(&mut self, entry: &ScanEntry) -> Result<(), Trouble> {
        let mut components = components(&entry.key).map_err(Trouble::LeftOut)?;
        let Some(name) = components.pop() else {
            return Err(Trouble::LeftOut(String::from("the key is empty")));
        };
        let mut folder = None;
        for component in components {
            let at = folder.as_ref().map_or(self.root.as_fd(), OwnedFd::as_fd);
            folder = Some(enter(at, component)?);
        }
        let at = folder.as_ref().map_or(self.root.as_fd(), OwnedFd::as_fd);
        let mut file = File::from(self.create(at, name)?);
        self.unsynced = true;
        let value = entry.value.as_deref().unwrap_or_default();
        file.write_all(value).map_err(Trouble::Failed)?;
        // Elsewhere all of them are synced at once.
        if self.durable && !cfg!(target_os = "linux") {
            file.sync_all().map_err(Trouble::Failed)?;
        }
        Ok(())
    }

    /// Waits until everything that was written is on disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if self.durable && self.unsynced {
            rustix::fs::syncfs(&self.root)?;
        }
        self.unsynced = false;
        Ok(())
    }

    /// A new file. One that is there is never written into: it may be a link.
    fn create(&self, at: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Trouble> {
        let create = || openat(at, name, NEW_FILE, FILE_MODE);
        match create() {
            Err(Errno::EXIST) if self.replace => {
                unlinkat(at, name, AtFlags::empty()).map_err(|error| match error {
                    Errno::ISDIR | Errno::PERM => Trouble::LeftOut(FOLDER_THERE.to_owned()),
                    error => trouble(error),
                })?;
                create().map_err(trouble)
            }
            created => created.map_err(trouble),
        }
    }
}

/// The subfolder of this name, made if it is not there.
fn enter(at: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Trouble> {
    let open = || openat(at, name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
    let made = match open() {
        Err(Errno::NOENT) => match mkdirat(at, name, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => open(),
            Err(error) => Err(error),
        },
        opened => opened,
    };
    made.map_err(|error| match error {
        Errno::NOTDIR | Errno::LOOP => Trouble::LeftOut(FILE_THERE.to_owned()),
        error => trouble(error),
    })
}

/// Whether an error is about the name at hand, or about everything.
fn trouble(error: Errno) -> Trouble {
    match error {
        Errno::EXIST => Trouble::LeftOut(SAME_THERE.to_owned()),
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => Trouble::LeftOut(format!(
            "this disk takes no such name: {}",
            io::Error::from(error)
        )),
        error => Trouble::Failed(error.into()),
    }
}

/// The parts of a key between slashes, if it can be the path of a file in a folder.
fn components(key: &[u8]) -> Result<Vec<&OsStr>, String> {
    if key.contains(&0) {
        return Err(String::from("no path can have a zero byte"));
    }
    let components = key.split(|byte| *byte == b'/');
    components
        .map(|component| match component {
            b"" => Err(String::from(
                "a path cannot begin or end with a slash, or have two in a row",
            )),
            b"." | b".." => Err(String::from("`.` and `..` in a path lead elsewhere")),
            long if long.len() > COMPONENT_BYTES_MAX => Err(format!(
                "no part of a path can be longer than {COMPONENT_BYTES_MAX} bytes"
            )),
            component => Ok(OsStr::from_bytes(component)),
        })
        .collect()
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// As usual: the user's mask takes away what nobody else may do.
const FOLDER_MODE: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);
const FILE_MODE: Mode = Mode::RUSR
    .union(Mode::WUSR)
    .union(Mode::RGRP)
    .union(Mode::WGRP)
    .union(Mode::ROTH)
    .union(Mode::WOTH);
/// What every usual file system takes.
const COMPONENT_BYTES_MAX: usize = 255;

const FILE_THERE: &str = "a part of its path is not a folder: another key has a file there";
const FOLDER_THERE: &str = "there is a folder of this name: other keys go on where it ends";
const SAME_THERE: &str = "there is something of this name: other keys go on where it ends, or this \
    disk does not tell upper from lower case";

#[cfg(test)]
mod tests;
