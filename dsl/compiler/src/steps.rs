//! The lines of stages and templates: verbs with their words resolved, templates expanded in place.

use crate::context::Context;
use crate::hooks::{bind, check_sleep, resolve_parameters};
use crate::lower::http_target;
use crate::model::{Condition, LineModel, StepModel, VerbModel};
use crate::names::Kind;
use crate::people::person;
use crate::plans::{check_reachable, condition};
use crate::suggest::{listed, nearest};
use crate::value::{Env, Type, Value};
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{Duration, Otherwise, RetrySheet};
use muster_syntax::ast::{self, Comparison, ComparisonOperator, Item, Line, OtherwiseKind, Verb};
use std::collections::BTreeMap;

/// Attempts beyond this hide a fault instead of riding it out.
const RETRY_MAX: u64 = 100;
/// Each further delay is this much longer.
const RETRY_FACTOR: u32 = 2;
/// Templates within templates; the language has no recursion, so real plans stay far below.
const TEMPLATE_DEPTH_MAX: usize = 16;

/// Expands bodies; knows which templates and conditions it is inside.
pub(crate) struct Lines<'a, 'w> {
    cx: &'a Context<'w>,
    /// Names of the templates being expanded, outermost first.
    prefix: Vec<String>,
    open: Vec<(usize, usize)>,
    /// Where each of them is applied.
    applied: Vec<Span>,
    conditions: Vec<Condition>,
    down: bool,
    /// Every line could be read; one that could not has been said, here or where a name it takes is declared.
    pub whole: bool,
}

impl<'a, 'w> Lines<'a, 'w> {
    pub(crate) fn new(cx: &'a Context<'w>) -> Self {
        Self {
            cx,
            prefix: Vec::new(),
            open: Vec::new(),
            applied: Vec::new(),
            conditions: Vec::new(),
            down: false,
            whole: true,
        }
    }

    pub(crate) fn body(&mut self, module: usize, env: &Env, body: &ast::Body) -> Vec<LineModel> {
        let mut lines = Vec::new();
        for line in &body.lines {
            match self.line(module, env, line) {
                Some(model) => lines.push(model),
                // It is not a step.
                None if matches!(line, Line::Require { .. }) => {}
                None => self.whole = false,
            }
        }
        lines
    }

    fn line(&mut self, module: usize, env: &Env, line: &Line) -> Option<LineModel> {
        match line {
            Line::Step(step) => self.step(module, env, step),
            Line::When { when, body } => {
                let condition = condition(self.cx, module, when, false);
                self.conditions.push(condition.clone().unwrap_or_default());
                let conditions: Vec<&Condition> = self.conditions.iter().collect();
                check_reachable(self.cx, &conditions, self.down, when.span);
                let lines = self.body(module, env, body);
                self.conditions.pop();
                Some(LineModel::When(condition?, lines))
            }
            Line::Down { span, body } => {
                if self.down {
                    return self.cx.report(Diagnostic::error(101, "`down` inside `down`", *span, "already going down"));
                }
                self.down = true;
                let lines = self.body(module, env, body);
                self.down = false;
                Some(LineModel::Down(lines))
            }
            Line::Parallel { body, .. } => Some(LineModel::Parallel(self.body(module, env, body))),
            Line::Require { condition, text, span } => {
                self.require(module, env, condition, text, *span);
                None
            }
        }
    }

    fn require(&self, module: usize, env: &Env, condition: &Comparison, text: &ast::Expr, span: Span) -> Option<()> {
        let left = self.cx.eval(module, env, &condition.left);
        let holds = match &condition.rest {
            None => matches!(left?, Value::Bool(true)),
            Some((operator, right)) => {
                let right = self.cx.eval(module, env, right);
                let (left, right) = (left?, right?);
                match compare(&left, *operator, &right) {
                    Some(holds) => holds,
                    None => {
                        let (a, b) = (left.kind().with_article(), right.kind().with_article());
                        return self.cx.report(Diagnostic::error(
                            212,
                            format!("{a} and {b} cannot be compared"),
                            condition.span,
                            "different kinds",
                        ));
                    }
                }
            }
        };
        let text = self.cx.text(module, env, text)?;
        if holds {
            return Some(());
        }
        let diagnostic = Diagnostic::error(210, text, span, "does not hold");
        self.cx.report(match self.applied.last() {
            Some(applied) => diagnostic.related(*applied, "applied here"),
            None => diagnostic,
        })
    }

    fn step(&mut self, module: usize, env: &Env, step: &ast::Step) -> Option<LineModel> {
        let cx = self.cx;
        let clauses = &step.clauses;
        let duration = |expr: &Option<ast::Expr>| match expr {
            Some(expr) => cx.duration(module, env, expr).map(Some),
            None => Some(None),
        };
        let within = duration(&clauses.within).and_then(|within| self.positive(within, clauses.within.as_ref()));
        let usually = duration(&clauses.usually);
        let retry = self.retry(module, env, clauses.retry.as_ref(), within.flatten());
        let when = match &clauses.when {
            Some(when) => {
                let own = condition(cx, module, when, false);
                if let Some(own) = &own {
                    let conditions: Vec<&Condition> = self.conditions.iter().chain([own]).collect();
                    check_reachable(cx, &conditions, self.down, when.span);
                }
                own
            }
            None => Some(Condition::default()),
        };
        let otherwise = clauses.otherwise.as_ref().map_or(Otherwise::Pause, |otherwise| match otherwise.kind {
            OtherwiseKind::Pause => Otherwise::Pause,
            OtherwiseKind::Continue => Otherwise::Continue,
            OtherwiseKind::Undo => Otherwise::Undo,
        });
        if let Verb::Apply { template } = &step.verb {
            let lines = self.apply(module, env, step, template)?;
            return Some(LineModel::When(when?, lines));
        }
        let verb = self.verb(module, env, &step.verb)?;
        let otherwise_span = clauses.otherwise.as_ref().map(|otherwise| otherwise.span);
        self.check_undo(&verb, otherwise, otherwise_span);
        if let VerbModel::Run { hook, .. } = &verb {
            check_sleep(cx, hook, within.flatten(), clauses.within.as_ref().map(|within| within.span));
        }
        Some(LineModel::Step(Box::new(StepModel {
            verb,
            prefix: self.prefix.clone(),
            label: clauses.label.as_ref().map(|label| label.text.clone()),
            within: within?,
            usually: usually?,
            retry: retry?,
            when: when?,
            otherwise,
            otherwise_span,
            span: step.span,
            made_by: cx.place_of(step.verb_span),
        })))
    }

    /// No step ends at once, and none may wait for ever.
    fn positive(&self, within: Option<Duration>, expr: Option<&ast::Expr>) -> Option<Option<Duration>> {
        match (within, expr) {
            (Some(Duration::ZERO), Some(expr)) => self.cx.report(
                Diagnostic::error(211, "a step needs some time", expr.span, "no time at all")
                    .help("write `within 30s`"),
            ),
            _ => Some(within),
        }
    }

    /// Attempts whose waits alone outlast the step: E0408.
    fn check_patience(&self, retry: &ast::Retry, delay: Duration, within: Option<Duration>) {
        let Some(within) = within else { return };
        let waits = Duration(delay.0.saturating_mul(retry.count));
        if waits >= within {
            self.cx.push(
                Diagnostic::warning(408, "the last attempts never happen", retry.span, format!("{waits} of waiting"))
                    .note(format!("`within` covers all attempts, and ends after {within}"))
                    .help("give the step more time, or fewer attempts"),
            );
        }
    }

    fn retry(
        &self,
        module: usize,
        env: &Env,
        retry: Option<&ast::Retry>,
        within: Option<Duration>,
    ) -> Option<Option<RetrySheet>> {
        let Some(retry) = retry else { return Some(None) };
        let delay = self.cx.duration(module, env, &retry.every);
        if retry.count > RETRY_MAX {
            return self.cx.report(
                Diagnostic::error(211, format!("{} attempts are too many", retry.count), retry.span, "too many")
                    .help(format!("at most {RETRY_MAX}; what takes longer needs a longer `within`")),
            );
        }
        let count = u32::try_from(retry.count).unwrap_or(u32::MAX);
        let each = retry.each.as_ref().map(|each| self.cx.duration(module, env, each));
        let (delay, each) = (delay?, each.map_or(Some(None), |each| each.map(Some))?);
        let each = self.positive(each, retry.each.as_ref())?;
        self.check_patience(retry, delay, within);
        Some(Some(RetrySheet { count, delay, factor: RETRY_FACTOR, each }))
    }

    /// `else undo` needs something that can be undone.
    fn check_undo(&self, verb: &VerbModel, otherwise: Otherwise, span: Option<Span>) {
        let (Otherwise::Undo, Some(span)) = (otherwise, span) else { return };
        let can = match verb {
            VerbModel::Run { hook, .. } => self.cx.hooks.get(hook).is_none_or(|hook| hook.sheet.undo.is_some()),
            VerbModel::Start { .. } | VerbModel::Stop { .. } | VerbModel::Create { .. } => true,
            _ => false,
        };
        if !can {
            self.cx.push(
                Diagnostic::error(607, "this step has no undo", span, "nothing to undo it with")
                    .help("give the hook an `undo = …`, or write `else pause`"),
            );
        }
    }

    fn verb(&self, module: usize, env: &Env, verb: &Verb) -> Option<VerbModel> {
        let cx = self.cx;
        Some(match verb {
            Verb::Start { machines, in_turn } => {
                VerbModel::Start { machines: cx.machine_refs(module, env, machines)?, in_turn: *in_turn }
            }
            Verb::Stop { machines, in_turn } => {
                VerbModel::Stop { machines: cx.machine_refs(module, env, machines)?, in_turn: *in_turn }
            }
            Verb::Create { machines, from } => {
                let (machines, from) = (cx.machine_refs(module, env, machines), cx.text(module, env, from));
                VerbModel::Create { machines: machines?, from: from? }
            }
            Verb::Check { machines, probe } => {
                let machines = cx.machine_refs(module, env, machines);
                let call = self.call(module, env, probe, Kind::Probe);
                let (name, arguments) = call?;
                self.check_target(&name, &arguments, probe)?;
                let probe = name;
                VerbModel::Check { machines: machines?, probe, arguments }
            }
            Verb::Run { hook } => {
                let (hook, arguments) = self.call(module, env, hook, Kind::Hook)?;
                VerbModel::Run { hook, arguments }
            }
            Verb::Approve { text, by } => {
                let (text, by) = (self.shown(module, env, text), person(cx, module, by));
                VerbModel::Approve { text: text?, by: by? }
            }
            Verb::Manual { text, by } => {
                let (text, by) = (self.shown(module, env, text), person(cx, module, by));
                VerbModel::Manual { text: text?, by: by? }
            }
            Verb::Wait { duration } => VerbModel::Wait { duration: cx.duration(module, env, duration)? },
            Verb::Notify { to, text } => {
                let (to, text) = (person(cx, module, to), self.shown(module, env, text));
                VerbModel::Notify { to: to?, text: text? }
            }
            Verb::Apply { .. } => return None,
        })
    }

    /// What `http` asks for must be a port and a path.
    fn check_target(&self, name: &str, arguments: &BTreeMap<String, Value>, call: &ast::Call) -> Option<()> {
        let builtin = name == "http" && self.cx.hooks.get(name).is_some_and(|hook| hook.builtin);
        match arguments.get("target") {
            Some(Value::Text(text)) if builtin && http_target(text).is_none() => self.cx.report(
                Diagnostic::error(211, "`http` wants a port and a path", call.span, "not of that form")
                    .help("write `http(\":8080/ready\")`, or `http(\"/ready\")` for port 80"),
            ),
            _ => Some(()),
        }
    }

    /// A hook or a probe with its arguments.
    fn call(
        &self,
        module: usize,
        env: &Env,
        call: &ast::Call,
        kind: Kind,
    ) -> Option<(String, BTreeMap<String, Value>)> {
        let cx = self.cx;
        let head = &call.callee.head;
        if cx.lookup(module, &head.text).is_none() && !cx.modules[module].scope.aliases.contains_key(&head.text) {
            if cx.is_poisoned(module, &head.text) {
                return None;
            }
            return cx.report(self.unknown_call(module, head, kind));
        }
        let (symbol, name, rest) = cx.symbol_of(module, &call.callee)?;
        if symbol.kind != kind || !rest.is_empty() {
            let (found, wanted) = (Type::Named(symbol.kind).with_article(), Type::Named(kind).with_article());
            return cx.report(
                Diagnostic::error(
                    203,
                    format!("`{}` is {found}, wanted is {wanted}", name.text),
                    name.span,
                    format!("{found} here"),
                )
                .related(symbol.span, "declared here")
                .help("hooks are run, probes are checked"),
            );
        }
        let hook = cx.hooks.get(&name.text)?;
        let named = call.arguments.iter().any(|given| given.name.as_ref().is_some_and(|name| name.text == "machine"));
        let implied = usize::from(kind == Kind::Probe && hook.takes_machine() && !named);
        let arguments = bind(cx, module, env, call, &hook.parameters[implied..])?;
        let arguments = arguments
            .into_iter()
            .map(|(parameter, value)| Some((parameter, self.fill(module, env, value, call.span)?)))
            .collect::<Option<BTreeMap<_, _>>>()?;
        Some((name.text.clone(), arguments))
    }

    fn unknown_call(&self, module: usize, head: &ast::Name, kind: Kind) -> Diagnostic {
        let cx = self.cx;
        let own = cx.modules[module].scope.names.iter();
        let std = cx.prelude.map(|std| cx.modules[std].scope.names.iter()).into_iter().flatten();
        let names: Vec<&str> =
            own.chain(std).filter(|(_, symbol)| symbol.kind == kind).map(|(name, _)| name.as_str()).collect();
        let word = kind.word();
        let diagnostic =
            Diagnostic::error(201, format!("there is no {word} `{}`", head.text), head.span, format!("unknown {word}"));
        match nearest(&head.text, names.iter().copied()) {
            Some(near) => {
                let diagnostic =
                    diagnostic.help(format!("did you mean `{near}`?")).fix(head.span, near, Applicability::Maybe);
                // One of the standard library is not the one that is misspelt.
                match cx.modules[module].scope.names.get(near) {
                    Some(declared) => diagnostic.related(declared.span, "declared here"),
                    None => diagnostic,
                }
            }
            None if names.is_empty() => {
                diagnostic.help(format!("declare it: `{word} {}(…) {{ … }}`, or take it from another file", head.text))
            }
            None => diagnostic.help(format!("known here are {}", listed(names))),
        }
    }

    fn shown(&self, module: usize, env: &Env, expr: &ast::Expr) -> Option<String> {
        let text = self.cx.text(module, env, expr)?;
        self.interpolate(module, env, &text, expr.span)
    }

    fn fill(&self, module: usize, env: &Env, value: Value, span: Span) -> Option<Value> {
        Some(match value {
            Value::Text(text) => Value::Text(self.interpolate(module, env, &text, span)?),
            Value::List(items) => Value::List(
                items.into_iter().map(|item| self.fill(module, env, item, span)).collect::<Option<Vec<_>>>()?,
            ),
            other => other,
        })
    }

    /// Checks each `{name.part}` of a text. What depends on the direction or the run stays as it is; a template's
    /// parameters are put in. Braces around anything else are left alone.
    fn interpolate(&self, module: usize, env: &Env, text: &str, span: Span) -> Option<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let Some(close) = rest[open..].find('}').map(|close| open + close) else { break };
            // `\{` is a brace; it stays as written until the text is filled in.
            if rest[..open].ends_with('\\') {
                out.push_str(&rest[..=open]);
                rest = &rest[open + 1..];
                continue;
            }
            let inner = &rest[open + 1..close];
            out.push_str(&rest[..open]);
            if is_path(inner) {
                out.push_str(&self.interpolated(module, env, inner, span)?);
                rest = &rest[close + 1..];
            } else {
                out.push('{');
                rest = &rest[open + 1..];
            }
        }
        out.push_str(rest);
        Some(out)
    }

    fn interpolated(&self, module: usize, env: &Env, path: &str, span: Span) -> Option<String> {
        const RUN: [&str; 5] = ["target", "source", "plan", "point.at", "loss"];
        if RUN.contains(&path) {
            return Some(format!("{{{path}}}"));
        }
        let (head, field) = path.split_once('.').unwrap_or((path, ""));
        let known = env.get(head).cloned().or_else(|| {
            let machine = self.cx.machines.contains_key(head).then(|| Value::Machine(head.to_owned()));
            machine.or_else(|| {
                let symbol = self.cx.lookup(module, head)?;
                if symbol.kind == Kind::Secret {
                    return Some(Value::Named(Kind::Secret, head.to_owned()));
                }
                if symbol.kind != Kind::Let {
                    return None;
                }
                let name = ast::Name { text: head.to_owned(), span };
                self.cx.eval(
                    symbol.module,
                    &Env::new(),
                    &ast::Expr { kind: ast::ExprKind::Ref(ast::Ref { head: name, path: Vec::new(), span }), span },
                )
            })
        });
        match (known, field) {
            (Some(Value::Machine(name)), "ip" | "name") => Some(format!("{{{name}.{field}}}")),
            (Some(Value::Machine(name)), "") => Some(name),
            (Some(Value::Text(text)), "") => Some(text),
            (Some(Value::Int(number)), "") => Some(number.to_string()),
            (Some(Value::Duration(duration)), "") => Some(duration.to_string()),
            (Some(Value::Ip(ip)), "") => Some(format!("{{={ip}}}")),
            (Some(Value::Named(Kind::Secret, _)), _) => self.cx.report(
                Diagnostic::error(803, format!("secret `{head}` in a text"), span, "would be printed")
                    .help("only hooks open secrets: `secret(\"name\")`"),
            ),
            _ => self.cx.report(
                Diagnostic::error(201, format!("`{{{path}}}` means nothing here"), span, "in this text")
                    .help(format!("texts know {} and the parts of machines: `{{web-01.ip}}`", listed(RUN))),
            ),
        }
    }

    /// Expands a template where it is applied. Its words mean what they mean in its own file.
    fn apply(&mut self, module: usize, env: &Env, step: &ast::Step, call: &ast::Call) -> Option<Vec<LineModel>> {
        let cx = self.cx;
        let head = &call.callee.head;
        if cx.lookup(module, &head.text).is_none() && !cx.modules[module].scope.aliases.contains_key(&head.text) {
            if cx.is_poisoned(module, &head.text) {
                return None;
            }
            return cx.report(self.unknown_call(module, head, Kind::Template));
        }
        let (symbol, name, _) = cx.symbol_of(module, &call.callee)?;
        let Item::Template(template) = &cx.modules[symbol.module].ast.items[symbol.index] else {
            let found = Type::Named(symbol.kind).with_article();
            return cx.report(
                Diagnostic::error(
                    203,
                    format!("`{}` is {found}, wanted is a template", name.text),
                    name.span,
                    format!("{found} here"),
                )
                .related(symbol.span, "declared here"),
            );
        };
        let key = (symbol.module, symbol.index);
        if self.open.contains(&key) || self.open.len() >= TEMPLATE_DEPTH_MAX {
            return cx.report(
                Diagnostic::error(
                    207,
                    format!("template `{}` applies itself", name.text),
                    call.span,
                    "leads back to itself",
                )
                .related(symbol.span, "the template"),
            );
        }
        let parameters = resolve_parameters(cx, symbol.module, &template.parameters);
        let inner = bind(cx, module, env, call, &parameters)?;
        self.open.push(key);
        self.applied.push(call.span);
        self.prefix.push(step.clauses.label.as_ref().map_or_else(|| name.text.clone(), |label| label.text.clone()));
        let lines = self.body(symbol.module, &inner, &template.body);
        self.prefix.pop();
        self.open.pop();
        self.applied.pop();
        Some(vec![LineModel::Sequence(lines)])
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

fn compare(left: &Value, operator: ComparisonOperator, right: &Value) -> Option<bool> {
    use std::cmp::Ordering;
    let order = match (left, right) {
        (Value::Int(a), Value::Int(b)) | (Value::Percent(a), Value::Percent(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::Size(a), Value::Size(b)) => a.cmp(b),
        (Value::Rate(a), Value::Rate(b)) => a.cmp(b),
        (a, b)
            if a.kind() == b.kind() && matches!(operator, ComparisonOperator::Equal | ComparisonOperator::NotEqual) =>
        {
            if a == b {
                Ordering::Equal
            } else {
                Ordering::Less
            }
        }
        _ => return None,
    };
    Some(match operator {
        ComparisonOperator::Equal => order == Ordering::Equal,
        ComparisonOperator::NotEqual => order != Ordering::Equal,
        ComparisonOperator::LessOrEqual => order != Ordering::Greater,
        ComparisonOperator::GreaterOrEqual => order != Ordering::Less,
        ComparisonOperator::Less => order == Ordering::Less,
        ComparisonOperator::Greater => order == Ordering::Greater,
    })
}
