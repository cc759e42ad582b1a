//! A token bucket for bytes a second. It counts what is stored, after the fact: a frame may overdraw, the next one waits.

use std::time::Duration;
use tokio::time::Instant;

/// Credit that may be saved up: a burst of this long at the full rate.
const BURST: Duration = Duration::from_millis(500);
/// One wait at most, so that a rate of a few bytes a second still shows signs of life.
const WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct RateLimit {
    bytes_per_second: f64,
    credit: f64,
    at: Instant,
}

impl RateLimit {
    /// `None` or 0 is unlimited.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Option<Self> {
        let rate = bytes_per_second.filter(|rate| *rate > 0)? as f64;
        Some(Self { bytes_per_second: rate, credit: rate * BURST.as_secs_f64(), at: Instant::now() })
    }

    /// Takes `bytes` and waits until the bucket is no longer overdrawn.
    pub(crate) async fn take(&mut self, bytes: u64) {
        self.credit -= bytes as f64;
        loop {
            let now = Instant::now();
            let earned = now.duration_since(self.at).as_secs_f64() * self.bytes_per_second;
            self.at = now;
            self.credit = (self.credit + earned).min(self.bytes_per_second * BURST.as_secs_f64());
            if self.credit >= 0.0 {
                return;
            }
            let due = Duration::from_secs_f64((-self.credit / self.bytes_per_second).min(WAIT_MAX.as_secs_f64()));
            // A millisecond more than computed, so that rounding never makes a busy loop.
            tokio::time::sleep(due + Duration::from_millis(1)).await;
        }
    }
}
