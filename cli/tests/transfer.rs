//! `scan`, `export` and `import` against a real local cluster: everything comes back as it was,
//! also where the program is killed in the middle or servers are away for a while.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Dev, Done, Place, signal, wait_until};

#[test]
fn a_scan_gives_every_key_once_and_ends_where_it_is_told() {
    let dev = Dev::start();
    assert!(dev.run(&["scan"]).expect(0).stdout.is_empty());
    let pairs: Vec<String> = (0..3_000)
        .map(|i| format!("key-{i:04}=value {i}"))
        .collect();
    let lines = pairs.iter().map(|pair| {
        let (key, value) = pair.split_once('=').unwrap();
        format!("{}\n", json!({ "key": key, "value": value }))
    });
    let lines: String = lines.collect();
    dev.place
        .run_with(&["mput", "-"], lines.as_bytes())
        .expect(0);

    let all = dev.run(&["scan"]).expect(0);
    assert!(all.stderr.is_empty(), "{all:?}");
    let mut got: Vec<String> = all.text().lines().map(|l| l.replace('\t', "=")).collect();
    let in_order = got.clone();
    got.sort_unstable();
    assert_eq!(got, pairs);
    let keys = dev.run(&["scan", "--keys"]).expect(0);
    let expected = in_order.iter().map(|pair| pair.split_once('=').unwrap().0);
    assert!(keys.text().lines().eq(expected));

    let mut parts = Vec::new();
    let mut cursor = None::<String>;
    for limit in ["1", "256", "257", "1000", "1025", "9999"] {
        let mut args = vec!["scan", "--limit", limit];
        args.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor]));
        let part = dev.run(&args).expect(0);
        let left = in_order.len() - parts.len();
        parts.extend(part.text().lines().map(|l| l.replace('\t', "=")));
        let more = part.stderr.strip_prefix("more: go on with --cursor ");
        cursor = more.map(|cursor| cursor.trim_end().to_owned());
        let limit: usize = limit.parse().unwrap();
        assert_eq!(parts.len(), in_order.len() - left + limit.min(left));
        assert_eq!(cursor.is_some(), limit < left);
    }
    assert_eq!(parts, in_order);
    scan_as_json(&dev);
    dev.run(&["scan", "--cursor", "nonsense"]).expect(2);
}

fn scan_as_json(dev: &Dev) {
    let pages = dev.run(&["scan", "--limit", "300", "--json"]).expect(0);
    assert!(
        pages.stderr.is_empty(),
        "the cursor is in the page: {pages:?}"
    );
    let pages = pages.objects();
    let entries = pages.iter().map(|page| page["entries"].as_array().unwrap());
    assert_eq!(entries.clone().map(Vec::len).sum::<usize>(), 300);
    for entry in entries.flatten() {
        let number = entry["key"].as_str().unwrap().strip_prefix("key-").unwrap();
        let value = format!("value {}", number.parse::<u32>().unwrap());
        assert_eq!(entry["value"], BASE64.encode(value));
        assert_eq!(entry["key_base64"], Value::Null);
        assert_eq!(entry["expires_at_ms"], Value::Null);
        assert!(entry["version"].is_string());
    }
    let cursor = pages.last().unwrap()["cursor"].as_str().unwrap();
    let args = ["scan", "--json", "--keys", "--cursor", cursor];
    let rest = dev.run(&args).expect(0).objects();
    let entries = rest.iter().map(|page| page["entries"].as_array().unwrap());
    assert_eq!(entries.clone().map(Vec::len).sum::<usize>(), 2_700);
    assert!(entries.flatten().all(|entry| entry.get("value").is_none()));
    assert_eq!(rest.last().unwrap()["cursor"], Value::Null);
}

#[test]
fn servers_that_are_away_only_make_it_slower_until_patience_ends() {
    let dev = Dev::start();
    let lines: String = (0..3_000)
        .map(|i| format!("{}\n", json!({ "key": format!("k{i}"), "value": "v" })))
        .collect();
    dev.place.write("in.jsonl", &lines);
    dev.run(&["import", "in.jsonl"]).expect(0);
    let part = dev.run(&["scan", "--limit", "10"]).expect(0);
    let cursor = part.stderr.trim_end().rsplit(' ').next().unwrap();

    let away = |name: &str| {
        dev.servers[1..]
            .iter()
            .for_each(|(pid, _)| signal(*pid, name))
    };
    let start = |args: &[&str], timeout: &str| {
        let mut command = dev.place.command(args);
        command.args(["--timeout", timeout]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let scan = ["scan", "--keys", "--cursor", cursor];
    let export = ["export", "out.jsonl", "--resume", "export-state"];
    let import = ["import", "in.jsonl", "--resume", "import-state"];
    away("STOP");
    let given_up = [&scan[..], &export, &import].map(|args| start(args, "200ms"));
    let [scanned, exported, imported] = given_up.map(|child| Done::of(child).expect(3));
    away("CONT");
    let how = format!("--cursor {cursor}");
    assert!(scanned.stderr.contains(&how), "{scanned:?}");
    for (done, state) in [(&exported, "export-state"), (&imported, "import-state")] {
        assert!(done.text().contains("stopped early"), "{done:?}");
        let how = format!("{state} remembers it");
        assert!(done.stderr.contains(&how), "{done:?}");
        assert!(dev.place.path(state).exists());
    }
    dev.run(&export).expect(0);
    dev.run(&import).expect(0);
    assert_eq!(read_lines(&dev.place.path("out.jsonl")).len(), 3_000);

    away("STOP");
    let mut patient = start(&["scan", "--keys"], "1s");
    let mut remarks = BufReader::new(patient.stderr.take().unwrap()).lines();
    let remark = remarks.next().unwrap().unwrap();
    assert!(remark.contains("asking for this page again"), "{remark}");
    away("CONT");
    assert_eq!(Done::of(patient).expect(0).text().lines().count(), 3_000);
}

/// Keys, with values and when they expire.
type Records = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

#[test]
fn records_come_back_as_they_were_although_the_program_is_killed() {
    let dev = Dev::start();
    let records = records();
    let lines: String = records.iter().map(line).collect();
    dev.place.write("in.jsonl", &lines);
    killed_half_way(
        &dev.place,
        &["import", "in.jsonl", "--resume", "state"],
        &["counts", "rows"],
    );
    let args = ["import", "in.jsonl", "--resume", "state", "--json"];
    let summary = dev.run(&args).expect(0).object();
    assert_eq!(summary["rows"], records.len());
    assert_eq!(summary["stored"], records.len(), "none has expired yet");
    assert!(summary["rows_before"].as_u64().unwrap() > 0, "{summary}");
    assert!(!dev.place.path("state").exists());

    let export = ["export", "out.jsonl", "--resume", "state"];
    killed_half_way(&dev.place, &export, &["cursor"]);
    refuses_another_purpose(&dev);
    let summary = dev.run(&[&export[..], &["--json"]].concat());
    let summary = summary.expect(0).object();
    assert_eq!(summary["entries"], records.len());
    assert!(summary["entries_before"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(summary["problems"], json!([]));
    assert!(!dev.place.path("state").exists());
    assert_same(&read_lines(&dev.place.path("out.jsonl")), &records);

    dev.run(&["export", "out.csv"]).expect(0);
    dev.run(&["export", "out.csv"]).expect(2);
    let other = Dev::start_with(&["--ephemeral", "--nodes", "1"], Place::new());
    let csv = dev.place.path("out.csv");
    let summary = other.run(&["import", csv.to_str().unwrap(), "--json"]);
    assert_eq!(summary.expect(0).object()["stored"], records.len());
    let lines = other.run(&["export", "-"]).expect(0);
    assert!(
        lines.stderr.starts_with("exported 100000 entries"),
        "{lines:?}"
    );
    other.place.write("again.jsonl", &lines.stdout);
    assert_same(&read_lines(&other.place.path("again.jsonl")), &records);
}

fn refuses_another_purpose(dev: &Dev) {
    for (args, differs) in [
        (&["export", "other.jsonl"][..], "path was "),
        (&["import", "in.jsonl"], "command was export"),
        (
            &["export", "out.jsonl", "--format", "csv"],
            "format was jsonl",
        ),
    ] {
        let refused = dev.run(&[args, &["--resume", "state"]].concat()).expect(2);
        assert!(refused.stderr.contains(differs), "{refused:?}");
    }
    let refused = dev.run(&["export", "out.jsonl", "--resume", "in.jsonl"]);
    assert!(refused.expect(2).stderr.contains("no state to go on from"));
}

/// 100,000 records with keys and values of all kinds of bytes.
fn records() -> Records {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let now_ms = now_ms();
    let mut records = Records::new();
    while records.len() < 100_000 {
        let number = records.len();
        let mut key = match number % 4 {
            0 => format!("user:{number}").into_bytes(),
            1 => format!("line\r\n\"{number}\", ä/\t\u{1}😀").into_bytes(),
            _ => bytes(&mut random, 24),
        };
        if number < 3 {
            key.resize(4_096, b'k');
        }
        let value = match number % 8 {
            0 => Vec::new(),
            1 => b"\"quoted\", \\ and\r\nbroken\n".to_vec(),
            2 => "ünïcode\u{0}\u{2028}".repeat(9).into_bytes(),
            _ => bytes(&mut random, 300),
        };
        let value = match number % 2_000 {
            // Too long to come along with its key.
            7 => [value, vec![0xfe; 70_000]].concat(),
            8 => ",\"\n".repeat(30_000).into_bytes(),
            _ => value,
        };
        let expiry = number
            .is_multiple_of(5)
            .then_some(now_ms + 3_600_000 + number as u64);
        if !key.is_empty() {
            records.insert(key, (value, expiry));
        }
    }
    records
}

#[expect(
    clippy::disallowed_methods,
    reason = "a record of a test expires some time from now"
)]
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

fn bytes(random: &mut ChaCha8Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..=most)];
    random.fill_bytes(&mut bytes);
    bytes
}

/// A record as a line that import reads, written without the program's help.
fn line((key, (value, expires_at_ms)): (&Vec<u8>, &(Vec<u8>, Option<u64>))) -> String {
    let mut object = json!({});
    for (name, bytes) in [("key", key), ("value", value)] {
        match std::str::from_utf8(bytes) {
            Ok(text) => object[name] = text.into(),
            Err(_) => object[format!("{name}_base64")] = BASE64.encode(bytes).into(),
        }
    }
    if let Some(at_ms) = expires_at_ms {
        object["expires_at_ms"] = (*at_ms).into();
    }
    format!("{object}\n")
}

fn read_lines(path: &Path) -> Records {
    let text = std::fs::read_to_string(path).unwrap();
    let mut records = Records::new();
    for line in text.lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        let bytes = |name: &str| match object[name].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => BASE64
                .decode(object[format!("{name}_base64")].as_str().unwrap())
                .unwrap(),
        };
        let record = (bytes("value"), object["expires_at_ms"].as_u64());
        let twice = records.insert(bytes("key"), record);
        assert!(twice.is_none(), "{line} comes twice");
    }
    records
}

/// Every byte is the same, and every time of expiry.
#[track_caller]
fn assert_same(got: &Records, expected: &Records) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!(got == expected, "{:?} is not {:?}", got.0, expected.0);
    }
}

/// Starts the program and kills it as soon as its state shows progress: this value in it, which is
/// nothing at the start. Where it was faster, everything is done again.
#[track_caller]
fn killed_half_way(place: &Place, args: &[&str], progress: &[&str]) {
    let state = place.path("state");
    for _ in 0..5 {
        let mut command = place.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = RefCell::new(command.spawn().unwrap());
        let has_ended = || child.borrow_mut().try_wait().unwrap().is_some();
        wait_until(|| has_progress(&state, progress) || has_ended());
        child.borrow_mut().kill().unwrap();
        child.borrow_mut().wait().unwrap();
        if has_progress(&state, progress) {
            return;
        }
        assert!(!state.exists(), "it did not end well");
        if args[0] == "export" {
            let path = place.path(args[1]);
            std::fs::remove_file(&path)
                .or_else(|_| std::fs::remove_dir_all(&path))
                .unwrap();
        }
    }
    panic!("{args:?} is never half way");
}

fn has_progress(state: &Path, progress: &[&str]) -> bool {
    let Ok(text) = std::fs::read_to_string(state) else {
        return false;
    };
    let state: Value = serde_json::from_str(&text).expect("a state is written at once");
    let mut value = &state["done"];
    for name in progress {
        value = &value[name];
    }
    !value.is_null() && *value != json!(0)
}

#[test]
fn files_come_back_as_they_were_although_the_program_is_killed() {
    let dev = Dev::start();
    let files = files();
    let source = dev.place.path("source");
    for (path, content) in &files {
        let path = source.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let import = [
        "import", "source", "--prefix", "files/", "--resume", "state",
    ];
    killed_half_way(&dev.place, &import, &["counts", "rows"]);
    let summary = dev
        .run(&[&import[..], &["--json"]].concat())
        .expect(0)
        .object();
    assert_eq!(summary["stored"], files.len());
    assert!(summary["rows_before"].as_u64().unwrap() > 0, "{summary}");

    let export = ["export", "copy/", "--resume", "state"];
    killed_half_way(&dev.place, &export, &["cursor"]);
    let summary = dev
        .run(&[&export[..], &["--json"]].concat())
        .expect(0)
        .object();
    assert_eq!(summary["entries"], files.len());
    assert!(!dev.place.path("state").exists());
    let copy = dev.place.path("copy");
    assert_eq!(names(&copy), ["files"]);
    let mut copied = Files::new();
    read_files(&copy.join("files"), "", &mut copied);
    assert!(copied.keys().eq(files.keys()));
    for (path, content) in &files {
        assert!(copied[path] == *content, "{path}");
    }

    hostile_keys(&dev);
}

/// Paths of files, and what is in them.
type Files = BTreeMap<String, Vec<u8>>;

/// 1,000 files of 0 bytes to 1 MiB, and some longer ones.
fn files() -> Files {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut files = Files::new();
    for number in 0..1_000 {
        let depth = random.random_range(0..4);
        let mut path: String = (0..depth)
            .map(|_| format!("folder {}/", random.random_range(0..5)))
            .collect();
        path += &format!("file-{number}.bin");
        let length = match number {
            0 => 0,
            1 => 1 << 20,
            2..5 => (3 << 20) + number,
            // Most are short, as files are.
            _ => (1 << random.random_range(0..20)) - 1,
        };
        let mut content = vec![0; length];
        random.fill_bytes(&mut content);
        files.insert(path, content);
    }
    files
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

fn read_files(folder: &Path, prefix: &str, into: &mut Files) {
    for name in names(folder) {
        let path = folder.join(&name);
        match path.is_dir() {
            true => read_files(&path, &format!("{prefix}{name}/"), into),
            false => {
                into.insert(format!("{prefix}{name}"), std::fs::read(path).unwrap());
            }
        }
    }
}

/// Keys that would lead out of the folder are left out and told; nothing else happens. Which of two
/// keys that clash is left out is up to their hashes.
fn hostile_keys(dev: &Dev) {
    let outside = dev.place.path("outside");
    let keys = [
        "../outside",
        "files/../../outside",
        outside.to_str().unwrap(),
        "files/",
        "a//b",
    ];
    for key in keys {
        dev.run(&["put", key, "hostile"]).expect(0);
    }
    let done = dev.run(&["export", "hostile/", "--json"]).expect(3);
    let summary = done.object();
    assert_eq!(
        (&summary["entries"], &summary["stopped"]),
        (&json!(1_000), &json!(false))
    );
    assert_eq!(summary["left_out"], keys.len());
    let problems = summary["problems"].as_array().unwrap();
    let mut told: Vec<&str> = problems
        .iter()
        .map(|p| p["key"].as_str().unwrap())
        .collect();
    told.sort_unstable();
    let mut expected = keys.to_vec();
    expected.sort_unstable();
    assert_eq!(told, expected);
    assert!(!outside.exists());
    assert_eq!(names(&dev.place.path("hostile")), ["files"]);
    let text = dev.run(&["export", "hostile/", "--force"]).expect(3);
    assert!(
        text.stderr.contains("JSON Lines takes every key"),
        "{text:?}"
    );
    for key in keys {
        dev.run(&["delete", key]).expect(0);
    }
}
