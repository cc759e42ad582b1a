//! Words of replication: cuts, shipped disks, images of a point.

use crate::clock::Timestamp;
use crate::ids::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// As if the power had been cut.
    Crash,
    /// The guests' file systems were frozen: nothing to replay.
    App,
}

/// Cut all disks of the members at one moment.
///
/// With `hold`, the I/O of every member is held before the first transaction and until after the last, so that the
/// cut is consistent across machines. Without it each machine is a cut of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutOrder {
    pub barrier: BarrierId,
    pub members: Vec<CutMember>,
    pub consistency: Consistency,
    pub hold: bool,
    /// Longest time guests may stay frozen before the cut is given up and they are thawed.
    pub hold_limit: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutMember {
    pub instance: InstanceName,
    pub machine: MachineName,
    /// The barrier changes are wanted since; `None` asks for everything.
    pub base: Option<BarrierId>,
}

/// What the tracker can say about a disk at a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tracking", rename_all = "kebab-case")]
pub enum Tracking {
    /// Changes since that barrier are known exactly.
    Since { barrier: BarrierId },
    /// They are not: everything has to be read (and may be compared with the last point).
    Lost { reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCut {
    pub machine: MachineName,
    pub disk: DiskName,
    pub size_bytes: u64,
    pub tracking: Tracking,
    /// Upper bound of what a delta has to read; the disk's size when tracking is lost.
    pub dirty_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutReport {
    pub barrier: BarrierId,
    /// By the site's clock, right before the first transaction: everything that was written until then is in the cut,
    /// and nothing that was written later than `transaction_micros` after it.
    pub at: Timestamp,
    /// What was reached: `Crash` when a guest could not be frozen; `notes` says which and why.
    pub consistency: Consistency,
    /// From the first word to the guests until the last of them has stopped writing: their own flushing. Zero in reports
    /// of older agents, whose hold has it in it.
    #[serde(default)]
    pub flush_micros: u64,
    /// From then until the first of them is told to go on.
    pub hold_micros: u64,
    /// From the first transaction to the end of the last.
    pub transaction_micros: u64,
    pub disks: Vec<DiskCut>,
    pub notes: Vec<String>,
}

/// How much of a cut disk is to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ship", rename_all = "kebab-case")]
pub enum ShipMode {
    /// All data extents (first copy).
    Full,
    /// What the tracker says has changed.
    Delta,
    /// Read everything, send the blocks whose BLAKE3 differs from `image` (resync).
    Compare { image: ReplicaImage },
}

/// Read one disk of a cut and write it to the vault as segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipOrder {
    pub vault: String,
    pub epoch: Epoch,
    pub barrier: BarrierId,
    pub machine: MachineName,
    pub disk: DiskName,
    pub lineage: LineageId,
    pub mode: ShipMode,
    /// zstd level, 1 to 19; 0 follows the link: lower while it is faster than the processors, higher while it is slower.
    pub compression: i32,
    /// Bytes a second on the way to the vault when the order was given, as this disk's share; `None` is unlimited. What
    /// holds from then on says `pace`.
    pub rate_limit: Option<u64>,
    /// How fast it may go, hour by hour; `None` is unlimited.
    #[serde(default)]
    pub pace: Option<Pace>,
    /// URL of a folder or store at the site that takes the segments in the vault's place: a first copy that travels on a
    /// disk. Keys and names are those of the vault.
    #[serde(default)]
    pub seed: Option<String>,
}

/// How fast the shipments of one group may store, together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Shipments of one name share the rate, a frame at a time.
    pub shared_by: String,
    /// One after another from the moment of the order, then from the first again. A single one holds for ever.
    pub spans: Vec<PaceSpan>,
}

/// A while in which one rate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceSpan {
    pub millis: u64,
    /// `None` is unlimited, 0 lets nothing leave.
    pub bytes_per_second: Option<u64>,
}

/// A sealed object in the vault. It counts only once a committed point names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    pub name: SegmentName,
    pub stored_bytes: u64,
    /// BLAKE3 of the object as stored, hex.
    pub hash: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippedDisk {
    /// In order; later ones win where they overlap.
    pub segments: Vec<SegmentRef>,
    pub read_bytes: u64,
    pub sent_bytes: u64,
    pub stored_bytes: u64,
    pub zero_bytes: u64,
}

/// What became of a cut, told to the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutOutcome {
    /// The point is durable: changes are counted from this barrier on.
    Committed,
    /// It is not: its changes go back to those still to be sent.
    Abandoned,
}

/// One disk at one point: which segments make it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaImage {
    /// URL of the vault, `file:///...`.
    pub vault: String,
    pub point: PointId,
    pub size_bytes: u64,
    /// Oldest first, through all parent lineages; the newest that covers a block wins, nothing covers zeroes.
    pub segments: Vec<SegmentRef>,
}

/// Told while long work goes on. Bytes.
pub trait Progress: Send + Sync {
    fn report(&self, done: u64, total: Option<u64>);
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _done: u64, _total: Option<u64>) {}
}
