//! What went wrong in a run, counted where it happened: a fault that is never drawn tests nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts of one run, shared by everything that disturbs it.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<&'static str, u64>>>);

/// Every kind of trouble there is.
pub const KINDS: [&str; 30] = [
    DIED_BEFORE_RECORD,
    DIED_AFTER_RECORD,
    DIED_BEFORE_EFFECT,
    DIED_AFTER_EFFECT,
    DIED_BY_THE_CLOCK,
    TWO_ENGINES,
    REQUEST_LOST,
    ANSWER_LOST,
    LATE,
    DISK_SLOW,
    DISK_FULL,
    OUTAGE,
    CLOCK_FORWARD,
    CLOCK_BACK,
    BEYOND_REFUSED,
    BEYOND_ANSWER_LOST,
    SITE_TRANSIENT,
    SITE_TIMEOUT,
    SITE_PERMANENT,
    SITE_ANSWER_LOST,
    SITE_SLOW,
    SITE_FULL,
    PERSON_LATE,
    PERSON_NEVER,
    PERSON_NO,
    PERSON_SKIPS,
    PERSON_BY_HAND,
    PERSON_REDOES,
    PERSON_ABORTS,
    PERSON_MEDDLES,
];

pub(crate) const DIED_BEFORE_RECORD: &str = "engine dies before a record";
pub(crate) const DIED_AFTER_RECORD: &str = "engine dies after a record";
pub(crate) const DIED_BEFORE_EFFECT: &str = "engine dies before an effect";
pub(crate) const DIED_AFTER_EFFECT: &str = "engine dies after an effect";
pub(crate) const DIED_BY_THE_CLOCK: &str = "engine dies at a moment";
pub(crate) const TWO_ENGINES: &str = "two engines at once";
pub(crate) const REQUEST_LOST: &str = "request lost";
pub(crate) const ANSWER_LOST: &str = "answer lost";
pub(crate) const LATE: &str = "request or answer late";
pub(crate) const DISK_SLOW: &str = "control state on a slow disk";
pub(crate) const DISK_FULL: &str = "control state on a full disk";
pub(crate) const OUTAGE: &str = "site out of reach";
pub(crate) const CLOCK_FORWARD: &str = "clock set forward";
pub(crate) const CLOCK_BACK: &str = "clock set back";
pub(crate) const BEYOND_REFUSED: &str = "other service refuses";
pub(crate) const BEYOND_ANSWER_LOST: &str = "other service's answer lost";
pub(crate) const SITE_TRANSIENT: &str = "hypervisor: passing error";
pub(crate) const SITE_TIMEOUT: &str = "hypervisor: no answer";
pub(crate) const SITE_PERMANENT: &str = "hypervisor: lasting error";
pub(crate) const SITE_ANSWER_LOST: &str = "hypervisor: done, answer lost";
pub(crate) const SITE_SLOW: &str = "hypervisor: slow";
pub(crate) const SITE_FULL: &str = "hypervisor: disk full";
pub(crate) const PERSON_LATE: &str = "person answers after hours";
pub(crate) const PERSON_NEVER: &str = "person never answers";
pub(crate) const PERSON_NO: &str = "person says no";
pub(crate) const PERSON_SKIPS: &str = "person skips a step";
pub(crate) const PERSON_BY_HAND: &str = "person does a step by hand";
pub(crate) const PERSON_REDOES: &str = "person has a step redone";
pub(crate) const PERSON_ABORTS: &str = "person gives the run up";
pub(crate) const PERSON_MEDDLES: &str = "person pauses or cancels unasked";

impl Tally {
    /// It has happened once more.
    pub fn note(&self, what: &'static str) {
        self.add(what, 1);
    }
    /// It has happened so often.
    pub fn add(&self, what: &'static str, times: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += times;
    }
    /// All that has happened.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
