//! What requests are answered with: the data behind `--json`.

use muster_journal::RunSummary;
use muster_ports::{BarrierId, PlanName, PointId, RunId, StepId, Timestamp};
use muster_replication::{CutTimes, GroupStatus, PointSummary};
use muster_runsheet::{Operation, PlanState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// Who holds the vault; `None` when nobody does.
    pub holder: Option<String>,
    /// Plans that have ever been run; the others stand at their beginning.
    pub plans: BTreeMap<String, PlanState>,
    /// Until when standing drills may stand, by plan, where the plan says so.
    #[serde(default)]
    pub drills_until: BTreeMap<String, Timestamp>,
    pub groups: Vec<GroupStatus>,
    /// Newest first.
    pub runs: Vec<RunSummary>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PointsAnswer {
    pub points: Vec<PointSummary>,
    /// Points that people keep, and how, in words.
    #[serde(default)]
    pub kept: BTreeMap<PointId, String>,
    /// The barriers that the disks of each point were cut at.
    #[serde(default)]
    pub barriers: BTreeMap<PointId, Vec<BarrierId>>,
    /// What the cut of each point cost the guests.
    #[serde(default)]
    pub times: BTreeMap<PointId, CutTimes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    Done {
        degraded: bool,
    },
    Undone,
    Aborted,
    /// Something could not be taken back; a person has to look.
    Failed,
    /// Only a person can go on.
    Paused,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunAnswer {
    pub run: RunId,
    pub plan: PlanName,
    pub operation: Operation,
    #[serde(flatten)]
    pub end: End,
    pub elapsed_millis: u64,
    pub steps: u32,
    pub waiting: Vec<Waiting>,
    pub points: BTreeMap<String, ChosenPoint>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChosenPoint {
    pub point: PointId,
    pub at: Timestamp,
    pub loss_millis: u64,
}

/// A step that only a person can move.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Waiting {
    pub step: StepId,
    pub text: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The commands that go on from here.
    pub ways: String,
}

impl RunAnswer {
    pub fn sentence(&self) -> String {
        let took = self.elapsed_millis as f64 / 1000.0;
        let head = format!("{} · {} · run {}", self.plan, self.operation, self.run);
        match self.end {
            End::Done { degraded: false } => format!("{head}: done, {} steps in {took:.1}s", self.steps),
            End::Done { degraded: true } => {
                format!("{head}: done, degraded, {} steps in {took:.1}s; `muster log {}`", self.steps, self.run)
            }
            End::Undone => format!("{head}: failed, and everything was taken back"),
            End::Aborted => format!("{head}: given up, and everything was taken back"),
            End::Failed => {
                format!("{head}: given up, and not everything could be taken back; `muster log {}`", self.run)
            }
            End::Paused => format!("{head}: waits for a person"),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogAnswer {
    pub run: RunId,
    /// Read back with every link of the chain checked: a journal that was changed is an error instead.
    pub records: Vec<muster_journal::Record>,
}

/// Everything that is told of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DossierAnswer {
    pub run: RunId,
    /// The one in force.
    pub sheet: Box<muster_runsheet::Runsheet>,
    /// Read back with every link of the chain checked.
    pub records: Vec<muster_journal::Record>,
    /// Hash of the newest record.
    pub head: muster_runsheet::Hash,
    /// Kind of each recovery point of the sheet's groups that is still there.
    pub kinds: BTreeMap<String, String>,
}
