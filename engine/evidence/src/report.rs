//! A report as data: what the renderings show, and what `--format json` prints.

use muster_ports::{RunId, Timestamp};
use muster_runsheet::{Hash, PlanName, StepId};
use serde::{Deserialize, Serialize};

/// Fields may be added under it; none changes its meaning.
pub const REPORT_FORMAT: &str = "muster.report/1";

/// What one run did, by its journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_FORMAT`].
    pub format: String,
    pub run: RunId,
    pub plan: PlanName,
    /// `planned back`.
    pub operation: String,
    pub source: String,
    pub target: String,
    /// Who asked for the run, and why.
    pub who: String,
    pub why: String,
    pub opened: Timestamp,
    /// `None`: it is not closed yet, and the report says how it stands.
    pub closed: Option<Timestamp>,
    /// `open`, `done`, `undone`, `aborted`, `failed`.
    pub status: String,
    /// It ended without some of its steps.
    pub degraded: bool,
    pub clock: Clock,
    pub losses: Vec<Loss>,
    /// In the order of the runsheet; steps that only join others are left out.
    pub steps: Vec<Step>,
    /// What people asked, decided, answered and signed, in the order of time.
    pub words: Vec<Word>,
    /// Calls that hooks made beyond themselves.
    pub calls: Vec<Call>,
    /// Steps that were skipped, done by hand, found done, left out or taken back.
    pub exceptions: Vec<Exception>,
    pub journal: Journal,
}

/// The run on the clock of its promise. Milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// When the clock of the promise began.
    pub from: Timestamp,
    /// What began then.
    pub began_with: String,
    /// Until every machine was started at the target; `None` when the operation starts none, or they did not all start.
    pub failover_done_millis: Option<u64>,
    /// Until the last check before `settle` was passed: the application is healthy. `None` when it was not shown.
    pub healthy_millis: Option<u64>,
    /// Why the application was not shown to be healthy.
    pub not_shown: Option<String>,
    /// The `rto` of the plan.
    pub promised_millis: Option<u64>,
    /// What the runsheet let expect, by the same clock.
    pub estimated_millis: Option<u64>,
    /// From the opening of the run to its end.
    pub whole_millis: Option<u64>,
}

impl Clock {
    /// Whether the promise was kept; `None` without a promise, or while nothing is shown.
    pub fn kept(&self) -> Option<bool> {
        Some(self.healthy_millis? <= self.promised_millis?)
    }
}

/// What was lost of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    pub group: String,
    pub point: String,
    pub at: Timestamp,
    /// `crash`, `app`, `final`, `named`; `None` when the vault no longer lists the point.
    pub consistency: Option<String>,
    pub loss_millis: u64,
    /// The `rpo` of the plan.
    pub promised_millis: Option<u64>,
}

/// How a step stands in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    NotBegun,
    Running,
    /// A person has to say something.
    Waiting,
    Done,
    /// Its effect held before it was tried.
    FoundDone,
    ByHand,
    Degraded,
    Skipped,
    Undone,
    /// It could not be taken back.
    NotUndone,
}

impl Fate {
    pub fn word(self) -> &'static str {
        match self {
            Self::NotBegun => "not begun",
            Self::Running => "running",
            Self::Waiting => "waits",
            Self::Done => "done",
            Self::FoundDone => "found done",
            Self::ByHand => "by hand",
            Self::Degraded => "went on without",
            Self::Skipped => "skipped",
            Self::Undone => "taken back",
            Self::NotUndone => "not taken back",
        }
    }
    /// What it was for holds.
    pub fn is_well(self) -> bool {
        matches!(self, Self::Done | Self::FoundDone | Self::ByHand)
    }
}

/// One step, its estimate beside its real time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub id: StepId,
    /// `start db at dr`.
    pub what: String,
    /// `shop.plan:24`, or the rule that made it.
    pub made_by: String,
    pub phase: String,
    /// Since the run was opened.
    pub began_millis: Option<u64>,
    /// With all its attempts and whatever it waited for.
    pub took_millis: Option<u64>,
    pub estimate_began_millis: Option<u64>,
    pub estimate_millis: Option<u64>,
    /// `plan`, `assumed`: where the estimate comes from.
    pub estimate_from: String,
    pub attempts: u32,
    pub fate: Fate,
    /// What it answered, or why it failed last.
    pub note: String,
}

/// Something a person said, or what stands for a person's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    pub at: Timestamp,
    pub step: Option<StepId>,
    pub who: String,
    /// `says yes to: Send customers to dr?`
    pub what: String,
    pub why: String,
}

/// A call of a hook, once it was done or could have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub at: Timestamp,
    pub step: StepId,
    pub hook: String,
    pub undo: bool,
    pub number: u32,
    pub operation: String,
    pub arguments: String,
    /// Its result is in the journal; without it nobody knows whether it reached the other side.
    pub answered: bool,
}

/// A step that did not go the way of the runsheet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    pub step: StepId,
    pub how: String,
    pub who: Option<String>,
    pub why: String,
}

/// The journal the report was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    pub format: String,
    pub records: u64,
    /// BLAKE3 of the newest record, to which all others are chained.
    pub head: Hash,
    /// Of the runsheet that was approved.
    pub sheet: Hash,
    /// Processes that carried the run out, in the order of their claims.
    pub engines: Vec<String>,
}
