//! The checker against the definition, on small histories, and on long ones that are known to be
//! good, or to be bad.

mod brute_force;
mod real_run;

use annulet_history::{
    Answer, Condition, Failure, Op, Operation, Outcome, STEPS_MAX, check, check_versions,
};
use bytes::Bytes;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use real_run::{Shape, run};

#[test]
fn small_histories_are_judged_as_by_the_definition() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..40_000 {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut history = run(small(random), random);
        for _ in 0..random.random_range(0..5) {
            mutate(&mut history, random);
        }
        let by_definition = brute_force::is_linearizable(&history);
        let checked = check(&history, STEPS_MAX);
        // A write on a version that no answer tells of, where there are others of that kind, is
        // the one thing that the checker does not follow to the end.
        if by_definition || !brute_force::replaces_unseen_version(&history) {
            let shown: Vec<String> = history.iter().map(Operation::to_string).collect();
            assert_eq!(
                checked.is_ok(),
                by_definition,
                "seed {seed}: {checked:?}\n{}",
                shown.join("\n")
            );
        }
        let undecided = matches!(checked, Err(Failure::Undecided(_)));
        assert!(!undecided, "seed {seed}: {checked:?}");
        match by_definition {
            true => good += 1,
            false => bad += 1,
        }
    }
    assert!(good > 5_000 && bad > 5_000, "{good} good, {bad} bad");
}

#[test]
fn long_histories_of_a_linearizable_register_are_good() {
    for seed in 0..60 {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let shape = long(random);
        let history = run(shape, random);
        // Few steps: an order is found almost without going back.
        let checked = check(&history, 4 * shape.operations);
        assert_eq!(checked, Ok(()), "seed {seed}, {shape:?}");
        assert_eq!(check_versions(&history), Ok(()), "seed {seed}, {shape:?}");
    }
}

#[test]
fn long_histories_with_one_stale_read_are_bad() {
    for seed in 0..60 {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        // A proof that there is no order takes longer than to find one.
        let shape = Shape {
            processes: random.random_range(3..11),
            failures: random.random_range(0..3),
            ..long(random)
        };
        let mut history = run(shape, random);
        make_one_read_stale(&mut history, random);
        let checked = check(&history, STEPS_MAX);
        assert!(
            matches!(checked, Err(Failure::Violation(_))),
            "seed {seed}, {shape:?}: {checked:?}"
        );
    }
}

fn small(random: &mut impl Rng) -> Shape {
    Shape {
        operations: random.random_range(3..8),
        processes: random.random_range(1..5),
        gets: 40,
        conditional: 50,
        failures: *[0, 15, 30].choose(random).expect("not empty"),
        untold: *[0, 30, 100].choose(random).expect("not empty"),
    }
}

fn long(random: &mut impl Rng) -> Shape {
    Shape {
        operations: 5_000,
        processes: *[3, 10, 30].choose(random).expect("not empty"),
        gets: *[20, 50, 80].choose(random).expect("not empty"),
        conditional: *[0, 30, 90].choose(random).expect("not empty"),
        failures: *[0, 2, 10].choose(random).expect("not empty"),
        untold: *[0, 10, 100].choose(random).expect("not empty"),
    }
}

/// Changes one thing in a history, which may be good or bad after that.
fn mutate(history: &mut [Operation], random: &mut impl Rng) {
    let values = history.iter().filter_map(|o| match &o.op {
        Op::Put { value } => Some(value.clone()),
        Op::Cas { value, .. } => value.clone(),
        Op::Get | Op::Delete => None,
    });
    let values: Vec<Bytes> = values.collect();
    let versions = history.iter().filter_map(|o| match &o.outcome {
        Outcome::Ok(Answer::Found { version, .. } | Answer::Written { version }) => version.clone(),
        _ => None,
    });
    let versions: Vec<String> = versions.collect();
    let index = random.random_range(0..history.len());
    let operation = &mut history[index];
    match random.random_range(0..6) {
        0 => operation.start_ns = operation.start_ns.saturating_sub(random.random_range(1..4)),
        1 => operation.end_ns = operation.end_ns.map(|end| end + random.random_range(1..4)),
        2 if operation.op != Op::Get => {
            operation.outcome = match operation.outcome {
                Outcome::Ok(_) => Outcome::Unknown,
                Outcome::Unknown => Outcome::NotApplied,
                Outcome::NotApplied => Outcome::Unknown,
            };
        }
        3 => match (&mut operation.op, versions.choose(random)) {
            (Op::Cas { condition, .. }, Some(version)) => {
                *condition = Condition::Version(version.clone());
            }
            (Op::Cas { condition, .. }, None) => *condition = Condition::Absent,
            _ => {}
        },
        _ => {
            let version = versions.choose(random).cloned();
            let answer = match (&operation.op, values.choose(random)) {
                (Op::Get, Some(value)) if random.random_ratio(3, 4) => Answer::Found {
                    value: value.clone(),
                    version: version.filter(|_| random.random_ratio(1, 4)),
                },
                (Op::Get, _) => Answer::Absent,
                (Op::Cas { .. }, _) if random.random() => Answer::NotHeld,
                (Op::Put { .. } | Op::Delete | Op::Cas { .. }, _) => Answer::Written {
                    version: version.filter(|_| random.random_ratio(1, 4)),
                },
            };
            operation.outcome = Outcome::Ok(answer);
        }
    }
}

/// Lets a get return a value that was there before, and was replaced for certain before the get was
/// called: another write was called after the value's write had returned, and returned itself.
fn make_one_read_stale(history: &mut [Operation], random: &mut impl Rng) {
    let is_put = |o: &Operation| match (&o.op, &o.outcome) {
        (Op::Put { value }, Outcome::Ok(Answer::Written { version })) => {
            Some((value.clone(), version.clone(), o.start_ns, o.end_ns?))
        }
        _ => None,
    };
    let puts: Vec<_> = history.iter().filter_map(is_put).collect();
    let gets = history.iter_mut().filter(|o| o.op == Op::Get);
    let gets: Vec<&mut Operation> = gets
        .filter(|o| matches!(o.outcome, Outcome::Ok(_)))
        .collect();
    let half = gets.len() / 2;
    let get = gets
        .into_iter()
        .nth(random.random_range(half..2 * half))
        .expect("there are gets");
    let overwritten = |end_ns: u64| {
        let mut overwriters = puts.iter().filter(|(_, _, start_ns, _)| *start_ns > end_ns);
        overwriters.any(|(_, _, _, over_end_ns)| *over_end_ns < get.start_ns)
    };
    let stale = puts.iter().filter(|(_, _, _, end_ns)| overwritten(*end_ns));
    let (value, version, _, _) = stale.last().cloned().expect("half of the history is old");
    get.outcome = Outcome::Ok(Answer::Found { value, version });
}
