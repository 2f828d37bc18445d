//! A coordinator under test: what it sent, what it said, and what it is told.
//!
//! ```text
//! view of epoch 1   bucket `b`, owners 1, 2, 3
//! view of epoch 2   bucket `b`, owners 1, 2, 4
//! joint view        of epoch 2: bucket `b`, owners 1, 2, 3, and 1, 2, 4 to be
//! grown view        of epoch 2: as in epoch 1, and another bucket
//! wide view         bucket `b`, owners 1, 2, 3; fallbacks 4, 5, 6
//! ```

use super::client::{Call, Core, Home, Now, Start};
use super::{Attempt, Coordinator, Effect, Effects, Response, Send, SendFailure};
use crate::error::{Error, ErrorKind};
use annulet_protocol::bucket::Bucket;
use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::{ClusterId, Incarnation, NodeId, OpId};
use annulet_protocol::level::Level;
use annulet_protocol::message::{Answer, Operation, Refusal, RefusalKind, Source, Written};
use annulet_protocol::record::{Origin, Record};
use annulet_protocol::table::{Joint, RegionTable, Table};
use annulet_protocol::view::{Member, MemberState, Tip, View};
use annulet_ring::quorum::Side;
use bytes::Bytes;
use std::sync::Arc;

pub(crate) const WALL_MS: u64 = 1_000_000;
pub(crate) const TIMEOUT_MS: u64 = 1_000;
pub(crate) const KEY: &[u8] = b"k";
pub(crate) const BUCKET: u32 = 1;

/// The view of this epoch.
pub(crate) fn view(epoch: u64) -> Arc<View> {
    let member = |id| Member {
        id: NodeId(id),
        address: format!("server-{id}:1"),
        capacity: 1,
        zone: String::new(),
        region: String::new(),
        state: MemberState::Active,
    };
    let last = if epoch == 1 { 2u32 } else { 3 };
    let view = View {
        cluster: ClusterId::default(),
        name: "test".into(),
        seed: 0,
        epoch,
        value_bytes_max: 1_000,
        members: (1..=4).map(member).collect(),
        table: Table {
            partitions: 1,
            epoch,
            list_length: 3,
            regions: vec![RegionTable::new("", 3, 4, [0, 1, last])],
            ..Table::default()
        },
        buckets: vec![Bucket::new(BUCKET, "b")],
        tip: Tip::default(),
    };
    view.validate().expect("a sound view");
    Arc::new(view)
}

/// The view of epoch 1 with one owner about to be another.
pub(crate) fn joint_view() -> Arc<View> {
    let mut joint = View::clone(&view(1));
    joint.epoch = 2;
    let next = Joint {
        partition: 0,
        region: String::new(),
        next: vec![0, 1, 3],
    };
    joint.table.open(next, 2);
    joint.validate().expect("a sound view");
    Arc::new(joint)
}

/// The view of epoch 1 with another bucket, and the same owners.
pub(crate) fn grown_view() -> Arc<View> {
    let mut grown = View::clone(&view(1));
    grown.epoch = 2;
    grown.buckets.push(Bucket::new(BUCKET + 1, "c"));
    Arc::new(grown)
}

/// A view of six nodes and two partitions: whatever lies in the first has owners in the second that
/// stand in for its own.
pub(crate) fn wide_view() -> Arc<View> {
    let mut wide = View::clone(&view(1));
    let member = |id| Member {
        id: NodeId(id),
        ..wide.members[0].clone()
    };
    let more = [5, 6].map(member);
    wide.members.extend(more);
    wide.table.partitions = 2;
    let first = wide.hash(BUCKET, KEY).partition(2) == 0;
    let lists: [[u32; 3]; 2] = match first {
        true => [[0, 1, 2], [3, 4, 5]],
        false => [[3, 4, 5], [0, 1, 2]],
    };
    wide.table.regions[0] = RegionTable::new("", 3, 6, lists.into_iter().flatten());
    wide.validate().expect("a sound view");
    Arc::new(wide)
}

/// The view of epoch 2 without the bucket.
pub(crate) fn view_without_bucket() -> Arc<View> {
    let mut without = View::clone(&view(2));
    without.buckets.clear();
    Arc::new(without)
}

/// A client that knows the view of epoch 1.
pub(crate) fn core() -> Core {
    core_of(view(1))
}

/// A client that knows this view.
pub(crate) fn core_of(view: Arc<View>) -> Core {
    let mut core = Core::new(Incarnation([7; 16]), view, Home::default());
    core.check_one_in = 0;
    core.tries_others = false;
    core
}

pub(crate) const NOW: Now = Now {
    mono_ms: 50,
    wall_ms: WALL_MS,
};

/// Begins an operation on the one key.
pub(crate) fn begin(core: &mut Core, side: Side, level: Level) -> Start {
    let call = Call {
        bucket: "b",
        key: Bytes::from_static(KEY),
        level: Some(level),
        timeout_ms: TIMEOUT_MS,
    };
    core.begin(NOW, side, call).expect("a sound call")
}

/// A record of the key by another client: stamped so far from [`WALL_MS`].
pub(crate) fn record(stamp_ms: u64, expires_at_ms: Option<u64>) -> Record {
    let op = OpId {
        client: Incarnation([8; 16]),
        sequence: stamp_ms,
        first_sent_ms: 0,
    };
    let origin = Origin {
        stamp: Stamp::at(WALL_MS + stamp_ms),
        op,
    };
    let value = Some(Bytes::from(format!("value {stamp_ms}")));
    Record::seal(BUCKET, KEY, origin, value, expires_at_ms)
}

pub(crate) fn refusal(kind: RefusalKind) -> Answer {
    Answer::Refused(Refusal::new(kind, kind.as_str()))
}

pub(crate) const WRITTEN: Answer = Answer::Written(Written { superseded: None });

pub(crate) fn unanswered() -> SendFailure {
    SendFailure::Unanswered("no answer".into())
}

pub(crate) fn not_sent() -> SendFailure {
    SendFailure::NotSent("refused".into())
}

/// A whole request refused by a server that has too much to do: asking again takes a retry.
pub(crate) fn too_busy() -> SendFailure {
    SendFailure::Rejected(Error::new(ErrorKind::Overloaded, "too much to do"), None)
}

/// See the module.
pub(crate) struct Rig<C: Coordinator> {
    pub(crate) core: Core,
    pub(crate) now: Now,
    pub(crate) machine: C,
    /// Every message so far.
    pub(crate) sent: Vec<Send>,
    /// Messages whose answers it gave up.
    pub(crate) cancelled: Vec<(NodeId, Attempt)>,
    pub(crate) done: Option<Result<C::Done, Error>>,
    /// The epoch that it asked for last.
    pub(crate) wanted: Option<u64>,
}

impl<C: Coordinator> Rig<C> {
    /// Starts a coordinator.
    pub(crate) fn new(core: Core, machine: C) -> Self {
        let mut rig = Self {
            core,
            now: NOW,
            machine,
            sent: Vec::new(),
            cancelled: Vec::new(),
            done: None,
            wanted: None,
        };
        let effects = rig.machine.start(&mut rig.core, rig.now);
        rig.take(effects);
        rig
    }

    fn take(&mut self, effects: Effects<C::Done>) {
        for effect in effects {
            match effect {
                Effect::Send(send) => self.sent.push(send),
                Effect::Cancel(node, attempt) => self.cancelled.push((node, attempt)),
                Effect::NeedView(epoch) => self.wanted = Some(epoch),
                Effect::Complete(result) => {
                    assert!(self.done.is_none(), "a second result");
                    self.done = Some(result);
                }
            }
        }
    }

    /// The last message to a node answers, or does not.
    pub(crate) fn respond(&mut self, node: u64, epoch: u64, response: Response) {
        let last = self
            .sent
            .iter()
            .rev()
            .find(|send| send.node == NodeId(node));
        let attempt = last
            .unwrap_or_else(|| panic!("nothing was sent to {node}"))
            .attempt;
        self.respond_to(node, attempt, epoch, response);
    }

    /// One message to a node answers, or does not.
    pub(crate) fn respond_to(
        &mut self,
        node: u64,
        attempt: Attempt,
        epoch: u64,
        response: Response,
    ) {
        let epoch = response.is_ok().then_some(epoch);
        let from = (NodeId(node), attempt);
        let effects = self
            .machine
            .handle_response(&mut self.core, self.now, from, epoch, response);
        self.take(effects);
    }

    /// A node of epoch 1 answers.
    pub(crate) fn answer(&mut self, node: u64, answer: Answer) {
        self.respond(node, 1, Ok(answer));
    }

    /// Time passes, and the coordinator is woken whenever it wants to be.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms + ms;
        while let Some(wake_ms) = self
            .machine
            .next_wake_ms()
            .filter(|wake_ms| *wake_ms <= end_ms)
        {
            self.set_time(wake_ms.max(self.now.mono_ms));
            let effects = self.machine.handle_timer(&mut self.core, self.now);
            self.take(effects);
        }
        self.set_time(end_ms);
    }

    fn set_time(&mut self, mono_ms: u64) {
        self.now.wall_ms += mono_ms - self.now.mono_ms;
        self.now.mono_ms = mono_ms;
    }

    /// A view comes in.
    pub(crate) fn view(&mut self, view: &Arc<View>) {
        self.core.install(Arc::clone(view));
        let effects = self.machine.handle_view(&mut self.core, self.now, view);
        self.take(effects);
    }

    /// What was sent to whom since the message of this index, in order of node: `read`, `head`,
    /// `digest`, `hinted`, `write`, `repair`, `gone`, `hint`.
    pub(crate) fn sent_since(&self, index: usize) -> Vec<(u64, &'static str)> {
        let kind = |operation: &Operation| match operation {
            Operation::Read(read) if read.head_only => "head",
            Operation::Read(read) if read.hinted => "hinted",
            Operation::Read(read) if read.value_bytes_max.is_some() => "digest",
            Operation::Read(_) => "read",
            Operation::Write(write) if write.gone => "gone",
            Operation::Write(write) if write.source == Source::Repair => "repair",
            Operation::Write(_) => "write",
            Operation::Hint(_) => "hint",
            Operation::Touch(_) => "touch",
            Operation::Scan(_) => "scan",
            Operation::CopyArc(_) => "copy_arc",
            Operation::Mint(mint) if mint.owners.is_empty() => "mint",
            Operation::Mint(_) => "mint hint",
            Operation::Merge(merge) if !merge.owners.is_empty() => "merge hint",
            Operation::Merge(merge) if merge.source == Source::Repair => "merge repair",
            Operation::Merge(_) => "merge",
            Operation::Compare(_) => "compare",
            Operation::Spread(_) => "spread",
            Operation::ReadRegister(_) => "look",
            Operation::Prepare(_) => "prepare",
            Operation::Accept(_) => "accept",
            Operation::Learn(_) => "learn",
            Operation::Unknown => "unknown",
        };
        let since = self.sent[index..].iter();
        let mut sent: Vec<_> = since.map(|s| (s.node.0, kind(&s.operation))).collect();
        sent.sort_unstable();
        sent
    }
}
