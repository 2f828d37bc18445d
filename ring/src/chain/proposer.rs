//! One attempt to decide the record that follows an epoch: single-decree Paxos among that epoch's
//! keepers (Lamport, "Paxos made simple", 2001), between two questions of who holds what.
//!
//! 1. A majority of the keepers to be holds the epoch durably: they exist, and can go on from it.
//! 2. Prepare and accept, at one ballot. What a keeper accepted earlier, at the highest ballot of
//!    all, is taken over and finished in place of the proposer's own record.
//! 3. The record is held here, then by a majority of its own keepers. Nobody acts under it before.
//!
//! An attempt that is lost is over; the next one has a higher ballot. Whoever drives it gives every
//! question exactly one answer or failure, and tells [`Proposer::handle_taken`] what is durable.

use annulet_protocol::ballot::Ballot;
use annulet_protocol::epoch::{
    Accept, ChainAnswer, ChainQuestion, Decided, EpochRecord, Offer, Point, Prepare, Promised,
};
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::View;
use bytes::Bytes;

/// How often one server is brought what it lacks, in one attempt.
const BROUGHT_MAX: usize = 3;

/// See the module.
#[derive(Clone, Debug)]
pub struct Proposer {
    of: Point,
    keepers: Vec<NodeId>,
    /// The keepers of the record that is proposed.
    heirs: Vec<NodeId>,
    /// What is proposed where nothing was accepted before.
    own: Bytes,
    ballot: Ballot,
    stage: Stage,
    asked: Vec<Asked>,
    names: u32,
    /// The highest ballot that was in the way.
    above: Ballot,
    /// What a server said last that would not.
    refusal: Option<String>,
    /// A keeper may have accepted the proposer's own record.
    exposed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Receipts,
    Preparing(Option<(Ballot, Bytes)>),
    Accepting(Bytes),
    Taking(Bytes),
    Spreading(Bytes, Point),
    Over,
}

/// One of those that are asked in a stage.
#[derive(Clone, Debug)]
struct Asked {
    node: NodeId,
    /// The question that is out; answers to earlier ones are ignored.
    name: u32,
    said: Said,
    brought: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Yes,
    /// Another ballot was in the way.
    Rejected,
    /// No answer, or one that is of no use.
    Failed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask a server; itself, too.
    Ask(Question, ChainQuestion),
    /// Offer a server all that follows this epoch in the chain that is held here.
    Bring(Question, Point),
    /// Hold this decided record, then say so.
    Take(Bytes),
    /// The attempt is over.
    Done(Outcome),
}

/// A question: to whom, and its name among those of this attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// Whom.
    pub node: NodeId,
    /// Its name.
    pub name: u32,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This record was decided, and a majority of its keepers holds it: it may be acted under. It
    /// may be another one than was proposed.
    Settled(Bytes),
    /// This record was decided, but too few of its keepers could be told.
    Unsettled(Bytes),
    /// This ballot, or the attempt's own, was in the way.
    Lost(Ballot),
    /// Too few keepers answered.
    Unreachable {
        /// What one of them said.
        why: Option<String>,
    },
}

impl Proposer {
    /// An attempt to have this record follow the epoch of a view.
    pub fn new(view: &View, own: Bytes, ballot: Ballot) -> Self {
        // What cannot be read is refused by the keepers, whoever they are.
        let named = EpochRecord::decode(&own).map_or_else(|_| Vec::new(), |record| record.keepers);
        let keepers = view.tip.keepers.clone();
        Self {
            of: view.point(),
            heirs: if named.is_empty() {
                keepers.clone()
            } else {
                named
            },
            keepers,
            own,
            ballot,
            stage: Stage::Receipts,
            asked: Vec::new(),
            names: 0,
            above: Ballot::default(),
            refusal: None,
            exposed: false,
        }
    }

    /// An attempt to bring a decided record, which is held here, to its keepers.
    pub fn spreading(view: &View, record: Bytes) -> Self {
        Self {
            stage: Stage::Taking(record.clone()),
            ..Self::new(view, record, Ballot::default())
        }
    }

    /// Whether a keeper may have accepted the record that was proposed, so that it may be decided
    /// by somebody else later.
    pub fn is_exposed(&self) -> bool {
        self.exposed
    }

    /// Begins.
    pub fn start(&mut self) -> Vec<Effect> {
        match self.stage {
            Stage::Taking(_) => self.handle_taken(),
            _ => self.enter(Stage::Receipts),
        }
    }

    /// A server answers.
    pub fn handle_answer(&mut self, from: Question, answer: ChainAnswer) -> Vec<Effect> {
        let Some(at) = self.expected(from) else {
            return Vec::new();
        };
        match answer {
            ChainAnswer::Decided(Decided { record }) if !self.is_spreading() => {
                return self.take(record);
            }
            ChainAnswer::Holds(point) => return self.holds(at, point),
            ChainAnswer::Lacks(point) => return self.bring(at, point),
            ChainAnswer::Promised(Promised { ballot, record }) => {
                if let Stage::Preparing(best) = &mut self.stage {
                    self.asked[at].said = Said::Yes;
                    let higher = best.as_ref().is_none_or(|(known, _)| ballot > *known);
                    if let Some(record) = record.filter(|_| higher) {
                        *best = Some((ballot, record));
                    }
                }
            }
            ChainAnswer::Accepted(_) if matches!(self.stage, Stage::Accepting(_)) => {
                self.asked[at].said = Said::Yes;
            }
            ChainAnswer::Rejected(ballot) => {
                self.asked[at].said = Said::Rejected;
                self.above = self.above.max(ballot);
            }
            ChainAnswer::Refused(why) => {
                self.asked[at].said = Said::Failed;
                self.refusal = Some(why);
            }
            ChainAnswer::Accepted(_)
            | ChainAnswer::Decided(_)
            | ChainAnswer::Copied(_)
            | ChainAnswer::Stands(_)
            | ChainAnswer::SealedAbove(_)
            | ChainAnswer::Unknown => {
                self.asked[at].said = Said::Failed;
            }
        }
        self.judge()
    }

    /// A server does not answer, or could not be asked.
    pub fn handle_failure(&mut self, from: Question) -> Vec<Effect> {
        let Some(at) = self.expected(from) else {
            return Vec::new();
        };
        self.asked[at].said = Said::Failed;
        self.judge()
    }

    /// The decided record is durable here.
    pub fn handle_taken(&mut self) -> Vec<Effect> {
        let Stage::Taking(record) = &self.stage else {
            return Vec::new();
        };
        let record = record.clone();
        match EpochRecord::decode(&record) {
            Ok(decoded) => {
                if !decoded.keepers.is_empty() {
                    self.keepers.clone_from(&decoded.keepers);
                }
                self.enter(Stage::Spreading(record, decoded.point()))
            }
            // What could not be read was not held either.
            Err(error) => {
                self.refusal = Some(error.to_string());
                self.over(Outcome::Unsettled(record))
            }
        }
    }

    fn is_spreading(&self) -> bool {
        matches!(self.stage, Stage::Spreading(..))
    }

    /// The place of whoever was asked this and has not answered yet.
    fn expected(&self, from: Question) -> Option<usize> {
        let expected = |asked: &Asked| {
            asked.node == from.node && asked.name == from.name && asked.said == Said::Nothing
        };
        self.asked.iter().position(expected)
    }

    /// What a server holds; in the stages of the vote, after it was brought what it lacked.
    fn holds(&mut self, at: usize, point: Point) -> Vec<Effect> {
        let target = match &self.stage {
            Stage::Spreading(_, target) => *target,
            _ => self.of,
        };
        if point.generation > target.generation && point.number >= target.number
            || point.generation < target.generation && point.number > target.number
        {
            self.asked[at].said = Said::Failed;
            let generation = point.generation;
            self.refusal = Some(format!("it holds an epoch of generation {generation}"));
            return self.judge();
        }
        if point.number < target.number {
            return self.bring(at, point);
        }
        if point.number == target.number && point.hash != target.hash {
            self.asked[at].said = Said::Failed;
            self.refusal = Some("it holds another epoch of that number".into());
            return self.judge();
        }
        match self.stage {
            Stage::Preparing(_) | Stage::Accepting(_) => {
                self.names += 1;
                self.asked[at].name = self.names;
                vec![self.ask(at)]
            }
            _ => {
                self.asked[at].said = Said::Yes;
                self.judge()
            }
        }
    }

    fn bring(&mut self, at: usize, point: Point) -> Vec<Effect> {
        let asked = &mut self.asked[at];
        asked.brought += 1;
        if asked.brought > BROUGHT_MAX {
            asked.said = Said::Failed;
            return self.judge();
        }
        self.names += 1;
        asked.name = self.names;
        let question = Question {
            node: asked.node,
            name: asked.name,
        };
        vec![Effect::Bring(question, point)]
    }

    fn take(&mut self, record: Bytes) -> Vec<Effect> {
        self.stage = Stage::Taking(record.clone());
        self.asked.clear();
        vec![Effect::Take(record)]
    }

    fn over(&mut self, outcome: Outcome) -> Vec<Effect> {
        self.stage = Stage::Over;
        self.asked.clear();
        vec![Effect::Done(outcome)]
    }

    /// Begins a stage: all its keepers are asked.
    fn enter(&mut self, stage: Stage) -> Vec<Effect> {
        if let Stage::Accepting(record) = &stage {
            self.exposed |= *record == self.own;
        }
        let of = match stage {
            Stage::Receipts => &self.heirs,
            _ => &self.keepers,
        };
        self.stage = stage;
        let first = self.names + 1;
        self.names += of.len() as u32;
        self.asked = of
            .iter()
            .zip(first..)
            .map(|(node, name)| Asked {
                node: *node,
                name,
                said: Said::Nothing,
                brought: 0,
            })
            .collect();
        (0..self.asked.len()).map(|at| self.ask(at)).collect()
    }

    /// The question of this stage.
    fn ask(&self, at: usize) -> Effect {
        let (of, ballot) = (self.of, self.ballot);
        let question = match &self.stage {
            Stage::Preparing(_) => ChainQuestion::Prepare(Prepare { of, ballot }),
            Stage::Accepting(record) => ChainQuestion::Accept(Accept {
                of,
                ballot,
                record: record.clone(),
            }),
            Stage::Spreading(record, target) => {
                ChainQuestion::Offer(Offer::new(vec![record.clone()], of, *target))
            }
            Stage::Receipts | Stage::Taking(_) | Stage::Over => {
                ChainQuestion::Offer(Offer::new(Vec::new(), of, of))
            }
        };
        let Asked { node, name, .. } = self.asked[at];
        Effect::Ask(Question { node, name }, question)
    }

    /// Goes on if a majority said yes, and gives up if none can any more.
    fn judge(&mut self) -> Vec<Effect> {
        let count = |said| self.asked.iter().filter(|asked| asked.said == said).count();
        let majority = self.asked.len() / 2 + 1;
        if count(Said::Yes) >= majority {
            return match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Receipts => self.enter(Stage::Preparing(None)),
                Stage::Preparing(best) => {
                    let record = best.map_or_else(|| self.own.clone(), |(_, record)| record);
                    self.enter(Stage::Accepting(record))
                }
                Stage::Accepting(record) => self.take(record),
                Stage::Spreading(record, _) => self.over(Outcome::Settled(record)),
                Stage::Taking(_) | Stage::Over => Vec::new(),
            };
        }
        if self.asked.len() - count(Said::Failed) - count(Said::Rejected) >= majority {
            return Vec::new();
        }
        let outcome = match &self.stage {
            Stage::Spreading(record, _) => Outcome::Unsettled(record.clone()),
            _ if count(Said::Rejected) > 0 => Outcome::Lost(self.above),
            _ => Outcome::Unreachable {
                why: self.refusal.take(),
            },
        };
        self.over(outcome)
    }
}
