//! One acceptor of single-decree Paxos, as CASPaxos uses it: for one key of a strong bucket, or for
//! the successor of one epoch.
//!
//! Sources: Lamport, "Paxos made simple", 2001; Rystsov, "CASPaxos", arXiv 1802.07000. An accept
//! may carry the prepare of the proposer's next round, as in section 2.2.1 there ("one round
//! trip"): the ballot so reserved is promised at once and stored with the accepted value as `next`.
//!
//! What is here must be durable before it is answered.

use annulet_protocol::ballot::Ballot;

/// What an acceptor remembers. `V`: a value, or enough to tell values apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptor<V> {
    promised: Ballot,
    accepted: Option<Accepted<V>>,
}

/// A value that an acceptor took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted<V> {
    /// The round.
    pub ballot: Ballot,
    /// The value.
    pub value: V,
    /// The ballot that its proposer reserved with it. It may be used only if this very accept was
    /// taken by a quorum, and for a value that follows this one.
    pub next: Option<Ballot>,
}

/// Why nothing was promised or accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// This higher ballot, or the same one, was promised before.
    Promised(Ballot),
    /// Another value was accepted under this very ballot: a fault of its proposer.
    Contradiction(Ballot),
}

impl<V> Default for Acceptor<V> {
    fn default() -> Self {
        Self {
            promised: Ballot::default(),
            accepted: None,
        }
    }
}

impl<V: PartialEq> Acceptor<V> {
    /// One that remembers this.
    pub fn new(promised: Ballot, accepted: Option<Accepted<V>>) -> Self {
        Self { promised, accepted }
    }

    /// The highest ballot that it promised: it accepts nothing under lower ones.
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// What it accepted under the highest ballot so far.
    pub fn accepted(&self) -> Option<&Accepted<V>> {
        self.accepted.as_ref()
    }

    /// Promises a ballot, which must be above every earlier promise: a second prepare of one ballot
    /// might come from a proposer that forgot what it proposed.
    ///
    /// # Errors
    /// [`Rejection::Promised`]; then nothing changes.
    pub fn prepare(&mut self, ballot: Ballot) -> Result<(), Rejection> {
        if ballot <= self.promised {
            return Err(Rejection::Promised(self.promised));
        }
        self.promised = ballot;
        Ok(())
    }

    /// Accepts a value, unless a higher ballot was promised; also without a prepare, which may have
    /// been lost. The same accept again is the same again; where it reserved no ballot, until a
    /// higher one was promised.
    ///
    /// # Errors
    /// [`Rejection`]; then nothing changes.
    pub fn accept(&mut self, accept: Accepted<V>) -> Result<(), Rejection> {
        let ballot = accept.ballot;
        let same = self.accepted.as_ref().filter(|a| a.ballot == ballot);
        if let Some(Accepted { value, next, .. }) = same {
            let differs = next.is_some() && accept.next.is_some() && *next != accept.next;
            if *value != accept.value || differs {
                return Err(Rejection::Contradiction(ballot));
            }
            // What was learned from another acceptor has no reservation. If that was against a
            // promise, its own accept, which comes now, is refused: it was promised not to take it.
            if next.is_none() && self.promised > ballot {
                return Err(Rejection::Promised(self.promised));
            }
            let completes = next.is_none() && self.promised == ballot;
            if !completes {
                return Ok(());
            }
        }
        if ballot < self.promised {
            return Err(Rejection::Promised(self.promised));
        }
        self.promised = accept.next.unwrap_or(ballot).max(ballot);
        self.accepted = Some(accept);
        Ok(())
    }

    /// Takes what another acceptor accepted, be it by repair or by a copy of the whole. A higher
    /// promise stays, and a reserved ballot is not taken over: it is its proposer's to use only
    /// where the accept itself arrived. Says whether anything changed.
    pub fn learn(&mut self, ballot: Ballot, value: V) -> bool {
        let known = self.accepted.as_ref().map(|accepted| accepted.ballot);
        if known.is_some_and(|known| known >= ballot) {
            return false;
        }
        self.promised = self.promised.max(ballot);
        let next = None;
        self.accepted = Some(Accepted {
            ballot,
            value,
            next,
        });
        true
    }

    /// Takes over what another acceptor promised: whoever takes its place keeps its word.
    pub fn promise_too(&mut self, promised: Ballot) {
        self.promised = self.promised.max(promised);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulet_protocol::ids::Incarnation;
    use proptest::prelude::*;

    fn ballot(number: u64, proposer: u8) -> Ballot {
        Ballot {
            number,
            proposer: Incarnation([proposer; 16]),
        }
    }

    fn accept(number: u64, value: u8, next: Option<u64>) -> Accepted<u8> {
        Accepted {
            ballot: ballot(number, 1),
            value,
            next: next.map(|number| ballot(number, 1)),
        }
    }

    #[test]
    fn a_promise_holds_against_all_up_to_it() {
        let mut acceptor = Acceptor::<u8>::default();
        assert_eq!(acceptor.prepare(ballot(5, 1)), Ok(()));
        let refused = Err(Rejection::Promised(ballot(5, 1)));
        assert_eq!(acceptor.prepare(ballot(5, 1)), refused);
        assert_eq!(acceptor.prepare(ballot(4, 9)), refused);
        assert_eq!(acceptor.accept(accept(4, 1, None)), refused);
        assert_eq!(acceptor.accept(accept(5, 1, None)), Ok(()));
        assert_eq!(acceptor.prepare(ballot(5, 2)), Ok(()), "by proposer");
        assert_eq!(acceptor.accepted(), Some(&accept(5, 1, None)));
    }

    #[test]
    fn a_reserved_ballot_is_promised_with_the_accept() {
        let mut acceptor = Acceptor::default();
        assert_eq!(acceptor.accept(accept(5, 1, Some(8))), Ok(()));
        assert_eq!(acceptor.promised(), ballot(8, 1));
        let refused = Err(Rejection::Promised(ballot(8, 1)));
        assert_eq!(acceptor.accept(accept(7, 2, None)), refused);
        assert_eq!(acceptor.accept(accept(8, 2, None)), Ok(()));
    }

    #[test]
    fn an_accept_comes_twice_or_contradicts_itself() {
        let mut acceptor = Acceptor::default();
        assert_eq!(acceptor.accept(accept(5, 1, Some(6))), Ok(()));
        assert_eq!(acceptor.accept(accept(5, 1, Some(6))), Ok(()));
        assert_eq!(acceptor.promised(), ballot(6, 1));
        assert_eq!(acceptor.prepare(ballot(9, 2)), Ok(()));
        assert_eq!(acceptor.accept(accept(5, 1, Some(6))), Ok(()));
        assert_eq!(acceptor.promised(), ballot(9, 2), "the later promise stays");
        let fault = Err(Rejection::Contradiction(ballot(5, 1)));
        assert_eq!(acceptor.accept(accept(5, 2, Some(6))), fault);
    }

    #[test]
    fn what_another_accepted_is_taken_without_its_reservation() {
        let mut acceptor = Acceptor::default();
        assert_eq!(acceptor.prepare(ballot(9, 2)), Ok(()));
        assert!(acceptor.learn(ballot(5, 1), 7));
        assert_eq!(acceptor.promised(), ballot(9, 2));
        assert!(!acceptor.learn(ballot(5, 1), 7) && !acceptor.learn(ballot(4, 1), 6));
        assert!(acceptor.learn(ballot(10, 1), 8));
        assert_eq!(acceptor.promised(), ballot(10, 1));
        assert_eq!(acceptor.accepted(), Some(&accept(10, 8, None)));
        assert_eq!(acceptor.accept(accept(10, 8, Some(11))), Ok(()), "late");
        assert_eq!(acceptor.promised(), ballot(11, 1));
        let fault = Err(Rejection::Contradiction(ballot(10, 1)));
        assert_eq!(acceptor.accept(accept(10, 8, Some(12))), fault);
    }

    #[test]
    fn what_was_learned_against_a_promise_is_not_accepted() {
        // Promised to 9, whose proposer so knows of nothing; then 5 comes from another acceptor.
        let mut acceptor = Acceptor::default();
        assert_eq!(acceptor.prepare(ballot(9, 2)), Ok(()));
        assert!(acceptor.learn(ballot(5, 1), 7));
        let refused = Err(Rejection::Promised(ballot(9, 2)));
        assert_eq!(acceptor.accept(accept(5, 7, Some(6))), refused);
    }

    proptest! {
        #[test]
        fn promises_and_accepted_ballots_never_sink(
            steps in prop::collection::vec((0u8..3, 1u64..8, 1u8..3, 0u8..2), 1..60)
        ) {
            let mut acceptor = Acceptor::default();
            for (kind, number, proposer, value) in steps {
                let before = acceptor.clone();
                let ballot = ballot(number, proposer);
                let next = (value == 1).then(|| ballot.next(ballot.proposer));
                let _ = match kind {
                    0 => acceptor.prepare(ballot),
                    1 => acceptor.accept(Accepted { ballot, value, next }),
                    _ => {
                        acceptor.learn(ballot, value);
                        Ok(())
                    }
                };
                let of = |acceptor: &Acceptor<u8>| acceptor.accepted().map(|a| a.ballot);
                prop_assert!(acceptor.promised() >= before.promised());
                prop_assert!(of(&acceptor) >= of(&before));
                prop_assert!(of(&acceptor).unwrap_or_default() <= acceptor.promised());
                if of(&acceptor) == of(&before) {
                    let value = |acceptor: &Acceptor<u8>| acceptor.accepted().map(|a| a.value);
                    prop_assert_eq!(value(&acceptor), value(&before));
                }
            }
        }
    }
}
