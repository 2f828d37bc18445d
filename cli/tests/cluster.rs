//! Every command against a real local cluster: results, JSON fields, exit codes, and how the
//! cluster starts and stops.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::{Dev, Place, Running, listens, signal, wait_until};

/// The names of an object's fields, in their order.
fn fields(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn data_commands_do_what_they_say() {
    let dev = Dev::start();
    one_key(&dev);
    values_from_everywhere(&dev);
    many_keys(&dev);
    limits_and_levels(&dev);
    profile_defaults(&dev);
    import(&dev);
    assert_eq!(dev.servers.len(), 3);
}

fn one_key(dev: &Dev) {
    assert!(
        dev.run(&["get", "k"])
            .expect(1)
            .stderr
            .contains("not found: k")
    );
    assert_eq!(dev.run(&["exists", "k"]).expect(1).text(), "no");
    assert!(dev.run(&["put", "k", "v=1"]).expect(0).stdout.is_empty());
    let got = dev.run(&["get", "k"]).expect(0);
    assert_eq!(got.stdout, b"v=1", "the bytes and nothing else");
    assert_eq!(dev.run(&["exists", "k"]).expect(0).text(), "yes");

    let put = dev
        .run(&["put", "k", "second", "--json", "--ttl", "1h"])
        .expect(0)
        .object();
    assert_eq!(fields(&put), ["version", "superseded", "context"]);
    let got = dev
        .run(&["get", "k", "--json", "--level", "all"])
        .expect(0)
        .object();
    assert_eq!(
        fields(&got),
        [
            "found",
            "value",
            "siblings",
            "context",
            "version",
            "expires_at_ms"
        ]
    );
    assert_eq!(
        (&got["found"], &got["value"]),
        (&json!(true), &json!("c2Vjb25k"))
    );
    assert_eq!(got["siblings"], json!(["c2Vjb25k"]));
    assert_eq!(got["version"], put["version"]);
    assert!(got["expires_at_ms"].as_u64().unwrap() > 1_700_000_000_000);

    dev.run(&["delete", "k"]).expect(0);
    let got = dev.run(&["get", "k", "--json"]).expect(1).object();
    assert_eq!(
        (&got["found"], &got["value"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(got["siblings"], json!([]));
    let exists = dev.run(&["exists", "k", "--json"]).expect(1).object();
    assert_eq!(exists, json!({ "exists": false }));

    dev.run(&["put", "brief", "v", "--ttl", "200ms"]).expect(0);
    wait_until(|| dev.run(&["exists", "brief"]).code == 1);
    touch(dev);
}

fn touch(dev: &Dev) {
    let none = dev.run(&["touch", "session"]).expect(1);
    assert_eq!(none.stderr, "not found: session\n");
    let none = dev.run(&["touch", "session", "--json"]).expect(1).object();
    let expected = json!({ "found": false, "version": null, "superseded": false });
    assert_eq!(none, expected);

    let put = dev.run(&["put", "session", "v", "--ttl", "1h", "--json"]);
    let version = put.expect(0).object()["version"].clone();
    let expiry = || {
        let got = dev.run(&["get", "session", "--json"]).expect(0).object();
        assert_eq!((&got["value"], &got["version"]), (&json!("dg=="), &version));
        got["expires_at_ms"].as_u64()
    };
    let before = expiry();
    let touched = dev.run(&["touch", "session", "--ttl", "2h"]).expect(0);
    assert!(touched.stdout.is_empty() && touched.stderr.is_empty());
    assert!(expiry() > before);
    let touched = dev.run(&["touch", "session", "--json"]).expect(0).object();
    let expected = json!({ "found": true, "version": version, "superseded": false });
    assert_eq!(touched, expected);
    assert_eq!(expiry(), None, "the bucket's values live for good");
    dev.run(&["touch", "session", "--ttl", "200ms"]).expect(0);
    wait_until(|| dev.run(&["exists", "session"]).code == 1);
    dev.run(&["touch", "session", "--ttl", "never"]).expect(1);
}

fn values_from_everywhere(dev: &Dev) {
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    let file = dev.place.write("value.bin", &bytes);
    dev.run(&["put", "file", "--file", file.to_str().unwrap()])
        .expect(0);
    assert_eq!(dev.run(&["get", "file"]).expect(0).stdout, bytes);
    dev.place.run_with(&["put", "stdin", "-"], &bytes).expect(0);
    assert_eq!(dev.run(&["get", "stdin"]).expect(0).stdout, bytes);
    dev.run(&["put", "empty", ""]).expect(0);
    assert_eq!(dev.run(&["get", "empty"]).expect(0).stdout, b"");
    dev.run(&["put", "number", "-5"]).expect(0);
    assert_eq!(dev.run(&["get", "number"]).expect(0).stdout, b"-5");
    dev.run(&["put", "--", "--key", "--value"]).expect(0);
    assert_eq!(
        dev.run(&["get", "--", "--key"]).expect(0).stdout,
        b"--value"
    );
}

fn many_keys(dev: &Dev) {
    let put = dev.run(&["mput", "a=1", "b=x=y", "c="]).expect(0);
    assert_eq!(put.text().lines().count(), 3);
    let got = dev.run(&["mget", "a", "b", "c", "none"]).expect(1);
    assert_eq!(got.text(), "a\t1\nb\tx=y\nc");
    assert_eq!(got.stderr, "not found: none\n");
    let got = dev
        .run(&["mget", "a", "none", "--json"])
        .expect(1)
        .objects();
    assert_eq!(
        (&got[0]["key"], &got[0]["value"]),
        (&json!("a"), &json!("MQ=="))
    );
    assert_eq!(
        (&got[1]["key"], &got[1]["found"]),
        (&json!("none"), &json!(false))
    );
    dev.run(&["mput", "a=2", "no pair"]).expect(2);
    assert_eq!(
        dev.run(&["get", "a"]).stdout,
        b"1",
        "a wrong argument stores nothing"
    );

    let lines: String = (0..700)
        .map(|i| {
            format!(
                "{{\"key\": \"line-{i}\", \"value\": \"{}\"}}\n",
                "v".repeat(i)
            )
        })
        .collect();
    let put = dev
        .place
        .run_with(&["mput", "-", "--json"], lines.as_bytes())
        .expect(0);
    assert_eq!(put.objects().len(), 700);
    let keys: String = (0..700).map(|i| format!("line-{i}\n")).collect();
    let got = dev
        .place
        .run_with(&["mget", "-"], keys.as_bytes())
        .expect(0);
    assert_eq!(
        got.text().lines().last().unwrap(),
        format!("line-699\t{}", "v".repeat(699))
    );

    let broken = "{\"key\": \"ok\", \"value\": 1}\nnonsense\n{\"key\": \"\", \"value\": \"v\"}\n";
    let put = dev
        .place
        .run_with(&["mput", "-", "--json"], broken.as_bytes())
        .expect(2);
    assert!(put.stderr.contains("line 2"), "{put:?}");
    let results = put.objects();
    assert_eq!(results[0]["superseded"], false);
    assert_eq!(results[1]["error"]["kind"], "InvalidInput");
    assert_eq!(dev.run(&["get", "ok"]).stdout, b"1");
}

fn limits_and_levels(dev: &Dev) {
    let long_key = "k".repeat(4097);
    let value = dev.place.write("long.bin", vec![0; (16 << 20) + 1]);
    for args in [
        &["put", &long_key, "v"][..],
        &["put", "", "v"],
        &["get", ""],
        &["put", "k", "--file", value.to_str().unwrap()],
        &["get", "k", "--bucket", "nowhere"],
        &["get", "k", "--level", "r=4,w=1"],
        &["put", "k", "v", "--timeout", "11m"],
    ] {
        let error = dev.run(&[args, &["--json"]].concat()).expect(2).error();
        assert_eq!(error["kind"], "InvalidInput", "{args:?}");
    }
    for level in [
        "one",
        "quorum",
        "all",
        "local_quorum",
        "each_quorum",
        "available",
        "r=1,w=3",
    ] {
        dev.run(&["put", "level", level, "--level", level])
            .expect(0);
        let got = dev.run(&["get", "level", "--level", level]).expect(0);
        assert_eq!(got.text(), level);
    }
}

fn profile_defaults(dev: &Dev) {
    let mut text = std::fs::read_to_string(&dev.profile).unwrap();
    text.insert_str(0, "bucket = \"nowhere\"\n");
    let profile = dev.profile.with_file_name("other.toml");
    std::fs::write(&profile, text).unwrap();
    let args = ["get", "k", "--profile", profile.to_str().unwrap()];
    assert!(dev.run(&args).expect(2).stderr.contains("nowhere"));
    dev.run(&[&args[..], &["--bucket", "default"]].concat())
        .expect(1);
}

fn import(dev: &Dev) {
    let mut table = "id,name,note\n".to_owned();
    (0..3000).for_each(|i| table += &format!("{i},\"name, {i}\",{}\n", "n".repeat(i % 50)));
    dev.place.write("good.csv", &table);
    let args = [
        "import", "good.csv", "--key", "id", "--prefix", "row:", "--json",
    ];
    let summary = dev.run(&args).expect(0).object();
    assert_eq!(
        (&summary["rows"], &summary["stored"]),
        (&json!(3000), &json!(3000))
    );
    assert_eq!(summary["problems"], json!([]));
    let row: Value = serde_json::from_slice(&dev.run(&["get", "row:2"]).stdout).unwrap();
    assert_eq!(row, json!({ "id": "2", "name": "name, 2", "note": "nn" }));

    let long = "k".repeat(4100);
    let lines = format!(
        "{{\"id\": \"x\", \"v\": 1}}\nbroken\n{{\"id\": \"{long}\", \"v\": 2}}\n\
         {{\"id\": \"y\", \"v\": 3}}\n{{\"id\": \"x\", \"v\": 4}}\n"
    );
    dev.place.write("bad.jsonl", &lines);
    let args = ["import", "bad.jsonl", "--key", "id", "--value", "v"];
    let done = dev.run(&args).expect(3);
    assert!(done.text().starts_with("stored 3 of 5 rows"), "{done:?}");
    assert!(
        done.stderr.contains("line 2: ") && done.stderr.contains("line 3: "),
        "{done:?}"
    );
    assert_eq!(
        dev.run(&["get", "x"]).stdout,
        b"4",
        "the last of a key's rows stays"
    );
    assert_eq!(dev.run(&["get", "y"]).stdout, b"3");
    dev.run(&["delete", "y"]).expect(0);

    let strict = dev
        .run(&[&args[..], &["--strict", "--json"]].concat())
        .expect(3)
        .object();
    assert_eq!(
        (&strict["stored"], &strict["broken"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (&strict["stopped"], &strict["problems"][0]["line"]),
        (&json!(true), &json!(2))
    );
    dev.run(&["exists", "y"]).expect(1);
}

const FIELDS_OF_MEMBERS: [&str; 10] = [
    "id",
    "address",
    "state",
    "membership",
    "capacity",
    "zone",
    "region",
    "share",
    "stored_bytes",
    "error",
];

#[test]
fn the_cluster_its_buckets_and_a_benchmark_are_shown() {
    let dev = Dev::start();
    let status = dev.run(&["cluster", "status", "--json"]).expect(0).object();
    assert_eq!(
        (&status["epoch"], &status["moves"]),
        (&json!(1), &json!([]))
    );
    assert_eq!(
        (&status["partitions"], &status["under_replicated"]),
        (&json!(256), &json!([]))
    );
    let members = status["members"].as_array().unwrap();
    assert_eq!(members.len(), 3);
    for member in members {
        assert_eq!(fields(member), FIELDS_OF_MEMBERS);
        assert_eq!(member["membership"], json!("active"));
        assert_eq!(
            (&member["state"], &member["capacity"]),
            (&json!("up"), &json!(1))
        );
        assert!((member["share"].as_f64().unwrap() - 1.0 / 3.0).abs() < 0.01);
    }
    let text = dev.run(&["cluster", "status"]).expect(0);
    assert!(text.text().contains("3 of 3 servers up"), "{text:?}");

    let hints = dev.run(&["cluster", "hints", "--json"]).expect(0).object();
    let members = hints["members"].as_array().unwrap();
    assert_eq!(members.len(), 3);
    for member in members {
        let expected = [
            "id",
            "address",
            "bytes",
            "bytes_max",
            "waiting",
            "aside",
            "aside_listed",
            "error",
        ];
        assert_eq!(fields(member), expected);
        assert_eq!(member["waiting"], json!([]), "{member}");
        assert_eq!(
            (&member["aside"], &member["error"]),
            (&json!(0), &Value::Null)
        );
    }
    let text = dev.run(&["cluster", "hints"]).expect(0);
    assert_eq!(text.text().lines().count(), 4, "{text:?}");

    let buckets = dev.run(&["bucket", "list", "--json"]).expect(0).object();
    assert_eq!(buckets["buckets"][0]["name"], "default");
    let shown = dev
        .run(&["bucket", "show", "default", "--json"])
        .expect(0)
        .object();
    assert_eq!(
        (&shown["mode"], &shown["replicas"]),
        (&json!("lww"), &json!(3))
    );
    assert!(
        dev.run(&["bucket", "show", "nowhere"])
            .expect(1)
            .stdout
            .is_empty()
    );

    benchmarks(&dev);
    buckets_change(&dev);
}

/// Buckets are made, used, changed, deleted, and made again under their name.
fn buckets_change(dev: &Dev) {
    let create = "bucket create carts --mode lww --replicas 2 --ttl 1h --read one --json";
    let create: Vec<&str> = create.split_whitespace().collect();
    let made = dev.run(&create).expect(0).object();
    let expected = [
        "name",
        "number",
        "mode",
        "replicas",
        "read_level",
        "write_level",
        "durability",
        "ttl_ms",
        "merge",
        "created",
    ];
    assert_eq!(fields(&made), expected);
    assert_eq!(
        (&made["number"], &made["ttl_ms"]),
        (&json!(2), &json!(3_600_000))
    );
    let again = dev.run(&create).expect(1);
    assert!(again.stderr.contains("Conflict"), "{again:?}");
    dev.run(&["put", "k", "v", "--bucket", "carts"]).expect(0);

    let set = ["bucket", "set", "carts", "--ttl", "never", "--write", "all"];
    let set = dev.run(&set).expect(0);
    assert!(set.text().contains("never ends"), "{set:?}");
    dev.run(&["bucket", "set", "carts"]).expect(2);
    dev.run(&["bucket", "set", "nowhere", "--ttl", "1h"])
        .expect(1);
    dev.run(&["bucket", "delete", "nowhere"]).expect(1);
    let tags = "bucket create tags --mode siblings --merge union --json";
    let tags: Vec<&str> = tags.split_whitespace().collect();
    let tags = dev.run(&tags).expect(0).object();
    assert_eq!(
        (&tags["mode"], &tags["merge"]),
        (&json!("siblings"), &json!("union"))
    );
    for bad in [
        "--merge max",
        "--replicas 9",
        "--mode last",
        "--ttl 0",
        "--durability no",
    ] {
        let args = ["bucket", "create", "bad", "--mode", "lww"];
        let args: Vec<&str> = args.into_iter().chain(bad.split(' ')).collect();
        dev.run(&args).expect(2);
    }

    let deleted = dev.run(&["bucket", "delete", "carts", "--json"]).expect(0);
    assert_eq!(
        deleted.object(),
        json!({ "deleted": true, "name": "carts" })
    );
    dev.run(&["get", "k", "--bucket", "carts"]).expect(2);
    let made = dev.run(&create).expect(0).object();
    assert_eq!(made["number"], json!(4), "another one");
    dev.run(&["get", "k", "--bucket", "carts"]).expect(1);
    let status = dev.run(&["cluster", "status", "--json"]).expect(0).object();
    assert_eq!(status["epoch"], json!(6));
    assert_eq!(status["keepers"].as_array().map(Vec::len), Some(3));
}

fn benchmarks(dev: &Dev) {
    let bench = |args: &[&str]| {
        let usual = "bench --json --seconds 0.5 --warmup 0 --keys 200 --concurrency 8 \
                     --value-size 100";
        let all: Vec<&str> = usual
            .split_whitespace()
            .chain(args.iter().copied())
            .collect();
        dev.run(&all).expect(0).object()
    };
    let closed = bench(&["--workload", "mixed", "--level", "one"]);
    for field in [
        "workload",
        "bucket",
        "level",
        "concurrency",
        "value_size",
        "seconds",
        "operations",
        "errors",
        "ops_per_second",
        "p50_us",
        "p99_us",
        "p999_us",
    ] {
        assert!(fields(&closed).contains(&field), "{field}: {closed}");
    }
    assert_eq!(
        (&closed["workload"], &closed["level"]),
        (&json!("mixed"), &json!("one"))
    );
    // A read at `one` may meet an owner that a key has not come to yet: `not_found` may be some.
    assert_eq!(closed["errors"], json!(0), "{closed}");
    assert!(closed["operations"].as_u64().unwrap() > 10, "{closed}");

    let available = bench(&["--workload", "mixed", "--no-load", "--level", "available"]);
    assert_eq!(
        (&available["level"], &available["errors"]),
        (&json!("available"), &json!(0)),
        "{available}"
    );

    for workload in ["get", "put", "ycsb-a", "ycsb-d", "ycsb-f"] {
        let done = bench(&["--workload", workload, "--no-load"]);
        assert_eq!(
            (&done["level"], &done["errors"]),
            (&json!("quorum"), &json!(0)),
            "{done}"
        );
    }
    let open = bench(&["--workload", "get", "--no-load", "--rate", "100"]);
    let operations = open["operations"].as_u64().unwrap();
    assert!((40..=50).contains(&operations), "{open}");
    let many = bench(&["--workload", "get", "--processes", "2", "--rate", "200"]);
    let operations = many["operations"].as_u64().unwrap();
    assert!((80..=100).contains(&operations), "{many}");
    assert_eq!(
        (&many["processes"], &many["not_found"]),
        (&json!(2), &json!(0)),
        "{many}"
    );
}

#[test]
fn a_cluster_goes_on_without_a_server_and_takes_it_back() {
    let dev = Dev::start();
    dev.run(&["put", "k", "v"]).expect(0);
    let (pid, address) = &dev.servers[1];
    signal(*pid, "KILL");
    wait_until(|| !listens(address));
    assert_eq!(dev.run(&["get", "k"]).expect(0).text(), "v");
    dev.run(&["put", "k", "w"]).expect(0);
    let error = dev.run(&[
        "put",
        "k",
        "x",
        "--level",
        "all",
        "--timeout",
        "1s",
        "--json",
    ]);
    let error = error.expect(3).error();
    assert!(
        ["Unavailable", "Timeout"].contains(&error["kind"].as_str().unwrap()),
        "{error}"
    );
    assert_eq!(error["outcome"], "unknown", "two of three servers have it");
    let status = dev.run(&["cluster", "status"]).expect(0);
    assert!(status.text().contains("2 of 3 servers up"), "{status:?}");
    dev.run(&["put", "away", "v", "--level", "available"])
        .expect(0);
    let waits = format!(" for {address}");
    wait_until(|| dev.run(&["cluster", "hints"]).text().contains(&waits));
    let hints = dev.run(&["cluster", "hints"]).expect(0);
    let silent = format!("{address}: ");
    assert!(hints.text().contains(&silent), "{hints:?}");

    let config = dev.profile.with_file_name("node-2").join("server.toml");
    let serve = ["serve", "--config", config.to_str().unwrap()];
    let server = Running::start(dev.place.command(&serve));
    let line = server.line().expect("it starts");
    assert!(
        line.starts_with(&format!("listening address={address} node=")),
        "{line}"
    );
    wait_until(|| dev.run(&["cluster", "status"]).text().contains("3 of 3"));
    dev.run(&["put", "k", "y", "--level", "all"]).expect(0);
    wait_until(|| !dev.run(&["cluster", "hints"]).text().contains(&waits));
    server.signal("TERM");
    assert_eq!(
        server.ended(),
        0,
        "a server that is asked to stop stops well"
    );
}

#[test]
fn a_folder_keeps_its_cluster_and_its_data() {
    let place = Place::new();
    let dev = Dev::start_with(&["--nodes", "1", "--dir", "here"], place);
    assert_eq!(dev.servers.len(), 1);
    assert!(dev.profile.ends_with("here/profile.toml"));
    let status = dev.run(&["cluster", "status"]).expect(0);
    assert!(
        status.text().contains("under-replicated: bucket default"),
        "{status:?}"
    );
    dev.run(&["put", "k", "v"]).expect(0);
    let second = dev.run(&["dev", "--dir", "here", "--port", "0"]).expect(3);
    assert!(
        second.stderr.contains("another `annulet dev`"),
        "{second:?}"
    );
    let address = dev.servers[0].1.clone();
    let place = dev.stop();
    assert!(
        !listens(&address),
        "the server has stopped with the cluster"
    );

    let other = place
        .run(&["dev", "--dir", "here", "--nodes", "3"])
        .expect(2);
    assert!(other.stderr.contains("a cluster of 1 servers"), "{other:?}");
    let dev = Dev::start_with(&["--dir", "here"], place);
    assert_eq!(dev.run(&["get", "k"]).expect(0).text(), "v");
    let place = dev.stop();

    // Where its port was taken in the meantime, it is the same cluster at another.
    let taken = support::listen(&address);
    let dev = Dev::start_with(&["--dir", "here"], place);
    assert_eq!(dev.run(&["get", "k"]).expect(0).text(), "v");
    assert_ne!(dev.servers[0].1, address);
    drop(taken);
}

#[test]
fn a_full_server_is_shown_and_the_advice_is_to_make_room() {
    let dev = Dev::start_with(&["--nodes", "1", "--dir", "here"], Place::new());
    dev.run(&["put", "k", "v"]).expect(0);
    let place = dev.stop();
    // More room than any disk has is to stay free.
    let config = place.path("here/node-1/server.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text += "\n[limits]\ndisk_reserve_bytes = 1000000000000000\n";
    std::fs::write(&config, text).unwrap();
    let dev = Dev::start_with(&["--dir", "here"], place);
    wait_until(|| {
        let status = dev.run(&["cluster", "status"]).expect(0);
        status
            .text()
            .contains("0 of 1 servers up, 1 with a full disk")
    });
    let refused = dev.run(&["put", "k", "w"]).expect(3);
    assert!(
        refused.stderr.contains("give them room on disk"),
        "{refused:?}"
    );
    assert_eq!(dev.run(&["get", "k"]).expect(0).text(), "v");
    dev.run(&["delete", "k"]).expect(0);
}

#[test]
fn servers_stop_however_the_cluster_ends() {
    let dev = Dev::start_with(&["--ephemeral", "--nodes", "2"], Place::new());
    assert!(dev.servers.iter().all(|(_, address)| listens(address)));
    dev.running.as_ref().unwrap().signal("KILL");
    dev.wait_until_none_listens();
    // Only what is killed without a word leaves its folder behind; its servers may still be writing
    // their last files.
    let folder = dev.profile.parent().unwrap();
    wait_until(|| std::fs::remove_dir_all(folder).is_ok());

    let dev = Dev::start_with(&["--ephemeral", "--nodes", "2"], Place::new());
    let folder = dev.profile.parent().unwrap().to_owned();
    for (pid, _) in &dev.servers {
        signal(*pid, "KILL");
    }
    let mut dev = dev;
    let code = dev.running.take().unwrap().ended();
    assert_eq!(code, 3, "without servers there is nothing to go on for");
    assert!(!folder.exists(), "what is ephemeral is removed");
}
