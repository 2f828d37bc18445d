//! The cluster file: the members of a cluster, and the buckets that it begins with. It is where the
//! chain of epochs begins: once that has gone on, only the addresses in it still count.
//! It must be the same on every server; servers compare their views and warn if it is not.

use crate::config::is_address;
use annulet_protocol::bucket::{Bucket, Durability, Mode};
use annulet_protocol::ids::{ClusterId, NodeId};
use annulet_protocol::level::Level;
use annulet_protocol::limits::{NAME_BYTES_MAX, VALUE_BYTES_DEFAULT};
use annulet_protocol::siblings::merges::Merge;
use annulet_protocol::view::{Member, MemberState, View};
use annulet_ring::cluster::Plan;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the bucket that exists without being listed.
pub const DEFAULT_BUCKET: &str = "default";
/// Its number.
pub const DEFAULT_BUCKET_NUMBER: u32 = 1;

/// The file's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// The cluster, 32 hexadecimal digits: random, and never changed.
    pub cluster: ClusterId,
    /// Its name for people.
    #[serde(default)]
    pub name: String,
    /// The number of the first epoch. Until the chain has gone on from it, the file may be changed,
    /// and this is to be raised with every change.
    #[serde(default = "default_epoch")]
    pub epoch: u64,
    /// Seed of the key hash, below 2^63. It must never change: all data would be in other places.
    #[serde(default)]
    pub seed: u64,
    /// Longest value in bytes that the servers take.
    #[serde(default = "default_value_bytes_max")]
    pub value_bytes_max: u32,
    /// Equal arcs that the ring is cut into, a power of two.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
    /// Owners of each arc in each region, 1 to 7; no bucket can have more replicas.
    #[serde(default = "default_list_length")]
    pub list_length: u8,
    /// The servers.
    #[serde(default, rename = "member")]
    pub members: Vec<MemberEntry>,
    /// The buckets; one named `default` exists even if it is not listed.
    #[serde(default, rename = "bucket", skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<BucketEntry>,
}

/// A `[[member]]` of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberEntry {
    /// The id of its store, 16 hexadecimal digits. A server that lost its data gets a new one.
    pub id: NodeId,
    /// Host and port that clients and peers connect to.
    pub address: String,
    /// Its share of the data, relative to the others', at least 1.
    #[serde(default = "default_capacity")]
    pub capacity: u32,
    /// What fails together with it: a rack, an availability zone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Its datacentre. Every region holds a full set of replicas.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
}

/// A `[[bucket]]` of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketEntry {
    /// Unique in the cluster, and never used again for another bucket.
    pub number: u32,
    /// What users call it, 1 to 64 bytes.
    pub name: String,
    /// How concurrent writes are settled. Never changes.
    #[serde(default = "default_mode")]
    pub mode: Mode,
    /// Owners of each key in each region, 1 to 7. Never changes.
    #[serde(default = "default_replicas")]
    pub replicas: u8,
    /// When a write is acknowledged. Never changes.
    #[serde(default = "default_durability")]
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
    /// What readers make of concurrent values, in a bucket of mode `siblings`. Never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merge>,
}

impl ClusterFile {
    /// A cluster with the usual settings and no bucket but the default one.
    pub fn new(cluster: ClusterId, name: impl Into<String>, members: Vec<MemberEntry>) -> Self {
        Self {
            cluster,
            name: name.into(),
            epoch: default_epoch(),
            seed: 0,
            value_bytes_max: default_value_bytes_max(),
            partitions: default_partitions(),
            list_length: default_list_length(),
            members,
            buckets: Vec::new(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Names the file, the place in it and what is wrong there.
    pub fn read(path: &Path) -> Result<Self, String> {
        let named = |why: String| format!("cluster file `{}`: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        Self::parse(&text).map_err(named)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Names the place in it and what is wrong there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        file.validate()?;
        Ok(file)
    }

    /// Writes the file, in place of one that was there.
    ///
    /// # Errors
    /// If it could not be read again, or the disk does not take it.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let text = self.to_text()?;
        std::fs::write(path, text)
            .map_err(|error| format!("cluster file `{}`: {error}", path.display()))
    }

    /// The text of the file.
    ///
    /// # Errors
    /// If it could not be read again.
    pub fn to_text(&self) -> Result<String, String> {
        self.validate()?;
        toml::to_string(self).map_err(|error| error.to_string())
    }

    /// The view that every server of this file has.
    ///
    /// # Errors
    /// Says what cannot be.
    pub fn view(&self) -> Result<View, String> {
        self.validate()?;
        let members = self.members.iter().map(MemberEntry::member).collect();
        let mut buckets: Vec<_> = self.buckets.iter().map(BucketEntry::bucket).collect();
        if !self
            .buckets
            .iter()
            .any(|bucket| bucket.name == DEFAULT_BUCKET)
        {
            let replicas = default_replicas().min(self.list_length);
            let bucket = Bucket::new(DEFAULT_BUCKET_NUMBER, DEFAULT_BUCKET);
            buckets.push(Bucket { replicas, ..bucket });
        }
        let plan = Plan {
            cluster: self.cluster,
            name: self.name.clone(),
            seed: self.seed,
            epoch: self.epoch,
            value_bytes_max: self.value_bytes_max,
            partitions: self.partitions,
            list_length: usize::from(self.list_length),
            members,
            buckets,
        };
        plan.view()
    }

    /// The member of this address.
    pub fn member_at(&self, address: &str) -> Option<&MemberEntry> {
        self.members.iter().find(|member| member.address == address)
    }

    /// What only shows when entries are compared; the view's own rules are checked by the view.
    fn validate(&self) -> Result<(), String> {
        if self.members.is_empty() {
            return Err("it lists no [[member]]; at least one is needed".into());
        }
        if self.name.len() > NAME_BYTES_MAX {
            return Err(format!("the name has more than {NAME_BYTES_MAX} bytes"));
        }
        if self.seed > i64::MAX as u64 {
            return Err("the seed is not below 2^63".into());
        }
        no_two("members have id", self.members.iter().map(|m| m.id))?;
        no_two(
            "members have address",
            self.members.iter().map(|m| &m.address),
        )?;
        no_two("buckets have number", self.buckets.iter().map(|b| b.number))?;
        no_two("buckets have name", self.buckets.iter().map(|b| &b.name))?;
        if let Some(member) = self.members.iter().find(|m| !is_address(&m.address)) {
            let MemberEntry { id, address, .. } = member;
            return Err(format!(
                "member {id}: `{address}` is not an address `host:port`"
            ));
        }
        for bucket in &self.buckets {
            let BucketEntry {
                number,
                name,
                replicas,
                ..
            } = bucket;
            if *number == DEFAULT_BUCKET_NUMBER && name != DEFAULT_BUCKET {
                return Err(format!(
                    "bucket `{name}` has number {number}, which is bucket `{DEFAULT_BUCKET}`'s"
                ));
            }
            if *replicas > self.list_length {
                return Err(format!(
                    "bucket `{name}` asks for {replicas} replicas; list_length is {}",
                    self.list_length
                ));
            }
            bucket.bucket().validate()?;
        }
        Ok(())
    }
}

impl MemberEntry {
    /// A member with nothing special about it.
    #[cfg(test)]
    pub(crate) fn plain(id: u64) -> Self {
        Self {
            id: NodeId(id),
            address: format!("host-{id}:7400"),
            capacity: 1,
            zone: String::new(),
            region: String::new(),
        }
    }

    fn member(&self) -> Member {
        Member {
            id: self.id,
            address: self.address.clone(),
            capacity: self.capacity,
            zone: self.zone.clone(),
            region: self.region.clone(),
            state: MemberState::Active,
        }
    }
}

impl BucketEntry {
    fn bucket(&self) -> Bucket {
        Bucket {
            number: self.number,
            name: self.name.clone(),
            mode: self.mode,
            replicas: self.replicas,
            durability: self.durability,
            read_level: self.read_level,
            write_level: self.write_level,
            ttl_ms: self.ttl_ms,
            merge: self.merge,
        }
    }
}

/// Refuses a second entry of the same value.
fn no_two<T: Ord + std::fmt::Display>(
    what: &str,
    values: impl Iterator<Item = T>,
) -> Result<(), String> {
    let mut count = BTreeMap::<T, usize>::new();
    values.for_each(|value| *count.entry(value).or_default() += 1);
    match count.into_iter().find(|(_, count)| *count > 1) {
        Some((value, count)) => Err(format!("{count} {what} `{value}`")),
        None => Ok(()),
    }
}

fn default_epoch() -> u64 {
    1
}

fn default_value_bytes_max() -> u32 {
    VALUE_BYTES_DEFAULT as u32
}

fn default_partitions() -> u32 {
    256
}

fn default_list_length() -> u8 {
    3
}

fn default_capacity() -> u32 {
    1
}

fn default_mode() -> Mode {
    Mode::Lww
}

fn default_replicas() -> u8 {
    3
}

fn default_durability() -> Durability {
    Durability::Group
}

fn default_level() -> Level {
    Level::Quorum
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        cluster = "000102030405060708090a0b0c0d0e0f"
        [[member]]
        id = "0000000000000001"
        address = "10.0.0.1:7400"
    "#;

    fn parse(more: &str) -> Result<View, String> {
        ClusterFile::parse(&format!("{LEAST}\n{more}"))?.view()
    }

    #[test]
    fn the_least_file_has_one_bucket_and_the_defaults() {
        let view = parse("").unwrap();
        assert_eq!((view.epoch, view.seed, view.table.partitions), (1, 0, 256));
        assert_eq!(view.value_bytes_max, 16 << 20);
        assert_eq!(view.buckets, vec![Bucket::new(1, "default")]);
        assert_eq!(view.members[0].capacity, 1);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let bucket = |body: &str| format!("[[bucket]]\nnumber = 2\nname = \"b\"\n{body}");
        let member =
            |id: &str, address: &str| format!("[[member]]\nid = \"{id}\"\naddress = \"{address}\"");
        for (more, expected) in [
            (bucket("repicas = 2"), "unknown field `repicas`"),
            (bucket("mode = \"last\""), "unknown mode `last`"),
            (
                bucket("replicas = 4"),
                "bucket `b` asks for 4 replicas; list_length is 3",
            ),
            (bucket("replicas = 0"), "bucket `b` asks for 0 replicas"),
            (bucket("read_level = \"two\""), "unknown level `two`"),
            (
                bucket("[[bucket]]\nnumber = 2\nname = \"c\""),
                "2 buckets have number `2`",
            ),
            (
                bucket("[[bucket]]\nnumber = 3\nname = \"b\""),
                "2 buckets have name `b`",
            ),
            (
                "[[bucket]]\nnumber = 1\nname = \"b\"".into(),
                "which is bucket `default`'s",
            ),
            (member("1", "h:1"), "not a node id of 16 hexadecimal digits"),
            (
                member("0000000000000001", "h:1"),
                "2 members have id `0000000000000001`",
            ),
            (
                member("0000000000000002", "10.0.0.1:7400"),
                "2 members have address",
            ),
            (
                member("0000000000000002", "host"),
                "`host` is not an address `host:port`",
            ),
        ] {
            let error = parse(&more).unwrap_err();
            assert!(error.contains(expected), "{more}: {error}");
        }
        let empty = ClusterFile::parse("cluster = \"000102030405060708090a0b0c0d0e0f\"");
        assert!(empty.unwrap_err().contains("no [[member]]"));
        let id = ClusterFile::parse("cluster = \"12\"").unwrap_err();
        assert!(id.contains("not an id of 32 hexadecimal digits"), "{id}");
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let member = |id: u64| MemberEntry {
            id: NodeId(id),
            address: format!("10.0.0.{id}:7400"),
            capacity: id as u32,
            zone: if id == 1 {
                String::new()
            } else {
                format!("z{id}")
            },
            region: String::new(),
        };
        let mut file = ClusterFile::new(ClusterId([7; 16]), "test", (1..4).map(member).collect());
        file.seed = i64::MAX as u64;
        file.buckets = vec![BucketEntry {
            merge: None,
            number: 9,
            name: "sessions".into(),
            mode: Mode::Lww,
            replicas: 2,
            durability: Durability::Async,
            read_level: Level::One,
            write_level: Level::Explicit { read: 1, write: 2 },
            ttl_ms: Some(90_000),
        }];
        let text = file.to_text().unwrap();
        assert_eq!(ClusterFile::parse(&text), Ok(file.clone()), "{text}");
        assert_eq!(
            file.member_at("10.0.0.2:7400").map(|m| m.id),
            Some(NodeId(2))
        );
        assert_eq!(file.view().unwrap().buckets.len(), 2);
    }
}
