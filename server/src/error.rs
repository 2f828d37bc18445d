//! Why a server does not start, or stops. Every message says what to do.

use annulet_protocol::ids::{ClusterId, NodeId};
use annulet_replica::chain::open::OpenError;
use std::path::PathBuf;

/// Why a server does not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A setting is out of range.
    #[error("{0}")]
    Config(String),
    /// The cluster file cannot be read, or describes what cannot be.
    #[error("{0}")]
    ClusterFile(String),
    /// The cluster file does not list this server.
    #[error(
        "the cluster file lists no member with this server's address `{address}`, only: {members}; \
         set `advertise` to the address that it lists, or add this server to it"
    )]
    NotAMember {
        /// The address that this server advertises.
        address: String,
        /// The addresses that are listed.
        members: String,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The certificates cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`: {source}; set `listen` to a free address of this host")]
    Listen {
        /// The address.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system did not give what a server needs: threads, signals.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// The chain of epochs in the data folder cannot be gone on with.
    #[error("the chain of epochs cannot be gone on with: {0}")]
    Chain(#[from] OpenError),
    /// The others decided what this server's chain does not hold.
    #[error(
        "this server's chain of epochs and that of the others part: {0}. It must not serve: most \
         likely its cluster file differs from theirs; give it the same one, and if it still does \
         not start, an empty folder and a new id"
    )]
    Forked(String),
    /// No server of the cluster gives the view.
    #[error(
        "none of the servers to join gives the cluster's view: {0}. Give the address of one that \
         runs, and see that this server's certificate is of the same cluster"
    )]
    NoSeed(String),
    /// It cannot join as it is set up.
    #[error("this server cannot join: {0}")]
    Refused(String),
    /// It was a member, and has left.
    #[error(
        "member {node} has left the cluster, and others have its place: its data folder is done \
         with. To join as a new member, give this server an empty folder"
    )]
    Left {
        /// The member that it was.
        node: NodeId,
    },
    /// A write or sync failed while serving. Nothing was acknowledged after it.
    #[error(
        "the store failed: {0}; nothing was acknowledged since. Check the disk (room, errors in \
         the kernel's log), then start the server again"
    )]
    StoreFailed(String),
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// Another process uses it.
    #[error(
        "data folder `{}` is in use by another process; stop that one, or give this server a \
         folder of its own",
        folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// It belongs to another cluster.
    #[error(
        "data folder `{}` belongs to cluster {theirs}, the cluster file is of {ours}; give the \
         folder of this cluster, or an empty one",
        folder.display()
    )]
    ForeignCluster {
        /// The folder.
        folder: PathBuf,
        /// The cluster of the folder.
        theirs: ClusterId,
        /// The cluster of this server.
        ours: ClusterId,
    },
    /// It belongs to another server of the cluster.
    #[error(
        "data folder `{}` belongs to member {theirs}, but by its address this server is member \
         {ours}; correct the address or the id in the cluster file, or give this member's folder",
        folder.display()
    )]
    ForeignNode {
        /// The folder.
        folder: PathBuf,
        /// The member of the folder.
        theirs: NodeId,
        /// The member that this server is.
        ours: NodeId,
    },
    /// A newer program wrote it.
    #[error(
        "data folder `{}` has format {found}, this program knows up to {known}; start the newer \
         program that wrote it",
        folder.display()
    )]
    NewerFormat {
        /// The folder.
        folder: PathBuf,
        /// The folder's format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// Its identity is missing or damaged, although it has data.
    #[error(
        "data folder `{}` has data but no identity that can be read ({why}); restore \
         `identity.toml` if you have it. If not, a part of the data may be lost too: give this \
         server an empty folder and, in the cluster file, a new id",
        folder.display()
    )]
    Identity {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The store in it cannot be opened.
    #[error(
        "the store in data folder `{}` does not open: {why}. If permissions or a full disk are \
         the reason, repair that and start again. If the data is damaged, acknowledged writes may \
         be missing, and this server must not answer for them: give it an empty folder and, in \
         the cluster file, a new id",
        folder.display()
    )]
    Store {
        /// The folder.
        folder: PathBuf,
        /// What the store says.
        why: String,
    },
    /// The folder cannot be made, read or written.
    #[error("data folder `{}`: {source}", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}
