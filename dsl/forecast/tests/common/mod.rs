//! The shop of `plans/shop`, compiled, and past runs of it made by hand.

#![allow(dead_code)] // each test binary uses its part
#![allow(unreachable_pub)] // shared by `mod common`
#![allow(clippy::unwrap_used, clippy::panic)] // shared by tests

use muster_compiler::{Checked, CompileOptions, World, check};
use muster_forecast::{Conditions, Dice, Evidence, Forecast, History, LastDrill, Question, Sample};
use muster_runsheet::*;
use std::collections::BTreeMap;
use std::path::Path;

pub struct Texts(pub BTreeMap<String, String>);

impl World for Texts {
    fn read(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }
    fn folder(&self) -> Option<String> {
        Some("/plans".into())
    }
}

fn machine(number: usize, name: &str, network: &str, ip: &str, disks: &[&str]) -> MachineFacts {
    let disk = |name: &&str| DiskFacts { name: (*name).into(), size_bytes: 1 << 30 };
    serde_json::from_value(serde_json::json!({
        "name": name, "cpus": 1, "memory_bytes": 256 << 20, "power": "on", "guest_agent": true,
        "churn_bytes_per_second": 200_000, "disks": disks.iter().map(disk).collect::<Vec<_>>(),
        "nics": [{ "network": network, "mac": format!("52:54:00:00:00:{number:02x}"), "ip": ip }],
    }))
    .unwrap()
}

pub fn inventory() -> Inventory {
    let machines = vec![
        machine(1, "db", "data", "10.10.20.11", &["root", "data"]),
        machine(2, "app", "data", "10.10.20.12", &["root"]),
        machine(3, "web", "web", "10.10.40.13", &["root"]),
    ];
    let hq = serde_json::json!({
        "pulled_at": 0, "provider": "qemu", "capabilities": Capabilities::default(), "machines": machines,
    });
    Inventory { sites: BTreeMap::from([("hq".into(), serde_json::from_value(hq).unwrap())]), ..Inventory::default() }
}

/// `plans/shop`, its plan changed.
pub fn shop_with(change: impl FnOnce(String) -> String) -> Checked {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans/shop");
    let mut texts = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "plan") {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            texts.insert(name, std::fs::read_to_string(path).unwrap());
        }
    }
    let text = change(texts["shop.plan"].clone());
    texts.insert("shop.plan".into(), text);
    texts.insert("inventory.json".into(), serde_json::to_string(&inventory()).unwrap());
    let checked = check(&Texts(texts), &["shop.plan".to_owned()]);
    assert!(!checked.has_errors(), "{:?}", checked.diagnostics);
    checked
}

pub fn shop() -> Checked {
    shop_with(|text| text)
}

pub fn sheet(checked: &Checked, kind: Kind, direction: Direction) -> Runsheet {
    match checked.compile("shop", Operation { kind, direction }, CompileOptions::default()) {
        Ok(sheet) => sheet,
        Err(found) => panic!("{found:?}"),
    }
}

pub const SEED: Dice = Dice::new(2026);

pub fn forecast<'a>(
    checked: &'a Checked,
    sheet: &'a Runsheet,
    evidence: &'a Evidence,
    conditions: &'a Conditions,
) -> Forecast<'a> {
    Forecast::of(Question { sheet, estate: &checked.estate, evidence, conditions, dice: SEED })
}

/// Samples of every step of a sheet, as if it had run some times.
pub fn history(of: &Runsheet, times: u64, took: impl Fn(&Node, u64) -> Option<Duration>) -> History {
    let mut samples = Vec::new();
    for run in 0..times {
        for node in of.nodes.iter().filter(|node| node.kind != NodeKind::Barrier) {
            samples.push(Sample {
                what: muster_forecast::what_of(node),
                machine: node.action.machine().cloned(),
                operation: of.operation,
                phase: node.phase,
                took: took(node, run),
                failed: Vec::new(),
                age: Duration::from_mins(run * 60 * 24 * 30),
            });
        }
    }
    let last_drill = LastDrill { run: "r1".into(), age: Duration::from_mins(12 * 24 * 60), passed: true };
    History { runs: times as usize, samples, last_drill: (of.operation.kind == Kind::Test).then_some(last_drill) }
}
