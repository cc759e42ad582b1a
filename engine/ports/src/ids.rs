//! Newtypes for every name and number that crosses a boundary.

use serde::{Deserialize, Serialize};
use std::fmt;

pub use muster_runsheet::names::{
    DiskName, GroupName, Hash, HookName, MachineName, NetworkName, PlanName, PolicyName, SiteName, StageName, StepId,
};

muster_runsheet::text_id! {
    /// A machine as it exists at one site: `db` live, `db~drill-01ab` the clone of a drill. Unique within a site.
    InstanceName,
    /// One execution of a runsheet. Sorts by start time.
    RunId,
    /// The history of one disk's replica in one direction. A new one begins at protect, at each reversal and at an
    /// alternate location.
    LineageId,
    /// A recovery point of a group.
    PointId,
    /// One cut: the moment all disks of the members of a group were frozen together.
    BarrierId,
    /// The isolated network of one drill.
    BubbleId,
    /// One segment object below `data/` of a vault: `<lineage>/<epoch>-<writer>-<seq>.seg`.
    SegmentName,
    /// Who writes segments: names a process, unique among those alive.
    WriterId,
    /// The same for every attempt of a step and after every crash of the engine; sent along with every effect.
    EffectKey,
}

/// The fencing epoch of the control writer. It rises with every take-over and means nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl InstanceName {
    /// The machine itself, as users know it at a site.
    pub fn live(machine: &MachineName) -> Self {
        Self::new(machine.as_str())
    }
    /// The clone of a machine in a drill's bubble.
    pub fn clone_in(machine: &MachineName, bubble: &BubbleId) -> Self {
        Self::new(format!("{machine}~{bubble}"))
    }
}

impl BarrierId {
    /// The moment a machine was landed from a point: changes after it are what the way home has to carry.
    pub fn landed(point: &PointId) -> Self {
        Self::new(format!("landed-{point}"))
    }
}
