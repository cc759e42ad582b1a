//! Looks over the engine's shoulder: nothing is done before its record is durable.

use crate::beyond::UNKNOWN;
use crate::life::Ground;
use crate::people::Heard;
use async_trait::async_trait;
use muster_executor::{Acted, Observation, RunObserver, StepContext, StepRunner};
use muster_journal::{Event, Record, RunState, StepOutput};
use muster_ports::*;
use muster_steps::Steps;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What durable records have announced, over all lives, and what was done without.
#[derive(Debug, Default)]
pub struct Announced {
    attempts: Mutex<BTreeSet<(StepId, u32, bool)>>,
    unannounced: Mutex<Vec<String>>,
}

impl Announced {
    fn announce(&self, step: &StepId, attempt: u32, undo: bool) {
        lock(&self.attempts).insert((step.clone(), attempt, undo));
    }
    fn check(&self, cx: &StepContext<'_>, undo: bool) {
        if !lock(&self.attempts).contains(&(cx.node.id.clone(), cx.attempt, undo)) {
            let word = if undo { "taken back" } else { "done" };
            lock(&self.unannounced).push(format!(
                "`{}` was {word} in attempt {} before a durable record announced it",
                cx.node.id, cx.attempt
            ));
        }
    }
    pub fn unannounced(&self) -> Vec<String> {
        lock(&self.unannounced).clone()
    }
}

/// Hears every durable record.
#[derive(Debug)]
pub struct Listening {
    announced: Arc<Announced>,
    calls: mpsc::UnboundedSender<Heard>,
}

impl Listening {
    pub fn new(announced: Arc<Announced>, calls: mpsc::UnboundedSender<Heard>) -> Self {
        Self { announced, calls }
    }
}

impl RunObserver for Listening {
    fn recorded(&self, record: &Record, state: &RunState) {
        match &record.event {
            Event::AttemptStarted { node, attempt, .. } => self.announced.announce(node, *attempt, false),
            Event::UndoStarted { node, attempt, .. } => self.announced.announce(node, *attempt, true),
            Event::Asked { node, question, .. } => {
                let _ = self.calls.send(Heard::Question { node: node.clone(), question: question.clone() });
            }
            Event::Paused { node, .. } => {
                let undo = state.undo.is_some();
                let _ = self.calls.send(Heard::Stopped { node: node.clone(), undo });
            }
            Event::RunPaused { .. } => drop(self.calls.send(Heard::Held)),
            _ => {}
        }
    }
}

/// The real steps, each taking its time.
#[derive(Debug)]
pub struct Watched {
    steps: Steps,
    ground: Ground,
}

impl Watched {
    pub fn new(steps: Steps, ground: &Ground) -> Self {
        Self { steps, ground: ground.clone() }
    }
    async fn take_time(&self, cx: &StepContext<'_>) {
        if let Some(takes) = self.ground.pace.get(&cx.node.id) {
            self.ground.stage.clock().sleep(*takes).await;
        }
    }
}

#[async_trait]
impl StepRunner for Watched {
    async fn observe(&self, cx: StepContext<'_>) -> Result<Observation> {
        self.steps.observe(cx).await
    }
    async fn act(&self, cx: StepContext<'_>) -> Result<Acted> {
        self.ground.announced.check(&cx, false);
        self.take_time(&cx).await;
        match self.steps.act(cx).await {
            Err(failure) if failure.message.contains(UNKNOWN) => {
                Ok(Acted::Done(StepOutput::Text { text: UNKNOWN.to_owned() }))
            }
            other => other,
        }
    }
    async fn undo(&self, cx: StepContext<'_>) -> Result<()> {
        self.ground.announced.check(&cx, true);
        match self.steps.undo(cx).await {
            Err(failure) if failure.message.contains(UNKNOWN) => Ok(()),
            other => other,
        }
    }
}
