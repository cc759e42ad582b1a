//! A disk of a point as one image file.

use crate::mount::Served;
use crate::partial::Partial;
use crate::{process, vhd};
use muster_ports::{Failure, Progress, Result, Timestamp};
use muster_replication::pipeline::{self, FileDisk};
use muster_vault::Replica;
use std::ffi::OsString;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Plain bytes, sparse.
    Raw,
    /// QEMU, version 3.
    Qcow2,
    /// Fixed VHD, a size in whole MiB: Azure.
    Vhd,
    /// Dynamic VHDX: Hyper-V.
    Vhdx,
    /// `monolithicSparse`: VMware Workstation, Fusion, VirtualBox.
    Vmdk,
    /// `streamOptimized`: vSphere, inside an OVA.
    VmdkStream,
}

impl Format {
    /// What file names end with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vmdk | Self::VmdkStream => "vmdk",
        }
    }

    /// `qemu-img`'s name of the format and its options; `None` for what is written here.
    fn of_qemu(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Raw | Self::Vhd => None,
            Self::Qcow2 => Some(("qcow2", "compat=1.1,lazy_refcounts=off")),
            Self::Vhdx => Some(("vhdx", "subformat=dynamic")),
            Self::Vmdk => Some(("vmdk", "subformat=monolithicSparse")),
            Self::VmdkStream => Some(("vmdk", "subformat=streamOptimized")),
        }
    }
}

/// Writes a disk as `path`, which must not be there. Cancelled at any moment it leaves nothing under that name.
/// `made` is written into formats that want to know when they were made: the moment of the point, so that the same point
/// gives the same file.
pub async fn write(
    replica: &Replica,
    format: Format,
    path: &Path,
    made: Timestamp,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let partial = Partial::begin(path)?;
    let during = |failure: Failure| failure.during(format!("write `{}`", path.display()));
    match format.of_qemu() {
        None => write_plain(replica, format, partial.path(), made, progress).await.map_err(during)?,
        Some((name, options)) => convert(replica, name, options, partial.path(), progress).await.map_err(during)?,
    }
    partial.finish()
}

async fn write_plain(
    replica: &Replica,
    format: Format,
    path: &Path,
    made: Timestamp,
    progress: &dyn Progress,
) -> Result<()> {
    let size = replica.image().size_bytes;
    let length = match format {
        Format::Vhd => size.checked_next_multiple_of(vhd::ALIGNMENT_BYTES),
        _ => Some(size),
    };
    let length = length.ok_or_else(|| Failure::permanent("the disk is too large for a VHD"))?;
    let file = std::fs::File::options().write(true).open(path)?;
    file.set_len(length)?;
    let target = FileDisk::open_to_write(path)?;
    pipeline::materialise(replica, &target, progress).await?;
    if format == Format::Vhd {
        file.write_all_at(&vhd::footer(length, made, identity(replica)), length)?;
    }
    Ok(())
}

/// The same disk of the same point has the same id.
fn identity(replica: &Replica) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"muster fixed vhd\0");
    hasher.update(replica.image().point.as_str().as_bytes());
    for segment in &replica.image().segments {
        hasher.update(format!("{segment:?}").as_bytes());
    }
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    id
}

/// `qemu-img` reads the point from a socket of ours: no raw image lies anywhere in between.
async fn convert(replica: &Replica, format: &str, options: &str, path: &Path, progress: &dyn Progress) -> Result<()> {
    const DISK: &str = "disk";
    let total = replica.image().size_bytes;
    let served = Served::begin(None).await?;
    served.add(DISK, Arc::new(replica.clone()))?;
    let words = ["convert", "-p", "-f", "raw", "-O", format, "-o", options];
    let mut arguments: Vec<OsString> = words.map(OsString::from).to_vec();
    arguments.push(served.uri(DISK).into());
    arguments.push(path.into());
    let done = process::run("qemu-img", &arguments, Some((progress, total))).await;
    served.end().await;
    if done.is_ok() {
        progress.report(total, Some(total));
    }
    done
}
