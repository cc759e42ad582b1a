//! "Did you mean": the nearest word by edit distance.

/// The candidate that `word` most likely stands for. At most two edits; one in words of up to four letters, none in shorter
/// than two, so that `db` is never offered for `web`.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let allowed = match word.chars().count() {
        0 | 1 => 0,
        2..=4 => 1,
        _ => 2,
    };
    let is_transposed = |candidate: &str| strsim::osa_distance(word, candidate) == 1;
    candidates
        .into_iter()
        .filter(|candidate| *candidate != word)
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= allowed
                && *distance > 0
                && (*distance * 2 <= candidate.chars().count() || is_transposed(candidate))
        })
        .min_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn offers_what_was_meant_and_nothing_far() {
        assert_eq!(nearest("strat", ["stop", "start", "stage"]), Some("start"));
        assert_eq!(nearest("sql-10", ["sql-01", "app-01"]), Some("sql-01"));
        assert_eq!(nearest("chekc", ["check", "create"]), Some("check"));
        assert_eq!(nearest("web", ["db", "app"]), None);
        assert_eq!(nearest("zzzz", ["start", "stop"]), None);
        assert_eq!(nearest("start", ["start"]), None, "a word is no correction of itself");
    }
}
