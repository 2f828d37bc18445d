//! A bucket.

use crate::given::{Pair, ReadOptions, ScanOptions, WriteOptions};
use crate::steps::{Merging, Scan, Update};
use crate::token::Token;
use crate::values::{Entry, Failure, Read, Resolved, Write, Written};
use annulet::facade;
use bytes::Bytes;
use std::sync::Arc;

/// A bucket.
#[derive(uniffi::Object)]
pub(crate) struct Bucket {
    bucket: annulet::Result<facade::Bucket>,
}

impl Bucket {
    pub(crate) fn new(bucket: annulet::Result<facade::Bucket>) -> Arc<Self> {
        Arc::new(Self { bucket })
    }

    fn get_bucket(&self) -> Result<&facade::Bucket, Failure> {
        self.bucket.as_ref().map_err(|error| error.clone().into())
    }
}

fn all(keys: Vec<Vec<u8>>) -> Vec<Bytes> {
    keys.into_iter().map(Bytes::from).collect()
}

#[uniffi::export]
impl Bucket {
    async fn get(
        &self,
        token: Arc<Token>,
        key: Vec<u8>,
        options: ReadOptions,
    ) -> Result<Option<Entry>, Failure> {
        let get = self.get_bucket()?.get(key.into(), options.given());
        Ok(token.run(get).await?.map(Into::into))
    }

    async fn begin_merge(
        &self,
        token: Arc<Token>,
        key: Vec<u8>,
        options: ReadOptions,
    ) -> Result<Arc<Merging>, Failure> {
        let begin = self.get_bucket()?.begin_merge(key.into(), options.given());
        Ok(Merging::new(token.run(begin).await?))
    }

    async fn exists(
        &self,
        token: Arc<Token>,
        key: Vec<u8>,
        options: ReadOptions,
    ) -> Result<bool, Failure> {
        let exists = self.get_bucket()?.exists(key.into(), options.given());
        token.run(exists).await
    }

    async fn put(
        &self,
        token: Arc<Token>,
        key: Vec<u8>,
        value: Vec<u8>,
        mut options: WriteOptions,
    ) -> Result<Written, Failure> {
        let (key, value) = (key.into(), value.into());
        let put = self.get_bucket()?.put(key, value, options.given());
        Ok(token.run(put).await?.into())
    }

    async fn delete(
        &self,
        token: Arc<Token>,
        key: Vec<u8>,
        mut options: WriteOptions,
    ) -> Result<Written, Failure> {
        let delete = self.get_bucket()?.delete(key.into(), options.given());
        Ok(token.run(delete).await?.into())
    }

    async fn touch(
        &self,
        token: Arc<Token>,
        key: Vec<u8>,
        mut options: WriteOptions,
    ) -> Result<Option<Written>, Failure> {
        let touch = self.get_bucket()?.touch(key.into(), options.given());
        Ok(token.run(touch).await?.map(Into::into))
    }

    async fn put_if_version(
        &self,
        token: Arc<Token>,
        key: Vec<u8>,
        value: Vec<u8>,
        version: String,
        mut options: WriteOptions,
    ) -> Result<Written, Failure> {
        let (bucket, key, value) = (self.get_bucket()?, key.into(), value.into());
        let put = bucket.put_if_version(key, value, version, options.given());
        Ok(token.run(put).await?.into())
    }

    async fn put_if_absent(
        &self,
        token: Arc<Token>,
        key: Vec<u8>,
        value: Vec<u8>,
        mut options: WriteOptions,
    ) -> Result<Written, Failure> {
        let (bucket, key, value) = (self.get_bucket()?, key.into(), value.into());
        let put = bucket.put_if_absent(key, value, options.given());
        Ok(token.run(put).await?.into())
    }

    async fn delete_if_version(
        &self,
        token: Arc<Token>,
        key: Vec<u8>,
        version: String,
        mut options: WriteOptions,
    ) -> Result<Written, Failure> {
        let bucket = self.get_bucket()?;
        let delete = bucket.delete_if_version(key.into(), version, options.given());
        Ok(token.run(delete).await?.into())
    }

    async fn begin_update(
        &self,
        token: Arc<Token>,
        key: Vec<u8>,
        mut options: WriteOptions,
    ) -> Result<Arc<Update>, Failure> {
        let begin = self.get_bucket()?.begin_update(key.into(), options.given());
        Ok(Update::new(token.run(begin).await?))
    }

    async fn resolve(
        &self,
        token: Arc<Token>,
        key: Vec<u8>,
        op_id: String,
    ) -> Result<Resolved, Failure> {
        let resolve = self
            .get_bucket()?
            .resolve(key.into(), facade::op_id(&op_id));
        Ok(token.run(resolve).await?.into())
    }

    async fn multi_get(
        &self,
        token: Arc<Token>,
        keys: Vec<Vec<u8>>,
        options: ReadOptions,
    ) -> Result<Vec<Read>, Failure> {
        let get = self.get_bucket()?.multi_get(all(keys), options.given());
        let each = token.run(get).await?;
        Ok(each.into_iter().map(Into::into).collect())
    }

    async fn multi_put(
        &self,
        token: Arc<Token>,
        entries: Vec<Pair>,
        mut options: WriteOptions,
    ) -> Result<Vec<Write>, Failure> {
        let entries = entries.into_iter();
        let entries = entries.map(|Pair { key, value }| (key.into(), value.into()));
        let put = self
            .get_bucket()?
            .multi_put(entries.collect(), options.given());
        let each = token.run(put).await?;
        Ok(each.into_iter().map(Into::into).collect())
    }

    async fn multi_delete(
        &self,
        token: Arc<Token>,
        keys: Vec<Vec<u8>>,
        mut options: WriteOptions,
    ) -> Result<Vec<Write>, Failure> {
        let delete = self.get_bucket()?.multi_delete(all(keys), options.given());
        let each = token.run(delete).await?;
        Ok(each.into_iter().map(Into::into).collect())
    }

    fn scan(&self, mut options: ScanOptions) -> Result<Arc<Scan>, Failure> {
        Ok(Scan::new(self.get_bucket()?.scan(options.given())?))
    }
}
