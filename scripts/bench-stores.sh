# shellcheck shell=bash disable=SC2034,SC2154 # It shares its names with the script that sources it.
# Starts the stores that `scripts/bench.sh` measures, three processes each, all over TLS 1.3 with
# certificates on both sides, and stops every one by its own id. Sourced; not run by itself.
#
# It expects $work (a folder on a disk) and $certs (ca.pem, and server and client as .pem and .key),
# and fills in `pids` and the addresses named below.

# All that were started, and the servers of each store. Of Annulet's the first is the program that
# starts the servers, and stops them when it is stopped.
pids=() annulet_pids=() etcd_pids=() redis_pids=()

# Starts a process in the background, with its output in a file; `launched` is its id.
launch() { # name command...
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 </dev/null &
    launched=$!
    pids+=("$launched")
}

# Asks each process to stop, waits for it, and ends what is still there after ten seconds.
stop_all() {
    local pid turn
    [[ ${#pids[@]} -gt 0 ]] || return 0
    for pid in "${pids[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        for ((turn = 0; turn < 100; turn++)); do
            # An id that is gone may soon be another program's: leave it alone.
            kill -0 "$pid" 2>/dev/null || continue 2
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    pids=()
}

# Prints a port that nothing listens on. They are taken from below the range that the system
# hands out for outgoing connections, so that none is taken before its server starts.
next_port=$((20000 + RANDOM % 8000))
free_port() {
    while (exec 3<>"/dev/tcp/127.0.0.1/$next_port") 2>/dev/null; do
        next_port=$((next_port + 1))
    done
    port=$next_port
    next_port=$((next_port + 1))
}

# Repeats a command until it succeeds, for half a minute.
wait_for() { # what command...
    local what=$1 turn
    shift
    for ((turn = 0; turn < 150; turn++)); do
        if "$@" >"$work/wait.log" 2>&1; then
            return
        fi
        sleep 0.2
    done
    echo "bench.sh: $what did not come up; the end of its log and of the last attempt:" >&2
    tail -n 5 "$work/$what"*.log "$work/wait.log" >&2
    exit 1
}

# Sets `annulet_profile`, and `annulet_pids` to the ids of the servers.
start_annulet() {
    "$annulet" dev --nodes 3 --port 0 --dir "$work/annulet" \
        >"$work/annulet.out" 2>"$work/annulet.log" </dev/null &
    pids+=("$!")
    wait_for annulet grep -q '^ready profile=' "$work/annulet.out"
    annulet_profile=$(sed -n 's/^ready profile=//p' "$work/annulet.out")
    local mode
    for mode in strong siblings; do
        "$annulet" bucket create "$mode" --mode "$mode" --profile "$annulet_profile" >/dev/null
    done
    mapfile -t annulet_pids < <(sed -n 's/^node .* pid=\([0-9]*\).*/\1/p' "$work/annulet.out")
}

# Sets `etcd_endpoints`. Syncing each write is etcd's default. The times of its elections are
# longer than its defaults: three servers and their load on a few cores miss heartbeats, and an
# election in the middle of a measurement would be held against it.
start_etcd() {
    local clients=() peers=() members="" node
    for node in 0 1 2; do
        free_port && clients+=("127.0.0.1:$port")
        free_port && peers+=("127.0.0.1:$port")
        members+="${members:+,}etcd$node=https://${peers[node]}"
    done
    for node in 0 1 2; do
        launch "etcd$node" etcd --name "etcd$node" --data-dir "$work/etcd$node" \
            --listen-client-urls "https://${clients[node]}" \
            --advertise-client-urls "https://${clients[node]}" \
            --listen-peer-urls "https://${peers[node]}" \
            --initial-advertise-peer-urls "https://${peers[node]}" \
            --initial-cluster "$members" --initial-cluster-state new \
            --client-cert-auth --trusted-ca-file "$certs/ca.pem" \
            --cert-file "$certs/server.pem" --key-file "$certs/server.key" \
            --peer-client-cert-auth --peer-trusted-ca-file "$certs/ca.pem" \
            --peer-cert-file "$certs/server.pem" --peer-key-file "$certs/server.key" \
            --enable-grpc-gateway=false --heartbeat-interval 500 --election-timeout 5000 \
            --logger zap --log-level warn
        etcd_pids+=("$launched")
    done
    etcd_endpoints=${clients[0]},${clients[1]},${clients[2]}
    wait_for etcd peer_client --peer etcd --endpoints "$etcd_endpoints" \
        --workload put --keys 1 --concurrency 1 --seconds 1
}

# Sets `redis_endpoints`, one: clients talk to the primary.
start_redis() {
    local ports=() node role
    for node in 0 1 2; do
        free_port && ports+=("$port")
    done
    for node in 0 1 2; do
        role=()
        [[ $node -eq 0 ]] || role=(--replicaof 127.0.0.1 "${ports[0]}")
        mkdir "$work/redis$node"
        launch "redis$node" redis-server --bind 127.0.0.1 --port 0 --tls-port "${ports[node]}" \
            --tls-cert-file "$certs/server.pem" --tls-key-file "$certs/server.key" \
            --tls-ca-cert-file "$certs/ca.pem" --tls-auth-clients yes --tls-replication yes \
            --tls-protocols TLSv1.3 --dir "$work/redis$node" --save "" \
            --appendonly yes --appendfsync always "${role[@]}"
        redis_pids+=("$launched")
    done
    redis_ports=("${ports[@]}")
    redis_endpoints=127.0.0.1:${ports[0]}
    wait_for redis redis_has_replicas
}

redis_has_replicas() {
    [[ $(redis_command "${redis_ports[0]}" info replication | grep -c 'state=online') -eq 2 ]]
}

# Sets how often the log is synced, on the primary and its replicas.
redis_sync() { # always|everysec
    local port
    for port in "${redis_ports[@]}"; do
        redis_command "$port" config set appendfsync "$1" >/dev/null
    done
}

redis_command() { # port command...
    local port=$1
    shift
    redis-cli --tls --cacert "$certs/ca.pem" --cert "$certs/client.pem" --key "$certs/client.key" \
        -p "$port" "$@"
}
