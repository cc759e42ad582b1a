//! Replication: the pipeline that moves blocks between a disk and the vault, and the reconciler that keeps points coming.
//!
//! `pipeline` is used by the site agent, `reconciler` by the control service. They meet only in the vault.

pub mod pipeline;
pub mod recovery;

pub use recovery::{PointKind, PointSummary, Recovery};
