//! Reading the chain at the start, beside the view of the cluster file.
//!
//! The file's view is where a chain begins. Once this server has voted on what follows it, or holds
//! what does, the chain goes its own way, and of the file only the addresses still count.

use super::{Chain, notes};
use crate::acceptor::Acceptor;
use crate::store::{Batch, Change, Family, Span, Store, StoreError, after_prefix};
use annulet_protocol::codec;
use annulet_protocol::epoch::EpochRecord;
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::{Member, View};
use annulet_ring::chain;
use bytes::Bytes;
use std::sync::Arc;

/// Records read at a time.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 4 << 20;

/// A chain that was read.
#[derive(Debug)]
pub struct Opened {
    /// It.
    pub chain: Chain,
    /// What must be durable before anything else.
    pub batch: Batch,
    /// What of the cluster file does not count any more.
    pub ignored: Vec<String>,
    /// Whether this server was a member once and is none any more. It must not serve again: its
    /// place was given to others, who go on without what it holds.
    pub left: bool,
}

/// Why a chain cannot be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be read, or what is in it is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster file has other members, or cuts the ring in another way.
    #[error(
        "the cluster file has {0} than the cluster had when its buckets were first changed; they \
         cannot be changed in that file since then: restore it"
    )]
    Changed(&'static str),
    /// There is neither.
    #[error("the data folder holds no chain of epochs, and no view was given to begin one with")]
    Nothing,
}

/// Whether a chain is stored.
///
/// # Errors
/// What the store says.
pub fn is_begun(store: &impl Store) -> Result<bool, StoreError> {
    Ok(read(store, notes::first_key())?.is_some())
}

/// Reads what is stored, or begins a chain with a view: the cluster file's, which counts until the
/// chain has gone on, or the one that a server joins under. `None`: the chain must be stored.
///
/// # Errors
/// [`OpenError`].
pub fn open(store: &impl Store, node: NodeId, file: Option<View>) -> Result<Opened, OpenError> {
    let Some(stored) = read_first(store)? else {
        return file.map(|file| begin(node, file)).ok_or(OpenError::Nothing);
    };
    let mut first = stored.clone();
    for member in &mut first.members {
        if let Some(Member { address, .. }) = file.as_ref().and_then(|file| file.member(member.id))
        {
            member.address.clone_from(address);
        }
    }
    let mut chain = new(node, Arc::new(first));
    let settled = read_settled(store)?.max(Some(stored.epoch));
    let was_member = read_records(store, &mut chain, settled)?;
    let votes = read(store, notes::votes_key(chain.newest().hash))?;
    let voted = votes.is_some();
    if let Some(votes) = votes {
        chain.votes = notes::decode_votes(votes)?;
    }
    let sealed = read(store, notes::sealed_for_key())?;
    chain.sealed = sealed.map_or(Ok(0), notes::decode_number)?;
    let mut ignored = Vec::new();
    if let Some(file) = file {
        if chain.newest() == chain.first && !voted && chain.sealed == 0 {
            if file.point() != chain.first {
                return Ok(begin(node, file));
            }
        } else {
            check(&stored, &file)?;
            ignored = differences(&stored, &file);
        }
    }
    Ok(Opened {
        left: was_member && chain.view.member(node).is_none(),
        ignored,
        chain,
        batch: Batch::new(),
    })
}

fn new(node: NodeId, view: Arc<View>) -> Chain {
    Chain {
        node,
        first: view.point(),
        view,
        held: Vec::new(),
        votes: Acceptor::default(),
        sealed: 0,
        #[cfg(feature = "faults")]
        fault: None,
    }
}

fn begin(node: NodeId, view: View) -> Opened {
    let value = notes::sealed(&codec::encode(&view));
    Opened {
        chain: new(node, Arc::new(view)),
        batch: vec![Change::Put(Family::Notes, notes::first_key(), value)],
        ignored: Vec::new(),
        left: false,
    }
}

fn read(store: &impl Store, key: Bytes) -> Result<Option<Bytes>, StoreError> {
    store.read(Family::Notes, &[key]).pop().unwrap_or(Ok(None))
}

fn read_first(store: &impl Store) -> Result<Option<View>, StoreError> {
    let Some(value) = read(store, notes::first_key())? else {
        return Ok(None);
    };
    let view = codec::decode_view(&notes::unseal(value)?);
    let damaged = |error| StoreError::Damaged(format!("the first view of the chain: {error}"));
    view.map(Some).map_err(damaged)
}

fn read_settled(store: &impl Store) -> Result<Option<u64>, StoreError> {
    let settled = read(store, notes::settled_key())?;
    settled.map(notes::decode_number).transpose()
}

/// Goes along the records. The last one may not be acted under yet, nor the one before it if it
/// begins the chain anew. Says whether this server was a member under any of them.
fn read_records(
    store: &impl Store,
    chain: &mut Chain,
    settled: Option<u64>,
) -> Result<bool, StoreError> {
    let mut was_member = chain.view.member(chain.node).is_some();
    let damaged = |why: String| StoreError::Damaged(format!("the chain of epochs: {why}"));
    let mut span = Span {
        from: notes::record_key(chain.first.number.saturating_add(1)),
        until: after_prefix(&notes::record_key(u64::MAX)),
        entries_max: PAGE,
        bytes_max: PAGE_BYTES,
    };
    loop {
        let slice = store.range(Family::Notes, &span)?;
        let last = slice.entries.last().map(|(key, _)| key.clone());
        for (_, value) in slice.entries {
            let bytes = notes::unseal(value)?;
            let record = EpochRecord::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
            let view = chain::apply(chain.end(), &record);
            let view = Arc::new(view.map_err(|error| damaged(error.to_string()))?);
            was_member |= view.member(chain.node).is_some();
            if record.generation == chain.end().tip.generation
                && let Some((_, before)) = std::mem::take(&mut chain.held).pop()
            {
                chain.view = before;
            }
            match settled >= Some(record.number) {
                true => chain.view = view,
                false => chain.held.push((bytes, view)),
            }
        }
        match last.filter(|_| slice.cut) {
            Some(last) => span = span.after(&last),
            None => return Ok(was_member),
        }
    }
}

/// Refuses a file that is about other members, or another ring.
fn check(stored: &View, file: &View) -> Result<(), OpenError> {
    let without_address = |member: &Member| Member {
        address: String::new(),
        ..member.clone()
    };
    let members = |view: &View| view.members.iter().map(without_address).collect::<Vec<_>>();
    if stored.cluster != file.cluster {
        return Err(OpenError::Changed("another cluster id"));
    }
    if members(stored) != members(file) {
        return Err(OpenError::Changed("other members"));
    }
    let ring = |view: &View| (view.seed, view.table.partitions);
    if ring(stored) != ring(file) {
        return Err(OpenError::Changed("another seed or number of partitions"));
    }
    Ok(())
}

/// What of the file would have to be changed through the chain.
fn differences(stored: &View, file: &View) -> Vec<String> {
    let mut ignored = Vec::new();
    let mut note = |differs: bool, what: &str| {
        if differs {
            ignored.push(what.to_owned());
        }
    };
    note(stored.buckets != file.buckets, "its buckets");
    note(stored.epoch != file.epoch, "its epoch");
    note(stored.name != file.name, "its name");
    let longest = stored.value_bytes_max != file.value_bytes_max;
    note(longest, "its value_bytes_max");
    let lists = stored.table.list_length != file.table.list_length;
    note(lists, "its list_length");
    ignored
}
