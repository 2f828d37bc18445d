//! What would move, what is made of it, and whether a server can be stopped, against a real local
//! cluster.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::{Dev, Place, Running, signal, wait_until};

fn four() -> Dev {
    Dev::start_with(&["--ephemeral", "--nodes", "4"], Place::new())
}

fn sum(list: &Value, field: &str) -> u64 {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one[field].as_u64().unwrap()).sum()
}

#[test]
fn a_plan_says_what_would_move_and_moves_nothing() {
    let dev = four();
    let plan = |args: &[&str]| {
        let args = [&["cluster", "plan", "--json"], args].concat();
        dev.run(&args).expect(0).object()
    };
    let still = plan(&[]);
    assert_eq!(
        (&still["moving"], &still["transfers"]),
        (&json!(0), &json!([]))
    );
    assert!(
        still["moving_bytes"].is_u64(),
        "the servers say what they hold"
    );
    let text = dev.run(&["cluster", "plan"]).expect(0);
    assert!(text.text().starts_with("nothing moves"), "{text:?}");

    let gone = &dev.servers[3].1;
    let leave = plan(&["--leave", gone]);
    assert_eq!(leave["moving"], json!(192));
    assert_eq!(sum(&leave["transfers"], "partitions"), 192);
    let transfers = leave["transfers"].as_array().unwrap();
    assert!(transfers.iter().all(|one| one["from"] == **gone), "{leave}");
    let text = dev.run(&["cluster", "plan", "--leave", gone]).expect(0);
    let first = "192 of 768 partition copies move (25.0 %), about ";
    assert!(text.text().starts_with(first), "{text:?}");
    assert!(text.text().contains("leaves"), "{text:?}");

    let larger = format!("{}=9", dev.servers[0].1);
    let both = plan(&[
        "--capacity",
        &larger,
        "--join",
        "rack-9:1",
        "--join",
        "rack-8:1",
    ]);
    let came = both["members"].as_array().unwrap().iter();
    let came: Vec<_> = came.filter(|member| member["id"].is_null()).collect();
    assert_eq!(came.len(), 2);
    assert_eq!(
        (&came[0]["server"], &came[1]["zone"]),
        (&json!("new server 1"), &json!("rack-8"))
    );
    assert!(!both["unused"].as_array().unwrap().is_empty(), "{both}");
    assert_eq!(both["zones"][0]["zones"], json!(3));

    for (args, why) in [
        (&["--leave", "nowhere:1"][..], "has no server `nowhere:1`"),
        (&["--leave", gone, "--leave", gone], "contradict"),
        (&["--join", "a:1:b:2"], "ZONE:CAPACITY"),
    ] {
        let refused = dev.run(&[&["cluster", "plan"], args].concat()).expect(2);
        assert!(refused.stderr.contains(why), "{refused:?}");
    }
    let status = dev.run(&["cluster", "status", "--json"]).expect(0).object();
    assert_eq!(
        (&status["epoch"], &status["moves"]),
        (&json!(1), &json!([]))
    );
    assert_eq!(status["progress"]["seconds_left"], json!(0));
}

#[test]
fn changes_are_made_one_after_the_other_and_a_second_time_nothing_is_left_to_do() {
    let dev = four();
    let (larger, gone) = (format!("{}=2", dev.servers[0].1), dev.servers[3].1.clone());
    let args = ["cluster", "apply", "--leave", &gone, "--capacity", &larger];
    let made = dev
        .run(&[&args[..], &["--json"]].concat())
        .expect(0)
        .object();
    let results = |made: &Value| {
        let changes = made["changes"].as_array().unwrap().iter();
        let results = changes.map(|change| (change["change"].clone(), change["result"].clone()));
        results.collect::<Vec<_>>()
    };
    let done = [("set", "done"), ("leave", "done")];
    assert_eq!(results(&made), done.map(|(a, b)| (json!(a), json!(b))));
    assert!(made["plan"]["moving"].as_u64().unwrap() >= 192, "{made}");

    // While it moves, it is told how far it is.
    let seen = std::cell::RefCell::new(Value::Null);
    wait_until(|| {
        let status = dev.run(&["cluster", "status", "--json"]).expect(0).object();
        // Servers tell how far they are once they act under the view that has the move.
        let owners = status["moves"][0]["owners"].as_array();
        let told = owners.is_some_and(|all| all.iter().all(|owner| owner["over"].is_boolean()));
        seen.replace(status);
        told
    });
    let seen = seen.into_inner();
    let owners = seen["moves"][0]["owners"].as_array().unwrap();
    assert!(
        owners.len() >= 3 && owners.iter().any(|owner| owner["is_new"] == true),
        "{seen}"
    );
    assert!(
        seen["progress"]["replicas_left"].as_f64().unwrap() > 0.0,
        "{seen}"
    );
    let text = dev.run(&["cluster", "status"]).expect(0);
    assert!(text.text().contains("to move: "), "{text:?}");

    let again = dev
        .run(&[&args[..], &["--json"]].concat())
        .expect(0)
        .object();
    let already = [("set", "already"), ("leave", "already")];
    assert_eq!(results(&again), already.map(|(a, b)| (json!(a), json!(b))));
    let refused = dev
        .run(&["cluster", "apply", "--leave", "nowhere"])
        .expect(2);
    assert!(
        refused.stderr.contains("has no server `nowhere`"),
        "{refused:?}"
    );
}

#[test]
fn what_the_servers_refuse_stops_the_changes_and_says_what_was_not_done() {
    let dev = Dev::start();
    let long = "z".repeat(300);
    let zone = format!("{}={long}", dev.servers[0].1);
    let args = [
        "cluster",
        "apply",
        "--zone",
        &zone,
        "--leave",
        &dev.servers[1].1,
    ];
    let refused = dev.run(&args);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.text().contains("REFUSED: "), "{refused:?}");
    assert!(refused.text().ends_with("leaves: NOT tried"), "{refused:?}");
    assert!(
        refused.stderr.contains("give the same command again"),
        "{refused:?}"
    );
    let status = dev.run(&["cluster", "status", "--json"]).expect(0).object();
    assert_eq!(status["epoch"], json!(1));
}

#[test]
fn a_status_is_shown_again_and_again_until_it_is_interrupted() {
    let dev = Dev::start();
    let watch = ["cluster", "status", "--watch", "0.1", "--json"];
    let running = Running::start(dev.place.command(&watch));
    for _ in 0..3 {
        let shown: Value = serde_json::from_str(&running.line().unwrap()).unwrap();
        assert_eq!(shown["members"].as_array().map(Vec::len), Some(3));
    }
    running.signal("INT");
    assert_eq!(running.ended(), 0);
}

#[test]
fn a_server_can_be_stopped_while_the_others_are_there() {
    let dev = Dev::start();
    let first = dev.servers[0].1.clone();
    let ask = |more: &[&str]| dev.run(&[&["node", "safe-to-stop", &first], more].concat());
    wait_until(|| ask(&[]).code == 0);
    let safe = ask(&["--json"]).expect(0).object();
    assert_eq!(
        (&safe["safe"], &safe["reasons"]),
        (&json!(true), &json!([]))
    );

    let (pid, away) = &dev.servers[1];
    signal(*pid, "KILL");
    wait_until(|| ask(&[]).code == 1);
    let not = ask(&["--json"]).expect(1).object();
    let reasons = not["reasons"].as_array().unwrap().iter();
    let kinds: Vec<_> = reasons
        .map(|reason| reason["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["quorum", "keepers"], "{not}");
    let text = ask(&[]).expect(1);
    assert!(
        text.text().contains(&format!("wait until {away} answers")),
        "{text:?}"
    );
    dev.run(&["node", "safe-to-stop", away]).expect(3);
    dev.run(&["node", "safe-to-stop", "nowhere"]).expect(2);
}
