#!/usr/bin/env bash
# Measures Annulet, and beside it etcd and Redis where they are installed: three processes each on
# this machine, all over TLS, under the same load. `docs/benchmarks.md` says how to read the result.
#
#   make bench                       three rounds of five seconds a cell
#   make bench ROUNDS=1 SECONDS=2    a quick look
#   make bench STORES=               Annulet alone; STORES="etcd" is Annulet and etcd
#   make bench BENCH_DIR=/mnt/disk   data on another disk
#
# All stores stay up all the time; only the one under measurement has load.
set -euo pipefail

# SECONDS counts in bash: take what was given before it moves on.
seconds=$SECONDS
[[ $seconds -gt 0 ]] || seconds=5
rounds=${ROUNDS:-3}
callers=${CALLERS:-256}
keys=${KEYS:-100000}
value_size=${VALUE_SIZE:-100}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
built=${CARGO_TARGET_DIR:-$root/target}/release
annulet=$built/annulet
# shellcheck source=scripts/bench-stores.sh
source "$root/scripts/bench-stores.sh"

main() {
    [[ -x $annulet ]] || fail "$annulet is not built: run this by make bench"
    choose_stores
    prepare_folder
    others=$(busy_share sleep 2)
    make_certificates
    start_annulet
    measure_memory
    [[ -z $with_etcd ]] || start_etcd
    [[ -z $with_redis ]] || start_redis
    load_keys
    local round
    for ((round = 1; round <= rounds; round++)); do
        run_round "$round"
    done
    measure_idle
    describe
    awk -f "$root/scripts/bench-report.awk" "$work/memory.tsv" "$work/cells.tsv"
    name_missing
    cp "$work/reports.jsonl" "$root/target/bench.jsonl"
    echo "Every report of every cell: target/bench.jsonl"
}

fail() {
    echo "bench.sh: $*" >&2
    exit 1
}

# Sets `with_etcd` and `with_redis`, and `missing` to the packages of what was asked for and is
# not there.
choose_stores() {
    local wanted=${STORES-etcd redis}
    with_etcd="" with_redis="" missing=()
    if [[ $wanted == *etcd* ]]; then
        if command -v etcd >/dev/null; then with_etcd=yes; else missing+=(etcd-server); fi
    fi
    if [[ $wanted == *redis* ]]; then
        if command -v redis-server >/dev/null; then
            with_redis=yes
        else
            missing+=(redis-server)
        fi
    fi
    [[ -n $with_etcd$with_redis ]] || return 0
    if ! command -v protoc >/dev/null; then
        missing+=(protobuf-compiler libprotobuf-dev)
        with_etcd="" with_redis=""
        return
    fi
    cargo build --release -p annulet-bench-peers ||
        fail "the other stores' client does not build; \`make bench-setup\` installs what it needs"
}

# Everything is on one disk: a store whose log is in memory has nothing to sync.
prepare_folder() {
    local parent=${BENCH_DIR:-$root/target}
    mkdir -p "$parent"
    case $(stat -f -c %T "$parent") in
        tmpfs | ramfs) fail "$parent is in memory: name a folder on a disk as BENCH_DIR" ;;
    esac
    work=$(mktemp -d "$parent/bench.XXXXXX")
    certs=$work/certs
    trap 'stop_all; rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    # Programs that make temporary files make them on that disk too.
    export TMPDIR=$work
}

make_certificates() {
    {
        "$annulet" cert ca --dir "$certs"
        "$annulet" cert peer server --host 127.0.0.1 --dir "$certs"
        "$annulet" cert client client --dir "$certs"
    } >/dev/null
}

annulet_client() {
    "$annulet" bench --json --profile "$annulet_profile" --value-size "$value_size" "$@"
}

peer_client() {
    "$built/annulet-bench-peers" --json --ca "$certs/ca.pem" --cert "$certs/client.pem" \
        --key "$certs/client.key" --value-size "$value_size" "$@"
}

# Stores the keys everywhere once, so that every cell works on what is there.
load_keys() {
    note "storing $keys keys in each store"
    local quick=(--workload put --concurrency 16 --seconds 1 --keys "$keys")
    local bucket
    for bucket in default strong siblings; do
        annulet_client --bucket "$bucket" "${quick[@]}" >/dev/null
    done
    if [[ -n $with_etcd ]]; then
        peer_client --peer etcd --endpoints "$etcd_endpoints" "${quick[@]}" >/dev/null
    fi
    if [[ -n $with_redis ]]; then
        peer_client --peer redis --endpoints "$redis_endpoints" "${quick[@]}" >/dev/null
    fi
    # Flushes and compactions that the loading set off.
    sleep 3
}

# All cells once. Every second round goes backwards, so that no store always follows the same one.
run_round() {
    local round=$1 cells=() count
    for count in "$callers" 1; do
        cells+=("$count annulet put quorum" "$count annulet put siblings")
        cells+=("$count annulet put strong")
        [[ -z $with_etcd ]] || cells+=("$count etcd put")
        [[ -z $with_redis ]] || cells+=("$count redis put always")
        cells+=("$count annulet get one")
        [[ -z $with_redis ]] || cells+=("$count redis get")
        cells+=("$count annulet get quorum" "$count annulet get strong")
        [[ -z $with_etcd ]] || cells+=("$count etcd get")
        [[ -z $with_redis ]] || cells+=("$count redis put everysec")
    done
    if ((round % 2 == 0)); then
        mapfile -t cells < <(printf '%s\n' "${cells[@]}" | tac)
    fi
    local cell
    for cell in "${cells[@]}"; do
        # shellcheck disable=SC2086 # The words of a cell are arguments.
        run_cell "$round" $cell
        sleep 0.5
    done
}

run_cell() { # round callers store workload [level]
    local round=$1 count=$2 store=$3 workload=$4 level=${5:-} report
    local load=(--workload "$workload" --concurrency "$count" --seconds "$seconds"
        --keys "$keys" --no-load)
    case $store in
        annulet)
            local where=(--level "$level")
            case $level in strong | siblings) where=(--bucket "$level") ;; esac
            report=$(annulet_client "${load[@]}" "${where[@]}")
            ;;
        etcd)
            report=$(peer_client --peer etcd --endpoints "$etcd_endpoints" "${load[@]}")
            ;;
        redis)
            # Reads do not touch the log; they are measured as Redis is mostly run.
            redis_sync "${level:-everysec}"
            report=$(peer_client --peer redis --endpoints "$redis_endpoints" "${load[@]}")
            ;;
    esac || fail "$store $workload $level with $count callers failed: $report"
    printf '%s\n' "$report" >>"$work/reports.jsonl"
    printf 'cell\t%s\t%s %s%s' "$count" "$store" "$workload" "${level:+ $level}" \
        >>"$work/cells.tsv"
    local name
    for name in ops_per_second p50_us p99_us p999_us errors; do
        printf '\t%s' "$(field "$name" "$report")"
    done >>"$work/cells.tsv"
    echo >>"$work/cells.tsv"
    note "$(printf 'round %d of %d, %3d callers, %s: %.0f/s' "$round" "$rounds" "$count" \
        "$store $workload${level:+ $level}" "$(field ops_per_second "$report")")"
}

# One number of a report.
field() { # name report
    sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" <<<"$2"
}

# Memory of servers that have nothing to do yet, and of a client that does next to nothing: one
# read a second that asks all three servers, so that it is connected to each.
measure_memory() {
    sleep 2
    local pid most=0 kib
    for pid in "${annulet_pids[@]}"; do
        kib=$(resident "$pid")
        if ((kib > most)); then most=$kib; fi
    done
    printf 'memory\tidle server\t%s\n' "$most" >>"$work/memory.tsv"
    # Not by a function: `$!` would be the id of the shell that runs it.
    "$annulet" bench --profile "$annulet_profile" --workload get --level all --rate 1 \
        --concurrency 1 --keys 1 --seconds 6 >/dev/null 2>&1 &
    pid=$!
    sleep 5
    printf 'memory\tidle client\t%s\n' "$(resident "$pid")" >>"$work/memory.tsv"
    wait "$pid" || true
}

# KiB of memory that a process has resident.
resident() {
    awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"
}

# What part of the machine was busy while a command ran, in percent.
busy_share() { # command...
    local before
    before=$(head -n 1 /proc/stat)
    "$@"
    # user nice system idle iowait irq softirq steal
    paste -d ' ' <(echo "$before") <(head -n 1 /proc/stat) | awk '{
        half = NF / 2
        for (i = 2; i <= 9; i++) all += $(half + i) - $i
        idle = $(half + 5) + $(half + 6) - $5 - $6
        printf "%d\n", 100 * (all - idle) / all
    }'
}

# What every store costs while another one is measured: its share of a core without load.
measure_idle() {
    sleep 2
    local -A before=()
    local pid store after
    for store in annulet etcd redis; do
        before[$store]=$(ticks "$store")
    done
    after=$(busy_share sleep 5)
    if ((after > others)); then others=$after; fi
    idle_shares=
    for store in annulet etcd redis; do
        [[ -n ${before[$store]} ]] || continue
        idle_shares+="${idle_shares:+, }$store $(awk -v ticks=$(($(ticks "$store") - before[$store])) \
            -v hertz="$(getconf CLK_TCK)" 'BEGIN { printf "%.1f %%", ticks / hertz / 5 * 100 }')"
    done
    for pid in "${annulet_pids[@]}"; do
        printf 'memory\tserver after the load\t%s\n' "$(resident "$pid")"
    done | sort -t $'\t' -k 3 -n | tail -n 1 >>"$work/memory.tsv"
}

# Clock ticks that the processes of a store have used so far; nothing if it does not run.
ticks() {
    local -n of="$1_pids"
    [[ ${#of[@]} -gt 0 ]] || return 0
    local pid sum=0
    for pid in "${of[@]}"; do
        sum=$((sum + $(sed 's/.*) //' "/proc/$pid/stat" | awk '{ print $12 + $13 }')))
    done
    echo "$sum"
}

describe() {
    echo
    local stores
    stores=$("$annulet" --version)
    [[ -z $with_etcd ]] || stores+=", $(etcd --version | sed -n 's/ Version://; 1p')"
    [[ -z $with_redis ]] || stores+=", redis $(redis-server --version | sed 's/.* v=\([^ ]*\).*/\1/')"
    echo "$stores; three processes each"
    echo "$(nproc) cores; $(stat -f -c %T "$work") on disk; $keys keys, values of $value_size" \
        "bytes; $rounds rounds of $seconds s a cell, medians"
    echo "without load: $idle_shares of a core"
    if ((others > 10)); then
        echo "Other programs used $others % of the machine before or after: do not trust this run."
    fi
}

name_missing() {
    [[ ${#missing[@]} -gt 0 ]] || return 0
    echo "Not installed, so not compared with: ${missing[*]} (Debian's package names)."
    echo "\`make bench-setup\` installs them."
}

note() {
    echo "$*" >&2
}

main
