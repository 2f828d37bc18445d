//! Sessions, as users hold them.

use crate::bucket::Bucket;
use crate::client::Client;
use crate::core::client::Start;
use crate::core::session::Session as Memory;
use crate::error::{Error, ErrorKind, Result};
use crate::options::ReadOptions;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::level::Level;
use annulet_protocol::session::{Known, Token};
use annulet_ring::quorum::Side;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Somebody who goes through a cluster step by step, and is never shown anything older than what
/// they have written or seen: at any level, after the failure of servers, and in another process
/// that goes on with [`Session::to_bytes`]. It remembers up to 4,096 keys; what it has to forget
/// lies with a majority of its owners, and is read at `quorum` from then on.
///
/// A read that cannot be answered so by the owners its level asks goes to more of them within its
/// deadline, which [`Statistics::widened`](crate::Statistics::widened) counts, and fails as
/// `Unavailable` if none that answers has as much.
///
/// ```no_run
/// # async fn example(client: annulet::Client) -> annulet::Result<()> {
/// use annulet::{Level, ReadOptions};
///
/// let session = client.session();
/// let carts = session.bucket("default");
/// carts.put("user:1", "three apples").await?;
/// let quick = ReadOptions { level: Some(Level::One), ..ReadOptions::default() };
/// let cart = carts.get_with("user:1", &quick).await?;
/// assert_eq!(cart.map(|cart| cart.value), Some("three apples".into()));
///
/// // The next request of this user may come to another process.
/// let cookie = session.to_bytes().await?;
/// let again = client.session_from(&cookie)?;
/// # let _ = again;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    client: Client,
    state: Arc<State>,
}

/// What the buckets of one session share.
#[derive(Debug, Default)]
pub(crate) struct State {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    memory: Memory,
    /// Where keys are that this process has used: what a majority has to hold can be read.
    keys: HashMap<KeyHash, (String, Bytes)>,
}

impl Session {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            state: Arc::default(),
        }
    }

    pub(crate) fn from_bytes(client: Client, bytes: &[u8]) -> Result<Self> {
        let invalid = |why: String| Error::new(ErrorKind::InvalidInput, why);
        let token = Token::decode(bytes).map_err(|error| {
            invalid(format!(
                "a session that is none: {error}; hand it on as it was given"
            ))
        })?;
        if token.cluster != client.view().cluster {
            return Err(invalid("a session of another cluster".into()));
        }
        let memory = Memory::from_token(token);
        let wall_ms = client.shared().clock.now().wall_ms;
        memory.tell(&mut client.shared().core().clock, wall_ms);
        let inner = Inner {
            memory,
            keys: HashMap::new(),
        };
        let state = State {
            inner: Mutex::new(inner),
        };
        Ok(Self {
            client,
            state: Arc::new(state),
        })
    }

    /// A bucket in which this session reads and writes.
    pub fn bucket(&self, name: impl Into<String>) -> Bucket {
        self.client.bucket(name).in_session(Arc::clone(&self.state))
    }

    /// What another process needs to go on, at most 64 KiB. What does not fit is first seen to be
    /// with a majority of its owners, which may take some reads.
    ///
    /// # Errors
    /// As a read at `quorum`; `InvalidInput` if what does not fit came with a token and was not
    /// read since.
    pub async fn to_bytes(&self) -> Result<Bytes> {
        let cluster = self.client.view().cluster;
        loop {
            let key = {
                let mut inner = self.state.lock();
                let Inner { memory, keys } = &mut *inner;
                match memory.token(cluster, |hash| keys.contains_key(&hash)) {
                    Ok(bytes) => return Ok(bytes),
                    Err(Some(hash)) => keys.get(&hash).cloned(),
                    Err(None) => None,
                }
            };
            let Some((bucket, key)) = key else {
                let why = "the session knows too many keys that it has not read itself: read some \
                           of them at `quorum`";
                return Err(Error::new(ErrorKind::InvalidInput, why));
            };
            self.settle(&bucket, key).await?;
        }
    }

    /// Reads a key at `quorum`, after which a majority of its owners holds what is there.
    async fn settle(&self, bucket: &str, key: Bytes) -> Result<()> {
        let options = ReadOptions {
            level: Some(Level::Quorum),
            ..ReadOptions::default()
        };
        self.bucket(bucket).exists_with(key, &options).await?;
        Ok(())
    }
}

impl State {
    /// Nothing leaves it torn, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen of a key.
    pub(crate) fn seen(&self, hash: KeyHash) -> Option<Known> {
        self.lock().memory.floor(hash).cloned()
    }

    /// What a read must show, and the level that it is made at.
    pub(crate) fn prepare(&self, start: Start) -> (Start, Option<Known>) {
        let inner = self.lock();
        let owners = start.owners().count();
        let level = inner.memory.level(start.hash, start.level, owners);
        let floor = inner.memory.floor(start.hash).cloned();
        (start.at(level), floor)
    }

    /// Notes what a read has shown or a write has left at this level. If there are too many keys
    /// that a majority may not have, gives the oldest, to be read at `quorum`.
    pub(crate) fn observe(
        &self,
        (start, side): (&Start, Side),
        known: Known,
    ) -> Option<(String, Bytes)> {
        let settled = is_majority(start.level, side, start.owners().count());
        let mut inner = self.lock();
        let Inner { memory, keys } = &mut *inner;
        memory.observe(start.hash, known, settled);
        let place = (start.bucket().name.clone(), start.key.clone());
        keys.insert(start.hash, place);
        let oldest = memory.crowded(|hash| keys.contains_key(&hash));
        keys.retain(|hash, _| memory.floor(*hash).is_some() || *hash == start.hash);
        oldest.and_then(|hash| keys.get(&hash).cloned())
    }
}

/// Whether an operation at this level leaves what it is about with a majority of the owners. A read
/// of more than a majority writes back to fewer: as many as later reads at its level must meet.
fn is_majority(level: Level, side: Side, owners: usize) -> bool {
    match (level, side) {
        (Level::Quorum, _) => true,
        (Level::All | Level::EachQuorum, Side::Write) => true,
        (Level::Explicit { write, .. }, Side::Write) => usize::from(write) > owners / 2,
        (Level::All | Level::EachQuorum | Level::Explicit { .. }, Side::Read) => false,
        (Level::One | Level::LocalQuorum | Level::Available, _) => false,
    }
}
