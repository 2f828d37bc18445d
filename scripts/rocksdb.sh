#!/usr/bin/env bash
# Builds RocksDB's static archive once per machine and prints the folder that holds it.
#
#   scripts/rocksdb.sh              build it if it is not there yet, then print the folder
#   scripts/rocksdb.sh --print-dir  print the folder without building anything
#
# RocksDB is some 18 CPU-minutes of C++, and cargo would pay them again for every profile and
# every target folder. An archive outside the checkout is paid for once: librocksdb-sys links
# it when ROCKSDB_LIB_DIR and ROCKSDB_STATIC=1 are set, as the Makefile does. The bindings, LZ4
# and Zstandard still come from cargo's own crates, at the versions of Cargo.lock.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The version that Cargo.lock pins and the features the workspace asks for.
version=$(awk '/^name = "librocksdb-sys"$/ { getline; gsub(/version = |"/, ""); print; exit }' \
    "$root/Cargo.lock")
features=$(sed -n 's/^rocksdb = .*features = \[\(.*\)\].*$/\1/p' "$root/Cargo.toml" |
    tr -d '" ' | tr ',' '\n' | sort | paste -sd, -)
if [[ -z $version || -z $features ]]; then
    echo "rocksdb.sh: no librocksdb-sys in Cargo.lock or no rocksdb features in Cargo.toml" >&2
    exit 1
fi

# RocksDB picks its checksum code when it is compiled. Without these flags it checksums in
# software, which costs two thirds of the CPU of a large value.
arch=$(uname -m)
case $arch in
    x86_64) flags="-msse4.2 -mpclmul" ;;
    aarch64) flags="-march=armv8-a+crc+aes+crypto" ;;
    *) flags="" ;;
esac

hash=$(printf '%s\n' "$(uname -s)" "$arch" "$flags" | cksum | awk '{ printf "%08x", $1 }')
cache=${ANNULET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}}/annulet
directory=$cache/rocksdb-${version%%+*}-${features//,/-}-$hash

if [[ ${1:-} == --print-dir || -f $directory/librocksdb.a ]]; then
    echo "$directory"
    exit 0
fi

mkdir -p "$cache"
# A second run at the same time waits for the first instead of compiling the same files. Where
# flock is missing both compile, and the rename below keeps the result whole.
if command -v flock >/dev/null; then
    exec 9>"$cache/rocksdb.lock"
    flock 9
    if [[ -f $directory/librocksdb.a ]]; then
        echo "$directory"
        exit 0
    fi
    # What a killed run left behind; nobody else builds while the lock is held.
    rm -rf "$cache"/rocksdb-build.*
fi

work=$(mktemp -d "$cache/rocksdb-build.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/project/src" "$work/lib"
# The workspace's lockfile keeps lz4-sys and zstd-sys at the versions they will be linked with;
# cargo drops what this one-dependency project does not need.
cp "$root/Cargo.lock" "$work/project/"
touch "$work/project/src/lib.rs"
cat >"$work/project/Cargo.toml" <<TOML
[package]
name = "rocksdb-archive"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies.librocksdb-sys]
version = "=${version%%+*}"
default-features = false
features = ["${features//,/\", \"}"]
TOML

echo "rocksdb.sh: building RocksDB $version into $directory (about ten minutes, once)" >&2
(
    cd "$work/project"
    # The caller's own settings would make librocksdb-sys link an archive instead of building one.
    unset ROCKSDB_LIB_DIR ROCKSDB_STATIC CARGO_BUILD_TARGET RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
    CARGO_TARGET_DIR=$work/target CXXFLAGS="$flags ${CXXFLAGS:-}" cargo build --release >&2
)
cp "$work"/target/release/build/librocksdb-sys-*/out/librocksdb.a "$work/lib/"
# The rename is atomic: a half-written archive is never found under the final name.
[[ -d $directory ]] || mv "$work/lib" "$directory"
echo "$directory"
