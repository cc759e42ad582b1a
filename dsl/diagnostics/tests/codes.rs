//! The codes in the sources, the pages and the index in the book are the same codes.

#![allow(clippy::unwrap_used, clippy::panic)] // tests and their helpers

use muster_diagnostics::pages::{KEPT, PAGES};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Codes that something else than the compiler says.
const SAID_ELSEWHERE: [(u16, &str); 7] = [
    (708, "by `muster hook test`, of a second run"),
    (712, "by the host of hooks, when a hook is resumed"),
    (802, "by the keyring, of a key that it cannot read"),
    (903, "by `muster run`, of a stale sheet"),
    (904, "by `muster run`, of a file that is none"),
    (905, "by `muster run`, of a changed hook"),
    (906, "by `muster test`, of an expectation that does not hold"),
];

/// The hundreds, as headings of the index.
const FAMILIES: [(u16, &str); 9] = [
    (1, "Shape"),
    (2, "Names"),
    (3, "Machines and order"),
    (4, "Promises and policies"),
    (5, "Routes and networks"),
    (6, "Operations"),
    (7, "Hooks"),
    (8, "Secrets"),
    (9, "Tests and runsheets"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Every number that opens the arguments of a diagnostic, or is a constant of type `u16` with three digits.
fn emitted() -> BTreeSet<u16> {
    let mut texts = Vec::new();
    for room in ["syntax", "compiler", "editor", "runsheet"] {
        sources(&root().join("dsl").join(room).join("src"), &mut texts);
    }
    let mut codes = BTreeSet::new();
    for text in &texts {
        for opener in ["error(", "warning(", "info(", ": u16 = "] {
            for (at, _) in text.match_indices(opener) {
                let rest = text[at + opener.len()..].trim_start();
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                let ends = rest[digits.len()..].starts_with([',', ';']);
                if digits.len() == 3 && ends && !digits.starts_with('0') {
                    codes.insert(digits.parse().unwrap());
                }
            }
        }
    }
    codes
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let codes = emitted();
    assert!(codes.len() > 60, "the sources are read: {codes:?}");
    let elsewhere = SAID_ELSEWHERE.iter().map(|(code, _)| *code);
    let said: BTreeSet<u16> = codes.into_iter().chain(elsewhere).collect();
    let pages: BTreeSet<u16> = PAGES.iter().map(|(code, _)| *code).collect();
    assert_eq!(said.difference(&pages).collect::<Vec<_>>(), [&0; 0], "codes without a page");
    assert_eq!(pages.difference(&said).collect::<Vec<_>>(), [&0; 0], "pages of codes that nothing says");
    let kept = KEPT.iter().filter(|(code, _)| said.contains(code) || pages.contains(code));
    assert_eq!(kept.collect::<Vec<_>>(), [&(0, ""); 0], "kept for later, and in use");
}

fn section<'p>(page: &'p str, name: &str) -> &'p str {
    page.split_once(name).and_then(|(_, rest)| rest.split("\n## ").next()).unwrap().trim()
}

fn index() -> String {
    let mut out = String::from(
        "# Error codes\n\nEvery message of `muster check` has a code that keeps its meaning. `muster explain E0301` prints \
         the page of one:\nwhat it is, why it matters, a wrong and a right example, what to do. This index is made from \
         those pages.\n",
    );
    for (family, heading) in FAMILIES {
        writeln!(out, "\n## E{family:02}: {heading}\n\n| code | what it is | what to do |\n| --- | --- | --- |")
            .unwrap();
        for (code, page) in PAGES.iter().filter(|(code, _)| code / 100 == family) {
            let title = page.lines().next().and_then(|line| line.split_once(": ")).unwrap().1;
            let what = section(page, "## What to do\n").replace('\n', " ").replace('|', "\\|");
            writeln!(out, "| E{code:04} | {title} | {what} |").unwrap();
        }
        for (_, why) in KEPT.iter().filter(|(code, _)| code / 100 == family) {
            writeln!(out, "\n{why}").unwrap();
        }
    }
    out
}

/// `MUSTER_UPDATE=1 cargo test -p muster-diagnostics` writes the index anew.
#[test]
fn the_index_in_the_book_is_that_of_the_pages() {
    let path = root().join("book/src/errors.md");
    let index = index();
    assert!(PAGES.iter().all(|(code, _)| index.contains(&format!("| E{code:04} |"))), "a family is missing");
    if std::env::var_os("MUSTER_UPDATE").is_some() {
        std::fs::write(&path, &index).unwrap();
    }
    let book = std::fs::read_to_string(&path).unwrap();
    assert_eq!(book, index, "run this test with MUSTER_UPDATE=1 and commit the book");
    let summary = std::fs::read_to_string(root().join("book/src/SUMMARY.md")).unwrap();
    assert!(summary.contains("(errors.md)"));
}
