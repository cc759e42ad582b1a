//! Replication: the pipeline that moves blocks between a disk and the vault, and the reconciler that keeps points coming.
//!
//! `pipeline` is used by the site agent, the [`Replicator`] by the control service. They meet only in the vault.
//!
//! ```text
//!   Replicator: intent (group/<g>/protection) against what is there
//!     cycle = cut -> ship every disk -> commit (one batch) -> settle
//!       |        |         |                  |                 `-- the site's tracker counts from here
//!       |        |         |                  `-- layers, point and protection become true together
//!       |        |         `-- first copy | delta | compare (resync)
//!       |        `-- one moment for a `together` group, else one per machine
//!       `-- on any failure before the commit: settle(abandoned); nothing is skipped, the last point stands
//! ```
//!
//! Architecture invariant: nothing is cached between cycles but locks; a reconciler that is killed at any moment goes on
//! from the store, and heals the cut it left open.

mod catalogue;
mod cycle;
pub mod folding;
pub mod history;
mod keep;
mod pause;
pub mod pipeline;
mod reclaim;
pub mod records;
mod recover;
pub mod recovery;
mod replicator;
pub mod retention;
mod seed;
mod status;
pub mod windows;

pub use folding::{FoldOrder, FoldReport, Folding};
pub use keep::{Hold, Keep};
pub use reclaim::{GcReport, SegmentBin, StoredSegment};
pub use records::CutTimes;
pub use recovery::{PointKind, PointSummary, Recovery};
pub use replicator::Replicator;
pub use seed::{Exported, SeedReport};
pub use status::{GroupPhase, GroupStatus};
