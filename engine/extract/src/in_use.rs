//! Whether somebody uses a device or an image, as far as this machine can tell.

use muster_ports::{Failure, Result};
use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock, fstat, major, minor, open};
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;

/// Holds the target while it is written: a device exclusively, which the kernel refuses while it is mounted, in a RAID, in
/// LVM or claimed by anybody else; an image by a lock.
#[derive(Debug)]
pub(crate) struct Claim(#[allow(dead_code, reason = "held, not used")] File);

pub(crate) fn claim(path: &Path) -> Result<Claim> {
    let during = |errno: Errno| Failure::from(std::io::Error::from(errno)).during(format!("open `{}`", path.display()));
    let kind = std::fs::metadata(path).map_err(|error| Failure::from(error).during(format!("`{}`", path.display())))?;
    let is_device = std::os::unix::fs::FileTypeExt::is_block_device(&kind.file_type());
    if !is_device && !kind.is_file() {
        return Err(Failure::permanent(format!("`{}` is neither an image nor a block device", path.display())));
    }
    let mut flags = OFlags::RDWR | OFlags::CLOEXEC;
    if is_device {
        flags |= OFlags::EXCL;
    }
    let opened = open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::BUSY => in_use(path, "it is mounted, or another part of the system holds it"),
        other => during(other),
    })?;
    let stat = fstat(&opened).map_err(during)?;
    if is_device && FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
        // The kernel's refusal covers the device itself; mounts of its partitions are found here.
        refuse_mounted(path, major(stat.st_rdev), minor(stat.st_rdev))?;
    }
    flock(&opened, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        Errno::WOULDBLOCK => in_use(path, "another process has locked it"),
        other => during(other),
    })?;
    if let Some(process) = opened_by_another(stat.st_dev, stat.st_ino) {
        return Err(in_use(path, &format!("process {process} has it open to write")));
    }
    Ok(Claim(File::from(opened)))
}

fn in_use(path: &Path, why: &str) -> Failure {
    Failure::refused(format!("`{}` is in use: {why}", path.display()))
        .help("unmount it, or stop the machine that runs from it")
}

fn refuse_mounted(path: &Path, major: u32, minor: u32) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let holders = |number: &str| std::fs::canonicalize(format!("/sys/dev/block/{number}"));
    let own = holders(&format!("{major}:{minor}"))?;
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(number), Some(at)) = (words.nth(2), words.nth(1)) else { continue };
        // A partition lies in the folder of its disk.
        if holders(number).is_ok_and(|device| device.starts_with(&own)) {
            return Err(in_use(path, &format!("it is mounted at `{at}`")));
        }
    }
    Ok(())
}

/// The first other process that has the file open for writing, of those that this user may look at.
fn opened_by_another(device: u64, inode: u64) -> Option<u32> {
    let own = std::process::id();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let id = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()).filter(|id| *id != own);
        let Some(id) = id else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        for file in files.flatten() {
            let Ok(found) = std::fs::metadata(file.path()) else { continue };
            use std::os::unix::fs::MetadataExt;
            if (found.dev(), found.ino()) == (device, inode) && writes(&process.path(), &file.file_name()) {
                return Some(id);
            }
        }
    }
    None
}

fn writes(process: &Path, number: &std::ffi::OsStr) -> bool {
    let info = std::fs::read_to_string(process.join("fdinfo").join(number)).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    // The lowest two bits are how it was opened; zero is to read.
    flags.is_some_and(|flags| flags & 3 != 0)
}
