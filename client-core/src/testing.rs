//! A client under test whose servers take connections and say nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "this opens the sockets of tests of the client"
)]

use crate::bucket::Bucket;
use crate::client::Client;
use crate::config::Config;
use crate::core::client::{Core, Home};
use crate::core::testing::{BUCKET, KEY};
use crate::shared::{Parts, Shared};
use crate::system;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::ids::Incarnation;
use annulet_protocol::view::View;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio::net::TcpListener;

/// See the module.
pub(crate) struct Silent {
    pub(crate) client: Client,
    /// It accepts nothing, so the system does, and nobody answers.
    _server: TcpListener,
}

impl Silent {
    /// A client with the view of one bucket `b`; see [`core::testing`](crate::core::testing).
    pub(crate) async fn new() -> Self {
        Self::of(View::clone(&crate::core::testing::view(1))).await
    }

    /// A client with this view.
    pub(crate) async fn of(mut view: View) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = server.local_addr().expect("its address").to_string();
        for member in &mut view.members {
            member.address.clone_from(&address);
        }
        let incarnation = Incarnation([7; 16]);
        let parts = Parts {
            config: Config::default(),
            clock: system::Clock::start(),
            tls: tls(),
            core: Core::new(incarnation, Arc::new(view), Home::default()),
            seeds: Vec::new(),
            view_cache: None,
            incarnation,
        };
        Self {
            client: Client::of(Shared::new(parts)),
            _server: server,
        }
    }

    /// The one bucket.
    pub(crate) fn bucket(&self) -> Bucket {
        self.client.bucket("b")
    }

    /// Where the one key lies.
    pub(crate) fn hash(&self) -> KeyHash {
        self.client.view().hash(BUCKET, KEY)
    }
}

fn tls() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(config)
}
