//! Newer epochs, fetched from others: at the start, when a peer's greeting tells of one, and when a
//! request names one. The last is the only time that a server talks to another while a client
//! waits.

use super::{answer, stop};
use crate::clock;
use crate::http::State;
use crate::peers::link::Link;
use crate::random;
use crate::store::wrap::Plain;
use annulet_protocol::codec::{self, CHAIN_BYTES_MAX};
use annulet_protocol::epoch::{ChainAnswer, ChainQuestion, Deltas, Offer, Point, number_of};
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::Hello;
use annulet_protocol::view::View;
use annulet_ring::chain::Relation;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest time at the start until this server goes on with what it has.
const BEGIN: Duration = Duration::from_secs(1);
/// Longest time that one look-up takes.
const LOOK_UP: Duration = Duration::from_secs(1);
/// For so long after a look-up that found nothing new, requests start no other.
const FRUITLESS: Duration = Duration::from_millis(250);
/// Longest time to fetch from a peer that has more.
const FETCH: Duration = Duration::from_secs(10);

/// Members besides the keepers that are asked for an epoch.
const OTHERS: usize = 3;

/// Look-ups are made one at a time; when the last one was over that found nothing new.
#[derive(Debug, Default)]
pub(crate) struct LookUps(Mutex<Option<Instant>>);

/// After the start: asks the keepers whether there is more, until a majority of them has answered
/// or the time for it is over.
pub(super) async fn begin(state: &Arc<State>) {
    let keepers = keepers(&state.view());
    let others: Vec<_> = keepers
        .iter()
        .copied()
        .filter(|k| *k != state.node)
        .collect();
    let enough = keepers.len() / 2 + 1 - (keepers.len() - others.len()).min(1);
    let asking = async {
        let mut asked = ask_all(state, others);
        let mut answered = 0;
        while answered < enough
            && let Some(fetched) = asked.join_next().await
        {
            answered += usize::from(matches!(fetched, Ok(Ok(()))));
        }
        answered
    };
    match timeout(BEGIN, asking).await {
        Ok(answered) if answered >= enough => {}
        Ok(_) | Err(_) => tracing::warn!(
            epoch = state.view().epoch,
            "too few keepers say whether there is a newer epoch; going on with this one"
        ),
    }
}

/// A peer tells of its chain.
pub(crate) fn heard(state: &Arc<State>, theirs: &Hello) {
    let point = theirs.point();
    // A peer without a hash does not know of chains.
    if point.hash == Default::default() || point == state.view().point() {
        return;
    }
    let (state, node, first) = (Arc::clone(state), theirs.node, theirs.first);
    tokio::spawn(async move {
        if let Err(why) = compare(&state, node, point, first).await {
            tracing::debug!(peer = %node, %why, "newer epochs cannot be fetched");
        }
    });
}

async fn compare(
    state: &Arc<State>,
    node: NodeId,
    theirs: Point,
    first: u64,
) -> Result<(), String> {
    let compared = super::in_chain(state, move |chain, state| {
        let store = Plain(state.pipeline.engine());
        Ok((chain.relation(&store, theirs)?, chain.newest()))
    });
    let (relation, newest) = compared.await.map_err(|error| error.to_string())?;
    match relation {
        Relation::Ahead => {
            let Ok(_one_at_a_time) = state.epochs.look_ups.0.try_lock() else {
                return Ok(());
            };
            timeout(FETCH, fetch(state, node))
                .await
                .map_err(|_| "it did not answer in time")?
        }
        // It acts under what is only held here: a majority of its keepers holds it.
        Relation::Same => settle(state, newest).await,
        Relation::Behind => Ok(()),
        Relation::Abandoned => {
            tracing::warn!(
                peer = %node,
                epoch = theirs.number,
                "a peer acts under an epoch that was given up by a recovery: it stops when it \
                 hears of that"
            );
            Ok(())
        }
        Relation::Fork => {
            // What a cluster file says was decided by nobody.
            if theirs.number > first {
                stop(state, format!("peer {node} is at epoch {}", theirs.number));
            }
            Ok(())
        }
    }
}

async fn settle(state: &Arc<State>, settled: Point) -> Result<(), String> {
    let offer = ChainQuestion::Offer(Offer::new(Vec::new(), settled, settled));
    let answered = answer(state, offer).await;
    answered.map(drop).map_err(|_| "this server stops".into())
}

/// A request names an epoch, by its ordinal, that is not known here: asks the keepers for it. A
/// look-up that found nothing is not repeated at once, whatever requests name.
pub(crate) async fn catch_up(state: &Arc<State>, epoch: u64, deadline: Instant) {
    let left = deadline
        .saturating_duration_since(clock::now())
        .min(LOOK_UP);
    let looked = timeout(left, async {
        let mut fruitless = state.epochs.look_ups.0.lock().await;
        let lately = fruitless.is_some_and(|at| clock::since(at) < FRUITLESS);
        if state.view().ordinal() >= epoch || lately {
            return;
        }
        state.metrics.epoch_lookups.inc();
        // Noted first: the time may be over in the middle.
        *fruitless = Some(clock::now());
        let view = state.view();
        let mut nodes = keepers(&view);
        // The keepers that are known here may be those that were lost.
        nodes.extend(some_others(&view, &nodes));
        let mut asked = ask_all(state, nodes);
        while asked.join_next().await.is_some() {
            if state.view().ordinal() >= epoch {
                *fruitless = None;
                return;
            }
        }
    });
    if looked.await.is_err() {
        tracing::debug!(
            epoch = number_of(epoch),
            "an epoch that a request named was not found in time"
        );
    }
}

/// A few members that are not among these.
fn some_others(view: &View, known: &[NodeId]) -> Vec<NodeId> {
    let mut others: Vec<_> = view.members.iter().map(|member| member.id).collect();
    others.retain(|node| !known.contains(node));
    while others.len() > OTHERS {
        let at = random::spread() % others.len() as u64;
        others.swap_remove(at as usize);
    }
    others
}

fn keepers(view: &View) -> Vec<NodeId> {
    view.tip.keepers.clone()
}

/// Fetches from each of these servers at once.
fn ask_all(state: &Arc<State>, nodes: Vec<NodeId>) -> JoinSet<Result<(), String>> {
    let mut asked = JoinSet::new();
    for node in nodes.into_iter().filter(|node| *node != state.node) {
        let state = Arc::clone(state);
        asked.spawn(async move { fetch(&state, node).await });
    }
    asked
}

/// Takes what a server has more.
pub(super) async fn fetch(state: &Arc<State>, node: NodeId) -> Result<(), String> {
    let mut link = open(state, node).await?;
    loop {
        let ours = newest(state).await?;
        let Point {
            generation,
            number,
            hash,
        } = ours;
        let path = format!("/v1/chain?after={number}&hash={hash}&generation={generation}");
        let body = link.get(&path, CHAIN_BYTES_MAX).await?;
        let found = codec::decode_deltas(&body).map_err(|error| error.to_string())?;
        let Deltas {
            cluster,
            newest,
            first,
            fork,
            records,
            ..
        } = found;
        if cluster != state.view().cluster {
            return Err(format!("it is of cluster {cluster}"));
        }
        if fork {
            if newest.number > first {
                stop(state, format!("peer {node} is at epoch {}", newest.number));
            }
            return Err("its chain does not hold what is here".into());
        }
        if first > ours.number {
            return Err(format!(
                "its chain begins with epoch {first}: others have what is before"
            ));
        }
        if records.is_empty() {
            return match newest == ours {
                true => settle(state, ours).await,
                false => Ok(()),
            };
        }
        let offer = ChainQuestion::Offer(Offer::new(records, newest, newest));
        match answer(state, offer).await {
            Ok(ChainAnswer::Holds(point)) if point.number > ours.number => {}
            Ok(other) => return Err(format!("what it has cannot be taken: {other:?}")),
            Err(_) => return Err("this server stops".into()),
        }
    }
}

/// The newest epoch that is held here.
async fn newest(state: &Arc<State>) -> Result<Point, String> {
    let newest = super::in_chain(state, |chain, _| Ok(chain.newest())).await;
    newest.map_err(|error| error.to_string())
}

/// Connects to a member.
pub(super) async fn open(state: &State, node: NodeId) -> Result<Link, String> {
    let view = state.view();
    let member = view.member(node).ok_or("it is no member any more")?;
    Link::open(view.cluster, &state.epochs.tls, &member.address).await
}

/// Tells the other members of a new epoch, or some of them in a large cluster: the rest hears of
/// it from these.
pub(super) fn spread(state: &Arc<State>, record: bytes::Bytes, settled: Point) {
    let view = state.view();
    let mut others: Vec<_> = view.members.iter().map(|member| member.id).collect();
    others.retain(|node| *node != state.node);
    while others.len() > SPREAD_MAX {
        let at = random::spread() % others.len() as u64;
        others.swap_remove(at as usize);
    }
    let offer = ChainQuestion::Offer(Offer::new(vec![record], settled, settled));
    for node in others {
        let (state, offer) = (Arc::clone(state), offer.clone());
        tokio::spawn(async move {
            let told = super::propose::ask(&state, node, offer).await;
            if let Err(why) = told {
                tracing::debug!(peer = %node, %why, "a peer does not take a new epoch");
            }
        });
    }
}

/// Members that are told of a new epoch at once.
const SPREAD_MAX: usize = 64;
