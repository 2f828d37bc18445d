//! A simulated client: a core, its running operations, and the calls it has out.

use super::Fault;
use super::scenario::Micros;
use super::sessions::Floor;
use super::workload::Errand;
use super::world::{Event, World};
use annulet::Error;
use annulet::core::client::{Core, Home, Now};
use annulet::core::read::{ReadDone, ReadOperation};
use annulet::core::scan::{ScanDone, ScanOperation};
use annulet::core::siblings::delete::{DeleteDone, SiblingsDelete};
use annulet::core::siblings::put::{PutDone, SiblingsPut};
use annulet::core::siblings::read::{SiblingsDone, SiblingsRead};
use annulet::core::strong::{StrongDone, StrongOperation};
use annulet::core::touch::{TouchDone, TouchOperation};
use annulet::core::write::{WriteDone, WriteOperation};
use annulet::core::{Attempt, Coordinator, Effect, Effects, Response, Send};
use annulet_protocol::ids::{Incarnation, NodeId};
use annulet_protocol::level::Level;
use annulet_protocol::message::{Answer, Operation, Source};
use annulet_protocol::view::View;
use bytes::Bytes;
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Longest time that messages wait to go together.
const GATHER_US_MAX: Micros = 300;
/// Messages that go together at most.
pub(crate) const TOGETHER_MAX: usize = 6;

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) core: Core,
    /// Counts its lives; what belonged to an earlier one is ignored.
    pub(crate) life: u32,
    mono_offset_ms: u64,
    pub(crate) skew_ms: i64,
    pub(crate) operations: BTreeMap<u64, Running>,
    pub(crate) outbox: BTreeMap<(NodeId, u64), Vec<(u64, Send)>>,
    pub(crate) sending: bool,
    pub(crate) calls: BTreeMap<u64, Call>,
    wake_us: Option<Micros>,
    pub(crate) wanted_epoch: u64,
    pub(crate) fetching: bool,
}

/// A request that was sent.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) server: usize,
    pub(crate) sent_us: Micros,
    pub(crate) messages: Vec<(u64, NodeId, Attempt)>,
    /// It asks, and changes nothing.
    pub(crate) is_read: bool,
    /// The client still waits for its answer.
    pub(crate) open: bool,
}

/// An operation under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) machine: Machine,
    /// What the application asked for.
    pub(crate) errand: Errand,
    pub(crate) deadline_us: Micros,
    pub(crate) completed: bool,
    pub(crate) cancelled: bool,
    /// Whom it sent a message of its first phase, since it last started.
    pub(crate) asked: BTreeSet<NodeId>,
    /// What it sent since it last started.
    pub(crate) sent: BTreeSet<Attempt>,
    /// Who answered something that counts to that.
    pub(crate) answered: BTreeSet<NodeId>,
    /// What its session had seen when it began.
    pub(crate) floor: Floor,
    /// The level that it is made at.
    pub(crate) level: Option<Level>,
    /// Of a scan: the keys it may show, each with its number in the oracle.
    pub(crate) scanned: Vec<(u64, usize)>,
}

/// A coordinator of any kind.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are some of them, and they are moved once"
)]
pub(crate) enum Machine {
    Get(ReadOperation),
    Exists(ReadOperation),
    Write(WriteOperation),
    Touch(TouchOperation),
    Scan(ScanOperation),
    GetSiblings(SiblingsRead),
    ExistsSiblings(SiblingsRead),
    PutSiblings(SiblingsPut),
    DeleteSiblings(SiblingsDelete),
    DeleteUnder(WriteOperation),
    Strong(StrongOperation),
}

/// An effect of either kind.
#[derive(Debug)]
pub(crate) enum Step {
    Send(Send),
    Cancel(NodeId, Attempt),
    NeedView(u64),
    Read(Result<ReadDone, Error>),
    Written(Result<WriteDone, Error>),
    Touched(Result<TouchDone, Error>),
    Scanned(Result<ScanDone, Error>),
    SiblingsRead(Result<SiblingsDone, Error>),
    SiblingsPut(Result<PutDone, Error>),
    SiblingsDeleted(Result<DeleteDone, Error>),
    SiblingsDeletedUnder(Result<WriteDone, Error>),
    Strong(Result<StrongDone, Error>),
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
        Effect::Cancel(node, attempt) => Step::Cancel(node, attempt),
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
            Machine::Touch($it) => steps($call, Step::Touched),
            Machine::Scan($it) => steps($call, Step::Scanned),
            Machine::GetSiblings($it) | Machine::ExistsSiblings($it) => {
                steps($call, Step::SiblingsRead)
            }
            Machine::PutSiblings($it) => steps($call, Step::SiblingsPut),
            Machine::DeleteSiblings($it) => steps($call, Step::SiblingsDeleted),
            Machine::DeleteUnder($it) => steps($call, Step::SiblingsDeletedUnder),
            Machine::Strong($it) => steps($call, Step::Strong),
        }
    };
}

impl Machine {
    pub(crate) fn next_wake_ms(&self) -> Option<u64> {
        match self {
            Self::Get(it) | Self::Exists(it) => it.next_wake_ms(),
            Self::Write(it) => it.next_wake_ms(),
            Self::Touch(it) => it.next_wake_ms(),
            Self::Scan(it) => it.next_wake_ms(),
            Self::GetSiblings(it) | Self::ExistsSiblings(it) => it.next_wake_ms(),
            Self::PutSiblings(it) => it.next_wake_ms(),
            Self::DeleteSiblings(it) => it.next_wake_ms(),
            Self::DeleteUnder(it) => it.next_wake_ms(),
            Self::Strong(it) => it.next_wake_ms(),
        }
    }

    pub(crate) fn awaits(&self, node: NodeId, attempt: Attempt) -> bool {
        match self {
            Self::Get(it) | Self::Exists(it) => it.awaits(node, attempt),
            Self::Write(it) => it.awaits(node, attempt),
            Self::Touch(it) => it.awaits(node, attempt),
            Self::Scan(it) => it.awaits(node, attempt),
            Self::GetSiblings(it) | Self::ExistsSiblings(it) => it.awaits(node, attempt),
            Self::PutSiblings(it) => it.awaits(node, attempt),
            Self::DeleteSiblings(it) => it.awaits(node, attempt),
            Self::DeleteUnder(it) => it.awaits(node, attempt),
            Self::Strong(it) => it.awaits(node, attempt),
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        match self {
            Self::Get(it) | Self::Exists(it) => it.is_finished(),
            Self::Write(it) => it.is_finished(),
            Self::Touch(it) => it.is_finished(),
            Self::Scan(it) => it.is_finished(),
            Self::GetSiblings(it) | Self::ExistsSiblings(it) => it.is_finished(),
            Self::PutSiblings(it) => it.is_finished(),
            Self::DeleteSiblings(it) => it.is_finished(),
            Self::DeleteUnder(it) => it.is_finished(),
            Self::Strong(it) => it.is_finished(),
        }
    }

    pub(crate) fn cancel(&mut self) {
        match self {
            Self::Get(it) | Self::Exists(it) => it.cancel(),
            Self::Write(it) => it.cancel(),
            Self::Touch(it) => it.cancel(),
            Self::Scan(it) => it.cancel(),
            Self::GetSiblings(it) | Self::ExistsSiblings(it) => it.cancel(),
            Self::PutSiblings(it) => it.cancel(),
            Self::DeleteSiblings(it) => it.cancel(),
            Self::DeleteUnder(it) => it.cancel(),
            Self::Strong(it) => it.cancel(),
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
            floor: Floor::default(),
            level: None,
            scanned: Vec::new(),
        }
    }

    /// Whether a response may count towards the operation's quorum.
    fn counts(&self, response: &Response) -> bool {
        match response {
            Ok(Answer::Minted(_)) => true,
            Ok(Answer::Written(_)) => matches!(
                self.machine,
                Machine::Write(_)
                    | Machine::Touch(_)
                    | Machine::PutSiblings(_)
                    | Machine::DeleteSiblings(_)
                    | Machine::DeleteUnder(_)
            ),
            // What a touch reads first is not what it is for.
            Ok(
                Answer::Found(_) | Answer::FoundHead(_) | Answer::Siblings(_) | Answer::Absent(_),
            ) => !matches!(self.machine, Machine::Touch(_) | Machine::DeleteSiblings(_)),
            Ok(Answer::Page(_)) => true,
            Ok(_) | Err(_) => false,
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
            Fault::Client(fault) => core.fault = Some(fault),
            #[cfg(feature = "faults")]
            _ => {}
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

    pub(crate) fn respond(
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
    pub(crate) fn tell_view(&mut self, client: usize, view: &Arc<View>) {
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
                Machine::Touch(_) => "touch_restarted",
                Machine::Scan(_) => "scan_restarted",
                Machine::GetSiblings(_) | Machine::ExistsSiblings(_) => "siblings_read_restarted",
                Machine::PutSiblings(_) => "put_restarted",
                Machine::DeleteSiblings(_) | Machine::DeleteUnder(_) => "delete_restarted",
                Machine::Strong(_) => "round_restarted",
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
                Step::Cancel(node, attempt) => self.cancel_message(client, op, node, attempt),
                Step::NeedView(epoch) => self.want_view(client, epoch),
                Step::Read(result) => self.read_ends(client, op, result),
                Step::Written(result) => self.write_ends(client, op, result),
                Step::Touched(result) => self.touch_ends(client, op, result),
                Step::Scanned(result) => self.scan_ends(client, op, result),
                Step::SiblingsRead(result) => self.siblings_read(client, op, result),
                Step::SiblingsPut(result) => self.siblings_put(client, op, result),
                Step::SiblingsDeleted(result) => {
                    self.siblings_deleted(client, op, result.map(|done| done.context));
                }
                Step::SiblingsDeletedUnder(result) => {
                    self.siblings_deleted(client, op, result.map(|_| Bytes::new()));
                }
                Step::Strong(result) => self.strong_ends(client, op, result),
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
            let ends = !matches!(step, Step::Cancel(..) | Step::NeedView(_));
            if ends && running.completed {
                let why = format!("operation {op} completed twice");
                self.oracle.fail("deadline", why);
            }
            return;
        };
        if now_us > running.deadline_us {
            let why = format!("operation {op} sent a message after its deadline: {send:?}");
            self.oracle.fail("deadline", why);
        }
        running.sent.insert(send.attempt);
        if matches!(running.machine, Machine::Strong(_)) {
            return self.note_round(op, send);
        }
        let path = path_of(running, send, cause);
        if let Operation::Write(write) = &send.operation
            && let Machine::Write(_) = running.machine
        {
            self.oracle.minted(op, &write.record);
        }
        if let Operation::Touch(touch) = &send.operation {
            self.oracle.touching(op, touch.version, touch.expiry);
        }
        if let Operation::Merge(merge) = &send.operation
            && let Machine::DeleteSiblings(_) = running.machine
            && merge.source == Source::FirstHand
        {
            self.oracle.causal.deletes(op, merge);
        }
        if let Some(name) = path {
            self.coverage.hit("path", name);
        }
    }

    /// Takes away what is over, and sets the timer for the rest.
    pub(crate) fn settle(&mut self, client: usize) {
        if self.clients[client].core.counts.widened > 0 {
            self.clients[client].core.counts.widened = 0;
            self.coverage.hit("path", "session_widened");
        }
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
}

/// What a message is sent for, where that must happen.
fn path_of(running: &mut Running, send: &Send, cause: Cause) -> Option<&'static str> {
    let completed = running.completed;
    let exists = matches!(running.machine, Machine::Exists(_));
    let mut again = || !running.asked.insert(send.node);
    match &send.operation {
        Operation::Write(_) if matches!(running.machine, Machine::Write(_)) => {
            match (completed, again()) {
                (true, _) => Some("write_went_on_after_ack"),
                (false, true) => Some("retry"),
                (false, false) => None,
            }
        }
        Operation::Write(_) if matches!(running.machine, Machine::Touch(_)) => Some("brought"),
        Operation::Write(write) if write.gone => Some("gone_brought"),
        Operation::Write(_) if completed => Some("background_repair"),
        Operation::Write(_) => Some("blocking_repair"),
        Operation::Read(_) if completed => Some("background_check"),
        Operation::Read(read) if read.hinted => Some("asked_fallback"),
        Operation::Read(read) if exists && !read.head_only => Some("fetch_for_exists"),
        Operation::Read(_) => match (again(), cause) {
            (true, _) => Some("retry"),
            (false, Cause::Timer) => Some("asked_another"),
            (false, _) => None,
        },
        Operation::Hint(_) if completed => Some("hint_after_ack"),
        Operation::Hint(_) => Some("hint_for_ack"),
        Operation::Mint(mint) if !mint.owners.is_empty() => Some("minted_by_fallback"),
        Operation::Mint(mint) => match (again(), mint.again) {
            (true, _) => Some("mint_retry"),
            (false, true) => Some("mint_elsewhere"),
            (false, false) => None,
        },
        Operation::Merge(merge) if !merge.owners.is_empty() => Some("siblings_hint"),
        Operation::Merge(merge) if merge.source == Source::Repair => match completed {
            true => Some("background_merge"),
            false => Some("blocking_merge"),
        },
        _ => None,
    }
}
