//! Attempts of a hook on the bench, with a record in memory.

use super::bench::{Bench, BenchCall};
use super::case::HookCase;
use async_trait::async_trait;
use muster_hooks::{Budget, Cancel, HookEnd, HookHost, HookOrder, RunFacts};
use muster_journal::{CallJournal, CallRecord};
use muster_ports::*;
use muster_provider_simulated::SeededRandom;
use muster_runsheet::HookSheet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

/// When the engine dies in a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The call is announced and not made.
    Announced,
    /// It was made, and its answer is not recorded.
    Made,
}

/// What one step has recorded. It outlives the engine.
#[derive(Debug, Default)]
pub(crate) struct Record {
    calls: Mutex<Vec<CallRecord>>,
    pub(crate) notes: Mutex<Vec<String>>,
    pub(crate) undoes: Vec<CallRecord>,
    /// The engine dies here.
    pub(crate) dies: Mutex<Option<(u32, Moment)>>,
}

fn locked<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    pub(crate) fn undoing(undoes: Vec<CallRecord>) -> Self {
        Self { undoes, ..Self::default() }
    }
    /// The engine dies at this call of the step.
    pub(crate) fn dying(mut self, number: u32, moment: Moment) -> Self {
        self.dies = Mutex::new(Some((number, moment)));
        self
    }
    pub(crate) fn of(calls: Vec<CallRecord>, undoes: Vec<CallRecord>) -> Self {
        Self { calls: Mutex::new(calls), undoes, ..Self::default() }
    }
    pub(crate) fn calls(&self) -> Vec<CallRecord> {
        locked(&self.calls).clone()
    }
    fn die(&self, number: u32, moment: Moment) -> Result<()> {
        if *locked(&self.dies) == Some((number, moment)) {
            return Err(Failure::transient("the engine was killed"));
        }
        Ok(())
    }
}

#[async_trait]
impl CallJournal for Record {
    fn recorded(&self) -> Vec<CallRecord> {
        self.calls()
    }
    async fn intend(&self, number: u32, operation: &str, arguments: &str) -> Result<()> {
        let record = CallRecord { number, operation: operation.into(), arguments: arguments.into(), result: None };
        locked(&self.calls).push(record);
        self.die(number, Moment::Announced)
    }
    async fn done(&self, number: u32, result: serde_json::Value) -> Result<()> {
        self.die(number, Moment::Made)?;
        if let Some(record) = locked(&self.calls).iter_mut().find(|record| record.number == number) {
            record.result = Some(result);
        }
        Ok(())
    }
    async fn note(&self, text: &str) -> Result<()> {
        locked(&self.notes).push(text.to_owned());
        Ok(())
    }
    fn undoes(&self) -> Vec<CallRecord> {
        self.undoes.clone()
    }
}

/// One attempt.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) end: Result<HookEnd>,
    pub(crate) calls: Vec<BenchCall>,
    pub(crate) used: Budget,
    pub(crate) took_millis: u64,
}

/// How an attempt is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try<'a> {
    pub(crate) case: &'a HookCase,
    pub(crate) sheet: &'a HookSheet,
    pub(crate) attempt: u32,
    pub(crate) undo: bool,
    pub(crate) budget: Budget,
    pub(crate) deadline: Timestamp,
}

impl Try<'_> {
    pub(crate) async fn play(self, clock: &Arc<dyn Clock>, bench: &Bench, record: &Record) -> Played {
        let host = HookHost::new(clock.clone(), Arc::new(SeededRandom::new(1))).with_budget(self.budget);
        let case = self.case;
        let order = HookOrder {
            sheet: self.sheet,
            arguments: &case.arguments,
            facts: RunFacts { attempt: self.attempt, ..case.facts.clone() },
            machines: case.machines.clone(),
            groups: case.groups.clone(),
            deadline: self.deadline,
            calls: record,
            world: bench,
            undo: self.undo,
        };
        let begun = clock.now();
        let end = host.run(order, &Cancel::default()).await;
        let took_millis = u64::try_from(clock.now().since(begun).as_millis()).unwrap_or(u64::MAX);
        Played { end, calls: bench.take_calls(), used: host.meter().used(), took_millis }
    }
}

/// Does the work in time that jumps: on a thread of its own, since whoever calls may be inside a runtime of real time.
pub(crate) fn in_virtual_time<T: Send, F: Future<Output = T>>(work: impl FnOnce() -> F + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let all = || {
            let _silent = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let runtime = runtime.map_err(|error| Failure::from(error).during("try out a hook"))?;
            Ok(runtime.block_on(async { work().await }))
        };
        let done = scope.spawn(all).join();
        done.unwrap_or_else(|_| Err(Failure::permanent("trying out a hook broke off; this is a bug of muster")))
    })
}
