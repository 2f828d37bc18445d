//! What server 4 has gained begins with empty, in whatever order it learns of it.

use super::super::empty::Emptier;
use super::*;

const OWN: usize = 4;

/// A part of a ring of two partitions, or both.
fn holding(partitions: std::ops::RangeInclusive<u32>, least: u8, most: u8) -> Holding {
    Holding {
        from: KeyHash::arc(*partitions.start(), 2).0,
        until: KeyHash::arc(*partitions.end(), 2).1,
        least,
        most,
    }
}

/// Every order of some things.
fn orders<T: Clone>(things: &[T]) -> Vec<Vec<T>> {
    let Some((first, rest)) = things.split_first() else {
        return vec![Vec::new()];
    };
    let rest = orders(rest);
    let insert = |order: Vec<T>| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, first.clone());
            order
        })
    };
    rest.into_iter().flat_map(insert).collect()
}

/// The next tasks, done. What is ready then is taken note of, as servers do.
fn step(cluster: &mut Cluster, emptier: &mut Emptier) {
    let (replica, store) = &cluster.servers[OWN - 1];
    let tasks = emptier
        .step(store, &cluster.view, &cluster.unready)
        .unwrap();
    let mutations: Vec<_> = tasks.into_iter().map(Mutation::Task).collect();
    let with_epoch = mutations.iter().map(|m| (cluster.view.epoch, m));
    let decided = replica.decide(store, cluster.moment(), with_epoch).unwrap();
    store.write(decided.batch).unwrap();
    cluster
        .unready
        .retain(|holding| !decided.ready.contains(holding));
}

/// Keys that lie in what is to be emptied.
fn closed_keys(cluster: &Cluster) -> BTreeSet<(u32, String)> {
    let keys = [LWW, NARROW].into_iter().flat_map(|number| {
        let keys = (0..8).map(|key| format!("key {key}"));
        keys.map(move |key| (number, key))
    });
    let is_closed = |(number, key): &(u32, String)| {
        let bucket = cluster.view.bucket(*number).unwrap();
        let hash = cluster.view.hash(*number, key.as_bytes());
        cluster.unready.iter().any(|h| h.covers(bucket, hash))
    };
    keys.filter(is_closed).collect()
}

/// Empties all of it in this order, and writes under each key as soon as that is taken.
fn empty(order: &[Holding]) {
    let mut cluster = Cluster::new();
    cluster.view.table.halve();
    for partition in 0..2 {
        cluster.view.table.regions[0].set(partition, &[3, 0, 1]);
    }
    cluster.unready = order.to_vec();
    let all = closed_keys(&cluster);
    cluster.unready.clear();
    for (number, key) in &all {
        cluster.put(OWN, *number, key, Some("of old"));
    }
    let noted = Holdings {
        unready: order.to_vec(),
        lost: Vec::new(),
    };
    cluster.servers[OWN - 1].1.write(noted.notes()).unwrap();
    cluster.unready = noted.unready;
    let mut emptier = Emptier::default();
    let mut written = BTreeSet::new();
    for _ in 0..2 * order.len() {
        step(&mut cluster, &mut emptier);
        for place in all.difference(&closed_keys(&cluster)) {
            let (number, key) = place;
            match cluster.found(OWN, *number, key) {
                Answer::Absent(_) if !written.contains(place) => {
                    cluster.put(OWN, *number, key, Some("new"));
                    written.insert(place.clone());
                }
                Answer::Found(record) if written.contains(place) => {
                    assert_eq!(record.value, "new", "{place:?} in {order:?}");
                }
                other => panic!("{place:?} is {other:?} in {order:?}"),
            }
        }
    }
    assert_eq!(written, all, "{order:?}");
    let left = Holdings::load(&cluster.servers[OWN - 1].1).unwrap();
    assert_eq!((cluster.unready, left), (Vec::new(), Holdings::default()));
}

#[test]
fn what_was_taken_stays_in_whatever_order_the_rest_is_emptied() {
    let whole = |partitions, least| holding(partitions, least, u8::MAX);
    for gained in [
        &[holding(0..=1, 1, 2), whole(0..=1, 3)][..],
        &[whole(0..=1, 3), whole(0..=0, 1)],
        &[whole(0..=1, 3), whole(0..=1, 1), holding(1..=1, 1, 2)],
        &[holding(0..=1, 1, 2), whole(1..=1, 3), holding(1..=1, 1, 2)],
    ] {
        orders(gained).iter().for_each(|order| empty(order));
    }
}

#[test]
fn what_is_noted_in_order_of_keys_is_emptied_as_it_was_gained() {
    let gained = [holding(0..=1, 3, u8::MAX), holding(0..=1, 1, 2)];
    let store = MemoryStore::default();
    let noted = Holdings {
        unready: gained.to_vec(),
        lost: Vec::new(),
    };
    store.write(noted.notes()).unwrap();
    let loaded = Holdings::load(&store).unwrap().unready;
    assert_ne!(loaded, gained, "notes lie in order of keys");
    empty(&loaded);
}
