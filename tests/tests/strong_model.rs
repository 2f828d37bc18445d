//! Rounds of strong buckets, every course of few clients.

use annulet_protocol::register::{Change, Condition};
use annulet_tests::rounds::model::{Act, Broken, Model};

fn set(number: u8, condition: Condition) -> Act {
    let value = number.to_string().into();
    let change = Change::Set {
        value,
        expires_at_ms: None,
        condition,
    };
    Act::Write(number, change)
}

fn put(number: u8) -> Act {
    set(number, Condition::Always)
}

fn create(number: u8) -> Act {
    set(number, Condition::Absent)
}

/// What is tried, with how many rounds an operation and how many repairs.
fn cases() -> Vec<(&'static str, Vec<Vec<Act>>, u8, u8)> {
    let case = |name, first: &[Act], second: &[Act], rounds, learns| {
        (name, vec![first.to_vec(), second.to_vec()], rounds, learns)
    };
    vec![
        case(
            "a reserved ballot and another write",
            &[put(0), put(1)],
            &[put(2)],
            1,
            2,
        ),
        case("two that create", &[create(0)], &[create(1)], 2, 0),
        case(
            "two that create, and repair",
            &[create(0)],
            &[create(1)],
            1,
            2,
        ),
        case(
            "a reserved ballot and reads",
            &[put(0), put(1)],
            &[Act::Read, Act::Read],
            1,
            1,
        ),
        case(
            "a write and who asks about it",
            &[put(0)],
            &[Act::Resolve(0)],
            2,
            0,
        ),
    ]
}

fn model(case: usize, broken: Broken) -> Model {
    let (_, clients, rounds, learns) = cases().swap_remove(case);
    let mut model = Model::new(clients, broken);
    (model.rounds, model.learns) = (rounds, learns);
    model
}

#[test]
fn no_course_breaks_a_rule() {
    for (index, (name, ..)) in cases().into_iter().enumerate() {
        match model(index, Broken::Nothing).check() {
            Ok(states) => println!("{name}: {states} states"),
            Err(why) => panic!("{name}: {why}"),
        }
    }
}

/// Whether a case shows that a rule is broken.
fn is_noticed(broken: Broken) -> bool {
    (0..cases().len()).any(|case| model(case, broken).check().is_err())
}

#[test]
fn a_reservation_used_too_early_is_noticed() {
    assert!(is_noticed(Broken::ReservedEarly));
}

#[test]
fn an_owner_that_breaks_its_promise_is_noticed() {
    assert!(is_noticed(Broken::AcceptUnpromised));
}

#[test]
fn an_acknowledgement_of_what_was_only_learned_is_noticed() {
    assert!(is_noticed(Broken::LearnedAcknowledged));
}

#[cfg(feature = "faults")]
#[test]
fn faults_of_clients_are_noticed() {
    use annulet::core::client::Fault;
    for fault in [
        Fault::PromisesIgnored,
        Fault::ReservationStretched,
        Fault::ConditionFirst,
    ] {
        let noticed = (0..cases().len()).any(|case| {
            let mut model = model(case, Broken::Nothing);
            model.core_mut().fault = Some(fault);
            model.check().is_err()
        });
        assert!(noticed, "{fault:?}");
    }
}
