//! FAT12, FAT16 and FAT32.

use super::{Content, ENTRIES_MAX, Entry, FileSystem, Kind, damaged, missing, not_a_folder, of_reader, rooted};
use crate::reader::PartReader;
use fatfs::{Dir, DirEntry};
use muster_ports::{Failure, Result};
use std::ffi::OsString;
use std::io::Read;

/// Read from a file at once, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

pub(super) struct Fat {
    system: fatfs::FileSystem<PartReader>,
}

/// Where a path leads.
enum Found<'a> {
    Root(Dir<'a, PartReader>),
    Entry(DirEntry<'a, PartReader>),
}

impl Fat {
    pub(super) fn open(reader: PartReader) -> Result<Self> {
        let system = fatfs::FileSystem::new(reader, fatfs::FsOptions::new()).map_err(|error| of_reader(&error))?;
        Ok(Self { system })
    }

    fn find(&self, path: &[OsString]) -> Result<Found<'_>> {
        let mut folder = self.system.root_dir();
        for (index, name) in path.iter().enumerate() {
            let name = name.to_str().ok_or_else(|| missing(path))?;
            let found = entries(&folder)?.into_iter().find(|entry| {
                entry.file_name().eq_ignore_ascii_case(name) || entry.short_file_name().eq_ignore_ascii_case(name)
            });
            let found = found.ok_or_else(|| missing(path))?;
            if index + 1 == path.len() {
                return Ok(Found::Entry(found));
            }
            if !found.is_dir() {
                return Err(not_a_folder(&path[..=index]));
            }
            folder = found.to_dir();
        }
        Ok(Found::Root(folder))
    }
}

/// All entries; a chain that goes round is found by their number.
fn entries<'a>(folder: &Dir<'a, PartReader>) -> Result<Vec<DirEntry<'a, PartReader>>> {
    // A folder of FAT has at most 65,536 entries; the limit of all file systems is enough against a chain without end.
    let mut found = Vec::new();
    for entry in folder.iter() {
        if found.len() == ENTRIES_MAX.min(1 << 16) {
            return Err(damaged("a folder without end"));
        }
        found.push(entry.map_err(|error| of_reader(&error))?);
    }
    Ok(found)
}

impl FileSystem for Fat {
    fn look(&mut self, path: &[OsString]) -> Result<Entry> {
        let (kind, bytes) = match self.find(path)? {
            Found::Root(_) => (Kind::Folder, 0),
            Found::Entry(entry) if entry.is_dir() => (Kind::Folder, 0),
            Found::Entry(entry) => (Kind::File, entry.len()),
        };
        Ok(Entry { path: rooted(path), kind, bytes })
    }

    fn list(&mut self, path: &[OsString]) -> Result<Vec<(OsString, Kind, u64)>> {
        let folder = match self.find(path)? {
            Found::Root(folder) => folder,
            Found::Entry(entry) if entry.is_dir() => entry.to_dir(),
            Found::Entry(_) => return Err(not_a_folder(path)),
        };
        let named = entries(&folder)?.into_iter().map(|entry| {
            let kind = if entry.is_dir() { Kind::Folder } else { Kind::File };
            let bytes = if entry.is_dir() { 0 } else { entry.len() };
            (OsString::from(entry.file_name()), kind, bytes)
        });
        Ok(named.filter(|(name, ..)| name != "." && name != "..").collect())
    }

    fn read(&mut self, path: &[OsString], out: &mut dyn Content) -> Result<u64> {
        let entry = match self.find(path)? {
            Found::Entry(entry) if entry.is_file() => entry,
            _ => return Err(Failure::permanent(format!("`{}` is a folder", rooted(path).display()))),
        };
        let (mut file, expected) = (entry.to_file(), entry.len());
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut total = 0;
        loop {
            let read = file.read(&mut buffer).map_err(|error| of_reader(&error))?;
            if read == 0 {
                break;
            }
            out.write_all(&buffer[..read])?;
            total += read as u64;
        }
        if total != expected {
            return Err(damaged(format!("`{}` ends after {total} of {expected} bytes", rooted(path).display())));
        }
        Ok(total)
    }
}
