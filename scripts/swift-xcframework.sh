#!/usr/bin/env bash
# The native library of the Swift package for Apple's systems, on a Mac with Xcode:
# bindings/swift/annuletFFI.xcframework, where Package.swift looks for it.
#
#   scripts/swift-xcframework.sh
#
# It has been run on no Mac so far: nothing of it is tested.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
package=$root/bindings/swift
target=${CARGO_TARGET_DIR:-$root/target}
framework=$package/annuletFFI.xcframework
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

[[ $(uname -s) == Darwin ]] || { echo "swift-xcframework.sh: needs a Mac with Xcode" >&2; exit 1; }
export MACOSX_DEPLOYMENT_TARGET=13.0 IPHONEOS_DEPLOYMENT_TARGET=16.0

# Each slice is for one kind of system; processors of one kind are put into one library.
build() { # slice rust-target...
    local slice=$1 triple libraries=()
    shift
    for triple in "$@"; do
        rustup target add "$triple"
        cargo build --release --locked -p annulet-swift --target "$triple"
        libraries+=("$target/$triple/release/libannulet_swift.a")
    done
    mkdir -p "$work/$slice"
    lipo -create "${libraries[@]}" -output "$work/$slice/libannulet_swift.a"
    strip -S "$work/$slice/libannulet_swift.a"
}

cd "$root"
# What the package calls is written from a library of this machine.
scripts/swift.sh install release "$work/prefix"
build macos aarch64-apple-darwin x86_64-apple-darwin
build ios aarch64-apple-ios
build ios-simulator aarch64-apple-ios-sim x86_64-apple-ios
rm -rf "$framework"
headers=$package/Sources/annuletFFI
xcodebuild -create-xcframework \
    -library "$work/macos/libannulet_swift.a" -headers "$headers" \
    -library "$work/ios/libannulet_swift.a" -headers "$headers" \
    -library "$work/ios-simulator/libannulet_swift.a" -headers "$headers" \
    -output "$framework"
