//! Every plan of `plans/`: described, formatted, without a finding, compiled and rehearsed in every operation; and every
//! module's trial rehearsed too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests and their helpers

use muster_agent::RemoteSite;
use muster_library::*;
use muster_ports::{FailureClass, Site};
use muster_rehearsal::{Conditions, Status, run_test, simulate};
use muster_runsheet::{Direction, Kind, Operation};
use std::path::PathBuf;

fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join("plans")).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// The `.plan` files of a folder, without its tests.
fn files(folder: &std::path::Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = names.filter(|name| name.ends_with(".plan")).collect();
    files.sort();
    files
}

#[test]
fn there_are_eight_and_each_is_described_and_formatted() {
    let folders = folders();
    assert!(folders.len() >= 8, "{folders:?}");
    let page = std::fs::read_to_string(repository().join("book/src/real-plans.md")).unwrap();
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let about = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        assert!(about.starts_with("# ") && about.lines().count() > 3, "{name} has no README.md that describes it");
        assert!(page.contains(&format!("`plans/{name}`")), "the book does not name plans/{name}");
        for file in files(&folder) {
            let text = std::fs::read_to_string(folder.join(&file)).unwrap();
            let formatted =
                muster_editor::format(&text).unwrap_or_else(|found| panic!("{name}/{file}: {}", found[0].message));
            if std::env::var_os("UPDATE_BOOK").is_some() {
                std::fs::write(folder.join(&file), &formatted).unwrap();
                continue;
            }
            assert_eq!(formatted, text, "{name}/{file} is not as `muster fmt` writes it");
        }
    }
}

#[test]
fn each_checks_without_a_finding_and_compiles_in_every_operation() {
    let mut said = Vec::new();
    for folder in folders() {
        let files: Vec<String> = files(&folder).into_iter().filter(|file| !file.ends_with(".test.plan")).collect();
        let trial = Trial::of(&folder, &files.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!trial.checked.plans.is_empty(), "{}", folder.display());
        said.extend(trial.said().into_iter().map(|line| format!("{}/{line}", folder.display())));
        for sheet in trial.sheets().map_err(|wrong| said.push(wrong)).unwrap_or_default() {
            for hook in sheet.hooks.values() {
                said.extend(
                    muster_hooks::check(hook).into_iter().map(|found| format!("{}: {}", hook.name, found.message)),
                );
            }
        }
    }
    assert!(said.is_empty(), "{}", said.join("\n"));
}

/// What did not go well, one line each.
fn rehearse(trial: &Trial, what: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for plan in &trial.checked.plans {
        for kind in [Kind::Test, Kind::Planned, Kind::Unplanned] {
            for direction in [Direction::Out, Direction::Back] {
                let operation = Operation { kind, direction };
                let outcome = simulate(&trial.checked, plan.name.as_str(), operation, &Conditions::default());
                let outcome = match outcome {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        wrong.push(format!("{what}: {} {operation}: {error}", plan.name));
                        continue;
                    }
                };
                let bad = outcome.steps.iter().filter(|step| step.stand != "succeeded");
                let bad: Vec<String> =
                    bad.map(|step| format!("{} {} ({})", step.id, step.stand, step.attempts)).collect();
                if !outcome.status.is(Status::Done) || !bad.is_empty() {
                    wrong.push(format!("{what}: {} {operation} {}: {}", plan.name, outcome.status, bad.join(", ")));
                }
            }
        }
    }
    wrong
}

#[test]
fn each_plan_is_rehearsed_from_end_to_end() {
    let mut wrong = Vec::new();
    for folder in folders() {
        let files: Vec<String> = files(&folder).into_iter().filter(|file| !file.ends_with(".test.plan")).collect();
        let trial = Trial::of(&folder, &files.iter().map(String::as_str).collect::<Vec<_>>());
        wrong.extend(rehearse(&trial, folder.file_name().unwrap().to_str().unwrap()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_module_is_rehearsed_from_end_to_end() {
    let mut wrong = Vec::new();
    for module in modules() {
        let name = module.path.trim_start_matches("std/");
        let trial = Trial::of(&repository().join("tests/stdlib/plans"), &[&format!("{name}.plan")]);
        wrong.extend(rehearse(&trial, module.path));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_tests_of_each_plan_pass() {
    // The shop's kill the engine at every step, which takes minutes here; `muster test` carries them out.
    for folder in folders().into_iter().filter(|folder| !folder.ends_with("shop")) {
        let files = files(&folder);
        let trial = Trial::of(&folder, &files.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!trial.checked.has_errors(), "{:?}", trial.said());
        assert!(!trial.checked.tests.is_empty(), "{} has no tests", folder.display());
        for test in &trial.checked.tests {
            let result = run_test(&trial.checked, &Folder(folder.clone()), test, 1);
            let failed: Vec<&str> = result.failures.iter().map(|failed| failed.diagnostic.message.as_str()).collect();
            assert!(result.passed(), "{}: {}: {failed:?}", folder.display(), test.title);
        }
    }
}

#[tokio::test]
async fn a_run_at_a_site_that_nobody_drives_is_refused_by_name() {
    let mut undriven = Vec::new();
    for folder in folders() {
        let files: Vec<String> = files(&folder).into_iter().filter(|file| !file.ends_with(".test.plan")).collect();
        let trial = Trial::of(&folder, &files.iter().map(String::as_str).collect::<Vec<_>>());
        for site in trial.checked.estate.sites.values().filter(|site| site.agent.is_empty()) {
            let refused = RemoteSite::new(site.name.clone(), site.agent.clone()).facts().await.unwrap_err();
            assert_eq!(refused.class, FailureClass::Permanent, "tried again for nothing: {refused}");
            assert!(refused.message.contains(site.name.as_str()) && refused.help.is_some(), "{refused}");
            undriven.push(site.provider.clone());
        }
    }
    undriven.sort();
    undriven.dedup();
    assert_eq!(undriven, ["azure", "cloud", "hyperv", "vsphere"]);
}
