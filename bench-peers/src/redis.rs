//! Redis, by `redis` on tokio: a connection on which calls of many callers are pipelined.

use crate::connection::{Connection, Credentials};
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ClientTlsConfig, TlsCertificates};
use std::time::Duration;

#[derive(Clone)]
pub(crate) struct Redis(MultiplexedConnection);

impl Redis {
    pub(crate) async fn connect(endpoint: &str, credentials: &Credentials) -> Result<Self, String> {
        let failed = |error| format!("Redis at {endpoint}: {error}");
        let client_tls = credentials.client.as_ref().map(|client| ClientTlsConfig {
            client_cert: client.certificate.clone(),
            client_key: client.key.clone(),
        });
        let certificates = TlsCertificates {
            client_tls,
            root_cert: Some(credentials.authority.clone()),
        };
        let url = format!("rediss://{endpoint}");
        let client = Client::build_with_tls(url, certificates).map_err(failed)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(OPERATION_TIMEOUT))
            .set_pipeline_buffer_size(PIPELINE_CALLS);
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        connection.map(Self).map_err(failed)
    }
}

impl Connection for Redis {
    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), String> {
        let mut command = redis::cmd("SET");
        command.arg(&key[..]).arg(&value[..]);
        let answer = command.query_async::<()>(&mut self.0).await;
        answer.map_err(|error| error.to_string())
    }

    async fn get(&mut self, key: Bytes) -> Result<Option<usize>, String> {
        let mut command = redis::cmd("GET");
        command.arg(&key[..]);
        let answer = command.query_async::<Option<Vec<u8>>>(&mut self.0).await;
        let value = answer.map_err(|error| error.to_string())?;
        Ok(value.map(|value| value.len()))
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The crate's half a second is less than what waiting for a slow disk may take.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// At least the callers that share a connection, so that none waits for a place in its queue.
const PIPELINE_CALLS: usize = 256;
