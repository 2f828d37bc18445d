//! The files below a folder as rows: the path is the key, the content the value. In order of their
//! paths, part by part, so that an import that was stopped knows where it was.

use super::{Broken, Lifetime, Place, Row, prefixed};
use annulet_protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use bytes::Bytes;
use rustix::fs::OFlags;
use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};

pub(in crate::commands::import) struct FolderRows {
    root: PathBuf,
    prefix: String,
    /// Folders that are being gone through, each in the one before it.
    open: Vec<Listing>,
    /// What comes before this path, and itself, was done by an earlier run.
    done: Option<Bytes>,
    pub(super) bytes_read: Arc<AtomicU64>,
}

/// The rest of a folder.
struct Listing {
    /// Its path from the root, with a slash at its end; the root's is empty.
    path: Vec<u8>,
    names: std::vec::IntoIter<OsString>,
}

impl FolderRows {
    pub(super) fn new(root: &Path, prefix: &str) -> Result<Self, String> {
        let names = list(root)?;
        Ok(Self {
            root: root.to_owned(),
            prefix: prefix.to_owned(),
            open: vec![Listing {
                path: Vec::new(),
                names,
            }],
            done: None,
            bytes_read: Arc::default(),
        })
    }

    pub(super) fn skip_to(&mut self, done: Option<Bytes>) {
        self.done = done;
    }

    pub(super) fn next(&mut self) -> Option<Result<Row, Broken>> {
        loop {
            let folder = self.open.last_mut()?;
            let Some(name) = folder.names.next() else {
                self.open.pop();
                continue;
            };
            let path = [&folder.path, name.as_bytes()].concat();
            if let Some(row) = self.visit(path.into()) {
                return Some(row);
            }
        }
    }

    /// The row of what is at a path; `None` if it is a folder, or was done before.
    fn visit(&mut self, path: Bytes) -> Option<Result<Row, Broken>> {
        let place = Place::File(path.clone());
        let broken = |why: String| Some(Err(Broken::at(place.clone(), why)));
        let on_disk = self.root.join(OsStr::from_bytes(&path));
        let about = match on_disk.symlink_metadata() {
            Ok(about) => about,
            Err(error) => return broken(format!("cannot be looked at: {error}")),
        };
        if self.is_done(&path, about.is_dir()) {
            return None;
        }
        if self.prefix.len() + path.len() > KEY_BYTES_MAX {
            return broken(format!(
                "its key would be longer than {KEY_BYTES_MAX} bytes"
            ));
        }
        if about.is_dir() {
            let mut folder = path.to_vec();
            folder.push(b'/');
            match list(&on_disk) {
                Ok(names) => self.open.push(Listing {
                    path: folder,
                    names,
                }),
                Err(why) => return broken(why),
            }
            return None;
        }
        match self.read(&on_disk, &about) {
            Ok(value) => Some(Ok(Row {
                place,
                key: prefixed(&self.prefix, &path),
                value,
                lifetime: Lifetime::Unsaid,
            })),
            Err(why) => broken(why),
        }
    }

    /// Whether an earlier run has done what is at a path. A folder is gone through again if
    /// anything in it may be left.
    fn is_done(&self, path: &[u8], is_folder: bool) -> bool {
        let Some(done) = &self.done else {
            return false;
        };
        match by_parts(path, done) {
            Ordering::Greater => false,
            Ordering::Equal => !is_folder,
            Ordering::Less => {
                let is_around = done.strip_prefix(path).is_some_and(|r| r.starts_with(b"/"));
                !(is_folder && is_around)
            }
        }
    }

    fn read(&self, path: &Path, about: &Metadata) -> Result<Bytes, String> {
        if about.file_type().is_symlink() {
            return Err(String::from("it is a symbolic link, which is not followed"));
        }
        if !about.is_file() {
            return Err(String::from("it is neither a file nor a folder"));
        }
        let too_long = || {
            Err(format!(
                "it is longer than {VALUE_BYTES_MAX} bytes, the most that any cluster takes as one \
                 value"
            ))
        };
        if about.len() > VALUE_BYTES_MAX as u64 {
            return too_long();
        }
        let unreadable = |error: io::Error| format!("cannot be read: {error}");
        // It may have become something else by now; nothing is waited for.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let flags = i32::try_from(flags).unwrap_or_default();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(String::from("it is no longer a file"));
        }
        let mut value = Vec::new();
        file.take(VALUE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut value)
            .map_err(unreadable)?;
        if value.len() > VALUE_BYTES_MAX {
            return too_long();
        }
        self.bytes_read
            .fetch_add(value.len() as u64, atomic::Ordering::Relaxed);
        Ok(value.into())
    }
}

/// The order in which files come: folder by folder, `a/z` before `a-b`.
pub(super) fn by_parts(one: &[u8], other: &[u8]) -> Ordering {
    let is_slash = |byte: &u8| *byte == b'/';
    one.split(is_slash).cmp(other.split(is_slash))
}

/// What is in a folder, in order.
fn list(folder: &Path) -> Result<std::vec::IntoIter<OsString>, String> {
    let unreadable = |error: io::Error| format!("cannot be listed: {error}");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        if names.len() == NAMES_MAX {
            return Err(format!("there are more than {NAMES_MAX} names in it"));
        }
        names.push(entry.map_err(unreadable)?.file_name().into_vec());
    }
    names.sort_unstable();
    let names: Vec<OsString> = names.into_iter().map(OsString::from_vec).collect();
    Ok(names.into_iter())
}

/// Most names of one folder, which are in memory together.
const NAMES_MAX: usize = 10_000_000;

#[cfg(test)]
mod tests;
