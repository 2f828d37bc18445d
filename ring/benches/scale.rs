//! What the planner does with large clusters: `make scale`.
//!
//! Servers of capacities 1, 1, 2 and 4 in 12 zones, lists of three. Printed for each size: how long
//! the first table takes; and for one and for a hundred servers that join, how long the next table
//! takes and the choice of the first moves, what moves against what must, and the load of the
//! fullest server against its fair share.
//!
//! Then, for each size, the view: its bytes, what it takes in memory, how long it takes to look up
//! the owners of a key and to apply an epoch; and the epochs of one join, from the newcomer's
//! admission until it owns its share, with their bytes.
#![allow(clippy::unwrap_used)] // A benchmark that fails may as well stop.
#![allow(clippy::disallowed_methods)] // It measures time.

use std::hint::black_box;
use std::time::{Duration, Instant};

use annulet_protocol::bucket::Bucket;
use annulet_protocol::codec::{self, decode_view};
use annulet_protocol::epoch::{EpochRecord, MemberChange, MemberSettings};
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::{ChangeId, ClusterId, NodeId};
use annulet_protocol::table::RegionTable;
use annulet_protocol::view::{Member, MemberState, View};
use annulet_ring::chain::apply;
use annulet_ring::chain::course::{self, Missing};
use annulet_ring::cluster::Plan;
use annulet_ring::owners::Owners;
use annulet_ring::planner::{
    Candidate, Limits, Present, RegionPlan, Standing, Wish, build, moves, partitions_for, rebalance,
};

const ZONES: u32 = 12;
const LENGTH: usize = 3;
const LIMITS: Limits = Limits {
    total: 1_000,
    arriving: 16,
    giving: 16,
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
    plan_tables();
    println!();
    serve_views();
}

/// A number that looks like a random one.
fn mixed(index: u64) -> u64 {
    let mixed = (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

fn member(index: u32, state: MemberState) -> Member {
    let Candidate {
        capacity,
        zone,
        region,
    } = server(index);
    Member {
        id: NodeId(mixed(u64::from(index))),
        address: format!(
            "10.{}.{}.{}:7400",
            index >> 16,
            index >> 8 & 255,
            index & 255
        ),
        capacity,
        zone,
        region,
        state,
    }
}

fn view(count: u32) -> View {
    let plan = Plan {
        cluster: ClusterId([7; 16]),
        name: "scale".into(),
        seed: 1,
        epoch: 1,
        value_bytes_max: 16 << 20,
        partitions: partitions_for(count as usize, LENGTH),
        list_length: LENGTH,
        members: (0..count)
            .map(|index| member(index, MemberState::Active))
            .collect(),
        buckets: vec![Bucket::new(1, "default")],
    };
    plan.view().unwrap()
}

/// Bytes that a view takes in memory, without what the allocator adds.
fn in_memory(view: &View) -> usize {
    let texts = |m: &Member| m.address.capacity() + m.zone.capacity() + m.region.capacity();
    let bytes = |m: &Member| size_of::<Member>() + size_of::<NodeId>() + texts(m);
    let members = view.members.iter().map(bytes);
    let lists = view.table.regions.iter().map(RegionTable::size);
    members.sum::<usize>() + lists.sum::<usize>()
}

/// Nanoseconds to find the owners of a key.
fn look_up(view: &View) -> f64 {
    const LOOKUPS: u64 = 2_000_000;
    let bucket = &view.buckets[0];
    let (_, took) = timed(|| {
        for index in 0..LOOKUPS {
            black_box(Owners::of(view, bucket, KeyHash(mixed(index))));
        }
    });
    took.as_nanos() as f64 / LOOKUPS as f64
}

/// The records of one join, in which all copies are over at once, and how long the slowest took to
/// make and to apply.
fn join(mut view: View, count: u32) -> (Vec<usize>, Duration, Duration) {
    let newcomer = member(count, MemberState::Joining);
    let active = MemberChange::Set(MemberSettings {
        id: newcomer.id,
        address: newcomer.address.clone(),
        capacity: newcomer.capacity,
        zone: newcomer.zone.clone(),
        state: MemberState::Active,
    });
    let mut bytes = Vec::new();
    let (mut made, mut applied) = (Duration::ZERO, Duration::ZERO);
    let mut asked = vec![active, MemberChange::Joined(newcomer)];
    loop {
        let record = match asked.pop() {
            Some(change) => EpochRecord {
                number: view.epoch + 1,
                before: view.tip.hash,
                members: vec![change],
                ..EpochRecord::default()
            },
            None => {
                let done: Vec<_> = view.table.joint.iter().map(|j| j.partition).collect();
                let follow = || {
                    course::follow(
                        &view,
                        ChangeId::default(),
                        (&done, &[]),
                        Missing::default(),
                        LIMITS,
                    )
                };
                let (record, took) = timed(follow);
                made = made.max(took);
                let Some(record) = record.unwrap() else {
                    return (bytes, made, applied);
                };
                record
            }
        };
        bytes.push(record.encode().len());
        let (next, took) = timed(|| apply(&view, &record).unwrap());
        applied = applied.max(took);
        view = next;
    }
}

fn serve_views() {
    let titles = "servers | view | in memory | look-up | epochs of a join | bytes | longest";
    println!("| {titles} | planned | applied |");
    println!("|{}", "---|".repeat(9));
    for count in [1_000, 10_000, 50_000] {
        let bytes = codec::encode(&view(count));
        let view = decode_view(&bytes).unwrap();
        let memory = in_memory(&view) as f64 / 1e6;
        let look_up = look_up(&view);
        let (records, made, applied) = join(view, count);
        let (all, longest) = (records.iter().sum::<usize>(), records.iter().max().unwrap());
        let size = bytes.len() as f64 / 1e6;
        print!(
            "| {count} | {size:.1} MB | {memory:.1} MB | {look_up:.0} ns | {} ",
            records.len()
        );
        println!("| {all} | {longest} | {made:.0?} | {applied:.0?} |");
    }
}

fn plan_tables() {
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
            let (begun, chosen) = timed(|| moves(&lists, &next, &[], LIMITS, |_| Standing::Stays));
            let (moved, must) = moved(&plans[0], &next[0], members.len());
            let (partitions, begun) = (wish.partitions, begun.len());
            let fullest = fullest(&next[0], &members);
            print!("| {count} | {partitions} | {first:.1?} | {joins} | {planned:.1?} ");
            println!("| {begun} in {chosen:.1?} | {moved} | {must} | {fullest:.3} |");
        }
    }
}
