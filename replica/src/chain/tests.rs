mod recovery;

use super::open::{OpenError, open};
use super::*;
use crate::memory::MemoryStore;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::Bucket;
use annulet_protocol::epoch::{BucketCommand, DeleteBucket};
use annulet_protocol::ids::{ClusterId, Incarnation};
use annulet_protocol::view::{Member, MemberState};
use annulet_ring::chain::proposer::{Effect, Outcome, Proposer, Question};
use annulet_ring::cluster::Plan;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn view(servers: u64, change: impl FnOnce(&mut Plan)) -> View {
    let member = |id| Member {
        id: NodeId(id),
        address: format!("host-{id}:7400"),
        capacity: 1,
        zone: String::new(),
        region: String::new(),
        state: MemberState::Active,
    };
    let mut plan = Plan {
        cluster: ClusterId([7; 16]),
        name: "test".into(),
        seed: 1,
        epoch: 1,
        value_bytes_max: 1_000,
        partitions: 1,
        list_length: 3,
        members: (1..=servers).map(member).collect(),
        buckets: vec![Bucket::new(1, "default")],
    };
    change(&mut plan);
    plan.view().unwrap()
}

fn ballot(number: u64) -> Ballot {
    let proposer = Incarnation([1; 16]);
    Ballot { number, proposer }
}

fn create(view: &View, name: &str) -> Bytes {
    let command = BucketCommand::Create(Bucket::new(0, name));
    let change = ChangeId([view.epoch as u8; 16]);
    chain::propose(view, change, &command).unwrap().encode()
}

/// A server: its store, and its chain.
struct Server {
    store: MemoryStore,
    chain: Chain,
    file: View,
}

impl Server {
    fn new(node: u64, file: &View) -> Self {
        let store = MemoryStore::default();
        let opened = open(&store, NodeId(node), Some(file.clone())).unwrap();
        store.write(opened.batch).unwrap();
        store.sync().unwrap();
        Self {
            store,
            chain: opened.chain,
            file: file.clone(),
        }
    }

    fn ask(&mut self, question: ChainQuestion) -> Step {
        let step = self.chain.handle(&self.store, &question).unwrap();
        self.store.write(step.batch.clone()).unwrap();
        self.store.sync().unwrap();
        step
    }

    fn offer(&mut self, records: &[Bytes], settled: u64) -> Step {
        let records = records.to_vec();
        self.ask(ChainQuestion::Offer(Offer {
            records,
            settled,
            ..Offer::question()
        }))
    }

    fn reopen(&mut self) {
        self.store.crash();
        let node = self.chain.node;
        let opened = open(&self.store, node, Some(self.file.clone())).unwrap();
        assert_eq!(opened.batch, Batch::new(), "it is all there");
        self.chain = opened.chain;
    }
}

#[test]
fn a_record_is_held_before_it_is_acted_under_and_survives_a_crash() {
    let file = view(3, |_| {});
    let mut server = Server::new(1, &file);
    let record = create(&file, "a");
    let step = server.offer(std::slice::from_ref(&record), 1);
    let point = EpochRecord::decode(&record).unwrap().point();
    assert_eq!(step.answer, ChainAnswer::Holds(point));
    assert_eq!((step.installed, server.chain.view().epoch), (None, 1));
    let held = Some(Unfinished::Held(record.clone()));
    assert_eq!(server.chain.unfinished(), held);
    server.reopen();
    assert_eq!(server.chain.unfinished(), held);
    assert_eq!(
        (server.chain.view().epoch, server.chain.newest()),
        (1, point)
    );

    let step = server.offer(&[], 2);
    assert_eq!(step.installed.map(|view| view.epoch), Some(2));
    assert_eq!(server.chain.unfinished(), None);
    server.reopen();
    assert_eq!(server.chain.view().point(), point);
    let deltas = server.chain.deltas(&server.store, file.point()).unwrap();
    assert_eq!((deltas.records, deltas.fork), (vec![record], false));
}

#[test]
fn who_holds_the_successor_answers_with_it_for_ever() {
    let file = view(3, |_| {});
    let mut server = Server::new(1, &file);
    let first = create(&file, "a");
    server.offer(std::slice::from_ref(&first), 2);
    let second = create(server.chain.view(), "b");
    server.offer(std::slice::from_ref(&second), 2);
    let (of, ballot) = (file.point(), ballot(9));
    let decided = ChainAnswer::Decided(Decided { record: first });
    let prepare = |of| ChainQuestion::Prepare(Prepare { of, ballot });
    assert_eq!(server.ask(prepare(of)).answer, decided);
    let other = create(&file, "other");
    let accept = ChainQuestion::Accept(Accept {
        of,
        ballot,
        record: other,
    });
    assert_eq!(server.ask(accept).answer, decided);
    let mut elsewhere = of;
    elsewhere.hash = EpochHash([9; 16]);
    let answer = server.ask(prepare(elsewhere)).answer;
    assert!(matches!(answer, ChainAnswer::Refused(_)), "{answer:?}");
    let ahead = Point { number: 9, ..of };
    let lacks = ChainAnswer::Lacks(server.chain.newest());
    assert_eq!(server.ask(prepare(ahead)).answer, lacks);
}

#[test]
fn votes_outlast_a_crash_and_go_with_the_successor() {
    let file = view(3, |_| {});
    let mut server = Server::new(2, &file);
    let of = file.point();
    let prepare = |number| {
        ChainQuestion::Prepare(Prepare {
            of,
            ballot: ballot(number),
        })
    };
    let record = create(&file, "a");
    server.ask(prepare(5));
    server.ask(ChainQuestion::Accept(Accept {
        of,
        ballot: ballot(5),
        record: record.clone(),
    }));
    server.reopen();
    assert_eq!(
        server.ask(prepare(4)).answer,
        ChainAnswer::Rejected(ballot(5))
    );
    let promised = ChainAnswer::Promised(Promised {
        ballot: ballot(5),
        record: Some(record.clone()),
    });
    assert_eq!(server.ask(prepare(6)).answer, promised);
    let accepted = Some(Unfinished::Accepted(record.clone()));
    assert_eq!(server.chain.unfinished(), accepted);
    server.offer(&[record], 2);
    assert_eq!(server.chain.unfinished(), None);
    let notes = server.store.entries(Family::Notes);
    assert_eq!(
        notes.len(),
        3,
        "the first view, a record, how far it is settled"
    );
}

#[test]
fn what_cannot_follow_is_not_accepted_and_who_is_no_keeper_does_not_vote() {
    let file = view(5, |plan| plan.members.truncate(4));
    let mut server = Server::new(1, &file);
    let of = file.point();
    let accept = |record| {
        ChainQuestion::Accept(Accept {
            of,
            ballot: ballot(1),
            record,
        })
    };
    for bad in [
        Bytes::from_static(b"no record"),
        create(&view(3, |_| {}), "a"),
    ] {
        let answer = server.ask(accept(bad)).answer;
        assert!(matches!(answer, ChainAnswer::Refused(_)), "{answer:?}");
    }
    let mut other = Server::new(4, &file);
    let answer = other.ask(accept(create(&file, "a"))).answer;
    assert!(matches!(answer, ChainAnswer::Refused(_)), "{answer:?}");
}

#[test]
fn a_decided_record_on_another_chain_is_noticed() {
    let file = view(3, |_| {});
    let mut server = Server::new(1, &file);
    let (one, other) = (create(&file, "a"), create(&file, "b"));
    assert_eq!(server.offer(std::slice::from_ref(&one), 2).fork, None);
    assert!(server.offer(std::slice::from_ref(&other), 2).fork.is_some());
    assert_eq!(
        server.offer(std::slice::from_ref(&one), 2).fork,
        None,
        "again"
    );
    let next = create(
        &chain::apply(&file, &EpochRecord::decode(&other).unwrap()).unwrap(),
        "c",
    );
    assert!(server.offer(std::slice::from_ref(&next), 3).fork.is_some());
    let gap = server.offer(
        std::slice::from_ref(&create(&view(3, |p| p.epoch = 7), "d")),
        8,
    );
    assert_eq!(gap.fork, None, "what lies between may hold it");
    let deltas = server
        .chain
        .deltas(&server.store, view(3, |p| p.seed = 2).point());
    assert!(deltas.unwrap().fork);
}

#[test]
fn what_was_before_a_chain_that_begins_later_is_no_fork() {
    let file = view(3, |_| {});
    let earlier = create(&file, "a");
    let second = chain::apply(&file, &EpochRecord::decode(&earlier).unwrap()).unwrap();
    let later = create(&second, "b");
    let third = chain::apply(&second, &EpochRecord::decode(&later).unwrap()).unwrap();
    let mut joined = Server::new(9, &third);
    // Somebody is late, or tells twice.
    let step = joined.offer(&[earlier, later.clone()], 3);
    assert_eq!(step.answer, ChainAnswer::Holds(third.point()));
    assert_eq!((step.fork, step.installed), (None, None));
    let next = create(&third, "c");
    assert_eq!(joined.offer(&[later, next], 4).fork, None);
    assert_eq!(joined.chain.view().epoch, 4);
    // Whoever asks from before it takes the whole view.
    let deltas = joined.chain.deltas(&joined.store, second.point()).unwrap();
    assert_eq!((deltas.fork, deltas.first), (false, 3));
    assert_eq!(deltas.records, Vec::<Bytes>::new());
}

#[test]
fn the_file_counts_until_something_follows_it() {
    let file = view(3, |_| {});
    let raised = view(3, |plan| {
        plan.epoch = 2;
        plan.buckets.push(Bucket::new(2, "more"));
    });
    let mut server = Server::new(1, &file);
    server.file = raised.clone();
    let opened = open(&server.store, NodeId(1), Some(raised.clone())).unwrap();
    assert_eq!(
        opened.chain.view().point(),
        raised.point(),
        "nothing was voted on"
    );
    // A promise is enough: somebody may go on from it.
    server.ask(ChainQuestion::Prepare(Prepare {
        of: file.point(),
        ballot: ballot(1),
    }));
    let opened = open(&server.store, NodeId(1), Some(raised.clone())).unwrap();
    assert_eq!(opened.chain.view().point(), file.point());
    assert_eq!(opened.ignored, ["its buckets", "its epoch"]);
    let moved = view(3, |plan| plan.members[0].address = "elsewhere:1".into());
    let opened = open(&server.store, NodeId(1), Some(moved)).unwrap();
    assert_eq!(opened.chain.view().members[0].address, "elsewhere:1");
    assert_eq!(opened.chain.view().point(), file.point());
    for other in [
        view(4, |_| {}),
        view(3, |plan| plan.members[1].capacity = 2),
        view(3, |plan| plan.seed = 2),
        view(3, |plan| plan.partitions = 2),
        view(3, |plan| plan.cluster = ClusterId([8; 16])),
    ] {
        let refused = open(&server.store, NodeId(1), Some(other));
        assert!(matches!(refused, Err(OpenError::Changed(_))), "{refused:?}");
    }
}

#[test]
fn what_is_damaged_is_not_gone_on_with() {
    let file = view(3, |_| {});
    let mut server = Server::new(1, &file);
    server.offer(&[create(&file, "a")], 2);
    let prepare = Prepare {
        of: server.chain.newest(),
        ballot: ballot(1),
    };
    server.ask(ChainQuestion::Prepare(prepare));
    for (key, _) in server.store.entries(Family::Notes) {
        server
            .store
            .damage(Family::Notes, &key, |bytes| bytes[0] ^= 1);
        let opened = open(&server.store, NodeId(1), Some(file.clone()));
        assert!(
            matches!(opened, Err(OpenError::Store(_))),
            "{key:?}: {opened:?}"
        );
        server
            .store
            .damage(Family::Notes, &key, |bytes| bytes[0] ^= 1);
    }
}

/// What happens next, out of numbers that a test draws.
struct Luck<'a>(std::iter::Cycle<std::slice::Iter<'a, u16>>);

impl Luck<'_> {
    fn below(&mut self, most: usize) -> usize {
        usize::from(*self.0.next().unwrap()) % most
    }
}

enum Message {
    Ask(usize, Question, ChainQuestion),
    Answer(usize, Question, ChainAnswer),
}

/// Servers, proposals that run on them, and messages between them.
struct Cluster {
    servers: Vec<Server>,
    proposals: Vec<Option<(usize, Proposer)>>,
    messages: Vec<Message>,
    ballots: u64,
    settled: Vec<Bytes>,
}

impl Cluster {
    fn begin(&mut self, at: usize) {
        let chain = &self.servers[at].chain;
        let view = Arc::clone(chain.view());
        self.ballots += 1;
        let mut proposer = match chain.unfinished() {
            Some(Unfinished::Held(record)) => Proposer::spreading(&view, record),
            _ => {
                let own = create(&view, &format!("b{}", self.ballots));
                Proposer::new(&view, own, ballot(self.ballots))
            }
        };
        let effects = proposer.start();
        self.proposals.push(Some((at, proposer)));
        self.carry_out(self.proposals.len() - 1, effects);
    }

    fn carry_out(&mut self, number: usize, effects: Vec<Effect>) {
        for effect in effects {
            let Some((at, proposer)) = &mut self.proposals[number] else {
                return;
            };
            match effect {
                Effect::Ask(question, asked) => {
                    self.messages.push(Message::Ask(number, question, asked));
                }
                Effect::Bring(question, after) => {
                    let server = &self.servers[*at];
                    let offer = server.chain.offer_after(&server.store, after).unwrap();
                    let asked = ChainQuestion::Offer(offer.expect("the same chain"));
                    self.messages.push(Message::Ask(number, question, asked));
                }
                Effect::Take(record) => {
                    let settled = self.servers[*at].chain.view().epoch;
                    let step = self.servers[*at].offer(&[record], settled);
                    assert_eq!(step.fork, None);
                    let effects = proposer.handle_taken();
                    self.carry_out(number, effects);
                }
                Effect::Done(outcome) => {
                    let at = *at;
                    self.proposals[number] = None;
                    if let Outcome::Settled(record) = outcome {
                        self.check_settled(&record);
                        let settled = EpochRecord::decode(&record).unwrap().number;
                        self.servers[at].offer(std::slice::from_ref(&record), settled);
                        self.settled.push(record);
                    }
                }
            }
        }
    }

    /// A majority of its keepers holds it durably.
    fn check_settled(&self, record: &Bytes) {
        let record = EpochRecord::decode(record).unwrap();
        assert_eq!(record.keepers, [], "they stay");
        let keepers = &self.servers[0].chain.view().tip.keepers;
        let held = self.servers.iter().filter(|server| {
            let of = server.chain.hash_of(&server.store, record.number).unwrap();
            keepers.contains(&server.chain.node) && of == Some(record.point().hash)
        });
        assert!(held.count() > keepers.len() / 2);
    }

    fn deliver(&mut self, at: usize, twice: bool) {
        let message = self.messages.swap_remove(at);
        match message {
            Message::Ask(number, question, asked) => {
                let to = question.node.0 as usize - 1;
                let step = self.servers[to].ask(asked.clone());
                assert_eq!(step.fork, None);
                let answer = Message::Answer(number, question, step.answer);
                self.messages.push(answer);
                if twice {
                    self.messages.push(Message::Ask(number, question, asked));
                }
            }
            Message::Answer(number, question, answer) => {
                if let Some((_, proposer)) = &mut self.proposals[number] {
                    let effects = proposer.handle_answer(question, answer);
                    self.carry_out(number, effects);
                }
            }
        }
    }

    fn lose(&mut self, at: usize) {
        let (Message::Ask(number, question, _) | Message::Answer(number, question, _)) =
            self.messages.swap_remove(at);
        if let Some((_, proposer)) = &mut self.proposals[number] {
            let effects = proposer.handle_failure(question);
            self.carry_out(number, effects);
        }
    }

    /// Memory and proposals are gone, and so are the last words.
    fn crash(&mut self, at: usize) {
        self.servers[at].reopen();
        for proposal in &mut self.proposals {
            if proposal.as_ref().is_some_and(|(on, _)| *on == at) {
                *proposal = None;
            }
        }
    }

    /// There is one record of each number.
    fn check(&self) {
        let mut records: BTreeMap<u64, Bytes> = BTreeMap::new();
        for server in &self.servers {
            for number in 2..=server.chain.newest().number {
                let record = server.chain.record(&server.store, number).unwrap();
                let record = record.expect("no gaps");
                let known = records.entry(number).or_insert_with(|| record.clone());
                assert_eq!(*known, record, "epoch {number}");
            }
        }
        for record in &self.settled {
            let number = EpochRecord::decode(record).unwrap().number;
            assert_eq!(records.get(&number), Some(record), "settled for ever");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn servers_agree_whatever_is_lost_and_go_on_when_nothing_is(
        numbers in prop::collection::vec(any::<u16>(), 50..400),
        servers in prop::sample::select(vec![1u64, 3, 4, 5]),
    ) {
        let file = view(servers, |_| {});
        let mut cluster = Cluster {
            servers: (1..=servers).map(|node| Server::new(node, &file)).collect(),
            proposals: Vec::new(),
            messages: Vec::new(),
            ballots: 0,
            settled: Vec::new(),
        };
        let mut luck = Luck(numbers.iter().cycle());
        for _ in 0..300 {
            let server = luck.below(servers as usize);
            match (luck.below(24), cluster.messages.len()) {
                (0, _) | (_, 0) => cluster.begin(server),
                (1, _) => cluster.crash(server),
                (2 | 3, count) => cluster.lose(luck.below(count)),
                (kind, count) => cluster.deliver(luck.below(count), kind == 4),
            }
            cluster.check();
        }
        // Nothing goes wrong any more: some attempt comes through.
        cluster.messages.clear();
        cluster.proposals.iter_mut().for_each(|proposal| *proposal = None);
        let before = cluster.settled.len();
        let mut rounds = 0;
        while cluster.settled.len() == before {
            prop_assert!(rounds < 50, "no attempt comes through");
            rounds += 1;
            cluster.begin(luck.below(servers as usize));
            while !cluster.messages.is_empty() {
                cluster.deliver(0, false);
                cluster.check();
            }
        }
    }
}

#[test]
fn a_change_is_found_by_its_name() {
    let file = view(3, |_| {});
    let mut server = Server::new(1, &file);
    let record = create(&file, "a");
    server.offer(std::slice::from_ref(&record), 1);
    let (change, chain) = (ChangeId([1; 16]), &server.chain);
    assert_eq!(chain.made(&server.store, change), Ok(None), "not settled");
    server.offer(&[], 2);
    let (made, chain) = (EpochRecord::decode(&record).unwrap(), &server.chain);
    assert_eq!(chain.made(&server.store, change), Ok(Some(made)));
    assert_eq!(chain.made(&server.store, ChangeId([9; 16])), Ok(None));
    let gone = DeleteBucket {
        name: "a".into(),
        number: None,
    };
    let gone = chain::propose(chain.view(), change, &BucketCommand::Delete(gone));
    server.offer(&[gone.unwrap().encode()], 3);
    let chain = &server.chain;
    assert_eq!(
        chain.made(&server.store, change).unwrap().map(|r| r.number),
        Some(3)
    );
}
