//! Stages that wait for a stage of which an operation does nothing: E0312.
//!
//! The wait is kept through the empty stage: what comes after it still comes after all that it came after. What is lost is
//! the work in between, and nothing shows that on the line that says `after`.

use crate::context::Context;
use crate::model::{LineModel, PlanModel, RISING, StageModel};
use crate::suggest::listed;
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::Operation;
use std::collections::BTreeSet;

pub(crate) fn check(cx: &Context<'_>, plan: &PlanModel) {
    for stage in &plan.stages {
        for (name, span) in stage.after.iter().zip(&stage.after_spans) {
            if let Some(earlier) = plan.stages.iter().find(|known| known.name == *name) {
                check_one(cx, plan, stage, (earlier, *span));
            }
        }
    }
}

/// One `after`. It says enough where the stage is also `after` one that does something in the operation.
fn check_one(cx: &Context<'_>, plan: &PlanModel, stage: &StageModel, (earlier, span): (&StageModel, Span)) {
    // One that never rises is empty everywhere (E0608), cannot be reached (E0308), or is there for the way down.
    if !RISING.iter().any(|operation| rises(&earlier.lines, *operation)) {
        return;
    }
    let waits_for_another = |operation: Operation| {
        let others = plan.stages.iter().filter(|other| stage.after.contains(&other.name));
        others.into_iter().any(|other| rises(&other.lines, operation))
    };
    let empty: Vec<Operation> = RISING
        .into_iter()
        .filter(|operation| rises(&stage.lines, *operation) && !waits_for_another(*operation))
        .filter(|operation| !rises(&earlier.lines, *operation))
        .collect();
    let Some(first) = empty.first() else { return };
    let names: Vec<String> = empty.iter().map(ToString::to_string).collect();
    let in_words = listed(names.iter().map(String::as_str));
    let kept = behind(plan, earlier, *first);
    let label = format!("does nothing in {in_words}");
    let diagnostic =
        Diagnostic::warning(312, format!("in {in_words} stage `{}` waits for an empty one", stage.name), span, label)
            .related(earlier.span, "each of its steps is for another operation");
    let written: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    let kept: Vec<&str> = written.into_iter().filter(|name| kept.contains(name)).collect();
    cx.push(match kept.as_slice() {
        [] => diagnostic
            .note(format!("`{}` begins at once there", stage.name))
            .help(format!("let `{}` do its part there too, or put the same `when` on both stages", earlier.name)),
        _ => {
            let names = kept.join(", ");
            diagnostic
                .note(format!("it still begins behind {}, which `{}` is after", listed(kept), earlier.name))
                .help(format!("if that is meant, say it: `after {}, {names}`", earlier.name))
                .fix(span, format!("{}, {names}", earlier.name), Applicability::Maybe)
        }
    });
}

/// Whether the stage does anything upwards in this operation.
fn rises(lines: &[LineModel], operation: Operation) -> bool {
    lines.iter().any(|line| match line {
        LineModel::Step(step) => step.when.holds(operation),
        LineModel::When(condition, lines) => condition.holds(operation) && rises(lines, operation),
        LineModel::Parallel(lines) | LineModel::Sequence(lines) => rises(lines, operation),
        LineModel::Down(_) => false,
    })
}

/// The nearest stages before this one that do something in the operation.
fn behind<'p>(plan: &'p PlanModel, stage: &'p StageModel, operation: Operation) -> BTreeSet<&'p str> {
    let mut found = BTreeSet::new();
    // Stages that wait for each other (E0307) are come by once.
    let mut seen = BTreeSet::from([stage.name.as_str()]);
    let mut waiting = vec![stage];
    while let Some(stage) = waiting.pop() {
        for earlier in plan.stages.iter().filter(|earlier| stage.after.contains(&earlier.name)) {
            if rises(&earlier.lines, operation) {
                found.insert(earlier.name.as_str());
            } else if seen.insert(&earlier.name) {
                waiting.push(earlier);
            }
        }
    }
    found
}
