//! Virtual time, and the order of events.

use super::carried::Carried;
use super::chain::{ChainEvent, Decided, Part};
use super::client::Client;
use super::coverage::Coverage;
use super::histories::Histories;
use super::levels::{PerRegion, REGIONS_MAX};
use super::network::Network;
use super::operator::{Operator, Trouble};
use super::oracle::{KeyId, Oracle};
use super::probe::Probe;
use super::scenario::{Micros, Scenario};
use super::server::{Return, Server};
use super::sessions::Steps;
use super::siblings::Memory;
use super::trace::Trace;
use super::workload::Errand;
use super::{Options, Report, Violation};
use annulet_protocol::bucket::{Bucket, Durability, Mode};
use annulet_protocol::ids::{ClusterId, Incarnation, NodeId};
use annulet_protocol::level::Level;
use annulet_protocol::view::{Member, MemberState, View};
use annulet_replica::gate::SyncPoint;
use annulet_replica::memory::Mark;
use annulet_ring::cluster::Plan;
use bytes::Bytes;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the true clock shows when a run begins, in milliseconds since the Unix epoch.
const BEGINNING_MS: u64 = 1_700_000_000_000;
/// No run needs so many events: more are a loop.
const EVENTS_MAX: u64 = 2_000_000;
/// Longest value in bytes.
pub(crate) const VALUE_BYTES_MAX: u32 = 64 << 10;

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Event {
    RequestArrives {
        server: usize,
        from: Return,
        bytes: Bytes,
    },
    ServerRuns {
        server: usize,
        life: u32,
    },
    SyncDue {
        server: usize,
        life: u32,
    },
    SyncDone {
        server: usize,
        life: u32,
        mark: Mark,
        point: SyncPoint,
    },
    CrashNow {
        server: usize,
    },
    Restart {
        server: usize,
        life: u32,
    },
    Stopped {
        server: usize,
        life: u32,
    },
    ReplyArrives {
        client: usize,
        life: u32,
        call: u64,
        bytes: Result<Bytes, Bytes>,
        sent_us: Micros,
    },
    CallFails {
        client: usize,
        life: u32,
        call: u64,
    },
    CallNotSent {
        client: usize,
        life: u32,
        call: u64,
    },
    ClientSends {
        client: usize,
        life: u32,
    },
    ClientWakes {
        client: usize,
        life: u32,
    },
    ClientFetches {
        client: usize,
        life: u32,
    },
    ViewArrives {
        client: usize,
        life: u32,
        bytes: Bytes,
    },
    DeadlineOver {
        client: usize,
        life: u32,
        op: u64,
    },
    Invoke {
        client: usize,
    },
    Follow {
        client: usize,
        errand: Errand,
    },
    Trouble,
    TroubleEnds {
        trouble: Trouble,
        number: u64,
    },
    ViewInstalls {
        server: usize,
        epoch: u64,
    },
    ListsClose,
    MembersTurn,
    Replace {
        server: usize,
    },
    Upkeep {
        server: usize,
        life: u32,
    },
    PeerAnswers {
        server: usize,
        life: u32,
        number: u64,
        bytes: Bytes,
    },
    PeerOver {
        server: usize,
        life: u32,
        number: u64,
    },
    Chain(ChainEvent),
    Probes,
    Quiet,
    ReadEverything,
    Compare,
}

/// A whole cluster, its clients, and what happens to them.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now_us: Micros,
    number: u64,
    queue: BTreeMap<(Micros, u64), Event>,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) scenario: Scenario,
    pub(crate) options: Options,
    pub(crate) network: Network,
    pub(crate) servers: Vec<Server>,
    pub(crate) clients: Vec<Client>,
    pub(crate) operator: Operator,
    pub(crate) probes: Vec<Probe>,
    pub(crate) decided: Decided,
    /// Operations that are still to be invoked.
    pub(crate) operations_left: u32,
    /// Keys of which an owner's copy is still damaged when everything is read.
    pub(crate) damaged_to_the_end: BTreeSet<KeyId>,
    /// What applications remember of keys with concurrent values.
    pub(crate) remembered: BTreeMap<KeyId, Vec<Memory>>,
    /// What was asked of strong buckets, and what came of it.
    pub(crate) histories: Histories,
    /// What the applications of clients with sessions have seen.
    pub(crate) steps: BTreeMap<usize, Steps>,
    /// What must be carried over when lists change hands.
    pub(crate) carried: Carried,
    /// Nothing goes wrong any more.
    pub(crate) quiet: bool,
    over: bool,
    pub(crate) oracle: Oracle,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let stream = |number| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(number);
            rng
        };
        let mut of_scenario = stream(0);
        let drawn = Scenario::draw(&mut of_scenario);
        let scenario = match options.elastic {
            true => drawn.elastic(&mut of_scenario),
            false => drawn,
        };
        let mut rng = stream(1);
        let view = Arc::new(first_view(&scenario, &mut rng));
        let skew = scenario.server_skew_ms_max;
        let servers = view.members.iter().map(|member| {
            let skew_ms = rng.random_range(-skew..=skew);
            let named = (member.id, Incarnation(rng.random()));
            let mut server = Server::new(named, Arc::clone(&view), skew_ms, options.fault);
            if scenario.decides_views {
                let file = View::clone(&view);
                server.part = Some(Part::new(&server.store, member.id, file, options.fault));
            }
            server
        });
        let mut world = Self {
            now_us: 0,
            number: 0,
            queue: BTreeMap::new(),
            servers: servers.collect(),
            network: Network::new(stream(2), scenario.network),
            clients: Vec::new(),
            operator: Operator::new(stream(3), Arc::clone(&view)),
            probes: Vec::new(),
            decided: Decided::default(),
            operations_left: scenario.operations,
            damaged_to_the_end: BTreeSet::new(),
            remembered: BTreeMap::new(),
            histories: Histories::default(),
            steps: BTreeMap::new(),
            carried: Carried::default(),
            quiet: false,
            over: false,
            oracle: Oracle::default(),
            coverage: Coverage::default(),
            trace: Trace::new(options.traced),
            rng,
            scenario,
            options,
        };
        for client in 0..world.scenario.clients {
            let born = world.new_client(client, 0, &view);
            world.clients.push(born);
            world.schedule(1_000, Event::Invoke { client });
        }
        for server in 0..world.servers.len() {
            world.begin_upkeep(server);
        }
        world.know_keys(&view);
        world.schedule(1_000, Event::Trouble);
        world.schedule(5_000, Event::Probes);
        world.begin_members();
        world
    }

    pub(crate) fn run(mut self) -> Result<Report, Box<Violation>> {
        let text = format!("{:?}", self.scenario);
        self.trace.line(0, || text);
        let mut events = 0;
        while !self.over
            && let Some(((at_us, number), event)) = self.queue.pop_first()
        {
            self.now_us = at_us;
            self.trace.note(&[at_us, number]);
            self.happen(event);
            events += 1;
            if events > EVENTS_MAX {
                self.oracle.fail("liveness", "the run does not end");
            }
            if let Some((oracle, detail)) = self.oracle.violation() {
                let trace = self.trace.take();
                return Err(Box::new(Violation {
                    oracle,
                    detail,
                    trace,
                }));
            }
        }
        Ok(Report {
            hash: self.trace.hash(),
            coverage: self.coverage,
            trace: self.trace.take(),
        })
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::RequestArrives {
                server,
                from,
                bytes,
            } => self.request_arrives(server, from, &bytes),
            Event::ServerRuns { server, life } => self.server_runs(server, life),
            Event::SyncDue { server, life } => self.sync_due(server, life),
            Event::SyncDone {
                server,
                life,
                mark,
                point,
            } => self.sync_done(server, life, mark, point),
            Event::CrashNow { server } => self.crash(server),
            Event::Restart { server, life } => self.restart(server, life),
            Event::Stopped { server, life } => self.stopped(server, life),
            Event::ReplyArrives {
                client,
                life,
                call,
                bytes,
                sent_us,
            } => self.reply_arrives((client, life, call), bytes, sent_us),
            Event::CallFails { client, life, call } => self.call_fails(client, life, call, true),
            Event::CallNotSent { client, life, call } => self.call_fails(client, life, call, false),
            Event::ClientSends { client, life } => self.client_sends(client, life),
            Event::ClientWakes { client, life } => self.client_wakes(client, life),
            Event::ClientFetches { client, life } => self.client_fetches(client, life),
            Event::ViewArrives {
                client,
                life,
                bytes,
            } => self.view_arrives(client, life, &bytes),
            Event::DeadlineOver { client, life, op } => self.deadline_over(client, life, op),
            Event::Invoke { client } => self.invoke(client),
            Event::Follow { client, errand } => self.follow_now(client, errand),
            Event::Trouble => self.trouble(),
            Event::TroubleEnds { trouble, number } => self.trouble_ends(trouble, number),
            Event::ViewInstalls { server, epoch } => self.view_installs(server, epoch),
            Event::ListsClose => self.close_lists(),
            Event::MembersTurn => self.members_turn(),
            Event::Replace { server } => self.replace(server),
            Event::Upkeep { server, life } => self.upkeep(server, life),
            Event::PeerAnswers {
                server,
                life,
                number,
                bytes,
            } => self.peer_answers(server, life, number, &bytes),
            Event::PeerOver {
                server,
                life,
                number,
            } => self.peer_over(server, life, number),
            Event::Chain(event) => self.chain_happens(event),
            Event::Probes => self.send_probe(),
            Event::Quiet => self.become_quiet(),
            Event::ReadEverything => self.read_everything(),
            Event::Compare => {
                self.compare();
                self.over = true;
            }
        }
    }

    pub(crate) fn schedule(&mut self, delay_us: Micros, event: Event) {
        self.schedule_at(self.now_us + delay_us, event);
    }

    pub(crate) fn schedule_at(&mut self, at_us: Micros, event: Event) {
        let number = self.next_number();
        self.queue.insert((at_us, number), event);
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// What the true clock shows, in milliseconds since the Unix epoch.
    pub(crate) fn true_ms(&self) -> u64 {
        BEGINNING_MS + self.now_us / 1_000
    }

    pub(crate) fn crash_after_ack(&self) -> f64 {
        match self.quiet {
            true => 0.0,
            false => self.scenario.crash_after_ack,
        }
    }

    pub(crate) fn server_of(&self, node: NodeId) -> usize {
        let at = self.servers.iter().position(|s| s.replica.node == node);
        at.expect("nodes of views are servers")
    }

    /// A client in its first or a later life.
    pub(crate) fn new_client(&mut self, client: usize, life: u32, view: &Arc<View>) -> Client {
        let incarnation = Incarnation(self.rng.random());
        let region = client % self.scenario.regions;
        let mut born = Client::new(incarnation, Arc::clone(view), region, self.options.fault);
        let skew = self.scenario.client_skew_ms_max;
        born.set_clocks(
            self.rng.random_range(1..1_000_000),
            self.rng.random_range(-skew..=skew),
        );
        if skew > 1_000 {
            self.coverage.hit("fault", "client_clock_off");
        }
        born.life = life;
        born
    }

    /// How many owners each region gives the keys of a bucket.
    pub(crate) fn owners_of(&self, bucket: &Bucket) -> PerRegion {
        let mut owners = [0; REGIONS_MAX];
        let count = usize::from(bucket.replicas).min(self.scenario.list_length);
        for owners in owners.iter_mut().take(self.scenario.regions) {
            *owners = count as u8;
        }
        owners
    }

    /// Tells the oracle of the keys of a view's buckets.
    pub(crate) fn know_keys(&mut self, view: &View) {
        for bucket in &view.buckets {
            let owners = self.owners_of(bucket);
            let group = bucket.durability == Durability::Group;
            for key in 0..self.scenario.keys {
                self.oracle.know((bucket.number, key), owners, group);
            }
        }
    }
}

/// The bytes of a key.
pub(crate) fn key_bytes(key: usize) -> Bytes {
    format!("key {key}").into()
}

/// A bucket of the last write, made durable by groups.
pub(crate) const GROUP: u32 = 1;
/// A bucket that keeps concurrent writes.
pub(crate) const SIBLINGS: u32 = 5;
/// The same, where writes are acknowledged before they are durable.
pub(crate) const HASTY: u32 = 6;
/// Strong buckets: one with three replicas, and one with another number of them.
pub(crate) const STRONG: [u32; 2] = [7, 8];
/// A bucket with one or two replicas.
pub(crate) const NARROW: u32 = 4;

/// The server of this number, as a member.
pub(crate) fn member(index: usize, regions: usize) -> Member {
    Member {
        id: NodeId(100 + index as u64),
        address: format!("server-{index}:7400"),
        capacity: 1,
        zone: String::new(),
        region: format!("r{}", index % regions),
        state: MemberState::Active,
    }
}

fn first_view(scenario: &Scenario, rng: &mut ChaCha8Rng) -> View {
    let member = |index| member(index, scenario.regions);
    let group = Bucket::new(GROUP, "group");
    let lazy = Bucket {
        durability: Durability::Async,
        ..Bucket::new(2, "async")
    };
    let wide = Bucket {
        replicas: 5,
        ttl_ms: Some(400),
        write_level: Level::All,
        ..Bucket::new(3, "wide")
    };
    let narrow = Bucket {
        replicas: rng.random_range(1..=2),
        ..Bucket::new(NARROW, "narrow")
    };
    let siblings = Bucket {
        mode: Mode::Siblings,
        ..Bucket::new(SIBLINGS, "siblings")
    };
    let hasty = Bucket {
        mode: Mode::Siblings,
        durability: Durability::Async,
        ..Bucket::new(HASTY, "hasty siblings")
    };
    let strong = |number, name, replicas| Bucket {
        mode: Mode::Strong,
        replicas,
        ..Bucket::new(number, name)
    };
    let agreed = strong(STRONG[0], "strong", 3);
    let other = strong(
        STRONG[1],
        "strong, too",
        *[1, 2, 4, 5].choose(rng).expect("not empty"),
    );
    let mut buckets = vec![group, lazy, wide, narrow, siblings, hasty, agreed, other];
    if scenario.loses_disks {
        let replicas = buckets.iter_mut().map(|bucket| &mut bucket.replicas);
        replicas.for_each(|replicas| *replicas = 3.max(*replicas));
    }
    let plan = Plan {
        cluster: ClusterId(rng.random()),
        name: "simulated".into(),
        seed: rng.random(),
        epoch: 2,
        value_bytes_max: VALUE_BYTES_MAX,
        partitions: scenario.partitions,
        list_length: scenario.list_length,
        members: (0..scenario.nodes * scenario.regions).map(member).collect(),
        buckets,
    };
    plan.view().expect("a sound plan")
}
