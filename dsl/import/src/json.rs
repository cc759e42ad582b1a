//! JSON with the place of each part, so that every note and refusal can say where.

use crate::{Notes, Refusal, Source};
use serde_json::Value;

/// A part of a document and its place there: `$.properties.groups[2]`.
#[derive(Clone, Debug)]
pub(crate) struct At<'v> {
    pub value: &'v Value,
    pub file: &'v str,
    pub path: String,
}

static NOTHING: Value = Value::Null;

impl<'v> At<'v> {
    /// A member, whatever the case of its name: exports of different tools write names in different cases. `null` when
    /// there is none.
    pub(crate) fn get(&self, name: &str) -> At<'v> {
        let found = self.value.as_object().and_then(|members| {
            let exact = members.get_key_value(name);
            exact.or_else(|| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))
        });
        match found {
            Some((key, value)) => At { value, file: self.file, path: format!("{}.{key}", self.path) },
            None => At { value: &NOTHING, file: self.file, path: format!("{}.{name}", self.path) },
        }
    }

    /// The first of these members that is there.
    pub(crate) fn any(&self, names: &[&str]) -> At<'v> {
        let found = names.iter().map(|name| self.get(name)).find(|at| !at.is_null());
        found.unwrap_or_else(|| self.get(names.first().copied().unwrap_or("")))
    }

    pub(crate) fn is_null(&self) -> bool {
        self.value.is_null()
    }

    pub(crate) fn text(&self) -> Option<&'v str> {
        self.value.as_str().filter(|text| !text.trim().is_empty())
    }

    /// A number, also one written as a text: `"60"`.
    pub(crate) fn number(&self) -> Option<u64> {
        self.value.as_u64().or_else(|| self.value.as_str()?.trim().parse().ok())
    }

    /// The elements of a list; `null` is an empty one. What is no list is noted.
    pub(crate) fn items(&self, notes: &mut Notes) -> Vec<At<'v>> {
        match self.value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, value)| At { value, file: self.file, path: format!("{}[{index}]", self.path) })
                .collect(),
            Value::Null => Vec::new(),
            other => {
                notes.add(self.file, &self.path, format!("a list was expected, this is {}; not read", kind(other)));
                Vec::new()
            }
        }
    }

    pub(crate) fn note(&self, notes: &mut Notes, text: impl Into<String>) {
        notes.add(self.file, &self.path, text);
    }
}

pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// One document; nesting is limited by the reader, at 128.
pub(crate) fn parse(source: &Source) -> Result<Value, Refusal> {
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    serde_json::from_str(text).map_err(|error| Refusal {
        file: source.name.clone(),
        path: format!("line {}, column {}", error.line(), error.column()),
        what: format!("this is not JSON: {}", reason(&error)),
        help: help(text),
    })
}

fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

fn help(text: &str) -> String {
    let begin = text.trim_start();
    if begin.starts_with("resource ") || begin.starts_with("param ") || begin.starts_with("targetScope") {
        return "this looks like Bicep: compile it first, `bicep build FILE`, and import the JSON".into();
    }
    if begin.starts_with('<') {
        return "this looks like XML: for an export of Site Recovery Manager write `muster import srm`".into();
    }
    "export it again, as JSON: an ARM template, or the answer of `GET …/replicationRecoveryPlans`".into()
}

/// The last part of an ARM id.
pub(crate) fn last_segment(id: &str) -> &str {
    id.trim_end_matches('/').rsplit('/').next().unwrap_or(id)
}

/// The part of an ARM id behind a word: the vault of `…/vaults/contoso/…`.
pub(crate) fn behind<'t>(id: &'t str, word: &str) -> Option<&'t str> {
    let mut parts = id.split('/');
    parts.find(|part| part.eq_ignore_ascii_case(word))?;
    parts.next().filter(|part| !part.is_empty())
}
