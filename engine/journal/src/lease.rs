//! Who is the writer: the polite half of "one writer". The strict half is the store itself, which fences.
//!
//! A lease tells a second muster *before* it fences anybody that somebody is at work, who, and what can be done.

use crate::slate::SECOND;
use muster_ports::{Epoch, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

pub const LEASE_KEY: &str = "engine/lease";
/// A lease that was not renewed for so long is stale. Long enough for a machine under load, short enough for a night in
/// which somebody waits for it.
pub const LEASE_TTL: Duration = SECOND.saturating_mul(30);
/// How often it is renewed: two renewals may be lost.
pub const LEASE_RENEWAL: Duration = SECOND.saturating_mul(10);

/// A process, told apart from every other one there ever was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub host: String,
    /// Changes with every boot of the host; empty where it cannot be known.
    pub boot: String,
    /// Process numbers mean something only within their name space; empty where it cannot be known.
    pub pid_space: String,
    pub pid: u32,
    /// Start time of the process in the system's own ticks, since process numbers are used again.
    pub started: u64,
    /// What it is doing, as its user knows it: `muster run shop.runsheet`.
    pub doing: String,
}

fn first_line(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Field 22 of `/proc/<pid>/stat`. The second field is a name in brackets that may hold anything. A process that has
/// ended and that its parent has not looked after yet (state `Z`) is none any more.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    fields.nth(18).filter(|_| !matches!(state, "Z" | "X"))?.parse().ok()
}

impl Owner {
    pub fn this_process(doing: impl Into<String>) -> Self {
        let pid = std::process::id();
        let pid_space = std::fs::read_link("/proc/self/ns/pid");
        Self {
            host: first_line("/proc/sys/kernel/hostname"),
            boot: first_line("/proc/sys/kernel/random/boot_id"),
            pid_space: pid_space.map(|path| path.display().to_string()).unwrap_or_default(),
            pid,
            started: start_ticks(pid).unwrap_or(0),
            doing: doing.into(),
        }
    }

    /// Whether the process is known to be gone: only said of a process of this very boot and name space.
    pub fn is_gone(&self) -> bool {
        let here = Self::this_process("");
        let comparable = !here.boot.is_empty()
            && (&here.host, &here.boot, &here.pid_space) == (&self.host, &self.boot, &self.pid_space);
        comparable && start_ticks(self.pid) != Some(self.started)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (process {} on `{}`)", self.doing, self.pid, self.host)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub owner: Owner,
    pub epoch: Epoch,
    pub since: Timestamp,
    pub renewed_at: Timestamp,
    pub ttl_millis: u64,
}

impl Lease {
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now.since(self.renewed_at) <= Duration::from_millis(self.ttl_millis) && !self.owner.is_gone()
    }
}

/// What to do when a live lease is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// Refuse while the other one is alive.
    WhenStale,
    /// Become the writer at once; the other one is fenced at its next write.
    Steal,
}
