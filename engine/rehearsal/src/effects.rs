//! What the hooks of a sheet would touch: every hook runs, and a recording host answers it.
//!
//! What may change something is written down and taken to succeed. Machines answer as they do in a rehearsal: commands in
//! them succeed and print nothing, ports accept. A question whose answer nobody here can know ends the hook there, and so
//! does a script that stops over a pretended answer: the rest is `unknown from here`. Half a truth, marked as half.

use crate::outside::UNKNOWN;
use async_trait::async_trait;
use muster_forecast::HookEffects;
use muster_hooks::{
    Cancel, Hidden, HookHost, HookMachine, HookOrder, HttpReply, HttpRequest, MailOrder, Outside, RunFacts, World,
};
use muster_journal::{CallJournal, CallRecord};
use muster_ports::*;
use muster_provider_simulated::{SeededRandom, VirtualClock};
use muster_runsheet::{Action, HookSheet, Kind, Need, NicShape, Node, ProbeCall, Runsheet, SheetPhase, Value};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Hook steps that are tried out. Each is a thread and an interpreter of its own, about a millisecond: a sheet of ten
/// thousand machines is looked at in seconds all the same.
const HOOKS_MAX: usize = 1_000;
/// Different calls of one hook that are listed. Nobody reads more, and hooks are short.
const CALLS_MAX: usize = 32;
/// Of a command line or an address, as it is shown.
const SHOWN_CHARS_MAX: usize = 160;
/// Any moment: hooks may print it, and the same sheet gives the same bytes.
pub(crate) const BEGINNING: Timestamp = Timestamp(1_800_000_000_000);
const SEED: u64 = 1;
/// The opcode of a DNS UPDATE (RFC 2136), in the third byte of a message.
const DNS_UPDATE: u8 = 5;

/// Tries out every hook and probe of the sheet, in its order. Nothing is touched and nothing is sent.
pub fn effects(sheet: &Runsheet) -> Result<Vec<HookEffects>> {
    // A thread of its own: its time is paused, and whoever calls may be inside a runtime of real time.
    std::thread::scope(|scope| {
        let work = || {
            let _silent = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let runtime = runtime.map_err(|error| Failure::from(error).during("try out the hooks"))?;
            Ok(runtime.block_on(try_all(sheet)))
        };
        let done = scope.spawn(work).join();
        done.unwrap_or_else(|_| Err(Failure::permanent("trying out the hooks broke off; this is a bug of muster")))
    })
}

pub(crate) fn call_of(node: &Node) -> Option<(&HookName, &BTreeMap<String, Value>)> {
    match &node.action {
        Action::Run { hook, arguments } | Action::Check { probe: ProbeCall::Hook { hook, arguments }, .. } => {
            Some((hook, arguments))
        }
        _ => None,
    }
}

async fn try_all(sheet: &Runsheet) -> Vec<HookEffects> {
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(BEGINNING));
    let host = HookHost::new(clock.clone(), Arc::new(SeededRandom::new(SEED)));
    let landed = landed(sheet);
    let mut found = Vec::new();
    for node in &sheet.nodes {
        let Some((name, arguments)) = call_of(node) else { continue };
        let Some(hook) = sheet.hooks.get(name) else { continue };
        let mut one = HookEffects {
            step: node.id.clone(),
            hook: name.clone(),
            needs: hook.needs.iter().map(|need| need_words(&need.filled(arguments))).collect(),
            outside: hook.needs.iter().any(Need::is_outside),
            touches: Vec::new(),
            asks: Vec::new(),
            unknown: None,
        };
        if found.len() < HOOKS_MAX {
            let recorder = Recorder { names_server: needs_dns(hook), ..Recorder::default() };
            let order = HookOrder {
                sheet: hook,
                arguments,
                facts: facts(sheet, node),
                machines: machines(sheet, node, &landed),
                groups: sheet.groups.iter().map(|(name, group)| (name.clone(), group.machines.clone())).collect(),
                deadline: clock.now().plus(node.within.std()),
                calls: &Forgotten,
                world: &recorder,
                undo: false,
            };
            let end = host.run(order, &Cancel::default()).await;
            recorder.tell(&mut one, end.err());
        } else {
            one.unknown = Some(format!("not tried: a dry-run tries the first {HOOKS_MAX} hook steps of a sheet"));
        }
        found.push(one);
    }
    found
}

fn needs_dns(hook: &HookSheet) -> bool {
    hook.needs.iter().any(|need| matches!(need, Need::Dns { .. }))
}

/// Addresses that machines land with in this operation.
pub(crate) fn landed(sheet: &Runsheet) -> BTreeMap<&MachineName, IpAddr> {
    let of = |node: &'_ Node| match &node.action {
        Action::Promote { nics, .. } | Action::Clone { nics, .. } => first_ip(nics),
        _ => None,
    };
    sheet.nodes.iter().filter_map(|node| Some((node.action.machine()?, of(node)?))).collect()
}

fn first_ip(nics: &[NicShape]) -> Option<IpAddr> {
    nics.iter().find_map(|nic| nic.ip)
}

pub(crate) fn machines(sheet: &Runsheet, node: &Node, landed: &BTreeMap<&MachineName, IpAddr>) -> Vec<HookMachine> {
    let leaving = node.phase == SheetPhase::Leave;
    let site = if leaving { &sheet.source } else { &sheet.target };
    let one = |(name, machine): (&MachineName, &muster_runsheet::MachineSheet)| {
        let source_ip = first_ip(&machine.facts.nics);
        let here = landed.get(name).copied().filter(|_| !leaving).or(source_ip);
        HookMachine { name: name.clone(), site: site.clone(), instance: InstanceName::live(name), ip: here, source_ip }
    };
    sheet.machines.iter().map(one).collect()
}

pub(crate) fn facts(sheet: &Runsheet, node: &Node) -> RunFacts {
    let run = RunId::new("dry-run");
    RunFacts {
        operation: sheet.operation.to_string(),
        plan: sheet.plan.clone(),
        stage: node.stage.clone(),
        attempt: 1,
        key: EffectKey::new(format!("dry-run-{}", node.id)),
        run,
        source: sheet.source.clone(),
        target: sheet.target.clone(),
        is_drill: sheet.operation.kind == Kind::Test,
    }
}

fn need_words(need: &Need) -> String {
    match need {
        Need::Guest => "guest".to_owned(),
        Need::Ssh => "ssh".to_owned(),
        Need::Disk => "disk".to_owned(),
        Need::Bubble => "bubble".to_owned(),
        Need::Http { origin } => format!("http {origin}"),
        Need::Dns { server } => format!("dns {server}"),
        Need::Mail { server } => format!("mail {server}"),
        Need::Secret { name, .. } => format!("secret {name}"),
        Need::Authority { .. } => "authority".to_owned(),
    }
}

/// Nothing is kept: a hook is tried out once, from its beginning.
#[derive(Debug)]
struct Forgotten;

#[async_trait]
impl CallJournal for Forgotten {
    fn recorded(&self) -> Vec<CallRecord> {
        Vec::new()
    }
    async fn intend(&self, _number: u32, _operation: &str, _arguments: &str) -> Result<()> {
        Ok(())
    }
    async fn done(&self, _number: u32, _result: serde_json::Value) -> Result<()> {
        Ok(())
    }
    async fn note(&self, _text: &str) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Calls {
    touches: Vec<String>,
    asks: Vec<String>,
    /// Calls beyond [`CALLS_MAX`].
    more: usize,
}

/// Answers hooks as far as it can, and writes down what they called.
#[derive(Debug, Default)]
struct Recorder {
    calls: Mutex<Calls>,
    /// A secret of this hook may be a key for a name server, and has to look like one.
    names_server: bool,
}

impl Recorder {
    fn note(&self, list: impl FnOnce(&mut Calls) -> &mut Vec<String>, what: &str) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let all = calls.touches.len() + calls.asks.len();
        let what = shown(what);
        let list = list(&mut calls);
        if list.contains(&what) {
            return;
        }
        if all < CALLS_MAX {
            list.push(what);
        } else {
            calls.more += 1;
        }
    }
    fn touch(&self, what: &str) {
        self.note(|calls| &mut calls.touches, what);
    }
    fn ask(&self, what: &str) {
        self.note(|calls| &mut calls.asks, what);
    }

    fn tell(self, effects: &mut HookEffects, failure: Option<Failure>) {
        let calls = self.calls.into_inner().unwrap_or_else(PoisonError::into_inner);
        (effects.touches, effects.asks) = (calls.touches, calls.asks);
        effects.unknown = failure.map(|failure| match failure.message.find(UNKNOWN) {
            Some(at) => shown(&failure.message[at..]),
            None => shown(&format!("{UNKNOWN} (stops over a pretended answer: {})", failure.message)),
        });
        if calls.more > 0 && effects.unknown.is_none() {
            effects.unknown = Some(format!("{} more calls are not shown", calls.more));
        }
    }
}

/// On one line, and not longer than a person reads.
fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn unknown(what: impl std::fmt::Display) -> Failure {
    Failure::permanent(format!("{UNKNOWN} ({what})"))
}

#[async_trait]
impl World for Recorder {
    fn outside(&self) -> Option<&dyn Outside> {
        Some(self)
    }

    async fn exec(&self, machine: &HookMachine, command: &GuestCommand) -> Result<GuestOutput> {
        let done = Ok(GuestOutput { code: 0, out: String::new(), err: String::new() });
        let words: Vec<&str> = command.arguments.iter().map(String::as_str).collect();
        match (command.program.as_str(), words.as_slice()) {
            // As `m.put` and `m.get` are carried out.
            ("/bin/sh", ["-c", "cat > \"$1\"", "put", path]) => self.touch(&format!("{}: writes {path}", machine.name)),
            ("/bin/cat", ["--", path]) => return Err(unknown(format!("reads {path} in {}", machine.name))),
            (program, words) => {
                self.touch(&format!("{}: {}", machine.name, [&[program], words].concat().join(" ")));
            }
        }
        done
    }

    async fn shell(&self, machine: &HookMachine, order: &ShellOrder) -> Result<GuestOutput> {
        let words = [&[order.command.program.clone()][..], &order.command.arguments].concat().join(" ");
        self.touch(&format!("{} over SSH: {words}", machine.name));
        Ok(GuestOutput { code: 0, out: String::new(), err: String::new() })
    }

    async fn disk_read(&self, machine: &HookMachine, path: &str) -> Result<Option<String>> {
        Err(unknown(format!("reads {path} on the disk of {}", machine.name)))
    }

    async fn disk_write(&self, machine: &HookMachine, path: &str, _text: &Concealed) -> Result<()> {
        self.touch(&format!("{}: writes {path} on its disk", machine.name));
        Ok(())
    }

    async fn probe(&self, probe: &Probe) -> Result<ProbeAnswer> {
        match probe {
            Probe::Tcp { ip, port, .. } => self.ask(&format!("tcp {ip} port {port}")),
            Probe::Http { ip, port, path, .. } => self.ask(&format!("http {ip}:{port}{path}")),
            Probe::Talk { ip, port, .. } => self.ask(&format!("tcp {ip} port {port}, in its own words")),
        }
        Ok(ProbeAnswer { status: 200, body: String::new() })
    }
}

#[async_trait]
impl Outside for Recorder {
    async fn http(&self, request: &HttpRequest) -> Result<HttpReply> {
        // Behind the origin an address may hold a secret; here every secret is pretended.
        let what = format!("{} {}", request.method, request.url);
        if request.method == "GET" {
            return Err(unknown(format!("reads {what}")));
        }
        self.touch(&what);
        Ok(HttpReply { status: 200, headers: BTreeMap::new(), body: "{}".to_owned(), cut: false })
    }

    async fn dns(&self, server: &str, message: &[u8]) -> Result<Vec<u8>> {
        let update = message.get(2).is_some_and(|flags| flags >> 3 & 0xf == DNS_UPDATE);
        if update {
            self.touch(&format!("changes records at the name server {server}"));
            return Err(unknown(format!("what the name server {server} says to it")));
        }
        Err(unknown(format!("asks the name server {server}")))
    }

    async fn mail(&self, order: &MailOrder) -> Result<()> {
        self.touch(&format!("mail through {} to {}", order.server, order.to.join(", ")));
        Ok(())
    }

    async fn secret(&self, key: &str) -> Result<Hidden> {
        Ok(Hidden::new(match self.names_server {
            true => "pretended:cHJldGVuZGVkLXNlY3JldC1vZi1hLWRyeS1ydW4=".to_owned(),
            false => format!("/secret/{key}"),
        }))
    }
}
