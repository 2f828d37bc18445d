//! When a simulated server's answers may be given: after the sync that they rest on.

use super::server::Parked;
use super::world::{Event, World};
use annulet_protocol::message::Answer;
use annulet_replica::gate::SyncPoint;
use annulet_replica::memory::Mark;
use rand::Rng;

impl World {
    pub(crate) fn sync_due(&mut self, server: usize, life: u32) {
        if self.servers[server].life == life {
            self.begin_sync(server);
        }
    }

    pub(crate) fn begin_sync(&mut self, server: usize) {
        let now_us = self.now_us;
        let at = &mut self.servers[server];
        if at.syncing {
            at.sync_again = true;
            return;
        }
        at.syncing = true;
        let (mark, point, life) = (at.store.mark(), at.last_point, at.life);
        let slow = if at.slow_disk_until_us > now_us {
            20
        } else {
            1
        };
        let took_us = self.rng.random_range(100..=self.scenario.sync_us_max) * slow;
        self.schedule(
            took_us,
            Event::SyncDone {
                server,
                life,
                mark,
                point,
            },
        );
    }

    pub(crate) fn sync_done(&mut self, server: usize, life: u32, mark: Mark, point: SyncPoint) {
        let at = &mut self.servers[server];
        if at.life != life {
            return;
        }
        at.store.sync_to(mark);
        at.gate.synced(point);
        at.syncing = false;
        let again = std::mem::take(&mut at.sync_again);
        self.chain_synced(server, mark);
        if self.servers[server].life != life {
            return;
        }
        self.release(server);
        // A server that crashed on answering has a life to come.
        if again && self.servers[server].life == life {
            self.begin_sync(server);
        }
    }

    /// Gives the answers whose time has come.
    pub(crate) fn release(&mut self, server: usize) {
        let at = &mut self.servers[server];
        let parked = std::mem::take(&mut at.parked);
        let gate = &at.gate;
        let (open, closed): (Vec<_>, Vec<_>) =
            parked.into_iter().partition(|p| gate.is_open(p.point));
        self.servers[server].parked = closed;
        for Parked {
            from,
            epoch,
            results,
            ..
        } in open
        {
            let wrote = results
                .iter()
                .any(|answer| matches!(answer, Answer::Written(_) | Answer::Minted(_)));
            self.answer(server, from, epoch, results);
            let crash = wrote && self.rng.random_bool(self.crash_after_ack());
            if crash {
                let delay_us = self.rng.random_range(0..3_000);
                self.schedule(delay_us, Event::CrashNow { server });
            }
        }
    }

    /// Counts whether the answers to a request have to wait.
    pub(crate) fn note_waiting(&mut self, server: usize, parked: &Parked) {
        let at = &self.servers[server];
        let wrote = parked
            .results
            .iter()
            .any(|a| matches!(a, Answer::Written(_) | Answer::Minted(_)));
        let name = match (at.gate.is_open(parked.point), wrote) {
            (false, true) => "write_waited",
            (false, false) => "read_waited",
            (true, true) if at.store.unsynced() > 0 => "async_answered_unsynced",
            (true, _) => return,
        };
        self.coverage.hit("gate", name);
    }
}
