//! The host: answers a script's calls one at a time, with the journal in between.

use crate::budget::{Budget, Meter};
use crate::call::HostCall;
use crate::cancel::{Cancel, CancelOnDrop};
use crate::limits::*;
use crate::script::{Ask, Ended, Line, Stop, play};
use crate::secret::{Hidden, SecretRef};
use crate::stand_in::Outgoing;
use crate::tape::{ATTEMPT_ENDED, Tape};
use crate::value::{HookMachine, Names, canonical};
use crate::world::World;
use muster_journal::{CallJournal, CallRecord};
use muster_ports::*;
use muster_runsheet::{GroupName, HookSheet, Need, Value};
use rhai::{Dynamic, Map};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// What a script sees as `run`.
#[derive(Clone, Debug)]
pub struct RunFacts {
    pub run: RunId,
    /// `test`, `planned`, `unplanned back`.
    pub operation: String,
    pub plan: PlanName,
    pub stage: Option<StageName>,
    pub attempt: u32,
    pub key: EffectKey,
    pub source: SiteName,
    pub target: SiteName,
    pub is_drill: bool,
}

/// One attempt of one hook.
#[derive(Debug)]
pub struct HookOrder<'a> {
    pub sheet: &'a HookSheet,
    pub arguments: &'a BTreeMap<String, Value>,
    pub facts: RunFacts,
    /// Machines that arguments may name.
    pub machines: Vec<HookMachine>,
    /// Members of the groups that arguments may name.
    pub groups: BTreeMap<GroupName, Vec<MachineName>>,
    pub deadline: Timestamp,
    pub calls: &'a dyn CallJournal,
    pub world: &'a dyn World,
    /// The hook takes back what another one did: it reads the checkpoints of that one's calls.
    pub undo: bool,
}

/// How a hook ended well.
#[derive(Clone, Debug, PartialEq)]
pub struct HookEnd {
    pub value: Json,
    /// It said `skip(..)`, and why.
    pub skipped: Option<String>,
    pub checkpoints: BTreeMap<String, Json>,
}

/// Runs hooks, each on its own thread.
#[derive(Clone, Debug)]
pub struct HookHost {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    budget: Budget,
    meter: Arc<Meter>,
}

impl HookHost {
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { clock, random, budget: Budget::default(), meter: Arc::default() }
    }

    /// With less than the limits of every hook; what is more than them changes nothing.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = budget.within_limits();
        self
    }

    /// What the hook uses is read from here. One at a time: each attempt begins anew.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Runs the hook to its end. Dropping the future stops the script as `cancel` does.
    pub async fn run(&self, order: HookOrder<'_>, cancel: &Cancel) -> Result<HookEnd> {
        let arguments = arguments(&order)?;
        let tape = Tape::read(order.calls.recorded(), order.calls.undoes());
        let mut session = Session {
            host: self,
            order: &order,
            needs: order.sheet.needs.iter().map(|need| need.filled(order.arguments)).collect(),
            opened: Mutex::default(),
            tape,
            position: 0,
            journal_bytes: 0,
            diverged: None,
            cancel: cancel.clone(),
        };
        // The script gets a token of its own, so that the deadline can stop it without cancelling the caller.
        let script_cancel = Cancel::default();
        let _stop_script = CancelOnDrop(script_cancel.clone());
        let (asks, mut asked) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        // Hosts that many hooks share have one meter; it is read where they run one at a time.
        self.meter.begin();
        let (secrets, budget, meter) = (secrets_of(&order), self.budget, self.meter.clone());
        let line = Line { asks: Some(asks), cancel: script_cancel.clone(), secrets, budget, meter };
        let (sheet, run) = (order.sheet.clone(), run_map(&order.facts));
        std::thread::Builder::new()
            .name(format!("hook {}", sheet.name))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // Nobody listens when the future was dropped.
                let _ = end.send(play(&sheet, arguments, run, line));
            })
            .map_err(|error| Failure::transient(format!("no thread for hook `{}`: {error}", order.sheet.name)))?;
        let stopped = session.answer_all(&mut asked, &script_cancel).await;
        let _still = self.clock.hold();
        let ended = ended.await.map_err(|_| {
            Failure::permanent(format!("hook `{}` broke the interpreter; this is a bug of muster", order.sheet.name))
        })?;
        session.finish(ended, stopped).await
    }
}

fn arguments(order: &HookOrder<'_>) -> Result<Vec<Dynamic>> {
    let names = Names {
        machines: order.machines.iter().map(|machine| (machine.name.clone(), Arc::new(machine.clone()))).collect(),
        groups: order.groups.clone(),
    };
    let parameters = order.sheet.parameters.iter();
    parameters
        .map(|(name, _)| {
            let value = order.arguments.get(name).ok_or_else(|| {
                Failure::permanent(format!("hook `{}` is not given its parameter `{name}`", order.sheet.name))
            })?;
            names.dynamic(value)
        })
        .collect()
}

/// The secrets that the contract names; a script finds them with `secret("name")`.
fn secrets_of(order: &HookOrder<'_>) -> Vec<SecretRef> {
    let needs = order.sheet.needs.iter();
    needs
        .filter_map(|need| match need {
            Need::Secret { name, key } => Some(SecretRef { name: name.clone(), key: key.clone() }),
            _ => None,
        })
        .collect()
}

fn run_map(facts: &RunFacts) -> Map {
    let text = |text: &dyn std::fmt::Display| Dynamic::from(text.to_string());
    let mut map = Map::new();
    map.insert("id".into(), text(&facts.run));
    map.insert("op".into(), text(&facts.operation));
    map.insert("plan".into(), text(&facts.plan));
    map.insert("stage".into(), facts.stage.as_ref().map_or(Dynamic::UNIT, |stage| text(stage)));
    map.insert("attempt".into(), i64::from(facts.attempt).into());
    map.insert("key".into(), text(&facts.key));
    map.insert("source".into(), text(&facts.source));
    map.insert("target".into(), text(&facts.target));
    map.insert("is_drill".into(), facts.is_drill.into());
    map
}

pub(crate) struct Session<'a> {
    pub(crate) host: &'a HookHost,
    pub(crate) order: &'a HookOrder<'a>,
    /// The contract's needs with the arguments of this step.
    pub(crate) needs: Vec<Need>,
    /// Secrets opened so far, to be blotted out of what comes back.
    pub(crate) opened: Mutex<Vec<Hidden>>,
    tape: Tape,
    /// Calls of this attempt so far.
    position: u32,
    journal_bytes: u64,
    diverged: Option<Failure>,
    cancel: Cancel,
}

impl Session<'_> {
    pub(crate) fn name(&self) -> &muster_runsheet::HookName {
        &self.order.sheet.name
    }

    async fn mark(&self, number: u32, marker: &str) -> Result<()> {
        self.order.calls.intend(number, marker, &Hash::of(marker).to_string()).await?;
        self.order.calls.done(number, Json::Null).await
    }

    /// Serves the script until it ends. Returns why it was stopped, when the host did so.
    async fn answer_all(&mut self, asked: &mut mpsc::UnboundedReceiver<Ask>, script: &Cancel) -> Option<Failure> {
        let mut stopped = None;
        loop {
            if stopped.is_some() {
                script.cancel();
            }
            // The script computes on its own thread: no virtual time passes for that.
            let still = self.host.clock.hold();
            tokio::select! {
                biased;
                ask = asked.recv() => {
                    drop(still);
                    let Some(Ask { call, answer }) = ask else { return stopped };
                    let reply = match &stopped {
                        Some(failure) => Err(Failure::clone(failure)),
                        None => self.answer(call).await,
                    };
                    // The script's thread waits for it, or has ended.
                    let _ = answer.send(reply);
                }
                failure = self.interrupted(), if stopped.is_none() => stopped = Some(failure),
            }
        }
    }

    /// Returns when the attempt has to end: its time is up, or somebody has cancelled it.
    async fn interrupted(&self) -> Failure {
        let name = self.name();
        tokio::select! {
            () = self.host.clock.sleep_until(self.order.deadline) => {
                Failure::timeout(format!("hook `{name}` ran out of its time (limit `within` of the step, or `each` of its attempts)"))
                    .help("raise `within` of the step, or let the hook wait less")
            }
            () = self.cancel.cancelled() => Failure::transient(format!("hook `{name}` was cancelled")),
        }
    }

    async fn answer(&mut self, call: HostCall) -> Result<Json> {
        if let HostCall::Saved { key } = &call {
            return self.tape.saved(key).cloned().ok_or_else(|| {
                Failure::permanent(format!("hook `{}` reads checkpoint `{key}`, which was never set", self.name()))
                    .help("call `checkpoint` before the effect, in this hook or in the one it takes back")
            });
        }
        call.permitted(self.order.sheet, self.order.facts.is_drill)?;
        let budget = self.host.budget;
        if self.position >= budget.host_calls {
            return Err(self.over(&format!("{} host calls", budget.host_calls)));
        }
        self.host.meter.called();
        let (position, number) = (self.position, self.tape.base.saturating_add(self.position));
        self.position += 1;
        let hash = call.hash();
        let recorded = self.tape.recorded(number).cloned();
        if let Some(record) = &recorded {
            self.same(record, &call, &hash)?;
            if let Some(result) = &record.result {
                self.remember(&call);
                self.shown((&call, number, position), &hash, Some(result)).await;
                return Ok(result.clone());
            }
        } else {
            self.order.calls.intend(number, call.operation(), &hash).await?;
        }
        let outgoing = self.shown((&call, number, position), &hash, None).await.transpose()?;
        let result = tokio::select! {
            biased;
            failure = self.interrupted() => Err(failure.during(call.operation())),
            result = self.carried_out(&call, position, &hash, outgoing.as_ref()) => self.without_secrets(result),
        };
        if let (Some(stand_in), Some(outgoing)) = (self.order.world.stand_in(), &outgoing) {
            stand_in.answered(outgoing, &result);
        }
        let result = result?;
        let bytes = canonical(&result).len() as u64;
        self.journal_bytes += bytes;
        self.host.meter.journaled(bytes);
        if self.journal_bytes > budget.journal_bytes {
            return Err(self.over(&format!("{} bytes in the journal", budget.journal_bytes)));
        }
        self.remember(&call);
        self.order.calls.done(number, result.clone()).await?;
        Ok(result)
    }

    /// The call as data, where somebody stands in for the world and looks on.
    async fn shown(
        &self,
        (call, number, position): (&HostCall, u32, u32),
        hash: &str,
        replayed: Option<&Json>,
    ) -> Option<Result<Outgoing>> {
        let stand_in = self.order.world.stand_in()?;
        let mut outgoing = match self.outgoing(call, (number, position), hash).await {
            Ok(outgoing) => outgoing,
            Err(failure) => return self.without_secrets(Err(failure)).err().map(Err),
        };
        outgoing.replayed = replayed.is_some();
        stand_in.asked(&outgoing);
        if let Some(answer) = replayed {
            stand_in.answered(&outgoing, &Ok(answer.clone()));
        }
        Some(Ok(outgoing))
    }

    async fn carried_out(
        &self,
        call: &HostCall,
        position: u32,
        hash: &str,
        outgoing: Option<&Outgoing>,
    ) -> Result<Json> {
        match self.reach(call, outgoing).await {
            Some(answer) => answer,
            None => self.perform(call, position, hash).await,
        }
    }

    fn over(&self, limit: &str) -> Failure {
        Failure::permanent(format!("hook `{}` went over its limit of {limit}", self.name()))
            .help("make the hook do less: one hook, one small job; the limits are not to be raised")
    }

    fn remember(&mut self, call: &HostCall) {
        if let HostCall::Checkpoint { key, value } = call {
            self.tape.keep(key, value);
        }
    }

    fn same(&mut self, record: &CallRecord, call: &HostCall, hash: &str) -> Result<()> {
        if record.operation == call.operation() && record.arguments == hash {
            return Ok(());
        }
        let asked = if record.operation == call.operation() {
            "the same with other arguments".to_owned()
        } else {
            format!("`{}`", call.operation())
        };
        let failure =
            self.divergence(format!("call {} was `{}`, now it asks {asked}", record.number, record.operation));
        self.diverged = Some(failure.clone());
        Err(failure)
    }

    fn divergence(&self, what: String) -> Failure {
        Failure::diverged(format!("E0712: hook `{}` does not repeat what it did: {what}", self.name()))
            .help("see `muster log` for its recorded calls, then decide: done-by-hand, redo (a new key) or abort")
    }

    async fn finish(&mut self, ended: Result<Json, Ended>, stopped: Option<Failure>) -> Result<HookEnd> {
        if let Some(failure) = self.diverged.take() {
            return Err(failure);
        }
        let (value, skipped) = match ended {
            Ok(value) => (value, None),
            Err(Ended::Stopped(Stop::Skip(why))) => (Json::Null, Some(why)),
            Err(Ended::Stopped(Stop::Host(failure))) => return Err(failure),
            Err(Ended::Stopped(Stop::Cancelled)) => {
                return Err(
                    stopped.unwrap_or_else(|| Failure::transient(format!("hook `{}` was cancelled", self.name())))
                );
            }
            Err(ended) => return self.ended_by_itself(ended).await,
        };
        if let Some(record) = self.tape.left_over(self.position) {
            let what = format!("call {} was `{}`, now it ends before it", record.number, record.operation);
            return Err(self.divergence(what));
        }
        Ok(HookEnd { value, skipped, checkpoints: self.tape.checkpoints().clone() })
    }

    /// The script itself gave up: what it has read is stale for the next attempt, so a marker ends its record.
    async fn ended_by_itself(&self, ended: Ended) -> Result<HookEnd> {
        let name = self.name();
        let failure = match ended {
            Ended::Stopped(Stop::RetryLater(why)) => {
                Failure::transient(format!("hook `{name}` wants to be tried later: {why}"))
            }
            Ended::Stopped(Stop::Fail(why)) => Failure::permanent(format!("hook `{name}` failed: {why}")),
            Ended::Broken(failure) => failure,
            Ended::Stopped(other) => Failure::permanent(format!("hook `{name}` stopped: {other:?}")),
        };
        let used = self.tape.base.saturating_add(self.position);
        if self.position > 0 || self.tape.end > self.tape.base {
            self.mark(used.max(self.tape.end), ATTEMPT_ENDED).await?;
        }
        Err(failure)
    }

    pub(crate) fn left(&self) -> Duration {
        self.order.deadline.since(self.host.clock.now())
    }
}
