//! What a plan would miss on the night, though every word of it is right: a machine that nothing makes at home again
//! (E0604), machines of a stage that a drill puts into different networks (E0510), no word about what a machine becomes
//! in a cloud (E0514), a question that one person alone can answer (E0806), a group that nobody would recover (E0314).

use crate::Program;
use crate::context::Context;
use crate::model::{Condition, LineModel, PlanModel, RISING, StepModel, VerbModel};
use crate::plans::Resolved;
use crate::suggest::listed;
use muster_diagnostics::{Diagnostic, Span};
use muster_runsheet::{Direction, TestNetwork};
use muster_syntax::ast::Item;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Providers at which a machine has a size that somebody has to choose.
const SIZED: [&str; 2] = ["azure", "cloud"];

pub(crate) fn check(cx: &Context<'_>, program: &Program, plan: &PlanModel) {
    check_way_home(cx, plan);
    check_bubbles(cx, plan);
    check_sizes(cx, program, plan);
    check_people(cx, program, plan);
}

/// Groups that are replicated and that no plan recovers: E0314. Of files without plans nothing is concluded, nor while
/// some plan could not be read.
pub(crate) fn check_idle_groups(cx: &Context<'_>, plans: &[Resolved], started: &HashSet<&str>) {
    let written = cx.modules.iter().flat_map(|module| &module.ast.items);
    let written = written.filter(|item| matches!(item, Item::Plan(_))).count();
    if plans.is_empty() || written != plans.len() || plans.iter().any(|plan| !plan.steps_whole) || !cx.unread.is_empty()
    {
        return;
    }
    for group in cx.groups.values().filter(|group| group.policy.is_some() && !group.broken) {
        let idle = group.machines.iter().all(|(machine, _)| !started.contains(machine.as_str()));
        if idle && !group.machines.is_empty() {
            cx.push(
                Diagnostic::warning(
                    314,
                    format!("group `{}` is replicated, and no plan recovers it", group.name),
                    group.span,
                    "in no plan",
                )
                .note(format!("its machines are {}", listed(group.machines.iter().map(|(name, _)| name.as_str()))))
                .help("start its machines in a plan, or write `policy = none`"),
            );
        }
    }
}

/// A step with the conditions around it and its own.
pub(crate) type Conditioned<'p> = (&'p StepModel, Vec<&'p Condition>);

/// Every step of some lines.
fn steps<'p>(lines: &'p [LineModel], around: &[&'p Condition], downs: bool, found: &mut Vec<Conditioned<'p>>) {
    for line in lines {
        match line {
            LineModel::Step(step) => {
                let conditions = around.iter().copied().chain([&step.when]).collect();
                found.push((step, conditions));
            }
            LineModel::When(condition, lines) => {
                let around: Vec<&Condition> = around.iter().copied().chain([condition]).collect();
                steps(lines, &around, downs, found);
            }
            LineModel::Down(_) if !downs => {}
            LineModel::Parallel(lines) | LineModel::Sequence(lines) | LineModel::Down(lines) => {
                steps(lines, around, downs, found);
            }
        }
    }
}

fn all_steps(plan: &PlanModel) -> Vec<Conditioned<'_>> {
    let mut found = Vec::new();
    for stage in &plan.stages {
        steps(&stage.lines, &[], true, &mut found);
    }
    found
}

/// Without those of the way down.
pub(crate) fn rising_steps(plan: &PlanModel) -> Vec<Conditioned<'_>> {
    let mut found = Vec::new();
    for stage in &plan.stages {
        steps(&stage.lines, &[], false, &mut found);
    }
    found
}

/// A machine that is made when the plan goes out, and that nothing makes or starts on the way back.
fn check_way_home(cx: &Context<'_>, plan: &PlanModel) {
    let mut out: BTreeMap<&str, Span> = BTreeMap::new();
    let mut back: BTreeSet<&str> = BTreeSet::new();
    for (step, conditions) in all_steps(plan) {
        let (machines, made) = match &step.verb {
            VerbModel::Create { machines, .. } => (machines, true),
            VerbModel::Start { machines, .. } => (machines, false),
            _ => continue,
        };
        let holds = |direction: Direction| {
            let live = RISING.iter().filter(|operation| operation.kind.is_live() && operation.direction == direction);
            live.into_iter().any(|operation| conditions.iter().all(|condition| condition.holds(*operation)))
        };
        for (machine, span) in machines {
            if made && holds(Direction::Out) {
                out.entry(machine).or_insert(*span);
            }
            if holds(Direction::Back) {
                back.insert(machine);
            }
        }
    }
    for (machine, span) in out.into_iter().filter(|(machine, _)| !back.contains(machine)) {
        let home = plan.back.as_deref().unwrap_or(&plan.from);
        cx.push(
            Diagnostic::error(
                604,
                format!("after a failback there is no `{machine}`"),
                span,
                "made on the way out only",
            )
            .note(format!("nothing makes or starts it at `{home}`"))
            .help(format!("let it be made in both directions, or say `create {machine} from \"…\" when back`")),
        );
    }
}

/// Machines that one stage starts talk to each other; a drill must not put them into networks that do not meet.
fn check_bubbles(cx: &Context<'_>, plan: &PlanModel) {
    let route = &cx.routes[plan.route].sheet;
    let bubble_of = |network: &str| {
        let pair =
            route.networks.iter().find(|pair| pair.left.as_str() == network || pair.right.as_str() == network)?;
        Some(match &pair.test {
            TestNetwork::Isolated => "the isolated copy".to_owned(),
            TestNetwork::Network { network, .. } => format!("`{network}`"),
        })
    };
    for stage in &plan.stages {
        let mut found = Vec::new();
        steps(&stage.lines, &[], true, &mut found);
        let mut bubbles: BTreeMap<String, (&str, Span)> = BTreeMap::new();
        for (step, _) in found {
            let VerbModel::Start { machines, .. } = &step.verb else { continue };
            for (machine, span) in machines {
                let Some(facts) = cx.machines.get(machine).and_then(|entry| entry.at.get(plan.from.as_str())) else {
                    continue;
                };
                // One with cards in both is the way between them.
                if let [nic] = facts.nics.as_slice()
                    && let Some(bubble) = bubble_of(nic.network.as_str())
                {
                    bubbles.entry(bubble).or_insert((machine, *span));
                }
            }
        }
        let places: Vec<(&String, &(&str, Span))> = bubbles.iter().collect();
        if let [(one, (a, first)), (other, (b, second)), ..] = places.as_slice() {
            cx.push(
                Diagnostic::warning(
                    510,
                    format!("in a drill `{a}` and `{b}` cannot talk to each other"),
                    *second,
                    format!("lands in {other}"),
                )
                .related(*first, format!("lands in {one}"))
                .note(format!("stage `{}` starts both", stage.name))
                .help("give both networks the same kind of `test` in the route, or start them in different stages"),
            );
        }
    }
}

/// A cloud takes no machine without a size.
fn check_sizes(cx: &Context<'_>, program: &Program, plan: &PlanModel) {
    if cx.places_unread {
        return;
    }
    for site in [Some(&plan.to), plan.back.as_ref()].into_iter().flatten() {
        let provider = program.estate.sites.get(site.as_str()).map_or("", |sheet| sheet.provider.as_str());
        if !SIZED.contains(&provider) {
            continue;
        }
        let has_size = |machine: Option<&String>| {
            cx.places
                .get(&machine.cloned())
                .and_then(|sites| sites.get(site))
                .is_some_and(|facts| facts.contains_key("size"))
        };
        let at_home = |machine: &String| {
            cx.machines.get(machine).is_some_and(|entry| entry.first_site().is_some_and(|home| home.as_str() == *site))
        };
        let without: Vec<&str> = plan
            .machines
            .keys()
            .filter(|machine| !plan.created.contains(machine) && !at_home(machine))
            .filter(|machine| !has_size(None) && !has_size(Some(machine)))
            .map(String::as_str)
            .collect();
        if without.is_empty() {
            continue;
        }
        cx.push(
            Diagnostic::warning(
                514,
                format!(
                    "nothing says what {} become{} at `{site}`",
                    listed(without.clone()),
                    if without.len() == 1 { "s" } else { "" }
                ),
                plan.span,
                "moves them there",
            )
            .note(format!("provider `{provider}` will choose a size by itself, and may have none free"))
            .help(format!("write `place * at {site} {{ size = \"…\" }}`, or one for each machine")),
        );
    }
}

/// Who alone is asked may be asleep, abroad, or under the rubble.
fn check_people(cx: &Context<'_>, program: &Program, plan: &PlanModel) {
    let mut said: BTreeSet<&str> = BTreeSet::new();
    for (step, _) in all_steps(plan) {
        let (VerbModel::Approve { by, .. } | VerbModel::Manual { by, .. }) = &step.verb else { continue };
        let alone = program.estate.teams.get(by).is_some_and(|team| team.members.len() == 1);
        if alone && said.insert(by) {
            cx.push(
                Diagnostic::warning(806, format!("team `{by}` is one person"), step.span, "waits for that one alone")
                    .note("a failover that nobody can consent to does not happen")
                    .help("add a second member to the team"),
            );
        }
    }
}
