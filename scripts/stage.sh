#!/usr/bin/env bash
# Runs one stage of the build and records how long it took.
#
#   scripts/stage.sh NAME COMMAND...
#
# Every stage leaves one line in target/stages: name, seconds, ok or FAILED. `.ci/run` prints
# them as a table. The command's output and exit code pass through untouched.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=$1
shift

mkdir -p "$root/target"
echo "== $name: $*"
SECONDS=0
"$@"
code=$?
outcome=ok
[[ $code -eq 0 ]] || outcome=FAILED
printf '%s\t%s\t%s\n' "$name" "$SECONDS" "$outcome" >>"$root/target/stages"
echo "== $name: $outcome after $SECONDS s"
exit "$code"
