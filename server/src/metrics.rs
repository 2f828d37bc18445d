//! What the server counts, in Prometheus' text format.

use crate::disk::Room;
use crate::store::Usage;
use annulet_protocol::message::{Answer, RefusalKind};
use annulet_replica::hints::Tally;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Media type of the exposition.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) endpoint: &'static str,
    pub(crate) status: u16,
}

/// The label of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusalLabels {
    pub(crate) kind: &'static str,
}

/// Why a connection was closed that could have gone on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ClosedLabels {
    pub(crate) why: &'static str,
}

/// All counters of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) request_seconds: Histogram,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) reads: Counter,
    pub(crate) writes: Counter,
    pub(crate) refusals: Family<RefusalLabels, Counter>,
    pub(crate) reads_from_memory: Counter,
    pub(crate) write_batch: Histogram,
    pub(crate) sync_seconds: Histogram,
    pub(crate) connections: Gauge,
    pub(crate) closed: Family<ClosedLabels, Counter>,
    pub(crate) handshakes_failed: Counter,
    pub(crate) certificate_reloads: Counter,
    pub(crate) certificate_errors: Counter,
    pub(crate) clock_offset_ms: Gauge,
    pub(crate) clock_trusted: Gauge,
    pub(crate) peers_heard: Gauge,
    pub(crate) peers_disagreeing: Gauge,
    pub(crate) epoch: Gauge,
    pub(crate) epoch_lookups: Counter,
    pub(crate) epoch_unfinished: Gauge,
    pub(crate) hints_delivered: Counter,
    pub(crate) hints_damaged: Counter,
    pub(crate) copied_bytes: Counter,
    pub(crate) spread: Counter,
    pub(crate) crowded: Counter,
    pub(crate) damaged: Counter,
    pub(crate) restored: Counter,
    pub(crate) damaged_waiting: Gauge,
    hints: Hints,
    levels: Levels,
}

/// What is kept for servers that are away.
#[derive(Debug, Default)]
struct Hints {
    waiting: Gauge,
    aside: Gauge,
    bytes: Gauge,
}

/// What is looked up when somebody asks.
#[derive(Debug, Default)]
struct Levels {
    reads_queued: Gauge,
    writes_queued: Gauge,
    write_bytes_queued: Gauge,
    message_bytes: Gauge,
    memtables: Gauge,
    tables: Gauge,
    blobs: Gauge,
    cache: Gauge,
    pending_compaction: Gauge,
    keys: Gauge,
    disk_free: Gauge,
    disk_total: Gauge,
}

/// What is under way at the moment of asking.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnderWay {
    pub(crate) reads_queued: usize,
    pub(crate) writes_queued: usize,
    pub(crate) write_bytes_queued: usize,
    pub(crate) message_bytes: usize,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(50e-6, 2.0, 18));
        let mut metrics = Self {
            registry: Registry::with_prefix("annulet"),
            requests: Family::default(),
            request_seconds: seconds(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            reads: Counter::default(),
            writes: Counter::default(),
            refusals: Family::default(),
            reads_from_memory: Counter::default(),
            write_batch: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            sync_seconds: seconds(),
            connections: Gauge::default(),
            closed: Family::default(),
            handshakes_failed: Counter::default(),
            certificate_reloads: Counter::default(),
            certificate_errors: Counter::default(),
            clock_offset_ms: Gauge::default(),
            clock_trusted: Gauge::default(),
            peers_heard: Gauge::default(),
            peers_disagreeing: Gauge::default(),
            epoch: Gauge::default(),
            epoch_lookups: Counter::default(),
            epoch_unfinished: Gauge::default(),
            hints_delivered: Counter::default(),
            hints_damaged: Counter::default(),
            copied_bytes: Counter::default(),
            spread: Counter::default(),
            crowded: Counter::default(),
            damaged: Counter::default(),
            restored: Counter::default(),
            damaged_waiting: Gauge::default(),
            hints: Hints::default(),
            levels: Levels::default(),
        };
        metrics.register_traffic();
        metrics.register_upkeep();
        metrics.register_levels();
        metrics
    }

    fn register_upkeep(&mut self) {
        let Self {
            registry: r, hints, ..
        } = self;
        let help = "Records kept for servers that are away, once for each of them";
        r.register("hints_waiting", help, hints.waiting.clone());
        let help = "Records kept for others that are not handed over by themselves any more";
        r.register("hints_aside", help, hints.aside.clone());
        r.register(
            "hint_bytes",
            "Bytes of records kept for others",
            hints.bytes.clone(),
        );
        let help = "Records handed over to the servers they were kept for";
        r.register("hints_delivered", help, self.hints_delivered.clone());
        let help = "Times that a record kept for others could not be read";
        r.register("hints_damaged", help, self.hints_damaged.clone());
        let help = "Bytes of what this server copied since it is to own it";
        r.register("copied_bytes", help, self.copied_bytes.clone());
        let help = "Records of concurrent values sent on to owners that lacked something";
        r.register("spread", help, self.spread.clone());
        let help = "Writes that left a key with more than 25 concurrent values";
        r.register("crowded", help, self.crowded.clone());
        r.register(
            "damaged",
            "Stored records found damaged",
            self.damaged.clone(),
        );
        let help = "Damaged records brought back from their other owners";
        r.register("restored", help, self.restored.clone());
        let help = "Damaged records that wait to be brought back";
        r.register("damaged_waiting", help, self.damaged_waiting.clone());
    }

    /// Notes what is kept for others.
    pub(crate) fn note_hints(&self, tally: &Tally) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let waiting = tally.waiting.values().sum();
        self.hints.waiting.set(gauge(waiting));
        self.hints.aside.set(gauge(tally.aside));
        self.hints.bytes.set(gauge(tally.bytes));
    }

    fn register_traffic(&mut self) {
        let Self { registry: r, .. } = self;
        r.register(
            "requests",
            "Requests by endpoint and HTTP status",
            self.requests.clone(),
        );
        let help = "Time from headers to reply of requests for data";
        r.register("request_seconds", help, self.request_seconds.clone());
        r.register(
            "received_bytes",
            "Bytes of request bodies",
            self.received_bytes.clone(),
        );
        r.register(
            "sent_bytes",
            "Bytes of reply bodies",
            self.sent_bytes.clone(),
        );
        r.register("reads", "Operations that read", self.reads.clone());
        r.register("writes", "Operations that write", self.writes.clone());
        r.register(
            "refusals",
            "Operations refused, by kind",
            self.refusals.clone(),
        );
        let help = "Operations that read and found everything in memory";
        r.register("reads_from_memory", help, self.reads_from_memory.clone());
        r.register(
            "write_batch",
            "Writes decided together",
            self.write_batch.clone(),
        );
        r.register(
            "sync_seconds",
            "Time of a sync of the log",
            self.sync_seconds.clone(),
        );
        r.register("connections", "Open connections", self.connections.clone());
        let help = "Connections closed because they were idle, took no answers, or made room";
        r.register("connections_closed", help, self.closed.clone());
        r.register(
            "handshakes_failed",
            "TLS handshakes failed",
            self.handshakes_failed.clone(),
        );
        let help = "Changes of certificate files taken over";
        r.register(
            "certificate_reloads",
            help,
            self.certificate_reloads.clone(),
        );
        let help = "Changes of certificate files that could not be used";
        r.register("certificate_errors", help, self.certificate_errors.clone());
        let help = "Median of the peers' clocks minus this one";
        r.register("clock_offset_ms", help, self.clock_offset_ms.clone());
        let help = "Whether first-hand writes are taken under this clock";
        r.register("clock_trusted", help, self.clock_trusted.clone());
        r.register(
            "peers_heard",
            "Peers heard of lately",
            self.peers_heard.clone(),
        );
        let help = "Peers of the same epoch with another view: other cluster files";
        r.register("peers_disagreeing", help, self.peers_disagreeing.clone());
        r.register("epoch", "The epoch that is acted under", self.epoch.clone());
        let help = "Times that others were asked for an epoch that a request named";
        r.register("epoch_lookups", help, self.epoch_lookups.clone());
        let help = "Whether it is not known here yet what became of a vote for the next epoch";
        r.register("epoch_unfinished", help, self.epoch_unfinished.clone());
    }

    fn register_levels(&mut self) {
        let Self {
            registry: r,
            levels,
            ..
        } = self;
        r.register("reads_queued", "Reads queued", levels.reads_queued.clone());
        r.register(
            "writes_queued",
            "Writes queued",
            levels.writes_queued.clone(),
        );
        let help = "Bytes of writes queued";
        r.register(
            "write_bytes_queued",
            help,
            levels.write_bytes_queued.clone(),
        );
        let help = "Bytes of requests and replies in memory";
        r.register("message_bytes", help, levels.message_bytes.clone());
        let help = "Bytes written and not yet in sorted files";
        r.register("store_memtable_bytes", help, levels.memtables.clone());
        r.register(
            "store_table_bytes",
            "Bytes of sorted files",
            levels.tables.clone(),
        );
        r.register(
            "store_blob_bytes",
            "Bytes of files of long values",
            levels.blobs.clone(),
        );
        r.register(
            "store_cache_bytes",
            "Bytes of blocks in memory",
            levels.cache.clone(),
        );
        let help = "Bytes that compaction has still to rewrite";
        r.register(
            "store_pending_compaction_bytes",
            help,
            levels.pending_compaction.clone(),
        );
        r.register("store_keys", "Keys stored, roughly", levels.keys.clone());
        let help = "Bytes that may still be written to the disk under the data";
        r.register("disk_free_bytes", help, levels.disk_free.clone());
        let help = "Bytes of the disk under the data";
        r.register("disk_total_bytes", help, levels.disk_total.clone());
    }

    /// Counts the answers of a reply.
    pub(crate) fn count_answers(&self, answers: &[Answer]) {
        for answer in answers {
            if let Answer::Refused(refusal) = answer {
                self.count_refusal(refusal.kind);
            }
        }
    }

    fn count_refusal(&self, kind: RefusalKind) {
        let kind = kind.as_str();
        self.refusals.get_or_create(&RefusalLabels { kind }).inc();
    }

    /// Counts a request.
    pub(crate) fn count_request(&self, endpoint: &'static str, status: u16) {
        self.requests
            .get_or_create(&RequestLabels { endpoint, status })
            .inc();
    }

    /// The exposition.
    pub(crate) fn text(&self, under_way: UnderWay, usage: Usage, room: Room) -> String {
        let levels = &self.levels;
        for (gauge, value) in [
            (&levels.reads_queued, under_way.reads_queued as u64),
            (&levels.writes_queued, under_way.writes_queued as u64),
            (
                &levels.write_bytes_queued,
                under_way.write_bytes_queued as u64,
            ),
            (&levels.message_bytes, under_way.message_bytes as u64),
            (&levels.memtables, usage.memtables),
            (&levels.tables, usage.tables),
            (&levels.blobs, usage.blobs),
            (&levels.cache, usage.cache),
            (&levels.pending_compaction, usage.pending_compaction),
            (&levels.keys, usage.keys),
            (&levels.disk_free, room.free),
            (&levels.disk_total, room.total),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        // Only a metric that fails to write into memory could fail here.
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "the metrics cannot be encoded");
        }
        text
    }
}
