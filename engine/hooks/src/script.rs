//! The script's side: its line to the host, and how its end is read.

use crate::budget::{Budget, Meter};
use crate::call::HostCall;
use crate::cancel::Cancel;
use crate::limits::*;
use crate::sandbox;
use crate::secret::SecretRef;
use crate::value::to_json;
use muster_ports::Failure;
use muster_runsheet::HookSheet;
use rhai::{CallFnOptions, Dynamic, EvalAltResult, Map, Position, Scope};
use serde_json::Value as Json;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use tokio::sync::mpsc::UnboundedSender;

/// One question to the tokio side. At most one is open at a time: the script waits for its answer.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) call: HostCall,
    pub(crate) answer: SyncSender<Result<Json, Failure>>,
}

/// What stops a script, carried through the interpreter as a token that `catch` cannot see.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stop {
    /// `fail(msg)`
    Fail(String),
    /// `retry_later(msg)`
    RetryLater(String),
    /// `skip(msg)`
    Skip(String),
    /// The host said no, or the world did.
    Host(Failure),
    /// Seen by `on_progress` in a loop without host calls.
    Cancelled,
}

impl Stop {
    pub(crate) fn raise<T>(self) -> Result<T, Box<EvalAltResult>> {
        Err(EvalAltResult::ErrorTerminated(Dynamic::from(self), Position::NONE).into())
    }
}

/// How a script ended, when not with a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ended {
    Stopped(Stop),
    /// A mistake in the script, a throw or a limit.
    Broken(Failure),
}

/// The script's line to the host.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Missing where a script is only compiled.
    pub(crate) asks: Option<UnboundedSender<Ask>>,
    pub(crate) cancel: Cancel,
    /// What `secret("name")` finds.
    pub(crate) secrets: Vec<SecretRef>,
    pub(crate) budget: Budget,
    pub(crate) meter: Arc<Meter>,
}

impl Line {
    pub(crate) fn closed() -> Self {
        Self {
            asks: None,
            cancel: Cancel::default(),
            secrets: Vec::new(),
            budget: Budget::default(),
            meter: Arc::default(),
        }
    }

    pub(crate) fn ask(&self, call: HostCall) -> Result<Json, Box<EvalAltResult>> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let sent = self.asks.as_ref().is_some_and(|asks| asks.send(Ask { call, answer }).is_ok());
        match answered.recv() {
            Ok(Ok(json)) if sent => Ok(json),
            Ok(Err(failure)) => Stop::Host(failure).raise(),
            // The host is gone: nobody waits for this script any more.
            _ => Stop::Cancelled.raise(),
        }
    }
}

/// Compiles and calls the hook's function. Runs on the script's own thread.
pub(crate) fn play(sheet: &HookSheet, arguments: Vec<Dynamic>, run: Map, line: Line) -> Result<Json, Ended> {
    let engine = sandbox::engine(&line, run);
    let ast = sandbox::compile(&engine, sheet).map_err(|problem| {
        Ended::Broken(Failure::permanent(format!(
            "hook `{}` does not compile, {}:{}:{}: {}",
            sheet.name, sheet.origin, problem.line, problem.column, problem.message
        )))
    })?;
    let options = CallFnOptions::new();
    let value = engine
        .call_fn_with_options::<Dynamic>(options, &mut Scope::new(), &ast, &sheet.function, arguments)
        .or_else(|error| match *error {
            EvalAltResult::Exit(value, _) => Ok(value),
            other => Err(ended(sheet, other, line.budget)),
        })?;
    to_json(&value).map_err(|kind| {
        Ended::Broken(Failure::permanent(format!(
            "hook `{}` returned a {kind}, which has no place in the journal",
            sheet.name
        )))
    })
}

fn ended(sheet: &HookSheet, error: EvalAltResult, budget: Budget) -> Ended {
    // The innermost error says what happened; the innermost known position says where.
    let (mut error, mut position) = (error, Position::NONE);
    while let EvalAltResult::ErrorInFunctionCall(_, _, inner, at) = error {
        position = at;
        error = *inner;
    }
    if !error.position().is_none() {
        position = error.position();
    }
    if let EvalAltResult::ErrorTerminated(token, _) = &error {
        return match token.read_lock::<Stop>() {
            Some(stop) => Ended::Stopped(stop.clone()),
            None => Ended::Stopped(Stop::Cancelled),
        };
    }
    let place = match position.line() {
        Some(line) => format!("{}, line {line}", sheet.origin),
        None => sheet.origin.clone(),
    };
    Ended::Broken(match limit_of(&error, budget) {
        Some(limit) => Failure::permanent(format!("hook `{}` went over its limit of {limit} ({place})", sheet.name))
            .help("make the hook do less: one hook, one small job; the limits are not to be raised"),
        None => Failure::permanent(format!("hook `{}` stopped ({place}): {}", sheet.name, plain(&error))),
    })
}

/// The limit a script ran into, in words.
fn limit_of(error: &EvalAltResult, budget: Budget) -> Option<String> {
    Some(match error {
        EvalAltResult::ErrorTooManyOperations(_) => format!("{} operations", budget.operations),
        EvalAltResult::ErrorStackOverflow(_) => format!("{CALL_DEPTH_MAX} nested calls (call depth)"),
        EvalAltResult::ErrorTooManyVariables(_) => format!("{VARIABLES_MAX} variables"),
        EvalAltResult::ErrorTooManyModules(_) => format!("{MODULES_MAX} modules"),
        EvalAltResult::ErrorDataTooLarge(what, _) => {
            let what = what.to_lowercase();
            if what.contains("string") {
                format!("{STRING_BYTES_MAX} bytes of text (string size)")
            } else if what.contains("map") {
                format!("{MAP_PROPERTIES_MAX} properties (map size)")
            } else {
                format!("{ARRAY_ELEMENTS_MAX} elements (array size)")
            }
        }
        _ => return None,
    })
}

/// The error without its position, and a thrown text as itself.
fn plain(error: &EvalAltResult) -> String {
    if let EvalAltResult::ErrorRuntime(token, _) = error {
        return match to_json(token) {
            Ok(Json::String(text)) => text,
            Ok(json) => json.to_string(),
            Err(kind) => format!("threw a {kind}"),
        };
    }
    let text = error.to_string();
    text.rsplit_once(" (line ").map_or(text.clone(), |(text, _)| text.to_owned())
}
