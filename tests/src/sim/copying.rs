//! When servers come to own something, and own it no more: they empty it, copy it, hand it over.

use super::server::State;
use super::upkeep::Asked;
use super::world::{GROUP, World};
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::{parse_storage_key, storage_key};
use annulet_protocol::ids::{Incarnation, OpId};
use annulet_protocol::message::{Answer, Operation};
use annulet_protocol::record::{Origin, Record};
use annulet_protocol::view::View;
use annulet_replica::copy::handover::Round;
use annulet_replica::copy::{Copier, Errand};
use annulet_replica::holdings::{Holding, Holdings};
use annulet_replica::layout;
use annulet_replica::rules::{Mutation, Task};
use annulet_replica::store::{Batch, Change, Family, Store};
use bytes::Bytes;
use std::sync::Arc;

impl World {
    /// A server that starts goes on where its notes say.
    pub(crate) fn begin_copying(&mut self, server: usize) {
        let at = &mut self.servers[server];
        #[cfg(feature = "faults")]
        let fault = at.upkeep.copier.fault;
        let mut copier = Copier::load(&at.store).expect("notes are never damaged here");
        // Moves are soon over here, and a majority is asked only now and then.
        (copier.pause_ms, copier.failures_max) = (20, 1);
        at.upkeep.copier = copier;
        #[cfg(feature = "faults")]
        (at.upkeep.copier.fault = fault);
        let noted = Holdings::load(&at.store).expect("notes are never damaged here");
        at.unready = noted.unready;
    }

    /// The next steps of it.
    pub(crate) fn copy(&mut self, server: usize) {
        let at = &mut self.servers[server];
        let (view, own) = (Arc::clone(&at.view), at.replica.node);
        let emptied = at.upkeep.emptier.step(&at.store, &view, &at.unready);
        let emptied = emptied.expect("a store in memory does not fail");
        let stale = at.upkeep.copier.follow(&view, own);
        self.note_tasks(server, emptied);
        self.note_tasks(server, stale);
        self.ask_for_pages(server);
        self.hand_over(server);
    }

    fn ask_for_pages(&mut self, server: usize) {
        let now_ms = self.server_ms(server);
        loop {
            let at = &mut self.servers[server];
            let (view, own) = (Arc::clone(&at.view), at.replica.node);
            let copier = &mut at.upkeep.copier;
            let Some(mut errand) = copier.next(own, &at.unready, now_ms) else {
                return;
            };
            if errand.compare(&at.store, &view).is_err() {
                // What is damaged here is brought back first.
                copier.put_off(&errand);
                continue;
            }
            let number = self.next_number();
            let asked = vec![Operation::CopyArc(errand.asked.clone())];
            self.ask_peer(server, number, errand.owner, asked);
            let asked = Asked::Page(errand);
            self.servers[server].upkeep.asked.insert(number, asked);
        }
    }

    /// An owner has told what it holds, or why it does not.
    pub(crate) fn page_comes(&mut self, server: usize, errand: &Errand, answers: Vec<Answer>) {
        let Some(Answer::Copied(page)) = answers.into_iter().next() else {
            return self.servers[server].upkeep.copier.handle_failure(errand);
        };
        let tasks = self.servers[server]
            .upkeep
            .copier
            .handle_answer(errand, page);
        for task in &tasks {
            self.note_task(task);
        }
        if tasks.iter().any(|task| matches!(task, Task::Copied { .. })) {
            self.note_copied(server);
        }
        let epoch = self.servers[server].view.ordinal();
        let mutations = tasks.iter().cloned().map(Mutation::Task);
        let mutations: Vec<_> = mutations.map(|mutation| (epoch, mutation)).collect();
        let (answers, _) = self.decide_writes(server, &mutations);
        let at = &mut self.servers[server];
        let durable = |task: &Task| matches!(task, Task::Note { durable: true, .. });
        if tasks.last().is_some_and(durable) {
            at.store.sync().expect("a store in memory does not fail");
        }
        at.upkeep.copier.handle_done(errand, &tasks, &answers);
        self.ask_for_pages(server);
    }

    fn hand_over(&mut self, server: usize) {
        let now_ms = self.server_ms(server);
        let at = &mut self.servers[server];
        let (view, own) = (Arc::clone(&at.view), at.replica.node);
        let noted = Holdings::load(&at.store).expect("notes are never damaged here");
        let handover = &mut at.upkeep.handover;
        let round = handover.round(&at.store, &view, own, &noted, now_ms);
        // What is damaged is nobody's to hand over.
        if let Ok(Some(round)) = round {
            self.handover_goes_on(server, round);
        }
    }

    fn handover_goes_on(&mut self, server: usize, round: Round) {
        if round.is_empty() {
            return self.handover_ends(server, round);
        }
        let number = self.next_number();
        let questions: Vec<_> = round.questions().collect();
        for (owner, operations) in questions {
            self.coverage.hit("upkeep", "handed_over");
            self.ask_peer(server, number, owner, operations);
        }
        let asked = Asked::Handover(round);
        self.servers[server].upkeep.asked.insert(number, asked);
    }

    pub(crate) fn handover_ends(&mut self, server: usize, round: Round) {
        match round.end() {
            Ok(next) => self.handover_goes_on(server, next),
            Err(ended) => {
                let now_ms = self.server_ms(server);
                let handover = &mut self.servers[server].upkeep.handover;
                let tasks = handover.handle_end(ended, now_ms);
                self.note_tasks(server, tasks);
            }
        }
    }

    /// A server is about to gain arcs of which it still has something of an earlier time: what was
    /// deleted and forgotten elsewhere in the meantime.
    pub(crate) fn make_ghosts(&mut self, server: usize, view: &View, gained: &[Holding]) {
        let Some(bucket) = view.bucket(GROUP) else {
            return;
        };
        let ghosts = (0..GHOSTS).map(|number| Bytes::from(format!("{GHOST}{number}")));
        let mut batch = Batch::new();
        for key in ghosts {
            let hash = view.hash(GROUP, &key);
            if gained.iter().any(|holding| holding.covers(bucket, hash)) {
                let op = OpId {
                    client: Incarnation([1; 16]),
                    sequence: 1,
                    first_sent_ms: 1,
                };
                let stamp = Stamp::at(1);
                let origin = Origin { stamp, op };
                let record = Record::seal(GROUP, &key, origin, Some(Bytes::new()), None);
                let entry = layout::encode_whole(&record);
                let place = storage_key(hash, GROUP, &key);
                batch.push(Change::Put(Family::Records, place, entry));
            }
        }
        if !batch.is_empty() {
            self.coverage.hit("view", "ghosts");
        }
        let store = &self.servers[server].store;
        store.write(batch).expect("a store in memory does not fail");
    }

    /// Nobody who owns an arc holds what was forgotten before it was theirs.
    pub(crate) fn check_ghosts(&mut self) {
        for (server, at) in self.servers.iter().enumerate() {
            if at.state == State::Perished {
                continue;
            }
            let entries = at.store.entries(Family::Records).into_iter();
            let ghost = entries.map(|(key, _)| key).find(|key| {
                parse_storage_key(key)
                    .is_some_and(|(_, _, name)| name.starts_with(GHOST.as_bytes()))
            });
            if let Some(ghost) = ghost {
                let why = format!("s{server} still has {ghost:?}");
                return self.oracle.fail("ghost", why);
            }
        }
    }
}

/// The beginning of a key that nobody wrote in this run.
const GHOST: &str = "ghost ";
/// How many of them there are, all over the ring.
const GHOSTS: usize = 16;
