//! TLS 1.3 for clients and peers, and who is at the other end.
//!
//! A certificate is optional at the handshake, so that health checks need none; one that is
//! presented must come from the cluster's authority, else the handshake fails. What a caller may do
//! is decided per endpoint, by the [`role`] in its certificate.

pub(crate) mod role;

use crate::config::TlsFiles;
use annulet_protocol::ids::ClusterId;
use arc_swap::ArcSwap;
use role::{Caller, Role};
use rustls::crypto::CryptoProvider;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_64;

/// HTTP/2, as negotiated.
pub(crate) const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";
/// Sessions kept for resumption, each with its client's certificates. The oldest go first; a client
/// whose session is gone makes a full handshake.
const SESSIONS_MAX: usize = 2048;
/// Longest certificate or key file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The cluster that the certificate of these files is for.
///
/// # Errors
/// Names the file that cannot be used, and why.
pub(crate) fn cluster_of(files: &TlsFiles) -> Result<ClusterId, String> {
    let chain = certificates(&files.cert, &read(&files.cert)?)?;
    // There is at least one.
    let leaf = chain
        .first()
        .ok_or_else(|| named(&files.cert, "no certificate in it"))?;
    role::cluster_of(leaf).map_err(|why| named(&files.cert, why))
}

/// The certificates in use. They are replaced as a whole, and sessions made under older ones are
/// not resumed, so that a certificate of a former authority ends with it.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    cluster: ClusterId,
    server: ArcSwap<ServerConfig>,
    client: ArcSwap<ClientConfig>,
    /// Of the files when they were last looked at, usable or not.
    digest: AtomicU64,
}

/// What a look at the files found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// They are as before.
    Unchanged,
    /// They changed and are in use.
    Done,
    /// They changed and cannot be used; those before stay in use.
    Failed(String),
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file that cannot be used, and why.
    pub(crate) fn load(files: TlsFiles, cluster: ClusterId) -> Result<Self, String> {
        let content = Content::read(&files, cluster)?;
        Ok(Self {
            server: ArcSwap::from_pointee(content.server()?),
            client: ArcSwap::from_pointee(content.client()?),
            digest: AtomicU64::new(content.digest()),
            cluster,
            files,
        })
    }

    /// For accepting connections.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server.load_full()
    }

    /// For connecting to peers.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client.load_full()
    }

    /// Takes the files over if they changed. Reads files: not for a thread that serves.
    pub(crate) fn reload(&self) -> Reload {
        let content = match Content::read(&self.files, self.cluster) {
            Ok(content) => content,
            // A file may be missing for the moment of its replacement: the next look tells.
            Err(why) => return self.failed(0, why),
        };
        let digest = content.digest();
        if digest == self.digest.load(Ordering::Relaxed) {
            return Reload::Unchanged;
        }
        let configs = content
            .server()
            .and_then(|server| Ok((server, content.client()?)));
        match configs {
            Ok((server, client)) => {
                self.server.store(Arc::new(server));
                self.client.store(Arc::new(client));
                self.digest.store(digest, Ordering::Relaxed);
                Reload::Done
            }
            Err(why) => self.failed(digest, why),
        }
    }

    /// Says so once for each content of the files.
    fn failed(&self, digest: u64, why: String) -> Reload {
        match self.digest.swap(digest, Ordering::Relaxed) {
            before if before == digest => Reload::Unchanged,
            _ => Reload::Failed(why),
        }
    }
}

/// The files' bytes, read at one time.
struct Content {
    files: TlsFiles,
    cluster: ClusterId,
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Content {
    fn read(files: &TlsFiles, cluster: ClusterId) -> Result<Self, String> {
        Ok(Self {
            files: files.clone(),
            cluster,
            ca: read(&files.ca)?,
            cert: read(&files.cert)?,
            key: read(&files.key)?,
        })
    }

    fn digest(&self) -> u64 {
        let parts = [&self.ca, &self.cert, &self.key];
        let digests: Vec<u8> = parts
            .iter()
            .flat_map(|p| xxh3_64(p).to_be_bytes())
            .collect();
        xxh3_64(&digests)
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, String> {
        let mut roots = RootCertStore::empty();
        for cert in certificates(&self.files.ca, &self.ca)? {
            roots
                .add(cert)
                .map_err(|error| named(&self.files.ca, error))?;
        }
        Ok(Arc::new(roots))
    }

    /// This server's own certificates. Peers and clients expect role `peer` of a server.
    fn chain(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| named(&self.files.key, format!("no private key: {error:?}")))?;
        let chain = certificates(&self.files.cert, &self.cert)?;
        match Caller::of(Some(&chain), self.cluster) {
            Caller::Known {
                role: Role::Peer, ..
            } => Ok((chain, key)),
            Caller::Unusable(why) => Err(named(&self.files.cert, why)),
            Caller::Known { .. } | Caller::Unknown => Err(named(
                &self.files.cert,
                "a server's certificate must have role `peer`",
            )),
        }
    }

    fn server(&self) -> Result<ServerConfig, String> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| named(&self.files.ca, error))?;
        let (chain, key) = self.chain()?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| named(&self.files.cert, error))?;
        config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Ok(config)
    }

    fn client(&self) -> Result<ClientConfig, String> {
        let (chain, key) = self.chain()?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key)
            .map_err(|error| named(&self.files.cert, error))?;
        config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        Ok(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(path)
        .map_err(|error| named(path, error))?
        .len();
    if length > FILE_BYTES_MAX {
        return Err(named(path, "too long for certificates"));
    }
    std::fs::read(path).map_err(|error| named(path, error))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = read.map_err(|error| named(path, format!("{error:?}")))?;
    if certificates.is_empty() {
        return Err(named(path, "no certificate in it"));
    }
    Ok(certificates)
}

fn named(path: &Path, why: impl std::fmt::Display) -> String {
    format!("certificates: `{}`: {why}", path.display())
}
