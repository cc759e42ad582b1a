//! How hard to compress: as hard as the link to the store leaves time for.
//!
//! A shipment waits for two things: for frames to be packed, and for the store (or the policy's rate) to take them. When
//! it mostly waits for frames, the processors are the narrow place and the level falls; when it mostly waits for the
//! store, there is time to make less of it and the level rises. In between it stays, so that it does not swing.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Where an adaptive shipment begins, and the level of a policy that names none.
pub(crate) const LEVEL_FIRST: i32 = 3;
/// Levels it moves in: below, a link that fast is no bottleneck; above, each step costs twice the time for a percent.
pub(crate) const LEVELS: RangeInclusive<i32> = 1..=9;
/// Bytes of disk between two looks: long enough to even out a burst, short enough to matter for a first copy of 1 GiB.
const LOOK_BYTES: u64 = 32 << 20;
/// Share of the time spent waiting for one side from which on that side counts as the narrow place.
const NARROW: f64 = 0.5;
/// The other side is then idle to this share at least.
const IDLE: f64 = 0.1;

/// Watches one shipment.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    level: i32,
    /// The policy's own level stays as it is.
    adaptive: bool,
    bytes: u64,
    for_frames: Duration,
    for_store: Duration,
    since: Duration,
}

impl Level {
    /// `compression` is the policy's: a zstd level, or 0 for one that follows the link.
    pub(crate) fn new(compression: i32) -> Self {
        let adaptive = compression == 0;
        let level = if adaptive { LEVEL_FIRST } else { compression };
        let zero = Duration::ZERO;
        Self { level, adaptive, bytes: 0, for_frames: zero, for_store: zero, since: zero }
    }

    pub(crate) fn get(&self) -> i32 {
        self.level
    }

    /// `bytes` of disk have passed, after waiting so long for frames and so long for the store, `took` in all.
    pub(crate) fn passed(&mut self, bytes: u64, for_frames: Duration, for_store: Duration, took: Duration) {
        if !self.adaptive {
            return;
        }
        self.bytes += bytes;
        self.for_frames += for_frames;
        self.for_store += for_store;
        self.since += took;
        if self.bytes < LOOK_BYTES {
            return;
        }
        let share = |of: Duration| of.as_secs_f64() / self.since.as_secs_f64().max(f64::MIN_POSITIVE);
        let (frames, store) = (share(self.for_frames), share(self.for_store));
        let step = match () {
            () if frames > NARROW && store < IDLE => -1,
            () if store > NARROW && frames < IDLE => 1,
            () => 0,
        };
        self.level = (self.level + step).clamp(*LEVELS.start(), *LEVELS.end());
        let zero = Duration::ZERO;
        (self.bytes, self.for_frames, self.for_store, self.since) = (0, zero, zero, zero);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_level_follows_the_narrow_place() {
        let mut level = Level::new(0);
        assert_eq!(level.get(), LEVEL_FIRST);
        (0..4).for_each(|_| level.passed(LOOK_BYTES, SECOND, Duration::ZERO, SECOND));
        assert_eq!(level.get(), *LEVELS.start(), "a fast link: it falls, and not below the lowest");
        (0..20).for_each(|_| level.passed(LOOK_BYTES, Duration::ZERO, SECOND, SECOND));
        assert_eq!(level.get(), *LEVELS.end(), "a slow link: it rises, and not beyond the highest");
        (0..20).for_each(|_| level.passed(LOOK_BYTES, SECOND / 2, SECOND / 2, SECOND));
        assert_eq!(level.get(), *LEVELS.end(), "in balance it stays");
        level.passed(LOOK_BYTES - 1, SECOND, Duration::ZERO, SECOND);
        assert_eq!(level.get(), *LEVELS.end(), "a short while says nothing");
    }

    #[test]
    fn a_level_of_the_policy_stays() {
        let mut level = Level::new(7);
        (0..20).for_each(|_| level.passed(LOOK_BYTES, SECOND, Duration::ZERO, SECOND));
        assert_eq!(level.get(), 7);
    }
}
