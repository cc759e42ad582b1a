//! The steps of people: stages upwards, and `down` blocks.

use super::Job;
use super::address::View;
use super::build::{Builder, Flow};
use crate::model::{LineModel, StageModel, StepModel, VerbModel};
use crate::plans::machines_in;
use crate::value::Value;
use muster_diagnostics::{Diagnostic, Span};
use muster_runsheet::{Action, Kind, MachineName, ProbeCall, SheetPhase, SiteName, StepId};
use std::collections::BTreeMap;

/// Where and for which part of an operation lines are lowered.
pub(crate) struct Place {
    /// The site the steps work at.
    pub site: SiteName,
    /// The addresses machines have: in a drill, those of production.
    pub addressed: View,
    pub phase: SheetPhase,
    /// Before each id: `leave/`.
    pub before: &'static str,
}

/// Lowers all stages upwards. `root` is what everything in a stage without `after` waits for. Returns the ends.
pub(crate) fn stages(job: &Job<'_>, builder: &mut Builder, place: &Place, root: &StepId) -> Vec<StepId> {
    let mut ends: BTreeMap<&str, StepId> = BTreeMap::new();
    for stage in &job.plan.stages {
        let flow = lines(job, builder, place, stage, &stage.lines);
        let end = builder.derived(format!("{}.end", stage.name), place.phase, Action::Barrier, "end of a stage");
        builder.in_stage(&end, &stage.name);
        let mut before: Vec<StepId> = stage.after.iter().filter_map(|name| ends.get(name.as_str()).cloned()).collect();
        if before.is_empty() {
            before.push(root.clone());
        }
        if flow.is_empty() {
            builder.join(&before, std::slice::from_ref(&end));
        } else {
            builder.join(&before, &flow.entries);
            builder.join(&flow.exits, std::slice::from_ref(&end));
        }
        ends.insert(&stage.name, end);
    }
    ends.into_values().collect()
}

pub(crate) fn lines(
    job: &Job<'_>,
    builder: &mut Builder,
    place: &Place,
    stage: &StageModel,
    lines: &[LineModel],
) -> Flow {
    let mut flow = Flow::default();
    for line in lines {
        let next = self::line(job, builder, place, stage, line);
        flow = builder.then(flow, next);
    }
    flow
}

fn line(job: &Job<'_>, builder: &mut Builder, place: &Place, stage: &StageModel, line: &LineModel) -> Flow {
    match line {
        LineModel::Step(model) if model.when.holds(job.operation) => step(job, builder, place, stage, model),
        LineModel::Step(model) => {
            leave_out(builder, place, stage, line, &model.when.words());
            Flow::default()
        }
        LineModel::When(condition, inner) if condition.holds(job.operation) => lines(job, builder, place, stage, inner),
        LineModel::When(condition, _) => {
            leave_out(builder, place, stage, line, &condition.words());
            Flow::default()
        }
        LineModel::Sequence(inner) => lines(job, builder, place, stage, inner),
        LineModel::Parallel(inner) => {
            let mut flow = Flow::default();
            for line in inner {
                flow = flow.beside(self::line(job, builder, place, stage, line));
            }
            flow
        }
        LineModel::Down(_) => Flow::default(),
    }
}

fn leave_out(builder: &mut Builder, place: &Place, stage: &StageModel, line: &LineModel, why: &str) {
    match line {
        LineModel::Step(model) => {
            for id in ids(place, stage, model) {
                builder.leave_out(id, why.to_owned());
            }
        }
        LineModel::When(_, inner) | LineModel::Parallel(inner) | LineModel::Sequence(inner) => {
            for line in inner {
                leave_out(builder, place, stage, line, why);
            }
        }
        LineModel::Down(_) => {}
    }
}

/// The ids a step would have, one for each machine.
fn ids(place: &Place, stage: &StageModel, step: &StepModel) -> Vec<String> {
    let (verb, machines): (String, &[(String, Span)]) = match &step.verb {
        VerbModel::Start { machines, .. } => ("start".into(), machines),
        VerbModel::Stop { machines, .. } => ("stop".into(), machines),
        VerbModel::Create { machines, .. } => ("create".into(), machines),
        VerbModel::Check { machines, probe, .. } if crowded(stage, step, machines) => {
            (format!("check-{probe}"), machines)
        }
        VerbModel::Check { machines, .. } => ("check".into(), machines),
        VerbModel::Run { hook, .. } => (hook.clone(), &[]),
        VerbModel::Approve { .. } => ("approve".into(), &[]),
        VerbModel::Manual { .. } => ("manual".into(), &[]),
        VerbModel::Wait { .. } => ("wait".into(), &[]),
        VerbModel::Notify { .. } => ("notify".into(), &[]),
    };
    let mut path = vec![stage.name.as_str()];
    path.extend(step.prefix.iter().map(String::as_str));
    path.push(step.label.as_ref().unwrap_or(&verb));
    let path = format!("{}{}", place.before, path.join("."));
    match &step.verb {
        VerbModel::Start { .. } | VerbModel::Stop { .. } | VerbModel::Create { .. } | VerbModel::Check { .. } => {
            machines.iter().map(|(machine, _)| format!("{path}/{machine}")).collect()
        }
        _ => vec![path],
    }
}

/// Whether the stage checks one of these machines in several unnamed ways; then the probe is in the name.
fn crowded(stage: &StageModel, step: &StepModel, machines: &[(String, Span)]) -> bool {
    fn count(lines: &[LineModel], prefix: &[String], machine: &str) -> usize {
        let of = |line: &LineModel| match line {
            LineModel::Step(step) => match &step.verb {
                VerbModel::Check { machines, .. } if step.label.is_none() && step.prefix == prefix => {
                    machines.iter().filter(|(name, _)| name == machine).count()
                }
                _ => 0,
            },
            LineModel::When(_, inner) | LineModel::Parallel(inner) | LineModel::Sequence(inner) => {
                count(inner, prefix, machine)
            }
            LineModel::Down(_) => 0,
        };
        lines.iter().map(of).sum()
    }
    machines.iter().any(|(machine, _)| count(&stage.lines, &step.prefix, machine) > 1)
}

fn step(job: &Job<'_>, builder: &mut Builder, place: &Place, stage: &StageModel, step: &StepModel) -> Flow {
    let actions = actions(job, builder, place, step);
    let ids = ids(place, stage, step).into_iter();
    let made: Vec<(StepId, Span)> = ids
        .zip(actions)
        .map(|(id, (action, span))| (builder.written(id, place.phase, &stage.name, action, step), span))
        .collect();
    attach(builder, place, step, &made);
    let ids: Vec<StepId> = made.into_iter().map(|(id, _)| id).collect();
    match step.verb {
        VerbModel::Start { in_turn: true, .. } | VerbModel::Stop { in_turn: true, .. } => builder.chain(ids),
        _ => ids.into_iter().fold(Flow::default(), |flow, id| flow.beside(Flow::one(id))),
    }
}

/// What a step does, once for each of its machines, in their order.
fn actions(job: &Job<'_>, builder: &mut Builder, place: &Place, step: &StepModel) -> Vec<(Action, Span)> {
    let site = || place.site.clone();
    let each = |machines: &[(String, Span)], action: &dyn Fn(MachineName) -> Action| {
        machines.iter().map(|(machine, span)| (action(machine.as_str().into()), *span)).collect()
    };
    let text = |text: &str| job.addresses.text(text, &place.addressed, &job.source, &job.target);
    let one = |action| vec![(action, step.span)];
    match &step.verb {
        VerbModel::Start { machines, .. } => each(machines, &|machine| Action::Start { machine, site: site() }),
        VerbModel::Stop { machines, .. } => {
            for (machine, span) in machines.iter().filter(|(machine, _)| !job.plan.machines.contains_key(machine)) {
                builder.diagnose(
                    Diagnostic::error(
                        611,
                        format!("the plan does not own `{machine}`"),
                        *span,
                        "not started by this plan",
                    )
                    .help("a plan stops only machines that it starts"),
                );
            }
            each(machines, &|machine| Action::Stop { machine, site: site() })
        }
        VerbModel::Create { machines, from } => {
            each(machines, &|machine| Action::Create { machine, site: site(), from: from.clone() })
        }
        VerbModel::Check { machines, probe, arguments } => {
            forbid_outside(job, builder, probe, step);
            let probe = probe_call(job, builder, place, probe, arguments);
            each(machines, &|machine| {
                let probe = about(job, probe.clone(), &machine);
                Action::Check { machine, site: site(), probe }
            })
        }
        VerbModel::Run { hook, arguments } => {
            forbid_outside(job, builder, hook, step);
            builder.use_hook(hook);
            one(Action::Run { hook: hook.as_str().into(), arguments: values(job, place, hook, arguments) })
        }
        VerbModel::Approve { text: shown, by } => one(Action::Approve { text: text(shown), by: by.clone() }),
        VerbModel::Manual { text: shown, by } => one(Action::Manual { text: text(shown), by: by.clone() }),
        VerbModel::Wait { duration } => one(Action::Wait { duration: *duration }),
        VerbModel::Notify { to, text: shown } => one(Action::Notify { to: to.clone(), text: text(shown) }),
    }
}

/// Edges from the landing of every machine a step works with, and the record of starts.
fn attach(builder: &mut Builder, place: &Place, step: &StepModel, made: &[(StepId, Span)]) {
    if place.phase != SheetPhase::Rise {
        return;
    }
    let arguments = match &step.verb {
        VerbModel::Check { arguments, .. } | VerbModel::Run { arguments, .. } => Some(arguments),
        _ => None,
    };
    let named: Vec<&str> = arguments.into_iter().flat_map(|all| all.values()).flat_map(machines_in).collect();
    for (id, span) in made {
        let own = builder.action(id).and_then(|action| action.machine().cloned());
        if let Some(machine) = &own
            && matches!(step.verb, VerbModel::Start { .. } | VerbModel::Create { .. })
        {
            builder.start(machine, id, *span);
        }
        for machine in own.iter().map(|machine| machine.as_str()).chain(named.iter().copied()) {
            let land = format!("land/{machine}");
            if builder.has(&land) {
                builder.edge(&StepId::new(land), id);
            }
        }
    }
}

/// A step that can reach out of the bubble has no place in a drill: E0610.
fn forbid_outside(job: &Job<'_>, builder: &mut Builder, hook: &str, step: &StepModel) {
    if job.operation.kind != Kind::Test {
        return;
    }
    if let Some(model) = job.hook(hook).filter(|hook| hook.is_outside()) {
        builder.diagnose(
            Diagnostic::error(
                610,
                format!("in a drill `{hook}` would reach outside the bubble"),
                step.span,
                "runs in `test` too",
            )
            .related(model.span, "its `needs` name something outside")
            .note("a drill must not be able to touch production")
            .help("let it run only in earnest: `when live`"),
        );
    }
}

fn values(
    job: &Job<'_>,
    place: &Place,
    hook: &str,
    arguments: &BTreeMap<String, Value>,
) -> BTreeMap<String, muster_runsheet::Value> {
    let Some(model) = job.hook(hook) else { return BTreeMap::new() };
    let ends = (&job.source, &job.target);
    let of = |name: &String| model.parameters.iter().find(|parameter| parameter.name == *name);
    arguments
        .iter()
        .filter_map(|(name, value)| {
            let value = job.addresses.value(value, &of(name)?.kind, &place.addressed, ends);
            Some((name.clone(), value))
        })
        .collect()
}

fn probe_call(
    job: &Job<'_>,
    builder: &mut Builder,
    place: &Place,
    name: &str,
    arguments: &BTreeMap<String, Value>,
) -> ProbeCall {
    use muster_runsheet::Value as Out;
    let arguments = values(job, place, name, arguments);
    if job.hook(name).is_none_or(|hook| !hook.builtin) {
        builder.use_hook(name);
        return ProbeCall::Hook { hook: name.into(), arguments };
    }
    let text = |name: &str| if let Some(Out::Text(text)) = arguments.get(name) { text.clone() } else { String::new() };
    match name {
        "tcp" => {
            let port = if let Some(Out::Port(port)) = arguments.get("port") { *port } else { 0 };
            ProbeCall::Tcp { port }
        }
        "http" => {
            // Its form was checked when the step was read.
            let (port, path) = http_target(&text("target")).unwrap_or((80, "/".to_owned()));
            ProbeCall::Http { port, path }
        }
        "command" => {
            let list = if let Some(Out::List(list)) = arguments.get("arguments") { list.as_slice() } else { &[] };
            let words =
                list.iter().filter_map(|item| if let Out::Text(text) = item { Some(text.clone()) } else { None });
            ProbeCall::Command { program: text("program"), arguments: words.collect() }
        }
        _ => ProbeCall::Guest,
    }
}

/// The probe with the machine under check as its `machine`, when it takes one and was given none.
fn about(job: &Job<'_>, probe: ProbeCall, machine: &MachineName) -> ProbeCall {
    match probe {
        ProbeCall::Hook { hook, mut arguments } => {
            if job.hook(hook.as_str()).is_some_and(|model| model.takes_machine()) {
                let checked = || muster_runsheet::Value::Machine(machine.clone());
                arguments.entry("machine".to_owned()).or_insert_with(checked);
            }
            ProbeCall::Hook { hook, arguments }
        }
        other => other,
    }
}

/// `:8080/ready`, `/ready`.
pub(crate) fn http_target(text: &str) -> Option<(u16, String)> {
    let (port, path) = match text.strip_prefix(':') {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            (rest[..end].parse().ok().filter(|port| *port != 0)?, &rest[end..])
        }
        None => (80, text),
    };
    match path {
        "" if text.starts_with(':') => Some((port, "/".to_owned())),
        path if path.starts_with('/') && !path.contains([' ', '\r', '\n']) => Some((port, path.to_owned())),
        _ => None,
    }
}

/// The machines of a stage in the order they are to stop: those started last first. Inner lists stop side by side.
pub(crate) fn stop_order(job: &Job<'_>, lines: &[LineModel]) -> Vec<Vec<String>> {
    let mut order = starts(job, lines);
    order.reverse();
    order
}

/// The machines of a stage in the order they start, as far as this operation starts them.
pub(crate) fn starts(job: &Job<'_>, lines: &[LineModel]) -> Vec<Vec<String>> {
    let mut order: Vec<Vec<String>> = Vec::new();
    for line in lines {
        match line {
            LineModel::Step(step) if step.when.holds(job.operation) => match &step.verb {
                VerbModel::Start { machines, in_turn: true } => {
                    order.extend(machines.iter().map(|(name, _)| vec![name.clone()]));
                }
                VerbModel::Start { machines, .. } | VerbModel::Create { machines, .. } => {
                    order.push(machines.iter().map(|(name, _)| name.clone()).collect());
                }
                _ => {}
            },
            LineModel::When(condition, inner) if condition.holds(job.operation) => order.extend(starts(job, inner)),
            LineModel::Parallel(inner) => order.push(starts(job, inner).concat()),
            LineModel::Sequence(inner) => order.extend(starts(job, inner)),
            _ => {}
        }
    }
    order.retain(|names| !names.is_empty());
    order
}

/// All `down` blocks of a stage that hold in this operation, outermost first.
pub(crate) fn downs<'m>(job: &Job<'_>, lines: &'m [LineModel]) -> Vec<&'m [LineModel]> {
    let mut found: Vec<&[LineModel]> = Vec::new();
    for line in lines {
        match line {
            LineModel::Down(inner) => found.push(inner),
            LineModel::When(condition, inner) if condition.holds(job.operation) => found.extend(downs(job, inner)),
            LineModel::Parallel(inner) | LineModel::Sequence(inner) => found.extend(downs(job, inner)),
            _ => {}
        }
    }
    found
}
