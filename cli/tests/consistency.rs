//! `annulet check` and `cas`: a strong bucket of a real local cluster, and histories from files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{Dev, Place};

#[test]
fn a_strong_bucket_passes_and_leaves_a_history_that_others_can_read() {
    let dev = Dev::start();
    dev.run(&["bucket", "create", "locks", "--mode", "strong"])
        .expect(0);
    let path = dev.place.path("history.jsonl");
    let file = path.to_str().unwrap();
    let load = [
        "--json",
        "check",
        "--bucket",
        "locks",
        "--seconds",
        "3",
        "--operations",
        "2000",
        "--history",
        file,
    ];
    let verdict = dev.run(&load).expect(0).object();
    assert_eq!(verdict["linearizable"], true, "{verdict}");
    assert_eq!(verdict["versions_rise"], true, "{verdict}");
    let history = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = history
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len() as u64, verdict["operations"].as_u64().unwrap());
    let fields = ["process", "op", "key", "start_ns", "end_ns", "outcome"];
    for line in &lines {
        assert!(
            fields.iter().all(|field| line.get(field).is_some()),
            "{line}"
        );
    }
    for op in ["get", "put", "delete", "cas"] {
        assert!(lines.iter().any(|line| line["op"] == op), "{op}");
    }
    // What it left behind is deleted, and checked again from the file.
    let left = dev.run(&[
        "get",
        "--bucket",
        "locks",
        lines[0]["key"].as_str().unwrap(),
    ]);
    left.expect(1);
    let again = dev.run(&["check", "--of", file]).expect(0);
    assert!(again.text().contains("linearizable"), "{again:?}");

    let refused = dev.run(&["check", "--bucket", "default"]).expect(2);
    assert!(refused.stderr.contains("--mode strong"), "{refused:?}");
}

#[test]
fn a_history_that_no_order_explains_is_told_so() {
    let place = Place::new();
    let line = |op: &str, arg: &str, result: &str, start: u64| {
        format!(
            "{{\"process\":1,\"op\":\"{op}\",\"key\":\"k\",\"arg\":{arg},\"result\":{result},\
             \"start_ns\":{start},\"end_ns\":{},\"outcome\":\"ok\"}}\n",
            start + 1
        )
    };
    let put = line("put", "{\"value\":\"a\"}", "{}", 10);
    let seen = line("get", "null", "{\"value\":\"a\"}", 20);
    let unseen = line("get", "null", "{\"value\":null}", 30);
    let good = place.write("good", format!("{put}{seen}"));
    let bad = place.write("bad", unseen);
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    place.run(&["check", "--of", good]).expect(0);
    let found = place.run(&["--json", "check", "--of", good, bad]).expect(1);
    assert_eq!(found.object()["linearizable"], false, "{found:?}");
    let broken = place.write("broken", "{}\n");
    let refused = place
        .run(&["check", "--of", broken.to_str().unwrap()])
        .expect(2);
    assert!(refused.stderr.contains("line 1"), "{refused:?}");
}

#[test]
fn cas_writes_only_what_its_condition_allows() {
    let dev = Dev::start();
    dev.run(&["bucket", "create", "flags", "--mode", "strong"])
        .expect(0);
    let cas = |args: &[&str]| {
        let all = [&["--json", "cas", "--bucket", "flags"], args].concat();
        dev.run(&all)
    };
    let first = cas(&["k", "1", "--if-absent"]).expect(0).object();
    let conflict = cas(&["k", "2", "--if-absent"]).expect(1).error();
    assert_eq!(conflict["kind"], "Conflict");
    assert_eq!(conflict["outcome"], "not_applied");
    let version = first["version"].as_str().unwrap();
    cas(&["k", "3", "--if-version", version]).expect(0);
    cas(&["k", "4", "--if-version", version]).expect(1);
    let got = dev.run(&["get", "--bucket", "flags", "k"]).expect(0);
    assert_eq!(got.text(), "3");
    let stale = dev
        .run(&["get", "--bucket", "flags", "--stale", "k"])
        .expect(0);
    assert_eq!(stale.text(), "3");
    cas(&["k", "5"]).expect(2);
    cas(&["k", "5", "--if-absent", "--if-version", version]).expect(2);
    let elsewhere = dev.run(&["cas", "k", "5", "--if-absent"]).expect(2);
    assert!(elsewhere.stderr.contains("strong"), "{elsewhere:?}");
}
