//! Somebody who answers in place of the world: recording hosts, fakes, cassettes, and readers of a record.
//!
//! A stand-in meets every call as data, after the host has checked it by name and by place as it does in earnest. So what
//! a contract does not allow is refused in a rehearsal too.

use crate::call::{Header, HostCall};
use crate::dns;
use crate::guest::DiskWork;
use crate::host::Session;
use crate::http::{cut_text, resolve};
use crate::limits::REPLY_BYTES_MAX;
use crate::secret::{Part, Sealed, SecretRef};
use async_trait::async_trait;
use muster_ports::Result;
use muster_runsheet::Need;
use serde_json::{Value as Json, json};

/// One call of a hook, as data. Secrets are in it by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// In the hook's record, from 0.
    pub number: u32,
    /// Within the attempt, from 0.
    pub position: u32,
    /// `http.put`, `exec`, `checkpoint`.
    pub operation: &'static str,
    /// As they are hashed for the journal.
    pub arguments: Json,
    /// Of the arguments, as the journal has it.
    pub hash: String,
    /// Whom it goes to: an address, a machine, a server. Empty for what the host answers by itself, such as `now`.
    pub to: String,
    /// What the other side gets, so that it can tell a repetition.
    pub key: Option<String>,
    /// It may change something out there. Commands in guests count as such.
    pub changes: bool,
    /// It was answered by the record.
    pub replayed: bool,
}

/// Answers in place of the world.
#[async_trait]
pub trait StandIn: Send + Sync + std::fmt::Debug {
    /// A call is made, or answered from the record.
    fn asked(&self, call: &Outgoing);
    /// The answer as the journal would keep it; `None` lets the host and the world answer. Not asked for replayed calls,
    /// nor for `log` and `checkpoint`.
    async fn answer(&self, call: &Outgoing) -> Option<Result<Json>>;
    /// What came of it.
    fn answered(&self, call: &Outgoing, answer: &Result<Json>);
}

impl HostCall {
    /// It is kept with the step, and nobody else is asked.
    fn stays_here(&self) -> bool {
        matches!(self, Self::Log { .. } | Self::Checkpoint { .. } | Self::Saved { .. })
    }

    /// The host answers it from its own clock and dice.
    fn is_of_the_host(&self) -> bool {
        matches!(
            self,
            Self::Now | Self::Deadline | Self::Random { .. } | Self::SleepDue { .. } | Self::SleepUntil { .. }
        )
    }

    /// What it hands to the other side.
    fn secrets(&self) -> Vec<SecretRef> {
        fn of(text: &Sealed) -> impl Iterator<Item = &SecretRef> {
            text.0.iter().filter_map(|part| if let Part::Secret(secret) = part { Some(secret) } else { None })
        }
        match self {
            Self::Http { path, headers, .. } => {
                let header = |header: &'_ (String, Header)| match &header.1 {
                    Header::Text(text) => of(text).cloned().collect::<Vec<_>>(),
                    Header::Basic { password, .. } => vec![password.clone()],
                };
                of(path).cloned().chain(headers.iter().flat_map(header)).collect()
            }
            Self::DnsReplace(set) => set.key.iter().cloned().collect(),
            Self::Mail(mail) => mail.login.iter().map(|(_, password)| password.clone()).collect(),
            Self::Exec { stdin, .. } => stdin.iter().flat_map(of).cloned().collect(),
            Self::Put { text, .. } => of(text).cloned().collect(),
            Self::Ssh(ssh) => {
                let texts = ssh.stdin.iter().chain([&ssh.host_key]);
                texts.flat_map(of).chain([&ssh.key]).cloned().collect()
            }
            Self::Disk(call) => match &call.work {
                DiskWork::Write(text) | DiskWork::Patch { new: text, .. } => of(text).cloned().collect(),
                DiskWork::Read => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    fn may_change(&self) -> bool {
        match self {
            Self::Http { method, .. } => *method != "GET",
            Self::DnsLookup { .. } | Self::Get { .. } | Self::Tcp { .. } | Self::NetHttp { .. } => false,
            Self::DnsReplace(_) | Self::Mail(_) | Self::Exec { .. } | Self::Ssh(_) | Self::Put { .. } => true,
            Self::Disk(call) => call.writes(),
            _ => false,
        }
    }
}

impl Session<'_> {
    /// The call as a stand-in meets it, refused here where it would be refused in earnest.
    pub(crate) async fn outgoing(
        &self,
        call: &HostCall,
        (number, position): (u32, u32),
        hash: &str,
    ) -> Result<Outgoing> {
        let arguments = call.arguments();
        let key = self.key_of(position, hash);
        let (to, key) = match call {
            call if call.stays_here() || call.is_of_the_host() => (String::new(), None),
            HostCall::Http { method, path, .. } => (self.address_of(path).await?, (*method != "GET").then_some(key)),
            HostCall::DnsLookup { kind, .. } => {
                dns::Kind::parse(kind)?;
                (self.name_server()?.to_owned(), None)
            }
            HostCall::DnsReplace(set) => {
                dns::Kind::parse(&set.kind)?;
                (self.name_server()?.to_owned(), None)
            }
            HostCall::Mail(_) => (self.mail_server()?.to_owned(), Some(key)),
            HostCall::Tcp { ip, port } => (format!("{ip}:{port}"), None),
            HostCall::NetHttp { url } => (url.clone(), None),
            _ => (arguments.get(0).and_then(Json::as_str).unwrap_or_default().to_owned(), None),
        };
        Ok(Outgoing {
            number,
            position,
            operation: call.operation(),
            arguments,
            hash: hash.to_owned(),
            to,
            key,
            changes: !call.stays_here() && !call.is_of_the_host() && call.may_change(),
            replayed: false,
        })
    }

    /// The address that a request goes to, with `***` where it is secret.
    async fn address_of(&self, path: &Sealed) -> Result<String> {
        let origins: Vec<&str> = self
            .needs
            .iter()
            .filter_map(|need| if let Need::Http { origin } = need { Some(origin.as_str()) } else { None })
            .collect();
        let open = self.open_text(path).await?;
        let (url, origin) =
            resolve(open.reveal(), &origins).map_err(|failure| failure.during(format!("hook `{}`", self.name())))?;
        let is_secret = path.0.iter().any(|part| matches!(part, Part::Secret(_)));
        Ok(if is_secret { format!("{origin}/***") } else { url })
    }

    /// Carries the call out, by the stand-in where there is one and it wants to.
    pub(crate) async fn reach(&self, call: &HostCall, outgoing: Option<&Outgoing>) -> Option<Result<Json>> {
        let outgoing = outgoing.filter(|_| !call.stays_here())?;
        for secret in call.secrets() {
            // Opened to be blotted out of the answer, as in earnest. Where it cannot be, nobody here can repeat it.
            let _ = self.open(&secret).await;
        }
        let answer = self.order.world.stand_in()?.answer(outgoing).await?;
        Some(answer.map(|mut json| {
            cut(&mut json);
            json
        }))
    }
}

/// What a stand-in says is cut as what the world says.
fn cut(json: &mut Json) {
    match json {
        Json::String(text) if text.len() > REPLY_BYTES_MAX => *text = cut_text(text.as_bytes()),
        Json::Object(fields) => {
            let long = |text: &Json| text.as_str().is_some_and(|text| text.len() > REPLY_BYTES_MAX);
            if fields.contains_key("cut") && fields.get("body").is_some_and(long) {
                fields.insert("cut".to_owned(), json!(true));
            }
            fields.values_mut().for_each(cut);
        }
        Json::Array(items) => items.iter_mut().for_each(cut),
        _ => {}
    }
}
