//! Which failover is landed again when a person names another point, and the sheet of it.

use crate::service::{check_points, newest_first, plan_state};
use muster_journal::{LoadedRun, RunStatus, RunStore};
use muster_ports::{Failure, PlanName, Result, StateStore};
use muster_replication::Replicator;
use muster_runsheet::{Kind, Phase, PlanState, Runsheet};
use std::sync::Arc;

/// The newest failover of the plan that has moved production and is not committed: ended, or stuck past no return.
pub(crate) async fn failover(store: &Arc<dyn StateStore>, plan: &PlanName) -> Result<LoadedRun> {
    let state = plan_state(store, plan).await?;
    let moved = |kind: Kind| kind.is_live() || kind == Kind::Repoint;
    let runs = newest_first(store).await?;
    let newest = runs.iter().filter(|run| run.plan == *plan).find(|run| moved(run.operation.kind));
    let Some(newest) = newest else { return Err(nothing(plan, state)) };
    let loaded = RunStore::new(store.clone()).load(&newest.id).await?;
    let run = &newest.id;
    match (newest.status, loaded.state.no_return.is_some()) {
        (RunStatus::Open, false) => Err(Failure::refused(format!(
            "run `{run}` of `{plan}` has not passed the point of no return: nothing is landed yet"
        ))
        .help(format!("`muster cancel {plan}` takes it back; then begin anew with the point that you want"))),
        (RunStatus::Open | RunStatus::Failed, true) => Ok(loaded),
        (RunStatus::Done, _) if state.phase == Phase::FailedOver => Ok(loaded),
        // A repoint that was taken back before it landed anything: the failover before it stands.
        (RunStatus::Aborted | RunStatus::Undone, _) if state.phase == Phase::FailedOver => Ok(loaded),
        _ => Err(nothing(plan, state)),
    }
}

fn nothing(plan: &PlanName, state: PlanState) -> Failure {
    let legal: Vec<String> = state.legal().iter().map(ToString::to_string).collect();
    Failure::refused(format!("`repoint` of `{plan}` is not legal now (E0601): no failover of it waits for its commit"))
        .help(format!("legal now: {}", legal.join(", ")))
}

/// The sheet that a repoint would carry out now; nothing is begun.
pub(crate) async fn planned(
    store: &Arc<dyn StateStore>,
    replicator: &Replicator,
    plan: &PlanName,
    point: &str,
) -> Result<Runsheet> {
    let sheet = sheet(store, &failover(store, plan).await?, point).await?;
    check_points(replicator, &sheet).await?;
    Ok(sheet)
}

/// The sheet that lands it again. It goes on from the run that has left the source, however often it was landed again.
pub(crate) async fn sheet(store: &Arc<dyn StateStore>, found: &LoadedRun, point: &str) -> Result<Runsheet> {
    let first = found.sheet.continues().map_or_else(|| found.run.to_string(), str::to_owned);
    let now = plan_state(store, &found.state.plan).await?;
    Ok(muster_compiler::repoint_sheet(&found.sheet, &first, point, now))
}
