//! The forecast and the engine agree: what the analytic course says beforehand is what the real executor does in virtual
//! time, step by step, also when things go wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use muster_compiler::{Checked, CompileOptions, World};
use muster_forecast::{Dice, Estimate, Evidence, Fate};
use muster_provider_simulated::EstateSpec;
use muster_rehearsal::{Conditions, Outcome, Status, simulate, table};
use muster_runsheet::{Direction, Duration, Kind, NodeKind, Operation, Runsheet};
use std::collections::BTreeMap;

/// Jitter of retries, and whole seconds of the engine.
const APART_MAX: Duration = Duration::from_secs(5);

struct Shop;

impl World for Shop {
    fn read(&self, path: &str) -> Option<String> {
        match path {
            "inventory.json" => Some(inventory()),
            path => std::fs::read_to_string(format!("{}/../../plans/shop/{path}", env!("CARGO_MANIFEST_DIR"))).ok(),
        }
    }
}

fn inventory() -> String {
    let can = serde_json::json!({
        "planned_shutdown": true, "power_fencing": true, "host_tracking": true, "app_consistency": true,
        "instant_recovery": true, "bubbles": true,
    });
    let machine = |spec: &muster_provider_simulated::MachineSpec| {
        serde_json::json!({
            "name": spec.name, "cpus": spec.cpus, "memory_bytes": spec.memory_bytes, "disks": spec.disks,
            "nics": spec.nics, "power": "on", "guest_agent": true,
        })
    };
    let machines: Vec<_> = EstateSpec::default().machines().iter().map(machine).collect();
    let site = |machines: serde_json::Value| serde_json::json!({ "pulled_at": 0, "provider": "qemu", "capabilities": can, "machines": machines });
    serde_json::json!({
        "format": "muster.inventory/1",
        "sites": { "hq": site(machines.into()), "dr": site(serde_json::json!([])) },
    })
    .to_string()
}

fn shop() -> Checked {
    let checked = muster_compiler::check(&Shop, &["shop.plan".to_owned()]);
    assert!(!checked.has_errors(), "{:#?}", checked.diagnostics);
    checked
}

fn both(checked: &Checked, kind: Kind, world: &muster_forecast::Conditions) -> (Runsheet, Estimate, Outcome) {
    let operation = Operation { kind, direction: Direction::Out };
    let sheet = checked.compile("shop", operation, CompileOptions::default()).unwrap();
    let estimate = Estimate::of(&sheet, &checked.estate, &Evidence::default(), world, Dice::new(1));
    let conditions = Conditions { world: world.clone(), ..Conditions::default() };
    let outcome = simulate(checked, "shop", operation, &conditions).unwrap_or_else(|error| panic!("{error:?}"));
    (sheet, estimate, outcome)
}

/// Every step that the forecast begins is begun then; the others are not begun.
fn agree(kind: Kind, world: &muster_forecast::Conditions) -> (Estimate, Outcome) {
    let (sheet, estimate, outcome) = both(&shop(), kind, world);
    let mut apart = BTreeMap::new();
    for (node, span) in sheet.nodes.iter().zip(&estimate.steps).filter(|(node, _)| node.kind != NodeKind::Barrier) {
        let began = outcome.step(&node.id).and_then(|step| step.started);
        let far = match (span.start, began) {
            (Some(forecast), Some(began)) => forecast.0.abs_diff(began.0) > APART_MAX.0,
            (forecast, began) => forecast.is_some() != began.is_some(),
        };
        if far {
            apart.insert(&node.id, (span.start, began));
        }
    }
    assert!(apart.is_empty(), "{kind:?} {:?}: {apart:#?}\n{}", world.words(), table(&outcome.timeline));
    (estimate, outcome)
}

#[test]
fn they_agree_when_nothing_goes_wrong() {
    for kind in [Kind::Test, Kind::Planned, Kind::Unplanned] {
        let (estimate, outcome) = agree(kind, &muster_forecast::Conditions::default());
        assert_eq!(outcome.status, Status::Done);
        assert!(
            estimate.total.unwrap().0.abs_diff(outcome.elapsed.0) <= APART_MAX.0,
            "{:?} {}",
            estimate.total,
            outcome.elapsed
        );
    }
}

#[test]
fn they_agree_about_steps_that_fail() {
    let fail =
        |step: &str, times| muster_forecast::Conditions { fail: [(step.into(), times)].into(), ..Default::default() };
    let (estimate, outcome) = agree(Kind::Unplanned, &fail("database.start/db", 2));
    assert!(outcome.status.is(Status::Done) && estimate.total.is_some());
    let (estimate, outcome) = agree(Kind::Unplanned, &fail("database.start/db", 9));
    assert_eq!((outcome.status, estimate.total), (Status::Paused, None));
}

#[test]
fn they_agree_about_a_dead_site() {
    let dead = |site: &str| muster_forecast::Conditions { dead: [site.into()].into(), ..Default::default() };
    let (_, estimate, outcome) = both(&shop(), Kind::Unplanned, &dead("hq"));
    // Nobody knows how long a dead site is waited for: the forecast takes the limit, and is never the more hopeful one.
    assert!(outcome.status.is(Status::Done), "{}", table(&outcome.timeline));
    assert!(estimate.total.unwrap() >= outcome.elapsed, "{:?} {}", estimate.total, outcome.elapsed);
    let fates = |fate| estimate.steps.iter().filter(|span| span.fate == fate).count();
    assert_eq!((fates(Fate::Waived), fates(Fate::Degraded), outcome.degraded.len()), (3, 0, 0));
    println!("dead site: forecast {:?}, rehearsed {}", estimate.total, outcome.elapsed);
    let (_, estimate, outcome) = both(&shop(), Kind::Planned, &dead("hq"));
    assert_eq!((estimate.total, outcome.status), (None, Status::Paused), "{}", table(&outcome.timeline));
}

#[test]
fn they_hold_the_same_limits() {
    let plain = muster_forecast::Conditions::default();
    for lock in ["boots@dr", "boots@dr:3", "machine:db", "something"] {
        assert_eq!(plain.capacity(lock) as usize, muster_executor::chart::lock_capacity(lock), "{lock}");
    }
}

#[test]
fn they_agree_about_boots_at_once() {
    let world = muster_forecast::Conditions { boots: [("dr".into(), 1)].into(), ..Default::default() };
    agree(Kind::Unplanned, &world);
}
