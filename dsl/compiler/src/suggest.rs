//! Words for help lines: the nearest known word, lists.

pub(crate) use muster_diagnostics::nearest;
use muster_diagnostics::{Applicability, only_nearest};

/// Of a correction out of a closed list, words of the language: certain when no other of them is as near. Names of the
/// user are never certain, since another one may be meant.
pub(crate) fn certainty<'c>(word: &str, closed: &'c [&'c str]) -> Applicability {
    match only_nearest(word, closed.iter().copied()) {
        Some(_) => Applicability::Certain,
        None => Applicability::Maybe,
    }
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
    fn lists_read_as_a_sentence() {
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed([]), "nothing");
    }
}
