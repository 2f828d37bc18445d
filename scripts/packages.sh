#!/usr/bin/env bash
# Builds what users install into dist/, installs each into an empty environment, and uses it there
# against a cluster that the packed program starts.
#
#   scripts/packages.sh            for this platform
#
# dist/ then holds the Python wheel, the npm tarballs (the package, and the one of this platform
# that it finds its native module in), the Swift package and its native library for this platform,
# and the program with its licence, as tarballs.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dist=$root/dist
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
system=$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m)
work=$(mktemp -d)
cluster=""
trap 'end_cluster; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

main() {
    rm -rf "$dist"
    mkdir -p "$dist"
    pack_program
    pack_python
    pack_node
    pack_swift
    start_cluster
    try_python
    try_node
    try_swift
    echo "packages.sh: each was installed and used; dist/ holds:"
    (cd "$dist" && du -h -- *)
}

pack_program() {
    cargo build --release --locked -p annulet-cli
    local name=annulet-$version-$system
    mkdir -p "$work/$name"
    cp "${CARGO_TARGET_DIR:-$root/target}/release/annulet" "$root/LICENSE" "$root/CHANGELOG.md" \
        "$root/docs/operations.md" "$work/$name/"
    tar -C "$work" -czf "$dist/$name.tar.gz" "$name"
    rm -rf "${work:?}/$name"
    mkdir "$work/program"
    tar -C "$work/program" --strip-components 1 -xzf "$dist/$name.tar.gz"
}

pack_python() {
    (cd "$root/bindings/python" &&
        "$root/scripts/python.sh" run maturin build --release --locked --out "$dist")
}

pack_node() {
    "$root/scripts/node.sh" install release
    local name platform
    name=$(cd "$root/bindings/node" && echo annulet.*.node)
    platform=${name#annulet.}
    platform=${platform%.node}
    # The main package has no native module: npm installs the one of the platform beside it.
    mkdir -p "$work/npm/main" "$work/npm/platform"
    (cd "$root/bindings/node" && cp -- *.cjs *.mjs index.d.*ts README.md package.json "$work/npm/main/")
    cp "$root/LICENSE" "$work/npm/main/"
    cp "$root/bindings/node/$name" "$work/npm/platform/"
    # Names of functions stay, for what a fault prints.
    strip -S "$work/npm/platform/$name"
    cp "$root/LICENSE" "$work/npm/platform/"
    node - "$work/npm" "$platform" "$name" <<'JS'
// All that there are packages for; npm leaves out those that do not fit.
const platforms = ['linux-x64-gnu', 'linux-arm64-gnu', 'linux-x64-musl', 'linux-arm64-musl']
  .concat(['darwin-x64', 'darwin-arm64'])
const { readFileSync, writeFileSync } = require('node:fs')
const [folder, platform, file] = process.argv.slice(2)
const main = JSON.parse(readFileSync(`${folder}/main/package.json`))
const [os, cpu, libc] = platform.split('-')
const native = {
  name: `annulet-${platform}`,
  version: main.version,
  description: `The native module of annulet for ${platform}`,
  license: main.license,
  engines: main.engines,
  main: file,
  files: [file],
  os: [os],
  cpu: [cpu],
  ...(libc && { libc: [libc === 'gnu' ? 'glibc' : libc] }),
}
delete main.devDependencies
if (!platforms.includes(platform)) throw new Error(`${platform} is not among the platforms`)
main.optionalDependencies = Object.fromEntries(platforms.map((p) => [`annulet-${p}`, main.version]))
const write = (name, json) => writeFileSync(`${folder}/${name}/package.json`, JSON.stringify(json, null, 2))
write('main', main)
write('platform', native)
JS
    (cd "$work/npm/main" && npm pack --silent --pack-destination "$dist" >/dev/null)
    (cd "$work/npm/platform" && npm pack --silent --pack-destination "$dist" >/dev/null)
}

pack_swift() {
    if [[ ! -d $root/bindings/swift/annuletFFI.xcframework && $system == darwin-* ]]; then
        echo "packages.sh: no Swift package: scripts/swift-xcframework.sh makes its library" >&2
        exit 1
    fi
    local name=annulet-swift-$version library=annulet-swift-library-$version-$system
    "$root/scripts/swift.sh" install release "$work/$library"
    mkdir -p "$work/$name/Sources"
    (cd "$root/bindings/swift" && cp -r Sources Package.swift README.md "$work/$name/")
    # Where it was made, users on Apple's systems get it too.
    [[ ! -d $root/bindings/swift/annuletFFI.xcframework ]] ||
        cp -r "$root/bindings/swift/annuletFFI.xcframework" "$work/$name/"
    cp "$root/LICENSE" "$work/$name/"
    cp "$root/LICENSE" "$work/$library/"
    tar -C "$work" -czf "$dist/$name.tar.gz" "$name"
    tar -C "$work" -czf "$dist/$library.tar.gz" "$library"
    rm -rf "${work:?}/$name" "${work:?}/$library"
}

start_cluster() {
    "$work/program/annulet" dev --dir "$work/cluster" --port 0 >"$work/dev.out" 2>"$work/dev.log" &
    cluster=$!
    local turn
    for ((turn = 0; turn < 150; turn++)); do
        ANNULET_PROFILE=$(sed -n 's/^ready profile=//p' "$work/dev.out")
        [[ -z $ANNULET_PROFILE ]] || break
        sleep 0.2
    done
    export ANNULET_PROFILE
    [[ -n $ANNULET_PROFILE ]] || { cat "$work/dev.log" >&2; exit 1; }
    "$work/program/annulet" put packed program >/dev/null
}

end_cluster() {
    [[ -z $cluster ]] || { kill -INT "$cluster" && wait "$cluster"; } 2>/dev/null || true
}

# Nothing of this checkout is in reach of what is tried.
try_python() {
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-index "$dist"/*.whl
    (cd "$work" && venv/bin/python -I - "$version" <<'PY')
import asyncio, sys
from importlib.metadata import version
import annulet, annulet.sync

assert version("annulet") == sys.argv[1], version("annulet")

async def main():
    async with annulet.connect() as client:
        bucket = client.bucket("default")
        assert (await bucket.get("packed")).value == b"program"
        await bucket.put("packed", b"wheel", ttl=60)
        assert [key async for key in bucket.scan()] == [b"packed"]

asyncio.run(main())
with annulet.sync.connect() as client:
    assert client.bucket("default").get("packed").value == b"wheel"
PY
}

try_node() {
    mkdir "$work/app"
    (cd "$work/app" && echo '{ "private": true }' >package.json &&
        npm install --offline --no-audit --no-fund --loglevel=error "$dist"/annulet-[0-9]*.tgz \
            "$dist"/annulet-*-*[a-z0-9]-"$version".tgz >/dev/null)
    (cd "$work/app" && node --input-type=module - <<'JS'
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { connect } from 'annulet'

assert.equal(createRequire(import.meta.url)('annulet').connect, connect)
const client = await connect()
const bucket = client.bucket('default')
assert.equal((await bucket.get('packed')).value.toString(), 'wheel')
await bucket.put('packed', Buffer.from('tarball'))
await client.close()
JS
    )
    [[ $("$work/program/annulet" get packed) == tarball ]]
}

try_swift() {
    local app=$work/swift-app
    mkdir -p "$work/annulet-swift" "$work/prefix" "$app/Sources/app"
    tar -C "$work/annulet-swift" --strip-components 1 -xzf "$dist/annulet-swift-$version.tar.gz"
    tar -C "$work/prefix" --strip-components 1 -xzf "$dist/annulet-swift-library-$version-$system.tar.gz"
    cat >"$app/Package.swift" <<'SWIFT'
// swift-tools-version:6.0
import PackageDescription

let package = Package(
    name: "app",
    platforms: [.macOS(.v13)],
    dependencies: [.package(path: "../annulet-swift")],
    targets: [
        .executableTarget(
            name: "app", dependencies: [.product(name: "Annulet", package: "annulet-swift")])
    ]
)
SWIFT
    cat >"$app/Sources/app/main.swift" <<'SWIFT'
import Annulet
import Foundation

let client = try await Annulet.connect()
let bucket = client.bucket("default")
let entry = try await bucket.get("packed")
precondition(entry?.value == Data("tarball".utf8))
try await bucket.put("packed", Data("swift".utf8), ttl: .seconds(60))
for try await key in bucket.scan() { precondition(key == Data("packed".utf8)) }
await client.shutdown()
SWIFT
    (
        export SWIFT_ENV_BIND=$work PKG_CONFIG_PATH=$work/prefix/lib/pkgconfig
        "$root/scripts/swift-env.sh" run "$app" swift build
        "$root/scripts/swift-env.sh" run "$app" .build/debug/app
    )
    [[ $("$work/program/annulet" get packed) == swift ]]
}

main
