//! Buckets: namespaces with a policy.

use crate::level::Level;
use crate::limits::{BUCKET_NAME_BYTES_MAX, REPLICAS_MAX};
use crate::names::named;
use crate::siblings::merges::Merge;
use serde::{Deserialize, Serialize};

named! {
    /// What happens when two clients write one key at the same time. Never changes.
    ///
    /// ```
    /// # use annulet_protocol::bucket::Mode;
    /// assert_eq!("strong".parse(), Ok(Mode::Strong));
    /// assert_eq!(Mode::ALL, [Mode::Lww, Mode::Siblings, Mode::Strong]);
    /// ```
    pub enum Mode {
        /// The newest stamp wins, the other write is gone.
        Lww = "lww",
        /// Both values are kept until a client merges them.
        Siblings = "siblings",
        /// Operations on a key have one order that all clients see.
        Strong = "strong",
    }
}

named! {
    /// When a server acknowledges a write. Never changes.
    ///
    /// ```
    /// # use annulet_protocol::bucket::Durability;
    /// assert_eq!("async".parse(), Ok(Durability::Async));
    /// assert_eq!(Durability::Group.to_string(), "group");
    /// ```
    pub enum Durability {
        /// After the write is on disk, many writes to one sync.
        Group = "group",
        /// After the write is in the log, which is synced every 10 milliseconds.
        Async = "async",
    }
}

/// A namespace and its policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Minted once by the cluster and never used again, even when a bucket is made anew under an
    /// old name.
    pub number: u32,
    /// What users call it, 1 to 64 bytes.
    pub name: String,
    /// How concurrent writes are settled.
    pub mode: Mode,
    /// Owners of each key in each region, 1 to 7.
    pub replicas: u8,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// Level of reads that name none.
    #[serde(default = "default_level")]
    pub read_level: Level,
    /// Level of writes that name none.
    #[serde(default = "default_level")]
    pub write_level: Level,
    /// How long a value lives if its writer does not say, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// What readers make of concurrent values by themselves, in a bucket of mode `siblings`. Never
    /// changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merge>,
}

fn default_level() -> Level {
    Level::Quorum
}

impl Bucket {
    /// A bucket with the defaults: last write wins, 3 replicas, `group`, quorum reads and writes.
    pub fn new(number: u32, name: &str) -> Self {
        Self {
            number,
            name: name.to_owned(),
            mode: Mode::Lww,
            replicas: 3,
            durability: Durability::Group,
            read_level: default_level(),
            write_level: default_level(),
            ttl_ms: None,
            merge: None,
        }
    }

    /// # Errors
    /// Says which field is out of bounds, and the bounds.
    pub fn validate(&self) -> Result<(), String> {
        let Self { name, replicas, .. } = self;
        if name.is_empty() || name.len() > BUCKET_NAME_BYTES_MAX {
            return Err(format!(
                "bucket name `{name}` has {} bytes; it must have 1 to {BUCKET_NAME_BYTES_MAX}",
                name.len()
            ));
        }
        if !(1..=REPLICAS_MAX).contains(&usize::from(*replicas)) {
            return Err(format!(
                "bucket `{name}` asks for {replicas} replicas; it must be 1 to {REPLICAS_MAX}"
            ));
        }
        if self.mode == Mode::Strong && self.durability != Durability::Group {
            return Err(format!(
                "bucket `{name}` is strong, which needs durability `group`"
            ));
        }
        if self.merge.is_some() && self.mode != Mode::Siblings {
            return Err(format!(
                "bucket `{name}` has mode {}, which leaves nothing to merge; leave `merge` out, or \
                 make it a bucket of mode siblings",
                self.mode
            ));
        }
        if self.ttl_ms == Some(0) {
            return Err(format!(
                "bucket `{name}` has a time to live of zero; leave it out for none"
            ));
        }
        Ok(())
    }
}
