//! Plans, stages and steps of a draft as text.

use crate::draft::{ActionDraft, Deed, PlanDraft, StageDraft, StartDraft, Way, When};
use crate::print::{comment, duration, put, quoted};
use std::fmt::Write;

pub(crate) fn plan(text: &mut String, plan: &PlanDraft) {
    put!(text, "\n## {}", comment(&plan.was));
    put!(text, "plan {} {{\n  move = {} -> {}", plan.name, plan.from, plan.to);
    for one in &plan.stages {
        text.push('\n');
        stage(text, one);
    }
    text.push_str("}\n");
}

fn stage(text: &mut String, stage: &StageDraft) {
    let after = if stage.after.is_empty() { String::new() } else { format!(" after {}", stage.after.join(", ")) };
    put!(text, "  stage {}{after} {{", stage.name);
    let machines = stage.machines();
    actions(text, &stage.before, &machines, false);
    for one in &stage.starts {
        start(text, one);
    }
    actions(text, &stage.behind, &machines, false);
    if !(stage.down_before.is_empty() && stage.down_behind.is_empty()) {
        put!(text, "\n    down {{");
        actions(text, &stage.down_before, &machines, true);
        if !stage.down_behind.is_empty() && !machines.is_empty() {
            put!(text, "      stop {}", machines.join(", "));
        }
        actions(text, &stage.down_behind, &machines, true);
        put!(text, "    }}");
    }
    put!(text, "  }}");
}

fn start(text: &mut String, start: &StartDraft) {
    actions(text, &start.before, &start.machines, false);
    if !start.machines.is_empty() {
        let in_turn = if start.in_turn && start.machines.len() > 1 { " in turn" } else { "" };
        let within = start.within_seconds.map(|seconds| format!(" within {}", duration(seconds))).unwrap_or_default();
        put!(text, "    start {}{in_turn}{within}", start.machines.join(", "));
    }
    actions(text, &start.behind, &start.machines, false);
}

/// Steps in their order. Those of one direction that vary further stand in one `when out { }` or `when back { }`.
fn actions(text: &mut String, all: &[ActionDraft], machines: &[String], down: bool) {
    let mut open: Option<Way> = None;
    for action in all {
        let (way, words) = condition(&action.when, down);
        if open != way {
            if open.is_some() {
                put!(text, "}}");
            }
            if let Some(way) = way {
                put!(text, "when {} {{", word(way));
            }
            open = way;
        }
        step(text, action, &words, machines);
    }
    if open.is_some() {
        put!(text, "}}");
    }
}

fn word(way: Way) -> &'static str {
    match way {
        Way::Out => "out",
        Way::Back => "back",
    }
}

/// The direction that needs a block around it, and the words on the step itself.
fn condition(when: &When, down: bool) -> (Option<Way>, Vec<&'static str>) {
    // On the way down there is no drill.
    let all = when.planned && when.unplanned && (when.test || down);
    let live = when.planned && when.unplanned && !when.test;
    let mut words = Vec::new();
    if !all {
        if live {
            words.push("live");
        } else {
            let kinds = [(when.test && !down, "test"), (when.planned, "planned"), (when.unplanned, "unplanned")];
            words.extend(kinds.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word));
        }
    }
    match when.way {
        None => (None, words),
        Some(way) if all => (None, vec![word(way)]),
        Some(Way::Back) if live => (None, vec!["failback"]),
        Some(way) => (Some(way), words),
    }
}

fn step(text: &mut String, action: &ActionDraft, when: &[&str], machines: &[String]) {
    let within = action.within_seconds.map(|seconds| format!(" within {}", duration(seconds))).unwrap_or_default();
    let when = if when.is_empty() { String::new() } else { format!(" when {}", when.join(", ")) };
    let label = format!(" as {}", action.label);
    match &action.deed {
        Deed::Manual(what) => put!(text, "manual {} by anyone{within}{label}{when}", quoted(what)),
        Deed::Approve(what) => put!(text, "approve {} by anyone{within}{label}{when}", quoted(what)),
        Deed::Wait { seconds } => put!(text, "wait {}{label}{when}", duration(*seconds)),
        Deed::Run { hook, machines: takes } => {
            let arguments = if *takes { format!("machines = [{}]", machines.join(", ")) } else { String::new() };
            // The label says nothing when it is the name of the hook.
            let label = if *hook == action.label { "" } else { &label };
            put!(text, "run {hook}({arguments}){within}{label}{when}");
        }
    }
}
