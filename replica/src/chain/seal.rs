//! A chain that is begun anew after its keepers were lost: what a server promises to whoever does
//! that, and how it keeps the promise.

use super::{Chain, Step, notes};
use crate::store::{Change, Family, Store, StoreError};
use annulet_protocol::epoch::{ChainAnswer, EpochRecord, Offer, Point};
use annulet_protocol::limits::GENERATION_MAX;
use annulet_protocol::recovery::{Seal, Stands};
use annulet_protocol::view::View;
use std::sync::Arc;

impl Chain {
    /// Whether nothing changes here until an epoch of a higher generation comes.
    pub fn is_sealed(&self) -> bool {
        self.sealed > self.newest().generation
    }

    /// The newest epoch that is held, and what it makes of the view.
    pub fn newest_view(&self) -> &Arc<View> {
        self.end()
    }

    pub(super) fn refused_as_sealed(&self) -> ChainAnswer {
        ChainAnswer::Refused(format!(
            "it is sealed for generation {}: a recovery was begun and is not over, ask for it \
             again",
            self.sealed
        ))
    }

    /// Whether records lead to the generation that this server is sealed for, or a later one: then
    /// they are of a chain that was begun anew, by somebody who knew what those before had said.
    pub(super) fn leads_on(&self, offer: &Offer) -> bool {
        let last = offer.records.last();
        let last = last.and_then(|record| EpochRecord::decode(record).ok());
        let last = last.map_or(0, |record| record.generation);
        last.max(offer.generation) >= self.sealed
    }

    /// Promises to be done with all generations below one, and says where this server stands.
    pub(super) fn seal(&mut self, store: &impl Store, seal: Seal) -> Result<Step, StoreError> {
        let Seal { generation, after } = seal;
        let newest = self.newest();
        let here = self.sealed.max(newest.generation);
        if generation > GENERATION_MAX {
            let why = format!("there is no generation above {GENERATION_MAX}");
            return Ok(Step::answer(ChainAnswer::Refused(why)));
        }
        if generation > 0 && generation <= here {
            return Ok(Step::answer(ChainAnswer::SealedAbove(here)));
        }
        let mut stands = self.stands(store, after)?;
        let mut step = Step::answer(ChainAnswer::Unknown);
        if generation > 0 && !self.seals_nothing() {
            self.sealed = generation;
            let value = notes::encode_number(generation);
            let key = notes::sealed_for_key();
            step.batch.push(Change::Put(Family::Notes, key, value));
        }
        stands.sealed = self.sealed;
        step.answer = ChainAnswer::Stands(Box::new(stands));
        Ok(step)
    }

    fn stands(&self, store: &impl Store, after: Point) -> Result<Stands, StoreError> {
        let newest = self.newest();
        let within = (self.first.number..=newest.number).contains(&after.number);
        let known = within && self.hash_of(store, after.number)? == Some(after.hash);
        let accepted = self.votes.accepted();
        Ok(Stands {
            newest,
            sealed: self.sealed,
            known,
            records: match known {
                true => self.records(store, after.number, newest.number)?,
                false => Vec::new(),
            },
            ballot: accepted.map_or_else(Default::default, |accepted| accepted.ballot),
            accepted: accepted.map(|accepted| accepted.value.clone()),
        })
    }
}
