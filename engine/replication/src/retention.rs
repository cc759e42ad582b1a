//! Which points are one too many where a policy lets them thin out. Pure.
//!
//! ```text
//!   age:   0 ........ retain_all ........ tier 1 ends ........ tier 2 ends = retain
//!   kept:  every point | one per `every` of tier 1 | one per `every` of tier 2 | none
//! ```
//!
//! Where the policy says how often a crash-consistent point is kept, one of them per that time is, beside the newest point.
//!
//! Periods are counted from the beginning of time, not from now: what was kept once stays its period's point as it
//! grows older, and a restart changes nothing.

use crate::records::Point;
use crate::recovery::PointKind;
use muster_ports::{PointId, Timestamp};
use muster_runsheet::PolicySheet;
use std::collections::{BTreeMap, BTreeSet};

/// Number of the tier (`None` before the first), and of the period in it.
type Period = (Option<usize>, u64);
/// The least one is kept: application-consistent before crash-consistent, early before late.
type Preference<'a> = (bool, Timestamp, &'a PointId);

/// Points that another one of the same period stands for. In each period an application-consistent point is kept before
/// a crash-consistent one, and an earlier one before a later one. Final points and named ones are no part of this: they
/// were asked for, and stay until they age out.
pub fn thinned_out(points: &[Point], policy: &PolicySheet, now: Timestamp) -> Vec<PointId> {
    let keep_all = policy.retain_all.unwrap_or(policy.retain).std();
    let regular = points.iter().map(|point| &point.summary);
    let regular = regular.filter(|point| matches!(point.kind, PointKind::Crash | PointKind::App));
    let mut periods: BTreeMap<Period, BTreeSet<Preference<'_>>> = BTreeMap::new();
    for point in regular {
        let age = now.since(point.at);
        let (number, every) = if age <= keep_all {
            let crash = policy.crash_every.filter(|_| point.kind == PointKind::Crash);
            let Some(every) = crash else { continue };
            (None, every)
        } else {
            let tier = policy.tiers.iter().enumerate().find(|(_, tier)| age <= tier.until.std());
            let Some((number, tier)) = tier else { continue };
            (Some(number), tier.every)
        };
        let every = u64::try_from(every.std().as_millis()).unwrap_or(u64::MAX).max(1);
        let period = periods.entry((number, point.at.as_millis() / every)).or_default();
        period.insert((point.kind != PointKind::App, point.at, &point.id));
    }
    periods.into_values().flat_map(|period| period.into_iter().skip(1)).map(|(_, _, id)| id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::PointSummary;
    use muster_ports::GroupName;
    use muster_runsheet::{Duration, InitialCopy, PolicyName, RetentionTier};
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;

    fn span(millis: u64) -> Duration {
        std::time::Duration::from_millis(millis).into()
    }

    fn point(at: u64, kind: PointKind) -> Point {
        let summary = PointSummary {
            id: PointId::new(format!("{at:012}")),
            group: GroupName::new("g"),
            at: Timestamp(at),
            kind,
            machines: Vec::new(),
        };
        Point { summary, barriers: Vec::new(), key: None, disks: Vec::new(), times: None }
    }

    /// As Azure Site Recovery thins: all for 2 h, 1 per hour for a day, per 2 h for a week, per 4 h for 15 days.
    fn policy() -> PolicySheet {
        let tier = |every: u64, until: u64| RetentionTier { every: Duration(every), until: Duration(until) };
        PolicySheet {
            name: PolicyName::new("asr"),
            rpo: span(5 * MINUTE),
            cycle: span(5 * MINUTE),
            app_every: Some(span(4 * HOUR)),
            retain: span(15 * DAY),
            bandwidth: None,
            bandwidth_windows: Vec::new(),
            change_log: None,
            compression: 3,
            continuous: false,
            crash_every: None,
            tiers: vec![tier(HOUR, DAY), tier(2 * HOUR, 7 * DAY), tier(4 * HOUR, 15 * DAY)],
            retain_all: Some(span(2 * HOUR)),
            encryption: None,
            resync_window: None,
            initial_copy: InitialCopy::Online,
        }
    }

    /// Points every five minutes, each fourth hour one of them application-consistent, looked at every ten.
    fn live(days: u64) -> (Vec<Point>, u64) {
        let policy = policy();
        let mut points: Vec<Point> = Vec::new();
        let mut now = 1_800_000_000_000 / DAY * DAY;
        let end = now + days * DAY;
        while now < end {
            let app = now % (4 * HOUR) == 25 * MINUTE;
            points.push(point(now, if app { PointKind::App } else { PointKind::Crash }));
            if now.is_multiple_of(10 * MINUTE) {
                let gone: BTreeSet<_> = thinned_out(&points, &policy, Timestamp(now)).into_iter().collect();
                points.retain(|point| {
                    !gone.contains(&point.summary.id) && now - point.summary.at.as_millis() <= 15 * DAY
                });
            }
            now += 5 * MINUTE;
        }
        let gone: BTreeSet<_> = thinned_out(&points, &policy, Timestamp(end)).into_iter().collect();
        points.retain(|point| !gone.contains(&point.summary.id));
        (points, end)
    }

    #[test]
    fn points_thin_out_as_in_azure_site_recovery() {
        let (points, now) = live(20);
        let of_age = |from: u64, to: u64| {
            points.iter().filter(|point| (from..to).contains(&(now - point.summary.at.as_millis()))).count()
        };
        assert_eq!(of_age(0, 2 * HOUR), 23, "all of two hours, but the one just due");
        // A period at the border of two tiers counts in both.
        assert!((21..=24).contains(&of_age(2 * HOUR, DAY)), "one an hour: {}", of_age(2 * HOUR, DAY));
        assert!((71..=74).contains(&of_age(DAY, 7 * DAY)), "one in two hours: {}", of_age(DAY, 7 * DAY));
        assert!((47..=50).contains(&of_age(7 * DAY, 15 * DAY)), "one in four hours: {}", of_age(7 * DAY, 15 * DAY));
        let app = |point: &&Point| point.summary.kind == PointKind::App;
        let old = points.iter().filter(|point| now - point.summary.at.as_millis() > 8 * DAY);
        assert!(old.clone().filter(app).count() * 2 > old.count(), "application-consistent ones are preferred");
    }

    #[test]
    fn what_was_asked_for_and_a_plain_policy_are_left_alone() {
        let now = Timestamp(1_800_000_000_000);
        let at = |minutes: u64| now.as_millis() - 5 * HOUR - minutes * MINUTE;
        let points = [
            point(at(0), PointKind::Named),
            point(at(1), PointKind::Final),
            point(at(2), PointKind::Crash),
            point(at(3), PointKind::Crash),
        ];
        let gone = thinned_out(&points, &policy(), now);
        assert!(gone.len() <= 1 && gone.iter().all(|id| *id == points[2].summary.id || *id == points[3].summary.id));
        let plain = PolicySheet { tiers: Vec::new(), retain_all: None, ..policy() };
        assert_eq!(thinned_out(&points, &plain, now), Vec::<PointId>::new());
    }

    #[test]
    fn crash_consistent_points_are_kept_as_often_as_the_policy_says() {
        let now = Timestamp(1_800_000_000_000 / HOUR * HOUR + 59 * MINUTE);
        let every_five = (0..12u64).map(|number| now.as_millis() - number * 5 * MINUTE);
        let kind = |at: u64| if at % HOUR / MINUTE == 34 { PointKind::App } else { PointKind::Crash };
        let points: Vec<Point> = every_five.map(|at| point(at, kind(at))).collect();
        let policy = PolicySheet { crash_every: Some(span(15 * MINUTE)), ..policy() };
        let gone: BTreeSet<_> = thinned_out(&points, &policy, now).into_iter().collect();
        let left = points.iter().map(|point| &point.summary).filter(|point| !gone.contains(&point.id));
        let mut left: Vec<_> = left.map(|point| (point.at.as_millis() % HOUR / MINUTE, point.kind)).collect();
        left.sort_unstable_by_key(|(minute, _)| *minute);
        // The first of each quarter of an hour; the application-consistent one is counted on its own.
        let crash = PointKind::Crash;
        assert_eq!(left, [(4, crash), (19, crash), (34, PointKind::App), (39, crash), (49, crash)]);
    }

    proptest! {
        #[test]
        fn every_period_that_had_a_point_keeps_one(ages in prop::collection::btree_set(0u64..16 * 24 * 60, 1..300)) {
            let (now, policy) = (Timestamp(1_800_000_000_000), policy());
            let points: Vec<Point> =
                ages.iter().map(|age| point(now.as_millis() - age * MINUTE, PointKind::Crash)).collect();
            let gone: BTreeSet<_> = thinned_out(&points, &policy, now).into_iter().collect();
            let left: Vec<Point> = points.iter().filter(|point| !gone.contains(&point.summary.id)).cloned().collect();
            prop_assert_eq!(thinned_out(&left, &policy, now), Vec::<PointId>::new(), "once is enough");
            for point in points.iter().filter(|point| gone.contains(&point.summary.id)) {
                let at = point.summary.at.as_millis();
                prop_assert!(now.as_millis() - at > 2 * HOUR);
                let near = |other: &Point| other.summary.at.as_millis().abs_diff(at) < 4 * HOUR;
                prop_assert!(left.iter().any(near), "nothing stands for a point of {}", at);
            }
        }
    }
}
