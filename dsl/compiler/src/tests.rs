//! Tests of plans: `test` blocks, with their names and types resolved. Nothing is carried out here.
//!
//! A test that has gone stale is warned of and no more: it must never keep anybody from a failover. `muster test` fails
//! on it.

use crate::context::{Context, UNKNOWN_NAME};
use crate::load::beside;
use crate::model::RISING;
use crate::names::Kind as Name;
use crate::suggest::{listed, nearest};
use crate::value::{Type, Value};
use crate::{CompileOptions, Program, lower};
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{
    Action, Direction, Duration, GroupName, Kind, MachineName, Node, NodeKind, Operation, PlanName, ProbeCall, Rate,
    Runsheet, SheetPhase, SiteName, StepId,
};
use muster_syntax::ast::{
    self, Access, ComparisonOperator as Operator, ExpectationKind, Expr, ExprKind, GivenKind, Item, SubjectOf, TestLine,
};
use std::collections::{BTreeMap, BTreeSet};

/// A test that can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanTest {
    pub title: String,
    /// The file it stands in, relative to the folder of the plans.
    pub file: String,
    /// Of the whole block.
    pub span: Span,
    pub subject: Subject,
    pub givens: Vec<Given>,
    pub expectations: Vec<Expectation>,
    /// False when something in it could not be understood, which was reported.
    pub sound: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// Compiled and looked at.
    Compile { of: SubjectPlan, operations: Vec<Operation>, span: Span },
    /// Carried out on a simulated estate.
    Simulate { plan: PlanName, operation: Operation, seed: Option<u64>, span: Span },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectPlan {
    Plan(PlanName),
    /// The only plan of this file, which is checked by itself.
    File(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    pub kind: Circumstance,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Circumstance {
    Crashes,
    Unreachable { site: SiteName },
    Fails { steps: Vec<StepId>, times: u32 },
    Answered { steps: Vec<StepId>, yes: bool, after: Option<Duration> },
    Slowed { left: SiteName, right: SiteName, rate: Rate },
    Boots { site: SiteName, at_once: u32 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    pub kind: Expected,
    pub span: Span,
}

/// Steps are named by the path that is written; [`steps_of`] finds them in a sheet.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    Never {
        path: String,
    },
    Error {
        code: u16,
    },
    Order {
        first: String,
        then: String,
    },
    Status {
        is: bool,
        word: String,
    },
    Elapsed {
        operator: Operator,
        than: Duration,
    },
    Loss {
        group: GroupName,
        operator: Operator,
        than: Duration,
    },
    Attempts {
        path: String,
        operator: Operator,
        than: u64,
    },
    Running {
        site: SiteName,
        is: bool,
        machines: BTreeSet<MachineName>,
    },
    /// `effects == effects(without-crash)`
    Effects {
        is: bool,
    },
}

/// Words that a run's status is compared with.
pub const STATUS_WORDS: [&str; 6] = ["done", "degraded", "paused", "undone", "aborted", "failed"];

/// What a comparison may begin with.
const MEASURES: [&str; 6] = ["status", "elapsed", "effects", "loss(GROUP)", "attempts(STEP)", "running(SITE)"];

const OPERATIONS: [(&str, Kind, Direction); 8] = [
    ("test", Kind::Test, Direction::Out),
    ("planned", Kind::Planned, Direction::Out),
    ("unplanned", Kind::Unplanned, Direction::Out),
    ("cleanup", Kind::Cleanup, Direction::Out),
    ("cancel", Kind::Cancel, Direction::Out),
    ("commit", Kind::Commit, Direction::Out),
    ("reprotect", Kind::Reprotect, Direction::Out),
    ("failback", Kind::Planned, Direction::Back),
];

/// The name of a step with dots throughout, and without the phase that leaving puts in front.
fn dotted(node: &Node) -> String {
    let id = node.id.as_str();
    id.strip_prefix("leave/").unwrap_or(id).replace('/', ".")
}

/// The steps that a path of a test means in a sheet, in its order: a step or everything below its name (a stage is the
/// beginning of names), else the calls of a hook, else all steps of a verb, else those with the word in their name (a
/// label), else those of a machine.
pub fn steps_of<'s>(sheet: &'s Runsheet, path: &str) -> Vec<&'s Node> {
    let all = || sheet.nodes.iter().filter(|node| node.kind != NodeKind::Barrier);
    let below = |node: &&Node| {
        let name = dotted(node);
        let rest = name.strip_prefix(path).or_else(|| node.id.as_str().strip_prefix(path));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
    };
    let calls = |node: &&Node| {
        matches!(&node.action,
            Action::Run { hook, .. } | Action::Check { probe: ProbeCall::Hook { hook, .. }, .. } if hook.as_str() == path)
    };
    let holds = |node: &&Node| format!(".{}.", dotted(node)).contains(&format!(".{path}."));
    let does = |node: &&Node| node.action.verb() == path;
    let about = |node: &&Node| node.action.machine().is_some_and(|machine| machine.as_str() == path);
    let mut found: Vec<&Node> = all().filter(below).collect();
    if found.is_empty() {
        found = all().filter(calls).collect();
    }
    if found.is_empty() {
        found = all().filter(does).collect();
    }
    if found.is_empty() {
        found = all().filter(holds).collect();
    }
    if found.is_empty() {
        found = all().filter(about).collect();
    }
    found
}

/// Of the steps that a path means, those that an order is about: a stage is what rises in it, its way down being the
/// other way round.
pub fn ordered_steps_of<'s>(sheet: &'s Runsheet, path: &str) -> Vec<&'s Node> {
    let all = steps_of(sheet, path);
    let rising: Vec<&Node> = all.iter().copied().filter(|node| node.phase == SheetPhase::Rise).collect();
    if rising.is_empty() { all } else { rising }
}

/// All tests of the files that were asked for. Those that could not be read are not among them.
pub(crate) fn resolve(cx: &Context<'_>, program: &Program) -> Vec<PlanTest> {
    let mut tests = Vec::new();
    let mut resolver = Resolver { cx, program, sheets: BTreeMap::new(), module: 0, sound: true };
    for (module, file) in cx.modules.iter().enumerate() {
        resolver.module = module;
        for item in &file.ast.items {
            if let Item::Test(test) = item {
                tests.extend(resolver.test(&file.path, test));
            }
        }
    }
    tests
}

struct Resolver<'a, 'w> {
    cx: &'a Context<'w>,
    program: &'a Program,
    /// Of each plan that is tested, every operation it has.
    sheets: BTreeMap<PlanName, Vec<Runsheet>>,
    module: usize,
    sound: bool,
}

impl Resolver<'_, '_> {
    fn test(&mut self, file: &str, test: &ast::Test) -> Option<PlanTest> {
        self.sound = test.whole;
        let title = self.cx.text(self.module, &Context::no_env(), &test.title)?;
        let subjects = test.lines.iter().filter_map(|line| match line {
            TestLine::Subject(subject) => Some(subject),
            _ => None,
        });
        let subjects: Vec<&ast::Subject> = subjects.collect();
        let subject = match subjects.as_slice() {
            [one] => self.subject(file, one)?,
            [] if !test.whole => return None,
            [] => {
                let diagnostic = Diagnostic::error(106, "a test needs a subject", test.title.span, "nothing to test");
                return self
                    .cx
                    .report(diagnostic.help("begin it with `compile PLAN OPERATION` or `simulate PLAN OPERATION`"));
            }
            [first, second, ..] => {
                let diagnostic = Diagnostic::error(104, "a test has one subject", second.span, "the second one");
                return self.cx.report(diagnostic.related(first.span, "the first one").help("make two tests of it"));
            }
        };
        let mut found = PlanTest {
            title,
            file: file.to_owned(),
            span: test.span,
            subject,
            givens: Vec::new(),
            expectations: Vec::new(),
            sound: true,
        };
        for line in &test.lines {
            match line {
                TestLine::Subject(_) => {}
                TestLine::Given(given) => {
                    let kind = self.given(&found.subject, given);
                    self.sound &= kind.is_some();
                    found.givens.extend(kind.map(|kind| Given { kind, span: given.span }));
                }
                TestLine::Expect(expectation) => {
                    let kind = self.expectation(&found.subject, expectation);
                    self.sound &= kind.is_some();
                    found.expectations.extend(kind.map(|kind| Expectation { kind, span: expectation.span }));
                }
            }
        }
        if test.whole && self.sound && found.expectations.is_empty() {
            let diagnostic = Diagnostic::error(106, "a test expects something", test.title.span, "it cannot fail");
            self.cx.push(diagnostic.help("add a line `expect ...`: a test without one proves nothing"));
            self.sound = false;
        }
        found.sound = self.sound;
        Some(found)
    }

    fn subject(&mut self, file: &str, subject: &ast::Subject) -> Option<Subject> {
        let word = &subject.operation;
        let operations = match OPERATIONS.iter().find(|(known, ..)| *known == word.text) {
            Some((_, kind, direction)) => vec![Operation { kind: *kind, direction: *direction }],
            None if word.text == "any" && !subject.simulate => RISING.to_vec(),
            None => return self.no_operation(word, subject.simulate),
        };
        let of = match &subject.of {
            SubjectOf::Plan(plan) => {
                let name = self.cx.declared(self.module, &name_of(plan), Name::Plan)?;
                SubjectPlan::Plan(name.text.as_str().into())
            }
            SubjectOf::File(text, _) => SubjectPlan::File(beside(file, &text.text)),
        };
        match (subject.simulate, of, operations.first()) {
            (true, SubjectPlan::Plan(plan), Some(operation)) => {
                Some(Subject::Simulate { plan, operation: *operation, seed: subject.seed, span: subject.span })
            }
            (true, ..) => {
                let diagnostic = Diagnostic::error(203, "a file cannot be simulated", subject.span, "wanted is a plan");
                self.cx.report(diagnostic.help("take the plan with `use`, and name it"))
            }
            (false, of, _) => Some(Subject::Compile { of, operations, span: subject.span }),
        }
    }

    fn no_operation<T>(&self, word: &ast::Name, simulate: bool) -> Option<T> {
        let known: Vec<&str> = OPERATIONS.iter().map(|(word, ..)| *word).chain((!simulate).then_some("any")).collect();
        let diagnostic =
            Diagnostic::error(201, format!("there is no operation `{}`", word.text), word.span, "unknown operation");
        self.cx.report(match nearest(&word.text, known.iter().copied()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(word.span, near, Applicability::Maybe),
            None => diagnostic.help(format!("operations are {}", listed(known))),
        })
    }

    fn sheets(&mut self, plan: &PlanName) -> &[Runsheet] {
        self.sheets.entry(plan.clone()).or_insert_with(|| {
            let Some((model, true)) = self.program.plans.get(plan.as_str()) else { return Vec::new() };
            let around = [Kind::Cancel, Kind::Commit, Kind::Reprotect];
            let around = around.map(|kind| Operation { kind, direction: Direction::Out });
            let operations = RISING.into_iter().chain(around);
            let options = CompileOptions::default();
            operations.filter_map(|operation| lower::compile(self.program, model, operation, &options).ok()).collect()
        })
    }

    fn given(&mut self, subject: &Subject, given: &ast::Given) -> Option<Circumstance> {
        let Subject::Simulate { plan, operation, .. } = subject else {
            return self.unused(given.span, "compiling carries nothing out", "make the subject `simulate`");
        };
        let (plan, operation) = (plan.clone(), *operation);
        match &given.kind {
            GivenKind::Crashes => Some(Circumstance::Crashes),
            GivenKind::Unreachable(site) => {
                let site = self.site(&name_of(site), &plan)?;
                Some(Circumstance::Unreachable { site })
            }
            GivenKind::Fails { step, times } => {
                let fails = |node: &Node| {
                    !matches!(node.action, Action::Approve { .. } | Action::Manual { .. } | Action::Wait { .. })
                };
                let steps = self.given_steps(&plan, operation, step, fails, "it cannot fail by itself")?;
                Some(Circumstance::Fails { steps, times: u32::try_from(*times).unwrap_or(u32::MAX) })
            }
            GivenKind::Answered { step, yes, after } => {
                let asks = |node: &Node| {
                    matches!(node.action, Action::Approve { .. } | Action::Manual { .. } | Action::Fence { .. })
                };
                let after = match after {
                    Some(after) => Some(self.cx.duration(self.module, &Context::no_env(), after)?),
                    None => None,
                };
                let steps = self.given_steps(&plan, operation, step, asks, "it asks nobody")?;
                Some(Circumstance::Answered { steps, yes: *yes, after })
            }
            GivenKind::Slowed { left, right, rate } => {
                let (left, right) = (self.site(left, &plan)?, self.site(right, &plan)?);
                match self.cx.expect(self.module, &Context::no_env(), rate, &Type::Rate)? {
                    Value::Rate(rate) if rate.0 > 0 => Some(Circumstance::Slowed { left, right, rate }),
                    _ => self.unused(rate.span, "nothing fits through that", "write `given SITE unreachable`"),
                }
            }
            GivenKind::Boots { at_once: 0, .. } => {
                self.unused(given.span, "then nothing ever starts", "write 1 or more")
            }
            GivenKind::Boots { site, at_once } => {
                let site = self.site(site, &plan)?;
                Some(Circumstance::Boots { site, at_once: u32::try_from(*at_once).unwrap_or(u32::MAX) })
            }
        }
    }

    fn unused<T>(&self, span: Span, why: &str, help: &str) -> Option<T> {
        self.cx.report(Diagnostic::warning(902, "this `given` is never used", span, why).help(help))
    }

    /// A name that the plans have, whichever file declares it: a test speaks of its plan.
    fn known(&self, name: &ast::Name, what: &str, known: &[String]) -> Option<String> {
        // `s.hq` of a `use ./sites as s`.
        let word = name.text.rsplit('.').next().unwrap_or(&name.text);
        let first = name.text.split('.').next().unwrap_or(&name.text);
        self.cx.lookup(self.module, first);
        if known.iter().any(|known| known == word) {
            return Some(word.to_owned());
        }
        if self.cx.is_in_unread(word) {
            return None;
        }
        let message = format!("there is no {what} `{word}`");
        let diagnostic = Diagnostic::error(201, message, name.span, UNKNOWN_NAME);
        let words = || known.iter().map(String::as_str);
        self.cx.report(match nearest(word, words()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(name.span, near, Applicability::Maybe),
            None => diagnostic.help(format!("there are {}", listed(words()))),
        })
    }

    /// A site that the plan has to do with.
    fn site(&mut self, name: &ast::Name, plan: &PlanName) -> Option<SiteName> {
        let known: Vec<String> = self.program.estate.sites.keys().map(ToString::to_string).collect();
        let site = SiteName::from(self.known(name, "site", &known)?);
        let sheets = self.sheets(plan);
        if !sheets.is_empty() && sheets.iter().all(|sheet| !sheet.sites.contains_key(&site)) {
            let why = format!("plan `{plan}` has nothing to do with `{site}`");
            return self.unused(name.span, &why, "name a site that it moves between");
        }
        Some(site)
    }

    fn given_steps(
        &mut self,
        plan: &PlanName,
        operation: Operation,
        step: &ast::Ref,
        fits: impl Fn(&Node) -> bool,
        else_why: &str,
    ) -> Option<Vec<StepId>> {
        let path = self.path(plan, step)?;
        let sheets = self.sheets(plan);
        let Some(sheet) = sheets.iter().find(|sheet| sheet.operation == operation) else {
            // A cleanup is made from the journal of its drill; a plan with mistakes has no sheets.
            return Some(vec![path.as_str().into()]);
        };
        let found = steps_of(sheet, &path);
        if found.is_empty() {
            let why = format!("`{operation}` has no such step");
            return self.unused(step.span, &why, "leave it out, or test another operation");
        }
        let steps: Vec<StepId> = found.into_iter().filter(|node| fits(node)).map(|node| node.id.clone()).collect();
        if steps.is_empty() {
            return self.unused(step.span, else_why, "name another step");
        }
        Some(steps)
    }

    /// The path of steps that the plan has in some operation: E0901 otherwise.
    fn path(&mut self, plan: &PlanName, step: &ast::Ref) -> Option<String> {
        let path = path_of(step);
        let sheets = self.sheets(plan);
        if sheets.is_empty() || sheets.iter().any(|sheet| !steps_of(sheet, &path).is_empty()) {
            return Some(path);
        }
        let near = nearest_path(sheets, &path);
        let message = format!("plan `{plan}` has no step `{path}`");
        let diagnostic = Diagnostic::warning(901, message, step.span, "in no operation");
        self.cx.report(match near {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(step.span, near, Applicability::Maybe),
            None => diagnostic.help("name a stage, a step as `muster dry-run` shows it, a hook, a verb or a machine"),
        })
    }

    fn expectation(&mut self, subject: &Subject, expectation: &ast::Expectation) -> Option<Expected> {
        let plan = match subject {
            Subject::Simulate { plan, .. } | Subject::Compile { of: SubjectPlan::Plan(plan), .. } => Some(plan.clone()),
            Subject::Compile { of: SubjectPlan::File(_), .. } => None,
        };
        let mut path = |step: &ast::Ref| match &plan {
            Some(plan) => self.path(plan, step),
            None => Some(path_of(step)),
        };
        match &expectation.kind {
            ExpectationKind::Never(step) => Some(Expected::Never { path: path(step)? }),
            ExpectationKind::Error(code) => {
                let code = code.text.trim_start_matches('E').parse().ok()?;
                Some(Expected::Error { code })
            }
            ExpectationKind::Order { left, before, right } => {
                let (left, right) = (path(left), path(right));
                let (left, right) = (left?, right?);
                let (first, then) = if *before { (left, right) } else { (right, left) };
                Some(Expected::Order { first, then })
            }
            ExpectationKind::Holds(comparison) => match (subject, plan) {
                (Subject::Simulate { .. }, Some(plan)) => self.comparison(&plan, comparison),
                _ => {
                    let diagnostic = Diagnostic::error(
                        211,
                        "compiling measures nothing",
                        comparison.span,
                        "only a simulated run has that",
                    );
                    self.cx.report(diagnostic.help("make the subject `simulate PLAN OPERATION`"))
                }
            },
        }
    }

    fn comparison(&mut self, plan: &PlanName, comparison: &ast::Comparison) -> Option<Expected> {
        let Some((operator, right)) = &comparison.rest else {
            let diagnostic = Diagnostic::error(106, "this compares nothing", comparison.span, "and with what?");
            return self.cx.report(diagnostic.help("write for example `status == done` or `elapsed <= 45m`"));
        };
        let equality = |is: &Self| match operator {
            Operator::Equal => Some(true),
            Operator::NotEqual => Some(false),
            _ => {
                let diagnostic = Diagnostic::error(211, "this has no order", comparison.span, "more or less of what?");
                is.cx.report(diagnostic.help("compare it with `==` or `!=`"))
            }
        };
        let duration = |of: &Self| of.cx.duration(of.module, &Context::no_env(), right);
        match measure(&comparison.left)? {
            ("status", None) => {
                let is = equality(self)?;
                Some(Expected::Status { is, word: self.status(right)? })
            }
            ("elapsed", None) => Some(Expected::Elapsed { operator: *operator, than: duration(self)? }),
            ("effects", None) => {
                let is = equality(self)?;
                self.without_crash(right)?;
                Some(Expected::Effects { is })
            }
            ("loss", Some(group)) => {
                let known: Vec<String> = self.program.estate.groups.keys().map(ToString::to_string).collect();
                let group = self.known(&name_of(group), "group", &known)?;
                Some(Expected::Loss { group: group.into(), operator: *operator, than: duration(self)? })
            }
            ("attempts", Some(step)) => {
                let path = self.path(plan, step)?;
                match self.cx.expect(self.module, &Context::no_env(), right, &Type::Int)? {
                    Value::Int(than) => Some(Expected::Attempts { path, operator: *operator, than }),
                    _ => None,
                }
            }
            ("running", Some(site)) => {
                let site = self.site(&name_of(site), plan)?;
                let is = equality(self)?;
                Some(Expected::Running { site, is, machines: self.machines(right)? })
            }
            (word, _) => {
                let message = format!("a run has no `{word}` to compare");
                let diagnostic = Diagnostic::error(201, message, comparison.left.span, "unknown measure");
                self.cx.report(diagnostic.help(format!("there are {}", listed(MEASURES))))
            }
        }
        .or_else(|| {
            self.sound = false;
            None
        })
    }

    fn status(&self, right: &Expr) -> Option<String> {
        let word = match &right.kind {
            ExprKind::Ref(reference) if reference.path.is_empty() => reference.head.text.as_str(),
            _ => "",
        };
        if STATUS_WORDS.contains(&word) {
            return Some(word.to_owned());
        }
        let diagnostic = Diagnostic::error(211, "a run does not end like that", right.span, "no status");
        self.cx.report(match nearest(word, STATUS_WORDS) {
            Some(near) => {
                diagnostic.help(format!("did you mean `{near}`?")).fix(right.span, near, Applicability::Maybe)
            }
            None => diagnostic.help(format!("it is {}", listed(STATUS_WORDS))),
        })
    }

    fn without_crash(&self, right: &Expr) -> Option<()> {
        let means =
            |expr: &Expr| matches!(measure(expr), Some(("effects", Some(of))) if path_of(of) == "without-crash");
        if means(right) {
            return Some(());
        }
        let diagnostic =
            Diagnostic::error(211, "effects are compared with those of a calm run", right.span, "not these");
        self.cx.report(diagnostic.help("write `effects == effects(without-crash)`"))
    }

    fn machines(&self, right: &Expr) -> Option<BTreeSet<MachineName>> {
        let wanted = Type::List(Box::new(Type::Machine));
        let empty = matches!(&right.kind, ExprKind::List(items) if items.is_empty());
        if empty {
            return Some(BTreeSet::new());
        }
        let Value::List(items) = self.cx.expect(self.module, &Context::no_env(), right, &wanted)? else { return None };
        let name = |value: Value| if let Value::Machine(name) = value { Some(name.into()) } else { None };
        Some(items.into_iter().filter_map(name).collect())
    }
}

/// `status`, `loss(orders)`: the word, and what it is asked of.
fn measure(expr: &Expr) -> Option<(&str, Option<&ast::Ref>)> {
    match &expr.kind {
        ExprKind::Ref(reference) if reference.path.is_empty() => Some((reference.head.text.as_str(), None)),
        ExprKind::Call(call) if call.callee.path.is_empty() => {
            let of = call.arguments.first().and_then(|argument| match &argument.value.kind {
                ExprKind::Ref(reference) => Some(reference),
                _ => None,
            });
            Some((call.callee.head.text.as_str(), of))
        }
        _ => Some(("that", None)),
    }
}

fn path_of(reference: &ast::Ref) -> String {
    let fields = reference.path.iter().map(|access| match access {
        Access::Field(name) => name.text.clone(),
        Access::Index(index, _) => index.to_string(),
    });
    std::iter::once(reference.head.text.clone()).chain(fields).collect::<Vec<_>>().join(".")
}

fn name_of(reference: &ast::Ref) -> ast::Name {
    ast::Name { text: path_of(reference), span: reference.span }
}

/// Among stages, names of steps and hooks.
fn nearest_path(sheets: &[Runsheet], path: &str) -> Option<String> {
    let mut known = BTreeSet::new();
    for node in sheets.iter().flat_map(|sheet| &sheet.nodes).filter(|node| node.kind != NodeKind::Barrier) {
        let name = dotted(node);
        // Each beginning is a path too: the stage, and the step without its machine.
        known.extend(name.match_indices('.').map(|(at, _)| name[..at].to_owned()));
        known.insert(name);
        if let Action::Run { hook, .. } = &node.action {
            known.insert(hook.to_string());
        }
    }
    nearest(path, known.iter().map(String::as_str)).map(str::to_owned)
}
