//! Beginning the chain anew after a majority of its keepers was lost for good. An operator says
//! that they are; no server decides that by itself.
//!
//! 1. Every member is asked where it stands. While a majority of the keepers answers there is
//!    nothing to recover, unless a recovery was begun and did not come to its end.
//! 2. Every member that answers is *sealed*: nothing below the new generation is voted on,
//!    proposed or learned there any more, and only then it says where it stands. So nothing that
//!    is not in these answers can be decided later without somebody who did not answer.
//! 3. The newest epoch of all goes on through its accepted successor of highest ballot, which may
//!    have been decided, to a record of the new generation. Its keepers are of those that answered.
//!
//! Answers that are not on one chain end it: whichever went on, another one would have been left
//! in the lurch. Who does not answer is taken to be lost. If it comes back it joins if its newest
//! epoch is on the chain, else it stops, loudly; what only such members knew is lost with them. So
//! one active member that answers is enough to go on: fewer cannot be asked for where of three
//! servers two are lost.
//!
//! The record is held by whoever drives this; a [`Proposer`] then brings it to its keepers.
//!
//! [`Proposer`]: super::proposer::Proposer

use super::proposer::Question;
use super::{Relation, apply, keepers};
use annulet_protocol::epoch::{ChainAnswer, ChainQuestion, EpochRecord, Point};
use annulet_protocol::ids::{ChangeId, EpochHash, NodeId};
use annulet_protocol::limits::GENERATION_MAX;
use annulet_protocol::recovery::{Anew, MemberFound, Seal, Stands};
use annulet_protocol::view::View;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// How often all are asked again because one of them is sealed for a higher generation.
const ROUNDS_MAX: usize = 8;

/// See the module.
#[derive(Clone, Debug)]
pub struct Recovery {
    node: NodeId,
    id: ChangeId,
    /// The newest epoch that is held here.
    base: View,
    /// The number of the first epoch that is held here.
    first: u64,
    proceed: bool,
    fetched: bool,
    stage: Stage,
    /// What is asked for in this round; 0: nobody is sealed yet.
    generation: u64,
    rounds: usize,
    asked: Vec<Asked>,
    names: u32,
    /// Who answered before anybody was sealed.
    answered: BTreeSet<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Asking,
    Taking(Bytes, Anew),
    Over,
}

#[derive(Clone, Debug)]
struct Asked {
    node: NodeId,
    name: u32,
    said: Said,
}

#[derive(Clone, Debug)]
enum Said {
    Nothing,
    Stands(Box<Stands>, Relation),
    /// It is sealed for this generation, or holds an epoch of it.
    Above(u64),
    Failed(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask a member; itself, too.
    Ask(Question, ChainQuestion),
    /// Hold these records, then say so.
    Take(Vec<Bytes>),
    /// It is over.
    Done(Box<Report>),
}

/// What was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Every member, and what it said.
    pub members: Vec<MemberFound>,
    /// The newest epoch that was found.
    pub newest: Point,
    /// Its keepers.
    pub keepers: Vec<NodeId>,
    /// What became of it.
    pub outcome: Outcome,
}

/// How a recovery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It can be done like this; nothing was changed.
    Possible(Anew),
    /// This member holds more than whoever asks, who should fetch it and begin again.
    Behind(NodeId),
    /// It is not needed or not possible; nothing was changed.
    Refused(String),
    /// Some members are sealed, and nothing was begun.
    Interrupted(String),
    /// This record begins the chain anew. It is held here, and goes to its keepers now.
    Begun(Bytes, Anew),
}

/// The chain that the answers are on.
struct Found {
    view: View,
    /// What leads to it from the base.
    records: Vec<Bytes>,
    hashes: BTreeMap<u64, EpochHash>,
}

impl Recovery {
    /// A recovery by `node`, whose newest epoch is that of `base`, and whose chain begins with
    /// epoch `first`. `proceed`: else it only says what would be done. `fetched`: `base` is as new
    /// as it can be made.
    pub fn new(
        node: NodeId,
        id: ChangeId,
        (base, first): (View, u64),
        proceed: bool,
        fetched: bool,
    ) -> Self {
        Self {
            node,
            id,
            base,
            first,
            proceed,
            fetched,
            stage: Stage::Asking,
            generation: 0,
            rounds: 0,
            asked: Vec::new(),
            names: 0,
            answered: BTreeSet::new(),
        }
    }

    /// Begins.
    pub fn start(&mut self) -> Vec<Effect> {
        self.ask_all()
    }

    fn ask_all(&mut self) -> Vec<Effect> {
        let first = self.names + 1;
        self.names += self.base.members.len() as u32;
        let members = self.base.members.iter().zip(first..);
        self.asked = members
            .map(|(member, name)| Asked {
                node: member.id,
                name,
                said: Said::Nothing,
            })
            .collect();
        let (generation, after) = (self.generation, self.base.point());
        let ask = |asked: &Asked| {
            let Asked { node, name, .. } = *asked;
            let seal = Seal { generation, after };
            Effect::Ask(Question { node, name }, ChainQuestion::Seal(seal))
        };
        self.asked.iter().map(ask).collect()
    }

    /// A member answers. `relation`: how its newest epoch, if it tells one, stands to the chain
    /// that is held here.
    pub fn handle_answer(
        &mut self,
        from: Question,
        answer: ChainAnswer,
        relation: Relation,
    ) -> Vec<Effect> {
        let said = match answer {
            ChainAnswer::Stands(stands) => Said::Stands(stands, relation),
            ChainAnswer::SealedAbove(generation) => Said::Above(generation),
            ChainAnswer::Refused(why) => Said::Failed(why),
            _ => Said::Failed("its answer is of no use: it may be of another version".into()),
        };
        self.said(from, said)
    }

    /// A member does not answer, or could not be asked.
    pub fn handle_failure(&mut self, from: Question, why: String) -> Vec<Effect> {
        self.said(from, Said::Failed(why))
    }

    fn said(&mut self, from: Question, said: Said) -> Vec<Effect> {
        let asked = self.asked.iter_mut().find(|asked| {
            let nothing = matches!(asked.said, Said::Nothing);
            nothing && asked.node == from.node && asked.name == from.name
        });
        let Some(asked) = asked.filter(|_| self.stage == Stage::Asking) else {
            return Vec::new();
        };
        asked.said = said;
        let waits = |asked: &Asked| matches!(asked.said, Said::Nothing);
        match self.asked.iter().any(waits) {
            true => Vec::new(),
            false if self.generation == 0 => self.looked(),
            false => self.sealed(),
        }
    }

    /// The records are durable here.
    pub fn handle_taken(&mut self) -> Vec<Effect> {
        let Stage::Taking(record, anew) = &self.stage else {
            return Vec::new();
        };
        let outcome = Outcome::Begun(record.clone(), anew.clone());
        self.over(outcome)
    }

    /// The records cannot be held here.
    pub fn handle_not_taken(&mut self, why: String) -> Vec<Effect> {
        self.over(Outcome::Interrupted(why))
    }

    /// Everybody has said where it stands, and nobody is sealed yet.
    fn looked(&mut self) -> Vec<Effect> {
        let ahead = |(node, stands, relation): (NodeId, &Stands, Relation)| {
            let fetchable = relation == Relation::Ahead && stands.known && !self.fetched;
            fetchable.then_some((stands.newest.ordinal(), node))
        };
        if let Some((_, node)) = self.stands().filter_map(ahead).max() {
            return self.over(Outcome::Behind(node));
        }
        let found = match self.found() {
            Ok(found) => found,
            Err(why) => return self.over(Outcome::Refused(why)),
        };
        let sealed = |(_, stands, _): (NodeId, &Stands, Relation)| stands.sealed;
        let begun = self.stands().map(sealed).max() > Some(found.view.tip.generation);
        let keepers = &found.view.tip.keepers;
        let there = keepers.iter().filter(|keeper| self.answers(**keeper));
        let (there, all) = (there.count(), keepers.len());
        if there > all / 2 && !begun {
            return self.over(Outcome::Refused(format!(
                "{there} of the {all} keepers answer, which is enough to decide epochs: there is \
                 nothing to recover"
            )));
        }
        self.generation = self.highest().saturating_add(1);
        if self.generation > GENERATION_MAX {
            let why = format!("there is no generation above {GENERATION_MAX}");
            return self.over(Outcome::Refused(why));
        }
        let anew = match self.anew(found) {
            Ok((_, anew)) => anew,
            Err(why) => return self.over(Outcome::Refused(why)),
        };
        if !self.proceed {
            return self.over(Outcome::Possible(anew));
        }
        self.answered = self.stands().map(|(node, ..)| node).collect();
        self.ask_all()
    }

    /// Everybody that answers is sealed, or will not be for this generation.
    fn sealed(&mut self) -> Vec<Effect> {
        let above = self.asked.iter().filter_map(|asked| match asked.said {
            Said::Above(generation) => Some(generation),
            _ => None,
        });
        if let Some(above) = above.max() {
            self.generation = above.max(self.highest()).saturating_add(1);
            self.rounds += 1;
            if self.rounds > ROUNDS_MAX || self.generation > GENERATION_MAX {
                let why = "members are sealed for ever higher generations: another recovery is \
                           under way";
                return self.over(Outcome::Interrupted(why.into()));
            }
            return self.ask_all();
        }
        let silent = self.answered.iter().filter(|node| !self.answers(**node));
        let silent: Vec<_> = silent.map(ToString::to_string).collect();
        if !silent.is_empty() {
            let why = format!(
                "{} answered before, and then did not when they were to be sealed: ask again",
                silent.join(", ")
            );
            return self.over(Outcome::Interrupted(why));
        }
        match self.found().and_then(|found| self.anew(found)) {
            Ok((records, anew)) => {
                let Some(record) = records.last().cloned() else {
                    return Vec::new();
                };
                self.stage = Stage::Taking(record, anew);
                vec![Effect::Take(records)]
            }
            Err(why) => self.over(Outcome::Interrupted(why)),
        }
    }

    /// Those that said where they stand.
    fn stands(&self) -> impl Iterator<Item = (NodeId, &Stands, Relation)> {
        self.asked.iter().filter_map(|asked| match &asked.said {
            Said::Stands(stands, relation) => Some((asked.node, &**stands, *relation)),
            Said::Nothing | Said::Above(_) | Said::Failed(_) => None,
        })
    }

    fn answers(&self, node: NodeId) -> bool {
        self.stands().any(|(answers, ..)| answers == node)
    }

    /// The highest generation that any answer holds or is sealed for.
    fn highest(&self) -> u64 {
        let highest =
            |(_, stands, _): (NodeId, &Stands, _)| stands.sealed.max(stands.newest.generation);
        let highest = self.stands().map(highest).max();
        highest.unwrap_or(0).max(self.base.tip.generation)
    }

    /// The chain of the newest epoch, if all answers are on it.
    fn found(&self) -> Result<Found, String> {
        let own = self.stands().find(|(node, ..)| *node == self.node);
        if own.is_none_or(|(_, stands, _)| stands.newest != self.base.point()) {
            let why = "this server took a newer epoch meanwhile, or cannot say where it stands: \
                       ask again";
            return Err(why.into());
        }
        let found = self.newest()?;
        let newer = |(_, stands, relation): &(NodeId, &Stands, Relation)| {
            let unknown = *relation == Relation::Ahead && !stands.known;
            unknown && stands.newest.ordinal() > found.view.ordinal()
        };
        if let Some((node, stands, _)) = self.stands().find(newer) {
            return Err(format!(
                "{node} holds epoch {}, and nobody that answers knows the way there from {}: ask \
                 that server itself",
                stands.newest.number, found.view.epoch
            ));
        }
        let was_asked = |id: NodeId| self.asked.iter().any(|asked| asked.node == id);
        if let Some(member) = found.view.members.iter().find(|m| !was_asked(m.id)) {
            return Err(format!(
                "{} ({}) has joined since epoch {}, which is the newest that this server holds: \
                 ask one that holds epoch {}",
                member.address, member.id, self.base.epoch, found.view.epoch
            ));
        }
        let forks = self.stands().filter(|of| !is_on(&found, of.1, of.2));
        let forks: Vec<_> = forks
            .map(|(node, stands, _)| {
                let Point {
                    generation,
                    number,
                    hash,
                } = stands.newest;
                format!("{node} (epoch {number} of generation {generation}, {hash})")
            })
            .collect();
        if forks.is_empty() {
            return Ok(found);
        }
        let Point { number, hash, .. } = found.view.point();
        Err(format!(
            "not all members are on one chain: epoch {number} ({hash}) does not go on from what \
             these hold: {}. Decide which of them is to go on, stop the others, and ask again",
            forks.join(", ")
        ))
    }

    /// The newest epoch of the chain that is here.
    fn newest(&self) -> Result<Found, String> {
        let ahead = self.stands().filter(|(_, stands, relation)| {
            // What does not hold what is here is no way from it.
            *relation == Relation::Ahead && stands.known
        });
        let farthest = ahead.max_by_key(|(_, stands, _)| stands.newest.ordinal());
        let mut found = Found {
            view: self.base.clone(),
            records: Vec::new(),
            hashes: BTreeMap::new(),
        };
        let Some((node, stands, _)) = farthest else {
            return Ok(found);
        };
        for bytes in &stands.records {
            let record = EpochRecord::decode(bytes).map_err(|error| error.to_string())?;
            found.view = apply(&found.view, &record).map_err(|error| error.to_string())?;
            found.hashes.insert(record.number, found.view.tip.hash);
            found.records.push(bytes.clone());
        }
        match found.view.point() == stands.newest {
            true => Ok(found),
            false => Err(format!(
                "{node} holds so many epochs more than this server that it must be asked itself"
            )),
        }
    }

    /// The records that lead from the base to the new generation, and how it goes on.
    fn anew(&self, found: Found) -> Result<(Vec<Bytes>, Anew), String> {
        let Found {
            mut view,
            mut records,
            ..
        } = found;
        let at_end = self
            .stands()
            .filter(|(_, stands, _)| stands.newest == view.point());
        let accepted =
            at_end.filter_map(|(_, stands, _)| Some((stands.ballot, stands.accepted.as_ref()?)));
        if let Some((_, bytes)) = accepted.max_by_key(|(ballot, _)| *ballot) {
            let record = EpochRecord::decode(bytes).map_err(|error| error.to_string())?;
            records.push(bytes.clone());
            view = apply(&view, &record).map_err(|error| error.to_string())?;
        }
        // Who holds less than the chain here begins with cannot be brought along by records.
        let reached = self
            .stands()
            .filter(|(_, stands, _)| stands.newest.number >= self.first);
        let answer: Vec<_> = reached.map(|(node, ..)| node).collect();
        let keepers = keepers::anew(&view.members, &view.tip.keepers, &answer);
        if keepers.is_empty() {
            let why = "no member that answers is active, and only such may decide epochs: bring \
                       one back that is";
            return Err(why.into());
        }
        let record = EpochRecord {
            generation: self.generation,
            number: view.epoch.saturating_add(1),
            before: view.tip.hash,
            keepers: keepers.clone(),
            change: self.id,
            ..EpochRecord::default()
        };
        apply(&view, &record).map_err(|error| error.to_string())?;
        records.push(record.encode());
        let epoch = record.point();
        Ok((records, Anew { epoch, keepers }))
    }

    fn over(&mut self, outcome: Outcome) -> Vec<Effect> {
        self.stage = Stage::Over;
        let found = self.newest().ok();
        let view = found.as_ref().map_or(&self.base, |found| &found.view);
        let members = self.asked.iter().map(|asked| match &asked.said {
            Said::Stands(stands, relation) => MemberFound {
                id: asked.node,
                newest: Some(stands.newest),
                sealed: stands.sealed,
                forks: found.as_ref().is_some_and(|f| !is_on(f, stands, *relation)),
                why: String::new(),
            },
            Said::Nothing | Said::Above(_) | Said::Failed(_) => MemberFound {
                id: asked.node,
                newest: None,
                sealed: 0,
                forks: false,
                why: match &asked.said {
                    Said::Failed(why) => why.clone(),
                    Said::Above(generation) => format!("it is sealed for {generation}"),
                    Said::Nothing | Said::Stands(..) => "it was not waited for".into(),
                },
            },
        });
        let report = Report {
            members: members.collect(),
            newest: view.point(),
            keepers: view.tip.keepers.clone(),
            outcome,
        };
        vec![Effect::Done(Box::new(report))]
    }
}

/// Whether an answer is on a chain.
fn is_on(found: &Found, stands: &Stands, relation: Relation) -> bool {
    let Point { number, hash, .. } = stands.newest;
    match relation {
        Relation::Same | Relation::Behind => true,
        Relation::Ahead => stands.known && found.hashes.get(&number) == Some(&hash),
        Relation::Fork | Relation::Abandoned => false,
    }
}
