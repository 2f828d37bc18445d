//! The owner lists of a key.

use annulet_protocol::bucket::Bucket;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::NodeId;
use annulet_protocol::table::Joint;
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

/// A list for each region that has owners, in the order of the view's regions.
pub type Lists = SmallVec<[RegionOwners; 1]>;

/// The owners of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    /// The lists as they are.
    pub regions: Lists,
    /// The lists to be, while they have other owners: then every quorum is one of both.
    pub next: Option<Box<Lists>>,
    /// The epoch that set these lists.
    pub epoch: u64,
}

impl Owners {
    /// Reads the owners of a key off the table. A bucket's owners are the first of each list, as
    /// many as it has replicas, or all where the list is shorter.
    // Every operation looks up its owners: what follows touches one place of the table, and the ids
    // of members, which are close together.
    #[inline]
    pub fn of(view: &View, bucket: &Bucket, hash: KeyHash) -> Self {
        let table = &view.table;
        let partition = hash.partition(table.partitions);
        let most = usize::from(bucket.replicas);
        // Written where it stays: nothing is copied from one place to another.
        let mut owners = Self {
            regions: Lists::new(),
            next: None,
            epoch: table.lists_epoch(partition),
        };
        for (region, lists) in table.regions.iter().enumerate() {
            let nodes = Nodes::new();
            owners.regions.push(RegionOwners { region, nodes });
            if let Some(list) = owners.regions.last_mut() {
                take(view, most, lists.list(partition), &mut list.nodes);
            }
            if owners.regions.last().is_some_and(|l| l.nodes.is_empty()) {
                owners.regions.pop();
            }
        }
        if let Some(joint) = table.joint(partition) {
            owners.next = next(view, most, joint, &owners.regions);
        }
        owners
    }

    /// The owners of lists that do not change.
    pub fn stable(regions: Lists, epoch: u64) -> Self {
        Self {
            regions,
            next: None,
            epoch,
        }
    }

    /// All owners, each once: those of the lists as they are, region by region, then those to be.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        let current = nodes_of(&self.regions);
        let owns = |node: &NodeId| nodes_of(&self.regions).any(|owner| owner == *node);
        let next = self.next.as_deref().into_iter().flat_map(nodes_of);
        current.chain(next.filter(move |node| !owns(node)))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all().count()
    }

    /// Whether this node is one of them.
    pub fn contains(&self, node: NodeId) -> bool {
        self.all().any(|owner| owner == node)
    }

    /// Index of the region in which this node is an owner.
    pub fn region_of(&self, node: NodeId) -> Option<usize> {
        let mut lists = self
            .regions
            .iter()
            .chain(self.next.as_deref().into_iter().flatten());
        let list = lists.find(|list| list.nodes.contains(&node));
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
                    let Some(id) = view.members.ids().get(index) else {
                        continue;
                    };
                    if found.len() < most && known.insert(*id) {
                        found.push(*id);
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

/// The lists of a partition as they are, whole, one for each region of the table.
pub fn current_lists(view: &View, partition: u32) -> Vec<Nodes> {
    let regions = view.table.regions.iter();
    let lists = regions.map(|table| nodes(view, usize::MAX, table.list(partition)));
    lists.collect()
}

/// The same of a joint partition as they are to be.
pub fn next_lists(view: &View, joint: &Joint) -> Vec<Nodes> {
    let regions = view.table.regions.iter();
    let list = regions.map(|table| match table.region == joint.region {
        true => nodes(
            view,
            usize::MAX,
            joint.next.iter().map(|owner| *owner as usize),
        ),
        false => nodes(view, usize::MAX, table.list(joint.partition)),
    });
    list.collect()
}

/// The first owners of a joint partition as they are to be. `None`: in a bucket of few replicas
/// they may be the same.
#[cold]
fn next(view: &View, most: usize, joint: &Joint, current: &Lists) -> Option<Box<Lists>> {
    let tables = view.table.regions.iter().enumerate();
    let lists = tables.filter_map(|(region, table)| {
        let nodes = match table.region == joint.region {
            true => nodes(view, most, joint.next.iter().map(|index| *index as usize)),
            false => nodes(view, most, table.list(joint.partition)),
        };
        (!nodes.is_empty()).then_some(RegionOwners { region, nodes })
    });
    let lists: Lists = lists.collect();
    (!have_same_nodes(&lists, current)).then(|| Box::new(lists))
}

/// The first of these members, at most so many.
fn nodes(view: &View, most: usize, indices: impl Iterator<Item = usize>) -> Nodes {
    let mut nodes = Nodes::new();
    take(view, most, indices, &mut nodes);
    nodes
}

/// Puts the first of these members, at most so many, behind those that are there.
#[inline]
fn take(view: &View, most: usize, indices: impl Iterator<Item = usize>, nodes: &mut Nodes) {
    let ids = view.members.ids();
    for id in indices.take(most).filter_map(|index| ids.get(index)) {
        nodes.push(*id);
    }
}

fn nodes_of(lists: &Lists) -> impl Iterator<Item = NodeId> + '_ {
    lists.iter().flat_map(|list| list.nodes.iter().copied())
}

/// Whether the same nodes own, in whatever order.
fn have_same_nodes(one: &Lists, other: &Lists) -> bool {
    let holds = |lists: &Lists, node| nodes_of(lists).any(|owner| owner == node);
    nodes_of(one).count() == nodes_of(other).count() && nodes_of(one).all(|node| holds(other, node))
}

/// Partitions passed in a row that bring no new fallback.
const FRUITLESS_MAX: u32 = 1_024;
