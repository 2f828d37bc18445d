//! Whole clusters from seeds. `SEEDS=n` runs n of them, `SEED=n` replays one and tells its story.

use annulet_tests::seeds::Seeds;
use annulet_tests::sim::{Coverage, Fault, Options};

const SEEDS: Seeds = Seeds {
    test: "seeds_keep_every_promise",
    options: Options {
        traced: false,
        fault: Fault::None,
        elastic: false,
    },
    count: 10_000,
    covered: 1_000,
    missing: Coverage::missing,
};

#[test]
fn seeds_keep_every_promise() {
    SEEDS.run();
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    SEEDS.tell_twice(&[1, 17, 400, 1_234]);
}
