//! The engine dies before and after every record and every effect; another one takes the run up. The end is the same,
//! and nothing was done twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // also in the helpers of tests

mod common;

use common::*;
use muster_executor::*;
use muster_journal::*;
use muster_runsheet::{NodeKind, Otherwise, Runsheet};
use std::sync::Arc;

struct Case {
    name: &'static str,
    sheet: Runsheet,
    behaviour: Vec<(&'static str, Behaviour)>,
    people: Vec<(&'static str, Say)>,
}

fn cases() -> Vec<Case> {
    let with = |name: &str, change: fn(&mut muster_runsheet::Node)| {
        let mut node = act(name);
        change(&mut node);
        node
    };
    vec![
        Case {
            name: "chain of every kind",
            sheet: sheet(
                vec![
                    act("stop"),
                    node("check", NodeKind::Check),
                    node("ready", NodeKind::Barrier),
                    node("ok", NodeKind::Gate),
                    no_return("gone"),
                    act("land"),
                    node("swing", NodeKind::Hook),
                    node("hold", NodeKind::Timer),
                    node("tell", NodeKind::Note),
                ],
                "stop>check check>ready ready>ok ok>gone gone>land land>swing swing>hold hold>tell",
            ),
            behaviour: vec![],
            people: vec![("ok", Say::Yes)],
        },
        Case {
            name: "side by side, with retries and lost answers",
            sheet: sheet(
                vec![
                    act("a"),
                    with("b", |b| b.retry = retry(9)),
                    with("c", |c| c.retry = retry(9)),
                    node("d", NodeKind::Hook),
                    act("e"),
                ],
                "a>b a>c b>e c>e d~e",
            ),
            behaviour: vec![("b", Behaviour::Transient(2)), ("c", Behaviour::AnswerLost)],
            people: vec![],
        },
        Case {
            name: "undone by rule",
            sheet: sheet(
                vec![act("a"), node("h", NodeKind::Hook), act("b"), with("c", |c| c.otherwise = Otherwise::Undo)],
                "a>h h>b b>c",
            ),
            behaviour: vec![("c", Behaviour::Permanent)],
            people: vec![],
        },
        Case {
            name: "decided by people",
            sheet: sheet(
                vec![
                    act("a"),
                    act("b"),
                    fence("f"),
                    act("c"),
                    with("d", |d| d.otherwise = Otherwise::Continue),
                    act("e"),
                ],
                "a>b b>f f>c c~d d~e",
            ),
            behaviour: vec![("b", Behaviour::Permanent), ("f", Behaviour::Asks), ("d", Behaviour::Permanent)],
            people: vec![("b", Say::Decide(Decision::Skip)), ("f", Say::Yes)],
        },
        Case {
            name: "given up, and stuck on the way back",
            sheet: sheet(vec![act("a"), act("b"), act("c")], "a>b b>c"),
            behaviour: vec![("c", Behaviour::Permanent), ("a", Behaviour::UndoFails(1))],
            people: vec![("c", Say::Decide(Decision::Abort)), ("a", Say::Decide(Decision::Retry))],
        },
    ]
}

async fn undisturbed(case: &Case) -> (Bench, RunEnd) {
    let mut bench = Bench::new(&case.sheet, &case.behaviour, &case.people).await;
    let end = bench.drive_out().await;
    assert!(!matches!(end, RunEnd::Paused { .. }), "{}: {end:?}", case.name);
    (bench, end)
}

async fn compare(case: &Case, what: &str, bench: &mut Bench, calm: &(Bench, RunEnd)) {
    let end = bench.drive_out().await;
    let context = format!("{}, {what}", case.name);
    assert_eq!(end, calm.1, "{context}");
    assert_eq!(bench.stands().await, calm.0.stands().await, "{context}");
    assert_eq!(bench.world.standing(), calm.0.world.standing(), "{context}");
    for (effect, times) in bench.world.effects() {
        assert_eq!(times, 1, "{context}: `{effect}` was done {times} times");
    }
    // The chain holds over all deaths.
    bench.executor().runs().load(&bench.run).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn death_at_every_record() {
    for case in cases() {
        let calm = undisturbed(&case).await;
        let writes = calm.0.store.writes();
        assert!(writes > 5, "{}: {writes} records", case.name);
        // The first write opens the run: before it there is nothing to take up.
        for n in 2..=writes {
            for fault in [Fault::DieBefore(n), Fault::DieAfter(n)] {
                let mut bench = Bench::new(&case.sheet, &case.behaviour, &case.people).await;
                bench.store.inject(Some(fault));
                compare(&case, &format!("{fault:?} of {writes}"), &mut bench, &calm).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn death_at_every_effect() {
    for case in cases() {
        let calm = undisturbed(&case).await;
        let boundaries = calm.0.world.boundaries();
        assert!(boundaries >= 4, "{}: {boundaries} boundaries", case.name);
        for boundary in 1..=boundaries {
            let mut bench = Bench::new(&case.sheet, &case.behaviour, &case.people).await;
            bench.world.die_at(boundary, &bench.store);
            compare(&case, &format!("death at boundary {boundary} of {boundaries}"), &mut bench, &calm).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn death_twice() {
    for case in cases() {
        let calm = undisturbed(&case).await;
        let writes = calm.0.store.writes();
        for first in (2..=writes).step_by(3) {
            for second in 1..4 {
                let mut bench = Bench::new(&case.sheet, &case.behaviour, &case.people).await;
                bench.store.inject(Some(Fault::DieAfter(first)));
                let _ = bench.drive().await;
                bench.store = Arc::new(bench.store.reopen());
                bench.store.inject(Some(Fault::DieBefore(bench.store.writes() + second)));
                compare(&case, &format!("death after {first} and {second} later"), &mut bench, &calm).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fenced_engine_does_nothing_more() {
    let chain = sheet(vec![act("a"), act("b"), act("c"), act("d")], "a>b b>c c>d");
    let calm = {
        let mut bench = Bench::new(&chain, &[], &[]).await;
        bench.drive_out().await;
        bench.world.boundaries()
    };
    // The last effect has its own end in the same moment: there is nothing after it to be fenced from.
    for boundary in 1..calm - 1 {
        let mut bench = Bench::new(&chain, &[], &[]).await;
        let old = bench.executor();
        let (_sender, receiver) = commands();
        let (run, world, store) = (bench.run.clone(), bench.world.clone(), bench.store.clone());
        let driving = old.drive(&run, receiver, Arc::new(Unwatched), OnPause::Return);
        let usurping = async {
            while world.boundaries() < boundary {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            Arc::new(store.reopen())
        };
        let (ended, newer) = tokio::join!(driving, usurping);
        match ended {
            Err(ExecutorError::Journal(JournalError::Store(muster_ports::StoreError::Fenced))) => {}
            other => panic!("boundary {boundary}: {other:?}"),
        }
        let before = bench.world.boundaries();
        tokio::time::sleep(std::time::Duration::from_secs(600)).await;
        assert_eq!(bench.world.boundaries(), before, "an effect after fencing");
        bench.store = newer;
        assert_eq!(bench.drive_out().await, RunEnd::Done { degraded: vec![] });
        assert!(bench.world.effects().values().all(|times| *times == 1));
    }
}
