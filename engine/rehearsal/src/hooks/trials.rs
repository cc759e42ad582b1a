//! The four tests that every hook gets without being asked: twice, a crash at every call, do then undo, over budget.
//!
//! Each begins with an undisturbed attempt on a fresh bench. All of it happens in virtual time, by the same dice: the same
//! hook, arguments and fakes give the same verdict.

use super::bench::{Bench, BenchCall};
use super::case::HookCase;
use super::fakes::Fakes;
use super::play::{Moment, Played, Record, Try, in_virtual_time};
use crate::effects::BEGINNING;
use crate::outside::UNKNOWN;
use muster_hooks::{Budget, HookEnd};
use muster_journal::CallRecord;
use muster_ports::*;
use muster_provider_simulated::VirtualClock;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Calls at which the engine is killed. A hook has a handful; one that polls for long repeats itself.
const CRASHES_MAX: usize = 40;
/// Calls that never get their answer.
const SILENT_MAX: usize = 6;
/// Later than its limit a hook may end by so much: it is stopped between two operations.
const LATE_MAX: Duration = Duration::from_secs(1);
/// Between the two runs of `twice`: what a hook reads of the clock is another time by then.
const BETWEEN: Duration = Duration::from_secs(3_600);
/// Ends an attempt in a step's record; see the replay of hooks.
const ATTEMPT_ENDED: &str = "attempt.ended";

/// How one of the four tests went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "why", rename_all = "kebab-case")]
pub enum HookVerdict {
    Passed,
    /// There is nothing to be tested, and why.
    Nothing(String),
    Failed(String),
}

/// A hook's verdicts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HookTrial {
    pub hook: HookName,
    /// The step that its arguments are of.
    pub step: Option<StepId>,
    /// Of the undisturbed attempt.
    pub calls: usize,
    pub twice: HookVerdict,
    pub crash: HookVerdict,
    pub undo: HookVerdict,
    pub budget: HookVerdict,
}

impl HookTrial {
    /// The tests by name.
    pub fn all(&self) -> [(&'static str, &HookVerdict); 4] {
        [("twice", &self.twice), ("crash", &self.crash), ("undo", &self.undo), ("budget", &self.budget)]
    }
    pub fn passed(&self) -> bool {
        self.all().iter().all(|(_, verdict)| !matches!(verdict, HookVerdict::Failed(_)))
    }
}

type Verdict = std::result::Result<(), String>;

fn verdict(of: Verdict) -> HookVerdict {
    of.map_or_else(HookVerdict::Failed, |()| HookVerdict::Passed)
}

/// Tests one hook.
///
/// # Errors
/// The machine has no thread left; what a hook does wrong is a verdict.
pub fn test_hook(case: &HookCase, fakes: &Fakes) -> Result<HookTrial> {
    in_virtual_time(|| async { Trial { case, fakes }.all().await })
}

struct Trial<'a> {
    case: &'a HookCase,
    fakes: &'a Fakes,
}

/// A bench with its clock and the moment when the step's time is up.
struct Set {
    clock: Arc<dyn Clock>,
    bench: Bench,
    deadline: Timestamp,
    /// What the hook did that the one under test takes back.
    did: Vec<CallRecord>,
}

impl Trial<'_> {
    async fn all(&self) -> HookTrial {
        let mut trial = HookTrial {
            hook: self.case.sheet.name.clone(),
            step: self.case.step.clone(),
            calls: 0,
            twice: HookVerdict::Passed,
            crash: HookVerdict::Passed,
            undo: HookVerdict::Passed,
            budget: HookVerdict::Passed,
        };
        let undisturbed = match self.undisturbed().await {
            Ok(played) => played,
            Err(why) => {
                let why = HookVerdict::Failed(why);
                (trial.twice, trial.crash) = (why.clone(), why.clone());
                (trial.undo, trial.budget) = (why.clone(), why);
                return trial;
            }
        };
        trial.calls = undisturbed.calls.len();
        trial.twice = verdict(self.twice().await);
        trial.crash = match undisturbed.calls.is_empty() {
            true => HookVerdict::Nothing("it calls nothing".to_owned()),
            false => verdict(self.crashes(&undisturbed).await),
        };
        trial.undo = match (&self.case.undo, self.case.sheet.probe, &self.case.takes_back) {
            (Some(_), ..) => verdict(self.do_then_undo().await),
            (None, true, _) => HookVerdict::Nothing("a probe only reads".to_owned()),
            (None, _, Some(done)) => HookVerdict::Nothing(format!("it takes back `{}`", done.name)),
            (None, _, None) => HookVerdict::Nothing("it declares no undo".to_owned()),
        };
        trial.budget = verdict(self.over_budget(&undisturbed).await);
        trial
    }

    /// A fresh world. For what takes something back, that was done in it.
    async fn set(&self) -> std::result::Result<Set, String> {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(BEGINNING));
        let mut bench = Bench::new(self.case.sheet.name.as_str(), self.fakes, clock.clone());
        let mut did = Vec::new();
        if let Some(done) = &self.case.takes_back {
            bench = bench.with_fakes_of(done.name.as_str(), self.fakes);
            let record = Record::default();
            let deadline = clock.now().plus(self.case.within);
            let before = Try { sheet: done, ..self.attempt(deadline) };
            let played = Try { undo: false, ..before }.play(&clock, &bench, &record).await;
            played.end.map_err(|failure| format!("`{}`, which it takes back, fails: {failure}", done.name))?;
            did = record.calls();
        }
        bench.afresh(1);
        let deadline = clock.now().plus(self.case.within);
        Ok(Set { clock, bench, deadline, did })
    }

    fn attempt(&self, deadline: Timestamp) -> Try<'_> {
        Try {
            case: self.case,
            sheet: &self.case.sheet,
            attempt: 1,
            undo: self.case.takes_back.is_some(),
            budget: Budget::default(),
            deadline,
        }
    }

    async fn undisturbed(&self) -> std::result::Result<Played, String> {
        let set = self.set().await?;
        let record = Record::undoing(set.did.clone());
        let played = self.attempt(set.deadline).play(&set.clock, &set.bench, &record).await;
        match &played.end {
            Ok(_) => Ok(played),
            Err(failure) => Err(match failure.message.find(UNKNOWN) {
                Some(at) => format!("{}: say in the fakes what it is answered", &failure.message[at..]),
                None => format!("an undisturbed attempt fails: {}", failure.message),
            }),
        }
    }

    /// A second attempt, an hour later, in the world that the first one has left.
    async fn twice(&self) -> Verdict {
        let set = self.set().await?;
        let record = Record::undoing(set.did.clone());
        let first = self.attempt(set.deadline).play(&set.clock, &set.bench, &record).await;
        set.clock.sleep_until(set.clock.now().plus(BETWEEN)).await;
        set.bench.afresh(2);
        let mut calls = record.calls();
        let number = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        let (operation, arguments) = (ATTEMPT_ENDED.to_owned(), Hash::of(ATTEMPT_ENDED).to_string());
        calls.push(CallRecord { number, operation, arguments, result: Some(serde_json::Value::Null) });
        let again = Record::of(calls, set.did.clone());
        let deadline = set.clock.now().plus(self.case.within);
        let second = Try { attempt: 2, ..self.attempt(deadline) }.play(&set.clock, &set.bench, &again).await;
        second.end.map_err(|failure| format!("its second run fails: {}", failure.message))?;
        let known = effects(&first.calls);
        match second.calls.iter().find(|call| call.changes && !known.contains_key(&call.effect())) {
            Some(new) if known_but_for_key(new, &first.calls) => Err(format!(
                "E0708: its second run repeats `{}` under another key: the other side does it twice",
                new.line()
            )),
            Some(new) => Err(format!("E0708: its second run adds `{}`", new.line())),
            None => Ok(()),
        }
    }

    /// The engine dies before and after what each call does, and another one goes on from the record.
    async fn crashes(&self, undisturbed: &Played) -> Verdict {
        let (known, standing) = (effects(&undisturbed.calls), self.standing_after().await?);
        for call in chosen(&undisturbed.calls, CRASHES_MAX) {
            for moment in [Moment::Announced, Moment::Made] {
                let set = self.set().await?;
                let record = Record::undoing(set.did.clone()).dying(call.number, moment);
                let dead = self.attempt(set.deadline).play(&set.clock, &set.bench, &record).await;
                let place = match moment {
                    Moment::Announced => format!("killed before `{}`", call.line()),
                    Moment::Made => format!("killed after `{}`", call.line()),
                };
                if dead.end.is_ok() {
                    return Err(format!("{place}, it goes on all the same"));
                }
                *record.dies.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
                let alive =
                    Try { attempt: 2, ..self.attempt(set.deadline) }.play(&set.clock, &set.bench, &record).await;
                let end =
                    alive.end.clone().map_err(|failure| format!("{place}, its replay fails: {}", failure.message))?;
                same_end(&undisturbed.end, &end).map_err(|what| format!("{place}, its replay {what}"))?;
                let real = dead.calls.iter().chain(alive.calls.iter().filter(|call| !is_replayed(call)));
                let all: Vec<BenchCall> = real.cloned().collect();
                once_each(&known, &effects(&all), call).map_err(|what| format!("{place}, {what}"))?;
                if set.bench.standing() != standing {
                    return Err(format!("{place}, something else stands in the end"));
                }
            }
        }
        Ok(())
    }

    async fn standing_after(&self) -> std::result::Result<BTreeMap<String, serde_json::Value>, String> {
        let set = self.set().await?;
        let record = Record::undoing(set.did.clone());
        self.attempt(set.deadline).play(&set.clock, &set.bench, &record).await;
        Ok(set.bench.standing())
    }

    /// What the hook did is taken back, and what can be known stands as it stood before.
    async fn do_then_undo(&self) -> Verdict {
        let Some(undo) = &self.case.undo else { return Ok(()) };
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(BEGINNING));
        let bench = Bench::new(undo.name.as_str(), self.fakes, clock.clone())
            .with_fakes_of(self.case.sheet.name.as_str(), self.fakes);
        let deadline = clock.now().plus(self.case.within);
        let record = Record::default();
        let did = self.attempt(deadline).play(&clock, &bench, &record).await;
        bench.afresh(2);
        let back = Record::undoing(record.calls());
        let attempt = Try { sheet: undo, undo: true, ..self.attempt(deadline) };
        let undone = attempt.play(&clock, &bench, &back).await;
        undone.end.map_err(|failure| format!("its undo `{}` fails: {}", undo.name, failure.message))?;
        let touched = |calls: &[BenchCall]| -> BTreeSet<String> {
            calls.iter().filter(|call| call.changes && call.failure.is_none()).map(subject).collect()
        };
        if let Some(left) = touched(&did.calls).difference(&touched(&undone.calls)).next() {
            return Err(format!("its undo `{}` does not touch {left}, which it changed", undo.name));
        }
        bench.left_standing(&did.calls).map_or(Ok(()), |left| Err(format!("its undo `{}` leaves {left}", undo.name)))
    }

    /// Each limit that can be tightened for this hook, and silence in the place of an answer.
    async fn over_budget(&self, undisturbed: &Played) -> Verdict {
        let (all, used) = (Budget::default(), undisturbed.used);
        let mut tries = Vec::new();
        // The interpreter takes zero for no limit.
        if let half @ 1.. = used.operations / 2 {
            tries.push((Budget { operations: half, ..all }, "operations", half));
        }
        if let Some(calls) = used.host_calls.checked_sub(1) {
            tries.push((Budget { host_calls: calls, ..all }, "host calls", u64::from(calls)));
        }
        if let Some(bytes) = used.journal_bytes.checked_sub(1) {
            tries.push((Budget { journal_bytes: bytes, ..all }, "bytes in the journal", bytes));
        }
        for (budget, what, limit) in tries {
            let set = self.set().await?;
            let record = Record::undoing(set.did.clone());
            let played = Try { budget, ..self.attempt(set.deadline) }.play(&set.clock, &set.bench, &record).await;
            let named = format!("over its limit of {limit} {what}");
            match played.end {
                Err(failure) if failure.class == FailureClass::Permanent && failure.message.contains(&named) => {}
                Err(failure) => return Err(format!("with {limit} {what} it ends otherwise: {}", failure.message)),
                Ok(_) => return Err(format!("with {limit} {what} it does not end")),
            }
        }
        let waits: Vec<BenchCall> = undisturbed.calls.iter().filter(|call| !call.stays_here()).cloned().collect();
        for call in chosen(&waits, SILENT_MAX) {
            let mut set = self.set().await?;
            set.bench.silent_at = Some(call.number);
            let record = Record::undoing(set.did.clone());
            let played = self.attempt(set.deadline).play(&set.clock, &set.bench, &record).await;
            let place = format!("`{}` is never answered", call.line());
            match played.end {
                Err(failure) if failure.class == FailureClass::Timeout => {}
                Err(failure) => return Err(format!("where {place}, it ends otherwise: {}", failure.message)),
                Ok(_) => return Err(format!("where {place}, it does not wait for it")),
            }
            if set.clock.now() > set.deadline.plus(LATE_MAX) {
                return Err(format!("where {place}, it ends later than its limit"));
            }
        }
        Ok(())
    }
}

fn is_replayed(call: &BenchCall) -> bool {
    call.by == super::bench::AnsweredBy::Record
}

/// The first ones and the last ones.
fn chosen(calls: &[BenchCall], most: usize) -> Vec<&BenchCall> {
    if calls.len() <= most {
        return calls.iter().collect();
    }
    let half = most / 2;
    calls[..half].iter().chain(&calls[calls.len() - half..]).collect()
}

/// How often each effect was brought about.
fn effects(calls: &[BenchCall]) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for call in calls.iter().filter(|call| call.changes && call.failure.is_none()) {
        *all.entry(call.effect()).or_default() += 1;
    }
    all
}

/// The same thing was asked for before, under another key.
fn known_but_for_key(new: &BenchCall, before: &[BenchCall]) -> bool {
    let mut before = before.iter().filter(|call| call.key != new.key);
    before.any(|call| (&call.operation, &call.to, &call.arguments) == (&new.operation, &new.to, &new.arguments))
}

/// What an undo has to touch too.
fn subject(call: &BenchCall) -> String {
    match call.operation.as_str() {
        http if http.starts_with("http.") => call.to.split('?').next().unwrap_or_default().to_owned(),
        _ => format!("`{}`", call.to),
    }
}

/// Every effect as often as undisturbed; that of the interrupted call once more, with the same key.
fn once_each(undisturbed: &BTreeMap<String, usize>, now: &BTreeMap<String, usize>, at: &BenchCall) -> Verdict {
    for (effect, count) in now {
        let most = undisturbed.get(effect).copied().unwrap_or(0);
        let most = if most > 0 && at.effect() == *effect { most + 1 } else { most };
        if *count > most {
            return Err(format!("`{effect}` is done {count} times"));
        }
    }
    match undisturbed.iter().find(|(effect, count)| now.get(*effect).copied().unwrap_or(0) < **count) {
        Some((effect, _)) => Err(format!("`{effect}` is never done")),
        None => Ok(()),
    }
}

fn same_end(undisturbed: &Result<HookEnd>, now: &HookEnd) -> Verdict {
    match undisturbed {
        Ok(end) if end.value != now.value => Err(format!("returns {} in place of {}", now.value, end.value)),
        Ok(end) if end.skipped != now.skipped => Err("skips otherwise".to_owned()),
        Ok(end) if end.checkpoints != now.checkpoints => Err("keeps other checkpoints".to_owned()),
        _ => Ok(()),
    }
}
