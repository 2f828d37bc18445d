//! Records by number: each different one once, and each thing done to them once.
//!
//! A model comes to the same few thousand records in millions of states. With numbers for them a
//! state is small, and what the project's own code makes of two records is worked out only once.

use crate::mixed::Mixed;
use annulet_protocol::clock::Stamp;
use annulet_protocol::ids::{Incarnation, NodeId, OpId};
use annulet_protocol::siblings::{Actor, Dot, Put, Siblings, Write};
use bytes::Bytes;
use std::collections::HashMap;
use std::num::NonZeroU8;

/// Number of a record.
pub(super) type Id = u32;
/// Number of a dot.
pub(super) type DotId = NonZeroU8;
/// What a key without anything has.
pub(super) const NOTHING: Id = 0;

/// When most things happen.
const EARLY_MS: u64 = 0;
/// The floor that is proved later. What was overwritten before is forgotten under it.
const FLOOR_MS: u64 = annulet_protocol::siblings::PAST_AGE_MS;
/// So much later that the floor may be proved.
const LATER_MS: u64 = FLOOR_MS + annulet_protocol::limits::GRACE_MS;

const BYTES_MAX: usize = 1 << 20;
/// Operations have numbers below this; where attempts are operations of their own, they are this
/// far apart.
pub(super) const OPS: u64 = 8;

/// Everything at or below it is known to every owner, once that is proved.
pub(super) fn floor() -> Stamp {
    Stamp::at(FLOOR_MS)
}

/// The time, as all servers see it.
pub(super) fn now_ms(later: bool) -> u64 {
    if later { LATER_MS } else { EARLY_MS }
}

/// A put that comes to a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mint {
    /// What the server has.
    pub(super) record: Id,
    /// What the writer has seen.
    pub(super) context: Id,
    /// The operation.
    pub(super) op: u64,
    /// It was first sent later.
    pub(super) sent_later: bool,
    /// It may have been sent elsewhere.
    pub(super) again: bool,
    /// The server.
    pub(super) node: u8,
    /// Its present tenure, or start.
    pub(super) tenure: u8,
    /// By its clock.
    pub(super) stamp: Stamp,
}

/// See the module.
pub(super) struct Records {
    list: Vec<Siblings>,
    /// Operations whose values each shows.
    shown: Vec<u8>,
    ids: HashMap<Vec<u8>, Id>,
    merges: HashMap<u64, Id, Mixed>,
    forgotten: HashMap<u64, Id, Mixed>,
    contexts: HashMap<u64, Id, Mixed>,
    raised: HashMap<u64, Id, Mixed>,
    puts: HashMap<Mint, Option<(Id, Option<DotId>)>>,
    dots: Vec<Dot>,
    /// The law of merging that does not hold.
    pub(super) broken_law: Option<String>,
}

impl Records {
    pub(super) fn new() -> Self {
        let mut records = Self {
            list: Vec::new(),
            shown: Vec::new(),
            ids: HashMap::new(),
            merges: HashMap::default(),
            forgotten: HashMap::default(),
            contexts: HashMap::default(),
            raised: HashMap::default(),
            puts: HashMap::new(),
            dots: Vec::new(),
            broken_law: None,
        };
        records.id(Siblings::default());
        records
    }

    pub(super) fn get(&self, id: Id) -> &Siblings {
        &self.list[id as usize]
    }

    /// The operations whose values it shows, as bits.
    pub(super) fn shown(&self, id: Id) -> u8 {
        self.shown[id as usize]
    }

    pub(super) fn id(&mut self, record: Siblings) -> Id {
        let next = self.list.len() as Id;
        let id = *self.ids.entry(record.encode()).or_insert(next);
        if id == next {
            let bit =
                |one: &annulet_protocol::siblings::Sibling| 1 << (one.write.op.sequence % OPS);
            self.shown
                .push(record.iter().map(bit).fold(0, |a, b: u8| a | b));
            self.list.push(record);
        }
        id
    }

    /// Both together. The laws of merging are tried on the way.
    pub(super) fn merge(&mut self, one: Id, other: Id) -> Id {
        let pair = u64::from(one) << 32 | u64::from(other);
        if let Some(met) = self.merges.get(&pair) {
            return *met;
        }
        let (a, b) = (self.get(one), self.get(other));
        let ab = a.merge(b);
        let laws = [
            ("commutative", ab == b.merge(a)),
            ("idempotent", a.merge(a) == *a && ab.merge(&ab) == ab),
            ("absorbing", ab.merge(b) == ab && ab.merge(a) == ab),
        ];
        if let Some((law, _)) = laws.iter().find(|(_, holds)| !holds) {
            self.broken_law = Some(format!("merging is not {law}: {a:?} and {b:?}"));
        }
        let met = self.id(ab);
        self.merges.insert(pair, met);
        met
    }

    /// It without what servers forget by then.
    pub(super) fn forget(&mut self, id: Id, now_ms: u64) -> Id {
        let key = u64::from(id) << 32 ^ now_ms;
        if let Some(rest) = self.forgotten.get(&key) {
            return *rest;
        }
        let mut record = self.get(id).clone();
        record.forget_past(now_ms);
        let rest = self.id(record);
        self.forgotten.insert(key, rest);
        rest
    }

    pub(super) fn context(&mut self, id: Id) -> Id {
        if let Some(context) = self.contexts.get(&u64::from(id)) {
            return *context;
        }
        let context = self.get(id).context();
        let context = self.id(context);
        self.contexts.insert(u64::from(id), context);
        context
    }

    /// It with the floor as its base.
    pub(super) fn raise(&mut self, id: Id) -> Id {
        if let Some(raised) = self.raised.get(&u64::from(id)) {
            return *raised;
        }
        let mut record = self.get(id).clone();
        record.raise(floor());
        let raised = self.id(record);
        self.raised.insert(u64::from(id), raised);
        raised
    }

    /// What the server has then, and the dot if it minted one; `None` if it refused.
    pub(super) fn put(&mut self, mint: Mint) -> Option<(Id, Option<DotId>)> {
        if let Some(done) = self.puts.get(&mint) {
            return *done;
        }
        let op = OpId {
            client: Incarnation([9; 16]),
            sequence: mint.op,
            first_sent_ms: now_ms(mint.sent_later),
        };
        let write = Write::seal(1, b"k", op, Bytes::new(), None);
        let actor = Actor {
            node: NodeId(u64::from(mint.node)),
            incarnation: Incarnation([mint.tenure; 16]),
            tenure: u64::from(mint.tenure),
        };
        let mut record = self.get(mint.record).clone();
        let context = self.get(mint.context);
        let put = record.put(context, (write, mint.again), (actor, mint.stamp), BYTES_MAX);
        let done = put.ok().map(|put| match put {
            Put::Minted(dot) => (record, Some(dot)),
            Put::Known => (record, None),
        });
        let done = done.map(|(record, dot)| (self.id(record), dot.map(|dot| self.dot_id(dot))));
        self.puts.insert(mint, done);
        done
    }

    fn dot_id(&mut self, dot: Dot) -> DotId {
        let index = self.dots.iter().position(|known| *known == dot);
        let index = index.unwrap_or_else(|| {
            self.dots.push(dot);
            self.dots.len() - 1
        });
        let number = u8::try_from(index + 1).expect("few dots");
        DotId::new(number).expect("counted from one")
    }
}
