//! What the layout of lines tells about brackets and texts that have no partner.

use std::ops::Range;

/// A line that nothing is known of but its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Without its newline.
    pub(crate) range: Range<usize>,
    /// Columns before its first word.
    pub(crate) indent: usize,
}

impl Line {
    /// Where its code ends: before blanks, and before a comment behind it.
    pub(crate) fn code_end(&self, source: &str) -> usize {
        let text = source.get(self.range.clone()).unwrap_or("");
        let mut inside = false;
        let comment = text.char_indices().find(|(_, c)| {
            inside ^= *c == '"';
            *c == '#' && !inside
        });
        let code = comment.map_or(text, |(at, _)| &text[..at]);
        self.range.start + code.trim_end().len()
    }

    fn is_code(&self, source: &str) -> bool {
        self.code_end(source) > self.range.start + self.indent
    }
}

/// The line in which `at` lies.
pub(crate) fn line_at(source: &str, at: usize) -> Line {
    let at = at.min(source.len());
    let start = source.get(..at).and_then(|before| before.rfind(['\n', '\r'])).map_or(0, |end| end + 1);
    let end = source.get(at..).and_then(|after| after.find(['\n', '\r'])).map_or(source.len(), |length| at + length);
    let text = source.get(start..end).unwrap_or("");
    Line { range: start..end, indent: text.len() - text.trim_start().len() }
}

/// The lines above the one in which `at` lies, the nearest first.
fn above(source: &str, at: usize) -> impl Iterator<Item = Line> {
    let mut start = line_at(source, at).range.start;
    std::iter::from_fn(move || {
        let before = start.checked_sub(1)?;
        let line = line_at(source, before);
        start = line.range.start;
        Some(line)
    })
}

/// The lines below the one in which `at` lies.
fn below(source: &str, at: usize) -> impl Iterator<Item = Line> {
    let mut end = line_at(source, at).range.end;
    std::iter::from_fn(move || {
        let next = source.get(end..).filter(|rest| !rest.is_empty())?;
        let skip = if next.starts_with("\r\n") { 2 } else { 1 };
        let line = line_at(source, end + skip);
        end = line.range.end;
        (line.range.start <= source.len()).then_some(line)
    })
}

/// The line that should have opened the block which the `}` at `at` closes: the nearest above that stands in its column.
pub(crate) fn header_of(source: &str, at: usize, indent: usize) -> Option<Line> {
    let mut lines = above(source, at).filter(|line| line.is_code(source));
    // Without a line of its own there is no block.
    let first = lines.next().filter(|line| line.indent > indent)?;
    let line = above(source, first.range.start).find(|line| line.is_code(source) && line.indent <= indent)?;
    let code = source.get(line.range.start..line.code_end(source))?;
    (line.indent == indent && !code.trim_start().starts_with('}') && !code.ends_with(['{', '}'])).then_some(line)
}

/// Where a `}` for the block opened at `open` belongs, when its end was noticed at `noticed`; with the text to put in.
pub(crate) fn end_of_block(source: &str, open: usize, noticed: usize) -> (usize, String) {
    let opener = line_at(source, open);
    let code_end = opener.code_end(source);
    if code_end > open + 1 {
        return (code_end, " }".to_owned());
    }
    let indent = " ".repeat(opener.indent);
    let whole = noticed >= source.len() && !source.ends_with('\n');
    let last = if whole { source.len() } else { noticed };
    // Comments above what comes next belong to it.
    let code = above(source, last)
        .chain(std::iter::once(opener.clone()))
        .find(|line| line.range.start <= opener.range.start || line.is_code(source));
    match code.filter(|_| !whole) {
        Some(line) => (line.range.end, format!("\n{indent}}}")),
        None => (source.len(), format!("\n{indent}}}\n")),
    }
}

/// Words that go on with a step behind the `)` of its call.
const CLAUSE_WORDS: [&str; 7] = ["within", "usually", "retry", "else", "when", "as", "by"];

/// Where the partner of the `(` or `[` at `open` belongs, when its arguments stand on lines of their own: in front of the
/// line that goes on in the column of the first one, or behind the last argument. With what to put in.
pub(crate) fn end_of_list(source: &str, open: usize, close: char) -> Option<(usize, String)> {
    let opener = line_at(source, open);
    if opener.code_end(source) != open + 1 {
        return None;
    }
    let mut last = None;
    let mut lines = below(source, open).filter(|line| line.is_code(source));
    let next = lines.find(|line| {
        let is_argument = line.indent > opener.indent + 1;
        if is_argument {
            last = Some(line.clone());
        }
        !is_argument
    });
    let last = last?;
    let goes_on = |line: &Line| {
        let code = source.get(line.range.start + line.indent..line.range.end).unwrap_or("");
        let word = code.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or("");
        line.indent >= opener.indent && CLAUSE_WORDS.contains(&word)
    };
    Some(match next.filter(goes_on) {
        // What stood behind the mark has kept its column.
        Some(line) if line.indent > opener.indent => (line.range.start + opener.indent, close.to_string()),
        Some(line) => (line.range.start + line.indent, format!("{close} ")),
        None => (last.code_end(source), format!("\n{}{close}", " ".repeat(opener.indent))),
    })
}

/// The fact that should have begun the text block which ends at `at`: a line above that ends with `=`.
pub(crate) fn fact_without_value(source: &str, at: usize) -> Option<Line> {
    let indent = line_at(source, at).indent;
    let ends_with_equals = |line: &Line| {
        source.get(line.range.start..line.code_end(source)).is_some_and(|code| code.trim_end().ends_with('='))
    };
    above(source, at)
        .take_while(|line| !source.get(line.range.clone()).unwrap_or("").contains("\"\"\""))
        .find(|line| ends_with_equals(line) && line.indent <= indent)
}

/// Where a text block that was opened at `open` should have ended: in front of the first line left of its opener, in the
/// place of an empty line there.
pub(crate) fn end_of_text(source: &str, open: usize) -> Option<(Range<usize>, String)> {
    let opener = line_at(source, open);
    let left = below(source, open).find(|line| {
        let text = source.get(line.range.clone()).unwrap_or("");
        !text.trim().is_empty() && line.indent < opener.indent
    })?;
    let empty = above(source, left.range.start).next().filter(|line| {
        line.range.start > open && source.get(line.range.clone()).is_some_and(|text| text.trim().is_empty())
    });
    let start = empty.map_or(left.range.start, |line| line.range.start);
    Some((start..left.range.start, format!("{}\"\"\"\n", " ".repeat(opener.indent))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "plan p {\n  move = a -> b\n\n  stage s {   # why\n    start a\n  }\n}\n";

    #[test]
    fn the_column_of_a_brace_tells_its_partner() {
        let text = PLAN.replace("s {   #", "s     #");
        let close = text.find("  }").unwrap() + 2;
        let header = header_of(&text, close, 2).unwrap();
        assert_eq!(&text[header.range.start..header.code_end(&text)], "  stage s");
        assert_eq!(header_of(PLAN, PLAN.find("  }").unwrap() + 2, 2), None, "it is opened");
    }

    #[test]
    fn a_block_ends_behind_its_last_line() {
        let text = "policy a {\n  rpo = 5m\n\n## Next.\ngroup b { }\n";
        let (at, close) = end_of_block(text, 9, text.find("group").unwrap());
        assert_eq!((&text[..at], close.as_str()), ("policy a {\n  rpo = 5m", "\n}"));
        let text = "  when live { wait 5m   # x\n  }\n";
        let (at, close) = end_of_block(text, 12, text.len());
        assert_eq!((&text[..at], close.as_str()), ("  when live { wait 5m", " }"));
        let text = "plan p {\n  rto = 5m";
        assert_eq!(end_of_block(text, 7, text.len()), (text.len(), "\n}\n".to_owned()));
    }

    #[test]
    fn a_list_over_several_lines_ends_before_the_line_that_goes_on() {
        let mended = |text: &str, open: char, close: char| {
            let (at, missing) = end_of_list(text, text.find(open)?, close)?;
            Some(format!("{}{missing}{}", &text[..at], &text[at..]))
        };
        let call = "  run  f(\n    a = 1,\n    b = 2,   # why\n   within 5m\n  run g()\n";
        assert_eq!(mended(call, '(', ')').unwrap(), call.replace("   within", "  ) within"));
        let call = "  run  f(\n    a = 1,\n    b = 2,\n  run g()\n";
        assert_eq!(mended(call, '(', ')').unwrap(), call.replace("2,\n", "2,\n  )\n"));
        let list = "  machines = [\n    a,\n    b,\n\n}\n";
        assert_eq!(mended(list, '[', ']').unwrap(), list.replace("b,\n", "b,\n  ]\n"));
        assert_eq!(mended("  run f(a, b\n", '(', ')'), None, "it is on one line");
    }

    #[test]
    fn a_text_block_without_one_end_is_found_by_the_other() {
        let text = "hook h() {\n  body  = \n    a();\n  \"\"\"\n}\n";
        let fact = fact_without_value(text, text.find("\"\"\"").unwrap()).unwrap();
        assert_eq!(&text[fact.range.clone()], "  body  = ");
        let text = "hook h() {\n  body  = \"\"\"\n    a();\n}\nhook g() {\n";
        let (place, close) = end_of_text(text, text.find("\"\"\"").unwrap()).unwrap();
        assert_eq!((&text[place.start..], close.as_str()), ("}\nhook g() {\n", "  \"\"\"\n"));
    }
}
