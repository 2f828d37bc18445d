//! What must be carried over when lists change hands: promises that a majority has given, and what
//! a server that owns a key no more was the only one to hold.

use super::damage::held;
use super::oracle::KeyId;
use super::strong::stored;
use super::world::{STRONG, World, key_bytes};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::Mode;
use annulet_protocol::hash::storage_key;
use annulet_protocol::ids::NodeId;
use annulet_protocol::record::Head;
use annulet_protocol::view::View;
use annulet_replica::holdings::Holding;
use annulet_ring::owners::{Lists, Owners};
use annulet_ring::quorum::majority;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// What each server had promised of a key when it began to act under the lists of an epoch.
    promises: BTreeMap<(KeyId, u64), BTreeMap<NodeId, Ballot>>,
    /// What servers held of what they own no more.
    owed: Vec<(usize, KeyId, Head)>,
}

impl Carried {
    /// A server is to own something anew: what it held of it before may go. Or a record was
    /// damaged, which nobody can hand over.
    pub(crate) fn forgive(&mut self, server: Option<usize>) {
        let gone = |of: usize| server.is_none_or(|server| server == of);
        self.owed.retain(|(of, ..)| !gone(*of));
    }
}

impl World {
    /// A server begins to act under a view: what it has promised by then was promised under the
    /// lists before.
    pub(crate) fn note_promises(&mut self, server: usize, view: &View) {
        for (bucket, key) in strong_keys(self.scenario.keys) {
            let bytes = key_bytes(key);
            let hash = view.hash(bucket, &bytes);
            let partition = hash.partition(view.table.partitions);
            let opens = view.table.lists_epoch(partition) == view.epoch;
            if !opens || view.table.joint(partition).is_none() {
                continue;
            }
            let at = &self.servers[server];
            let acceptor = stored(&at.store, &storage_key(hash, bucket, &bytes));
            let promised = acceptor.ok().flatten().map(|acceptor| acceptor.promised());
            let of_key = ((bucket, key), view.epoch);
            let all = self.carried.promises.entry(of_key).or_default();
            all.insert(at.replica.node, promised.unwrap_or_default());
        }
    }

    /// Partitions get their next lists: what a majority of the owners had promised, every majority
    /// of the next ones has promised, too.
    pub(crate) fn check_promises(&mut self, view: &View, closing: &[u32]) {
        for (bucket, key) in strong_keys(self.scenario.keys) {
            let bytes = key_bytes(key);
            let hash = view.hash(bucket, &bytes);
            let partition = hash.partition(view.table.partitions);
            let since = view.table.lists_epoch(partition);
            let noted = self.carried.promises.get(&((bucket, key), since));
            let (true, Some(noted)) = (closing.contains(&partition), noted) else {
                continue;
            };
            let of = view.bucket(bucket).expect("strong buckets stay");
            let owners = Owners::of(view, of, hash);
            let Some(next) = &owners.next else { continue };
            let nodes = |lists: &Lists| -> Vec<NodeId> {
                let nodes = lists.iter().flat_map(|list| &list.nodes);
                nodes.copied().collect()
            };
            let current = nodes(&owners.regions).into_iter();
            let mut before: Vec<_> = current
                .map(|node| noted.get(&node).copied().unwrap_or_default())
                .collect();
            before.sort_unstable();
            before.reverse();
            let Some(by_majority) = before.get(majority(before.len()) - 1).copied() else {
                continue;
            };
            let place = storage_key(hash, bucket, &bytes);
            let next = nodes(next);
            let keeps = |node: &&NodeId| {
                let at = &self.servers[self.server_of(**node)];
                let acceptor = stored(&at.store, &place).ok().flatten();
                acceptor.is_some_and(|acceptor| acceptor.promised() >= by_majority)
            };
            let keep = next.iter().filter(keeps).count();
            let forgot = next.len() - keep;
            if by_majority > Ballot::default() && forgot >= majority(next.len()) {
                let why = format!(
                    "{forgot} of {next:?} do not keep the promise {by_majority} of key {key} of \
                     bucket {bucket}"
                );
                return self.oracle.fail("carried", why);
            }
        }
    }

    /// A server owns something no more: what it holds of it is to come to those who do.
    pub(crate) fn note_owed(&mut self, server: usize, view: &View, lost: &[Holding]) {
        if lost.is_empty() {
            return;
        }
        let of_lww = view.buckets.iter().filter(|b| b.mode == Mode::Lww);
        for bucket in of_lww {
            let number = bucket.number;
            for key in 0..self.scenario.keys {
                let bytes = key_bytes(key);
                let hash = view.hash(number, &bytes);
                if lost.iter().any(|holding| holding.covers(bucket, hash)) {
                    let place = storage_key(hash, number, &bytes);
                    let copy = held(&self.servers[server].store, &place);
                    let owed = copy.map(|copy| (server, (number, key), copy.head));
                    self.carried.owed.extend(owed);
                }
            }
        }
    }

    /// In the end those who own a key hold what is owed to them.
    pub(crate) fn check_owed(&mut self, key: KeyId, newest: Option<&Head>) {
        let missing =
            |head: &Head| newest.is_none_or(|newest| newest.freshness(head) == Ordering::Less);
        let owed = self.carried.owed.iter();
        let owed = owed.filter(|(_, of, _)| *of == key).map(|(.., head)| *head);
        let found = owed.into_iter().find(missing);
        if let Some(head) = found {
            let why = format!("key {key:?}: {head:?} was not handed over, there is {newest:?}");
            self.oracle.fail("carried", why);
        }
    }
}

/// The keys of strong buckets.
fn strong_keys(count: usize) -> impl Iterator<Item = KeyId> {
    let keys = move |bucket| (0..count).map(move |key| (bucket, key));
    STRONG.into_iter().flat_map(keys)
}
