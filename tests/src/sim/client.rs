//! A simulated client: a core, its running operations, and the calls it has out.

use super::Fault;
use super::levels::PerRegion;
use super::network::Link;
use super::scenario::Micros;
use super::server::{Return, State};
use super::workload::Errand;
use super::world::{Event, World};
use annulet::core::client::{Core, Home, Now};
use annulet::core::read::{ReadDone, ReadOperation};
use annulet::core::write::{WriteDone, WriteOperation};
use annulet::core::{Attempt, Coordinator, Effect, Effects, Response, Send, SendFailure};
use annulet::{Error, ErrorKind, Outcome};
use annulet_protocol::codec;
use annulet_protocol::ids::{Incarnation, NodeId};
use annulet_protocol::message::{Answer, Operation, Request};
use annulet_protocol::view::View;
use bytes::Bytes;
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Longest time that messages wait to go together.
const GATHER_US_MAX: Micros = 300;
/// Messages that go together at most.
const TOGETHER_MAX: usize = 6;

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) core: Core,
    /// Counts its lives; what belonged to an earlier one is ignored.
    pub(crate) life: u32,
    mono_offset_ms: u64,
    pub(crate) skew_ms: i64,
    pub(crate) operations: BTreeMap<u64, Running>,
    outbox: BTreeMap<(NodeId, u64), Vec<(u64, Send)>>,
    sending: bool,
    calls: BTreeMap<u64, Call>,
    wake_us: Option<Micros>,
    wanted_epoch: u64,
    fetching: bool,
}

/// A request that was sent.
#[derive(Debug)]
struct Call {
    server: usize,
    sent_us: Micros,
    messages: Vec<(u64, NodeId, Attempt)>,
    /// The client still waits for its answer.
    open: bool,
}

/// An operation under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) machine: Machine,
    /// What the application asked for.
    errand: Errand,
    pub(crate) deadline_us: Micros,
    pub(crate) completed: bool,
    pub(crate) cancelled: bool,
    /// Whom it sent a message of its first phase, since it last started.
    asked: BTreeSet<NodeId>,
    /// What it sent since it last started.
    sent: BTreeSet<Attempt>,
    /// Who answered something that counts to that.
    answered: BTreeSet<NodeId>,
}

/// A coordinator of either kind.
#[derive(Debug)]
pub(crate) enum Machine {
    Get(ReadOperation),
    Exists(ReadOperation),
    Write(WriteOperation),
}

/// An effect of either kind.
#[derive(Debug)]
pub(crate) enum Step {
    Send(Send),
    NeedView(u64),
    Read(Result<ReadDone, Error>),
    Written(Result<WriteDone, Error>),
}

/// What made a coordinator do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Start,
    Response,
    View,
    Timer,
}

fn steps<T>(effects: Effects<T>, done: fn(Result<T, Error>) -> Step) -> Vec<Step> {
    let step = |effect| match effect {
        Effect::Send(send) => Step::Send(send),
        Effect::NeedView(epoch) => Step::NeedView(epoch),
        Effect::Complete(result) => done(result),
    };
    effects.into_iter().map(step).collect()
}

/// Calls one coordinator of either kind.
macro_rules! with {
    ($machine:expr, $it:ident => $call:expr) => {
        match $machine {
            Machine::Get($it) | Machine::Exists($it) => steps($call, Step::Read),
            Machine::Write($it) => steps($call, Step::Written),
        }
    };
}

impl Machine {
    pub(crate) fn next_wake_ms(&self) -> Option<u64> {
        match self {
            Self::Get(it) | Self::Exists(it) => it.next_wake_ms(),
            Self::Write(it) => it.next_wake_ms(),
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        match self {
            Self::Get(it) | Self::Exists(it) => it.is_finished(),
            Self::Write(it) => it.is_finished(),
        }
    }

    pub(crate) fn cancel(&mut self) {
        match self {
            Self::Get(it) | Self::Exists(it) => it.cancel(),
            Self::Write(it) => it.cancel(),
        }
    }
}

impl Running {
    pub(crate) fn new(machine: Machine, errand: Errand, deadline_us: Micros) -> Self {
        Self {
            machine,
            errand,
            deadline_us,
            completed: false,
            cancelled: false,
            asked: BTreeSet::new(),
            sent: BTreeSet::new(),
            answered: BTreeSet::new(),
        }
    }
}

impl Running {
    /// Whether a response may count towards the operation's quorum.
    fn counts(&self, response: &Response) -> bool {
        match response {
            Ok(Answer::Written(_)) => matches!(self.machine, Machine::Write(_)),
            Ok(Answer::Found(_) | Answer::FoundHead(_) | Answer::Absent(_)) => true,
            Ok(Answer::Refused(_) | Answer::Unknown) | Err(_) => false,
        }
    }
}

impl Client {
    pub(crate) fn new(
        incarnation: Incarnation,
        view: Arc<View>,
        region: usize,
        fault: Fault,
    ) -> Self {
        let home = Home {
            zone: String::new(),
            region: format!("r{region}"),
        };
        #[allow(unused_mut)]
        let mut core = Core::new(incarnation, view, home);
        core.check_one_in = 3;
        match fault {
            Fault::None => {}
            #[cfg(feature = "faults")]
            Fault::Replica(_) => {}
            #[cfg(feature = "faults")]
            Fault::Client(fault) => core.fault = Some(fault),
        }
        Self {
            core,
            life: 0,
            mono_offset_ms: 0,
            skew_ms: 0,
            operations: BTreeMap::new(),
            outbox: BTreeMap::new(),
            sending: false,
            calls: BTreeMap::new(),
            wake_us: None,
            wanted_epoch: 0,
            fetching: false,
        }
    }

    pub(crate) fn set_clocks(&mut self, mono_offset_ms: u64, skew_ms: i64) {
        self.mono_offset_ms = mono_offset_ms;
        self.skew_ms = skew_ms;
    }
}

impl World {
    pub(crate) fn client_now(&self, client: usize) -> Now {
        let at = &self.clients[client];
        Now {
            mono_ms: self.now_us / 1_000 + at.mono_offset_ms,
            wall_ms: self.true_ms().saturating_add_signed(at.skew_ms),
        }
    }

    /// When a client's monotonic clock shows this.
    pub(crate) fn at_mono(&self, client: usize, mono_ms: u64) -> Micros {
        mono_ms
            .saturating_sub(self.clients[client].mono_offset_ms)
            .saturating_mul(1_000)
    }

    /// Begins an operation that has been made.
    pub(crate) fn start(&mut self, client: usize, op: u64, running: Running) {
        let (now, life) = (self.client_now(client), self.clients[client].life);
        let check_us = running.deadline_us + 1;
        self.schedule_at(check_us, Event::DeadlineOver { client, life, op });
        let at = &mut self.clients[client];
        let Client {
            core, operations, ..
        } = at;
        let running = operations.entry(op).or_insert(running);
        let steps = with!(&mut running.machine, it => it.start(core, now));
        self.carry_out(client, op, Cause::Start, steps);
        self.settle(client);
    }

    fn respond(
        &mut self,
        client: usize,
        op: u64,
        from: (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
    ) {
        let now = self.client_now(client);
        let Client {
            core, operations, ..
        } = &mut self.clients[client];
        let Some(running) = operations.get_mut(&op) else {
            return;
        };
        if running.sent.contains(&from.1) && running.counts(&response) {
            running.answered.insert(from.0);
        }
        let steps =
            with!(&mut running.machine, it => it.handle_response(core, now, from, epoch, response));
        self.carry_out(client, op, Cause::Response, steps);
    }

    pub(crate) fn client_wakes(&mut self, client: usize, life: u32) {
        let at = &mut self.clients[client];
        if at.life != life || at.wake_us != Some(self.now_us) {
            return;
        }
        at.wake_us = None;
        let now = self.client_now(client);
        let due: Vec<_> = self.clients[client]
            .operations
            .iter()
            .filter(|(_, r)| r.machine.next_wake_ms().is_some_and(|at| at <= now.mono_ms))
            .map(|(op, _)| *op)
            .collect();
        for op in due {
            let Client {
                core, operations, ..
            } = &mut self.clients[client];
            let Some(running) = operations.get_mut(&op) else {
                continue;
            };
            let steps = with!(&mut running.machine, it => it.handle_timer(core, now));
            if running
                .machine
                .next_wake_ms()
                .is_some_and(|at| at <= now.mono_ms)
            {
                let why = format!("operation {op} wants to wake at once, again and again");
                self.oracle.fail("deadline", why);
            }
            self.carry_out(client, op, Cause::Timer, steps);
        }
        self.settle(client);
    }

    /// A view has come in: every operation is told.
    fn tell_view(&mut self, client: usize, view: &Arc<View>) {
        let now = self.client_now(client);
        let all: Vec<_> = self.clients[client].operations.keys().copied().collect();
        for op in all {
            let Client {
                core, operations, ..
            } = &mut self.clients[client];
            let Some(running) = operations.get_mut(&op) else {
                continue;
            };
            let steps = with!(&mut running.machine, it => it.handle_view(core, now, view));
            self.carry_out(client, op, Cause::View, steps);
        }
        self.settle(client);
    }

    /// Does what a coordinator says.
    fn carry_out(&mut self, client: usize, op: u64, cause: Cause, steps: Vec<Step>) {
        let restarted = cause == Cause::View && steps.iter().any(|s| matches!(s, Step::Send(_)));
        if let Some(running) = self.clients[client]
            .operations
            .get_mut(&op)
            .filter(|_| restarted)
        {
            running.asked.clear();
            running.sent.clear();
            running.answered.clear();
            let name = match running.machine {
                Machine::Write(_) => "write_restarted",
                Machine::Get(_) | Machine::Exists(_) => "read_restarted",
            };
            self.coverage.hit("path", name);
        }
        for step in steps {
            self.note_step(client, op, cause, &step);
            match step {
                Step::Send(send) => {
                    let at = &mut self.clients[client];
                    at.outbox
                        .entry((send.node, send.epoch))
                        .or_default()
                        .push((op, send));
                    if !at.sending {
                        at.sending = true;
                        let life = at.life;
                        let wait_us = self.rng.random_range(0..GATHER_US_MAX);
                        self.schedule(wait_us, Event::ClientSends { client, life });
                    }
                }
                Step::NeedView(epoch) => self.want_view(client, epoch),
                Step::Read(result) => self.read_ends(client, op, result),
                Step::Written(result) => self.write_ends(client, op, result),
            }
        }
    }

    /// Checks a step against the rules that hold for every operation, and counts it.
    fn note_step(&mut self, client: usize, op: u64, cause: Cause, step: &Step) {
        let now_us = self.now_us;
        self.trace.note(&[now_us, op, cause as u64]);
        self.trace
            .line(now_us, || format!("c{client} op{op} {cause:?} -> {step:?}"));
        let Some(running) = self.clients[client].operations.get_mut(&op) else {
            return;
        };
        if running.cancelled {
            self.oracle.fail(
                "deadline",
                format!("operation {op} was cancelled, and {step:?}"),
            );
        }
        let Step::Send(send) = step else {
            if let Step::Read(_) | Step::Written(_) = step
                && running.completed
            {
                self.oracle
                    .fail("deadline", format!("operation {op} completed twice"));
            }
            return;
        };
        if now_us > running.deadline_us {
            let why = format!("operation {op} sent a message after its deadline: {send:?}");
            self.oracle.fail("deadline", why);
        }
        running.sent.insert(send.attempt);
        let exists = matches!(running.machine, Machine::Exists(_));
        let path = match &send.operation {
            Operation::Write(write) if matches!(running.machine, Machine::Write(_)) => {
                self.oracle.minted(op, &write.record);
                let again = !running.asked.insert(send.node);
                match (running.completed, again) {
                    (true, _) => Some("write_went_on_after_ack"),
                    (false, true) => Some("retry"),
                    (false, false) => None,
                }
            }
            Operation::Write(_) if running.completed => Some("background_repair"),
            Operation::Write(_) => Some("blocking_repair"),
            Operation::Read(_) if running.completed => Some("background_check"),
            Operation::Read(read) if exists && !read.head_only => Some("fetch_for_exists"),
            Operation::Read(_) => match (running.asked.insert(send.node), cause) {
                (false, _) => Some("retry"),
                (true, Cause::Timer) => Some("asked_another"),
                (true, _) => None,
            },
            Operation::Unknown => None,
        };
        if let Some(name) = path {
            self.coverage.hit("path", name);
        }
    }

    /// Sends what has gathered.
    pub(crate) fn client_sends(&mut self, client: usize, life: u32) {
        if self.clients[client].life != life {
            return;
        }
        self.clients[client].sending = false;
        let outbox = std::mem::take(&mut self.clients[client].outbox);
        for ((node, epoch), mut messages) in outbox {
            while !messages.is_empty() {
                let rest = messages.split_off(messages.len().min(TOGETHER_MAX));
                self.send_call(client, node, epoch, messages);
                messages = rest;
            }
        }
    }

    fn send_call(&mut self, client: usize, node: NodeId, epoch: u64, sends: Vec<(u64, Send)>) {
        if sends.len() > 1 {
            self.coverage.hit("network", "batch");
        }
        let server = self.server_of(node);
        let messages = sends
            .iter()
            .map(|(op, s)| (*op, s.node, s.attempt))
            .collect();
        let budget_ms = sends.iter().map(|(_, s)| s.budget_ms).min().unwrap_or(0);
        let request = Request {
            cluster: self.clients[client].core.view().cluster,
            epoch,
            budget_ms,
            operations: sends.into_iter().map(|(_, s)| s.operation).collect(),
        };
        let call = self.next_number();
        let life = self.clients[client].life;
        self.clients[client].calls.insert(
            call,
            Call {
                server,
                sent_us: self.now_us,
                messages,
                open: true,
            },
        );
        let patience_ms = self.scenario.patience_ms.min(u64::from(budget_ms) + 1);
        self.schedule(patience_ms * 1_000, Event::CallFails { client, life, call });
        let link = Link::Request(client, server);
        let unreachable = self.network.is_cut(link) && self.rng.random_bool(0.5)
            || matches!(self.servers[server].state, State::Down | State::Perished);
        if unreachable {
            let delay_us = self.rng.random_range(100..3_000);
            return self.schedule(delay_us, Event::CallNotSent { client, life, call });
        }
        let bytes = Bytes::from(codec::encode(&request));
        let fate = self.network.fate(link);
        match fate.copies.len() {
            0 => self.coverage.hit("network", "request_lost"),
            1 => {}
            _ => {
                self.coverage.hit("network", "request_duplicated");
                for operation in &request.operations {
                    if let Operation::Write(write) = operation {
                        self.oracle.doubled(write.record.head.version);
                    }
                }
            }
        }
        if fate.spike {
            self.coverage.hit("network", "delay_spike");
        }
        for delay_us in fate.copies {
            let (from, bytes) = (Return::Client(client, life, call), bytes.clone());
            let event = Event::RequestArrives {
                server,
                from,
                bytes,
            };
            self.schedule(delay_us, event);
        }
    }

    /// A call has no answer. `sent`: it may have arrived.
    pub(crate) fn call_fails(&mut self, client: usize, life: u32, call: u64, sent: bool) {
        let at = &mut self.clients[client];
        let Some(open) = at
            .calls
            .get_mut(&call)
            .filter(|c| at.life == life && c.open)
        else {
            return;
        };
        open.open = false;
        let messages = open.messages.clone();
        let name = if sent { "unanswered" } else { "not_sent" };
        self.coverage.hit("network", name);
        for (op, node, attempt) in messages {
            let failure = match sent {
                true => SendFailure::Unanswered("no answer".into()),
                false => SendFailure::NotSent("connection refused".into()),
            };
            self.respond(client, op, (node, attempt), None, Err(failure));
        }
        self.settle(client);
    }

    pub(crate) fn reply_arrives(
        &mut self,
        (client, life, call): (usize, u32, u64),
        bytes: Result<Bytes, Bytes>,
        sent_us: Micros,
    ) {
        let now = self.client_now(client);
        let at = &mut self.clients[client];
        let Some(known) = at.calls.get_mut(&call).filter(|_| at.life == life) else {
            return;
        };
        let in_time = std::mem::take(&mut known.open);
        let (messages, server) = (known.messages.clone(), known.server);
        let took_us = self.now_us - known.sent_us;
        if !in_time {
            self.coverage.hit("network", "late_reply");
        }
        let reply = match bytes {
            Err(bytes) => return self.call_rejected(client, messages, &bytes),
            Ok(bytes) => codec::decode_reply(&bytes).expect("a server's reply is well-formed"),
        };
        if in_time {
            let (node, load) = (reply.node, reply.load);
            self.clients[client]
                .core
                .note_reply(node, now, took_us, reply.time_ms, load);
            // The core takes the way back for half of the whole.
            let off_us = (self.now_us - sent_us).abs_diff(took_us / 2);
            let skew_ms = self.servers[server].skew_ms.unsigned_abs();
            self.oracle.clock_sample(skew_ms + off_us / 1_000 + 2);
        }
        for ((op, node, attempt), answer) in messages.into_iter().zip(reply.results) {
            self.note_answer(&answer);
            self.respond(client, op, (node, attempt), Some(reply.epoch), Ok(answer));
        }
        if reply.epoch > self.clients[client].core.view().epoch && self.rng.random_bool(0.2) {
            self.want_view(client, reply.epoch);
        }
        self.settle(client);
    }

    fn note_answer(&mut self, answer: &Answer) {
        let name = match answer {
            Answer::Found(_) => "found",
            Answer::FoundHead(_) => "found_head",
            Answer::Absent(_) => "absent",
            Answer::Written(written) if written.superseded.is_some() => "superseded",
            Answer::Written(_) => "written",
            Answer::Refused(refusal) => {
                return self.coverage.hit("refusal", refusal.kind.as_str());
            }
            Answer::Unknown => "unknown",
        };
        self.coverage.hit("answer", name);
    }

    fn call_rejected(
        &mut self,
        client: usize,
        messages: Vec<(u64, NodeId, Attempt)>,
        bytes: &Bytes,
    ) {
        let failure = codec::decode_failure(bytes).expect("a server's failure is well-formed");
        self.coverage.hit("failure", failure.kind.as_str());
        for (op, node, attempt) in messages {
            let error = Error::new(ErrorKind::Overloaded, failure.message.clone());
            let rejected = SendFailure::Rejected(error, failure.retry_after_ms);
            self.respond(client, op, (node, attempt), None, Err(rejected));
        }
        self.settle(client);
    }

    fn read_ends(&mut self, client: usize, op: u64, result: Result<ReadDone, Error>) {
        let Some((exists, errand)) = self.note_end(client, op) else {
            return;
        };
        match result {
            Ok(done) => {
                self.oracle.counted(op, self.answered(client, op));
                self.follow(&errand);
                let name = match &done.head {
                    None => "absent",
                    Some(_) if done.live => "found",
                    Some(head) if head.kind == annulet_protocol::record::Kind::Value => "expired",
                    Some(_) => "deleted",
                };
                self.coverage.hit("outcome", name);
                let at_ms = self.true_ms();
                self.oracle.read(op, &done, exists, at_ms);
            }
            Err(error) => {
                self.coverage.hit("outcome", "read_failed");
                self.note_error(op, &error, errand.must_succeed);
                self.oracle.forget(op);
            }
        }
    }

    fn write_ends(&mut self, client: usize, op: u64, result: Result<WriteDone, Error>) {
        let Some((_, errand)) = self.note_end(client, op) else {
            return;
        };
        match result {
            Ok(done) => {
                self.oracle.counted(op, self.answered(client, op));
                self.follow(&errand);
                let superseded = done.superseded.is_some();
                let name = if superseded { "superseded" } else { "written" };
                self.coverage.hit("outcome", name);
                self.oracle.written(op, done.version);
            }
            Err(error) => {
                self.note_error(op, &error, errand.must_succeed);
                match error.outcome() {
                    Some(Outcome::NotApplied) => {
                        self.coverage.hit("outcome", "not_applied");
                        self.oracle.not_applied(op);
                    }
                    Some(Outcome::Unknown) => {
                        self.coverage.hit("outcome", "unknown");
                        self.oracle.forget(op);
                    }
                    None => self
                        .oracle
                        .fail("not-applied", format!("write {op} says nothing")),
                }
            }
        }
    }

    /// Notes that an operation completed, and says whether it is an exists, and what was asked.
    fn note_end(&mut self, client: usize, op: u64) -> Option<(bool, Errand)> {
        let running = self.clients[client].operations.get_mut(&op)?;
        running.completed = true;
        if self.now_us > running.deadline_us {
            let late_us = self.now_us - running.deadline_us;
            self.oracle.fail(
                "deadline",
                format!("operation {op} ended {late_us} us late"),
            );
        }
        Some((
            matches!(running.machine, Machine::Exists(_)),
            running.errand.clone(),
        ))
    }

    /// How many owners of each region have answered an operation since it last started.
    fn answered(&self, client: usize, op: u64) -> PerRegion {
        let mut counts = PerRegion::default();
        let running = self.clients[client].operations.get(&op);
        for node in running.into_iter().flat_map(|running| &running.answered) {
            counts[self.server_of(*node) % self.scenario.regions] += 1;
        }
        counts
    }

    fn note_error(&mut self, op: u64, error: &Error, must_succeed: bool) {
        if must_succeed {
            self.oracle.fail(
                "liveness",
                format!("operation {op} failed in quiet: {error}"),
            );
        }
        if error.message().contains("was deleted") {
            self.coverage.hit("path", "bucket_was_deleted");
        }
        let name = match error.kind() {
            ErrorKind::InvalidInput => "invalid_input",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Unavailable => "unavailable",
            _ => "other_error",
        };
        self.coverage.hit("outcome", name);
    }

    /// Takes away what is over, and sets the timer for the rest.
    pub(crate) fn settle(&mut self, client: usize) {
        let at = &mut self.clients[client];
        let mut lost = None;
        at.operations.retain(|op, running| {
            let over = running.machine.is_finished();
            if over && !running.completed && !running.cancelled {
                lost = Some(*op);
            }
            !over
        });
        if let Some(op) = lost {
            self.oracle
                .fail("deadline", format!("operation {op} ended without a result"));
        }
        let at = &self.clients[client];
        let wakes = at
            .operations
            .values()
            .filter_map(|r| r.machine.next_wake_ms());
        let Some(soonest) = wakes.min() else { return };
        let wake_us = self.at_mono(client, soonest).max(self.now_us);
        let at = &mut self.clients[client];
        if at.wake_us.is_none_or(|armed| wake_us < armed) {
            at.wake_us = Some(wake_us);
            let life = at.life;
            self.schedule_at(wake_us, Event::ClientWakes { client, life });
        }
    }

    /// The time of an operation is over: has it ended?
    pub(crate) fn deadline_over(&mut self, client: usize, life: u32, op: u64) {
        let at = &self.clients[client];
        let running = at.operations.get(&op).filter(|_| at.life == life);
        if running.is_some_and(|r| !r.completed && !r.cancelled) {
            self.oracle.fail(
                "deadline",
                format!("operation {op} has not ended by its deadline"),
            );
        }
    }

    pub(crate) fn want_view(&mut self, client: usize, epoch: u64) {
        let at = &mut self.clients[client];
        at.wanted_epoch = at.wanted_epoch.max(epoch);
        if !at.fetching {
            at.fetching = true;
            let life = at.life;
            let delay_us = self.rng.random_range(0..2_000);
            self.schedule(delay_us, Event::ClientFetches { client, life });
        }
    }

    /// Asks any server for its view.
    pub(crate) fn client_fetches(&mut self, client: usize, life: u32) {
        if self.clients[client].life != life {
            return;
        }
        let server = self.rng.random_range(0..self.servers.len());
        let there = self.network.fate(Link::Request(client, server));
        let back = self.network.fate(Link::Reply(client, server));
        let up = self.servers[server].state == State::Up;
        match (there.copies.first(), back.copies.first()) {
            (Some(there), Some(back)) if up => {
                let bytes = codec::encode(self.servers[server].view.as_ref()).into();
                let event = Event::ViewArrives {
                    client,
                    life,
                    bytes,
                };
                self.schedule(there + back, event);
            }
            _ => self.schedule(30_000, Event::ClientFetches { client, life }),
        }
    }

    pub(crate) fn view_arrives(&mut self, client: usize, life: u32, bytes: &Bytes) {
        if self.clients[client].life != life {
            return;
        }
        let view = codec::decode_view(bytes).expect("a server's view is sound");
        let view = Arc::new(view);
        let at = &mut self.clients[client];
        if view.epoch < at.wanted_epoch {
            self.coverage.hit("view", "fetched_stale");
            self.schedule(10_000, Event::ClientFetches { client, life });
        } else {
            at.fetching = false;
        }
        if self.clients[client].core.install(Arc::clone(&view)) {
            self.coverage.hit("view", "fetched");
        }
        self.tell_view(client, &view);
    }
}
