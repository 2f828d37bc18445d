//! The list of a view's members.

use super::Member;
use crate::ids::NodeId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The servers of a view, in order of id. A clone shares the list until one of both is changed:
/// most epochs change no member.
///
/// Beside the list there are the ids alone: a look-up of owners reads some at random, and these are
/// few enough to stay in the processor's caches. So no id is changed in place: a view in which one
/// was is refused by [`View::validate`](super::View::validate).
#[derive(Clone, Default)]
pub struct Members(Arc<Lists>);

#[derive(Clone, Default)]
struct Lists {
    members: Vec<Member>,
    ids: Vec<NodeId>,
}

impl Members {
    /// The ids of all members, in the order of the members.
    #[inline]
    pub fn ids(&self) -> &[NodeId] {
        &self.0.ids
    }

    /// Whether the ids are those of the members.
    pub(super) fn are_ids_right(&self) -> bool {
        let ids = self.iter().map(|member| member.id);
        ids.eq(self.ids().iter().copied())
    }

    /// Puts a member before the one of this index.
    ///
    /// # Panics
    /// If there are not so many members.
    pub fn insert(&mut self, at: usize, member: Member) {
        let lists = Arc::make_mut(&mut self.0);
        lists.ids.insert(at, member.id);
        lists.members.insert(at, member);
    }

    /// Takes the member of this index out.
    ///
    /// # Panics
    /// If there is none.
    pub fn remove(&mut self, at: usize) -> Member {
        let lists = Arc::make_mut(&mut self.0);
        lists.ids.remove(at);
        lists.members.remove(at)
    }

    /// The members alone.
    #[must_use]
    pub fn into_vec(self) -> Vec<Member> {
        Arc::unwrap_or_clone(self.0).members
    }
}

impl From<Vec<Member>> for Members {
    fn from(members: Vec<Member>) -> Self {
        let ids = members.iter().map(|member| member.id).collect();
        Self(Arc::new(Lists { members, ids }))
    }
}

impl FromIterator<Member> for Members {
    fn from_iter<M: IntoIterator<Item = Member>>(members: M) -> Self {
        Vec::from_iter(members).into()
    }
}

impl Extend<Member> for Members {
    fn extend<M: IntoIterator<Item = Member>>(&mut self, members: M) {
        let lists = Arc::make_mut(&mut self.0);
        let before = lists.members.len();
        lists.members.extend(members);
        let added = lists.members[before..].iter().map(|member| member.id);
        lists.ids.extend(added);
    }
}

impl Deref for Members {
    type Target = [Member];

    #[inline]
    fn deref(&self) -> &[Member] {
        &self.0.members
    }
}

impl DerefMut for Members {
    fn deref_mut(&mut self) -> &mut [Member] {
        &mut Arc::make_mut(&mut self.0).members
    }
}

impl<'a> IntoIterator for &'a Members {
    type Item = &'a Member;
    type IntoIter = std::slice::Iter<'a, Member>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Members {
    type Item = &'a mut Member;
    type IntoIter = std::slice::IterMut<'a, Member>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl PartialEq for Members {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self[..] == other[..]
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self[..].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::MemberState;

    fn member(id: u64) -> Member {
        Member {
            id: NodeId(id),
            address: format!("host-{id}:7400"),
            capacity: 1,
            zone: String::new(),
            region: String::new(),
            state: MemberState::Active,
        }
    }

    #[test]
    fn the_ids_are_those_of_the_members_whatever_is_done() {
        let mut members: Members = [1, 3, 5].map(member).into_iter().collect();
        let before = members.clone();
        members.insert(1, member(2));
        members.extend([6, 7].map(member));
        assert_eq!(members.remove(3), member(5));
        members[0].capacity = 9;
        assert_eq!(members.ids(), [1, 2, 3, 6, 7].map(NodeId));
        assert!(members.are_ids_right());
        assert_eq!(before.ids(), [1, 3, 5].map(NodeId), "a clone stays");
        assert_eq!(before.into_vec(), [1, 3, 5].map(member));
        members[0].id = NodeId(8);
        assert!(!members.are_ids_right(), "and is refused");
    }
}
