//! The end of a run: everything heals, everything is read, and then the owners must agree.

use super::damage::damaged;
use super::scenario::Micros;
use super::server::{QUEUE_MAX, State};
use super::workload::{Action, Errand};
use super::world::{Event, World, key_bytes};
use annulet_protocol::bucket::Mode;
use annulet_protocol::hash::storage_key;
use annulet_protocol::level::Level;
use annulet_replica::store::{Family, Store};
use annulet_ring::owners::Owners;
use std::sync::Arc;

/// Longer than any timeout and any time to live.
const QUIET_US: Micros = 4_000_000;
/// How long everything may take to be read and repaired.
const READ_US: Micros = 2_500_000;
const READ_TIMEOUT_MS: u64 = 2_000;

impl World {
    /// From now on nothing goes wrong.
    pub(crate) fn become_quiet(&mut self) {
        self.quiet = true;
        let now_us = self.now_us;
        self.trace.line(now_us, || "quiet".into());
        self.network.calm();
        self.scenario.from_the_future = 0.0;
        self.finish_move();
        let view = Arc::clone(&self.operator.view);
        for at in &mut self.servers {
            at.view = Arc::clone(&view);
            at.queue_max = QUEUE_MAX;
            at.disk_full = false;
            at.slow_disk_until_us = 0;
            at.stalled_until_us = at.stalled_until_us.min(now_us + 1_000);
        }
        for server in 0..self.servers.len() {
            self.set_clock_right(server);
            let at = &self.servers[server];
            match at.state {
                State::Down => self.restart(server, at.life),
                State::Stopping => self.stopped(server, at.life),
                State::Up | State::Perished => {}
            }
        }
        self.schedule(QUIET_US, Event::ReadEverything);
    }

    /// A new client reads every key from every owner that can answer.
    pub(crate) fn read_everything(&mut self) {
        let view = Arc::clone(&self.operator.view);
        let client = self.clients.len();
        let born = self.new_client(client, 0, &view);
        self.clients.push(born);
        for bucket in view.buckets.iter().filter(|b| b.mode == Mode::Lww) {
            for key in 0..self.scenario.keys {
                let healthy = self.healthy_owners(bucket.number, key).len();
                if healthy == 0 {
                    continue;
                }
                let read = healthy as u8;
                let owners: u8 = self.oracle.owners((bucket.number, key)).iter().sum();
                let errand = Errand {
                    bucket: bucket.clone(),
                    key,
                    level: Some(Level::Explicit { read, write: 1 }),
                    timeout_ms: READ_TIMEOUT_MS,
                    action: Action::Get,
                    // What is found must be held by all but `read - 1` owners before it is shown.
                    must_succeed: owners < 2 * read,
                };
                self.call(client, errand);
            }
        }
        self.schedule(READ_US, Event::Compare);
    }

    /// Servers that own a key and can say what they hold.
    fn healthy_owners(&self, bucket: u32, key: usize) -> Vec<usize> {
        let view = &self.operator.view;
        let key = key_bytes(key);
        let hash = view.hash(bucket, &key);
        let bucket = view.bucket(bucket).expect("a bucket of this view");
        let storage_key = storage_key(hash, bucket.number, &key);
        let owners = Owners::of(view, bucket, hash);
        let servers = owners.all().map(|node| self.server_of(node));
        servers
            .filter(|server| {
                let at = &self.servers[*server];
                at.state != State::Perished
                    && !damaged(&at.store, bucket.number, &key, &storage_key)
            })
            .collect()
    }

    /// Owners that can answer hold the same bytes of every key.
    pub(crate) fn compare(&mut self) {
        let view = Arc::clone(&self.operator.view);
        for bucket in view.buckets.iter().filter(|b| b.mode == Mode::Lww) {
            for key in 0..self.scenario.keys {
                let bytes = key_bytes(key);
                let hash = view.hash(bucket.number, &bytes);
                let storage_key = [storage_key(hash, bucket.number, &bytes)];
                let healthy = self.healthy_owners(bucket.number, key);
                let held = |server: &usize| {
                    let store = &self.servers[*server].store;
                    let of = |family| store.read(family, &storage_key);
                    (of(Family::Records), of(Family::Values))
                };
                let all: Vec<_> = healthy.iter().map(held).collect();
                if all.windows(2).any(|pair| pair[0] != pair[1]) {
                    let heads: Vec<_> = all.iter().map(|(record, _)| record).collect();
                    let why = format!("key {key} of `{}` at {healthy:?}: {heads:?}", bucket.name);
                    self.oracle.fail("convergence", why);
                }
            }
        }
        if let Some((op, _)) = self.clients.iter().flat_map(|c| &c.operations).next() {
            let why = format!("operation {op} goes on for ever");
            self.oracle.fail("deadline", why);
        }
    }
}
