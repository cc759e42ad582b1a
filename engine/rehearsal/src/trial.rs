//! Tests of plans, carried out: what is given becomes conditions, what is expected is held against what happened.

use crate::conditions::{Conditions, Reply};
use crate::outcome::Outcome;
use crate::simulate::{RehearsalError, simulate};
use crate::timeline::Entry;
use crate::verdict::{compiled, simulated};
use muster_compiler::tests::{Circumstance, Expected, PlanTest, Subject, SubjectPlan};
use muster_compiler::{Checked, CompileOptions, World};
use muster_diagnostics::Diagnostic;
use muster_runsheet::{Duration, Kind, Operation, Runsheet};
use std::collections::BTreeSet;

/// The code of an expectation that does not hold.
const NOT_AS_EXPECTED: u16 = 906;
/// Lines of the timeline on each side of the moment that matters.
const LINES_AROUND: usize = 5;

/// One test, carried out.
#[derive(Debug)]
pub struct TestResult {
    pub title: String,
    pub file: String,
    /// Of a simulated one.
    pub seed: Option<u64>,
    /// In virtual time, of a simulated one.
    pub elapsed: Option<Duration>,
    /// Empty: it passed.
    pub failures: Vec<TestFailure>,
    /// What the simulation took for granted.
    pub assumed: BTreeSet<String>,
}

impl TestResult {
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// One expectation that does not hold, or why none could be looked at.
#[derive(Debug)]
pub struct TestFailure {
    pub diagnostic: Diagnostic,
    /// What happened around it.
    pub timeline: Vec<Entry>,
}

/// What is wrong, and the line of the timeline at which it shows.
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) label: String,
    pub(crate) notes: Vec<String>,
    pub(crate) at: Option<usize>,
}

impl Wrong {
    pub(crate) fn new(message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { message: message.into(), label: label.into(), notes: Vec::new(), at: None }
    }
    pub(crate) fn at(mut self, at: Option<usize>) -> Self {
        self.at = at;
        self
    }
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// Carries one test out. `seed` is for tests that name none; `world` has the files that tests name.
pub fn run_test(checked: &Checked, world: &dyn World, test: &PlanTest, seed: u64) -> TestResult {
    let mut result = TestResult {
        title: test.title.clone(),
        file: test.file.clone(),
        seed: None,
        elapsed: None,
        failures: Vec::new(),
        assumed: BTreeSet::new(),
    };
    if !test.sound {
        let stale = checked.diagnostics.iter().filter(|found| {
            let span = found.primary.span;
            span.file == test.span.file && span.start >= test.span.start && span.end <= test.span.end
        });
        let failure = |diagnostic: &Diagnostic| TestFailure { diagnostic: diagnostic.clone(), timeline: Vec::new() };
        result.failures = stale.map(failure).collect();
        if result.failures.is_empty() {
            let diagnostic = Diagnostic::error(NOT_AS_EXPECTED, "the test could not be read", test.span, "this one");
            result.failures.push(TestFailure { diagnostic, timeline: Vec::new() });
        }
        return result;
    }
    match &test.subject {
        Subject::Compile { of, operations, .. } => compile_test(checked, world, test, of, operations, &mut result),
        Subject::Simulate { plan, operation, seed: own, .. } => {
            let seed = own.unwrap_or(seed);
            result.seed = Some(seed);
            let conditions = conditions(test, seed);
            simulate_test(checked, test, (plan.as_str(), *operation), &conditions, &mut result);
        }
    }
    result
}

fn fail(result: &mut TestResult, span: muster_diagnostics::Span, wrong: Wrong, timeline: &[Entry]) {
    let mut diagnostic = Diagnostic::error(NOT_AS_EXPECTED, wrong.message, span, wrong.label);
    diagnostic.notes = wrong.notes;
    let lines = wrong.at.map(|at| {
        let from = at.saturating_sub(LINES_AROUND);
        let to = at.saturating_add(LINES_AROUND + 1).min(timeline.len());
        timeline.get(from..to).unwrap_or_default().to_vec()
    });
    result.failures.push(TestFailure { diagnostic, timeline: lines.unwrap_or_default() });
}

fn conditions(test: &PlanTest, seed: u64) -> Conditions {
    let mut conditions = Conditions { seed, ..Conditions::default() };
    for given in &test.givens {
        let world = &mut conditions.world;
        match &given.kind {
            Circumstance::Crashes => conditions.crashes = true,
            Circumstance::Unreachable { site } => drop(world.dead.insert(site.clone())),
            Circumstance::Fails { steps, times } => {
                world.fail.extend(steps.iter().map(|step| (step.clone(), *times)));
            }
            Circumstance::Answered { steps, yes, after } => {
                let reply = Reply { yes: *yes, after: *after };
                conditions.answers.extend(steps.iter().map(|step| (step.clone(), reply)));
            }
            Circumstance::Slowed { left, right, rate } => world.slow.push((left.clone(), right.clone(), *rate)),
            Circumstance::Boots { site, at_once } => drop(world.boots.insert(site.clone(), *at_once)),
        }
    }
    conditions
}

fn simulate_test(
    checked: &Checked,
    test: &PlanTest,
    (plan, operation): (&str, Operation),
    conditions: &Conditions,
    result: &mut TestResult,
) {
    let mut carry_out = |conditions: &Conditions| {
        simulate(checked, plan, operation, conditions).map_err(|error| {
            let wrong = match error {
                RehearsalError::Diagnostics(mistakes) => mistakes
                    .iter()
                    .fold(Wrong::new("the plan does not compile", "so it is not simulated"), |wrong, mistake| {
                        wrong.note(format!("{}: {}", mistake.code, mistake.message))
                    }),
                other => Wrong::new(format!("the plan is not simulated: {other}"), "this one"),
            };
            fail(result, subject_span(test), wrong, &[]);
        })
    };
    let Ok(outcome) = carry_out(conditions) else { return };
    let wants_calm = test.expectations.iter().any(|expected| matches!(expected.kind, Expected::Effects { .. }));
    let calm: Option<Outcome> = match wants_calm {
        true => match carry_out(&Conditions { crashes: false, ..conditions.clone() }) {
            Ok(calm) => Some(calm),
            Err(()) => return,
        },
        false => None,
    };
    result.elapsed = Some(outcome.elapsed);
    result.assumed.clone_from(&outcome.assumed);
    for expectation in &test.expectations {
        if let Err(wrong) = simulated(&expectation.kind, &outcome, calm.as_ref()) {
            fail(result, expectation.span, *wrong, &outcome.timeline);
        }
    }
}

fn subject_span(test: &PlanTest) -> muster_diagnostics::Span {
    match &test.subject {
        Subject::Compile { span, .. } | Subject::Simulate { span, .. } => *span,
    }
}

/// What compiling gave: sheets, or mistakes.
pub(crate) struct Compiled {
    pub(crate) sheets: Vec<Runsheet>,
    /// With a code and a message each.
    pub(crate) mistakes: Vec<(u16, String)>,
}

fn compile_test(
    checked: &Checked,
    world: &dyn World,
    test: &PlanTest,
    of: &SubjectPlan,
    operations: &[Operation],
    result: &mut TestResult,
) {
    let own;
    let (checked, plan) = match of {
        SubjectPlan::Plan(plan) => (checked, plan.to_string()),
        SubjectPlan::File(path) => {
            own = muster_compiler::check(world, std::slice::from_ref(path));
            // A file with mistakes may have no plan left; then the mistakes are what is asked for.
            let plan = own.plans.first().map(|plan| plan.name.to_string()).unwrap_or_default();
            if own.plans.len() > 1 {
                let wrong = Wrong::new(format!("`{path}` has {} plans", own.plans.len()), "which of them?");
                return fail(result, subject_span(test), wrong.note("a file that is tested has one plan"), &[]);
            }
            (&own, plan)
        }
    };
    let mut compiled = Compiled { sheets: Vec::new(), mistakes: Vec::new() };
    let mut add = |mistakes: &[Diagnostic]| {
        let errors = mistakes.iter().filter(|mistake| mistake.is_error());
        let new: Vec<_> = errors.map(|mistake| (mistake.code.0, mistake.message.clone())).collect();
        for mistake in new {
            if !compiled.mistakes.contains(&mistake) {
                compiled.mistakes.push(mistake);
            }
        }
    };
    add(&checked.diagnostics);
    for operation in operations {
        let options = CompileOptions { drilled: operation.kind == Kind::Cleanup, ..CompileOptions::default() };
        match checked.compile(&plan, *operation, options) {
            Ok(sheet) => compiled.sheets.push(sheet),
            Err(mistakes) if checked.has_errors() => drop(mistakes),
            Err(mistakes) => add(&mistakes),
        }
    }
    for expectation in &test.expectations {
        if let Err(wrong) = self::compiled(&expectation.kind, &compiled) {
            fail(result, expectation.span, *wrong, &[]);
        }
    }
}
