//! What the pages of the codes show as right must be right.

use muster_diagnostics::FileId;
use muster_diagnostics::pages::{KEPT, PAGES};
use muster_syntax::parse;

fn examples(page: &str) -> Vec<&str> {
    page.split("```plan\n").skip(1).filter_map(|rest| rest.split("```\n").next()).collect()
}

#[test]
fn every_right_example_reads_without_a_word() {
    for (code, page) in PAGES {
        let examples = examples(page);
        assert_eq!(examples.len(), 2, "E{code:04}: one wrong and one right example");
        let found = parse(FileId(0), examples[1]).diagnostics;
        assert!(found.is_empty(), "E{code:04}: {found:?}");
    }
}

#[test]
fn the_wrong_examples_of_shape_are_caught_with_their_code() {
    // 0105 and 0106 need to know the blocks, and 0104 on facts does: the compiler says those.
    for (code, page) in PAGES.iter().filter(|(code, _)| matches!(code, 101..=103 | 107..=111 | 605)) {
        let found = parse(FileId(0), examples(page)[0]).diagnostics;
        assert!(found.iter().any(|diagnostic| diagnostic.code.0 == *code), "E{code:04}: {found:?}");
    }
}

/// A name can be newer than its edition (E0205) only where there are two.
#[test]
fn a_second_edition_needs_a_code_for_names_of_the_newer_one() {
    let known = (2000..2100).filter(|year| parse(FileId(0), &format!("edition {year}\n")).diagnostics.is_empty());
    assert_eq!(known.count() == 1, KEPT.iter().any(|(code, _)| *code == 205));
}
