//! What is written against what may leave, over a week: exact, by the pieces in which both are constant.
//!
//! ```text
//! backlog(end) = max(0, backlog(start) + (written - leaving) x length)
//! ```
//!
//! All sums are of whole numbers: bits are scaled by the denominator of the rate of writing, so nothing is rounded before
//! the answer is.

use crate::estate::PolicySheet;
use crate::inventory::{ChurnFacts, MachineFacts};
use crate::units::{Duration, Rate, Size};
use crate::window::WEEK_MINUTES;
use std::ops::Range;

const MINUTE_MILLIS: u128 = 60_000;
/// Intervals longer than this together are rounded to whole bits a second, upwards.
const DENOMINATOR_MAX: u128 = 1 << 40;

/// Bits in each `millis`: a rate of writing, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Churn {
    bits: u128,
    millis: u128,
}

impl Churn {
    /// Nothing is written, or nobody knows of any.
    pub const NONE: Self = Self { bits: 0, millis: 1 };

    /// What the inventory knows of a machine: its busy hours, else its mean.
    pub fn of(machine: &MachineFacts) -> Self {
        match &machine.churn {
            Some(ChurnFacts { interval, p95, .. }) if interval.0 > 0 => {
                Self { bits: u128::from(p95.0) * 8, millis: u128::from(interval.0) }
            }
            _ => Self { bits: u128::from(machine.churn_bytes_per_second) * 8, millis: 1_000 },
        }
    }

    /// Whether nothing is known to be written.
    pub fn is_none(self) -> bool {
        self.bits == 0
    }

    /// Both together, exactly.
    pub fn and(self, other: Self) -> Self {
        let millis = self.millis / gcd(self.millis, other.millis) * other.millis;
        if millis > DENOMINATOR_MAX {
            let bits = self.bits_per_second() + other.bits_per_second();
            return Self { bits, millis: 1_000 };
        }
        Self { bits: self.bits * (millis / self.millis) + other.bits * (millis / other.millis), millis }
    }

    /// Rounded up.
    fn bits_per_second(self) -> u128 {
        (self.bits * 1_000).div_ceil(self.millis)
    }
    /// What is written in this time, rounded up.
    pub fn in_time(self, time: Duration) -> Size {
        Size(saturated(self.bits.saturating_mul(u128::from(time.0)).div_ceil(self.millis * 8)))
    }
    /// How long it takes to send through `rate` what is written in `time`; `None` when nothing passes.
    pub fn transfer(self, time: Duration, rate: Rate) -> Option<Duration> {
        let bits = self.bits.checked_mul(u128::from(time.0))?.checked_mul(1_000)?;
        let through = u128::from(rate.0).checked_mul(self.millis)?;
        (through > 0).then(|| Duration(saturated(bits.div_ceil(through))))
    }
    /// Whether more is written than `rate` carries.
    pub fn outruns(self, rate: Rate) -> bool {
        self.bits.saturating_mul(1_000) > u128::from(rate.0).saturating_mul(self.millis)
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

fn saturated(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// A piece of the week in which one rate holds; `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub minutes: Range<u32>,
    pub rate: Option<Rate>,
    /// Which of the windows it is; `None` outside of all.
    pub window: Option<usize>,
}

/// The week cut at the ends of its windows; windows that say different things do not overlap.
pub fn pieces(windows: &[(Vec<Range<u32>>, Rate)], otherwise: Option<Rate>) -> Vec<Piece> {
    let mut cuts: Vec<u32> = vec![0, WEEK_MINUTES];
    cuts.extend(windows.iter().flat_map(|(spans, _)| spans).flat_map(|span| [span.start, span.end]));
    cuts.sort_unstable();
    cuts.dedup();
    let piece = |ends: &[u32]| {
        let open = windows.iter().position(|(spans, _)| spans.iter().any(|span| span.contains(&ends[0])));
        let rate = open.map_or(otherwise, |index| Some(windows[index].1));
        Piece { minutes: ends[0]..ends[1], rate, window: open }
    };
    cuts.windows(2).map(piece).collect()
}

/// How far behind a week leaves its replicas at worst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    pub backlog: Size,
    /// The age of what leaves when the backlog is largest.
    pub time: Duration,
    /// The end of the piece that let it grow so large, as a minute of the week; and the piece.
    pub at: u32,
    pub piece: usize,
    /// It never ends: each week leaves this much more than the last.
    pub more_each_week: Option<Size>,
}

/// The backlog of a settled week; `None` when there never is one.
pub fn behind(churn: Churn, pieces: &[Piece]) -> Option<Behind> {
    // Bits x 1000 x millis: whole numbers all the way.
    let scale = churn.millis.saturating_mul(1_000);
    let over = |start: u128, piece: &Piece| {
        let length = u128::from(piece.minutes.end - piece.minutes.start) * MINUTE_MILLIS;
        let written = churn.bits.saturating_mul(1_000).saturating_mul(length);
        match piece.rate {
            None => 0,
            Some(rate) => {
                let left = u128::from(rate.0).saturating_mul(churn.millis).saturating_mul(length);
                start.saturating_add(written).saturating_sub(left)
            }
        }
    };
    let first = pieces.iter().fold(0, over);
    let (mut backlog, mut worst) = (first, (0, 0, 0));
    for (index, piece) in pieces.iter().enumerate() {
        backlog = over(backlog, piece);
        // It is largest at the end of a piece that let it grow.
        if backlog > worst.0 && piece.rate.is_some_and(|rate| churn.outruns(rate)) {
            worst = (backlog, piece.minutes.end, index);
        }
    }
    let (largest, at, piece) = worst;
    (largest > 0).then(|| Behind {
        backlog: Size(saturated(largest.div_ceil(scale.saturating_mul(8)))),
        time: Duration(saturated(largest.div_ceil(churn.bits.saturating_mul(1_000).max(1)))),
        at,
        piece,
        more_each_week: (backlog > first).then(|| Size(saturated((backlog - first).div_ceil(scale.saturating_mul(8))))),
    })
}

/// The worst that a week does to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worst {
    pub behind: Option<Behind>,
    /// The piece of the week it is in, or the slowest one that keeps up.
    pub window: Option<usize>,
    pub rate: Option<Rate>,
    /// How long the data of one cycle is on its way where nothing waits.
    pub transfer: Duration,
}

impl Worst {
    pub fn of(policy: &PolicySheet, churn: Churn, week: &[Piece]) -> Self {
        let slowest = week
            .iter()
            .filter(|piece| piece.rate.is_some_and(|rate| rate.0 > 0 && !churn.outruns(rate)))
            .min_by_key(|piece| piece.rate);
        let transfer = slowest.and_then(|piece| churn.transfer(policy.cycle, piece.rate?)).unwrap_or_default();
        let behind = behind(churn, week);
        let piece = behind.as_ref().and_then(|behind| week.get(behind.piece)).or(slowest);
        Self {
            behind,
            window: piece.and_then(|piece| piece.window),
            rate: piece.and_then(|piece| piece.rate),
            transfer,
        }
    }
    /// Each week leaves more behind than the last.
    pub fn is_endless(&self) -> bool {
        self.behind.as_ref().is_some_and(|behind| behind.more_each_week.is_some())
    }
    /// How long data waits before it leaves.
    pub fn lag(&self) -> Duration {
        self.behind.as_ref().map_or(Duration::ZERO, |behind| behind.time)
    }
    /// A cycle, what it takes to send it, and what waits before it.
    pub fn loss(&self, policy: &PolicySheet) -> Duration {
        let cycle = if policy.continuous { Duration::ZERO } else { policy.cycle };
        Duration(cycle.0.saturating_add(self.transfer.0).saturating_add(self.lag().0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn churn(p95: &str, interval: &str) -> Churn {
        Churn {
            bits: u128::from(p95.parse::<Size>().unwrap().0) * 8,
            millis: u128::from(interval.parse::<Duration>().unwrap().0),
        }
    }

    fn office(rate: &str, otherwise: Option<&str>) -> Vec<Piece> {
        let spans = (0..5).map(|day| day * 1440 + 480..day * 1440 + 1080).collect();
        pieces(&[(spans, rate.parse().unwrap())], otherwise.map(|rate| rate.parse().unwrap()))
    }

    #[test]
    fn the_sample_of_the_language_is_exact() {
        let churn = churn("22400MB", "5m");
        let behind = behind(churn, &office("400Mbit/s", Some("2Gbit/s"))).unwrap();
        // (22.4 GB / 5 min - 50 MB/s) x 10 h
        assert_eq!(behind.backlog, Size(888_000_000_000));
        assert_eq!(behind.time.0, 888_000_000_000u64 * 300_000 / 22_400_000_000 + 1, "3h18m12s and a part, rounded up");
        assert_eq!((behind.at, behind.more_each_week), (1080, None));
        assert_eq!(churn.transfer(Duration::from_secs(30), "2Gbit/s".parse().unwrap()), Some(Duration(8_960)));
    }

    #[test]
    fn what_never_leaves_grows_every_week() {
        let churn = churn("1MB", "1s");
        let behind = behind(churn, &pieces(&[], Some("4Mbit/s".parse().unwrap()))).unwrap();
        assert_eq!(behind.more_each_week, Some(Size(604_800 * 500_000)));
        assert_eq!(super::behind(churn, &pieces(&[], Some("8Mbit/s".parse().unwrap()))), None);
        assert_eq!(super::behind(churn, &pieces(&[], None)), None);
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "a window has one span or several")]
    fn a_backlog_runs_over_the_end_of_the_week() {
        // Closed on Sunday evening, slow on Monday: what Sunday left is still there.
        let closed = (vec![10_020..10_080], Rate(0));
        let slow = (vec![0..60], "8Mbit/s".parse().unwrap());
        let churn = churn("1MB", "1s");
        let behind = behind(churn, &pieces(&[closed, slow], Some("80Mbit/s".parse().unwrap()))).unwrap();
        assert_eq!(behind.backlog, Size(3_600 * 1_000_000));
        assert_eq!(behind.time, Duration::from_mins(60));
        assert_eq!((behind.at, behind.piece), (10_080, 2), "it stays as large on Monday, but Sunday made it so");
    }

    #[test]
    fn rates_of_different_intervals_are_added_exactly() {
        let sum = churn("1MB", "3s").and(churn("1MB", "7s"));
        assert_eq!(sum, Churn { bits: 8_000_000 * 10, millis: 21_000 });
        assert_eq!(sum.in_time(Duration::from_secs(21)), Size(10_000_000));
        assert!(sum.outruns(Rate(3_809_523)) && !sum.outruns(Rate(3_809_524)));
        assert!(Churn::NONE.and(sum) == Churn { bits: 80_000_000, millis: 21_000 } && Churn::NONE.is_none());
    }
}
