//! Whole clusters from seeds whose members come and go, and lose their disks. `SEEDS=n` runs n of
//! them, `SEED=n` replays one and tells its story.

use annulet_tests::seeds::Seeds;
use annulet_tests::sim::{Coverage, Fault, Options};

const SEEDS: Seeds = Seeds {
    test: "members_that_come_and_go_lose_nothing",
    options: Options {
        traced: false,
        fault: Fault::None,
        elastic: true,
    },
    count: 1_500,
    covered: 500,
    missing: Coverage::missing_of_members,
};

#[test]
fn members_that_come_and_go_lose_nothing() {
    SEEDS.run();
}

#[test]
fn a_seed_of_members_tells_the_same_story_twice() {
    SEEDS.tell_twice(&[1, 17, 400]);
}
