//! Time that belongs to a runtime.

use async_trait::async_trait;
use muster_ports::{Clock, Hold, Timestamp};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A clock over the runtime's own time. In a runtime whose time is paused (`start_paused`), hours pass in moments: time
/// jumps to the next sleeper whenever nothing else can run. In an ordinary runtime it runs like any clock.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    origin: Instant,
    at: Timestamp,
}

impl VirtualClock {
    /// A clock that shows `at` now.
    pub fn starting_at(at: Timestamp) -> Self {
        Self { origin: Instant::now(), at }
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.at.plus(Instant::now().saturating_duration_since(self.origin))
    }
    async fn sleep_until(&self, due: Timestamp) {
        tokio::time::sleep(due.since(self.now())).await;
    }
    fn hold(&self) -> Option<Hold> {
        // A runtime whose time is paused does not jump ahead while blocking work is under way.
        let (release, released) = oneshot::channel::<()>();
        tokio::task::spawn_blocking(move || drop(released.blocking_recv()));
        Some(Hold::until_dropped(release))
    }
}
