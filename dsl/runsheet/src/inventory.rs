//! `inventory.json`: what the sites said they have, on the day they were asked. Committed beside the plans, so that
//! compiling is offline and repeatable.

use crate::names::*;
use crate::units::{Duration, Size};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub const INVENTORY_FORMAT: &str = "muster.inventory/1";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// [`INVENTORY_FORMAT`].
    pub format: String,
    pub sites: BTreeMap<SiteName, SiteInventory>,
}

impl Default for Inventory {
    fn default() -> Self {
        Self { format: INVENTORY_FORMAT.to_owned(), sites: BTreeMap::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteInventory {
    /// Milliseconds since the Unix epoch.
    pub pulled_at: u64,
    pub provider: String,
    pub capabilities: Capabilities,
    pub machines: Vec<MachineFacts>,
    /// Names for the plans, where what the site calls a machine is no name: `sql-01` for `SQL PROD (01)`. Written by
    /// people; a pull keeps them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<MachineName, String>,
}

impl SiteInventory {
    /// Keeps of an older answer what a look at a site cannot tell: aliases, and what was learnt by watching.
    pub fn carry_over(&mut self, old: Self) {
        if self.aliases.is_empty() {
            self.aliases = old.aliases;
        }
        let mut learnt: BTreeMap<MachineName, ChurnFacts> =
            old.machines.into_iter().filter_map(|machine| Some((machine.name, machine.churn?))).collect();
        for machine in self.machines.iter_mut().filter(|machine| machine.churn.is_none()) {
            machine.churn = learnt.remove(&machine.name);
        }
    }
}

/// What a site can do. Pairs of sites are checked against these, never against product names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Machines can be shut down in an orderly way from outside.
    pub planned_shutdown: bool,
    /// A machine can be proven off by power.
    pub power_fencing: bool,
    /// Changes are tracked below the guest.
    pub host_tracking: bool,
    /// Guests can be frozen for application-consistent points.
    pub app_consistency: bool,
    /// Machines can run from a replica at once (instant recovery).
    pub instant_recovery: bool,
    /// Isolated networks for drills.
    pub bubbles: bool,
    /// A drill's machines can be plugged into a network that is there for tests.
    #[serde(default)]
    pub test_networks: bool,
    /// Commands can be run in guests over SSH.
    #[serde(default)]
    pub guest_ssh: bool,
    /// Files of a machine that is off can be read and written on its disk.
    #[serde(default)]
    pub disk_files: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    On,
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFacts {
    pub name: DiskName,
    pub size_bytes: u64,
}

/// A network card: where it is plugged in, and the address DHCP gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicShape {
    pub network: NetworkName,
    /// Six hex pairs, lower case, `52:54:00:00:00:01`.
    pub mac: String,
    pub ip: Option<IpAddr>,
}

/// A network to exist at a site. `cidr` in the form `10.10.20.0/24`; the first host address is the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkShape {
    pub name: NetworkName,
    pub cidr: String,
}

/// A machine as discovery finds it. The first disk is the one it boots from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFacts {
    pub name: MachineName,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub disks: Vec<DiskFacts>,
    pub nics: Vec<NicShape>,
    pub power: Power,
    /// A guest agent answers, so that the machine can be frozen and asked.
    pub guest_agent: bool,
    /// Bytes written a second, mean since the last look; 0 when not known.
    #[serde(default)]
    pub churn_bytes_per_second: u64,
    /// What it writes in its busy hours; known once it has been watched for some days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub churn: Option<ChurnFacts>,
    /// Where the site keeps it, by kind of container: `cloud` Gold, `folder` /Shop, `resource-group` shop-rg.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What a machine writes: in 95 of 100 intervals no more than this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChurnFacts {
    pub interval: Duration,
    pub p95: Size,
    /// Days it was watched for, up to `until`.
    pub days: u32,
    /// `2027-03-02`.
    pub until: String,
}
