//! "Did you mean": the nearest word by edit distance.

/// The candidate that `word` most likely stands for. At most two edits; one in words of up to four letters, none in shorter
/// than two, so that `db` is never offered for `web`.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    ranked(word, candidates).map(|(near, _)| near)
}

/// [`nearest`], when no other candidate is as near: a word out of a closed list may then be put in without looking.
pub fn only_nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    ranked(word, candidates).filter(|(_, alone)| *alone).map(|(near, _)| near)
}

/// The nearest, and whether it is the only one at its distance.
fn ranked<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<(&'c str, bool)> {
    let allowed = match word.chars().count() {
        0 | 1 => 0,
        2..=4 => 1,
        _ => 2,
    };
    let is_transposed = |candidate: &str| strsim::osa_distance(word, candidate) == 1;
    // Of two names as near the one with the same number is meant: `dc-1` and `dc-2` are two machines, `dc2-` is a slip.
    let other_number = |candidate: &str| {
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        digits(candidate) != digits(word)
    };
    let mut found: Vec<(usize, bool, &str)> = candidates
        .into_iter()
        .filter(|candidate| *candidate != word)
        .map(|candidate| (strsim::osa_distance(word, candidate), other_number(candidate), candidate))
        .filter(|(distance, _, candidate)| {
            *distance <= allowed
                && *distance > 0
                && (*distance * 2 <= candidate.chars().count() || is_transposed(candidate))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    let (distance, _, near) = found.first().copied()?;
    Some((near, found.get(1).is_none_or(|(other, _, _)| *other > distance)))
}

#[cfg(test)]
mod tests {
    use super::{nearest, only_nearest};

    #[test]
    fn offers_what_was_meant_and_nothing_far() {
        assert_eq!(nearest("strat", ["stop", "start", "stage"]), Some("start"));
        assert_eq!(nearest("sql-10", ["sql-01", "app-01"]), Some("sql-01"));
        assert_eq!(nearest("dc-2", ["dc-1", "dc2-"]), Some("dc2-"));
        assert_eq!(nearest("chekc", ["check", "create"]), Some("check"));
        assert_eq!(nearest("web", ["db", "app"]), None);
        assert_eq!(nearest("zzzz", ["start", "stop"]), None);
        assert_eq!(nearest("start", ["start"]), None, "a word is no correction of itself");
    }

    #[test]
    fn two_words_as_near_are_a_guess() {
        assert_eq!(nearest("sql-03", ["sql-01", "sql-02"]), Some("sql-01"));
        assert_eq!(only_nearest("sql-03", ["sql-01", "sql-02"]), None);
        assert_eq!(only_nearest("strat", ["start", "start", "state"]), Some("start"), "listed twice is one word");
    }
}
