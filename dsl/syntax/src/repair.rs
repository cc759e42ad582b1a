//! The one edit that makes a line readable, found by trying: a word of the language put in place of one that is nearly it,
//! a word or a mark put in where one is missing, a word taken out.
//!
//! It knows nothing about names: whether `db` is a machine is not asked here. A line in which two edits would be needed
//! has no repair.

use crate::explain::{Place, VERBS};
use crate::grammar::{Rule, is_readable};
use muster_diagnostics::only_nearest;
use std::ops::Range;

/// Bytes of a line that are tried. People write lines of a hundred.
const LINE_BYTES_MAX: usize = 2_000;
/// Bytes of a block inside a line that are kept: what is in a block does not matter for the line that opens it.
const BLOCK_BYTES_MAX: usize = 200;
/// Edits that are tried for one line.
const TRIALS_MAX: usize = 600;
/// Words of a line in front of which something is put on trial.
const TOKENS_MAX: usize = 12;

/// Words that can be missing or misspelt in the middle of a line, the more common ones first.
const INNER_WORDS: [&str; 38] = [
    "within",
    "when",
    "after",
    "every",
    "each",
    "by",
    "as",
    "at",
    "like",
    "test",
    "isolated",
    "else",
    "pause",
    "continue",
    "undo",
    "retry",
    "usually",
    "from",
    "in turn",
    "in",
    "turn",
    "back",
    "for",
    "resolver",
    "list",
    "fails",
    "times",
    "answered",
    "yes",
    "no",
    "unreachable",
    "before",
    "never",
    "error",
    "engine",
    "crashes",
    "step",
    "seed",
];
/// A name that is no word of the language.
const ANY_NAME: &str = "zz";
const MARKS: [&str; 15] = ["=", ",", "->", "<->", ":", "(", ")", "()", "[", "]", "{", "}", "\"", ".", "\"\"\""];

/// An edit of a line; places are bytes of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repair {
    pub(crate) at: Range<usize>,
    pub(crate) replacement: String,
    /// No other edit of its kind makes the line readable.
    pub(crate) certain: bool,
}

impl Repair {
    /// The words of a help line.
    pub(crate) fn words(&self, line: &str) -> String {
        let was = line.get(self.at.clone()).unwrap_or("").trim();
        let now = self.replacement.trim();
        if now.starts_with(';') && now.len() > 1 {
            return "part them with `;`".to_owned();
        }
        match (was.is_empty(), now.is_empty()) {
            (true, _) => format!("add the missing `{now}`"),
            (_, true) => format!("delete `{was}`"),
            _ => format!("did you mean `{now}`?"),
        }
    }
}

/// The edit that makes `line` readable at this place; `from` is how far it can be read as it is.
pub(crate) fn repair(place: Place, line: &str, from: usize) -> Option<Repair> {
    let mut trials =
        Trials { rules: std::slice::from_ref(place.rule_of_one()), line, head: head(line)?, left: TRIALS_MAX };
    let tokens = tokens(&trials.head);
    let failing = tokens.iter().position(|token| token.end > from).unwrap_or(tokens.len());
    let near: Vec<usize> = [failing, failing.wrapping_sub(1), 0].into_iter().filter(|at| *at < tokens.len()).collect();
    // Where any name finishes the line, a value is missing: nobody but the writer knows which.
    let end = trials.head.trim_end().len();
    if failing == tokens.len() && trials.reads(end..end, &format!(" {ANY_NAME}")) {
        return None;
    }
    trials
        .part(&tokens)
        .or_else(|| trials.join(&tokens, &near))
        .or_else(|| trials.replace(&tokens, &near, place))
        .or_else(|| trials.replace_mark(&tokens))
        .or_else(|| trials.begin(&tokens, place))
        .or_else(|| trials.insert(&tokens, failing, inner_of(place, line)))
        .or_else(|| trials.quote(from))
        .or_else(|| trials.bare_addresses())
        .or_else(|| trials.remove(&tokens, &near))
}

/// Where a missing mark belongs in a line: the first place at which the line can be read with it, as any kind of line.
pub(crate) fn place_of_mark(line: &str, mark: &str) -> Option<Repair> {
    const RULES: [Rule; 7] = [
        Rule::one_body,
        Rule::one_fact,
        Rule::one_plan,
        Rule::one_site,
        Rule::one_route,
        Rule::one_test,
        Rule::one_top,
    ];
    let mut trials = Trials { rules: &RULES, line, head: head(line)?, left: TRIALS_MAX };
    let closes = ["\"", ")", "]", "}"].contains(&mark);
    let ends = |token: &Range<usize>| if closes { token.end } else { token.start };
    let mut places: Vec<usize> = tokens(&trials.head).iter().map(ends).collect();
    if mark == "\"" {
        // The text that is not finished is one token; its end may be at any word of it.
        let inside = |c: char| c.is_whitespace() || ")]},(".contains(c);
        places.extend(tokens(&trials.head).iter().map(|token| token.start));
        places.extend(trials.head.char_indices().filter(|(_, c)| inside(*c)).map(|(at, _)| at));
    }
    places.push(trials.head.trim_end().len());
    places.sort_unstable();
    places.dedup();
    // What closes does so as late as it can, what opens as early.
    let mut found: Vec<usize> = Vec::new();
    for place in places {
        if trials.reads(place..place, mark) {
            found.push(place);
        }
    }
    let at = *if closes { found.last() } else { found.first() }?;
    let replacement = match (mark, line.get(..at).is_some_and(|before| before.ends_with(' '))) {
        ("{", true) => "{ ".to_owned(),
        ("{", false) => " {".to_owned(),
        (mark, _) => mark.to_owned(),
    };
    Some(Repair { at: at..at, replacement, certain: found.len() == 1 })
}

struct Trials<'l> {
    rules: &'l [Rule],
    line: &'l str,
    /// The line with its long blocks emptied; equal to the line up to the first of them.
    head: String,
    left: usize,
}

impl Trials<'_> {
    fn reads(&mut self, at: Range<usize>, replacement: &str) -> bool {
        // Behind the first emptied block places are no longer those of the line.
        let same = self.head.get(..at.end).is_some_and(|head| self.line.get(..at.end) == Some(head));
        if !same || self.left == 0 {
            return false;
        }
        self.left -= 1;
        let mut text = self.head.clone();
        text.replace_range(at, replacement);
        balanced(&text) && self.rules.iter().any(|rule| is_readable(*rule, &text))
    }

    /// Quotes around what reading stopped in: an address with a port, a path.
    fn quote(&mut self, from: usize) -> Option<Repair> {
        let ends = |c: char| c.is_whitespace() || "\"(){}[],=#".contains(c);
        let start = self.head.get(..from)?.rfind(ends).map_or(0, |at| at + 1);
        let end = self.head.get(from..)?.find(ends).map_or(self.head.len(), |length| from + length);
        let quoted = format!("\"{}\"", self.head.get(start..end).filter(|text| !text.is_empty())?);
        self.reads(start..end, &quoted).then_some(Repair { at: start..end, replacement: quoted, certain: false })
    }

    /// Several facts or steps that nothing parts.
    fn part(&mut self, tokens: &[Range<usize>]) -> Option<Repair> {
        if self.head != self.line {
            return None;
        }
        let mut ends: Vec<usize> = Vec::new();
        let mut start = 0;
        let mut tried = tokens;
        while !self.is_one(start..self.head.len()) {
            let next = tried.iter().enumerate().skip(1).find_map(|(index, token)| {
                let end = tried.get(index - 1)?.end;
                let starts_line = self.head.get(token.clone())?.starts_with(is_word);
                (starts_line && self.is_one(start..end) && self.could_begin(token)).then_some((index, end))
            });
            let (index, end) = next?;
            ends.push(end);
            tried = tried.get(index..)?;
            start = tried.first()?.start;
        }
        let (first, last) = (*ends.first()?, *ends.last()?);
        let mut replacement = self.head.get(first..last)?.to_owned();
        for end in ends.iter().rev() {
            replacement.insert(end - first, ';');
        }
        Some(Repair { at: first..last, replacement, certain: true })
    }

    fn is_one(&mut self, at: Range<usize>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let Some(text) = self.head.get(at) else { return false };
        balanced(text) && self.rules.iter().any(|rule| is_readable(*rule, text))
    }

    /// Whether a line of its own could begin with this word.
    fn could_begin(&self, token: &Range<usize>) -> bool {
        let rest = self.head.get(token.end..).unwrap_or("").trim_start();
        let is_fact = rest.starts_with('=') && !rest.starts_with("==");
        is_fact || self.head.get(token.clone()).is_some_and(|word| VERBS.contains(&word))
    }

    /// `[2001:db8::10]` is written so where a port follows, and nowhere else.
    fn bare_addresses(&mut self) -> Option<Repair> {
        let begin = self.head.find('[')?;
        let end = self.head.rfind(']')? + 1;
        let inside = self.head.get(begin..end).filter(|text| text.contains("::") || text.matches(':').count() >= 7)?;
        let replacement = inside.replace(['[', ']'], "");
        self.reads(begin..end, &replacement).then_some(Repair { at: begin..end, replacement, certain: true })
    }

    /// A number and its unit that a blank has parted.
    fn join(&mut self, tokens: &[Range<usize>], near: &[usize]) -> Option<Repair> {
        for index in near.iter().filter(|index| **index > 0) {
            let (number, unit) = (tokens.get(*index - 1)?.clone(), tokens.get(*index)?.clone());
            let is_number = self.head.get(number.clone())?.chars().all(|c| c.is_ascii_digit() || c == '.');
            let is_unit = self.head.get(unit.clone())?.starts_with(|c: char| c.is_ascii_alphabetic() || c == '%');
            let gap = number.end..unit.start;
            if is_number && is_unit && !gap.is_empty() && self.reads(gap, "") {
                let replacement = self.head.get(number.start..number.end)?.to_owned() + self.head.get(unit.clone())?;
                return Some(Repair { at: number.start..unit.end, replacement, certain: true });
            }
        }
        None
    }

    /// A mark that is like another one.
    fn replace_mark(&mut self, tokens: &[Range<usize>]) -> Option<Repair> {
        const ALIKE: [(&str, &[&str]); 5] =
            [("->", &["<->"]), ("<->", &["->"]), (":", &["="]), ("=", &[":", "=="]), ("==", &["="])];
        // Where reading stopped is not always the mark that is wrong.
        for (index, at) in tokens.iter().take(TOKENS_MAX).cloned().enumerate() {
            let mark = self.head.get(at.clone())?.to_owned();
            let alike = ALIKE.iter().find(|(known, _)| *known == mark).map_or(&[][..], |(_, alike)| alike);
            if let Some(meant) = alike.iter().find(|meant| self.reads(at.clone(), meant)) {
                let before =
                    index.checked_sub(1).and_then(|index| tokens.get(index)).map_or(at.start, |token| token.end);
                // `a = b`, but `a: b`.
                let (start, replacement) = match *meant {
                    ":" => (before, ":".to_owned()),
                    "=" if before == at.start => (at.start, " =".to_owned()),
                    meant => (at.start, meant.to_owned()),
                };
                return Some(Repair { at: start..at.end, replacement, certain: true });
            }
        }
        None
    }

    /// A word that is nearly one of the language.
    fn replace(&mut self, tokens: &[Range<usize>], near: &[usize], place: Place) -> Option<Repair> {
        for index in near {
            let at = tokens.get(*index)?.clone();
            let word = self.head.get(at.clone()).unwrap_or("").to_owned();
            if !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
                continue;
            }
            let words = if *index == 0 { place.words() } else { INNER_WORDS.to_vec() };
            let known = || words.iter().copied();
            let lower = word.to_ascii_lowercase();
            let meant =
                only_nearest(&lower, known()).or_else(|| known().find(|known| *known == lower && lower != word));
            if lower != word && self.reads(at.clone(), &lower) {
                // A name in capitals; a word of the language is found below as well, and is certain.
                let certain = known().any(|known| known == lower);
                return Some(Repair { at, replacement: lower, certain });
            }
            if let Some(meant) = meant.filter(|meant| self.reads(at.clone(), meant)) {
                return Some(Repair { at, replacement: meant.to_owned(), certain: true });
            }
        }
        None
    }

    /// The word a line begins with. Facts have names of which many would do: none of them is guessed.
    fn begin(&mut self, tokens: &[Range<usize>], place: Place) -> Option<Repair> {
        let at = tokens.first()?.start;
        let words: Vec<&str> = match place {
            Place::Facts => Vec::new(),
            Place::Plan => vec!["move", "stage"],
            Place::Site => vec!["network"],
            Place::Route => vec!["resolver"],
            Place::File | Place::Body | Place::Test => place.words(),
        };
        let found: Vec<&str> = words.into_iter().filter(|word| self.reads(at..at, &format!("{word} "))).collect();
        let first = found.first()?;
        Some(Repair { at: at..at, replacement: format!("{first} "), certain: found.len() == 1 })
    }

    /// A word or a mark in front of the token at which reading stops, of the one before, or of another one.
    fn insert(
        &mut self,
        tokens: &[Range<usize>],
        failing: usize,
        (words, marks): (&[&str], &[&str]),
    ) -> Option<Repair> {
        // Where reading stopped is not always where something is missing.
        let first = [Some(failing), failing.checked_sub(1)].into_iter().flatten();
        let rest = (1..tokens.len().min(TOKENS_MAX)).filter(|index| *index != failing && *index + 1 != failing);
        for index in first.chain(rest) {
            let end = self.head.trim_end().len();
            let at = tokens.get(index).map_or(end, |token| token.start);
            let before = index.checked_sub(1).and_then(|index| tokens.get(index)).map_or(0, |token| token.end);
            let mut found: Vec<(usize, String)> = Vec::new();
            for mark in marks {
                // `a, b` and `f(` stand close to what is before them.
                let (at, text) = match *mark {
                    "," | ":" => (before, (*mark).to_owned()),
                    "(" | "()" | ")" | "]" | "." | "[" | "\"" | "\"\"\"" => (at, (*mark).to_owned()),
                    mark => (at, format!("{mark} ")),
                };
                if self.reads(at..at, &text) {
                    found.push((at, text));
                }
            }
            for word in words {
                let text = if at >= end { format!(" {word}") } else { format!("{word} ") };
                if self.reads(at..at, &text) {
                    found.push((at, text));
                }
            }
            if let Some((at, replacement)) = found.first().cloned() {
                return Some(Repair { at: at..at, replacement, certain: found.len() == 1 });
            }
        }
        None
    }

    fn remove(&mut self, tokens: &[Range<usize>], near: &[usize]) -> Option<Repair> {
        for index in near.iter().filter(|index| **index > 0) {
            let at = tokens.get(*index)?.clone();
            let start = tokens.get(*index - 1)?.end;
            // What touches the word before it may be a part of it.
            if start == at.start {
                continue;
            }
            if self.reads(start..at.end, "") {
                return Some(Repair { at: start..at.end, replacement: String::new(), certain: false });
            }
        }
        None
    }
}

/// Words and marks that may be missing inside this line, the likelier ones first.
fn inner_of(place: Place, line: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match place {
        Place::Plan if line.starts_with("move") => (&["back"], &["->", "="]),
        Place::Route => (&INNER_WORDS, &["<->", "=", "\"", "\"\"\""]),
        _ => (&INNER_WORDS, &MARKS),
    }
}

/// The line with the contents of long blocks left out, when it is short enough to be tried.
fn head(line: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = line;
    while let Some(open) = rest.find('{') {
        let Some(close) = closing(&rest[open..]) else { break };
        out.push_str(&rest[..=open]);
        let inside = &rest[open + 1..open + close];
        out.push_str(if inside.len() > BLOCK_BYTES_MAX { "\n" } else { inside });
        out.push('}');
        rest = &rest[open + close + 1..];
    }
    out.push_str(rest);
    (out.len() <= LINE_BYTES_MAX).then_some(out)
}

/// The offset of the `}` that belongs to the `{` at the beginning.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for token in tokens(text) {
        match text.get(token.clone()) {
            Some("{") => depth += 1,
            Some("}") => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(token.start);
                }
            }
            _ => {}
        }
    }
    None
}

/// Every bracket has its partner; the grammar relies on that.
fn balanced(text: &str) -> bool {
    let mut open = Vec::new();
    for token in tokens(text) {
        match text.get(token) {
            Some("(") => open.push(")"),
            Some("[") => open.push("]"),
            Some("{") => open.push("}"),
            Some(close @ (")" | "]" | "}")) if open.pop() != Some(close) => return false,
            Some(text) if text.starts_with('"') && (text.len() < 2 || !text.ends_with('"')) => return false,
            _ => {}
        }
    }
    open.is_empty()
}

/// Words, texts and marks; comments and blanks are between them.
fn tokens(text: &str) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = &text[at..];
        let length = match c {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '#' => {
                at += rest.find(['\n', '\r']).unwrap_or(rest.len());
                continue;
            }
            '"' => text_length(rest),
            '-' if rest.starts_with("->") => 2,
            c if is_word(c) => {
                let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                // `hq->dr` is two names.
                rest.find("->").filter(|arrow| *arrow < end).unwrap_or(end).max(1)
            }
            _ => ["<->", "->", "==", "!=", "<=", ">="]
                .iter()
                .find(|mark| rest.starts_with(**mark))
                .map_or(c.len_utf8(), |mark| mark.len()),
        };
        tokens.push(at..at + length);
        at += length;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '@' | '%')
}

/// Of a text with its quotes; an unfinished one ends with its line.
fn text_length(rest: &str) -> usize {
    if let Some(body) = rest.strip_prefix("\"\"\"") {
        return body.find("\"\"\"").map_or(rest.len(), |length| length + 6);
    }
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '\n' | '\r' => return at,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::readable_length;

    fn mended(place: Place, line: &str) -> Option<(String, bool)> {
        let from = readable_length(*place.rule_of_one(), line);
        let found = repair(place, line, from)?;
        let mut text = line.to_owned();
        text.replace_range(found.at, &found.replacement);
        Some((text, found.certain))
    }

    #[test]
    fn one_edit_makes_a_line_readable() {
        for (place, wrong, right) in [
            (Place::Body, "strat db within 5m", "start db within 5m"),
            (Place::Body, "start db wihtin 5m", "start db within 5m"),
            (Place::Body, "start db 5m", "start db within 5m"),
            (Place::Body, "db guest() within 4m", "check db guest() within 4m"),
            (Place::Plan, "move = hq dr", "move = hq -> dr"),
            (Place::Plan, "rto = 15 m", "rto = 15m"),
            (Place::Facts, "cpus = 4 memory = 8GiB disks = [\"os\"]", "cpus = 4; memory = 8GiB; disks = [\"os\"]"),
            (
                Place::Body,
                "start db within 5m check db guest() within 4m",
                "start db within 5m; check db guest() within 4m",
            ),
            (Place::Route, "[2001:db8::10] <-> [2001:db8:60::9]", "2001:db8::10 <-> 2001:db8:60::9"),
            (Place::Body, "start db within 1 h", "start db within 1h"),
            (Place::Plan, "move = hq <-> dr", "move = hq -> dr"),
            (Place::Route, "data -> data test isolated", "data <-> data test isolated"),
            (Place::Facts, "rpo: 5m", "rpo = 5m"),
            (Place::Site, "provider = qemu(10.0.0.1:7300)", "provider = qemu(\"10.0.0.1:7300\")"),
            (Place::Route, "vault = s3://dr-vault/shop", "vault = \"s3://dr-vault/shop\""),
            (Place::File, "hook h(app = machine) {\n  needs = []\n}", "hook h(app: machine) {\n  needs = []\n}"),
            (Place::Test, "expect status = done", "expect status == done"),
            (Place::Plan, "= hq -> dr", "move = hq -> dr"),
            (Place::Plan, "stage web database {\n}", "stage web after database {\n}"),
            (Place::Facts, "rpo 5m", "rpo = 5m"),
            (Place::Facts, "machines = [db app]", "machines = [db, app]"),
            (Place::Facts, "replicate = evrey 10s", "replicate = every 10s"),
            (Place::Route, "data data test isolated", "data <-> data test isolated"),
            (Place::File, "hook h(app machine) {\n  needs = []\n}", "hook h(app: machine) {\n  needs = []\n}"),
            (Place::Body, "approve \"ok?\" anyone within 5m", "approve \"ok?\" by anyone within 5m"),
        ] {
            assert_eq!(mended(place, wrong).map(|(text, _)| text).as_deref(), Some(right), "{wrong}");
        }
    }

    #[test]
    fn what_two_words_could_mean_is_not_certain() {
        assert_eq!(mended(Place::Body, "start db 5m"), Some(("start db within 5m".to_owned(), false)));
        assert_eq!(mended(Place::Plan, "move = hq dr").map(|(_, certain)| certain), Some(true));
        assert_eq!(mended(Place::Body, "start db 5m 5m 5m 5m"), None, "two edits are no repair");
    }

    #[test]
    fn marks_find_their_place() {
        for (line, mark, right) in [
            ("check app http(\":8080/ready) within 2m", "\"", "check app http(\":8080/ready\") within 2m"),
            ("approve \"Send {target}? by anyone within 5m", "\"", "approve \"Send {target}?\" by anyone within 5m"),
            ("members = [\"a@example.com]", "\"", "members = [\"a@example.com\"]"),
            ("check db guest( within 4m", ")", "check db guest() within 4m"),
            ("check db guest) within 4m", "(", "check db guest() within 4m"),
            ("machines = [db, app", "]", "machines = [db, app]"),
            ("policy gold rpo = 5m }", "{", "policy gold { rpo = 5m }"),
        ] {
            let found = place_of_mark(line, mark).unwrap_or_else(|| panic!("{line}"));
            let mut text = line.to_owned();
            text.replace_range(found.at, &found.replacement);
            assert_eq!(text.replace("  ", " "), right);
        }
    }

    #[test]
    fn long_lines_are_left_alone() {
        let line = format!("strat {}", "a, ".repeat(LINE_BYTES_MAX));
        assert_eq!(mended(Place::Body, &line), None);
    }
}
