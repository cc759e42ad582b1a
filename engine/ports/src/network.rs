//! Networks of a site, bubbles, and probes from inside them.

use crate::ids::*;
use muster_runsheet::inventory::NetworkShape;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// Which copy of a network is meant: the live one, or the cut-off copy of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "kebab-case")]
pub enum NetworkScope {
    Live,
    Bubble { bubble: BubbleId },
}

/// An isolated copy of networks: same names, same subnets, no way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BubbleShape {
    pub bubble: BubbleId,
    pub networks: Vec<NetworkShape>,
    pub labels: std::collections::BTreeMap<String, String>,
}

/// A question asked from inside a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "probe", rename_all = "kebab-case")]
pub enum Probe {
    /// A TCP connection is accepted.
    Tcp { ip: IpAddr, port: u16, within: Duration },
    /// `GET http://ip:port/path` answers with a status below 400. The start of the body comes back (at most 64 KiB).
    Http { ip: IpAddr, port: u16, path: String, within: Duration },
    /// A TCP connection is opened, `send` is written, and what the peer says until it closes comes back (64 KiB).
    Talk { ip: IpAddr, port: u16, send: String, within: Duration },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeAnswer {
    /// HTTP status; 0 for other probes.
    pub status: u16,
    pub body: String,
}
