//! Carries out one host call. Everything it may touch has been checked by name before, and is checked here by place.

use crate::call::{DnsReplace, Header, HostCall, MailCall};
use crate::dns;
use crate::host::Session;
use crate::http::{HttpRequest, cut_text, resolve};
use crate::limits::*;
use crate::mail::MailOrder;
use crate::secret::{Hidden, Part, Sealed, SecretRef, blot, blot_text};
use crate::value::HookMachine;
use muster_ports::*;
use muster_runsheet::Need;
use serde_json::{Value as Json, json};
use std::time::Duration;

impl Session<'_> {
    pub(crate) async fn perform(&self, call: &HostCall, position: u32, hash: &str) -> Result<Json> {
        match call {
            HostCall::Log { warn, text } => {
                let level = if *warn { "warning from" } else { "from" };
                self.order.calls.note(&format!("{level} hook {}: {text}", self.name())).await?;
                Ok(Json::Null)
            }
            HostCall::Checkpoint { key, value } => Ok(json!({ "key": key, "value": value })),
            HostCall::Saved { .. } => Ok(Json::Null),
            HostCall::Http { .. } => self.http(call, position, hash).await,
            HostCall::DnsLookup { name, kind } => self.dns_lookup(name, kind).await,
            HostCall::DnsReplace(set) => self.dns_replace(set).await,
            HostCall::Mail(mail) => self.mail(mail, position, hash).await,
            HostCall::Exec { machine, program, arguments, stdin, within } => {
                let stdin = match stdin {
                    Some(text) => Some(self.open_text(text).await?.reveal().to_owned()),
                    None => None,
                };
                let command = self.command(program, arguments.clone(), stdin, *within);
                let output = self.order.world.exec(machine, &command).await?;
                let (out, err) = (cut_text(output.out.as_bytes()), cut_text(output.err.as_bytes()));
                Ok(json!({ "code": output.code, "out": out, "err": err }))
            }
            HostCall::Put { machine, path, text } => {
                let script = ["-c", "cat > \"$1\"", "put", path].map(str::to_owned).to_vec();
                let command =
                    self.command("/bin/sh", script, Some(self.open_text(text).await?.reveal().to_owned()), None);
                self.file(machine, path, &command).await.map(|_| Json::Null)
            }
            HostCall::Get { machine, path } => {
                let command = self.command("/bin/cat", vec!["--".to_owned(), path.clone()], None, None);
                self.file(machine, path, &command).await.map(|text| cut_text(text.as_bytes()).into())
            }
            HostCall::Ssh(call) => self.ssh(call).await,
            HostCall::Disk(call) => self.disk(call).await,
            HostCall::Tcp { ip, port } => self.tcp(ip, *port).await,
            HostCall::NetHttp { url } => self.net_http(url).await,
            HostCall::Now => Ok(self.host.clock.now().as_millis().into()),
            HostCall::Deadline => Ok(self.order.deadline.as_millis().into()),
            HostCall::Random { below } => {
                Ok((self.host.random.next_u64() % u64::try_from(*below).unwrap_or(1).max(1)).into())
            }
            HostCall::SleepDue { millis } => {
                Ok(self.host.clock.now().plus(Duration::from_millis(*millis)).as_millis().into())
            }
            HostCall::SleepUntil { due } => {
                self.host.clock.sleep_until(Timestamp(*due)).await;
                Ok(Json::Null)
            }
        }
    }

    pub(crate) fn command(
        &self,
        program: &str,
        arguments: Vec<String>,
        stdin: Option<String>,
        within: Option<Duration>,
    ) -> GuestCommand {
        let within = within.map_or(self.left(), |within| within.min(self.left()));
        GuestCommand { program: program.to_owned(), arguments, stdin, within }
    }

    async fn file(&self, machine: &HookMachine, path: &str, command: &GuestCommand) -> Result<String> {
        let output = self.order.world.exec(machine, command).await?;
        match output.code {
            0 => Ok(output.out),
            code => Err(Failure::permanent(format!(
                "file `{path}` in machine `{}`: exit code {code}: {}",
                machine.name,
                output.err.trim()
            ))),
        }
    }

    async fn http(&self, call: &HostCall, position: u32, hash: &str) -> Result<Json> {
        let HostCall::Http { method, path, body, headers } = call else { return Ok(Json::Null) };
        let origins: Vec<&str> = self
            .needs
            .iter()
            .filter_map(|need| if let Need::Http { origin } = need { Some(origin.as_str()) } else { None })
            .collect();
        let path = self.open_text(path).await?;
        let (url, origin) =
            resolve(path.reveal(), &origins).map_err(|failure| failure.during(format!("hook `{}`", self.name())))?;
        let (body, content_type) = match body {
            None => (None, None),
            Some(Json::String(text)) => (Some(text.clone()), Some("text/plain; charset=utf-8")),
            Some(json) => (Some(json.to_string()), Some("application/json")),
        };
        let mut opened = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            opened.push((name.clone(), self.header(name, value).await?));
        }
        let idempotency_key = (*method != "GET").then(|| self.key_of(position, hash));
        let within = HTTP_CALL_MAX.min(self.left());
        let request = HttpRequest {
            method,
            url,
            origin,
            body,
            content_type,
            headers: opened,
            authorities: self.authorities(),
            idempotency_key,
            within,
        };
        let reply = self.order.world.http(&request).await?;
        Ok(json!({ "status": reply.status, "headers": reply.headers, "body": reply.body, "cut": reply.cut }))
    }

    /// The same for every repetition of a call. The hash belongs to it: an attempt that asks the world afresh may write
    /// something else at the same place.
    pub(crate) fn key_of(&self, position: u32, hash: &str) -> String {
        let part = if self.order.undo { "undo-" } else { "" };
        format!("{}-{part}{position}-{}", self.order.facts.key, hash.get(..8).unwrap_or(hash))
    }

    async fn header(&self, name: &str, value: &Header) -> Result<Hidden> {
        let value = match value {
            Header::Text(text) => self.open_text(text).await?,
            Header::Basic { user, password } => {
                use base64::Engine as _;
                let password = self.open(password).await?;
                let both = zeroize::Zeroizing::new(format!("{user}:{}", password.reveal()));
                let encoded = base64::engine::general_purpose::STANDARD.encode(both.as_bytes());
                self.remember_secret(Hidden::new(encoded.clone()));
                Hidden::new(format!("Basic {encoded}"))
            }
        };
        match value.reveal().chars().any(char::is_control) {
            true => Err(Failure::permanent(format!("the value of header `{name}` has line breaks"))),
            false => Ok(value),
        }
    }

    pub(crate) async fn open(&self, secret: &SecretRef) -> Result<Hidden> {
        let opened = self.order.world.secret(&secret.key).await;
        let opened = opened.map_err(|failure| failure.during(format!("secret `{}`", secret.name)))?;
        self.remember_secret(opened.clone());
        Ok(opened)
    }

    fn remember_secret(&self, secret: Hidden) {
        let mut opened = self.opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !opened.contains(&secret) {
            opened.push(secret);
        }
    }

    pub(crate) async fn open_text(&self, text: &Sealed) -> Result<Hidden> {
        let mut whole = zeroize::Zeroizing::new(String::new());
        for part in &text.0 {
            match part {
                Part::Plain(text) => whole.push_str(text),
                Part::Secret(secret) => whole.push_str(self.open(secret).await?.reveal()),
            }
        }
        Ok(Hidden::new(whole.as_str()))
    }

    /// What may be shown of a result: an echo of a secret is blotted out.
    pub(crate) fn without_secrets(&self, result: Result<Json>) -> Result<Json> {
        let opened = self.opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if opened.is_empty() {
            return result;
        }
        match result {
            Ok(mut json) => {
                blot(&mut json, &opened);
                Ok(json)
            }
            Err(mut failure) => {
                failure.message = blot_text(&failure.message, &opened);
                failure.help = failure.help.map(|help| blot_text(&help, &opened));
                Err(failure)
            }
        }
    }

    /// Whom TLS connections of this hook are held against, when the contract says so.
    fn authorities(&self) -> Option<String> {
        let named = self.needs.iter().filter_map(|need| match need {
            Need::Authority { pem } => Some(pem.as_str()),
            _ => None,
        });
        let all: Vec<&str> = named.collect();
        (!all.is_empty()).then(|| all.join("\n"))
    }

    /// The one server that the contract names.
    fn only_server(&self, what: &str, of: impl Fn(&Need) -> Option<&String>) -> Result<&str> {
        match self.needs.iter().filter_map(&of).collect::<Vec<_>>().as_slice() {
            [server] => Ok(server),
            found => Err(Failure::permanent(format!(
                "hook `{}` names {} servers in its needs, {what} takes one",
                self.name(),
                found.len()
            ))
            .help("write a hook for each server")),
        }
    }

    pub(crate) fn name_server(&self) -> Result<&str> {
        self.only_server("`dns`", |need| if let Need::Dns { server } = need { Some(server) } else { None })
    }

    pub(crate) fn mail_server(&self) -> Result<&str> {
        self.only_server("`mail`", |need| if let Need::Mail { server } = need { Some(server) } else { None })
    }

    fn dns_id(&self) -> u16 {
        u16::try_from(self.host.random.next_u64() % 65_536).unwrap_or(0)
    }

    async fn dns_lookup(&self, name: &str, kind: &str) -> Result<Json> {
        let (server, kind, id) = (self.name_server()?, dns::Kind::parse(kind)?, self.dns_id());
        let question = dns::write_question(id, name, kind)?;
        let reply = self.order.world.dns(server, &question, DNS_CALL_MAX.min(self.left())).await?;
        let found = dns::read_lookup(&reply, id, name, kind)?;
        Ok(json!({ "found": !found.values.is_empty(), "ttl": found.ttl, "values": found.values }))
    }

    async fn dns_replace(&self, set: &DnsReplace) -> Result<Json> {
        let (server, kind, id) = (self.name_server()?, dns::Kind::parse(&set.kind)?, self.dns_id());
        let mut message = dns::write_update(id, &set.zone, &set.name, kind, set.ttl, &set.values)?;
        let signed = match &set.key {
            Some(secret) => {
                let key = dns::Key::parse(self.open(secret).await?.reveal())?;
                let mac = key.sign(&mut message, self.host.clock.now().as_millis() / 1_000)?;
                Some((key, mac))
            }
            None => None,
        };
        let reply = self.order.world.dns(server, &message, DNS_CALL_MAX.min(self.left())).await?;
        let signed = signed.as_ref().map(|(key, mac)| (key, mac.as_slice()));
        dns::read_update(&reply, id, &set.name, signed).map(|()| Json::Null)
    }

    async fn mail(&self, mail: &MailCall, position: u32, hash: &str) -> Result<Json> {
        let server = self.mail_server()?;
        let login = match &mail.login {
            Some((user, password)) => Some((user.clone(), self.open(password).await?)),
            None => None,
        };
        let order = MailOrder {
            server: server.to_owned(),
            tls: mail.tls,
            login,
            authorities: self.authorities(),
            from: mail.letter.from.clone(),
            to: mail.letter.to.clone(),
            message: mail.letter.compose(self.host.clock.now(), &self.key_of(position, hash))?,
            within: MAIL_CALL_MAX.min(self.left()),
        };
        self.order.world.mail(&order).await.map(|()| Json::Null)
    }

    /// `true` when the port accepts. That nothing answers is an answer; that the site cannot be asked is none, but
    /// cannot be told apart here and reads as `false`.
    async fn tcp(&self, ip: &str, port: i64) -> Result<Json> {
        let ip = ip.parse().map_err(|_| Failure::permanent(format!("`{ip}` is not an address")))?;
        let port = port_of(port)?;
        let probe = Probe::Tcp { ip, port, within: PROBE_MAX.min(self.left()) };
        match self.order.world.probe(&probe).await {
            Ok(_) => Ok(true.into()),
            Err(failure) if failure.class == FailureClass::Permanent => Err(failure),
            Err(_) => Ok(false.into()),
        }
    }

    async fn net_http(&self, url: &str) -> Result<Json> {
        let wrong = || Failure::permanent(format!("`{url}` is not an address such as `http://10.0.0.5:8080/ready`"));
        let uri: ureq::http::Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong().help("inside the landing network `net.http` speaks plain HTTP to an IP address"));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let ip = host.parse().map_err(|_| wrong().help("names are not resolved in the landing network: use `m.ip`"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let probe = Probe::Http { ip, port: uri.port_u16().unwrap_or(80), path, within: PROBE_MAX.min(self.left()) };
        match self.order.world.probe(&probe).await {
            Ok(answer) => Ok(json!({ "status": answer.status, "body": answer.body, "error": "" })),
            Err(failure) if failure.class == FailureClass::Permanent => Err(failure),
            Err(failure) => Ok(json!({ "status": 0, "body": "", "error": failure.message })),
        }
    }
}

fn port_of(port: i64) -> Result<u16> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| Failure::permanent(format!("{port} is not a port: 1 to 65535")))
}
