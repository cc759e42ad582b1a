//! Runsheets: looked at in every view, written down, reviewed, run as they are; and what needs no vault at all.

use crate::shop::Shop;
use std::collections::BTreeMap;
use std::path::Path;

/// Every file of a folder with its content.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(path.display().to_string(), std::fs::read(path).unwrap());
            }
        }
    }
    all
}

#[test]
fn a_dry_run_shows_everything_and_changes_nothing() {
    let shop = Shop::protected();
    let before = content(&shop.vault());
    for operation in ["test", "planned", "unplanned", "commit", "cancel", "reprotect", "failback"] {
        let table = shop.type_in(&["dry-run", "shop", operation]).ends(0).out;
        assert!(table.starts_with("shop · ") && table.contains("sheet "), "{table}");
        let sheet = shop.json(&["dry-run", "shop", operation]);
        assert_eq!(sheet["plan"], "shop", "{sheet}");
        assert!(sheet["nodes"].as_array().is_some_and(|nodes| nodes.len() > 3), "{sheet}");
        let mermaid = shop.type_in(&["dry-run", "shop", operation, "--view", "mermaid"]).ends(0).out;
        assert!(mermaid.starts_with("graph LR"), "{mermaid}");
        let dot = shop.type_in(&["dry-run", "shop", operation, "--view", "dot"]).ends(0).out;
        assert!(dot.starts_with("digraph") && dot.trim_end().ends_with('}'), "{dot}");
        let json = shop.type_in(&["dry-run", "shop", operation, "--view", "json"]).ends(0).data();
        // Ages in the forecast have gone on meanwhile; everything that would be run is the same.
        for field in ["format", "hash", "nodes", "edges", "assumptions"] {
            assert_eq!(json[field], sheet[field], "{field}");
        }
        assert_eq!(json["forecast"]["estimate"]["trials"], sheet["forecast"]["estimate"]["trials"]);
    }
    let planned = shop.type_in(&["dry-run", "shop", "planned"]).ends(0).out;
    for part in ["no return", "stop db at hq", "start db at dr", "http :8080/ready", "10.60.20.11", "approve"] {
        assert!(planned.contains(part), "`{part}` is missing in\n{planned}");
    }
    let drill = shop.type_in(&["dry-run", "shop", "drill"]).ends(0).out;
    assert!(!drill.contains("no return") && !drill.contains("stop db at hq"), "{drill}");
    assert_eq!(content(&shop.vault()).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(content(&shop.vault()) == before, "a dry run has changed the vault");
    shop.assert_nothing_lost();
}

#[test]
fn a_reviewed_sheet_runs_exactly_as_it_is() {
    let shop = Shop::protected();
    let file = shop.folder.path().join("drill.json");
    let path = file.display().to_string();
    let said = shop.type_in(&["dry-run", "shop", "test", "-o", &path]).ends(0).says(&["runsheet ", "written to"]);
    let hash = said.err.split_whitespace().nth(1).unwrap().to_owned();
    // The sheet names vault and sites itself: the plans may be gone.
    std::fs::rename(shop.plans(), shop.folder.path().join("gone")).unwrap();
    let answer = shop.type_in(&["run", &path, "--json", "--why", "as reviewed"]).ends(0).data();
    assert_eq!((&answer["plan"], &answer["end"]), (&"shop".into(), &"done".into()), "{answer}");
    std::fs::rename(shop.folder.path().join("gone"), shop.plans()).unwrap();
    let log = shop.json(&["log"]);
    let opened = log["records"][0].to_string();
    assert!(opened.contains("as reviewed") && opened.contains(&hash), "{opened} does not name {hash}");
    // A second time it is not legal: the drill stands.
    let runs = shop.json(&["runs"]);
    shop.type_in(&["run", &path]).ends(5).says(&["E0601", "legal now: cleanup, planned, unplanned"]);
    assert_eq!(shop.json(&["runs"]), runs, "a refused sheet leaves no run");
    shop.play(&["cleanup", "shop"]);

    let text = std::fs::read_to_string(&file).unwrap();
    for damaged in [&text[..text.len() / 2], "", "{}", "[1]"] {
        std::fs::write(&file, damaged).unwrap();
        shop.type_in(&["run", &path]).ends(1).says(&["drill.json", "hint: ", "muster dry-run"]);
    }
    std::fs::remove_file(&file).unwrap();
    shop.type_in(&["run", &path]).ends(1).says(&["drill.json"]);
    shop.assert_nothing_lost();
}

#[test]
fn answers_have_the_documented_shapes() {
    let shop = Shop::protected();
    shop.play(&["drill", "shop"]);
    let status = shop.json(&["status"]);
    assert_eq!(status["plans"]["shop"], serde_json::json!({"direction": "out", "phase": "protected", "drilled": true}));
    let groups: Vec<&str> = status["groups"].as_array().unwrap().iter().map(|g| g["group"].as_str().unwrap()).collect();
    assert_eq!(groups, ["front", "orders"]);
    for group in status["groups"].as_array().unwrap() {
        assert!(group["lag_millis"].is_u64() && group["rpo_millis"] == 60_000, "{group}");
    }
    let points = shop.json(&["points", "orders"]);
    for point in points["points"].as_array().unwrap() {
        assert!(point["id"].is_string() && point["at"].is_u64() && point["group"] == "orders", "{point}");
    }
    let run = shop.newest_run();
    assert_eq!((&run["plan"], &run["status"], &run["who"]), (&"shop".into(), &"done".into(), &"tester".into()));
    let log = shop.json(&["log"]);
    assert_eq!(log["run"], run["id"]);
    let records = log["records"].as_array().unwrap();
    for (index, record) in records.iter().enumerate() {
        assert!(record["event"].is_string() && record["time"].is_u64(), "{record}");
        assert_eq!(record["seq"].as_u64(), Some(index as u64), "{record}");
    }
    let info = shop.json(&["vault", "info"]);
    assert!(info["id"].is_string() && info["segments"].as_u64() > Some(0) && info["keys"] == 1, "{info}");
    let instances = shop.json(&["machines"])["instances"].as_array().unwrap().len();
    assert_eq!(instances, 6, "three machines and their clones");
    assert!(shop.type_in(&["machines"]).ends(0).out.contains("bubble "));
    assert_eq!(shop.json(&["check"])["diagnostics"], serde_json::json!([]));
    let plan = shop.plans().join("shop.plan").display().to_string();
    shop.type_in(&["fmt", "--check", &plan]).ends(0);
}

#[test]
fn completions_manual_and_pages_print() {
    let shop = Shop::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = shop.type_in(&["completions", shell]).ends(0).out;
        assert!(text.contains("failover") && text.contains("muster"), "{shell}: {text}");
    }
    let page = shop.type_in(&["man"]).ends(0).out;
    assert!(page.starts_with(".ie") || page.contains(".TH muster"), "{page}");
    assert!(page.contains("Exit codes"), "{page}");
    assert!(shop.type_in(&["explain", "E0301"]).ends(0).out.contains("E0301"));
    let help = shop.type_in(&["--help"]).ends(0).out;
    assert!(help.contains("Exit codes: 0 done") && help.contains("dry-run"), "{help}");
}
