//! Virtual time for simulations and tests.

use async_trait::async_trait;
use muster_ports::{Clock, Timestamp};

/// A clock that follows tokio's. On a runtime whose time is paused
/// (`tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true)`, or `#[tokio::test(start_paused =
/// true)]`) time stands still while anything can run and jumps to the next sleeper when nothing can: hours pass in
/// microseconds, in the same order every time. On any other runtime it runs like the wall clock, from `start` on.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    start: Timestamp,
    origin: tokio::time::Instant,
}

impl VirtualClock {
    /// Must be made on the runtime it is used on.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, origin: tokio::time::Instant::now() }
    }
}

impl Default for VirtualClock {
    /// 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::starting_at(Timestamp(1_767_225_600_000))
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.start.plus(self.origin.elapsed())
    }
    async fn sleep_until(&self, due: Timestamp) {
        tokio::time::sleep_until(self.origin + due.since(self.start)).await;
    }
}
