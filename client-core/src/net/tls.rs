//! The client's side of TLS.

use crate::error::{Error, ErrorKind, Result};
use crate::profile::Profile;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;

/// Servers whose sessions are remembered, so that a connection opened again costs no full
/// handshake.
const SESSIONS_MAX: usize = 4_096;

/// TLS 1.3 with the profile's authority and certificate.
pub(crate) fn config(profile: &Profile) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&profile.ca)? {
        roots.add(authority).map_err(|e| bad(&profile.ca, &e))?;
    }
    let chain = certificates(&profile.cert)?;
    let key = PrivateKeyDer::from_pem_file(&profile.key).map_err(|e| bad(&profile.key, &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Error::new(ErrorKind::Internal, format!("TLS 1.3: {e}")))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| bad(&profile.cert, &e))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| bad(path, &e))?;
    let all = read
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| bad(path, &e))?;
    if all.is_empty() {
        return Err(bad(path, &"it holds no certificate"));
    }
    Ok(all)
}

fn bad(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("cannot use {}: {why}", path.display()),
    )
}
