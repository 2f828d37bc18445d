//! What was gained begins with empty: what is left there of an earlier time goes first.

use crate::holdings::Holding;
use crate::rules::Task;
use crate::store::{Family, Store, StoreError};
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::view::View;
use bytes::Bytes;

/// Most entries looked at in a step.
const STEP: usize = 1_024;
/// Most bytes looked at in a step.
const STEP_BYTES: usize = 1 << 20;

/// Where the look at what was gained stands.
#[derive(Clone, Debug, Default)]
pub struct Emptier {
    at: Option<(Holding, Bytes)>,
}

impl Emptier {
    /// The next tasks, all of which have to be done together. None: all is empty. `unready`: what
    /// was gained and is not known to be empty, in any order. What was gained as a whole goes
    /// first, the widest of it: see [`Holding::waits_for`].
    ///
    /// # Errors
    /// What the store says.
    pub fn step(
        &mut self,
        store: &impl Store,
        view: &View,
        unready: &[Holding],
    ) -> Result<Vec<Task>, StoreError> {
        let wholes = unready.iter().filter(|holding| holding.is_whole());
        let widest = wholes.max_by_key(|holding| holding.until.0 - holding.from.0);
        let Some(holding) = widest.or(unready.first()).copied() else {
            return Ok(Vec::new());
        };
        let ready = Task::Ready {
            holding,
            note: holding.gained_note(),
        };
        if holding.is_whole() {
            self.at = None;
            return Ok(vec![ready]);
        }
        let span = holding.span(STEP, STEP_BYTES);
        let span = match &self.at {
            Some((of, after)) if *of == holding => span.after(after),
            _ => span,
        };
        let found = store.range(Family::Records, &span)?;
        let last = found.entries.last().map(|(key, _)| key.clone());
        let covered = |key: &Bytes| {
            let (hash, number, _) = parse_storage_key(key)?;
            Some(holding.covers(view.bucket(number)?, hash))
        };
        let keys = found.entries.into_iter().map(|(key, _)| key);
        let keys = keys.filter(|key| covered(key) == Some(true));
        let mut tasks: Vec<_> = keys.map(|key| Task::Vacate { key, digest: None }).collect();
        self.at = last.filter(|_| found.cut).map(|last| (holding, last));
        if self.at.is_none() {
            tasks.push(ready);
        }
        Ok(tasks)
    }
}
