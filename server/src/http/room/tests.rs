use super::*;
use tokio::time::timeout;

fn room(most: usize) -> Arc<Room> {
    Room::new(most, Arc::new(Metrics::new()))
}

/// Takes a place that was last used at this moment of the room's time.
async fn seat_of(room: &Arc<Room>, used_ms: u64) -> Seat {
    let seat = room.seat().await;
    let mut listed = room.lock();
    listed.remove(&seat.place);
    seat.place.used_ms.store(used_ms, Ordering::Relaxed);
    listed.list(seat.place.clone());
    drop(listed);
    seat
}

const LONG: Duration = Duration::from_secs(600);

/// Whether this one was told to go.
async fn must_go(seat: &Seat) -> bool {
    let closing = timeout(Duration::ZERO, seat.closing(LONG, LONG)).await;
    closing.is_ok_and(|why| why == Closing::Room)
}

/// Which of these was told to go.
async fn told(seats: &[&Seat]) -> Vec<usize> {
    let mut told = Vec::new();
    for (index, seat) in seats.iter().enumerate() {
        if must_go(seat).await {
            told.push(index);
        }
    }
    told
}

#[tokio::test]
async fn the_one_without_a_request_for_longest_goes_first() {
    let room = room(3);
    let seats = [
        seat_of(&room, 20).await,
        seat_of(&room, 10).await,
        seat_of(&room, 30).await,
    ];
    let [a, b, c] = &seats;
    assert!(room.make_room());
    assert_eq!(told(&[a, b, c]).await, [1]);
    assert!(room.make_room());
    assert_eq!(told(&[a, b, c]).await, [0], "the first was told already");
}

#[tokio::test]
async fn strangers_go_before_those_with_a_certificate() {
    let room = room(3);
    let known = seat_of(&room, 10).await;
    known.note_known();
    let stranger = seat_of(&room, 20).await;
    assert!(room.make_room());
    assert_eq!(told(&[&known, &stranger]).await, [1]);
    assert!(room.make_room());
    assert_eq!(told(&[&known, &stranger]).await, [0]);
}

#[tokio::test]
async fn nobody_goes_with_a_request_under_way() {
    let room = room(2);
    let (busy, idle) = (seat_of(&room, 10).await, seat_of(&room, 20).await);
    let under_way = busy.requests().begin();
    let other = busy.requests().begin();
    drop(other);
    assert!(room.make_room());
    assert_eq!(told(&[&busy, &idle]).await, [1]);
    assert!(!room.make_room(), "only busy ones are left");
    drop(under_way);
    assert!(room.make_room());
    assert_eq!(told(&[&busy]).await, [0]);
}

#[tokio::test]
async fn a_use_counts_although_nobody_was_told_of_it() {
    let room = room(2);
    let (first, second) = (seat_of(&room, 0).await, seat_of(&room, 0).await);
    first.place.used_ms.store(1_000, Ordering::Relaxed);
    assert!(room.make_room());
    assert_eq!(told(&[&first, &second]).await, [1]);
}

#[tokio::test]
async fn who_got_a_request_in_the_meantime_stays_and_is_listed_again() {
    let room = room(1);
    let seat = seat_of(&room, 10).await;
    assert!(room.make_room());
    let under_way = seat.requests().begin();
    assert!(!must_go(&seat).await);
    drop(under_way);
    assert!(room.make_room(), "it is still there to be told");
    assert!(must_go(&seat).await);
}

#[tokio::test]
async fn a_newcomer_gets_the_place_of_one_that_leaves() {
    let room = room(1);
    let first = room.seat().await;
    let leaving = async {
        assert_eq!(first.closing(LONG, LONG).await, Closing::Room);
        drop(first);
    };
    let (second, ()) = timeout(LONG, async { tokio::join!(room.seat(), leaving) })
        .await
        .unwrap();
    assert_eq!(room.metrics.connections.get(), 1);
    drop(second);
    assert_eq!(room.metrics.connections.get(), 0);
    assert!(room.lock().order.is_empty() && room.lock().worths.is_empty());
}

#[tokio::test]
async fn idle_and_stalled_connections_are_told_apart_from_busy_ones() {
    let room = room(4);
    let short = Duration::from_millis(1);
    let idle = room.seat().await;
    assert_eq!(idle.closing(short, LONG).await, Closing::Idle);
    let busy = room.seat().await;
    let mut under_way = busy.requests().begin();
    let closing = timeout(20 * short, busy.closing(short, short)).await;
    assert!(closing.is_err(), "a request may take its time");
    under_way.answer();
    assert_eq!(busy.closing(LONG, short).await, Closing::Stalled);
    drop(under_way);
    assert_eq!(busy.closing(short, LONG).await, Closing::Idle);
}

#[tokio::test]
async fn an_answer_that_begins_while_its_connection_is_watched_can_stall_as_well() {
    let room = room(1);
    let seat = room.seat().await;
    let requests = seat.requests();
    let later = async {
        tokio::task::yield_now().await;
        let mut under_way = requests.begin();
        under_way.answer();
        under_way
    };
    let closing = timeout(LONG, seat.closing(LONG, Duration::from_millis(5)));
    let (why, _under_way) = tokio::join!(closing, later);
    assert_eq!(why, Ok(Closing::Stalled));
}
