//! What needs no cluster: wrong arguments, missing profiles, broken files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::Place;

#[test]
fn a_command_line_that_cannot_be_ends_with_2_and_says_what_is_wrong() {
    let place = Place::new();
    place.write("rows.csv", "id,name\n1,a\n");
    place.write("rows.txt", "");
    std::fs::create_dir_all(place.path("full/folder")).unwrap();
    for (args, expected) in REFUSED {
        let done = place.run(args).expect(2);
        assert!(done.stderr.contains(expected), "{args:?}: {}", done.stderr);
        assert!(done.stdout.is_empty(), "{args:?}: {done:?}");
    }
}

#[test]
fn errors_are_objects_with_json() {
    let place = Place::new();
    for (args, message) in [
        (&["get", "k", "--json"][..], "no profile found"),
        (&["--json", "get", "k", "--level", "two"], "unknown level"),
        (&["bench", "--json", "--workload", "ycsb-e"], "needs scans"),
    ] {
        let error = place.run(args).expect(2).error();
        assert_eq!(error["kind"], "InvalidInput", "{error}");
        assert_eq!(error["retryable"], false, "{error}");
        let text = error["message"].as_str().unwrap();
        assert!(text.contains(message), "{error}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let place = Place::new();
    let help = place.run(&["--help"]).expect(0);
    assert!(help.text().contains("Exit codes"), "{}", help.text());
    assert!(
        place
            .run(&["--version"])
            .expect(0)
            .text()
            .starts_with("annulet ")
    );
    place.run(&["bench", "--help", "--json"]).expect(0);
}

#[test]
fn a_cluster_that_does_not_answer_is_a_failure_and_not_a_usage_error() {
    let place = Place::new();
    place.run(&["cert", "ca"]).expect(0);
    place.run(&["cert", "client", "ann"]).expect(0);
    let profile = "seeds = ['127.0.0.1:1']\nca = 'certs/ca.pem'\ncert = 'certs/ann.pem'\n\
                   key = 'certs/ann.key'\n";
    place.write("profile.toml", profile);
    let args = ["--profile", "profile.toml", "--json", "get", "k"];
    let error = place.run(&args).expect(3).error();
    assert_eq!(error["kind"], "Unavailable");
    assert_eq!(error["retryable"], true);
}

/// Arguments, and what the error says about them.
const REFUSED: &[(&[&str], &str)] = &[
    (&["frobnicate"], "unrecognized subcommand"),
    (&[], "Usage"),
    (&["put", "k"], "required"),
    (&["put", "k", "v", "--file", "f"], "cannot be used with"),
    (
        &["put", "k", "v", "--ttl", "soon"],
        "bare number is seconds",
    ),
    (&["put", "k", "v", "--ttl", "0"], "longer than zero"),
    (&["put", "k", "--file", "missing"], "cannot read missing"),
    (&["get", "k", "--level", "two"], "unknown level `two`"),
    (&["get", "k", "--timeout", "0"], "--timeout"),
    (&["get"], "KEY"),
    (&["get", "k"], "no profile found"),
    (
        &["get", "k", "--profile", "missing.toml"],
        "cannot read the profile",
    ),
    (
        &["cluster", "plan", "--capacity", "host:1=0"],
        "a number from 1",
    ),
    (&["cluster", "plan", "--zone", "host:1"], "NODE=ZONE"),
    (&["cluster", "plan", "--join", "rack:x"], "a number from 1"),
    (&["cluster", "apply"], "nothing is to be changed"),
    (
        &["cluster", "apply", "--join", "rack-4:1"],
        "joins by itself",
    ),
    (&["cluster", "status", "--watch", "0"], "longer than zero"),
    (&["node", "safe-to-stop"], "NODE"),
    (&["touch"], "KEY"),
    (&["touch", "k", "--ttl", "0"], "longer than zero"),
    (&["scan", "--limit", "0"], "--limit"),
    (&["scan", "everything"], "unexpected argument"),
    (&["import"], "PATH"),
    (&["import", "rows.csv"], "--key"),
    (&["import", "rows.csv", "--value", "name"], "--key"),
    (&["import", "full", "--key", "id"], "rows of a file"),
    (
        &["import", "rows.csv", "--format", "folder"],
        "cannot be listed",
    ),
    (
        &["import", "missing", "--format", "folder"],
        "cannot be listed",
    ),
    (&["export"], "PATH"),
    (&["export", "new.txt"], "--format"),
    (&["export", "new.csv", "--format", "xml"], "possible values"),
    (&["export", "rows.csv"], "is there already"),
    (&["export", "full"], "is not empty"),
    (&["export", "full", "--format", "csv"], "is a folder"),
    (
        &["export", "rows.txt", "--format", "folder", "--force"],
        "is not a folder",
    ),
    (&["export", "-", "--resume", "state"], "standard output"),
    (&["export", "new.csv", "--resume", "new.csv"], "no place"),
    (
        &["export", "full/new/", "--resume", "missing/s"],
        "no profile",
    ),
    (
        &["import", "full", "--resume", "full/s"],
        "is in the folder",
    ),
    (&["import", "rows.csv", "--resume", "rows.csv"], "no place"),
    (&["export", "-", "--format", "folder"], "standard output"),
    (&["cluster", "hint"], "unrecognized subcommand"),
    (&["import", "rows.txt", "--key", "id"], "--format"),
    (
        &["import", "missing.csv", "--key", "id"],
        "cannot read missing.csv",
    ),
    (
        &["import", ".", "--key", "id", "--format", "csv"],
        "is a folder",
    ),
    (
        &["import", "rows.csv", "--key", "di"],
        "no column is named di; there are: id, name",
    ),
    (
        &["import", "rows.csv", "--key", "id", "--value", "x"],
        "no column is named x",
    ),
    (&["bench"], "--workload"),
    (&["bench", "--workload", "ycsb-z"], "possible values"),
    (&["bench", "--workload", "ycsb-e"], "needs scans"),
    (&["bench", "--workload", "get", "--rate", "0"], "--rate"),
    (
        &["bench", "--workload", "get", "--value-size", "1TB"],
        "64KiB",
    ),
    (
        &[
            "bench",
            "--workload",
            "get",
            "--concurrency",
            "1",
            "--processes",
            "2",
        ],
        "caller",
    ),
    (&["serve"], "--data"),
    (
        &["serve", "--config", "f", "--data", "d"],
        "cannot be used with",
    ),
    (&["serve", "--config", "missing.toml"], "missing.toml"),
    (&["dev", "--nodes", "0"], "--nodes"),
    (&["dev", "--ephemeral", "--dir", "d"], "cannot be used with"),
    (&["cert", "client", "ann"], "annulet cert ca"),
    (&["cert", "peer", "node"], "--host"),
    (&["cert", "ca", "--cluster", "12"], "32 hexadecimal digits"),
];
