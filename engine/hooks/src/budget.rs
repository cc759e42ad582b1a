//! What one attempt may use, and what it has used.

use crate::limits::{HOST_CALLS_MAX, JOURNAL_BYTES_MAX, OPERATIONS_MAX};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The limits that a trial may tighten, to see how a hook ends that runs into one. Nothing raises them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Of the interpreter, see [`OPERATIONS_MAX`].
    pub operations: u64,
    /// Replayed ones included, see [`HOST_CALLS_MAX`].
    pub host_calls: u32,
    /// See [`JOURNAL_BYTES_MAX`].
    pub journal_bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { operations: OPERATIONS_MAX, host_calls: HOST_CALLS_MAX, journal_bytes: JOURNAL_BYTES_MAX as u64 }
    }
}

impl Budget {
    /// At least one operation, since the interpreter takes zero for no limit, and never more than the default.
    pub(crate) fn within_limits(self) -> Self {
        let most = Self::default();
        Self {
            operations: self.operations.clamp(1, most.operations),
            host_calls: self.host_calls.min(most.host_calls),
            journal_bytes: self.journal_bytes.min(most.journal_bytes),
        }
    }
}

/// What attempts use, counted while they run. The host starts counting anew with each attempt.
#[derive(Debug, Default)]
pub struct Meter {
    operations: AtomicU64,
    host_calls: AtomicU32,
    journal_bytes: AtomicU64,
}

impl Meter {
    /// What the newest attempt has used so far.
    pub fn used(&self) -> Budget {
        Budget {
            operations: self.operations.load(Ordering::SeqCst),
            host_calls: self.host_calls.load(Ordering::SeqCst),
            journal_bytes: self.journal_bytes.load(Ordering::SeqCst),
        }
    }

    pub(crate) fn begin(&self) {
        self.operations.store(0, Ordering::SeqCst);
        self.host_calls.store(0, Ordering::SeqCst);
        self.journal_bytes.store(0, Ordering::SeqCst);
    }

    pub(crate) fn operations(&self, so_far: u64) {
        // Many millions of times a second: no order with anything else is needed.
        self.operations.store(so_far, Ordering::Relaxed);
    }

    pub(crate) fn called(&self) {
        self.host_calls.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn journaled(&self, bytes: u64) {
        self.journal_bytes.fetch_add(bytes, Ordering::SeqCst);
    }
}
