//! A client and its sessions.

use crate::bucket::Bucket;
use crate::port::Port;
use crate::values::{Show, given};
use annulet::facade::{self, BucketChanges, BucketOptions, ConnectOptions};
use napi::bindgen_prelude::*;
use napi_derive::napi;

/// A client of one cluster.
#[napi]
pub struct Client {
    client: facade::Client,
}

/// A session of a client.
#[napi]
pub struct Session {
    session: facade::Session,
}

/// Connects; gives a client.
#[napi]
#[allow(clippy::too_many_arguments, reason = "each is an option in JavaScript")]
pub(crate) fn connect(
    port: &Port,
    profile: Option<String>,
    timeout_ms: Option<f64>,
    level: Option<String>,
    zone: Option<String>,
    region: Option<String>,
    connections_max: Option<i64>,
    idle_after_ms: Option<f64>,
    check_one_in: Option<i64>,
) -> u32 {
    port.begin(facade::Client::connect(ConnectOptions {
        profile: profile.map(Into::into),
        timeout_ms,
        level,
        zone,
        region,
        connections_max,
        idle_after_ms,
        check_one_in,
    }))
}

impl Show for facade::Client {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        Client { client: self }.into_unknown(env)
    }
}

impl Show for facade::Session {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        Session { session: self }.into_unknown(env)
    }
}

#[napi]
impl Client {
    #[napi]
    pub fn bucket<'env>(&self, env: &'env Env, name: String) -> Result<Unknown<'env>> {
        given(env, self.client.bucket(&name))
    }

    #[napi]
    pub fn session<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        given(env, self.client.session())
    }

    #[napi]
    pub fn session_from<'env>(&self, env: &'env Env, token: &[u8]) -> Result<Unknown<'env>> {
        given(env, self.client.session_from(token))
    }

    #[napi]
    #[allow(clippy::too_many_arguments, reason = "each is an option in JavaScript")]
    pub fn create_bucket(
        &self,
        port: &Port,
        name: String,
        mode: Option<String>,
        replicas: Option<i64>,
        durability: Option<String>,
        read_level: Option<String>,
        write_level: Option<String>,
        ttl_ms: Option<f64>,
        merge: Option<String>,
    ) -> u32 {
        let options = BucketOptions {
            mode,
            replicas,
            durability,
            read_level,
            write_level,
            ttl_ms,
            merge,
        };
        port.begin(self.client.create_bucket(name, options))
    }

    #[napi]
    pub fn set_bucket(
        &self,
        port: &Port,
        name: String,
        read_level: Option<String>,
        write_level: Option<String>,
        ttl_ms: Option<f64>,
    ) -> u32 {
        let changes = BucketChanges {
            read_level,
            write_level,
            ttl_ms,
        };
        port.begin(self.client.set_bucket(name, changes))
    }

    #[napi]
    pub fn delete_bucket(&self, port: &Port, name: String) -> u32 {
        port.begin(self.client.delete_bucket(name))
    }

    #[napi]
    pub fn buckets(&self, port: &Port) -> u32 {
        port.begin(self.client.buckets())
    }

    /// Pairs of names and counts.
    #[napi]
    pub fn statistics<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        let statistics = self.client.statistics();
        given(
            env,
            statistics.map(|statistics| Counts(statistics.by_name())),
        )
    }

    #[napi]
    pub fn close(&self, port: &Port) -> u32 {
        port.begin(self.client.close())
    }
}

struct Counts(Vec<(&'static str, u64)>);

impl Show for Counts {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        let counts = self.0.into_iter().map(|(name, count)| (name, count as f64));
        counts.collect::<Vec<_>>().into_unknown(env)
    }
}

#[napi]
impl Session {
    #[napi]
    pub fn bucket<'env>(&self, env: &'env Env, name: String) -> Result<Unknown<'env>> {
        given(env, self.session.bucket(&name))
    }

    #[napi]
    pub fn to_bytes(&self, port: &Port) -> u32 {
        port.begin(self.session.to_bytes())
    }
}

impl Show for facade::Bucket {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        Bucket::new(self).into_unknown(env)
    }
}
