//! `muster import` and `muster export` as people meet them: the commands of the book's page, what is said, how they exit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is wrong")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The documents that the page of the book speaks of.
fn folder() -> tempfile::TempDir {
    const FILES: [(&str, &str); 4] = [
        ("vmware-to-azure.json", "web-shop.json"),
        ("vmware-to-azure.parameters.json", "web-shop.parameters.json"),
        ("vmware-items.json", "items.json"),
        ("srm-export.xml", "configuration.xml"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in FILES {
        std::fs::copy(root().join("dsl/import/tests/fixtures").join(from), folder.path().join(to)).unwrap();
    }
    folder
}

fn muster(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.current_dir(folder).args(words).env_remove("RUST_LOG").env("NO_COLOR", "1");
    command.output().unwrap()
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn the_commands_of_the_book_work() {
    let page = std::fs::read_to_string(root().join("book/src/coming-from.md")).unwrap();
    let folder = folder();
    let mut typed = 0;
    for block in page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        for line in block.lines() {
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            let output = muster(folder.path(), &words);
            let (out, err) = texts(&output);
            assert!(output.status.success(), "{line}\n{out}\n{err}");
            typed += 1;
        }
    }
    assert!(typed >= 7, "commands are found: {typed}");
    let table = texts(&muster(folder.path(), &["dry-run", "web-shop", "planned"])).0;
    for part in ["start sql-prod-01, sql-prod-02 at azure", "promote-cluster", "no return"] {
        assert!(table.contains(part), "`{part}` is missing in\n{table}");
    }
}

#[test]
fn data_goes_to_stdout_and_the_list_to_stderr() {
    let folder = folder();
    let (out, err) = texts(&muster(folder.path(), &["import", "asr", "web-shop.json"]));
    assert!(out.starts_with("edition 2026\n") && out.ends_with("}\n"), "{out}");
    assert!(err.contains("what could not be said") && err.contains("$.parameters.fabricName"), "{err}");
    let (out, err) = texts(&muster(folder.path(), &["import", "srm", "configuration.xml", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["format"], "muster.import/1");
    assert!(
        report["notes"].as_array().unwrap().iter().all(|note| note["text"].is_string() && note["path"].is_string())
    );
    assert_eq!(err, "");
}

#[test]
fn what_cannot_be_read_is_refused_with_a_way_out() {
    let folder = folder();
    let says = |words: &[&str], parts: &[&str]| {
        let output = muster(folder.path(), words);
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(1), ""), "{words:?} {err}");
        for part in parts {
            assert!(err.contains(part), "`{part}` is missing in {err}");
        }
    };
    std::fs::write(folder.path().join("half.json"), "{\"value\": [").unwrap();
    std::fs::write(folder.path().join("wide.json"), [0xff, 0xfe, b'{', 0]).unwrap();
    says(&["import", "asr", "half.json"], &["`half.json` at line 1, column 11", "not JSON", "hint: export it again"]);
    says(&["import", "asr", "wide.json"], &["not UTF-8", "hint: save it as UTF-8"]);
    says(&["import", "asr", "configuration.xml"], &["hint: this looks like XML", "muster import srm"]);
    says(&["import", "srm", "items.json"], &["no recovery plan is here", "hint: "]);
    says(&["import", "asr", "items.json"], &["no recovery plan is here", "hint: give the recovery plan too"]);
    says(&["import", "asr", "gone.json"], &["gone.json"]);
    assert!(muster(folder.path(), &["import", "asr", "web-shop.json", "-o", "a.plan"]).status.success());
    says(&["export", "asr", "shop"], &["there is no plan `shop`", "hint: plans are web-shop"]);
}
