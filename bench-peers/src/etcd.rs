//! etcd, by `etcd-client`.

use crate::connection::{Connection, Credentials};
use bytes::Bytes;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, KvClient, TlsOptions};
use std::time::Duration;

#[derive(Clone)]
pub(crate) struct Etcd(KvClient);

impl Etcd {
    /// One connection, to this endpoint only, so that the number of connections is what was
    /// asked for.
    pub(crate) async fn connect(endpoint: &str, credentials: &Credentials) -> Result<Self, String> {
        let mut tls =
            TlsOptions::new().ca_certificate(Certificate::from_pem(&credentials.authority));
        if let Some(client) = &credentials.client {
            tls = tls.identity(Identity::from_pem(&client.certificate, &client.key));
        }
        let options = ConnectOptions::new()
            .with_tls(tls)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(OPERATION_TIMEOUT);
        let url = format!("https://{endpoint}");
        let client = Client::connect([url], Some(options))
            .await
            .map_err(|error| format!("etcd at {endpoint}: {error}"))?;
        Ok(Self(client.kv_client()))
    }
}

impl Connection for Etcd {
    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), String> {
        let answer = self.0.put(key, value, None).await;
        answer.map(drop).map_err(|error| error.to_string())
    }

    async fn get(&mut self, key: Bytes) -> Result<Option<usize>, String> {
        // Without options a get is linearizable.
        let answer = self
            .0
            .get(key, None)
            .await
            .map_err(|error| error.to_string())?;
        Ok(answer.kvs().first().map(|pair| pair.value().len()))
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
