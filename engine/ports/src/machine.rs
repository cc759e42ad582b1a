//! Machines as plain data: what was found, what is wanted, what is seen.

use crate::ids::*;
use crate::network::NetworkScope;
use crate::replica::ReplicaImage;
pub use muster_runsheet::inventory::{Capabilities, DiskFacts, MachineFacts, NetworkShape, NicShape, Power};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// A site's answer to "who are you".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteFacts {
    pub site: SiteName,
    /// `qemu`, `simulated`.
    pub provider: String,
    /// How machines are run, in the provider's words: `qemu 7.2, accel tcg (kvm: probe boot gave no answer)`.
    pub detail: String,
    pub capabilities: Capabilities,
}

/// Where a disk of a new instance comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum DiskBacking {
    /// A new disk of zeroes.
    Blank,
    /// The disk this machine already has at this site, as it lies there.
    Existing,
    /// A writable overlay over an NBD export at a Unix socket below the site's folder. The export is read-only.
    Export { socket: String, export: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskShape {
    pub name: DiskName,
    pub size_bytes: u64,
    pub backing: DiskBacking,
}

/// A machine as it is to be at a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineShape {
    pub instance: InstanceName,
    pub machine: MachineName,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub disks: Vec<DiskShape>,
    pub nics: Vec<NicShape>,
    pub scope: NetworkScope,
    /// Carried by the resource, so that a step finds after a crash what it made before it: `muster.key`, `muster.run`.
    pub labels: BTreeMap<String, String>,
    /// Start tracking changes from the first write, as if cut at this barrier: the base for the way home.
    pub track_from: Option<BarrierId>,
}

/// What is seen of an instance at a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceState {
    pub instance: InstanceName,
    pub machine: MachineName,
    pub power: Power,
    /// The site refuses to start it until it is unfenced.
    pub fenced: bool,
    /// Its disks still need the replica they were landed from.
    pub tied: bool,
    pub scope: NetworkScope,
    pub nics: Vec<NicShape>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum StopMode {
    /// Ask the guest to shut down; `Timeout` when it has not within the limit (the machine is then still on).
    Orderly { within: Duration },
    /// Cut the power.
    Hard,
}

/// A command for a guest, run without a shell: program and arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestCommand {
    pub program: String,
    pub arguments: Vec<String>,
    pub stdin: Option<String>,
    pub within: Duration,
}

/// Bytes of a file that is read or written on a disk. What hooks change there is configuration.
pub const DISK_FILE_BYTES_MAX: usize = 512 << 10;

/// A text that is never printed: a private key on its way to a site.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Concealed(String);

impl Concealed {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Concealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A command for a guest over SSH, from inside the network it has landed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellOrder {
    pub ip: IpAddr,
    pub port: u16,
    pub user: String,
    /// Private, without a passphrase, in the form that OpenSSH reads.
    pub key: Concealed,
    /// What the guest has to prove to be, one line for each key: `ssh-ed25519 AAAA…`.
    pub host_keys: String,
    /// The login shell of the user runs it: program and arguments are quoted, so that it sees them as they are.
    pub command: GuestCommand,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestOutput {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// How the disks of a landed machine come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LandMode {
    /// A local writable overlay over the replica, served from the vault: boots at once, tied until hydrated.
    Instant,
    /// The disks the machine already has at this site are compared with the point and only differences are written.
    /// Falls back to `Full` for a disk that is not there, and says so.
    Differences,
    /// Every disk is written out from the vault before the machine exists.
    Full,
}

/// Bring a machine to exist, powered off, at a site from a recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandOrder {
    /// `disks[i].backing` is ignored: it follows from `mode`.
    pub shape: MachineShape,
    /// One per disk of `shape`, by disk name.
    pub images: BTreeMap<DiskName, ReplicaImage>,
    pub mode: LandMode,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandReport {
    /// Bytes fetched from the vault before the machine could start.
    pub fetched_bytes: u64,
    /// Bytes compared on disks that were already here.
    pub compared_bytes: u64,
    /// Bytes written to local disks.
    pub written_bytes: u64,
    /// What did not go as asked, in plain words.
    pub notes: Vec<String>,
}
