//! Hooks by themselves, for what tries them out without a runsheet.

use crate::Checked;
use crate::names::Kind;
use crate::value::{Type, Value};
use muster_runsheet::HookSheet;
use std::collections::BTreeMap;

/// A hook or probe that the files declare or use.
#[derive(Clone, Debug, PartialEq)]
pub struct HookFacts {
    pub sheet: HookSheet,
    /// What parameters are when a step does not say; addresses as at home.
    pub defaults: BTreeMap<String, muster_runsheet::Value>,
}

impl Checked {
    /// Hooks and probes with a text, by name.
    pub fn hooks(&self) -> Vec<HookFacts> {
        let hooks = self.program.hooks.values().filter(|hook| !hook.builtin);
        let facts = |hook: &crate::hooks::HookModel| HookFacts {
            sheet: hook.sheet.clone(),
            defaults: hook
                .parameters
                .iter()
                .filter_map(|of| Some((of.name.clone(), self.plain(of.default.as_ref()?, &of.kind))))
                .collect(),
        };
        hooks.map(facts).collect()
    }

    /// The key in the keyring of a declared secret.
    pub fn secret_key(&self, name: &str) -> Option<&str> {
        self.program.secrets.get(name).map(String::as_str)
    }

    fn plain(&self, value: &Value, kind: &Type) -> muster_runsheet::Value {
        use muster_runsheet::Value as Out;
        match value {
            Value::Text(text) | Value::Cidr(text) | Value::Mac(text) => Out::Text(text.clone()),
            Value::Int(port) if *kind == Type::Port => Out::Port(u16::try_from(*port).unwrap_or(0)),
            Value::Int(number) => Out::Int(*number),
            Value::Bool(value) => Out::Bool(*value),
            Value::Duration(duration) => Out::Duration(*duration),
            Value::Size(size) => Out::Size(*size),
            Value::Rate(rate) => Out::Rate(*rate),
            Value::Percent(percent) => Out::Percent(*percent),
            Value::Ip(ip) => Out::Ip(*ip),
            Value::Machine(name) => Out::Machine(name.as_str().into()),
            Value::Named(Kind::Group, name) => Out::Group(name.as_str().into()),
            Value::Named(Kind::Site, name) => Out::Site(name.as_str().into()),
            Value::Named(Kind::Secret, name) => {
                Out::Secret { name: name.clone(), key: self.secret_key(name).unwrap_or_default().to_owned() }
            }
            Value::Named(_, name) => Out::Text(name.clone()),
            Value::List(items) => {
                let of = if let Type::List(of) = kind { of } else { kind };
                Out::List(items.iter().map(|item| self.plain(item, of)).collect())
            }
        }
    }
}
