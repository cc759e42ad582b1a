//! The nearest known word to an unknown one.

/// Beyond this many edits a suggestion is a guess that misleads.
const EDITS_MAX: usize = 2;

/// The candidate closest to `word`, at most [`EDITS_MAX`] edits away and less than the word is long.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= EDITS_MAX && *edits < word.len().max(candidate.len()).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// `a`, `b` and `c`, in backticks.
pub(crate) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_and_refuses_the_far() {
        assert_eq!(nearest("sql-10", ["sql-01", "web-01"]), Some("sql-01"));
        assert_eq!(nearest("nonsense", ["sql-01", "web-01"]), None);
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
