//! A disk of this machine that has old content, made equal to a point: only what differs is fetched and written.

use crate::in_use;
use muster_ports::{Failure, LandReport, Progress, Result};
use muster_replication::pipeline::{self, FileDisk};
use muster_vault::Replica;
use serde::Serialize;
use std::path::Path;

#[derive(Clone, Debug, Serialize)]
pub struct OverReport {
    pub size_bytes: u64,
    /// Read here to be compared.
    pub compared_bytes: u64,
    /// Fetched from the vault.
    pub fetched_bytes: u64,
    pub written_bytes: u64,
    pub notes: Vec<String>,
}

/// Refuses a target that is in use or smaller than the disk. Cut off in the middle the target is neither old nor new, and
/// the same call goes on where it was.
pub async fn restore_over(replica: &Replica, path: &Path, progress: &dyn Progress) -> Result<OverReport> {
    let claim = in_use::claim(path)?;
    let target = FileDisk::open_to_write(path)?;
    let during = |failure: Failure| failure.during(format!("restore over `{}`", path.display()));
    let report = pipeline::apply_differences(replica, &target, progress).await.map_err(during)?;
    drop(claim);
    let LandReport { fetched_bytes, compared_bytes, written_bytes, notes } = report;
    let size_bytes = replica.image().size_bytes;
    Ok(OverReport { size_bytes, compared_bytes, fetched_bytes, written_bytes, notes })
}
