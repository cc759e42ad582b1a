//! What is known of earlier runs, as the journals of a vault tell it.

use muster_runsheet::{Action, Duration, GroupName, MachineName, Node, Operation, ProbeCall, SheetPhase, StepId, view};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that is known beside the sheet. What is `None` was not asked for, which is not the same as nothing found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Past runs of the plan.
    pub history: Option<History>,
    /// Age of each group's newest recovery point now; of the group as a whole where its machines recover together.
    pub lags: Option<BTreeMap<GroupName, Duration>>,
    /// Age of the inventory the sheet was compiled against.
    pub inventory_age: Option<Duration>,
}

/// What the runs of one plan have taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Runs that were read.
    pub runs: usize,
    pub samples: Vec<Sample>,
    pub last_drill: Option<LastDrill>,
}

/// The newest drill that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDrill {
    pub run: String,
    pub age: Duration,
    pub passed: bool,
}

/// One step of one past run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// By [`what_of`].
    pub what: String,
    pub machine: Option<MachineName>,
    pub operation: Operation,
    pub phase: SheetPhase,
    /// How long the attempt that succeeded took; `None` when none did.
    pub took: Option<Duration>,
    /// The attempts before it that failed.
    pub failed: Vec<Duration>,
    /// Since it ended.
    pub age: Duration,
}

/// What a step does, without the machine it does it to: the key under which its durations are kept. A question is its own.
pub fn what_of(node: &Node) -> String {
    match &node.action {
        Action::Run { hook, .. } | Action::Check { probe: ProbeCall::Hook { hook, .. }, .. } => format!("run {hook}"),
        Action::Check { probe, .. } => format!("check {}", view::probe_words(probe)),
        Action::Approve { .. } | Action::Manual { .. } | Action::Notify { .. } => question(&node.id),
        Action::SyncFinal { group }
        | Action::PickPoint { group, .. }
        | Action::DropPoints { group }
        | Action::Reverse { group, .. }
        | Action::Resync { group }
        | Action::AwaitLag { group, .. }
        | Action::AssertReplicating { group } => format!("{} {group}", node.action.verb()),
        action => action.verb().to_owned(),
    }
}

fn question(id: &StepId) -> String {
    format!("ask {id}")
}

/// Age at which a sample counts half: machines and data change within a quarter.
const HALF_LIFE: Duration = Duration(90 * 86_400_000);

impl Sample {
    pub(crate) fn weight(&self) -> f64 {
        0.5_f64.powf(self.age.0 as f64 / HALF_LIFE.0 as f64)
    }
    /// Whether it tells about such a step. A machine rises the same way in a drill and in earnest; everything around that
    /// is a matter of the operation.
    pub(crate) fn tells_of(&self, node: &Node, operation: Operation) -> bool {
        let rises = node.phase == SheetPhase::Rise && self.phase == SheetPhase::Rise;
        self.operation == operation || (rises && self.operation.direction == operation.direction)
    }
}

/// What drills have shown of a sheet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "drills", rename_all = "kebab-case")]
pub enum Drills {
    /// No vault was asked.
    Unknown,
    /// No drill has ended yet.
    Never,
    Last {
        drill: LastDrill,
    },
}

impl Drills {
    pub(crate) fn of(history: Option<&History>) -> Self {
        match history.map(|history| &history.last_drill) {
            None => Self::Unknown,
            Some(None) => Self::Never,
            Some(Some(drill)) => Self::Last { drill: drill.clone() },
        }
    }
}
