#!/usr/bin/env bash
# Installs what building, testing and linting need beyond Rust itself. Does nothing when all of
# it is there. As root on Debian or Ubuntu it installs; elsewhere it says what to install.
#
#   scripts/setup.sh          what the build and the tests need
#   scripts/setup.sh --lint   that, and cargo-deny
#   scripts/setup.sh --bench  that, and the stores the benchmark compares with
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deny_version=0.20.2

# Prints the package's name when the command is missing.
need() { # command package
    command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 ]] || echo "$2"
}

missing_packages() {
    need make make
    need c++ g++
    need clang clang
    # bindgen, which writes the bindings to RocksDB, loads libclang when it runs.
    if [[ -z ${LIBCLANG_PATH:-} && $(uname -s) == Linux ]] &&
        ! compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null &&
        ! compgen -G '/usr/lib*/libclang.so*' >/dev/null; then
        echo libclang-dev
    fi
    # The Python package is built and tested in an environment of its own.
    need python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    need node nodejs
    need npm npm
    # The tests on real processes put regions into networks of their own, and cut what joins them.
    if [[ $(uname -s) == Linux ]]; then
        need ip iproute2
        need nft nftables
    fi
    if [[ $1 == --bench ]]; then
        need etcd etcd-server
        need redis-server redis-server
        # The client of etcd is generated from etcd's definitions and protobuf's own ones.
        need protoc protobuf-compiler
        [[ -f /usr/include/google/protobuf/descriptor.proto ||
            -f /usr/local/include/google/protobuf/descriptor.proto ]] || echo libprotobuf-dev
    fi
}

install_packages() {
    local packages=("$@")
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        {
            echo "setup.sh: missing on this machine: ${packages[*]} (Debian's package names)."
            echo "setup.sh: on Debian or Ubuntu: sudo apt-get install ${packages[*]}"
        } >&2
        exit 1
    fi
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${packages[@]}"
}

if ! command -v cargo >/dev/null; then
    version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
    echo "setup.sh: cargo is missing: install Rust $version or newer, see https://rustup.rs" >&2
    exit 1
fi

missing=$(missing_packages "${1:-}")
if [[ -n $missing ]]; then
    # shellcheck disable=SC2086 # One package a word.
    install_packages $missing
fi

# Debian's own Node may be older than what the Node package is for.
if ! node -e 'process.exit(Symbol.asyncDispose === undefined ? 1 : 0)'; then
    echo "setup.sh: Node $(node --version) is too old: install Node 20.4 or newer, see https://nodejs.org" >&2
    exit 1
fi
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "setup.sh: $(python3 --version) is too old: install Python 3.10 or newer" >&2
    exit 1
fi

if [[ ${1:-} == --lint ]] && ! cargo deny --version >/dev/null 2>&1; then
    # Unoptimised: it builds in a third of the time and still checks the workspace in seconds.
    cargo install --locked --debug "cargo-deny@$deny_version"
fi
