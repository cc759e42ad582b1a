//! Recordings of what hooks asked and were answered. Secrets are in them by name, and blotted out of answers, as in the
//! journal of a run.

use super::bench::BenchCall;
use super::fakes::words;
use muster_hooks::Outgoing;
use muster_ports::{Failure, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Format of the file.
pub const CASSETTE_FORMAT: &str = "muster.cassette/1";
/// Bytes of one file: twice what one attempt may put into the journal.
pub const CASSETTE_BYTES_MAX: usize = 8 << 20;
/// Kept with the step: a recording does not need it.
const NOT_RECORDED: [&str; 3] = ["log.info", "log.warn", "checkpoint"];
/// Of one side of a difference, as it is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// What one hook asked, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cassette {
    format: String,
    /// Of the hook.
    pub hook: String,
    calls: Vec<Recorded>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    operation: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    to: String,
    arguments: Json,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

impl Recorded {
    fn line(&self) -> String {
        shown(&self.operation, &self.to, &self.arguments)
    }
}

fn shown(operation: &str, to: &str, arguments: &Json) -> String {
    let line = format!("{operation} {to} {}", words(arguments));
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl Cassette {
    /// Of the calls of one attempt.
    pub fn of(hook: &str, calls: &[BenchCall]) -> Self {
        let calls = calls.iter().filter(|call| !NOT_RECORDED.contains(&call.operation.as_str()));
        let recorded = calls.map(|call| Recorded {
            operation: call.operation.clone(),
            to: call.to.clone(),
            arguments: call.arguments.clone(),
            answer: call.answer.clone(),
            failure: call.failure.clone(),
        });
        Self { format: CASSETTE_FORMAT.to_owned(), hook: hook.to_owned(), calls: recorded.collect() }
    }

    /// Reads a file; `name` is for messages.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        if text.len() > CASSETTE_BYTES_MAX {
            let limit = format!("`{name}` is larger than {CASSETTE_BYTES_MAX} bytes (limit `cassette`)");
            return Err(Failure::permanent(limit));
        }
        let cassette: Self = serde_json::from_str(text).map_err(|error| {
            Failure::permanent(format!("`{name}` is no recording of a hook: {error}"))
                .help("record one with `muster hook run NAME --record FILE`")
        })?;
        match cassette.format.as_str() {
            CASSETTE_FORMAT => Ok(cassette),
            found => Err(Failure::permanent(format!(
                "`{name}` has the format `{found}`, this muster reads `{CASSETTE_FORMAT}`"
            ))),
        }
    }

    /// As a file.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }
}

/// A cassette that is being played.
#[derive(Debug)]
pub(crate) struct Tape {
    left: Mutex<VecDeque<Recorded>>,
}

impl Tape {
    pub(crate) fn new(cassette: Cassette) -> Self {
        Self { left: Mutex::new(cassette.calls.into()) }
    }

    pub(crate) fn next(&self, call: &Outgoing) -> Result<Json> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = shown(call.operation, &call.to, &call.arguments);
        let Some(recorded) = left.front() else {
            return Err(differs(call.position, "nothing more", &asked));
        };
        let same =
            recorded.operation == call.operation && recorded.to == call.to && recorded.arguments == call.arguments;
        if !same {
            return Err(differs(call.position, &recorded.line(), &asked));
        }
        match left.pop_front() {
            Some(Recorded { failure: Some(failure), .. }) => Err(failure),
            Some(Recorded { answer, .. }) => Ok(answer.unwrap_or(Json::Null)),
            None => Ok(Json::Null),
        }
    }

    /// The hook has ended: the recording has, too.
    pub(crate) fn ended(&self) -> Result<()> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.front() {
            None => Ok(()),
            Some(next) => {
                let message = format!("the hook does not do what is on the cassette: {} calls are left", left.len());
                Err(Failure::diverged(format!("{message}\n  cassette: {}\n  hook:     ends", next.line())).help(HELP))
            }
        }
    }
}

const HELP: &str = "the hook or its arguments have changed since: look at it, then record it anew with `--record`";

fn differs(position: u32, recorded: &str, asked: &str) -> Failure {
    let message = format!("call {position} is not what is on the cassette");
    Failure::diverged(format!("{message}\n  cassette: {recorded}\n  hook:     {asked}")).help(HELP)
}
