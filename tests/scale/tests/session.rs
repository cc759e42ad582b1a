//! A session answers what a fresh check would, after any sequence of edits.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

use muster_compiler::{Checked, CompileOptions, PlanFacts, Session, check};
use muster_runsheet::{Direction, Kind, Operation};
use muster_scale::{Estate, Size};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::path::Path;

/// What somebody does to one file.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Delete,
    Double,
    /// Another number in the line: a time, an address, a name.
    Count,
    /// Another last digit: what stands there remains what it is, with another value.
    Nudge,
    /// The last letter of the line's longest word goes: a typo.
    Misspell,
    /// The whole file goes, and comes back with the next edit of it.
    Remove,
    /// The file is what it was at first.
    Restore,
}

fn edits() -> impl Strategy<Value = Vec<(Edit, prop::sample::Index, prop::sample::Index)>> {
    let kind = prop_oneof![
        3 => Just(Edit::Delete),
        2 => Just(Edit::Double),
        3 => Just(Edit::Count),
        4 => Just(Edit::Nudge),
        3 => Just(Edit::Misspell),
        1 => Just(Edit::Remove),
        4 => Just(Edit::Restore),
    ];
    prop::collection::vec((kind, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8)
}

fn edit(line: &str, edit: Edit) -> String {
    match edit {
        Edit::Delete | Edit::Remove | Edit::Restore => String::new(),
        Edit::Double => format!("{line}{line}"),
        Edit::Count => {
            let digit = |c: char| c.to_digit(10).map_or(c, |digit| char::from_digit((digit + 1) % 10, 10).unwrap());
            line.chars().map(digit).collect()
        }
        Edit::Nudge => match line.rfind(|c: char| c.is_ascii_digit()) {
            Some(at) => {
                let digit = line[at..=at].parse::<u8>().unwrap();
                format!("{}{}{}", &line[..at], if digit == 9 { 1 } else { digit + 1 }, &line[at + 1..])
            }
            None => line.to_owned(),
        },
        Edit::Misspell => {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric());
            match words.max_by_key(|word| word.len()).filter(|word| word.len() > 1) {
                Some(word) => line.replacen(word, &word[..word.len() - 1], 1),
                None => line.to_owned(),
            }
        }
    }
}

fn apply(now: &mut Estate, first: &Estate, (kind, file, line): (Edit, prop::sample::Index, prop::sample::Index)) {
    let path = file.get(&first.files()).clone();
    match (kind, now.0.get(&path).filter(|text| !text.is_empty())) {
        (Edit::Remove, Some(_)) => drop(now.0.remove(&path)),
        (Edit::Restore, _) | (_, None) => drop(now.0.insert(path.clone(), first.0[&path].clone())),
        (kind, Some(text)) => {
            let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
            let at = line.index(lines.len());
            lines[at] = edit(&lines[at], kind);
            now.0.insert(path, lines.concat());
        }
    }
}

/// All that a user or another command sees of a check, and an operation of each plan.
fn seen(checked: &Checked) -> String {
    let planned = Operation { kind: Kind::Planned, direction: Direction::Out };
    let compile = |plan: &PlanFacts| checked.compile(plan.name.as_str(), planned, CompileOptions::default());
    let sheets: Vec<_> = if checked.has_errors() { Vec::new() } else { checked.plans.iter().map(compile).collect() };
    format!(
        "{:#?}\n{:#?}\n{:#?}\n{:#?}\n{sheets:#?}",
        checked.diagnostics, checked.plans, checked.estate, checked.tests
    )
}

/// The lines around the first that is not the same.
fn first_difference(again: &str, fresh: &str) -> String {
    let at = again.lines().zip(fresh.lines()).take_while(|(again, fresh)| again == fresh).count();
    let around = |text: &str| text.lines().skip(at.saturating_sub(12)).take(30).collect::<Vec<_>>().join("\n");
    format!("{}\n--- fresh ---\n{}", around(again), around(fresh))
}

/// The same sequences on every machine: a failure here fails everywhere.
fn hold(first: &Estate, cases: u32, seed: u8) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]));
    let outcome = runner.run(&edits(), |edits| {
        let mut now = first.clone();
        let mut session = Session::default();
        session.check(&now, &now.plans());
        for one in edits {
            apply(&mut now, first, one);
            let files = now.plans();
            let (again, fresh) = (seen(session.check(&now, &files)), seen(&check(&now, &files)));
            prop_assert!(again == fresh, "after {one:?}:\n{}", first_difference(&again, &fresh));
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn any_edits_of_an_estate() {
    hold(&Estate::new(Size { plans: 3, machines_a_plan: 6 }), 24, 3);
}

/// Two plans that look at each other's machines and groups: through a value, through a list, through a text, through a policy.
fn neighbours() -> Estate {
    let sites = "edition 2026
site hq { provider = simulated(\"127.0.0.1:7001\"); network lan = 10.10.1.0/24 }
site dr { provider = simulated(\"127.0.0.1:7002\"); network lan = 10.20.1.0/24 }
route hq <-> dr { vault = \"file:///srv/vault\"; lan <-> lan test isolated }
let front-port = 8001
";
    let policies = "edition 2026
policy gold { rpo = 15m; replicate = every 5m; retain = 24h }
policy silver { rpo = 45m; replicate = every 5m; retain = 24h }
";
    let machines = "edition 2026
use ./sites { hq }
machine a-1 at hq { disks = [\"os\"]; network = lan; ip = 10.10.1.11 }
machine a-2 at hq { disks = [\"os\"]; network = lan; ip = 10.10.1.12 }
machine c-1 at hq { disks = [\"os\"]; network = lan; ip = 10.10.1.31 }
machine b-1 at hq { disks = [\"os\"]; network = lan; ip = 10.10.1.21 }
machine b-2 at hq { disks = [\"os\"]; network = lan; ip = 10.10.1.22 }
";
    let groups = "edition 2026
use ./policies { gold, silver }
group a-all { policy = gold; machines = [a-1, a-2] }
group b-all { policy = silver; machines = [b-1, b-2] }
";
    let a = "edition 2026
use ./sites { hq, dr, front-port }
plan a {
  move = hq -> dr
  rpo  = 15m
  stage all {
    start a-1, a-2 within 5m
    check a-1 tcp(front-port) within 2m
    approve \"The others stand at {b-1.ip}. Go on?\" by anyone within 15m
  }
}
";
    let b = "edition 2026
use ./sites  { hq, dr }
use ./groups { a-all }
hook tell(others: list(machine), first: ip) { needs = [guest]; body = \"\"\"for m in others { m.exec([\"/bin/true\", `${first}`]); }\"\"\" }
plan b {
  move = hq -> dr
  rpo  = 45m
  stage all {
    start b-1, b-2 within 5m
    run   tell(others = a-all.machines, first = c-1.ip) within 1m
  }
}
";
    let texts =
        [("sites", sites), ("policies", policies), ("machines", machines), ("groups", groups), ("a", a), ("b", b)];
    Estate(texts.into_iter().map(|(name, text)| (format!("{name}.plan"), text.to_owned())).collect())
}

#[test]
fn any_edits_of_plans_that_look_at_each_other() {
    let first = neighbours();
    let checked = check(&first, &first.plans());
    assert!(!checked.has_errors(), "{:#?}", checked.diagnostics);
    hold(&first, 80, 7);
}

#[test]
fn any_edits_of_the_plans_that_come_with_muster() {
    let plans = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans");
    let mut folders = 0;
    for entry in std::fs::read_dir(&plans).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let mut estate = Estate::default();
        read(&folder, "", &mut estate);
        assert!(!estate.plans().is_empty(), "{}", folder.display());
        hold(&estate, 4, 5);
        folders += 1;
    }
    assert!(folders >= 8, "{folders} folders of plans");
}

fn read(folder: &Path, prefix: &str, estate: &mut Estate) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            read(&path, &format!("{name}/"), estate);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            estate.0.insert(name, text);
        }
    }
}
