//! A whole server whose store fails, which the tests outside cannot arrange.

use super::*;
use crate::store::Entry;
use annulet_protocol::codec;
use annulet_protocol::message::FailureKind;
use annulet_replica::memory::MemoryStore;
use annulet_replica::store::{Batch, Family, Slice, Span, Store, StoreError};
use bytes::Bytes;
use support::{Authority, CLUSTER, PATIENCE, Running, alone, get, put, request};

#[path = "../../tests/support/mod.rs"]
mod support;

/// A store whose disk takes nothing.
#[derive(Default)]
struct Broken(MemoryStore);

impl Store for Broken {
    fn read(&self, family: Family, keys: &[Bytes]) -> Vec<Entry> {
        self.0.read(family, keys)
    }

    fn range(&self, family: Family, span: &Span) -> Result<Slice, StoreError> {
        self.0.range(family, span)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.0.write(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        Err(StoreError::Failed("no disk".into()))
    }
}

impl Engine for Broken {
    fn read_cached(&self, keys: &[Bytes]) -> Option<Vec<Entry>> {
        Some(self.read(Family::Records, keys))
    }
}

#[tokio::test]
async fn a_server_whose_store_fails_acknowledges_nothing_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let mut config = alone(folder.path(), &authority);
    // It must not wait for connections as it does when it is told to stop.
    config.limits.stop_ms = 2 * PATIENCE.as_millis() as u64;
    let broken = |config: &Config, owner: Owner| {
        let engine: Arc<dyn Engine> = Arc::new(Broken::default());
        Ok((Folder::open(&config.data, owner)?, engine))
    };
    let server = Running::serve(Server::build(config, None, broken).await.unwrap());
    let identity = authority.issue(CLUSTER, "client");
    let mut caller = server
        .caller(authority.client(Some(&identity), b"http/1.1"))
        .await;
    assert_eq!(caller.operations(vec![get("a")]).await.len(), 1);
    let body = codec::encode(&request(vec![put("a", "1")]));
    let got = caller.post("/v1/ops", body).await;
    assert_eq!(
        (got.status, got.failure().kind),
        (500, FailureKind::Internal)
    );
    let error = server.ended().await.unwrap_err();
    assert!(
        matches!(&error, ServerError::StoreFailed(why) if why.contains("no disk")),
        "{error}"
    );
}
