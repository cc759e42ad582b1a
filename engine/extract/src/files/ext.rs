//! ext2, ext3 and ext4.

use super::{
    Content, ENTRIES_MAX, Entry, FILE_BYTES_MAX, FileSystem, Kind, damaged, missing, not_a_folder, of_reader, rooted,
};
use crate::reader::PartReader;
use ext4_view::{Ext4, Ext4Error, FileType};
use muster_ports::{Failure, Result};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Read from a file at once, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

pub(super) struct Ext {
    system: Ext4,
}

impl Ext {
    pub(super) fn open(reader: PartReader) -> Result<Self> {
        let system = Ext4::load(Box::new(reader)).map_err(|error| failure(error, &[]))?;
        Ok(Self { system })
    }
}

impl FileSystem for Ext {
    fn look(&mut self, path: &[OsString]) -> Result<Entry> {
        let at = rooted(path);
        let found = self.system.metadata(at.as_os_str().as_bytes()).map_err(|error| failure(error, path))?;
        Ok(Entry { path: at, kind: kind(found.file_type()), bytes: found.len() })
    }

    fn list(&mut self, path: &[OsString]) -> Result<Vec<(OsString, Kind, u64)>> {
        let failure = |error| failure(error, path);
        let entries = self.system.read_dir(rooted(path).as_os_str().as_bytes()).map_err(failure)?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failure)?;
            let name = OsStr::from_bytes(entry.file_name().as_ref()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            if found.len() == ENTRIES_MAX {
                return Err(damaged(format!("`{}` has no end", rooted(path).display())));
            }
            // Of the entry itself, so that links are told and not followed.
            let about = entry.metadata().map_err(failure)?;
            found.push((name, kind(about.file_type()), about.len()));
        }
        Ok(found)
    }

    fn read(&mut self, path: &[OsString], out: &mut dyn Content) -> Result<u64> {
        let failure = |error| failure(error, path);
        let mut file = self.system.open(rooted(path).as_os_str().as_bytes()).map_err(failure)?;
        if file.metadata().len() > FILE_BYTES_MAX {
            return Err(damaged(format!("a file of {} bytes", file.metadata().len())));
        }
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut total = 0;
        loop {
            let read = file.read_bytes(&mut buffer).map_err(failure)?;
            if read == 0 {
                return Ok(total);
            }
            out.write_all(&buffer[..read])?;
            total += read as u64;
        }
    }
}

fn kind(of: FileType) -> Kind {
    match of {
        FileType::Regular => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Link,
        _ => Kind::Special,
    }
}

fn failure(error: Ext4Error, path: &[OsString]) -> Failure {
    match error {
        Ext4Error::NotFound => missing(path),
        Ext4Error::NotADirectory => not_a_folder(path),
        Ext4Error::Encrypted => Failure::refused(format!("`{}` is encrypted", rooted(path).display())),
        Ext4Error::Io(error) => of_reader(&*error),
        error @ (Ext4Error::Incompatible(_) | Ext4Error::Corrupt(_)) => damaged(error),
        other => Failure::permanent(format!("`{}`: {other}", rooted(path).display())),
    }
}
