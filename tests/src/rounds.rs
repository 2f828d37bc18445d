//! Clients of one key of a strong bucket, each a real core, over the real rules of three owners, in
//! virtual time: messages are lost, doubled and late, clients die, clocks differ, and values
//! expire. What comes out is checked by [`History`].
//!
//! It is small and quick, so that thousands of seeds can be tried; servers neither crash nor change
//! here.

pub mod history;
pub mod model;

use annulet::core::client::{Call, Core, Home, Now};
use annulet::core::strong::{Resolved, StrongDone, StrongOperation, Task};
use annulet::core::{Attempt, Coordinator, Effect, Effects, Response, Send, SendFailure};
use annulet::{Error, ErrorKind, OpId, Outcome};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::{Bucket, Mode};
use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::{ClusterId, Incarnation, NodeId};
use annulet_protocol::message::{Answer, Operation};
use annulet_protocol::register::message::{Learn, ReadRegister};
use annulet_protocol::register::{Change, Condition};
use annulet_protocol::table::{RegionTable, Table};
use annulet_protocol::view::{Member, MemberState, Tip, View};
use annulet_replica::memory::MemoryStore;
use annulet_replica::rules::{Moment, Mutation, Replica};
use annulet_replica::store::Store;
use annulet_ring::quorum::Side;
use bytes::Bytes;
use history::{History, Kind, Seen};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

const OWNERS: u64 = 3;
const BUCKET: u32 = 1;
const KEY: Bytes = Bytes::from_static(b"k");
const START_MS: u64 = 1_000_000;

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Everything that is drawn.
    pub seed: u64,
    /// Clients.
    pub clients: usize,
    /// Operations of each.
    pub operations: usize,
    /// Longest time of one operation, in milliseconds.
    pub timeout_ms: u64,
    /// Whether owners learn from each other what they accepted, at any time.
    pub repairs: bool,
    /// Whether no message is late by much.
    pub steady: bool,
    /// Whether every client reads and then writes on the condition of what it read, in turns.
    pub updates: bool,
    /// Whether clocks go in steps, so that clients often draw one number.
    pub coarse: bool,
    /// Messages lost, of 100; and as many come twice.
    pub lossy: u32,
    /// Clients that die with an operation under way, of 100 operations.
    pub deadly: u32,
    /// Bytes added to every value.
    pub padding: usize,
    /// Whether values expire.
    pub expiring: bool,
    /// A broken rule of the clients.
    #[cfg(feature = "faults")]
    pub client_fault: Option<annulet::core::client::Fault>,
    /// A broken rule of the owners.
    #[cfg(feature = "faults")]
    pub owner_fault: Option<annulet_replica::rules::Fault>,
}

impl Setup {
    /// The usual mixture.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            clients: 3,
            operations: 12,
            timeout_ms: 2_000,
            repairs: true,
            steady: false,
            updates: false,
            coarse: seed.is_multiple_of(2),
            lossy: if seed.is_multiple_of(4) { 15 } else { 5 },
            deadly: 5,
            padding: if seed.is_multiple_of(5) { 5_000 } else { 0 },
            expiring: seed.is_multiple_of(3),
            #[cfg(feature = "faults")]
            client_fault: None,
            #[cfg(feature = "faults")]
            owner_fault: None,
        }
    }
}

enum Event {
    /// A client begins its next operation.
    Begin(usize),
    /// A message comes to an owner.
    Request {
        client: usize,
        number: u64,
        send: Send,
    },
    /// What became of a message comes to a client.
    Response {
        client: usize,
        number: u64,
        from: (NodeId, Attempt),
        response: Response,
    },
    /// One owner learns what another one accepts now, a while later.
    Repair,
    /// It learns it.
    Learn(NodeId, Mutation),
    /// A client looks at its clock.
    Timer { client: usize, number: u64 },
}

/// An operation under way.
struct Running {
    machine: StrongOperation,
    kind: Kind,
    began_ms: u64,
}

struct Client {
    core: Core,
    clock_ahead_ms: u64,
    left: usize,
    /// Number of the operation under way.
    number: u64,
    running: Option<Running>,
    /// The version that it saw last.
    seen: Ballot,
    /// A write whose outcome it does not know: it asks.
    open: Option<(u64, OpId)>,
}

/// See the module.
pub struct World {
    setup: Setup,
    rng: ChaCha8Rng,
    now_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    drawn: u64,
    clients: Vec<Client>,
    owners: Vec<(Replica, MemoryStore)>,
    view: Arc<View>,
    history: History,
}

fn view() -> Arc<View> {
    let member = |id| Member {
        id: NodeId(id),
        address: format!("server-{id}:1"),
        capacity: 1,
        zone: String::new(),
        region: String::new(),
        state: MemberState::Active,
    };
    let view = View {
        cluster: ClusterId::default(),
        name: "test".into(),
        seed: 0,
        epoch: 1,
        value_bytes_max: 100_000,
        members: (1..=OWNERS).map(member).collect(),
        table: Table {
            partitions: 1,
            epoch: 1,
            list_length: 3,
            regions: vec![RegionTable::new("", 3, OWNERS as usize, 0..OWNERS as u32)],
            ..Table::default()
        },
        buckets: vec![Bucket {
            mode: Mode::Strong,
            ..Bucket::new(BUCKET, "b")
        }],
        tip: Tip::default(),
    };
    view.validate().expect("a sound view");
    Arc::new(view)
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(setup: Setup) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(setup.seed);
        let view = view();
        let clients = (0..setup.clients).map(|index| Client {
            core: new_core(&setup, index as u8 + 1, &view),
            clock_ahead_ms: rng.random_range(0..20),
            left: setup.operations,
            number: 0,
            running: None,
            seen: Ballot::default(),
            open: None,
        });
        let clients: Vec<_> = clients.collect();
        let owner = |id| {
            #[allow(unused_mut)]
            let mut replica = Replica::new(NodeId(id), Incarnation::default());
            #[cfg(feature = "faults")]
            {
                replica.fault = setup.owner_fault;
            }
            (replica, MemoryStore::default())
        };
        let owners = (1..=OWNERS).map(owner).collect();
        let mut world = Self {
            setup,
            rng,
            now_ms: START_MS,
            events: BTreeMap::new(),
            drawn: 0,
            clients,
            owners,
            view,
            history: History::default(),
        };
        for client in 0..world.clients.len() {
            let wait_ms = world.rng.random_range(0..20);
            world.after(wait_ms, Event::Begin(client));
        }
        world.after(5, Event::Repair);
        world
    }

    /// Runs until nothing is left to do, reads the key once more, and gives what happened.
    pub fn run(mut self) -> History {
        while let Some(((at_ms, _), event)) = self.events.pop_first() {
            self.now_ms = self.now_ms.max(at_ms);
            self.take(event);
        }
        self.history
    }

    fn after(&mut self, wait_ms: u64, event: Event) {
        self.drawn += 1;
        self.events
            .insert((self.now_ms + wait_ms, self.drawn), event);
    }

    fn now(&self, client: usize) -> Now {
        // Ballots of coarse clocks lie between each other's.
        let step_ms = if self.setup.coarse { 64 } else { 1 };
        let wall_ms = self.now_ms + self.clients[client].clock_ahead_ms;
        Now {
            mono_ms: self.now_ms,
            wall_ms: wall_ms / step_ms * step_ms,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Begin(client) => self.begin(client),
            Event::Request {
                client,
                number,
                send,
            } => self.serve(client, number, send),
            Event::Response {
                client,
                number,
                from,
                response,
            } => self.drive(client, number, |machine, core, now| {
                machine.handle_response(core, now, from, Some(1), response)
            }),
            Event::Repair => self.repair(),
            Event::Learn(node, mutation) => {
                self.decide(node, &mutation);
            }
            Event::Timer { client, number } => {
                self.drive(client, number, |machine, core, now| {
                    machine.handle_timer(core, now)
                });
            }
        }
    }

    /// Begins the next operation of a client.
    fn begin(&mut self, client: usize) {
        if self.clients[client].left == 0 || self.clients[client].running.is_some() {
            return;
        }
        self.clients[client].left -= 1;
        let now = self.now(client);
        let (task, kind) = self.choose(client);
        // Who gives up early leaves things half done.
        let timeout_ms = match self.setup.lossy > 0 && self.rng.random_bool(0.3) {
            true => self.rng.random_range(5..60),
            false => self.setup.timeout_ms,
        };
        let at = &mut self.clients[client];
        let call = Call {
            bucket: "b",
            key: KEY,
            level: None,
            timeout_ms,
        };
        let start = at.core.begin(now, Side::Write, call).expect("a sound call");
        at.number += 1;
        let number = at.number;
        let mut machine = StrongOperation::new(start, task).expect("a sound task");
        let effects = machine.start(&mut at.core, now);
        at.running = Some(Running {
            machine,
            kind,
            began_ms: self.now_ms,
        });
        self.carry_out(client, number, effects);
    }

    fn choose(&mut self, client: usize) -> (Task, Kind) {
        if let Some((write, op)) = self.clients[client].open.take() {
            return (Task::Resolve(op), Kind::Resolve { write });
        }
        let seen = self.clients[client].seen;
        let unique = self.history.next_write();
        let mut text = unique.to_string().into_bytes();
        text.resize(text.len() + self.setup.padding, b' ');
        let expires_at_ms = (self.setup.expiring && self.rng.random_bool(0.5))
            .then(|| self.now_ms + self.rng.random_range(1..60));
        let (read, stale) = (Kind::Read, false);
        let absent = seen == Ballot::default();
        let set = |condition| {
            Task::Write(Change::Set {
                value: text.into(),
                expires_at_ms,
                condition,
            })
        };
        let write = |follows| Kind::Write {
            unique,
            follows,
            deletes: false,
        };
        let draw = match self.setup.updates {
            true => 3 * (self.clients[client].left % 2),
            false => self.rng.random_range(0..10),
        };
        match draw {
            0..3 => (
                Task::Read {
                    head_only: false,
                    stale,
                },
                read,
            ),
            3..7 if !absent => (set(Condition::Version(seen)), write(Some(seen))),
            3..=7 => (set(Condition::Absent), write(None)),
            8 => (set(Condition::Always), write(None)),
            _ => {
                let condition = Condition::Version(seen);
                let delete = Task::Write(Change::Delete { condition });
                let kind = Kind::Write {
                    unique,
                    follows: Some(seen),
                    deletes: true,
                };
                (delete, kind)
            }
        }
    }

    fn drive(
        &mut self,
        client: usize,
        number: u64,
        call: impl FnOnce(&mut StrongOperation, &mut Core, Now) -> Effects<StrongDone>,
    ) {
        let now = self.now(client);
        let at = &mut self.clients[client];
        if at.number != number {
            return;
        }
        let Some(running) = &mut at.running else {
            return;
        };
        let effects = call(&mut running.machine, &mut at.core, now);
        self.carry_out(client, number, effects);
    }

    fn carry_out(&mut self, client: usize, number: u64, effects: Effects<StrongDone>) {
        for effect in effects {
            match effect {
                Effect::Send(send) => self.post(client, number, send),
                Effect::Complete(result) => self.complete(client, result),
                Effect::Cancel(..) | Effect::NeedView(_) => {}
            }
        }
        let at = &mut self.clients[client];
        let Some(running) = &at.running else { return };
        if running.machine.is_finished() {
            at.running = None;
            let wait_ms = self.rng.random_range(0..10);
            return self.after(wait_ms, Event::Begin(client));
        }
        if self.rng.random_range(0..1_000) < self.setup.deadly {
            return self.die(client);
        }
        if let Some(wake_ms) = self.clients[client]
            .running
            .as_ref()
            .and_then(|running| running.machine.next_wake_ms())
        {
            let wait_ms = wake_ms.saturating_sub(self.now_ms);
            self.after(wait_ms, Event::Timer { client, number });
        }
    }

    /// A client is gone with all that it knows; another one comes in its place.
    fn die(&mut self, client: usize) {
        if let Some(running) = self.clients[client].running.take() {
            let ended = Seen::Lost;
            self.history
                .note(client, running.kind, (running.began_ms, u64::MAX), ended);
        }
        let life = self.rng.random_range(100..=255);
        let core = new_core(&self.setup, life, &self.view);
        let at = &mut self.clients[client];
        at.core = core;
        at.number += 1;
        at.open = None;
        self.after(1, Event::Begin(client));
    }

    /// Puts a message on its way: it may be lost, come twice, and overtake others.
    fn post(&mut self, client: usize, number: u64, send: Send) {
        let copies = self.copies();
        if copies == 0 {
            let from = (send.node, send.attempt);
            let why = SendFailure::Unanswered("lost".into());
            return self.answer(client, number, from, Err(why), 60);
        }
        for _ in 0..copies {
            let wait_ms = self.delay_ms();
            let send = send.clone();
            self.after(
                wait_ms,
                Event::Request {
                    client,
                    number,
                    send,
                },
            );
        }
    }

    fn copies(&mut self) -> u32 {
        let draw = self.rng.random_range(0..100);
        match draw {
            _ if draw < self.setup.lossy => 0,
            _ if draw < 2 * self.setup.lossy => 2,
            _ => 1,
        }
    }

    fn delay_ms(&mut self) -> u64 {
        match !self.setup.steady && self.rng.random_bool(0.05) {
            true => self.rng.random_range(0..120),
            false => self.rng.random_range(0..4),
        }
    }

    fn answer(
        &mut self,
        client: usize,
        number: u64,
        from: (NodeId, Attempt),
        response: Response,
        wait_ms: u64,
    ) {
        self.after(
            wait_ms,
            Event::Response {
                client,
                number,
                from,
                response,
            },
        );
    }

    /// An owner answers a message.
    fn serve(&mut self, client: usize, number: u64, send: Send) {
        let from = (send.node, send.attempt);
        let answer = self.ask_owner(send.node, send.operation);
        let lost = self.rng.random_range(0..100) < self.setup.lossy;
        let (response, wait_ms) = match lost {
            true => (Err(SendFailure::Unanswered("lost".into())), 60),
            false => (Ok(answer), self.delay_ms()),
        };
        self.answer(client, number, from, response, wait_ms);
    }

    fn ask_owner(&mut self, node: NodeId, operation: Operation) -> Answer {
        let (replica, store) = &self.owners[node.0 as usize - 1];
        let mutation = match operation {
            Operation::ReadRegister(read) => {
                let read = replica.read_registers(store, self.moment(), [(1, &read)]);
                return read.answers.into_iter().next().expect("one answer");
            }
            Operation::Prepare(prepare) => Mutation::Prepare(prepare),
            Operation::Accept(accept) => Mutation::Accept(accept),
            other => panic!("no operation of a strong bucket: {other:?}"),
        };
        self.decide(node, &mutation)
    }

    fn moment(&self) -> Moment<'_> {
        Moment {
            now_ms: self.now_ms,
            stamp: Stamp::default(),
            clock_trusted: true,
            disk_full: false,
            view: &self.view,
            unready: &[],
        }
    }

    fn decide(&self, node: NodeId, mutation: &Mutation) -> Answer {
        let (replica, store) = &self.owners[node.0 as usize - 1];
        let decided = replica.decide(store, self.moment(), [(1, mutation)]);
        let decided = decided.expect("a store in memory does not fail");
        store.write(decided.batch).expect("it does not fail");
        decided.answers.into_iter().next().expect("one answer")
    }

    /// An owner shows what it accepted, which another one learns after a while.
    fn repair(&mut self) {
        if !self.setup.repairs || self.clients.iter().all(|client| client.left == 0) {
            return;
        }
        let wait_ms = self.rng.random_range(1..5);
        self.after(wait_ms, Event::Repair);
        let from = NodeId(self.rng.random_range(1..=OWNERS));
        let to = NodeId(self.rng.random_range(1..=OWNERS));
        let whole = ReadRegister {
            bucket: BUCKET,
            key: KEY,
            value_bytes_max: None,
            with_log: true,
        };
        let Answer::Promise(promise) = self.ask_owner(from, Operation::ReadRegister(whole)) else {
            return;
        };
        let Some(shown) = promise.accepted else {
            return;
        };
        let learn = Learn {
            bucket: BUCKET,
            key: KEY,
            ballot: shown.ballot,
            head: shown.head,
            log: shown.log.unwrap_or_default(),
            value: shown.value.unwrap_or_default(),
        };
        let wait_ms = self.delay_ms();
        self.after(wait_ms, Event::Learn(to, Mutation::Learn(Box::new(learn))));
    }

    /// A client has its result.
    fn complete(&mut self, client: usize, result: Result<StrongDone, Error>) {
        let at = &mut self.clients[client];
        let running = at.running.as_ref().expect("it has just said so");
        let (kind, began_ms) = (running.kind, running.began_ms);
        let seen = match result {
            Ok(done) => {
                let head = done.head.unwrap_or_else(unwritten);
                if matches!(kind, Kind::Read) || done.written.is_some() {
                    at.seen = head.version;
                }
                match done.resolved {
                    Some(Resolved::Applied { version }) => Seen::Applied(version),
                    Some(Resolved::NotApplied) => Seen::Failed,
                    Some(Resolved::Forgotten) => Seen::Lost,
                    None => match (kind, done.written) {
                        (Kind::Read, _) => Seen::Value(head.version, value_of(&done.value)),
                        (_, Some(version)) => Seen::Applied(version),
                        (_, None) => Seen::Failed,
                    },
                }
            }
            Err(error) => {
                if let (Kind::Write { unique, .. }, Some(op)) = (kind, error.op_id()) {
                    at.open = Some((unique, *op));
                    at.left += 1;
                }
                match error.outcome() {
                    Some(Outcome::NotApplied) if error.kind() == ErrorKind::Conflict => {
                        Seen::Failed
                    }
                    Some(Outcome::NotApplied) => Seen::NotApplied,
                    Some(Outcome::Unknown) | None => Seen::Lost,
                }
            }
        };
        self.history
            .note(client, kind, (began_ms, self.now_ms), seen);
    }
}

fn unwritten() -> annulet_protocol::register::Head {
    annulet_protocol::register::Register::unwritten(BUCKET, &KEY).head
}

fn value_of(value: &Option<Bytes>) -> Option<u64> {
    let text = std::str::from_utf8(value.as_ref()?).expect("text");
    Some(text.trim().parse().expect("a number"))
}

fn new_core(setup: &Setup, life: u8, view: &Arc<View>) -> Core {
    let mut incarnation = [life; 16];
    incarnation[..8].copy_from_slice(&setup.seed.to_be_bytes());
    #[allow(unused_mut)]
    let mut core = Core::new(Incarnation(incarnation), Arc::clone(view), Home::default());
    #[cfg(feature = "faults")]
    {
        core.fault = setup.client_fault;
    }
    core
}
