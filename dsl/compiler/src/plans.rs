//! Plans: their facts, their stages, and what they may contain.

use crate::context::{Context, UNKNOWN_STAGE};
use crate::facts::{Facts, Shape, plain, word};
use crate::known_plans::KnownPlans;
use crate::model::{Condition, LineModel, PlanModel, RISING, StageModel, VerbModel, When};
use crate::names::Kind;
use crate::steps::Lines;
use crate::suggest::{certainty, listed, nearest};
use crate::value::{Env, Value};
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{Duration, PointChoice};
use muster_syntax::ast::{self, ExprKind, FactValue, Item};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

const PLAN: Shape = Shape {
    what: "a plan",
    known: &["move", "rto", "rpo", "owner", "point", "keep"],
    required: &["move"],
    conditional: &["point", "keep"],
};

/// A plan and whether it could be read whole; only whole plans are compiled.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub model: Arc<PlanModel>,
    pub whole: bool,
    /// Its steps could all be read, so that their order can be judged even if a fact is wrong.
    pub steps_whole: bool,
}

/// All plans of all files; `known` are those of which nothing but their own file can have changed.
pub(crate) fn resolve_plans(cx: &Context<'_>, known: &mut KnownPlans) -> Vec<Resolved> {
    let mut plans: Vec<Resolved> = Vec::new();
    let mut groups: HashMap<&str, Vec<&str>> = HashMap::new();
    for group in cx.groups.values().filter(|group| group.policy.is_some()) {
        group.machines.iter().for_each(|(machine, _)| groups.entry(machine).or_default().push(&group.name));
    }
    for (module, file) in cx.modules.iter().enumerate() {
        for item in &file.ast.items {
            let Item::Plan(plan) = item else { continue };
            if plans.iter().any(|known| known.model.name == plan.name.text) {
                continue; // E0202
            }
            if let Some((resolved, said)) = known.resolved(&plan.name.text, &file.ast) {
                cx.repeat(said);
                plans.push(resolved);
                continue;
            }
            let (before, recording) = (cx.errors(), cx.record());
            let resolved = resolve_plan(cx, module, plan, &groups);
            let said = cx.recorded(recording);
            if let Some((model, steps)) = resolved {
                let read = !cx.is_unread(plan.span);
                let whole = cx.errors() == before && steps && read;
                let resolved = Resolved { model: Arc::new(model), whole, steps_whole: steps && read };
                known.keep_resolved(&file.ast, resolved.clone(), said);
                plans.push(resolved);
            }
        }
    }
    plans
}

/// With whether all of its steps could be read. `groups`: those that are replicated, by machine.
fn resolve_plan(
    cx: &Context<'_>,
    module: usize,
    plan: &ast::Plan,
    groups: &HashMap<&str, Vec<&str>>,
) -> Option<(PlanModel, bool)> {
    let facts = Facts::read(cx, &PLAN, plan.name.span, plan.span, &plan.facts);
    let duration = |word: &str| {
        let expr = facts.expr(cx, word)?;
        Some((cx.duration(module, &Env::new(), expr)?, expr.span))
    };
    let ends = facts.get("move").and_then(|fact| resolve_move(cx, module, fact));
    let (rto, rpo) = (duration("rto"), duration("rpo"));
    let owner = facts.expr(cx, "owner").and_then(|expr| resolve_owner(cx, module, expr));
    let keep = facts.all("keep").filter_map(|fact| {
        let condition = fact.when.as_ref().map_or(Some(Condition::default()), |when| condition(cx, module, when, true));
        let duration = cx.duration(module, &Env::new(), plain(cx, fact)?);
        Some((condition?, duration?))
    });
    let keep: Vec<(Condition, Duration)> = keep.collect();
    let points = facts.all("point").filter_map(|fact| resolve_point(cx, module, fact)).collect();
    let before = cx.errors();
    let (stages, all_read) = resolve_stages(cx, module, plan);
    let steps_whole = all_read && cx.errors() == before;
    let (mut machines, mut created) = (BTreeMap::new(), Vec::new());
    for stage in &stages {
        collect_machines(&stage.lines, &mut machines, &mut created);
    }
    let moved = machines.keys().filter(|name| !created.contains(name));
    let groups: BTreeSet<&str> = moved.filter_map(|name| groups.get(name.as_str())).flatten().copied().collect();
    let (from, to, back) = ends?;
    let route = route_between(cx, &from, &to)?;
    let home = back.as_ref().unwrap_or(&from);
    let back_route = if back.is_some() { route_between(cx, &to, home)? } else { route };
    let model = PlanModel {
        name: plan.name.text.clone(),
        span: plan.name.span,
        from: from.text,
        to: to.text,
        back: back.map(|name| name.text),
        rto,
        rpo,
        owner,
        keep,
        points,
        stages,
        machines,
        created,
        groups: groups.into_iter().map(str::to_owned).collect(),
        route,
        back_route,
    };
    Some((model, steps_whole))
}

type Ends = (ast::Name, ast::Name, Option<ast::Name>);

fn resolve_move(cx: &Context<'_>, module: usize, fact: &ast::Fact) -> Option<Ends> {
    let FactValue::Move { from, to, back, .. } = &fact.value else {
        return cx.report(
            Diagnostic::error(211, "`move` names two sites", fact.span, "not a move").help("write `move = hq -> dr`"),
        );
    };
    let site = |name: &ast::Name| cx.declared(module, name, Kind::Site);
    let (from, to, back) = (site(from), site(to), back.as_ref().map(site));
    Some((from?, to?, back.map_or(Some(None), |back| back.map(Some))?))
}

fn route_between(cx: &Context<'_>, from: &ast::Name, to: &ast::Name) -> Option<usize> {
    let found = cx.routes.iter().position(|route| route.joins(&from.text, &to.text));
    match found {
        Some(index) if cx.routes[index].broken => None,
        Some(index) => Some(index),
        None if cx.routes_unread || (cx.is_in_unread(&from.text) && cx.is_in_unread(&to.text)) => None,
        None => cx.report(
            Diagnostic::error(
                201,
                format!("there is no route between `{}` and `{}`", from.text, to.text),
                from.span.to(to.span),
                "no route",
            )
            .help(format!("declare it: `route {} <-> {} {{ vault = … }}`", from.text, to.text)),
        ),
    }
}

fn resolve_owner(cx: &Context<'_>, module: usize, expr: &ast::Expr) -> Option<String> {
    match &expr.kind {
        ExprKind::Ref(reference) => crate::people::person(cx, module, reference),
        _ => cx.text(module, &Env::new(), expr),
    }
}

fn resolve_point(cx: &Context<'_>, module: usize, fact: &ast::Fact) -> Option<(Condition, PointChoice, Span)> {
    const WORDS: [(&str, PointChoice); 3] = [
        ("latest", PointChoice::Latest),
        ("latest-app", PointChoice::LatestApp),
        ("latest-processed", PointChoice::LatestProcessed),
    ];
    let condition = match &fact.when {
        Some(when) => condition(cx, module, when, true)?,
        None => Condition::default(),
    };
    let expr = plain(cx, fact)?;
    let found = word(expr).and_then(|word| WORDS.into_iter().find(|(known, _)| *known == word));
    let Some((_, choice)) = found else {
        let diagnostic = Diagnostic::error(211, "this is not a kind of recovery point", expr.span, "unknown kind");
        let names = || WORDS.iter().map(|(word, _)| *word);
        return cx.report(match word(expr).and_then(|word| nearest(word, names())) {
            Some(near) => {
                let words: Vec<&str> = names().collect();
                let certainty = certainty(word(expr).unwrap_or(""), &words);
                diagnostic.help(format!("did you mean `{near}`?")).fix(expr.span, near, certainty)
            }
            None => diagnostic.help(format!("kinds are {}", listed(names()))),
        });
    };
    Some((condition, choice, expr.span))
}

/// The words of a `when` on a fact of a plan, or on a step.
pub(crate) fn condition(cx: &Context<'_>, module: usize, when: &ast::When, fact: bool) -> Option<Condition> {
    let mut all = Some(Vec::new());
    for name in &when.names {
        match When::WORDS.iter().find(|(word, _)| *word == name.text) {
            Some((_, when)) => {
                if let Some(all) = &mut all {
                    all.push(*when);
                }
            }
            None => {
                all = None;
                cx.push(no_operation(cx, module, name, fact));
            }
        }
    }
    all.map(Condition)
}

fn no_operation(cx: &Context<'_>, module: usize, name: &ast::Name, fact: bool) -> Diagnostic {
    if cx.is_window(module, &name.text) {
        let what = if fact { "this fact" } else { "a step" };
        return Diagnostic::error(603, format!("{what} cannot depend on a window"), name.span, "a window here")
            .note("what a plan does must not depend on the hour at which it is run")
            .help("windows stand behind `bandwidth` in a policy");
    }
    let words: Vec<&str> = When::WORDS.iter().map(|(word, _)| *word).collect();
    let diagnostic = Diagnostic::error(602, format!("`{}` is no operation", name.text), name.span, "unknown operation");
    match nearest(&name.text, words.iter().copied()) {
        Some(near) => {
            let certainty = certainty(&name.text, &words);
            diagnostic.help(format!("did you mean `{near}`?")).fix(name.span, near, certainty)
        }
        None => diagnostic.help(format!("conditions are {}", listed(words))),
    }
}

/// With whether all of their lines could be read.
fn resolve_stages(cx: &Context<'_>, module: usize, plan: &ast::Plan) -> (Vec<StageModel>, bool) {
    let mut stages: Vec<StageModel> = Vec::new();
    let mut lines_of = Lines::new(cx);
    let unread = if cx.is_unread(plan.span) { cx.unread_words(plan.span.file) } else { BTreeSet::new() };
    for stage in &plan.stages {
        let name = &stage.name;
        if let Some(first) = stages.iter().find(|known| known.name == name.text) {
            cx.push(
                Diagnostic::error(202, format!("two stages are called `{}`", name.text), name.span, "again here")
                    .related(first.span, "first here"),
            );
            continue;
        }
        let lines = lines_of.body(module, &Env::new(), &stage.body);
        if stage.body.lines.is_empty() && !cx.is_unread(stage.span) {
            cx.push(Diagnostic::warning(
                608,
                format!("stage `{}` is empty", name.text),
                name.span,
                "does nothing in any operation",
            ));
        }
        let known = |name: &&ast::Name| plan.stages.iter().any(|stage| stage.name.text == name.text);
        let said = |name: &&ast::Name| known(name) || unread.contains(&name.text);
        for unknown in stage.after.iter().filter(|name| !said(name)) {
            let names = plan.stages.iter().map(|stage| stage.name.text.as_str());
            let diagnostic =
                Diagnostic::error(201, format!("there is no stage `{}`", unknown.text), unknown.span, UNKNOWN_STAGE);
            cx.push(match nearest(&unknown.text, names.clone()) {
                Some(near) => {
                    let declared = plan.stages.iter().find(|stage| stage.name.text == near);
                    let diagnostic = diagnostic.help(format!("did you mean `{near}`?")).fix(
                        unknown.span,
                        near,
                        Applicability::Maybe,
                    );
                    match declared {
                        Some(stage) => diagnostic.related(stage.name.span, "this stage"),
                        None => diagnostic,
                    }
                }
                None => diagnostic.help(format!("the plan has {}", listed(names))),
            });
        }
        let after = stage.after.iter().filter(known);
        let (after, after_spans) = after.map(|name| (name.text.clone(), name.span)).unzip();
        stages.push(StageModel { name: name.text.clone(), after, after_spans, lines, span: name.span });
    }
    (in_order(cx, stages), lines_of.whole)
}

/// Stages so that each comes behind those it is `after`. A loop is an E0307 that prints it.
fn in_order(cx: &Context<'_>, stages: Vec<StageModel>) -> Vec<StageModel> {
    let mut waiting = stages;
    let mut ordered: Vec<StageModel> = Vec::new();
    while !waiting.is_empty() {
        let ready = waiting
            .iter()
            .position(|stage| stage.after.iter().all(|name| ordered.iter().any(|known| known.name == *name)));
        match ready {
            Some(index) => ordered.push(waiting.remove(index)),
            None => {
                report_loop(cx, &waiting);
                break;
            }
        }
    }
    ordered.extend(waiting);
    ordered
}

fn report_loop(cx: &Context<'_>, waiting: &[StageModel]) {
    let next = |name: &str| {
        let stage = waiting.iter().find(|stage| stage.name == name)?;
        stage.after.iter().find(|after| waiting.iter().any(|stage| stage.name == **after)).cloned()
    };
    let Some(first) = waiting.first() else { return };
    let mut path = vec![first.name.clone()];
    // Each waiting stage waits for another one, so walking on must come round.
    while let Some(name) = path.last().and_then(|last| next(last)) {
        if let Some(begin) = path.iter().position(|known| *known == name) {
            path.drain(..begin);
            path.push(name);
            break;
        }
        path.push(name);
    }
    let span = |name: &String| waiting.iter().find(|stage| stage.name == *name).map(|stage| stage.span);
    let mut on_loop: Vec<Span> = path.iter().filter_map(span).collect();
    on_loop.sort();
    on_loop.dedup();
    let mut spans = on_loop.into_iter();
    let Some(primary) = spans.next() else { return };
    let text: Vec<String> = path.iter().map(|name| format!("`{name}`")).collect();
    let mut diagnostic =
        Diagnostic::error(307, "these stages wait for each other", primary, "begins only after itself")
            .note(text.join(" after "))
            .help("take one `after` away");
    for span in spans.take(2) {
        diagnostic = diagnostic.related(span, "on the loop");
    }
    cx.push(diagnostic);
}

fn collect_machines(lines: &[LineModel], machines: &mut BTreeMap<String, Span>, created: &mut Vec<String>) {
    for line in lines {
        match line {
            LineModel::Step(step) => match &step.verb {
                VerbModel::Start { machines: names, .. } => {
                    for (name, span) in names {
                        machines.entry(name.clone()).or_insert(*span);
                    }
                }
                VerbModel::Create { machines: names, .. } => {
                    for (name, span) in names {
                        machines.entry(name.clone()).or_insert(*span);
                        created.push(name.clone());
                    }
                }
                _ => {}
            },
            LineModel::When(_, lines) | LineModel::Parallel(lines) | LineModel::Sequence(lines) => {
                collect_machines(lines, machines, created);
            }
            LineModel::Down(_) => {}
        }
    }
}

/// A `when` that no operation fulfils together with those around it: E0308.
pub(crate) fn check_reachable(cx: &Context<'_>, conditions: &[&Condition], down: bool, span: Span) {
    let possible = RISING
        .into_iter()
        .filter(|operation| !down || operation.kind.is_live())
        .any(|operation| conditions.iter().all(|condition| condition.holds(operation)));
    if !possible && !conditions.is_empty() {
        cx.push(
            Diagnostic::error(308, "no operation does this", span, "its conditions never hold together")
                .note(conditions.iter().rev().map(|condition| condition.words()).collect::<Vec<_>>().join(" inside "))
                .help("widen one of the conditions, or remove the line"),
        );
    }
}

/// The machines a value names, lists included.
pub(crate) fn machines_in(value: &Value) -> Vec<&str> {
    match value {
        Value::Machine(name) => vec![name],
        Value::List(items) => items.iter().flat_map(machines_in).collect(),
        _ => Vec::new(),
    }
}
