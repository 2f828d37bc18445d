//! The next epoch: a change that somebody asks for is proposed until it is decided, or cannot be
//! any more. What somebody else left in the middle, dead or cut off, is brought to its end.

use super::{answer, follow, in_chain, offer_after};
use crate::clock;
use crate::http::State;
use crate::pipeline::Failed;
use crate::random;
use crate::store::wrap::Plain;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::Bucket;
use annulet_protocol::codec::{self, CHAIN_BYTES_MAX};
use annulet_protocol::epoch::{
    BucketChange, BucketCommand, BucketReply, BucketRequest, ChainAnswer, ChainQuestion,
    ChainRequest, Copies, EpochRecord, Offer,
};
use annulet_protocol::ids::{ChangeId, NodeId};
use annulet_protocol::members::{LeaveMember, MemberCommand, MemberReply, MemberRequest};
use annulet_protocol::view::{Member, MemberState, View};
use annulet_replica::chain::Unfinished;
use annulet_ring::chain::proposer::{Effect, Outcome, Proposer, Question};
use annulet_ring::chain::{self, Objection};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::MutexGuard;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest time that a change is tried.
const CHANGE: Duration = Duration::from_secs(4);
/// Longest time that one server has for one question.
const QUESTION: Duration = Duration::from_secs(2);
/// Shortest time between two attempts; up to twice as long, at random, so that of two servers that
/// are in each other's way one goes first.
const AGAIN: Duration = Duration::from_millis(20);
/// The same after too few keepers answered.
const UNREACHABLE_AGAIN: Duration = Duration::from_millis(200);
/// How long whoever began something has for it before others finish it; up to twice as long.
const FINISH_AFTER: Duration = Duration::from_millis(1_500);

/// Why a change was not made.
#[derive(Debug)]
pub(crate) enum NotMade {
    /// It cannot be.
    Objection(Objection),
    /// Too few keepers answer. It may be made later all the same, if `exposed`.
    Unavailable { why: String, exposed: bool },
    /// The server is about to stop.
    Failed,
}

impl From<Failed> for NotMade {
    fn from(_: Failed) -> Self {
        Self::Failed
    }
}

/// Makes a change of a bucket, or says why it cannot be made.
///
/// # Errors
/// [`NotMade`].
pub(crate) async fn change(
    state: &Arc<State>,
    request: &BucketRequest,
) -> Result<BucketReply, NotMade> {
    let BucketRequest {
        change, command, ..
    } = request;
    let own = |view: &View| chain::propose(view, *change, command);
    let (view, record) = make(state, *change, own).await?;
    reply(&view, request, &record)
}

/// Makes a change of a member, or says why it cannot be made.
///
/// # Errors
/// [`NotMade`].
pub(crate) async fn change_member(
    state: &Arc<State>,
    request: &MemberRequest,
) -> Result<MemberReply, NotMade> {
    let MemberRequest {
        change, command, ..
    } = request;
    if let MemberCommand::AcceptLoss(LeaveMember { id }) = command {
        check_silent(state, *id).await?;
    }
    let absent = absent(state, &state.view());
    let own = |view: &View| chain::propose_member(view, *change, command, &absent);
    let (view, record) = make(state, *change, own).await?;
    let id = match command {
        MemberCommand::Join(member) => member.id,
        MemberCommand::Set(set) => set.id,
        MemberCommand::Leave(leave) | MemberCommand::AcceptLoss(leave) => leave.id,
        MemberCommand::Unknown => return Err(NotMade::Failed),
    };
    Ok(MemberReply {
        cluster: view.cluster,
        epoch: record.point().ordinal(),
        member: view.member(id).cloned(),
    })
}

/// Only who does not answer can be given up. Who was given up already may be back: that it is given
/// up stays true.
async fn check_silent(state: &Arc<State>, node: NodeId) -> Result<(), NotMade> {
    let question = ChainQuestion::Copies(Copies {});
    let view = state.view();
    let given_up = |member: &Member| member.state == MemberState::Lost;
    if view.member(node).is_none_or(given_up) || ask(state, node, question).await.is_err() {
        return Ok(());
    }
    let why = format!(
        "server {node} answers, so what it has is not lost: let it leave by `annulet node leave`"
    );
    Err(NotMade::Objection(Objection::Conflict(why)))
}

/// Members that were not heard of lately, and so are not made keepers.
pub(super) fn absent(state: &State, view: &View) -> Vec<NodeId> {
    let others = view.members.iter().map(|member| member.id);
    let others = others.filter(|node| *node != state.node);
    others.filter(|node| !state.peers.is_heard(*node)).collect()
}

/// Proposes what `own` says until it is made. Gives the view in which it was, or a later one, and
/// the record that made it.
///
/// # Errors
/// [`NotMade`].
pub(super) async fn make(
    state: &Arc<State>,
    change: ChangeId,
    own: impl Fn(&View) -> Result<EpochRecord, Objection>,
) -> Result<(Arc<View>, EpochRecord), NotMade> {
    let deadline = clock::now() + CHANGE;
    let mut exposed = false;
    let mut why = "other changes are under way".to_owned();
    let unavailable = |why, exposed| Err(NotMade::Unavailable { why, exposed });
    let Ok(mut turn) = timeout(CHANGE, state.epochs.turn.lock()).await else {
        return unavailable(why, exposed);
    };
    loop {
        let before = state.view();
        if let Some(record) = made(state, change).await? {
            return Ok((before, record));
        }
        if clock::now() >= deadline {
            return unavailable(why, exposed);
        }
        if state.epochs.chain.lock().await.is_sealed() {
            let why = "a recovery was begun and is not over: `annulet cluster recover` ends it";
            return unavailable(why.into(), exposed);
        }
        let wanted = own(&before).map_err(NotMade::Objection)?.encode();
        let proposer = next(state, &mut turn, &before, wanted).await;
        match attempt(state, proposer, &mut exposed).await? {
            Outcome::Settled(record) => conclude(state, record).await?,
            Outcome::Unsettled(_) => {
                why = "it was decided, but too few keepers answer to go on from it".into();
                pause(UNREACHABLE_AGAIN).await;
            }
            Outcome::Lost(ballot) => {
                *turn = (*turn).max(ballot);
                pause(AGAIN).await;
            }
            Outcome::Unreachable { why: said } => {
                let said = said.map(|said| format!(": {said}")).unwrap_or_default();
                let keepers = before.tip.keepers.len();
                why = format!("fewer than a majority of the {keepers} keepers answer{said}");
                pause(UNREACHABLE_AGAIN).await;
            }
        }
    }
}

/// The attempt that is due: what was decided already and is only held is spread first.
async fn next(
    state: &Arc<State>,
    turn: &mut MutexGuard<'_, Ballot>,
    view: &View,
    own: Bytes,
) -> Proposer {
    let unfinished = state.epochs.chain.lock().await.unfinished();
    if let Some(Unfinished::Held(record)) = unfinished {
        return Proposer::spreading(view, record);
    }
    **turn = turn.next(state.epochs.proposer);
    Proposer::new(view, own, **turn)
}

/// The epoch that made the change, if one did.
async fn made(state: &Arc<State>, change: ChangeId) -> Result<Option<EpochRecord>, NotMade> {
    let made = in_chain(state, move |chain, state| {
        chain.made(&Plain(state.pipeline.engine()), change)
    });
    made.await.map_err(|error| NotMade::Unavailable {
        why: error.to_string(),
        exposed: true,
    })
}

/// What is told of a change that was made: of a bucket that is there, how it is now, else how it
/// was made; of one that is gone, its number and name.
fn reply(
    view: &View,
    request: &BucketRequest,
    record: &EpochRecord,
) -> Result<BucketReply, NotMade> {
    let (number, made) = match record.buckets.first() {
        Some(BucketChange::Created(bucket)) => (bucket.number, Some(bucket.clone())),
        Some(BucketChange::Set(settings)) => (settings.number, None),
        Some(BucketChange::Deleted(gone)) => (gone.number, None),
        Some(BucketChange::Unknown) | None => return Err(NotMade::Failed),
    };
    let name = match &request.command {
        BucketCommand::Create(bucket) => &bucket.name,
        BucketCommand::Set(set) => &set.name,
        BucketCommand::Delete(delete) => &delete.name,
        BucketCommand::Unknown => "",
    };
    let bucket = view.bucket(number).cloned().or(made);
    let bucket = bucket.unwrap_or_else(|| Bucket::new(number, name));
    Ok(BucketReply {
        cluster: view.cluster,
        epoch: record.point().ordinal(),
        bucket,
    })
}

/// A record was decided and is held by its keepers: it is acted under, and the others are told.
pub(super) async fn conclude(state: &Arc<State>, record: Bytes) -> Result<(), Failed> {
    let Ok(decoded) = EpochRecord::decode(&record) else {
        return Ok(());
    };
    let point = decoded.point();
    let offer = Offer::new(vec![record.clone()], point, point);
    answer(state, ChainQuestion::Offer(offer)).await?;
    follow::spread(state, record, point);
    Ok(())
}

async fn pause(least: Duration) {
    let most = least.as_micros() as u64;
    let more = Duration::from_micros(random::spread() % most);
    tokio::time::sleep(least + more).await;
}

/// Brings to an end what was begun, if nobody else does for some time. `since`: when it was first
/// seen unfinished, with the time that others are given; the same is returned.
pub(super) async fn finish(state: &Arc<State>, since: Option<Instant>) -> Option<Instant> {
    let unfinished = state.epochs.chain.lock().await.unfinished();
    let unfinished = unfinished?;
    let Some(due) = since else {
        let more = random::spread() % FINISH_AFTER.as_millis() as u64;
        return Some(clock::now() + FINISH_AFTER + Duration::from_millis(more));
    };
    // Whoever has the turn is at it.
    let Ok(mut turn) = state.epochs.turn.try_lock() else {
        return Some(due);
    };
    if clock::now() < due {
        return Some(due);
    }
    let (Unfinished::Accepted(own) | Unfinished::Held(own)) = unfinished;
    let proposer = next(state, &mut turn, &state.view(), own).await;
    let mut exposed = false;
    match attempt(state, proposer, &mut exposed).await {
        Ok(Outcome::Settled(record)) => {
            tracing::info!("an epoch that was begun by somebody is finished");
            // A store that failed ends the server.
            let _ = conclude(state, record).await;
            return None;
        }
        Ok(Outcome::Lost(ballot)) => *turn = (*turn).max(ballot),
        Ok(Outcome::Unsettled(_) | Outcome::Unreachable { .. }) | Err(Failed) => {}
    }
    // Later again, at another time.
    None
}

/// Makes one attempt. `exposed` becomes true if what is proposed may be decided without it.
pub(super) async fn attempt(
    state: &Arc<State>,
    mut proposer: Proposer,
    exposed: &mut bool,
) -> Result<Outcome, Failed> {
    let mut asked = JoinSet::new();
    let mut effects = VecDeque::from(proposer.start());
    loop {
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Ask(to, question) => spawn(&mut asked, state, to, question),
                Effect::Bring(to, after) => match offer_after(state, after).await {
                    Ok(Some(offer)) => {
                        spawn(&mut asked, state, to, ChainQuestion::Offer(offer));
                    }
                    Ok(None) | Err(_) => effects.extend(proposer.handle_failure(to)),
                },
                Effect::Take(record) => {
                    let settled = state.view().point();
                    let offer = Offer::new(vec![record.clone()], settled, settled);
                    let offer = ChainQuestion::Offer(offer);
                    match answer(state, offer).await? {
                        ChainAnswer::Holds(_) => effects.extend(proposer.handle_taken()),
                        other => {
                            tracing::error!(?other, "a decided epoch cannot be taken here");
                            return Ok(Outcome::Unsettled(record));
                        }
                    }
                }
                Effect::Done(outcome) => {
                    *exposed |= proposer.is_exposed();
                    return Ok(outcome);
                }
            }
        }
        match asked.join_next().await {
            Some(Ok((from, Ok(answer)))) => effects.extend(proposer.handle_answer(from, answer)),
            Some(Ok((from, Err(why)))) => {
                tracing::debug!(keeper = %from.node, %why, "a keeper does not answer");
                effects.extend(proposer.handle_failure(from));
            }
            Some(Err(_)) => return Err(Failed),
            // Every question is answered or fails, so the attempt was over before.
            None => return Ok(Outcome::Unreachable { why: None }),
        }
    }
}

type Said = (Question, Result<ChainAnswer, String>);

fn spawn(asked: &mut JoinSet<Said>, state: &Arc<State>, to: Question, question: ChainQuestion) {
    let state = Arc::clone(state);
    asked.spawn(async move { (to, ask(&state, to.node, question).await) });
}

/// Asks a server; this one, too.
pub(super) async fn ask(
    state: &Arc<State>,
    node: NodeId,
    question: ChainQuestion,
) -> Result<ChainAnswer, String> {
    if node == state.node {
        let answered = answer(state, question).await;
        return answered.map_err(|_| "this server stops".into());
    }
    let asking = async {
        let mut link = follow::open(state, node).await?;
        let request = ChainRequest {
            cluster: state.view().cluster,
            question,
        };
        let message = codec::encode(&request);
        let body = link
            .post("/v1/peer/chain", message, CHAIN_BYTES_MAX)
            .await?;
        codec::decode_chain_reply(&body).map_err(|error| error.to_string())
    };
    let reply = timeout(QUESTION, asking).await;
    let reply = reply.map_err(|_| "it did not answer in time")??;
    match reply.node == node {
        true => Ok(reply.answer),
        false => Err(format!("{} answers in its place", reply.node)),
    }
}
