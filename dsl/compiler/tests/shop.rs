//! The shop in every operation and both directions.

#![allow(clippy::unwrap_used, clippy::panic)] // tests and their helpers

mod common;

use common::{said, shop};
use muster_compiler::{Checked, CompileOptions, cleanup_sheet};
use muster_runsheet::{
    Action, Direction, FenceProof, Kind, MachineName, Operation, Otherwise, PointChoice, ProbeCall, Runsheet, StepId,
    Value,
};
use std::collections::BTreeMap;
use std::fmt::Write;

const ALL: [Kind; 6] = [Kind::Test, Kind::Planned, Kind::Unplanned, Kind::Cancel, Kind::Commit, Kind::Reprotect];

fn checked() -> Checked {
    let checked = shop().check(&["shop.plan"]);
    assert_eq!(said(&checked), "");
    checked
}

fn compile(checked: &Checked, kind: Kind, direction: Direction) -> Runsheet {
    match checked.compile("shop", Operation { kind, direction }, CompileOptions::default()) {
        Ok(sheet) => sheet,
        Err(found) => panic!("{found:?}"),
    }
}

/// Each step with what it waits for; `~` where only an end is awaited.
fn steps(sheet: &Runsheet) -> String {
    let mut out = String::new();
    for node in &sheet.nodes {
        let before = sheet.edges.iter().filter(|edge| edge.to == node.id);
        let before: Vec<String> = before
            .map(|edge| {
                if edge.kind == muster_runsheet::EdgeKind::Ends {
                    format!("~{}", edge.from)
                } else {
                    edge.from.to_string()
                }
            })
            .collect();
        let passed = if node.after_no_return { "!" } else { " " };
        writeln!(out, "{passed}{:34} <- {}", node.id, before.join(" ")).unwrap();
    }
    out
}

#[test]
fn steps_of_a_test() {
    insta::assert_snapshot!(steps(&compile(&checked(), Kind::Test, Direction::Out)));
}

#[test]
fn steps_of_a_planned_failover() {
    insta::assert_snapshot!(steps(&compile(&checked(), Kind::Planned, Direction::Out)));
}

#[test]
fn steps_of_an_unplanned_failover() {
    insta::assert_snapshot!(steps(&compile(&checked(), Kind::Unplanned, Direction::Out)));
}

#[test]
fn steps_of_a_cancel() {
    insta::assert_snapshot!(steps(&compile(&checked(), Kind::Cancel, Direction::Out)));
}

#[test]
fn steps_of_a_reprotect() {
    insta::assert_snapshot!(steps(&compile(&checked(), Kind::Reprotect, Direction::Out)));
}

#[test]
fn steps_of_a_cleanup() {
    let drill = compile(&checked(), Kind::Test, Direction::Out);
    let made: Vec<MachineName> = ["sql-01", "sql-02", "app-01", "web-01", "web-02"].map(MachineName::from).into();
    let sheet = cleanup_sheet(&drill, "run-7", &made);
    sheet.graph().unwrap();
    assert!(sheet.nodes.iter().all(|node| !matches!(node.action, Action::Stop { .. } | Action::Start { .. })));
    insta::assert_snapshot!(steps(&sheet));
}

#[test]
fn the_table_of_an_unplanned_failover() {
    use muster_forecast::{Conditions, Dice, Evidence, Forecast, Question, view};
    let checked = checked();
    let sheet = compile(&checked, Kind::Unplanned, Direction::Out);
    let (evidence, conditions) = (Evidence::default(), Conditions::default());
    let question = Question {
        sheet: &sheet,
        estate: &checked.estate,
        evidence: &evidence,
        conditions: &conditions,
        dice: Dice::new(1),
    };
    let table = view::table(&Forecast::of(question), view::Looks::default());
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    // The hash of the sheet changes with every word; the rest is what people read.
    let table: String = table.lines().skip(1).map(|line| format!("{line}\n")).collect();
    insta::assert_snapshot!(table);
}

#[test]
fn every_sheet_holds_the_rules() {
    let checked = checked();
    for (kind, direction) in ALL.into_iter().flat_map(|kind| [Direction::Out, Direction::Back].map(|d| (kind, d))) {
        let sheet = compile(&checked, kind, direction);
        let name = sheet.operation.to_string();
        sheet.graph().unwrap();
        assert_eq!(Runsheet::from_json(&sheet.to_json()).unwrap(), sheet, "{name}");
        assert_eq!(compile(&checked, kind, direction).hash(), sheet.hash(), "{name}");
        let position: BTreeMap<&StepId, usize> =
            sheet.nodes.iter().enumerate().map(|(index, node)| (&node.id, index)).collect();
        for edge in &sheet.edges {
            assert!(position[&edge.from] < position[&edge.to], "{name}: {} before {}", edge.to, edge.from);
        }
        for node in &sheet.nodes {
            assert_ne!(node.within, muster_runsheet::Duration::ZERO, "{name}: {}", node.id);
            assert!(!(node.after_no_return && node.otherwise == Otherwise::Undo), "{name}: {}", node.id);
            if let (Action::Start { machine, .. }, true) = (&node.action, kind == Kind::Test || kind.is_live()) {
                let land = StepId::new(format!("land/{machine}"));
                assert!(sheet.edges.iter().any(|edge| edge.from == land && edge.to == node.id), "{name}: {}", node.id);
            }
        }
    }
}

fn node<'a>(sheet: &'a Runsheet, id: &str) -> &'a Action {
    &sheet.node(&id.into()).unwrap_or_else(|| panic!("no {id} in\n{}", steps(sheet))).action
}

#[test]
fn addresses_follow_the_machines() {
    let checked = checked();
    let planned = compile(&checked, Kind::Planned, Direction::Out);
    let Action::Promote { nics, differences: false, .. } = node(&planned, "land/web-01") else { panic!() };
    assert_eq!((nics[0].network.as_str(), nics[0].ip), ("dmz", Some("10.60.40.11".parse().unwrap())));
    let Action::Run { arguments, .. } = node(&planned, "app.set-db-host") else { panic!() };
    assert_eq!(arguments["host"], Value::Ip("10.60.20.50".parse().unwrap()));
    let Action::Run { arguments, .. } = node(&planned, "doors.dns-swing") else { panic!() };
    assert_eq!(arguments["to"], Value::Ip("10.60.40.200".parse().unwrap()), "the pair of its own wins");
    assert_eq!(arguments["ttl"], Value::Duration(muster_runsheet::Duration::from_secs(60)));
    let home = compile(&checked, Kind::Planned, Direction::Back);
    let Action::Promote { nics, differences: true, .. } = node(&home, "land/web-01") else { panic!() };
    assert_eq!((nics[0].network.as_str(), nics[0].ip), ("web", Some("10.10.40.11".parse().unwrap())));
    let Action::Run { arguments, .. } = node(&home, "doors.dns-swing") else { panic!() };
    assert_eq!(arguments["to"], Value::Ip("10.10.40.10".parse().unwrap()));
}

#[test]
fn a_drill_keeps_the_addresses_of_production() {
    let checked = checked();
    let out = compile(&checked, Kind::Test, Direction::Out);
    let Action::Clone { nics, site, .. } = node(&out, "land/web-01") else { panic!() };
    assert_eq!(
        (site.as_str(), nics[0].network.as_str(), nics[0].ip),
        ("dr", "dmz", Some("10.10.40.11".parse().unwrap()))
    );
    let Action::Bubble { networks, .. } = node(&out, "bubble") else { panic!() };
    let networks: Vec<_> = networks.iter().map(|shape| (shape.name.as_str(), shape.cidr.as_str())).collect();
    assert_eq!(networks, [("app", "10.10.30.0/24"), ("data", "10.10.20.0/24"), ("dmz", "10.10.40.0/24")]);
    let Action::Check { probe: ProbeCall::Hook { arguments, .. }, .. } = node(&out, "doors.check/web-01") else {
        panic!()
    };
    assert_eq!(arguments["base"], Value::Text("http://10.10.40.11".into()));
    assert!(out.node(&"doors.dns-swing".into()).is_none());
    assert!(out.left_out.iter().any(|left| left.step.as_str() == "doors.dns-swing" && left.why == "when live"));
    let back = compile(&checked, Kind::Test, Direction::Back);
    let Action::Clone { nics, site, .. } = node(&back, "land/web-01") else { panic!() };
    assert_eq!(
        (site.as_str(), nics[0].network.as_str(), nics[0].ip),
        ("hq", "web", Some("10.60.40.11".parse().unwrap()))
    );
}

#[test]
fn points_are_chosen_by_plan_operation_and_person() {
    let checked = checked();
    let choice = |kind, point: Option<&str>| {
        let operation = Operation { kind, direction: Direction::Out };
        let options = CompileOptions { point: point.map(str::to_owned), ..CompileOptions::default() };
        let sheet = checked.compile("shop", operation, options).unwrap();
        match node(&sheet, "point/orders-db") {
            Action::PickPoint { choice, .. } => choice.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(choice(Kind::Test, None), PointChoice::LatestApp);
    assert_eq!(choice(Kind::Unplanned, None), PointChoice::Latest);
    assert_eq!(choice(Kind::Unplanned, Some("p1")), PointChoice::Named { point: "p1".into() });
}

#[test]
fn the_estate_says_what_replication_needs() {
    let checked = checked();
    let group = &checked.estate.groups["orders-db"];
    assert!(group.together);
    assert_eq!(group.home.as_ref().unwrap().as_str(), "hq");
    assert_eq!(checked.estate.groups["cache"].policy, None);
    let silver = &checked.estate.policies["silver"];
    assert_eq!(silver.rpo, muster_runsheet::Duration::from_mins(30));
    assert_eq!(silver.bandwidth_windows.len(), 1, "taken over from gold");
    assert_eq!(checked.estate.routes[0].vault, "file:///plans/vault");
    let plan = checked.plan("shop").unwrap();
    assert!(plan.sound);
    assert_eq!(plan.groups.len(), 3);
    assert_eq!(plan.machines.len(), 7);
    assert_eq!(plan.target(Direction::Back).as_str(), "hq");
}

/// The plans that ship with the tree stay right.
#[test]
fn the_shipped_shop_compiles() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans/shop");
    let mut texts = common::Texts::default();
    for name in ["shop.plan", "sites.plan"] {
        texts = texts.with(name, &std::fs::read_to_string(root.join(name)).unwrap());
    }
    let machines = [("db", "data", "10.10.20.11"), ("app", "data", "10.10.20.12"), ("web", "web", "10.10.40.11")];
    let checked = texts.with("inventory.json", &common::inventory(&machines)).check(&["shop.plan"]);
    assert_eq!(said(&checked), "");
    for (kind, direction) in ALL.into_iter().flat_map(|kind| [Direction::Out, Direction::Back].map(|d| (kind, d))) {
        compile(&checked, kind, direction).graph().unwrap();
    }
}

#[test]
fn the_way_home_may_end_elsewhere() {
    let more = r#"
site hq2 {
  provider = qemu("10.77.3.2:7300")
  network d = 10.90.20.0/24
  network a = 10.90.30.0/24
  network w = 10.90.40.0/24
}
route hq2 <-> dr {
  vault = "/plans/vault"
  d <-> data test isolated
  a <-> app  test isolated
  w <-> dmz  test isolated
}
"#;
    let mut texts = shop();
    texts.0.get_mut("sites.plan").unwrap().push_str(more);
    let plan = texts.0["shop.plan"].replace("{ hq, dr, dr-leads }", "{ hq, dr, hq2, dr-leads }");
    let plan = plan.replace("move  = hq -> dr", "move  = hq -> dr back hq2");
    let checked = texts.with("shop.plan", &plan).check(&["shop.plan"]);
    assert_eq!(said(&checked), "");
    let home = compile(&checked, Kind::Planned, Direction::Back);
    assert_eq!((home.source.as_str(), home.target.as_str(), home.vault.as_str()), ("dr", "hq2", "file:///plans/vault"));
    let Action::Promote { nics, .. } = node(&home, "land/web-01") else { panic!() };
    assert_eq!((nics[0].network.as_str(), nics[0].ip), ("w", Some("10.90.40.11".parse().unwrap())));
    let turned = compile(&checked, Kind::Reprotect, Direction::Out);
    let Action::Reverse { source, target, .. } = node(&turned, "reverse/shop-web") else { panic!() };
    assert_eq!((source.as_str(), target.as_str()), ("dr", "hq2"));
    // It has none of the disks, and the first home may be rubble.
    assert!(matches!(node(&home, "land/web-01"), Action::Promote { differences: false, .. }));
    let Action::Verify { required, probed } = node(&turned, "ready/verify") else { panic!() };
    assert_eq!((required.as_slice(), probed.as_slice()), (&["hq2".into(), "dr".into()][..], &["hq".into()][..]));
    let Action::Fence { proof, .. } = node(&turned, "fence") else { panic!() };
    assert_eq!(*proof, FenceProof::FoundOffOrSignature);
    let back = Operation { kind: Kind::Reprotect, direction: Direction::Back };
    let refused = checked.compile("shop", back, Default::default()).unwrap_err();
    assert_eq!(refused[0].code.0, 601, "it would begin where the machines no longer are");
}

#[test]
fn what_the_inventory_knows_is_held_against_promises() {
    let mut texts = shop();
    let mut inventory: muster_runsheet::Inventory = serde_json::from_str(&texts.0["inventory.json"]).unwrap();
    for machine in &mut inventory.sites.get_mut("hq").unwrap().machines {
        machine.churn_bytes_per_second = if machine.name.as_str() == "sql-01" { 60_000_000 } else { 1_000 };
        machine.guest_agent = machine.name.as_str() != "web-02";
    }
    texts = texts.with("inventory.json", &serde_json::to_string(&inventory).unwrap());
    let mut found: Vec<_> = texts.check(&["shop.plan"]).diagnostics.iter().map(|found| found.code.0).collect();
    found.sort();
    assert_eq!(found, [402, 410], "sql-01 writes more than 400Mbit/s, web-02 has no agent");
}
