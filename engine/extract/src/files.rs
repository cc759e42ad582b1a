//! Files out of a partition, without booting what they belong to.
//!
//! Readers: `ext4-view` for ext2, ext3 and ext4 (it replays the journal in memory, so that a crash-consistent point reads
//! as after a boot), `ntfs` for NTFS, `fatfs` for FAT; XFS is read by ourselves, for want of a library. Each blocks, so each
//! runs on a thread of its own.
//!
//! Not here: btrfs, for which there is no reader worth trusting yet; what is encrypted; LVM. Those disks are served by
//! `mount`, for tools that know them.

mod copy;
mod ext;
mod fat;
mod windows;
mod xfs;

use crate::partitions::{Holds, Partition};
use crate::reader::{OfSource, PartReader};
use muster_ports::{BlockSource, Failure, Result};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;

pub use copy::Copied;

/// Entries of one folder at most: more than any real folder has, fewer than a folder whose blocks go round.
pub const ENTRIES_MAX: usize = 2_000_000;
/// Folders in folders followed at most.
pub const DEPTH_MAX: usize = 128;
/// Bytes of one file at most, 16 TiB: the largest that ext4 has. More is damage.
pub const FILE_BYTES_MAX: u64 = 16 << 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    File,
    Folder,
    /// Told, never followed within a folder.
    Link,
    /// A device, a socket, a pipe.
    Special,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// From the root of the partition.
    pub path: PathBuf,
    pub kind: Kind,
    pub bytes: u64,
}

/// A file system that is read. Paths are names from the root; links are followed where they are asked for by name.
trait FileSystem {
    fn look(&mut self, path: &[OsString]) -> Result<Entry>;
    /// The names in a folder, in no order, without `.` and `..`.
    fn list(&mut self, path: &[OsString]) -> Result<Vec<(OsString, Kind, u64)>>;
    /// The content of a file, in order, to its end.
    fn read(&mut self, path: &[OsString], out: &mut dyn Content) -> Result<u64>;
}

/// Where the content of a file goes.
trait Content: Write {
    /// That many zeroes, without any of them being made: a file of a few bytes may say that it has terabytes.
    fn hole(&mut self, bytes: u64);
}

/// What a path holds: a folder's entries by name, or the file itself.
pub async fn list(disk: Arc<dyn BlockSource>, partition: &Partition, path: &Path) -> Result<Vec<Entry>> {
    let names = names(path)?;
    within(disk, partition, move |system| {
        let entry = system.look(&names)?;
        if entry.kind != Kind::Folder {
            return Ok(vec![entry]);
        }
        let mut found = system.list(&names)?;
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let inside = |name: OsString| rooted(&names).join(name);
        Ok(found.into_iter().map(|(name, kind, bytes)| Entry { path: inside(name), kind, bytes }).collect())
    })
    .await
}

/// Copies files and whole folders below `to`, under their last names. See [`Copied`] for what is left out.
pub async fn copy(disk: Arc<dyn BlockSource>, partition: &Partition, paths: &[PathBuf], to: &Path) -> Result<Copied> {
    let wanted = paths.iter().map(|path| names(path)).collect::<Result<Vec<_>>>()?;
    let to = to.to_owned();
    within(disk, partition, move |system| copy::copy(system, &wanted, &to)).await
}

/// Opens the file system on a thread that may block, and does something in it.
async fn within<T: Send + 'static>(
    disk: Arc<dyn BlockSource>,
    partition: &Partition,
    work: impl FnOnce(&mut dyn FileSystem) -> Result<T> + Send + 'static,
) -> Result<T> {
    let runtime = Handle::current();
    let partition = partition.clone();
    let number = partition.number;
    let work = tokio::task::spawn_blocking(move || {
        let reader = PartReader::new(disk, runtime, partition.offset, partition.bytes);
        let reader = reader.ok_or_else(|| Failure::diverged("the partition ends beyond the disk"))?;
        match partition.holds {
            Holds::Ext4 => work(&mut ext::Ext::open(reader)?),
            Holds::Ntfs => work(&mut windows::Ntfs::open(reader)?),
            Holds::Fat => work(&mut fat::Fat::open(reader)?),
            Holds::Xfs => work(&mut xfs::Xfs::open(reader)?),
            other => Err(unreadable(other)),
        }
    });
    match work.await {
        Ok(done) => done.map_err(|failure| failure.during(format!("partition {number}"))),
        // The readers are checked against damage; should one still give up in a way of its own, this is what is left.
        Err(_) => Err(damaged("its reader gave up")),
    }
}

fn unreadable(holds: Holds) -> Failure {
    let what = match holds {
        Holds::Unknown => "what it holds is not known".to_owned(),
        other => format!("files cannot be read out of {} here", other.word()),
    };
    Failure::refused(what).help("`muster mount` serves the disk for tools that can: `guestfish --ro -a URI -i`")
}

fn damaged(what: impl std::fmt::Display) -> Failure {
    Failure::diverged(format!("the file system is damaged: {what}"))
        .help("try an older point, or `muster mount --writable` with the file system's own repair")
}

/// What went wrong below a file system: its disk, or else itself.
fn of_reader(error: &(dyn std::error::Error + 'static)) -> Failure {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match inner.and_then(|inner| inner.downcast_ref::<OfSource>()) {
        Some(OfSource(failure)) => failure.clone(),
        None => damaged(error),
    }
}

fn missing(path: &[OsString]) -> Failure {
    Failure::permanent(format!("there is no `{}`", rooted(path).display()))
        .help("`muster files list` shows what is there")
}

fn not_a_folder(path: &[OsString]) -> Failure {
    Failure::permanent(format!("`{}` is no folder", rooted(path).display()))
}

/// The names of a path from the root. `\` divides too where it cannot be meant otherwise: `C:` stays away.
fn names(path: &Path) -> Result<Vec<OsString>> {
    use std::path::Component;
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_owned()),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Failure::permanent(format!("`{}` goes up; write it from the root", path.display())));
            }
        }
    }
    Ok(names)
}

fn rooted(names: &[OsString]) -> PathBuf {
    std::iter::once(OsString::from("/")).chain(names.iter().cloned()).collect()
}
