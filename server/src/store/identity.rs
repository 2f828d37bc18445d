//! Whose data a folder holds.
//!
//! `identity.toml` is written before anything is stored, and says once the store was opened that
//! there must be one: an empty store in place of a lost one would answer that acknowledged writes
//! do not exist.

use crate::error::FolderError;
use annulet_protocol::ids::{ClusterId, Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Newest format of the folder that this program knows.
pub const FORMAT: u32 = 1;

const FILE: &str = "identity.toml";
const NEW_FILE: &str = "identity.toml.new";
const LOCK: &str = "lock";
const STORE: &str = "store";

/// Whose data it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Format of the folder.
    pub format: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub node: NodeId,
    /// This very store: 128 random bits, drawn when the folder was made.
    pub incarnation: Incarnation,
    /// When the folder was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Whether the store was opened once, so that it must be there.
    pub complete: bool,
    /// The last start of the server over it: 128 random bits. What it mints carries them, so that
    /// no start is taken for another, whatever the one before has lost.
    #[serde(default)]
    pub start: Incarnation,
}

/// Which member opens a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// This one; another's folder is refused.
    Is(NodeId),
    /// The one whose folder it is. A new folder is of this member, whom nobody knows yet: a server
    /// that lost its data never comes back under its old id.
    New(NodeId),
}

/// Who opens the folder, and what a new one is given.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub claim: Claim,
    /// For a new folder.
    pub incarnation: Incarnation,
    /// For this start.
    pub start: Incarnation,
    /// The time, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// A data folder that is ours alone until this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    identity: Identity,
    start: Incarnation,
    /// The system frees the lock with the file.
    _lock: File,
}

impl Folder {
    /// Opens a folder, or makes it.
    ///
    /// # Errors
    /// If it is another's, newer than this program, damaged or in use.
    pub fn open(path: &Path, owner: Owner) -> Result<Self, FolderError> {
        let io = |source| FolderError::Io {
            folder: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(io)?;
        let lock = File::create(path.join(LOCK)).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let folder = path.to_owned();
                return Err(FolderError::Locked { folder });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let identity = match fs::read_to_string(path.join(FILE)) {
            Ok(text) => check(path, &text, owner)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if path.join(STORE).exists() {
                    return Err(unreadable(path, "`identity.toml` is missing"));
                }
                let (Claim::Is(node) | Claim::New(node)) = owner.claim;
                let identity = Identity {
                    format: FORMAT,
                    cluster: owner.cluster,
                    node,
                    incarnation: owner.incarnation,
                    created_ms: owner.now_ms,
                    complete: false,
                    start: owner.start,
                };
                write(path, &identity).map_err(io)?;
                identity
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(unreadable(path, "it is not text"));
            }
            Err(error) => return Err(io(error)),
        };
        Ok(Self {
            path: path.to_owned(),
            identity,
            start: owner.start,
            _lock: lock,
        })
    }

    /// Whose data it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the store is, or is to be made if the identity is not complete.
    pub fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }

    /// This start of the server.
    pub fn start(&self) -> Incarnation {
        self.start
    }

    /// Notes that the store is there, and this start of the server. Call it before anything is
    /// stored or answered.
    ///
    /// # Errors
    /// If the disk does not take the note.
    pub fn complete(&mut self) -> Result<(), FolderError> {
        (self.identity.complete, self.identity.start) = (true, self.start);
        write(&self.path, &self.identity).map_err(|source| FolderError::Io {
            folder: self.path.clone(),
            source,
        })
    }
}

/// Reads an identity, and refuses another's.
fn check(folder: &Path, text: &str, owner: Owner) -> Result<Identity, FolderError> {
    /// A newer format may have anything else.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let format = toml::from_str::<Format>(text).map_err(|e| unreadable(folder, e.message()))?;
    let folder_path = || folder.to_owned();
    if format.format > FORMAT {
        return Err(FolderError::NewerFormat {
            folder: folder_path(),
            found: format.format,
            known: FORMAT,
        });
    }
    let identity: Identity =
        toml::from_str(text).map_err(|error| unreadable(folder, error.message()))?;
    if identity.cluster != owner.cluster {
        return Err(FolderError::ForeignCluster {
            folder: folder_path(),
            theirs: identity.cluster,
            ours: owner.cluster,
        });
    }
    match owner.claim {
        Claim::Is(ours) if ours != identity.node => Err(FolderError::ForeignNode {
            folder: folder_path(),
            theirs: identity.node,
            ours,
        }),
        Claim::Is(_) | Claim::New(_) => Ok(identity),
    }
}

fn unreadable(folder: &Path, why: &str) -> FolderError {
    FolderError::Identity {
        folder: folder.to_owned(),
        why: why.to_owned(),
    }
}

/// Writes the file durably: whole or not at all, whatever happens in between.
fn write(folder: &Path, identity: &Identity) -> io::Result<()> {
    let text = toml::to_string(identity).map_err(io::Error::other)?;
    let new = folder.join(NEW_FILE);
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, folder.join(FILE))?;
    // The new name is durable when the folder is. Systems without open folders need no such call.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}
