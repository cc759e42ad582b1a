//! One expectation against one outcome.

use crate::outcome::{Outcome, Status, StepOutcome};
use crate::trial::{Compiled, Wrong};
use muster_compiler::tests::{Expected, ordered_steps_of, steps_of};
use muster_runsheet::{Duration, Runsheet, StepId};
use muster_syntax::ast::ComparisonOperator as Operator;
use std::collections::{BTreeMap, BTreeSet};

/// Effects that are named when two runs differ.
const EFFECTS_SHOWN_MAX: usize = 5;

type Verdict = Result<(), Box<Wrong>>;

fn wrong(message: impl Into<String>, label: impl Into<String>) -> Box<Wrong> {
    Box::new(Wrong::new(message, label))
}

fn holds<T: PartialOrd>(left: &T, operator: Operator, right: &T) -> bool {
    match operator {
        Operator::Equal => left == right,
        Operator::NotEqual => left != right,
        Operator::LessOrEqual => left <= right,
        Operator::GreaterOrEqual => left >= right,
        Operator::Less => left < right,
        Operator::Greater => left > right,
    }
}

// ---- compiled

/// Against what compiling gave.
pub(crate) fn compiled(expected: &Expected, compiled: &Compiled) -> Verdict {
    let codes: Vec<String> = compiled.mistakes.iter().map(|(code, message)| format!("E{code:04}: {message}")).collect();
    if let Expected::Error { code } = expected {
        if compiled.mistakes.iter().any(|(found, _)| found == code) {
            return Ok(());
        }
        let message = match codes.as_slice() {
            [] => "it compiles without an error".to_owned(),
            _ => format!("there are errors, but no E{code:04}"),
        };
        let failed = Wrong::new(message, "expected here");
        return Err(Box::new(codes.into_iter().fold(failed, Wrong::note)));
    }
    if !codes.is_empty() {
        let failed = Wrong::new("it does not compile", "so this cannot hold");
        return Err(Box::new(codes.into_iter().fold(failed, Wrong::note)));
    }
    match expected {
        Expected::Never { path } => compiled.sheets.iter().try_for_each(|sheet| match steps_of(sheet, path).first() {
            Some(step) => Err(wrong(format!("`{}` does `{}`", sheet.operation, step.id), "expected never")),
            None => Ok(()),
        }),
        Expected::Order { first, then } => ordered(&compiled.sheets, first, then),
        // Only a run measures; the compiler has refused these.
        _ => Err(wrong("compiling measures nothing", "expected here")),
    }
}

fn ordered(sheets: &[Runsheet], first: &str, then: &str) -> Verdict {
    let mut together = false;
    for sheet in sheets {
        let before = Before::of(sheet);
        for later in ordered_steps_of(sheet, then) {
            for earlier in ordered_steps_of(sheet, first).into_iter().filter(|earlier| earlier.id != later.id) {
                together = true;
                if !before.comes_before(&earlier.id, &later.id) {
                    let message =
                        format!("in `{}`, `{}` does not wait for `{}`", sheet.operation, later.id, earlier.id);
                    return Err(wrong(message, format!("expected `{first}` before `{then}`")));
                }
            }
        }
    }
    if together {
        return Ok(());
    }
    Err(wrong(format!("no operation has both `{first}` and `{then}`"), "so this proves nothing"))
}

/// What each step waits for.
struct Before<'s>(BTreeMap<&'s StepId, Vec<&'s StepId>>);

impl<'s> Before<'s> {
    fn of(sheet: &'s Runsheet) -> Self {
        let mut before: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for edge in &sheet.edges {
            before.entry(&edge.to).or_default().push(&edge.from);
        }
        Self(before)
    }
    fn comes_before(&self, earlier: &StepId, later: &'s StepId) -> bool {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![later];
        while let Some(step) = waiting.pop() {
            if step == earlier {
                return true;
            }
            if seen.insert(step) {
                waiting.extend(self.0.get(step).into_iter().flatten());
            }
        }
        false
    }
}

// ---- simulated

/// Against what happened.
pub(crate) fn simulated(expected: &Expected, outcome: &Outcome, calm: Option<&Outcome>) -> Verdict {
    let last = outcome.timeline.len().checked_sub(1);
    let at_end = |message: String, label: String| Err(Box::new(Wrong::new(message, label).at(last)));
    match expected {
        Expected::Status { is, word } => status(*is, word, outcome),
        Expected::Elapsed { operator, than } => {
            let shown = seconds(outcome.elapsed);
            if holds(&outcome.elapsed, *operator, than) {
                return Ok(());
            }
            // Behind it comes what production does not wait for.
            let at = outcome.timeline.iter().rposition(|entry| entry.at <= outcome.elapsed).or(last);
            let failed = Wrong::new(format!("it takes {shown}"), format!("expected {} {than}", sign(*operator)));
            Err(Box::new(failed.at(at)))
        }
        Expected::Loss { group, operator, than } => {
            let Some(loss) = outcome.loss.get(group) else {
                return at_end(format!("no recovery point was chosen for `{group}`"), "so nothing is known".into());
            };
            if holds(loss, *operator, than) {
                return Ok(());
            }
            let point = format!("{group} loses");
            let at = outcome.timeline.iter().rposition(|entry| entry.text.contains(&point)).or(last);
            let failed = Wrong::new(
                format!("`{group}` loses {}", seconds(*loss)),
                format!("expected {} {than}", sign(*operator)),
            );
            Err(Box::new(failed.at(at)))
        }
        Expected::Attempts { path, operator, than } => {
            let attempts = named(outcome, path).iter().map(|step| u64::from(step.attempts)).max().unwrap_or(0);
            if holds(&attempts, *operator, than) {
                return Ok(());
            }
            let at = last_of(outcome, path).or(last);
            let failed =
                Wrong::new(format!("`{path}` has {attempts} attempts"), format!("expected {} {than}", sign(*operator)));
            Err(Box::new(failed.at(at)))
        }
        Expected::Running { site, is, machines } => {
            let running = outcome.running.get(site).cloned().unwrap_or_default();
            if (running == *machines) == *is {
                return Ok(());
            }
            let names: Vec<&str> = running.iter().map(|machine| machine.as_str()).collect();
            at_end(format!("at `{site}` run [{}]", names.join(", ")), "expected here".into())
        }
        Expected::Never { path } => match named(outcome, path).into_iter().find(|step| began(step)) {
            Some(step) => {
                let at = outcome.timeline.iter().position(|entry| entry.step.as_ref() == Some(&step.id));
                Err(Box::new(Wrong::new(format!("`{}` is done", step.id), "expected never").at(at)))
            }
            None => Ok(()),
        },
        Expected::Order { first, then } => happened_before(outcome, first, then),
        Expected::Effects { is } => effects(*is, outcome, calm),
        Expected::Error { code } => {
            at_end(format!("it compiles; a simulated run has no E{code:04}"), "expected here".into())
        }
    }
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Equal => "==",
        Operator::NotEqual => "!=",
        Operator::LessOrEqual => "<=",
        Operator::GreaterOrEqual => ">=",
        Operator::Less => "<",
        Operator::Greater => ">",
    }
}

fn seconds(duration: Duration) -> Duration {
    if duration.0 < 1_000 { duration } else { Duration(duration.0 - duration.0 % 1_000) }
}

fn status(is: bool, word: &str, outcome: &Outcome) -> Verdict {
    let wanted = Status::ALL.into_iter().find(|status| status.word() == word);
    if wanted.is_some_and(|wanted| outcome.status.is(wanted)) == is {
        return Ok(());
    }
    let label = if is { format!("expected {word}") } else { format!("expected anything but {word}") };
    let mut failed = Wrong::new(format!("the run is {}", outcome.status), label);
    for line in &outcome.waiting {
        failed = failed.note(line.clone());
    }
    for step in &outcome.degraded {
        failed = failed.note(format!("left out: {step}"));
    }
    Err(Box::new(failed.at(outcome.timeline.len().checked_sub(1))))
}

/// Steps of the outcome that a path means.
fn named<'o>(outcome: &'o Outcome, path: &str) -> Vec<&'o StepOutcome> {
    let steps = steps_of(&outcome.sheet, path);
    steps.into_iter().filter_map(|node| outcome.step(&node.id)).collect()
}

fn last_of(outcome: &Outcome, path: &str) -> Option<usize> {
    let steps: BTreeSet<&StepId> = named(outcome, path).into_iter().map(|step| &step.id).collect();
    outcome.timeline.iter().rposition(|entry| entry.step.as_ref().is_some_and(|step| steps.contains(step)))
}

fn began(step: &StepOutcome) -> bool {
    step.attempts > 0 || step.started.is_some()
}

fn happened_before(outcome: &Outcome, first: &str, then: &str) -> Verdict {
    let steps = |path: &str| -> Vec<&StepOutcome> {
        let nodes = ordered_steps_of(&outcome.sheet, path).into_iter();
        nodes.filter_map(|node| outcome.step(&node.id)).filter(|step| began(step)).collect()
    };
    let (earlier, later) = (steps(first), steps(then));
    let last = outcome.timeline.len().checked_sub(1);
    for (path, steps) in [(first, &earlier), (then, &later)] {
        if steps.is_empty() {
            return Err(Box::new(Wrong::new(format!("`{path}` never begins"), "so there is no order").at(last)));
        }
    }
    for later in &later {
        let Some(began) = later.started else { continue };
        let late = earlier.iter().filter(|earlier| earlier.id != later.id);
        for earlier in late {
            if earlier.ended.is_none_or(|ended| ended > began) {
                let message = format!("`{}` begins before `{}` has ended", later.id, earlier.id);
                let at = outcome.timeline.iter().position(|entry| entry.step.as_ref() == Some(&later.id));
                return Err(Box::new(Wrong::new(message, format!("expected `{first}` before `{then}`")).at(at)));
            }
        }
    }
    Ok(())
}

fn effects(is: bool, outcome: &Outcome, calm: Option<&Outcome>) -> Verdict {
    let Some(calm) = calm else { return Err(wrong("there is no calm run to compare with", "expected here")) };
    if (outcome.effects == calm.effects) == is {
        return Ok(());
    }
    let last = outcome.timeline.len().checked_sub(1);
    let mut failed = Wrong::new("the run with crashes does not do what a calm one does", "expected the same").at(last);
    if !is {
        failed = Wrong::new("the run does just what a calm one does", "expected another").at(last);
    }
    for effect in outcome.effects.difference(&calm.effects).take(EFFECTS_SHOWN_MAX) {
        failed = failed.note(format!("only with crashes: {effect}"));
    }
    for effect in calm.effects.difference(&outcome.effects).take(EFFECTS_SHOWN_MAX) {
        failed = failed.note(format!("only without: {effect}"));
    }
    Err(Box::new(failed))
}
