//! Values of the language as the engine gets them: arguments of hooks and probes.

use crate::names::*;
use crate::units::*;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "kebab-case")]
pub enum Value {
    Text(String),
    Int(u64),
    Bool(bool),
    Duration(Duration),
    Size(Size),
    Rate(Rate),
    Percent(u64),
    Ip(IpAddr),
    Port(u16),
    Machine(MachineName),
    Group(GroupName),
    Site(SiteName),
    Network(NetworkName),
    /// A secret, by its name in the plans and its key in the keyring. Never the secret itself.
    Secret {
        name: String,
        key: String,
    },
    List(Vec<Value>),
}
