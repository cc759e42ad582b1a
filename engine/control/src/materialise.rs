//! A recovery point as raw image files: for looking at it, for other tools, and for the day when nothing else is left.

use muster_ports::{DiskName, Failure, MachineName, Progress, ReplicaImage, Result};
use muster_replication::pipeline::{self, FileDisk};
use muster_vault::Vault;
use std::path::{Path, PathBuf};

/// Writes each disk as a sparse file `<machine>-<disk>.raw` into the folder; refuses to write over a file.
pub async fn materialise(
    vault: &Vault,
    machine: &MachineName,
    disks: &[(DiskName, ReplicaImage)],
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    let mut written = Vec::new();
    for (disk, image) in disks {
        let path = folder.join(format!("{machine}-{disk}.raw"));
        let during = |failure: Failure| failure.during(format!("write `{}`", path.display()));
        let target = FileDisk::create(&path, image.size_bytes)?;
        pipeline::materialise(&vault.replica(image), &target, progress).await.map_err(during)?;
        written.push(path);
    }
    Ok(written)
}
