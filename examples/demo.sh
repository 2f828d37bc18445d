#!/usr/bin/env bash
# Starts a cluster of three servers on this machine, stores real data in it, takes one server away
# and brings it back. Every claim is checked; the script fails at the first that does not hold.
#
#   make demo            build, run, stop everything at the end
#   KEEP=1 make demo     leave the cluster running
#   ANNULET=FILE examples/demo.sh    use another build of the program
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
annulet=${ANNULET:-$root/target/release/annulet}
if [[ ! -x $annulet ]]; then
    echo "demo: $annulet is not there: run \`make demo\`, or set ANNULET to the program" >&2
    exit 1
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/annulet-demo.XXXXXX")
dev=        # process id of the cluster
second=     # process id of the server that was brought back
kept=
paused=()

cleanup() {
    local code=$?
    [[ ${#paused[@]} -eq 0 ]] || kill -CONT "${paused[@]}" 2>/dev/null || true
    if [[ -n $kept ]]; then
        return
    fi
    # The servers go with the cluster; the one that was started by hand is asked by itself.
    for process in $second $dev; do
        kill -TERM "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    if [[ $code -ne 0 && $code -lt 128 ]]; then
        echo "demo: failed; what the cluster said:" >&2
        cat "$work/dev.err" "$work/server.err" >&2 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

now_ms() {
    if [[ -n ${EPOCHREALTIME:-} ]]; then
        local micros=${EPOCHREALTIME//[!0-9]/}
        echo $((micros / 1000))
    else
        echo $((SECONDS * 1000))
    fi
}
began=$(now_ms)
step=$began

headline() {
    step=$(now_ms)
    printf '\n== %s\n' "$*"
}
took() { printf '   %s (%d ms)\n' "$*" $(($(now_ms) - step)); }
say() { printf '   %s\n' "$*"; }
show() { sed 's/^/   | /'; }
fail() {
    echo "demo: $*" >&2
    exit 1
}

# Waits until a process prints a line that begins so, and leaves it in $line.
wait_for_line() { # file-descriptor beginning
    while IFS= read -r -t 60 -u "$1" line; do
        [[ $line != "$2"* ]] || return 0
        lines+=("$line")
    done
    fail "no line \`$2\` came"
}

headline "1. Start three servers, each a process with its own data on disk, all talk TLS"
mkfifo "$work/dev.out"
: >"$work/server.err"
"$annulet" dev --nodes 3 --port 0 --ephemeral >"$work/dev.out" 2>"$work/dev.err" &
dev=$!
exec 3<"$work/dev.out"
lines=()
wait_for_line 3 "ready profile="
profile=${line#ready profile=}
export ANNULET_PROFILE=$profile
folder=$(dirname "$profile")
printf '%s\n' "${lines[@]}" | show
pids=()
addresses=()
for node in "${lines[@]}"; do
    pid=${node#*pid=}
    pids+=("${pid%% *}")
    addresses+=("${node#*address=}")
done
took "all three answer"

headline "2. Store a table: the 3,376 airports of the United States, a key each"
"$annulet" import "$root/examples/data/airports.csv" --key iata --prefix airport: | show
say "annulet get airport:SFO"
{
    "$annulet" get airport:SFO
    echo
} | show
took "stored and read"

headline "3. Store real files as values, read them back, compare every byte"
files=()
while IFS= read -r file; do
    files+=("$file")
done < <(cd "$root" && find README.md CONTRIBUTING.md LICENSE docs protocol/src ring/src \
    examples/data -type f -size -2000k 2>/dev/null | sort | head -60)
head -c 8000000 "$annulet" >"$work/8-megabytes"
total=0
for file in "${files[@]}"; do
    "$annulet" put "file:$file" --file "$root/$file"
    total=$((total + $(wc -c <"$root/$file")))
done
"$annulet" put file:8-megabytes --file "$work/8-megabytes"
took "stored ${#files[@]} files of $total bytes together, and one of 8,000,000"
step=$(now_ms)
for file in "${files[@]}"; do
    "$annulet" get "file:$file" | cmp - "$root/$file" || fail "$file came back different"
done
"$annulet" get file:8-megabytes | cmp - "$work/8-megabytes" || fail "the large file differs"
took "read all of them back: every byte is the same"

headline "4. Choose how many of the three replicas must answer, per request"
for level in one quorum all r=1,w=3; do
    step=$(now_ms)
    "$annulet" put level:demo "written at $level" --level "$level"
    [[ $("$annulet" get level:demo --level "$level") == "written at $level" ]] ||
        fail "the write at $level was not seen"
    took "put and get at $level"
done

headline "5. Kill one server (SIGKILL, no warning) and go on"
kill -KILL "${pids[1]}"
say "killed node 2, process ${pids[1]}"
pairs=()
keys=()
for number in {1..20}; do
    pairs+=("during:$number=written while node 2 was away, $number")
    keys+=("during:$number")
done
"$annulet" mput --level quorum "${pairs[@]}" >/dev/null
read_back=$("$annulet" mget --level quorum "${keys[@]}" | wc -l)
[[ $read_back -eq 20 ]] || fail "only $read_back of 20 keys were read at quorum"
took "20 writes and 20 reads at quorum: all done"
say "At level all the missing replica matters, and the error says so:"
say "annulet put k v --level all"
code=0
"$annulet" put k v --level all --timeout 1s 2>"$work/refused" || code=$?
show <"$work/refused"
[[ $code -eq 3 ]] || fail "a write at level all ended with exit code $code, not 3"
"$annulet" cluster status | show
say "What node 2 misses is kept for it by the others:"
say "annulet cluster hints"
"$annulet" cluster hints | show

start_node_2() {
    rm -f "$work/server.out"
    mkfifo "$work/server.out"
    "$annulet" serve --config "$folder/node-2/server.toml" >"$work/server.out" \
        2>>"$work/server.err" </dev/null &
    second=$!
    exec 4<"$work/server.out"
    wait_for_line 4 "listening"
    took "node 2 serves again, process $second, on the data it had"
}

headline "6. Bring it back"
start_node_2

# Counts what node 2 has of the keys: with the others paused, only it can answer.
known_to_node_2() {
    paused=("${pids[0]}" "${pids[2]}")
    kill -STOP "${paused[@]}"
    known=$("$annulet" mget --level one --timeout 10s "${keys[@]}" 2>/dev/null | wc -l) || true
    kill -CONT "${paused[@]}"
    paused=()
}

headline "7. It is given what it missed"
step=$(now_ms)
for round in {1..100}; do
    kept_for_it=$("$annulet" cluster hints --json | tr ',' '\n' | grep -c '"owner":' || true)
    [[ $kept_for_it -ne 0 ]] || break
    [[ $round -lt 100 ]] || fail "what was kept for node 2 was not handed over"
    sleep 0.1
done
took "the others have handed over what they kept, and nobody has read any of it"
known_to_node_2
say "asked alone (the other two are paused), node 2 knows $known of the 20 new keys"
[[ $known -eq 20 ]] || fail "node 2 was not given everything"

headline "8. Node 2 hangs, the writer dies, node 2 dies: reads repair what nobody could keep for it"
paused=("$second")
kill -STOP "$second"
pairs=()
keys=()
for number in {1..20}; do
    pairs+=("orphan:$number=written by a client that died, $number")
    keys+=("orphan:$number")
done
: >"$work/acknowledged"
"$annulet" mput --level quorum "${pairs[@]}" >"$work/acknowledged" &
writer=$!
# It is killed once all is acknowledged, before it finds out that node 2 will not answer.
until [[ $(wc -l <"$work/acknowledged") -ge 20 ]] || ! kill -0 "$writer" 2>/dev/null; do
    sleep 0.01
done
# Not the shell's to tell of any more, or it would say that they were killed.
disown "$writer" "$second" 2>/dev/null || true
kill -KILL "$writer" "$second" 2>/dev/null || true
while kill -0 "$second" 2>/dev/null; do sleep 0.01; done
paused=()
read_back=$("$annulet" mget --level quorum "${keys[@]}" | wc -l)
[[ $read_back -eq 20 ]] || fail "only $read_back of 20 acknowledged keys were read at quorum"
took "20 writes acknowledged by two of three servers, their writer and the third one killed"
start_node_2
known_to_node_2
say "asked alone, node 2 knows $known of these 20 keys"
# A read answers once its level is met; what a replica lacks is written to it meanwhile, and goes
# on while this one program reads the keys a second time.
for round in {1..10}; do
    step=$(now_ms)
    read_back=$("$annulet" mget --level all "${keys[@]}" "${keys[@]}" | wc -l)
    [[ $read_back -eq 40 ]] || fail "only $read_back of 40 reads at level all were answered"
    took "read all 20 twice at level all: every replica is asked, and what one lacks goes to it"
    known_to_node_2
    say "asked alone again, node 2 knows $known of them"
    [[ $known -ne 20 ]] || break
    [[ $round -lt 10 ]] || fail "node 2 was not repaired"
done
"$annulet" put k v --level all
"$annulet" cluster status | show

headline "Done in $((($(now_ms) - began) / 1000)) s"
if [[ ${KEEP:-} != 1 ]]; then
    say "The cluster listened on ${addresses[*]} and stops now."
    say "KEEP=1 make demo leaves it running; \`$annulet dev\` starts one of your own. Then try:"
else
    kept=1
    say "The cluster listens on ${addresses[*]}."
    say "Stop it with: kill $second $dev; rm -r $work"
    say "Try:"
    say "  export ANNULET_PROFILE=$profile"
fi
say "  $annulet put greeting hello"
say "  $annulet get greeting --json --level all"
say "  $annulet bench --workload ycsb-b --seconds 5"
