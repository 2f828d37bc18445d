//! What unit tests of several modules begin with.

use annulet_protocol::bucket::Bucket;
use annulet_protocol::ids::{ClusterId, NodeId};
use annulet_protocol::table::Joint;
use annulet_protocol::view::{Member, MemberState, View};
use annulet_ring::cluster::Plan;

/// Servers 1 to 4, of which 1, 2 and 3 own the one partition of a ring, at epoch 3.
pub(crate) fn three_of_four(buckets: Vec<Bucket>) -> View {
    let member = |id| Member {
        id: NodeId(id),
        address: format!("server-{id}:1"),
        capacity: 1,
        zone: String::new(),
        region: String::new(),
        state: MemberState::Active,
    };
    let plan = Plan {
        cluster: ClusterId([1; 16]),
        name: "test".into(),
        seed: 1,
        epoch: 3,
        value_bytes_max: 1 << 20,
        partitions: 1,
        list_length: 3,
        members: (1..=4).map(member).collect(),
        buckets,
    };
    let mut view = plan.view().expect("a sound plan");
    view.table.regions[0].set(0, &[0, 1, 2]);
    view
}

/// The view that follows, in which the partition has this next list: indices of members.
pub(crate) fn opened(view: &View, next: &[u32]) -> View {
    let mut view = view.clone();
    view.epoch += 1;
    let joint = Joint {
        partition: 0,
        region: String::new(),
        next: next.to_vec(),
    };
    view.table.open(joint, view.epoch);
    view
}
