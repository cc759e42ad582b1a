//! Runs, from the outside: open one, drive it, speak to it while nobody drives it.

use crate::agenda::Agenda;
use crate::chart::Chart;
use crate::command::{Command, CommandReceiver, Waiting, accept};
use crate::driver::Driver;
use crate::observer::RunObserver;
use crate::runner::StepRunner;
use crate::scribe::Scribe;
use muster_journal::{Event, JournalError, Opening, RunState, RunStore, Signed};
use muster_ports::{Clock, Epoch, Failure, Random, RunId, StateStore, StepId};
use muster_runsheet::Runsheet;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::task::JoinSet;

/// What to do when only people can move the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPause {
    /// Stay and listen to commands.
    Wait,
    /// Let go of the run, so that this process may end; `decide_offline` and a further `drive` go on later.
    Return,
}

/// How `drive` ended.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEnd {
    Done {
        degraded: Vec<StepId>,
    },
    /// A step that says `else undo` failed; everything was taken back.
    Undone {
        why: String,
    },
    /// A person gave the run up; everything was taken back.
    Aborted {
        why: String,
    },
    /// It was given up, and these could not be taken back.
    Failed {
        left: Vec<StepId>,
    },
    /// The run is open and waits for people.
    Paused {
        waiting: Vec<Waiting>,
    },
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecutorError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("run `{0}` is being driven in this process already")]
    Busy(RunId),
    /// A command that is not possible now.
    #[error(transparent)]
    Refused(#[from] Failure),
}

impl From<ExecutorError> for Failure {
    fn from(error: ExecutorError) -> Self {
        match error {
            ExecutorError::Journal(error) => error.into(),
            ExecutorError::Busy(_) => Failure::refused(error.to_string()),
            ExecutorError::Refused(failure) => failure,
        }
    }
}

/// Carries out runs of one vault. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Executor {
    runs: RunStore,
    runner: Arc<dyn StepRunner>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    driven: Arc<Mutex<BTreeSet<RunId>>>,
    taken_over: Mutex<Option<TakenOver>>,
}

/// That this process became the writer although another one seemed alive, and who wanted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// The one that was pushed aside.
    pub from: String,
    /// Its epoch: runs that it was the last to write get a record of the takeover.
    pub epoch: Epoch,
    pub by: Signed,
}

/// A run this process works on; two drivers of one run would write over each other's records.
struct Driven {
    run: RunId,
    all: Arc<Mutex<BTreeSet<RunId>>>,
}

fn lock(all: &Mutex<BTreeSet<RunId>>) -> MutexGuard<'_, BTreeSet<RunId>> {
    // Nothing panics while it holds the lock.
    all.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Drop for Driven {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.run);
    }
}

impl Executor {
    pub fn new(
        store: Arc<dyn StateStore>,
        runner: Arc<dyn StepRunner>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { runs: RunStore::new(store), runner, clock, random, driven: Arc::default(), taken_over: Mutex::default() }
    }

    /// From now on runs taken up from the one that was pushed aside say so in their journal.
    pub fn note_takeover(&self, taken: TakenOver) {
        // Nothing panics while it holds the lock.
        *self.taken_over.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(taken);
    }

    /// The record of it that a run in this state is owed.
    fn takeover(&self, state: &RunState) -> Option<Event> {
        let taken = self.taken_over.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()?;
        let TakenOver { from, epoch, by } = taken;
        (state.epoch == epoch).then_some(Event::TakenOver { from, who: by.who, why: by.why })
    }

    pub fn runs(&self) -> &RunStore {
        &self.runs
    }

    /// Stores the runsheet and opens a run of it. Nothing is done yet.
    pub async fn open_run(&self, sheet: &Runsheet, opening: Opening) -> Result<RunId, ExecutorError> {
        let now = self.clock.now();
        let run = RunId::new(self.random.sortable_id(now));
        self.runs.create(&run, sheet, &opening, now).await?;
        Ok(run)
    }

    fn claim(&self, run: &RunId) -> Result<Driven, ExecutorError> {
        if !lock(&self.driven).insert(run.clone()) {
            return Err(ExecutorError::Busy(run.clone()));
        }
        Ok(Driven { run: run.clone(), all: self.driven.clone() })
    }

    /// Works on a run until it has ended, or (with `OnPause::Return`) only people can move it. Takes up a run that was
    /// left in the middle, by the journal alone. Dropping the future is as good as a crash: safe, and resumed the same way.
    pub async fn drive(
        &self,
        run: &RunId,
        commands: CommandReceiver,
        observer: Arc<dyn RunObserver>,
        on_pause: OnPause,
    ) -> Result<RunEnd, ExecutorError> {
        let _driven = self.claim(run)?;
        let journal = self.runs.journal(run).await?;
        if journal.state().is_closed() {
            return Ok(RunEnd::of(journal.state()));
        }
        let chart = chart(run, journal.sheet().clone())?;
        let engine = format!("epoch {}", self.runs.store().epoch());
        let mut claim = vec![Event::EngineClaimed { engine }];
        claim.extend(self.takeover(journal.state()));
        let scribe = Scribe::start(journal, self.clock.clone(), observer.clone());
        scribe.append(claim).await?;
        let driver = Driver {
            agenda: Agenda::new(&chart, &scribe.state()),
            chart,
            scribe,
            runner: self.runner.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            observer,
            on_pause,
            tasks: JoinSet::new(),
            attempts: HashMap::new(),
            at_once: None,
        };
        driver.run(commands).await
    }

    /// Says something to a run that nobody drives now; the next `drive` goes on from there.
    pub async fn decide_offline(&self, run: &RunId, command: &Command) -> Result<RunState, ExecutorError> {
        let _driven = self.claim(run)?;
        let mut journal = self.runs.journal(run).await?;
        let chart = chart(run, journal.sheet().clone())?;
        let mut events = accept(&chart, journal.state(), command)?;
        let now = self.clock.now();
        if let Some(taken) = self.takeover(journal.state()) {
            events.insert(0, taken);
        }
        match command {
            Command::Amend { sheet, who, why } => {
                let sheet = Arc::new(crate::command::amended(sheet)?);
                journal.amend(sheet, Signed { who: who.clone(), why: why.clone() }, now).await?;
            }
            _ => drop(journal.append(events, now).await?),
        }
        Ok(RunState::clone(journal.state()))
    }

    /// What waits for people in a run, driven or not.
    pub async fn waiting(&self, run: &RunId) -> Result<Vec<Waiting>, ExecutorError> {
        let loaded = self.runs.load(run).await?;
        Ok(crate::command::waiting(&chart(run, loaded.sheet)?, &loaded.state))
    }
}

fn chart(run: &RunId, sheet: Arc<Runsheet>) -> Result<Chart, JournalError> {
    Chart::new(sheet).map_err(|source| JournalError::Sheet { run: run.clone(), source })
}
