//! A token bucket for bytes a second, with the hours of a week in it. It counts what is stored, after the fact: a frame
//! may overdraw, the next one waits.
//!
//! Shipments that share a name share one bucket and stand in one line, a frame at a time: however many disks travel, and
//! however large they are, each gets its turn after every other one.

use muster_ports::{Pace, PaceSpan};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Credit that may be saved up: a burst of this long at the full rate.
const BURST: Duration = Duration::from_millis(500);
/// One wait at most, so that a rate of a few bytes a second still shows signs of life.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The buckets of one process, by the name that shares them.
#[derive(Debug, Default)]
pub struct Pacers(Mutex<HashMap<String, Weak<Pacer>>>);

impl Pacers {
    /// The bucket of a pace; `None` when nothing limits it. The newest order says how fast.
    pub(crate) async fn pacer(&self, pace: &Pace) -> Option<Arc<Pacer>> {
        if pace.spans.iter().all(|span| span.bytes_per_second.is_none()) {
            return None;
        }
        let (known, pacer) = {
            let mut pacers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            pacers.retain(|_, pacer| pacer.strong_count() > 0);
            match pacers.get(&pace.shared_by).and_then(Weak::upgrade) {
                Some(pacer) => (true, pacer),
                None => {
                    let pacer = Arc::new(Pacer::new(&pace.spans));
                    pacers.insert(pace.shared_by.clone(), Arc::downgrade(&pacer));
                    (false, pacer)
                }
            }
        };
        if known {
            pacer.follow(&pace.spans);
        }
        Some(pacer)
    }
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct Pacer {
    week: Mutex<Week>,
    /// Who holds it waits; the others stand in line behind it, in the order they came.
    bucket: tokio::sync::Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    credit: f64,
    at: Instant,
}

/// The rates from `begin` on, over and over.
#[derive(Clone, Debug)]
struct Week {
    begin: Instant,
    spans: Vec<PaceSpan>,
}

impl Week {
    /// The rate at a moment, and until when it holds; `None` is for ever.
    fn at(&self, moment: Instant) -> (Option<u64>, Option<Instant>) {
        let only = self.spans.first().and_then(|span| span.bytes_per_second);
        let total: u64 = self.spans.iter().fold(0, |sum, span| sum.saturating_add(span.millis));
        if self.spans.len() < 2 || total == 0 {
            return (only, None);
        }
        let passed = u64::try_from(moment.saturating_duration_since(self.begin).as_millis()).unwrap_or(u64::MAX);
        let mut left = passed % total;
        for span in &self.spans {
            if left < span.millis {
                return (span.bytes_per_second, Some(moment + Duration::from_millis(span.millis - left)));
            }
            left -= span.millis;
        }
        (only, None)
    }
}

impl Pacer {
    fn new(spans: &[PaceSpan]) -> Self {
        let week = Week { begin: Instant::now(), spans: spans.to_vec() };
        let rate = week.at(week.begin).0.unwrap_or(0) as f64;
        let bucket = Bucket { credit: rate * BURST.as_secs_f64(), at: week.begin };
        Self { week: Mutex::new(week), bucket: tokio::sync::Mutex::new(bucket) }
    }

    #[cfg(test)]
    pub(crate) fn constant(bytes_per_second: u64) -> Self {
        Self::new(&[PaceSpan { millis: 0, bytes_per_second: Some(bytes_per_second) }])
    }

    fn follow(&self, spans: &[PaceSpan]) {
        let mut week = self.week.lock().unwrap_or_else(PoisonError::into_inner);
        *week = Week { begin: Instant::now(), spans: spans.to_vec() };
    }

    fn week(&self) -> Week {
        self.week.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes `bytes` and waits until the bucket is no longer overdrawn.
    pub(crate) async fn take(&self, bytes: u64) {
        let mut bucket = self.bucket.lock().await;
        bucket.credit -= bytes as f64;
        loop {
            let now = Instant::now();
            let week = self.week();
            bucket.earn(&week, now);
            if bucket.credit >= 0.0 {
                return;
            }
            let (rate, until) = week.at(now);
            let mut wait = WAIT_MAX;
            if let Some(rate) = rate.filter(|rate| *rate > 0) {
                wait = wait.min(Duration::from_secs_f64((-bucket.credit / rate as f64).min(WAIT_MAX.as_secs_f64())));
            }
            if let Some(until) = until {
                wait = wait.min(until.saturating_duration_since(now));
            }
            // A millisecond more than computed, so that rounding never makes a busy loop.
            tokio::time::sleep(wait + Duration::from_millis(1)).await;
        }
    }
}

impl Bucket {
    /// What was earned up to `now`, hour by hour.
    fn earn(&mut self, week: &Week, now: Instant) {
        while self.at < now {
            let (rate, until) = week.at(self.at);
            let end = until.map_or(now, |until| until.min(now));
            match rate {
                // No limit: debts are forgiven, and nothing is saved up for the hours that have one.
                None => self.credit = self.credit.max(0.0),
                Some(rate) => {
                    let earned = end.saturating_duration_since(self.at).as_secs_f64() * rate as f64;
                    self.credit = (self.credit + earned).min(rate as f64 * BURST.as_secs_f64());
                }
            }
            self.at = end;
        }
        if week.at(now).0.is_none() {
            self.credit = self.credit.max(0.0);
        }
    }
}
