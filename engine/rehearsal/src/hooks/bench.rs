//! A recording host: answers hooks from fakes, from what they have written themselves, and else as a healthy estate would.
//!
//! What can be known is kept: a file that was put, a record of a name server, a page that was put at an address. A question
//! that neither fakes nor a hook's own writing nor the table of healthy guests answers ends the hook: `unknown from here`.

use super::cassette::Tape;
use super::fakes::{Fake, Fakes, shaped, words};
use crate::outside::UNKNOWN;
use async_trait::async_trait;
use muster_hooks::{
    Hidden, HookMachine, HttpReply, HttpRequest, MailOrder, Outgoing, Outside, StandIn, World, read_keyring,
};
use muster_ports::*;
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Answered by the host of a trial from its clock.
const HOST_CALLS: [&str; 4] = ["now", "run.deadline", "sleep.due", "sleep"];

/// Who answered a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnsweredBy {
    /// The host itself: `log`, `now`, `checkpoint`.
    Host,
    /// An entry of the fakes.
    Fake,
    /// What the hook has written before.
    Written,
    /// Nobody said anything: as in a healthy estate.
    Assumed,
    /// A recording.
    Cassette,
    /// The world.
    Live,
    /// The record of an earlier attempt.
    Record,
}

impl AnsweredBy {
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Fake => "fake",
            Self::Written => "written",
            Self::Assumed => "assumed",
            Self::Cassette => "cassette",
            Self::Live => "live",
            Self::Record => "record",
        }
    }
}

/// One call of a hook and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchCall {
    pub number: u32,
    pub operation: String,
    /// Whom it went to; empty for what the host answers by itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// Secrets by name.
    pub arguments: Json,
    /// What the other side got to tell a repetition by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub changes: bool,
    pub by: AnsweredBy,
    /// Since the attempt began.
    pub at_millis: u64,
    /// Missing where it failed, or where nothing has come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(skip)]
    pub(crate) hash: String,
}

impl BenchCall {
    /// What was done, so that a repetition can be told: by its key where the other side looks at that, else by what was
    /// asked for.
    pub(crate) fn effect(&self) -> String {
        let key = match self.operation.as_str() {
            "http.post" | "http.patch" | "mail.send" => self.key.as_deref().unwrap_or_default(),
            _ => "",
        };
        format!("{} {} {} {key}", self.operation, self.to, self.arguments)
    }

    /// Nobody but the host was asked.
    pub(crate) fn stays_here(&self) -> bool {
        self.by == AnsweredBy::Host
    }

    /// On one line: `http.put https://dns.example.com/a {...}`.
    pub fn line(&self) -> String {
        call_line(&self.operation, &self.to, &self.arguments)
    }
}

/// A call on one line, for people.
pub fn call_line(operation: &str, to: &str, arguments: &Json) -> String {
    let from = |at: usize| Json::Array(arguments.as_array().and_then(|all| all.get(at..)).unwrap_or_default().to_vec());
    let rest = match operation {
        // The machine, or method and address, are in `to`.
        "exec" | "ssh" | "put" | "get" | "disk.read" | "disk.write" | "disk.patch" if !to.is_empty() => words(&from(1)),
        http if http.starts_with("http.") && !to.is_empty() => words(&from(2)),
        "net.tcp" | "net.http" if !to.is_empty() => String::new(),
        _ => words(arguments),
    };
    let parts = [operation, to, rest.as_str()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What is known of the world so far.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    /// By machine and path.
    files: BTreeMap<(String, String), Json>,
    /// By server, name and type.
    records: BTreeMap<(String, String, String), Json>,
    /// By address.
    pages: BTreeMap<String, Json>,
}

#[derive(Debug, Default)]
struct Inner {
    known: Known,
    /// How often each fake has answered.
    used: BTreeMap<usize, u32>,
    /// Answers of this attempt, so that a repeated call hears what it heard before.
    heard: BTreeMap<(u32, String), (Result<Json>, AnsweredBy, bool)>,
    calls: Vec<BenchCall>,
    by: Option<(AnsweredBy, bool)>,
}

/// The world of a trial.
#[derive(Debug)]
pub(crate) struct Bench {
    fakes: Vec<Fake>,
    secrets: BTreeMap<String, String>,
    /// Origins and servers, as somebody named them, where calls are really made.
    pub(crate) live: Vec<String>,
    seed: Mutex<u64>,
    clock: Arc<dyn Clock>,
    begun: Mutex<Timestamp>,
    /// Answers in the place of everything else.
    pub(crate) cassette: Option<Tape>,
    /// The call at this place of an attempt never gets its answer.
    pub(crate) silent_at: Option<u32>,
    inner: Mutex<Inner>,
}

fn locked<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bench {
    pub(crate) fn new(hook: &str, fakes: &Fakes, clock: Arc<dyn Clock>) -> Self {
        Self {
            fakes: fakes.of(hook),
            secrets: fakes.secrets.clone(),
            live: Vec::new(),
            seed: Mutex::new(1),
            begun: Mutex::new(clock.now()),
            clock,
            cassette: None,
            silent_at: None,
            inner: Mutex::default(),
        }
    }

    /// What a hook finds who is run after another one: its fakes are those of both.
    pub(crate) fn with_fakes_of(mut self, hook: &str, fakes: &Fakes) -> Self {
        let more: Vec<Fake> = fakes.of(hook).into_iter().filter(|fake| !self.fakes.contains(fake)).collect();
        self.fakes.splice(0..0, more);
        self
    }

    fn is_live(&self, to: &str) -> bool {
        self.live.iter().any(|name| {
            let rest = to.strip_prefix(name.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        })
    }

    /// The calls so far, which are forgotten here.
    pub(crate) fn take_calls(&self) -> Vec<BenchCall> {
        std::mem::take(&mut locked(&self.inner).calls)
    }

    /// An attempt begins that asks the world afresh.
    pub(crate) fn afresh(&self, seed: u64) {
        *locked(&self.seed) = seed;
        *locked(&self.begun) = self.clock.now();
        locked(&self.inner).heard.clear();
    }

    /// What the hook has written and what was there before it; only what can be known.
    pub(crate) fn standing(&self) -> BTreeMap<String, Json> {
        let known = locked(&self.inner).known.clone();
        let files = known.files.into_iter().map(|((to, path), text)| (format!("{path} in {to}"), text));
        let records = known.records.into_iter().map(|((to, name, kind), set)| (format!("{name} {kind} at {to}"), set));
        files.chain(records).chain(known.pages).collect()
    }

    /// The first thing that a hook has changed, and that does not stand as it stood when the hook looked at it before.
    pub(crate) fn left_standing(&self, did: &[BenchCall]) -> Option<String> {
        let known = locked(&self.inner).known.clone();
        let before = |operation: &str, same: &dyn Fn(&BenchCall) -> bool| {
            did.iter().find(|call| call.operation == operation && same(call)).and_then(|call| call.answer.clone())
        };
        let argument = |call: &BenchCall, at: usize| call.arguments.get(at).and_then(Json::as_str).map(str::to_owned);
        let files = known.files.iter().filter_map(|((machine, path), text)| {
            let same = |call: &BenchCall| call.to == *machine && argument(call, 1).as_deref() == Some(path);
            let old = before("get", &same)?;
            (old != *text).then(|| format!("`{path}` in {machine} changed"))
        });
        let records = known.records.iter().filter_map(|((server, name, kind), set)| {
            let same = |call: &BenchCall| {
                let asked = (argument(call, 0).map(|name| plain_name(&name)), argument(call, 1));
                call.to == *server
                    && asked.0.as_ref() == Some(name)
                    && asked.1.is_some_and(|of| of.eq_ignore_ascii_case(kind))
            };
            let old = before("dns.lookup", &same)?;
            (old["values"] != set["values"]).then(|| format!("`{name}` at {server} leading to {}", set["values"]))
        });
        let pages = known.pages.iter().filter_map(|(address, page)| {
            let old = before("http.get", &|call: &BenchCall| call.to == *address)?;
            let old: Json = serde_json::from_str(old.get("body")?.as_str()?).ok()?;
            let changed = page.as_object()?.iter().find(|(name, value)| old.get(name) != Some(value))?;
            Some(format!("{address} with `{}` {}", changed.0, changed.1))
        });
        let mut all = files.chain(records).chain(pages);
        all.next()
    }

    fn decide(&self, call: &Outgoing) -> (Result<Json>, AnsweredBy, bool) {
        let mut inner = locked(&self.inner);
        let again = (call.number, call.hash.clone());
        if let Some(heard) = inner.heard.get(&again) {
            return heard.clone();
        }
        let fake = self.fakes.iter().enumerate().find(|(at, fake)| {
            let used = inner.used.get(at).copied().unwrap_or(0);
            fake.fits(call) && fake.times.is_none_or(|times| used < times)
        });
        let known = inner.known.answer(call);
        // Also an entry that is used up says what kind of call it is.
        let reads = !call.changes || self.fakes.iter().any(|fake| fake.reads && fake.fits(call));
        let (answer, by) = match (fake, known) {
            (Some((at, fake)), known) => {
                *inner.used.entry(at).or_default() += 1;
                match (fake.answer(call), known) {
                    // A page keeps what the fakes say of it beside what was put there.
                    (Ok(answer), Some(known)) => (Ok(over(answer, &known)), AnsweredBy::Written),
                    (answer, _) => (answer, AnsweredBy::Fake),
                }
            }
            (None, Some(known)) => (Ok(known), AnsweredBy::Written),
            (None, None) => (self.assumed(call), AnsweredBy::Assumed),
        };
        if answer.is_ok() {
            inner.known.write(call, &answer);
        }
        inner.heard.insert(again, (answer.clone(), by, reads));
        (answer, by, reads)
    }

    /// As in a healthy estate.
    fn assumed(&self, call: &Outgoing) -> Result<Json> {
        let unknown = |what: String| Err(Failure::permanent(format!("{UNKNOWN} ({what})")));
        match call.operation {
            "random" => {
                let below = call.arguments.get(0).and_then(Json::as_u64).unwrap_or(1).max(1);
                Ok((chance(*locked(&self.seed), call.position) % below).into())
            }
            "exec" | "ssh" => {
                let line = words(&call.arguments);
                let healthy = muster_stdlib::rehearsed().find(|(part, _)| line.contains(part));
                Ok(shaped("exec", json!({ "out": healthy.map_or("", |(_, out)| out) })))
            }
            "net.tcp" => Ok(true.into()),
            "net.http" => Ok(shaped("net.http", json!({}))),
            "dns.lookup" => Ok(shaped("dns.lookup", json!({ "ttl": 0 }))),
            "http.get" => unknown(format!("reads GET {}", call.to)),
            "get" | "disk.read" => unknown(format!("reads {}", words(&call.arguments))),
            operation if operation.starts_with("http.") => Ok(shaped(operation, json!({ "body": "{}" }))),
            _ => Ok(Json::Null),
        }
    }

    fn pretended(&self, key: &str) -> Hidden {
        // Looks like a key for a name server and like a path, the two forms that hooks take apart.
        let pretended = || format!("/secret/{key}");
        Hidden::new(self.secrets.get(key).cloned().unwrap_or_else(pretended))
    }
}

/// Any number, always the same for one seed and place (splitmix64).
fn chance(seed: u64, position: u32) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(position) + 1);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The body of an answer with fields of another one put over its own.
fn over(mut answer: Json, known: &Json) -> Json {
    let parsed = |json: &Json| json.get("body").and_then(Json::as_str).and_then(|body| serde_json::from_str(body).ok());
    if let (Some(Json::Object(mut body)), Some(Json::Object(written))) = (parsed(&answer), parsed(known)) {
        body.extend(written);
        answer["body"] = Json::String(Json::Object(body).to_string());
        return answer;
    }
    known.clone()
}

impl Known {
    fn answer(&self, call: &Outgoing) -> Option<Json> {
        let text = |at: usize| call.arguments.get(at).and_then(Json::as_str).unwrap_or_default().to_owned();
        match call.operation {
            "get" | "disk.read" => self.files.get(&(text(0), text(1))).cloned(),
            "dns.lookup" => {
                let key = (call.to.clone(), plain_name(&text(0)), text(1).to_uppercase());
                self.records.get(&key).map(|set| shaped("dns.lookup", set.clone()))
            }
            "http.get" => {
                let body = self.pages.get(&call.to)?;
                Some(shaped("http.get", json!({ "body": body })))
            }
            _ => None,
        }
    }

    fn write(&mut self, call: &Outgoing, answer: &Result<Json>) {
        let at = |at: usize| call.arguments.get(at).cloned().unwrap_or_default();
        let text = |n: usize| at(n).as_str().unwrap_or_default().to_owned();
        let good =
            answer.as_ref().is_ok_and(|answer| answer.get("status").and_then(Json::as_u64).is_none_or(|s| s < 300));
        match call.operation {
            "put" | "disk.write" if good => {
                self.files.insert((text(0), text(1)), at(2));
            }
            "disk.patch" if good => {
                if let Some(Json::String(file)) = self.files.get_mut(&(text(0), text(1))) {
                    *file = file.replace(&text(2), &text(3));
                }
            }
            "dns.replace" if good => {
                let key = (call.to.clone(), plain_name(&text(1)), text(2).to_uppercase());
                self.records.insert(key, json!({ "ttl": at(3), "values": at(4) }));
            }
            "http.put" if good && at(2).is_object() => {
                self.pages.insert(call.to.clone(), at(2));
            }
            "http.delete" if good => {
                self.pages.remove(&call.to);
            }
            _ => {}
        }
    }
}

fn plain_name(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}

#[async_trait]
impl StandIn for Bench {
    fn asked(&self, call: &Outgoing) {
        let mut inner = locked(&self.inner);
        inner.by = None;
        let at_millis = u64::try_from(self.clock.now().since(*locked(&self.begun)).as_millis()).unwrap_or(u64::MAX);
        inner.calls.push(BenchCall {
            number: call.number,
            operation: call.operation.to_owned(),
            to: call.to.clone(),
            arguments: call.arguments.clone(),
            key: call.key.clone(),
            changes: call.changes,
            by: if call.replayed { AnsweredBy::Record } else { AnsweredBy::Host },
            at_millis,
            answer: None,
            failure: None,
            hash: call.hash.clone(),
        });
    }

    async fn answer(&self, call: &Outgoing) -> Option<Result<Json>> {
        if self.silent_at == Some(call.position) {
            std::future::pending::<()>().await;
        }
        if let Some(tape) = &self.cassette {
            locked(&self.inner).by = Some((AnsweredBy::Cassette, !call.changes));
            return Some(tape.next(call));
        }
        if HOST_CALLS.contains(&call.operation) {
            return None;
        }
        if self.is_live(&call.to) {
            locked(&self.inner).by = Some((AnsweredBy::Live, !call.changes));
            return None;
        }
        let (answer, by, reads) = self.decide(call);
        locked(&self.inner).by = Some((by, reads));
        Some(answer)
    }

    fn answered(&self, call: &Outgoing, answer: &Result<Json>) {
        let mut inner = locked(&self.inner);
        let by = inner.by;
        let Some(last) = inner.calls.last_mut().filter(|last| last.number == call.number) else { return };
        if let Some((by, reads)) = by {
            last.by = by;
            last.changes &= !reads;
        }
        match answer {
            Ok(answer) => last.answer = Some(answer.clone()),
            Err(failure) => last.failure = Some(failure.clone()),
        }
    }
}

#[async_trait]
impl World for Bench {
    fn stand_in(&self) -> Option<&dyn StandIn> {
        Some(self)
    }
    fn outside(&self) -> Option<&dyn Outside> {
        // In front of the real world everything was answered that nobody named.
        self.live.is_empty().then_some(self)
    }
    async fn secret(&self, key: &str) -> Result<Hidden> {
        match self.live.is_empty() || self.secrets.contains_key(key) {
            true => Ok(self.pretended(key)),
            false => read_keyring(key),
        }
    }
    async fn exec(&self, _machine: &HookMachine, _command: &GuestCommand) -> Result<GuestOutput> {
        Err(unanswered("exec"))
    }
    async fn probe(&self, _probe: &Probe) -> Result<ProbeAnswer> {
        Err(unanswered("a probe"))
    }
}

/// Every call is answered before it comes here.
fn unanswered(what: &str) -> Failure {
    Failure::permanent(format!("`{what}` reached the end of a trial; this is a bug of muster"))
}

#[async_trait]
impl Outside for Bench {
    async fn http(&self, _request: &HttpRequest) -> Result<HttpReply> {
        Err(unanswered("http"))
    }
    async fn dns(&self, _server: &str, _message: &[u8]) -> Result<Vec<u8>> {
        Err(unanswered("dns"))
    }
    async fn mail(&self, _order: &MailOrder) -> Result<()> {
        Err(unanswered("mail"))
    }
    async fn secret(&self, key: &str) -> Result<Hidden> {
        Ok(self.pretended(key))
    }
}
