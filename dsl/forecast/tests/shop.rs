//! The tables of `plans/shop` for every operation, as people see them.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

mod common;

use common::{forecast, history, sheet, shop};
use muster_compiler::{CompileOptions, cleanup_sheet_from};
use muster_forecast::view::{self, Looks};
use muster_forecast::{Conditions, Evidence};
use muster_runsheet::*;
use std::collections::BTreeMap;

const WIDTH: usize = 100;

/// Without what changes with every field: the hash of the sheet.
fn table(checked: &muster_compiler::Checked, sheet: &Runsheet, evidence: &Evidence) -> String {
    let plain = Conditions::default();
    let text = view::table(&forecast(checked, sheet, evidence, &plain), Looks::default());
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{} columns:\n{line}", line.chars().count());
        assert_eq!(line.trim_end(), line, "blanks at the end");
    }
    text.replace(sheet.hash().short(), "7f3a8b12").replace(sheet.inventory.short(), "0a1b2c3d")
}

#[test]
fn every_operation_on_a_hundred_columns() {
    let checked = shop();
    for direction in [Direction::Out, Direction::Back] {
        for kind in [Kind::Test, Kind::Planned, Kind::Unplanned, Kind::Cancel, Kind::Commit, Kind::Reprotect] {
            let sheet = sheet(&checked, kind, direction);
            let name = sheet.operation.to_string().replace(' ', "_");
            insta::assert_snapshot!(name, table(&checked, &sheet, &Evidence::default()));
        }
    }
    let drill = sheet(&checked, Kind::Test, Direction::Out);
    let made: Vec<MachineName> = drill.machines.keys().cloned().collect();
    let state = PlanState { drilled: true, ..PlanState::HOME };
    let cleanup = cleanup_sheet_from(&drill, "0123456789abcdef", &made, state);
    insta::assert_snapshot!("cleanup", table(&checked, &cleanup, &Evidence::default()));
}

/// Drills, lags and an inventory's age: everything a vault can add.
fn evidence(drill: &Runsheet) -> Evidence {
    let took = |node: &Node, run: u64| match node.action.verb() {
        "start" => Some(Duration::from_secs(8 + run)),
        "check" => Some(Duration::from_secs(21 + 3 * run)),
        _ => Some(Duration::from_secs(2)),
    };
    Evidence {
        history: Some(history(drill, 6, took)),
        lags: Some(BTreeMap::from([("orders".into(), Duration(7_400)), ("front".into(), Duration(3_100))])),
        inventory_age: Some(Duration::from_mins(125)),
    }
}

#[test]
fn with_six_drills_behind_it() {
    let checked = shop();
    let drill = sheet(&checked, Kind::Test, Direction::Out);
    let unplanned = sheet(&checked, Kind::Unplanned, Direction::Out);
    insta::assert_snapshot!("drilled", table(&checked, &unplanned, &evidence(&drill)));
}

#[test]
fn a_large_shop_keeps_within_the_columns_too() {
    let long = "a-machine-with-a-name-that-somebody-thought-of-at-a-very-late-hour-and-nobody-ever-changed-since";
    let checked = shop();
    for kind in [Kind::Test, Kind::Planned, Kind::Unplanned] {
        let text = sheet(&checked, kind, Direction::Out).to_json().replace("\"app\"", &format!("\"{long}\""));
        let sheet =
            Runsheet::from_json(&text.replace("front-door", "the-stage-of-the-front-door-of-the-shop")).unwrap();
        let shown = table(&checked, &sheet, &Evidence::default());
        assert!(shown.contains("a-machine-with-a-name"), "{shown}");
    }
}

#[test]
fn a_what_if_stands_beside_the_plain_estimate() {
    let checked = shop();
    let sheet = sheet(&checked, Kind::Planned, Direction::Out);
    let (evidence, plain) = (Evidence::default(), Conditions::default());
    let conditions = Conditions {
        slow: vec![("hq".into(), "dr".into(), "64kbit/s".parse().unwrap())],
        fail: BTreeMap::from([("database.start/db".into(), 1)]),
        ..Conditions::default()
    };
    let (before, after) =
        (forecast(&checked, &sheet, &evidence, &plain), forecast(&checked, &sheet, &evidence, &conditions));
    let text = view::table(&after, Looks { color: false, beside: Some(&before.estimate) });
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    let text = text.replace(sheet.hash().short(), "7f3a8b12").replace(sheet.inventory.short(), "0a1b2c3d");
    insta::assert_snapshot!("what_if", text);
}

#[test]
fn colours_change_nothing_but_colours() {
    let checked = shop();
    let sheet = sheet(&checked, Kind::Planned, Direction::Out);
    let (evidence, plain) = (Evidence::default(), Conditions::default());
    let forecast = forecast(&checked, &sheet, &evidence, &plain);
    let bare = view::table(&forecast, Looks::default());
    let painted = view::table(&forecast, Looks { color: true, beside: None });
    assert!(painted.contains("\x1b[2m") && painted.contains("\x1b[1m"));
    let stripped = ["\x1b[2m", "\x1b[1m", "\x1b[0m"].iter().fold(painted, |text, code| text.replace(code, ""));
    assert_eq!(stripped, bare);
}

#[test]
fn the_json_is_a_runsheet_that_can_be_run_and_says_what_it_forecasts() {
    let checked = shop();
    let drill = sheet(&checked, Kind::Test, Direction::Out);
    let sheet = checked.compile(
        "shop",
        Operation { kind: Kind::Unplanned, direction: Direction::Out },
        CompileOptions::default(),
    );
    let sheet = sheet.unwrap();
    let (evidence, plain) = (evidence(&drill), Conditions::default());
    let text = view::json(&forecast(&checked, &sheet, &evidence, &plain));
    assert_eq!(Runsheet::from_json(&text).unwrap(), sheet);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["format"], &value["hash"]), (&"muster.runsheet/1".into(), &sheet.hash().0.clone().into()));
    let forecast = &value["forecast"];
    assert_eq!(forecast["estimate"]["steps"].as_array().unwrap().len(), sheet.nodes.len());
    assert_eq!(forecast["estimate"]["trials"]["count"], 2000);
    assert_eq!(forecast["losses"].as_array().unwrap().len(), 2);
    let mut shown = forecast.clone();
    let first = shown["estimate"]["steps"][0].take();
    shown["estimate"]["steps"] = serde_json::json!([first]);
    insta::assert_json_snapshot!("forecast", shown);
}

/// Pairs of boxes that share a pixel.
fn overlaps(svg: &str) -> usize {
    let number = |text: &str, name: &str| -> i64 {
        let rest = text.split(&format!(" {name}=\"")).nth(1).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    let boxes: Vec<[i64; 4]> = svg
        .split("<rect ")
        .skip(2) // the paper
        .map(|text| format!(" {text}"))
        .map(|text| ["x", "y", "width", "height"].map(|name| number(&text, name)))
        .collect();
    let apart = |a: &[i64; 4], b: &[i64; 4]| {
        a[0] + a[2] <= b[0] || b[0] + b[2] <= a[0] || a[1] + a[3] <= b[1] || b[1] + b[3] <= a[1]
    };
    let pairs = boxes.iter().enumerate().flat_map(|(at, a)| boxes[at + 1..].iter().map(move |b| (a, b)));
    pairs.filter(|(a, b)| !apart(a, b)).count()
}

#[test]
fn pictures_hold_every_step_and_are_whole() {
    let checked = shop();
    for kind in [Kind::Test, Kind::Planned, Kind::Unplanned] {
        let sheet = sheet(&checked, kind, Direction::Out);
        let (evidence, plain) = (Evidence::default(), Conditions::default());
        let forecast = forecast(&checked, &sheet, &evidence, &plain);
        let svg = view::svg(&forecast);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert_eq!(svg.matches("<title>").count(), sheet.nodes.len());
        assert_eq!(svg.matches("<path ").count(), sheet.edges.len());
        // Every `&` begins an entity and every tag is closed: a strict reader takes it.
        for rest in svg.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|entity| rest.starts_with(entity)), "{rest:.20}");
        }
        assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
        assert_eq!(overlaps(&svg), 0, "boxes lie over each other");
        assert_eq!(view::svg(&forecast), svg);
        assert!(view::mermaid(&sheet).lines().count() > sheet.nodes.len());
        assert!(view::dot(&sheet).ends_with("}\n"));
    }
}
