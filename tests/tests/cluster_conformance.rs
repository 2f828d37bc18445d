//! The cases that clients of all languages have in common, by the façade that their packages wrap.
#![cfg(feature = "cluster")]

use annulet_tests::conformance::{Scene, run};

#[test]
fn the_facade_does_what_every_language_does() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let scene = runtime.block_on(Scene::start());
    let failed: Vec<_> = run(&scene)
        .into_iter()
        .map(|failed| format!("{}\n  {}", failed.case, failed.why))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
