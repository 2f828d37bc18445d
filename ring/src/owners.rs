//! The owner lists of a key.

use annulet_protocol::bucket::Bucket;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::View;
use smallvec::SmallVec;
use std::collections::HashSet;

/// A short list of nodes, on the stack up to five.
pub type Nodes = SmallVec<[NodeId; 5]>;

/// The owners of one key in one region, in order of the partition's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionOwners {
    /// Index of the region in the view's table.
    pub region: usize,
    /// Distinct nodes: the first min(replicas, length) of the list.
    pub nodes: Nodes,
}

/// The owners of one key: a list for each region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    /// In the order of the view's regions.
    pub regions: SmallVec<[RegionOwners; 1]>,
}

impl Owners {
    /// Reads the owners of a key off the table. A bucket's owners are the first of each list, as
    /// many as it has replicas, or all where the list is shorter.
    pub fn of(view: &View, bucket: &Bucket, hash: KeyHash) -> Self {
        let partition = hash.partition(view.table.partitions);
        let regions = view
            .table
            .regions
            .iter()
            .enumerate()
            .map(|(region, table)| {
                let list = table.list(partition).take(usize::from(bucket.replicas));
                let nodes = list
                    .filter_map(|index| view.members.get(index))
                    .map(|m| m.id)
                    .collect();
                RegionOwners { region, nodes }
            });
        Self {
            regions: regions.collect(),
        }
    }

    /// All owners, region by region.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.regions
            .iter()
            .flat_map(|list| list.nodes.iter().copied())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.regions.iter().map(|list| list.nodes.len()).sum()
    }

    /// Whether this node is one of them.
    pub fn contains(&self, node: NodeId) -> bool {
        self.all().any(|owner| owner == node)
    }

    /// Index of the region in which this node is an owner.
    pub fn region_of(&self, node: NodeId) -> Option<usize> {
        let list = self.regions.iter().find(|list| list.nodes.contains(&node));
        list.map(|list| list.region)
    }

    /// Who stands in for owners that cannot be reached: the distinct owners of the partitions that
    /// follow in the table, those of region `home` first, and the key's own owners last, since one
    /// of them may be all there is. At most `most`, in the order to ask them.
    pub fn fallbacks(&self, view: &View, hash: KeyHash, home: usize, most: usize) -> Vec<NodeId> {
        let partitions = view.table.partitions;
        let first = hash.partition(partitions);
        let mut known: HashSet<_> = self.all().collect();
        let mut found = Vec::new();
        let others = (0..view.table.regions.len()).filter(|region| *region != home);
        for table in std::iter::once(home)
            .chain(others)
            .filter_map(|region| view.table.regions.get(region))
        {
            // Beyond so many partitions without a new node there is hardly another one.
            let mut idle = 0;
            for step in 1..partitions {
                let before = found.len();
                // A power of two: the sum wraps where the ring does.
                for index in table.list(first.wrapping_add(step) % partitions) {
                    let Some(member) = view.members.get(index) else {
                        continue;
                    };
                    if found.len() < most && known.insert(member.id) {
                        found.push(member.id);
                    }
                }
                idle = if found.len() > before { 0 } else { idle + 1 };
                if found.len() >= most || idle >= FRUITLESS_MAX {
                    break;
                }
            }
        }
        found.extend(self.all().take(most.saturating_sub(found.len())));
        found
    }
}

/// Partitions passed in a row that bring no new fallback.
const FRUITLESS_MAX: u32 = 1_024;
