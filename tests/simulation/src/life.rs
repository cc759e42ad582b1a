//! One life of the engine: a process that holds the control state until it dies or is fenced.

use crate::people::{Heard, People};
use crate::storm::{Death, Disk};
use crate::tally::{self, Tally};
use crate::watch::{Announced, Listening, Watched};
use crate::wire::{Line, Wire};
use crate::{beyond::Beyond, clock::Wobbly};
use async_trait::async_trait;
use bytes::Bytes;
use muster_executor::{Executor, ExecutorError, OnPause, RunEnd, commands};
use muster_hooks::HookHost;
use muster_journal::MemoryStore;
use muster_ports::*;
use muster_provider_simulated::SeededRandom;
use muster_rehearsal::Stage;
use muster_replication::Recovery;
use muster_steps::Steps;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};

/// Whether a process lives, and when it dies.
#[derive(Debug)]
pub struct LifeLine {
    death: Option<Death>,
    tally: Tally,
    dead: AtomicBool,
    died: Notify,
    writes: AtomicU64,
    effects: AtomicU64,
    effects_ended: AtomicU64,
}

impl LifeLine {
    pub fn new(death: Option<Death>, tally: Tally) -> Self {
        let (writes, effects, effects_ended) = Default::default();
        Self { death, tally, dead: AtomicBool::new(false), died: Notify::new(), writes, effects, effects_ended }
    }
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }
    pub fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
    }
    /// Returns when it has died.
    pub async fn died(&self) {
        while !self.is_dead() {
            self.died.notified().await;
        }
    }
    /// Durable writes so far.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }
    /// Calls so far that change something.
    pub fn effects(&self) -> u64 {
        self.effects.load(Ordering::SeqCst)
    }
    pub(crate) fn meet(&self, death: Death) {
        if self.death == Some(death) {
            self.tally.note(match death {
                Death::BeforeWrite(_) => tally::DIED_BEFORE_RECORD,
                Death::AfterWrite(_) => tally::DIED_AFTER_RECORD,
                Death::BeforeEffect(_) => tally::DIED_BEFORE_EFFECT,
                Death::AfterEffect(_) => tally::DIED_AFTER_EFFECT,
                Death::At(_) => tally::DIED_BY_THE_CLOCK,
            });
            self.die();
        }
    }
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }
    pub(crate) fn before_effect(&self) {
        let number = self.effects.fetch_add(1, Ordering::SeqCst) + 1;
        self.meet(Death::BeforeEffect(number));
    }
    pub(crate) fn after_effect(&self) {
        let number = self.effects_ended.fetch_add(1, Ordering::SeqCst) + 1;
        self.meet(Death::AfterEffect(number));
    }
}

/// The control state as one process sees it, on a disk with its moods.
#[derive(Debug)]
struct Mortal {
    store: MemoryStore,
    life: Arc<LifeLine>,
    disk: Disk,
    random: Arc<SeededRandom>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl StateStore for Mortal {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.store.get(key).await
    }
    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.store.scan(prefix).await
    }
    async fn write(&self, batch: Vec<Write>) -> Result<(), StoreError> {
        let dead = || StoreError::Unavailable("the engine is dead (simulated)".to_owned());
        if self.random.below(1000) < self.disk.slow {
            self.life.tally.note(tally::DISK_SLOW);
            let most = u64::try_from(self.disk.slow_by.as_millis()).unwrap_or(u64::MAX);
            self.clock.sleep(Duration::from_millis(self.random.below(most))).await;
        }
        let number = self.life.writes.fetch_add(1, Ordering::SeqCst) + 1;
        self.life.meet(Death::BeforeWrite(number));
        if self.life.is_dead() {
            return Err(dead());
        }
        if self.random.below(1000) < self.disk.full {
            self.life.tally.note(tally::DISK_FULL);
            return Err(StoreError::Full { place: "the vault (simulated)".to_owned() });
        }
        self.store.write(batch).await?;
        self.life.meet(Death::AfterWrite(number));
        if self.life.is_dead() { Err(dead()) } else { Ok(()) }
    }
    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }
}

/// What stays when a process dies.
#[derive(Clone, Debug)]
pub struct Ground {
    pub stage: Arc<Stage>,
    pub clock: Wobbly,
    pub beyond: Arc<Beyond>,
    pub announced: Arc<Announced>,
    pub tally: Tally,
    /// How long steps take.
    pub pace: BTreeMap<StepId, Duration>,
}

/// How one process fares.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    pub death: Option<Death>,
    pub line: Line,
    pub disk: Disk,
    pub seed: u64,
    /// Replication goes on beside the run.
    pub cycles: bool,
}

/// Executor, steps and replication over one handle of the store. Dropping it is the death of the process.
#[derive(Debug)]
pub struct Life {
    pub line: Arc<LifeLine>,
    pub executor: Executor,
    ground: Ground,
    schedule: Option<JoinHandle<()>>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.line.die();
        if let Some(schedule) = &self.schedule {
            schedule.abort();
        }
    }
}

impl Life {
    /// Takes the store over: whoever had it before is fenced.
    pub fn begin(ground: &Ground, store: &MemoryStore, fate: &Fate) -> Self {
        let line = Arc::new(LifeLine::new(fate.death, ground.tally.clone()));
        let clock: Arc<dyn Clock> = Arc::new(ground.clock.clone());
        let random = Arc::new(SeededRandom::new(fate.seed));
        let wired = |(name, site): (&SiteName, &Arc<dyn Site>)| {
            let wire = Wire::new(site.clone(), fate.line, ground.stage.clock(), random.clone(), line.clone());
            (name.clone(), Arc::new(wire) as Arc<dyn Site>)
        };
        let sites: BTreeMap<_, _> = ground.stage.sites().iter().map(wired).collect();
        let state: Arc<dyn StateStore> = Arc::new(Mortal {
            store: store.reopen(),
            life: line.clone(),
            disk: fate.disk,
            random: random.clone(),
            clock: ground.stage.clock(),
        });
        let replicator = Arc::new(ground.stage.replicator(state.clone(), sites.clone(), clock.clone()));
        let recovery: Arc<dyn Recovery> = replicator.clone();
        let hooks = HookHost::new(clock.clone(), ground.stage.random());
        let steps = Steps::new(sites, recovery, state.clone(), hooks, clock.clone()).reaching(ground.beyond.clone());
        let watched = Watched::new(steps, ground);
        let executor = Executor::new(state, Arc::new(watched), clock, ground.stage.random());
        let schedule = fate.cycles.then(|| {
            tokio::spawn(async move {
                // Cycles fail while a site is away; that is theirs.
                let _ = replicator.run_until(std::future::pending()).await;
            })
        });
        Self { line, executor, ground: ground.clone(), schedule }
    }

    /// Drives the run, with people beside it, until it has ended or the store is lost. Stays while only people could move
    /// it.
    pub async fn drive(&self, run: &RunId, people: &People) -> Result<RunEnd, ExecutorError> {
        let (sender, receiver) = commands();
        let (calls, mut heard) = mpsc::unbounded_channel();
        for waiting in self.executor.waiting(run).await? {
            let _ = calls.send(Heard::of(&waiting));
        }
        let listening = Listening::new(self.ground.announced.clone(), calls);
        let driving = self.executor.drive(run, receiver, Arc::new(listening), OnPause::Wait);
        tokio::pin!(driving);
        let mut words = JoinSet::new();
        people.meddle(&self.ground, &sender, &mut words);
        loop {
            tokio::select! {
                biased;
                end = &mut driving => return end,
                Some(what) = heard.recv() => people.hear(what, &self.ground, &sender, &mut words),
                Some(_) = words.join_next(), if !words.is_empty() => {}
            }
        }
    }
}
