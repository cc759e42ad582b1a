//! Texts: escapes, common indent, and the `{a.b}` parts that later phases fill in.

use crate::ast::{Access, Name, Ref, TextValue};
use muster_diagnostics::{Diagnostic, FileId, Span};

fn at(file: FileId, start: usize, end: usize) -> Span {
    Span::new(file, start as u32, end as u32)
}

/// `"..."` with its escapes undone: `\"` `\\` `\n` `\t` `\{` `\}`. Unknown escapes are reported and kept.
pub(crate) fn line_text(raw: &str, span: Span) -> (TextValue, Vec<Diagnostic>) {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or("");
    let start = span.start as usize + 1;
    let mut text = String::with_capacity(inner.len());
    let mut bad = Vec::new();
    let mut characters = inner.char_indices();
    while let Some((offset, character)) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some((_, 'n')) => text.push('\n'),
            Some((_, 't')) => text.push('\t'),
            Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
            // Kept as written: a brace that is meant as one must stay different from `{a.b}`.
            Some((_, escaped @ ('{' | '}'))) => text.extend(['\\', escaped]),
            Some((next, escaped)) => {
                let place = at(span.file, start + offset, start + next + escaped.len_utf8());
                bad.push(
                    Diagnostic::error(108, format!("unknown escape `\\{escaped}` in a text"), place, "not an escape")
                        .help("the escapes are `\\\"`, `\\\\`, `\\n`, `\\t`, `\\{` and `\\}`; for a plain `\\` write `\\\\`"),
                );
                text.extend(['\\', escaped]);
            }
            None => text.push('\\'),
        }
    }
    (TextValue { text, block: false, inner: at(span.file, start, start + inner.len()) }, bad)
}

/// `"""..."""`: no escapes; a first empty line, a last blank line and the common indent are dropped.
pub(crate) fn block_text(raw: &str, span: Span) -> TextValue {
    let inner = raw.get(3..raw.len().saturating_sub(3)).unwrap_or("");
    let start = span.start as usize + 3;
    TextValue { text: strip_indent(inner), block: true, inner: at(span.file, start, start + inner.len()) }
}

fn strip_indent(inner: &str) -> String {
    let inner = inner.replace("\r\n", "\n");
    let (first, rest) = match inner.split_once('\n') {
        Some((first, rest)) => (first, rest),
        None => return inner,
    };
    let mut lines: Vec<&str> = rest.split('\n').collect();
    if lines.last().is_some_and(|last| last.trim().is_empty()) {
        lines.pop();
    }
    let indent = common_indent(&lines);
    let mut stripped: Vec<&str> = Vec::with_capacity(lines.len() + 1);
    if !first.trim().is_empty() {
        stripped.push(first);
    }
    stripped.extend(lines.iter().map(|line| line.get(indent..).filter(|text| !text.trim().is_empty()).unwrap_or("")));
    stripped.join("\n")
}

/// Bytes of blanks that all lines with words begin with.
pub fn common_indent(lines: &[&str]) -> usize {
    let blanks = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let mut written = lines.iter().filter(|line| !line.trim().is_empty());
    let Some(first) = written.next() else { return 0 };
    let mut common = first.get(..blanks(first)).unwrap_or("");
    for line in written {
        let same = common.bytes().zip(line.bytes()).take_while(|(a, b)| a == b).count();
        common = common.get(..same).unwrap_or("");
    }
    common.len()
}

/// The source offset of a line and column (both from 1, columns in characters) of a text block's `text`: for errors found
/// inside a hook body.
pub fn block_offset(value: &TextValue, source: &str, line: usize, column: usize) -> Option<u32> {
    let start = value.inner.start as usize;
    let inner = source.get(start..value.inner.end as usize)?;
    let first_is_dropped =
        inner.split('\n').next().is_some_and(|first| first.trim().is_empty()) && inner.contains('\n');
    let mut lines: Vec<&str> = inner.split('\n').collect();
    let index = line.checked_sub(1)? + usize::from(first_is_dropped);
    let line_start: usize = lines.iter().take(index).map(|line| line.len() + 1).sum();
    let text = *lines.get(index)?;
    if lines.len() > 1 && lines.last().is_some_and(|last| last.trim().is_empty()) {
        lines.pop();
    }
    let indent = if index == 0 { 0 } else { common_indent(lines.get(1..)?) };
    let in_line: usize = text.get(indent..)?.chars().take(column.checked_sub(1)?).map(char::len_utf8).sum();
    u32::try_from(start + line_start + indent + in_line).ok()
}

/// A part of a text in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Segment {
    Literal(String),
    /// `{a.b}` with its braces.
    Reference {
        reference: Ref,
        span: Span,
    },
    /// Something between braces that is no reference; a plain `{` is written `\{`.
    Malformed {
        text: String,
        span: Span,
    },
}

/// A text cut at its `{a.b}` parts. `source` is the file it stands in. Blocks (hook bodies) are one literal.
pub fn segments(value: &TextValue, source: &str) -> Vec<Segment> {
    if value.block {
        return vec![Segment::Literal(value.text.clone())];
    }
    let file = value.inner.file;
    let start = value.inner.start as usize;
    let raw = source.get(start..value.inner.end as usize).unwrap_or("");
    let mut segments = Vec::new();
    let mut literal = String::new();
    let mut index = 0;
    while let Some(character) = raw.get(index..).and_then(|rest| rest.chars().next()) {
        let rest = raw.get(index..).unwrap_or("");
        if character == '\\' {
            let escaped = rest.chars().nth(1);
            match escaped {
                Some('n') => literal.push('\n'),
                Some('t') => literal.push('\t'),
                Some(other) => literal.push(other),
                None => literal.push('\\'),
            }
            index += 1 + escaped.map_or(0, char::len_utf8);
        } else if let Some(length) = (character == '{').then(|| rest.find('}')).flatten() {
            if !literal.is_empty() {
                segments.push(Segment::Literal(std::mem::take(&mut literal)));
            }
            let span = at(file, start + index, start + index + length + 1);
            let text = rest.get(1..length).unwrap_or("");
            segments.push(match reference(text, file, start + index + 1) {
                Some(reference) => Segment::Reference { reference, span },
                None => Segment::Malformed { text: text.to_owned(), span },
            });
            index += length + 1;
        } else {
            literal.push(character);
            index += character.len_utf8();
        }
    }
    if !literal.is_empty() {
        segments.push(Segment::Literal(literal));
    }
    segments
}

/// The `{a.b}` parts of a text, with their spans (braces included).
pub fn interpolations(value: &TextValue, source: &str) -> Vec<(Ref, Span)> {
    let references = segments(value, source).into_iter().filter_map(|segment| match segment {
        Segment::Reference { reference, span } => Some((reference, span)),
        Segment::Literal(_) | Segment::Malformed { .. } => None,
    });
    references.collect()
}

fn reference(text: &str, file: FileId, start: usize) -> Option<Ref> {
    let mut parts = Vec::new();
    let mut offset = start;
    for part in text.split('.') {
        let is_name = part.starts_with(|c: char| c.is_ascii_lowercase())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !is_name {
            return None;
        }
        parts.push(Name { text: part.to_owned(), span: at(file, offset, offset + part.len()) });
        offset += part.len() + 1;
    }
    let mut parts = parts.into_iter();
    Some(Ref {
        head: parts.next()?,
        path: parts.map(Access::Field).collect(),
        span: at(file, start, start + text.len()),
    })
}
