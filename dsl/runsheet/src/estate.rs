//! The declarative half of the plans: sites, routes, groups, policies and machines, resolved. What replication works on.

use crate::inventory::*;
use crate::names::*;
use crate::units::*;
use crate::value::Value;
use crate::window::WindowSheet;
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
    /// Who is asked, by the name in the plans.
    #[serde(default)]
    pub teams: BTreeMap<String, TeamSheet>,
}

/// A secret of the plans: its name there and its key in the keyring. Never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    pub name: String,
    pub key: String,
}

/// People who are asked together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamSheet {
    /// Addresses of its members.
    pub members: Vec<String>,
    /// How many of them must agree.
    pub quorum: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteSheet {
    pub name: SiteName,
    /// `qemu`, `simulated`.
    pub provider: String,
    /// `host:port` of the site agent; empty when the plans name none.
    pub agent: String,
    pub networks: Vec<NetworkShape>,
    /// What the provider drives: the address of a vCenter, a region. `None` where the agent itself is the site.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// How the provider logs in there.
    #[serde(default)]
    pub login: Option<SecretRef>,
    /// What the provider calls a network, where that differs from its name in the plans.
    #[serde(default)]
    pub labels: BTreeMap<NetworkName, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteSheet {
    pub left: SiteName,
    pub right: SiteName,
    /// URL of the vault. A relative path is relative to the folder of the plans and stored absolute.
    pub vault: String,
    pub networks: Vec<NetworkPair>,
    pub addresses: Vec<(std::net::IpAddr, std::net::IpAddr)>,
    /// Name servers: what answers at the left, and what answers for it at the right.
    #[serde(default)]
    pub resolvers: Vec<(std::net::IpAddr, std::net::IpAddr)>,
    /// Who carries data from left to right.
    #[serde(default)]
    pub rightward: Carriers,
    /// Who carries data from right to left.
    #[serde(default)]
    pub leftward: Carriers,
}

/// The servers that carry data along a route in one direction, by the names they enrolled with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carriers {
    /// Process servers; none: the site agent carries.
    pub through: Vec<String>,
    /// Master targets, which write the disks; none: the site agent does.
    pub target: Vec<String>,
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
    /// A network made for tests, at one end of the route. A drill at the other end is isolated.
    Network { network: NetworkName, site: SiteName },
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
    /// zstd level; 0 follows the link: lower while it is faster than the processors, higher while it is slower.
    pub compression: i32,
    /// Writes are followed in order as they come; `cycle` then only says how often a point is made of them.
    #[serde(default)]
    pub continuous: bool,
    /// How often a point is kept that is crash-consistent only; `None`: each cycle makes one.
    #[serde(default)]
    pub crash_every: Option<Duration>,
    /// Beyond `retain_all` points thin out: one in each `every` is kept until the tier ends. In the order of their ends;
    /// the last one ends at `retain`.
    #[serde(default)]
    pub tiers: Vec<RetentionTier>,
    /// Every point is kept this long; `None`: as long as `retain`.
    #[serde(default)]
    pub retain_all: Option<Duration>,
    /// A key of its own for what these groups write; `None` is the vault's key.
    #[serde(default)]
    pub encryption: Option<SecretRef>,
    /// When a resync may begin by itself; `None` is at any time.
    #[serde(default)]
    pub resync_window: Option<WindowSheet>,
    #[serde(default)]
    pub initial_copy: InitialCopy,
}

/// One point in each `every`, until it is `until` old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionTier {
    pub every: Duration,
    pub until: Duration,
}

/// How the first copy of a disk reaches the vault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialCopy {
    /// Over the wire.
    #[default]
    Online,
    /// By a seed that travels on a disk; what has changed since follows over the wire.
    Offline,
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
    /// `select(hq, tag = "shop")`, when the members were chosen by it; `machines` says whom it meant.
    #[serde(default)]
    pub query: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineSheet {
    pub facts: MachineFacts,
    pub home: SiteName,
    pub group: Option<GroupName>,
    /// What the home site calls it, where that differs from its name in the plans.
    #[serde(default)]
    pub known_as: Option<String>,
    /// What it becomes at other sites, in the words of their providers: `size`, `storage`.
    #[serde(default)]
    pub places: BTreeMap<SiteName, BTreeMap<String, Value>>,
}
