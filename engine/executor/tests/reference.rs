//! Small random runsheets with random behaviour, against an interpreter that does one step after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // also in the helpers of tests

mod common;

use common::*;
use muster_executor::*;
use muster_journal::*;
use muster_runsheet::{EdgeKind, NodeKind, Otherwise, Runsheet};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
struct Shape {
    kind: NodeKind,
    otherwise: Otherwise,
    retries: u32,
    behaviour: Behaviour,
    decision: Decision,
    /// Bit `n`: an edge from step `n`; which kind, by the second mask.
    from: u8,
    ends: u8,
    boots: bool,
}

fn shape(undo: bool) -> impl Strategy<Value = Shape> {
    let kind = prop_oneof![4 => Just(NodeKind::Act), 1 => Just(NodeKind::Hook), 1 => Just(NodeKind::Check), 1 => Just(NodeKind::Barrier), 1 => Just(NodeKind::Note), 1 => Just(NodeKind::Timer)];
    let otherwise = prop_oneof![
        2 => Just(Otherwise::Pause),
        2 => Just(Otherwise::Continue),
        u32::from(undo) => Just(Otherwise::Undo),
    ];
    let behaviour = prop_oneof![
        4 => Just(Behaviour::Works),
        1 => (0u32..4).prop_map(Behaviour::Transient),
        1 => Just(Behaviour::Permanent),
        1 => Just(Behaviour::Hangs),
        1 => Just(Behaviour::Diverged),
    ];
    let decision = prop_oneof![Just(Decision::Skip), Just(Decision::DoneByHand)];
    (kind, otherwise, 0u32..3, behaviour, decision, any::<u8>(), any::<u8>(), any::<bool>()).prop_map(
        |(kind, otherwise, retries, behaviour, decision, from, ends, boots)| Shape {
            kind,
            otherwise,
            retries,
            behaviour,
            decision,
            from,
            ends,
            boots,
        },
    )
}

type Built = (Runsheet, Vec<(String, Behaviour)>, Vec<(String, Say)>);

fn built(shapes: &[Shape]) -> Built {
    let mut edges = String::new();
    let (mut nodes, mut behaviour, mut people) = (Vec::new(), Vec::new(), Vec::new());
    for (at, shape) in shapes.iter().enumerate() {
        let id = format!("s{at}");
        let mut built = node(&id, shape.kind);
        built.otherwise = shape.otherwise;
        built.retry = retry(shape.retries);
        built.locks = vec![if shape.boots { "boots@dr".to_owned() } else { "machine:one".to_owned() }];
        nodes.push(built);
        for from in (0..at).filter(|from| shape.from >> from & 1 == 1) {
            let sign = if shape.ends >> from & 1 == 1 { '~' } else { '>' };
            edges += &format!("s{from}{sign}{id} ");
        }
        behaviour.push((id.clone(), shape.behaviour));
        people.push((id, Say::Decide(shape.decision)));
    }
    (sheet(nodes, &edges), behaviour, people)
}

fn fails(shape: &Shape) -> bool {
    if matches!(shape.kind, NodeKind::Barrier | NodeKind::Timer) {
        return false;
    }
    match shape.behaviour {
        Behaviour::Permanent | Behaviour::Hangs | Behaviour::Diverged => true,
        Behaviour::Transient(times) => times > shape.retries,
        _ => false,
    }
}

/// One step after the other, in the order of the sheet. `None` when the run is to be undone.
fn reference(sheet: &Runsheet, shapes: &[Shape]) -> Option<BTreeMap<String, Stand>> {
    let mut stands = BTreeMap::new();
    let mut passes: BTreeMap<String, bool> = BTreeMap::new();
    for (node, shape) in sheet.nodes.iter().zip(shapes) {
        let blocked = sheet
            .edges
            .iter()
            .any(|edge| edge.to == node.id && edge.kind == EdgeKind::Needs && !passes[edge.from.as_str()]);
        let (stand, pass) = if blocked {
            (Stand::Skipped, false)
        } else if !fails(shape) {
            (Stand::Succeeded, true)
        } else if shape.behaviour == Behaviour::Diverged
            || shape.otherwise == Otherwise::Pause && shape.kind != NodeKind::Note
        {
            match shape.decision {
                Decision::Skip => (Stand::Skipped, true),
                _ => (Stand::Succeeded, true),
            }
        } else if shape.otherwise == Otherwise::Undo {
            return None;
        } else {
            (Stand::Degraded, shape.kind == NodeKind::Note)
        };
        stands.insert(node.id.to_string(), stand);
        passes.insert(node.id.to_string(), pass);
    }
    Some(stands)
}

fn check(shapes: Vec<Shape>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (sheet, behaviour, people) = built(&shapes);
        let behaviour: Vec<_> = behaviour.iter().map(|(id, how)| (id.as_str(), *how)).collect();
        let people: Vec<_> = people.iter().map(|(id, say)| (id.as_str(), say.clone())).collect();
        let mut bench = Bench::new(&sheet, &behaviour, &people).await;
        let end = bench.drive_out().await;
        assert!(bench.world.most_running("machine:one") <= 1, "one lock, one holder");
        match reference(&sheet, &shapes) {
            Some(expected) => {
                assert!(matches!(end, RunEnd::Done { .. }), "{end:?}");
                let found: BTreeMap<_, _> = bench.stands().await.into_iter().collect();
                assert_eq!(found, expected);
            }
            None => {
                assert!(matches!(end, RunEnd::Undone { .. }), "{end:?}");
                assert_eq!(bench.world.standing(), Vec::<String>::new(), "nothing is left standing");
            }
        }
        assert!(bench.world.effects().values().all(|times| *times == 1));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_one_step_after_the_other(shapes in prop::collection::vec(shape(false), 1..8)) {
        check(shapes);
    }

    #[test]
    fn undoing_leaves_nothing(shapes in prop::collection::vec(shape(true), 1..8)) {
        check(shapes);
    }
}
