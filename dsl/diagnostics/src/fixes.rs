//! Fixes put into texts: all of one file at once, or none of them.
//!
//! Pure: who writes the file, and how, is not decided here.

use crate::diagnostic::{Applicability, Diagnostic, Fix};
use crate::source::FileId;
use std::collections::BTreeMap;

/// Two fixes want the same place; the text is left as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The one further up in the text.
    pub first: Fix,
    /// The one that reaches into it.
    pub second: Fix,
}

/// The fixes that may be applied without looking, by file, in the order of the text, each once.
pub fn certain(diagnostics: &[Diagnostic]) -> BTreeMap<FileId, Vec<Fix>> {
    let mut files: BTreeMap<FileId, Vec<Fix>> = BTreeMap::new();
    let fixes = diagnostics.iter().filter_map(|diagnostic| diagnostic.fix.as_ref());
    for fix in fixes.filter(|fix| fix.applicability == Applicability::Certain) {
        files.entry(fix.span.file).or_default().push(fix.clone());
    }
    for fixes in files.values_mut() {
        fixes.sort_by(|a, b| (a.span, &a.replacement).cmp(&(b.span, &b.replacement)));
        fixes.dedup();
    }
    files
}

/// The text with every fix in it. The fixes are those of one file; a fix outside the text changes nothing.
///
/// Two different fixes of one place, or one that reaches into another, spoil each other: nothing is changed then.
pub fn apply(text: &str, fixes: &[Fix]) -> Result<String, Box<Overlap>> {
    let mut fixes: Vec<&Fix> = fixes.iter().collect();
    fixes.sort_by(|a, b| (a.span, &a.replacement).cmp(&(b.span, &b.replacement)));
    fixes.dedup();
    if let Some(pair) = fixes.windows(2).find(|pair| meet(pair[0], pair[1])) {
        return Err(Box::new(Overlap { first: pair[0].clone(), second: pair[1].clone() }));
    }
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for fix in fixes {
        let (start, end) = (fix.span.start as usize, fix.span.end as usize);
        let (Some(before), Some(_)) = (text.get(from..start), text.get(start..end)) else { continue };
        out.push_str(before);
        out.push_str(&fix.replacement);
        from = end;
    }
    out.push_str(text.get(from..).unwrap_or(""));
    Ok(out)
}

/// Of two fixes in the order of the text.
fn meet(first: &Fix, second: &Fix) -> bool {
    second.span.start < first.span.end || second.span.start == first.span.start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;

    fn fix(start: u32, end: u32, replacement: &str) -> Fix {
        let span = Span::new(FileId(0), start, end);
        Fix { span, replacement: replacement.to_owned(), applicability: Applicability::Certain }
    }

    #[test]
    fn all_fixes_of_a_text_are_applied_at_once() {
        let text = "strat db\nchekc db\n";
        let fixes = [fix(9, 14, "check"), fix(0, 5, "start"), fix(0, 5, "start")];
        assert_eq!(apply(text, &fixes).as_deref(), Ok("start db\ncheck db\n"));
        assert_eq!(apply(text, &[fix(0, 0, "edition 2026\n")]).as_deref(), Ok("edition 2026\nstrat db\nchekc db\n"));
        assert_eq!(apply("é", &[fix(0, 2, ""), fix(2, 2, "e")]).as_deref(), Ok("e"), "one behind the other");
    }

    #[test]
    fn fixes_that_meet_change_nothing() {
        for (a, b) in [((0, 5, "x"), (4, 6, "y")), ((3, 3, "x"), (3, 3, "y")), ((3, 3, "x"), (3, 5, "y"))] {
            let overlap = apply("0123456789", &[fix(b.0, b.1, b.2), fix(a.0, a.1, a.2)]).unwrap_err();
            assert_eq!((overlap.first, overlap.second), (fix(a.0, a.1, a.2), fix(b.0, b.1, b.2)));
        }
    }

    #[test]
    fn a_fix_beside_the_text_or_inside_a_character_is_left_out() {
        assert_eq!(apply("ab", &[fix(5, 6, "x")]).as_deref(), Ok("ab"));
        assert_eq!(apply("é", &[fix(1, 2, "x")]).as_deref(), Ok("é"));
    }

    #[test]
    fn only_certain_fixes_are_for_machines() {
        let with = |start: u32, applicability| {
            let span = Span::new(FileId(1), start, start + 1);
            Diagnostic::error(101, "wrong", span, "here").fix(span, "x", applicability)
        };
        let diagnostics =
            [with(4, Applicability::Certain), with(2, Applicability::Maybe), with(0, Applicability::Certain)];
        let files = certain(&diagnostics);
        let starts: Vec<u32> = files[&FileId(1)].iter().map(|fix| fix.span.start).collect();
        assert_eq!((files.len(), starts), (1, vec![0, 4]));
    }
}
