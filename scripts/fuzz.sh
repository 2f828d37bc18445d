#!/usr/bin/env bash
# Fuzzes what reads bytes from outside, following coverage.
#
#   scripts/fuzz.sh run SECONDS [DECODER]   all decoders in so many seconds together, or one
#   scripts/fuzz.sh merge [DECODER]         adds found inputs that reach new code to the corpus
#
# Inputs that were found stay under target/fuzz/found, those that fail under target/fuzz/failed.
# Compilers of the stable channel can count coverage as well, so nothing but libFuzzer is needed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
corpus=tests/corpus
work=target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
program=$work/build/$host/checked/annulet-fuzz

# With a folder of its own, since other flags would compile everything else anew; and for a named
# system, so that the flags reach neither build scripts nor macros.
build() {
    local flags=(-Cpasses=sancov-module)
    local option
    for option in level=4 inline-8bit-counters pc-table trace-compares; do
        flags+=("-Cllvm-args=-sanitizer-coverage-$option")
    done
    CARGO_INCREMENTAL=0 RUSTFLAGS="${flags[*]}" cargo build --quiet --profile checked \
        --package annulet-fuzz --features libfuzzer --target "$host" --target-dir "$work/build"
}

# The decoders to take: one that is named, or all that have a folder.
decoders() { # [decoder]
    if [[ -z ${1:-} ]]; then
        ls "$corpus"
    elif [[ -d $corpus/$1 ]]; then
        echo "$1"
    else
        echo "fuzz.sh: no folder $corpus/$1; there are: $(ls "$corpus" | xargs)" >&2
        return 1
    fi
}

# Longer inputs hardly reach other code, and take longer.
bytes_max=4096
# Where it panicked is enough; the rest is seen by a replay.
export RUST_BACKTRACE=0

# All that was found is read again at the beginning. Where that is much, only what reaches a branch
# of its own is kept, or a short run would do nothing else.
found_max=3000
compact() { # decoder
    local found=$work/found/$1 fewer=$work/fewer
    [[ $(ls "$found" | wc -l) -gt $found_max ]] || return 0
    rm -rf "$fewer" && mkdir "$fewer"
    if TARGET=$1 "$program" -set_cover_merge=1 -use_counters=0 "$fewer" "$found" \
        >"$work/$1.log" 2>&1; then
        rm -rf "$found" && mv "$fewer" "$found"
    fi
}

fuzz() { # decoder seconds
    local decoder=$1 seconds=$2
    local found=$work/found/$decoder log=$work/$decoder.log
    mkdir -p "$found" "$work/failed"
    compact "$decoder"
    if TARGET=$decoder "$program" "$found" "$corpus/$decoder" -max_total_time="$seconds" \
        -max_len=$bytes_max -rss_limit_mb=1024 -timeout=10 \
        -artifact_prefix="$work/failed/$decoder-" >"$log" 2>&1; then
        awk -v decoder="$decoder" '
            / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") coverage = $(i + 1) }
            /^Done / { runs = $2 }
            END { printf "%-14s %10d runs, %6d branches reached\n", decoder, runs, coverage }
        ' "$log"
        return
    fi
    local artifact
    artifact=$(sed -n 's/^artifact_prefix=.*Test unit written to //p' "$log" | tail -n 1)
    echo "$decoder FAILED:"
    grep -aE -m 1 -A 3 'panicked at|ERROR: libFuzzer' "$log" | sed 's/^/    /' || tail "$log"
    echo "  bytes:  ${artifact:-none were written, see $log}"
    if [[ -n $artifact ]]; then
        echo "  replay: TARGET=$decoder $program $artifact"
        echo "  keep:   cp $artifact $corpus/$decoder/ # then \`make test-default\` fails, too"
    fi
    return 1
}

run() { # seconds [decoder]
    local names seconds decoder failed=0
    names=$(decoders "${2:-}")
    seconds=$(($1 / $(wc -w <<<"$names")))
    build
    for decoder in $names; do
        # 0 would be without end.
        fuzz "$decoder" $((seconds > 0 ? seconds : 1)) || failed=1
    done
    return "$failed"
}

# Only what is read as something and reaches a branch that nothing in the corpus does: each wrong
# kind in each place is a branch as well, and how often one is reached another, which would add
# thousands of files.
merge() { # [decoder]
    local names decoder before read=$work/read
    names=$(decoders "${1:-}")
    build
    for decoder in $names; do
        rm -rf "$read" && mkdir -p "$read" "$work/found/$decoder"
        before=$(ls "$corpus/$decoder" | wc -l)
        if ! {
            find "$work/found/$decoder" -type f -size -1025c -print0 |
                TARGET=$decoder READ_INTO=$read xargs -0r "$program" -runs=1
            TARGET=$decoder "$program" -set_cover_merge=1 -use_counters=0 \
                "$corpus/$decoder" "$read"
        } >"$work/$decoder.log" 2>&1; then
            tail "$work/$decoder.log"
            return 1
        fi
        echo "$decoder: $(($(ls "$corpus/$decoder" | wc -l) - before)) inputs added"
    done
}

case ${1:-} in
run) run "${2:?the seconds are missing}" "${3:-}" ;;
merge) merge "${2:-}" ;;
*)
    sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
