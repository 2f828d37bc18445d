//! The chain of epochs: time, threads and connections for what `annulet_replica::chain` and
//! `annulet_ring::chain` decide.
//!
//! What a question changes is durable, and a new view in effect, before the question is answered;
//! one question at a time.
//!
//! # Layout
//! - this file: questions and their answers
//! - `propose`: a change of a bucket becomes the next epoch, and what others began is finished
//! - `recover`: the chain is begun anew when an operator says that its keepers are lost
//! - [`follow`]: newer epochs are fetched from others; `course`: what follows a view by itself
//! - [`membership`]: this server becomes a member

pub(crate) mod course;
pub(crate) mod follow;
pub(crate) mod membership;
pub(crate) mod propose;
pub(crate) mod recover;

use crate::clock;
use crate::http::State;
use crate::pipeline::Failed;
use crate::served::{Current, ServedView};
use crate::store::wrap::Plain;
use crate::tls::Tls;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::epoch::{ChainAnswer, ChainQuestion, CopiesOver, Deltas, Offer, Point};
use annulet_protocol::ids::Incarnation;
use annulet_replica::chain::{Chain, Step};
use annulet_replica::copy::handover;
use annulet_replica::store::StoreError;
use follow::LookUps;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};

/// Why a server that is well must not go on.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// The others decided what its chain does not hold.
    Forked(String),
    /// It cannot join.
    Refused(String),
    /// It was a member, and is none any more.
    Left,
}

/// What is known of the chain.
pub(crate) struct Epochs {
    chain: Arc<Mutex<Chain>>,
    current: Arc<Current>,
    tls: Arc<Tls>,
    /// The number of the epoch that the chain begins with.
    first: u64,
    /// Held by the one attempt that is under way; the highest ballot that was heard of.
    turn: Mutex<Ballot>,
    /// Names this life of the server in its ballots.
    proposer: Incarnation,
    look_ups: LookUps,
    /// Whether others were asked for newer epochs since the start.
    begun: watch::Sender<bool>,
    ended: OnceLock<Ended>,
}

impl Epochs {
    pub(crate) fn new(
        chain: Chain,
        current: Arc<Current>,
        tls: Arc<Tls>,
        proposer: Incarnation,
    ) -> Self {
        Self {
            first: chain.first(),
            chain: Arc::new(Mutex::new(chain)),
            current,
            tls,
            turn: Mutex::default(),
            proposer,
            look_ups: LookUps::default(),
            begun: watch::Sender::new(false),
            ended: OnceLock::new(),
        }
    }

    /// The view that is acted under, and its bytes.
    pub(crate) fn served(&self) -> Arc<ServedView> {
        self.current.load()
    }

    /// The number of the epoch that the chain begins with.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Why this server must not go on, if so.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.get().cloned()
    }

    /// Whether it is not known here what became of a vote for the next epoch.
    pub(crate) async fn is_undecided(&self) -> bool {
        self.chain.lock().await.unfinished().is_some()
    }

    /// Whether others were asked for newer epochs after the start.
    pub(crate) fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Waits until others were asked for newer epochs after the start, but not beyond `deadline`.
    /// Says whether they were.
    pub(crate) async fn begun(&self, deadline: Instant) -> bool {
        let mut begun = self.begun.subscribe();
        if *begun.borrow_and_update() {
            return true;
        }
        let left = deadline.saturating_duration_since(clock::now());
        let waited = tokio::time::timeout(left, begun.wait_for(|begun| *begun)).await;
        waited.is_ok_and(|begun| begun.is_ok())
    }
}

/// How often it is looked for what is unfinished.
const LOOK: Duration = Duration::from_millis(500);

/// Asks others for newer epochs, then finishes what is left unfinished, for ever.
pub(crate) async fn run(state: Arc<State>) {
    follow::begin(&state).await;
    state.epochs.begun.send_replace(true);
    tokio::join!(finish(&state), course::run(&state), membership::run(&state));
}

/// Finishes what is left unfinished, for ever.
async fn finish(state: &Arc<State>) {
    let mut since = None;
    loop {
        let epoch = state.view().epoch;
        state
            .metrics
            .epoch
            .set(i64::try_from(epoch).unwrap_or(i64::MAX));
        since = propose::finish(state, since).await;
        let unfinished = i64::from(since.is_some());
        state.metrics.epoch_unfinished.set(unfinished);
        tokio::time::sleep(LOOK).await;
    }
}

/// Answers a question about the chain, once all that the answer rests on is durable. It runs to its
/// end even if nobody waits for it any more: what is promised in memory must be on disk.
///
/// # Errors
/// [`Failed`]: the server is about to stop.
pub(crate) async fn answer(
    state: &Arc<State>,
    question: ChainQuestion,
) -> Result<ChainAnswer, Failed> {
    if let ChainQuestion::Copies(_) = question {
        return copies(state).await;
    }
    let state = Arc::clone(state);
    let answering = tokio::spawn(async move { answer_wholly(&state, question).await });
    answering.await.unwrap_or(Err(Failed))
}

/// Which of the partitions that it is to own this server has copied, and whether it has handed over
/// what it owns no more. What is noted of it is durable.
async fn copies(state: &Arc<State>) -> Result<ChainAnswer, Failed> {
    let state = Arc::clone(state);
    let looked = tokio::task::spawn_blocking(move || {
        // What a later view takes from it may be among the notes already: it says rather too much.
        let view = state.view();
        let over = state.upkeep.copier().done(&view, state.node);
        let handed = handover::is_over(&Plain(state.pipeline.engine()));
        ChainAnswer::Copied(CopiesOver {
            over,
            epoch: view.ordinal(),
            partitions: view.table.partitions,
            hands_over: !handed.unwrap_or(false),
        })
    });
    looked.await.map_err(|_| Failed)
}

async fn answer_wholly(state: &Arc<State>, question: ChainQuestion) -> Result<ChainAnswer, Failed> {
    let mut chain = Arc::clone(&state.epochs.chain).lock_owned().await;
    let within = Arc::clone(state);
    let handled = tokio::task::spawn_blocking(move || {
        let step = chain.handle(&Plain(within.pipeline.engine()), &question);
        let view = step.as_ref().ok().and_then(|step| step.installed.clone());
        (chain, step, view.map(ServedView::new).transpose())
    });
    let (chain, step, served) = handled.await.map_err(|_| Failed)?;
    let Step {
        answer,
        batch,
        changed,
        fork,
        ..
    } = match step {
        Ok(step) => step,
        Err(error) => return Ok(unreadable(&error)),
    };
    if let Some(why) = fork {
        stop(state, why);
        return Err(Failed);
    }
    let served = match served {
        Ok(served) => served.map(Arc::new),
        Err(error) => {
            let why = format!("the view of the next epoch cannot be compressed: {error}");
            state.pipeline.give_up(why);
            return Err(Failed);
        }
    };
    if let Some(served) = &served {
        tracing::info!(epoch = served.view.epoch, "a new epoch");
    }
    if !batch.is_empty() || served.is_some() {
        state
            .pipeline
            .install(batch, served, changed.unready)
            .await?;
    }
    drop(chain);
    Ok(answer)
}

fn unreadable(error: &StoreError) -> ChainAnswer {
    tracing::error!(%error, "the chain of epochs cannot be read");
    ChainAnswer::Refused(format!("its store: {error}"))
}

/// The records that follow an epoch.
///
/// # Errors
/// What the store says.
pub(crate) async fn deltas(state: &Arc<State>, after: Point) -> Result<Deltas, StoreError> {
    in_chain(state, move |chain, state| {
        chain.deltas(&Plain(state.pipeline.engine()), after)
    })
    .await
}

/// What is held here after an epoch, to be offered to a server that ends with it.
async fn offer_after(state: &Arc<State>, after: Point) -> Result<Option<Offer>, StoreError> {
    in_chain(state, move |chain, state| {
        chain.offer_after(&Plain(state.pipeline.engine()), after)
    })
    .await
}

/// Reads of the chain, on a thread that may wait for the disk.
async fn in_chain<T: Send + 'static>(
    state: &Arc<State>,
    read: impl FnOnce(&Chain, &State) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let chain = Arc::clone(&state.epochs.chain).lock_owned().await;
    let state = Arc::clone(state);
    let reading = tokio::task::spawn_blocking(move || read(&chain, &state));
    let ended = |_| Err(StoreError::Failed("the server stops".into()));
    reading.await.unwrap_or_else(ended)
}

/// Stops serving, loudly: the others decided what this server's chain does not hold.
fn stop(state: &State, why: String) {
    tracing::error!(
        why,
        "the chain of epochs FORKS: this server holds what the others did not decide, and stops"
    );
    let _ = state.epochs.ended.set(Ended::Forked(why.clone()));
    state.pipeline.give_up(why);
}
