//! What recovery steps ask of replication.

use async_trait::async_trait;
use muster_ports::*;
use muster_runsheet::PointChoice;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointKind {
    Crash,
    App,
    /// After an orderly shutdown: nothing is missing.
    Final,
    Named,
}

/// A committed recovery point of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointSummary {
    pub id: PointId,
    pub group: GroupName,
    /// For a group that is not `together`, the oldest moment of its members.
    pub at: Timestamp,
    pub kind: PointKind,
    pub machines: Vec<MachineName>,
}

/// Replication as the steps of a run see it. All methods are convergent: repeated with the same arguments after a
/// crash they do the work once.
#[async_trait]
pub trait Recovery: Send + Sync + std::fmt::Debug {
    /// One last cycle of a group whose machines are off: a `Final` point. Idempotent by `key`.
    async fn sync_final(&self, group: &GroupName, key: &EffectKey, progress: &dyn Progress) -> Result<PointSummary>;
    /// Chooses among the committed points. `Permanent` when there is none of that kind, and says what there is.
    async fn pick(&self, group: &GroupName, choice: &PointChoice) -> Result<PointSummary>;
    async fn point(&self, point: &PointId) -> Result<PointSummary>;
    /// The image of every disk of a machine at a point, in the machine's disk order.
    async fn images(&self, point: &PointId, machine: &MachineName) -> Result<Vec<(DiskName, ReplicaImage)>>;
    /// Holds every point of the run against retention until `release`.
    async fn hold(&self, point: &PointId, run: &RunId) -> Result<()>;
    async fn release(&self, run: &RunId) -> Result<()>;
    /// Production has left: no further cycles from the old source until `reverse` or `restore`.
    async fn suspend(&self, group: &GroupName, run: &RunId) -> Result<()>;
    /// A failover was cancelled: cycles from the old source go on.
    async fn restore(&self, group: &GroupName, run: &RunId) -> Result<()>;
    /// Production now runs at `source` (landed from `point`); replicate it towards `target` in new lineages that fork
    /// from that point, so that only differences travel.
    async fn reverse(&self, group: &GroupName, source: &SiteName, target: &SiteName, point: &PointId) -> Result<()>;
    /// A cycle now; returns its point.
    async fn cycle(&self, group: &GroupName, progress: &dyn Progress) -> Result<PointSummary>;
    /// Age of the newest point; `None` when there is none.
    async fn lag(&self, group: &GroupName) -> Result<Option<Duration>>;
    /// Drops all points of the group's lineages before `keep`.
    async fn drop_before(&self, group: &GroupName, keep: &PointId) -> Result<()>;
    /// Number of points committed since `since`.
    async fn points_since(&self, group: &GroupName, since: Timestamp) -> Result<u32>;
}
