//! What is lost when members are gone for good: what they owned in buckets of which those that are
//! left are no majority of the owners. Nothing is copied there until they are back, or somebody
//! accepts the loss.

use crate::quorum::majority;
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::View;
use std::collections::BTreeMap;

/// What is lost of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketLoss {
    /// Its name.
    pub bucket: String,
    /// How many replicas it asks for.
    pub replicas: u8,
    /// Partitions in which some region has no majority of its owners left, in order: what only
    /// those that are gone had is lost.
    pub partitions: Vec<u32>,
    /// Those of them in which no owner is left in any region: all that was there is lost.
    pub without_owner: Vec<u32>,
}

/// What is lost of each bucket if these members are gone, those of which nothing is left out.
pub fn losses(view: &View, is_gone: impl Fn(NodeId) -> bool) -> Vec<BucketLoss> {
    let gone: Vec<_> = view.members.iter().map(|m| is_gone(m.id)).collect();
    let mut by_replicas = BTreeMap::new();
    let losses = view.buckets.iter().map(|bucket| {
        let replicas = bucket.replicas;
        let lost = || in_partitions(view, &gone, usize::from(replicas));
        let (partitions, without_owner) = by_replicas.entry(replicas).or_insert_with(lost);
        BucketLoss {
            bucket: bucket.name.clone(),
            replicas,
            partitions: partitions.clone(),
            without_owner: without_owner.clone(),
        }
    });
    losses.filter(|loss| !loss.partitions.is_empty()).collect()
}

/// Partitions in which buckets of so many replicas lose something, and those in which all.
fn in_partitions(view: &View, gone: &[bool], replicas: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut lost, mut all_lost) = (Vec::new(), Vec::new());
    for partition in 0..view.table.partitions {
        let (mut lacks, mut left_in_all) = (false, 0);
        for table in &view.table.regions {
            let owners = table.list(partition).take(replicas);
            let gone: Vec<_> = owners.map(|at| gone.get(at) == Some(&true)).collect();
            let left = gone.iter().filter(|gone| !**gone).count();
            left_in_all += left;
            lacks |= !gone.is_empty() && left < majority(gone.len());
        }
        if lacks {
            lost.push(partition);
        }
        if lacks && left_in_all == 0 {
            all_lost.push(partition);
        }
    }
    (lost, all_lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Plan;
    use annulet_protocol::bucket::Bucket;
    use annulet_protocol::ids::ClusterId;
    use annulet_protocol::view::{Member, MemberState};

    fn view(regions: &[&str]) -> View {
        let member = |id: u64| Member {
            id: NodeId(id),
            address: format!("host-{id}:7400"),
            capacity: 1,
            zone: String::new(),
            region: regions[(id - 1) as usize % regions.len()].into(),
            state: MemberState::Active,
        };
        let bucket = |replicas| Bucket {
            replicas,
            ..Bucket::new(u32::from(replicas), &format!("of {replicas}"))
        };
        let plan = Plan {
            cluster: ClusterId([1; 16]),
            name: "test".into(),
            seed: 1,
            epoch: 1,
            value_bytes_max: 1_000,
            partitions: 2,
            list_length: 3,
            members: (1..=4).map(member).collect(),
            buckets: (1..=3).map(bucket).collect(),
        };
        plan.view().unwrap()
    }

    fn lost(view: &View, gone: &[u64]) -> Vec<(u8, Vec<u32>, Vec<u32>)> {
        let losses = losses(view, |id| gone.contains(&id.0));
        let parts = |loss: BucketLoss| (loss.replicas, loss.partitions, loss.without_owner);
        losses.into_iter().map(parts).collect()
    }

    #[test]
    fn what_too_few_are_left_of_is_lost() {
        let mut view = view(&[""]);
        view.table.regions[0].set(0, &[0, 1, 2]);
        view.table.regions[0].set(1, &[3, 0, 1]);
        assert_eq!(lost(&view, &[]), []);
        assert_eq!(lost(&view, &[3]), [], "it is the third of its list");
        let of_first = [(1, vec![0], vec![0]), (2, vec![0, 1], vec![])];
        assert_eq!(lost(&view, &[1]), of_first, "two of three are a majority");
        let of_two = [
            (1, vec![0], vec![0]),
            (2, vec![0, 1], vec![0]),
            (3, vec![0, 1], vec![]),
        ];
        assert_eq!(lost(&view, &[1, 2]), of_two);
    }

    #[test]
    fn what_another_region_has_is_not_lost_as_a_whole() {
        let mut view = view(&["here", "there"]);
        for partition in 0..2 {
            view.table.regions[0].set(partition, &[0, 2]);
            view.table.regions[1].set(partition, &[1, 3]);
        }
        assert_eq!(lost(&view, &[1])[0], (1, vec![0, 1], vec![]));
        assert_eq!(lost(&view, &[1, 2])[0], (1, vec![0, 1], vec![0, 1]));
    }
}
