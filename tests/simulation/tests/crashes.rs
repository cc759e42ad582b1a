//! The engine dies before and after every durable write and every effect, one run for each place, and another one resumes:
//! the outcome is that of an undisturbed run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

use muster_runsheet::Kind;
use muster_simulation::cases::{Case, Source, shipped, small};
use muster_simulation::play::{Played, in_virtual_time, play};
use muster_simulation::storm::{Death, Storm};
use std::sync::atomic::{AtomicUsize, Ordering};

fn case(all: Vec<Case>, kind: Kind) -> Case {
    all.into_iter().find(|case| case.kind() == kind).expect("the plan has this operation")
}

fn of_small(plan: &str, kind: Kind) -> Case {
    case(small().into_iter().filter(|case| case.sheet.plan.as_str() == plan).collect(), kind)
}

fn run(case: &Case, source: Source, storm: &Storm) -> Played {
    in_virtual_time(play(case, source, storm))
}

/// Every place, or every `stride`-th.
fn die_everywhere(case: &Case, source: Source, stride: u64) {
    let calm = run(case, source, &Storm::none());
    assert_eq!(calm.wrong, Vec::<String>::new(), "{}", case.name);
    assert!(calm.writes > 15 && calm.effects > 5, "{}: {} writes, {} effects", case.name, calm.writes, calm.effects);
    let deaths: Vec<Death> = (1..=calm.writes)
        .step_by(usize::try_from(stride).unwrap())
        .flat_map(|n| [Death::BeforeWrite(n), Death::AfterWrite(n)])
        .chain(
            (1..=calm.effects)
                .step_by(usize::try_from(stride).unwrap())
                .flat_map(|n| [Death::BeforeEffect(n), Death::AfterEffect(n)]),
        )
        .collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(death) = deaths.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let played = run(case, source, &Storm::death(*death));
                    let place = format!("{} ({source:?}), {death:?}", case.name);
                    assert_eq!(played.wrong, Vec::<String>::new(), "{place}");
                    // After the last write there is nothing left to resume.
                    assert!(played.lives == 2 || *death == Death::AfterWrite(calm.writes), "{place}: it did not die");
                    assert_eq!(played.differs(&calm.outcome, &[]), None, "{place}");
                }
            });
        }
    });
    println!("{}: {} deaths in {} writes and {} effects", case.name, deaths.len(), calm.writes, calm.effects);
}

#[test]
fn a_planned_move_of_one_machine() {
    die_everywhere(&of_small("single", Kind::Planned), Source::Well, 1);
}

#[test]
fn a_move_that_asks_and_calls_out() {
    die_everywhere(&of_small("asking", Kind::Planned), Source::Well, 1);
}

#[test]
fn a_move_whose_source_burnt() {
    die_everywhere(&of_small("together", Kind::Unplanned), Source::Burnt, 1);
}

#[test]
fn a_drill() {
    die_everywhere(&of_small("in-turn", Kind::Test), Source::Well, 1);
}

#[test]
fn a_move_with_hooks_on_the_way_down() {
    die_everywhere(&of_small("undoing", Kind::Planned), Source::Well, 1);
}

#[test]
fn a_move_that_goes_on_without() {
    die_everywhere(&of_small("going-on", Kind::Planned), Source::Well, 1);
}

/// Not at every place: one run of it takes as long as twenty of a small plan.
#[test]
fn the_database_pair_that_ships_with_the_project() {
    die_everywhere(&case(shipped("postgres-pair"), Kind::Planned), Source::Well, 23);
}
