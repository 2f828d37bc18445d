//! Every course that few clients of one key can take: the real acceptor and the real decisions of a
//! round ([`Votes`], [`Basis`], [`Proposal`]); messages in any order, late, twice or never, and
//! clients that stop at any step, since any of them may have taken its last one.
//!
//! An owner's answer arrives at once or never. That leaves nothing out: to hear later changes
//! nothing for anybody else, and only makes less to be explained. Owners are all alike, so courses
//! that differ only by which is which are one.
//!
//! The rules. Whatever was agreed on, by the count of owners that accepted it, is followed by
//! everything agreed on later: its log is in every later log. An operation that has ended has seen
//! all that was seen or done by those that ended before it began. An operation that is said not to
//! be applied is in no log that is agreed on.

use annulet::core::client::{Core, Home};
use annulet::core::strong::proposer::Reservation;
use annulet::core::strong::round::{Basis, Proposal};
use annulet::core::strong::votes::Votes;
use annulet_protocol::ballot::Ballot;
use annulet_protocol::ids::{Incarnation, NodeId, OpId};
use annulet_protocol::level::Level;
use annulet_protocol::register::message::{Promise, Shown};
use annulet_protocol::register::{Change, Entry, Fate, Register, Turn, Verdict};
use annulet_protocol::view::{Members, View};
use annulet_replica::acceptor::{Accepted, Acceptor};
use annulet_ring::owners::{Owners, RegionOwners};
use annulet_ring::quorum::{Quorum, Side};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

const OWNERS: usize = 3;
/// Most writes of a model.
const WRITES_MAX: usize = 4;
/// Most states: a model that has more takes too long.
const STATES_MAX: usize = 3_000_000;
const AT: (u32, &[u8]) = (1, b"k");
/// Epoch of everything.
const EPOCH: u64 = 1;

/// What a client does, in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A read.
    Read,
    /// A change, by the operation of this number.
    Write(u8, Change),
    /// Asks what became of the write of this number, once its client has stopped or gone on.
    Resolve(u8),
}

/// A rule that is broken on purpose, besides those that [`Core`] breaks by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// None.
    Nothing,
    /// A reserved ballot is used before its quorum has reserved it.
    ReservedEarly,
    /// What is proposed under a ballot below the promised one is accepted.
    AcceptUnpromised,
    /// What was learned against a promise is acknowledged to its proposer.
    LearnedAcknowledged,
}

/// What is tried.
pub struct Model {
    /// What each client does.
    pub clients: Vec<Vec<Act>>,
    /// Rounds of each operation.
    pub rounds: u8,
    /// How often an owner learns what another one accepted.
    pub learns: u8,
    /// The rule to break.
    pub broken: Broken,
    core: Core,
    quorum: Quorum,
}

type Owner = Acceptor<Arc<Register>>;

/// What was proposed, which owners may still get.
#[derive(Clone, Debug)]
struct Kept {
    proposal: Arc<Proposal>,
    /// Owners that accepted it from its proposer.
    taken: u8,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Idle,
    Look,
    Prepare,
    Accept,
}

#[derive(Clone, Debug)]
struct Client {
    phase: Phase,
    /// Index of the act that it does, or does next.
    act: usize,
    rounds: u8,
    ballot: Ballot,
    votes: Votes,
    /// Owners that answered in this phase.
    answered: u8,
    accepted: u8,
    outbid: bool,
    exposed: bool,
    since: Option<Ballot>,
    highest: u64,
    reserved: Option<Reservation>,
    /// Operations that must be seen by the present one.
    must_see: u8,
}

#[derive(Clone, Debug)]
struct State {
    owners: Vec<Owner>,
    clients: Vec<Client>,
    /// By ballot.
    kept: BTreeMap<Ballot, Kept>,
    /// What was agreed on under the highest ballot.
    agreed: Option<(Ballot, Arc<Register>)>,
    /// In which round each write was first proposed.
    since: [Ballot; WRITES_MAX],
    learns: u8,
    /// Operations that somebody has seen or done, and who ended.
    seen: u8,
    /// Operations that were said not to be applied.
    denied: u8,
    /// The rule that the last step broke.
    broken: Option<String>,
    /// What led here, the last first.
    course: Option<Arc<Step>>,
}

#[derive(Debug)]
struct Step {
    what: String,
    before: Option<Arc<Step>>,
}

impl Model {
    /// Clients that do so, in a core that breaks what `core` breaks.
    pub fn new(clients: Vec<Vec<Act>>, broken: Broken) -> Self {
        let nodes = (0..OWNERS as u64).map(NodeId).collect();
        let lists = std::iter::once(RegionOwners { region: 0, nodes });
        let owners = Owners::stable(lists.collect(), EPOCH);
        let quorum = Quorum::of(Level::Quorum, Side::Write, &owners, None);
        Self {
            clients,
            rounds: 2,
            learns: 0,
            broken,
            core: Core::new(Incarnation([9; 16]), Arc::new(no_view()), Home::default()),
            quorum: quorum.expect("three owners"),
        }
    }

    /// The core, for the rules that it breaks.
    #[cfg(feature = "faults")]
    pub fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Tries everything. Gives the number of states.
    ///
    /// # Errors
    /// The steps to a state that breaks a rule.
    pub fn check(&self) -> Result<usize, String> {
        let first = self.first();
        let mut known = HashSet::from([first.key()]);
        let mut open = vec![first];
        while let Some(state) = open.pop() {
            for next in self.steps(&state) {
                if let Some(why) = &next.broken {
                    return Err(format!("{why}\n  {}", next.course().join("\n  ")));
                }
                if known.insert(next.key()) {
                    open.push(next);
                }
            }
            assert!(known.len() < STATES_MAX, "too many states");
        }
        Ok(known.len())
    }

    fn first(&self) -> State {
        let client = Client {
            phase: Phase::Idle,
            act: 0,
            rounds: 0,
            ballot: Ballot::default(),
            votes: Votes::default(),
            answered: 0,
            accepted: 0,
            outbid: false,
            exposed: false,
            since: None,
            highest: 0,
            reserved: None,
            must_see: 0,
        };
        State {
            owners: vec![Owner::default(); OWNERS],
            clients: vec![client; self.clients.len()],
            kept: BTreeMap::new(),
            agreed: None,
            since: [Ballot::default(); WRITES_MAX],
            learns: 0,
            seen: 0,
            denied: 0,
            broken: None,
            course: None,
        }
    }

    fn act(&self, state: &State, client: usize) -> Option<&Act> {
        self.clients[client].get(state.clients[client].act)
    }

    /// All that may happen next.
    fn steps(&self, state: &State) -> Vec<State> {
        let mut next = Vec::new();
        for client in 0..state.clients.len() {
            self.client_steps(state, client, &mut next);
        }
        for ballot in state.kept.keys() {
            for owner in 0..OWNERS {
                let mut after = state.clone();
                self.ask(&mut after, owner, *ballot);
                if after.owners[owner] != state.owners[owner] {
                    after.note(format!("owner {owner} gets {ballot:?} late"));
                    next.push(after);
                }
            }
        }
        if state.learns < self.learns {
            for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
                let Some(Accepted { ballot, value, .. }) = state.owners[from].accepted() else {
                    continue;
                };
                let mut after = state.clone();
                after.learns += 1;
                if after.owners[to].learn(*ballot, Arc::clone(value)) {
                    after.note(format!("owner {to} learns from {from}"));
                    next.push(after);
                }
            }
        }
        next.iter_mut().for_each(State::tidy);
        next
    }

    fn client_steps(&self, state: &State, client: usize, next: &mut Vec<State>) {
        let at = &state.clients[client];
        let Some(act) = self.act(state, client) else {
            return;
        };
        if at.phase == Phase::Idle {
            let mut after = state.clone();
            let began = &mut after.clients[client];
            (began.must_see, began.rounds, began.exposed) = (state.seen, 0, false);
            began.since = match act {
                Act::Resolve(number) => {
                    let since = state.since[usize::from(*number)];
                    (since != Ballot::default()).then_some(since)
                }
                Act::Read | Act::Write(..) => None,
            };
            // Nobody can ask before the write was named.
            if matches!(act, Act::Resolve(_)) && began.since.is_none() {
                return;
            }
            after.note(format!("client {client} begins {act:?}"));
            match act {
                Act::Read => self.begin(&mut after, client, Phase::Look),
                Act::Write(..) | Act::Resolve(_) => self.begin_round(&mut after, client),
            }
            next.push(after);
            return;
        }
        for owner in (0..OWNERS).filter(|owner| at.answered >> owner & 1 == 0) {
            let mut after = state.clone();
            self.exchange(&mut after, client, owner);
            after.note(format!("owner {owner} answers client {client}"));
            next.push(after);
        }
        if let (Act::Write(number, _), true) = (act, at.act + 1 < self.clients[client].len()) {
            let mut after = state.clone();
            self.give_up(&mut after, client, *number);
            after.note(format!("client {client} gives {act:?} up"));
            next.push(after);
        }
        if at.outbid && at.rounds < self.rounds {
            let mut after = state.clone();
            self.leave(&mut after, client);
            after.note(format!("client {client} tries again"));
            self.begin_round(&mut after, client);
            next.push(after);
        }
    }

    fn begin(&self, state: &mut State, client: usize, phase: Phase) {
        let at = &mut state.clients[client];
        at.phase = phase;
        at.votes.clear();
        (at.answered, at.accepted, at.outbid) = (0, 0, false);
    }

    fn begin_round(&self, state: &mut State, client: usize) {
        let first = state.clients[client].rounds == 0;
        let is_write = matches!(self.act(state, client), Some(Act::Write(..)));
        state.clients[client].rounds += 1;
        let reserved = state.clients[client].reserved.take();
        if let Some(reserved) = reserved.filter(|_| first && is_write) {
            state.clients[client].ballot = reserved.next;
            return self.propose(state, client, &Basis::reserved(&reserved));
        }
        let at = &mut state.clients[client];
        at.highest = at
            .highest
            .max(at.votes.promised().number)
            .max(at.ballot.number)
            + 1;
        at.ballot = Ballot {
            number: at.highest,
            proposer: Incarnation([client as u8 + 1; 16]),
        };
        self.begin(state, client, Phase::Prepare);
    }

    fn propose(&self, state: &mut State, client: usize, basis: &Basis) {
        let (op, change) = match self.act(state, client) {
            Some(Act::Write(number, change)) => (op(*number), change.clone()),
            Some(Act::Resolve(number)) => (op(*number), Change::Resolve),
            Some(Act::Read) | None => (OpId::default(), Change::Identity),
        };
        let at = &state.clients[client];
        let turn = Turn {
            ballot: at.ballot,
            op,
            since: at.since,
            now_ms: 0,
        };
        let mut proposal = Proposal::new(&self.core, AT, basis, (&turn, &change));
        // The values are as their heads say.
        proposal.complete(Default::default());
        let at = &mut state.clients[client];
        if proposal.carries && matches!(change, Change::Set { .. } | Change::Delete { .. }) {
            at.since.get_or_insert(turn.ballot);
            let since = &mut state.since[op.sequence as usize];
            if *since == Ballot::default() {
                *since = turn.ballot;
            }
        }
        if self.broken == Broken::ReservedEarly {
            at.reserved = Some(proposal.reservation(EPOCH));
        }
        let kept = Kept {
            proposal: Arc::new(proposal),
            taken: 0,
        };
        state.kept.insert(turn.ballot, kept);
        self.begin(state, client, Phase::Accept);
    }

    /// An owner gets what a client asks in its phase, and the client its answer.
    fn exchange(&self, state: &mut State, client: usize, owner: usize) {
        let node = NodeId(owner as u64);
        let ballot = state.clients[client].ballot;
        state.clients[client].answered |= 1 << owner;
        match state.clients[client].phase {
            Phase::Look => {
                let promise = promise(&state.owners[owner]);
                state.clients[client].votes.note(node, promise);
                self.judge_look(state, client);
            }
            Phase::Prepare => {
                let granted = state.owners[owner].prepare(ballot).is_ok();
                let promise = promise(&state.owners[owner]);
                let at = &mut state.clients[client];
                match granted {
                    false => {
                        at.outbid = true;
                        at.highest = at.highest.max(promise.promised.number);
                    }
                    true => at.votes.note(node, promise),
                }
                if granted && self.quorum.is_met(|node| at.votes.has(node)) {
                    let basis = Basis::of(&at.votes, AT);
                    self.propose(state, client, &basis);
                }
            }
            Phase::Accept => {
                // Then this is a second attempt, and nobody heard of the first.
                let taken = state
                    .kept
                    .get(&ballot)
                    .is_some_and(|k| k.taken >> owner & 1 == 1);
                state.clients[client].exposed |= taken;
                let accepted = self.ask(state, owner, ballot);
                let promised = state.owners[owner].promised().number;
                let at = &mut state.clients[client];
                match accepted {
                    false => {
                        at.outbid = true;
                        at.highest = at.highest.max(promised);
                    }
                    true => at.accepted |= 1 << owner,
                }
                let accepted = at.accepted;
                if self.quorum.is_met(|node| accepted >> node.0 & 1 == 1) {
                    self.settle(state, client);
                }
            }
            Phase::Idle => {}
        }
    }

    /// What an owner does with what was proposed. Says whether it has accepted it.
    fn ask(&self, state: &mut State, owner: usize, ballot: Ballot) -> bool {
        let Some(kept) = state.kept.get_mut(&ballot) else {
            return false;
        };
        let at = &mut state.owners[owner];
        let held = at.accepted().is_some_and(|held| held.ballot == ballot);
        if self.broken == Broken::LearnedAcknowledged && held {
            return true;
        }
        if self.broken == Broken::AcceptUnpromised {
            *at = Acceptor::new(Ballot::default(), at.accepted().cloned());
        }
        let register = Arc::new(kept.proposal.register.clone());
        let accepted = at.accept(Accepted {
            ballot,
            value: Arc::clone(&register),
            next: Some(kept.proposal.next),
        });
        if accepted.is_err() {
            return false;
        }
        kept.taken |= 1 << owner;
        if kept.taken.count_ones() == 2 {
            state.agree(ballot, register);
        }
        true
    }

    fn judge_look(&self, state: &mut State, client: usize) {
        let votes = &state.clients[client].votes;
        if !self.quorum.is_met(|node| votes.has(node)) {
            return;
        }
        if votes.are_clean(&self.core, &self.quorum) {
            let register = Basis::of(votes, AT).register;
            return self.end(state, client, &register);
        }
        if state.clients[client].rounds < self.rounds {
            self.begin_round(state, client);
        }
    }

    /// What is outstanding may still have effects.
    fn leave(&self, state: &mut State, client: usize) {
        let at = &mut state.clients[client];
        let carries = state
            .kept
            .get(&at.ballot)
            .is_some_and(|k| k.proposal.carries);
        let all_refused = at.accepted == 0 && at.answered == (1 << OWNERS) - 1;
        at.exposed |= at.phase == Phase::Accept && carries && !all_refused;
        // A copy of a message may still come: what was refused once is refused for ever.
        if !at.exposed && !matches!(self.clients[client][at.act], Act::Resolve(_)) {
            at.since = None;
        }
    }

    fn settle(&self, state: &mut State, client: usize) {
        let ballot = state.clients[client].ballot;
        let proposal = Arc::clone(&state.kept[&ballot].proposal);
        state.clients[client].reserved = Some(proposal.reservation(EPOCH));
        let denied = match (self.act(state, client), proposal.verdict) {
            (Some(Act::Write(number, _) | Act::Resolve(number)), verdict) => match verdict {
                Verdict::Failed | Verdict::Refused => 1 << number,
                Verdict::Applied(_) | Verdict::Forgotten | Verdict::Settled => 0,
            },
            (Some(Act::Read) | None, _) => 0,
        };
        state.denied |= denied;
        self.end(state, client, &proposal.register);
    }

    /// A write has ended without a result: it is not applied if nobody can have accepted it.
    fn give_up(&self, state: &mut State, client: usize, number: u8) {
        self.leave(state, client);
        if !state.clients[client].exposed {
            state.denied |= 1 << number;
        }
        state.clients[client].next_act();
        state.judge_denied();
    }

    /// An operation has ended, and seen this register.
    fn end(&self, state: &mut State, client: usize, register: &Register) {
        let seen = applied(register);
        let at = &mut state.clients[client];
        let missing = at.must_see & !seen;
        at.next_act();
        state.seen |= seen;
        if missing != 0 {
            state.broken = Some(format!("client {client} misses {missing:b}"));
        }
        state.judge_denied();
    }
}

impl Client {
    fn next_act(&mut self) {
        self.phase = Phase::Idle;
        self.act += 1;
        self.highest = self.highest.max(self.ballot.number);
        self.votes.clear();
        (self.answered, self.accepted) = (0, 0);
        (self.outbid, self.exposed, self.since) = (false, false, None);
        (self.must_see, self.rounds) = (0, 0);
    }
}

impl State {
    /// This is agreed on from now on. It must follow what was agreed on under a lower ballot, and
    /// be followed by what was under a higher one.
    fn agree(&mut self, ballot: Ballot, register: Arc<Register>) {
        let pair = match &self.agreed {
            Some((before, agreed)) if *before < ballot => Some((agreed, &register)),
            Some((_, agreed)) => Some((&register, agreed)),
            None => None,
        };
        if let Some((earlier, later)) = pair {
            let is_there = |entry: &&Entry| later.log.find(&entry.op) == Some(*entry);
            if let Some(lost) = earlier.log.iter().find(|entry| !is_there(entry)) {
                self.broken = Some(format!("{lost:?} was agreed on, and is lost"));
            }
        }
        if self
            .agreed
            .as_ref()
            .is_none_or(|(before, _)| *before < ballot)
        {
            self.agreed = Some((ballot, register));
        }
        self.judge_denied();
    }

    /// What was said not to be applied is not.
    fn judge_denied(&mut self) {
        if let Some((_, agreed)) = &self.agreed
            && applied(agreed) & self.denied != 0
        {
            self.broken = Some(format!("applied after all: {:?}", agreed.log));
        }
    }

    /// Forgets messages that change nothing any more.
    fn tidy(&mut self) {
        let Self {
            owners,
            clients,
            kept,
            ..
        } = self;
        kept.retain(|ballot, _| {
            let in_use = clients
                .iter()
                .any(|client| client.phase == Phase::Accept && client.ballot == *ballot);
            let open = owners.iter().any(|owner| owner.promised() <= *ballot);
            in_use || open
        });
    }

    fn note(&mut self, what: String) {
        let before = self.course.take();
        self.course = Some(Arc::new(Step { what, before }));
    }

    fn course(&self) -> Vec<String> {
        let mut steps = Vec::new();
        let mut next = self.course.as_ref();
        while let Some(step) = next {
            steps.push(step.what.clone());
            next = step.before.as_ref();
        }
        steps.reverse();
        steps
    }

    /// What tells it from others, whichever owner is which.
    fn key(&self) -> u128 {
        const ORDERS: [[usize; OWNERS]; 6] = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        let keys = ORDERS.iter().map(|order| self.key_in(order));
        keys.min().unwrap_or_default()
    }

    fn key_in(&self, order: &[usize; OWNERS]) -> u128 {
        let mut words = Vec::with_capacity(96);
        let short = |ballot: &Ballot| ballot.number << 8 | u64::from(ballot.proposer.0[0]);
        let mask = |bits: u8| {
            let bit = |(to, from): (usize, &usize)| u64::from(bits >> from & 1) << to;
            order.iter().enumerate().map(bit).sum::<u64>()
        };
        for owner in order.iter().map(|index| &self.owners[*index]) {
            words.push(short(&owner.promised()));
            let accepted = owner.accepted();
            words.push(accepted.map_or(0, |a| short(&a.ballot)));
            words.push(accepted.and_then(|a| a.next).map_or(0, |next| short(&next)));
            words.push(accepted.map_or(0, |a| u64::from(a.value.head.seal)));
        }
        for client in &self.clients {
            words.push(client.phase as u64 | (client.act as u64) << 8);
            words.push(u64::from(client.rounds) << 8 | u64::from(client.must_see));
            words.push(short(&client.ballot));
            words.push(mask(client.answered) << 8 | mask(client.accepted));
            words.push(u64::from(client.outbid) | u64::from(client.exposed) << 1);
            words.push(client.since.as_ref().map_or(0, short));
            words.push(client.highest);
            let reserved = client.reserved.as_ref();
            words.push(reserved.map_or(0, |r| short(&r.next)));
            words.push(reserved.map_or(0, |r| u64::from(r.register.head.seal)));
            words.push(short(&client.votes.accepted()) << 32 | short(&client.votes.promised()));
            let holders = client.votes.holders();
            words.push(mask(holders.iter().map(|node| 1 << node.0).sum()));
            let voted = (0..OWNERS).filter(|owner| client.votes.has(NodeId(*owner as u64)));
            words.push(mask(voted.map(|owner| 1 << owner).sum()));
            let highest = client.votes.highest();
            words.push(
                highest
                    .and_then(|shown| shown.next)
                    .map_or(0, |next| short(&next)),
            );
            words.push(highest.map_or(0, |shown| u64::from(shown.head.seal)));
        }
        for (ballot, Kept { proposal, taken }) in &self.kept {
            words.push(short(ballot));
            words.push(u64::from(proposal.register.head.seal) << 8 | mask(*taken));
        }
        let agreed = self.agreed.as_ref();
        words.push(agreed.map_or(0, |(ballot, _)| short(ballot)));
        words.extend(self.since.iter().map(short));
        words.push(u64::from(self.learns) << 16 | u64::from(self.seen) << 8);
        words.push(u64::from(self.denied));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        xxh3_128(&bytes)
    }
}

/// The operation of this number.
fn op(number: u8) -> OpId {
    OpId {
        client: Incarnation([100; 16]),
        sequence: u64::from(number),
        first_sent_ms: 0,
    }
}

/// The operations that a register says were applied.
fn applied(register: &Register) -> u8 {
    let entries = register.log.iter().filter(|e| e.fate == Fate::Applied);
    entries
        .map(|entry| 1 << entry.op.sequence)
        .fold(0, |a, b: u8| a | b)
}

fn promise(owner: &Owner) -> Promise {
    Promise {
        promised: owner.promised(),
        accepted: owner.accepted().map(|accepted| Shown {
            ballot: accepted.ballot,
            next: accepted.next,
            head: accepted.value.head,
            log: Some(accepted.value.log.clone()),
            value: Some(Default::default()),
        }),
    }
}

/// Rounds need none.
fn no_view() -> View {
    View {
        cluster: Default::default(),
        name: String::new(),
        seed: 0,
        epoch: EPOCH,
        value_bytes_max: 0,
        members: Members::default(),
        table: annulet_protocol::table::Table {
            partitions: 1,
            epoch: EPOCH,
            list_length: 3,
            regions: Vec::new(),
            ..Default::default()
        },
        buckets: Vec::new(),
        tip: Default::default(),
    }
}
