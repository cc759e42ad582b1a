//! Host calls as data: what a script asks for, what it is called in the journal, which need it takes.

use crate::guest::{DiskCall, SshCall};
use crate::mail::{Letter, MailTls};
use crate::secret::{Sealed, SecretRef};
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
        path: Sealed,
        body: Option<Json>,
        headers: Vec<(String, Header)>,
    },
    DnsLookup {
        name: String,
        kind: String,
    },
    DnsReplace(Box<DnsReplace>),
    Mail(Box<MailCall>),
    Exec {
        machine: Arc<HookMachine>,
        program: String,
        arguments: Vec<String>,
        stdin: Option<Sealed>,
        within: Option<Duration>,
    },
    Put {
        machine: Arc<HookMachine>,
        path: String,
        text: Sealed,
    },
    Get {
        machine: Arc<HookMachine>,
        path: String,
    },
    Ssh(Box<SshCall>),
    Disk(Box<DiskCall>),
    Tcp {
        ip: String,
        port: i64,
    },
    NetHttp {
        url: String,
    },
    Now,
    /// When the time of this attempt is up.
    Deadline,
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

/// All records of one name and type, to be replaced by these.
#[derive(Clone, Debug)]
pub(crate) struct DnsReplace {
    pub(crate) zone: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) ttl: u32,
    pub(crate) values: Vec<String>,
    pub(crate) key: Option<SecretRef>,
}

#[derive(Clone, Debug)]
pub(crate) struct MailCall {
    pub(crate) letter: Letter,
    pub(crate) tls: MailTls,
    pub(crate) login: Option<(String, SecretRef)>,
}

/// The value of a header of a request.
#[derive(Clone, Debug)]
pub(crate) enum Header {
    Text(Sealed),
    /// `Basic`, made of both once the password is open.
    Basic {
        user: String,
        password: SecretRef,
    },
}

impl Header {
    fn json(&self) -> Json {
        match self {
            Self::Text(text) => text.json(),
            Self::Basic { user, password } => json!({ "user": user, "password": password.name }),
        }
    }
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
                "PATCH" => "http.patch",
                _ => "http.delete",
            },
            Self::DnsLookup { .. } => "dns.lookup",
            Self::DnsReplace(_) => "dns.replace",
            Self::Mail(_) => "mail.send",
            Self::Exec { .. } => "exec",
            Self::Put { .. } => "put",
            Self::Get { .. } => "get",
            Self::Ssh(_) => "ssh",
            Self::Disk(call) => call.operation(),
            Self::Tcp { .. } => "net.tcp",
            Self::NetHttp { .. } => "net.http",
            Self::Now => "now",
            Self::Deadline => "run.deadline",
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
            Self::Http { method, path, body, headers } if headers.is_empty() => json!([method, path.json(), body]),
            Self::Http { method, path, body, headers } => {
                let headers: Vec<Json> = headers.iter().map(|(name, value)| json!([name, value.json()])).collect();
                json!([method, path.json(), body, headers])
            }
            Self::DnsLookup { name, kind } => json!([name, kind]),
            Self::DnsReplace(set) => {
                let key = set.key.as_ref().map(|key| &key.name);
                json!([set.zone, set.name, set.kind, set.ttl, set.values, key])
            }
            Self::Mail(mail) => {
                let Letter { from, to, subject, text } = &mail.letter;
                let login = mail.login.as_ref().map(|(user, password)| json!([user, password.name]));
                json!([from, to, subject, text, format!("{:?}", mail.tls), login])
            }
            Self::Exec { machine, program, arguments, stdin, .. } => {
                json!([machine.name, program, arguments, stdin.as_ref().map(Sealed::json)])
            }
            Self::Put { machine, path, text } => json!([machine.name, path, text.json()]),
            Self::Get { machine, path } => json!([machine.name, path]),
            Self::Ssh(call) => call.json(),
            Self::Disk(call) => call.json(),
            Self::Tcp { ip, port } => json!([ip, port]),
            Self::NetHttp { url } => json!([url]),
            Self::Now | Self::Deadline => json!([]),
            Self::Random { below } => json!([below]),
            Self::SleepDue { millis } => json!([millis]),
            Self::SleepUntil { due } => json!([due]),
        }
    }

    pub(crate) fn hash(&self) -> String {
        Hash::of(canonical(&self.arguments())).to_string()
    }

    /// It reaches out of the bubble of a drill.
    fn is_outside(&self) -> bool {
        matches!(self, Self::Http { .. } | Self::DnsLookup { .. } | Self::DnsReplace(_) | Self::Mail(_))
    }

    /// Refuses what the contract does not allow, by name, and in a drill everything beyond the bubble.
    pub(crate) fn permitted(&self, sheet: &HookSheet, is_drill: bool) -> Result<()> {
        let has = |wanted: &dyn Fn(&Need) -> bool| sheet.needs.iter().any(wanted);
        let (need, held) = match self {
            Self::Http { .. } => ("http(\"https://...\")", has(&|need| matches!(need, Need::Http { .. }))),
            Self::DnsLookup { .. } | Self::DnsReplace(_) => {
                ("dns(\"host\")", has(&|need| matches!(need, Need::Dns { .. })))
            }
            Self::Mail(_) => ("mail(\"host\")", has(&|need| matches!(need, Need::Mail { .. }))),
            Self::Exec { .. } | Self::Put { .. } | Self::Get { .. } => ("guest", has(&|need| *need == Need::Guest)),
            Self::Ssh(_) => ("ssh", has(&|need| *need == Need::Ssh)),
            Self::Disk(_) => ("disk", has(&|need| *need == Need::Disk)),
            Self::Tcp { .. } | Self::NetHttp { .. } => ("bubble", has(&|need| *need == Need::Bubble)),
            _ => ("", true),
        };
        let operation = self.operation();
        if !held {
            return Err(Failure::permanent(format!("hook `{}` calls `{operation}` without declaring it", sheet.name))
                .help(format!("add `{need}` to `needs` of the hook in its `.plan`, and have it reviewed")));
        }
        if is_drill && self.is_outside() {
            return Err(Failure::refused(format!(
                "in a drill hook `{}` calls `{operation}`, which leaves the bubble",
                sheet.name
            ))
            .help("let the step run only in earnest: `when live`"));
        }
        let writes = match self {
            Self::Http { method, .. } => *method != "GET",
            Self::Disk(call) => call.writes(),
            Self::Put { .. } | Self::Checkpoint { .. } | Self::DnsReplace(_) | Self::Mail(_) => true,
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
