//! What policies promise, proved or refuted with what the inventory says the machines write.
//!
//! Nothing is concluded from what is not known: a machine that nobody has watched writes nothing here.

use crate::checks::Policies;
use crate::context::Context;
use crate::groups::GroupModel;
use crate::policies::{PolicyModel, RateFact};
use crate::windows::{InWindow, by_one_clock, check_overlaps};
use muster_diagnostics::Diagnostic;
use muster_runsheet::units::{DURATION_UNITS, RATE_UNITS};
use muster_runsheet::week::{Behind, Churn, Piece, Worst, pieces};
use muster_runsheet::window::clock;
use muster_runsheet::{Duration, MachineFacts, Rate, Size};
use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) fn check(cx: &Context<'_>, policies: &Policies) {
    let mut groups_of: BTreeMap<&str, Vec<&GroupModel>> = BTreeMap::new();
    for group in cx.groups.values() {
        if let Some(policy) = &group.policy {
            groups_of.entry(policy).or_default().push(group);
        }
    }
    for policy in policies.values().flatten() {
        let sound = check_cycle(cx, policy);
        check_retention(cx, policy);
        let windowed: Vec<InWindow<'_, Rate>> = policy
            .rates
            .iter()
            .filter_map(|fact| Some((fact, fact.window.as_ref()?)))
            .map(|(fact, (window, span))| InWindow { window, value: fact.rate, span: *span })
            .collect();
        let apart = check_overlaps(cx, "bandwidth", &windowed);
        if !sound || !apart {
            continue; // What follows would say the same mistake again in other figures.
        }
        for group in groups_of.get(policy.sheet.name.as_str()).into_iter().flatten() {
            check_group(cx, policy, group);
        }
    }
}

/// A promise shorter than the time between two cycles: E0401.
fn check_cycle(cx: &Context<'_>, policy: &PolicyModel) -> bool {
    let sheet = &policy.sheet;
    if sheet.continuous || sheet.rpo >= sheet.cycle {
        return true;
    }
    cx.push(
        Diagnostic::error(
            401,
            format!("policy `{}` cannot keep its {} promise", sheet.name, sheet.rpo),
            policy.rpo,
            "promised here",
        )
        .related(policy.cycle, format!("data leaves only every {}", sheet.cycle))
        .help(format!("replicate at least every {}, or promise {} or more", sheet.rpo, sheet.cycle)),
    );
    false
}

/// Points that are dropped before the next of their kind is made: E0406.
fn check_retention(cx: &Context<'_>, policy: &PolicyModel) {
    let sheet = &policy.sheet;
    let snapshots = [sheet.app_every.zip(policy.app), sheet.crash_every.zip(policy.crash)];
    for (every, span) in snapshots.into_iter().flatten().filter(|(every, _)| sheet.retain < *every) {
        cx.push(
            Diagnostic::error(
                406,
                format!("policy `{}` drops its snapshots before the next", sheet.name),
                span,
                format!("one every {every}"),
            )
            .note(format!("points are kept for {}", sheet.retain))
            .help(format!("retain at least {every}")),
        );
    }
}

/// One group against the bandwidth (E0402) and the room for changes at the source (E0407).
fn check_group(cx: &Context<'_>, policy: &PolicyModel, group: &GroupModel) {
    let machines: Vec<&MachineFacts> = group.machines.iter().filter_map(|(name, _)| facts_of(cx, name)).collect();
    let churn = machines.iter().fold(Churn::NONE, |sum, machine| sum.and(Churn::of(machine)));
    if churn.is_none() {
        return;
    }
    let weeks: Vec<Vec<Piece>> = Weeks::of(policy).settled(None);
    let worst = weeks
        .iter()
        .map(|week| Worst::of(&policy.sheet, churn, week))
        .max_by_key(|worst| (worst.is_endless(), worst.loss(&policy.sheet)))
        .unwrap_or_default();
    if worst.is_endless() || worst.loss(&policy.sheet) > policy.sheet.rpo {
        cx.push(refuted(policy, group, &machines, churn, &worst));
        return;
    }
    check_change_log(cx, policy, group, &worst);
}

fn facts_of<'a>(cx: &'a Context<'_>, machine: &str) -> Option<&'a MachineFacts> {
    let entry = cx.machines.get(machine)?;
    entry.at.get(entry.first_site()?)
}

/// The windows of a policy by one clock, for each season that makes a difference.
struct Weeks<'a> {
    policy: &'a PolicyModel,
    /// Those with a window, in their order.
    windowed: Vec<&'a RateFact>,
    seasons: Vec<Vec<Vec<Range<u32>>>>,
}

impl<'a> Weeks<'a> {
    fn of(policy: &'a PolicyModel) -> Self {
        let windowed: Vec<&RateFact> = policy.rates.iter().filter(|fact| fact.window.is_some()).collect();
        let sheets: Vec<_> =
            windowed.iter().filter_map(|fact| fact.window.as_ref().map(|(window, _)| window)).collect();
        let seasons = by_one_clock(&sheets);
        Self { policy, windowed, seasons }
    }

    /// The weeks, with one rate replaced: that of a window, or the plain one (`None` as its number).
    fn settled(&self, instead: Option<(Option<usize>, Rate)>) -> Vec<Vec<Piece>> {
        let rate = |window: Option<usize>, known: Option<Rate>| match instead {
            Some((other, rate)) if other == window => Some(rate),
            _ => known,
        };
        let week = |spans: &Vec<Vec<Range<u32>>>| {
            let windows: Vec<(Vec<Range<u32>>, Rate)> = spans
                .iter()
                .zip(&self.windowed)
                .enumerate()
                .map(|(index, (spans, fact))| (spans.clone(), rate(Some(index), Some(fact.rate)).unwrap_or(fact.rate)))
                .collect();
            pieces(&windows, rate(None, self.policy.sheet.bandwidth))
        };
        self.seasons.iter().map(week).collect()
    }
}

fn refuted(
    policy: &PolicyModel,
    group: &GroupModel,
    machines: &[&MachineFacts],
    churn: Churn,
    worst: &Worst,
) -> Diagnostic {
    let sheet = &policy.sheet;
    let mut diagnostic = Diagnostic::error(
        402,
        format!("policy `{}` cannot keep its {} promise for `{}`", sheet.name, sheet.rpo, group.name),
        policy.rpo,
        "promised here",
    );
    let windowed: Vec<&RateFact> = policy.rates.iter().filter(|fact| fact.window.is_some()).collect();
    let fact = match worst.window {
        Some(index) => windowed.get(index).copied(),
        None => policy.rates.iter().find(|fact| fact.window.is_none()),
    };
    if let (Some(fact), Some(rate)) = (fact, worst.rate) {
        diagnostic = diagnostic.related(fact.span, fits(rate, sheet.rpo));
    }
    diagnostic = diagnostic.note(format!("inventory.json: `{}` writes {}", group.name, written(machines, churn)));
    let name = fact.and_then(|fact| fact.window.as_ref()).map(|(window, _)| window.name.as_str());
    diagnostic = diagnostic.note(match &worst.behind {
        Some(Behind { more_each_week: Some(more), .. }) => {
            format!("the backlog never ends: each week leaves {} more than the last", human(*more))
        }
        Some(behind) => {
            let lasts = name.map_or_else(|| "this rate holds".to_owned(), |name| format!("`{name}` lasts"));
            format!(
                "the backlog grows for as long as {lasts}: {}, {} behind, on {}",
                human(behind.backlog),
                rough(behind.time),
                clock(behind.at)
            )
        }
        None => format!("a cycle and its transfer take {}", rough(worst.loss(&policy.sheet))),
    });
    diagnostic.help(advice(policy, churn, worst, name))
}

fn fits(rate: Rate, time: Duration) -> String {
    if rate.0 == 0 {
        return "nothing leaves while this holds".to_owned();
    }
    let bytes = u128::from(rate.0) * u128::from(time.0) / 8_000;
    format!("{} fit through this in {time}", human(Size(u64::try_from(bytes).unwrap_or(u64::MAX))))
}

/// `22.4 GB per 5m (p95, 30 days to 2027-03-02)`; a mean where nobody has watched.
fn written(machines: &[&MachineFacts], churn: Churn) -> String {
    let facts: Vec<_> =
        machines.iter().filter(|machine| !Churn::of(machine).is_none()).map(|machine| machine.churn.as_ref()).collect();
    match facts.first().copied().flatten() {
        Some(first) if facts.iter().all(|churn| churn.is_some_and(|churn| churn.interval == first.interval)) => {
            let days = facts.iter().flatten().map(|churn| churn.days).min().unwrap_or(0);
            let until = facts.iter().flatten().map(|churn| churn.until.as_str()).min().unwrap_or("");
            format!("{} per {} (p95, {days} days to {until})", human(churn.in_time(first.interval)), first.interval)
        }
        _ => format!("{} a second", human(churn.in_time(Duration::from_secs(1)))),
    }
}

/// The smallest rate that would do, and the promise that could be kept.
fn advice(policy: &PolicyModel, churn: Churn, worst: &Worst, window: Option<&str>) -> String {
    let weeks = Weeks::of(policy);
    let keeps = |rate: Rate| {
        weeks.settled(Some((worst.window, rate))).iter().all(|week| {
            let worst = Worst::of(&policy.sheet, churn, week);
            !worst.is_endless() && worst.loss(&policy.sheet) <= policy.sheet.rpo
        })
    };
    let rate = least(worst.rate.unwrap_or(Rate(0)), keeps).map(nice_rate);
    let rate = rate.map(|rate| match window {
        Some(window) => format!("give `{window}` {rate} or more"),
        None => format!("allow {rate} or more"),
    });
    let promise = (!worst.is_endless()).then(|| format!("promise {}", nice_duration(worst.loss(&policy.sheet))));
    let ways: Vec<String> = rate.into_iter().chain(promise).collect();
    match ways.as_slice() {
        [] => "allow more bandwidth: no single rate is the only one too small".to_owned(),
        ways => ways.join(", or "),
    }
}

/// The smallest rate above `from` for which `keeps` holds; `None` when even the fastest does not.
fn least(from: Rate, keeps: impl Fn(Rate) -> bool) -> Option<Rate> {
    /// 100 Tbit/s: nothing that carries a disk is faster.
    const FASTEST: u64 = 100_000_000_000_000;
    let (mut low, mut high) = (from.0, FASTEST);
    if !keeps(Rate(high)) {
        return None;
    }
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if keeps(Rate(middle)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(Rate(high))
}

/// What waits at the source must fit into its room there: E0407.
fn check_change_log(cx: &Context<'_>, policy: &PolicyModel, group: &GroupModel, worst: &Worst) {
    let Some((room, span)) = policy.sheet.change_log.zip(policy.change_log) else { return };
    let time = Duration(worst.lag().0.saturating_add(policy.sheet.cycle.0));
    let needs = |name: &str| Some(Churn::of(facts_of(cx, name)?).in_time(time));
    let largest =
        group.machines.iter().filter_map(|(name, _)| Some((name, needs(name)?))).max_by_key(|(_, size)| *size);
    let Some((machine, size)) = largest.filter(|(_, size)| *size > room) else { return };
    let mut diagnostic = Diagnostic::error(
        407,
        format!("the change log of policy `{}` is too small for `{machine}`", policy.sheet.name),
        span,
        "room for this much",
    );
    let windowed: Vec<&RateFact> = policy.rates.iter().filter(|fact| fact.window.is_some()).collect();
    if let Some(fact) = worst.window.and_then(|index| windowed.get(index)).filter(|_| worst.behind.is_some()) {
        diagnostic = diagnostic.related(fact.span, "what is written while this holds waits at the source");
    }
    cx.push(
        diagnostic
            .note(format!("`{machine}` writes {} in {}", human(size), rough(time)))
            .note("a change log that is full marks the disk for a resync")
            .help(format!("make room for {} or more, or let more leave in that time", nice_size(size))),
    );
}

/// Three digits and a unit: `22.4 GB`, `888 GB`.
fn human(size: Size) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    let Some((unit, bytes)) = UNITS.into_iter().find(|(_, bytes)| size.0 >= *bytes) else {
        return format!("{} B", size.0);
    };
    let thousandths = u128::from(size.0) * 1_000 / u128::from(bytes);
    match thousandths {
        100_000.. => format!("{} {unit}", thousandths / 1_000),
        10_000.. => format!("{}.{} {unit}", thousandths / 1_000, thousandths / 100 % 10),
        _ => format!("{}.{:02} {unit}", thousandths / 1_000, thousandths / 10 % 100),
    }
}

/// The two largest units: `3h18m`.
fn rough(time: Duration) -> String {
    let mut rest = time.0;
    let mut text = String::new();
    let mut parts = 0;
    for (unit, millis) in DURATION_UNITS.into_iter().filter(|(unit, _)| *unit != "w") {
        if rest >= millis && (parts > 0 || unit != "ms" || text.is_empty()) {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
            parts += 1;
        } else if parts > 0 {
            parts += 1;
        }
        if parts == 2 {
            break;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Rounded up to what people write: `3h18m40s` is `3h30m`.
fn nice_duration(time: Duration) -> Duration {
    const MINUTE: u64 = 60_000;
    let step = match time.0 {
        0..=60_000 => 5_000,
        60_001..=600_000 => MINUTE,
        600_001..=3_600_000 => 5 * MINUTE,
        3_600_001..=43_200_000 => 30 * MINUTE,
        43_200_001..=259_200_000 => 60 * MINUTE,
        _ => 1_440 * MINUTE,
    };
    Duration(time.0.div_ceil(step).saturating_mul(step))
}

/// Rounded up to two digits of a unit in bits: `597.3 Mbit/s` is `600Mbit/s`.
fn nice_rate(rate: Rate) -> Rate {
    let unit = RATE_UNITS.into_iter().take(4).find(|(_, bits)| rate.0 >= *bits).map_or(1, |(_, bits)| bits);
    Rate(two_digits(rate.0, unit))
}

fn nice_size(size: Size) -> Size {
    Size(two_digits(size.0, 1))
}

fn two_digits(value: u64, unit: u64) -> u64 {
    let mut step = unit;
    while value / step >= 100 {
        step = step.saturating_mul(10);
    }
    while value / step < 10 && step > 1 && step.is_multiple_of(10) {
        step /= 10;
    }
    value.div_ceil(step).saturating_mul(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_people_write_them() {
        for (bytes, text) in [
            (15_000_000_000, "15.0 GB"),
            (888_000_000_000, "888 GB"),
            (1_250_000, "1.25 MB"),
            (999, "999 B"),
            (0, "0 B"),
        ] {
            assert_eq!(human(Size(bytes)), text);
        }
        for (millis, text) in [
            (11_892_858, "3h18m"),
            (38_960, "38s960ms"),
            (90_000, "1m30s"),
            (0, "0s"),
            (86_400_000, "1d"),
            (86_460_000, "1d"),
        ] {
            assert_eq!(rough(Duration(millis)), text);
        }
    }

    #[test]
    fn advice_is_rounded_to_the_safe_side() {
        let duration = |text: &str| text.parse::<Duration>().unwrap();
        for (exact, nice) in
            [("3h18m43s", "3h30m"), ("38s960ms", "40s"), ("61s", "2m"), ("13h1m", "14h"), ("4d", "4d"), ("5m", "5m")]
        {
            assert_eq!(nice_duration(duration(exact)), duration(nice), "{exact}");
        }
        assert_eq!(nice_rate(Rate(597_333_334)).to_string(), "600Mbit/s");
        assert_eq!(nice_rate(Rate(1_234_567)).to_string(), "1300kbit/s");
        assert_eq!(nice_rate(Rate(7)).to_string(), "7bit/s");
        assert_eq!(least(Rate(10), |rate| rate.0 >= 1_234), Some(Rate(1_234)));
        assert_eq!(least(Rate(10), |_| false), None);
    }
}
