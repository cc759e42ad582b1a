//! A session answers what a fresh check would, after any sequence of edits.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

use muster_compiler::{Checked, Session, check};
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
        4 => Just(Edit::Count),
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

/// All that a user or another command sees of a check.
fn seen(checked: &Checked) -> String {
    format!("{:#?}\n{:#?}\n{:#?}\n{:#?}", checked.diagnostics, checked.plans, checked.estate, checked.tests)
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
            prop_assert!(again == fresh, "after {one:?}:\n{again}\n--- fresh ---\n{fresh}");
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
