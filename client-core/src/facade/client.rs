//! A client and its sessions, as handles of other languages.

use super::bucket::Bucket;
use super::given::{BucketChanges, BucketOptions, BucketPolicy, ConnectOptions};
use crate::client;
use crate::error::{Error, ErrorKind, Result};
use crate::session;
use crate::statistics::Statistics;
use bytes::Bytes;
use std::sync::Arc;
use tokio::runtime::Handle;

/// A client of one cluster, see [`crate::Client`].
#[derive(Clone, Debug)]
pub struct Client {
    owned: Arc<Owned<client::Client>>,
}

/// A session, see [`crate::Session`].
#[derive(Clone, Debug)]
pub struct Session {
    owned: Arc<Owned<session::Session>>,
}

impl Client {
    /// Connects, see [`crate::Client::connect_with`].
    ///
    /// # Errors
    /// `InvalidInput` if an option or the profile cannot be used; else as there.
    pub async fn connect(options: ConnectOptions) -> Result<Self> {
        let runtime = Handle::current();
        // Files are read for it, which may be on a disk that does not answer: not on the thread
        // that all clients of the process share.
        let connected = tokio::task::spawn_blocking(move || {
            let profile = options.profile()?;
            let config = options.config(&profile)?;
            runtime.block_on(client::Client::connect_with(profile, config))
        });
        let broken = |_| Err(Error::new(ErrorKind::Internal, "connecting broke off"));
        let client = connected.await.unwrap_or_else(broken)?;
        Ok(Self {
            owned: Arc::new(Owned::new(client)),
        })
    }

    /// A bucket, see [`crate::Client::bucket`].
    ///
    /// # Errors
    /// `Closed` in a process that was forked from the one that connected.
    pub fn bucket(&self, name: &str) -> Result<Bucket> {
        let client = self.owned.get()?;
        Ok(Bucket::new(client.bucket(name)))
    }

    /// A new session, see [`crate::Client::session`].
    ///
    /// # Errors
    /// As [`Client::bucket`].
    pub fn session(&self) -> Result<Session> {
        let session = self.owned.get()?.session();
        Ok(Session {
            owned: Arc::new(Owned::new(session)),
        })
    }

    /// A session that goes on, see [`crate::Client::session_from`].
    ///
    /// # Errors
    /// As there, and as [`Client::bucket`].
    pub fn session_from(&self, token: &[u8]) -> Result<Session> {
        let session = self.owned.get()?.session_from(token)?;
        Ok(Session {
            owned: Arc::new(Owned::new(session)),
        })
    }

    /// Makes a bucket, see [`crate::Client::create_bucket`].
    ///
    /// # Errors
    /// As there.
    pub fn create_bucket(
        &self,
        name: String,
        options: BucketOptions,
    ) -> impl Future<Output = Result<BucketPolicy>> + Send + 'static {
        let owned = Arc::clone(&self.owned);
        async move {
            let options = options.read()?;
            let made = owned.get()?.create_bucket(name, &options).await?;
            Ok(made.into())
        }
    }

    /// Changes a bucket, see [`crate::Client::set_bucket`].
    ///
    /// # Errors
    /// As there.
    pub fn set_bucket(
        &self,
        name: String,
        changes: BucketChanges,
    ) -> impl Future<Output = Result<BucketPolicy>> + Send + 'static {
        let owned = Arc::clone(&self.owned);
        async move {
            let changes = changes.read()?;
            let set = owned.get()?.set_bucket(&name, &changes).await?;
            Ok(set.into())
        }
    }

    /// Deletes a bucket, see [`crate::Client::delete_bucket`].
    ///
    /// # Errors
    /// As there.
    pub fn delete_bucket(&self, name: String) -> impl Future<Output = Result<()>> + Send + 'static {
        let owned = Arc::clone(&self.owned);
        async move { owned.get()?.delete_bucket(&name).await }
    }

    /// The buckets of the cluster, see [`crate::Client::buckets`].
    ///
    /// # Errors
    /// As there.
    pub fn buckets(&self) -> impl Future<Output = Result<Vec<BucketPolicy>>> + Send + 'static {
        let owned = Arc::clone(&self.owned);
        async move {
            let buckets = owned.get()?.buckets().await?;
            Ok(buckets.into_iter().map(BucketPolicy::from).collect())
        }
    }

    /// What this client has done so far, see [`crate::Client::statistics`].
    ///
    /// # Errors
    /// As [`Client::bucket`].
    pub fn statistics(&self) -> Result<Statistics> {
        Ok(self.owned.get()?.statistics())
    }

    /// Ends the client, see [`crate::Client::close`]. In a process that was forked there is nothing
    /// to end.
    ///
    /// # Errors
    /// None today.
    pub fn close(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        let owned = Arc::clone(&self.owned);
        async move {
            if let Ok(client) = owned.get() {
                client.close().await;
            }
            Ok(())
        }
    }
}

impl Session {
    /// A bucket in which this session reads and writes, see [`crate::Session::bucket`].
    ///
    /// # Errors
    /// As [`Client::bucket`].
    pub fn bucket(&self, name: &str) -> Result<Bucket> {
        Ok(Bucket::new(self.owned.get()?.bucket(name)))
    }

    /// What another process needs to go on, see [`crate::Session::to_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn to_bytes(&self) -> impl Future<Output = Result<Bytes>> + Send + 'static {
        let owned = Arc::clone(&self.owned);
        async move { owned.get()?.to_bytes().await }
    }
}

/// Something of the process that made it. In a process that was forked from that one it is neither
/// used nor dropped: its threads are not there, and any of its locks may be held for ever.
#[derive(Debug)]
pub(super) struct Owned<T> {
    process: u32,
    /// There until it is dropped.
    value: Option<T>,
}

impl<T> Owned<T> {
    pub(super) fn new(value: T) -> Self {
        Self {
            process: std::process::id(),
            value: Some(value),
        }
    }

    pub(super) fn get(&self) -> Result<&T> {
        let ours = self.process == std::process::id();
        self.value.as_ref().filter(|_| ours).ok_or_else(|| {
            let why = "this client was connected before the process was forked: connect a new one \
                       in the child";
            Error::new(ErrorKind::Closed, why)
        })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            std::mem::forget(self.value.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_made_is_neither_used_nor_dropped() {
        let value = Arc::new(());
        let ours = Owned::new(Arc::clone(&value));
        assert!(ours.get().is_ok());
        drop(ours);
        assert_eq!(Arc::strong_count(&value), 1);
        let mut theirs = Owned::new(Arc::clone(&value));
        theirs.process += 1;
        let error = theirs.get().map(|_| ()).expect_err("it is another's");
        assert_eq!(error.kind(), ErrorKind::Closed);
        drop(theirs);
        assert_eq!(Arc::strong_count(&value), 2);
    }
}
