//! Put of a value beside, or in place of, concurrent ones.
//!
//! One owner mints the value: it stores it under a new dot, and answers with its whole record. That
//! goes to the other owners like any write, and the minter counts as one that has it. If the minter
//! cannot be reached, or takes long, another one is asked to mint, with the same op id: the two
//! mintings are one sibling. At level `available` a fallback mints where no owner can.

use super::read::SiblingsDone;
use crate::core::attempts::{OwnerState, Owners};
use crate::core::client::{Core, Now, Start};
use crate::core::policy::waiting::Class;
use crate::core::then::{Joined, Link, ROUND, Then};
use crate::core::write::{WriteDone, WriteOperation, may_have_arrived};
use crate::core::{Attempt, Coordinator, Effect, Effects, Response, Send};
use crate::error::{Error, ErrorKind, Outcome, Result};
use annulet_protocol::ids::NodeId;
use annulet_protocol::level::Level;
use annulet_protocol::message::{Answer, Operation, RefusalKind};
use annulet_protocol::siblings::message::{Mint, Minted};
use annulet_protocol::siblings::wire::check_seal;
use annulet_protocol::siblings::{Siblings, Write};
use annulet_protocol::view::View;
use annulet_ring::owners::Nodes;
use annulet_ring::quorum::{Quorum, Side};
use bytes::Bytes;
use std::sync::Arc;

/// How long a minter has before another one is asked.
const MINT_MS: u64 = 250;
/// The same at level `available`.
const FALL_BACK_AFTER_MS: u64 = 50;
/// Fallbacks that are read off the view.
const FALLBACKS: usize = 8;

/// A put.
pub type SiblingsPut = Then<Putting>;

/// What a put that is done says.
#[derive(Clone, Debug, PartialEq)]
pub struct PutDone {
    /// What to hand back with the next write, if the value stands alone; if there are others, a
    /// read gives it: a context that hides values would overwrite them.
    pub context: Option<Bytes>,
    /// How many concurrent values there are.
    pub siblings: usize,
    /// The record of the minter.
    pub record: Siblings,
    /// How many owners have it so far.
    pub owners: usize,
}

/// What joins the minting of a value and the sending on of its record.
#[derive(Debug)]
pub struct Putting {
    start: Start,
    done: Option<PutDone>,
}

impl Then<Putting> {
    /// A put of `write` by a writer who has seen `context`, which is empty or opaque.
    ///
    /// # Errors
    /// `InvalidInput` if the value is too long, the context is none of this key, or the level asks
    /// for more owners than there are; nothing was sent.
    pub fn put(start: Start, write: Write, context: Bytes) -> Result<Self> {
        let refuse = |why: String| {
            let error = Error::new(ErrorKind::InvalidInput, why);
            error.with_outcome(Outcome::NotApplied)
        };
        let (most, length) = (start.view.value_bytes_max as usize, write.value.len());
        if length > most {
            return Err(refuse(format!(
                "the value has {length} bytes, at most {most} are taken"
            )));
        }
        check_context(&start, &context).map_err(refuse)?;
        let mint = MintOperation::new(start.clone(), write, context)?;
        Ok(Self::new(Putting { start, done: None }, mint))
    }
}

/// A context of another key, or a damaged one, is found before anything is sent.
pub(super) fn check_context(start: &Start, context: &[u8]) -> std::result::Result<(), String> {
    if context.is_empty() {
        return Ok(());
    }
    match check_seal(start.bucket().number, &start.key, context) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "the context is none of this key: hand back what a read of it gave ({error})"
        )),
    }
}

impl Link for Putting {
    type First = MintOperation;
    type Second = WriteOperation;
    type Done = PutDone;

    fn join(
        &mut self,
        core: &mut Core,
        now: Now,
        view: Option<&Arc<View>>,
        first: Result<MintDone>,
    ) -> Joined<Self> {
        let MintDone { minter, record } = match first {
            Ok(done) => done,
            Err(error) => return Joined::Over(Err(error)),
        };
        let unknown = |error: Error| Joined::Over(Err(error.with_outcome(Outcome::Unknown)));
        if let Some(view) = view
            && view.ordinal() > self.start.view.ordinal()
            && !self.start.move_to(view, core.home())
        {
            return unknown(self.start.bucket_deleted());
        }
        let shown = SiblingsDone::of(record, &self.start, 0, true);
        let siblings = shown.record.iter().len();
        let alone = siblings == 1 && shown.record.sibling(&self.start.op).is_some();
        let done = PutDone {
            context: (alone || core.hides_siblings()).then_some(shown.context),
            siblings,
            record: shown.record.clone(),
            owners: 0,
        };
        let put = shown.record.sibling(&self.start.op);
        let minted = put.into_iter().flat_map(|put| &put.minted).map(|m| m.dot);
        let minted = minted.filter(|dot| dot.actor.node == minter).max();
        let sent_on = core.sent_on(shown.record, &self.start.op);
        let sealed = sent_on.seal(self.start.bucket().number, &self.start.key);
        let mut send_on = match WriteOperation::merge(self.start.clone(), sealed, ROUND) {
            Ok(send_on) => send_on,
            Err(error) => return unknown(error),
        };
        let owned = self.start.owners().contains(minter);
        let effects = send_on.send_on(core, now, (minter, minted));
        match owned {
            true => {
                self.done = Some(done);
                Joined::Second(send_on, effects)
            }
            // Who keeps it for the owners hands it over: at `available` that is enough.
            false => Joined::Both(Ok(done), send_on, effects),
        }
    }

    fn end(&mut self, second: Result<WriteDone>) -> Result<PutDone> {
        let written = second?;
        let done = self.done.take();
        let done = done.ok_or_else(|| Error::new(ErrorKind::Internal, "a put without minting"))?;
        Ok(PutDone {
            owners: written.owners,
            ..done
        })
    }
}

/// What a minting that is done says.
#[derive(Clone, Debug, PartialEq)]
pub struct MintDone {
    /// Who minted: an owner, or a fallback.
    pub minter: NodeId,
    /// Its record, with all values.
    pub record: Siblings,
}

/// The minting of one value.
#[derive(Debug)]
pub struct MintOperation {
    start: Start,
    write: Write,
    context: Bytes,
    quorum: Quorum,
    owned: Nodes,
    /// Owners, and at level `available` fallbacks behind them, in the order to ask them.
    order: Nodes,
    minters: Owners,
    /// Nodes that may have minted although they did not say so.
    doubtful: Nodes,
    /// How many fallbacks were read off the view.
    fallbacks: usize,
    completed: bool,
}

const NOBODY: &str = "no owner took the write";

impl MintOperation {
    fn new(start: Start, write: Write, context: Bytes) -> Result<Self> {
        let owners = start.owners();
        let quorum = start
            .quorum(Side::Write, &owners)
            .map_err(|error| error.with_outcome(Outcome::NotApplied))?;
        let owned: Nodes = owners.all().collect();
        Ok(Self {
            minters: Owners::new(owners.all()),
            order: owned.clone(),
            owned,
            quorum,
            start,
            write,
            context,
            doubtful: Nodes::new(),
            fallbacks: 0,
            completed: false,
        })
    }

    fn is_available(&self) -> bool {
        self.start.level == Level::Available
    }

    fn patience_ms(&self) -> u64 {
        let most = match self.is_available() {
            true => FALL_BACK_AFTER_MS,
            false => MINT_MS,
        };
        most.min(self.start.timeout_ms / 3)
    }

    /// Asks another minter if nobody is asked, or whoever is takes long.
    fn advance(&mut self, core: &mut Core, now: Now, effects: &mut Effects<MintDone>) {
        if self.completed {
            return;
        }
        let prompt = |state| matches!(state, OwnerState::InFlight { slow: false, .. });
        if self.order.iter().any(|node| self.minters.is(*node, prompt)) {
            return;
        }
        let idle = |node: &NodeId| self.minters.is(*node, |state| state == OwnerState::Idle);
        let mut next = self.order.iter().copied().find(idle);
        if next.is_none() && self.is_available() {
            self.fall_back(core);
            let idle = |node: &NodeId| self.minters.is(*node, |state| state == OwnerState::Idle);
            next = self.order.iter().copied().find(idle);
        }
        if let Some(node) = next {
            return self.send(core, node, now, effects);
        }
        if !self.minters.any_in_flight() && !self.minters.any_waiting() {
            let error = self.minters.failure(NOBODY);
            self.fail(error, effects);
        }
    }

    /// Adds whoever follows the owners and those that were added before: some at a time, since
    /// mostly the first of them takes the write.
    fn fall_back(&mut self, core: &Core) {
        if self.fallbacks >= self.start.view.members.len() {
            return;
        }
        self.fallbacks = (self.fallbacks * 4).max(FALLBACKS);
        let (view, hash) = (&self.start.view, self.start.hash);
        let home = self.start.home.unwrap_or(0);
        let mut more = self
            .start
            .owners()
            .fallbacks(view, hash, home, self.fallbacks);
        more.retain(|node| !self.order.contains(node));
        more.sort_by_key(|node| core.peers.is_away(*node));
        self.minters.add(more.iter().copied());
        self.order.extend(more);
    }

    fn send(&mut self, core: &Core, node: NodeId, now: Now, effects: &mut Effects<MintDone>) {
        // At `available` any attempt may have a twin.
        let again = self.is_available() || self.doubtful.iter().any(|other| *other != node);
        let again = again || self.elsewhere(node);
        let is_owner = self.owned.contains(&node);
        let owners = match is_owner {
            true => Vec::new(),
            false => self.owned.iter().copied().collect(),
        };
        let mut write = self.write.clone();
        if again && core.forgets_op_ids() {
            write.op.sequence += 1 << 40;
            let bucket = self.start.bucket().number;
            let (value, expires_at_ms) = (write.value, write.expires_at_ms);
            write = Write::seal(bucket, &self.start.key, write.op, value, expires_at_ms);
        }
        let operation = Operation::Mint(Mint {
            bucket: self.start.bucket().number,
            key: self.start.key.clone(),
            context: self.context.clone(),
            write,
            again,
            owners,
        });
        let attempt = self.minters.sent(node, now.mono_ms);
        effects.push(Effect::Send(Send {
            node,
            attempt,
            epoch: self.start.view.ordinal(),
            budget_ms: self.start.budget_ms(now.mono_ms),
            operation,
        }));
    }

    /// Whether another node is asked that has not answered.
    fn elsewhere(&self, node: NodeId) -> bool {
        let outstanding = self.minters.outstanding();
        outstanding.into_iter().any(|(other, _)| other != node)
    }

    fn take(&mut self, node: NodeId, minted: &Minted, effects: &mut Effects<MintDone>) {
        let (bucket, key) = (self.start.bucket().number, &self.start.key);
        self.minters.set(node, OwnerState::Done);
        let record = match Siblings::unseal(bucket, key, &minted.record) {
            Ok(record) => record,
            Err(error) => {
                self.doubtful.push(node);
                let why = format!("server {node} answered a put with a damaged record: {error}");
                return self
                    .minters
                    .lose(node, Error::new(ErrorKind::Internal, why));
            }
        };
        let record = record.with_value(&self.write.op, self.write.value.clone());
        self.completed = true;
        let minter = node;
        effects.push(Effect::Complete(Ok(MintDone { minter, record })));
        // Whoever else was asked has the same sibling, and sends it on by itself.
        self.minters.restart([]);
    }

    fn fail(&mut self, error: Error, effects: &mut Effects<MintDone>) {
        if self.completed {
            return;
        }
        self.completed = true;
        let unknown = !self.doubtful.is_empty() || self.minters.any_in_flight();
        self.minters.restart([]);
        let outcome = match unknown {
            true => Outcome::Unknown,
            false => Outcome::NotApplied,
        };
        effects.push(Effect::Complete(Err(error.with_outcome(outcome))));
    }
}

impl Coordinator for MintOperation {
    type Done = MintDone;

    fn next_wake_ms(&self) -> Option<u64> {
        if self.is_finished() {
            return None;
        }
        let slow = self.minters.next_slow_ms(self.patience_ms());
        let soonest = [slow, self.minters.next_wake_ms()]
            .into_iter()
            .flatten()
            .min();
        Some(soonest.unwrap_or(u64::MAX).min(self.start.deadline_ms))
    }

    fn is_finished(&self) -> bool {
        self.completed
    }

    fn start(&mut self, core: &mut Core, now: Now) -> Effects<MintDone> {
        let mut effects = Effects::new();
        let class = Class::of_value(self.write.value.len());
        let needs = (&self.quorum, self.owned.iter().copied());
        if let Err(error) = core.admit(now, &self.start, class, needs) {
            self.fail(error, &mut effects);
            return effects;
        }
        core.rank(&self.start.op, &mut self.order, now);
        self.advance(core, now, &mut effects);
        effects
    }

    fn handle_response(
        &mut self,
        core: &mut Core,
        now: Now,
        (node, attempt): (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
    ) -> Effects<MintDone> {
        let mut effects = Effects::new();
        if self.completed || !self.minters.expects(node, attempt) {
            return effects;
        }
        match response {
            Ok(Answer::Minted(minted)) => self.take(node, &minted, &mut effects),
            Ok(Answer::Refused(refusal)) => {
                let refused = (&refusal, epoch.unwrap_or(0));
                let newer = self
                    .minters
                    .refused(core, (now, &self.start), node, refused);
                effects.extend(newer.map(Effect::NeedView));
                if refusal.kind == RefusalKind::Conflict {
                    // Every owner would say so, or soon will.
                    let error = self.minters.failure(NOBODY);
                    self.fail(error, &mut effects);
                }
            }
            Ok(other) => {
                self.doubtful.push(node);
                let why = format!("server {node} answered a put with {other:?}");
                self.minters
                    .lose(node, Error::new(ErrorKind::Internal, why));
            }
            Err(failure) => {
                if may_have_arrived(&failure) && !core.guesses_outcomes() {
                    self.doubtful.push(node);
                }
                let at = (now, &self.start);
                self.minters.unanswered(core, at, node, &failure);
            }
        }
        self.advance(core, now, &mut effects);
        effects
    }

    fn handle_view(&mut self, core: &mut Core, now: Now, view: &Arc<View>) -> Effects<MintDone> {
        let mut effects = Effects::new();
        let epoch = self.start.view.ordinal();
        if view.ordinal() <= epoch || self.completed {
            return effects;
        }
        if !self.minters.want_view(epoch) && self.start.goes_on_under(view, core.home()) {
            return effects;
        }
        let outstanding = self.minters.outstanding().map(|(node, _)| node);
        self.doubtful.extend(outstanding);
        if !self.start.move_to(view, core.home()) {
            self.fail(self.start.bucket_deleted(), &mut effects);
            return effects;
        }
        let owners = self.start.owners();
        match self.start.quorum(Side::Write, &owners) {
            Ok(quorum) => self.quorum = quorum,
            Err(error) => {
                self.fail(error, &mut effects);
                return effects;
            }
        }
        self.owned = owners.all().collect();
        self.order = self.owned.clone();
        self.fallbacks = 0;
        self.minters.restart(owners.all());
        core.rank(&self.start.op, &mut self.order, now);
        self.advance(core, now, &mut effects);
        effects
    }

    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<MintDone> {
        let mut effects = Effects::new();
        if self.completed {
            return effects;
        }
        if now.mono_ms >= self.start.deadline_ms {
            let error = self.minters.timeout(NOBODY);
            self.fail(error, &mut effects);
            return effects;
        }
        for node in self.minters.mark_slow(now.mono_ms, self.patience_ms()) {
            core.note_failure(node);
        }
        for node in self.minters.due(now.mono_ms) {
            // Idle again: it is asked if nobody else is.
            self.minters.set(node, OwnerState::Idle);
        }
        self.advance(core, now, &mut effects);
        effects
    }

    fn is_idle(&self) -> bool {
        !self.minters.any_in_flight()
    }

    fn awaits(&self, node: NodeId, attempt: Attempt) -> bool {
        !self.completed && self.minters.expects(node, attempt)
    }

    fn cancel(&mut self) {
        self.completed = true;
        self.minters.restart([]);
    }
}
