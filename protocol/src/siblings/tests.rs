//! Records against a model that knows the causal history of every operation.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const OWNERS: usize = 3;
const BYTES_MAX: usize = 1 << 20;

/// What happens next. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    /// Reads these owners, and writes what they showed at one of them.
    Put { read: u8, at: usize },
    /// Reads these owners, and deletes what they showed at these.
    Delete { read: u8, at: u8 },
    /// Sends an earlier put again, anywhere.
    Again { op: usize, at: usize },
    /// One owner's record goes to another one.
    Push { from: usize, to: usize },
    /// One owner's record is on its way for long.
    Hold { from: usize },
    /// What was on its way comes, again.
    Late { held: usize, to: usize },
    /// An owner starts anew.
    Restart { at: usize },
    /// All owners have the same, and prove it.
    Prove,
    /// It is so long after all that was sent that an owner forgets what was sent once, and nobody
    /// sends it again. Then dots alone tell what was overwritten.
    Forget { at: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0usize..1_000;
    prop_oneof![
        4 => (0u8..8, number.clone()).prop_map(|(read, at)| Step::Put { read, at }),
        1 => (0u8..8, 1u8..8).prop_map(|(read, at)| Step::Delete { read, at }),
        2 => (number.clone(), number.clone()).prop_map(|(op, at)| Step::Again { op, at }),
        3 => (number.clone(), number.clone()).prop_map(|(from, to)| Step::Push { from, to }),
        1 => number.clone().prop_map(|from| Step::Hold { from }),
        1 => (number.clone(), number.clone()).prop_map(|(held, to)| Step::Late { held, to }),
        1 => number.clone().prop_map(|at| Step::Restart { at }),
        2 => number.prop_map(|at| Step::Forget { at }),
        1 => Just(Step::Prove),
    ]
}

/// What a record, or a context, has seen: numbers of operations.
type History = BTreeSet<u64>;

#[derive(Clone, Default)]
struct Held {
    record: Siblings,
    history: History,
}

impl Held {
    fn merge(&mut self, other: &Self) {
        self.record = self.record.merge(&other.record);
        self.history.extend(&other.history);
    }
}

struct Sent {
    context: Held,
    attempts: u32,
}

#[derive(Default)]
struct World {
    owners: [Held; OWNERS],
    incarnations: [u8; OWNERS],
    held: Vec<Held>,
    puts: BTreeMap<u64, Sent>,
    deletes: Vec<History>,
    /// Operations up to this one are not sent again.
    closed: u64,
    operations: u64,
    now_ms: u64,
    /// Every record that there was.
    records: Vec<Siblings>,
}

fn op(number: u64) -> OpId {
    OpId {
        client: Incarnation([1; 16]),
        sequence: number,
        first_sent_ms: 0,
    }
}

fn write(number: u64) -> Write {
    let value = Bytes::from(number.to_string());
    Write::seal(7, b"k", op(number), value, None)
}

fn numbers(record: &Siblings) -> BTreeSet<u64> {
    record.iter().map(|one| one.write.op.sequence).collect()
}

impl World {
    fn actor(&self, owner: usize) -> Actor {
        Actor {
            node: NodeId(owner as u64),
            incarnation: Incarnation([self.incarnations[owner]; 16]),
            tenure: 1,
        }
    }

    fn read(&self, owners: u8) -> Held {
        let mut read = Held::default();
        for (at, owner) in self.owners.iter().enumerate() {
            if owners >> at & 1 == 1 {
                read.merge(owner);
            }
        }
        read.record = read.record.context();
        read
    }

    fn send(&mut self, number: u64, at: usize) {
        let minter = (self.actor(at), Stamp::at(self.now_ms));
        let sent = self.puts.get_mut(&number).expect("it was put");
        sent.attempts += 1;
        let again = sent.attempts > 1;
        let owner = &mut self.owners[at];
        let put = owner.record.put(
            &sent.context.record,
            (write(number), again),
            minter,
            BYTES_MAX,
        );
        put.expect("few siblings");
        owner.history.extend(&sent.context.history);
        owner.history.insert(number);
    }

    fn take(&mut self, step: Step) {
        self.now_ms += 1;
        match step {
            Step::Put { read, at } => {
                self.operations += 1;
                let sent = Sent {
                    context: self.read(read),
                    attempts: 0,
                };
                self.puts.insert(self.operations, sent);
                self.send(self.operations, at % OWNERS);
            }
            Step::Delete { read, at } => {
                let context = self.read(read);
                for (index, owner) in self.owners.iter_mut().enumerate() {
                    if at >> index & 1 == 1 {
                        owner.merge(&context);
                    }
                }
                self.deletes.push(context.history);
            }
            Step::Again { op, at } if self.operations > self.closed => {
                let open = self.operations - self.closed;
                self.send(1 + self.closed + op as u64 % open, at % OWNERS);
            }
            Step::Push { from, to } => {
                let from = self.owners[from % OWNERS].clone();
                self.owners[to % OWNERS].merge(&from);
            }
            Step::Hold { from } => self.held.push(self.owners[from % OWNERS].clone()),
            Step::Late { held, to } if !self.held.is_empty() => {
                let held = self.held[held % self.held.len()].clone();
                self.owners[to % OWNERS].merge(&held);
            }
            Step::Again { .. } | Step::Late { .. } => {}
            Step::Restart { at } => self.incarnations[at % OWNERS] += 1,
            Step::Prove => self.prove(),
            Step::Forget { at } => {
                self.closed = self.operations;
                let puts = &self.puts;
                let past = &mut self.owners[at % OWNERS].record.past;
                past.retain(|op, _| puts[&op.sequence].attempts > 1);
            }
        }
        self.records
            .extend(self.owners.iter().map(|owner| owner.record.clone()));
    }

    fn exchange(&mut self) {
        let mut all = Held::default();
        self.owners.iter().for_each(|owner| all.merge(owner));
        self.owners.fill(all);
    }

    fn prove(&mut self) {
        self.exchange();
        let floor = self.owners[0].record.newest();
        for owner in &mut self.owners {
            owner.record.raise(floor);
        }
    }

    /// Puts that no put and no delete has seen.
    fn standing(&self) -> BTreeSet<u64> {
        let puts = self.puts.values().map(|sent| &sent.context.history);
        let seen: BTreeSet<_> = puts.chain(&self.deletes).flatten().copied().collect();
        self.puts
            .keys()
            .copied()
            .filter(|put| !seen.contains(put))
            .collect()
    }
}

fn played(steps: Vec<Step>) -> World {
    let mut world = World::default();
    steps.into_iter().for_each(|step| world.take(step));
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_dropped_that_nobody_saw_and_nothing_kept_that_somebody_overwrote(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut world = played(steps);
        world.exchange();
        for owner in &world.owners {
            prop_assert_eq!(numbers(&owner.record), world.standing());
        }
    }

    #[test]
    fn records_are_merged_in_any_order_any_number_of_times(
        steps in prop::collection::vec(step(), 1..30),
        picks in prop::collection::vec(any::<[prop::sample::Index; 3]>(), 20),
        forget in any::<bool>(),
    ) {
        let mut records = played(steps).records;
        if forget {
            records.iter_mut().step_by(2).for_each(|record| record.forget_past(u64::MAX));
        }
        for [a, b, c] in picks {
            let [a, b, c] = [a, b, c].map(|index| index.get(&records));
            let ab = a.merge(b);
            prop_assert_eq!(&ab, &b.merge(a));
            prop_assert_eq!(&a.merge(a), a);
            prop_assert_eq!(&ab.merge(b), &ab);
            prop_assert_eq!(ab.merge(c), a.merge(&b.merge(c)));
        }
    }

    #[test]
    fn a_record_and_its_context_come_back_from_their_bytes(
        steps in prop::collection::vec(step(), 1..30),
    ) {
        for record in played(steps).records {
            prop_assert_eq!(Siblings::decode(&record.encode()), Ok(record.clone()));
            let context = record.context();
            prop_assert_eq!(Siblings::decode(&context.encode()), Ok(context));
        }
    }

    #[test]
    fn a_writer_alone_has_one_value_whatever_it_sends_again(
        turns in prop::collection::vec(
            (0usize..OWNERS, 0usize..OWNERS, prop::option::of(0usize..OWNERS)),
            1..20,
        ),
    ) {
        let mut world = World::default();
        for (at, to, again) in turns {
            world.take(Step::Put { read: 7, at });
            world.take(Step::Push { from: at, to });
            if let Some(at) = again {
                world.take(Step::Again { op: world.operations as usize - 1, at });
            }
        }
        let last = world.operations;
        world.exchange();
        prop_assert_eq!(numbers(&world.owners[0].record), BTreeSet::from([last]));
    }
}

fn minter(node: u64, ms: u64) -> (Actor, Stamp) {
    let actor = Actor {
        node: NodeId(node),
        incarnation: Incarnation([3; 16]),
        tenure: 1,
    };
    (actor, Stamp::at(ms))
}

#[test]
fn a_value_minted_twice_is_one_sibling_and_overwriting_one_is_overwriting_both() {
    let nothing = Siblings::default();
    let (mut a, mut b) = (nothing.clone(), nothing.clone());
    a.put(&nothing, (write(1), false), minter(1, 5), BYTES_MAX)
        .unwrap();
    b.put(&nothing, (write(1), true), minter(2, 5), BYTES_MAX)
        .unwrap();
    let both = a.merge(&b);
    assert_eq!(both.iter().len(), 1);
    assert_eq!(both.iter().next().unwrap().minted.len(), 2);
    // Written under what `a` alone showed, at an owner that has seen neither.
    let mut c = nothing;
    c.put(&a.context(), (write(2), false), minter(3, 6), BYTES_MAX)
        .unwrap();
    assert_eq!(numbers(&c.merge(&b)), BTreeSet::from([2]));
}

#[test]
fn a_dot_rises_for_its_actor_and_lies_above_the_base() {
    let nothing = Siblings::default();
    let mut record = nothing.clone();
    let first = record
        .put(&nothing, (write(1), false), minter(1, 9), BYTES_MAX)
        .unwrap();
    let second = record
        .put(&nothing, (write(2), false), minter(1, 3), BYTES_MAX)
        .unwrap();
    let (Put::Minted(first), Put::Minted(second)) = (first, second) else {
        panic!("both are new");
    };
    assert!(second.stamp > first.stamp, "the clock went back");
    record.raise(Stamp::at(50));
    let third = record
        .put(&nothing, (write(3), false), minter(2, 10), BYTES_MAX)
        .unwrap();
    assert!(matches!(third, Put::Minted(dot) if dot.stamp > Stamp::at(50)));
    assert_eq!(numbers(&record), BTreeSet::from([1, 2, 3]));
}

#[test]
fn what_is_done_is_not_done_again_be_it_overwritten() {
    let nothing = Siblings::default();
    let mut record = nothing.clone();
    record
        .put(&nothing, (write(1), false), minter(1, 5), BYTES_MAX)
        .unwrap();
    let known = record.put(&nothing, (write(1), true), minter(1, 6), BYTES_MAX);
    assert_eq!(known, Ok(Put::Known));
    let seen = record.context();
    record
        .put(&seen, (write(2), false), minter(1, 7), BYTES_MAX)
        .unwrap();
    let known = record.put(&nothing, (write(1), true), minter(1, 8), BYTES_MAX);
    assert_eq!(known, Ok(Put::Known));
    assert_eq!(numbers(&record), BTreeSet::from([2]));
}

#[test]
fn a_put_that_would_be_too_much_or_comes_too_late_changes_nothing() {
    let nothing = Siblings::default();
    let mut record = nothing.clone();
    for number in 1..=SIBLINGS_MAX as u64 {
        let put = record.put(
            &nothing,
            (write(number), false),
            minter(1, number),
            BYTES_MAX,
        );
        put.unwrap();
    }
    let full = record.clone();
    let put = |record: &mut Siblings, context: &Siblings, write, ms| {
        record.put(context, (write, false), minter(1, ms), BYTES_MAX)
    };
    assert_eq!(
        put(&mut record, &nothing, write(500), 500),
        Err(PutError::TooMany)
    );
    let late = put(&mut record, &nothing, write(501), MINT_AGE_MS_MAX + 1);
    assert_eq!(late, Err(PutError::TooOld));
    assert_eq!(record, full);
    put(&mut record, &full.context(), write(502), 502).unwrap();
    assert_eq!(numbers(&record), BTreeSet::from([502]));
    let long = |number| Write {
        value: Bytes::from(vec![0; BYTES_MAX]),
        ..write(number)
    };
    let before = record.clone();
    assert_eq!(
        put(&mut record, &nothing, long(503), 503),
        Err(PutError::TooLong)
    );
    assert_eq!(record, before);
}

#[test]
fn a_delete_is_its_context_and_leaves_nothing_that_could_not_go() {
    let nothing = Siblings::default();
    let mut record = nothing.clone();
    record
        .put(&nothing, (write(1), false), minter(1, 5), BYTES_MAX)
        .unwrap();
    let deleted = record.merge(&record.context());
    assert_eq!(deleted.iter().len(), 0);
    assert_eq!(deleted.merge(&record), deleted);
    let mut forgotten = deleted;
    forgotten.raise(forgotten.newest());
    forgotten.forget_past(PAST_AGE_MS);
    assert!(forgotten.is_nothing());
    assert_eq!(
        forgotten.merge(&record).iter().len(),
        0,
        "the base knows it"
    );
}

#[test]
fn overwritten_operations_are_forgotten_by_age_and_number_those_sent_again_last() {
    let past = |count: u64, again_to: u64| {
        let mut record = Siblings::default();
        for sequence in 1..=count {
            let op = OpId {
                first_sent_ms: sequence,
                ..op(sequence)
            };
            let again = sequence <= again_to;
            record.past.insert(op, Past { again });
        }
        record
    };
    let left =
        |record: &Siblings| -> Vec<u64> { record.past().map(|(op, _)| op.sequence).collect() };
    let mut record = past(10, 3);
    record.forget_past(PAST_AGE_MS + 5);
    assert_eq!(left(&record), [1, 2, 3, 6, 7, 8, 9, 10]);
    record.raise(Stamp::at(PAST_AGE_MS + 2));
    record.forget_past(PAST_AGE_MS + 5);
    assert_eq!(left(&record), [3, 6, 7, 8, 9, 10]);
    let mut record = past(PAST_MAX as u64 + 5, 3);
    record.forget_past(0);
    let expected: Vec<_> = (1..=3).chain(9..=PAST_MAX as u64 + 5).collect();
    assert_eq!(left(&record), expected);
}

#[test]
fn bytes_that_no_record_has_are_refused() {
    let nothing = Siblings::default();
    let mut record = nothing.clone();
    record
        .put(&nothing, (write(1), false), minter(1, 5), BYTES_MAX)
        .unwrap();
    let refused = |record: &Siblings| Siblings::decode(&record.encode()).unwrap_err().to_string();
    let mut unknown = record.clone();
    unknown.vector.clear();
    assert!(refused(&unknown).contains("does not know"));
    let mut twice = record.clone();
    twice.past = record.context().past;
    assert!(refused(&twice).contains("twice"));
    let mut undotted = record.clone();
    undotted.siblings.get_mut(&op(1)).unwrap().minted.clear();
    assert!(refused(&undotted).contains("no dot"));
    let mut long = nothing;
    let past = (0..=wire::PAST_WIRE_MAX as u64).map(|number| (op(number), Past { again: false }));
    long.past.extend(past);
    assert!(refused(&long).contains("overwritten"), "{}", refused(&long));
    assert!(Siblings::decode(b"\xc1").is_err());
}

#[test]
fn a_checksum_covers_everything_that_the_writer_said() {
    let good = Write::seal(7, b"k", op(1), "v".into(), Some(5));
    assert!(good.is_sound(7, b"k"));
    assert!(!good.is_sound(8, b"k") && !good.is_sound(7, b"l"));
    for bad in [
        Write {
            op: op(2),
            ..good.clone()
        },
        Write {
            value: "w".into(),
            ..good.clone()
        },
        Write {
            expires_at_ms: None,
            ..good.clone()
        },
        Write {
            expires_at_ms: Some(0),
            ..good.clone()
        },
    ] {
        assert!(!bad.is_sound(7, b"k"), "{bad:?}");
    }
}

#[test]
fn a_record_that_fits_can_be_read_back() {
    let nothing = Siblings::default();
    let minted = |number: u64| {
        let actor = Actor {
            node: NodeId(number),
            incarnation: Incarnation([1; 16]),
            tenure: 0,
        };
        let write = Write::seal(1, b"k", op(1), "v".into(), None);
        let mut record = Siblings::default();
        let put = record.put(&nothing, (write, true), (actor, Stamp::at(5)), 100);
        put.expect("it is alone");
        record
    };
    let mut record = Siblings::default();
    for number in 0..wire::DOTS_MAX as u64 {
        record.absorb(&minted(number));
    }
    assert!(record.fits());
    assert_eq!(Siblings::decode(&record.encode()), Ok(record.clone()));
    record.absorb(&minted(wire::DOTS_MAX as u64));
    assert!(!record.fits(), "one dot more");
    assert!(Siblings::decode(&record.encode()).is_err());
}
