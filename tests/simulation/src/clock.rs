//! The engine's own clock, which somebody sets.

use async_trait::async_trait;
use muster_ports::{Clock, Hold, Timestamp};
use std::sync::Arc;
use tokio::sync::watch;

/// Runs like the clock of the sites, and is put forward or back now and then. Whoever sleeps on it wakes by what it shows.
#[derive(Clone, Debug)]
pub struct Wobbly {
    inner: Arc<dyn Clock>,
    ahead_millis: Arc<watch::Sender<i64>>,
}

impl Wobbly {
    pub fn over(inner: Arc<dyn Clock>) -> Self {
        Self { inner, ahead_millis: Arc::new(watch::Sender::new(0)) }
    }
    pub fn jump(&self, millis: i64) {
        self.ahead_millis.send_modify(|ahead| *ahead += millis);
    }
    fn shown(&self, ahead: i64) -> Timestamp {
        Timestamp(self.inner.now().0.saturating_add_signed(ahead))
    }
}

#[async_trait]
impl Clock for Wobbly {
    fn now(&self) -> Timestamp {
        self.shown(*self.ahead_millis.borrow())
    }
    async fn sleep_until(&self, due: Timestamp) {
        let mut ahead = self.ahead_millis.subscribe();
        loop {
            let now = self.shown(*ahead.borrow_and_update());
            if now >= due {
                return;
            }
            tokio::select! {
                () = self.inner.sleep(due.since(now)) => {}
                _ = ahead.changed() => {}
            }
        }
    }
    fn hold(&self) -> Option<Hold> {
        self.inner.hold()
    }
}
