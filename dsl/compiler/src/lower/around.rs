//! Cancel, commit and reprotect: what is done around a failover.

use super::Job;
use super::build::{Builder, Flow};
use super::live::{groups, machines, ready, settle};
use super::rise;
use muster_runsheet::{Action, FenceProof, MachineName, SheetPhase, StepId};
use std::collections::BTreeMap;

/// Ends a failover before it is committed: away with what was landed, and the source starts again.
pub(super) fn cancel(job: &Job<'_>, builder: &mut Builder) {
    let verify = Action::Verify { required: vec![job.source.clone(), job.target.clone()], probed: Vec::new() };
    let lock = ready(job, builder, verify, false);
    let mut flow = Flow::one(lock);
    for stage in job.plan.stages.iter().rev() {
        for names in rise::stop_order(job, &stage.lines) {
            let mut beside = Flow::default();
            for machine in names.into_iter().map(MachineName::new) {
                let action = Action::Stop { machine: machine.clone(), site: job.target.clone() };
                let id = format!("leave/{}.stop/{machine}", stage.name);
                let stop = builder.derived(id, SheetPhase::Leave, action, "cancel, leave");
                builder.in_stage(&stop, &stage.name);
                beside = beside.beside(Flow::one(stop));
            }
            flow = builder.then(flow, beside);
        }
    }
    let discard = |builder: &mut Builder, machine: MachineName| {
        let id = format!("land/discard/{machine}");
        let action = Action::Discard { machine, site: job.target.clone(), drill: None };
        Flow::one(builder.derived(id, SheetPhase::Land, action, "cancel, land"))
    };
    let gone = machines(job).into_iter().fold(Flow::default(), |flow, machine| flow.beside(discard(builder, machine)));
    flow = builder.then(flow, gone);
    let action = Action::Unfence { site: job.source.clone(), machines: machines(job) };
    let unfence = builder.derived("unfence", SheetPhase::Land, action, "cancel, land");
    builder.then(flow, Flow::one(unfence.clone()));
    let ends = start_again(job, builder, &unfence);
    settle(job, builder, &ends);
}

/// The machines at the source, in stage order.
fn start_again(job: &Job<'_>, builder: &mut Builder, unfence: &StepId) -> Vec<StepId> {
    let mut ends: BTreeMap<&str, StepId> = BTreeMap::new();
    for stage in &job.plan.stages {
        let mut flow = Flow::default();
        for names in rise::starts(job, &stage.lines) {
            let mut beside = Flow::default();
            for machine in names.into_iter().map(MachineName::new) {
                let action = Action::Start { machine: machine.clone(), site: job.source.clone() };
                let id = format!("{}.start/{machine}", stage.name);
                let start = builder.derived(id, SheetPhase::Rise, action, "cancel, rise");
                builder.in_stage(&start, &stage.name);
                beside = beside.beside(Flow::one(start));
            }
            flow = builder.then(flow, beside);
        }
        let end = builder.derived(format!("{}.end", stage.name), SheetPhase::Rise, Action::Barrier, "end of a stage");
        builder.in_stage(&end, &stage.name);
        let mut before: Vec<StepId> = stage.after.iter().filter_map(|name| ends.get(name.as_str()).cloned()).collect();
        if before.is_empty() {
            before.push(unfence.clone());
        }
        let entries = if flow.is_empty() { std::slice::from_ref(&end) } else { flow.entries.as_slice() };
        builder.join(&before, entries);
        builder.join(&flow.exits, std::slice::from_ref(&end));
        ends.insert(&stage.name, end);
    }
    ends.into_values().collect()
}

/// Makes a failover final: there is no way back but to fail back.
pub(super) fn commit(job: &Job<'_>, builder: &mut Builder) {
    let verify = Action::Verify { required: vec![job.target.clone()], probed: Vec::new() };
    let lock = ready(job, builder, verify, false);
    let mut before = vec![lock.clone()];
    for group in groups(job) {
        let id = format!("point/{group}");
        let drop = builder.derived(id, SheetPhase::Point, Action::DropPoints { group }, "commit, point");
        builder.edge(&lock, &drop);
        before.push(drop);
    }
    settle(job, builder, &before);
}

/// Turns replication round: from where production now runs, to where it would move next.
pub(super) fn reprotect(job: &Job<'_>, builder: &mut Builder) {
    let now = job.target.clone();
    let (_, next) = job.plan.ends(job.operation.direction.reversed());
    let next = muster_runsheet::SiteName::new(next);
    // Where the way home ends at another site, the first one may be rubble.
    let (probed, proof) = if next == job.source {
        (Vec::new(), FenceProof::FoundOff)
    } else {
        (vec![job.source.clone()], FenceProof::FoundOffOrSignature)
    };
    let lock = ready(job, builder, Action::Verify { required: vec![next.clone(), now.clone()], probed }, false);
    // Production is not protected while it may run twice: a site that came back after somebody signed for its death was
    // never fenced.
    let action = Action::Fence { site: job.source.clone(), machines: machines(job), proof };
    let fence = builder.derived("fence", SheetPhase::Land, action, "reprotect, land");
    builder.edge(&lock, &fence);
    let mut before = vec![fence.clone()];
    for group in groups(job) {
        let action = Action::Reverse { group: group.clone(), source: now.clone(), target: next.clone() };
        let reverse = builder.derived(format!("reverse/{group}"), SheetPhase::Land, action, "reprotect, land");
        builder.edge(&fence, &reverse);
        let action = Action::Resync { group: group.clone() };
        let resync = builder.derived(format!("resync/{group}"), SheetPhase::Land, action, "reprotect, land");
        builder.edge(&reverse, &resync);
        let at_most = lag_of(job, &group);
        let action = Action::AwaitLag { group: group.clone(), at_most };
        let lag = builder.derived(format!("settle/lag/{group}"), SheetPhase::Settle, action, "reprotect, settle");
        builder.edge(&resync, &lag);
        before.push(lag);
    }
    settle(job, builder, &before);
}

/// What the group promises; the plan's own promise when that is tighter.
fn lag_of(job: &Job<'_>, group: &muster_runsheet::GroupName) -> muster_runsheet::Duration {
    let sheet = job.program.estate.groups.get(group);
    let policy = sheet.and_then(|sheet| sheet.policy.as_ref());
    let rpo = policy.and_then(|policy| job.program.estate.policies.get(policy)).map(|policy| policy.rpo);
    let plan = job.plan.rpo.map(|(rpo, _)| rpo);
    rpo.into_iter().chain(plan).min().unwrap_or(muster_runsheet::Duration::from_mins(15))
}
