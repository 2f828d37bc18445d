//! Changes of buckets while everything else goes on: administrators ask servers for them, which
//! propose them to the keepers, die in the middle, and finish what others began.

use super::chain::{ChainEvent, Message, Then};
use super::scenario::Micros;
use super::server::State;
use super::world::{Event, World};
use annulet_protocol::bucket::{Bucket, Durability};
use annulet_protocol::epoch::{
    BucketCommand, ChainAnswer, ChainQuestion, DeleteBucket, EpochRecord, Offer, SetBucket,
};
use annulet_protocol::ids::{ChangeId, Incarnation};
use annulet_protocol::level::Level;
use annulet_replica::chain::Unfinished;
use annulet_ring::chain::proposer::{Effect, Outcome, Proposer, Question};
use annulet_ring::chain::{self, Objection};
use bytes::Bytes;
use rand::Rng;

/// How long an answer is waited for.
const PATIENCE_US: Micros = 200_000;
/// How long a server tries to make a change.
const CHANGE_US: Micros = 1_500_000;
/// How long others are given for what they began.
const FINISH_AFTER_US: Micros = 500_000;
/// Names that buckets are given, few enough that they meet.
const NAMES: u32 = 5;

/// One attempt of a server.
#[derive(Debug)]
pub(crate) struct Attempt {
    number: u64,
    proposer: Proposer,
    /// For whom; nobody: something is finished.
    change: Option<Change>,
}

/// What an administrator asked for.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    id: ChangeId,
    command: BucketCommand,
    until_us: Micros,
}

impl World {
    /// An administrator asks a server for something, and now and then another server for the same
    /// or for something else at once.
    pub(crate) fn ask_for_change(&mut self, deletes: bool) {
        let command = self.draw_command(deletes);
        let change = self.new_change(command);
        self.hand_in(change.clone());
        match self.operator.rng.random_range(0..6) {
            0 => self.hand_in(change),
            1 => {
                let command = self.draw_command(!deletes);
                let other = self.new_change(command);
                self.hand_in(other);
            }
            _ => {}
        }
    }

    fn new_change(&mut self, command: BucketCommand) -> Change {
        Change {
            id: ChangeId(self.operator.rng.random()),
            command,
            until_us: self.now_us + CHANGE_US,
        }
    }

    fn draw_command(&mut self, deletes: bool) -> BucketCommand {
        let rng = &mut self.operator.rng;
        let name = format!("bucket {}", rng.random_range(0..NAMES));
        if deletes {
            return BucketCommand::Delete(DeleteBucket { name, number: None });
        }
        if rng.random_bool(0.3) {
            return BucketCommand::Set(SetBucket {
                name,
                number: None,
                read_level: rng.random_bool(0.5).then_some(Level::Quorum),
                write_level: rng.random_bool(0.5).then_some(Level::All),
                ttl_ms: rng.random_bool(0.5).then(|| rng.random_range(0..600)),
            });
        }
        BucketCommand::Create(Bucket {
            replicas: rng.random_range(1..=3),
            durability: match rng.random_bool(0.5) {
                true => Durability::Group,
                false => Durability::Async,
            },
            ..Bucket::new(0, &name)
        })
    }

    fn hand_in(&mut self, change: Change) {
        let server = self.operator.rng.random_range(0..self.servers.len());
        self.begin_change(server, change);
    }

    /// A server begins to make a change, unless it is at another one.
    pub(crate) fn begin_change(&mut self, server: usize, change: Change) {
        let at = &self.servers[server];
        let Some(part) = &at.part else { return };
        if at.state != State::Up || part.attempt.is_some() || self.now_us > change.until_us {
            return self.coverage.hit("chain", "change_given_up");
        }
        if self.chain_is_busy(server) {
            let (life, change) = (at.life, Box::new(change));
            let event = ChainEvent::Again {
                server,
                life,
                change,
            };
            return self.schedule(1_000, Event::Chain(event));
        }
        let made = part.chain.made(&at.store, change.id);
        if let Some(record) = made.expect("notes are never damaged here") {
            return self.acknowledge(server, &change, &record);
        }
        match chain::propose(&at.view, change.id, &change.command) {
            Ok(record) => self.begin_attempt(server, record.encode(), Some(change)),
            Err(Objection::Conflict(_)) => self.coverage.hit("chain", "conflict"),
            Err(Objection::Invalid(_)) => self.coverage.hit("chain", "invalid"),
        }
    }

    fn begin_attempt(&mut self, server: usize, own: Bytes, change: Option<Change>) {
        let number = self.next_number();
        let life = self.servers[server].life;
        let incarnation = Incarnation((u128::from(life) << 64 | server as u128).to_be_bytes());
        let at = &mut self.servers[server];
        let Some(part) = &mut at.part else { return };
        let mut proposer = match part.chain.unfinished() {
            Some(Unfinished::Held(record)) => Proposer::spreading(&at.view, record),
            Some(Unfinished::Accepted(_)) | None => {
                part.turn = part.turn.next(incarnation);
                Proposer::new(&at.view, own, part.turn)
            }
        };
        let effects = proposer.start();
        part.attempt = Some(Attempt {
            number,
            proposer,
            change,
        });
        self.coverage.hit("chain", "attempt");
        self.carry_out_attempt(server, number, effects);
    }

    /// The attempt of this number, if it is still under way.
    fn attempt_of(&mut self, server: usize, number: u64) -> Option<&mut Attempt> {
        let attempt = self.servers[server].part.as_mut()?.attempt.as_mut()?;
        (attempt.number == number).then_some(attempt)
    }

    fn carry_out_attempt(&mut self, server: usize, number: u64, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Ask(question, asked) => self.ask_keeper(server, number, question, asked),
                Effect::Bring(question, after) => {
                    let at = &self.servers[server];
                    let Some(part) = &at.part else { return };
                    let offer = part.chain.offer_after(&at.store, after);
                    let offer = offer.expect("notes are never damaged here");
                    self.coverage.hit("chain", "brought");
                    match offer {
                        Some(offer) => {
                            let asked = ChainQuestion::Offer(offer);
                            self.ask_keeper(server, number, question, asked);
                        }
                        None => self.attempt_fails(server, number, question),
                    }
                }
                Effect::Take(record) => {
                    let settled = self.servers[server].view.point();
                    let offer = Offer::new(vec![record], settled, settled);
                    let offer = ChainQuestion::Offer(offer);
                    self.ask_chain(server, &offer, Then::Taken(number));
                }
                Effect::Done(outcome) => self.attempt_over(server, number, outcome),
            }
        }
    }

    fn ask_keeper(
        &mut self,
        server: usize,
        attempt: u64,
        question: Question,
        asked: ChainQuestion,
    ) {
        let life = self.servers[server].life;
        let to = self.server_of(question.node);
        let event = ChainEvent::Over {
            server,
            life,
            attempt,
            question,
        };
        self.schedule(PATIENCE_US, Event::Chain(event));
        if to == server {
            let then = Then::Answer {
                to,
                life,
                attempt,
                question,
            };
            return self.ask_chain(server, &asked, then);
        }
        let message = Message::Ask {
            life,
            attempt,
            question,
            asked,
        };
        self.tell(server, to, message);
    }

    pub(crate) fn attempt_answered(
        &mut self,
        (server, life, attempt): (usize, u32, u64),
        question: Question,
        answer: ChainAnswer,
    ) {
        if self.servers[server].life != life {
            return;
        }
        if matches!(answer, ChainAnswer::Decided(_)) {
            self.coverage.hit("chain", "decided_already");
        }
        let Some(under_way) = self.attempt_of(server, attempt) else {
            return;
        };
        let effects = under_way.proposer.handle_answer(question, answer);
        self.may_die(server);
        self.carry_out_attempt(server, attempt, effects);
    }

    /// Whoever proposes may die at every step, and others with it. Whoever asked for something goes
    /// to another server then, and so do those that want something else.
    fn may_die(&mut self, server: usize) {
        if self.quiet || !self.rng.random_bool(self.scenario.proposer_dies) {
            return;
        }
        self.coverage.hit("chain", "proposer_died");
        for other in 0..self.servers.len() {
            if other == server || self.rng.random_bool(0.4) {
                let delay_us = self.rng.random_range(0..2_000);
                self.schedule(delay_us, Event::CrashNow { server: other });
            }
        }
        let attempt = self.servers[server].part.as_ref();
        let attempt = attempt.and_then(|part| part.attempt.as_ref());
        let same = attempt.and_then(|attempt| attempt.change.clone());
        let change = match same.filter(|_| self.rng.random_bool(0.5)) {
            Some(change) => change,
            None => {
                let command = self.draw_command(false);
                self.new_change(command)
            }
        };
        for _ in 0..3 {
            let server = self.rng.random_range(0..self.servers.len());
            let delay_us = self.rng.random_range(10_000..800_000);
            let change = Box::new(change.clone());
            self.schedule(delay_us, Event::Chain(ChainEvent::Asked { server, change }));
        }
    }

    /// A question is not waited for any longer.
    pub(crate) fn attempt_fails(&mut self, server: usize, attempt: u64, question: Question) {
        if let Some(under_way) = self.attempt_of(server, attempt) {
            let effects = under_way.proposer.handle_failure(question);
            self.carry_out_attempt(server, attempt, effects);
        }
    }

    /// The decided record is durable here.
    pub(crate) fn attempt_taken(&mut self, server: usize, attempt: u64, answer: &ChainAnswer) {
        if let (Some(under_way), ChainAnswer::Holds(_)) = (self.attempt_of(server, attempt), answer)
        {
            let effects = under_way.proposer.handle_taken();
            self.may_die(server);
            self.carry_out_attempt(server, attempt, effects);
        }
    }

    fn attempt_over(&mut self, server: usize, number: u64, outcome: Outcome) {
        if self.attempt_of(server, number).is_none() {
            return;
        }
        let Some(part) = &mut self.servers[server].part else {
            return;
        };
        let Some(attempt) = part.attempt.take() else {
            return;
        };
        let again_us = match outcome {
            Outcome::Settled(record) => {
                let decoded = EpochRecord::decode(&record).expect("a record that was accepted");
                self.coverage.hit("chain", "settled");
                if attempt
                    .change
                    .as_ref()
                    .is_none_or(|c| c.id != decoded.change)
                {
                    self.coverage.hit("chain", "finished_for_others");
                }
                let point = decoded.point();
                let offer = Offer::new(vec![record], point, point);
                let then = Then::Concluded(Box::new(decoded));
                self.ask_chain(server, &ChainQuestion::Offer(offer), then);
                1_000
            }
            Outcome::Unsettled(_) => {
                self.coverage.hit("chain", "unsettled");
                100_000
            }
            Outcome::Lost(ballot) => {
                part.turn = part.turn.max(ballot);
                self.coverage.hit("chain", "lost");
                10_000
            }
            Outcome::Unreachable { .. } => {
                self.coverage.hit("chain", "unreachable");
                100_000
            }
        };
        if let Some(change) = attempt.change.filter(|_| !self.quiet) {
            let delay_us = self.rng.random_range(again_us..2 * again_us);
            let life = self.servers[server].life;
            let change = Box::new(change);
            let event = ChainEvent::Again {
                server,
                life,
                change,
            };
            self.schedule(delay_us, Event::Chain(event));
        }
    }

    /// A settled record is acted under here: the others are told.
    pub(crate) fn attempt_concluded(&mut self, server: usize, record: EpochRecord) {
        let point = record.point();
        let offer = ChainQuestion::Offer(Offer::new(vec![record.encode()], point, point));
        for other in (0..self.servers.len()).filter(|other| *other != server) {
            // Nobody waits for the answer.
            let question = Question {
                node: self.servers[other].replica.node,
                name: 0,
            };
            let message = Message::Ask {
                life: self.servers[server].life,
                attempt: 0,
                question,
                asked: offer.clone(),
            };
            self.tell(server, other, message);
        }
    }

    fn acknowledge(&mut self, server: usize, change: &Change, record: &EpochRecord) {
        self.coverage.hit("chain", "acknowledged");
        let (number, now_us) = (record.number, self.now_us);
        self.trace.line(now_us, || {
            format!(
                "s{server} acknowledges {:?} in epoch {number}",
                change.command
            )
        });
        let before = self.decided.acknowledged.insert(number, change.id);
        if before.is_some_and(|before| before != change.id) {
            let why = format!("epoch {number} made two changes");
            self.oracle.fail("acknowledged", why);
        }
    }

    /// Finishes what somebody began, and has not finished for some time.
    pub(crate) fn finish_chain(&mut self, server: usize) {
        let now_us = self.now_us;
        let Some(part) = &mut self.servers[server].part else {
            return;
        };
        let Some(unfinished) = part.chain.unfinished() else {
            part.unfinished_us = None;
            return;
        };
        let since_us = *part.unfinished_us.get_or_insert(now_us);
        let patience_us = self.rng.random_range(FINISH_AFTER_US..2 * FINISH_AFTER_US);
        let busy = part.attempt.is_some() || self.chain_is_busy(server);
        if busy || now_us < since_us + patience_us {
            return;
        }
        if let Some(part) = &mut self.servers[server].part {
            part.unfinished_us = None;
        }
        let (Unfinished::Accepted(record) | Unfinished::Held(record)) = unfinished;
        self.coverage.hit("chain", "finished_later");
        self.begin_attempt(server, record, None);
    }
}
