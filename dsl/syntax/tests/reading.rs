//! Good files read without a word; wrong ones give each mistake once, in the user's words.

use muster_diagnostics::{FileId, RenderOptions, SourceMap, render};
use muster_syntax::ast::{ExprKind, FactValue, Item, Line};
use muster_syntax::{Segment, parse, segments};
use proptest::prelude::*;

const FIXTURES: [(&str, &str); 8] = [
    ("sites.plan", include_str!("fixtures/sites.plan")),
    ("policies.plan", include_str!("fixtures/policies.plan")),
    ("hooks.plan", include_str!("fixtures/hooks.plan")),
    ("shop.plan", include_str!("fixtures/shop.plan")),
    ("std-mssql.plan", include_str!("fixtures/std-mssql.plan")),
    ("erp.plan", include_str!("fixtures/erp.plan")),
    ("shop.test.plan", include_str!("fixtures/shop.test.plan")),
    ("rest.plan", include_str!("fixtures/rest.plan")),
];

fn said(text: &str) -> String {
    let mut sources = SourceMap::default();
    let file = sources.add("shop.plan", text);
    let parse = parse(file, text);
    assert_eq!(parse.tree.text(), text);
    render(&parse.diagnostics, &sources, RenderOptions::default())
}

/// Codes with their lines.
fn codes(text: &str) -> Vec<String> {
    let mut sources = SourceMap::default();
    let file = sources.add("shop.plan", text);
    let found = parse(file, text).diagnostics;
    let line = |span: muster_diagnostics::Span| sources.position(file, span.start).0;
    found.iter().map(|diagnostic| format!("{}:{}", diagnostic.code, line(diagnostic.primary.span))).collect()
}

#[test]
fn every_example_of_the_language_reads_without_a_word() {
    for (name, text) in FIXTURES {
        let parse = parse(FileId(0), text);
        assert!(parse.diagnostics.is_empty(), "{name}: {}", said(text));
        assert_eq!(parse.tree.text(), text, "{name}");
        assert!(parse.ast.edition.is_some() && !parse.ast.items.is_empty(), "{name}");
    }
}

#[test]
fn line_ends_of_other_systems_change_nothing() {
    for (name, text) in FIXTURES {
        let other = format!("\u{feff}{}", text.replace('\n', "\r\n").replace("  ", "\t"));
        let parse = parse(FileId(0), &other);
        assert!(parse.diagnostics.is_empty(), "{name}: {}", said(&other));
        assert_eq!(parse.tree.text(), other, "{name}");
    }
}

#[test]
fn the_typed_view_holds_what_was_written() {
    let text = include_str!("fixtures/rest.plan");
    let file = parse(FileId(0), text).ast;
    let machine =
        file.items.iter().find_map(|item| if let Item::Machine(machine) = item { Some(machine) } else { None });
    let machine = machine.expect("a machine");
    assert_eq!(machine.doc.as_deref(), Some("A machine that nobody can ask for.\nIt has two disks."));
    assert_eq!((machine.name.text.as_str(), machine.site.text.as_str(), machine.facts.len()), ("app-01", "hq", 4));
    let plan = file.items.iter().find_map(|item| if let Item::Plan(plan) = item { Some(plan) } else { None });
    let plan = plan.expect("a plan");
    assert!(matches!(&plan.facts[0].value, FactValue::Move { back: Some(back), .. } if back.text == "hq2"));
    assert_eq!(plan.stages[0].body.lines.len(), 4);
    let Line::Step(check) = &plan.stages[0].body.lines[2] else { panic!("a step") };
    assert_eq!(check.clauses.retry.as_ref().map(|retry| retry.count), Some(3));
    let hold = file.items.iter().find_map(|item| if let Item::Let(hold) = item { Some(hold) } else { None });
    let shape = format!("{:?}", hold.expect("a let").value.kind);
    assert!(matches!(hold.expect("a let").value.kind, ExprKind::Binary { .. }), "{shape}");
}

#[test]
fn texts_are_cut_at_their_references() {
    let text = "edition 2026\nlet a = \"to {target}, {point.at} \\{x\\} { y }\"\n";
    let file = parse(FileId(0), text).ast;
    let Some(Item::Let(item)) = file.items.first() else { panic!("a let") };
    let ExprKind::Text(value) = &item.value.kind else { panic!("a text") };
    let shown: Vec<String> = segments(value, text)
        .into_iter()
        .map(|segment| match segment {
            Segment::Literal(text) => format!("'{text}'"),
            Segment::Reference { span, .. } => text[span.start as usize..span.end as usize].to_owned(),
            Segment::Malformed { text, .. } => format!("bad({text})"),
        })
        .collect();
    assert_eq!(shown, ["'to '", "{target}", "', '", "{point.at}", "' {x} '", "bad( y )"]);
}

#[test]
fn a_text_block_loses_its_indent_and_keeps_its_places() {
    let text = "edition 2026\nhook h() {\n  body = \"\"\"\n    let a = 1;\n      b\n\n  \"\"\"\n}\n";
    let file = parse(FileId(0), text).ast;
    let Some(Item::Hook(hook)) = file.items.first() else { panic!("a hook") };
    let FactValue::Expr(value) = &hook.facts[0].value else { panic!("a value") };
    let ExprKind::Text(value) = &value.kind else { panic!("a text") };
    assert_eq!(value.text, "let a = 1;\n  b\n");
    let offset = muster_syntax::block_offset(value, text, 2, 3).expect("a place") as usize;
    assert_eq!(&text[offset..=offset], "b");
}

#[test]
fn a_misspelt_verb() {
    insta::assert_snapshot!(said("edition 2026\nplan shop {\n  stage db {\n    strat sql-01 within 5m\n  }\n}\n"));
}

#[test]
fn a_missing_brace_points_at_its_opener() {
    insta::assert_snapshot!(said(
        "edition 2026\nplan shop {\n  move = hq -> dr\n  stage db {\n    start sql-01\n\n  stage web after db {\n    start web-01\n  }\n}\n"
    ));
}

#[test]
fn several_mistakes_are_all_reported() {
    insta::assert_snapshot!(said(include_str!("fixtures-wrong/several.plan")));
}

#[test]
fn each_mistake_is_said_once_and_in_its_place() {
    let cases: [(&str, &[&str]); 22] = [
        ("edition 2026\nplan a {\n  stage s {\n    fence hq\n    start a\n  }\n}\n", &["E0605:4"]),
        ("edition 2026\nplan a {\n  start x\n}\n", &["E0107:3"]),
        ("edition 2026\nstart x\n", &["E0107:2"]),
        ("edition 2025\nlet a = 1\n", &["E0102:1"]),
        ("let a = 1\n", &["E0102:1"]),
        ("let a = 1\nedition 2026\n", &["E0102:2"]),
        ("", &[]),
        ("# nothing yet\n", &[]),
        ("edition 2026\npolicy gold {\n  bandwidth = 400M\n}\n", &[]),
        ("edition 2026\ngroup g {\n  policy = gold\n  machines = [a, b\n}\nlet a = 1\n", &["E0103:4"]),
        ("edition 2026\ngroup g {\n  policy = gold\n\nplan a {\n  rto = 5m\n}\n", &["E0103:2"]),
        ("edition 2026\ngroup g {\n  policy = gold\n}\n}\nlet a = 1\n", &["E0103:5"]),
        ("edition 2026\nlet a = \"abc\nlet b = 2\n", &["E0108:2"]),
        ("edition 2026\nhook h() {\n  body = \"\"\"\n  x\n}\n", &["E0108:3"]),
        ("edition 2026\nplan a {\n  stage s {\n    check a sql(\"select)\n    start b\n  }\n}\n", &["E0108:4"]),
        ("edition 2026\nplan a {\n  stage s {\n    rto = 5m\n  }\n}\n", &["E0101:4"]),
        (
            "edition 2026\nplan a {\n  stage s {\n    start a within\n    start b within 2m within 3m\n  }\n}\n",
            &["E0109:4", "E0104:5"],
        ),
        ("edition 2026\nlet a = 10.0.0.999\nlet b = 10.0.0.0/33\n", &["E0109:2", "E0109:3"]),
        ("edition 2026\nlet a = 99999999999999999999\n", &["E0109:2"]),
        ("edition 2026\npolcy gold {\n  rpo = 5m\n}\nlet a = \n", &["E0101:2", "E0109:5"]),
        ("edition 2026\nteam t {\n  quorum = ->\n  members\n}\n", &["E0109:3", "E0109:4"]),
        ("edition 2026\nlet a = \"\\q\"\n", &["E0108:2"]),
    ];
    for (text, expected) in cases {
        assert_eq!(codes(text), expected, "{text}\n{}", said(text));
    }
}

#[test]
fn deep_nesting_and_long_chains_are_refused_not_survived_by_luck() {
    for (open, close) in [("(", ")"), ("[", "]"), ("a(", ")")] {
        let text = format!("edition 2026\nlet a = {}1{}\n", open.repeat(100_000), close.repeat(100_000));
        assert_eq!(codes(&text), ["E0110:2"]);
    }
    let open = format!("edition 2026\nplan a {{ stage s {{\n{}", "when test {\n".repeat(50_000));
    assert!(codes(&open).iter().any(|code| code.starts_with("E0110")));
    assert!(!codes(&"{([".repeat(20_000)).is_empty());
    assert!(!codes(&"(((((]]]]]".repeat(20_000)).is_empty());
    assert_eq!(codes(&format!("edition 2026\nlet a = 1{}\n", " + 1".repeat(10_000))), ["E0110:2"]);
    let deepest = format!("edition 2026\nlet a = {}1{}\n", "(".repeat(32), ")".repeat(32));
    assert_eq!(codes(&deepest), Vec::<String>::new());
}

fn wordy() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "plan a {",
        "}",
        "stage s {",
        "start a",
        "\n",
        ";",
        "\"",
        "\"\"\"",
        "# c",
        "## d",
        "x = ",
        "5m",
        "[",
        "]",
        "(",
        ")",
        ",",
        "when",
        "test",
        "->",
        "<->",
        "=",
        "10.0.0.1",
        "2001:db8::1",
        "/24",
        "edition 2026",
        "use ./a",
        " ",
        "\t",
        "\r\n",
        "\u{feff}",
        "ü",
        "\\",
        "every",
        "\u{0}",
        "down",
        "hook h(",
        "a.b[0]",
        "group g",
        "400M",
        "+",
        "-",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.join(" ").replace(" \n ", "\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_survived_and_kept(text in any::<String>()) {
        prop_assert_eq!(parse(FileId(0), &text).tree.text(), text);
    }

    #[test]
    fn any_mix_of_the_languages_own_words_is_survived_and_kept(text in wordy()) {
        let parse = parse(FileId(0), &text);
        prop_assert_eq!(parse.tree.text(), text.clone());
        for diagnostic in &parse.diagnostics {
            let span = diagnostic.primary.span;
            prop_assert!(text.get(span.start as usize..span.end as usize).is_some(), "{:?}", diagnostic);
        }
    }

    #[test]
    fn a_good_file_with_a_hole_or_an_insertion_is_survived(
        which in 0..FIXTURES.len(), at in 0.0..1.0f64, cut in 0..40usize, insert in wordy()
    ) {
        let text = FIXTURES[which].1;
        let mut start = (text.len() as f64 * at) as usize;
        while !text.is_char_boundary(start) { start -= 1; }
        let mut end = (start + cut).min(text.len());
        while !text.is_char_boundary(end) { end += 1; }
        let damaged = format!("{}{}{}", &text[..start], insert, &text[end..]);
        prop_assert_eq!(parse(FileId(0), &damaged).tree.text(), damaged);
    }
}
