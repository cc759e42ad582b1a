//! Stopping a hook from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// A token that ends a hook: seen inside every host call and every few script operations. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    wake: Notify,
}

impl Cancel {
    pub fn cancel(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.wake.notify_waiters();
    }
    pub fn is_cancelled(&self) -> bool {
        self.shared.stopped.load(Ordering::SeqCst)
    }
    /// Returns once cancelled.
    pub async fn cancelled(&self) {
        loop {
            let wake = self.shared.wake.notified();
            if self.is_cancelled() {
                return;
            }
            wake.await;
        }
    }
}

/// Cancels when dropped: a future that nobody polls any more must not leave a script running.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(pub(crate) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
