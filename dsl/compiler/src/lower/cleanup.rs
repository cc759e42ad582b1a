//! Taking a drill away: made from the drill's own runsheet, so that a plan edited meanwhile changes nothing.

use super::build::Builder;
use muster_runsheet::{Action, Kind, MachineName, Operation, Phase, PlanState, Runsheet, SheetPhase, StepId};

/// The sheet that removes the drill `drill` (its run id), which has made these machines. The plan is taken to be
/// protected, as it was when the drill began; see [`cleanup_sheet_from`].
pub fn cleanup_sheet(from: &Runsheet, drill: &str, made: &[MachineName]) -> Runsheet {
    let now = PlanState { phase: Phase::Protected, direction: from.operation.direction, drilled: true };
    cleanup_sheet_from(from, drill, made, now)
}

/// As [`cleanup_sheet`], when the plan has moved on since the drill: `now` is where it stands.
pub fn cleanup_sheet_from(from: &Runsheet, drill: &str, made: &[MachineName], now: PlanState) -> Runsheet {
    let mut builder = Builder::default();
    let verify = Action::Verify { required: vec![from.target.clone()], probed: Vec::new() };
    let verify = builder.derived("ready/verify", SheetPhase::Ready, verify, "cleanup, ready");
    let mut before = verify;
    for machine in in_reverse(from, made) {
        let id = format!("land/discard/{machine}");
        let action = Action::Discard { machine, site: from.target.clone(), drill: Some(drill.to_owned()) };
        let discard = builder.derived(id, SheetPhase::Land, action, "cleanup, land");
        builder.edge(&before, &discard);
        before = discard;
    }
    let action = Action::DiscardBubble { site: from.target.clone(), drill: drill.to_owned() };
    let bubble = builder.derived("land/discard-bubble", SheetPhase::Land, action, "cleanup, land");
    builder.edge(&before, &bubble);
    let mut settled: Vec<StepId> = vec![bubble.clone()];
    for group in from.groups.keys() {
        let id = format!("settle/replicating/{group}");
        let action = Action::AssertReplicating { group: group.clone() };
        let assert = builder.derived(id, SheetPhase::Settle, action, "cleanup, settle");
        builder.edge(&bubble, &assert);
        settled.push(assert);
    }
    let machines = from.machines.keys().cloned().collect();
    let action = Action::Unlock { machines, state: now.after(Kind::Cleanup) };
    let unlock = builder.derived("settle/unlock", SheetPhase::Settle, action, "cleanup, settle");
    builder.join(&settled, std::slice::from_ref(&unlock));
    let report = builder.derived("settle/report", SheetPhase::Settle, Action::Report, "cleanup, settle");
    builder.edge(&unlock, &report);
    let (nodes, edges, left_out, _) = builder.finish().unwrap_or_default();
    Runsheet {
        operation: Operation { kind: Kind::Cleanup, direction: from.operation.direction },
        keep: None,
        hooks: Default::default(),
        nodes,
        edges,
        left_out,
        ..from.clone()
    }
}

/// Those started last go first; those never started, last.
fn in_reverse(from: &Runsheet, made: &[MachineName]) -> Vec<MachineName> {
    let started = |machine: &MachineName| {
        from.nodes.iter().position(|node| matches!(&node.action, Action::Start { machine: of, .. } if of == machine))
    };
    let mut machines: Vec<MachineName> = made.to_vec();
    machines.sort();
    machines.dedup();
    machines.sort_by_key(|machine| std::cmp::Reverse(started(machine)));
    machines
}
