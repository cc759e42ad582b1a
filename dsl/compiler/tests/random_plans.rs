//! Plans nobody wrote: whatever compiles holds the rules.

#![allow(clippy::unwrap_used, clippy::panic)] // tests and their helpers

mod common;

use common::{Texts, inventory, said};
use muster_compiler::CompileOptions;
use muster_runsheet::{Action, Direction, Kind, MachineName, Operation, Otherwise, StepId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const SITES: &str = r#"edition 2026
site hq { provider = simulated("127.0.0.1:7301"); network data = 10.10.20.0/24 }
site dr { provider = simulated("127.0.0.1:7302"); network data = 10.60.20.0/24 }
route hq <-> dr {
  vault = "file:///vault"
  data <-> data test isolated
}
policy gold { rpo = 1m; replicate = every 10s; retain = 24h }
"#;

#[derive(Clone, Debug)]
struct Stage {
    /// Earlier stages it waits for, as bits.
    after: u8,
    machines: usize,
    in_turn: bool,
    carry_on: bool,
    when: usize,
    down: bool,
}

const WHEN: [&str; 6] = ["", " when test", " when live", " when back", " when planned", " when unplanned, test"];

fn stage() -> impl Strategy<Value = Stage> {
    (any::<u8>(), 0usize..4, any::<bool>(), any::<bool>(), 0..WHEN.len(), any::<bool>()).prop_map(
        |(after, machines, in_turn, carry_on, when, down)| Stage { after, machines, in_turn, carry_on, when, down },
    )
}

/// The texts of a plan with these stages, and the number of its machines.
fn texts(stages: &[Stage]) -> (Texts, usize) {
    let (mut plan, mut machines) = (String::new(), 0);
    for (index, stage) in stages.iter().enumerate() {
        let after: Vec<String> =
            (0..index).filter(|bit| stage.after >> bit & 1 == 1).map(|bit| format!("s{bit}")).collect();
        let after = if after.is_empty() { String::new() } else { format!(" after {}", after.join(", ")) };
        writeln!(plan, "  stage s{index}{after} {{").unwrap();
        let names: Vec<String> = (machines..machines + stage.machines).map(|number| format!("m{number}")).collect();
        machines += stage.machines;
        let carry_on = if stage.carry_on { " else continue" } else { "" };
        if !names.is_empty() {
            let in_turn = if stage.in_turn { " in turn" } else { "" };
            writeln!(plan, "    start {}{in_turn}{carry_on}", names.join(", ")).unwrap();
            writeln!(plan, "    parallel {{\n      check {} tcp(80){}", names.join(", "), WHEN[stage.when]).unwrap();
            writeln!(plan, "      check {} guest()\n    }}", names[0]).unwrap();
        }
        writeln!(plan, "    wait 1s{}", WHEN[stage.when]).unwrap();
        if stage.down {
            writeln!(plan, "    down {{ wait 2s as settle{carry_on} }}").unwrap();
        }
        plan.push_str("  }\n");
    }
    let names: Vec<String> = (0..machines).map(|number| format!("m{number}")).collect();
    let ips: Vec<String> = (0..machines).map(|number| format!("10.10.20.{}", number + 10)).collect();
    let known: Vec<(&str, &str, &str)> =
        names.iter().zip(&ips).map(|(name, ip)| (name.as_str(), "data", ip.as_str())).collect();
    let plan = format!(
        "edition 2026\nuse ./sites {{ hq, dr, gold }}\ngroup all {{ policy = gold; machines = [{}] }}\nplan p {{\n  move = hq -> dr\n{plan}}}\n",
        names.join(", ")
    );
    let texts =
        Texts::default().with("sites.plan", SITES).with("p.plan", &plan).with("inventory.json", &inventory(&known));
    (texts, machines)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_compiles_holds_the_rules(stages in prop::collection::vec(stage(), 1..6)) {
        let (texts, machines) = texts(&stages);
        let checked = texts.check(&["p.plan"]);
        prop_assert!(!checked.has_errors(), "{}\n{}", said(&checked), texts.0["p.plan"]);
        let again = texts.check(&["p.plan"]);
        for kind in [Kind::Test, Kind::Planned, Kind::Unplanned, Kind::Cancel, Kind::Commit, Kind::Reprotect] {
            for direction in [Direction::Out, Direction::Back] {
                let operation = Operation { kind, direction };
                let sheet = checked.compile("p", operation, CompileOptions::default()).unwrap();
                prop_assert_eq!(&sheet, &again.compile("p", operation, CompileOptions::default()).unwrap());
                sheet.graph().unwrap();
                let position: BTreeMap<&StepId, usize> = sheet.nodes.iter().enumerate().map(|(at, node)| (&node.id, at)).collect();
                for edge in &sheet.edges {
                    prop_assert!(position[&edge.from] < position[&edge.to]);
                }
                for node in &sheet.nodes {
                    prop_assert!(!(node.after_no_return && node.otherwise == Otherwise::Undo));
                }
                let count = |what: fn(&Action) -> bool| sheet.nodes.iter().filter(|node| what(&node.action)).count();
                if kind.is_live() || kind == Kind::Test {
                    let started: BTreeSet<&MachineName> = sheet.nodes.iter().filter(|node| matches!(node.action, Action::Start { .. }))
                        .filter_map(|node| node.action.machine()).collect();
                    prop_assert_eq!(started.len(), machines);
                    for machine in started {
                        let land = position[&StepId::new(format!("land/{machine}"))];
                        let start = sheet.nodes.iter().position(|node| matches!(&node.action, Action::Start { machine: of, .. } if of == machine));
                        prop_assert!(land < start.unwrap());
                    }
                }
                if kind.is_live() {
                    prop_assert_eq!(count(|action| matches!(action, Action::Stop { .. })), machines);
                    prop_assert_eq!(count(|action| matches!(action, Action::Fence { .. })), 1);
                }
                if kind == Kind::Test {
                    prop_assert_eq!(count(|action| matches!(action, Action::Stop { .. } | Action::Fence { .. } | Action::Promote { .. })), 0);
                }
            }
        }
    }
}
