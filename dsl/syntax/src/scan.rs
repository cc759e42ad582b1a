//! What is looked at before the grammar: texts, comments and brackets.
//!
//! The grammar never sees an unfinished text or an unbalanced bracket. They are found here, reported at the place where they were
//! opened, and mended in a copy of the text: broken bytes become fillers of the same length, missing `{` and `}` are
//! inserted. Offsets of the copy lead back to the source through [`Scan::source_offset`].

use crate::layout::{self, Line};
use crate::repair::place_of_mark;
use muster_diagnostics::{Applicability, Diagnostic, FileId, Span};
use std::ops::Range;

/// Brackets inside brackets. Real plans need seven; the grammar recurses once per level, so this also bounds the stack.
pub(crate) const NESTING_MAX: usize = 32;
/// Bytes of one file. Plans are written by hand; a larger file is something else.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;

/// Messages of one file up to which the place of a missing mark is looked for: that costs some readings of its line.
const SEARCHES_MAX: usize = 20;
/// Messages that are made here; the file shows fewer.
const MESSAGES_MAX: usize = 200;
/// What stands where bytes were no UTF-8.
const NO_CHARACTER: char = '\u{fffd}';

/// Stands for a byte that cannot be part of any line; only `junk` takes it.
const FILLER: u8 = 0x01;
/// What closes a block that was never closed, and what opens one that was never opened.
const CLOSED: &str = "\n}\n";
const OPENED: &str = " { ";

const ITEM_WORDS: [&str; 17] = [
    "edition", "use", "let", "secret", "site", "route", "place", "machine", "window", "team", "policy", "group",
    "hook", "probe", "template", "plan", "test",
];

#[derive(Clone, Copy, Debug)]
struct Bracket {
    at: usize,
    sign: u8,
    line: usize,
    /// Columns before the first word of its line.
    indent: usize,
    first_on_line: bool,
}

/// `Item`: a line that begins an item or a stage. What is open at its column or right of it was forgotten.
#[derive(Clone, Copy, Debug)]
enum Event {
    Bracket(Bracket),
    Item { at: usize, indent: usize },
}

/// A text of the copy that is not in the source.
#[derive(Clone, Copy, Debug)]
struct Insertion {
    /// Its offset in the copy.
    at: usize,
    length: usize,
    /// Bytes of all insertions before it.
    before: usize,
}

#[derive(Debug)]
pub(crate) struct Scan {
    file: FileId,
    /// The copy for the grammar.
    pub(crate) mended: String,
    /// Where something was put into `mended`, ascending.
    insertions: Vec<Insertion>,
    pub(crate) comments: Vec<Range<usize>>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Source offsets already reported, ascending: no second message from these.
    damage: Vec<usize>,
}

impl Scan {
    pub(crate) fn source_offset(&self, mended: usize) -> usize {
        let before = self.insertions.partition_point(|insertion| insertion.at < mended);
        let Some(last) = before.checked_sub(1).and_then(|index| self.insertions.get(index)) else { return mended };
        mended - last.before - (mended - last.at).min(last.length)
    }

    pub(crate) fn is_damaged(&self, range: &Range<usize>) -> bool {
        let first = self.damage.partition_point(|at| *at < range.start);
        self.damage.get(first).is_some_and(|at| *at <= range.end)
    }

    /// `end` moved back over blanks and comments, but not before `start`.
    pub(crate) fn trim_end(&self, source: &str, start: usize, mut end: usize) -> usize {
        loop {
            let text = source.get(start..end).unwrap_or("");
            let trimmed = start + text.trim_end_matches([' ', '\t', '\r', '\n']).len();
            let index = self.comments.partition_point(|comment| comment.start < trimmed);
            match index.checked_sub(1).and_then(|index| self.comments.get(index)) {
                Some(comment) if comment.end >= trimmed && comment.start >= start => end = comment.start,
                _ => return trimmed,
            }
        }
    }
}

/// Looks through `source` once; see the module.
pub(crate) fn scan(file: FileId, source: &str) -> Scan {
    let mut lexer = Lexer::new(file, source);
    lexer.run();
    let mut pairing = Pairing { file, lexer: &lexer, stack: Vec::new(), found: Found::default(), by_layout: false };
    pairing.run();
    if !pairing.found.is_balanced() {
        pairing = Pairing { file, lexer: &lexer, stack: Vec::new(), found: Found::default(), by_layout: true };
        pairing.run();
    }
    let found = pairing.found;
    mend(file, source, lexer, found)
}

fn mend(file: FileId, source: &str, lexer: Lexer<'_>, found: Found) -> Scan {
    let mut bytes = source.as_bytes().to_vec();
    if source.starts_with('\u{feff}') {
        bytes[..3].fill(b' ');
    }
    for range in lexer.broken.iter().chain(&found.fill) {
        bytes[range.clone()].fill(FILLER);
    }
    let mut places = found.insert;
    places.sort_unstable();
    let mut mended = Vec::with_capacity(bytes.len() + places.len() * CLOSED.len());
    let mut insertions: Vec<Insertion> = Vec::with_capacity(places.len());
    let mut from = 0;
    for (place, text) in places {
        mended.extend_from_slice(&bytes[from..place]);
        let before = insertions.last().map_or(0, |last| last.before + last.length);
        insertions.push(Insertion { at: mended.len(), length: text.len(), before });
        mended.extend_from_slice(text.as_bytes());
        from = place;
    }
    mended.extend_from_slice(&bytes[from..]);
    let mut diagnostics = lexer.diagnostics;
    diagnostics.extend(found.diagnostics);
    let mut no_text: Vec<usize> = source.match_indices(NO_CHARACTER).map(|(at, _)| at).collect();
    if let Some(first) = no_text.first().copied() {
        diagnostics.push(not_text(file, first, no_text.len()));
    }
    let mut damage: Vec<usize> = diagnostics
        .iter()
        .map(|diagnostic| diagnostic.primary.span.start as usize)
        .chain(found.quiet)
        .chain(lexer.quiet)
        .collect();
    damage.append(&mut no_text);
    damage.sort_unstable();
    // Fillers replace whole characters byte by byte, so the copy is still UTF-8; a lossy copy would only cost offsets.
    let mended =
        String::from_utf8(mended).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Scan { file, mended, insertions, comments: lexer.comments, diagnostics, damage }
}

/// One message for all of them: a file in another encoding has many.
fn not_text(file: FileId, first: usize, count: usize) -> Diagnostic {
    let place = span(file, &(first..first + NO_CHARACTER.len_utf8()));
    let diagnostic = Diagnostic::error(111, "this file is not UTF-8 text", place, "no character")
        .help("save it as UTF-8; editors call that \"encoding\"");
    match count {
        1 => diagnostic,
        _ => diagnostic.note(format!("{count} places in this file are no characters")),
    }
}

impl Scan {
    pub(crate) fn span(&self, range: &Range<usize>) -> Span {
        span(self.file, range)
    }
}

fn span(file: FileId, range: &Range<usize>) -> Span {
    // Files are below 4 GiB by FILE_BYTES_MAX.
    Span::new(file, range.start as u32, range.end as u32)
}

/// Texts, comments, brackets, in one pass over the bytes.
struct Lexer<'s> {
    file: FileId,
    source: &'s str,
    at: usize,
    line: usize,
    indent: usize,
    line_is_blank: bool,
    comments: Vec<Range<usize>>,
    events: Vec<Event>,
    broken: Vec<Range<usize>>,
    broken_lines: Vec<usize>,
    /// Damage without a message of its own.
    quiet: Vec<usize>,
    /// What was taken last ends in front of a line.
    at_line_start: bool,
    /// A `"""` without end: whatever is still open there is its doing.
    swallowed_end: bool,
    diagnostics: Vec<Diagnostic>,
}

impl<'s> Lexer<'s> {
    fn new(file: FileId, source: &'s str) -> Self {
        Self {
            file,
            source,
            at: 0,
            line: 0,
            indent: 0,
            line_is_blank: true,
            comments: Vec::new(),
            events: Vec::new(),
            broken: Vec::new(),
            broken_lines: Vec::new(),
            quiet: Vec::new(),
            at_line_start: false,
            swallowed_end: false,
            diagnostics: Vec::new(),
        }
    }

    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or("")
    }

    fn end_of_line(&self) -> usize {
        self.rest().find(['\n', '\r']).map_or(self.source.len(), |length| self.at + length)
    }

    fn run(&mut self) {
        if self.source.starts_with('\u{feff}') {
            self.at = 3;
        }
        while let Some(sign) = self.source.as_bytes().get(self.at).copied() {
            match sign {
                b'\n' | b'\r' => {
                    self.at += if self.rest().starts_with("\r\n") { 2 } else { 1 };
                    self.line += 1;
                    self.indent = 0;
                    self.line_is_blank = true;
                    continue;
                }
                b' ' | b'\t' => {
                    self.indent += usize::from(self.line_is_blank);
                    self.at += 1;
                    continue;
                }
                b'#' => {
                    let end = self.end_of_line();
                    self.comments.push(self.at..end);
                    self.at = end;
                    continue;
                }
                b'"' => self.text(),
                b'{' | b'}' | b'(' | b')' | b'[' | b']' => {
                    self.events.push(Event::Bracket(Bracket {
                        at: self.at,
                        sign,
                        line: self.line,
                        indent: self.indent,
                        first_on_line: self.line_is_blank,
                    }));
                    self.at += 1;
                }
                _ => {
                    if self.line_is_blank && self.begins_item() {
                        self.events.push(Event::Item { at: self.at - self.indent, indent: self.indent });
                    }
                    self.at += 1;
                }
            }
            self.line_is_blank = std::mem::take(&mut self.at_line_start);
        }
    }

    fn begins_item(&self) -> bool {
        let rest = self.rest();
        let words: &[&str] = if self.indent == 0 { &ITEM_WORDS } else { &["stage"] };
        words.iter().any(|word| begins(rest, word))
    }

    fn text(&mut self) {
        if self.rest().starts_with("\"\"\"") {
            return self.text_block();
        }
        let end = self.end_of_line();
        let bytes = self.source.as_bytes();
        let mut at = self.at + 1;
        while at < end {
            match bytes[at] {
                b'\\' => at += 2,
                b'"' => {
                    self.at = at + 1;
                    return;
                }
                _ => at += 1,
            }
        }
        let range = self.at..end;
        let diagnostic = Diagnostic::error(
            108,
            "this text is not finished",
            span(self.file, &range),
            "no closing `\"` on this line",
        )
        .help("end it with `\"`; a text over several lines is written between `\"\"\"` and `\"\"\"`");
        match self.diagnostics.len() {
            0..SEARCHES_MAX => self.diagnostics.push(with_mark(self.file, self.source, self.at, "\"", diagnostic)),
            SEARCHES_MAX..MESSAGES_MAX => self.diagnostics.push(diagnostic),
            _ => self.quiet.push(self.at),
        }
        self.broken.push(range);
        self.broken_lines.push(self.line);
        self.at = end;
    }

    fn text_block(&mut self) {
        let body = self.at + 3;
        let search = self.line_is_blank && self.diagnostics.len() < SEARCHES_MAX;
        let headless = search.then(|| layout::fact_without_value(self.source, self.at)).flatten();
        if let Some(fact) = headless {
            return self.text_block_without_begin(&fact, body);
        }
        let length = self.source.get(body..).unwrap_or("").find("\"\"\"");
        let swallows = |length: usize| {
            let text = self.source.get(body..body + length).unwrap_or("");
            text.lines().any(|line| ITEM_WORDS.iter().any(|word| begins(line, word)))
        };
        if length.is_none_or(swallows)
            && let Some((place, missing)) = layout::end_of_text(self.source, self.at)
        {
            return self.text_block_without_end(&place, missing);
        }
        match length {
            Some(length) => {
                let end = body + length + 3;
                let text = self.source.get(self.at..end).unwrap_or("");
                self.line += text.replace("\r\n", "\n").matches(['\n', '\r']).count();
                self.at = end;
            }
            None => {
                self.diagnostics.push(
                    Diagnostic::error(
                        108,
                        "this text block is not finished",
                        span(self.file, &(self.at..body)),
                        "no closing `\"\"\"` before the end of the file",
                    )
                    .help("put `\"\"\"` on a line of its own after the text"),
                );
                self.broken.push(self.at..self.source.len());
                self.swallowed_end = true;
                self.at = self.source.len();
            }
        }
    }
}

impl Lexer<'_> {
    /// Its last line is at hand, its first is the fact above: what is between was read as lines and was none.
    fn text_block_without_begin(&mut self, fact: &Line, end: usize) {
        let begin = fact.code_end(self.source);
        self.events.retain(|event| match event {
            Event::Bracket(bracket) => bracket.at < begin,
            Event::Item { at, .. } => *at < begin,
        });
        self.comments.retain(|comment| comment.start < begin);
        self.broken.retain(|range| range.start < begin);
        self.diagnostics.retain(|diagnostic| (diagnostic.primary.span.start as usize) < begin);
        let place = span(self.file, &(begin.saturating_sub(1)..begin));
        self.diagnostics.push(
            Diagnostic::error(108, "this text block never begins", place, "no `\"\"\"` behind this")
                .help("write `\"\"\"` behind the `=`")
                .fix(span(self.file, &(begin..begin)), " \"\"\"", Applicability::Certain),
        );
        self.broken.push(begin..end);
        self.at = end;
    }

    /// It would swallow what follows; the layout tells where it should have ended.
    fn text_block_without_end(&mut self, place: &Range<usize>, missing: String) {
        let end = place.end;
        let body = self.at + 3;
        self.diagnostics.push(
            Diagnostic::error(
                108,
                "this text block is not finished",
                span(self.file, &(self.at..body)),
                "no closing `\"\"\"` before the next block",
            )
            .help("put `\"\"\"` on a line of its own after the text")
            .fix(span(self.file, place), missing, Applicability::Maybe),
        );
        // The newline in front of the next line stays.
        let text = self.source.get(self.at..end).unwrap_or("");
        self.broken.push(self.at..self.at + text.trim_end().len());
        self.line += text.replace("\r\n", "\n").matches(['\n', '\r']).count();
        self.indent = 0;
        self.at_line_start = true;
        self.at = end;
    }
}

/// A line that begins with this word and goes on like an item.
fn begins(line: &str, word: &str) -> bool {
    line.strip_prefix(word).is_some_and(|after| {
        after.starts_with([' ', '\t'])
            && after.trim_start().starts_with(|c: char| c.is_ascii_alphanumeric() || ".*\"".contains(c))
    })
}

/// The message with the place at which a missing mark makes the line of `at` readable.
fn with_mark(file: FileId, source: &str, at: usize, mark: &str, diagnostic: Diagnostic) -> Diagnostic {
    let line = layout::line_at(source, at);
    let start = line.range.start + line.indent;
    let mut text = source.get(start..line.code_end(source).max(start)).unwrap_or("").to_owned();
    if mark == "\"" {
        // A `#` may be inside the text that is not finished.
        text = source.get(start..line.range.end).unwrap_or("").trim_end().to_owned();
    }
    let length = text.len();
    if text.ends_with('{') && mark != "{" {
        text.push_str("\n}");
    }
    match place_of_mark(&text, mark).filter(|found| found.at.end <= length) {
        Some(found) => {
            let place = span(file, &(start + found.at.start..start + found.at.end));
            let applicability = if found.certain { Applicability::Certain } else { Applicability::Maybe };
            diagnostic.fix(place, found.replacement, applicability)
        }
        None => diagnostic,
    }
}

#[derive(Debug, Default)]
struct Found {
    fill: Vec<Range<usize>>,
    insert: Vec<(usize, &'static str)>,
    /// Mended without a message of its own.
    quiet: Vec<usize>,
    diagnostics: Vec<Diagnostic>,
    unbalanced: bool,
}

impl Found {
    fn is_balanced(&self) -> bool {
        !self.unbalanced
    }
}

/// Finds the partner of each bracket. The second time, when some are missing, it trusts the layout to tell which.
struct Pairing<'l, 's> {
    file: FileId,
    lexer: &'l Lexer<'s>,
    stack: Vec<Bracket>,
    found: Found,
    by_layout: bool,
}

impl Pairing<'_, '_> {
    fn run(&mut self) {
        for event in &self.lexer.events {
            match *event {
                Event::Item { at, indent } if self.by_layout => self.close_from(at, indent),
                Event::Item { .. } => {}
                Event::Bracket(bracket) if b"{([".contains(&bracket.sign) => {
                    if self.stack.len() >= NESTING_MAX {
                        return self.too_deep(bracket);
                    }
                    self.stack.push(bracket);
                }
                Event::Bracket(bracket) => self.close(bracket),
            }
        }
        self.close_from(self.lexer.source.len(), 0);
    }

    /// Forgets what is open at column `indent` or right of it: at the end of the file, or where the next item plainly begins.
    fn close_from(&mut self, at: usize, indent: usize) {
        while let Some(open) = self.stack.pop_if(|open| open.indent >= indent) {
            self.never_closed(open, at);
        }
    }

    fn close(&mut self, close: Bracket) {
        let opener = match close.sign {
            b'}' => b'{',
            b')' => b'(',
            _ => b'[',
        };
        if opener == b'{' && self.by_layout && close.first_on_line {
            self.close_deeper(close);
        }
        if opener == b'{' && self.by_layout && self.was_never_opened(close) {
            return;
        }
        // A `)` cannot reach over a `{`; a `}` ends every `(` and `[` inside its block.
        let partner = self.stack.iter().rposition(|open| open.sign == opener || (opener != b'{' && open.sign == b'{'));
        match partner {
            Some(index) if self.stack.get(index).is_some_and(|open| open.sign == opener) => {
                while self.stack.len() > index + 1 {
                    let Some(open) = self.stack.pop() else { return };
                    self.never_closed(open, close.at);
                }
                self.stack.pop();
            }
            _ => self.closes_nothing(close),
        }
    }

    /// Blocks that began further right than this `}` stands were never closed, if one of its own column is open.
    fn close_deeper(&mut self, close: Bracket) {
        let Some(partner) = self.stack.iter().rposition(|open| open.sign == b'{' && open.indent == close.indent) else {
            return;
        };
        while self.stack.len() > partner + 1 {
            let Some(open) = self.stack.pop() else { return };
            let line_start = close.at - close.indent;
            self.never_closed(open, line_start);
        }
    }

    /// Gives up on the rest of the file: from here on nothing sensible could be said.
    fn too_deep(&mut self, bracket: Bracket) {
        self.found.unbalanced = true;
        self.found.diagnostics.push(
            Diagnostic::error(
                110,
                format!("brackets are nested more than {NESTING_MAX} deep"),
                span(self.file, &(bracket.at..bracket.at + 1)),
                "this one is too deep; nothing after it was read",
            )
            .help("give inner parts a name with `let`, or move steps into a stage of their own"),
        );
        let end = self.lexer.source.len();
        self.found.fill.push(bracket.at..end);
        while let Some(open) = self.stack.pop() {
            self.found.quiet.push(open.at);
            self.mend_open(open, end);
        }
    }

    /// A `}` whose `{` is missing: on its own line, or on the line above that stands in its column.
    fn was_never_opened(&mut self, close: Bracket) -> bool {
        if self.found.diagnostics.len() >= SEARCHES_MAX {
            return false;
        }
        let source = self.lexer.source;
        let partner = self.stack.iter().rev().find(|open| open.sign == b'{');
        let diagnostic = |at: usize| {
            let place = span(self.file, &(at.saturating_sub(1)..at));
            Diagnostic::error(103, "this block is never opened", place, "no `{` behind this")
                .help("add the missing `{`")
        };
        let (place, diagnostic) = if close.first_on_line {
            if partner.is_some_and(|open| open.indent >= close.indent) {
                return false;
            }
            let Some(header) = layout::header_of(source, close.at, close.indent) else { return false };
            let end = header.code_end(source);
            let fix = span(self.file, &(end..end));
            (end, diagnostic(end).fix(fix, " {", Applicability::Certain))
        } else {
            if partner.is_some_and(|open| open.line == close.line) {
                return false;
            }
            let found = with_mark(self.file, source, close.at, "{", diagnostic(close.at));
            let Some(fix) = &found.fix else { return false };
            let place = fix.span.start as usize;
            (place, Diagnostic { primary: diagnostic(place).primary, ..found })
        };
        self.found.unbalanced = true;
        self.found.insert.push((place, OPENED));
        self.found.diagnostics.push(diagnostic);
        true
    }

    /// A `)` or `]` on a line of its own, whose partner is missing behind the line above that stands in its column.
    fn list_was_never_opened(&mut self, close: Bracket, open: &'static str) -> bool {
        let header = match close.first_on_line && self.by_layout && self.found.diagnostics.len() < SEARCHES_MAX {
            true => layout::header_of(self.lexer.source, close.at, close.indent),
            false => None,
        };
        let Some(header) = header else { return false };
        let end = header.code_end(self.lexer.source);
        let place = span(self.file, &(end.saturating_sub(1)..end));
        self.found.insert.push((end, open));
        self.found.diagnostics.push(
            Diagnostic::error(103, "this bracket is never opened", place, format!("no `{open}` behind this"))
                .help(format!("add the missing `{open}`"))
                .fix(span(self.file, &(end..end)), open, Applicability::Maybe),
        );
        true
    }

    /// With the text that makes it whole again, where its end can be told from the layout.
    fn end_of_list(&self, open: Bracket, at: usize) -> Option<(usize, String)> {
        let close = match open.sign {
            b'(' => ')',
            b'[' => ']',
            _ => return None,
        };
        let broken = self.lexer.broken_lines.binary_search(&open.line).is_ok() || self.lexer.swallowed_end;
        if !self.by_layout || broken {
            return None;
        }
        layout::end_of_list(self.lexer.source, open.at, close).filter(|(end, _)| *end <= at)
    }

    fn never_closed(&mut self, open: Bracket, at: usize) {
        self.found.unbalanced = true;
        let (what, close) = match open.sign {
            b'{' => ("block", "}"),
            b'(' => ("bracket", ")"),
            _ => ("bracket", "]"),
        };
        let list = self.end_of_list(open, at);
        let (end, missing) = list.clone().unwrap_or_else(|| layout::end_of_block(self.lexer.source, open.at, at));
        match &list {
            Some(_) => self.found.insert.push((end, close)),
            None => self.mend_open(open, end.min(at)),
        }
        let is_consequence = self.lexer.swallowed_end && at == self.lexer.source.len();
        if is_consequence || self.lexer.broken_lines.binary_search(&open.line).is_ok() {
            self.found.quiet.push(open.at);
            return;
        }
        let sign = char::from(open.sign);
        let diagnostic = Diagnostic::error(
            103,
            format!("this {what} is never closed"),
            span(self.file, &(open.at..open.at + 1)),
            format!("no `{close}` belongs to this `{sign}`"),
        )
        .help(format!("add the missing `{close}`"));
        let search = self.found.diagnostics.len() < SEARCHES_MAX;
        self.found.diagnostics.push(match open.sign {
            _ if !search => diagnostic,
            b'(' | b'[' if list.is_none() => with_mark(self.file, self.lexer.source, open.at, close, diagnostic),
            _ => diagnostic.fix(span(self.file, &(end..end)), missing, Applicability::Maybe),
        });
    }

    fn mend_open(&mut self, open: Bracket, at: usize) {
        if open.sign == b'{' {
            self.found.insert.push((at, CLOSED));
        } else {
            self.found.fill.push(open.at..open.at + 1);
        }
    }

    fn closes_nothing(&mut self, close: Bracket) {
        self.found.unbalanced = true;
        let list = match close.sign {
            b')' => Some("("),
            b']' => Some("["),
            _ => None,
        };
        if list.is_some_and(|open| self.list_was_never_opened(close, open)) {
            return;
        }
        self.found.fill.push(close.at..close.at + 1);
        if self.found.diagnostics.len() >= MESSAGES_MAX {
            self.found.quiet.push(close.at);
            return;
        }
        if self.lexer.broken_lines.binary_search(&close.line).is_ok() {
            self.found.quiet.push(close.at);
            return;
        }
        let sign = char::from(close.sign);
        let place = span(self.file, &(close.at..close.at + 1));
        let diagnostic = Diagnostic::error(103, format!("`{sign}` closes nothing"), place, "nothing is open here");
        let open = match close.sign {
            b')' => "(",
            b']' => "[",
            _ => "{",
        };
        let opened = match self.found.diagnostics.len() < SEARCHES_MAX {
            true => with_mark(self.file, self.lexer.source, close.at, open, diagnostic.clone()),
            false => diagnostic.clone(),
        };
        self.found.diagnostics.push(match (close.sign, opened.fix.is_some()) {
            (b'}', _) | (_, false) => diagnostic
                .help(format!("delete this `{sign}`, or look above for the block that was closed too early"))
                .fix(place, "", Applicability::Maybe),
            _ => opened.help(format!("add the missing `{open}`, or delete this `{sign}`")),
        });
    }
}
