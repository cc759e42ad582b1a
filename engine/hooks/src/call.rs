//! Host calls as data: what a script asks for, what it is called in the journal, which need it takes.

use crate::value::{HookMachine, canonical};
use muster_ports::{Failure, Hash, Result};
use muster_runsheet::{HookSheet, Need};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) enum HostCall {
    Log {
        warn: bool,
        text: String,
    },
    Checkpoint {
        key: String,
        value: Json,
    },
    /// Answered from the record; takes no number.
    Saved {
        key: String,
    },
    Http {
        method: &'static str,
        path: String,
        body: Option<Json>,
    },
    Exec {
        machine: Arc<HookMachine>,
        program: String,
        arguments: Vec<String>,
        stdin: Option<String>,
        within: Option<Duration>,
    },
    Put {
        machine: Arc<HookMachine>,
        path: String,
        text: String,
    },
    Get {
        machine: Arc<HookMachine>,
        path: String,
    },
    Tcp {
        ip: String,
        port: i64,
    },
    NetHttp {
        url: String,
    },
    Now,
    Random {
        below: i64,
    },
    /// Fixes the due time, so that a crash does not make a sleep longer.
    SleepDue {
        millis: u64,
    },
    SleepUntil {
        due: u64,
    },
}

impl HostCall {
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Self::Log { warn: false, .. } => "log.info",
            Self::Log { warn: true, .. } => "log.warn",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Saved { .. } => "saved",
            Self::Http { method, .. } => match *method {
                "GET" => "http.get",
                "PUT" => "http.put",
                "POST" => "http.post",
                _ => "http.delete",
            },
            Self::Exec { .. } => "exec",
            Self::Put { .. } => "put",
            Self::Get { .. } => "get",
            Self::Tcp { .. } => "net.tcp",
            Self::NetHttp { .. } => "net.http",
            Self::Now => "now",
            Self::Random { .. } => "random",
            Self::SleepDue { .. } => "sleep.due",
            Self::SleepUntil { .. } => "sleep",
        }
    }

    /// The arguments as they are hashed. A time limit is not an argument: what is left of it differs between attempts.
    pub(crate) fn arguments(&self) -> Json {
        match self {
            Self::Log { text, .. } => json!([text]),
            Self::Checkpoint { key, value } => json!([key, value]),
            Self::Saved { key } => json!([key]),
            Self::Http { method, path, body } => json!([method, path, body]),
            Self::Exec { machine, program, arguments, stdin, .. } => json!([machine.name, program, arguments, stdin]),
            Self::Put { machine, path, text } => json!([machine.name, path, text]),
            Self::Get { machine, path } => json!([machine.name, path]),
            Self::Tcp { ip, port } => json!([ip, port]),
            Self::NetHttp { url } => json!([url]),
            Self::Now => json!([]),
            Self::Random { below } => json!([below]),
            Self::SleepDue { millis } => json!([millis]),
            Self::SleepUntil { due } => json!([due]),
        }
    }

    pub(crate) fn hash(&self) -> String {
        Hash::of(canonical(&self.arguments())).to_string()
    }

    /// Refuses what the contract does not allow, by name.
    pub(crate) fn permitted(&self, sheet: &HookSheet) -> Result<()> {
        let has = |wanted: &dyn Fn(&Need) -> bool| sheet.needs.iter().any(wanted);
        let (need, held) = match self {
            Self::Http { .. } => ("http(\"https://...\")", has(&|need| matches!(need, Need::Http { .. }))),
            Self::Exec { .. } | Self::Put { .. } | Self::Get { .. } => ("guest", has(&|need| *need == Need::Guest)),
            Self::Tcp { .. } | Self::NetHttp { .. } => ("bubble", has(&|need| *need == Need::Bubble)),
            _ => ("", true),
        };
        let operation = self.operation();
        if !held {
            return Err(Failure::permanent(format!("hook `{}` calls `{operation}` without declaring it", sheet.name))
                .help(format!("add `{need}` to `needs` of the hook in its `.plan`, and have it reviewed")));
        }
        let writes = match self {
            Self::Http { method, .. } => *method != "GET",
            Self::Put { .. } | Self::Checkpoint { .. } => true,
            _ => false,
        };
        if sheet.probe && writes {
            return Err(Failure::permanent(format!(
                "probe `{}` calls `{operation}`, but a probe may only read",
                sheet.name
            ))
            .help("declare it as `hook`, and use it with `run` in place of `check`"));
        }
        Ok(())
    }
}
