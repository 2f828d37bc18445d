#!/usr/bin/env bash
# The Swift package, with a toolchain of its own where the machine has none.
#
#   scripts/swift.sh install PROFILE [PREFIX]
#                        build the native library, write the code that calls it into the package,
#                        and put the library where pkg-config finds it: below target/, or PREFIX
#   scripts/swift.sh build|test|run ARGS...
#                        run Swift's own command in the package's folder, or in SWIFT_PACKAGE's
#
# SWIFT_CONFIGURATION is debug, or release.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
package=$root/bindings/swift
target=${CARGO_TARGET_DIR:-$root/target}
home=$target/swift

install() { # profile prefix
    local folder generator
    cargo build --locked --profile "$1" -p annulet-swift
    folder=$target/$([[ $1 == dev ]] && echo debug || echo "$1")
    # In a call of its own, so that the library is built without what only this needs.
    cargo build --locked --profile "$1" -p annulet-swift-generator
    generator=$folder/annulet-swift-generator
    # The library's own description of what it exports is what the code is made of.
    generate "$generator" "$folder/libannulet_swift.a" "$package/Sources/AnnuletCore" --swift-sources
    generate "$generator" "$folder/libannulet_swift.a" "$package/Sources/annuletFFI" \
        --headers --modulemap --module-name annuletFFI --modulemap-filename module.modulemap
    mkdir -p "$2/lib/pkgconfig"
    # The name in place of what may be linked from there at this moment.
    cp "$folder/libannulet_swift.a" "$2/lib/.libannulet_swift.a.new"
    # Names of functions stay, for what a fault prints.
    strip -S "$2/lib/.libannulet_swift.a.new"
    mv "$2/lib/.libannulet_swift.a.new" "$2/lib/libannulet_swift.a"
    describe >"$2/lib/pkgconfig/annulet-swift.pc"
    # SwiftPM does not see that a library has changed: what was linked with the old one goes.
    rm -rf "$home"/*/*/*/*.xctest "$home"/*/*/*/{bench,sessions}
}

generate() { # generator library folder option...
    local generator=$1 library=$2 folder=$3
    shift 3
    rm -rf "$folder"
    mkdir -p "$folder"
    (cd "$root" && "$generator" "$library" "$folder" "$@")
}

describe() {
    local version
    version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
    cat <<PC
prefix=\${pcfiledir}/../..
libdir=\${prefix}/lib

Name: annulet-swift
Description: The native library of the Swift package of Annulet
Version: $version
Libs: -L\${libdir} -lannulet_swift -lm
PC
}

case "${1:-}" in
install)
    mkdir -p "${3:-$home/prefix}"
    install "$2" "$(cd "${3:-$home/prefix}" && pwd)"
    ;;
build | test | run)
    folder=$(cd "${SWIFT_PACKAGE:-$package}" && pwd -P)
    # A toolchain of its own sees these only. Clusters of the tests have their files elsewhere.
    mkdir -p "$home"
    export SWIFT_ENV_BIND=$root:$home${ANNULET_SCENE_FOLDERS:+:$ANNULET_SCENE_FOLDERS}
    # What the tests run.
    export ANNULET_EXAMPLE=$home/swift-sessions/debug/sessions
    command=$1
    shift
    export PKG_CONFIG_PATH=$home/prefix/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
    exec "$root/scripts/swift-env.sh" run "$folder" swift "$command" \
        --scratch-path "$home/$(basename "$(dirname "$folder")")-$(basename "$folder")" \
        --configuration "${SWIFT_CONFIGURATION:-debug}" "$@"
    ;;
*)
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
