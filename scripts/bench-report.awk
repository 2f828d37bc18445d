# Turns the measurements of `scripts/bench.sh` into tables: one line a cell with the medians of
# all rounds, then what the design promises against what was measured.
#
# Lines of input, with tabs: `memory NAME KIB`, and `cell CALLERS NAME OPS P50 P99 P999 ERRORS`.
BEGIN { FS = "\t" }

$1 == "memory" { kib[$2] = $3 }

$1 == "cell" {
    key = $2 SUBSEP $3
    if (!(key in rounds)) order[++cells] = key
    n = ++rounds[key]
    ops[key, n] = $4; p50[key, n] = $5; p99[key, n] = $6; p999[key, n] = $7
    errors[key] += $8
    if ($2 > many) many = $2
}

END {
    printf "\n| callers | operation | per second | least-most | p50 ms | p99 ms | p99.9 ms |"
    printf " errors |\n|---|---|---|---|---|---|---|---|\n"
    for (i = 1; i <= cells; i++) row(order[i])
    printf "\n| target | measured | |\n|---|---|---|\n"
    ratio("annulet put quorum", "etcd put", 3)
    ratio("annulet put quorum", "redis put always", 2)
    ratio("annulet get one", "redis get", 0.6)
    ratio("annulet get quorum", "etcd get", 5)
    ratio("annulet put strong", "etcd put", 3)
    ratio("annulet get strong", "etcd get", 5)
    ratio("annulet put siblings", "annulet put quorum", 0.6)
    slower("annulet get strong", "annulet get quorum", 1.3)
    latency("annulet put quorum", 1)
    latency("annulet get one", 0.2)
    memory("idle server", 80)
    memory("idle client", 20)
    if ("server after the load" in kib)
        printf "| server after the load | %.0f MiB resident | |\n", kib["server after the load"] / 1024
    printf "\n"
}

function row(key,   parts, least, most, i) {
    split(key, parts, SUBSEP)
    least = most = ops[key, 1]
    for (i = 2; i <= rounds[key]; i++) {
        if (ops[key, i] < least) least = ops[key, i]
        if (ops[key, i] > most) most = ops[key, i]
    }
    printf "| %d | %s | %d | %d-%d | %.3f | %.3f | %.3f | %d |\n", parts[1], parts[2],
        median(ops, key), least, most, median(p50, key) / 1000, median(p99, key) / 1000,
        median(p999, key) / 1000, errors[key]
}

function ratio(ours, theirs, target,   measured) {
    if (!((many SUBSEP ours) in rounds) || !((many SUBSEP theirs) in rounds)) return
    measured = median(ops, many SUBSEP ours) / median(ops, many SUBSEP theirs)
    printf "| %s, %d callers: at least %s x %s | %.2f x | %s |\n", ours, many, target, theirs,
        measured, verdict(measured >= target)
}

function slower(ours, theirs, target,   measured) {
    if (!((1 SUBSEP ours) in rounds) || !((1 SUBSEP theirs) in rounds)) return
    measured = median(p50, 1 SUBSEP ours) / median(p50, 1 SUBSEP theirs)
    printf "| %s, 1 caller: p50 at most %s x that of %s | %.2f x | %s |\n", ours, target, theirs,
        measured, verdict(measured <= target)
}

function latency(ours, target,   measured) {
    if (!((1 SUBSEP ours) in rounds)) return
    measured = median(p50, 1 SUBSEP ours) / 1000
    printf "| %s, 1 caller: p50 below %s ms | %.3f ms | %s |\n", ours, target, measured,
        verdict(measured < target)
}

function memory(what, target) {
    if (!(what in kib)) return
    printf "| %s: below %d MiB resident | %.1f MiB | %s |\n", what, target, kib[what] / 1024,
        verdict(kib[what] / 1024 < target)
}

function verdict(met) { return met ? "pass" : "MISS" }

function median(values, key,   sorted, n, i, j, swap) {
    n = rounds[key]
    for (i = 1; i <= n; i++) {
        sorted[i] = values[key, i]
        for (j = i; j > 1 && sorted[j] + 0 < sorted[j - 1] + 0; j--) {
            swap = sorted[j]; sorted[j] = sorted[j - 1]; sorted[j - 1] = swap
        }
    }
    return n % 2 ? sorted[(n + 1) / 2] : (sorted[n / 2] + sorted[n / 2 + 1]) / 2
}
