//! Seeds of texts.

use super::Seeds;

pub(super) fn add(seeds: &mut Seeds) {
    for (name, text) in [
        ("one", "one"),
        ("each_quorum", "each_quorum"),
        ("explicit", "r=2,w=255"),
        ("explicit_with_signs", "r=+1,w=003"),
        ("explicit_of_none", "r=0,w=1"),
        ("explicit_too_large", "r=256,w=1"),
        ("explicit_without_writes", "r=2,w="),
        ("unknown", "two"),
        ("empty", ""),
    ] {
        seeds.add("level", name, text);
    }
    for (name, text) in [
        ("lower_case", "000102030405060708090a0b0c0d0e0f"),
        ("upper_case", "F0E0D0C0B0A090807060504030201000"),
        ("plus_sign", "+00102030405060708090a0b0c0d0e0f"),
        ("short", "000102030405060708090a0b0c0d0e"),
        ("no_digit", "000102030405060708090a0b0c0d0e0g"),
        (
            "two_bytes_a_letter",
            "\u{e9}\u{e9}0102030405060708090a0b0c0d0e",
        ),
    ] {
        seeds.add("cluster_id", name, text);
    }
    for (name, text) in [
        ("lower_case", "0102030405060f08"),
        ("upper_case", "FFFFFFFFFFFFFFFF"),
        ("plus_sign", "+102030405060708"),
        ("short", "1"),
        ("no_digit", "010203040506070g"),
        ("two_bytes_a_letter", "\u{e9}01020304050607"),
    ] {
        seeds.add("node_id", name, text);
    }
    add_files(seeds);
    add_histories(seeds);
}

fn add_histories(seeds: &mut Seeds) {
    seeds.add("history", "golden", GOLDEN_HISTORY);
    let (put, rest) = GOLDEN_HISTORY.split_once('\n').unwrap_or_default();
    seeds.add("history", "read_of_nothing_written", rest);
    seeds.add("history", "value_written_twice", format!("{put}\n\n{put}"));
    let list = "[1,\"get\",\"a\",null,null,1,2,\"unknown\"]";
    seeds.add("history", "list_of_fields", list);
    for (name, from, to) in [
        ("surrogate", "\"a\"", "\"\\ud800\""),
        ("base64_not_padded", "\"a\"", "{\"base64\":\"YQ\"}"),
        ("time_of_65_bits", ":20", ":18446744073709551616"),
        ("nested", "{\"value\":\"x\"}", &"[".repeat(200)),
    ] {
        seeds.add("history", name, put.replace(from, to));
    }
}

fn add_files(seeds: &mut Seeds) {
    for (name, text) in [
        ("least", LEAST_CLUSTER),
        ("full", FULL_CLUSTER),
        (
            "no_member",
            "cluster = \"000102030405060708090a0b0c0d0e0f\"",
        ),
        (
            "unknown_field",
            "cluster = \"000102030405060708090a0b0c0d0e0f\"\nepok = 3",
        ),
    ] {
        seeds.add("cluster_file", name, text);
    }
    let wide = LEAST_CLUSTER.replace("[[member]]", "epoch = 18446744073709551615\n[[member]]");
    seeds.add("cluster_file", "epoch_of_64_bits", wide);
    for (name, text) in [
        ("least", LEAST_CONFIG),
        ("full", FULL_CONFIG),
        ("out_of_range", "cache_bytes = 5"),
        ("unknown_limit", "[limits]\nthreads = 0"),
    ] {
        let text = if text.contains("data") {
            text.to_owned()
        } else {
            format!("{LEAST_CONFIG}{text}\n")
        };
        seeds.add("server_config", name, text);
    }
    seeds.add(
        "server_config",
        "nested",
        format!("{LEAST_CONFIG}x = {}", "[".repeat(200)),
    );
    for (name, text) in [
        ("least", LEAST_PROFILE),
        ("full", FULL_PROFILE),
        (
            "no_seeds",
            "seeds = []\nca = \"a\"\ncert = \"b\"\nkey = \"c\"\n",
        ),
        ("not_utf8_escape", "seeds = [\"\\ud800\"]\n"),
    ] {
        seeds.add("profile", name, text);
    }
    let no_time = format!("{LEAST_PROFILE}timeout_ms = 0\n");
    seeds.add("profile", "no_time", no_time);
}

const LEAST_CLUSTER: &str = r#"cluster = "000102030405060708090a0b0c0d0e0f"
[[member]]
id = "0000000000000001"
address = "10.0.0.1:7400"
"#;

const FULL_CLUSTER: &str = r#"cluster = "000102030405060708090a0b0c0d0e0f"
name = "prod"
epoch = 3
seed = 9223372036854775807
value_bytes_max = 1048576
partitions = 8
list_length = 2

[[member]]
id = "0000000000000001"
address = "a:7400"
zone = "z1"
region = "north"
[[member]]
id = "00000000000000ff"
address = "[::1]:7401"
capacity = 3
region = "north"

[[bucket]]
number = 9
name = "carts"
mode = "lww"
replicas = 2
durability = "async"
read_level = "one"
write_level = "r=1,w=2"
ttl_ms = 90000
"#;

const LEAST_CONFIG: &str = r#"data = "data"
listen = "127.0.0.1:7400"
cluster = "cluster.toml"
ca = "ca.pem"
cert = "node.pem"
key = "/keys/node.key"
"#;

const FULL_CONFIG: &str = r#"data = 'C:\data'
listen = "0.0.0.0:0"
advertise = "host:7400"
cluster = "../cluster.toml"
ca = "ca.pem"
cert = "node.pem"
key = "node.key"
cache_bytes = 1_048_576
write_buffer_bytes = 0x400000
open_data = true

[limits]
connections = 10
streams = 4
operations_queued = 100
write_bytes_queued = 1048576
message_bytes = 9223372036854775807
reader_threads = 1
open_files = 64
handshake_ms = 1
request_ms = 3600000
stop_ms = 0
certificates_ms = 1
hello_ms = 1
disk_reserve_bytes = 0
disk_soft_percent = 100
disk_ballast_bytes = 0
hint_bytes = 0
deliver_ms = 1
sweep_ms = 1
expired_kept_ms = 0
damage_wait_ms = 0
"#;

const LEAST_PROFILE: &str = r#"seeds = ["localhost:7400"]
ca = "ca.pem"
cert = "client.pem"
key = "client.key"
"#;

const FULL_PROFILE: &str = r#"seeds = ["a:7400", 'b:7400', """c:7400"""]
ca = "ca.pem"
cert = "../client.pem"
key = "/client.key"
zone = "a"
region = "\u00e9"
bucket = "carts"
level = "r=2,w=2" # both
timeout_ms = 600_000
view_cache = "view.cache"
"#;

const GOLDEN_HISTORY: &str = include_str!("../../../../history/src/lines/golden.jsonl");
