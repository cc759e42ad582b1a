//! Lives of the engine over one estate: each is made anew over the same control state, as a process would be.

use crate::outside::Pretended;
use crate::pace::{Paced, Script};
use crate::people::{Listening, People};
use crate::store::{Deaths, Mortal};
use crate::world::World;
use muster_executor::{Command, Executor, OnPause, RunEnd, Waiting, commands};
use muster_hooks::HookHost;
use muster_journal::{LoadedRun, MemoryStore, Opening, RunStore};
use muster_ports::*;
use muster_replication::{Recovery, Replicator};
use muster_runsheet::Runsheet;
use muster_steps::Steps;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Lives of one run. Each death happens at a place of its own, so this is only reached by a mistake of ours.
const LIVES_MAX: u32 = 100_000;
/// Name of the vault of a rehearsal: it is nowhere.
pub(crate) const VAULT: &str = "memory:///rehearsal";

/// Everything a run of a rehearsal works with beside the world.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    pub(crate) script: Arc<Script>,
    pub(crate) people: Arc<People>,
    pub(crate) outside: Arc<Pretended>,
    pub(crate) deaths: Option<Arc<Deaths>>,
}

/// One life: executor, steps and replication over one handle of the store.
struct Life {
    store: Arc<Mortal>,
    executor: Executor,
    schedule: JoinHandle<()>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.schedule.abort();
    }
}

pub(crate) fn replicator(world: &World, store: Arc<dyn StateStore>) -> Replicator {
    Replicator::new(store, world.sites.clone(), VAULT, world.clock.clone(), world.random.clone())
}

impl Life {
    fn begin(world: &World, store: &MemoryStore, cast: &Cast) -> Self {
        let store = Arc::new(Mortal::new(store.reopen(), cast.deaths.clone()));
        let state: Arc<dyn StateStore> = store.clone();
        let replicator = Arc::new(replicator(world, state.clone()));
        let recovery: Arc<dyn Recovery> = replicator.clone();
        let hooks = HookHost::new(world.clock.clone(), world.random.clone());
        let steps = Steps::new(world.sites.clone(), recovery, state.clone(), hooks, world.clock.clone());
        let steps = Arc::new(steps.reaching(cast.outside.clone()));
        let paced =
            Arc::new(Paced { steps, clock: world.clock.clone(), script: cast.script.clone(), life: store.clone() });
        let executor = Executor::new(state, paced, world.clock.clone(), world.random.clone());
        let schedule = tokio::spawn(async move {
            // It ends with the life; a site that burns is a part of the rehearsal, and cycles of it fail.
            let _ = replicator.run_until(std::future::pending()).await;
        });
        Self { store, executor, schedule }
    }

    /// Drives the run until it ends, or only people could move it who say nothing.
    async fn drive(&self, world: &World, run: &RunId, cast: &Cast) -> Result<RunEnd> {
        let people = &cast.people;
        loop {
            if cast.deaths.as_ref().is_some_and(|deaths| deaths.take_unheard()) {
                people.catch_up(&self.executor.runs().load(run).await?.state);
            }
            let (sender, receiver) = commands();
            let listening = Arc::new(Listening(people.clone()));
            let end = tokio::select! {
                biased;
                end = self.executor.drive(run, receiver, listening, OnPause::Return) => end?,
                () = people.speak(world.clock.as_ref(), &sender) => continue,
            };
            let RunEnd::Paused { waiting } = &end else { return Ok(end) };
            let asked: Vec<_> = waiting
                .iter()
                .filter_map(|waiting| match waiting {
                    Waiting::Question { node, until, .. } => Some((node.clone(), *until)),
                    _ => None,
                })
                .collect();
            let nodes: Vec<_> = asked.iter().map(|(node, _)| node.clone()).collect();
            let Some((node, due, answer)) = people.next_for(&nodes) else { return Ok(end) };
            // A question that nobody answers in time fails by itself, when the run is looked at again.
            let given_up = asked.iter().filter_map(|(_, until)| *until).min();
            if let Some(until) = given_up.filter(|until| *until <= due) {
                world.clock.sleep_until(until).await;
                continue;
            }
            world.clock.sleep_until(due).await;
            self.executor.decide_offline(run, &Command::Answer { node: node.clone(), answer }).await?;
            people.said(&node);
        }
    }
}

/// The people of a rehearsal answer for whole teams.
fn answering_for_all(sheet: &Runsheet) -> Runsheet {
    let mut sheet = sheet.clone();
    sheet.teams.clear();
    sheet
}

/// Opens a run of the sheet and carries it out over as many lives as it takes.
pub(crate) async fn carry_out(
    world: &World,
    store: &MemoryStore,
    sheet: &Runsheet,
    cast: &Cast,
) -> Result<(RunId, RunEnd, LoadedRun)> {
    let sheet = &answering_for_all(sheet);
    let opening = Opening { who: "rehearsal".to_owned(), why: String::new(), incident: None, signed: None };
    let immortal = Cast { deaths: None, ..cast.clone() };
    let run = Life::begin(world, store, &immortal).executor.open_run(sheet, opening).await?;
    for _ in 0..LIVES_MAX {
        let life = Life::begin(world, store, cast);
        let end = tokio::select! {
            biased;
            () = life.store.died() => continue,
            end = life.drive(world, &run, cast) => end,
        };
        if life.store.is_dead() {
            continue;
        }
        let loaded = RunStore::new(Arc::new(store.reopen())).load(&run).await?;
        return Ok((run, end?, loaded));
    }
    Err(Failure::permanent(format!("the engine was killed {LIVES_MAX} times and the run has not ended")))
}
