//! Hooks as steps: which machines they see, which networks they may ask, and what takes them back.

use crate::Steps;
use crate::context::{at, home_ip, instance_of, landed_ip, side_of, text};
use async_trait::async_trait;
use muster_executor::StepContext;
use muster_hooks::{Cancel, HookEnd, HookMachine, HookOrder, Outside, RunFacts, World};
use muster_journal::{CallJournal, CallRecord, StepOutput};
use muster_ports::*;
use muster_runsheet::{HookSheet, Kind, SheetPhase, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A hook's outward calls, at the site where its machines are.
#[derive(Debug)]
struct SiteWorld {
    name: SiteName,
    site: Arc<dyn Site>,
    scope: NetworkScope,
    outside: Option<Arc<dyn Outside>>,
}

#[async_trait]
impl World for SiteWorld {
    fn outside(&self) -> Option<&dyn Outside> {
        self.outside.as_deref()
    }
    async fn exec(&self, machine: &HookMachine, command: &GuestCommand) -> Result<GuestOutput> {
        at(&self.name, self.site.guest_exec(&machine.instance, command).await)
    }
    async fn shell(&self, _machine: &HookMachine, order: &ShellOrder) -> Result<GuestOutput> {
        at(&self.name, self.site.guest_shell(&self.scope, order).await)
    }
    async fn disk_read(&self, machine: &HookMachine, path: &str) -> Result<Option<String>> {
        at(&self.name, self.site.disk_read(&machine.instance, path).await)
    }
    async fn disk_write(&self, machine: &HookMachine, path: &str, text: &Concealed) -> Result<()> {
        at(&self.name, self.site.disk_write(&machine.instance, path, text).await)
    }
    async fn probe(&self, probe: &Probe) -> Result<ProbeAnswer> {
        at(&self.name, self.site.probe(&self.scope, probe).await)
    }
}

/// For probes: they only read, so nothing of them is replayed, and every poll asks anew. Lines for people still count.
#[derive(Debug)]
struct Unrecorded<'a>(&'a dyn CallJournal);

#[async_trait]
impl CallJournal for Unrecorded<'_> {
    fn recorded(&self) -> Vec<CallRecord> {
        Vec::new()
    }
    async fn intend(&self, _number: u32, _operation: &str, _arguments: &str) -> Result<()> {
        Ok(())
    }
    async fn done(&self, _number: u32, _result: serde_json::Value) -> Result<()> {
        Ok(())
    }
    async fn note(&self, text: &str) -> Result<()> {
        self.0.note(text).await
    }
}

impl Steps {
    pub(crate) async fn act_run(
        &self,
        cx: StepContext<'_>,
        hook: &HookName,
        arguments: &BTreeMap<String, Value>,
    ) -> Result<StepOutput> {
        let end = self.play(cx, sheet_of(cx, hook)?, arguments, cx.calls, false).await?;
        let Some(why) = end.skipped else { return Ok(said(&end.value)) };
        cx.calls.note(&format!("hook {hook} skipped itself: {why}")).await?;
        Ok(text(format!("skipped: {why}")))
    }

    pub(crate) async fn undo_run(
        &self,
        cx: StepContext<'_>,
        hook: &HookName,
        arguments: &BTreeMap<String, Value>,
    ) -> Result<()> {
        // A hook that never asked for anything has done nothing.
        let Some(undo) = &sheet_of(cx, hook)?.undo else { return Ok(()) };
        if cx.calls.undoes().is_empty() && !cx.outputs.contains_key(&cx.node.id) {
            return Ok(());
        }
        self.play(cx, sheet_of(cx, undo)?, arguments, cx.calls, true).await.map(|_| ())
    }

    /// One poll of a probe.
    pub(crate) async fn ask_hook(
        &self,
        cx: StepContext<'_>,
        hook: &HookName,
        arguments: &BTreeMap<String, Value>,
    ) -> Result<StepOutput> {
        let calls = Unrecorded(cx.calls);
        let end = self.play(cx, sheet_of(cx, hook)?, arguments, &calls, false).await?;
        match (&end.value, end.skipped) {
            (serde_json::Value::Bool(true), None) => Ok(StepOutput::None),
            (serde_json::Value::Bool(false), None) => Err(Failure::transient(format!("probe `{hook}` says no"))),
            (_, Some(why)) => Ok(text(format!("skipped: {why}"))),
            (other, None) => {
                Err(Failure::permanent(format!("probe `{hook}` answered {other} in place of true or false"))
                    .help("end the probe with the question itself, for example `net.tcp(m.ip, 443)`"))
            }
        }
    }

    async fn play(
        &self,
        cx: StepContext<'_>,
        sheet: &HookSheet,
        arguments: &BTreeMap<String, Value>,
        calls: &dyn CallJournal,
        undo: bool,
    ) -> Result<HookEnd> {
        let side = side_of(cx);
        let mut machines = Vec::with_capacity(cx.sheet.machines.len());
        for machine in cx.sheet.machines.keys() {
            machines.push(self.hook_machine(cx, machine, side).await);
        }
        let scope =
            cx.sheet.machines.keys().next().map_or(NetworkScope::Live, |machine| instance_of(cx, machine, side).1);
        let outside = self.outside.clone();
        let world = SiteWorld { name: side.clone(), site: self.site(side)?.clone(), scope, outside };
        let order = HookOrder {
            sheet,
            arguments,
            facts: facts(cx),
            machines,
            groups: cx.sheet.groups.iter().map(|(name, group)| (name.clone(), group.machines.clone())).collect(),
            deadline: cx.deadline.minus(crate::context::LAST_WORDS),
            calls,
            world: &world,
            undo,
        };
        self.hooks.run(order, &Cancel::default()).await
    }

    async fn hook_machine(&self, cx: StepContext<'_>, machine: &MachineName, side: &SiteName) -> HookMachine {
        let (instance, _) = instance_of(cx, machine, side);
        let leaving = cx.node.phase == SheetPhase::Leave;
        // Where it still runs the site knows best; one that does not answer leaves what discovery found.
        let seen = match leaving {
            true => self
                .state_of(side, &instance)
                .await
                .ok()
                .flatten()
                .and_then(|state| state.nics.iter().find_map(|nic| nic.ip)),
            false => landed_ip(cx, machine, side),
        };
        let source_ip = home_ip(cx, machine);
        HookMachine { name: machine.clone(), site: side.clone(), instance, ip: seen.or(source_ip), source_ip }
    }
}

fn sheet_of<'a>(cx: StepContext<'a>, hook: &HookName) -> Result<&'a HookSheet> {
    cx.sheet.hooks.get(hook).ok_or_else(|| {
        Failure::permanent(format!("the runsheet has no text of hook `{hook}`")).help("compile the runsheet anew")
    })
}

fn facts(cx: StepContext<'_>) -> RunFacts {
    RunFacts {
        run: cx.run.clone(),
        operation: cx.sheet.operation.to_string(),
        plan: cx.sheet.plan.clone(),
        stage: cx.node.stage.clone(),
        attempt: cx.attempt,
        key: cx.key.clone(),
        source: cx.sheet.source.clone(),
        target: cx.sheet.target.clone(),
        is_drill: cx.sheet.operation.kind == Kind::Test,
    }
}

/// What a hook returned, for people.
fn said(value: &serde_json::Value) -> StepOutput {
    match value {
        serde_json::Value::Null => StepOutput::None,
        serde_json::Value::String(said) => text(said.clone()),
        other => text(other.to_string()),
    }
}
