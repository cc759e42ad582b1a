//! One layout, reached in one go; nothing lost on the way.

use muster_diagnostics::FileId;
use muster_editor::format;
use muster_syntax::parse;
use muster_syntax::tree::TokenKind;
use proptest::prelude::*;

const FILES: [(&str, &str); 8] = [
    ("sites.plan", include_str!("../../syntax/tests/fixtures/sites.plan")),
    ("policies.plan", include_str!("../../syntax/tests/fixtures/policies.plan")),
    ("hooks.plan", include_str!("../../syntax/tests/fixtures/hooks.plan")),
    ("shop.plan", include_str!("../../syntax/tests/fixtures/shop.plan")),
    ("std-mssql.plan", include_str!("../../syntax/tests/fixtures/std-mssql.plan")),
    ("erp.plan", include_str!("../../syntax/tests/fixtures/erp.plan")),
    ("shop.test.plan", include_str!("../../syntax/tests/fixtures/shop.test.plan")),
    ("rest.plan", include_str!("../../syntax/tests/fixtures/rest.plan")),
];

/// The typed view without its places.
fn meaning(text: &str) -> String {
    let shown = format!("{:?}", parse(FileId(0), text).ast.items);
    let mut bare = String::new();
    let mut rest = shown.as_str();
    while let Some((before, after)) = rest.split_once("Span { file: FileId(0), start: ") {
        bare.push_str(before);
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    bare + rest
}

/// All leaves but blanks and what layout may add or drop.
fn words(text: &str, kinds: fn(TokenKind) -> bool) -> Vec<String> {
    let tree = parse(FileId(0), text).tree;
    let tokens = tree.root.tokens();
    let shown = tokens
        .into_iter()
        .filter(|token| kinds(token.kind))
        .map(|token| tree.slice(&token.range).trim_end().to_owned());
    shown.filter(|text| text != "," && text != ";").collect()
}

fn is_comment(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Comment | TokenKind::DocComment)
}

fn is_word(kind: TokenKind) -> bool {
    !kind.is_trivia() && kind != TokenKind::BlockText
}

// A helper of tests: here a panic is a failed test.
#[allow(clippy::panic)]
fn holds(text: &str) {
    let once = format(text).unwrap_or_else(|found| panic!("{found:?}\n{text}"));
    let twice = format(&once).unwrap_or_else(|found| panic!("no longer reads: {found:?}\n{once}"));
    assert_eq!(once, twice, "not settled after one pass");
    assert_eq!(meaning(&once), meaning(text), "another meaning:\n{once}");
    assert_eq!(words(&once, is_comment), words(text, is_comment), "comments:\n{once}");
    let with_edition =
        if parse(FileId(0), text).ast.edition.is_none() { format!("edition 2026\n{text}") } else { text.to_owned() };
    assert_eq!(words(&once, is_word), words(&with_edition, is_word), "words:\n{once}");
}

#[test]
fn every_example_settles_in_one_pass_and_keeps_its_meaning() {
    for (_, text) in FILES {
        holds(text);
        holds(&text.replace('\n', "\r\n"));
        holds(&text.replace("edition 2026\n", ""));
    }
}

#[test]
fn a_file_with_mistakes_is_not_touched() {
    let found = format("edition 2026\npolcy gold { rpo = 5m }\n").expect_err("a mistake");
    assert_eq!(found[0].code.to_string(), "E0101");
}

#[test]
fn untidy_becomes_tidy() {
    let untidy = include_str!("untidy.plan");
    insta::assert_snapshot!(format(untidy).expect("it reads"));
}

#[test]
fn the_shop_is_already_tidy() {
    insta::assert_snapshot!(format(FILES[3].1).expect("it reads"));
}

/// Blanks and comments in places where they mean nothing.
fn loosened(text: &str, choices: &[u8]) -> String {
    let tree = parse(FileId(0), text).tree;
    let mut result = String::new();
    for (index, token) in tree.root.tokens().into_iter().enumerate() {
        let choice = choices[index % choices.len()];
        let written = tree.slice(&token.range);
        match (token.kind, choice % 8) {
            (TokenKind::Newline, 0) => result.push_str("\n\n\n"),
            (TokenKind::Newline, 1) => result.push_str("   \n\t"),
            (TokenKind::Newline, 2) if !result.ends_with('\n') => result.push_str(" # why\n"),
            (TokenKind::Newline, 3) => result.push_str("\n# alone\n"),
            (TokenKind::Space, 4) => result.push('\t'),
            (TokenKind::Space, 5) => result.push_str("    "),
            _ => result.push_str(written),
        }
    }
    result
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn loosened_files_settle_and_keep_meaning_and_comments(which in 0..FILES.len(), choices in prop::collection::vec(any::<u8>(), 7..90)) {
        let text = loosened(FILES[which].1, &choices);
        prop_assert!(!parse(FileId(0), &text).has_errors(), "{}", text);
        holds(&text);
    }
}
