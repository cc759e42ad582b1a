//! Drills that have stood for longer than the `keep` of their plan: whoever holds the vault and replicates takes them away.
//!
//! A drill is taken away once. Where that fails, or while a run of the same plan is under way, it is left to people.

use crate::runs::Follow;
use crate::service::{Control, cleanup_sheet, newest_first, plan_states};
use muster_journal::{Opening, RunStatus, RunStore, RunSummary};
use muster_ports::{Clock, PlanName, Result, RunId, StateStore, Timestamp};
use muster_runsheet::{Duration as Span, Kind, PlanState};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often drills are looked at; while none stands that costs one read of the plans' states.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// In whose name a drill is taken away.
const WHO: &str = "muster";

/// A drill that stands, and for how long it may.
#[derive(Clone, Debug)]
struct Drill {
    plan: PlanName,
    run: RunId,
    keep: Span,
    until: Timestamp,
}

/// Until when the drills may stand, by plan. One without `keep` stands until somebody takes it away; of one that cannot be
/// read nothing is said.
pub(crate) async fn until(
    store: &Arc<dyn StateStore>,
    plans: &BTreeMap<String, PlanState>,
    runs: &[RunSummary],
) -> BTreeMap<String, Timestamp> {
    let mut until = BTreeMap::new();
    for drill in standing(plans, runs) {
        match limited(store, drill).await {
            Ok(Some(drill)) => drop(until.insert(drill.plan.as_str().to_owned(), drill.until)),
            Ok(None) => {}
            Err(failure) => {
                tracing::warn!(run = %drill.id, "until when this drill may stand cannot be read: {failure}")
            }
        }
    }
    until
}

/// The newest drill of each plan that has one, once it has ended.
fn standing<'r>(plans: &BTreeMap<String, PlanState>, runs: &'r [RunSummary]) -> Vec<&'r RunSummary> {
    let drilled = plans.iter().filter(|(_, state)| state.drilled).map(|(plan, _)| plan.as_str());
    let newest = |plan: &str| runs.iter().find(|run| run.plan.as_str() == plan && run.operation.kind == Kind::Test);
    drilled.filter_map(newest).filter(|drill| drill.ended.is_some()).collect()
}

async fn limited(store: &Arc<dyn StateStore>, drill: &RunSummary) -> Result<Option<Drill>> {
    let keep = RunStore::new(store.clone()).load(&drill.id).await?.sheet.keep;
    Ok(keep.zip(drill.ended).map(|(keep, ended)| Drill {
        plan: drill.plan.clone(),
        run: drill.id.clone(),
        keep,
        until: Timestamp(ended.0.saturating_add(keep.0)),
    }))
}

/// Never ends by itself.
pub(crate) async fn take_away(control: Weak<Control>, clock: Arc<dyn Clock>) {
    let mut known = BTreeMap::new();
    loop {
        clock.sleep(LOOK_EVERY).await;
        let Some(control) = control.upgrade() else { return std::future::pending().await };
        if let Err(failure) = look(&control, clock.now(), &mut known).await {
            tracing::warn!("standing drills cannot be looked at: {failure}");
        }
    }
}

/// `known`: drills whose sheet has been read.
async fn look(control: &Arc<Control>, now: Timestamp, known: &mut BTreeMap<RunId, Option<Drill>>) -> Result<()> {
    let store = control.store();
    let plans = plan_states(store).await?;
    if !plans.values().any(|state| state.drilled) {
        known.clear();
        return Ok(());
    }
    let runs = newest_first(store).await?;
    for summary in standing(&plans, &runs) {
        if !known.contains_key(&summary.id) {
            known.insert(summary.id.clone(), limited(store, summary).await?);
        }
        let drill = known.get(&summary.id).and_then(Option::as_ref);
        if let Some(drill) = drill.filter(|drill| drill.until <= now && is_quiet(&runs, drill)) {
            take_one_away(control, drill).await;
        }
    }
    Ok(())
}

/// Nobody works on the plan, and nobody has tried to take this drill away.
fn is_quiet(runs: &[RunSummary], drill: &Drill) -> bool {
    let of_plan = || runs.iter().filter(|run| run.plan == drill.plan);
    let newest = of_plan().find(|run| matches!(run.operation.kind, Kind::Test | Kind::Cleanup));
    newest.is_some_and(|run| run.id == drill.run) && of_plan().all(|run| run.status != RunStatus::Open)
}

async fn take_one_away(control: &Arc<Control>, drill: &Drill) {
    // A holder that is ending takes on no work.
    let Some(_at_work) = control.at_work() else { return };
    let taken = async {
        let sheet = cleanup_sheet(control.store(), &drill.plan).await?;
        let why = format!("the plan has `keep = {}`, and nobody has taken the drill away", drill.keep);
        let opening = Opening { who: WHO.into(), why, incident: None, signed: None };
        control.runs().start(sheet, opening, Follow { sink: Arc::new(|_| {}), wait: false }).await
    };
    match taken.await {
        Ok(answer) => tracing::warn!("a drill that had stood for {} is taken away: {}", drill.keep, answer.sentence()),
        Err(failure) => tracing::warn!(plan = %drill.plan, "a drill that outstays `keep` stays: {failure}"),
    }
}
