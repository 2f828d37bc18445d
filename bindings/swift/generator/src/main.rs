//! Writes the Swift code that calls the native library, from the library itself:
//! `annulet-swift-generator LIBRARY FOLDER --swift-sources`. A crate of its own, so that the
//! library has nothing of what only writing code needs.

fn main() {
    uniffi::uniffi_bindgen_swift();
}
