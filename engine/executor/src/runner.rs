//! What the executor needs from the steps.

use async_trait::async_trait;
use muster_journal::{Answer, CallJournal, Outputs, Question, StepOutput};
use muster_ports::{EffectKey, PointId, Progress, Result, RunId, Timestamp};
use muster_runsheet::{Node, Runsheet};

/// Everything a step may know.
#[derive(Clone, Copy)]
pub struct StepContext<'a> {
    pub run: &'a RunId,
    pub sheet: &'a Runsheet,
    pub node: &'a Node,
    /// The same for every attempt and after every crash; a person's *redo* changes it.
    pub key: &'a EffectKey,
    /// From 1.
    pub attempt: u32,
    pub deadline: Timestamp,
    /// Outputs of the steps that have succeeded so far.
    pub outputs: &'a Outputs,
    /// The answer to the question this step has asked, once there is one.
    pub answer: Option<&'a Answer>,
    /// Record of the step's numbered calls.
    pub calls: &'a dyn CallJournal,
    pub progress: &'a dyn Progress,
}

impl StepContext<'_> {
    /// The point chosen for a group earlier in this run.
    pub fn point(&self, group: &str) -> Option<PointId> {
        self.outputs.values().find_map(|output| match output {
            StepOutput::Point { group: of, point, .. } if of == group => Some(point.clone()),
            _ => None,
        })
    }
}

impl std::fmt::Debug for StepContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepContext").field("run", self.run).field("node", &self.node.id).finish_non_exhaustive()
    }
}

/// Does a step's effect hold?
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    Holds(StepOutput),
    DoesNotHold,
    /// What was asked and why there is no answer.
    CannotTell(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Acted {
    Done(StepOutput),
    /// A person has to answer first; `act` is called again with the answer.
    Ask(Question),
}

/// Carries out single steps. Called by the executor only after the attempt is durable in the journal.
#[async_trait]
pub trait StepRunner: Send + Sync + std::fmt::Debug {
    /// Asked before the first attempt of an Act and after a crash; reads only.
    async fn observe(&self, cx: StepContext<'_>) -> Result<Observation>;
    async fn act(&self, cx: StepContext<'_>) -> Result<Acted>;
    /// Takes the effect back; must be safe to repeat, and after an act that did not happen.
    async fn undo(&self, cx: StepContext<'_>) -> Result<()>;
}
