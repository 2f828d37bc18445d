//! Who a certificate says its holder is: a URI name `annulet://CLUSTER/ROLE/NAME`.

use annulet_protocol::ids::ClusterId;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const SCHEME: &str = "annulet://";

/// What a certificate entitles to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A server of the cluster.
    Peer,
    /// Who may change the ring and the buckets, and use the data.
    Admin,
    /// Who may use the data.
    Client,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// It presented no certificate.
    Unknown,
    /// It presented a good one.
    Known {
        /// What it may do.
        role: Role,
        /// What it is called.
        name: String,
        /// When its certificate ends, in milliseconds since the Unix epoch. A connection may be
        /// older than that.
        until_ms: u64,
    },
    /// It presented one of the cluster's authority that does not say what it may do here.
    Unusable(String),
}

impl Caller {
    /// Who presented this chain to a server of `cluster`. The chain was verified already.
    pub(crate) fn of(chain: Option<&[CertificateDer<'_>]>, cluster: ClusterId) -> Self {
        match chain.and_then(|chain| chain.first()) {
            None => Self::Unknown,
            Some(leaf) => read(leaf, cluster).unwrap_or_else(Self::Unusable),
        }
    }
}

/// The cluster that a certificate is for.
///
/// # Errors
/// If it does not say.
pub(crate) fn cluster_of(leaf: &CertificateDer<'_>) -> Result<ClusterId, String> {
    let (uri, _) = name(leaf)?;
    let cluster = uri.split('/').next().unwrap_or_default();
    cluster.parse().map_err(|error| {
        format!("the certificate's name `{SCHEME}{uri}` begins with no cluster: {error}")
    })
}

fn read(leaf: &CertificateDer<'_>, cluster: ClusterId) -> Result<Caller, String> {
    let (uri, until_ms) = name(leaf)?;
    let (role, name) = parse(&uri, cluster)?;
    Ok(Caller::Known {
        role,
        name: name.to_owned(),
        until_ms,
    })
}

/// What stands behind the scheme in the name of a certificate, and when it ends, in milliseconds
/// since the Unix epoch.
fn name(leaf: &CertificateDer<'_>) -> Result<(String, u64), String> {
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|error| format!("the certificate: {error}"))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| format!("the certificate's names: {error}"))?;
    let names = names
        .iter()
        .flat_map(|names| names.value.general_names.iter());
    let uris = names.filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(SCHEME),
        _ => None,
    });
    let uris: Vec<_> = uris.collect();
    let [uri] = uris[..] else {
        return Err(format!(
            "the certificate has {} names `{SCHEME}CLUSTER/ROLE/NAME`; one is needed",
            uris.len()
        ));
    };
    let until = certificate.validity().not_after.timestamp();
    let until_ms = u64::try_from(until).unwrap_or(0).saturating_mul(1000);
    Ok((uri.to_owned(), until_ms))
}

/// Reads `CLUSTER/ROLE/NAME`.
fn parse(uri: &str, ours: ClusterId) -> Result<(Role, &str), String> {
    let parts: Vec<_> = uri.splitn(3, '/').collect();
    let [cluster, role, name] = parts[..] else {
        return Err(format!(
            "the certificate's name `{SCHEME}{uri}` has no role and name"
        ));
    };
    if cluster.parse() != Ok(ours) {
        return Err(format!(
            "the certificate is for cluster {cluster}, this server is of {ours}"
        ));
    }
    let role = match role {
        "peer" => Role::Peer,
        "admin" => Role::Admin,
        "client" => Role::Client,
        other => {
            return Err(format!(
                "the certificate's role `{other}` is not known here"
            ));
        }
    };
    if name.is_empty() {
        return Err("the certificate names nobody".into());
    }
    Ok((role, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_and_what_is_not_ours_is_refused() {
        let ours = ClusterId([0xab; 16]);
        let uri = |rest: &str| format!("{ours}/{rest}");
        assert_eq!(parse(&uri("peer/n1"), ours), Ok((Role::Peer, "n1")));
        assert_eq!(parse(&uri("admin/a/b"), ours), Ok((Role::Admin, "a/b")));
        assert_eq!(parse(&uri("client/web"), ours), Ok((Role::Client, "web")));
        for bad in ["", "peer", "owner/x", "peer/"] {
            assert!(parse(&uri(bad), ours).is_err(), "{bad}");
        }
        assert!(parse(&uri("peer/n1"), ClusterId([1; 16])).is_err());
        assert!(parse("", ours).is_err());
    }

    #[test]
    fn bytes_that_are_no_certificate_are_unusable() {
        let chain = [CertificateDer::from(vec![1, 2, 3])];
        let caller = Caller::of(Some(&chain), ClusterId::default());
        assert!(matches!(caller, Caller::Unusable(_)));
        assert_eq!(Caller::of(None, ClusterId::default()), Caller::Unknown);
        assert_eq!(Caller::of(Some(&[]), ClusterId::default()), Caller::Unknown);
    }
}
