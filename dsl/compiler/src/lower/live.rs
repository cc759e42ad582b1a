//! Test, planned and unplanned: the three ways a plan rises.

use super::Job;
use super::address::View;
use super::build::{Builder, Flow, default_within};
use super::rise::{self, Place};
use crate::model::StageModel;
use muster_runsheet::{Action, Direction, FenceProof, GroupName, MachineName, MachineSheet, SheetPhase, StepId};
use std::collections::{BTreeMap, BTreeSet};

/// All machines of the plan, rebuilt ones included.
pub(super) fn machines(job: &Job<'_>) -> Vec<MachineName> {
    job.plan.machines.keys().map(|name| name.as_str().into()).collect()
}

/// Those that are recovered from a point.
pub(super) fn recovered<'a>(job: &Job<'a>) -> Vec<(MachineName, &'a MachineSheet)> {
    let known = job.plan.machines.keys().filter(|name| !job.plan.created.contains(name));
    known
        .filter_map(|name| job.program.estate.machines.get_key_value(name.as_str()))
        .map(|(name, sheet)| (name.clone(), sheet))
        .collect()
}

pub(super) fn groups(job: &Job<'_>) -> Vec<GroupName> {
    job.plan.groups.iter().map(|name| name.as_str().into()).collect()
}

/// The point each machine waits for: that of its group.
fn point_of(job: &Job<'_>, machine: &MachineName) -> Option<StepId> {
    let group = job.program.estate.machines.get(machine)?.group.as_ref()?;
    job.plan.groups.iter().any(|name| name == group.as_str()).then(|| StepId::new(format!("point/{group}")))
}

pub(super) fn ready(job: &Job<'_>, builder: &mut Builder, verify: Action, drill: bool) -> StepId {
    let rule = job.operation.kind.word();
    let verify = builder.derived("ready/verify", SheetPhase::Ready, verify, &format!("{rule}, ready"));
    let action = Action::Lock { machines: machines(job), drill };
    let lock = builder.derived("ready/lock", SheetPhase::Ready, action, &format!("{rule}, ready"));
    builder.edge(&verify, &lock);
    lock
}

/// Unlock and report behind everything in `before`.
pub(super) fn settle(job: &Job<'_>, builder: &mut Builder, before: &[StepId]) {
    let rule = format!("{}, settle", job.operation.kind.word());
    let action = Action::Unlock { machines: machines(job), state: job.state_after() };
    let unlock = builder.derived("settle/unlock", SheetPhase::Settle, action, &rule);
    builder.join(before, std::slice::from_ref(&unlock));
    let report = builder.derived("settle/report", SheetPhase::Settle, Action::Report, &rule);
    builder.edge(&unlock, &report);
}

pub(super) fn test(job: &Job<'_>, builder: &mut Builder) {
    let verify = Action::Verify { required: vec![job.target.clone()], probed: Vec::new() };
    let lock = ready(job, builder, verify, true);
    let all = recovered(job);
    for group in groups(job) {
        let action = Action::PickPoint { group: group.clone(), choice: job.point() };
        let point = builder.derived(format!("point/{group}"), SheetPhase::Point, action, "test, point");
        builder.edge(&lock, &point);
    }
    let sheets = all.iter().map(|(_, sheet)| *sheet);
    let networks = job.addresses.drill_networks(sheets, &job.source, &job.target);
    let action = Action::Bubble { site: job.target.clone(), networks };
    let bubble = builder.derived("bubble", SheetPhase::Land, action, "test, land");
    builder.edge(&lock, &bubble);
    for (machine, sheet) in &all {
        let nics = job.addresses.drill_nics(sheet, &job.source, &job.target);
        let action = Action::Clone { machine: machine.clone(), site: job.target.clone(), nics };
        let land = builder.derived(format!("land/{machine}"), SheetPhase::Land, action, "test, land");
        builder.edge(&bubble, &land);
        if let Some(point) = point_of(job, machine) {
            builder.edge(&point, &land);
        }
    }
    let addressed = View::Drill { source: job.source.clone(), target: job.target.clone() };
    let place = Place { site: job.target.clone(), addressed, phase: SheetPhase::Rise, before: "" };
    let mut ends = rise::stages(job, builder, &place, &bubble);
    ends.extend(all.iter().map(|(machine, _)| StepId::new(format!("land/{machine}"))));
    settle(job, builder, &ends);
}

pub(super) fn planned(job: &Job<'_>, builder: &mut Builder) {
    let verify = Action::Verify { required: vec![job.source.clone(), job.target.clone()], probed: Vec::new() };
    let lock = ready(job, builder, verify, false);
    let stops = leave(job, builder, &lock, false);
    let mut points = Vec::new();
    for group in groups(job) {
        let action = Action::SyncFinal { group: group.clone() };
        let point = builder.derived(format!("point/{group}"), SheetPhase::Point, action, "planned, point");
        wait_for_members(job, builder, &group, &stops, &lock, &point);
        points.push(point);
    }
    rise_live(job, builder, &points, &stops, FenceProof::PowerOff);
}

pub(super) fn unplanned(job: &Job<'_>, builder: &mut Builder) {
    let verify = Action::Verify { required: vec![job.target.clone()], probed: vec![job.source.clone()] };
    let lock = ready(job, builder, verify, false);
    let stops = leave(job, builder, &lock, true);
    let mut points = Vec::new();
    for group in groups(job) {
        let action = Action::PickPoint { group: group.clone(), choice: job.point() };
        let point = builder.derived(format!("point/{group}"), SheetPhase::Point, action, "unplanned, point");
        wait_for_members(job, builder, &group, &stops, &lock, &point);
        points.push(point);
    }
    rise_live(job, builder, &points, &stops, FenceProof::PowerOffOrSignature);
}

/// A group's point is made once all its machines have been told to stop.
fn wait_for_members(
    job: &Job<'_>,
    builder: &mut Builder,
    group: &GroupName,
    stops: &Stops,
    lock: &StepId,
    point: &StepId,
) {
    builder.edge(lock, point);
    let Some(sheet) = job.program.estate.groups.get(group) else { return };
    for stop in sheet.machines.iter().filter_map(|machine| stops.of.get(machine)) {
        builder.edge(stop, point);
    }
}

struct Stops {
    of: BTreeMap<MachineName, StepId>,
    ends: Vec<StepId>,
}

/// Going down is coming up, backwards: stages reversed, each with its `down` lines first, then its stops.
fn leave(job: &Job<'_>, builder: &mut Builder, lock: &StepId, best_effort: bool) -> Stops {
    let addressed = View::Site(job.source.clone());
    let place = Place { site: job.source.clone(), addressed, phase: SheetPhase::Leave, before: "leave/" };
    let mut stops = Stops { of: BTreeMap::new(), ends: Vec::new() };
    let mut ends: BTreeMap<&str, StepId> = BTreeMap::new();
    for stage in job.plan.stages.iter().rev() {
        let flow = leave_stage(job, builder, &place, stage, best_effort, &mut stops.of);
        let rule = "the reverse of `after`";
        let end = builder.derived(format!("leave/{}.end", stage.name), SheetPhase::Leave, Action::Barrier, rule);
        builder.in_stage(&end, &stage.name);
        let later = job.plan.stages.iter().filter(|later| later.after.contains(&stage.name));
        let mut before: Vec<StepId> = later.filter_map(|later| ends.get(later.name.as_str()).cloned()).collect();
        if before.is_empty() {
            before.push(lock.clone());
        }
        if flow.is_empty() {
            builder.join(&before, std::slice::from_ref(&end));
        } else {
            builder.join(&before, &flow.entries);
            builder.join(&flow.exits, std::slice::from_ref(&end));
        }
        ends.insert(&stage.name, end);
    }
    stops.ends = ends.into_values().collect();
    stops
}

fn leave_stage(
    job: &Job<'_>,
    builder: &mut Builder,
    place: &Place,
    stage: &StageModel,
    best_effort: bool,
    stops: &mut BTreeMap<MachineName, StepId>,
) -> Flow {
    let mut flow = Flow::default();
    let known: BTreeSet<StepId> = builder.ids().cloned().collect();
    for lines in rise::downs(job, &stage.lines) {
        let next = rise::lines(job, builder, place, stage, lines);
        flow = builder.then(flow, next);
    }
    let written: Vec<StepId> = builder.ids().filter(|id| !known.contains(*id)).cloned().collect();
    let budget = default_within("stop-budget");
    for id in &written {
        if let Some(Action::Stop { machine, .. }) = builder.action(id) {
            stops.insert(machine.clone(), id.clone());
        }
        if best_effort {
            builder.best_effort(id, budget);
        }
    }
    for names in rise::stop_order(job, &stage.lines) {
        let mut beside = Flow::default();
        for name in names {
            let machine = MachineName::new(name);
            if stops.contains_key(&machine) {
                continue;
            }
            let action = Action::Stop { machine: machine.clone(), site: job.source.clone() };
            let id = builder.derived(
                format!("leave/{}.stop/{machine}", stage.name),
                SheetPhase::Leave,
                action,
                "the reverse of `after`",
            );
            builder.in_stage(&id, &stage.name);
            if best_effort {
                builder.best_effort(&id, budget);
            }
            stops.insert(machine, id.clone());
            beside = beside.beside(Flow::one(id));
        }
        flow = builder.then(flow, beside);
    }
    flow
}

/// No return, fence, promote, stages, hydrate, unlock, report.
fn rise_live(job: &Job<'_>, builder: &mut Builder, points: &[StepId], stops: &Stops, proof: FenceProof) {
    // At home the machines' own disks lie ready: they are brought to the point in place, whatever led to the way home.
    // Where it ends at another site there are none.
    let differences = job.operation.direction == Direction::Back && job.target.as_str() == job.plan.from;
    let kind = job.operation.kind.word();
    let no_return = builder.derived("no-return", SheetPhase::Land, Action::NoReturn, &format!("{kind}, land"));
    builder.join(points, std::slice::from_ref(&no_return));
    builder.join(&stops.ends, std::slice::from_ref(&no_return));
    builder.pass_no_return();
    let action = Action::Fence { site: job.source.clone(), machines: machines(job), proof };
    let fence = builder.derived("fence", SheetPhase::Land, action, &format!("{kind}, land"));
    builder.edge(&no_return, &fence);
    let all = recovered(job);
    for (machine, sheet) in &all {
        let nics = job.addresses.nics(sheet, &job.target);
        let action = Action::Promote { machine: machine.clone(), site: job.target.clone(), nics, differences };
        let land = builder.derived(format!("land/{machine}"), SheetPhase::Land, action, &format!("{kind}, land"));
        builder.edge(&fence, &land);
    }
    let addressed = View::Site(job.target.clone());
    let place = Place { site: job.target.clone(), addressed, phase: SheetPhase::Rise, before: "" };
    let ends = rise::stages(job, builder, &place, &fence);
    let mut settled = ends.clone();
    for (machine, _) in &all {
        let action = Action::Hydrate { machine: machine.clone(), site: job.target.clone() };
        let id = format!("settle/hydrate/{machine}");
        let hydrate = builder.derived(id, SheetPhase::Settle, action, &format!("{kind}, settle"));
        builder.join(&ends, std::slice::from_ref(&hydrate));
        builder.edge(&StepId::new(format!("land/{machine}")), &hydrate);
        settled.push(hydrate);
    }
    settle(job, builder, &settled);
}
