//! Values on their way into a script and out of it.

use crate::secret::SecretRef;
use muster_ports::{Failure, InstanceName, MachineName, Result, SiteName};
use muster_runsheet::{GroupName, Value};
use rhai::{Array, Dynamic, ImmutableString, Map};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A machine as a hook meets it: the instance of this operation, live or a drill's clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookMachine {
    pub name: MachineName,
    pub site: SiteName,
    pub instance: InstanceName,
    /// Where it can be reached in this operation.
    pub ip: Option<IpAddr>,
    /// Its address at home.
    pub source_ip: Option<IpAddr>,
}

#[derive(Clone, Debug)]
pub(crate) struct Machine(pub(crate) Arc<HookMachine>);

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: GroupName,
    pub(crate) machines: Vec<Machine>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ip(pub(crate) IpAddr);

/// A duration of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) muster_runsheet::Size);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speed(pub(crate) muster_runsheet::Rate);

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.name.fmt(f)
    }
}
impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        muster_runsheet::Duration::from(self.0).fmt(f)
    }
}
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What arguments may refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) machines: BTreeMap<MachineName, Arc<HookMachine>>,
    pub(crate) groups: BTreeMap<GroupName, Vec<MachineName>>,
}

impl Names {
    fn machine(&self, name: &MachineName) -> Result<Machine> {
        self.machines.get(name).map(|machine| Machine(machine.clone())).ok_or_else(|| {
            Failure::permanent(format!("the hook is given machine `{name}`, which this runsheet does not know"))
        })
    }

    pub(crate) fn dynamic(&self, value: &Value) -> Result<Dynamic> {
        Ok(match value {
            Value::Text(text) => text.clone().into(),
            Value::Int(number) | Value::Percent(number) => integer(*number)?,
            Value::Bool(truth) => (*truth).into(),
            Value::Duration(duration) => Dynamic::from(Span(duration.std())),
            Value::Size(size) => Dynamic::from(Bytes(*size)),
            Value::Rate(rate) => Dynamic::from(Speed(*rate)),
            Value::Ip(ip) => Dynamic::from(Ip(*ip)),
            Value::Port(port) => i64::from(*port).into(),
            Value::Machine(name) => Dynamic::from(self.machine(name)?),
            Value::Group(name) => {
                let members = self.groups.get(name).ok_or_else(|| {
                    Failure::permanent(format!("the hook is given group `{name}`, which this runsheet does not know"))
                })?;
                let machines = members.iter().map(|member| self.machine(member)).collect::<Result<_>>()?;
                Dynamic::from(Group { name: name.clone(), machines })
            }
            Value::Site(name) => name.to_string().into(),
            Value::Network(name) => name.to_string().into(),
            Value::Secret { name, key } => Dynamic::from(SecretRef { name: name.clone(), key: key.clone() }),
            Value::List(values) => {
                let values = values.iter().map(|value| self.dynamic(value)).collect::<Result<Array>>()?;
                values.into()
            }
        })
    }
}

fn integer(number: u64) -> Result<Dynamic> {
    i64::try_from(number)
        .map(Dynamic::from)
        .map_err(|_| Failure::permanent(format!("{number} is too large for a hook")))
}

/// JSON as a script sees it.
pub(crate) fn from_json(json: &Json) -> Dynamic {
    match json {
        Json::Null => Dynamic::UNIT,
        Json::Bool(truth) => (*truth).into(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.clone().into(),
        Json::Array(items) => items.iter().map(from_json).collect::<Array>().into(),
        Json::Object(fields) => {
            fields.iter().map(|(key, value)| (key.as_str().into(), from_json(value))).collect::<Map>().into()
        }
    }
}

/// A script's value as JSON; `Err` names a type that has no place outside of a script.
pub(crate) fn to_json(value: &Dynamic) -> Result<Json, String> {
    if value.is_unit() {
        return Ok(Json::Null);
    }
    if let Ok(truth) = value.as_bool() {
        return Ok(Json::Bool(truth));
    }
    if let Ok(number) = value.as_int() {
        return Ok(number.into());
    }
    if let Ok(number) = value.as_float() {
        return Ok(serde_json::Number::from_f64(number).map_or(Json::Null, Json::Number));
    }
    if let Ok(letter) = value.as_char() {
        return Ok(letter.to_string().into());
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(text.as_str().into());
    }
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(to_json).collect::<Result<Vec<_>, _>>().map(Json::Array);
    }
    if let Ok(fields) = value.as_map_ref() {
        return fields.iter().map(|(key, value)| Ok((key.to_string(), to_json(value)?))).collect::<Result<_, String>>();
    }
    shown(value).map(Json::String).ok_or_else(|| value.type_name().to_owned())
}

/// The text of one of our own types.
fn shown(value: &Dynamic) -> Option<String> {
    if let Some(ip) = value.read_lock::<Ip>() {
        return Some(ip.to_string());
    }
    if let Some(span) = value.read_lock::<Span>() {
        return Some(span.to_string());
    }
    if let Some(machine) = value.read_lock::<Machine>() {
        return Some(machine.to_string());
    }
    if let Some(group) = value.read_lock::<Group>() {
        return Some(group.to_string());
    }
    if let Some(size) = value.read_lock::<Bytes>() {
        return Some(size.to_string());
    }
    value.read_lock::<Speed>().map(|rate| rate.to_string())
}

/// JSON with its keys in order, so that equal arguments hash equally whatever built them.
pub(crate) fn canonical(json: &Json) -> String {
    match json {
        Json::Object(fields) => {
            let ordered: BTreeMap<_, _> = fields.iter().collect();
            let parts: Vec<_> = ordered
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Json::String(key.clone()), canonical(value)))
                .collect();
            format!("{{{}}}", parts.join(","))
        }
        Json::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}
