//! Links of the book and of the README lead somewhere: to a page that is there, to a heading that it has.

#![allow(clippy::expect_used)] // tests

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Lines outside fenced blocks, with code spans taken out: nothing there is a link.
fn prose(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push(line.split('`').step_by(2).collect());
        }
    }
    lines
}

/// What follows `](`, up to the closing parenthesis.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        for part in line.split("](").skip(1) {
            found.extend(part.split(')').next().map(str::to_owned));
        }
    }
    found
}

/// The names mdBook gives to headings: lower case, spaces to hyphens, other marks left out.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim();
        let kept = title.chars().filter(|mark| mark.is_alphanumeric() || matches!(mark, ' ' | '-' | '_'));
        names.insert(kept.map(|mark| if mark == ' ' { '-' } else { mark.to_ascii_lowercase() }).collect());
    }
    names
}

fn pages() -> Vec<PathBuf> {
    let book = root().join("book/src");
    let entries = fs::read_dir(&book).expect("book/src");
    let mut pages: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry of book/src").path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.push(root().join("README.md"));
    pages
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            if !target.exists() {
                broken.push(format!("{}: no {file}", page.display()));
            } else if !anchor.is_empty() {
                let there = fs::read_to_string(&target).expect("the page that is linked to");
                if !anchors(&there).contains(anchor) {
                    broken.push(format!("{}: {file} has no heading `{anchor}`", page.display()));
                }
            }
        }
    }
    assert!(seen > 10, "only {seen} links were found: this test does not see the book");
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}
