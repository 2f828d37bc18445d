//! What a seed draws: the cluster, and the faults with their rates.

use super::operator::Trouble;
use super::world::{GROUP, HASTY, NARROW, SIBLINGS};
use annulet_protocol::level::Level;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Microseconds of virtual time.
pub(crate) type Micros = u64;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) regions: usize,
    /// Servers in each region.
    pub(crate) nodes: usize,
    /// Owners in each list.
    pub(crate) list_length: usize,
    pub(crate) partitions: u32,
    pub(crate) clients: usize,
    /// Keys of each bucket.
    pub(crate) keys: usize,
    /// How often an operation is a scan.
    pub(crate) scans: f64,
    /// How often an operation is one on a strong bucket.
    pub(crate) strong: f64,
    /// The buckets of all others; none are all that there are.
    pub(crate) only_buckets: &'static [u32],
    /// The level of every operation that has one.
    pub(crate) only_level: Option<Level>,
    /// How often it asks what became of a write, where there is something to ask.
    pub(crate) resolves: f64,
    /// How often an owner that accepts something brings it to another one.
    pub(crate) repairs: f64,
    /// Whether values of the second strong bucket expire.
    pub(crate) strong_ends: bool,
    /// Operations of all clients together.
    pub(crate) operations: u32,
    /// Mean time between two operations of a client.
    pub(crate) gap_us: Micros,
    /// Longest timeout of an operation, in milliseconds.
    pub(crate) timeout_ms_max: u64,
    /// How long a client waits before it takes a message for unanswered, in milliseconds.
    pub(crate) patience_ms: u64,
    pub(crate) network: Rates,
    /// Longest time that a server needs for a request.
    pub(crate) service_us_max: Micros,
    /// Longest time that a sync takes.
    pub(crate) sync_us_max: Micros,
    /// Furthest that a server's clock is off while it counts as right, in milliseconds.
    pub(crate) server_skew_ms_max: i64,
    /// Furthest that a client's clock is off, in milliseconds.
    pub(crate) client_skew_ms_max: i64,
    /// What goes wrong, besides the network.
    pub(crate) troubles: Vec<Trouble>,
    /// Mean time between two troubles.
    pub(crate) trouble_gap_us: Micros,
    /// Whether views are decided by the servers; else the operator changes them, and moves
    /// partitions.
    pub(crate) decides_views: bool,
    /// Whether members come and go, and what follows is planned.
    pub(crate) elastic: bool,
    /// Whether servers lose their disks and are replaced: then each bucket has three replicas at
    /// least, since nothing replaces the only copy.
    pub(crate) loses_disks: bool,
    /// Chance that a server that proposes an epoch crashes at some step.
    pub(crate) proposer_dies: f64,
    /// Chance that a server that acknowledged a write crashes at once.
    pub(crate) crash_after_ack: f64,
    /// Chance that a server answers as a newer version would.
    pub(crate) from_the_future: f64,
    /// How long the value of an expired record is kept, in milliseconds.
    pub(crate) expired_kept_ms: u64,
    /// Chance that an operation has the level of its bucket.
    pub(crate) plain_level: f64,
    /// Whether every other client goes through the cluster in a session.
    pub(crate) sessions: bool,
    /// Chance that another client reads what an operation has just shown or written.
    pub(crate) follow: f64,
}

/// Mostly some chance up to this, now and then none.
fn rate_of(rng: &mut ChaCha8Rng, most: f64) -> f64 {
    match rng.random_bool(0.7) {
        true => most * rng.random::<f64>(),
        false => 0.0,
    }
}

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) lost: f64,
    pub(crate) duplicated: f64,
    /// Chance of a message that takes very long.
    pub(crate) spike: f64,
    /// Longest time of an ordinary message.
    pub(crate) delay_us_max: Micros,
    /// Longest time of any message.
    pub(crate) spike_us_max: Micros,
}

/// By how much clocks of clients may be off where they are off by some seconds.
const CLIENT_SKEW_MS: i64 = 5_000;

impl Scenario {
    pub(crate) fn draw(rng: &mut ChaCha8Rng) -> Self {
        let regions = if rng.random_bool(0.15) { 2 } else { 1 };
        let nodes = match regions {
            1 => *[1, 2, 3, 3, 3, 4, 5, 5, 6].choose(rng).expect("not empty"),
            _ => 3,
        };
        let list_length = nodes.min(if rng.random_bool(0.3) { 5 } else { 3 });
        let mut rate = |chance: f64, most: f64| match rng.random_bool(chance) {
            true => most * rng.random::<f64>(),
            false => 0.0,
        };
        let network = Rates {
            lost: rate(0.5, 0.1),
            duplicated: rate(0.5, 0.1),
            spike: rate(0.5, 0.1),
            ..Rates::default()
        };
        let crash_after_ack = rate(0.25, 0.05);
        let from_the_future = rate(0.1, 0.05);
        let network = Rates {
            delay_us_max: *[500, 2_000, 20_000].choose(rng).expect("not empty"),
            spike_us_max: rng.random_range(50_000..400_000),
            ..network
        };
        let likely = rng.random_range(0.1..0.7);
        let troubles = Trouble::ALL.iter().copied();
        let drawn = Self {
            regions,
            nodes,
            list_length,
            partitions: *[1, 4, 8].choose(rng).expect("not empty"),
            clients: rng.random_range(2..=4),
            keys: rng.random_range(1..=4),
            scans: 0.08,
            strong: *[0.1, 0.2, 0.8].choose(rng).expect("not empty"),
            only_buckets: &[],
            only_level: None,
            resolves: *[0.02, 0.5].choose(rng).expect("not empty"),
            repairs: *[0.0, 0.3, 0.9].choose(rng).expect("not empty"),
            strong_ends: rng.random_bool(0.4),
            operations: rng.random_range(60..=200),
            gap_us: *[2_000, 10_000, 40_000].choose(rng).expect("not empty"),
            timeout_ms_max: *[60, 400, 2_000].choose(rng).expect("not empty"),
            patience_ms: rng.random_range(30..=600),
            network,
            service_us_max: *[200, 2_000, 10_000].choose(rng).expect("not empty"),
            sync_us_max: *[300, 3_000, 30_000].choose(rng).expect("not empty"),
            server_skew_ms_max: *[0, 100, 450].choose(rng).expect("not empty"),
            client_skew_ms_max: *[0, 400, CLIENT_SKEW_MS, 3_600_000]
                .choose(rng)
                .expect("not empty"),
            troubles: troubles.filter(|_| rng.random_bool(likely)).collect(),
            trouble_gap_us: *[40_000, 150_000, 500_000].choose(rng).expect("not empty"),
            decides_views: false,
            elastic: false,
            loses_disks: false,
            proposer_dies: 0.0,
            crash_after_ack,
            from_the_future,
            expired_kept_ms: 0,
            plain_level: *[0.2, 0.6, 1.0].choose(rng).expect("not empty"),
            follow: rate_of(rng, 0.7),
            sessions: rng.random_bool(0.5),
        };
        drawn.special(rng)
    }

    /// Some seeds are about one thing more than about others.
    fn special(self, rng: &mut ChaCha8Rng) -> Self {
        let mut drawn = match rng.random_bool(0.5) {
            true => self.moving(rng),
            false if rng.random_bool(0.5) => self.deciding(rng),
            false => self,
        };
        if rng.random_bool(0.15) {
            drawn = drawn.contending(rng);
        } else if rng.random_bool(0.15) {
            drawn.linger();
        } else if rng.random_bool(0.15) {
            drawn.thin_out(rng);
        }
        // Pages that end in the middle of what is there.
        if rng.random_bool(0.25) {
            (drawn.keys, drawn.partitions) = (rng.random_range(5..=9), 1);
            drawn.scans = 0.4;
        }
        // A server whose clock jumps must not take away what has not expired; nor what a client
        // whose clock is behind has put, and still sees.
        let behind = drawn.client_skew_ms_max == CLIENT_SKEW_MS;
        drawn.expired_kept_ms = match drawn.troubles.contains(&Trouble::ServerClock) {
            true => 6_000,
            false => match rng.random_range(1_500..3_000) {
                _ if behind => CLIENT_SKEW_MS as u64 + 1_000,
                short => short,
            },
        };
        drawn
    }

    /// A cluster whose servers decide their views.
    fn deciding(mut self, rng: &mut ChaCha8Rng) -> Self {
        self.decides_views = true;
        self.proposer_dies = match rng.random_bool(0.5) {
            true => 0.1 * rng.random::<f64>(),
            false => 0.0,
        };
        self.troubles
            .retain(|t| !matches!(t, Trouble::Joint | Trouble::BumpTable));
        if rng.random_bool(0.7) {
            self.troubles.extend([Trouble::AddBucket; 3]);
            self.troubles.push(Trouble::DeleteBucket);
        }
        self
    }

    /// A cluster with so many writes of few strong keys that what became of the first ones is
    /// forgotten, and rounds come between each other.
    fn contending(mut self, rng: &mut ChaCha8Rng) -> Self {
        (self.keys, self.strong, self.resolves) = (1, 0.9, 0.02);
        self.repairs = *[0.3, 0.9].choose(rng).expect("not empty");
        self.clients = 4;
        if rng.random_bool(0.5) {
            // Clients begin with ballots of the same far time, and go on from each other's.
            self.client_skew_ms_max = 3_600_000;
        }
        (self.gap_us, self.timeout_ms_max) = (10_000, 2_000);
        if rng.random_bool(0.5) {
            let more = [Trouble::Crash, Trouble::PowerFailure];
            self.troubles.extend(more);
            (self.crash_after_ack, self.sync_us_max) = (0.05, 30_000);
            self.trouble_gap_us = 40_000;
        } else {
            self.operations = 250;
        }
        self
    }

    /// A network in which what was asked comes again when others have gone on from it.
    fn linger(&mut self) {
        (self.keys, self.strong, self.only_buckets) = (2, 0.02, &[SIBLINGS, HASTY]);
        (self.clients, self.operations) = (4, 200);
        (self.gap_us, self.timeout_ms_max) = (10_000, 400);
        self.network = Rates {
            duplicated: 0.3,
            spike: 0.2,
            delay_us_max: 2_000,
            spike_us_max: 400_000,
            ..self.network
        };
    }

    /// Few owners have what was written last: much is lost on the way, and writes do not wait.
    fn thin_out(&mut self, rng: &mut ChaCha8Rng) {
        let level = match rng.random_bool(0.8) {
            true => Level::Explicit { read: 2, write: 1 },
            false => Level::Quorum,
        };
        (self.keys, self.strong, self.only_level) = (1, 0.02, Some(level));
        self.only_buckets = &[GROUP];
        (self.scans, self.sessions) = (0.0, false);
        (self.gap_us, self.timeout_ms_max) = (2_000, 400);
        (self.network.lost, self.network.delay_us_max) = (0.3, 5_000);
    }

    /// Partitions are joint most of the time, of keys that are written and read elsewhere at once,
    /// while some servers know what the others do not.
    fn join(&mut self, rng: &mut ChaCha8Rng) {
        self.troubles.extend([Trouble::Joint; 8]);
        self.trouble_gap_us = 20_000;
        self.keys = rng.random_range(1..=2);
        self.follow = 0.8;
        if rng.random_bool(0.5) {
            self.only_level = Some(Level::Quorum);
            self.only_buckets = *[&[GROUP, SIBLINGS][..], &[GROUP], &[GROUP, NARROW]]
                .choose(rng)
                .expect("not empty");
        }
        if rng.random_bool(0.5) {
            // Few more than a majority have what was written last, and nobody repairs it.
            (self.keys, self.strong) = (1, *[0.02, 0.9].choose(rng).expect("not empty"));
            (self.nodes, self.partitions) = (4, *[1, 2].choose(rng).expect("not empty"));
            (self.scans, self.gap_us, self.timeout_ms_max) = (0.0, 4_000, 600);
            (self.network.lost, self.network.delay_us_max) = (0.25, 2_000);
            if self.strong > 0.5 {
                // Ballots of one client are below those that another one has used already.
                (self.clients, self.repairs, self.client_skew_ms_max) = (4, 0.2, CLIENT_SKEW_MS);
            }
        }
    }

    /// A cluster whose partitions move all the time.
    fn moving(mut self, rng: &mut ChaCha8Rng) -> Self {
        self.regions = 1;
        self.nodes = rng.random_range(4..=6);
        self.list_length = 3;
        self.timeout_ms_max = 2_000;
        self.trouble_gap_us = 40_000;
        self.gap_us = 10_000;
        self.troubles
            .retain(|t| !matches!(t, Trouble::Damage | Trouble::Perish));
        self.join(rng);
        self
    }

    /// A cluster whose members come and go, and lose their disks.
    pub(crate) fn elastic(mut self, rng: &mut ChaCha8Rng) -> Self {
        (self.elastic, self.decides_views, self.regions) = (true, false, 1);
        (self.nodes, self.list_length) = (rng.random_range(4..=6), 3);
        self.partitions = *[1, 2, 4, 8].choose(rng).expect("not empty");
        self.proposer_dies = 0.0;
        self.loses_disks = rng.random_bool(0.7);
        // What is damaged may be the only copy that is left.
        let ends = [Trouble::Damage, Trouble::Perish, Trouble::Joint];
        self.troubles.retain(|trouble| !ends.contains(trouble));
        if rng.random_bool(0.3) {
            self.troubles.extend([Trouble::Joint; 2]);
        }
        self.troubles.extend([Trouble::Arrive, Trouble::Depart]);
        self.troubles.push(Trouble::SetCapacity);
        if rng.random_bool(0.5) {
            self.troubles.push(Trouble::Crash);
        }
        if self.loses_disks {
            self.troubles.extend([Trouble::LoseDisk; 2]);
        }
        self.operations = self.operations.max(100);
        self.gap_us = *[10_000, 30_000].choose(rng).expect("not empty");
        self.trouble_gap_us = *[20_000, 50_000, 100_000].choose(rng).expect("not empty");
        self
    }
}
