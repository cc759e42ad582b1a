//! What the world answers to hooks in a trial, as users write it.
//!
//! ```json
//! { "format": "muster.fakes/1",
//!   "hooks": { "dns-swing": {
//!     "arguments": { "zone": "shop.example.com" },
//!     "answers": [
//!       { "call": "http.get", "to": "*/zones/*", "answer": { "body": { "address": "10.0.0.1" } } },
//!       { "call": "exec", "with": "*pg_is_in_recovery*", "answer": { "out": "t" }, "times": 1, "reads": true },
//!       { "call": "http.put", "fails": "transient" } ] } } }
//! ```
//!
//! The first entry that fits and is not used up answers; those of the hook come before those for all.

use muster_hooks::Outgoing;
use muster_ports::{Failure, FailureClass, Result};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// Format of the file.
pub const FAKES_FORMAT: &str = "muster.fakes/1";
/// Bytes of one file of fakes: they are written by hand.
pub const FAKES_BYTES_MAX: usize = 1 << 20;

/// Answers for hooks.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fakes {
    format: String,
    /// What a key of the keyring holds in the trial.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, String>,
    #[serde(default)]
    hooks: BTreeMap<String, HookFakes>,
    /// For every hook.
    #[serde(default)]
    answers: Vec<Fake>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct HookFakes {
    /// Arguments, for when no step of a plan gives them.
    #[serde(default)]
    arguments: BTreeMap<String, String>,
    #[serde(default)]
    answers: Vec<Fake>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fake {
    /// `http.get`, `exec`; `*` stands for anything.
    call: String,
    /// The address, the machine or the server.
    to: Option<String>,
    /// The arguments, put together with blanks.
    with: Option<String>,
    answer: Option<Json>,
    /// `transient`, `permanent`, `timeout` or `refused`, in place of an answer.
    fails: Option<FailureClass>,
    message: Option<String>,
    /// How often it answers; always, when nothing is said.
    pub(crate) times: Option<u32>,
    /// The call changes nothing: commands in guests are otherwise taken to.
    #[serde(default)]
    pub(crate) reads: bool,
}

impl Fakes {
    /// Reads a file; `name` is for messages.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        if text.len() > FAKES_BYTES_MAX {
            return Err(Failure::permanent(format!("`{name}` is larger than {FAKES_BYTES_MAX} bytes (limit `fakes`)")));
        }
        let fakes: Self = serde_json::from_str(text).map_err(|error| {
            Failure::permanent(format!("`{name}` does not say what hooks are answered: {error}"))
                .help("an entry has `call`, and may have `to`, `with`, `answer` or `fails`, `times` and `reads`")
        })?;
        if fakes.format != FAKES_FORMAT {
            let found = &fakes.format;
            return Err(Failure::permanent(format!(
                "`{name}` has the format `{found}`, this muster reads `{FAKES_FORMAT}`"
            )));
        }
        let all = fakes.hooks.values().flat_map(|hook| &hook.answers).chain(&fakes.answers);
        for fake in all {
            if fake.answer.is_some() == fake.fails.is_some() {
                return Err(Failure::permanent(format!(
                    "`{name}`: an entry for `{}` needs `answer` or `fails`",
                    fake.call
                )));
            }
        }
        Ok(fakes)
    }

    /// What the hooks of the standard library are answered.
    ///
    /// # Errors
    /// None, unless muster was built wrong.
    pub fn of_library() -> Result<Self> {
        Self::parse("std/fakes.json", muster_stdlib::FAKES)
    }

    /// Puts other fakes behind these: what both answer, these do.
    pub fn extend(&mut self, other: Self) {
        for (name, hook) in other.hooks {
            let mine = self.hooks.entry(name).or_default();
            mine.answers.extend(hook.answers);
            for (name, value) in hook.arguments {
                mine.arguments.entry(name).or_insert(value);
            }
        }
        self.answers.extend(other.answers);
        for (key, value) in other.secrets {
            self.secrets.entry(key).or_insert(value);
        }
    }

    /// Arguments for a hook, as texts.
    pub fn arguments(&self, hook: &str) -> BTreeMap<String, String> {
        self.hooks.get(hook).map(|hook| hook.arguments.clone()).unwrap_or_default()
    }

    /// All that may answer a hook, in order.
    pub(crate) fn of(&self, hook: &str) -> Vec<Fake> {
        let mine = self.hooks.get(hook).map(|hook| hook.answers.clone()).unwrap_or_default();
        mine.into_iter().chain(self.answers.clone()).collect()
    }
}

impl Fake {
    pub(crate) fn fits(&self, call: &Outgoing) -> bool {
        let like = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| is_like(pattern, text));
        is_like(&self.call, call.operation) && like(&self.to, &call.to) && like(&self.with, &words(&call.arguments))
    }

    pub(crate) fn answer(&self, call: &Outgoing) -> Result<Json> {
        match (&self.answer, self.fails) {
            (_, Some(class)) => {
                let message =
                    self.message.clone().unwrap_or_else(|| format!("made to fail: {} {}", call.operation, call.to));
                let mut failure = Failure::permanent(message);
                failure.class = class;
                Err(failure)
            }
            (Some(answer), None) => Ok(shaped(call.operation, answer.clone())),
            (None, None) => Ok(Json::Null),
        }
    }
}

/// Arguments as one line of text.
pub(crate) fn words(arguments: &Json) -> String {
    match arguments {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Array(items) => {
            let parts: Vec<String> = items.iter().map(words).filter(|part| !part.is_empty()).collect();
            parts.join(" ")
        }
        other => other.to_string(),
    }
}

/// A whole answer for what somebody wrote of it: `{ "out": "t" }` is a command that succeeded.
pub(crate) fn shaped(operation: &str, answer: Json) -> Json {
    let whole = |defaults: Json, answer: Json| match (defaults, answer) {
        (Json::Object(mut all), Json::Object(said)) => {
            all.extend(said);
            Json::Object(all)
        }
        (_, answer) => answer,
    };
    match operation {
        "exec" | "ssh" => whole(json!({ "code": 0, "out": "", "err": "" }), answer),
        "dns.lookup" => {
            let found = answer.get("values").and_then(Json::as_array).is_some_and(|values| !values.is_empty());
            whole(json!({ "found": found, "ttl": 60, "values": [] }), answer)
        }
        "net.http" => body_as_text(whole(json!({ "status": 200, "body": "" }), answer)),
        http if http.starts_with("http.") => {
            body_as_text(whole(json!({ "status": 200, "headers": Map::new(), "body": "", "cut": false }), answer))
        }
        _ => answer,
    }
}

/// A body may be written as JSON; it travels as text.
fn body_as_text(mut answer: Json) -> Json {
    if let Some(body) = answer.get_mut("body")
        && !body.is_string()
    {
        *body = Json::String(body.to_string());
    }
    answer
}

/// `*` stands for anything, also for nothing.
pub(crate) fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, fits) in [
            ("exec", "exec", true),
            ("exec", "exec2", false),
            ("http.*", "http.get", true),
            ("*/zones/*", "https://dns.example.com/zones/a", true),
            ("*/zones/*", "https://dns.example.com/zone/a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*bc", "abc", true),
            ("ab*bc", "abc", false),
            ("*", "", true),
        ] {
            assert_eq!(is_like(pattern, text), fits, "{pattern} on {text}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        let parse = |text: &str| Fakes::parse("a.fakes.json", text).unwrap_err().message;
        assert!(parse("{").contains("`a.fakes.json`"), "{}", parse("{"));
        assert!(parse(r#"{ "format": "muster.fakes/9" }"#).contains("muster.fakes/9"));
        let both = r#"{ "format": "muster.fakes/1", "answers": [ { "call": "exec" } ] }"#;
        assert!(parse(both).contains("needs `answer` or `fails`"));
        let typo = r#"{ "format": "muster.fakes/1", "answers": [ { "call": "exec", "anwser": 1 } ] }"#;
        assert!(parse(typo).contains("anwser"));
    }
}
