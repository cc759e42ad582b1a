//! A recovery point as raw image files: for looking at it, for other tools, and for the day when nothing else is left.

use muster_ports::{BlockSource, DiskName, ExtentKind, Failure, MachineName, Progress, ReplicaImage, Result};
use muster_vault::Vault;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes read from the vault at a time.
const PIECE_BYTES: u64 = 4 << 20;
/// Bytes of a disk whose extents are asked for at a time.
const WINDOW_BYTES: u64 = 1 << 30;

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
        let file = File::options().write(true).create_new(true).open(&path).map_err(|error| {
            let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
            let failure = during(error.into());
            if exists { failure.help("name another folder, or move the file away") } else { failure }
        })?;
        write_disk(&vault.replica(image), &file, progress).await.map_err(during)?;
        written.push(path);
    }
    Ok(written)
}

async fn write_disk(replica: &dyn BlockSource, file: &File, progress: &dyn Progress) -> Result<()> {
    let size = replica.size();
    file.set_len(size)?;
    let mut buffer = vec![0; usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX)];
    let mut at = 0;
    while at < size {
        for extent in replica.extents(at, WINDOW_BYTES.min(size - at)).await? {
            let end = extent.offset + extent.length;
            let mut offset = extent.offset;
            while extent.kind == ExtentKind::Data && offset < end {
                let length = PIECE_BYTES.min(end - offset);
                let piece = &mut buffer[..usize::try_from(length).unwrap_or(usize::MAX)];
                replica.read_at(offset, piece).await?;
                file.write_all_at(piece, offset)?;
                offset += length;
                progress.report(offset, Some(size));
            }
            at = end;
        }
    }
    file.sync_all()?;
    progress.report(size, Some(size));
    Ok(())
}
