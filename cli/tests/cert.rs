//! `annulet cert`: what stands in the files, and who may read them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::PermissionsExt;
use support::Place;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

const CLUSTER: &str = "00112233445566778899aabbccddeeff";

fn place_with_authority() -> Place {
    let place = Place::new();
    place.run(&["cert", "ca", "--cluster", CLUSTER]).expect(0);
    place
}

/// Calls `check` with a certificate of the place.
fn with_certificate(place: &Place, name: &str, check: impl FnOnce(&X509Certificate<'_>)) {
    let file = std::fs::read(place.path(name)).unwrap();
    let pem = Pem::iter_from_buffer(&file).next().unwrap().unwrap();
    check(&pem.parse_x509().unwrap());
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let names = names.value.general_names.iter();
    names
        .map(|name| match name {
            GeneralName::URI(uri) => (*uri).to_owned(),
            GeneralName::DNSName(host) => (*host).to_owned(),
            GeneralName::IPAddress(bytes) => format!("{bytes:?}"),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn an_authority_names_its_cluster_and_may_sign() {
    let place = place_with_authority();
    with_certificate(&place, "certs/ca.pem", |ca| {
        assert!(ca.is_ca());
        assert_eq!(names(ca), [format!("annulet://{CLUSTER}/ca")]);
        assert!(ca.key_usage().unwrap().unwrap().value.key_cert_sign());
    });
}

#[test]
fn a_certificate_carries_its_role_and_a_servers_its_hosts() {
    let place = place_with_authority();
    let hosts = ["--host", "db1.example", "--host", "10.0.0.7"];
    place
        .run(&[&["cert", "peer", "node-1"], &hosts[..]].concat())
        .expect(0);
    place.run(&["cert", "admin", "ops"]).expect(0);
    place
        .run(&["cert", "client", "shop.web", "--days", "30"])
        .expect(0);

    with_certificate(&place, "certs/node-1.pem", |peer| {
        let role = format!("annulet://{CLUSTER}/peer/node-1");
        assert_eq!(names(peer), [role.as_str(), "db1.example", "[10, 0, 0, 7]"]);
        let usage = peer.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth);
        assert!(!peer.is_ca());
        with_certificate(&place, "certs/ca.pem", |ca| {
            assert_eq!(peer.issuer(), ca.subject())
        });
    });
    with_certificate(&place, "certs/ops.pem", |admin| {
        assert_eq!(names(admin), [format!("annulet://{CLUSTER}/admin/ops")]);
        let usage = admin.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
    });
    with_certificate(&place, "certs/shop.web.pem", |client| {
        assert_eq!(
            names(client),
            [format!("annulet://{CLUSTER}/client/shop.web")]
        );
        let key = client.public_key().algorithm.parameters.as_ref().unwrap();
        let curve = key.as_oid().unwrap().to_id_string();
        assert_eq!(curve, "1.2.840.10045.3.1.7", "the key is on P-256");
        let validity = client.validity();
        let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
        // From an hour ago, since clocks differ.
        assert_eq!(seconds, 30 * 24 * 60 * 60 + 60 * 60);
        assert!(validity.is_valid());
    });
}

#[test]
fn no_certificate_outlives_its_authority() {
    let place = Place::new();
    place.run(&["cert", "ca", "--days", "10"]).expect(0);
    place
        .run(&["cert", "client", "ann", "--days", "100"])
        .expect(0);
    with_certificate(&place, "certs/ca.pem", |ca| {
        with_certificate(&place, "certs/ann.pem", |client| {
            assert_eq!(client.validity().not_after, ca.validity().not_after);
        });
    });
}

#[test]
fn keys_are_for_their_owner_only() {
    let place = place_with_authority();
    place.run(&["cert", "client", "ann"]).expect(0);
    for name in ["ca", "ann"] {
        let mode = |file: String| {
            let about = std::fs::metadata(place.path(&file)).unwrap();
            about.permissions().mode() & 0o777
        };
        assert_eq!(mode(format!("certs/{name}.key")), 0o600, "{name}");
        assert_eq!(mode(format!("certs/{name}.pem")), 0o644, "{name}");
    }
}

#[test]
fn nothing_is_replaced_without_force() {
    let place = place_with_authority();
    place.run(&["cert", "client", "ann"]).expect(0);
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    let before = (
        read("certs/ca.key"),
        read("certs/ann.key"),
        read("certs/ann.pem"),
    );
    for args in [
        &["cert", "ca"][..],
        &["cert", "client", "ann"],
        &["cert", "admin", "ann"],
    ] {
        let done = place.run(args).expect(2);
        assert!(done.stderr.contains("is there already"), "{}", done.stderr);
        assert!(done.stderr.contains("--force"), "{}", done.stderr);
    }
    assert_eq!(
        (
            read("certs/ca.key"),
            read("certs/ann.key"),
            read("certs/ann.pem")
        ),
        before
    );
    place.run(&["cert", "client", "ann", "--force"]).expect(0);
    assert_ne!(read("certs/ann.key"), before.1);
}

#[test]
fn names_and_hosts_that_cannot_be_are_refused() {
    let place = place_with_authority();
    for args in [
        &["cert", "client", "a/b"][..],
        &["cert", "client", ""],
        &["cert", "client", ".."],
        &["cert", "client", "ca"],
        &["cert", "peer", "n", "--host", "db1:7400"],
        &["cert", "peer", "n", "--host", ""],
    ] {
        place.run(args).expect(2);
    }
    let files = std::fs::read_dir(place.path("certs")).unwrap();
    assert_eq!(files.count(), 2, "only the authority's files are there");
}

#[test]
fn json_says_where_the_files_are() {
    let place = place_with_authority();
    let object = place
        .run(&["cert", "client", "ann", "--json"])
        .expect(0)
        .object();
    assert_eq!(object["cluster"], CLUSTER);
    assert_eq!(object["role"], "client");
    assert_eq!(object["certificate"], "certs/ann.pem");
    assert_eq!(object["key"], "certs/ann.key");
    let drawn = |dir: &str| {
        let object = place
            .run(&["cert", "ca", "--json", "--dir", dir])
            .expect(0)
            .object();
        object["cluster"].as_str().unwrap().to_owned()
    };
    assert_ne!(
        drawn("one"),
        drawn("two"),
        "each cluster has an id of its own"
    );
}
