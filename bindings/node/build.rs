//! Node's symbols are there when the module is loaded, not when it is linked.

fn main() {
    napi_build::setup();
}
