//! Whether a server can be stopped without anybody noticing but its own absence.
//!
//! A stop is safe if every quorum that the server is part of can still be had from the others, in
//! every region and from both lists of a partition that moves; if the keepers still have a
//! majority; and if the server holds nothing that others should have by now. Lists that it does not
//! stand in do not count: whether it runs changes nothing for them.

use crate::owners::{current_lists, next_lists};
use crate::quorum::majority;
use annulet_protocol::epoch::{number_of, ordinal};
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::View;
use std::collections::{BTreeMap, BTreeSet};

/// What a server knows of itself and of the others when it is asked.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// The view that it acts under.
    pub view: &'a View,
    /// The server.
    pub own: NodeId,
    /// Peers that answer, each with the ordinal of the newest epoch that it holds.
    pub peers: &'a BTreeMap<NodeId, u64>,
    /// Whether it has asked others what it missed since its start.
    pub has_begun: bool,
    /// Records that it keeps for owners that were away.
    pub hints: &'a BTreeMap<NodeId, u64>,
    /// Records that were minted here and that other owners may lack.
    pub unspread: u64,
    /// Arcs that it owns no more and has still to hand over.
    pub handing_over: usize,
    /// Whether it is not known here what became of a vote for the next epoch.
    pub undecided: bool,
}

/// A reason to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The server does not serve yet: it does not know how things are.
    Starting,
    /// Peers are at a higher epoch.
    Behind(u64),
    /// Partitions would have no quorum in buckets of so many replicas.
    Quorum {
        /// Replicas of the buckets.
        replicas: u8,
        /// How many partitions.
        partitions: u32,
        /// Other owners of them that do not answer or are behind. Nobody: there are too few owners
        /// to do without one.
        missing: BTreeSet<NodeId>,
    },
    /// Too few keepers would be left to decide on anything.
    Keepers {
        /// Other keepers that answer and are not behind.
        others: usize,
        /// All keepers.
        keepers: usize,
    },
    /// Records wait here for an owner that was away.
    Hints {
        /// The owner.
        owner: NodeId,
        /// How many.
        records: u64,
    },
    /// Records were minted here that other owners may lack.
    Unspread(u64),
    /// Arcs have still to be handed over to those who own them now.
    HandingOver(usize),
    /// It is not known here what became of a vote for the next epoch.
    Undecided,
}

/// Peers whose answers matter: those that own something together with this server, and the keepers
/// if it is one.
#[must_use]
pub fn to_ask(view: &View, own: NodeId) -> BTreeSet<NodeId> {
    let mut peers = BTreeSet::new();
    each_list(view, |_, list| {
        if list.contains(&own) {
            peers.extend(list.iter().copied());
        }
    });
    if view.tip.keepers.contains(&own) {
        peers.extend(view.tip.keepers.iter().copied());
    }
    peers.remove(&own);
    peers
}

/// Why a server should not be stopped now; nothing: it can be.
#[must_use]
pub fn reasons(known: &Surroundings<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if !known.has_begun {
        reasons.push(Reason::Starting);
    }
    let newest = known.peers.values().copied().max().unwrap_or(0);
    if newest > known.view.ordinal() {
        reasons.push(Reason::Behind(number_of(newest)));
    }
    reasons.extend(lost_quorums(known));
    reasons.extend(lost_keepers(known));
    let hints = known.hints.iter().filter(|(_, records)| **records > 0);
    reasons.extend(hints.map(|(owner, records)| Reason::Hints {
        owner: *owner,
        records: *records,
    }));
    if known.unspread > 0 {
        reasons.push(Reason::Unspread(known.unspread));
    }
    if known.handing_over > 0 {
        reasons.push(Reason::HandingOver(known.handing_over));
    }
    if known.undecided {
        reasons.push(Reason::Undecided);
    }
    reasons
}

/// Each list of each partition, in every region, as it is and as it is to be.
fn each_list(view: &View, mut look: impl FnMut(u32, &[NodeId])) {
    for partition in 0..view.table.partitions {
        let next = view.table.joint(partition);
        let next = next
            .map(|joint| next_lists(view, joint))
            .unwrap_or_default();
        let lists = current_lists(view, partition).into_iter().chain(next);
        lists.for_each(|list| look(partition, &list));
    }
}

/// What would be lost, by the number of replicas of buckets.
fn lost_quorums(known: &Surroundings<'_>) -> Vec<Reason> {
    let Surroundings {
        view, own, peers, ..
    } = *known;
    let replicas: BTreeSet<u8> = view.buckets.iter().map(|bucket| bucket.replicas).collect();
    let mut lost = BTreeMap::<u8, (BTreeSet<u32>, BTreeSet<NodeId>)>::new();
    each_list(view, |partition, list| {
        let since = view.table.lists_epoch(partition);
        // Where it acts under an epoch of an earlier generation it serves nobody.
        let since = ordinal(view.tip.generation, since);
        let answers = |node: &NodeId| peers.get(node).is_some_and(|epoch| *epoch >= since);
        for replicas in &replicas {
            let prefix = &list[..list.len().min(usize::from(*replicas))];
            if !prefix.contains(&own) {
                continue;
            }
            let others = || prefix.iter().filter(|node| **node != own);
            if others().filter(|node| answers(node)).count() < majority(prefix.len()) {
                let (partitions, missing) = lost.entry(*replicas).or_default();
                partitions.insert(partition);
                missing.extend(others().filter(|node| !answers(node)));
            }
        }
    });
    let reason = |(replicas, (partitions, missing)): (u8, (BTreeSet<u32>, _))| Reason::Quorum {
        replicas,
        partitions: partitions.len() as u32,
        missing,
    };
    lost.into_iter().map(reason).collect()
}

fn lost_keepers(known: &Surroundings<'_>) -> Option<Reason> {
    let keepers = &known.view.tip.keepers;
    if !keepers.contains(&known.own) {
        return None;
    }
    let knows = |node: &NodeId| {
        let epoch = known.peers.get(node);
        *node != known.own && epoch.is_some_and(|epoch| *epoch >= known.view.ordinal())
    };
    let others = keepers.iter().filter(|node| knows(node)).count();
    (others < majority(keepers.len())).then_some(Reason::Keepers {
        others,
        keepers: keepers.len(),
    })
}

impl Reason {
    /// The reason for people, and what to do.
    #[must_use]
    pub fn describe(&self, view: &View) -> String {
        let place = |id: &NodeId| match view.member(*id) {
            Some(member) => member.address.clone(),
            None => format!("server {id}"),
        };
        match self {
            Self::Starting => "it does not serve yet: ask again in a moment".into(),
            Self::Behind(epoch) => format!(
                "it is at epoch {}, others are at {epoch}: ask again in a moment",
                view.epoch
            ),
            Self::Quorum {
                replicas,
                partitions,
                missing,
            } => {
                let of = format!(
                    "{partitions} partitions would have no quorum in buckets of {replicas} \
                     replicas ({})",
                    buckets_of(view, *replicas)
                );
                let missing: Vec<_> = missing.iter().take(NAMED_MAX).map(place).collect();
                match missing.is_empty() {
                    true => format!("{of}: their owners are too few to do without one of them"),
                    false => format!(
                        "{of}: wait until {} answers and has the newest epoch",
                        missing.join(", ")
                    ),
                }
            }
            Self::Keepers { others, keepers } => format!(
                "it is one of {keepers} keepers, and {others} of the others answer with the newest \
                 epoch: too few to change a bucket or a member without it"
            ),
            Self::Hints { owner, records } => format!(
                "{records} records wait here for {}: let that one come back first",
                place(owner)
            ),
            Self::Unspread(records) => format!(
                "{records} records were written here first and are not known to be everywhere: \
                 they are sent on within moments"
            ),
            Self::HandingOver(arcs) => format!(
                "{arcs} arcs that it owns no more are still to be handed over: it does so by \
                 itself while their owners answer"
            ),
            Self::Undecided => "it does not know yet what became of a change: that is found out \
                                within moments"
                .into(),
        }
    }
}

/// Most servers and buckets that a reason names.
const NAMED_MAX: usize = 5;

fn buckets_of(view: &View, replicas: u8) -> String {
    let buckets = || view.buckets.iter().filter(|b| b.replicas == replicas);
    let named: Vec<_> = buckets().take(NAMED_MAX).map(|b| b.name.as_str()).collect();
    match buckets().count() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests;
