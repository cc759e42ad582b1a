//! A site's folder: what outlives the process.
//!
//! ```text
//!   site.lock                     held while a process has the site open
//!   site.json                     fences, networks, bubbles
//!   machines/<instance>/machine.json   definition, labels, power
//!   machines/<instance>/<disk>.raw     the disk
//!   machines/<instance>/<disk>.track   base and change map; there only while the machine is off
//! ```
//!
//! A change map is taken away when its machine starts and written again when it stops, so a map that is found is never
//! older than its disk. A map that is missing where power was on means that the process was killed.

use crate::bitmap::Bitmap;
use crate::disk::{Base, Disk};
use crate::medium::Medium;
use crate::site::{MachineRecord, SiteRecord};
use muster_ports::{BarrierId, DiskName, Failure, InstanceName, Power, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TRACK_FORMAT: &str = "muster.track/1";

#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Keeps a second process out until this one ends.
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct TrackFile {
    format: String,
    size_bytes: u64,
    base: BarrierId,
    runs: Vec<(u64, u64)>,
    /// CRC-32 of base and runs as JSON.
    crc: u32,
}

/// A disk as it was found.
pub(crate) struct FoundDisk {
    pub(crate) name: DiskName,
    pub(crate) disk: Arc<Disk>,
}

impl Folder {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let doing = || format!("open the site folder `{}`", root.display());
        fs::create_dir_all(root.join("machines")).map_err(Failure::from).map_err(|failure| failure.during(doing()))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(root.join("site.lock"));
        let lock = lock.map_err(Failure::from).map_err(|failure| failure.during(doing()))?;
        if lock.try_lock().is_err() {
            return Err(Failure::refused(format!("the site folder `{}` is in use by another process", root.display()))
                .help("stop the other site agent, or give this one a folder of its own"));
        }
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    fn machine_folder(&self, instance: &InstanceName) -> PathBuf {
        self.root.join("machines").join(instance.as_str())
    }
    fn file(&self, instance: &InstanceName, disk: &DiskName, extension: &str) -> PathBuf {
        self.machine_folder(instance).join(format!("{disk}.{extension}"))
    }

    pub(crate) fn load_site(&self) -> Result<SiteRecord> {
        Ok(read_json(&self.root.join("site.json"))?.unwrap_or_default())
    }
    pub(crate) fn save_site(&self, record: &SiteRecord) -> Result<()> {
        write_json(&self.root.join("site.json"), record)
    }

    /// Folders below `machines/`; one without a definition still holds disks.
    pub(crate) fn load_machines(&self) -> Result<Vec<(InstanceName, Option<MachineRecord>)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root.join("machines"))? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let Ok(name) = entry.file_name().into_string() else { continue };
            found.push((InstanceName::new(name), read_json(&entry.path().join("machine.json"))?));
        }
        found.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(found)
    }

    pub(crate) fn save_machine(&self, instance: &InstanceName, record: &MachineRecord) -> Result<()> {
        fs::create_dir_all(self.machine_folder(instance))?;
        write_json(&self.machine_folder(instance).join("machine.json"), record)
    }

    pub(crate) fn remove_machine(&self, instance: &InstanceName) -> Result<()> {
        let folder = self.machine_folder(instance);
        ignore_missing(fs::remove_file(folder.join("machine.json")))?;
        // Goes only when no disk is left in it.
        let _ = fs::remove_dir(&folder);
        Ok(())
    }

    pub(crate) fn load_disks(&self, instance: &InstanceName, was_on: bool) -> Result<Vec<FoundDisk>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.machine_folder(instance))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "raw") {
                continue;
            }
            let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).map(DiskName::new) else { continue };
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let size = file.metadata()?.len();
            let (base, dirty) = self.load_track(instance, &name, size, was_on);
            let label = format!("{instance}/{name}");
            found.push(FoundDisk { disk: Disk::new(label, Medium::File(file), size, base, dirty), name });
        }
        Ok(found)
    }

    pub(crate) fn create_disk(&self, instance: &InstanceName, disk: &DiskName, size: u64) -> Result<Medium> {
        fs::create_dir_all(self.machine_folder(instance))?;
        let path = self.file(instance, disk, "raw");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file =
            open.map_err(Failure::from).map_err(|failure| failure.during(format!("make `{}`", path.display())))?;
        file.set_len(size)?;
        Ok(Medium::File(file))
    }

    pub(crate) fn remove_disk(&self, instance: &InstanceName, disk: &DiskName) -> Result<()> {
        ignore_missing(fs::remove_file(self.file(instance, disk, "raw")))?;
        self.remove_track(instance, disk)?;
        let _ = fs::remove_dir(self.machine_folder(instance));
        Ok(())
    }

    pub(crate) fn remove_track(&self, instance: &InstanceName, disk: &DiskName) -> Result<()> {
        ignore_missing(fs::remove_file(self.file(instance, disk, "track")))
    }

    pub(crate) fn save_track(&self, instance: &InstanceName, name: &DiskName, disk: &Disk) -> Result<()> {
        let (Base::Known(base), dirty) = disk.tracking() else { return self.remove_track(instance, name) };
        let runs = dirty.runs();
        let crc = track_crc(&base, &runs);
        let track = TrackFile { format: TRACK_FORMAT.to_owned(), size_bytes: disk.size(), base, runs, crc };
        write_json(&self.file(instance, name, "track"), &track)
    }

    fn load_track(&self, instance: &InstanceName, disk: &DiskName, size: u64, was_on: bool) -> (Base, Option<Bitmap>) {
        let lost = |why: &str| (Base::Lost(why.to_owned()), None);
        if was_on {
            return lost("the machine's process was killed, and its change map with it");
        }
        let track: TrackFile = match read_json(&self.file(instance, disk, "track")) {
            Ok(Some(track)) => track,
            Ok(None) => return lost("the disk was not tracked"),
            Err(failure) => return (Base::Lost(format!("the saved change map is damaged: {}", failure.message)), None),
        };
        if track.format != TRACK_FORMAT || track.size_bytes != size || track.crc != track_crc(&track.base, &track.runs)
        {
            return lost("the saved change map is damaged or of another disk");
        }
        match Bitmap::from_runs(size, &track.runs) {
            Some(dirty) => (Base::Known(track.base), Some(dirty)),
            None => lost("the saved change map is damaged"),
        }
    }
}

fn track_crc(base: &BarrierId, runs: &[(u64, u64)]) -> u32 {
    crc32fast::hash(serde_json::to_string(&(base, runs)).unwrap_or_default().as_bytes())
}

/// A name that becomes a file name must be one: no separators, not hidden, not empty.
pub(crate) fn check_name(kind: &str, name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_~.".contains(c);
    if !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(plain) {
        return Ok(());
    }
    Err(Failure::permanent(format!("`{name}` cannot be the name of a {kind}"))
        .help("use at most 128 letters, digits, `-`, `_`, `~` and `.`, not beginning with a dot"))
}

pub(crate) fn was_on(record: Option<&MachineRecord>) -> bool {
    record.is_some_and(|record| record.power == Power::On)
}

fn ignore_missing(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::from(error).during(format!("read `{}`", path.display()))),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        Failure::permanent(format!("`{}` does not read: {error}", path.display()))
            .help("repair the file, or move it away so that it is made anew")
    })
}

/// Whole or not at all: a new file is made durable, then takes the old one's place.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| Failure::permanent(error.to_string()))?;
    let fresh = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|error| Failure::from(error).during(format!("write `{}`", path.display())))
}
