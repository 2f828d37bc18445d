//! Clients whose applications go through the cluster step by step: nothing older is ever shown to
//! them than what they have written or seen.

use super::causal::Wrong;
use super::oracle::KeyId;
use super::world::World;
use annulet::core::client::Start;
use annulet::core::session::Session;
use annulet_protocol::level::Level;
use annulet_protocol::record::Version;
use annulet_protocol::session::{Known, Token};
use annulet_protocol::siblings::Siblings;
use std::collections::{BTreeMap, BTreeSet};

/// What an application has seen, by its own account and by the client's.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    memory: Session,
    versions: BTreeMap<KeyId, Version>,
    /// Puts that it has seen standing, and those that it has seen gone.
    standing: BTreeMap<KeyId, BTreeSet<u64>>,
    gone: BTreeMap<KeyId, BTreeSet<u64>>,
}

/// What a read of a session must show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floor {
    pub(crate) known: Option<Known>,
    version: Option<Version>,
    standing: BTreeSet<u64>,
    gone: BTreeSet<u64>,
}

/// What an operation tells its session of concurrent values.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// These stand, and whatever else it knew when the read began is gone.
    Read {
        floor: Floor,
        standing: BTreeSet<u64>,
    },
    /// This put stands, if it is one; what it had seen is gone.
    Written {
        stands: Option<u64>,
        seen: BTreeSet<u64>,
    },
}

impl World {
    /// Whether the applications of a client go step by step.
    pub(crate) fn has_session(&self, client: usize) -> bool {
        self.scenario.sessions && client % 2 == 1
    }

    /// What the client's next read of this key must show.
    pub(crate) fn session_floor(&mut self, client: usize, key: KeyId, start: &Start) -> Floor {
        if !self.has_session(client) {
            return Floor::default();
        }
        let steps = self.steps.entry(client).or_default();
        let of = |writes: &BTreeMap<KeyId, BTreeSet<u64>>| writes.get(&key).cloned();
        Floor {
            known: steps.memory.floor(start.hash).cloned(),
            version: steps.versions.get(&key).copied(),
            standing: of(&steps.standing).unwrap_or_default(),
            gone: of(&steps.gone).unwrap_or_default(),
        }
    }

    /// A session has seen or written this version.
    pub(crate) fn session_saw(
        &mut self,
        client: usize,
        key: KeyId,
        (version, level): (Version, Level),
    ) {
        let known = Known::Version(version);
        if self.session_notes(client, key, known, level) {
            let steps = self.steps.entry(client).or_default();
            let seen = steps.versions.entry(key).or_insert(version);
            *seen = version.max(*seen);
        }
    }

    /// A session has seen this record of concurrent values, in which these puts stand.
    pub(crate) fn session_saw_siblings(
        &mut self,
        client: usize,
        key: KeyId,
        (record, level): (&Siblings, Level),
        news: News,
    ) {
        let known = Known::Siblings(record.bare());
        if self.session_notes(client, key, known, level) {
            let steps = self.steps.entry(client).or_default();
            let before = steps.standing.entry(key).or_default();
            let gone = steps.gone.entry(key).or_default();
            match news {
                News::Read { floor, standing } => {
                    let missing: Vec<_> = floor.standing.difference(&standing).collect();
                    gone.extend(missing);
                    before.extend(standing);
                    before.retain(|put| !gone.contains(put));
                }
                News::Written { stands, seen } => {
                    gone.extend(seen.intersection(before));
                    before.retain(|put| !seen.contains(put));
                    before.extend(stands);
                }
            }
        }
    }

    fn session_notes(&mut self, client: usize, key: KeyId, known: Known, level: Level) -> bool {
        let there = self.has_session(client);
        if there {
            let view = self.clients[client].core.view();
            let hash = view.hash(key.0, &super::world::key_bytes(key.1));
            let steps = self.steps.entry(client).or_default();
            let settled = level == Level::Quorum;
            steps.memory.observe(hash, known, settled);
        }
        there
    }

    /// The process of a client is gone; another one goes on from what it was handed.
    pub(crate) fn session_moves(&mut self, client: usize) {
        let cluster = self.clients[client].core.view().cluster;
        if let Some(steps) = self.steps.get_mut(&client) {
            let token = steps.memory.token(cluster);
            let token = token.expect("few keys fit");
            let token = Token::decode(&token).expect("just encoded");
            steps.memory = Session::from_token(token);
            self.coverage.hit("path", "session_handed_on");
        }
    }
}

impl Floor {
    /// What a read has shown, against what its session had seen when it began.
    pub(crate) fn check(&self, op: u64, shown: Option<Version>) -> Wrong {
        if shown < self.version {
            let seen = self.version;
            let why = format!("read {op} shows {shown:?}, its session had seen {seen:?}");
            return Err(("session", why));
        }
        Ok(())
    }

    /// The same of concurrent values. `is_over`: whether a value may be gone by now.
    pub(crate) fn check_siblings(
        &self,
        op: u64,
        shown: &BTreeSet<u64>,
        is_over: impl Fn(u64) -> bool,
    ) -> Wrong {
        let again = self.gone.intersection(shown).next();
        let lost = self.standing.difference(shown).find(|put| !is_over(**put));
        if let Some(put) = again.or(lost) {
            let why = format!("read {op} shows {shown:?}, its session had seen otherwise of {put}");
            return Err(("session", why));
        }
        Ok(())
    }
}
