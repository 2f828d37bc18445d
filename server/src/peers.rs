//! Greetings between servers: whether this server's clock agrees with its peers', and whether they
//! were given the same cluster file.
//!
//! Every few seconds a random sample of the peers is greeted, so that a greeting costs the same in
//! a cluster of any size. A server never talks to another while a client waits: this runs beside.

pub(crate) mod link;
mod offset;

use crate::clock;
use crate::config::Limits;
use crate::epochs::follow;
use crate::http::State;
use crate::random;
use crate::tls::Tls;
use annulet_protocol::codec;
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::{REQUEST_OVERHEAD_BYTES, SKEW_MS_MAX};
use annulet_protocol::message::Hello;
use annulet_protocol::view::View;
use link::Link;
use offset::Sample;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Most peers greeted in a round.
const SAMPLE_MAX: usize = 16;
/// Longest that one greeting may take.
const GREETING: Duration = Duration::from_secs(2);
/// How many rounds an answer counts.
const ROUNDS_KEPT: u32 = 12;
/// How many rounds a peer counts as being there: as long as nobody takes over what it does.
const ROUNDS_THERE: u32 = 3;
/// Time between two warnings of different cluster files.
const WARN_EVERY: Duration = Duration::from_secs(30);
/// A clock further than this off the median of its peers takes no first-hand writes.
const OFFSET_MS_MAX: i64 = (SKEW_MS_MAX / 2) as i64;

/// What is known of the peers.
#[derive(Debug)]
pub(crate) struct Peers {
    heard: Mutex<BTreeMap<NodeId, Heard>>,
    /// When a disagreement was last warned of.
    warned: Mutex<Option<Instant>>,
    /// What the peers' clocks said of this one last.
    judged: Mutex<Option<Judged>>,
    every: Duration,
}

/// What was found out of this server's clock, and when.
#[derive(Clone, Copy, Debug)]
struct Judged {
    trusted: bool,
    at: Instant,
    wall_ms: u64,
}

impl Judged {
    /// Whether the clock was right, and has run evenly since.
    fn holds(&self, now: Instant, wall_ms: u64) -> bool {
        let ran = now.saturating_duration_since(self.at).as_millis() as u64;
        let off = wall_ms.abs_diff(self.wall_ms.saturating_add(ran));
        self.trusted && off <= OFFSET_MS_MAX as u64
    }
}

#[derive(Clone, Debug)]
struct Peer {
    node: NodeId,
    address: String,
}

/// What a peer said last.
#[derive(Clone, Copy, Debug)]
struct Heard {
    sample: Sample,
    at: Instant,
    disagrees: bool,
}

impl Peers {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            heard: Mutex::default(),
            warned: Mutex::default(),
            judged: Mutex::default(),
            every: Duration::from_millis(limits.hello_ms),
        }
    }

    /// Whether a peer that is greeted in every round was heard of lately.
    pub(crate) fn is_heard(&self, node: NodeId) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let there = self.every * ROUNDS_THERE;
        heard
            .get(&node)
            .is_some_and(|heard| clock::since(heard.at) < there)
    }

    /// Warns if a peer of the same epoch was given another cluster file. Says whether it was.
    pub(crate) fn compare(&self, theirs: &Hello, ours: &Hello) -> bool {
        let same = theirs.epoch == ours.epoch && theirs.generation == ours.generation;
        let disagrees = same && theirs.view_digest != ours.view_digest;
        if disagrees && self.may_warn() {
            tracing::error!(
                peer = %theirs.node,
                epoch = theirs.epoch,
                "a peer has ANOTHER CLUSTER FILE of the same epoch: give all servers the same, \
                 else they disagree who owns which keys"
            );
        }
        disagrees
    }

    /// Whether this server's clock may be gone by where a wrong one would do harm: it was compared
    /// with the peers', and has not jumped since.
    pub(crate) fn clock_holds(&self) -> bool {
        let judged = *self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        judged.is_some_and(|judged| judged.holds(clock::now(), clock::now_ms()))
    }

    /// Loudly, but not with every greeting.
    fn may_warn(&self) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let may = warned.is_none_or(|at| clock::since(at) >= WARN_EVERY);
        if may {
            *warned = Some(clock::now());
        }
        may
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Heard>> {
        // A panic elsewhere does not tear the map, so a poisoned lock is still good.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A random choice of the other members; among keepers also all of the others, who have to notice
/// within a few rounds that the first of them is gone.
fn sample(view: &View, own: NodeId) -> Vec<Peer> {
    let keepers = &view.tip.keepers;
    let is_keeper = |node: &NodeId| keepers.contains(node) && keepers.contains(&own);
    let others = view.members.iter().filter(|member| member.id != own);
    let (mut taken, mut others): (Vec<_>, Vec<_>) = others.partition(|m| is_keeper(&m.id));
    let take = others.len().min(SAMPLE_MAX);
    for place in 0..take {
        let left = (others.len() - place) as u64;
        others.swap(place, place + (random::spread() % left) as usize);
    }
    taken.extend(others.into_iter().take(take));
    let taken = taken.into_iter().map(|member| Peer {
        node: member.id,
        address: member.address.clone(),
    });
    taken.collect()
}

/// Greets samples of the peers for ever.
pub(crate) async fn run(state: Arc<State>, tls: Arc<Tls>) {
    let mut trusted = true;
    loop {
        round(&state, &tls).await;
        trusted = judge(&state, trusted);
        tokio::time::sleep(state.peers.every).await;
    }
}

async fn round(state: &Arc<State>, tls: &Arc<Tls>) {
    let mut greetings = JoinSet::new();
    for peer in sample(&state.view(), state.node) {
        let (state, tls) = (state.clone(), tls.clone());
        greetings.spawn(async move {
            let greeted = match timeout(GREETING, greet(&state, &tls, &peer)).await {
                Ok(greeted) => greeted,
                Err(_) => Err("it did not answer in time".into()),
            };
            match greeted {
                Ok(heard) => {
                    state.upkeep.heard_of(peer.node);
                    state.peers.lock().insert(peer.node, heard);
                }
                Err(why) => tracing::debug!(peer = %peer.address, %why, "a peer does not greet"),
            }
        });
    }
    while greetings.join_next().await.is_some() {}
}

/// Draws conclusions from what was heard lately.
fn judge(state: &State, before: bool) -> bool {
    let (samples, disagreeing) = {
        let mut heard = state.peers.lock();
        let kept = state.peers.every * ROUNDS_KEPT;
        heard.retain(|_, heard| clock::since(heard.at) <= kept);
        let samples: Vec<_> = heard.values().map(|heard| heard.sample).collect();
        (
            samples,
            heard.values().filter(|heard| heard.disagrees).count(),
        )
    };
    let offset_ms = offset::median_ms(&samples);
    let trusted = offset_ms.is_none_or(|offset| offset.abs() <= OFFSET_MS_MAX);
    state.pipeline.trust_clock(trusted);
    let judged = Judged {
        trusted,
        at: clock::now(),
        wall_ms: clock::now_ms(),
    };
    let mut last = state
        .peers
        .judged
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    *last = Some(judged);
    drop(last);
    let metrics = &state.metrics;
    metrics.peers_heard.set(samples.len() as i64);
    metrics.peers_disagreeing.set(disagreeing as i64);
    metrics.clock_offset_ms.set(offset_ms.unwrap_or(0));
    metrics.clock_trusted.set(i64::from(trusted));
    match (before, trusted) {
        (true, false) => tracing::error!(
            offset_ms,
            "this server's clock is off its peers': no new writes are taken until it is set"
        ),
        (false, true) => tracing::info!("this server's clock agrees with its peers' again"),
        (true, true) | (false, false) => {}
    }
    trusted
}

/// Says hello to one peer.
async fn greet(state: &Arc<State>, tls: &Tls, peer: &Peer) -> Result<Heard, String> {
    let cluster = state.view().cluster;
    let mut link = Link::open(cluster, tls, &peer.address).await?;
    let sent = clock::now();
    let sent_ms = clock::now_ms();
    let ours = state.hello(sent_ms);
    let hello = codec::encode(&ours);
    let body = link
        .post("/v1/peer/hello", hello, REQUEST_OVERHEAD_BYTES)
        .await?;
    let round_trip = clock::since(sent);
    let theirs = codec::decode_hello(&body).map_err(|error| error.to_string())?;
    if theirs.cluster != ours.cluster || theirs.node != peer.node {
        let Hello { node, cluster, .. } = theirs;
        return Err(format!(
            "it is {node} of cluster {cluster}, not {}",
            peer.node
        ));
    }
    follow::heard(state, &theirs);
    Ok(Heard {
        sample: Sample::of(sent_ms, round_trip, theirs.time_ms),
        at: clock::now(),
        disagrees: state.peers.compare(&theirs, &ours),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_file::{ClusterFile, MemberEntry};
    use annulet_protocol::ids::ClusterId;
    use std::collections::BTreeSet;

    #[test]
    fn keepers_greet_each_other_in_every_round_and_others_by_chance() {
        let members = (1..201).map(MemberEntry::plain).collect();
        let file = ClusterFile::new(ClusterId([1; 16]), "test", members);
        let view = annulet_ring::chain::begin(file.view().unwrap());
        let keepers = view.tip.keepers.clone();
        let sampled = |own: NodeId| {
            let peers = sample(&view, own);
            let nodes: BTreeSet<_> = peers.iter().map(|peer| peer.node).collect();
            assert_eq!(nodes.len(), peers.len());
            assert!(!nodes.contains(&own));
            nodes
        };
        for own in &keepers {
            let nodes = sampled(*own);
            assert_eq!(nodes.len(), SAMPLE_MAX + keepers.len() - 1);
            assert!(keepers.iter().all(|k| k == own || nodes.contains(k)));
        }
        let other = view.members.iter().find(|m| !keepers.contains(&m.id));
        assert_eq!(sampled(other.unwrap().id).len(), SAMPLE_MAX);
    }

    #[test]
    fn a_clock_that_jumped_is_not_gone_by_until_it_was_compared_again() {
        let judged = |trusted| Judged {
            trusted,
            at: clock::now(),
            wall_ms: 1_000_000,
        };
        let second = Duration::from_secs(1);
        let trusted = judged(true);
        for (wall_ms, expected) in [
            (1_001_000, true),
            (1_001_500, true),
            (1_001_501, false),
            (1_000_499, false),
            (90_000_000, false),
        ] {
            let holds = trusted.holds(trusted.at + second, wall_ms);
            assert_eq!(holds, expected, "{wall_ms}");
        }
        let distrusted = judged(false);
        assert!(!distrusted.holds(distrusted.at, 1_000_000));
    }
}
