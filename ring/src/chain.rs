//! The chain of epochs: how one view follows another.
//!
//! The first view of a cluster begins the chain. Every later epoch is one record, decided among the
//! keepers of the epoch before, that names the epoch before by its hash: whoever holds the same
//! first view and the same records has the same view.
//!
//! | rule | where |
//! |---|---|
//! | who decides the next epoch: one, three or five servers, spread out | `keepers` |
//! | a record follows one epoch only, and what never changes of a bucket stays | [`apply`] |
//! | a number that a bucket had is never given to another | [`apply`], [`Tip::next_bucket`] |
//! | nobody joins under the id of a member; who leaves owns nothing any more | `members` |
//! | what follows by itself: lists move towards a balanced table, who leaves goes | [`course`] |
//! | a partition has one list, or one and the next, which differ by one owner | `lists` |
//! | what somebody asks for becomes a record on top of a view, if it still can be | [`propose`] |
//! | one record follows an epoch, and is held before it is acted under | [`proposer`] |
//! | two servers whose chains fork do not both go on | [`relation`] |
//! | who lost a majority of its keepers for good begins anew, loudly | [`recovery`] |
//!
//! An id that has left is not remembered, so by the chain alone it could join again: whoever joins
//! has to bring one that nobody had, drawn at random for its data folder.
//!
//! [`Tip::next_bucket`]: annulet_protocol::view::Tip::next_bucket

pub mod course;
mod keepers;
mod lists;
mod members;
pub mod proposer;
pub mod recovery;
#[cfg(test)]
mod tests;
mod wish;

use annulet_protocol::bucket::Bucket;
use annulet_protocol::codec;
use annulet_protocol::epoch::{self, BucketChange, BucketGone, EpochRecord, ListChange, Point};
use annulet_protocol::ids::EpochHash;
use annulet_protocol::view::{MemberState, Tip, View};
pub use wish::{Objection, activate, propose, propose_join, propose_member};

/// Begins a chain with a view: gives it keepers, and a hash over all of it but the addresses of its
/// members, which may change without anybody's consent.
pub fn begin(mut view: View) -> View {
    let last = view.buckets.last().map_or(0, |bucket| bucket.number);
    view.tip = Tip {
        generation: 0,
        hash: EpochHash::default(),
        keepers: keepers::choose(&view.members),
        next_bucket: last.saturating_add(1),
    };
    let mut hashed = view.clone();
    hashed.members.iter_mut().for_each(|m| m.address.clear());
    view.tip.hash = epoch::hash(&codec::encode(&hashed));
    view
}

/// Why a record cannot follow a view.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It follows another epoch than this one, of the same number.
    #[error("epoch {0} follows another epoch than the one that is here")]
    Fork(u64),
    /// It follows an epoch that is not here yet, or is here itself.
    #[error("epoch {found} does not follow epoch {here}")]
    Gap {
        /// The record's number.
        found: u64,
        /// The view's.
        here: u64,
    },
    /// It breaks a rule, or says what this version does not know.
    #[error("epoch {number} cannot be: {why}")]
    Unsound {
        /// The record's number.
        number: u64,
        /// Which rule.
        why: String,
    },
}

/// The view that a record makes of the one before it.
///
/// # Errors
/// [`ApplyError`].
pub fn apply(view: &View, record: &EpochRecord) -> Result<View, ApplyError> {
    let number = record.number;
    if view.epoch.checked_add(1) != Some(number) {
        let here = view.epoch;
        return Err(ApplyError::Gap {
            found: number,
            here,
        });
    }
    if record.before != view.tip.hash || record.generation < view.tip.generation {
        return Err(ApplyError::Fork(number));
    }
    let mut next = view.clone();
    next.epoch = number;
    next.tip.generation = record.generation;
    next.tip.hash = record.point().hash;
    if !record.keepers.is_empty() {
        next.tip.keepers.clone_from(&record.keepers);
    }
    let changed = match record.generation > view.tip.generation && !only_begins_anew(record) {
        true => Err("it begins the chain anew, and changes something besides".into()),
        false => change(&mut next, record, view).and_then(|()| check(&next, record)),
    };
    match changed {
        Ok(()) => Ok(next),
        Err(why) => Err(ApplyError::Unsound { number, why }),
    }
}

/// Whether a record names keepers, and changes nothing else but the generation.
fn only_begins_anew(record: &EpochRecord) -> bool {
    let EpochRecord {
        generation,
        number,
        before,
        keepers,
        change,
        ..
    } = record;
    let only = EpochRecord {
        generation: *generation,
        number: *number,
        before: *before,
        keepers: keepers.clone(),
        change: *change,
        ..EpochRecord::default()
    };
    *record == only && !keepers.is_empty()
}

fn change(view: &mut View, record: &EpochRecord, before: &View) -> Result<(), String> {
    if record.doubles {
        lists::double(view)?;
    }
    if let Some(length) = record.list_length {
        lists::set_length(view, length)?;
    }
    members::change(view, &record.members)?;
    check_keepers(view)?;
    lists::change(view, &record.lists, before.members.ids(), record.number)?;
    for change in &record.buckets {
        change_bucket(view, change)?;
    }
    Ok(())
}

/// Checks what a record has made of a sound view: of the lists those that it names, unless it cuts
/// them all in halves.
fn check(next: &View, record: &EpochRecord) -> Result<(), String> {
    if record.doubles {
        return next.validate();
    }
    let checked = next.validate_changes(record.lists.iter().map(ListChange::partition));
    debug_assert!(
        checked.is_err() || next.validate() == Ok(()),
        "what is not checked is as it was"
    );
    checked
}

fn check_keepers(view: &View) -> Result<(), String> {
    let keepers = &view.tip.keepers;
    if !matches!(keepers.len(), 1 | 3 | 5) {
        return Err(format!("{} keepers; one, three or five", keepers.len()));
    }
    for (at, keeper) in keepers.iter().enumerate() {
        let member = view.member(*keeper);
        let active = member.is_some_and(|member| member.state == MemberState::Active);
        if !active || keepers[..at].contains(keeper) {
            return Err(format!(
                "keeper {keeper} is no active member, or named twice"
            ));
        }
    }
    Ok(())
}

fn change_bucket(view: &mut View, change: &BucketChange) -> Result<(), String> {
    match change {
        BucketChange::Created(bucket) => {
            check_new(view, bucket)?;
            view.tip.next_bucket = bucket
                .number
                .checked_add(1)
                .ok_or("every number was given to a bucket once")?;
            view.buckets.push(bucket.clone());
        }
        BucketChange::Set(settings) => {
            let bucket = bucket_mut(view, settings.number)?;
            bucket.read_level = settings.read_level;
            bucket.write_level = settings.write_level;
            bucket.ttl_ms = settings.ttl_ms;
        }
        BucketChange::Deleted(BucketGone { number }) => {
            bucket_mut(view, *number)?;
            view.buckets.retain(|bucket| bucket.number != *number);
        }
        BucketChange::Unknown => return Err("a change that only a newer version knows".into()),
    }
    Ok(())
}

/// Whether a bucket can be added: all that [`View::validate`] does not see.
fn check_new(view: &View, bucket: &Bucket) -> Result<(), String> {
    let next = view.tip.next_bucket;
    if bucket.number != next {
        return Err(format!(
            "a new bucket of number {}; the next one is {next}",
            bucket.number
        ));
    }
    let longest = view.table.list_length;
    if longest > 0 && bucket.replicas > longest {
        return Err(format!(
            "bucket `{}` asks for {} replicas; this cluster keeps at most {longest}",
            bucket.name, bucket.replicas
        ));
    }
    Ok(())
}

fn bucket_mut(view: &mut View, number: u32) -> Result<&mut Bucket, String> {
    let found = view.buckets.iter_mut().find(|b| b.number == number);
    found.ok_or_else(|| format!("there is no bucket of number {number}"))
}

/// How another server's chain stands to the one here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Both end with the same epoch.
    Same,
    /// It is longer or was begun anew since, and may hold all that is here.
    Ahead,
    /// What is here holds it, or begins after it, as the chain of a server that joined later does.
    Behind,
    /// Neither holds the other.
    Fork,
    /// Neither holds the other, and this one was begun anew since: the other was given up.
    Abandoned,
}

/// Compares the chain that ends with `newest` here and begins with epoch `first` with another one
/// that ends with `theirs`. `here`: the hash of an epoch of this chain by its number.
pub fn relation(
    newest: Point,
    first: u64,
    theirs: Point,
    here: impl FnOnce(u64) -> Option<EpochHash>,
) -> Relation {
    if theirs == newest {
        Relation::Same
    } else if theirs.ordinal() > newest.ordinal() {
        Relation::Ahead
    } else if theirs.number < first
        || theirs.number <= newest.number && here(theirs.number) == Some(theirs.hash)
    {
        Relation::Behind
    } else if theirs.generation < newest.generation {
        Relation::Abandoned
    } else {
        Relation::Fork
    }
}
