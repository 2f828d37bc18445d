use super::*;
use crate::cluster::Plan;
use annulet_protocol::bucket::Bucket;
use annulet_protocol::ids::ClusterId;
use annulet_protocol::table::Joint;
use annulet_protocol::view::{Member, MemberState};

/// Members of these regions, from id 1, with buckets of these replicas.
fn view(regions: &[&str], replicas: &[u8]) -> View {
    let member = |(id, region): (u64, &&str)| Member {
        id: NodeId(id),
        address: format!("host-{id}:7400"),
        capacity: 1,
        zone: String::new(),
        region: (*region).into(),
        state: MemberState::Active,
    };
    let bucket = |(number, replicas): (u32, &u8)| Bucket {
        replicas: *replicas,
        ..Bucket::new(number, &format!("b{replicas}"))
    };
    let plan = Plan {
        cluster: ClusterId([7; 16]),
        name: "test".into(),
        seed: 1,
        epoch: 5,
        value_bytes_max: 1_000,
        partitions: 16,
        list_length: 3,
        members: (1..).zip(regions).map(member).collect(),
        buckets: (1..).zip(replicas).map(bucket).collect(),
    };
    plan.view().unwrap()
}

fn one_region(servers: usize) -> View {
    view(&vec![""; servers], &[3])
}

/// What member 1 says while these others answer, at the epoch of the view.
fn asked(view: &View, others: &[u64]) -> Vec<Reason> {
    let peers = others.iter().map(|id| (NodeId(*id), view.epoch)).collect();
    asked_of(view, &peers)
}

fn asked_of(view: &View, peers: &BTreeMap<NodeId, u64>) -> Vec<Reason> {
    let hints = BTreeMap::new();
    reasons(&quiet(view, peers, &hints))
}

fn quiet<'a>(
    view: &'a View,
    peers: &'a BTreeMap<NodeId, u64>,
    hints: &'a BTreeMap<NodeId, u64>,
) -> Surroundings<'a> {
    Surroundings {
        view,
        own: NodeId(1),
        peers,
        has_begun: true,
        hints,
        unspread: 0,
        handing_over: 0,
        undecided: false,
    }
}

fn missing(reasons: &[Reason]) -> BTreeSet<u64> {
    let quorums = reasons.iter().filter_map(|reason| match reason {
        Reason::Quorum { missing, .. } => Some(missing.iter().map(|node| node.0)),
        _ => None,
    });
    quorums.flatten().collect()
}

#[test]
fn a_stop_is_safe_while_all_others_answer() {
    let view = one_region(3);
    assert_eq!(asked(&view, &[2, 3]), []);
    let asked_them: Vec<_> = to_ask(&view, NodeId(1)).into_iter().collect();
    assert_eq!(asked_them, [NodeId(2), NodeId(3)]);
}

#[test]
fn with_another_owner_away_it_has_to_wait() {
    let view = one_region(3);
    let reasons = asked(&view, &[2]);
    let [quorum, keepers] = &reasons[..] else {
        panic!("{reasons:?}")
    };
    let text = quorum.describe(&view);
    assert!(
        text.contains("16 partitions") && text.contains("host-3:7400"),
        "{text}"
    );
    assert_eq!(
        *keepers,
        Reason::Keepers {
            others: 1,
            keepers: 3
        }
    );
    assert!(keepers.describe(&view).contains("one of 3 keepers"));
}

#[test]
fn lists_of_others_are_none_of_its_business() {
    let mut view = one_region(5);
    let table = &mut view.table.regions[0];
    for partition in 0..16 {
        table.set(
            partition,
            if partition < 8 {
                &[0, 1, 2]
            } else {
                &[2, 3, 4]
            },
        );
    }
    view.tip.keepers = vec![NodeId(5)];
    assert_eq!(asked(&view, &[2, 3]), [], "4 and 5 are away");
    assert_eq!(missing(&asked(&view, &[2, 4, 5])), BTreeSet::from([3]));
    let asked_them: Vec<_> = to_ask(&view, NodeId(1)).into_iter().collect();
    assert_eq!(asked_them, [NodeId(2), NodeId(3)]);
}

#[test]
fn every_region_and_both_lists_of_what_moves_count() {
    let two = view(&["eu", "eu", "eu", "us", "us", "us"], &[3]);
    let all = [2, 3, 4, 5, 6];
    assert_eq!(asked(&two, &all), []);
    assert_eq!(missing(&asked(&two, &[2, 4, 5, 6])), BTreeSet::from([3]));
    // The other region has no quorum, with or without this server.
    assert_eq!(missing(&asked(&two, &[2, 3, 4])), BTreeSet::new());

    let mut moves = one_region(4);
    moves.tip.keepers = vec![NodeId(4)];
    (0..16).for_each(|partition| moves.table.regions[0].set(partition, &[0, 1, 2]));
    assert_eq!(asked(&moves, &[2, 3]), []);
    let joint = |next: &[u32]| Joint {
        partition: 3,
        region: String::new(),
        next: next.to_vec(),
    };
    moves.epoch += 1;
    moves.table.open(joint(&[0, 1, 3]), moves.epoch);
    assert_eq!(
        missing(&asked(&moves, &[2, 3])),
        BTreeSet::from([4]),
        "it is to own it"
    );
    assert_eq!(asked(&moves, &[2, 3, 4]), []);
    // Who does not know the lists yet is no help, though it answers.
    let mut peers: BTreeMap<_, _> = [2, 3, 4].map(|id| (NodeId(id), moves.epoch)).into();
    peers.insert(NodeId(2), moves.epoch - 1);
    assert_eq!(missing(&asked_of(&moves, &peers)), BTreeSet::from([2]));
}

#[test]
fn buckets_of_few_replicas_cannot_do_without_any_of_their_owners() {
    let view = view(&["", "", ""], &[1, 2, 3]);
    let reasons = asked(&view, &[2, 3]);
    let replicas: Vec<_> = reasons
        .iter()
        .map(|reason| match reason {
            Reason::Quorum {
                replicas, missing, ..
            } => (*replicas, missing.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(replicas, [(1, 0), (2, 0)]);
    let text = reasons[0].describe(&view);
    assert!(text.contains("(b1): their owners are too few"), "{text}");
}

#[test]
fn what_it_holds_alone_goes_first() {
    let view = one_region(3);
    let peers: BTreeMap<_, _> = [2, 3].map(|id| (NodeId(id), view.epoch)).into();
    let hints = BTreeMap::from([(NodeId(2), 0), (NodeId(3), 7)]);
    let busy = Surroundings {
        unspread: 5,
        handing_over: 2,
        undecided: true,
        ..quiet(&view, &peers, &hints)
    };
    let owner = NodeId(3);
    let expected = [
        Reason::Hints { owner, records: 7 },
        Reason::Unspread(5),
        Reason::HandingOver(2),
        Reason::Undecided,
    ];
    assert_eq!(reasons(&busy), expected);
    assert!(
        expected[0]
            .describe(&view)
            .contains("7 records wait here for host-3:7400")
    );
    assert!(
        expected
            .iter()
            .all(|reason| reason.describe(&view).contains(':'))
    );
}

#[test]
fn who_does_not_know_how_things_are_says_so() {
    let view = one_region(3);
    let (peers, hints) = (
        BTreeMap::from([(NodeId(2), 6), (NodeId(3), 5)]),
        BTreeMap::new(),
    );
    let starts = Surroundings {
        has_begun: false,
        ..quiet(&view, &peers, &hints)
    };
    assert_eq!(reasons(&starts), [Reason::Starting, Reason::Behind(6)]);
}

#[test]
fn the_only_server_of_a_cluster_is_needed() {
    let view = view(&[""], &[1]);
    let reasons = asked(&view, &[]);
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(to_ask(&view, NodeId(1)).is_empty());
}
