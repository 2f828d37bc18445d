//! What differs between the lists as they are and those of a plan.

use super::members::Candidates;
use super::{Holder, Idle, IdleCause, MemberForecast, RegionZones, Transfer};
use crate::planner::{Present, RegionPlan};
use annulet_protocol::ids::NodeId;
use annulet_protocol::table::NOBODY;
use std::collections::{BTreeMap, BTreeSet};

/// See the module. Members go by their places among the candidates.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) moving: u64,
    pub(super) dropped: u64,
    pub(super) reordered: u64,
    /// Bytes of one copy, as each member that says how much it holds has them.
    each: Vec<Option<f64>>,
    /// The same where none of the owners says it.
    usual: Option<f64>,
    flows: BTreeMap<(Option<u32>, u32), Flow>,
    held_before: Vec<u64>,
    held: Vec<u64>,
    /// Lists that name a zone twice, by region.
    shared_before: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    replicas: u64,
    bytes: f64,
}

/// The owners in the places of a list.
fn owners(places: &[u32]) -> Vec<u32> {
    let owners = places.iter().copied();
    owners.take_while(|owner| *owner != NOBODY).collect()
}

impl Tally {
    /// Compares the lists as they are with those that are wanted, of so many partitions.
    pub(super) fn of(
        candidates: &Candidates,
        stored: &BTreeMap<NodeId, u64>,
        present: &[Present],
        wanted: &[RegionPlan],
        partitions: u32,
    ) -> Self {
        let lists = |region: &Present| -> Vec<Vec<u32>> {
            let have: Vec<_> = region.owners.chunks(region.length.max(1)).collect();
            let halves = partitions as usize / have.len().max(1);
            let have = have.into_iter().map(owners);
            have.flat_map(|list| std::iter::repeat_n(list, halves))
                .collect()
        };
        let before: BTreeMap<&str, Vec<Vec<u32>>> = present
            .iter()
            .map(|region| (region.region.as_str(), lists(region)))
            .collect();
        let mut tally = Self::new(candidates, stored, &before);
        for (region, lists) in &before {
            let zone = |owner: &u32| candidates.0[*owner as usize].zone_before.as_str();
            let shared = lists.iter().filter(|list| shares_zone(list, zone)).count();
            tally
                .shared_before
                .insert((*region).to_owned(), shared as u64);
            if !wanted.iter().any(|plan| plan.region == *region) {
                lists.iter().for_each(|list| tally.compare(list, &[]));
            }
        }
        for plan in wanted {
            let lists = before.get(plan.region.as_str());
            for (at, want) in plan.owners.chunks(plan.length.max(1)).enumerate() {
                let have = lists.and_then(|lists| lists.get(at));
                tally.compare(have.map_or(&[], Vec::as_slice), want);
            }
        }
        tally
    }

    fn new(
        candidates: &Candidates,
        stored: &BTreeMap<NodeId, u64>,
        before: &BTreeMap<&str, Vec<Vec<u32>>>,
    ) -> Self {
        let mut held_before = vec![0; candidates.0.len()];
        for owner in before.values().flatten().flatten() {
            held_before[*owner as usize] += 1;
        }
        let bytes = |at: usize| {
            let id = candidates.0[at].id()?;
            stored.get(&id).map(|bytes| *bytes as f64)
        };
        let telling =
            || (0..held_before.len()).filter_map(|at| Some((held_before[at], bytes(at)?)));
        let (copies, sum) = telling()
            .filter(|(held, _)| *held > 0)
            .fold((0, 0.0), |(copies, sum), (held, bytes)| {
                (copies + held, sum + bytes)
            });
        let each = held_before.iter().enumerate().map(|(at, held)| match held {
            0 => None,
            held => Some(bytes(at)? / *held as f64),
        });
        Self {
            moving: 0,
            dropped: 0,
            reordered: 0,
            each: each.collect(),
            usual: (copies > 0).then(|| sum / copies as f64),
            flows: BTreeMap::new(),
            held: vec![0; held_before.len()],
            held_before,
            shared_before: BTreeMap::new(),
        }
    }

    /// Notes what becomes of one list.
    fn compare(&mut self, have: &[u32], want: &[u32]) {
        want.iter()
            .for_each(|owner| self.held[*owner as usize] += 1);
        let mut goes: Vec<(usize, u32)> = (0..).zip(have.iter().copied()).collect();
        goes.retain(|(_, owner)| !want.contains(owner));
        let comes = want
            .iter()
            .enumerate()
            .filter(|(_, owner)| !have.contains(owner));
        let comes: Vec<(usize, u32)> = comes.map(|(at, owner)| (at, *owner)).collect();
        if goes.is_empty() && comes.is_empty() {
            self.reordered += u64::from(have != want);
            return;
        }
        let bytes = self.bytes_of(have);
        for (at, to) in comes {
            // Best whoever stands in that very place.
            let there = goes.iter().position(|(place, _)| *place == at);
            let from = there.or((!goes.is_empty()).then_some(0));
            let from = from.map(|found| goes.remove(found).1);
            let flow = self.flows.entry((from, to)).or_default();
            flow.replicas += 1;
            flow.bytes += bytes.unwrap_or(0.0);
            self.moving += 1;
        }
        self.dropped += goes.len() as u64;
    }

    /// Bytes of one copy of a partition that these own.
    fn bytes_of(&self, owners: &[u32]) -> Option<f64> {
        let told = owners.iter().filter_map(|owner| self.each[*owner as usize]);
        let (count, sum) = told.fold((0, 0.0), |(count, sum), bytes| (count + 1, sum + bytes));
        match count {
            0 => self.usual,
            count => Some(sum / f64::from(count)),
        }
    }

    pub(super) fn moving_bytes(&self) -> Option<u64> {
        let sum: f64 = self.flows.values().map(|flow| flow.bytes).sum();
        self.usual.map(|_| sum as u64)
    }

    /// What moves; the most first.
    pub(super) fn transfers(&self, candidates: &Candidates) -> Vec<Transfer> {
        let holder = |at: u32| candidates.0[at as usize].holder;
        let transfer = |((from, to), flow): (&(Option<u32>, u32), &Flow)| Transfer {
            from: from.map(holder),
            to: holder(*to),
            replicas: flow.replicas,
            bytes: self.usual.map(|_| flow.bytes as u64),
        };
        let mut transfers: Vec<_> = self.flows.iter().map(transfer).collect();
        transfers.sort_by_key(|one| std::cmp::Reverse(one.replicas));
        transfers
    }

    pub(super) fn members(&self, candidates: &Candidates) -> Vec<MemberForecast> {
        let mut of_regions = BTreeMap::<&str, (u64, u64)>::new();
        for (at, one) in candidates.0.iter().enumerate() {
            let all = of_regions.entry(&one.then.region).or_default();
            all.0 += self.held_before[at];
            all.1 += self.held[at];
        }
        let share = |held: u64, all: u64| held as f64 / all.max(1) as f64;
        let member = |(at, one): (usize, &super::members::Standing)| {
            let all = of_regions.get(one.then.region.as_str());
            let (before, then) = all.copied().unwrap_or_default();
            MemberForecast {
                holder: one.holder,
                capacity_before: one.capacity_before,
                capacity: one.stays.then_some(one.then.capacity),
                zone: one.then.zone.clone(),
                region: one.then.region.clone(),
                replicas_before: self.held_before[at],
                replicas: self.held[at],
                share_before: share(self.held_before[at], before),
                share: share(self.held[at], then),
            }
        };
        candidates.0.iter().enumerate().map(member).collect()
    }

    pub(super) fn idle(
        &self,
        candidates: &Candidates,
        wanted: &[RegionPlan],
        partitions: u32,
    ) -> Vec<Idle> {
        let unused = wanted.iter().flat_map(|plan| &plan.unused);
        let idle = unused.map(|unused| {
            let at = unused.member as usize;
            let holder: Holder = candidates.0[at].holder;
            let cause = match self.held[at] >= u64::from(partitions) {
                true => IdleCause::InEveryList,
                false => IdleCause::ZoneInEveryList,
            };
            Idle {
                holder,
                ppm: unused.idle_ppm,
                cause,
            }
        });
        idle.collect()
    }

    pub(super) fn zones(&self, candidates: &Candidates, wanted: &[RegionPlan]) -> Vec<RegionZones> {
        let zone = |owner: &u32| candidates.0[*owner as usize].then.zone.as_str();
        let region = |plan: &RegionPlan| {
            let staying = candidates.0.iter().filter(|one| one.stays);
            let here = staying.filter(|one| one.then.region == plan.region);
            let zones: BTreeSet<&str> = here.map(|one| one.then.zone.as_str()).collect();
            let lists = plan.owners.chunks(plan.length.max(1));
            RegionZones {
                region: plan.region.clone(),
                zones: zones.len(),
                owners: plan.length,
                shared_before: self.shared_before.get(&plan.region).copied().unwrap_or(0),
                shared: lists.filter(|list| shares_zone(list, zone)).count() as u64,
            }
        };
        wanted.iter().map(region).collect()
    }
}

/// Whether two owners are in one zone.
fn shares_zone<'a>(list: &[u32], zone: impl Fn(&u32) -> &'a str) -> bool {
    let mut rest = list;
    while let Some((first, others)) = rest.split_first() {
        if others.iter().any(|other| zone(other) == zone(first)) {
            return true;
        }
        rest = others;
    }
    false
}
