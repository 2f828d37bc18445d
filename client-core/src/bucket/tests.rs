//! Operations that no server answers: what they have noted and how long they take.

use super::*;
use crate::core::testing::KEY;
use crate::testing::Silent;
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::record::Version;
use annulet_protocol::session::Token;

const SHORT: Duration = Duration::from_millis(50);

/// A session in which another process has seen this.
fn handed_on(silent: &Silent, entries: Vec<(KeyHash, Known)>) -> crate::session::Session {
    let token = Token {
        cluster: silent.client.view().cluster,
        overflowed: false,
        entries,
    };
    let session = silent.client.session_from(&token.encode());
    session.expect("a sound token")
}

fn version(stamp: Stamp) -> Known {
    Known::Version(Version {
        stamp,
        ..Version::default()
    })
}

#[tokio::test]
async fn a_write_in_a_session_is_stamped_after_what_another_process_saw() {
    let silent = Silent::new().await;
    let shared = silent.client.shared();
    let ahead = Stamp::at(shared.clock.now().wall_ms + 60_000);
    let session = handed_on(&silent, vec![(silent.hash(), version(ahead))]);
    let options = WriteOptions {
        timeout: Some(SHORT),
        ..WriteOptions::default()
    };
    let put = session.bucket("b").put_with(KEY, "new", &options).await;
    assert!(put.is_err(), "nobody answers");
    let wall_ms = shared.clock.now().wall_ms;
    let next = shared.core().clock.mint(silent.hash(), wall_ms);
    assert!(
        next > ahead.next(),
        "the put was stamped just after it: {next:?}"
    );
}

#[tokio::test]
async fn a_session_that_is_handed_on_moves_the_clock() {
    let silent = Silent::new().await;
    let shared = silent.client.shared();
    let ahead = Stamp::at(shared.clock.now().wall_ms + 400);
    handed_on(&silent, vec![(silent.hash(), version(ahead))]);
    let wall_ms = shared.clock.now().wall_ms;
    assert!(shared.core().clock.mint(KeyHash(1), wall_ms) > ahead);
}
