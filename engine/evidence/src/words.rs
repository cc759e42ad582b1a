//! Times in words, and texts of others made harmless.

use muster_ports::Timestamp;

/// `2026-11-22T03:12:45Z`.
pub fn moment(at: Timestamp) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(|| at.0.to_string(), |moment| format!("{moment:.0}"))
}

/// `0.4s`, `48s`, `3m20s`, `2h05m00s`: a report rounds less than a screen.
pub fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..10 => format!("{}.{}s", seconds, millis % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m{:02}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// `2:50`, `1:02:50`: a place on the clock of the run.
pub fn clock(millis: u64) -> String {
    let seconds = millis / 1000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{rest:02}") } else { format!("{minutes}:{rest:02}") }
}

/// One line without characters that change what stands around them: controls, and marks that turn the direction of text.
fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        c if c.is_control() || turns(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// For the text of an element and the value of an attribute in quotes.
pub(crate) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// For a cell of a table or a line of a list: every character that CommonMark or its tables could read is escaped, and
/// what opens a tag is an entity, for readers that know no escapes.
pub(crate) fn markdown(text: &str) -> String {
    const READ: &str = "\\`*_{}[]()#!|~$^=\"'";
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if READ.contains(c) => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_the_size_that_fits() {
        assert_eq!([400, 48_200, 200_000, 7_500_000].map(span), ["0.4s", "48s", "3m20s", "2h05m00s"]);
        assert_eq!([0, 170_000, 3_770_000].map(clock), ["0:00", "2:50", "1:02:50"]);
        assert_eq!(moment(Timestamp(1_795_403_565_000)), "2026-11-23T03:12:45Z");
        assert_eq!(moment(Timestamp(u64::MAX)), u64::MAX.to_string());
    }

    #[test]
    fn no_text_leaves_its_place() {
        assert_eq!(
            html("<script>\"a\" & 'b'\n--></td>"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39; --&gt;&lt;/td&gt;"
        );
        assert_eq!(markdown("a|b `c`\n# <b>"), "a\\|b \\`c\\` \\# &lt;b&gt;");
        assert_eq!(html("\u{202e}gpj\u{7}"), "\u{fffd}gpj\u{fffd}");
    }
}
