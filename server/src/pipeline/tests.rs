use super::*;
use crate::cluster_file::{BucketEntry, ClusterFile, MemberEntry};
use crate::disk::Bounds;
use crate::store::Entry;
use annulet_protocol::bucket::{Durability, Mode};
use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::{ClusterId, Incarnation, NodeId, OpId};
use annulet_protocol::level::Level;
use annulet_protocol::message::{Read, Source, Write};
use annulet_protocol::record::{Origin, Record};
use annulet_protocol::view::View;
use annulet_replica::memory::MemoryStore;
use annulet_replica::rules::Task;
use annulet_replica::store::{Batch, Change, Family, Slice, Span, Store, StoreError};
use bytes::Bytes;
use std::sync::Condvar;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

const GROUP: u32 = 1;
const ASYNC: u32 = 2;
/// Longer than any of these tests should take.
const PATIENCE: Duration = Duration::from_secs(20);

const NO_BOUNDS: Bounds = Bounds {
    reserve_bytes: 0,
    soft_percent: 100,
    ballast_bytes: 0,
};

/// A store in memory whose syncs are counted, held up or broken.
#[derive(Default)]
struct Probe {
    inner: MemoryStore,
    cold: AtomicBool,
    broken: AtomicBool,
    reads: AtomicUsize,
    syncs: AtomicUsize,
    /// Syncs begun, and whether they are held.
    door: Mutex<(usize, bool)>,
    moved: Condvar,
}

impl Probe {
    fn hold(&self) {
        self.door.lock().unwrap().1 = true;
    }

    fn release(&self) {
        self.door.lock().unwrap().1 = false;
        self.moved.notify_all();
    }

    fn syncs(&self) -> usize {
        self.syncs.load(Ordering::SeqCst)
    }

    /// Waits until so many syncs have begun.
    async fn sync_begun(&self, count: usize) {
        eventually(|| self.door.lock().unwrap().0 >= count).await;
    }
}

impl Store for Probe {
    fn read(&self, family: Family, keys: &[Bytes]) -> Vec<Entry> {
        self.reads.fetch_add(keys.len(), Ordering::SeqCst);
        self.inner.read(family, keys)
    }

    fn range(&self, family: Family, span: &Span) -> Result<Slice, StoreError> {
        self.inner.range(family, span)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.inner.write(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut door = self.door.lock().unwrap();
        door.0 += 1;
        while door.1 {
            door = self.moved.wait(door).unwrap();
        }
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("the disk is gone".into()));
        }
        self.inner.sync()?;
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl Engine for Probe {
    fn read_cached(&self, keys: &[Bytes]) -> Option<Vec<Entry>> {
        let cold = self.cold.load(Ordering::SeqCst);
        (!cold).then(|| self.read(Family::Records, keys))
    }
}

fn served(view: View) -> ServedView {
    ServedView::new(Arc::new(view)).unwrap()
}

struct Bench {
    probe: Arc<Probe>,
    pipeline: Arc<Pipeline>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A failed test must not leave the writer at a closed door.
        self.probe.release();
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default(), 1 << 30)
    }

    fn with(limits: Limits, memory: usize) -> Self {
        let node = NodeId(1);
        let members = vec![MemberEntry::plain(node.0)];
        let mut file = ClusterFile::new(ClusterId([1; 16]), "test", members);
        file.buckets = vec![BucketEntry {
            merge: None,
            number: ASYNC,
            name: "async".into(),
            mode: Mode::Lww,
            replicas: 1,
            durability: Durability::Async,
            read_level: Level::One,
            write_level: Level::One,
            ttl_ms: None,
        }];
        let probe = Arc::new(Probe::default());
        let parts = Parts {
            replica: Replica::new(node, Incarnation::default()),
            engine: probe.clone(),
            disk: Disk::new(std::path::Path::new("/"), NO_BOUNDS),
            current: Arc::new(Current::new(Arc::new(served(file.view().unwrap())))),
            metrics: Arc::new(Metrics::new()),
            memory: Budget::new(memory),
        };
        let pipeline = Arc::new(Pipeline::start(parts, &limits).unwrap());
        Self { probe, pipeline }
    }

    async fn ask(&self, operations: Vec<Operation>) -> Result<Vec<Answer>, Failed> {
        self.ask_within(operations, PATIENCE).await
    }

    async fn ask_within(
        &self,
        operations: Vec<Operation>,
        budget: Duration,
    ) -> Result<Vec<Answer>, Failed> {
        let arrived = clock::now();
        let deadline = arrived + budget;
        let answered = self.pipeline.answer(1, operations, arrived, deadline).await;
        answered.map(|answered| answered.answers)
    }

    /// Asks on a task of its own. The answer comes with how many syncs were done by then.
    fn spawn(&self, operations: Vec<Operation>) -> tokio::task::JoinHandle<(Vec<Answer>, usize)> {
        let (pipeline, probe) = (self.pipeline.clone(), self.probe.clone());
        tokio::spawn(async move {
            let arrived = clock::now();
            let answered = pipeline
                .answer(1, operations, arrived, arrived + PATIENCE)
                .await;
            (answered.unwrap().answers, probe.syncs())
        })
    }
}

async fn eventually(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it never came to pass");
}

fn put(bucket: u32, key: &'static str, stamp: u64, value: Bytes) -> Operation {
    let op = OpId {
        client: Incarnation([9; 16]),
        sequence: stamp,
        first_sent_ms: 1,
    };
    let origin = Origin {
        stamp: Stamp::at(stamp),
        op,
    };
    Operation::Write(Write {
        bucket,
        key: key.into(),
        source: Source::FirstHand,
        record: Record::seal(bucket, key.as_bytes(), origin, Some(value), None),
        gone: false,
    })
}

fn get(bucket: u32, key: &'static str) -> Operation {
    Operation::Read(Read::new(bucket, key.into()))
}

fn kinds(answers: &[Answer]) -> Vec<&'static str> {
    let kind = |answer: &Answer| match answer {
        Answer::Found(_) | Answer::FoundHead(_) | Answer::Siblings(_) => "found",
        Answer::Absent(_) => "absent",
        Answer::Written(_) => "written",
        Answer::Minted(_) => "minted",
        Answer::Lacking(_) => "lacking",
        Answer::Page(_) => "page",
        Answer::Copied(_) => "copied",
        Answer::Promise(_) => "promise",
        Answer::Accepted(_) => "accepted",
        Answer::Outbid(_) => "outbid",
        Answer::Refused(refusal) => refusal.kind.as_str(),
        Answer::Unknown => "unknown",
    };
    answers.iter().map(kind).collect()
}

#[tokio::test]
async fn a_write_is_acknowledged_after_its_sync_and_so_is_who_reads_it() {
    let bench = Bench::new();
    bench.probe.hold();
    let write = bench.spawn(vec![put(GROUP, "a", 1, "1".into())]);
    bench.probe.sync_begun(1).await;
    let before = bench.probe.reads.load(Ordering::SeqCst);
    let read = bench.spawn(vec![get(GROUP, "a")]);
    let other = bench.spawn(vec![get(GROUP, "b")]);
    let (answers, syncs) = other.await.unwrap();
    assert_eq!(
        (kinds(&answers), syncs),
        (vec!["absent"], 0),
        "nothing to wait for"
    );
    eventually(|| bench.probe.reads.load(Ordering::SeqCst) >= before + 2).await;
    assert!(!write.is_finished() && !read.is_finished());
    bench.probe.release();
    let (answers, syncs) = write.await.unwrap();
    assert_eq!((kinds(&answers), syncs), (vec!["written"], 1));
    let (answers, syncs) = read.await.unwrap();
    assert_eq!((kinds(&answers), syncs), (vec!["found"], 1));
}

#[tokio::test]
async fn writes_that_come_during_a_sync_share_the_next_one() {
    const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let bench = Bench::new();
    bench.probe.hold();
    let first = bench.spawn(vec![put(GROUP, "first", 1, "1".into())]);
    bench.probe.sync_begun(1).await;
    let more = KEYS.map(|key| bench.spawn(vec![put(GROUP, key, 1, "1".into())]));
    eventually(|| bench.pipeline.under_way().writes_queued == 1 + KEYS.len()).await;
    bench.probe.release();
    assert!(first.await.unwrap().1 >= 1);
    for write in more {
        assert_eq!(kinds(&write.await.unwrap().0), ["written"]);
    }
    assert_eq!(bench.probe.syncs(), 2);
    assert_eq!(bench.pipeline.under_way().writes_queued, 0);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_the_server_hears_of_it() {
    let bench = Bench::new();
    bench.probe.broken.store(true, Ordering::SeqCst);
    bench.probe.hold();
    let (pipeline, arrived) = (bench.pipeline.clone(), clock::now());
    let write = vec![put(GROUP, "a", 1, "1".into())];
    let write = tokio::spawn(async move {
        let answered = pipeline.answer(1, write, arrived, arrived + PATIENCE).await;
        answered.map(|answered| answered.answers)
    });
    bench.probe.sync_begun(1).await;
    bench.probe.release();
    assert_eq!(write.await.unwrap(), Err(Failed));
    bench.pipeline.failure().await;
    assert!(
        bench
            .pipeline
            .failed()
            .unwrap()
            .contains("the disk is gone")
    );
    assert_eq!(
        bench.ask(vec![get(GROUP, "a")]).await,
        Err(Failed),
        "it was never durable"
    );
    assert_eq!(bench.ask(vec![get(GROUP, "b")]).await, Err(Failed));
    assert_eq!(
        bench.ask(vec![put(GROUP, "b", 1, "1".into())]).await,
        Err(Failed)
    );
    bench.pipeline.stop();
}

#[tokio::test]
async fn writes_of_async_buckets_are_acknowledged_at_once_and_synced_soon() {
    let bench = Bench::new();
    bench.probe.hold();
    let answers = bench
        .ask(vec![put(ASYNC, "a", 1, "1".into())])
        .await
        .unwrap();
    assert_eq!((kinds(&answers), bench.probe.syncs()), (vec!["written"], 0));
    let answers = bench.ask(vec![get(ASYNC, "a")]).await.unwrap();
    assert_eq!((kinds(&answers), bench.probe.syncs()), (vec!["found"], 0));
    bench.probe.release();
    eventually(|| bench.probe.syncs() == 1).await;
    let answers = bench
        .ask(vec![put(ASYNC, "b", 1, "1".into())])
        .await
        .unwrap();
    assert_eq!(kinds(&answers), ["written"]);
    bench.pipeline.stop();
    assert_eq!(bench.probe.syncs(), 2, "stopping syncs what is left");
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_time_to_come_back() {
    let limits = Limits {
        operations_queued: 2,
        ..Limits::default()
    };
    let bench = Bench::with(limits, 1 << 30);
    bench.probe.hold();
    let two = vec![
        put(GROUP, "a", 1, "1".into()),
        put(GROUP, "b", 1, "1".into()),
    ];
    let two = bench.spawn(two);
    bench.probe.sync_begun(1).await;
    let answers = bench
        .ask(vec![put(GROUP, "c", 1, "1".into()), get(GROUP, "z")])
        .await
        .unwrap();
    assert_eq!(kinds(&answers), ["overloaded", "absent"]);
    let Answer::Refused(refusal) = &answers[0] else {
        unreachable!()
    };
    assert!(refusal.retry_after_ms.is_some_and(|ms| ms >= 10));
    bench.probe.release();
    assert_eq!(kinds(&two.await.unwrap().0), ["written", "written"]);
    let answers = bench
        .ask(vec![put(GROUP, "c", 1, "1".into())])
        .await
        .unwrap();
    assert_eq!(kinds(&answers), ["written"]);
}

#[tokio::test]
async fn a_queue_is_bounded_in_bytes_too() {
    let limits = Limits {
        write_bytes_queued: 1000,
        ..Limits::default()
    };
    let bench = Bench::with(limits, 1 << 30);
    bench.probe.hold();
    let large = bench.spawn(vec![put(GROUP, "a", 1, Bytes::from(vec![1; 5000]))]);
    bench.probe.sync_begun(1).await;
    let answers = bench
        .ask(vec![put(GROUP, "b", 1, "1".into())])
        .await
        .unwrap();
    assert_eq!(kinds(&answers), ["overloaded"]);
    bench.probe.release();
    assert_eq!(
        kinds(&large.await.unwrap().0),
        ["written"],
        "alone it may be larger"
    );
}

#[tokio::test]
async fn work_whose_time_is_over_is_dropped() {
    let bench = Bench::new();
    bench.probe.hold();
    let first = bench.spawn(vec![put(GROUP, "a", 1, "1".into())]);
    bench.probe.sync_begun(1).await;
    let late = vec![put(GROUP, "b", 1, "1".into()), get(GROUP, "b")];
    let late = bench.ask_within(late, Duration::ZERO);
    let (late, ()) = tokio::join!(late, async { bench.probe.release() });
    assert_eq!(kinds(&late.unwrap()), ["too_late", "too_late"]);
    assert_eq!(kinds(&first.await.unwrap().0), ["written"]);
    let answers = bench.ask(vec![get(GROUP, "b")]).await.unwrap();
    assert_eq!(kinds(&answers), ["absent"]);
    bench.probe.cold.store(true, Ordering::SeqCst);
    let late = bench
        .ask_within(vec![get(GROUP, "a")], Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(kinds(&late), ["too_late"]);
}

#[tokio::test]
async fn what_is_to_be_noted_and_comes_too_late_was_not_noted() {
    let bench = Bench::new();
    let note = |deadline| {
        let note = Task::Note {
            key: Bytes::from_static(b"key"),
            value: Some(Bytes::from_static(b"noted")),
            durable: true,
            rests_on: 0,
        };
        let pipeline = &bench.pipeline;
        pipeline.note_until(vec![Mutation::Task(note)], deadline)
    };
    assert_eq!(note(clock::now()).await, Ok(None));
    assert!(bench.probe.inner.entries(Family::Notes).is_empty());
    let noted = note(clock::now() + PATIENCE).await.unwrap();
    assert_eq!(kinds(&noted.unwrap()), ["written"]);
    assert_eq!(bench.probe.inner.entries(Family::Notes).len(), 1);
}

#[tokio::test]
async fn work_that_would_be_done_too_late_is_refused_while_the_lane_is_busy() {
    const SLOW: Duration = Duration::from_millis(600);
    const SHORT: Duration = Duration::from_millis(1_000);
    let bench = Bench::new();
    let stay_slow = async || {
        let since = clock::now();
        eventually(|| clock::since(since) >= SLOW).await;
        bench.probe.release();
    };
    bench.probe.hold();
    let first = bench.spawn(vec![put(GROUP, "a", 1, "1".into())]);
    bench.probe.sync_begun(1).await;
    stay_slow().await;
    first.await.unwrap();
    bench.probe.hold();
    let second = bench.spawn(vec![put(GROUP, "b", 1, "1".into())]);
    bench.probe.sync_begun(2).await;
    let late = vec![put(GROUP, "c", 1, "1".into())];
    let late = bench.ask_within(late, SHORT).await.unwrap();
    assert_eq!(kinds(&late), ["overloaded"]);
    let Answer::Refused(refusal) = &late[0] else {
        unreachable!()
    };
    assert!(refusal.retry_after_ms.is_some_and(|ms| ms >= 300));
    let patient = bench.spawn(vec![put(GROUP, "d", 1, "1".into())]);
    stay_slow().await;
    assert_eq!(kinds(&second.await.unwrap().0), ["written"]);
    assert_eq!(kinds(&patient.await.unwrap().0), ["written"]);
    // A lane with nothing to do takes anything.
    let short = vec![put(GROUP, "e", 1, "1".into())];
    let short = bench.ask_within(short, SHORT).await.unwrap();
    assert_eq!(kinds(&short), ["written"]);
}

#[tokio::test]
async fn a_mixed_request_is_answered_in_order() {
    let bench = Bench::new();
    let operations = vec![
        get(GROUP, "a"),
        put(GROUP, "b", 1, "1".into()),
        Operation::Unknown,
        get(77, "c"),
        put(GROUP, "", 1, "1".into()),
        put(ASYNC, "d", 1, "1".into()),
    ];
    let answers = bench.ask(operations).await.unwrap();
    let expected = [
        "absent",
        "written",
        "unsupported",
        "unknown_bucket",
        "too_large",
        "written",
    ];
    assert_eq!(kinds(&answers), expected);
    assert_eq!(bench.pipeline.load().in_flight, 0);
    assert_eq!(bench.ask(Vec::new()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn what_is_not_in_memory_is_read_by_the_pool_and_counts_against_memory() {
    let bench = Bench::with(Limits::default(), 15_000);
    let long = |fill: u8| Bytes::from(vec![fill; 10_000]);
    let writes = vec![put(GROUP, "a", 1, long(1)), put(GROUP, "b", 1, long(2))];
    assert_eq!(
        kinds(&bench.ask(writes).await.unwrap()),
        ["written", "written"]
    );
    bench.probe.cold.store(true, Ordering::SeqCst);
    let arrived = clock::now();
    let reads = vec![get(GROUP, "a"), get(GROUP, "b"), get(GROUP, "c")];
    let answered = bench
        .pipeline
        .answer(1, reads, arrived, arrived + PATIENCE)
        .await
        .unwrap();
    assert_eq!(kinds(&answered.answers), ["found", "overloaded", "absent"]);
    assert!(bench.pipeline.under_way().message_bytes >= 10_000);
    drop(answered);
    assert_eq!(bench.pipeline.under_way().message_bytes, 0);
    for _ in 0..200 {
        let answers = bench.ask(vec![get(GROUP, "b")]).await.unwrap();
        assert_eq!(kinds(&answers), ["found"], "however cold it has become");
    }
}

#[tokio::test]
async fn a_distrusted_clock_takes_no_first_hand_writes() {
    let bench = Bench::new();
    bench.pipeline.trust_clock(false);
    let operations = vec![put(GROUP, "a", 1, "1".into()), get(GROUP, "a")];
    let answers = bench.ask(operations).await.unwrap();
    assert_eq!(kinds(&answers), ["skewed_clock", "absent"]);
}

#[tokio::test]
async fn a_new_view_takes_effect_after_what_was_admitted_before_it() {
    let bench = Bench::new();
    let current = Arc::clone(&bench.pipeline.shared.parts.current);
    let mut next = View::clone(&current.load().view);
    next.epoch += 1;
    next.buckets.retain(|bucket| bucket.number != GROUP);
    let next = Arc::new(served(next));
    bench.probe.hold();
    let first = bench.spawn(vec![put(GROUP, "first", 1, "1".into())]);
    bench.probe.sync_begun(1).await;
    let before = bench.spawn(vec![put(GROUP, "before", 1, "1".into())]);
    eventually(|| bench.pipeline.under_way().writes_queued == 2).await;
    let note = Change::Put(Family::Notes, "note".into(), "1".into());
    let installing = {
        let (pipeline, next) = (Arc::clone(&bench.pipeline), Arc::clone(&next));
        tokio::spawn(async move { pipeline.install(vec![note], Some(next), Vec::new()).await })
    };
    eventually(|| {
        bench
            .pipeline
            .writer
            .0
            .read()
            .unwrap()
            .as_ref()
            .unwrap()
            .len()
            == 2
    })
    .await;
    let after = bench.spawn(vec![put(GROUP, "after", 1, "1".into())]);
    assert_eq!(current.load().view.epoch, 1, "it waits its turn");
    bench.probe.release();
    assert_eq!(kinds(&first.await.unwrap().0), ["written"]);
    assert_eq!(kinds(&before.await.unwrap().0), ["written"]);
    installing.await.unwrap().unwrap();
    assert_eq!(current.load().view.epoch, 2);
    let note = bench.probe.inner.read(Family::Notes, &["note".into()]);
    assert_eq!(note, [Ok(Some(Bytes::from("1")))]);
    assert_eq!(kinds(&after.await.unwrap().0), ["unknown_bucket"]);
}

#[tokio::test]
async fn a_view_whose_notes_cannot_be_made_durable_takes_no_effect() {
    let bench = Bench::new();
    bench.probe.broken.store(true, Ordering::SeqCst);
    let current = Arc::clone(&bench.pipeline.shared.parts.current);
    let mut next = View::clone(&current.load().view);
    next.epoch += 1;
    let note = Change::Put(Family::Notes, "note".into(), "1".into());
    let installed = bench
        .pipeline
        .install(vec![note], Some(Arc::new(served(next))), Vec::new());
    assert_eq!(installed.await, Err(Failed));
    assert_eq!(current.load().view.epoch, 1);
    bench.pipeline.failure().await;
}
