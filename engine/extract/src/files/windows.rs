//! NTFS.

use super::{
    Content, ENTRIES_MAX, Entry, FILE_BYTES_MAX, FileSystem, Kind, damaged, missing, not_a_folder, of_reader, rooted,
};
use crate::reader::PartReader;
use muster_ports::{Failure, Result};
use ntfs::attribute_value::NtfsAttributeValue;
use ntfs::structured_values::{NtfsFileAttributeFlags, NtfsFileName, NtfsFileNamespace};
use ntfs::{NtfsAttributeFlags, NtfsError, NtfsFile, NtfsReadSeek};
use std::ffi::OsString;

/// Read from a file at once, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

pub(super) struct Ntfs {
    reader: PartReader,
    system: ntfs::Ntfs,
}

impl Ntfs {
    pub(super) fn open(mut reader: PartReader) -> Result<Self> {
        let system = ntfs::Ntfs::new(&mut reader).map_err(failure)?;
        Ok(Self { reader, system })
    }
}

/// Goes down a path. Names are compared as Windows users expect, without regard to case.
fn find<'n>(system: &'n ntfs::Ntfs, reader: &mut PartReader, path: &[OsString]) -> Result<NtfsFile<'n>> {
    let mut file = system.root_directory(reader).map_err(failure)?;
    for (index, name) in path.iter().enumerate() {
        let name = name.to_str().ok_or_else(|| missing(path))?.to_lowercase();
        if !file.is_directory() {
            return Err(not_a_folder(&path[..index]));
        }
        let mut number = None;
        each(&file, reader, |found, record| {
            if found.name().to_string_lossy().to_lowercase() == name {
                number = Some(record);
            }
            number.is_none()
        })?;
        let number = number.ok_or_else(|| missing(path))?;
        file = system.file(reader, number).map_err(failure)?;
    }
    Ok(file)
}

/// Shows each name of a folder with its record, until `see` says no.
fn each(folder: &NtfsFile<'_>, reader: &mut PartReader, mut see: impl FnMut(&NtfsFileName, u64) -> bool) -> Result<()> {
    let index = folder.directory_index(reader).map_err(failure)?;
    let mut entries = index.entries();
    let mut count = 0;
    while let Some(entry) = entries.next(reader) {
        let entry = entry.map_err(failure)?;
        let Some(name) = entry.key() else { continue };
        let name = name.map_err(failure)?;
        count += 1;
        if count > ENTRIES_MAX {
            return Err(damaged("a folder without end"));
        }
        if !see(&name, entry.file_reference().file_record_number()) {
            break;
        }
    }
    Ok(())
}

fn kind(name: &NtfsFileName) -> Kind {
    if name.file_attributes().contains(NtfsFileAttributeFlags::REPARSE_POINT) {
        Kind::Link
    } else if name.is_directory() {
        Kind::Folder
    } else {
        Kind::File
    }
}

impl FileSystem for Ntfs {
    fn look(&mut self, path: &[OsString]) -> Result<Entry> {
        let file = find(&self.system, &mut self.reader, path)?;
        let kind = if file.is_directory() { Kind::Folder } else { Kind::File };
        let data = file.data(&mut self.reader, "");
        let bytes = match data {
            Some(data) if kind == Kind::File => {
                data.and_then(|data| Ok(data.to_attribute()?.value_length())).map_err(failure)?
            }
            _ => 0,
        };
        Ok(Entry { path: rooted(path), kind, bytes })
    }

    fn list(&mut self, path: &[OsString]) -> Result<Vec<(OsString, Kind, u64)>> {
        let folder = find(&self.system, &mut self.reader, path)?;
        if !folder.is_directory() {
            return Err(not_a_folder(path));
        }
        let mut found = Vec::new();
        each(&folder, &mut self.reader, |name, record| {
            // The first records are the file system's own. Short names of DOS stand beside the real ones.
            if record >= 16 && name.namespace() != NtfsFileNamespace::Dos {
                let text = OsString::from(name.name().to_string_lossy());
                found.push((text, kind(name), if name.is_directory() { 0 } else { name.data_size() }));
            }
            true
        })?;
        Ok(found)
    }

    fn read(&mut self, path: &[OsString], out: &mut dyn Content) -> Result<u64> {
        let file = find(&self.system, &mut self.reader, path)?;
        let Some(data) = file.data(&mut self.reader, "") else {
            return Err(Failure::permanent(format!("`{}` has no content to copy", rooted(path).display())));
        };
        let data = data.map_err(failure)?;
        let attribute = data.to_attribute().map_err(failure)?;
        let hidden = NtfsAttributeFlags::COMPRESSED | NtfsAttributeFlags::ENCRYPTED;
        if attribute.flags().intersects(hidden) {
            return Err(Failure::refused(format!("`{}` is compressed or encrypted by NTFS", rooted(path).display()))
                .help("`muster mount` serves the disk for tools that can: `guestfish --ro -a URI -i`"));
        }
        let value = attribute.value(&mut self.reader).map_err(failure)?;
        if value.len() > FILE_BYTES_MAX {
            return Err(damaged(format!("a file of {} bytes", value.len())));
        }
        pour(value, &mut self.reader, out)
    }
}

fn pour(mut value: NtfsAttributeValue<'_, '_>, reader: &mut PartReader, out: &mut dyn Content) -> Result<u64> {
    let expected = value.len();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut total = 0;
    loop {
        let read = value.read(reader, &mut buffer).map_err(failure)?;
        if read == 0 {
            break;
        }
        out.write_all(&buffer[..read])?;
        total += read as u64;
    }
    if total == expected { Ok(total) } else { Err(damaged(format!("it ends after {total} of {expected} bytes"))) }
}

fn failure(error: NtfsError) -> Failure {
    match error {
        NtfsError::Io(error) => of_reader(&error),
        other => damaged(other),
    }
}
