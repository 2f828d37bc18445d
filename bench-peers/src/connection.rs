//! What a store must offer to be measured.

use bytes::Bytes;
use std::future::Future;

/// One connection to a store; clones share it.
pub(crate) trait Connection: Clone + Send + 'static {
    /// Stores a value, as durably as the store is set up to.
    fn put(&mut self, key: Bytes, value: Bytes) -> impl Future<Output = Result<(), String>> + Send;

    /// The length of the value, if there is one.
    fn get(&mut self, key: Bytes) -> impl Future<Output = Result<Option<usize>, String>> + Send;
}

/// How to show a server who we are, and how to know it; all of it as PEM.
pub(crate) struct Credentials {
    pub(crate) authority: Vec<u8>,
    pub(crate) client: Option<ClientCredentials>,
}

pub(crate) struct ClientCredentials {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}
