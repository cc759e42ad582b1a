//! The real steps, each taking as long as the forecast says, and failing when a test says so.

use crate::outside::UNKNOWN;
use crate::store::Mortal;
use async_trait::async_trait;
use muster_executor::{Acted, Observation, StepContext, StepRunner};
use muster_journal::StepOutput;
use muster_ports::*;
use muster_runsheet::{Action, Duration, ProbeCall, StepId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What steps share over all lives of the engine.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// One attempt of each step.
    pub(crate) takes: BTreeMap<StepId, Duration>,
    /// First attempts that fail.
    pub(crate) fails: BTreeMap<StepId, u32>,
    failed: Mutex<BTreeMap<StepId, u32>>,
    /// When the attempt under way is through. A killed engine takes none of the time with it: the work goes on at the
    /// site.
    through: Mutex<BTreeMap<StepId, Timestamp>>,
    assumed: Mutex<BTreeSet<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Script {
    pub(crate) fn new(takes: BTreeMap<StepId, Duration>, fails: BTreeMap<StepId, u32>) -> Self {
        Self { takes, fails, ..Self::default() }
    }
    pub(crate) fn takes(&self, step: &StepId) -> std::time::Duration {
        self.takes.get(step).copied().unwrap_or_default().std()
    }
    pub(crate) fn assume(&self, what: String) {
        lock(&self.assumed).insert(what);
    }
    pub(crate) fn assumed(&self) -> BTreeSet<String> {
        lock(&self.assumed).clone()
    }

    fn through(&self, step: &StepId, now: Timestamp) -> Timestamp {
        *lock(&self.through).entry(step.clone()).or_insert_with(|| now.plus(self.takes(step)))
    }
    fn begin_anew(&self, step: &StepId) {
        lock(&self.through).remove(step);
    }

    /// The failure of this attempt, when it is to fail.
    fn fault(&self, step: &StepId) -> Option<Failure> {
        let wanted = self.fails.get(step).copied()?;
        let mut failed = lock(&self.failed);
        let count = failed.entry(step.clone()).or_default();
        if *count >= wanted {
            return None;
        }
        *count += 1;
        Some(Failure::transient(format!("made to fail, {count} of {wanted}")))
    }
}

/// A runner in virtual time.
#[derive(Debug)]
pub(crate) struct Paced {
    pub(crate) steps: Arc<dyn StepRunner>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) script: Arc<Script>,
    /// What fails in a dying engine has not failed.
    pub(crate) life: Arc<Mortal>,
}

impl Paced {
    /// What would be there at once in a simulation is made to take its time.
    fn is_made(action: &Action) -> bool {
        matches!(action, Action::Create { .. } | Action::Hydrate { .. })
    }

    /// Its own work takes virtual time already: only what is missing is added.
    fn works_long(action: &Action) -> bool {
        matches!(action, Action::SyncFinal { .. } | Action::Resync { .. } | Action::AwaitLag { .. })
    }

    /// Nobody here could know what the hook asked for: what it would have gone on with is not followed.
    fn unless_unknown(&self, cx: StepContext<'_>, result: Result<Acted>) -> Result<Acted> {
        let (Action::Run { hook, .. } | Action::Check { probe: ProbeCall::Hook { hook, .. }, .. }) = &cx.node.action
        else {
            return result;
        };
        match result {
            Err(failure) if failure.message.contains(UNKNOWN) => {
                let from = failure.message.find(UNKNOWN).unwrap_or(0);
                let text = failure.message.get(from..).unwrap_or(UNKNOWN).to_owned();
                self.script.assume(format!("hook `{hook}` is taken to succeed: {text}"));
                Ok(Acted::Done(StepOutput::Text { text }))
            }
            other => other,
        }
    }
}

#[async_trait]
impl StepRunner for Paced {
    async fn observe(&self, cx: StepContext<'_>) -> Result<Observation> {
        if Self::is_made(&cx.node.action) && cx.attempt == 1 {
            return Ok(Observation::DoesNotHold);
        }
        self.steps.observe(cx).await
    }

    async fn act(&self, cx: StepContext<'_>) -> Result<Acted> {
        // The time of a question is the person's.
        if cx.answer.is_some() {
            return self.steps.act(cx).await;
        }
        let until = self.script.through(&cx.node.id, self.clock.now());
        let long = Self::works_long(&cx.node.action);
        if !long && self.clock.now() < until {
            self.clock.sleep_until(until).await;
        }
        if let Some(failure) = self.script.fault(&cx.node.id) {
            self.clock.sleep_until(until).await;
            self.script.begin_anew(&cx.node.id);
            return Err(failure);
        }
        let result = self.steps.act(cx).await;
        if result.is_err() && !self.life.is_dead() {
            self.script.begin_anew(&cx.node.id);
        }
        if long && self.clock.now() < until {
            self.clock.sleep_until(until).await;
        }
        self.unless_unknown(cx, result)
    }

    async fn undo(&self, cx: StepContext<'_>) -> Result<()> {
        match self.steps.undo(cx).await {
            Err(failure) if failure.message.contains(UNKNOWN) => {
                self.script.assume(format!("taking back `{}` is taken to succeed: {UNKNOWN}", cx.node.id));
                Ok(())
            }
            other => other,
        }
    }
}
