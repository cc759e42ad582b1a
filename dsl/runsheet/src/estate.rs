//! The declarative half of the plans: sites, routes, groups, policies and machines, resolved. What replication works on.

use crate::inventory::*;
use crate::names::*;
use crate::units::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estate {
    pub sites: BTreeMap<SiteName, SiteSheet>,
    pub routes: Vec<RouteSheet>,
    pub policies: BTreeMap<PolicyName, PolicySheet>,
    pub groups: BTreeMap<GroupName, GroupSheet>,
    /// Where each machine is at home, and what it is there.
    pub machines: BTreeMap<MachineName, MachineSheet>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteSheet {
    pub name: SiteName,
    /// `qemu`, `simulated`.
    pub provider: String,
    /// `host:port` of the site agent.
    pub agent: String,
    pub networks: Vec<NetworkShape>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteSheet {
    pub left: SiteName,
    pub right: SiteName,
    /// URL of the vault. A relative path is relative to the folder of the plans and stored absolute.
    pub vault: String,
    pub networks: Vec<NetworkPair>,
    pub addresses: Vec<(std::net::IpAddr, std::net::IpAddr)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkPair {
    pub left: NetworkName,
    pub right: NetworkName,
    pub test: TestNetwork,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "test", rename_all = "kebab-case")]
pub enum TestNetwork {
    /// A copy with the same addresses and no way out.
    Isolated,
    /// A network made for tests.
    Network { network: NetworkName },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicySheet {
    pub name: PolicyName,
    pub rpo: Duration,
    pub cycle: Duration,
    /// How often an application-consistent point is taken; `None` is never.
    pub app_every: Option<Duration>,
    pub retain: Duration,
    /// The rate that holds when no window is open; `None` is unlimited.
    pub bandwidth: Option<Rate>,
    pub bandwidth_windows: Vec<(WindowSheet, Rate)>,
    /// Room for changes at the source before the disk is marked for resync.
    pub change_log: Option<Size>,
    /// zstd level.
    pub compression: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowSheet {
    pub name: String,
    pub days: String,
    pub hours: String,
    pub zone: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSheet {
    pub name: GroupName,
    /// `None` is `policy = none`: decided not to be replicated.
    pub policy: Option<PolicyName>,
    pub machines: Vec<MachineName>,
    /// Members share recovery points.
    pub together: bool,
    /// Where they are at home and where they are recovered to; `None` while no plan moves them.
    pub home: Option<SiteName>,
    pub away: Option<SiteName>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineSheet {
    pub facts: MachineFacts,
    pub home: SiteName,
    pub group: Option<GroupName>,
}
