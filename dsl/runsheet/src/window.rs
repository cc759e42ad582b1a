//! Windows of the week: spans of local time in which something holds.
//!
//! Pure: which minutes of a week a window covers. What the clock says in its zone is the caller's business.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Minutes of a week; minute 0 is Monday, 00:00.
pub const WEEK_MINUTES: u32 = 7 * DAY_MINUTES;
const DAY_MINUTES: u32 = 24 * 60;
/// Days as they are written, Monday first.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `window office = mon-fri 08:00-18:00 Europe/Amsterdam`, its parts as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSheet {
    pub name: String,
    /// `mon-fri`, `sat,sun`, `fri-mon`.
    pub days: String,
    /// `08:00-18:00`; `22:00-06:00` ends on the day after.
    pub hours: String,
    /// A zone of the IANA database.
    pub zone: String,
}

/// The numbers of the days that a text names, in the order of the week; `None` when a word is no day.
pub fn days_of(text: &str) -> Option<Vec<u32>> {
    let mut named = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |word: &str| DAYS.iter().position(|day| *day == word);
        let (mut day, last) = (number(first)?, number(last)?);
        named[last] = true;
        while day != last {
            named[day] = true;
            day = (day + 1) % 7;
        }
    }
    Some((0..7u32).filter(|day| named[*day as usize]).collect())
}

/// Beginning and end of a span of a day in minutes; an end before the beginning is on the next day.
pub fn hours_of(text: &str) -> Option<(u32, u32)> {
    let minutes = |clock: &str| {
        let (hour, minute) = clock.split_once(':')?;
        let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
        let minutes = hour.checked_mul(60)?.checked_add(minute)?;
        (minute < 60 && minutes <= DAY_MINUTES).then_some(minutes)
    };
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minutes(from)?, minutes(to)?);
    (from != to && from < DAY_MINUTES).then_some((from, to))
}

impl WindowSheet {
    /// The minutes of a week it covers, in its own zone; sorted, none touches another. `None` when a part is unreadable.
    pub fn minutes(&self) -> Option<Vec<Range<u32>>> {
        let (from, to) = hours_of(&self.hours)?;
        let length = if to > from { to - from } else { to + DAY_MINUTES - from };
        let mut spans: Vec<Range<u32>> = Vec::new();
        for day in days_of(&self.days)? {
            let start = day * DAY_MINUTES + from;
            let end = start + length;
            spans.push(start..end.min(WEEK_MINUTES));
            if end > WEEK_MINUTES {
                spans.push(0..end - WEEK_MINUTES);
            }
        }
        spans.sort_by_key(|span| span.start);
        let mut joined: Vec<Range<u32>> = Vec::new();
        for span in spans {
            match joined.last_mut() {
                Some(last) if last.end >= span.start => last.end = last.end.max(span.end),
                _ => joined.push(span),
            }
        }
        Some(joined)
    }

    /// Whether it is open in this minute of its own week.
    pub fn covers(&self, minute: u32) -> bool {
        self.minutes().is_some_and(|spans| spans.iter().any(|span| span.contains(&minute)))
    }
}

/// `Monday 08:00` for a minute of the week.
pub fn clock(minute: u32) -> String {
    const NAMES: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let minute = minute % WEEK_MINUTES;
    let day = NAMES[(minute / DAY_MINUTES) as usize];
    format!("{day} {:02}:{:02}", minute % DAY_MINUTES / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &str, hours: &str) -> WindowSheet {
        WindowSheet { name: "w".into(), days: days.into(), hours: hours.into(), zone: "Europe/Amsterdam".into() }
    }

    #[test]
    fn windows_cover_minutes_of_the_week() {
        assert_eq!(window("mon-tue", "08:00-18:00").minutes(), Some(vec![480..1080, 1920..2520]));
        let night = window("sun", "22:00-06:00");
        assert_eq!(night.minutes(), Some(vec![0..360, 9_960..10_080]));
        assert!(night.covers(0) && !night.covers(360) && night.covers(10_079));
        assert_eq!(window("fri-mon", "00:00-24:00").minutes(), Some(vec![0..1440, 5760..10_080]));
        assert_eq!(window("sat,sun", "23:00-01:00").minutes().unwrap().iter().map(Range::len).sum::<usize>(), 240);
    }

    #[test]
    fn what_is_no_window_covers_nothing() {
        for (days, hours) in [
            ("mo", "08:00-18:00"),
            ("mon", "8-18"),
            ("mon", "18:00-18:00"),
            ("mon", "08:61-18:00"),
            ("mon", "25:00-26:00"),
            ("", "08:00-09:00"),
        ] {
            assert_eq!(window(days, hours).minutes(), None, "{days} {hours}");
        }
        assert_eq!(clock(480), "Monday 08:00");
        assert_eq!(clock(WEEK_MINUTES + 5 * 1440 + 61), "Saturday 01:01");
    }
}
