//! Copies out of a file system onto this machine. Names come from a disk that others wrote: none of them may lead outside.

use super::{Content, DEPTH_MAX, FileSystem, Kind, rooted};
use crate::partial::Partial;
use muster_ports::{Failure, Result};
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Zeroes are looked for in blocks of this many bytes, and left as holes.
const BLOCK_BYTES: usize = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Copied {
    pub files: u64,
    pub folders: u64,
    pub bytes: u64,
    /// Links, devices and names that no file here can have; each in words. Nothing else is left out.
    pub left_out: Vec<String>,
    /// What stands at the destination now, one for each path that was asked for.
    pub written: Vec<PathBuf>,
}

pub(super) fn copy(system: &mut dyn FileSystem, wanted: &[Vec<OsString>], to: &Path) -> Result<Copied> {
    std::fs::create_dir_all(to).map_err(|error| Failure::from(error).during(format!("make `{}`", to.display())))?;
    let mut copied = Copied::default();
    for path in wanted {
        let entry = system.look(path)?;
        // The root has no name: what is in it goes straight to the destination.
        let target = path.last().map_or_else(|| to.to_owned(), |name| to.join(name));
        match entry.kind {
            Kind::Folder => folder(system, path, &target, &mut copied, 0)?,
            Kind::File => file(system, path, &target, &mut copied)?,
            Kind::Link | Kind::Special => {
                return Err(Failure::permanent(format!("`{}` has no content to copy", rooted(path).display())));
            }
        }
        copied.written.push(target);
    }
    Ok(copied)
}

fn folder(
    system: &mut dyn FileSystem,
    path: &[OsString],
    target: &Path,
    copied: &mut Copied,
    depth: usize,
) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(super::damaged(format!("`{}` lies deeper than {DEPTH_MAX} folders", rooted(path).display())));
    }
    std::fs::create_dir_all(target).map_err(|error| writing(error, target))?;
    copied.folders += 1;
    for (name, kind, _) in system.list(path)? {
        let inside: Vec<OsString> = path.iter().cloned().chain([name.clone()]).collect();
        let at = rooted(&inside);
        if !is_plain(&name) {
            copied.left_out.push(format!("`{}`: no file here can have this name", at.display()));
            continue;
        }
        let target = target.join(&name);
        match kind {
            Kind::Folder => folder(system, &inside, &target, copied, depth + 1)?,
            Kind::File => file(system, &inside, &target, copied)?,
            Kind::Link => copied.left_out.push(format!("`{}` is a link", at.display())),
            Kind::Special => copied.left_out.push(format!("`{}` is no file", at.display())),
        }
    }
    Ok(())
}

/// One name, which stays where it is put.
fn is_plain(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 255
        && name != "."
        && name != ".."
        && !bytes.iter().any(|b| matches!(b, 0 | b'/'))
}

fn file(system: &mut dyn FileSystem, path: &[OsString], target: &Path, copied: &mut Copied) -> Result<()> {
    let partial = Partial::begin(target)?;
    let opened = File::options().write(true).open(partial.path()).map_err(|error| writing(error, target))?;
    let mut out = Sparse { file: opened, at: 0, failed: None };
    let read = system.read(path, &mut out);
    if let Some(error) = out.failed.take() {
        return Err(writing(error, target));
    }
    let bytes = read.map_err(|failure| failure.during(format!("`{}`", rooted(path).display())))?;
    out.file.set_len(out.at).map_err(|error| writing(error, target))?;
    partial.finish()?;
    copied.files += 1;
    copied.bytes += bytes;
    Ok(())
}

fn writing(error: io::Error, target: &Path) -> Failure {
    Failure::from(error).during(format!("write `{}`", target.display()))
}

/// Leaves holes where zeroes come.
struct Sparse {
    file: File,
    at: u64,
    /// An error of this machine, not of what is read.
    failed: Option<io::Error>,
}

impl Sparse {
    fn put(&mut self, data: &[u8]) -> io::Result<()> {
        for block in data.chunks(BLOCK_BYTES) {
            if block.iter().any(|byte| *byte != 0) {
                self.file.seek(SeekFrom::Start(self.at))?;
                self.file.write_all(block)?;
            }
            self.at += block.len() as u64;
        }
        Ok(())
    }
}

impl Content for Sparse {
    fn hole(&mut self, bytes: u64) {
        self.at += bytes;
    }
}

impl Write for Sparse {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.put(data) {
            Ok(()) => Ok(data.len()),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn names_that_lead_outside_are_no_names() {
        for bad in ["", ".", "..", "a/b", "/etc", "a\0b"] {
            assert!(!is_plain(bad.as_ref()), "{bad:?}");
        }
        assert!(is_plain("...".as_ref()) && is_plain("ä b".as_ref()));
    }
}
