//! The plans people see first are formatted: `plans/`, the README and the book.

#![allow(clippy::unwrap_used, clippy::panic)] // tests and their helpers

use muster_editor::format;
use std::path::{Path, PathBuf};

/// Every plan text with where it stands.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let listed = |folder: &str, ending: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
        paths.sort();
        paths
    };
    let mut texts = Vec::new();
    for path in listed("plans/shop", "plan") {
        texts.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
    }
    assert!(texts.len() >= 2, "the plans of the shop are found");
    for path in listed("book/src", "md").into_iter().chain([root.join("README.md")]) {
        let page = std::fs::read_to_string(&path).unwrap();
        let blocks = page.split("```plan\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        texts.extend(
            blocks.enumerate().map(|(number, text)| (format!("{} block {}", path.display(), number + 1), text.into())),
        );
    }
    texts
}

#[test]
fn plans_and_the_blocks_of_the_book_are_formatted() {
    let texts = texts();
    assert!(texts.iter().any(|(place, _)| place.contains("README.md")), "blocks are found");
    for (place, text) in texts {
        let formatted = format(&text).unwrap_or_else(|wrong| panic!("{place}: {wrong:?}"));
        assert_eq!(format(&formatted).unwrap(), formatted, "{place}: formatting twice differs");
        // An excerpt need not name its edition.
        let body = if text.starts_with("edition ") { formatted.as_str() } else { without_edition(&formatted) };
        assert_eq!(text, body, "{place} is not formatted");
    }
}

fn without_edition(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest).trim_start_matches('\n')
}
