//! Sessions, as users hold them.

use crate::bucket::Bucket;
use crate::client::Client;
use crate::core::client::Start;
use crate::core::session::{By, Session as Memory, Unsettled, is_settled, settling};
use crate::error::{Error, ErrorKind, Result};
use crate::options::ReadOptions;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::session::{Known, Token};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Somebody who goes through a cluster step by step, and is never shown anything older than what
/// they have written or seen: at any level, after the failure of servers, and in another process
/// that goes on with [`Session::to_bytes`]. It remembers up to 4,096 keys; what it has to forget
/// lies with a majority of its owners, and is read at `quorum` from then on.
///
/// A read that cannot be answered so by the owners its level asks goes to more of them within its
/// deadline, which [`Statistics::widened`](crate::Statistics::widened) counts, and fails as
/// `Unavailable` if none that answers has as much.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// use annulet::{Level, ReadOptions};
///
/// let session = client.session();
/// let profiles = session.bucket("default");
/// profiles.put("user:session", "Ada").await?;
/// let quick = ReadOptions { level: Some(Level::One), ..ReadOptions::default() };
/// let profile = profiles.get_with("user:session", &quick).await?;
/// assert_eq!(profile.map(|entry| entry.value), Some("Ada".into()));
///
/// // The next request of this user may come to another process.
/// let cookie = session.to_bytes().await?;
/// let again = client.session_from(&cookie)?.bucket("default");
/// let profile = again.get_with("user:session", &quick).await?;
/// assert_eq!(profile.map(|entry| entry.value), Some("Ada".into()));
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
    memory: Mutex<Memory>,
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
        let state = State {
            memory: Mutex::new(memory),
        };
        Ok(Self {
            client,
            state: Arc::new(state),
        })
    }

    /// A bucket in which this session reads and writes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// let session = client.session();
    /// // Both are of one session; a bucket of the client is of none.
    /// let (profiles, locks) = (session.bucket("default"), session.bucket("strong"));
    /// profiles.put("user:both", "Ada").await?;
    /// locks.put("user:both", "worker-3").await?;
    /// assert!(profiles.exists("user:both").await? && locks.exists("user:both").await?);
    /// # Ok(()) }
    /// ```
    pub fn bucket(&self, name: impl Into<String>) -> Bucket {
        self.client.bucket(name).in_session(Arc::clone(&self.state))
    }

    /// What another process needs to go on, at most 64 KiB. What does not fit is first seen to be
    /// with a majority of its owners, which may take some reads.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// let session = client.session();
    /// session.bucket("default").put("user:bytes", "Ada").await?;
    /// let cookie = session.to_bytes().await?;
    /// assert!(cookie.len() <= 64 << 10);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As a read at `quorum`; `InvalidInput` if what does not fit came with a token and was not
    /// read since.
    pub async fn to_bytes(&self) -> Result<Bytes> {
        let cluster = self.client.view().cluster;
        loop {
            let reached_ms = {
                let shared = self.client.shared();
                let wall_ms = shared.clock.now().wall_ms;
                shared.core().clock.reached_ms(wall_ms)
            };
            self.state.lock().reach(reached_ms);
            let unsettled = match self.state.lock().token(cluster) {
                Ok(bytes) => return Ok(bytes),
                Err(unsettled) => unsettled,
            };
            let Some(unsettled) = unsettled else {
                let why = "the session knows too many keys that it has not read itself: read some \
                           of them at `quorum`";
                return Err(Error::new(ErrorKind::InvalidInput, why));
            };
            self.state.settle(&self.client, *unsettled, None).await?;
        }
    }
}

impl State {
    /// Nothing leaves it torn, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen of a key.
    pub(crate) fn seen(&self, hash: KeyHash) -> Option<Known> {
        self.lock().floor(hash).cloned()
    }

    /// Whether a read of this key may ask any one owner.
    pub(crate) fn may_be_stale(&self, hash: KeyHash) -> bool {
        self.lock().may_ask_few(hash)
    }

    /// What a read must show, and the level that it is made at.
    pub(crate) fn prepare(&self, start: Start) -> (Start, Option<Known>) {
        let memory = self.lock();
        let owners = start.owners().count();
        let level = memory.level(start.hash, start.level, owners);
        let floor = memory.floor(start.hash).cloned();
        (start.at(level), floor)
    }

    /// Notes what a read has shown or a write has left at this level. If there are too many keys
    /// that a majority may not have, gives the oldest, to be settled.
    pub(crate) fn observe(&self, start: &Start, by: By, known: Known) -> Option<Unsettled> {
        let bucket = start.bucket();
        let settled = is_settled(by, bucket.mode, start.level, start.owners().count());
        let mut memory = self.lock();
        memory.observe(start.hash, known, settled);
        memory.place(start.hash, bucket.number, start.key.clone());
        memory.crowded()
    }

    /// Reads a key so that a majority of its owners holds what is there, and it may be forgotten.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        client: &Client,
        unsettled: Unsettled,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let view = client.view();
        let Some((name, level)) = settling(&view, unsettled.bucket) else {
            self.lock().remove(unsettled.hash);
            return Ok(());
        };
        let options = ReadOptions {
            level,
            timeout,
            ..ReadOptions::default()
        };
        let bucket = client.bucket(name).in_session(Arc::clone(self));
        let read = Box::pin(bucket.exists_with(&unsettled.key, &options)).await;
        match read {
            // Also where nobody shows it any more, since it was deleted long ago.
            Ok(_) => self.lock().settle(&unsettled),
            // The servers knew that before this client did.
            Err(_) if settling(&client.view(), unsettled.bucket).is_none() => {
                self.lock().remove(unsettled.hash);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{BUCKET, KEY, view, view_without_bucket};
    use crate::testing::Silent;
    use annulet_protocol::ballot::Ballot;
    use annulet_protocol::bucket::Mode;
    use annulet_protocol::clock::Stamp;
    use annulet_protocol::view::View;

    /// A session that cannot forget the one key before it is settled.
    fn session(silent: &Silent) -> (Session, Unsettled) {
        let session = silent.client.session();
        let unsettled = Unsettled {
            hash: silent.hash(),
            bucket: BUCKET,
            key: Bytes::from_static(KEY),
            known: Known::Register(Ballot::default()),
        };
        let mut memory = session.state.lock();
        memory.observe(unsettled.hash, unsettled.known.clone(), false);
        memory.place(unsettled.hash, BUCKET, unsettled.key.clone());
        drop(memory);
        (session, unsettled)
    }

    #[tokio::test]
    async fn a_session_is_handed_on_with_the_time_of_its_clock() {
        let silent = Silent::new().await;
        let shared = silent.client.shared();
        let ahead = Stamp::at(shared.clock.now().wall_ms + 400);
        let wall_ms = shared.clock.now().wall_ms;
        shared.core().clock.observe(silent.hash(), ahead, wall_ms);
        let token = silent.client.session().to_bytes().await;
        let token = Token::decode(&token.expect("it is short")).expect("just encoded");
        assert!(token.reached >= ahead);
    }

    #[tokio::test]
    async fn a_key_of_a_deleted_bucket_is_forgotten() {
        let silent = Silent::of(View::clone(&view_without_bucket())).await;
        let (session, unsettled) = session(&silent);
        let settled = session.state.settle(&silent.client, unsettled, None).await;
        assert_eq!(settled, Ok(()));
        assert_eq!(session.state.seen(silent.hash()), None);
    }

    #[tokio::test]
    async fn a_key_of_a_strong_bucket_is_settled_without_a_level() {
        let mut strong = View::clone(&view(1));
        strong.buckets[0].mode = Mode::Strong;
        let silent = Silent::of(strong).await;
        let (session, unsettled) = session(&silent);
        let timeout = Some(Duration::from_millis(20));
        let settled = session.state.settle(&silent.client, unsettled, timeout);
        let error = settled.await.expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
}
