//! One rehearsal: furnish an estate, protect it, let something happen, carry the plan out, look at the end.

use crate::conditions::Conditions;
use crate::engine::{Cast, carry_out, replicator};
use crate::outcome::{Outcome, Status, StepOutcome};
use crate::outside::Pretended;
use crate::pace::Script;
use crate::people::People;
use crate::store::Deaths;
use crate::timeline::timeline;
use crate::world::World;
use muster_compiler::{Checked, CompileOptions};
use muster_diagnostics::Diagnostic;
use muster_executor::{RunEnd, Waiting};
use muster_forecast::{ConditionsError, Evidence};
use muster_journal::{LoadedRun, MemoryStore};
use muster_ports::*;
use muster_runsheet::{Action, Direction, Duration, Estate, Kind, Operation, PlanState, Runsheet, SheetPhase};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Cycles of all groups before it happens: enough that every group has points of its own pace, and a bound on the time
/// that a rehearsal of a plan with very different paces takes.
const CYCLES_BEFORE: u64 = 24;

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The plan does not compile.
    #[error("the plan has mistakes")]
    Diagnostics(Vec<Diagnostic>),
    #[error("{0}")]
    Conditions(ConditionsError),
    /// The rehearsal itself could not be carried out.
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// Carries one operation of a plan out on a simulated estate, in virtual time. What has to be done before it is legal
/// (a failover before its commit) is done first, undisturbed.
///
/// Takes real time for computing only. May be called from anywhere, also from inside a runtime.
pub fn simulate(
    checked: &Checked,
    plan: &str,
    operation: Operation,
    conditions: &Conditions,
) -> Result<Outcome, RehearsalError> {
    let compile = |operation: Operation| {
        let drilled = operation.kind == Kind::Cleanup;
        let options = CompileOptions { drilled, ..CompileOptions::default() };
        checked.compile(plan, operation, options).map_err(RehearsalError::Diagnostics)
    };
    let mut sheets = Vec::new();
    for before in before(operation) {
        sheets.push(compile(before)?);
    }
    // A cleanup is compiled from the journal of its drill, when there is one.
    let last = if operation.kind == Kind::Cleanup { None } else { Some(compile(operation)?) };
    run(&checked.estate, sheets, last, operation, conditions)
}

/// As [`simulate`], of a sheet that is legal at the beginning: a drill, or a failover from home.
pub fn simulate_sheet(estate: &Estate, sheet: &Runsheet, conditions: &Conditions) -> Result<Outcome, RehearsalError> {
    run(estate, Vec::new(), Some(sheet.clone()), sheet.operation, conditions)
}

fn run(
    estate: &Estate,
    sheets: Vec<Runsheet>,
    last: Option<Runsheet>,
    operation: Operation,
    conditions: &Conditions,
) -> Result<Outcome, RehearsalError> {
    // A thread of its own: its time is paused, and whoever calls may be inside a runtime of real time.
    std::thread::scope(|scope| {
        let work = || {
            let _silent = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let runtime = runtime.map_err(|error| Failure::from(error).during("begin a rehearsal"))?;
            runtime.block_on(rehearse(estate, sheets, last, operation, conditions))
        };
        let done = scope.spawn(work).join();
        done.unwrap_or_else(|_| Err(Failure::permanent("the rehearsal broke off; this is a bug of muster").into()))
    })
}

/// What leads from home to where an operation is legal.
fn before(operation: Operation) -> Vec<Operation> {
    let at = |direction| move |kind| Operation { kind, direction };
    let mut path: Vec<Operation> = match operation.direction {
        Direction::Out => Vec::new(),
        Direction::Back => [Kind::Planned, Kind::Commit, Kind::Reprotect].map(at(Direction::Out)).to_vec(),
    };
    let kinds: &[Kind] = match operation.kind {
        Kind::Test | Kind::Planned | Kind::Unplanned => &[],
        Kind::Cleanup => &[Kind::Test],
        Kind::Cancel | Kind::Commit | Kind::Repoint => &[Kind::Planned],
        Kind::Reprotect => &[Kind::Planned, Kind::Commit],
    };
    path.extend(kinds.iter().copied().map(at(operation.direction)));
    path
}

async fn rehearse(
    estate: &Estate,
    sheets: Vec<Runsheet>,
    last: Option<Runsheet>,
    operation: Operation,
    conditions: &Conditions,
) -> Result<Outcome, RehearsalError> {
    let all: Vec<&Runsheet> = sheets.iter().chain(&last).collect();
    let world = World::new(estate, &all, conditions).await?;
    let store = MemoryStore::new();
    protect(&world, &store, all.first().copied()).await?;
    let calm = Conditions::default();
    let mut drill = None;
    for sheet in &sheets {
        let cast = cast(estate, sheet, &calm);
        let (run, end, loaded) = carry_out(&world, &store, sheet, &cast).await?;
        if !matches!(end, RunEnd::Done { .. }) {
            let why = format!("`{}` comes before `{operation}`, and does not end well by itself", sheet.operation);
            let outcome = outcome(&world, sheet, &cast, (&run, &end, &loaded), (conditions, Default::default()));
            let waiting = outcome.waiting.join("; ");
            return Err(Failure::permanent(format!("{why}: {waiting}")).into());
        }
        drill = Some((run, loaded.sheet));
    }
    let sheet = match (last, drill) {
        (Some(sheet), _) => sheet,
        (None, Some((run, sheet))) => cleanup(&sheet, &run),
        (None, None) => return Err(Failure::permanent("there is no drill to take away").into()),
    };
    conditions.world.check(&sheet).map_err(RehearsalError::Conditions)?;
    let sheet = with_boots(sheet, conditions);
    happen(&world, &store, conditions).await?;
    let cast = cast(estate, &sheet, conditions);
    let so_far = world.effects_so_far();
    let (run, end, loaded) = carry_out(&world, &store, &sheet, &cast).await?;
    Ok(outcome(&world, &sheet, &cast, (&run, &end, &loaded), (conditions, so_far)))
}

fn cleanup(drill: &Runsheet, run: &RunId) -> Runsheet {
    let made = drill.nodes.iter().filter_map(|node| match &node.action {
        Action::Clone { machine, .. } => Some(machine.clone()),
        _ => None,
    });
    let now = PlanState { drilled: true, ..PlanState { direction: drill.operation.direction, ..PlanState::HOME } };
    muster_compiler::cleanup_sheet_from(drill, run.as_str(), &made.collect::<Vec<_>>(), now)
}

/// Semaphores of boots with the count that the conditions say; the executor reads it from the name.
fn with_boots(mut sheet: Runsheet, conditions: &Conditions) -> Runsheet {
    for lock in sheet.nodes.iter_mut().flat_map(|node| &mut node.locks) {
        let count = lock.strip_prefix("boots@").and_then(|site| conditions.world.boots.get(site));
        if let Some(count) = count {
            *lock = format!("{lock}:{count}");
        }
    }
    sheet
}

fn cast(estate: &Estate, sheet: &Runsheet, conditions: &Conditions) -> Cast {
    let slow = muster_forecast::Conditions { slow: conditions.world.slow.clone(), ..Default::default() };
    let takes = muster_forecast::attempt_times(sheet, estate, &Evidence::default(), &slow);
    let takes: BTreeMap<StepId, Duration> = sheet.nodes.iter().map(|node| node.id.clone()).zip(takes).collect();
    let people = People::new(conditions.answers.clone(), takes.clone(), muster_forecast::signature_time());
    Cast {
        script: Arc::new(Script::new(takes, conditions.world.fail.clone())),
        people: Arc::new(people),
        outside: Arc::new(Pretended::new(conditions.http.clone())),
        deaths: conditions.crashes.then(Arc::<Deaths>::default),
    }
}

/// Every replicated group of the plan has points, at its own pace.
pub(crate) async fn protect(world: &World, store: &MemoryStore, sheet: Option<&Runsheet>) -> Result<()> {
    let Some(sheet) = sheet else { return Ok(()) };
    let state: Arc<dyn StateStore> = Arc::new(store.reopen());
    let estate = serde_json::to_vec(&world.estate).map_err(|error| Failure::permanent(error.to_string()))?;
    state.write(vec![Write::put("estate", estate)]).await?;
    let replicator = replicator(world, state);
    for group in sheet.groups.values().filter(|group| group.policy.is_some()) {
        replicator.protect(&world.estate, &group.name).await?;
        muster_replication::Recovery::cycle(&replicator, &group.name, &Silent).await?;
    }
    Ok(())
}

/// Replication goes on for a while that chance decides, over links as slow as they are now, so that points are as old as
/// they are when it happens. Then sites burn.
async fn happen(world: &World, store: &MemoryStore, conditions: &Conditions) -> Result<()> {
    world.slow_links(conditions)?;
    let cycles: Vec<u64> = world.estate.policies.values().map(|policy| policy.cycle.0.max(1)).collect();
    let (Some(shortest), Some(longest)) = (cycles.iter().min(), cycles.iter().max()) else { return Ok(()) };
    let calm = longest.saturating_mul(2).min(shortest.saturating_mul(CYCLES_BEFORE));
    let wait = calm.saturating_add(world.random.below(*longest.min(&calm)));
    let replicator = replicator(world, Arc::new(store.reopen()));
    let clock = world.clock.clone();
    replicator.run_until(async move { clock.sleep(std::time::Duration::from_millis(wait)).await }).await?;
    conditions.world.dead.iter().try_for_each(|site| world.burn(site))
}

fn outcome(
    world: &World,
    sheet: &Runsheet,
    cast: &Cast,
    (run, end, loaded): (&RunId, &RunEnd, &LoadedRun),
    (conditions, so_far): (&Conditions, BTreeMap<SiteName, usize>),
) -> Outcome {
    let state = &loaded.state;
    let since = |at: Timestamp| Duration::from(at.since(state.opened_at));
    let steps = state.nodes().map(|node| StepOutcome {
        id: node.id.clone(),
        stand: node.stand.word().to_owned(),
        started: node.started_at.map(since),
        ended: node.ended_at.map(since),
        attempts: node.attempt,
    });
    let loss = state.points.iter().map(|(group, point)| (group.as_str().into(), Duration(point.loss_millis)));
    let (status, waiting) = match end {
        RunEnd::Done { degraded } if degraded.is_empty() => (Status::Done, Vec::new()),
        RunEnd::Done { .. } => (Status::Degraded, Vec::new()),
        RunEnd::Undone { .. } => (Status::Undone, Vec::new()),
        RunEnd::Aborted { .. } => (Status::Aborted, Vec::new()),
        RunEnd::Failed { .. } => (Status::Failed, Vec::new()),
        RunEnd::Paused { waiting } => (Status::Paused, waiting.iter().map(in_words).collect()),
    };
    let whole = since(state.closed_at.unwrap_or(state.time));
    let counts = |id: &StepId| sheet.node(id).is_some_and(|node| node.phase != SheetPhase::Settle);
    let healthy = state.nodes().filter(|node| counts(&node.id)).filter_map(|node| node.ended_at).max();
    let closed = matches!(status, Status::Done | Status::Degraded) && sheet.operation.kind.is_live();
    let mut effects = world.effects(&so_far, run);
    effects.extend(cast.outside.effects());
    let mut assumed = cast.script.assumed();
    assumed.extend(cast.people.assumed());
    Outcome {
        plan: sheet.plan.clone(),
        sheet: sheet.clone(),
        operation: sheet.operation,
        seed: conditions.seed,
        status,
        elapsed: healthy.filter(|_| closed).map_or(whole, since),
        whole,
        loss: loss.collect(),
        steps: steps.collect(),
        timeline: timeline(sheet, &loaded.records),
        running: world.running(),
        effects,
        degraded: state.degraded(),
        waiting,
        crashes: cast.deaths.as_ref().map_or(0, |deaths| deaths.count()),
        assumed,
    }
}

fn in_words(waiting: &Waiting) -> String {
    match waiting {
        Waiting::Question { node, question, .. } => format!("{node} asks {}: {}", question.to, question.text),
        Waiting::Decision { node, why, .. } | Waiting::Stuck { node, why, .. } => format!("{node}: {why}"),
        Waiting::Run { by } => format!("paused by {}", by.who),
    }
}
