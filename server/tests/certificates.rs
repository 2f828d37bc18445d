//! Certificates: whose are taken, how they are replaced, what a resumed session knows.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod support;

use annulet_protocol::ids::ClusterId;
use annulet_server::Config;
use rustls::HandshakeKind;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::sync::Arc;
use support::write_certificates;
use support::{Authority, CLUSTER, Caller, Identity, Running, alone, eventually, get, value};

const HTTP1: &[u8] = b"http/1.1";

fn watchful(config: Config) -> Config {
    let mut config = config;
    config.limits.certificates_ms = 10;
    config
}

fn der(identity: &Identity) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap()
}

#[tokio::test]
async fn only_the_clusters_authority_vouches_for_callers() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Running::start(alone(folder.path(), &authority)).await;
    let forged = other.issue(CLUSTER, "admin");
    let client = Arc::new(authority.client(Some(&forged), HTTP1));
    // With TLS 1.3 the client's handshake is over before the server has looked at its certificate.
    let served = match server.tls(&client).await {
        Err(_) => false,
        Ok(stream) => {
            let mut caller = Caller::http1(stream).await;
            let request = caller.request("GET", "/healthz", Default::default());
            caller.send(request).await.is_ok()
        }
    };
    assert!(!served, "not even what needs no certificate");

    let client = Arc::new(other.client(None, HTTP1));
    assert!(
        server.tls(&client).await.is_err(),
        "the client does not trust the server either"
    );
}

#[tokio::test]
async fn a_resumed_session_knows_who_calls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = Running::start(alone(folder.path(), &authority)).await;
    let peer = authority.issue(CLUSTER, "peer");
    let client = Arc::new(authority.client(Some(&peer), HTTP1));
    for expected in [
        HandshakeKind::Full,
        HandshakeKind::Resumed,
        HandshakeKind::Resumed,
    ] {
        let stream = server.tls(&client).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        let mut caller = Caller::http1(stream).await;
        let got = caller.post("/v1/peer/hello", "x").await;
        assert_eq!(got.status, 400, "a peer may come in, though not with that");
    }
}

#[tokio::test]
async fn certificates_are_replaced_while_serving() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, next) = (Authority::new(), Authority::new());
    let server = Running::start(watchful(alone(folder.path(), &authority))).await;
    let identity = authority.issue(CLUSTER, "client");
    let client = Arc::new(authority.client(Some(&identity), HTTP1));
    let mut old = server
        .caller(authority.client(Some(&identity), HTTP1))
        .await;
    assert_eq!(value(&old.operations(vec![get("a")]).await[0]), None);

    // The same authority, another certificate.
    let renewed = authority.issue(CLUSTER, "peer");
    write_certificates(folder.path(), &authority, &renewed);
    let presented = async || {
        let fresh = Arc::new(authority.client(Some(&identity), HTTP1));
        let stream = server.tls(&fresh).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0] == der(&renewed)
    };
    eventually(presented).await;
    assert_eq!(
        old.operations(vec![get("a")]).await.len(),
        1,
        "who is connected stays so"
    );

    // Another authority: what the former one vouched for is nothing any more.
    write_certificates(folder.path(), &next, &next.issue(CLUSTER, "peer"));
    eventually(async || server.tls(&client).await.is_err()).await;
    let identity = next.issue(CLUSTER, "client");
    let mut caller = server.caller(next.client(Some(&identity), HTTP1)).await;
    assert_eq!(value(&caller.operations(vec![get("a")]).await[0]), None);
}

#[tokio::test]
async fn new_certificates_that_cannot_be_used_leave_the_old_ones_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = Running::start(watchful(alone(folder.path(), &authority))).await;
    let identity = authority.issue(CLUSTER, "client");
    let mut caller = server
        .caller(authority.client(Some(&identity), HTTP1))
        .await;
    let mut errors = 0;
    let foreign = authority.issue(ClusterId([9; 16]), "peer");
    let half = Identity {
        key: authority.issue(CLUSTER, "peer").key,
        ..authority.issue(CLUSTER, "peer")
    };
    for unusable in [&foreign, &half] {
        write_certificates(folder.path(), &authority, unusable);
        loop {
            let text = caller.get("/metrics").await.body;
            let text = String::from_utf8(text.to_vec()).unwrap();
            let counted = text
                .lines()
                .find_map(|line| line.strip_prefix("annulet_certificate_errors_total "))
                .map(|count| count.parse::<u32>().unwrap());
            if counted > Some(errors) {
                errors = counted.unwrap();
                break;
            }
            tokio::task::yield_now().await;
        }
        let client = Arc::new(authority.client(Some(&identity), HTTP1));
        assert!(server.tls(&client).await.is_ok());
    }
    std::fs::remove_file(folder.path().join("node.pem")).unwrap();
    let good = authority.issue(CLUSTER, "peer");
    write_certificates(folder.path(), &authority, &good);
    let presented = async || {
        let client = Arc::new(authority.client(Some(&identity), HTTP1));
        let stream = server.tls(&client).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0] == der(&good)
    };
    eventually(presented).await;
}
