//! What goes wrong, and what people do to a cluster.

use super::damage::damaged;
use super::members::Members;
use super::network::Link;
use super::server::{QUEUE_MAX, State};
use super::world::{Event, World};
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::ids::Incarnation;
use annulet_protocol::view::View;
use annulet_replica::store::{Family, Store};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest times that a server that crashed is down.
const DOWN_US: [u64; 2] = [20_000, 800_000];

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Crash,
    PowerFailure,
    Stop,
    Stall,
    SlowDisk,
    FullDisk,
    Partition,
    PartitionOneWay,
    Overload,
    ClientDies,
    Cancel,
    Damage,
    Perish,
    ServerClock,
    BumpTable,
    AddBucket,
    DeleteBucket,
    Joint,
    Arrive,
    Depart,
    LoseDisk,
    SetCapacity,
}

impl Trouble {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Crash,
        Self::PowerFailure,
        Self::Stop,
        Self::Stall,
        Self::SlowDisk,
        Self::FullDisk,
        Self::Partition,
        Self::PartitionOneWay,
        Self::Overload,
        Self::ClientDies,
        Self::Cancel,
        Self::Damage,
        Self::Perish,
        Self::ServerClock,
        Self::BumpTable,
        Self::AddBucket,
        Self::DeleteBucket,
        Self::Joint,
    ];
}

/// What the operator knows.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) rng: ChaCha8Rng,
    /// The newest view.
    pub(crate) view: Arc<View>,
    /// All views, by epoch.
    pub(crate) views: BTreeMap<u64, Arc<View>>,
    /// Servers with a temporary trouble, by its number.
    afflicted: BTreeMap<u64, usize>,
    /// The server whose clock is off, and how far it was off before.
    clock: Option<(usize, i64)>,
    pub(crate) buckets_made: u32,
    pub(crate) members: Members,
}

impl Operator {
    pub(crate) fn new(rng: ChaCha8Rng, view: Arc<View>) -> Self {
        Self {
            rng,
            views: BTreeMap::from([(view.epoch, Arc::clone(&view))]),
            view,
            afflicted: BTreeMap::new(),
            clock: None,
            buckets_made: 10,
            members: Members::default(),
        }
    }
}

impl World {
    /// Something goes wrong, and something else later.
    pub(crate) fn trouble(&mut self) {
        if self.quiet {
            return;
        }
        let gap_us = self
            .operator
            .rng
            .random_range(0..2 * self.scenario.trouble_gap_us);
        self.schedule(gap_us, Event::Trouble);
        let Some(trouble) = self
            .scenario
            .troubles
            .choose(&mut self.operator.rng)
            .copied()
        else {
            return;
        };
        let now_us = self.now_us;
        self.trace.line(now_us, || format!("trouble: {trouble:?}"));
        let server = self.operator.rng.random_range(0..self.servers.len());
        let until_us = now_us + self.operator.rng.random_range(10_000..600_000);
        match trouble {
            Trouble::Crash => self.crash(server),
            Trouble::PowerFailure => self.power_failure(),
            Trouble::Stop => self.stop(server),
            Trouble::Stall => {
                self.servers[server].stalled_until_us = until_us;
                self.coverage.hit("fault", "stall");
            }
            Trouble::SlowDisk => {
                self.servers[server].slow_disk_until_us = until_us;
                self.coverage.hit("fault", "slow_disk");
            }
            Trouble::Partition | Trouble::PartitionOneWay => self.partition(trouble, until_us),
            Trouble::Overload => {
                self.servers[server].queue_max = self.operator.rng.random_range(0..3);
                let number = self.next_number();
                self.operator.afflicted.insert(number, server);
                self.schedule_at(until_us, Event::TroubleEnds { trouble, number });
                self.coverage.hit("fault", "overload");
            }
            Trouble::FullDisk => {
                self.servers[server].disk_full = true;
                let number = self.next_number();
                self.operator.afflicted.insert(number, server);
                self.schedule_at(until_us, Event::TroubleEnds { trouble, number });
                self.coverage.hit("fault", "full_disk");
            }
            Trouble::ClientDies => self.client_dies(),
            Trouble::Cancel => self.cancel_one(),
            Trouble::Damage => self.damage_one(server),
            Trouble::Perish => self.perish(server),
            Trouble::ServerClock => self.set_clock_off(server),
            Trouble::BumpTable => self.change_view("table_bumped", |view, _| {
                view.table.epoch = view.epoch;
                true
            }),
            Trouble::AddBucket if self.scenario.decides_views => self.ask_for_change(false),
            Trouble::DeleteBucket if self.scenario.decides_views => self.ask_for_change(true),
            Trouble::AddBucket => self.add_bucket(),
            Trouble::DeleteBucket => self.delete_bucket(),
            Trouble::Joint => self.change_lists(),
            Trouble::Arrive => self.arrive(),
            Trouble::Depart => self.depart(),
            Trouble::LoseDisk => self.lose_disk(),
            Trouble::SetCapacity => self.set_capacity(),
        }
    }

    pub(crate) fn trouble_ends(&mut self, trouble: Trouble, number: u64) {
        match trouble {
            Trouble::Partition | Trouble::PartitionOneWay => self.network.heal(number),
            Trouble::Overload => {
                if let Some(server) = self.operator.afflicted.remove(&number) {
                    self.servers[server].queue_max = QUEUE_MAX;
                }
            }
            Trouble::FullDisk => {
                if let Some(server) = self.operator.afflicted.remove(&number) {
                    self.servers[server].disk_full = false;
                }
            }
            Trouble::ServerClock => self.clock_noticed(),
            _ => {}
        }
    }

    /// A server loses what it has in memory, and what it has not synced.
    pub(crate) fn crash(&mut self, server: usize) {
        let at = &mut self.servers[server];
        if self.quiet || !matches!(at.state, State::Up | State::Stopping) {
            return;
        }
        let unsynced = at.store.unsynced();
        let keep = match self.operator.rng.random_bool(0.5) {
            true => 0,
            false => self.operator.rng.random_range(0..=unsynced),
        };
        at.store.crash_keeping(keep);
        let returns = at.waiting();
        at.go_down(State::Down);
        if self.options.fault.forgets_fences() {
            at.view = Arc::clone(&at.view_before);
        }
        let life = at.life;
        self.coverage.hit("fault", "crash");
        self.note_crash();
        if keep < unsynced {
            self.coverage.hit("fault", "crash_lost_writes");
            self.oracle.lost_unsynced();
        }
        let now_us = self.now_us;
        self.trace.line(now_us, || {
            format!("s{server} crashes, keeps {keep} of {unsynced}")
        });
        for from in returns {
            if self.operator.rng.random_bool(0.5) {
                self.connection_breaks(from);
            }
        }
        // Some are back before what was sent to them is given up.
        let longest_us = DOWN_US.choose(&mut self.operator.rng).copied();
        let longest_us = longest_us.expect("not empty");
        let down_us = self.operator.rng.random_range(1_000..longest_us);
        self.schedule(down_us, Event::Restart { server, life });
    }

    fn power_failure(&mut self) {
        self.coverage.hit("fault", "power_failure");
        for server in 0..self.servers.len() {
            self.crash(server);
        }
    }

    fn stop(&mut self, server: usize) {
        let at = &mut self.servers[server];
        if at.state == State::Up {
            at.state = State::Stopping;
            let life = at.life;
            let drain_us = self.operator.rng.random_range(1_000..60_000);
            self.schedule(drain_us, Event::Stopped { server, life });
            self.coverage.hit("fault", "stop");
        }
    }

    pub(crate) fn stopped(&mut self, server: usize, life: u32) {
        let at = &mut self.servers[server];
        if at.state == State::Stopping && at.life == life {
            at.store.sync().expect("a store in memory does not fail");
            at.go_down(State::Down);
            let life = at.life;
            let down_us = self.operator.rng.random_range(1_000..500_000);
            match self.quiet {
                true => self.restart(server, life),
                false => self.schedule(down_us, Event::Restart { server, life }),
            }
        }
    }

    pub(crate) fn restart(&mut self, server: usize, life: u32) {
        let at = &mut self.servers[server];
        if at.state == State::Down && at.life == life {
            at.state = State::Up;
            if self.options.fault.renews_incarnation() {
                self.servers[server].replica.incarnation = Incarnation(self.rng.random());
            }
            let now_us = self.now_us;
            self.trace.line(now_us, || format!("s{server} is up"));
            self.begin_chain(server);
            self.begin_upkeep(server);
        }
    }

    fn partition(&mut self, trouble: Trouble, until_us: u64) {
        let number = self.next_number();
        let rng = &mut self.operator.rng;
        let servers: Vec<_> = (0..self.servers.len())
            .filter(|_| rng.random_bool(0.4))
            .collect();
        let clients: Vec<_> = (0..self.clients.len())
            .filter(|_| rng.random_bool(0.6))
            .collect();
        let one_way = trouble == Trouble::PartitionOneWay;
        let requests = !one_way || rng.random_bool(0.5);
        for (client, server) in clients
            .iter()
            .flat_map(|c| servers.iter().map(move |s| (*c, *s)))
        {
            if requests {
                self.network.cut(Link::Request(client, server), number);
            }
            if !one_way || !requests {
                self.network.cut(Link::Reply(client, server), number);
            }
        }
        for (in_one, in_other) in servers.iter().flat_map(|s| {
            let others = (0..self.servers.len()).filter(|other| !servers.contains(other));
            others.map(move |other| (*s, other))
        }) {
            self.network.cut(Link::Peer(in_one, in_other), number);
            if !one_way {
                self.network.cut(Link::Peer(in_other, in_one), number);
            }
        }
        let name = if one_way {
            "partition_one_way"
        } else {
            "partition"
        };
        self.coverage.hit("network", name);
        self.schedule_at(until_us, Event::TroubleEnds { trouble, number });
    }

    fn client_dies(&mut self) {
        let client = self.operator.rng.random_range(0..self.clients.len());
        let old_view = Arc::clone(self.clients[client].core.view());
        let first_view = self.operator.views.values().next().map(Arc::clone);
        let view = match self.operator.rng.random_bool(0.5) {
            true => first_view.unwrap_or(old_view),
            false => old_view,
        };
        self.note_old_client(&view);
        let life = self.clients[client].life + 1;
        self.session_moves(client);
        let born = self.new_client(client, life, &view);
        let dead = std::mem::replace(&mut self.clients[client], born);
        self.coverage.hit("fault", "client_dies");
        for (op, running) in dead.operations {
            self.oracle.forget(op);
            self.histories.forget(op);
            if !running.completed && matches!(running.machine, super::client::Machine::Strong(_)) {
                self.coverage.hit("fault", "client_dies_mid_round");
            }
            if !running.completed && matches!(running.machine, super::client::Machine::Write(_)) {
                self.coverage.hit("fault", "client_dies_mid_write");
            }
        }
    }

    fn cancel_one(&mut self) {
        let client = self.operator.rng.random_range(0..self.clients.len());
        let operations = &mut self.clients[client].operations;
        let running = operations
            .iter_mut()
            .find(|(_, r)| !r.completed && !r.cancelled);
        if let Some((op, running)) = running {
            running.cancelled = true;
            running.machine.cancel();
            let op = *op;
            self.oracle.forget(op);
            self.histories.forget(op);
            self.coverage.hit("fault", "cancel");
            self.settle(client);
        }
    }

    /// A bit flips on a disk, at one owner of a key only.
    fn damage_one(&mut self, server: usize) {
        let family = match self.operator.rng.random_bool(0.5) {
            true => Family::Records,
            false => Family::Values,
        };
        let entries = self.servers[server].store.entries(family);
        let Some((storage_key, value)) = entries.choose(&mut self.operator.rng) else {
            return;
        };
        let Some((_, bucket, key)) = parse_storage_key(storage_key) else {
            return;
        };
        if self
            .servers
            .iter()
            .any(|at| damaged(&at.store, bucket, key, storage_key))
        {
            return;
        }
        let bit = self.operator.rng.random_range(0..value.len() * 8);
        let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
        self.servers[server].store.damage(family, storage_key, flip);
        self.oracle.promises_end();
        self.carried.forgive(None);
        self.coverage.hit("fault", "damage");
        let now_us = self.now_us;
        self.trace.line(now_us, || {
            format!("s{server} bit {bit} of {family:?} {storage_key:?}")
        });
    }

    /// A server is gone for good, with its disk.
    fn perish(&mut self, server: usize) {
        let gone = self.servers.iter().any(|at| at.state == State::Perished);
        let rarely = self.operator.rng.random_bool(0.2);
        if gone || !rarely {
            return;
        }
        self.crash(server);
        self.servers[server].go_down(State::Perished);
        self.oracle.promises_end();
        self.carried.forgive(None);
        self.coverage.hit("fault", "perish");
    }

    /// A server's clock jumps. The server notices a little later.
    fn set_clock_off(&mut self, server: usize) {
        if self.operator.clock.is_some() {
            return;
        }
        let at = &mut self.servers[server];
        self.operator.clock = Some((server, at.skew_ms));
        let off_ms = self.operator.rng.random_range(600..5_000);
        at.skew_ms += if self.operator.rng.random_bool(0.5) {
            off_ms
        } else {
            -off_ms
        };
        self.coverage.hit("fault", "server_clock_off");
        self.clock_later();
    }

    fn clock_later(&mut self) {
        let trouble = Trouble::ServerClock;
        let number = self.next_number();
        let delay_us = self.operator.rng.random_range(50_000..500_000);
        self.schedule(delay_us, Event::TroubleEnds { trouble, number });
    }

    /// First the server distrusts its clock, then somebody sets it.
    fn clock_noticed(&mut self) {
        let Some((server, _)) = self.operator.clock else {
            return;
        };
        if self.servers[server].clock_trusted {
            self.servers[server].clock_trusted = false;
            self.coverage.hit("fault", "server_clock_distrusted");
            self.clock_later();
        } else {
            self.set_clock_right(server);
        }
    }

    pub(crate) fn set_clock_right(&mut self, server: usize) {
        if let Some((off, skew_ms)) = self.operator.clock
            && off == server
        {
            self.operator.clock = None;
            self.servers[server].skew_ms = skew_ms;
            self.servers[server].clock_trusted = true;
        }
    }
}
