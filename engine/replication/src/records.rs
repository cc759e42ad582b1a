//! What replication keeps in the control state, and under which keys.
//!
//! ```text
//!   group/<group>/protection        what is replicated from where, and how far it is
//!   lineage/<lineage>               whose replica it is, and where it forked from
//!   layer/<lineage>/<seq>           segments one cycle wrote for one disk (none when it wrote none)
//!   fold/<lineage>/<to>-<from>      the same segments, of many cycles, written once more as one
//!   point/<group>/<point>           lineage and seq per disk
//!   seed/<group>                    a first copy that travels on a disk, and what it will become
//!   hold/<run>/<point>              a run needs the point
//!   keep/<point>                    people keep the point
//!   reclaim/<lineage>/<seq>         segments that nothing needs any more, to be deleted from the vault
//! ```
//!
//! A disk at a point is the sum of its layers: all of its lineage up to the point's seq, on top of its parent's up to
//! the fork.

use crate::recovery::PointSummary;
use muster_ports::*;
use muster_runsheet::PolicySheet;
use serde::{Deserialize, Serialize};

/// A place in the history of a replica: everything of the lineage up to and with `seq`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tip {
    pub lineage: LineageId,
    pub seq: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    pub id: LineageId,
    pub group: GroupName,
    pub machine: MachineName,
    pub disk: DiskName,
    /// Where it forked from; `None` when it begins with a first copy.
    pub parent: Option<Tip>,
    pub created: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub lineage: LineageId,
    pub seq: u64,
    /// In order; later ones win.
    pub segments: Vec<SegmentRef>,
}

/// Layers of a lineage once more, as one: everything behind `from` up to and with `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fold {
    pub lineage: LineageId,
    pub from: u64,
    pub to: u64,
    /// 1 is a fold of layers, 2 one of such folds.
    pub rank: u32,
    pub segments: Vec<SegmentRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointDisk {
    pub machine: MachineName,
    pub disk: DiskName,
    pub size_bytes: u64,
    pub tip: Tip,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    pub summary: PointSummary,
    /// One for a group that is cut together, else one per machine.
    pub barriers: Vec<BarrierId>,
    /// The step that asked for it, so that asking again finds it.
    pub key: Option<EffectKey>,
    pub disks: Vec<PointDisk>,
    /// What the cut cost the guests; `None` in points older than this was kept.
    #[serde(default)]
    pub times: Option<CutTimes>,
}

/// What a cut cost the guests, in microseconds; of several cuts the longest of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutTimes {
    /// Until all guests had stopped writing: their own flushing.
    pub flush_micros: u64,
    /// From then until the first was told to go on.
    pub hold_micros: u64,
    /// From the first disk's cut to the last one's.
    pub transaction_micros: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDisk {
    pub disk: DiskName,
    pub size_bytes: u64,
    /// Where the next cycle writes.
    pub lineage: LineageId,
    /// What the vault holds of it; `None` before the first copy.
    pub tip: Option<Tip>,
    /// Ends of lineages that were followed by a first copy, because the disk changed its size.
    #[serde(default)]
    pub replaced: Vec<Tip>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub machine: MachineName,
    /// The barrier the tips stand for: changes are wanted since then.
    pub base: Option<BarrierId>,
    pub disks: Vec<MemberDisk>,
}

/// A cut that was ordered and perhaps not settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCut {
    pub site: SiteName,
    pub barriers: Vec<BarrierId>,
    /// What to tell the tracker if nobody has: `Committed` from the very batch that commits the point.
    pub outcome: CutOutcome,
}

/// How the last good cycle went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleSummary {
    pub point: PointId,
    pub started: Timestamp,
    pub ended: Timestamp,
    pub read_bytes: u64,
    pub sent_bytes: u64,
    pub stored_bytes: u64,
    #[serde(default)]
    pub flush_micros: u64,
    pub hold_micros: u64,
    /// What did not go as wished, in plain words: resyncs, guests that could not be frozen.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleError {
    pub at: Timestamp,
    pub failure: Failure,
    /// Failed cycles in a row.
    pub in_a_row: u32,
}

/// Enough that one of the slower app-consistent cycles is among them.
pub const CYCLE_TIMES_KEPT: usize = 8;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Protection {
    pub group: GroupName,
    pub policy: PolicySheet,
    pub together: bool,
    pub source: SiteName,
    /// Where it is recovered to; `None` while no plan moves it.
    pub target: Option<SiteName>,
    pub members: Vec<Member>,
    /// Of the last committed cycle.
    pub seq: u64,
    pub newest: Option<PointId>,
    /// The point this direction began with.
    pub origin: Option<PointId>,
    pub suspended: Option<RunId>,
    pub open: Vec<OpenCut>,
    pub last_attempt: Option<Timestamp>,
    /// How long the last regular cycles took from their start to their point, in milliseconds, newest last; at most
    /// [`CYCLE_TIMES_KEPT`]. First copies and resyncs are not among them.
    #[serde(default)]
    pub cycle_times: Vec<u64>,
    pub last_app: Option<Timestamp>,
    pub last_cycle: Option<CycleSummary>,
    pub last_error: Option<CycleError>,
    /// Why the cycle under way reads everything.
    pub resync: Option<String>,
    /// A disk whose changes are not known any more waits for the policy's window.
    #[serde(default)]
    pub resync_required: Option<ResyncRequired>,
    /// A person has stopped the schedule.
    #[serde(default)]
    pub paused: Option<Paused>,
    #[serde(default)]
    pub totals: Totals,
}

/// A resync that the policy's window holds back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResyncRequired {
    pub why: String,
    pub since: Timestamp,
    /// When the window opens.
    pub from: Timestamp,
}

/// Replication that stands still by a person's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    pub since: Timestamp,
    pub by: String,
    pub why: String,
}

/// Sums since the group was protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub cycles: u64,
    pub failed_cycles: u64,
    pub resyncs: u64,
    /// Bytes of disk read, sent (before compression), found to be zero, and stored.
    pub read_bytes: u64,
    pub sent_bytes: u64,
    pub zero_bytes: u64,
    pub stored_bytes: u64,
}

/// Segments unlinked from the control state; the objects go after a grace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    pub unlinked: Timestamp,
    pub segments: Vec<SegmentRef>,
}

pub(crate) fn protection_key(group: &GroupName) -> String {
    format!("group/{group}/protection")
}
pub(crate) fn seed_key(group: &GroupName) -> String {
    format!("seed/{group}")
}
pub(crate) fn lineage_key(lineage: &LineageId) -> String {
    format!("lineage/{lineage}")
}
pub(crate) fn layer_key(lineage: &LineageId, seq: u64) -> String {
    format!("layer/{lineage}/{seq:010}")
}
pub(crate) fn fold_key(fold: &Fold) -> String {
    format!("fold/{}/{:010}-{:010}", fold.lineage, fold.to, fold.from)
}
/// Beside those of layers, which have one number.
pub(crate) fn reclaim_fold_key(fold: &Fold) -> String {
    format!("reclaim/{}/{:010}-{:010}", fold.lineage, fold.to, fold.from)
}
pub(crate) fn point_key(group: &GroupName, point: &PointId) -> String {
    format!("point/{group}/{point}")
}
pub(crate) fn hold_key(run: &RunId, point: &PointId) -> String {
    format!("hold/{run}/{point}")
}
pub(crate) fn reclaim_key(lineage: &LineageId, seq: u64) -> String {
    format!("reclaim/{lineage}/{seq:010}")
}
