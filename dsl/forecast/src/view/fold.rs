//! Lines that stay within a width.

/// Columns a terminal is sure to have on a projector in a crisis room.
pub(crate) const WIDTH: usize = 100;

pub(crate) fn width(text: &str) -> usize {
    text.chars().count()
}

/// Breaks at blanks into lines of at most `columns`; a word that is longer is cut. Blanks that do not break become blanks.
pub(crate) fn fold(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(8);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word;
        loop {
            let last = lines.last().map_or(0, |line| width(line));
            let gap = usize::from(last > 0);
            if last + gap + width(word) <= columns {
                if let Some(line) = lines.last_mut() {
                    line.push_str(if gap > 0 { " " } else { "" });
                    line.push_str(word);
                }
                break;
            }
            if last > 0 {
                lines.push(String::new());
                continue;
            }
            let cut = word.char_indices().nth(columns).map_or(word.len(), |(at, _)| at);
            let (head, tail) = word.split_at(cut);
            if let Some(line) = lines.last_mut() {
                line.push_str(head);
            }
            lines.push(String::new());
            word = tail;
        }
    }
    lines.into_iter().map(|line| line.replace('\u{a0}', " ")).collect()
}

/// A head and a text behind it that is folded below itself.
pub(crate) fn hang(head: &str, text: &str) -> String {
    let indent = width(head);
    let lines = fold(text, WIDTH.saturating_sub(indent));
    let mut out = String::new();
    for (number, line) in lines.iter().enumerate() {
        let before = if number == 0 { head.to_owned() } else { " ".repeat(indent) };
        out.push_str(format!("{before}{line}").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks_and_long_words_are_cut() {
        assert_eq!(fold("start db, app and web", 10), ["start db,", "app and", "web"]);
        assert_eq!(fold("a abcdefghijklmnop", 8), ["a", "abcdefgh", "ijklmnop"]);
        assert_eq!(fold("", 10), [""]);
        assert_eq!(hang("x: ", "1 2"), "x: 1 2\n");
    }
}
