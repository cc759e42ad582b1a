//! Every example of the language's design compiles, and its sheets and estate say what the text says.

#![allow(clippy::unwrap_used, clippy::panic)] // tests and their helpers

mod common;

use common::{Texts, inventory, said};
use muster_compiler::{Checked, CompileOptions};
use muster_runsheet::{
    Action, Carriers, ChurnFacts, Direction, InitialCopy, Inventory, Kind, Operation, ProbeCall, RetentionTier,
    Runsheet, Size, Value,
};
use std::fmt::Write;

const MACHINES: [(&str, &str, &str); 10] = [
    ("sql-01", "data", "10.10.20.11"),
    ("sql-02", "data", "10.10.20.12"),
    ("app-01", "app", "10.10.30.11"),
    ("app-02", "app", "10.10.30.12"),
    ("web-01", "web", "10.10.40.11"),
    ("web-02", "web", "10.10.40.12"),
    ("redis-01", "app", "10.10.30.21"),
    ("erp-db", "data", "10.10.20.31"),
    ("erp-app", "app", "10.10.30.31"),
    ("erp-batch", "app", "10.10.30.32"),
];

/// The examples, with what `hq` has.
fn examples() -> Texts {
    Texts::folder("language").with("inventory.json", &inventory(&MACHINES))
}

/// The inventory, changed.
fn with_inventory(texts: Texts, change: impl FnOnce(&mut Inventory)) -> Texts {
    let mut inventory: Inventory = serde_json::from_str(&texts.0["inventory.json"]).unwrap();
    change(&mut inventory);
    texts.with("inventory.json", &serde_json::to_string(&inventory).unwrap())
}

fn checked(files: &[&str]) -> Checked {
    let checked = examples().check(files);
    assert!(!checked.has_errors(), "{}", said(&checked));
    checked
}

fn compile(checked: &Checked, plan: &str, kind: Kind, direction: Direction) -> Runsheet {
    match checked.compile(plan, Operation { kind, direction }, CompileOptions::default()) {
        Ok(sheet) => sheet,
        Err(found) => panic!("{found:?}"),
    }
}

fn node<'a>(sheet: &'a Runsheet, id: &str) -> &'a Action {
    let ids = || sheet.nodes.iter().map(|node| node.id.to_string()).collect::<Vec<_>>().join("\n");
    &sheet.node(&id.into()).unwrap_or_else(|| panic!("no {id} in\n{}", ids())).action
}

/// The steps that people wrote, with what they carry.
fn written(sheet: &Runsheet) -> String {
    let mut out = String::new();
    for node in sheet.nodes.iter().filter(|node| node.made_by.contains(".plan:")) {
        let mut clauses = format!("within {}", node.within);
        if let Some(usually) = node.usually {
            write!(clauses, " usually {usually}").unwrap();
        }
        if let Some(retry) = node.retry {
            write!(clauses, " retry {} every {}", retry.count, retry.delay).unwrap();
        }
        let action = serde_json::to_value(&node.action).unwrap();
        let rest: Vec<String> = action
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "verb" | "machine"))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        writeln!(out, "{:24} {clauses} else {:?}", node.id, node.otherwise).unwrap();
        writeln!(out, "    {} {}", node.action.verb(), rest.join(" ")).unwrap();
    }
    for left in &sheet.left_out {
        writeln!(out, "without {} ({})", left.step, left.why).unwrap();
    }
    out
}

#[test]
fn every_example_compiles_in_every_operation() {
    let checked = checked(&["shop.plan", "erp.plan", "shop.test.plan"]);
    assert_eq!(checked.plan_names().len(), 2);
    for plan in ["shop", "erp"] {
        for kind in [Kind::Test, Kind::Planned, Kind::Unplanned, Kind::Cancel, Kind::Commit, Kind::Reprotect] {
            for direction in [Direction::Out, Direction::Back] {
                let sheet = compile(&checked, plan, kind, direction);
                sheet.graph().unwrap();
                assert_eq!(Runsheet::from_json(&sheet.to_json()).unwrap(), sheet);
            }
        }
    }
}

#[test]
fn the_shop_in_earnest() {
    insta::assert_snapshot!(written(&compile(&checked(&["shop.plan"]), "shop", Kind::Unplanned, Direction::Out)));
}

#[test]
fn the_erp_on_its_way_home() {
    insta::assert_snapshot!(written(&compile(&checked(&["erp.plan"]), "erp", Kind::Unplanned, Direction::Back)));
}

#[test]
fn the_estate_of_the_examples() {
    let checked = checked(&["shop.plan", "erp.plan"]);
    let mut estate = (*checked.estate).clone();
    estate.machines.clear(); // What the inventory says; tested with the inventory.
    insta::assert_json_snapshot!(estate);
}

#[test]
fn a_drill_uses_the_network_for_tests() {
    let checked = checked(&["shop.plan"]);
    let out = compile(&checked, "shop", Kind::Test, Direction::Out);
    let Action::Clone { nics, .. } = node(&out, "land/web-01") else { panic!() };
    assert_eq!((nics[0].network.as_str(), nics[0].ip), ("web-test", Some("10.99.40.11".parse().unwrap())));
    let Action::Clone { nics, .. } = node(&out, "land/sql-01") else { panic!() };
    assert_eq!((nics[0].network.as_str(), nics[0].ip), ("data", Some("10.10.20.11".parse().unwrap())));
    let Action::Bubble { networks, .. } = node(&out, "bubble") else { panic!() };
    assert_eq!(networks.iter().map(|shape| shape.name.as_str()).collect::<Vec<_>>(), ["app", "data"]);
    assert_eq!(out.test_networks.iter().map(ToString::to_string).collect::<Vec<_>>(), ["web-test"]);
    let Action::Check { probe: ProbeCall::Hook { arguments, .. }, .. } = node(&out, "doors.check/web-01") else {
        panic!()
    };
    assert_eq!(arguments["base"], Value::Text("https://10.99.40.11".into()), "what a tester would type");
    // The network for tests is at the recovery site: a drill at home is isolated.
    let home = compile(&checked, "shop", Kind::Test, Direction::Back);
    let Action::Clone { nics, .. } = node(&home, "land/web-01") else { panic!() };
    assert_eq!((nics[0].network.as_str(), nics[0].ip), ("web", Some("10.60.40.11".parse().unwrap())));
    assert!(home.test_networks.is_empty());
}

#[test]
fn carriers_resolvers_and_teams_travel_with_the_sheet() {
    let checked = checked(&["shop.plan"]);
    let (out, home) = (
        compile(&checked, "shop", Kind::Planned, Direction::Out),
        compile(&checked, "shop", Kind::Planned, Direction::Back),
    );
    assert_eq!(out.carriers, Carriers { through: vec!["ps-hq".into()], target: Vec::new() });
    assert_eq!(home.carriers, Carriers { through: vec!["ps-dr".into()], target: vec!["mt-hq".into()] });
    let (here, there) = ("10.10.0.53".parse().unwrap(), "10.60.0.53".parse().unwrap());
    assert_eq!((out.resolvers, home.resolvers), (vec![(here, there)], vec![(there, here)]));
    assert_eq!(out.teams["dr-leads"].members.len(), 2);
    let drill = compile(&checked, "shop", Kind::Test, Direction::Out);
    assert_eq!(drill.teams.len(), 1, "the owner, though nobody is asked in a drill");
    assert_eq!(drill.keep, None);
}

#[test]
fn a_drill_of_the_erp_takes_itself_away() {
    let checked = checked(&["erp.plan"]);
    let keep = |kind| compile(&checked, "erp", kind, Direction::Out).keep.map(|keep| keep.to_string());
    assert_eq!((keep(Kind::Test), keep(Kind::Planned)), (Some("8h".into()), None));
}

#[test]
fn the_sample_message_of_the_language() {
    let texts = with_inventory(examples(), |inventory| {
        for machine in &mut inventory.sites.get_mut("hq").unwrap().machines {
            if machine.name.as_str().starts_with("sql") {
                let (interval, p95) = ("5m".parse().unwrap(), Size(11_200_000_000));
                machine.churn = Some(ChurnFacts { interval, p95, days: 30, until: "2027-03-02".into() });
            }
        }
    });
    let checked = texts.check(&["shop.plan"]);
    // Warnings about the rest of the plan are not what this is about.
    let all = said(&checked);
    let refuted = all.find("E0402").map(|at| &all[at..]).unwrap_or_default();
    let end = refuted.find("\nE").unwrap_or(refuted.len());
    insta::assert_snapshot!(&refuted[..end]);
}

/// What the notes of the design show: places, queries, continuous replication, another way home, files under a name.
fn more() -> Texts {
    let texts = Texts::folder("more").with("inventory.json", &inventory(&MACHINES));
    with_inventory(texts, |inventory| {
        let hq = inventory.sites.get_mut("hq").unwrap();
        for machine in &mut hq.machines {
            if machine.name.as_str().starts_with("web") {
                machine.containers.insert("cloud".into(), "Gold".into());
                machine.tags = vec!["shop".into(), "front".into()];
            }
            if machine.name.as_str() == "sql-01" {
                machine.name = "SQL PROD (01)".into();
            }
        }
        hq.aliases.insert("sql-01".into(), "SQL PROD (01)".into());
    })
}

#[test]
fn the_rest_of_the_language_compiles() {
    let checked = more().check(&["farm.plan"]);
    assert_eq!(said(&checked), "");
    insta::assert_snapshot!(written(&compile(&checked, "farm", Kind::Planned, Direction::Out)));
}

#[test]
fn policies_are_carried_whole() {
    let checked = more().check(&["farm.plan"]);
    let live = &checked.estate.policies["live"];
    assert!(live.continuous);
    assert_eq!(live.encryption.as_ref().map(|secret| secret.key.as_str()), Some("dr/farm-key"));
    assert_eq!(live.initial_copy, InitialCopy::Offline);
    assert_eq!(live.resync_window.as_ref().map(|window| window.name.as_str()), Some("nights"));
    assert_eq!(live.crash_every, Some("15m".parse().unwrap()));
    assert_eq!(live.app_every, Some("4h".parse().unwrap()));
    let tier =
        |every: &str, until: &str| RetentionTier { every: every.parse().unwrap(), until: until.parse().unwrap() };
    assert_eq!(live.tiers, [tier("1h", "7d"), tier("1d", "30d")]);
    assert_eq!((live.retain, live.retain_all), ("30d".parse().unwrap(), Some("24h".parse().unwrap())));
    assert_eq!(live.bandwidth, Some("1Gbit/s".parse().unwrap()));
    assert_eq!(live.bandwidth_windows.len(), 1, "closed in the office's hours");
    assert_eq!(live.bandwidth_windows[0].1.0, 0);
    let calm = &checked.estate.policies["calm"];
    assert_eq!((calm.continuous, calm.rpo), (false, "2h".parse().unwrap()));
    assert_eq!(calm.tiers, live.tiers, "taken over");
}

#[test]
fn queries_aliases_and_places_are_in_the_estate() {
    let checked = more().check(&["farm.plan"]);
    let front = &checked.estate.groups["front"];
    assert_eq!(front.machines.iter().map(ToString::to_string).collect::<Vec<_>>(), ["web-01", "web-02"]);
    assert_eq!(front.query.as_deref(), Some("select(s.hq, cloud = \"Gold\", tag = \"shop\")"));
    let sql = &checked.estate.machines["sql-01"];
    assert_eq!(sql.known_as.as_deref(), Some("SQL PROD (01)"));
    assert_eq!(sql.places["az"]["size"], Value::Text("Standard_E8s_v5".into()));
    assert_eq!(sql.places["az"]["public-ip"], Value::Bool(false), "the default of the site");
    assert_eq!(checked.estate.machines["web-01"].places["az"]["size"], Value::Text("Standard_D2s_v5".into()));
    let az = &checked.estate.sites["az"];
    assert_eq!(
        (az.provider.as_str(), az.endpoint.as_deref(), az.agent.as_str()),
        ("azure", Some("westeurope"), "10.70.0.4:7300")
    );
    assert_eq!(az.login.as_ref().map(|login| login.key.as_str()), Some("dr/azure"));
    assert_eq!(az.labels["data"], "snet-data");
}

#[test]
fn the_way_home_ends_where_the_plan_says() {
    let checked = more().check(&["farm.plan"]);
    let home = compile(&checked, "farm", Kind::Planned, Direction::Back);
    assert_eq!((home.source.as_str(), home.target.as_str()), ("az", "hq2"));
    let Action::Promote { nics, .. } = node(&home, "land/web-01") else { panic!() };
    assert_eq!(nics[0].ip, Some("10.90.40.11".parse().unwrap()));
}
