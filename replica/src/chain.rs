//! A server's part in the chain of epochs: what it holds of it, and how it answers those that
//! propose the next one. All that it says rests on what is durable.
//!
//! A record that was decided is held at once, and acted under only when it is known that a majority
//! of its own keepers holds it: then it is *settled*. So there is at most one record of each
//! generation at the end of a chain that is held and not acted under. Who holds the successor of an
//! epoch answers every proposal for that with the record, for ever.
//!
//! The votes of the [`Acceptor`] are kept by the hash of the epoch whose successor is voted on, and
//! go when the successor is held.
//!
//! Whoever begins the chain anew has *sealed* those that it reaches: below the new generation
//! nothing is voted on, learned or settled here any more, except what leads to that generation.
//! What is acted under goes on being served meanwhile.
//!
//! # Layout
//! - this file: questions and answers; `seal`: a chain that is begun anew; `notes`: how it lies in
//!   the store; [`open`]: reading it at the start, beside the cluster file

mod faults;
mod notes;
pub mod open;
mod seal;
#[cfg(test)]
mod tests;

use crate::acceptor::{Accepted, Acceptor, Rejection};
use crate::holdings::Holdings;
use crate::store::{Batch, Change, Family, Span, Store, StoreError};
use annulet_protocol::epoch::{
    Accept, ChainAnswer, ChainQuestion, Decided, Deltas, EpochRecord, Granted, Offer, Point,
    Prepare, Promised,
};
use annulet_protocol::ids::{ChangeId, EpochHash, NodeId};
use annulet_protocol::limits::EPOCHS_MAX;
use annulet_protocol::view::View;
use annulet_ring::chain::{self, ApplyError, Relation};
use bytes::Bytes;
#[cfg(feature = "faults")]
pub use faults::Fault;
use std::sync::Arc;

/// Most bytes of records that are sent in one message, one long record apart.
const SENT_BYTES_MAX: usize = 1 << 20;
/// Epochs that are looked through for a change that was asked for before.
const LOOKED_BACK: u64 = 256;

/// See the module.
#[derive(Clone, Debug)]
pub struct Chain {
    node: NodeId,
    /// What it begins with.
    first: Point,
    /// What is acted under: the newest that is settled.
    view: Arc<View>,
    /// The records that are held beyond it, and what they make of the view: one, and those that
    /// begin the chain anew.
    held: Vec<(Bytes, Arc<View>)>,
    /// The votes for the successor of the newest epoch that is held.
    votes: Acceptor<Bytes>,
    /// The generation that this server is sealed for: it is done with all below; 0: none.
    sealed: u64,
    /// A rule that is broken on purpose, so that tests can show that they would notice.
    #[cfg(feature = "faults")]
    pub fault: Option<Fault>,
}

/// What to do about a question: make the batch durable, install the view, then answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The answer.
    pub answer: ChainAnswer,
    /// What must be durable before anything rests on it.
    pub batch: Batch,
    /// What is acted under from now on.
    pub installed: Option<Arc<View>>,
    /// What that gives this server to own, and takes from it; the batch notes it.
    pub changed: Holdings,
    /// Records that were decided do not hold what is here: this server must not go on.
    pub fork: Option<String>,
}

/// What somebody has left unfinished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// This record was accepted here, and it is not known whether it was decided.
    Accepted(Bytes),
    /// This record was decided, and it is not known whether its keepers hold it.
    Held(Bytes),
}

impl Step {
    fn answer(answer: ChainAnswer) -> Self {
        Self {
            answer,
            batch: Batch::new(),
            installed: None,
            changed: Holdings::default(),
            fork: None,
        }
    }

    /// The record of this number, if it is among what is to be written.
    fn written(&self, number: u64) -> Option<Bytes> {
        let key = notes::record_key(number);
        let put = self.batch.iter().find_map(|change| match change {
            Change::Put(_, of, value) if *of == key => Some(value.clone()),
            _ => None,
        })?;
        notes::unseal(put).ok()
    }
}

/// What became of one record that was offered.
enum Taken {
    Held,
    /// There is a gap before it.
    Early,
    Fork(String),
    Unsound(String),
}

impl Chain {
    /// What is acted under.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The number of the epoch that it begins with; all that follow were decided.
    pub fn first(&self) -> u64 {
        self.first.number
    }

    /// The newest epoch that is held, be it acted under or not.
    pub fn newest(&self) -> Point {
        self.end().point()
    }

    fn end(&self) -> &Arc<View> {
        self.held.last().map_or(&self.view, |(_, view)| view)
    }

    /// What must be brought to an end if nobody else does.
    pub fn unfinished(&self) -> Option<Unfinished> {
        if self.is_sealed() {
            return None;
        }
        if let Some((record, _)) = self.held.last() {
            return Some(Unfinished::Held(record.clone()));
        }
        let accepted = self.votes.accepted()?;
        Some(Unfinished::Accepted(accepted.value.clone()))
    }

    /// Answers a question. Whatever the batch says counts as durable from now on: if it cannot be
    /// written, this server must stop.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn handle(
        &mut self,
        store: &impl Store,
        question: &ChainQuestion,
    ) -> Result<Step, StoreError> {
        match question {
            ChainQuestion::Offer(offer) => Ok(self.offer(store, offer)),
            ChainQuestion::Prepare(prepare) => match self.place(store, prepare.of)? {
                Some(answer) => Ok(Step::answer(answer)),
                None => Ok(self.prepare(prepare)),
            },
            ChainQuestion::Accept(accept) => match self.place(store, accept.of)? {
                Some(answer) => Ok(Step::answer(answer)),
                None => Ok(self.accept(accept)),
            },
            ChainQuestion::Seal(seal) => self.seal(store, *seal),
            ChainQuestion::Copies(_) => {
                let why = "the chain does not know what was copied".into();
                Ok(Step::answer(ChainAnswer::Refused(why)))
            }
            ChainQuestion::Unknown => {
                let why = "this version does not know the question".into();
                Ok(Step::answer(ChainAnswer::Refused(why)))
            }
        }
    }

    /// The answer to whoever wants to vote on the successor of an epoch other than the newest here.
    fn place(&self, store: &impl Store, of: Point) -> Result<Option<ChainAnswer>, StoreError> {
        let newest = self.newest();
        if of.number >= newest.number && self.is_sealed() {
            return Ok(Some(self.refused_as_sealed()));
        }
        if of == newest {
            let keeper = self.end().tip.keepers.contains(&self.node);
            let why = || ChainAnswer::Refused("it is no keeper of that epoch".into());
            return Ok((!keeper).then(why));
        }
        if of.number > newest.number {
            return Ok(Some(ChainAnswer::Lacks(newest)));
        }
        let held =
            of.number >= self.first.number && self.hash_of(store, of.number)? == Some(of.hash);
        let next = match held {
            true => self.record(store, of.number + 1)?,
            false => None,
        };
        Ok(Some(match next {
            Some(record) => ChainAnswer::Decided(Decided { record }),
            None => ChainAnswer::Refused("it holds another epoch of that number".into()),
        }))
    }

    fn prepare(&mut self, Prepare { ballot, .. }: &Prepare) -> Step {
        if let Err(rejection) = self.votes.prepare(*ballot) {
            return Step::answer(rejected(rejection));
        }
        let accepted = self.votes.accepted();
        let answer = ChainAnswer::Promised(Promised {
            ballot: accepted.map_or_else(Default::default, |accepted| accepted.ballot),
            record: accepted.map(|accepted| accepted.value.clone()),
        });
        Step {
            batch: self.note_votes(),
            ..Step::answer(answer)
        }
    }

    fn accept(&mut self, Accept { ballot, record, .. }: &Accept) -> Step {
        // What cannot follow must not be decided: nobody could go on from it.
        let sound = EpochRecord::decode(record)
            .map_err(|error| error.to_string())
            .and_then(|record| {
                if record.generation != self.end().tip.generation {
                    return Err("no vote begins a chain anew".into());
                }
                let applied = chain::apply(self.end(), &record);
                applied.map(drop).map_err(|error| error.to_string())
            });
        if let Err(why) = sound {
            return Step::answer(ChainAnswer::Refused(why));
        }
        if self.accepts_below_promises() && *ballot < self.votes.promised() {
            self.votes = Acceptor::default();
        }
        let accepted = self.votes.accept(Accepted {
            ballot: *ballot,
            value: record.clone(),
            next: None,
        });
        if let Err(rejection) = accepted {
            return Step::answer(rejected(rejection));
        }
        Step {
            batch: self.note_votes(),
            ..Step::answer(ChainAnswer::Accepted(Granted {}))
        }
    }

    fn note_votes(&self) -> Batch {
        if self.forgets_votes() {
            return Batch::new();
        }
        let key = notes::votes_key(self.newest().hash);
        let value = notes::encode_votes(&self.votes);
        vec![Change::Put(Family::Notes, key, value)]
    }

    fn offer(&mut self, store: &impl Store, offer: &Offer) -> Step {
        let mut step = Step::answer(ChainAnswer::Unknown);
        let mut refused = None;
        if self.is_sealed() && !self.leads_on(offer) {
            step.answer = match offer.records.is_empty() {
                true => ChainAnswer::Holds(self.newest()),
                false => self.refused_as_sealed(),
            };
            return step;
        }
        for bytes in &offer.records {
            // What was taken so far counts, whatever becomes of the next.
            let taken = self.take(store, bytes, &mut step);
            match taken.unwrap_or_else(|error| Taken::Unsound(error.to_string())) {
                Taken::Held => {}
                Taken::Early => break,
                Taken::Fork(why) => {
                    step.fork = Some(why.clone());
                    refused = Some(why);
                    break;
                }
                Taken::Unsound(why) => {
                    refused = Some(why);
                    break;
                }
            }
        }
        let newest = self.newest();
        let settled = offer.settled == newest.number
            && (offer.hash == newest.hash || offer.hash == EpochHash::default());
        if refused.is_none() && settled || self.acts_unsettled() {
            self.settle(&mut step);
        }
        step.answer = match refused {
            Some(why) => ChainAnswer::Refused(why),
            None => ChainAnswer::Holds(self.newest()),
        };
        step
    }

    /// Holds a record if it goes on from what is here.
    fn take(
        &mut self,
        store: &impl Store,
        bytes: &Bytes,
        step: &mut Step,
    ) -> Result<Taken, StoreError> {
        let record = match EpochRecord::decode(bytes) {
            Ok(record) => record,
            Err(error) => return Ok(Taken::Unsound(error.to_string())),
        };
        let (number, newest) = (record.number, self.newest());
        let fork = || match record.generation < newest.generation {
            true => Taken::Unsound(format!(
                "epoch {number} of generation {} was given up: the chain was begun anew since",
                record.generation
            )),
            false => Taken::Fork(format!("epoch {number} was decided to be another one")),
        };
        if number < self.first.number {
            // A server that joined does not know what was before, and somebody may be late.
            return Ok(Taken::Held);
        }
        if number <= newest.number {
            let here = match step.written(number) {
                Some(record) => Some(annulet_protocol::epoch::hash(&record)),
                None => self.hash_of(store, number)?,
            };
            let known = here == Some(record.point().hash);
            return Ok(if known { Taken::Held } else { fork() });
        }
        let view = match chain::apply(self.end(), &record) {
            Ok(view) => Arc::new(view),
            Err(ApplyError::Gap { .. }) => return Ok(Taken::Early),
            Err(ApplyError::Fork(_)) => return Ok(fork()),
            Err(error @ ApplyError::Unsound { .. }) => {
                return Ok(Taken::Unsound(error.to_string()));
            }
        };
        // It was proposed by somebody who acted under the one before; what begins the chain anew
        // follows what may have been held by one alone.
        if record.generation == newest.generation {
            self.settle(step);
        }
        let votes = notes::votes_key(newest.hash);
        step.batch.push(Change::Delete(Family::Notes, votes));
        let (key, value) = (notes::record_key(number), notes::sealed(bytes));
        step.batch.push(Change::Put(Family::Notes, key, value));
        self.votes = Acceptor::default();
        self.held.push((bytes.clone(), view));
        Ok(Taken::Held)
    }

    /// Acts under what is held from now on.
    fn settle(&mut self, step: &mut Step) {
        for (_, view) in std::mem::take(&mut self.held) {
            let (key, value) = (notes::settled_key(), notes::encode_number(view.epoch));
            step.batch.push(Change::Put(Family::Notes, key, value));
            let changed = Holdings::between(&self.view, &view, self.node);
            step.batch.extend(changed.notes());
            step.changed.join(changed);
            self.view = view;
            step.installed = Some(Arc::clone(&self.view));
        }
    }

    /// The hash of an epoch of this chain.
    fn hash_of(&self, store: &impl Store, number: u64) -> Result<Option<EpochHash>, StoreError> {
        if number == self.first.number {
            return Ok(Some(self.first.hash));
        }
        let record = self.record(store, number)?;
        Ok(record.map(|record| annulet_protocol::epoch::hash(&record)))
    }

    fn record(&self, store: &impl Store, number: u64) -> Result<Option<Bytes>, StoreError> {
        let found = store
            .read(Family::Notes, &[notes::record_key(number)])
            .pop();
        found.unwrap_or(Ok(None))?.map(notes::unseal).transpose()
    }

    /// How another server's chain stands to this one, by what its greeting says of it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn relation(&self, store: &impl Store, theirs: Point) -> Result<Relation, StoreError> {
        let within = (self.first.number..=self.newest().number).contains(&theirs.number);
        let hash = match within {
            true => self.hash_of(store, theirs.number)?,
            false => None,
        };
        let first = self.first.number;
        Ok(chain::relation(self.newest(), first, theirs, |_| hash))
    }

    /// What follows an epoch, as far as it is acted under, for whoever asks.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn deltas(&self, store: &impl Store, after: Point) -> Result<Deltas, StoreError> {
        let newest = self.view.point();
        let within = (self.first.number..=newest.number).contains(&after.number);
        let holds = within && self.hash_of(store, after.number)? == Some(after.hash);
        let newer = after.ordinal() > newest.ordinal();
        let records = match holds {
            true => self.records(store, after.number, newest.number)?,
            false => Vec::new(),
        };
        Ok(Deltas {
            cluster: self.view.cluster,
            node: self.node,
            newest,
            first: self.first.number,
            // What was before the chain of a server that joined begins is not known here.
            fork: !holds && after.number >= self.first.number && !newer,
            records,
        })
    }

    /// All that follows an epoch here, to be offered to a server that ends with it. `None`: it is
    /// no epoch of this chain.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn offer_after(
        &self,
        store: &impl Store,
        after: Point,
    ) -> Result<Option<Offer>, StoreError> {
        let newest = self.newest().number;
        let within = (self.first.number..=newest).contains(&after.number);
        if !within || self.hash_of(store, after.number)? != Some(after.hash) {
            return Ok(None);
        }
        let records = self.records(store, after.number, newest)?;
        let settled = self.view.point();
        Ok(Some(Offer::new(records, settled, self.newest())))
    }

    /// The records after one number, up to another, as many as fit into a message.
    fn records(&self, store: &impl Store, after: u64, last: u64) -> Result<Vec<Bytes>, StoreError> {
        let span = Span {
            from: notes::record_key(after.saturating_add(1)),
            until: Some(notes::record_key(last.saturating_add(1))),
            entries_max: EPOCHS_MAX,
            bytes_max: SENT_BYTES_MAX,
        };
        let slice = store.range(Family::Notes, &span)?;
        let entries = slice.entries.into_iter();
        entries.map(|(_, value)| notes::unseal(value)).collect()
    }

    /// The epoch that made a change, if that was not long ago.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn made(
        &self,
        store: &impl Store,
        change: ChangeId,
    ) -> Result<Option<EpochRecord>, StoreError> {
        let last = self.view.epoch;
        for number in (self.first.number.max(last.saturating_sub(LOOKED_BACK))..=last).rev() {
            let Some(bytes) = self.record(store, number)? else {
                continue;
            };
            let record = EpochRecord::decode(&bytes);
            let record = record.map_err(|error| StoreError::Damaged(error.to_string()))?;
            if record.change == change {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

fn rejected(rejection: Rejection) -> ChainAnswer {
    match rejection {
        Rejection::Promised(ballot) => ChainAnswer::Rejected(ballot),
        Rejection::Contradiction(ballot) => {
            let why = format!("another record was accepted at ballot {ballot}: this is a bug");
            ChainAnswer::Refused(why)
        }
    }
}
