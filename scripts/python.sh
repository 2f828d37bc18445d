#!/usr/bin/env bash
# The Python package, with its tools in an environment of its own below target/.
#
#   scripts/python.sh install PROFILE  build the wheel and install it there
#   scripts/python.sh run CMD...       run a command of that environment
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
package=$root/bindings/python
home=$root/target/python
tools=$package/requirements-dev.txt

prepare() {
    local wanted
    wanted=$(cat "$tools" <(python3 --version))
    [[ $(cat "$home/tools" 2>/dev/null) == "$wanted" ]] && return
    rm -rf "$home"
    mkdir -p "$home"
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$tools"
    printf '%s\n' "$wanted" >"$home/tools"
}

prepare
export PATH=$home/venv/bin:$PATH
case "${1:-}" in
install)
    rm -rf "$home/wheels"
    (cd "$package" && maturin build --locked --profile "$2" --out "$home/wheels")
    pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$home"/wheels/*.whl
    ;;
run)
    shift
    exec "$@"
    ;;
*)
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
