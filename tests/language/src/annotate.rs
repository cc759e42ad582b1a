//! Checks a section, and writes every message beneath the line it is about.
//!
//! ```text
//!     start sql-10
//!     #     ^^^^^^ error[E0301]: there is no machine `sql-10`
//!     # help: did you mean `sql-01`?
//! ```
//!
//! `^^^` marks the place, `--- [E0301]` what it is related to. A place in the first columns has no marks: no comment
//! fits in front of them.

use crate::page::{Block, Section};
use muster_compiler::{Checked, World, check};
use muster_diagnostics::{Diagnostic, Severity, Span, fixes};
use std::collections::BTreeMap;

/// Rounds until the fixes of a section come to rest.
const ROUNDS_MAX: usize = 8;

/// What checking a section gave.
#[derive(Debug)]
pub struct Outcome {
    /// The texts of its blocks as they should be in the page.
    pub texts: Vec<String>,
    /// The messages.
    pub diagnostics: Vec<Diagnostic>,
    /// What no page can show: messages about files of which the section has no block, or without a way out.
    pub faults: Vec<String>,
}

/// Texts in memory.
#[derive(Clone, Debug, Default)]
pub struct Texts(pub BTreeMap<String, String>);

impl World for Texts {
    fn read(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }
}

/// Checks the files of a section together with those that it is given.
pub fn check_section(section: &Section, given: &[&Block]) -> Outcome {
    let mut texts = Texts::default();
    for block in given.iter().copied().chain(section.blocks.iter().filter(|block| !block.fixed)) {
        texts.0.insert(block.file.clone(), without_messages(block));
    }
    let files: Vec<String> = section
        .blocks
        .iter()
        .filter(|block| !block.fixed && block.file.ends_with(".plan"))
        .map(|block| block.file.clone())
        .collect();
    let checked = check(&texts, &files);
    let fixed = section.blocks.iter().any(|block| block.fixed).then(|| fixed(&texts, &files));
    let mut faults = faults(&checked, section);
    let written = section.blocks.iter().map(|block| match &fixed {
        Some(fixed) if block.fixed => fixed.0.get(&block.file).cloned().unwrap_or_else(|| {
            faults.push(format!("`{}` is shown fixed and is no file of the section", block.file));
            String::new()
        }),
        _ => with_messages(block, &checked),
    });
    let texts = written.collect();
    Outcome { texts, diagnostics: checked.diagnostics, faults }
}

/// What `muster check --fix` leaves.
fn fixed(texts: &Texts, files: &[String]) -> Texts {
    let mut texts = texts.clone();
    for _ in 0..ROUNDS_MAX {
        let checked = check(&texts, files);
        let certain = fixes::certain(&checked.diagnostics);
        if certain.is_empty() {
            break;
        }
        for (id, list) in certain {
            let Some(file) = checked.sources.get(id) else { continue };
            if let Ok(text) = fixes::apply(&file.text, &list) {
                texts.0.insert(file.path.clone(), text);
            }
        }
    }
    texts
}

fn faults(checked: &Checked, section: &Section) -> Vec<String> {
    let mut faults = Vec::new();
    for found in &checked.diagnostics {
        let what = format!("{} {}", found.code, found.message);
        for span in std::iter::once(found.primary.span).chain(found.related.iter().map(|label| label.span)) {
            let file = checked.sources.get(span.file);
            if file.and_then(|file| file.text.get(span.start as usize..span.end as usize)).is_none() {
                faults.push(format!("{what}: a place that is none: {span:?}"));
            }
        }
        let file = checked.sources.get(found.primary.span.file).map_or("", |file| file.path.as_str());
        if !section.blocks.iter().any(|block| block.file == file) {
            faults.push(format!("{what}: is about `{file}`, of which the section has no block"));
        }
        if found.related.len() > 2 {
            faults.push(format!("{what}: more than two related places"));
        }
        if found.help.is_none() && found.fix.is_none() {
            faults.push(format!("{what}: does not say what to do"));
        }
    }
    faults
}

/// The text that is checked: the block without the lines that are messages.
pub fn without_messages(block: &Block) -> String {
    let mut out = String::new();
    let mut behind_message = false;
    for line in block.text.split_inclusive('\n') {
        let words = line.trim().strip_prefix(block.comment()).map(|comment| comment.trim_start());
        let is_message = words.is_some_and(|words| {
            let words = words.trim_start_matches(['^', '-']).trim_start();
            let code = words.trim_start_matches(|c: char| c.is_ascii_lowercase());
            let begins = code.strip_prefix("[E").is_some_and(|rest| rest.get(4..5) == Some("]"));
            begins || behind_message && (words.starts_with("help: ") || words.starts_with("note: "))
        });
        behind_message = is_message;
        if !is_message {
            out.push_str(line);
        }
    }
    out
}

fn with_messages(block: &Block, checked: &Checked) -> String {
    let text = without_messages(block);
    let Some((id, file)) = checked.sources.iter().find(|(_, file)| file.path == block.file) else { return text };
    let mut beneath: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut write = |span: Span, mark: char, words: String, more: &[String]| {
        let (line, column) = checked.sources.position(id, span.start);
        let (end_line, end_column) = checked.sources.position(id, span.end);
        let source = file.text.lines().nth(line - 1).unwrap_or("");
        let end = if end_line == line { end_column } else { source.chars().count() + 1 };
        let indent = source.chars().take_while(|c| *c == ' ').count();
        let lines = beneath.entry(line).or_default();
        let line = marked(block.comment(), indent, (column - 1, end.saturating_sub(column)), mark, &words);
        let indent = line.len() - line.trim_start().len();
        lines.push(line);
        lines.extend(more.iter().map(|words| format!("{}{} {words}", " ".repeat(indent), block.comment())));
    };
    for found in &checked.diagnostics {
        if found.primary.span.file == id {
            let severity = match found.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Info => "info",
            };
            let mut more: Vec<String> = found.notes.iter().map(|note| format!("note: {note}")).collect();
            more.extend(found.help.iter().map(|help| format!("help: {help}")));
            write(found.primary.span, '^', format!("{severity}[{}]: {}", found.code, found.message), &more);
        }
        for label in found.related.iter().filter(|label| label.span.file == id) {
            write(label.span, '-', format!("[{}] {}", found.code, label.text), &[]);
        }
    }
    let mut out = String::new();
    let last = text.lines().count();
    for (index, line) in text.lines().enumerate() {
        out.push_str(line);
        out.push('\n');
        // A place behind the last line is said beneath it.
        let behind = if index + 1 == last { usize::MAX } else { index + 1 };
        for (_, lines) in beneath.range(index + 1..=behind) {
            lines.iter().for_each(|line| out.push_str(&format!("{line}\n")));
        }
    }
    out
}

fn marked(comment: &str, indent: usize, (column, width): (usize, usize), mark: char, words: &str) -> String {
    // The sign of the comment and a blank stand in front of the marks.
    let Some(room) = column.checked_sub(comment.len() + 1) else {
        return format!("{comment} {words}");
    };
    let indent = indent.min(room);
    let gap = column - indent - comment.len();
    let marks = mark.to_string().repeat(width.max(1));
    format!("{}{comment}{}{marks} {words}", " ".repeat(indent), " ".repeat(gap))
}
