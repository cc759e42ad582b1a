//! The site's folder: where everything lies, and how records are written so that a power cut never leaves half of one.
//!
//! ```text
//!   site.json                    name, live networks
//!   accel.json                   how machines are run here, found out once
//!   machines/INSTANCE/           machine.json, DISK.qcow2, qmp.sock, qga.sock, nbd.sock, console.log, *.pid
//!   fences/HASH.json             instances that may not start
//!   cuts/HASH.json               cuts that are not settled
//!   bubbles/HASH/                bubble.json, keeper.pid, dnsmasq.pid
//!   network/                     dnsmasq of the live networks
//! ```

use crate::limits;
use muster_ports::{
    BarrierId, BubbleId, DiskName, Failure, Hash, InstanceName, MachineName, NetworkScope, NetworkShape, NicShape,
    Result, SiteName,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

const SITE_FORMAT: &str = "muster.qemu-site/1";
pub(crate) const MACHINE_FORMAT: &str = "muster.qemu-machine/1";
pub(crate) const KEY_LABEL: &str = "muster.key";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SiteRecord {
    pub(crate) format: String,
    pub(crate) name: SiteName,
    #[serde(default)]
    pub(crate) networks: Vec<NetworkShape>,
}

impl SiteRecord {
    pub(crate) fn new(name: &SiteName) -> Self {
        Self { format: SITE_FORMAT.to_owned(), name: name.clone(), networks: Vec::new() }
    }
}

/// An instance as it is kept: what `define` was told, or what was found here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MachineRecord {
    pub(crate) format: String,
    pub(crate) instance: InstanceName,
    pub(crate) machine: MachineName,
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) disks: Vec<DiskRecord>,
    pub(crate) nics: Vec<NicShape>,
    pub(crate) scope: NetworkScope,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether a guest agent answered when it was last asked.
    #[serde(default)]
    pub(crate) guest_agent: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DiskRecord {
    pub(crate) name: DiskName,
    pub(crate) size_bytes: u64,
    /// A qcow2 in the machine's folder.
    pub(crate) file: String,
    /// What the disk still reads from.
    #[serde(default)]
    pub(crate) export: Option<ExportRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExportRecord {
    pub(crate) socket: String,
    pub(crate) export: String,
}

impl MachineRecord {
    pub(crate) fn key(&self) -> Option<&str> {
        self.labels.get(KEY_LABEL).map(String::as_str)
    }
    pub(crate) fn is_tied(&self) -> bool {
        self.disks.iter().any(|disk| disk.export.is_some())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder's inner folders and its `site.json`, or finds them.
    pub(crate) fn open(path: &Path, site: &SiteName) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| at(path, &error))?;
        let folder = Self(path.canonicalize().map_err(|error| at(path, &error))?);
        for inner in ["machines", "fences", "cuts", "bubbles", "network"] {
            let inner = folder.0.join(inner);
            fs::create_dir_all(&inner).map_err(|error| at(&inner, &error))?;
        }
        match folder.site()? {
            Some(found) if found.name != *site => {
                return Err(Failure::permanent(format!(
                    "`{}` is the folder of the site `{}`, not of `{site}`",
                    path.display(),
                    found.name
                ))
                .help("give every site a folder of its own"));
            }
            Some(_) => {}
            None => folder.write_site(&SiteRecord::new(site))?,
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn site(&self) -> Result<Option<SiteRecord>> {
        read_json(&self.0.join("site.json"))
    }
    pub(crate) fn write_site(&self, site: &SiteRecord) -> Result<()> {
        write_json(&self.0.join("site.json"), site)
    }

    pub(crate) fn machine(&self, instance: &InstanceName) -> Result<PathBuf> {
        check_name("instance", instance.as_str())?;
        Ok(self.0.join("machines").join(instance.as_str()))
    }
    pub(crate) fn record(&self, instance: &InstanceName) -> Result<Option<MachineRecord>> {
        read_json(&self.machine(instance)?.join("machine.json"))
    }
    /// The record of an instance that has to exist.
    pub(crate) fn known(&self, instance: &InstanceName) -> Result<MachineRecord> {
        self.record(instance)?
            .ok_or_else(|| Failure::permanent(format!("there is no machine `{instance}` at this site")))
    }
    pub(crate) fn write_record(&self, record: &MachineRecord) -> Result<()> {
        write_json(&self.machine(&record.instance)?.join("machine.json"), record)
    }
    /// All instances that are defined, by name. One that cannot be read is an error that names it.
    pub(crate) fn records(&self) -> Result<Vec<MachineRecord>> {
        let folder = self.0.join("machines");
        let mut records = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| at(&folder, &error))? {
            let path = entry.map_err(|error| at(&folder, &error))?.path().join("machine.json");
            records.extend(read_json::<MachineRecord>(&path)?);
        }
        records.sort_by(|a, b| a.instance.cmp(&b.instance));
        Ok(records)
    }

    pub(crate) fn fence(&self, instance: &InstanceName) -> PathBuf {
        self.0.join("fences").join(format!("{}.json", short_hash(instance.as_str())))
    }
    pub(crate) fn cut(&self, barrier: &BarrierId) -> PathBuf {
        self.0.join("cuts").join(format!("{}.json", short_hash(barrier.as_str())))
    }
    pub(crate) fn cuts(&self) -> PathBuf {
        self.0.join("cuts")
    }
    pub(crate) fn bubbles(&self) -> PathBuf {
        self.0.join("bubbles")
    }
    pub(crate) fn bubble(&self, bubble: &BubbleId) -> PathBuf {
        self.bubbles().join(short_hash(bubble.as_str()))
    }
    pub(crate) fn network(&self) -> PathBuf {
        self.0.join("network")
    }
}

/// Twelve hex digits of a name, for places that take few characters. 48 bits: no two names of one site meet.
pub(crate) fn short_hash(text: &str) -> String {
    Hash::of(text).0.chars().take(12).collect()
}

/// Names become file names and monitor ids: nothing that climbs out of a folder or breaks a command line.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    if name.is_empty() || name.len() > limits::NAME_CHARACTERS || name.starts_with('.') || !name.chars().all(fits) {
        return Err(Failure::permanent(format!("`{name}` cannot be the name of an {what} at this site"))
            .help(format!("use letters, digits, `-`, `_`, `.` and `~`, at most {} of them", limits::NAME_CHARACTERS)));
    }
    Ok(())
}

pub(crate) fn at(path: &Path, error: &std::io::Error) -> Failure {
    let mut failure = Failure::from(std::io::Error::from(error.kind()));
    failure.message = format!("{}: {error}", path.display());
    failure
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(at(path, &error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Failure::diverged(format!("{} does not read back: {error}", path.display()))
            .help("mend the file by hand, or move the folder it lies in out of the site's folder")
    })
}

/// Beside, synced, renamed, folder synced: afterwards the old or the new content is there, never a mixture.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| Failure::permanent(error.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = path.with_extension("new");
    let write = || {
        fs::create_dir_all(folder)?;
        let mut file = File::create(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| at(path, &error))
}

/// Removes a file; that it is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path, &error)),
        _ => Ok(()),
    }
}
