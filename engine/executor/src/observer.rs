//! Who watches a run: the live table, the console, a test.

use muster_journal::{Record, RunState};
use muster_ports::{Progress, StepId};
use std::sync::Arc;

/// Called by whoever wrote the record, once it is durable and before the next one is written. Must not block.
pub trait RunObserver: Send + Sync + std::fmt::Debug {
    /// One durable record, and the state after the batch it came in.
    fn recorded(&self, record: &Record, state: &RunState);
    /// Bytes of long work of a step.
    fn progress(&self, _step: &StepId, _done: u64, _total: Option<u64>) {}
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl RunObserver for Unwatched {
    fn recorded(&self, _record: &Record, _state: &RunState) {}
}

/// Progress of one step on its way to the observer.
pub(crate) struct StepProgress {
    pub(crate) step: StepId,
    pub(crate) observer: Arc<dyn RunObserver>,
}

impl Progress for StepProgress {
    fn report(&self, done: u64, total: Option<u64>) {
        self.observer.progress(&self.step, done, total);
    }
}
