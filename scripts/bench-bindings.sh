#!/usr/bin/env bash
# Measures the packages of other languages beside the usual clients of Redis: three Annulet servers
# against one Redis primary that syncs nothing, all over TLS. `docs/benchmarks.md` says how to read
# the result.
#
#   make bench-bindings                      three rounds of five seconds a cell
#   make bench-bindings ROUNDS=1 SECONDS=2   a quick look
#   make bench-memory                        what each process holds over two million operations
#   make bench-memory OPERATIONS=200000      a quick look
set -euo pipefail

# SECONDS counts in bash: take what was given before it moves on.
seconds=$SECONDS
[[ $seconds -gt 0 ]] || seconds=5
rounds=${ROUNDS:-3}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
annulet=${CARGO_TARGET_DIR:-$root/target}/release/annulet
# shellcheck source=scripts/bench-stores.sh
source "$root/scripts/bench-stores.sh"

what=${1:-speed}
[[ $what == memory ]] || command -v redis-server >/dev/null || {
    echo "bench-bindings.sh: redis-server is missing; \`make bench-setup\` installs it" >&2
    exit 1
}
mkdir -p "$root/target"
work=$(mktemp -d "$root/target/bench.XXXXXX")
certs=$work/certs
trap 'stop_all; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

"$annulet" cert ca --dir "$certs" >/dev/null
"$annulet" cert peer server --host 127.0.0.1 --dir "$certs" >/dev/null
start_annulet
"$annulet" bucket create async --mode lww --durability async --profile "$annulet_profile" >/dev/null
cells=$work/cells
: >"$cells"
start_redis_primary() {
    free_port
    launch redis redis-server --bind 127.0.0.1 --port 0 --tls-port "$port" \
        --tls-cert-file "$certs/server.pem" --tls-key-file "$certs/server.key" \
        --tls-ca-cert-file "$certs/ca.pem" --tls-auth-clients no --tls-protocols TLSv1.3 \
        --dir "$work" --save "" --appendonly no
    redis=$port
    wait_for redis redis-cli --tls --cacert "$certs/ca.pem" -p "$redis" ping
}
python() {
    "$root/scripts/python.sh" run python "$root/bindings/python/bench/bench.py" "$@" \
        --profile "$annulet_profile" --redis "$redis" --ca "$certs/ca.pem" --seconds "$seconds" |
        sed 's/"cell": "/"cell": "python /' >>"$cells"
}
node_client() {
    node "$root/bindings/node/bench/bench.mjs" "$@" \
        --profile "$annulet_profile" --redis "$redis" --ca "$certs/ca.pem" --seconds "$seconds" |
        sed 's/"cell":"/"cell": "node /' >>"$cells"
}
swift_client() {
    "$root/scripts/swift-env.sh" run "$root" \
        "${CARGO_TARGET_DIR:-$root/target}/swift/swift-bench/release/bench" "$annulet_profile" "$@" \
        >>"$cells"
}
measure_memory() {
    local operations=${OPERATIONS:-2000000}
    "$root/scripts/python.sh" run python "$root/bindings/python/bench/bench.py" memory \
        --profile "$annulet_profile" --operations "$operations" |
        sed 's/"cell": "/"cell": "python /' >>"$cells"
    node --expose-gc "$root/bindings/node/bench/bench.mjs" memory \
        --profile "$annulet_profile" --operations "$operations" |
        sed 's/"cell":"/"cell": "node /' >>"$cells"
    swift_client memory "$operations"
}
# The client of Rust alone: what is left of the others' time is their language's.
rust() { # cell callers option...
    local cell=$1 callers=$2 used
    shift 2
    used=$({ TIMEFORMAT='%U %S'; time "$annulet" bench --json --profile "$annulet_profile" \
        --bucket async --keys 10000 --value-size 100 --concurrency "$callers" --seconds "$seconds" \
        "$@" >"$work/rust"; } 2>&1)
    python3 - "$cell" "$used" "$work/rust" >>"$cells" <<'PY'
import json, sys

cell, used, report = sys.argv[1:]
report = json.loads(open(report).read().splitlines()[-1])
# Its time is of the warm-up as well.
calls = report["operations"] * (1 + report["warmup_seconds"] / report["seconds"])
cpu_us = sum(map(float, used.split())) / calls * 1e6
rate = report["ops_per_second"]
print(json.dumps({"cell": f"rust {cell}", "rate": rate, "cpu_us": cpu_us}))
PY
}

if [[ $what == memory ]]; then
    measure_memory
    cat "$cells"
    exit
fi
start_redis_primary
"$root/scripts/python.sh" run pip install --quiet --disable-pip-version-check \
    --requirement "$root/bindings/python/bench/requirements.txt"
(cd "$root/bindings/node/bench" && npm ci --no-audit --no-fund --loglevel=error)
for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    python annulet glide annulet-sync redis-py
    node_client annulet glide ioredis
    swift_client "$seconds"
    rust "get, one caller" 1 --workload get --level one
    rust get 256 --workload get --level one
    rust put 256 --workload put
done
cat "$cells"
