//! What a hook did in a run, told from the run's journal.
//!
//! The journal keeps the answers of calls, and of their arguments only what tells whether they are the same. The arguments
//! are found by running the hook once more against its record: it is replayed to where it came, and touches nothing. What
//! does not fit the record is left out of the story, never guessed.

use super::play::in_virtual_time;
use crate::effects::{BEGINNING, call_of, facts, landed, machines};
use async_trait::async_trait;
use muster_hooks::*;
use muster_journal::{CallJournal, CallRecord, Event, Record};
use muster_ports::*;
use muster_provider_simulated::{SeededRandom, VirtualClock};
use muster_runsheet::{HookSheet, Node, Runsheet};
use serde::Serialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Ends an attempt in a step's record; see the replay of hooks.
const ATTEMPT_ENDED: &str = "attempt.ended";

/// One call of a hook in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TracedCall {
    /// The hook that takes the step back made it.
    pub undo: bool,
    pub number: u32,
    pub operation: String,
    /// Whom it went to, where that is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// Secrets by name; missing where the replay does not reach it.
    pub arguments: Option<Json>,
    /// Of the arguments, as the journal has it.
    pub hash: String,
    /// When it was announced, and in which attempt it was made.
    pub at: Timestamp,
    pub attempt: u32,
    /// When its answer was durable; missing while it is under way, and where an engine died over it.
    pub answered_at: Option<Timestamp>,
    pub answer: Option<Json>,
    /// Later attempts that made it again with the same key, since no answer was known.
    pub repeated_in: Vec<u32>,
    /// Later attempts that were answered by the record.
    pub replayed_in: Vec<u32>,
    /// What the other side got to tell a repetition by.
    pub key: EffectKey,
}

/// What a hook did in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HookTrace {
    pub run: RunId,
    pub step: StepId,
    pub hook: HookName,
    pub undo: Option<HookName>,
    /// In the order in which they were announced.
    pub calls: Vec<TracedCall>,
    /// Attempts with their beginnings and how they ended.
    pub attempts: Vec<TracedAttempt>,
    /// Why the replay ended before the record did.
    pub unread: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TracedAttempt {
    pub undo: bool,
    pub attempt: u32,
    pub at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// `succeeded`, or why it failed; missing while it runs, and where an engine died.
    pub end: Option<String>,
}

/// Tells what the hook of a step did.
///
/// # Errors
/// There is no such step, or it runs no hook.
pub fn trace_hook(sheet: &Runsheet, run: &RunId, records: &[Record], step: &str) -> Result<HookTrace> {
    let node = sheet.nodes.iter().find(|node| node.id.as_str() == step).ok_or_else(|| {
        let hooks = sheet.nodes.iter().filter(|node| hook_of(sheet, node).is_some());
        let names: Vec<&str> = hooks.map(|node| node.id.as_str()).collect();
        let known = if names.is_empty() { "no step runs a hook".to_owned() } else { names.join(", ") };
        Failure::permanent(format!("run {run} has no step `{step}`")).help(format!("its hooks: {known}"))
    })?;
    let Some(hook) = hook_of(sheet, node) else {
        return Err(Failure::permanent(format!("step `{step}` runs no hook whose calls are recorded"))
            .help("probes are asked anew each time and leave no record; see `muster log`"));
    };
    let mut trace = HookTrace {
        run: run.clone(),
        step: node.id.clone(),
        hook: hook.name.clone(),
        undo: hook.undo.clone(),
        calls: Vec::new(),
        attempts: Vec::new(),
        unread: None,
    };
    trace.fold(records);
    trace.read_arguments(sheet, run, node, hook)?;
    trace.calls.retain(|call| call.operation != ATTEMPT_ENDED);
    Ok(trace)
}

fn hook_of<'a>(sheet: &'a Runsheet, node: &Node) -> Option<&'a HookSheet> {
    let (name, _) = call_of(node)?;
    sheet.hooks.get(name).filter(|hook| !hook.probe)
}

impl HookTrace {
    fn fold(&mut self, records: &[Record]) {
        let mut attempt = 0;
        let step = self.step.clone();
        for record in records.iter().filter(|record| record.event.node() == Some(&step)) {
            match &record.event {
                Event::AttemptStarted { attempt: number, key, .. } => {
                    attempt = *number;
                    self.begin(record.time, attempt, key, false);
                }
                Event::UndoStarted { attempt: number, key, .. } => {
                    attempt = *number;
                    self.begin(record.time, attempt, key, true);
                }
                Event::EffectIntended { key, undo, call, operation, arguments, .. } => self.calls.push(TracedCall {
                    undo: *undo,
                    number: *call,
                    operation: operation.clone(),
                    to: String::new(),
                    arguments: None,
                    hash: arguments.clone(),
                    at: record.time,
                    attempt,
                    answered_at: None,
                    answer: None,
                    repeated_in: Vec::new(),
                    replayed_in: Vec::new(),
                    key: key.clone(),
                }),
                Event::EffectDone { key, undo, call, result, .. } => {
                    let same = |made: &&mut TracedCall| (made.undo, made.number, &made.key) == (*undo, *call, key);
                    if let Some(made) = self.calls.iter_mut().rev().find(same) {
                        made.answered_at = Some(record.time);
                        made.answer = Some(result.clone());
                    }
                }
                Event::NodeSucceeded { .. } | Event::UndoDone { .. } => self.end(record.time, "succeeded"),
                Event::AttemptFailed { failure, .. } | Event::UndoFailed { failure, .. } => {
                    self.end(record.time, &failure.message);
                }
                _ => {}
            }
        }
    }

    fn begin(&mut self, at: Timestamp, attempt: u32, key: &EffectKey, undo: bool) {
        self.attempts.push(TracedAttempt { undo, attempt, at, ended_at: None, end: None });
        // A script that ended an attempt by its own word is not replayed beyond that.
        let row = self.calls.iter_mut().rev().filter(|call| call.undo == undo && call.key == *key);
        for call in row.take_while(|call| call.operation != ATTEMPT_ENDED) {
            match call.answer {
                Some(_) => call.replayed_in.push(attempt),
                None => call.repeated_in.push(attempt),
            }
        }
    }

    fn end(&mut self, at: Timestamp, how: &str) {
        if let Some(last) = self.attempts.last_mut() {
            (last.ended_at, last.end) = (Some(at), Some(how.to_owned()));
        }
    }

    /// Replays each row of calls as far as it goes, attempt by attempt.
    fn read_arguments(&mut self, sheet: &Runsheet, run: &RunId, node: &Node, hook: &HookSheet) -> Result<()> {
        let undo = hook.undo.as_ref().and_then(|undo| sheet.hooks.get(undo));
        let mut rows: Vec<(bool, EffectKey)> = Vec::new();
        for call in &self.calls {
            let row = (call.undo, call.key.clone());
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        // What is taken back is what was done last.
        let did = rows.iter().rfind(|(undo, _)| !undo).map(|row| self.records(row)).unwrap_or_default();
        for row in rows {
            let Some(text) = (if row.0 { undo } else { Some(hook) }) else { continue };
            let records = self.records(&row);
            let ends = records.iter().enumerate().filter(|(_, record)| record.operation == ATTEMPT_ENDED);
            let cuts: Vec<usize> = ends.map(|(at, _)| at).chain([records.len()]).collect();
            for cut in cuts {
                let number = records.get(cut.saturating_sub(1)).map_or(0, |record| record.number);
                let attempt = self.calls.iter().find(|call| call.number == number && call.key == row.1);
                let attempt = attempt.map_or(1, |call| call.attempt);
                let reader = Reader {
                    records: records[..cut].to_vec(),
                    undoes: if row.0 { did.clone() } else { Vec::new() },
                    seen: Mutex::default(),
                };
                let facts = RunFacts { run: run.clone(), key: row.1.clone(), attempt, ..facts(sheet, node) };
                let end = replay(sheet, node, facts, (text, row.0), &reader)?;
                self.take(&row, &reader, end);
            }
        }
        Ok(())
    }

    fn records(&self, row: &(bool, EffectKey)) -> Vec<CallRecord> {
        let mine = self.calls.iter().filter(|call| (call.undo, &call.key) == (row.0, &row.1));
        let record = |call: &TracedCall| CallRecord {
            number: call.number,
            operation: call.operation.clone(),
            arguments: call.hash.clone(),
            result: call.answer.clone(),
        };
        mine.map(record).collect()
    }

    fn take(&mut self, row: &(bool, EffectKey), reader: &Reader, end: Result<HookEnd>) {
        let seen = reader.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for call in self.calls.iter_mut().filter(|call| (call.undo, &call.key) == (row.0, &row.1)) {
            if let Some(found) = seen.get(&call.number).filter(|found| found.hash == call.hash) {
                call.to = found.to.clone();
                call.arguments = Some(found.arguments.clone());
            }
        }
        if let Err(failure) = end
            && failure.class == FailureClass::Diverged
        {
            self.unread = Some(failure.message);
        }
    }
}

/// Answers from a record, and from nothing else.
#[derive(Debug)]
struct Reader {
    records: Vec<CallRecord>,
    undoes: Vec<CallRecord>,
    seen: Mutex<BTreeMap<u32, Outgoing>>,
}

fn replay(
    sheet: &Runsheet,
    node: &Node,
    facts: RunFacts,
    (hook, undo): (&HookSheet, bool),
    reader: &Reader,
) -> Result<Result<HookEnd>> {
    let Some((_, arguments)) = call_of(node) else { return Err(Failure::permanent("the step runs no hook")) };
    in_virtual_time(|| async {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(BEGINNING));
        let host = HookHost::new(clock.clone(), Arc::new(SeededRandom::new(1)));
        let order = HookOrder {
            sheet: hook,
            arguments,
            facts,
            machines: machines(sheet, node, &landed(sheet)),
            groups: sheet.groups.iter().map(|(name, group)| (name.clone(), group.machines.clone())).collect(),
            deadline: clock.now().plus(node.within.std()),
            calls: reader,
            world: reader,
            undo,
        };
        host.run(order, &Cancel::default()).await
    })
}

/// The record ends here.
fn beyond() -> Failure {
    Failure::permanent("the record ends here")
}

#[async_trait]
impl CallJournal for Reader {
    fn recorded(&self) -> Vec<CallRecord> {
        self.records.clone()
    }
    async fn intend(&self, _number: u32, _operation: &str, _arguments: &str) -> Result<()> {
        Err(beyond())
    }
    async fn done(&self, _number: u32, _result: Json) -> Result<()> {
        Err(beyond())
    }
    async fn note(&self, _text: &str) -> Result<()> {
        Ok(())
    }
    fn undoes(&self) -> Vec<CallRecord> {
        self.undoes.clone()
    }
}

#[async_trait]
impl StandIn for Reader {
    fn asked(&self, call: &Outgoing) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(call.number, call.clone());
    }
    async fn answer(&self, _call: &Outgoing) -> Option<Result<Json>> {
        Some(Err(beyond()))
    }
    fn answered(&self, _call: &Outgoing, _answer: &Result<Json>) {}
}

#[async_trait]
impl World for Reader {
    fn stand_in(&self) -> Option<&dyn StandIn> {
        Some(self)
    }
    async fn secret(&self, key: &str) -> Result<Hidden> {
        // Only addresses are put together here, and those with a secret in them are not shown.
        Ok(Hidden::new(format!("/secret/{key}")))
    }
    async fn exec(&self, _machine: &HookMachine, _command: &GuestCommand) -> Result<GuestOutput> {
        Err(beyond())
    }
    async fn probe(&self, _probe: &Probe) -> Result<ProbeAnswer> {
        Err(beyond())
    }
}
