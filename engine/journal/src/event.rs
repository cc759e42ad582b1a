//! The events of a run. A record is durable before the effect it announces, and another one after it.
//!
//! What is absent: secrets (a record holds references), and anything that a fold of earlier records could tell.

use crate::outcome::{Answer, Question, StepOutput};
use muster_ports::{EffectKey, Epoch, Failure, Timestamp};
use muster_runsheet::{Hash, Operation, PlanName, StepId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the events of a run that is opened now; written in its first record. A muster refuses a run of a format
/// it does not read.
pub const RUN_FORMAT: &str = "muster.run/2";

/// Every format there ever was, and what it added. All of them are read, for ever: a run's journal is evidence.
pub const RUN_FORMATS: [(&str, &str); 2] = [
    ("muster.run/1", "the first"),
    ("muster.run/2", "several people may have to answer one question; `taken-over`, `amended`, `left-open`"),
];

/// One line of a run's journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// From 0, without gaps.
    pub seq: u64,
    pub time: Timestamp,
    /// Of the writer.
    pub epoch: Epoch,
    /// BLAKE3 of the record before; of run and runsheet for the first one.
    pub prev_hash: Hash,
    #[serde(flatten)]
    pub event: Event,
}

/// What a person decides about a step that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Try again with the same key and a fresh limit.
    Retry,
    /// Go on without it; the run is degraded.
    Skip,
    /// A person has done it outside muster: it counts as done.
    DoneByHand,
    /// Do it again from the beginning, with a new key.
    Redo,
    /// Give the run up: undo everything, where that is still possible.
    Abort,
}

impl Decision {
    pub fn word(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::DoneByHand => "done-by-hand",
            Self::Redo => "redo",
            Self::Abort => "abort",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// How a run stands, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Not closed. Whether an engine works on it is for the lease to say.
    Open,
    Done,
    /// A step that says `else undo` failed, and everything was taken back.
    Undone,
    /// A person gave it up, and everything was taken back.
    Aborted,
    /// It was given up, and something could not be taken back.
    Failed,
}

impl RunStatus {
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Why a step was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum SkippedBy {
    /// A step it needs did not succeed.
    Rule {
        needs: StepId,
    },
    Person {
        who: String,
    },
}

/// A person who asked for something, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    pub who: String,
    pub why: String,
}

/// What was lost of a group, by the point chosen for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLoss {
    pub group: String,
    pub loss_millis: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first record.
    RunOpened {
        format: String,
        sheet: Hash,
        plan: PlanName,
        operation: Operation,
        who: String,
        why: String,
        /// When the incident began, if it was said: the clock of the RTO starts there.
        incident: Option<Timestamp>,
        /// The signature for the question of split-brain, when it was given together with the order to run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signed: Option<Answer>,
    },
    /// An engine takes the run up. Attempts begun before it have no owner any more.
    EngineClaimed {
        engine: String,
    },
    /// An engine lets go of the run in good order, since only people can move it.
    EngineReleased,
    /// A person made this engine the writer although the one before seemed alive. That one is fenced.
    TakenOver {
        /// Who held the vault: `` `replicate` (process 4711 on `hq-ops`) ``.
        from: String,
        who: String,
        why: String,
    },
    /// From here on another runsheet is carried out, the same in every step that has begun.
    Amended {
        /// Identity of the sheet so far.
        before: Hash,
        /// Identity of the sheet from here on.
        after: Hash,
        /// Of the stored text of the new sheet: the chain covers it as it does the first one.
        text: Hash,
        /// One line for each step that changed.
        changes: Vec<String>,
        who: String,
        why: String,
    },
    /// Past no return, a person leaves the run as it stands for another one to go on from there.
    LeftOpen {
        who: String,
        why: String,
    },
    LocksTaken {
        node: StepId,
        machines: Vec<String>,
        drill: bool,
    },
    LocksFreed {
        node: StepId,
        machines: Vec<String>,
    },

    AttemptStarted {
        node: StepId,
        attempt: u32,
        key: EffectKey,
        deadline: Timestamp,
    },
    /// A numbered call of a hook is about to be made.
    EffectIntended {
        node: StepId,
        key: EffectKey,
        undo: bool,
        call: u32,
        operation: String,
        arguments: String,
    },
    EffectDone {
        node: StepId,
        key: EffectKey,
        undo: bool,
        call: u32,
        result: serde_json::Value,
    },
    /// A line for people.
    Noted {
        node: StepId,
        text: String,
    },
    AttemptFailed {
        node: StepId,
        attempt: u32,
        failure: Failure,
    },
    NodeSucceeded {
        node: StepId,
        output: StepOutput,
        /// The effect was found to hold; this attempt did nothing.
        adopted: bool,
    },
    /// It failed, and the plan says to go on without it.
    NodeDegraded {
        node: StepId,
        why: String,
    },
    NodeSkipped {
        node: StepId,
        skipped: SkippedBy,
        why: String,
    },
    PointChosen {
        node: StepId,
        group: String,
        point: muster_ports::PointId,
        at: Timestamp,
        loss_millis: u64,
    },
    FenceProven {
        node: StepId,
        how: String,
    },
    NoReturn {
        node: StepId,
    },

    Asked {
        node: StepId,
        question: Question,
        deadline: Timestamp,
    },
    Answered {
        node: StepId,
        answer: Answer,
    },
    /// What was asked or answered is too old to act on: it will be asked again.
    AnswerExpired {
        node: StepId,
        why: String,
    },
    TimerSet {
        node: StepId,
        due: Timestamp,
    },
    TimerFired {
        node: StepId,
    },

    /// The step waits for a person's decision.
    Paused {
        node: StepId,
        why: Failure,
    },
    Decided {
        node: StepId,
        decision: Decision,
        who: String,
        why: String,
    },
    /// A person stops the run from starting further steps.
    RunPaused {
        who: String,
        why: String,
    },
    RunResumed {
        who: String,
        why: String,
    },

    /// From here on steps are taken back. `by` is missing when the plan's own `else undo` led here.
    UndoBegun {
        by: Option<Signed>,
        why: String,
    },
    UndoStarted {
        node: StepId,
        attempt: u32,
        key: EffectKey,
        deadline: Timestamp,
    },
    UndoDone {
        node: StepId,
    },
    UndoFailed {
        node: StepId,
        attempt: u32,
        failure: Failure,
    },
    RunClosed {
        status: RunStatus,
        took_millis: u64,
        degraded: Vec<StepId>,
        losses: Vec<GroupLoss>,
    },
}

impl Event {
    /// The name as stored, for messages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::RunOpened { .. } => "run-opened",
            Self::EngineClaimed { .. } => "engine-claimed",
            Self::EngineReleased => "engine-released",
            Self::TakenOver { .. } => "taken-over",
            Self::Amended { .. } => "amended",
            Self::LeftOpen { .. } => "left-open",
            Self::LocksTaken { .. } => "locks-taken",
            Self::LocksFreed { .. } => "locks-freed",
            Self::AttemptStarted { .. } => "attempt-started",
            Self::EffectIntended { .. } => "effect-intended",
            Self::EffectDone { .. } => "effect-done",
            Self::Noted { .. } => "noted",
            Self::AttemptFailed { .. } => "attempt-failed",
            Self::NodeSucceeded { .. } => "node-succeeded",
            Self::NodeDegraded { .. } => "node-degraded",
            Self::NodeSkipped { .. } => "node-skipped",
            Self::PointChosen { .. } => "point-chosen",
            Self::FenceProven { .. } => "fence-proven",
            Self::NoReturn { .. } => "no-return",
            Self::Asked { .. } => "asked",
            Self::Answered { .. } => "answered",
            Self::AnswerExpired { .. } => "answer-expired",
            Self::TimerSet { .. } => "timer-set",
            Self::TimerFired { .. } => "timer-fired",
            Self::Paused { .. } => "paused",
            Self::Decided { .. } => "decided",
            Self::RunPaused { .. } => "run-paused",
            Self::RunResumed { .. } => "run-resumed",
            Self::UndoBegun { .. } => "undo-begun",
            Self::UndoStarted { .. } => "undo-started",
            Self::UndoDone { .. } => "undo-done",
            Self::UndoFailed { .. } => "undo-failed",
            Self::RunClosed { .. } => "run-closed",
        }
    }
    /// The step it is about.
    pub fn node(&self) -> Option<&StepId> {
        match self {
            Self::LocksTaken { node, .. }
            | Self::LocksFreed { node, .. }
            | Self::AttemptStarted { node, .. }
            | Self::EffectIntended { node, .. }
            | Self::EffectDone { node, .. }
            | Self::Noted { node, .. }
            | Self::AttemptFailed { node, .. }
            | Self::NodeSucceeded { node, .. }
            | Self::NodeDegraded { node, .. }
            | Self::NodeSkipped { node, .. }
            | Self::PointChosen { node, .. }
            | Self::FenceProven { node, .. }
            | Self::NoReturn { node }
            | Self::Asked { node, .. }
            | Self::Answered { node, .. }
            | Self::AnswerExpired { node, .. }
            | Self::TimerSet { node, .. }
            | Self::TimerFired { node }
            | Self::Paused { node, .. }
            | Self::Decided { node, .. }
            | Self::UndoStarted { node, .. }
            | Self::UndoDone { node }
            | Self::UndoFailed { node, .. } => Some(node),
            Self::RunOpened { .. }
            | Self::EngineClaimed { .. }
            | Self::EngineReleased
            | Self::TakenOver { .. }
            | Self::Amended { .. }
            | Self::LeftOpen { .. }
            | Self::RunPaused { .. }
            | Self::RunResumed { .. }
            | Self::UndoBegun { .. }
            | Self::RunClosed { .. } => None,
        }
    }
}
