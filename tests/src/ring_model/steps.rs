//! What may happen next.

use super::state::{Node, Phase, State, TOOK, ballot};
use super::{Broken, Kind, Search};
use annulet_replica::acceptor::Accepted;

/// What happened; servers, operations and epochs by their places.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "a course is shown by `Debug`")]
pub(super) enum Step {
    Advance,
    Learn(u8),
    Crash(u8),
    /// An operation, under an epoch.
    Begin(u8, u8),
    /// Of an operation, to a server.
    Deliver(u8, u8),
    Conclude(u8),
    /// An operation goes on under an epoch with the answers that it has.
    GoOn(u8, u8),
    /// To a server, from one.
    Copy(u8, u8),
    /// From a server, to one.
    Push(u8, u8),
}

type Steps = Vec<(Step, State)>;

const OLDER: &str = "what is shown is older than what was completed before";
const FORKED: &str = "two lists were completed of which neither goes on from the other";

impl Search<'_> {
    /// All that may happen next, with what there is then.
    pub(super) fn steps(&self, state: &State, out: &mut Steps) {
        self.advance(state, out);
        for node in 0..self.nodes {
            let known = state.nodes[node].known;
            if known < state.decided {
                let mut after = *state;
                self.catch_up(&mut after.nodes[node], node, known + 1);
                out.push((Step::Learn(node as u8), after));
            }
            if self.breaks(Broken::FenceForgotten) && !state.crashed && known > 0 {
                let mut after = *state;
                (after.nodes[node].known, after.crashed) = (0, true);
                out.push((Step::Crash(node as u8), after));
            }
        }
        for op in 0..self.acts.len() {
            match state.ops[op].phase {
                Phase::Waiting => self.begin(state, op, out),
                Phase::Gone => {}
                Phase::Asking | Phase::Sending | Phase::Over | Phase::Left => {
                    self.deliver(state, op, out);
                    self.conclude(state, op, out);
                    self.go_on(state, op, out);
                }
            }
        }
        self.copy(state, out);
        if self.pushes {
            self.push(state, out);
        }
    }

    /// Whether a server has to copy what is of the key under an epoch.
    fn copies(&self, epoch: u8, node: usize) -> bool {
        let epoch = &self.epochs[usize::from(epoch)];
        let stays = self.breaks(Broken::StaysUncopied) && has(epoch.current, node);
        epoch.next.is_some_and(|next| has(next, node)) && !stays
    }

    /// Lets a server hold an epoch. What it gains it begins with empty, what it loses is gone.
    fn catch_up(&self, at: &mut Node, node: usize, epoch: u8) {
        while at.known < epoch {
            let (old, new) = (at.known, at.known + 1);
            let [before, after] = [old, new].map(|e| &self.epochs[usize::from(e)]);
            // A move that is aimed anew goes on from where it is.
            let goes_on = self.copies(old, node) && before.current == after.current;
            at.known = new;
            if self.copies(new, node) && goes_on {
                continue;
            }
            // Who stays has what it has itself.
            at.copied = match self.copies(new, node) {
                true => after.sources & 1 << node,
                false => 0,
            };
            let gains = self.copies(new, node) && !has(after.current, node);
            if gains || !has(after.owners(), node) {
                at.empty();
            }
        }
    }

    /// Whether a server answers a request of an epoch, once it has caught up.
    fn admits(&self, at: &mut Node, node: usize, epoch: u8) -> bool {
        if self.breaks(Broken::Unfenced) {
            return true;
        }
        if at.known < epoch {
            if self.breaks(Broken::BehindAnswers) {
                return true;
            }
            self.catch_up(at, node, epoch);
        }
        at.known == epoch
    }

    fn advance(&self, state: &State, out: &mut Steps) {
        let decided = state.decided;
        let Some(after) = self.epochs.get(usize::from(decided) + 1) else {
            return;
        };
        let epoch = &self.epochs[usize::from(decided)];
        if let Some(next) = epoch.next.filter(|_| after.current != epoch.current) {
            let is_done = |node: usize| {
                let at = &state.nodes[node];
                let enough = match self.breaks(Broken::CopiedFromOne) {
                    true => at.copied & epoch.current != 0,
                    false => is_majority(epoch.sources, at.copied),
                };
                at.known >= decided && enough || !self.copies(decided, node)
            };
            let done = (0..self.nodes).filter(|node| has(next, *node) && is_done(*node));
            let done = done.fold(0, |set, node| set | 1 << node);
            let closes = match self.breaks(Broken::ClosedEarly) {
                true => is_majority(next, done | next & epoch.current),
                false => done == next,
            };
            if !closes {
                return;
            }
        }
        let mut advanced = *state;
        advanced.decided += 1;
        out.push((Step::Advance, advanced));
    }

    fn begin(&self, state: &State, op: usize, out: &mut Steps) {
        let act = &self.acts[op];
        if let Some(before) = act.follows {
            return self.follow(state, (before, op), out);
        }
        // Of reads that are alike the first begins first.
        let twin = op.checked_sub(1).filter(|twin| {
            let reads = matches!(act.kind, Kind::Read | Kind::FastRead);
            reads && self.acts[*twin].kind == act.kind
        });
        if twin.is_some_and(|twin| state.ops[twin].phase == Phase::Waiting) {
            return;
        }
        let mut begun = *state;
        begun.ops[op].bound = state.completed;
        if let Some(first) = act.retries {
            begun.ops[op].bound = state.ops[first].bound;
            begun.ops[first].phase = match state.ops[first].phase {
                Phase::Sending => Phase::Left,
                Phase::Asking => Phase::Gone,
                _ => return,
            };
            if begun.ops[first].phase == Phase::Gone {
                forget_answers(&mut begun, first);
            }
        }
        let epochs = 0..=state.decided;
        for epoch in epochs.filter(|epoch| act.under.is_none_or(|under| under == *epoch)) {
            let mut after = begun;
            let begun = &mut after.ops[op];
            begun.epoch = epoch;
            begun.phase = Phase::Asking;
            if act.kind == Kind::Write {
                (begun.phase, begun.ballot) = (Phase::Sending, act.ballot);
            }
            out.push((Step::Begin(op as u8, epoch), after));
        }
    }

    /// A change under the ballot that the one before has reserved, in the epoch in which it did.
    fn follow(&self, state: &State, (before, op): (usize, usize), out: &mut Steps) {
        let first = &state.ops[before];
        let early = self.breaks(Broken::ReservedEarly) && first.phase == Phase::Sending;
        if first.phase != Phase::Over && !early {
            return;
        }
        let mut after = *state;
        let follower = &mut after.ops[op];
        follower.phase = Phase::Sending;
        follower.epoch = first.epoch;
        follower.ballot = self.acts[op].ballot;
        follower.value = append(first.value, self.acts[op].item);
        follower.bound = first.value;
        out.push((Step::Begin(op as u8, first.epoch), after));
    }

    fn deliver(&self, state: &State, op: usize, out: &mut Steps) {
        let running = &state.ops[op];
        let asking = running.phase == Phase::Asking;
        if !asking && running.ballot == 0 {
            // It sent nothing.
            return;
        }
        let owners = self.epochs[usize::from(running.epoch)].owners();
        for node in (0..self.nodes).filter(|node| has(owners, *node)) {
            let answer = state.nodes[node].answers[op];
            let answered = if asking {
                answer & !TOOK
            } else {
                answer & TOOK
            };
            let mut after = *state;
            if answered != 0 || !self.admits(&mut after.nodes[node], node, running.epoch) {
                continue;
            }
            let done = match asking {
                true => self.ask(&mut after, op, node),
                false => self.send(&mut after, op, node),
            };
            if done {
                out.push((Step::Deliver(op as u8, node as u8), after));
            }
        }
    }

    /// A server shows what it has, or promises.
    fn ask(&self, state: &mut State, op: usize, node: usize) -> bool {
        let act = &self.acts[op];
        let first = state.nodes.iter().all(|at| at.answers[op] == 0);
        let (at, running) = (&mut state.nodes[node], &mut state.ops[op]);
        match act.kind {
            Kind::Write => return false,
            Kind::Read => {
                at.answers[op] = 1 + at.accepted;
                running.ballot = running.ballot.max(at.accepted);
            }
            Kind::Change => {
                let mut acceptor = at.acceptor();
                if acceptor.prepare(ballot(act.ballot)).is_err() {
                    return false;
                }
                at.become_acceptor(&acceptor);
                at.answers[op] = 1;
                if at.accepted > running.ballot {
                    (running.ballot, running.value) = (at.accepted, at.value);
                }
            }
            Kind::FastRead => {
                let same = first || running.ballot == at.accepted;
                if !same || !self.is_clean(at) {
                    return false;
                }
                at.answers[op] = 1;
                (running.ballot, running.value) = (at.accepted, at.value);
            }
        }
        true
    }

    /// Whether nothing but what was reserved with it was promised beyond what a server has.
    fn is_clean(&self, at: &Node) -> bool {
        let mut acts = self.acts.iter();
        let made_by = acts.find(|act| act.kind == Kind::Change && act.ballot == at.accepted);
        let reserved = made_by.map_or(0, |act| act.reserves);
        at.promised <= at.accepted
            || at.promised == at.reserved
            || self.breaks(Broken::PromisesIgnored)
            || self.breaks(Broken::ReservationStretched) && at.promised <= reserved
    }

    /// A server takes what an operation sends.
    fn send(&self, state: &mut State, op: usize, node: usize) -> bool {
        let act = &self.acts[op];
        let (at, running) = (&mut state.nodes[node], &state.ops[op]);
        match act.kind {
            Kind::Write | Kind::Read => at.accepted = at.accepted.max(running.ballot),
            Kind::Change => {
                let mut acceptor = at.acceptor();
                let accept = Accepted {
                    ballot: ballot(act.ballot),
                    value: running.value,
                    next: (act.reserves > 0).then(|| ballot(act.reserves)),
                };
                if acceptor.accept(accept).is_err() {
                    return false;
                }
                at.become_acceptor(&acceptor);
            }
            Kind::FastRead => return false,
        }
        at.answers[op] |= TOOK;
        true
    }

    fn conclude(&self, state: &State, op: usize, out: &mut Steps) {
        let running = &state.ops[op];
        let epoch = &self.epochs[usize::from(running.epoch)];
        let who = |answered: &dyn Fn(u8) -> bool| {
            let nodes = (0..self.nodes).filter(|node| answered(state.nodes[*node].answers[op]));
            nodes.fold(0, |set, node| set | 1usize << node)
        };
        let mut after = *state;
        match running.phase {
            Phase::Asking if epoch.reads[who(&|answer| answer & !TOOK != 0)] => {
                let shown = 1 + running.ballot;
                let agree = epoch.reads[who(&|answer| answer == shown)];
                self.conclude_asking(&mut after, op, agree);
            }
            Phase::Sending if epoch.writes[who(&|answer| answer & TOOK != 0)] => {
                self.complete(&mut after, op);
            }
            _ => return,
        }
        out.push((Step::Conclude(op as u8), after));
    }

    /// `agree`: a quorum has shown the newest.
    fn conclude_asking(&self, state: &mut State, op: usize, agree: bool) {
        let act = &self.acts[op];
        let newest = 1 + state.ops[op].ballot;
        let completed = match act.kind {
            Kind::Read => agree || self.breaks(Broken::NotWrittenBack),
            Kind::FastRead => true,
            Kind::Write | Kind::Change => false,
        };
        if completed {
            self.complete(state, op);
            state.ops[op].ballot = 0;
            return forget_answers(state, op);
        }
        for at in &mut state.nodes {
            let holds = act.kind == Kind::Read && at.answers[op] == newest;
            at.answers[op] = if holds { TOOK } else { 0 };
        }
        let running = &mut state.ops[op];
        running.phase = Phase::Sending;
        if act.kind == Kind::Change {
            running.ballot = act.ballot;
            if !has_item(running.value, act.item) {
                running.value = append(running.value, act.item);
            }
        }
    }

    /// An operation is completed: was it allowed to say what it says?
    fn complete(&self, state: &mut State, op: usize) {
        let running = &mut state.ops[op];
        running.phase = Phase::Over;
        let (bound, completed) = (running.bound, state.completed);
        match self.acts[op].kind {
            Kind::Write | Kind::Read => {
                if self.acts[op].kind == Kind::Read && running.ballot < bound {
                    state.broken = Some(OLDER);
                }
                state.completed = completed.max(running.ballot);
            }
            Kind::Change | Kind::FastRead => {
                if !goes_on_from(running.value, bound) {
                    state.broken = Some(OLDER);
                }
                if goes_on_from(running.value, completed) {
                    state.completed = running.value;
                } else if !goes_on_from(completed, running.value) {
                    state.broken = Some(FORKED);
                }
            }
        }
    }

    /// An operation moves to a later epoch and still counts what was answered under the earlier.
    fn go_on(&self, state: &State, op: usize, out: &mut Steps) {
        let running = &state.ops[op];
        let waits = match self.acts[op].kind {
            Kind::Write => running.phase == Phase::Sending,
            Kind::Change => running.phase == Phase::Asking,
            Kind::Read | Kind::FastRead => false,
        };
        if !waits || !self.breaks(Broken::EpochsMixed) {
            return;
        }
        for epoch in running.epoch + 1..=state.decided {
            let mut after = *state;
            after.ops[op].epoch = epoch;
            out.push((Step::GoOn(op as u8, epoch), after));
        }
    }

    fn copy(&self, state: &State, out: &mut Steps) {
        for to in 0..self.nodes {
            let target = &state.nodes[to];
            let epoch = target.known;
            if !self.copies(epoch, to) {
                continue;
            }
            let sources = self.epochs[usize::from(epoch)].sources;
            if is_majority(sources, target.copied) {
                // More changes nothing that a push would not.
                continue;
            }
            for from in (0..self.nodes).filter(|from| has(sources & !target.copied, *from)) {
                let source = &state.nodes[from];
                let fenced = match self.broken {
                    Some(Broken::CopiedUnfenced) => source.known <= epoch,
                    Some(Broken::OldFence) => (1..=epoch).contains(&source.known),
                    _ => source.known == epoch,
                };
                if fenced {
                    let mut after = *state;
                    let promises = !self.breaks(Broken::PromisesNotCopied);
                    self.merge(&mut after.nodes[to], source, promises);
                    after.nodes[to].copied |= 1 << from;
                    out.push((Step::Copy(to as u8, from as u8), after));
                }
            }
        }
    }

    fn push(&self, state: &State, out: &mut Steps) {
        for (from, source) in state.nodes.iter().enumerate() {
            let owners = self.epochs[usize::from(source.known)].owners();
            for to in (0..self.nodes).filter(|to| has(owners, *to)) {
                let newer = source.accepted > state.nodes[to].accepted;
                let mut after = *state;
                if newer && self.admits(&mut after.nodes[to], to, source.known) {
                    self.merge(&mut after.nodes[to], source, false);
                    out.push((Step::Push(from as u8, to as u8), after));
                }
            }
        }
    }

    /// Brings a server what another one has.
    fn merge(&self, to: &mut Node, from: &Node, promises: bool) {
        let is_strong = |kind| matches!(kind, Kind::Change | Kind::FastRead);
        if !self.acts.iter().any(|act| is_strong(act.kind)) {
            to.accepted = to.accepted.max(from.accepted);
            return;
        }
        let mut acceptor = to.acceptor();
        let ignored = self.breaks(Broken::LowCopyIgnored) && from.accepted < to.promised;
        if from.accepted > 0 && !ignored {
            acceptor.learn(ballot(from.accepted), from.value);
        }
        if promises {
            // Refused where as much was promised.
            let _ = acceptor.prepare(ballot(from.promised));
        }
        to.become_acceptor(&acceptor);
    }
}

fn has(set: u8, node: usize) -> bool {
    set >> node & 1 == 1
}

fn is_majority(of: u8, set: u8) -> bool {
    (set & of).count_ones() > of.count_ones() / 2
}

fn forget_answers(state: &mut State, op: usize) {
    state.nodes.iter_mut().for_each(|at| at.answers[op] = 0);
}

/// A list is a number in base four, its last item the lowest digit.
fn append(list: u8, item: u8) -> u8 {
    list * 4 + item
}

fn has_item(mut list: u8, item: u8) -> bool {
    while list > 0 && list % 4 != item {
        list /= 4;
    }
    list > 0
}

fn goes_on_from(mut list: u8, start: u8) -> bool {
    while list > start {
        list /= 4;
    }
    list == start
}
