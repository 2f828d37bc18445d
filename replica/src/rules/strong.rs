//! What an owner of a key of a strong bucket answers: it is an acceptor of the rounds about that
//! key, and promises and acceptances are durable before they are answered.
//!
//! A promise that got lost would break what was agreed on, so nothing here is ever made up: an
//! acceptor whose record is damaged answers nothing for that key any more.

use super::draft::Draft;
use super::{
    AHEAD_MS_MAX, Admitted, Moment, Mutation, Place, ReadAnswers, Replica, is_damage, refusal,
};
use crate::acceptor::{Accepted, Acceptor, Rejection};
use crate::layout::register::{self, Stored, StoredRegister};
use crate::layout::{INLINE_VALUE_BYTES_MAX, StoredValue};
use crate::store::{Family, Store, StoreError};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::Mode;
use annulet_protocol::clock::Stamp;
use annulet_protocol::hash::{parse_storage_key, storage_key};
use annulet_protocol::message::{Answer, Lacking, Refusal, RefusalKind, Written};
use annulet_protocol::record::Kind;
use annulet_protocol::register::message::{
    Accept, Learn, Outbid, Prepare, Promise, ReadRegister, Shown,
};
use annulet_protocol::register::{Damage, Register};
use bytes::Bytes;

impl Replica {
    /// Answers reads of registers, each with the epoch of its request.
    pub fn read_registers<'a>(
        &self,
        store: &impl Store,
        moment: Moment<'a>,
        reads: impl IntoIterator<Item = (u64, &'a ReadRegister)>,
    ) -> ReadAnswers {
        let mut read = ReadAnswers {
            answers: Vec::new(),
            touched: Vec::new(),
            damaged: Vec::new(),
        };
        let mut found = Vec::new();
        let mut keys = Vec::new();
        for (epoch, asked) in reads {
            match self.place(moment, (epoch, &[Mode::Strong]), asked.bucket, &asked.key) {
                Err(refusal) => read.answers.push(Answer::Refused(refusal)),
                Ok(Place { hash, .. }) => {
                    if self.gates_reads() {
                        read.touched.push(hash);
                    }
                    keys.push(storage_key(hash, asked.bucket, &asked.key));
                    found.push((read.answers.len(), asked));
                    read.answers.push(Answer::Unknown);
                }
            }
        }
        let entries = store.read(Family::Records, &keys);
        for (((at, asked), key), entry) in found.into_iter().zip(keys).zip(entries) {
            let answer = show(store, asked, key.clone(), entry);
            read.answers[at] = answer.unwrap_or_else(|error| Answer::Refused(refusal(error)));
            if is_damage(&read.answers[at]) {
                read.damaged.push(key);
            }
        }
        read
    }

    /// Checks an accept by itself.
    pub(super) fn admit_accept<'a>(
        &self,
        moment: Moment<'a>,
        asked: (u64, &[Mode]),
        accept: &Accept,
    ) -> Result<Place<'a>, Refusal> {
        let place = self.place(moment, asked, accept.bucket, &accept.key)?;
        let Accept {
            ballot, next, head, ..
        } = accept;
        let register = Register {
            head: *head,
            log: accept.log.clone(),
        };
        let value = match accept.held {
            None => Some(&accept.value),
            Some(_) => None,
        };
        admit_register(moment, (accept.bucket, &accept.key), &register, value)?;
        let later = next.is_none_or(|next| next > *ballot);
        let agrees = is_made_by(*ballot, &register);
        if !agrees || !later || accept.held.is_some() && !accept.value.is_empty() {
            return Err(unsound("an accept that no round makes"));
        }
        Ok(place)
    }

    /// Checks by itself what another owner accepted.
    pub(super) fn admit_learn<'a>(
        &self,
        moment: Moment<'a>,
        asked: (u64, &[Mode]),
        learn: &Learn,
    ) -> Result<Place<'a>, Refusal> {
        let place = self.place(moment, asked, learn.bucket, &learn.key)?;
        let register = Register {
            head: learn.head,
            log: learn.log.clone(),
        };
        let at = (learn.bucket, &learn.key[..]);
        admit_register(moment, at, &register, Some(&learn.value))?;
        match is_made_by(learn.ballot, &register) {
            true => Ok(place),
            false => Err(unsound("a register that no round makes")),
        }
    }

    /// Decides a mutation of a register, of which the store has `found`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub(super) fn decide_register(
        &self,
        moment: Moment<'_>,
        admitted: &Admitted<'_>,
        found: Result<Option<Bytes>, StoreError>,
        draft: &mut Draft,
    ) -> Result<Answer, StoreError> {
        let key = &admitted.storage_key;
        let current = match draft.register(key) {
            Some(stored) => Ok(stored.clone()),
            None => decode_register(found, key),
        };
        let current = match current {
            Err(failed @ StoreError::Failed(_)) => return Err(failed),
            Err(error) => return Ok(Answer::Refused(refusal(error))),
            Ok(current) => current,
        };
        let mut acceptor = current.clone();
        let answer = match admitted.mutation {
            Mutation::Prepare(prepare) => self.promise(moment, prepare, &mut acceptor),
            Mutation::Accept(accept) => self.accept(moment, accept, &mut acceptor),
            Mutation::Learn(learn) => match refuse_ballot(moment, learn.ballot, &acceptor) {
                Some(refusal) => Answer::Refused(refusal),
                None => {
                    let Learn { head, log, .. } = Learn::clone(learn);
                    let register = StoredRegister::of(Register { head, log }, &learn.value);
                    acceptor.learn(learn.ballot, register);
                    Answer::Written(Written::default())
                }
            },
            // They are about records, which no strong bucket has.
            _ => Answer::Unknown,
        };
        let forgets = matches!(admitted.mutation, Mutation::Prepare(_)) && self.forgets_promises();
        if !self.acks_before_sync() && !forgets {
            draft.touched.extend(admitted.place.map(|place| place.hash));
        }
        if acceptor != current {
            draft.needs_sync |= !self.acks_before_sync() && !forgets;
            let value = match admitted.mutation {
                Mutation::Accept(accept) => Some(&accept.value),
                Mutation::Learn(learn) => Some(&learn.value),
                _ => None,
            };
            draft.put_register(key, &current, acceptor, value);
        }
        Ok(answer)
    }

    fn promise(&self, moment: Moment<'_>, prepare: &Prepare, acceptor: &mut Stored) -> Answer {
        if let Some(refusal) = refuse_ballot(moment, prepare.ballot, acceptor) {
            return Answer::Refused(refusal);
        }
        match acceptor.prepare(prepare.ballot) {
            Err(rejection) => rejected(rejection),
            Ok(()) => {
                let accepted = acceptor.accepted();
                let most = u64::from(prepare.value_bytes_max).min(INLINE_VALUE_BYTES_MAX as u64);
                Answer::Promise(Box::new(Promise {
                    promised: acceptor.promised(),
                    accepted: accepted.map(|accepted| shown(accepted, Some(most), true)),
                }))
            }
        }
    }

    fn accept(&self, moment: Moment<'_>, accept: &Accept, acceptor: &mut Stored) -> Answer {
        let highest = accept.next.unwrap_or(accept.ballot);
        if let Some(refusal) = refuse_ballot(moment, highest, acceptor) {
            return Answer::Refused(refusal);
        }
        let register = Register {
            head: accept.head,
            log: accept.log.clone(),
        };
        let register = match accept.held {
            None => StoredRegister::of(register, &accept.value),
            Some(held) => match held_value(acceptor, held, &register, accept.ballot) {
                Some(value) => StoredRegister { register, value },
                None => return Answer::Lacking(Lacking {}),
            },
        };
        // A round that settles what is there is a repair, and is taken as one.
        let is_new = accept.head.kind == Kind::Value && accept.head.version == accept.ballot;
        if moment.disk_full && is_new && !self.fills_the_disk() {
            let why = "this server's disk is full: it takes deletes only, until there is room";
            return Answer::Refused(Refusal::new(RefusalKind::Full, why));
        }
        if self.accepts_unpromised() {
            *acceptor = Acceptor::new(Ballot::default(), acceptor.accepted().cloned());
        }
        let accepted = acceptor.accept(Accepted {
            ballot: accept.ballot,
            value: register,
            next: accept.next,
        });
        match accepted {
            Ok(()) => Answer::Accepted(Default::default()),
            Err(rejection) => rejected(rejection),
        }
    }
}

/// The value that an accept refers to: the one accepted under that very ballot, and the same by the
/// client's checksum. An accept that came before holds it under its own ballot.
fn held_value(
    acceptor: &Stored,
    held: Ballot,
    register: &Register,
    ballot: Ballot,
) -> Option<StoredValue> {
    let accepted = acceptor.accepted()?;
    let exact = accepted.ballot == held || accepted.ballot == ballot;
    let same = accepted.value.register.head.has_value_of(&register.head);
    (exact && same).then(|| accepted.value.value.clone())
}

/// Whether a round of this ballot can have come to this register: it goes on from earlier ones.
fn is_made_by(ballot: Ballot, register: &Register) -> bool {
    let last = register.log.iter().last().map(|entry| entry.at);
    register.head.version <= ballot && last.is_none_or(|last| last <= ballot)
}

fn rejected(rejection: Rejection) -> Answer {
    match rejection {
        Rejection::Promised(promised) => Answer::Outbid(Outbid { promised }),
        Rejection::Contradiction(ballot) => {
            let why = format!("another register was accepted under ballot {ballot}");
            Answer::Refused(Refusal::new(RefusalKind::Contradiction, why))
        }
    }
}

/// A ballot must be near this server's clock, unless one as far ahead was promised. Safety needs no
/// clock; but the numbers must not be used up by a client whose clock is off, after which nobody
/// could write the key any more.
fn refuse_ballot(moment: Moment<'_>, ballot: Ballot, acceptor: &Stored) -> Option<Refusal> {
    let ahead_ms = Stamp(ballot.number).millis();
    let limit_ms = moment.now_ms.saturating_add(AHEAD_MS_MAX);
    let known_ms = Stamp(acceptor.promised().number).millis();
    (ahead_ms > limit_ms.max(known_ms)).then(|| {
        let why = "the ballot is over a year ahead of this server's clock: set the client's clock";
        Refusal::new(RefusalKind::SkewedClock, why)
    })
}

/// Checks a register by itself, with its value unless that is held.
fn admit_register(
    moment: Moment<'_>,
    (bucket, key): (u32, &[u8]),
    register: &Register,
    value: Option<&Bytes>,
) -> Result<(), Refusal> {
    let (most, length) = (moment.view.value_bytes_max, register.head.length);
    if u64::from(length) > u64::from(most) {
        let why = format!("the value has {length} bytes, at most {most}");
        return Err(Refusal::new(RefusalKind::TooLarge, why));
    }
    let bad = |damage: Damage| unsound(&damage.to_string());
    register.verify(bucket, key).map_err(bad)?;
    match value {
        Some(value) => register.head.verify_value(bucket, key, value).map_err(bad),
        None => Ok(()),
    }
}

fn unsound(why: &str) -> Refusal {
    Refusal::new(RefusalKind::BadChecksum, why)
}

/// Reads an entry of the store. What cannot be read is damaged, not new.
pub(super) fn decode_register(
    entry: Result<Option<Bytes>, StoreError>,
    storage_key: &[u8],
) -> Result<Stored, StoreError> {
    let Some(bytes) = entry? else {
        return Ok(Acceptor::default());
    };
    let damaged = |why: String| StoreError::Damaged(why);
    let (_, bucket, key) = parse_storage_key(storage_key)
        .ok_or_else(|| damaged("a storage key that is none".into()))?;
    let stored = register::decode(bytes).map_err(damaged)?;
    if let Some(accepted) = stored.accepted() {
        // Its log was summed as it was read.
        let sound = accepted.value.register.head.verify(bucket, key);
        sound.map_err(|why| damaged(why.to_string()))?;
    }
    Ok(stored)
}

/// What an acceptor shows of what it accepted, without a value that lies apart.
fn shown(
    accepted: &Accepted<StoredRegister>,
    value_bytes_max: Option<u64>,
    with_log: bool,
) -> Shown {
    let StoredRegister {
        register: Register { head, log },
        value,
    } = &accepted.value;
    let value = match value {
        StoredValue::Inline(value) => {
            let wanted = value_bytes_max.is_none_or(|most| value.len() as u64 <= most);
            wanted.then(|| value.clone())
        }
        StoredValue::Apart(_) | StoredValue::Gone => None,
    };
    Shown {
        ballot: accepted.ballot,
        next: accepted.next,
        head: *head,
        log: with_log.then(|| log.clone()),
        value,
    }
}

/// Answers a read. A value that lies apart may be replaced between the two reads of the store: then
/// both are read again.
fn show(
    store: &impl Store,
    asked: &ReadRegister,
    storage_key: Bytes,
    mut entry: Result<Option<Bytes>, StoreError>,
) -> Result<Answer, StoreError> {
    /// One replacement after each read would need a writer faster than this loop, each time.
    const ATTEMPTS: usize = 8;
    let most = asked.value_bytes_max.map(u64::from);
    let keys = [storage_key];
    let mut why = String::new();
    for _ in 0..ATTEMPTS {
        let stored = decode_register(entry, &keys[0])?;
        let promised = stored.promised();
        let accepted = stored.accepted();
        let mut promise = Promise {
            promised,
            accepted: accepted.map(|accepted| shown(accepted, most, asked.with_log)),
        };
        let apart = accepted.is_some_and(|accepted| accepted.value.is_apart());
        let Some(shown) = promise
            .accepted
            .as_mut()
            .filter(|shown| apart && most.is_none_or(|most| u64::from(shown.head.length) <= most))
        else {
            return Ok(Answer::Promise(Box::new(promise)));
        };
        let value = store.read(Family::Values, &keys).pop();
        match value
            .unwrap_or(Ok(None))?
            .map(|v| register::decode_value(v, &shown.head))
        {
            Some(Ok(value)) => {
                shown.value = Some(value);
                return Ok(Answer::Promise(Box::new(promise)));
            }
            Some(Err(error)) => why = error,
            None => why = "the value of a stored register is missing".into(),
        }
        entry = store.read(Family::Records, &keys).pop().unwrap_or(Ok(None));
    }
    Err(StoreError::Damaged(why))
}
