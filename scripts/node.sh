#!/usr/bin/env bash
# The Node package, with its tools in node_modules.
#
#   scripts/node.sh install PROFILE  build the native module and put it where the package finds it
#   scripts/node.sh run CMD...       run a command in the package's folder
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
package=$root/bindings/node

prepare() {
    local wanted
    wanted=$(cat "$package/package-lock.json" <(node --version))
    [[ $(cat "$package/node_modules/.tools" 2>/dev/null) == "$wanted" ]] && return
    (cd "$package" && npm ci --no-audit --no-fund --loglevel=error)
    printf '%s\n' "$wanted" >"$package/node_modules/.tools"
}

prepare
export PATH=$package/node_modules/.bin:$PATH
case "${1:-}" in
install)
    cargo build --locked --profile "$2" -p annulet-node
    folder=${CARGO_TARGET_DIR:-$root/target}/$([[ $2 == dev ]] && echo debug || echo "$2")
    case "$(uname -s)" in
    Darwin) library=$folder/libannulet_node.dylib ;;
    *) library=$folder/libannulet_node.so ;;
    esac
    name=$(node -p 'require("'"$package"'/platform.cjs").platform()')
    rm -f "$package"/annulet.*.node
    # Not over a file that a process may have loaded.
    cp "$library" "$package/annulet.$name.node"
    ;;
run)
    shift
    cd "$package"
    exec "$@"
    ;;
*)
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
