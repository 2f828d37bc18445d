//! Servers that lose their keepers, begin their chain of epochs anew and come back: the real
//! chains, proposals and recoveries, from one seed, with messages that are lost, late and doubled.
//!
//! The operator asks for recoveries at random, also of servers that are only away. What holds all
//! the same: nobody leaves silently what it acted under, nobody acts under what too few hold, who
//! was sealed for a recovery goes on with it, and two servers that have heard of each other do not
//! both go on with chains that fork.
//!
//! In some runs members join and leave meanwhile, keepers among them ([`members`]); in some nothing
//! is lost for good and nobody recovers: then something can be decided in the end.

mod members;

use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::Bucket;
use annulet_protocol::epoch::{ChainAnswer, ChainQuestion, EpochRecord, Offer, Point};
use annulet_protocol::ids::{ChangeId, ClusterId, Incarnation, NodeId};
use annulet_protocol::view::{Member, MemberState, View};
use annulet_replica::chain::open::open;
use annulet_replica::chain::{Chain, Unfinished};
use annulet_replica::memory::MemoryStore;
use annulet_replica::store::Store;
use annulet_ring::chain::Relation;
use annulet_ring::chain::proposer::{Effect, Outcome, Proposer, Question};
use annulet_ring::chain::recovery::{self, Recovery, Report};
use annulet_ring::cluster::Plan;
use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What happens in one run.
const STEPS: usize = 500;
/// The same if members come and go, which takes many epochs.
const STEPS_OF_MEMBERS: usize = 2_000;
/// Nobody waits for the answer.
const NOBODY: usize = usize::MAX;
const FINE: &str = "a store in memory does not fail";

/// Where a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// It does not answer. The operator takes it to be lost, and may be wrong.
    Away,
    /// It has stopped, loudly.
    Stopped,
    /// It was a member, and is none any more.
    Left,
}

#[derive(Debug)]
struct Server {
    node: NodeId,
    store: MemoryStore,
    chain: Chain,
    state: State,
    was_member: bool,
    /// Those of the view that it acts under.
    keepers: Vec<NodeId>,
    /// All that it has ever acted under.
    acted: Vec<Point>,
}

impl Server {
    fn relation(&self, theirs: Point) -> Relation {
        self.chain.relation(&self.store, theirs).expect(FINE)
    }

    fn holds(&self, point: Point) -> bool {
        matches!(self.relation(point), Relation::Same | Relation::Behind)
    }
}

#[derive(Debug)]
enum Course {
    Proposal(Proposer),
    Recovery(Recovery),
}

#[derive(Debug)]
enum Message {
    Ask(usize, Question, ChainQuestion),
    Answer(usize, Question, ChainAnswer),
}

/// How often things have happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// A chain was begun anew.
    pub begun: usize,
    /// An epoch was settled.
    pub settled: usize,
    /// A server took what begins anew from another one.
    pub joined: usize,
    /// A server stopped.
    pub stopped: usize,
    /// Servers were sealed for nothing.
    pub interrupted: usize,
    /// A recovery took over what others had left.
    pub taken_over: usize,
    /// A server came that was not there at first.
    pub came: usize,
    /// A server learned that it has left.
    pub left: usize,
    /// Epochs had other keepers than the one before, and were acted under.
    pub kept: usize,
}

impl Seen {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            begun: self.begun + other.begun,
            settled: self.settled + other.settled,
            joined: self.joined + other.joined,
            stopped: self.stopped + other.stopped,
            interrupted: self.interrupted + other.interrupted,
            taken_over: self.taken_over + other.taken_over,
            came: self.came + other.came,
            left: self.left + other.left,
            kept: self.kept + other.kept,
        }
    }
}

/// One cluster.
#[derive(Debug)]
pub struct World {
    rng: ChaCha8Rng,
    file: View,
    servers: Vec<Server>,
    courses: Vec<Option<(usize, Course)>>,
    messages: Vec<Message>,
    ballots: u64,
    /// Who was sealed for a recovery that came to its record.
    reached: BTreeMap<ChangeId, BTreeSet<NodeId>>,
    seen: Seen,
    broken: Option<String>,
    unsealed: bool,
    recovers: bool,
    members: bool,
}

/// What happens in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Recoveries, by the same members all the time.
    Recoveries,
    /// The same, and who is asked to seal itself does not, which only builds with deliberate faults
    /// can do.
    Unsealed,
    /// Members come and go, and nobody is lost for good.
    Members,
    /// Both together.
    Both,
}

fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        address: format!("host-{id}:7400"),
        capacity: 1,
        zone: String::new(),
        region: String::new(),
        state: MemberState::Active,
    }
}

fn view(servers: u64) -> View {
    let plan = Plan {
        cluster: ClusterId([7; 16]),
        name: "recoveries".into(),
        seed: 1,
        epoch: 1,
        value_bytes_max: 1_000,
        partitions: 1,
        list_length: 3,
        members: (1..=servers).map(member).collect(),
        buckets: vec![Bucket::new(1, "default")],
    };
    plan.view().expect("a sound plan")
}

impl World {
    /// The cluster of a seed.
    pub fn new(seed: u64, kind: Kind) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let file = view(rng.random_range(2..=5));
        let mut world = Self {
            rng,
            servers: Vec::new(),
            courses: Vec::new(),
            messages: Vec::new(),
            ballots: 0,
            reached: BTreeMap::new(),
            seen: Seen::default(),
            broken: None,
            unsealed: kind == Kind::Unsealed,
            recovers: kind != Kind::Members,
            members: matches!(kind, Kind::Members | Kind::Both),
            file,
        };
        for at in 0..world.file.members.len() {
            let (store, node) = (MemoryStore::default(), world.file.members[at].id);
            let chain = world.open(&store, node, Some(world.file.clone()));
            world.servers.push(Server {
                node,
                store,
                state: State::Up,
                was_member: true,
                keepers: chain.view().tip.keepers.clone(),
                chain,
                acted: Vec::new(),
            });
        }
        world
    }

    fn open(&self, store: &MemoryStore, node: NodeId, first: Option<View>) -> Chain {
        let opened = open(store, node, first).expect(FINE);
        store.write(opened.batch).expect(FINE);
        store.sync().expect(FINE);
        #[cfg(feature = "faults")]
        if self.unsealed {
            let mut chain = opened.chain;
            chain.fault = Some(annulet_replica::chain::Fault::Unsealed);
            return chain;
        }
        assert!(!self.unsealed, "only builds with faults can");
        opened.chain
    }

    fn fail(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }

    fn place(node: NodeId) -> usize {
        node.0 as usize - 1
    }

    /// A server answers, durably.
    fn ask(&mut self, at: usize, question: &ChainQuestion) -> Option<ChainAnswer> {
        let server = &mut self.servers[at];
        if server.state != State::Up {
            return None;
        }
        let step = server.chain.handle(&server.store, question).expect(FINE);
        server.store.write(step.batch).expect(FINE);
        server.store.sync().expect(FINE);
        if let Some(why) = step.fork {
            let last = match question {
                ChainQuestion::Offer(offer) => offer.records.last().cloned(),
                _ => None,
            };
            self.stop(at, last, &why);
            return None;
        }
        if let Some(view) = step.installed {
            self.acts(at);
            self.may_leave(at, &view);
        }
        Some(step.answer)
    }

    /// A server acts under a new view.
    fn acts(&mut self, at: usize) {
        let view = Arc::clone(self.servers[at].chain.view());
        let point = view.point();
        let keepers = &view.tip.keepers;
        let held = keepers
            .iter()
            .filter(|keeper| self.servers[Self::place(**keeper)].holds(point));
        if held.count() <= keepers.len() / 2 {
            self.fail(format!(
                "settled: {at} acts under {point:?}, which too few hold"
            ));
        }
        let server = &mut self.servers[at];
        self.seen.kept += usize::from(view.tip.keepers != server.keepers);
        server.keepers.clone_from(&view.tip.keepers);
        server.acted.push(point);
        let left = server
            .acted
            .iter()
            .find(|point| !server.holds(**point))
            .copied();
        if let Some(left) = left {
            self.fail(format!("silent: {at} has left {left:?}"));
        }
    }

    /// A server stops: its newest epoch is not on the chain that holds a record. If it was sealed
    /// for the recovery that began the last generation of that, it must not have to.
    fn stop(&mut self, at: usize, record: Option<Bytes>, why: &str) {
        self.seen.stopped += 1;
        self.servers[at].state = State::Stopped;
        self.drop_courses(at);
        if !self.recovers {
            self.fail(format!(
                "forks: {at} stops, though nothing was begun anew: {why}"
            ));
        }
        let Some((generation, id)) = record.and_then(|record| self.recovery_of(&record)) else {
            return;
        };
        let server = &self.servers[at];
        let reached = self.reached.get(&id);
        let reached = reached.is_some_and(|nodes| nodes.contains(&server.node));
        if reached && server.chain.newest().generation < generation {
            self.fail(format!("sealed: {at} was, and stops all the same: {why}"));
        }
    }

    /// The generation of a record, and the recovery that began it.
    fn recovery_of(&self, record: &Bytes) -> Option<(u64, ChangeId)> {
        let record = EpochRecord::decode(record).ok()?;
        let holders = self.servers.iter().filter(|s| s.holds(record.point()));
        let mut all = holders.filter_map(|server| {
            let all = server.chain.offer_after(&server.store, self.file.point());
            all.expect(FINE)
        });
        let all = all.next()?.records;
        let mut all = all
            .iter()
            .filter_map(|bytes| EpochRecord::decode(bytes).ok());
        let begins = all.find(|of| of.generation == record.generation)?;
        Some((begins.generation, begins.change))
    }

    fn drop_courses(&mut self, at: usize) {
        for course in &mut self.courses {
            if course.as_ref().is_some_and(|(on, _)| *on == at) {
                *course = None;
            }
        }
    }

    fn begin(&mut self, at: usize, course: Course) -> usize {
        self.courses.push(Some((at, course)));
        self.courses.len() - 1
    }

    fn propose(&mut self, at: usize) {
        let chain = &self.servers[at].chain;
        if self.servers[at].state != State::Up || chain.is_sealed() {
            return;
        }
        let view = Arc::clone(chain.view());
        self.ballots += 1;
        let number = self.ballots;
        let mut proposer = match chain.unfinished() {
            Some(Unfinished::Held(record)) => Proposer::spreading(&view, record),
            Some(Unfinished::Accepted(_)) | None => {
                let Some(record) = self.wanted(at, &view, number) else {
                    return;
                };
                let proposer = Incarnation([at as u8; 16]);
                Proposer::new(&view, record.encode(), Ballot { number, proposer })
            }
        };
        let effects = proposer.start();
        let number = self.begin(at, Course::Proposal(proposer));
        self.carry_out(number, effects);
    }

    fn recover(&mut self, at: usize) {
        if !self.recovers || self.servers[at].state != State::Up {
            return;
        }
        self.ballots += 1;
        let id = ChangeId((u128::from(self.ballots) | 1 << 100).to_be_bytes());
        let chain = &self.servers[at].chain;
        let base = (View::clone(chain.newest_view()), chain.first());
        let node = self.servers[at].node;
        let mut recovery = Recovery::new(node, id, base, true, true);
        let effects = recovery.start();
        let number = self.begin(at, Course::Recovery(recovery));
        self.go_on(number, effects);
    }

    fn go_on(&mut self, number: usize, effects: Vec<recovery::Effect>) {
        for effect in effects {
            let Some((at, Course::Recovery(_))) = self.courses[number] else {
                return;
            };
            match effect {
                recovery::Effect::Ask(question, asked) => {
                    self.messages.push(Message::Ask(number, question, asked));
                }
                recovery::Effect::Take(records) => {
                    self.seen.taken_over += usize::from(records.len() > 1);
                    let point = self.servers[at].chain.view().point();
                    let offer = ChainQuestion::Offer(Offer::new(records, point, point));
                    let answer = self.ask(at, &offer);
                    let Some((_, Course::Recovery(recovery))) = &mut self.courses[number] else {
                        return;
                    };
                    let effects = match answer {
                        Some(ChainAnswer::Holds(_)) => recovery.handle_taken(),
                        other => recovery.handle_not_taken(format!("{other:?}")),
                    };
                    self.go_on(number, effects);
                }
                recovery::Effect::Done(report) => {
                    self.courses[number] = None;
                    self.recovered(at, *report);
                }
            }
        }
    }

    fn recovered(&mut self, at: usize, report: Report) {
        match report.outcome {
            recovery::Outcome::Begun(record, _) => {
                self.seen.begun += 1;
                let id = EpochRecord::decode(&record).expect("its own").change;
                // Whose chain begins later does not see that an earlier recovery gave somebody up.
                let server = &self.servers[at];
                let is_on = |newest| server.chain.offer_after(&server.store, newest).expect(FINE);
                let mut answer = report.members;
                answer.retain(|found| found.newest.and_then(is_on).is_some());
                let answer = answer.into_iter().map(|found| found.id).collect();
                self.reached.insert(id, answer);
            }
            recovery::Outcome::Interrupted(_) => self.seen.interrupted += 1,
            recovery::Outcome::Possible(_)
            | recovery::Outcome::Behind(_)
            | recovery::Outcome::Refused(_) => {}
        }
    }

    fn carry_out(&mut self, number: usize, effects: Vec<Effect>) {
        for effect in effects {
            let Some((at, Course::Proposal(_))) = self.courses[number] else {
                return;
            };
            match effect {
                Effect::Ask(question, asked) => {
                    self.messages.push(Message::Ask(number, question, asked));
                }
                Effect::Bring(question, after) => {
                    let server = &self.servers[at];
                    let offer = server.chain.offer_after(&server.store, after);
                    match offer.expect(FINE) {
                        Some(offer) => {
                            let asked = ChainQuestion::Offer(offer);
                            self.messages.push(Message::Ask(number, question, asked));
                        }
                        None => self.failed(number, question),
                    }
                }
                Effect::Take(record) => {
                    let point = self.servers[at].chain.view().point();
                    let offer = Offer::new(vec![record], point, point);
                    let answer = self.ask(at, &ChainQuestion::Offer(offer));
                    let Some((_, Course::Proposal(proposer))) = &mut self.courses[number] else {
                        return;
                    };
                    match answer {
                        Some(ChainAnswer::Holds(_)) => {
                            let effects = proposer.handle_taken();
                            self.carry_out(number, effects);
                        }
                        _ => self.courses[number] = None,
                    }
                }
                Effect::Done(outcome) => {
                    self.courses[number] = None;
                    if let Outcome::Settled(record) = outcome {
                        self.settled(at, record);
                    }
                }
            }
        }
    }

    /// A record may be acted under: all are told.
    fn settled(&mut self, at: usize, record: Bytes) {
        self.seen.settled += 1;
        let point = EpochRecord::decode(&record).expect("a record").point();
        let offer = ChainQuestion::Offer(Offer::new(vec![record], point, point));
        self.ask(at, &offer);
        for server in &self.servers {
            let question = Question {
                node: server.node,
                name: 0,
            };
            self.messages
                .push(Message::Ask(NOBODY, question, offer.clone()));
        }
    }

    fn failed(&mut self, number: usize, question: Question) {
        match self.courses.get_mut(number) {
            Some(Some((_, Course::Proposal(proposer)))) => {
                let effects = proposer.handle_failure(question);
                self.carry_out(number, effects);
            }
            Some(Some((_, Course::Recovery(recovery)))) => {
                let effects = recovery.handle_failure(question, "no answer".into());
                self.go_on(number, effects);
            }
            Some(None) | None => {}
        }
    }

    fn deliver(&mut self, at: usize, twice: bool) {
        match self.messages.swap_remove(at) {
            Message::Ask(number, question, asked) => {
                match self.ask(Self::place(question.node), &asked) {
                    Some(answer) => {
                        let answer = Message::Answer(number, question, answer);
                        self.messages.push(answer);
                    }
                    None => self.failed(number, question),
                }
                if twice {
                    self.messages.push(Message::Ask(number, question, asked));
                }
            }
            Message::Answer(number, question, answer) => {
                let Some(Some((at, course))) = self.courses.get_mut(number) else {
                    return;
                };
                match course {
                    Course::Proposal(proposer) => {
                        let effects = proposer.handle_answer(question, answer);
                        self.carry_out(number, effects);
                    }
                    Course::Recovery(recovery) => {
                        let relation = match &answer {
                            ChainAnswer::Stands(stands) => {
                                self.servers[*at].relation(stands.newest)
                            }
                            _ => Relation::Same,
                        };
                        let effects = recovery.handle_answer(question, answer, relation);
                        self.go_on(number, effects);
                    }
                }
            }
        }
    }

    fn lose(&mut self, at: usize) {
        let (Message::Ask(number, question, _) | Message::Answer(number, question, _)) =
            self.messages.swap_remove(at);
        self.failed(number, question);
    }

    fn crash(&mut self, at: usize) {
        let server = &self.servers[at];
        server.store.crash();
        let first = self.file.member(server.node).map(|_| self.file.clone());
        self.servers[at].chain = self.open(&server.store, server.node, first);
        self.drop_courses(at);
    }

    /// One server hears where another stands, and takes what that has more.
    fn hear(&mut self, at: usize, from: usize) {
        let (server, other) = (&self.servers[at], &self.servers[from]);
        if at == from || server.state != State::Up || other.state != State::Up {
            return;
        }
        let theirs = other.chain.view().point();
        let ours = server.chain.newest();
        match server.relation(theirs) {
            Relation::Ahead => {
                let deltas = other.chain.deltas(&other.store, ours).expect(FINE);
                if deltas.fork {
                    let all = other.chain.offer_after(&other.store, self.file.point());
                    let all = all.expect(FINE).map(|offer| offer.records);
                    let mut all = all.into_iter().flatten();
                    let acted = all.find(|bytes| {
                        EpochRecord::decode(bytes).is_ok_and(|of| of.point() == theirs)
                    });
                    return self.stop(at, acted, "it heard of another chain");
                }
                let offer = Offer::new(deltas.records, deltas.newest, deltas.newest);
                self.ask(at, &ChainQuestion::Offer(offer));
                let now = self.servers[at].chain.newest();
                self.seen.joined += usize::from(now.generation > ours.generation);
            }
            Relation::Same => {
                let offer = Offer::new(Vec::new(), theirs, theirs);
                self.ask(at, &ChainQuestion::Offer(offer));
            }
            Relation::Fork => self.stop(at, None, "it heard of another chain"),
            Relation::Behind | Relation::Abandoned => {}
        }
    }

    fn step(&mut self) {
        let count = self.servers.len();
        let server = self.rng.random_range(0..count);
        let other = self.rng.random_range(0..count);
        let state = self.servers[server].state;
        let messages = self.messages.len();
        match self.rng.random_range(0..64) {
            0 | 1 => self.propose(server),
            62 => self.comes(server),
            2 => self.recover(server),
            3 if state == State::Up => self.crash(server),
            4 if state == State::Up => {
                self.servers[server].state = State::Away;
                self.drop_courses(server);
            }
            5 if state == State::Away => {
                self.crash(server);
                self.servers[server].state = State::Up;
            }
            6..10 => self.hear(server, other),
            _ if messages == 0 => self.propose(server),
            10 | 11 => {
                let at = self.rng.random_range(0..messages);
                self.lose(at);
            }
            kind => {
                let at = self.rng.random_range(0..messages);
                self.deliver(at, kind % 8 == 0);
            }
        }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Says which rule does not hold.
    pub fn run(mut self) -> Result<Seen, String> {
        let steps = match self.members {
            true => STEPS_OF_MEMBERS,
            false => STEPS,
        };
        for _ in 0..steps {
            self.step();
            if let Some(why) = self.broken {
                return Err(why);
            }
        }
        self.quiet();
        self.goes_on();
        match self.broken {
            Some(why) => Err(why),
            None => Ok(self.seen),
        }
    }

    /// Nothing goes wrong any more: those that serve hear of each other, and are on one chain.
    fn quiet(&mut self) {
        self.messages.clear();
        let count = self.servers.len();
        for at in 0..count {
            if self.servers[at].state == State::Away {
                self.servers[at].state = State::Up;
            }
            self.crash(at);
        }
        for _ in 0..3 {
            for at in (0..2 * count).map(|at| at % count) {
                (0..count).for_each(|from| self.hear(at, from));
            }
            // What was begun and is held comes to its end.
            for at in 0..count {
                if self.servers[at].chain.unfinished().is_some() {
                    self.propose(at);
                }
                while !self.messages.is_empty() && self.broken.is_none() {
                    self.deliver(0, false);
                }
            }
        }
        let up = || self.servers.iter().filter(|of| of.state == State::Up);
        for one in up() {
            for other in up() {
                let (ours, theirs) = (one.chain.view().point(), other.chain.view().point());
                if !one.holds(theirs) && !other.holds(ours) {
                    return self.fail(format!("diverged: {ours:?} and {theirs:?} are served"));
                }
            }
        }
    }
}
