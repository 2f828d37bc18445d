//! What the planner does with large clusters: `make scale`.
//!
//! Servers of capacities 1, 1, 2 and 4 in 12 zones, lists of three. Printed for each size: how long
//! the first table takes; and for one and for a hundred servers that join, how long the next table
//! takes and the choice of the first moves, what moves against what must, and the load of the
//! fullest server against its fair share.
#![allow(clippy::unwrap_used)] // A benchmark that fails may as well stop.
#![allow(clippy::disallowed_methods)] // It measures time.

use std::time::{Duration, Instant};

use annulet_ring::planner::{
    Candidate, Limits, Present, RegionPlan, Wish, build, moves, partitions_for, rebalance,
};

const ZONES: u32 = 12;
const LENGTH: usize = 3;
const LIMITS: Limits = Limits {
    total: 1_000,
    arriving: 8,
    giving: 8,
};

fn server(index: u32) -> Candidate {
    Candidate {
        capacity: [1, 1, 2, 4][(index / ZONES) as usize % 4],
        zone: format!("zone-{:02}", index % ZONES),
        region: String::new(),
    }
}

/// What it gives, and how long that took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let made = work();
    (made, began.elapsed())
}

fn present(plan: &RegionPlan) -> Present {
    Present {
        region: plan.region.clone(),
        length: plan.length,
        owners: plan.owners.clone(),
    }
}

/// How many replicas each member holds.
fn held(plan: &RegionPlan, members: usize) -> Vec<u32> {
    let mut held = vec![0; members];
    plan.owners
        .iter()
        .for_each(|owner| held[*owner as usize] += 1);
    held
}

/// The load of the fullest server, where its fair share is one.
fn fullest(plan: &RegionPlan, members: &[Option<Candidate>]) -> f64 {
    let capacity =
        |member: &Option<Candidate>| member.as_ref().map_or(0.0, |m| f64::from(m.capacity));
    let all: f64 = members.iter().map(capacity).sum();
    let level = plan.owners.len() as f64 / all;
    let loads = held(plan, members.len());
    let load =
        |(held, member): (&u32, &Option<Candidate>)| f64::from(*held) / (level * capacity(member));
    loads.iter().zip(members).map(load).fold(0.0, f64::max)
}

/// Replicas that move, and the fewest that can.
fn moved(before: &RegionPlan, after: &RegionPlan, members: usize) -> (usize, u32) {
    let lists = before
        .owners
        .chunks(LENGTH)
        .zip(after.owners.chunks(LENGTH));
    let new =
        |(old, new): (&[u32], &[u32])| new.iter().filter(|owner| !old.contains(owner)).count();
    let [old, now] = [before, after].map(|plan| held(plan, members));
    let gained = old
        .iter()
        .zip(&now)
        .map(|(old, now)| now.saturating_sub(*old));
    (lists.map(new).sum(), gained.sum())
}

fn main() {
    let titles = "servers | partitions | first table | joins | next table | first moves";
    println!("| {titles} | moved | must | fullest |");
    println!("|{}", "---|".repeat(9));
    for count in [1_000, 10_000, 50_000] {
        let servers: Vec<_> = (0..count).map(server).collect();
        let wish = Wish {
            partitions: partitions_for(count as usize, LENGTH),
            list_length: LENGTH,
        };
        let (plans, first) = timed(|| build(&servers, &wish).unwrap());
        let lists = [present(&plans[0])];
        for joins in [1, 100] {
            let all = (0..count + joins).map(server);
            let members: Vec<_> = all.map(Some).collect();
            let (next, planned) = timed(|| rebalance(&lists, &members, &wish).unwrap());
            let (begun, chosen) = timed(|| moves(&lists, &next, &[], LIMITS, |_| true));
            let (moved, must) = moved(&plans[0], &next[0], members.len());
            let (partitions, begun) = (wish.partitions, begun.len());
            let fullest = fullest(&next[0], &members);
            print!("| {count} | {partitions} | {first:.1?} | {joins} | {planned:.1?} ");
            println!("| {begun} in {chosen:.1?} | {moved} | {must} | {fullest:.3} |");
        }
    }
}
