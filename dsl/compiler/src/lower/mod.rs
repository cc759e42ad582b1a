//! From a resolved plan to the graph of one operation, by the table of operations.
//!
//! ```text
//! ready -> leave -> point -> land -> rise -> settle
//! ```
//!
//! Steps of people are copied, never rewritten; what the table adds around them carries the rule that made it.

mod address;
mod around;
mod build;
mod cleanup;
mod live;
mod repoint;
mod rise;

pub(crate) use address::Addresses;
pub use cleanup::{cleanup_sheet, cleanup_sheet_from};
pub use repoint::repoint_sheet;
pub(crate) use rise::http_target;

use crate::hooks::HookModel;
use crate::model::{Condition, PlanModel};
use crate::routes::RouteModel;
use crate::{CompileOptions, Program};
use build::Builder;
use muster_diagnostics::Diagnostic;
use muster_runsheet::{
    Action, Carriers, Direction, GroupName, HookName, Kind, Operation, Phase, PlanState, PointChoice, RUNSHEET_FORMAT,
    Runsheet, SiteName, TeamSheet,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Everything the phases need to know about one compilation.
pub(crate) struct Job<'a> {
    pub program: &'a Program,
    pub plan: &'a PlanModel,
    pub operation: Operation,
    pub options: &'a CompileOptions,
    pub source: SiteName,
    pub target: SiteName,
    pub addresses: Addresses<'a>,
}

impl<'a> Job<'a> {
    pub(crate) fn hook(&self, name: &str) -> Option<&'a HookModel> {
        self.program.hooks.get(name)
    }
    pub(crate) fn route(&self) -> &'a RouteModel {
        let index = if self.operation.direction == Direction::Back { self.plan.back_route } else { self.plan.route };
        &self.program.routes[index]
    }
    /// The value that holds in this operation: one whose condition names it, else the one without condition.
    fn choose<'v, T>(&self, values: impl Iterator<Item = (&'v Condition, T)> + Clone) -> Option<T> {
        let named = values.clone().find(|(condition, _)| !condition.0.is_empty() && condition.holds(self.operation));
        named.or_else(|| values.clone().find(|(condition, _)| condition.0.is_empty())).map(|(_, value)| value)
    }
    /// Who carries, and which name server answers for which, from the source to the target.
    fn way(&self) -> (Carriers, Vec<(IpAddr, IpAddr)>) {
        let route = &self.route().sheet;
        if route.left == self.source {
            return (route.rightward.clone(), route.resolvers.clone());
        }
        (route.leftward.clone(), route.resolvers.iter().map(|(left, right)| (*right, *left)).collect())
    }
    pub(crate) fn point(&self) -> PointChoice {
        if let Some(point) = &self.options.point {
            return PointChoice::Named { point: point.clone() };
        }
        let chosen = self.choose(self.plan.points.iter().map(|(condition, choice, _)| (condition, choice)));
        chosen.cloned().unwrap_or(match self.operation.kind {
            Kind::Test => PointChoice::LatestProcessed,
            _ => PointChoice::Latest,
        })
    }
    /// Where the plan stands after this operation.
    pub(crate) fn state_after(&self) -> PlanState {
        let phase = match self.operation.kind {
            Kind::Test | Kind::Cleanup | Kind::Planned | Kind::Unplanned => Phase::Protected,
            Kind::Cancel | Kind::Commit | Kind::Repoint => Phase::FailedOver,
            Kind::Reprotect => Phase::Committed,
        };
        let now = PlanState { phase, direction: self.operation.direction, drilled: self.options.drilled };
        now.after(self.operation.kind)
    }
}

pub(crate) fn compile(
    program: &Program,
    plan: &PlanModel,
    operation: Operation,
    options: &CompileOptions,
) -> Result<Runsheet, Vec<Diagnostic>> {
    if let Some(moved) = moved_for_good(plan, operation) {
        return Err(vec![moved]);
    }
    let (job, builder) = lower(program, plan, operation, options)?;
    let (nodes, edges, left_out, hooks) = builder.finish()?;
    let mut sheet = frame(&job);
    (sheet.nodes, sheet.edges, sheet.left_out) = (nodes, edges, left_out);
    sheet.hooks = hook_sheets(program, &hooks);
    sheet.teams = teams_of(program, &sheet);
    sheet.assumptions = sheet.taken_for_granted();
    Ok(sheet)
}

/// Where the way home has ended at another site, the plan's next way out begins there: it would move machines from a site
/// where they no longer are. Said when it is asked for, since until then nothing is wrong with the plan.
fn moved_for_good(plan: &PlanModel, operation: Operation) -> Option<Diagnostic> {
    let home = plan.back.as_ref().filter(|home| **home != plan.from)?;
    let asked = (operation.kind, operation.direction) == (Kind::Reprotect, Direction::Back);
    asked.then(|| {
        Diagnostic::error(
            601,
            format!("production is at `{home}` for good, and plan `{}` moves it from `{}`", plan.name, plan.from),
            plan.span,
            "asked of this plan",
        )
        .help(format!(
            "write `move = {home} -> {}`, with addresses of `{home}`; then `muster inventory pull`, and reprotect again",
            plan.to
        ))
    })
}

/// What is wrong with an operation. Its graph is built and checked; the sheet around it is not, which nobody would read.
pub(crate) fn check(program: &Program, plan: &PlanModel, operation: Operation) -> Vec<Diagnostic> {
    match lower(program, plan, operation, &CompileOptions::default()) {
        Ok((_, builder)) => builder.errors(),
        Err(found) => found,
    }
}

fn lower<'a>(
    program: &'a Program,
    plan: &'a PlanModel,
    operation: Operation,
    options: &'a CompileOptions,
) -> Result<(Job<'a>, Builder), Vec<Diagnostic>> {
    let (source, target) = plan.ends(operation.direction);
    let job = Job {
        program,
        plan,
        operation,
        options,
        source: source.into(),
        target: target.into(),
        addresses: Addresses::new(program, plan),
    };
    let mut builder = Builder::default();
    match operation.kind {
        Kind::Test => live::test(&job, &mut builder),
        Kind::Planned => live::planned(&job, &mut builder),
        Kind::Unplanned => live::unplanned(&job, &mut builder),
        Kind::Cancel => around::cancel(&job, &mut builder),
        Kind::Commit => around::commit(&job, &mut builder),
        Kind::Reprotect => around::reprotect(&job, &mut builder),
        Kind::Cleanup | Kind::Repoint => {
            let message = match operation.kind {
                Kind::Repoint => "a repoint is made from the runsheet of its failover, not from the plan",
                _ => "a cleanup is made from the runsheet of its drill, not from the plan",
            };
            return Err(vec![Diagnostic::error(601, message, plan.span, "asked of this plan")]);
        }
    }
    builder.check_order();
    builder.check_disks(program);
    Ok((job, builder))
}

/// The sheet without its steps.
fn frame(job: &Job<'_>) -> Runsheet {
    let (program, plan) = (job.program, job.plan);
    let groups: BTreeMap<GroupName, _> = plan
        .groups
        .iter()
        .filter_map(|name| program.estate.groups.get(name.as_str()))
        .map(|group| (group.name.clone(), group.clone()))
        .collect();
    let machines: BTreeMap<_, _> = plan
        .machines
        .keys()
        .filter_map(|name| program.estate.machines.get_key_value(name.as_str()))
        .map(|(name, machine)| (name.clone(), machine.clone()))
        .collect();
    let ends = [Some(&plan.from), Some(&plan.to), plan.back.as_ref()];
    let sites: BTreeMap<_, _> = ends
        .into_iter()
        .flatten()
        .filter_map(|name| program.estate.sites.get_key_value(name.as_str()))
        .map(|(name, site)| (name.clone(), site.clone()))
        .collect();
    let drilled = machines.iter().filter(|(name, _)| !plan.created.iter().any(|created| name.as_str() == created));
    let test_networks = match job.operation.kind {
        Kind::Test => job.addresses.test_networks(drilled.map(|(_, machine)| machine), &job.source, &job.target),
        _ => Vec::new(),
    };
    let (carriers, resolvers) = job.way();
    let keep = job.choose(plan.keep.iter().map(|(condition, keep)| (condition, *keep)));
    Runsheet {
        format: RUNSHEET_FORMAT.to_owned(),
        plan: plan.name.as_str().into(),
        operation: job.operation,
        source: job.source.clone(),
        target: job.target.clone(),
        rto: plan.rto.map(|(rto, _)| rto),
        rpo: plan.rpo.map(|(rpo, _)| rpo),
        owner: plan.owner.clone(),
        keep: keep.filter(|_| job.operation.kind == Kind::Test),
        vault: job.route().sheet.vault.clone(),
        carriers,
        resolvers,
        test_networks,
        teams: BTreeMap::new(),
        inventory: program.inventory.clone(),
        sites,
        groups,
        machines,
        hooks: BTreeMap::new(),
        assumptions: Vec::new(),
        nodes: Vec::new(),
        edges: Vec::new(),
        left_out: Vec::new(),
    }
}

/// The teams that steps ask or tell, and the owner.
fn teams_of(program: &Program, sheet: &Runsheet) -> BTreeMap<String, TeamSheet> {
    let named = sheet.nodes.iter().filter_map(|node| match &node.action {
        Action::Approve { by, .. } | Action::Manual { by, .. } => Some(by),
        Action::Notify { to, .. } => Some(to),
        _ => None,
    });
    let known = |name: &String| program.estate.teams.get_key_value(name);
    named.chain(&sheet.owner).filter_map(known).map(|(name, team)| (name.clone(), team.clone())).collect()
}

/// The hooks that steps use, and those that undo them.
fn hook_sheets(program: &Program, used: &[String]) -> BTreeMap<HookName, muster_runsheet::HookSheet> {
    let mut sheets = BTreeMap::new();
    let mut waiting: Vec<String> = used.to_vec();
    while let Some(name) = waiting.pop() {
        let Some(hook) = program.hooks.get(&name).filter(|hook| !hook.builtin) else { continue };
        if sheets.insert(hook.sheet.name.clone(), hook.sheet.clone()).is_none() {
            waiting.extend(hook.sheet.undo.iter().map(|undo| undo.as_str().to_owned()));
        }
    }
    sheets
}
