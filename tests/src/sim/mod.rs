//! The simulator: whole clusters in one thread, from one seed.
//!
//! What decides is the very code that is shipped: the client's coordinators, the replica's rules
//! and gate, the codecs. What is imagined is what they are given: time, the network, the disk, the
//! machine's clocks, the people who operate it. Everything that happens follows from the seed, so
//! a seed that fails fails again.
//!
//! Each seed draws a cluster and a random subset of the faults, at random rates (swarm testing):
//! a bug that needs one fault to be frequent and another to be absent is found too.
//!
//! # Layout
//! - `scenario`: what a seed draws
//! - `world`: virtual time, and the order of events
//! - `network`: what becomes of a message
//! - `server`: a replica with its queue; `disk`: its syncs, and the answers that wait for them;
//!   `upkeep`: what servers do by themselves; `copying`: when they come to own something, and own
//!   it no more; `carried`: what must not get lost then
//! - `client`: a core with its operations; `calls`: its messages; `results`: what it tells its
//!   application; `workload`: what that asks for; `probe`: requests that no honest client sends
//! - `operator`: crashes, partitions, clocks; `damage`: flipped bits; `views`: new views;
//!   `joint`: lists that change hands; `members`: servers that come, go and lose their disks;
//!   `following`: what follows then by itself; `finale`: the quiet at the end
//! - `chain`: what servers hold of the chain of epochs, and what they say about it; `changes`: how
//!   it goes on
//! - `sessions`: clients that must not be shown anything older than what they have seen
//! - `siblings`: the same in buckets that keep concurrent writes; `strong`: in strong buckets
//! - `noticed`: whether a rule that is broken on purpose is seen to be
//! - `oracle`: what must hold; `causal`: the same of concurrent values; `levels`: which quorums
//!   overlap; `histories`: what must hold of strong buckets; `touches`: what is told of touches
//! - `coverage`: what has happened at all; `trace`: the story of a run
//!
//! # What the oracles say
//! | oracle | rule |
//! |---|---|
//! | `lost` | a read sees every write acknowledged before it, where their levels overlap |
//! | `monotonic` | a read never sees less than an earlier read, where their levels overlap |
//! | `resurrected` | what was deleted does not come back |
//! | `expired` | an expired value is never shown, a value that is not is never hidden |
//! | `handed-over` | what was acknowledged by servers that keep it comes to the owners |
//! | `hints` | in the end nobody keeps anything for a server that is there |
//! | `not-applied` | a write said not to be applied never appears |
//! | `phantom` | what is read was written |
//! | `dropped` | a merge takes nothing away that nobody has overwritten |
//! | `session` | a session is shown nothing older than what it has written or seen |
//! | `twin` | a value is shown once, through however many owners it was put |
//! | `spread` | what an owner minted reaches the others without any client |
//! | `skew` | no server takes a first-hand stamp from too far ahead |
//! | `full` | no server whose disk is full takes a new value |
//! | `deadline` | every operation ends by its deadline, exactly once, and sends nothing after |
//! | `quorum` | an operation succeeds only with enough distinct owners, all under one view |
//! | `level` | a level that no quorum can meet is refused at once, any other is not |
//! | `one-stamp` | every message of a write carries the same record |
//! | `liveness` | what nothing stands in the way of succeeds |
//! | `convergence` | after quiet and a read of everything, owners hold the same bytes |
//! | `probe` | a request that must be refused is refused, for the right reason |
//! | `linearizable` | one order explains all that was answered of a strong key |
//! | `promise` | what a keeper has told of its votes holds, whatever it lost since |
//! | `agreement` | there is one decided epoch of each number |
//! | `settled` | nobody acts under an epoch before a majority of its keepers holds it durably |
//! | `acknowledged` | a change of a bucket that was acknowledged is in the chain for ever, once |
//! | `number` | no number is given to a second bucket |
//! | `deleted` | nothing of a deleted bucket is answered, nor stays on disk |
//! | `lists` | after quiet no partition is joint, and nobody has what others own |
//! | `carried` | promises of a majority, and what one server held alone, come to the next owners |
//! | `ghost` | what was left of an earlier time is not there when an arc is owned again |
//! | `chain` | after quiet all servers act under the same epoch |

mod calls;
mod carried;
mod causal;
mod chain;
mod changes;
mod client;
mod copying;
mod coverage;
mod damage;
mod disk;
mod finale;
mod following;
mod histories;
mod joint;
mod levels;
mod members;
mod network;
#[cfg(feature = "faults")]
pub mod noticed;
mod operator;
mod oracle;
mod probe;
mod results;
mod scenario;
mod server;
mod sessions;
mod siblings;
mod strong;
mod touches;
mod trace;
mod upkeep;
mod views;
mod workload;
mod world;

pub use coverage::Coverage;

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep the story of the run.
    pub traced: bool,
    /// The rule that is broken on purpose.
    pub fault: Fault,
    /// Members come and go, and what follows is planned.
    pub elastic: bool,
}

/// A rule broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// None.
    #[default]
    None,
    /// One of the replica's.
    #[cfg(feature = "faults")]
    Replica(annulet_replica::rules::Fault),
    /// One of the client's.
    #[cfg(feature = "faults")]
    Client(annulet::core::client::Fault),
    /// One of the chain of epochs.
    #[cfg(feature = "faults")]
    Chain(annulet_replica::chain::Fault),
    /// A server mints as the same actor after a restart.
    #[cfg(feature = "faults")]
    IncarnationKept,
    /// One of those who copy what they are to own.
    #[cfg(feature = "faults")]
    Copy(annulet_replica::copy::Fault),
    /// One of how lists change hands.
    #[cfg(feature = "faults")]
    Lists(ListsFault),
}

/// A rule broken on purpose by those who change lists, or by servers that follow.
#[cfg(feature = "faults")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListsFault {
    /// A move is closed when one owner of the next list is done.
    ClosedEarly,
    /// What is gained is not emptied.
    ArcKept,
    /// What is lost is dropped without another look.
    DroppedEarly,
    /// The view that was acted under is not kept over a crash.
    FenceForgotten,
    /// Who leaves is gone before it has handed over what it had.
    GoneEarly,
    /// A server whose disk is lost comes back under its old id.
    EmptyReturns,
}

impl Fault {
    #[cfg(feature = "faults")]
    fn of_lists(self, fault: ListsFault) -> bool {
        self == Self::Lists(fault)
    }

    /// Whether a move is closed when one owner of the next list is done.
    fn closes_early(self) -> bool {
        #[cfg(feature = "faults")]
        return self.of_lists(ListsFault::ClosedEarly);
        #[cfg(not(feature = "faults"))]
        false
    }

    /// Whether who leaves is gone before it has handed over what it had.
    fn forgets_leavers(self) -> bool {
        #[cfg(feature = "faults")]
        return self.of_lists(ListsFault::GoneEarly);
        #[cfg(not(feature = "faults"))]
        false
    }

    /// Whether a server whose disk is lost comes back under its old id.
    fn returns_empty(self) -> bool {
        #[cfg(feature = "faults")]
        return self.of_lists(ListsFault::EmptyReturns);
        #[cfg(not(feature = "faults"))]
        false
    }

    /// Whether a server that is behind says that it is not.
    fn claims_epochs(self) -> bool {
        #[cfg(feature = "faults")]
        return self == Self::Replica(annulet_replica::rules::Fault::BehindServes);
        #[cfg(not(feature = "faults"))]
        false
    }

    /// Whether what is gained is not emptied.
    fn keeps_arcs(self) -> bool {
        #[cfg(feature = "faults")]
        return self.of_lists(ListsFault::ArcKept);
        #[cfg(not(feature = "faults"))]
        false
    }

    /// Whether the view that was acted under is not kept over a crash.
    fn forgets_fences(self) -> bool {
        #[cfg(feature = "faults")]
        return self.of_lists(ListsFault::FenceForgotten);
        #[cfg(not(feature = "faults"))]
        false
    }

    /// Whether a server that starts again is another actor.
    fn renews_incarnation(self) -> bool {
        #[cfg(feature = "faults")]
        if self == Self::IncarnationKept {
            return false;
        }
        true
    }
}

/// What a run that went well says.
#[derive(Clone, Debug)]
pub struct Report {
    /// The same for the same seed, whatever else runs.
    pub hash: u64,
    /// How often each thing happened.
    pub coverage: Coverage,
    /// The story, if it was asked for.
    pub trace: Vec<String>,
}

/// What must never happen, and did.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which rule was broken.
    pub oracle: &'static str,
    /// How.
    pub detail: String,
    /// The story up to there, if it was asked for.
    pub trace: Vec<String>,
}

/// Runs one seed.
///
/// # Errors
/// The first violation.
pub fn run(seed: u64, options: Options) -> Result<Report, Box<Violation>> {
    world::World::new(seed, options).run()
}
