//! Wrong plans: each mistake is said once, at its place, with what to do.

#![allow(clippy::unwrap_used, clippy::panic)] // tests and their helpers

mod common;

use common::{Texts, inventory, said};
use muster_diagnostics::RenderOptions;

/// A whole estate; each test breaks one thing in it.
const SITES: &str = r#"edition 2026
site hq {
  provider = simulated("127.0.0.1:7301")
  network data = 10.10.20.0/24
  network web  = 10.10.40.0/24
}
site dr {
  provider = simulated("127.0.0.1:7302")
  network data = 10.60.20.0/24
  network web  = 10.60.40.0/24
}
route hq <-> dr {
  vault = "file:///var/lib/vault"
  data <-> data test isolated
  web  <-> web  test isolated
}
policy gold {
  rpo       = 1m
  replicate = every 10s
  retain    = 24h
}
"#;

fn estate() -> Texts {
    let machines = [("db", "data", "10.10.20.11"), ("app", "data", "10.10.20.12"), ("web-01", "web", "10.10.40.11")];
    Texts::default().with("sites.plan", SITES).with("inventory.json", &inventory(&machines))
}

fn wrong(file: &str) -> String {
    let text = std::fs::read_to_string(format!("{}/tests/wrong/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let checked = estate().with(file, &text).check(&[file]);
    assert!(checked.has_errors(), "{file} passes");
    for plan in checked.plan_names() {
        let operation = muster_runsheet::Operation {
            kind: muster_runsheet::Kind::Planned,
            direction: muster_runsheet::Direction::Out,
        };
        assert!(checked.compile(plan.as_str(), operation, Default::default()).is_err(), "{file} compiles");
    }
    muster_diagnostics::render(&checked.diagnostics, &checked.sources, RenderOptions::default())
}

macro_rules! wrong_plans {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(wrong(concat!(stringify!($name), ".plan")));
        }
    )*};
}

wrong_plans! {
    unknown_machine
    stage_cycle
    unit_mismatch
    unmapped_network
    route_not_one_to_one
    machine_in_two_plans
    group_without_policy
    hook_syntax_error
    drill_leaves_the_bubble
    several_mistakes
    more_mistakes
    order_of_steps
    names_and_files
    promises
    templates
    machines_in_the_text
    objectives
    shared_machines
}

#[test]
fn the_estate_the_tests_break_is_right() {
    let text = "edition 2026\nuse ./sites { hq, dr, gold }\ngroup shop { policy = gold; machines = [db, app, web-01] }\n\
                plan p { move = hq -> dr\n stage a { start db, app, web-01 } }\n";
    let checked = estate().with("p.plan", text).check(&["p.plan"]);
    assert_eq!(said(&checked), "");
}

#[test]
fn a_damaged_inventory_is_said_with_its_place() {
    let checked = estate().with("inventory.json", "{\n  \"format\": 7\n}").check(&["sites.plan"]);
    insta::assert_snapshot!(said(&checked));
}

/// Plans that use an unknown machine, policy and hook again and again.
const AGAIN: &str = "edition 2026\nuse ./sites { hq, dr, gold }\n\
    group shop { policy = gold; machines = [db, app, web-99] }\n\
    group rest { policy = golf; machines = [web-01] }\n\
    group more { policy = golf; machines = [] }\n\
    plan p {\n  move = hq -> dr\n  stage a {\n    start db, app\n    start web-99\n    check web-99 tcp(80)\n    \
    run tell(host = web-99.ip)\n    run tell(host = db.ip)\n    start web-01\n  }\n}\n";

#[test]
fn a_name_used_often_and_unknown_is_one_mistake() {
    let checked = estate().with("p.plan", AGAIN).check(&["p.plan"]);
    insta::assert_snapshot!(said(&checked));
}

#[test]
fn no_inventory_and_no_machine_is_one_mistake() {
    let mut texts = estate().with("p.plan", &AGAIN.replace("golf", "gold").replace("    run tell(host = db.ip)\n", ""));
    texts.0.remove("inventory.json");
    insta::assert_snapshot!(said(&texts.check(&["p.plan"])));
}

#[test]
fn a_damaged_inventory_makes_no_machine_unknown() {
    let checked = estate().with("inventory.json", "{").with("p.plan", AGAIN).check(&["p.plan"]);
    assert!(checked.diagnostics.iter().any(|found| found.code.0 == 315));
    assert!(checked.diagnostics.iter().all(|found| found.code.0 != 301), "{}", said(&checked));
}

#[test]
fn files_that_use_each_other_are_a_loop() {
    let text = |name: &str, uses: &str| {
        format!("edition 2026\nuse ./{uses} {{ {uses}-team }}\nteam {name}-team {{ members = [\"a\"] }}\n")
    };
    let checked = Texts::default().with("a.plan", &text("a", "b")).with("b.plan", &text("b", "a")).check(&["a.plan"]);
    let loops: Vec<_> = checked.diagnostics.iter().filter(|found| found.code.0 == 206).collect();
    assert_eq!(loops.len(), 1, "{}", said(&checked));
    assert_eq!(loops[0].notes, ["a.plan -> b.plan -> a.plan"]);
}

#[test]
fn nothing_written_breaks_the_checker() {
    let whole = std::fs::read_to_string(format!("{}/tests/shop/shop.plan", env!("CARGO_MANIFEST_DIR"))).unwrap();
    // Every beginning of a good file is a bad file that has to be survived.
    for end in (0..whole.len()).step_by(7).filter(|end| whole.is_char_boundary(*end)) {
        common::shop().with("shop.plan", &whole[..end]).check(&["shop.plan"]);
    }
}
