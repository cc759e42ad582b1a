//! Labs on this computer, written down, so that a new lab takes away what a killed one has left.
//!
//! A lab ends with its value. A process that is killed drops no values: its namespaces, machines and passing folders
//! stay. The note of such a lab names a process that is gone.

use crate::error::{Error, Result};
use crate::image::{make_folder, write};
use crate::site::{Site, is_alive, start_of};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Emptied at boot, as namespaces and processes are. A system without an init may not have made it.
const LOCKS: &str = "/run/lock";
const HOME: &str = "/run/lock/muster-lab";

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    lab: String,
    pid: u32,
    /// Clock ticks since boot: tells the owner from a later process with its number.
    start: u64,
    folder: PathBuf,
    /// The folder goes with the lab; one that somebody named stays to be looked at.
    passing: bool,
    sites: Vec<(String, u8)>,
}

/// The note of a living lab.
#[derive(Debug)]
pub(crate) struct Registered {
    note: Note,
}

/// Held while labs on this computer are made or taken away: one at a time.
pub(crate) fn lock() -> Result<File> {
    make_folder(Path::new(LOCKS))?;
    let path = Path::new(LOCKS).join("muster-lab.lock");
    let file = File::create(&path).map_err(Error::file(&path))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| Error::file(&path)(error.into()))?;
    Ok(file)
}

impl Registered {
    pub(crate) fn new(lab: &str, folder: &Path, passing: bool) -> Result<Self> {
        make_folder(Path::new(HOME))?;
        let pid = std::process::id();
        let start = start_of(pid).unwrap_or(0);
        let note = Note { lab: lab.to_owned(), pid, start, folder: folder.to_owned(), passing, sites: Vec::new() };
        let registered = Self { note };
        registered.write()?;
        Ok(registered)
    }

    /// Before the site is made, so that one half made is found too.
    pub(crate) fn add_site(&mut self, name: &str, subnet: u8) -> Result<()> {
        self.note.sites.push((name.to_owned(), subnet));
        self.write()
    }

    fn write(&self) -> Result<()> {
        let path = path_of(&self.note.lab);
        let beside = path.with_extension("new");
        let text = serde_json::to_string(&self.note).map_err(|error| Error::Said(error.to_string()))?;
        write(&beside, &text)?;
        fs::rename(&beside, &path).map_err(Error::file(&path))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = fs::remove_file(path_of(&self.note.lab));
    }
}

fn path_of(lab: &str) -> PathBuf {
    Path::new(HOME).join(format!("{lab}.json"))
}

/// Takes away every lab whose process is gone: its processes, its namespaces, its passing folder. Answers with their
/// names.
pub fn sweep() -> Result<Vec<String>> {
    let _lock = lock()?;
    let Ok(entries) = fs::read_dir(HOME) else { return Ok(Vec::new()) };
    let mut swept = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let note: Note = serde_json::from_str(&text)
            .map_err(|error| Error::Said(format!("{} does not read back ({error}): remove it", path.display())))?;
        if is_alive(note.pid, note.start) {
            continue;
        }
        for (name, subnet) in &note.sites {
            Site::remains(name, &note.lab, note.folder.join(name), *subnet).end()?;
        }
        if note.passing && note.folder.is_dir() {
            fs::remove_dir_all(&note.folder).map_err(Error::file(&note.folder))?;
        }
        fs::remove_file(&path).map_err(Error::file(&path))?;
        swept.push(note.lab);
    }
    Ok(swept)
}
