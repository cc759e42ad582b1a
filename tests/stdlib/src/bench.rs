//! A bench for hooks: a plan is compiled as users compile it, and its steps are run for real, with this machine in place
//! of the guest.

use crate::repository;
use async_trait::async_trait;
use muster_compiler::World as Texts;
use muster_hooks::{Cancel, Hidden, HookEnd, HookHost, HookMachine, HookOrder, RunFacts, World};
use muster_journal::{CallJournal, CallRecord};
use muster_ports::*;
use muster_runsheet::{Action, HookSheet, Kind, Operation, ProbeCall, Runsheet, Value};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Time for one hook on the bench.
const WITHIN: Duration = Duration::from_secs(120);

/// A plan compiled for one operation, and the world its hooks work in.
#[derive(Debug)]
pub struct Bench {
    sheet: Runsheet,
    world: Local,
    /// The calls of each step that has run.
    calls: Mutex<BTreeMap<String, Vec<CallRecord>>>,
    pub notes: Mutex<Vec<String>>,
}

/// This machine as the guest of every machine of the plan.
#[derive(Debug, Default)]
struct Local {
    secrets: BTreeMap<String, String>,
    /// Folders of programs that stand in front of those of this machine.
    programs: Option<String>,
}

#[async_trait]
impl World for Local {
    async fn exec(&self, _machine: &HookMachine, command: &GuestCommand) -> Result<GuestOutput> {
        let mut child = Command::new(&command.program);
        child.args(&command.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        child.current_dir("/").env("LC_ALL", "C");
        if let Some(programs) = &self.programs {
            let path = std::env::var("PATH").unwrap_or_default();
            child = with_program(child, programs, &command.program, &command.arguments);
            child.env("PATH", format!("{programs}:{path}"));
        }
        let stdin = command.stdin.clone().unwrap_or_default();
        let done = tokio_blocking(move || {
            let mut child = child.spawn()?;
            if let Some(mut pipe) = child.stdin.take() {
                // A program that reads nothing closes its end.
                let _ = pipe.write_all(stdin.as_bytes());
            }
            child.wait_with_output()
        })
        .await
        .map_err(|error| Failure::from(error).during(&command.program))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(GuestOutput { code: done.status.code().unwrap_or(-1), out: text(&done.stdout), err: text(&done.stderr) })
    }

    async fn probe(&self, probe: &Probe) -> Result<ProbeAnswer> {
        let Probe::Tcp { ip, port, within } = probe else {
            return Err(Failure::permanent("the bench asks by TCP only"));
        };
        std::net::TcpStream::connect_timeout(&(*ip, *port).into(), *within)?;
        Ok(ProbeAnswer { status: 0, body: String::new() })
    }

    async fn secret(&self, key: &str) -> Result<Hidden> {
        let found = self.secrets.get(key).map(Hidden::new);
        found.ok_or_else(|| Failure::permanent(format!("the bench has no secret `{key}`")))
    }
}

/// The stand-in of a program, when the folder has one.
fn with_program(command: Command, folder: &str, program: &str, arguments: &[String]) -> Command {
    let stand_in = std::path::Path::new(folder).join(program);
    if !stand_in.exists() {
        return command;
    }
    let mut command = Command::new(stand_in);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
    command
}

async fn tokio_blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// The calls of one step: what it has asked before, and what it asks now.
#[derive(Debug)]
struct Journal<'a> {
    recorded: Vec<CallRecord>,
    undoes: Vec<CallRecord>,
    now: Mutex<Vec<CallRecord>>,
    notes: &'a Mutex<Vec<String>>,
}

fn locked<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[async_trait]
impl CallJournal for Journal<'_> {
    fn recorded(&self) -> Vec<CallRecord> {
        self.recorded.clone()
    }
    async fn intend(&self, number: u32, operation: &str, arguments: &str) -> Result<()> {
        let record = CallRecord { number, operation: operation.into(), arguments: arguments.into(), result: None };
        locked(&self.now).push(record);
        Ok(())
    }
    async fn done(&self, number: u32, result: serde_json::Value) -> Result<()> {
        let mut now = locked(&self.now);
        if let Some(record) = now.iter_mut().find(|record| record.number == number) {
            record.result = Some(result);
        }
        Ok(())
    }
    async fn note(&self, text: &str) -> Result<()> {
        locked(self.notes).push(text.to_owned());
        Ok(())
    }
    fn undoes(&self) -> Vec<CallRecord> {
        self.undoes.clone()
    }
}

/// A plan in a text, beside the sites that all trials share.
#[derive(Clone, Debug)]
pub struct Text(pub String);

impl Texts for Text {
    fn read(&self, path: &str) -> Option<String> {
        match path {
            "bench.plan" => Some(self.0.clone()),
            path => std::fs::read_to_string(repository().join("tests/stdlib/plans").join(path)).ok(),
        }
    }
}

impl Bench {
    /// Compiles the plan `trial` of a text.
    ///
    /// # Errors
    /// What the check or the compiler says.
    pub fn new(plan: &str, kind: Kind) -> std::result::Result<Self, String> {
        let checked = muster_compiler::check(&Text(plan.to_owned()), &["bench.plan".to_owned()]);
        let said: Vec<String> =
            checked.diagnostics.iter().filter(|found| found.is_error()).map(|found| found.message.clone()).collect();
        if !said.is_empty() {
            return Err(said.join("; "));
        }
        let operation = Operation { kind, direction: muster_runsheet::Direction::Out };
        let sheet = checked.compile("trial", operation, Default::default());
        let sheet =
            sheet.map_err(|found| found.iter().map(|found| found.message.clone()).collect::<Vec<_>>().join("; "))?;
        Ok(Self { sheet, world: Local::default(), calls: Mutex::default(), notes: Mutex::default() })
    }

    #[must_use]
    pub fn with_secret(mut self, key: &str, value: &str) -> Self {
        self.world.secrets.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Programs of this folder stand in front of those of this machine.
    #[must_use]
    pub fn with_programs(mut self, folder: &std::path::Path) -> Self {
        self.world.programs = Some(folder.display().to_string());
        self
    }

    /// Runs the hook or asks the probe of the step with this name, as its first attempt.
    ///
    /// # Errors
    /// The failure of the hook, and a name that no step has.
    pub async fn run(&self, step: &str) -> Result<HookEnd> {
        let (sheet, arguments) = self.step(step)?;
        let (end, calls) = self.play(sheet, arguments, Vec::new()).await;
        locked(&self.calls).insert(step.to_owned(), calls);
        end
    }

    /// Takes back what the step did when it ran last.
    ///
    /// # Errors
    /// The failure of the undo, and a step without one.
    pub async fn undo(&self, step: &str) -> Result<HookEnd> {
        let (sheet, arguments) = self.step(step)?;
        let undo = sheet.undo.as_ref().and_then(|undo| self.sheet.hooks.get(undo));
        let undo = undo.ok_or_else(|| Failure::permanent(format!("`{step}` has no undo")))?;
        let did = locked(&self.calls).get(step).cloned().unwrap_or_default();
        self.play(undo, arguments, did).await.0
    }

    fn step(&self, step: &str) -> Result<(&HookSheet, &BTreeMap<String, Value>)> {
        let node = self.sheet.nodes.iter().find(|node| node.id.as_str() == step);
        let (hook, arguments) = match node.map(|node| &node.action) {
            Some(Action::Run { hook, arguments })
            | Some(Action::Check { probe: ProbeCall::Hook { hook, arguments }, .. }) => (hook, arguments),
            _ => {
                let ids: Vec<&str> = self.sheet.nodes.iter().map(|node| node.id.as_str()).collect();
                return Err(Failure::permanent(format!("no hook `{step}` among {}", ids.join(", "))));
            }
        };
        let sheet = self.sheet.hooks.get(hook);
        Ok((sheet.ok_or_else(|| Failure::permanent(format!("no text of hook `{hook}`")))?, arguments))
    }

    async fn play(
        &self,
        sheet: &HookSheet,
        arguments: &BTreeMap<String, Value>,
        undoes: Vec<CallRecord>,
    ) -> (Result<HookEnd>, Vec<CallRecord>) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let host = HookHost::new(clock.clone(), Arc::new(SystemRandom));
        let undo = !undoes.is_empty();
        let calls = Journal { recorded: Vec::new(), undoes, now: Mutex::default(), notes: &self.notes };
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let machine = |name: &MachineName| HookMachine {
            name: name.clone(),
            site: self.sheet.target.clone(),
            instance: InstanceName::live(name),
            ip: Some(here),
            source_ip: Some(here),
        };
        let order = HookOrder {
            sheet,
            arguments,
            facts: RunFacts {
                run: "run-1".into(),
                operation: self.sheet.operation.to_string(),
                plan: self.sheet.plan.clone(),
                stage: Some("all".into()),
                attempt: 1,
                key: "bench-key".into(),
                source: self.sheet.source.clone(),
                target: self.sheet.target.clone(),
                is_drill: self.sheet.operation.kind == Kind::Test,
            },
            machines: self.sheet.machines.keys().map(machine).collect(),
            groups: BTreeMap::new(),
            deadline: clock.now().plus(WITHIN),
            calls: &calls,
            world: &self.world,
            undo,
        };
        let end = host.run(order, &Cancel::default()).await;
        (end, calls.now.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
