//! Operations that no server answers: what they have noted and how long they take.

use super::*;
use crate::core::testing::{KEY, Rig, core};
use crate::core::touch::{TouchDone, TouchOperation};
use crate::testing::Silent;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::KeyHash;
use annulet_protocol::message::{Absent, Answer};
use annulet_protocol::record::Version;
use annulet_protocol::session::{SESSION_KEYS_MAX, Token};
use annulet_protocol::view::View;

const SHORT: Duration = Duration::from_millis(50);

/// A session in which another process has seen this.
fn handed_on(silent: &Silent, entries: Vec<(KeyHash, Known)>) -> crate::session::Session {
    let token = Token {
        cluster: silent.client.view().cluster,
        entries,
        ..Token::default()
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

/// A touch that is about to begin at level `one`.
async fn touching(silent: &Silent, bucket: &Bucket) -> (TouchOperation, Start, Start) {
    let call = bucket.call(Bytes::from_static(KEY), Some(Level::One), None);
    let start = bucket.begin_call(Side::Write, call).await.expect("sound");
    assert_eq!(start.hash, silent.hash());
    let (touch, reading) = bucket.touching(&start, None).expect("a sound touch");
    (touch, reading, start)
}

#[tokio::test]
async fn a_touch_in_a_session_goes_on_from_what_it_has_seen() {
    let silent = Silent::new().await;
    let session = handed_on(&silent, vec![(silent.hash(), version(Stamp(5)))]);
    let (touch, ..) = touching(&silent, &session.bucket("b")).await;
    let mut rig = Rig::new(core(), touch);
    let asked = rig.sent[0].node.0;
    rig.answer(asked, Answer::Absent(Absent::default()));
    assert_eq!(rig.done, None, "there is more than this owner has");
    assert_eq!(rig.core.counts.widened, 1);
}

#[tokio::test]
async fn what_a_touch_has_found_is_seen_in_its_session() {
    let silent = Silent::new().await;
    let found = |stamp| Version {
        stamp: Stamp(stamp),
        ..Version::default()
    };
    for (touched, superseded, seen, noted) in [
        (Some(5), None, Some(5), Some(5)),
        (Some(5), Some(6), Some(5), Some(6)),
        (None, None, Some(5), Some(5)),
        (None, None, None, None),
    ] {
        let session = silent.client.session();
        let bucket = session.bucket("b");
        let (_, reading, start) = touching(&silent, &bucket).await;
        let done = TouchDone {
            touched: touched.map(found),
            superseded: superseded.map(found),
            seen: seen.map(found),
        };
        bucket.note_touched((&reading, &start), &done).await;
        let noted = noted.map(|stamp| version(Stamp(stamp)));
        let state = bucket.session.as_ref().expect("its session");
        assert_eq!(state.seen(silent.hash()), noted);
    }
}

#[tokio::test]
async fn what_a_session_has_forgotten_is_not_read_of_any_one_owner() {
    let mut view = View::clone(&crate::core::testing::view(1));
    view.buckets[0].mode = Mode::Strong;
    let silent = Silent::of(view).await;
    let token = Token {
        cluster: silent.client.view().cluster,
        overflowed: true,
        entries: vec![(KeyHash(1), Known::Register(Ballot::default()))],
        ..Token::default()
    };
    let session = silent.client.session_from(&token.encode());
    let session = session.expect("a sound token");
    let any = ReadOptions {
        stale: true,
        ..ReadOptions::default()
    };
    for (bucket, stale) in [(session.bucket("b"), false), (silent.bucket(), true)] {
        let start = bucket.begin_read(Bytes::from_static(KEY), &any).await;
        let mut start = start.expect("sound");
        assert_eq!(bucket.strong_options(&start, &any).stale, stale);
        start.hash = KeyHash(1);
        assert!(
            bucket.strong_options(&start, &any).stale,
            "it is remembered"
        );
    }
}

/// How long an operation takes, and the kind of its error.
async fn failure<T>(
    silent: &Silent,
    operation: impl Future<Output = Result<T>>,
) -> (u64, ErrorKind) {
    let clock = silent.client.shared().clock;
    let began_ms = clock.now().mono_ms;
    let failed = operation.await.err().expect("nobody answers");
    (clock.now().mono_ms - began_ms, failed.kind())
}

#[tokio::test]
async fn a_bucket_that_is_not_known_is_looked_for_in_the_time_of_the_operation() {
    let silent = Silent::new().await;
    let options = ReadOptions {
        timeout: Some(SHORT),
        ..ReadOptions::default()
    };
    let bucket = silent.client.bucket("new");
    let (took_ms, kind) = failure(&silent, bucket.get_with(KEY, &options)).await;
    assert_eq!(kind, ErrorKind::Timeout);
    assert!(took_ms < 1_000, "{took_ms} ms");
}

#[tokio::test]
async fn a_crowded_session_settles_a_key_in_the_time_of_the_operation() {
    let silent = Silent::new().await;
    let session = silent.client.session();
    let bucket = session.bucket("b");
    let call = bucket.call(Bytes::from_static(KEY), Some(Level::One), Some(SHORT));
    let start = bucket.begin_call(Side::Write, call).await.expect("sound");
    let state = bucket.session.as_ref().expect("its session");
    for key in 0..SESSION_KEYS_MAX as u64 {
        let mut start = start.clone();
        start.hash = KeyHash(key);
        assert_eq!(state.observe(&start, By::Write, version(Stamp(1))), None);
    }
    let note = bucket.note(&start, By::Read, || version(Stamp(1)));
    let (took_ms, kind) = failure(&silent, note).await;
    assert_eq!(kind, ErrorKind::Timeout);
    assert!(took_ms < 1_000, "{took_ms} ms");
}
