//! A client and its sessions.

use crate::bucket::Bucket;
use crate::given::{BucketChanges, BucketOptions, ConnectOptions};
use crate::token::Token;
use crate::values::{BucketPolicy, Failure};
use annulet::facade;
use std::collections::HashMap;
use std::sync::Arc;

/// A client of one cluster.
#[derive(uniffi::Object)]
pub(crate) struct Client {
    client: facade::Client,
}

/// A session of a client.
#[derive(uniffi::Object)]
pub(crate) struct Session {
    session: annulet::Result<facade::Session>,
}

#[uniffi::export]
async fn connect(token: Arc<Token>, options: ConnectOptions) -> Result<Arc<Client>, Failure> {
    let client = token.run(facade::Client::connect(options.into())).await?;
    Ok(Arc::new(Client { client }))
}

#[uniffi::export]
impl Client {
    /// What is wrong is told by the operations: a bucket costs nothing to have.
    fn bucket(&self, name: &str) -> Arc<Bucket> {
        Bucket::new(self.client.bucket(name))
    }

    fn session(&self) -> Arc<Session> {
        Arc::new(Session {
            session: self.client.session(),
        })
    }

    fn session_from(&self, token: &[u8]) -> Result<Arc<Session>, Failure> {
        let session = Ok(self.client.session_from(token)?);
        Ok(Arc::new(Session { session }))
    }

    async fn create_bucket(
        &self,
        token: Arc<Token>,
        name: String,
        options: BucketOptions,
    ) -> Result<BucketPolicy, Failure> {
        let create = self.client.create_bucket(name, options.into());
        Ok(token.run(create).await?.into())
    }

    async fn set_bucket(
        &self,
        token: Arc<Token>,
        name: String,
        changes: BucketChanges,
    ) -> Result<BucketPolicy, Failure> {
        let set = self.client.set_bucket(name, changes.into());
        Ok(token.run(set).await?.into())
    }

    async fn delete_bucket(&self, token: Arc<Token>, name: String) -> Result<(), Failure> {
        token.run(self.client.delete_bucket(name)).await
    }

    async fn buckets(&self, token: Arc<Token>) -> Result<Vec<BucketPolicy>, Failure> {
        let buckets = token.run(self.client.buckets()).await?;
        Ok(buckets.into_iter().map(Into::into).collect())
    }

    fn statistics(&self) -> Result<HashMap<String, u64>, Failure> {
        let counts = self.client.statistics()?.by_name().into_iter();
        Ok(counts.map(|(name, count)| (name.into(), count)).collect())
    }

    /// `close` is what UniFFI calls the end of a handle.
    async fn shutdown(&self, token: Arc<Token>) -> Result<(), Failure> {
        token.run(self.client.close()).await
    }
}

#[uniffi::export]
impl Session {
    fn bucket(&self, name: &str) -> Arc<Bucket> {
        let session = self.session.as_ref().map_err(Clone::clone);
        Bucket::new(session.and_then(|session| session.bucket(name)))
    }

    async fn to_bytes(&self, token: Arc<Token>) -> Result<Vec<u8>, Failure> {
        let session = self.session.as_ref().map_err(Clone::clone)?;
        Ok(token.run(session.to_bytes()).await?.into())
    }
}
