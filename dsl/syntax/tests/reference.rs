//! The reference of the language in the book is printed from the grammar and the modules of the library.

#![allow(clippy::unwrap_used, clippy::panic)] // tests and their helpers

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const GRAMMAR: &str = include_str!("../src/plan.pest");

/// Parts of the grammar that are about reading wrong files, or are printed as a list of words.
const NOT_OF_THE_LANGUAGE: [&str; 3] = ["what cannot be read", "one line alone", "words of the language"];

/// Rules that say where lines may break, and what is kept of a line that cannot be read.
const LAYOUT: [&str; 10] =
    ["WHITESPACE", "COMMENT", "sep", "nl", "eol", "junk", "SOI", "EOI", "word_every", "word_after"];

const OPENING: &str = "# Language reference

<!-- Printed from dsl/syntax/src/plan.pest and stdlib/ by the tests of muster-syntax; edit those. -->

The shape of a `.plan` file, edition 2026, as its parser reads it. [Writing plans](plans.md) is the tour, with examples;
this page is for looking up what may stand where. `muster explain E0301` tells what that message means.

How to read the rules: a text in quotes stands for itself, `a b` is a followed by b, `a | b` is one of the two, `?` at most
once, `*` any number of times, `+` at least once, `!a` that no a follows, `a{2}` twice. Lines end at a line break or at `;`;
inside parentheses and brackets lines may break after a comma. Words in capitals are kinds of characters. A comment goes from `#` to the end of its line.
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The words of a rule: names, texts in quotes, signs.
fn tokens(rule: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = rule.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if first == '"' {
            let bytes = rest.as_bytes();
            let mut at = 1;
            while bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            at + 1
        } else if first.is_ascii_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        found.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    found
}

/// The word that a rule such as `kw_stage` stands for; `kw_times` has two.
fn word(rule: &str) -> Option<String> {
    match rule {
        "kw_times" => Some("(\"times\" | \"time\")".to_owned()),
        "word_every" => Some("\"every\"".to_owned()),
        "word_after" => Some("\"after\"".to_owned()),
        "eq" => Some("\"=\"".to_owned()),
        _ => rule.strip_prefix("kw_").map(|word| format!("\"{word}\"")),
    }
}

/// A rule without what only steers the parser.
fn body(rule: &str) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut all = tokens(rule).into_iter().peekable();
    while let Some(token) = all.next() {
        if matches!(token, "~" | "&") {
            continue;
        }
        // Where a word ends is no news to a reader.
        let end_of_word = token == "id_char" && kept.last().is_some_and(|last| last == "!");
        if end_of_word {
            kept.pop();
            continue;
        }
        if LAYOUT.contains(&token) && word(token).is_none() {
            // `sep?` loses its sign with its name.
            while all.peek().is_some_and(|next| matches!(*next, "?" | "*" | "+")) {
                all.next();
            }
            if token == "junk" && kept.last().is_some_and(|last| last == "|") {
                kept.pop();
            }
            continue;
        }
        kept.push(word(token).unwrap_or_else(|| token.to_owned()));
    }
    // `(line (line)*)?` had separators between its lines; without them it is `line*`.
    let mut at = 0;
    while at + 8 <= kept.len() {
        let [open, first, inner, second, close, star, end, maybe] = &kept[at..at + 8] else { break };
        if [open, inner, close, star, end, maybe].map(String::as_str) == ["(", "(", ")", "*", ")", "?"]
            && first == second
        {
            let line = first.clone();
            kept.splice(at..at + 8, [line, "*".to_owned()]);
        }
        at += 1;
    }
    spaced(&kept)
}

fn spaced(tokens: &[String]) -> String {
    let mut out = String::new();
    let mut glue = true;
    let mut counting = false;
    for token in tokens {
        let after = matches!(token.as_str(), "?" | "*" | "+" | ")") || counting || token == "{" && !out.is_empty();
        if !glue && !after {
            out.push(' ');
        }
        out.push_str(token);
        counting = token == "{" && out.len() > 1 || counting && token != "}";
        glue = matches!(token.as_str(), "(" | "!");
    }
    out
}

/// Headings of the grammar with their rules, by name and text.
fn sections() -> Vec<(String, Vec<(String, String)>)> {
    let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut open: Option<(String, String)> = None;
    sections.push(("files".to_owned(), Vec::new()));
    for line in GRAMMAR.lines() {
        if let Some(heading) = line.strip_prefix("// ---- ") {
            sections.push((heading.to_owned(), Vec::new()));
            continue;
        }
        let code = line.split(" //").next().unwrap().trim_end();
        if code.starts_with("//") || code.is_empty() {
            continue;
        }
        let (name, text) = match open.take() {
            Some((name, text)) => (name, format!("{text} {}", code.trim())),
            None => {
                let (name, text) = code.split_once('=').unwrap();
                let text = text.trim_start().trim_start_matches(['_', '@', '$', '!']);
                (name.trim().to_owned(), text.to_owned())
            }
        };
        let level = |text: &str| {
            let all = tokens(text);
            let count = |sign| all.iter().filter(|token| **token == sign).count();
            count("{") == count("}")
        };
        if level(&text) {
            let inside = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap().to_owned();
            sections.last_mut().unwrap().1.push((name, inside));
        } else {
            open = Some((name, text));
        }
    }
    assert!(open.is_none(), "a rule of the grammar is not closed");
    sections.retain(|(heading, _)| !NOT_OF_THE_LANGUAGE.iter().any(|not| heading.starts_with(not)));
    sections
}

fn words() -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let of = |start: &str| {
        let lines = GRAMMAR.lines().filter(move |line| line.starts_with(start));
        lines.flat_map(|line| line.split('"').skip(1).step_by(2)).collect::<BTreeSet<_>>()
    };
    (of("reserved "), of("kw_"))
}

fn listed(words: &BTreeSet<&str>) -> String {
    let mut out = String::new();
    let mut width = 0;
    for word in words {
        if width > 100 {
            out.push('\n');
            width = 0;
        }
        write!(out, "`{word}` ").unwrap();
        width += word.len() + 3;
    }
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn modules(out: &mut String) {
    let mut paths: Vec<_> =
        std::fs::read_dir(root().join("stdlib")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "plan"));
    paths.sort();
    assert!(paths.len() >= 10, "the library is read");
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let comment = text.lines().skip_while(|line| !line.starts_with("## "));
        let lines = comment.map_while(|line| line.strip_prefix("## ")).collect::<Vec<_>>();
        assert!(!lines.is_empty(), "std/{name} is not described");
        let first = lines.join("\n");
        writeln!(out, "\n### `std/{name}`\n\n{first}\n\n```text").unwrap();
        for line in
            text.lines().filter(|line| ["hook ", "probe ", "template "].iter().any(|kind| line.starts_with(kind)))
        {
            writeln!(out, "{}", line.trim_end_matches('{').trim_end()).unwrap();
        }
        out.push_str("```\n");
    }
}

fn page() -> String {
    let mut out = OPENING.to_owned();
    for (heading, rules) in sections() {
        let mut letters = heading.chars();
        let heading = letters.next().unwrap().to_uppercase().chain(letters).collect::<String>();
        writeln!(out, "\n## {heading}\n\n```text").unwrap();
        let rules: Vec<_> = rules.iter().filter(|(name, _)| !LAYOUT.contains(&name.as_str()) && name != "eq").collect();
        let width = rules.iter().map(|(name, _)| name.len()).max().unwrap();
        for (name, rule) in rules {
            writeln!(out, "{name:width$} = {}", body(rule)).unwrap();
        }
        out.push_str("```\n");
    }
    let (reserved, all) = words();
    let rest = all.difference(&reserved).copied().collect();
    write!(out, "\n## Words\n\nNo name may be one of these (`reserved` above):\n\n{}", listed(&reserved)).unwrap();
    write!(out, "\nThese mean something where a rule has them, and are names elsewhere:\n\n{}", listed(&rest)).unwrap();
    out.push_str("\n## What the library offers\n\n[Standard library](standard-library.md) describes each of them.\n");
    modules(&mut out);
    out
}

/// `MUSTER_UPDATE=1 cargo test -p muster-syntax --test reference` writes the page anew.
#[test]
fn the_reference_in_the_book_is_that_of_the_grammar() {
    let path = root().join("book/src/reference.md");
    let page = page();
    if std::env::var_os("MUSTER_UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let book = std::fs::read_to_string(&path).unwrap();
    assert!(book == page, "run this test with MUSTER_UPDATE=1 and commit the book");
    let summary = std::fs::read_to_string(root().join("book/src/SUMMARY.md")).unwrap();
    assert!(summary.contains("(reference.md)"), "the summary names the reference");
}

#[test]
fn every_rule_that_the_page_names_is_on_it() {
    let sections = sections();
    let names: BTreeSet<&str> = sections.iter().flat_map(|(_, rules)| rules).map(|(name, _)| name.as_str()).collect();
    assert!(names.len() > 80, "the grammar is read: {}", names.len());
    for (name, rule) in sections.iter().flat_map(|(_, rules)| rules) {
        let printed = body(rule);
        for token in tokens(&printed) {
            let is_rule = token.starts_with(|c: char| c.is_ascii_lowercase());
            assert!(
                !is_rule || names.contains(token) || token == "reserved",
                "`{name}` names `{token}`, which the page does not explain"
            );
        }
    }
}
