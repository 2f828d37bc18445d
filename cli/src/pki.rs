//! The cluster's certificate authority, and the certificates it issues. A certificate carries its
//! holder's role as a URI name: `annulet://CLUSTER/peer|admin|client/NAME`.

use crate::clock;
use crate::failure::Failure;
use annulet_protocol::ids::ClusterId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

/// What the holder of a certificate may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A server: talks to clients and to the other servers.
    Peer,
    /// Changes the ring and the buckets, and what a client may.
    Admin,
    /// Reads and writes data.
    Client,
}

/// What a certificate is to say.
pub(crate) struct Request<'a> {
    pub(crate) role: Role,
    pub(crate) name: &'a str,
    /// Host names and addresses that a server is reached by.
    pub(crate) hosts: &'a [String],
    pub(crate) days: u32,
}

/// A certificate and its private key, both as PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A cluster's certificate authority, in hand with its key.
pub(crate) struct Authority {
    cluster: ClusterId,
    issuer: Issuer<'static, KeyPair>,
    /// It cannot vouch for anyone beyond its own last second.
    valid_until: Duration,
}

impl Authority {
    /// A new authority for a cluster.
    pub(crate) fn create(cluster: ClusterId, days: u32) -> Result<(Self, Issued), Failure> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unmade)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("Annulet CA {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("annulet://{cluster}/ca"))?];
        let valid_until = date(&mut params, days, None);
        let certificate = params.self_signed(&key).map_err(unmade)?.pem();
        let issued = Issued {
            certificate,
            key: key.serialize_pem(),
        };
        let authority = Self {
            cluster,
            issuer: Issuer::new(params, key),
            valid_until,
        };
        Ok((authority, issued))
    }

    /// The authority of this certificate and key.
    pub(crate) fn load(certificate: &str, key: &str) -> Result<Self, Failure> {
        let not_ours = |why: &str| {
            Failure::usage(format!("this is not an Annulet authority: {why}"))
                .advise("name the folder that `annulet cert ca` wrote with --dir")
        };
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes())
            .map_err(|_| not_ours("its certificate is not PEM"))?;
        let (cluster, valid_until) =
            read_authority(&pem).ok_or_else(|| not_ours("its certificate names no cluster"))?;
        let key = KeyPair::from_pem(key).map_err(|_| not_ours("its key cannot be read"))?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key)
            .map_err(|_| not_ours("its certificate cannot sign"))?;
        Ok(Self {
            cluster,
            issuer,
            valid_until,
        })
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// A new certificate with a key of its own.
    pub(crate) fn issue(&self, request: &Request<'_>) -> Result<Issued, Failure> {
        let Request {
            role,
            name,
            hosts,
            days,
        } = *request;
        check_name(name)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unmade)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.subject_alt_names = vec![uri(&format!("annulet://{}/{role}/{name}", self.cluster))?];
        for host in hosts {
            params.subject_alt_names.push(host_name(host)?);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match role {
            // A server is a client of the other servers.
            Role::Peer => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            Role::Admin | Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        date(&mut params, days, Some(self.valid_until));
        let certificate = params.signed_by(&key, &self.issuer).map_err(unmade)?.pem();
        Ok(Issued {
            certificate,
            key: key.serialize_pem(),
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "peer",
            Self::Admin => "admin",
            Self::Client => "client",
        })
    }
}

/// The cluster that an authority's certificate names, and when it ends.
fn read_authority(pem: &Pem) -> Option<(ClusterId, Duration)> {
    let certificate = pem.parse_x509().ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let cluster = names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => {
                let path = uri.strip_prefix("annulet://")?;
                path.strip_suffix("/ca")?.parse().ok()
            }
            _ => None,
        })?;
    let end = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some((cluster, Duration::from_secs(end)))
}

/// Sets the first and last second of validity, and says the last one.
fn date(params: &mut CertificateParams, days: u32, not_beyond: Option<Duration>) -> Duration {
    let now = clock::since_epoch();
    // The holders' clocks may be behind this one's.
    let start = now.saturating_sub(CLOCK_ALLOWANCE);
    let end = now + DAY * days;
    let end = not_beyond.map_or(end, |limit| end.min(limit));
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(start.as_secs());
    params.not_after = epoch + Duration::from_secs(end.as_secs());
    end
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::OrganizationName, "Annulet");
    names.push(DnType::CommonName, name);
    names
}

fn uri(text: &str) -> Result<SanType, Failure> {
    text.try_into().map(SanType::URI).map_err(unmade)
}

fn host_name(host: &str) -> Result<SanType, Failure> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '*');
    if host.is_empty() || host.len() > 253 || !host.chars().all(plain) {
        return Err(Failure::usage(format!(
            "`{host}` is not a host name or IP address; leave out the port"
        )));
    }
    host.try_into().map(SanType::DnsName).map_err(unmade)
}

/// A name is part of a URI and of file names.
fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if name.len() > NAME_BYTES_MAX || !starts_well || !name.chars().all(plain) {
        return Err(Failure::usage(format!(
            "`{name}` cannot be a certificate's name: use 1 to {NAME_BYTES_MAX} letters, digits, \
             dots, dashes and underscores, beginning with a letter or digit"
        )));
    }
    Ok(())
}

fn unmade(error: rcgen::Error) -> Failure {
    Failure::failed(format!("cannot make the certificate: {error}"))
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CLOCK_ALLOWANCE: Duration = Duration::from_secs(60 * 60);
/// What X.509 allows for a common name.
const NAME_BYTES_MAX: usize = 64;
