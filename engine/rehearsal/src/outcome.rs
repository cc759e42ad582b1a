//! How a rehearsal ended.

use crate::timeline::Entry;
use muster_runsheet::{Duration, GroupName, MachineName, Operation, PlanName, Runsheet, SiteName, StepId};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How the run stands at the end of the rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Done,
    /// Done, with steps left out that the plan says may be.
    Degraded,
    /// Only a person can go on, and nobody does.
    Paused,
    /// A step that says `else undo` failed; everything was taken back.
    Undone,
    Aborted,
    /// It was given up, and something could not be taken back.
    Failed,
}

impl Status {
    pub const ALL: [Self; 6] = [Self::Done, Self::Degraded, Self::Paused, Self::Undone, Self::Aborted, Self::Failed];

    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Degraded => "degraded",
            Self::Paused => "paused",
            Self::Undone => "undone",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
    /// A degraded run is done too.
    pub fn is(self, wanted: Self) -> bool {
        self == wanted || (self == Self::Degraded && wanted == Self::Done)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One step of the rehearsed run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepOutcome {
    pub id: StepId,
    /// `done`, `failed`, `waiting`.
    pub stand: String,
    /// Since the run was opened.
    pub started: Option<Duration>,
    pub ended: Option<Duration>,
    /// Over retries and crashes.
    pub attempts: u32,
}

/// Everything a rehearsal shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    pub plan: PlanName,
    pub operation: Operation,
    pub seed: u64,
    pub status: Status,
    /// From the opening of the run until the last step that production waits for, or to where it paused: what the
    /// promise `rto` is about. What tidies up behind it is not counted.
    pub elapsed: Duration,
    /// To the very end.
    pub whole: Duration,
    /// Of each group, by the point it was recovered to; nothing for a group of which none was chosen.
    pub loss: BTreeMap<GroupName, Duration>,
    /// What was carried out.
    #[serde(skip)]
    pub sheet: Runsheet,
    /// In the order of the sheet.
    pub steps: Vec<StepOutcome>,
    pub timeline: Vec<Entry>,
    /// Live machines that are on, by site; a drill's clones are not among them.
    pub running: BTreeMap<SiteName, BTreeSet<MachineName>>,
    /// What was changed at the sites and beyond, each once: `dr: start sql-01`.
    pub effects: BTreeSet<String>,
    /// Steps that were left out.
    pub degraded: Vec<StepId>,
    /// What waits for a person at the end, and why.
    pub waiting: Vec<String>,
    /// Times the engine was killed.
    pub crashes: u32,
    /// What was taken for granted, since nobody can know it here.
    pub assumed: BTreeSet<String>,
}

impl Outcome {
    pub fn step(&self, id: &StepId) -> Option<&StepOutcome> {
        self.steps.iter().find(|step| step.id == *id)
    }
    /// Attempts of a step, none when it never began.
    pub fn attempts(&self, id: &StepId) -> u32 {
        self.step(id).map_or(0, |step| step.attempts)
    }
}
