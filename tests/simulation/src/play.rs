//! One run through one storm, and what is left of it.

use crate::audit::audit;
use crate::beyond::Beyond;
use crate::cases::{Case, Source};
use crate::clock::Wobbly;
use crate::life::{Fate, Ground, Life};
use crate::people::{DECISIONS_MAX, Manner, People};
use crate::storm::{Death, Storm};
use crate::tally::{self, Tally};
use muster_executor::{ExecutorError, RunEnd};
use muster_journal::{Event, JournalError, LoadedRun, MemoryStore, Opening, QuestionKind, RunStore, Stand};
use muster_ports::*;
use muster_provider_simulated::{CallClass, Fault, FaultPlan, PowerWitness, SeededRandom};
use muster_rehearsal::Stage;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

/// Processes of one run; more are a mistake of ours.
const LIVES_MAX: u32 = 400;
/// How long the calm may last until the run has ended.
const CALM: Duration = Duration::from_secs(60 * 3600);

/// What a run comes to. Two runs of one case that met no fault in the end are equal in this.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub end: RunEnd,
    pub stands: BTreeMap<StepId, Stand>,
    pub running: BTreeMap<SiteName, BTreeSet<MachineName>>,
    /// Changes at the sites, each with how often.
    pub effects: BTreeMap<String, usize>,
    /// Writes beyond the sites, each with under how many keys.
    pub beyond: BTreeMap<String, usize>,
    /// State of the plan in the control state.
    pub plan: Option<bytes::Bytes>,
}

/// A run that was played to its end.
#[derive(Clone, Debug)]
pub struct Played {
    pub outcome: Outcome,
    pub loaded: LoadedRun,
    pub lives: u32,
    /// Of the first life.
    pub writes: u64,
    pub effects: u64,
    /// Engines that were pushed aside while they worked.
    pub stolen: u32,
    /// What ran where before the run.
    pub before: BTreeMap<SiteName, BTreeSet<MachineName>>,
    /// Everything that went wrong around it.
    pub tally: BTreeMap<&'static str, u64>,
    /// Everything that must not be.
    pub wrong: Vec<String>,
}

/// On a runtime of its own, whose time is paused.
pub fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

type Driving = JoinHandle<Result<RunEnd, ExecutorError>>;

struct Play<'a> {
    case: &'a Case,
    source: Source,
    storm: &'a Storm,
    ground: Ground,
    store: MemoryStore,
    run: RunId,
    lives: u32,
    first: Option<Arc<crate::life::LifeLine>>,
    was_running: BTreeMap<SiteName, BTreeSet<MachineName>>,
    old: Vec<Driving>,
    wrong: Vec<String>,
}

/// Plays a case through a storm. Its time is virtual; call it through [`in_virtual_time`].
pub async fn play(case: &Case, source: Source, storm: &Storm) -> Played {
    let stage = Stage::new(&case.estate, &[&case.sheet], storm.seed).await;
    let stage = Arc::new(stage.expect("an estate"));
    let store = MemoryStore::new();
    stage.protect(&store, &case.sheet).await.expect("a first point");
    stage.clock().sleep(Duration::from_secs(40)).await;
    let witness = PowerWitness::new();
    for (name, provider) in stage.providers() {
        provider.set_witness(witness.clone());
        if *name == case.sheet.source {
            match source {
                Source::Well => {}
                Source::Burnt => provider.kill_site().expect("a site burns"),
                Source::CutOff | Source::Back => provider.set_down(true),
            }
        }
    }
    let was_running = stage.running();
    let before: BTreeMap<SiteName, usize> =
        stage.providers().iter().map(|(name, provider)| (name.clone(), provider.effects().len())).collect();
    let random = SeededRandom::new(storm.seed ^ 0x5eed);
    let pace = |node: &muster_runsheet::Node| {
        let most = storm.pace.min(node.within.std() / 8);
        (node.id.clone(), Duration::from_millis(random.below(u64::try_from(most.as_millis()).unwrap_or(0))))
    };
    let tally = Tally::default();
    let ground = Ground {
        clock: Wobbly::over(stage.clock()),
        beyond: Arc::new(Beyond::counting(tally.clone())),
        tally,
        announced: Arc::default(),
        pace: case.sheet.nodes.iter().map(pace).collect(),
        stage,
    };
    let opening = Opening { who: "anna".to_owned(), why: "simulation".to_owned(), incident: None, signed: None };
    let opened = Life::begin(&ground, &store, &Fate::default()).executor.open_run(&case.sheet, opening).await;
    let run = opened.expect("an opened run");
    let mut play = Play {
        case,
        source,
        storm,
        ground,
        store,
        run,
        lives: 0,
        first: None,
        was_running,
        old: Vec::new(),
        wrong: Vec::new(),
    };
    let weather = play.weather();
    let end = play.storm().await;
    drop(weather);
    play.clear();
    let end = match end {
        Some(end) => Some(end),
        None => play.calm().await,
    };
    play.finish(end, &witness, &before).await
}

impl Play<'_> {
    /// Begins everything that goes wrong at its time.
    fn weather(&self) -> JoinSet<()> {
        let mut weather = JoinSet::new();
        let clock = self.ground.stage.clock();
        for (at, provider) in self.ground.stage.providers().values().enumerate() {
            provider.set_faults(self.storm.faults_of(at));
        }
        self.ground.beyond.trouble(self.storm.seed, self.storm.beyond);
        for outage in self.storm.outages.clone() {
            let burnt = self.source != Source::Well && outage.site == self.case.sheet.source;
            let Some(provider) = self.ground.stage.providers().get(&outage.site).filter(|_| !burnt).cloned() else {
                continue;
            };
            let (clock, tally) = (clock.clone(), self.ground.tally.clone());
            weather.spawn(async move {
                clock.sleep(outage.from).await;
                tally.note(tally::OUTAGE);
                provider.set_down(true);
                clock.sleep(outage.lasts).await;
                provider.set_down(false);
            });
        }
        for jump in self.storm.jumps.clone() {
            let (clock, wobbly, tally) = (clock.clone(), self.ground.clock.clone(), self.ground.tally.clone());
            weather.spawn(async move {
                clock.sleep(jump.at).await;
                tally.note(if jump.millis < 0 { tally::CLOCK_BACK } else { tally::CLOCK_FORWARD });
                wobbly.jump(jump.millis);
            });
        }
        weather
    }

    fn fate(&self) -> Fate {
        let death = self.storm.deaths.get(self.lives as usize).copied();
        let seed = self.storm.seed.wrapping_mul(1000).wrapping_add(u64::from(self.lives));
        Fate { death, line: self.storm.line, disk: self.storm.disk, seed, cycles: self.storm.cycles }
    }

    fn begin(&mut self, fate: &Fate, people: &People) -> (Arc<Life>, Driving) {
        let life = Arc::new(Life::begin(&self.ground, &self.store, fate));
        self.first.get_or_insert_with(|| life.line.clone());
        self.lives += 1;
        let (own, run, people) = (life.clone(), self.run.clone(), people.clone());
        let driving = tokio::spawn(async move { own.drive(&run, &people).await });
        (life, driving)
    }

    /// Lives until the run has ended, or the storm is over.
    async fn storm(&mut self) -> Option<RunEnd> {
        let clock = self.ground.stage.clock();
        let people = People::new(&self.case.sheet, self.storm.people, self.storm.seed);
        let over = clock.now().plus(self.storm.lasts);
        let mut thefts: Vec<Timestamp> = self.storm.thefts.iter().map(|at| clock.now().plus(*at)).collect();
        thefts.sort_by(|a, b| b.cmp(a));
        while self.lives < LIVES_MAX {
            let fate = self.fate();
            let dies = match fate.death {
                Some(Death::At(after)) => clock.now().plus(after),
                _ => Timestamp(u64::MAX),
            };
            let theft = thefts.last().copied().unwrap_or(Timestamp(u64::MAX));
            let (life, mut driving) = self.begin(&fate, &people);
            tokio::select! {
                biased;
                () = life.line.died() => driving.abort(),
                end = &mut driving => match self.ended(end) {
                    Some(end) => return Some(end),
                    None => clock.sleep(Duration::from_secs(2)).await,
                },
                () = clock.sleep_until(dies.min(over).min(theft)) => {
                    if clock.now() >= over {
                        driving.abort();
                        life.line.die();
                        return None;
                    }
                    if clock.now() >= theft {
                        // It lives on, and does not know yet that it is not the one any more.
                        thefts.pop();
                        self.ground.tally.note(tally::TWO_ENGINES);
                        self.old.push(driving);
                    } else {
                        self.ground.tally.note(tally::DIED_BY_THE_CLOCK);
                        life.line.die();
                        driving.abort();
                    }
                }
            }
        }
        self.wrong.push(format!("{LIVES_MAX} processes did not bring the run to its end"));
        None
    }

    /// How driving ended; `None` when the process lost the store, which another one takes up.
    fn ended(&mut self, end: Result<Result<RunEnd, ExecutorError>, tokio::task::JoinError>) -> Option<RunEnd> {
        match end {
            Ok(Ok(end)) => Some(end),
            Ok(Err(ExecutorError::Journal(JournalError::Store(
                StoreError::Unavailable(_) | StoreError::Full { .. } | StoreError::Fenced,
            )))) => None,
            Ok(Err(error)) => {
                self.wrong.push(format!("the engine ended with: {error}"));
                None
            }
            Err(error) if error.is_cancelled() => None,
            Err(error) => {
                self.wrong.push(format!("the engine broke off: {error}"));
                None
            }
        }
    }

    /// Every fault is gone.
    fn clear(&self) {
        self.ground.beyond.trouble(0, 0);
        for (name, provider) in self.ground.stage.providers() {
            provider.set_faults(FaultPlan::none());
            if self.source == Source::Well || self.source == Source::Back || *name != self.case.sheet.source {
                provider.set_down(false);
            }
        }
    }

    /// One engine that lives, and people who answer.
    async fn calm(&mut self) -> Option<RunEnd> {
        let clock = self.ground.stage.clock();
        let people = People::new(&self.case.sheet, Manner::calm(), self.storm.seed);
        let fate = Fate { seed: self.storm.seed, ..Fate::default() };
        let (life, mut driving) = self.begin(&fate, &people);
        let over = clock.now().plus(CALM);
        let mut end = None;
        tokio::select! {
            biased;
            ended = &mut driving => end = self.ended(ended),
            () = clock.sleep_until(over) => driving.abort(),
        }
        if end.is_none() {
            let waiting = life.executor.waiting(&self.run).await;
            let tired = if people.decisions() >= DECISIONS_MAX { " and people tried often enough" } else { "" };
            self.wrong.push(format!("nothing is wrong any more{tired}, and the run does not end: {waiting:?}"));
        }
        end
    }

    async fn finish(
        mut self,
        end: Option<RunEnd>,
        witness: &PowerWitness,
        before: &BTreeMap<SiteName, usize>,
    ) -> Played {
        let stolen = u32::try_from(self.old.len()).unwrap_or(u32::MAX);
        for old in std::mem::take(&mut self.old) {
            if old.is_finished() {
                let ended = old.await;
                let _ = self.ended(ended);
            } else {
                old.abort();
            }
        }
        let loaded =
            RunStore::new(Arc::new(self.store.reopen())).load(&self.run).await.expect("a journal that verifies");
        for (machine, sites) in witness.doubles() {
            self.wrong.push(format!("`{machine}` had power at {sites:?} at once"));
        }
        self.wrong.extend(self.ground.announced.unannounced());
        self.wrong.extend(audit(&loaded));
        let effects = self.effects(before);
        self.wrong.extend(self.twice(before));
        let stands = loaded.state.nodes().map(|node| (node.id.clone(), node.stand)).collect();
        let plan = self.store.get(&muster_steps::plan_state_key(&self.case.sheet.plan)).await.expect("the store");
        let outcome = Outcome {
            end: end.unwrap_or(RunEnd::Paused { waiting: Vec::new() }),
            stands,
            running: self.ground.stage.running(),
            effects,
            beyond: self.ground.beyond.writes(),
            plan: plan.map(|state| without_time(&state)),
        };
        let (writes, of_first) = self.first.as_ref().map_or((0, 0), |line| (line.writes(), line.effects()));
        Played {
            outcome,
            loaded,
            lives: self.lives,
            writes,
            effects: of_first,
            stolen,
            before: self.was_running.clone(),
            tally: self.tally(),
            wrong: self.wrong,
        }
    }

    fn tally(&self) -> BTreeMap<&'static str, u64> {
        for (fault, times) in self.ground.stage.providers().values().flat_map(|provider| provider.faults_drawn()) {
            self.ground.tally.add(
                match fault {
                    Fault::Transient => tally::SITE_TRANSIENT,
                    Fault::Timeout => tally::SITE_TIMEOUT,
                    Fault::Permanent => tally::SITE_PERMANENT,
                    Fault::LostReply => tally::SITE_ANSWER_LOST,
                    Fault::Slow => tally::SITE_SLOW,
                    Fault::Full => tally::SITE_FULL,
                },
                times,
            );
        }
        self.ground.tally.counts()
    }

    /// What has changed at the sites since the run began, by those calls that change what people see.
    fn effects(&self, before: &BTreeMap<SiteName, usize>) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for (site, provider) in self.ground.stage.providers() {
            for effect in provider.effects().into_iter().skip(before[site]).filter(|effect| effect.changed) {
                if matters(effect.class) {
                    // A drill's clones and its bubble are called like its run.
                    let subject = effect.subject.replace(self.run.as_str(), "drill");
                    *all.entry(format!("{site}: {:?} {subject}", effect.class)).or_insert(0) += 1;
                }
            }
        }
        all
    }

    /// Effects that were done more than once under one key.
    fn twice(&self, before: &BTreeMap<SiteName, usize>) -> Vec<String> {
        let mut seen: BTreeMap<(SiteName, String, String), usize> = BTreeMap::new();
        for (site, provider) in self.ground.stage.providers() {
            for effect in provider.effects().into_iter().skip(before[site]).filter(|effect| effect.changed) {
                let Some(key) = effect.key.filter(|_| matches!(effect.class, CallClass::Define | CallClass::Start))
                else {
                    continue;
                };
                let what = format!("{:?} {}", effect.class, effect.subject);
                *seen.entry((site.clone(), what, key.to_string())).or_default() += 1;
            }
        }
        let twice = seen.into_iter().filter(|(_, times)| *times > 1);
        twice
            .map(|((site, what, key), times)| format!("{site}: {what} was done {times} times under key {key}"))
            .collect()
    }
}

/// Calls that change what people see; the rest is how replica data moves.
fn matters(class: CallClass) -> bool {
    matches!(
        class,
        CallClass::Define
            | CallClass::Undefine
            | CallClass::Start
            | CallClass::Stop
            | CallClass::Fence
            | CallClass::Unfence
            | CallClass::Network
    )
}

/// The phase of the plan, without the moments and names that differ from run to run.
fn without_time(state: &bytes::Bytes) -> bytes::Bytes {
    let phase = serde_json::from_slice::<serde_json::Value>(state).ok().and_then(|state| state.get("phase").cloned());
    phase.map(|phase| phase.to_string().into()).unwrap_or_default()
}

impl Played {
    /// No person decided anything but to try again, nothing was gone on without, and nothing was taken back: the outcome
    /// has to be that of an undisturbed run.
    pub fn is_straight(&self) -> bool {
        let bent = |record: &muster_journal::Record| match &record.event {
            Event::Decided { decision, .. } => *decision != muster_journal::Decision::Retry,
            Event::Answered { answer, .. } => !answer.yes,
            Event::UndoBegun { .. } => true,
            _ => false,
        };
        matches!(&self.outcome.end, RunEnd::Done { degraded } if degraded.is_empty())
            && !self.loaded.records.iter().any(bent)
    }

    /// A person was asked to sign that the machines of the source are off.
    pub fn was_signed_for(&self) -> bool {
        let asked = |record: &muster_journal::Record| matches!(&record.event, Event::Asked { question, .. } if question.kind == QuestionKind::SplitBrain);
        self.loaded.records.iter().any(asked)
    }

    /// How this outcome differs from that of an undisturbed run; effects that begin with one of `either_way` are left
    /// out on both sides.
    pub fn differs(&self, calm: &Outcome, either_way: &[String]) -> Option<String> {
        let (mut mine, mut calm) = (self.outcome.clone(), calm.clone());
        for outcome in [&mut mine, &mut calm] {
            outcome.effects.retain(|effect, _| !either_way.iter().any(|start| effect.starts_with(start)));
        }
        let mut all = Vec::new();
        let mut note = |what: &str, differs: bool, mine: String, calm: String| {
            if differs {
                all.push(format!("{what}: {mine}, undisturbed {calm}"));
            }
        };
        note("end", mine.end != calm.end, format!("{:?}", mine.end), format!("{:?}", calm.end));
        note("running", mine.running != calm.running, format!("{:?}", mine.running), format!("{:?}", calm.running));
        note("plan", mine.plan != calm.plan, format!("{:?}", mine.plan), format!("{:?}", calm.plan));
        let apart = |a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>| {
            let only: Vec<_> = a.iter().filter(|(what, times)| b.get(*what) != Some(times)).collect();
            format!("{only:?}")
        };
        let (effects, beyond) = ((&mine.effects, &calm.effects), (&mine.beyond, &calm.beyond));
        note("effects", effects.0 != effects.1, apart(effects.0, effects.1), apart(effects.1, effects.0));
        note("beyond", beyond.0 != beyond.1, apart(beyond.0, beyond.1), apart(beyond.1, beyond.0));
        for (id, stand) in &mine.stands {
            let calm = calm.stands.get(id);
            note(id.as_str(), calm != Some(stand), format!("{stand:?}"), format!("{calm:?}"));
        }
        (!all.is_empty()).then(|| all.join("; "))
    }
}
