//! Every page says exactly what the checker says, and every code is on a page.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

use muster_diagnostics::pages::PAGES;
use muster_language::{Block, Page, check_section};
use std::path::{Path, PathBuf};

/// In the order in which they are read; `estate.md` first, since the others build on it.
const READING_ORDER: [&str; 11] = [
    "estate.md",
    "words.md",
    "values.md",
    "names.md",
    "sites.md",
    "policies.md",
    "groups.md",
    "hooks.md",
    "plans.md",
    "operations.md",
    "tests.md",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn pages() -> Vec<Page> {
    let read = |name: &&str| Page::read(name, &std::fs::read_to_string(folder().join(name)).unwrap());
    READING_ORDER.iter().map(read).collect()
}

#[test]
fn every_page_is_read() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .filter(|name| name.ends_with(".md"))
        .collect();
    found.sort();
    let mut known = READING_ORDER.to_vec();
    known.sort_unstable();
    assert_eq!(found, known, "a new page is listed in READING_ORDER");
}

/// `MUSTER_UPDATE=1 cargo test -p muster-language` writes the messages anew. Read what changed.
#[test]
fn pages_say_what_the_checker_says() {
    let pages = pages();
    let estate: Vec<&Block> = pages[0].sections[0].blocks.iter().collect();
    let mut wrong = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        let mut texts = Vec::new();
        for (number, section) in page.sections.iter().enumerate() {
            // What stands above the first heading of the first page is the estate itself.
            let own = if number == 0 { &[][..] } else { &page.sections[0].blocks[..] };
            let above = if index == 0 { &[][..] } else { own };
            let mut given: Vec<&Block> = if index == 0 && number == 0 { Vec::new() } else { estate.clone() };
            given.extend(above);
            let outcome = check_section(section, &given);
            for fault in outcome.faults {
                wrong.push(format!("{}, \"{}\": {fault}", page.name, section.title));
            }
            for (block, text) in section.blocks.iter().zip(&outcome.texts) {
                if block.text != *text {
                    wrong.push(format!("{}, \"{}\", {}: should read\n\n{text}", page.name, section.title, block.file));
                }
            }
            texts.extend(outcome.texts);
        }
        if std::env::var_os("MUSTER_UPDATE").is_some() {
            std::fs::write(folder().join(&page.name), page.with(&texts)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_section_has_a_title_of_its_own_and_prose() {
    for page in pages() {
        let mut titles: Vec<&str> = page.sections.iter().map(|section| section.title.as_str()).collect();
        let count = titles.len();
        titles.sort_unstable();
        titles.dedup();
        assert_eq!(titles.len(), count, "{}: two sections with one title", page.name);
        for section in &page.sections {
            let words = section.prose.split_whitespace().count();
            assert!(words >= 8, "{}, \"{}\": prose first", page.name, section.title);
        }
    }
}

/// Codes with a page are emitted by the sources and the other way round: `muster-diagnostics` holds that. Here: each is
/// shown in an example, or, where nothing can be found without running, explained.
#[test]
fn every_code_is_in_the_suite() {
    let whole: String =
        READING_ORDER.iter().map(|name| std::fs::read_to_string(folder().join(name)).unwrap()).collect();
    let shown = |code: &u16| {
        whole.contains(&format!("[E{code:04}]: ")) || RUNNING.contains(code) && whole.contains(&format!("`E{code:04}`"))
    };
    let missing: Vec<String> =
        PAGES.iter().filter(|(code, _)| !shown(code)).map(|(code, _)| format!("E{code:04}")).collect();
    assert!(missing.is_empty(), "no example says {}", missing.join(", "));
}

/// Found when something runs, not by a check.
const RUNNING: [u16; 9] = [412, 601, 708, 712, 802, 903, 904, 905, 906];
