//! The owner lists of a key.

use annulet_protocol::bucket::Bucket;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::View;
use smallvec::SmallVec;

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
}
