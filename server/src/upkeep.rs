//! What a server does by itself, while no client waits: it hands over what it keeps for others,
//! copies what it comes to own, sends on what was minted here, looks at all that it stores, and
//! brings back what is damaged. The decisions are the replica's; this gives them time, threads and
//! connections.

mod ask;
mod copy;
mod deliver;
mod restore;
mod spread;
pub(crate) mod stop;
mod throttle;

use crate::clock;
use crate::config::Limits;
use crate::http::State;
use crate::store::wrap::Plain;
use crate::tls::Tls;
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::hints::{ASIDE_LISTED_MAX, HintAside, HintsReport, HintsWaiting};
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::DiskState;
use annulet_protocol::status::StatusReport;
use annulet_replica::copy::Copier;
use annulet_replica::copy::pace::Pace;
use annulet_replica::courier::Courier;
use annulet_replica::hints::{self, Kept, Tally};
use annulet_replica::rules::Mutation;
use annulet_replica::store::StoreError;
use annulet_replica::sweep::Sweep;
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Time between two looks at everything.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(60);
/// Time between two looks whether the disk is full.
const BETWEEN_RECLAIMS: Duration = Duration::from_secs(1);
/// Pages of copies in the write lane: one that is written, one that is next.
const PAGES_WRITTEN_MAX: usize = 2;
/// Time between two looks at the store's files, of which there may be very many.
const BETWEEN_TENDING: Duration = Duration::from_secs(60);
/// How long to wait after the write lane had no room.
const FULL: Duration = Duration::from_secs(1);

/// What the parts of the upkeep share with the rest of the server.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    courier: Mutex<Courier>,
    copier: Mutex<Copier>,
    pace: Mutex<Pace>,
    /// What pages of copies go through.
    pub(crate) gate: throttle::Gate,
    /// Pages whose records are written at a time: so many are ahead of what a client writes.
    written: Written,
    /// What was said last about a stop of this server.
    pub(crate) stop: stop::Last,
}

/// How many pages are written at a time.
#[derive(Debug)]
struct Written(Semaphore);

impl Default for Written {
    fn default() -> Self {
        Self(Semaphore::new(PAGES_WRITTEN_MAX))
    }
}

impl Upkeep {
    /// A peer was heard of: what waits for it can go at once.
    pub(crate) fn heard_of(&self, peer: NodeId) {
        self.courier().handle_sign_of_life(peer);
    }

    /// A panic elsewhere does not tear it, so a poisoned lock is still good.
    fn courier(&self) -> MutexGuard<'_, Courier> {
        self.courier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far copies are. A page is taken or not, so a poisoned lock is still good.
    pub(crate) fn copier(&self) -> MutexGuard<'_, Copier> {
        self.copier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How fast copies are. It is for people only, so a poisoned lock is still good.
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does all of it for ever.
pub(crate) async fn run(state: Arc<State>, tls: Arc<Tls>) {
    tokio::join!(
        deliver::run(&state, &tls),
        sweep(&state),
        reclaim(&state),
        tend(&state),
        restore::run(&state, &tls),
        spread::run(&state, &tls),
        copy::run(&state, &tls),
        copy::hand_over(&state, &tls)
    );
}

/// Looks at all that is stored, a step at a time.
async fn sweep(state: &Arc<State>) {
    let Limits {
        sweep_ms,
        expired_kept_ms,
        ..
    } = state.limits;
    let mut sweep = Sweep::new(expired_kept_ms);
    loop {
        tokio::time::sleep(Duration::from_millis(sweep_ms)).await;
        // By a clock that is ahead, what is alive would be removed as expired.
        if !state.peers.clock_holds() {
            continue;
        }
        let stepped = in_store(state, move |state| {
            let view = &state.view();
            let store = Plain(state.pipeline.engine());
            let found = sweep.step(&store, view, clock::now_ms());
            (sweep, found)
        });
        let found;
        (sweep, found) = match stepped.await {
            Some(stepped) => stepped,
            None => return,
        };
        match found {
            Ok(found) => {
                state.pipeline.note_damaged(&found.damaged);
                let tasks = found.tasks.into_iter().map(Mutation::Task).collect();
                note(state, tasks).await;
                if found.over {
                    tokio::time::sleep(BETWEEN_SWEEPS).await;
                }
            }
            Err(error) => tracing::error!(%error, "a part of the store cannot be looked at"),
        }
    }
}

/// Sees now and then to what the store does in the background.
async fn tend(state: &Arc<State>) {
    loop {
        let tended = in_store(state, |state| state.pipeline.engine().tend());
        if tended.await.is_none() {
            return;
        }
        tokio::time::sleep(BETWEEN_TENDING).await;
    }
}

/// While the disk is full, gives back the room of what is deleted: else deletes would make none
/// until more is written, and nothing more is.
async fn reclaim(state: &Arc<State>) {
    let mut last = None;
    loop {
        tokio::time::sleep(BETWEEN_RECLAIMS).await;
        let reclaimed = in_store(state, move |state| {
            let engine = state.pipeline.engine();
            let (disk, changes) = (state.pipeline.disk(), engine.changes());
            if disk.state() != DiskState::Full || last == Some(changes) {
                return last;
            }
            let room = disk.room().map_or(0, |room| room.free);
            if let Err(error) = engine.reclaim(room) {
                tracing::error!(%error, "the room of what is deleted cannot be given back");
            }
            Some(changes)
        });
        last = match reclaimed.await {
            Some(changes) => changes,
            None => return,
        };
    }
}

/// Notes what was found out, however long the write lane is full. If the store fails, nothing more
/// is noted, and the server ends.
async fn note(state: &State, mutations: Vec<Mutation>) {
    if mutations.is_empty() {
        return;
    }
    while let Ok(None) = state.pipeline.note(mutations.clone()).await {
        tokio::time::sleep(FULL).await;
    }
}

/// Does something with the store on a thread that may wait for the disk. `None`: the runtime ends.
async fn in_store<T: Send + 'static>(
    state: &Arc<State>,
    work: impl FnOnce(&State) -> T + Send + 'static,
) -> Option<T> {
    let state = state.clone();
    tokio::task::spawn_blocking(move || work(&state)).await.ok()
}

/// How this server is, for people.
///
/// # Errors
/// What the store says.
pub(crate) async fn status(state: &Arc<State>) -> Result<StatusReport, StoreError> {
    let report = in_store(state, |state| {
        let view = state.view();
        let usage = state.pipeline.engine().usage();
        let rate = state.upkeep.pace().rate();
        StatusReport {
            node: state.node,
            epoch: view.epoch,
            stored_bytes: usage.memtables + usage.tables + usage.blobs,
            copies: state.upkeep.copier().states(&view, state.node),
            copied_bytes_per_second: rate.bytes,
            copied_ppm_per_second: rate.copied_ppm,
        }
    });
    let ends = || StoreError::Failed("the server stops".into());
    report.await.ok_or_else(ends)
}

/// What is kept for others, for people.
///
/// # Errors
/// What the store says.
pub(crate) async fn report(state: &Arc<State>) -> Result<HintsReport, StoreError> {
    let report = in_store(state, |state| {
        let store = Plain(state.pipeline.engine());
        let tally = Tally::of(&store)?;
        let keys = hints::set_aside(&store, ASIDE_LISTED_MAX)?;
        let kept = hints::read(&store, &keys);
        let listed = keys
            .iter()
            .zip(kept)
            .filter_map(|(key, kept)| aside(key, kept.ok()??));
        let waiting = tally.waiting.iter();
        Ok(HintsReport {
            node: state.node,
            bytes: tally.bytes,
            bytes_max: state.limits.hint_bytes,
            waiting: waiting
                .map(|(owner, count)| HintsWaiting {
                    owner: *owner,
                    count: *count,
                })
                .collect(),
            aside: tally.aside,
            aside_listed: listed.collect(),
        })
    });
    let ends = || Err(StoreError::Failed("the server stops".into()));
    report.await.unwrap_or_else(ends)
}

fn aside(key: &Bytes, kept: Kept) -> Option<HintAside> {
    let (_, bucket, name) = parse_storage_key(key)?;
    Some(HintAside {
        bucket,
        key: Bytes::copy_from_slice(name),
        version: kept.record.version(),
        owners: kept.owners,
        since_ms: kept.since_ms,
    })
}
