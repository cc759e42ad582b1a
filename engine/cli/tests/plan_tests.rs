//! `muster test` as people and continuous integration meet it: what it prints, what it writes, how it exits; and the page
//! of the book about it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is wrong")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A copy of the shop with further files.
fn shop(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("plans/shop")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn muster(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.current_dir(folder).args(words).env_remove("RUST_LOG").env("NO_COLOR", "1");
    command.output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What stands between fences of one kind.
fn blocks(page: &str, kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

fn page() -> String {
    std::fs::read_to_string(root().join("book/src/testing.md")).unwrap()
}

/// The test of the book that fails.
fn wrong() -> String {
    format!("edition 2026\nuse ./shop {{ shop }}\n\n{}\n", blocks(&page(), "wrong")[0])
}

#[test]
fn the_shop_passes_its_tests_the_same_way_every_time() {
    let folder = shop(&[]);
    let first = muster(folder.path(), &["test", "--json"]);
    assert!(first.status.success(), "{}{}", out(&first), err(&first));
    let report: serde_json::Value = serde_json::from_str(&out(&first)).unwrap();
    assert_eq!(report["format"], "muster.test/1");
    assert_eq!(report["failed"], 0);
    assert!(report["passed"].as_u64().unwrap() >= 6, "{report:#}");
    assert_eq!(out(&muster(folder.path(), &["test", "--json"])), out(&first));
}

#[test]
fn the_book_tells_of_tests_that_are_there_and_of_what_is_printed() {
    let page = page();
    let tests = std::fs::read_to_string(root().join("plans/shop/shop.test.plan")).unwrap();
    let shown = blocks(&page, "test");
    assert!(shown.len() >= 2);
    for block in shown {
        assert!(tests.contains(&block), "not in shop.test.plan:\n{block}");
    }
    let folder = shop(&[]);
    let consoles = blocks(&page, "console");
    assert!(!consoles.is_empty());
    for block in consoles {
        let (command, printed) = block.split_once('\n').unwrap();
        let words: Vec<&str> = command.strip_prefix("$ muster ").unwrap().split(' ').collect();
        assert_eq!(out(&muster(folder.path(), &words)).trim_end(), printed, "{command}");
    }
}

#[test]
fn a_failed_expectation_is_shown_with_what_happened_around_it() {
    let folder = shop(&[("shop.test.plan", &wrong())]);
    let output = muster(folder.path(), &["test"]);
    assert_eq!(output.status.code(), Some(1));
    let page = page();
    let (command, printed) = page.split("```wrong-console\n").nth(1).unwrap().split_once('\n').unwrap();
    assert_eq!(command, "$ muster test");
    let printed = printed.split("\n```").next().unwrap();
    assert_eq!(out(&output).trim_end(), printed);
    assert_eq!(err(&output).trim_end(), "1 test: 0 passed, 1 failed");
}

#[test]
fn results_are_written_for_continuous_integration() {
    let both = wrong() + "\ntest \"in <order>\" {\n  compile shop any\n  expect database before application\n}\n";
    let folder = shop(&[("shop.test.plan", &both)]);
    let output = muster(folder.path(), &["test", "--junit", "results.xml"]);
    assert_eq!(output.status.code(), Some(1));
    let xml = std::fs::read_to_string(folder.path().join("results.xml")).unwrap();
    assert!(xml.contains("<testsuite name=\"shop.test.plan\" tests=\"2\" failures=\"1\">"), "{xml}");
    assert!(xml.contains("name=\"in &lt;order&gt;\""), "{xml}");
    assert!(xml.contains("<failure message=\"the run is paused\">"), "{xml}");
    assert!(!xml.contains('\u{1b}'), "{xml}");
}

#[test]
fn stale_tests_warn_in_a_check_and_fail_in_a_test() {
    let stale = "edition 2026\nuse ./shop { shop }\n\ntest \"old\" {\n  compile shop any\n  expect databas before application\n}\n";
    let folder = shop(&[("shop.test.plan", stale)]);
    let check = muster(folder.path(), &["check"]);
    assert!(check.status.success());
    assert!(err(&check).contains("warning[E0901]"), "{}", err(&check));
    assert!(err(&check).contains("did you mean `database`?"), "{}", err(&check));
    let test = muster(folder.path(), &["test"]);
    assert_eq!(test.status.code(), Some(1));
    assert!(out(&test).contains("E0901"), "{}", out(&test));
}

#[test]
fn mistakes_that_are_meant_lie_in_fixtures() {
    let test = "edition 2026\n\ntest \"a hook nobody wrote\" {\n  compile \"fixtures/broken.plan\" planned\n  expect error E0201\n}\n\ntest \"a code it has not\" {\n  compile \"fixtures/broken.plan\" planned\n  expect error E0504\n}\n";
    let broken = std::fs::read_to_string(root().join("plans/shop/shop.plan")).unwrap();
    let broken = broken.replace("run   set-db-host(", "run   set-the-host(").replace("./sites", "../sites");
    let folder = shop(&[("shop.test.plan", test), ("fixtures/broken.plan", &broken)]);
    assert!(muster(folder.path(), &["check"]).status.success());
    let output = muster(folder.path(), &["test"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("pass  shop.test.plan:3"), "{}", out(&output));
    assert!(out(&output).contains("there are errors, but no E0504"), "{}", out(&output));
}

#[test]
fn tests_are_chosen_by_file_and_title() {
    let folder = shop(&[("more.test.plan", &wrong())]);
    let output = muster(folder.path(), &["test", "shop.test.plan", "--filter", "drill"]);
    assert!(output.status.success(), "{}", out(&output));
    assert_eq!(out(&output).lines().count(), 1);
    let none = muster(folder.path(), &["test", "--filter", "no such title"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(err(&none).contains("there is no test"), "{}", err(&none));
}

#[test]
fn plans_with_errors_are_not_tested() {
    let folder = shop(&[("wrong.plan", "edition 2026\nplan x { move = a -> b }\n")]);
    let output = muster(folder.path(), &["test"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(err(&output).contains("nothing was tested"));
}
