//! Contracts of hooks and probes: parameters, needs, undo, and where the text is.

use crate::context::{Context, UNKNOWN_PARAMETER};
use crate::facts::{Facts, Shape, is_misspelt, plain};
use crate::names::Kind;
use crate::script::{self, Script};
use crate::suggest::{certainty, listed, nearest};
use crate::value::{Env, Type, Value};
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{Duration, Hash, HookSheet, Need};
use muster_syntax::ast::{self, ExprKind, Item};
use std::collections::BTreeMap;

const HOOK: Shape =
    Shape { what: "a hook", known: &["file", "body", "needs", "undo"], required: &[], conditional: &[] };
const TYPES: [&str; 17] = [
    "text", "int", "bool", "duration", "size", "rate", "percent", "ip", "cidr", "mac", "port", "machine", "group",
    "site", "team", "plan", "secret",
];

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameter {
    pub name: String,
    pub kind: Type,
    pub default: Option<Value>,
    /// Its type could not be read, which has been said: any argument fits.
    pub unread: bool,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HookModel {
    pub sheet: HookSheet,
    pub parameters: Vec<Parameter>,
    /// A probe of the standard library: the engine knows it by name, it has no text.
    pub builtin: bool,
    pub span: Span,
    /// What a misspelt parameter was meant to be called: arguments of that name are not wrong.
    pub meant: Option<String>,
    /// The longest time it sleeps at once, as far as that is written in it.
    pub sleep: Option<(Duration, Span)>,
}

impl HookModel {
    pub(crate) fn is_outside(&self) -> bool {
        self.sheet.needs.iter().any(Need::is_outside)
    }
    /// A probe whose first parameter is `machine: machine` is given the machine under check.
    pub(crate) fn takes_machine(&self) -> bool {
        self.parameters.first().is_some_and(|first| first.name == "machine" && first.kind == Type::Machine)
    }
}

pub(crate) fn snake(name: &str) -> String {
    name.replace('-', "_")
}

pub(crate) fn resolve_hooks(cx: &mut Context<'_>) {
    let mut hooks: BTreeMap<String, HookModel> = BTreeMap::new();
    for module in 0..cx.modules.len() {
        let items: Vec<ast::Hook> = cx.modules[module]
            .ast
            .items
            .iter()
            .filter_map(|item| if let Item::Hook(hook) = item { Some(hook.clone()) } else { None })
            .collect();
        for hook in items {
            let has_text = hook.facts.iter().any(|fact| matches!(fact.name.text.as_str(), "file" | "body"));
            let builtin = cx.prelude == Some(module) && !has_text;
            let model = resolve_hook(cx, module, &hook, builtin);
            hooks.entry(hook.name.text.clone()).or_insert(model);
        }
    }
    for module in 0..cx.modules.len() {
        for item in &cx.modules[module].ast.items {
            if let Item::Hook(hook) = item {
                check_undo(cx, module, hook, &mut hooks);
            }
        }
    }
    cx.hooks = hooks;
}

fn resolve_hook(cx: &mut Context<'_>, module: usize, hook: &ast::Hook, builtin: bool) -> HookModel {
    let facts = Facts::read(cx, &HOOK, hook.name.span, hook.span, &hook.facts);
    let parameters = resolve_parameters(cx, module, &hook.parameters);
    let before = cx.errors();
    let needs = facts.expr(cx, "needs").map(|expr| resolve_needs(cx, module, hook, expr)).unwrap_or_default();
    // What it needs is known only when all of that could be read.
    let needs_known = cx.errors() == before
        && !is_misspelt(&HOOK, &hook.facts, "needs")
        && (facts.get("needs").is_some() || !cx.is_unread(hook.span));
    let script = script_of(cx, module, hook, &facts, builtin);
    let function = snake(&hook.name.text);
    let (mut meant, mut sleep) = (None, None);
    if let Some(script) = &script {
        let names: Vec<String> = hook.parameters.iter().map(|parameter| snake(&parameter.name.text)).collect();
        let found = script::check(script, &function, &names, needs_known.then_some(&needs), hook.name.span);
        sleep = found.sleep;
        // A call that could not be understood may be the one that uses it.
        let judged = found.diagnostics.is_empty() && !cx.modules[module].path.starts_with("std/");
        if let Some(expr) = facts.expr(cx, "needs").filter(|_| judged) {
            warn_unused_needs(cx, expr, &found.used);
        }
        for diagnostic in found.diagnostics {
            cx.push(match misspelt_parameter(cx, hook, script, &diagnostic) {
                Some((word, better)) => {
                    meant = Some(word);
                    better
                }
                None => diagnostic,
            });
        }
    }
    let (origin, text) = script.map(|script| (script.origin, script.text)).unwrap_or_default();
    let sheet = HookSheet {
        name: hook.name.text.as_str().into(),
        function,
        probe: hook.probe,
        parameters: hook
            .parameters
            .iter()
            .zip(&parameters)
            .map(|(parameter, typed)| (parameter.name.text.clone(), typed.kind.to_string()))
            .collect(),
        needs,
        undo: None,
        origin,
        hash: Hash::of(&text),
        text,
    };
    HookModel { sheet, parameters, builtin, span: hook.name.span, meant, sleep }
}

/// The text of a hook: from a file, or written in the plan. `None` when there is none, which has been said.
fn script_of(
    cx: &mut Context<'_>,
    module: usize,
    hook: &ast::Hook,
    facts: &Facts<'_>,
    builtin: bool,
) -> Option<Script> {
    let (file, body) = (facts.get("file"), facts.get("body"));
    match (file, body) {
        _ if builtin => None,
        (Some(file), Some(body)) => {
            cx.push(
                Diagnostic::error(
                    104,
                    format!("`{}` has a file and a body", hook.name.text),
                    body.name.span,
                    "the second text",
                )
                .related(file.name.span, "the first"),
            );
            None
        }
        (Some(fact), None) => from_file(cx, module, fact),
        (None, Some(fact)) => from_body(cx, hook, fact),
        (None, None) if cx.is_unread(hook.span) => None,
        (None, None) if ["file", "body"].iter().any(|word| is_misspelt(&HOOK, &hook.facts, word)) => None,
        (None, None) => {
            cx.push(
                Diagnostic::error(
                    106,
                    format!("`{}` has no text", hook.name.text),
                    hook.name.span,
                    "neither `file` nor `body`",
                )
                .help("add `file = \"hooks/name.rhai\"` or `body = \"\"\" … \"\"\"`"),
            );
            None
        }
    }
}

/// What a hook says it needs and no call of it uses. The fix is the list without all of them.
fn warn_unused_needs(cx: &Context<'_>, expr: &ast::Expr, used: &[bool]) {
    let ExprKind::List(items) = &expr.kind else { return };
    let text = |span: Span| cx.sources.get(span.file)?.text.get(span.start as usize..span.end as usize);
    let kept: Option<Vec<&str>> =
        items.iter().zip(used).filter(|(_, used)| **used).map(|(item, _)| text(item.span)).collect();
    for (item, _) in items.iter().zip(used).filter(|(_, used)| !**used) {
        let what = text(item.span).unwrap_or("this");
        let warning = Diagnostic::warning(710, format!("nothing in the hook uses `{what}`"), item.span, "not used")
            .note("what a hook can reach decides where it may be rehearsed and who must read it")
            .help("take it away");
        cx.push(match &kept {
            Some(kept) => warning.fix(expr.span, format!("[{}]", kept.join(", ")), Applicability::Maybe),
            None => warning,
        });
    }
}

/// A step must last as long as its hook sleeps.
pub(crate) fn check_sleep(cx: &Context<'_>, hook: &str, within: Option<Duration>, span: Option<Span>) {
    let Some((sleep, place)) = cx.hooks.get(hook).and_then(|hook| hook.sleep) else { return };
    if let (Some(within), Some(span)) = (within, span)
        && sleep >= within
    {
        cx.push(
            Diagnostic::error(711, format!("`{hook}` sleeps longer than its step may take"), span, "ends the step")
                .related(place, format!("sleeps {sleep}"))
                .help(format!("give the step more than {sleep}, or sleep less at a time")),
        );
    }
}

/// A variable that the body uses and nothing declares, when a parameter that nothing uses is nearly called so: one of the
/// two is misspelt. With what the parameter was meant to be called in the plan.
fn misspelt_parameter(
    cx: &Context<'_>,
    hook: &ast::Hook,
    script: &Script,
    found: &Diagnostic,
) -> Option<(String, Diagnostic)> {
    if found.code.0 != script::NOT_RHAI {
        return None;
    }
    let place = found.primary.span;
    let word = cx.sources.get(place.file)?.text.get(place.start as usize..place.end as usize)?;
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let uses = |name: &str| {
        let body = script.text.split_once('{').map_or("", |(_, body)| body);
        body.split(|c: char| !is_word(c)).any(|used| used == name)
    };
    let unused = hook.parameters.iter().filter(|parameter| !uses(&snake(&parameter.name.text)));
    let parameter = unused.into_iter().find(|parameter| {
        let name = snake(&parameter.name.text);
        nearest(word, [name.as_str()]).is_some() || nearest(&name, [word]).is_some()
    })?;
    let (name, meant) = (&parameter.name, word.replace('_', "-"));
    let message = format!("the parameter `{}` is not used, `{word}` is used and is no parameter", name.text);
    let diagnostic = Diagnostic::error(script::NOT_RHAI, message, name.span, "the parameter")
        .related(place, "not declared")
        .help(format!("did you mean `{meant}`?"))
        .fix(name.span, meant.as_str(), Applicability::Maybe);
    Some((meant, diagnostic))
}

fn from_file(cx: &mut Context<'_>, module: usize, fact: &ast::Fact) -> Option<Script> {
    let expr = plain(cx, fact)?;
    let file = cx.text(module, &Env::new(), expr)?;
    let path = crate::load::beside(&cx.modules[module].path, &file);
    // A module of the standard library has its scripts beside it, in the binary.
    let shipped = cx.modules[module].path.strip_suffix(".plan").and_then(muster_stdlib::module);
    let text = match shipped {
        Some(_) => muster_stdlib::script(&path).map(str::to_owned),
        None => cx.world.read(&path),
    };
    let Some(text) = text else {
        return cx.report(
            Diagnostic::error(701, format!("there is no file `{path}`"), expr.span, "no such file")
                .help("the path is relative to this file"),
        );
    };
    crate::lock::check(cx, &path, &text, expr.span)?;
    let known = cx.sources.iter().find(|(_, source)| source.path == path).map(|(id, _)| id);
    let id = known.unwrap_or_else(|| cx.sources.add(path.clone(), text.clone()));
    Some(Script::file(path, id, text, expr.span))
}

fn from_body(cx: &Context<'_>, hook: &ast::Hook, fact: &ast::Fact) -> Option<Script> {
    let expr = plain(cx, fact)?;
    let ExprKind::Text(value) = &expr.kind else {
        return cx.report(
            Diagnostic::error(211, "`body` is a text", expr.span, "not a text").help("write `\"\"\" … \"\"\"`"),
        );
    };
    let source = cx.sources.get(value.inner.file)?;
    let raw = source.text.get(value.inner.start as usize..value.inner.end as usize).unwrap_or("");
    let parameters: Vec<String> = hook.parameters.iter().map(|parameter| snake(&parameter.name.text)).collect();
    Some(Script::body(cx.place_of(expr.span), &snake(&hook.name.text), &parameters, &value.text, raw, value.inner))
}

pub(crate) fn resolve_parameters(cx: &Context<'_>, module: usize, parameters: &[ast::Parameter]) -> Vec<Parameter> {
    let mut all: Vec<Parameter> = Vec::new();
    for parameter in parameters {
        let name = &parameter.name;
        if all.iter().any(|known| known.name == name.text) {
            cx.push(Diagnostic::error(
                208,
                format!("two parameters are called `{}`", name.text),
                name.span,
                "again here",
            ));
        }
        let kind = resolve_type(cx, &parameter.kind);
        let default = match (&parameter.default, &kind) {
            (Some(expr), Some(kind)) => cx.expect(module, &Env::new(), expr, kind),
            _ => None,
        };
        let unread = kind.is_none();
        let kind = kind.unwrap_or(Type::Text);
        all.push(Parameter { name: name.text.clone(), kind, default, unread, span: name.span });
    }
    all
}

fn resolve_type(cx: &Context<'_>, kind: &ast::Type) -> Option<Type> {
    let name = match kind {
        ast::Type::List(of, _) => return resolve_type(cx, of).map(|of| Type::List(Box::new(of))),
        ast::Type::Name(name) => name,
    };
    Some(match name.text.as_str() {
        "text" => Type::Text,
        "int" => Type::Int,
        "bool" => Type::Bool,
        "duration" => Type::Duration,
        "size" => Type::Size,
        "rate" => Type::Rate,
        "percent" => Type::Percent,
        "ip" => Type::Ip,
        "cidr" => Type::Cidr,
        "mac" => Type::Mac,
        "port" => Type::Port,
        "machine" => Type::Machine,
        "group" => Type::Named(Kind::Group),
        "site" => Type::Named(Kind::Site),
        "team" => Type::Named(Kind::Team),
        "plan" => Type::Named(Kind::Plan),
        "secret" => Type::Named(Kind::Secret),
        _ => {
            let diagnostic =
                Diagnostic::error(201, format!("there is no type `{}`", name.text), name.span, "unknown type");
            return cx.report(match nearest(&name.text, TYPES) {
                Some(near) => {
                    let certainty = certainty(&name.text, &TYPES);
                    diagnostic.help(format!("did you mean `{near}`?")).fix(name.span, near, certainty)
                }
                None => diagnostic.help(format!("types are {} and `list(…)` of them", listed(TYPES))),
            });
        }
    })
}

fn resolve_needs(cx: &Context<'_>, module: usize, hook: &ast::Hook, expr: &ast::Expr) -> Vec<Need> {
    let ExprKind::List(items) = &expr.kind else {
        cx.push(Diagnostic::error(211, "`needs` is a list", expr.span, "not a list").help("write `[guest]`"));
        return Vec::new();
    };
    items.iter().filter_map(|item| resolve_need(cx, module, hook, item)).collect()
}

/// The place a need names: a text, or `{name}` for a parameter, which each step fills in.
fn need_place(cx: &Context<'_>, module: usize, hook: &ast::Hook, expr: &ast::Expr) -> Option<String> {
    if let ExprKind::Ref(reference) = &expr.kind
        && reference.path.is_empty()
        && hook.parameters.iter().any(|parameter| parameter.name.text == reference.head.text)
    {
        return Some(format!("{{{}}}", reference.head.text));
    }
    cx.text(module, &Env::new(), expr)
}

fn resolve_need(cx: &Context<'_>, module: usize, hook: &ast::Hook, item: &ast::Expr) -> Option<Need> {
    let unknown = |word: &str, span: Span| {
        let known = ["guest", "ssh", "disk", "bubble", "http", "dns", "mail", "secret", "authority"];
        let diagnostic = Diagnostic::error(201, format!("there is no need `{word}`"), span, "unknown need");
        cx.report(match nearest(word, known) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(span, near, certainty(word, &known)),
            None => diagnostic.help(
                "needs are `guest`, `ssh`, `disk`, `bubble`, `http(\"https://…\")`, `dns(\"host\")`, `mail(\"host\")`, \
                 `secret(name)` and `authority(\"file.pem\")`",
            ),
        })
    };
    match &item.kind {
        ExprKind::Ref(reference) => match reference.head.text.as_str() {
            "guest" => Some(Need::Guest),
            "ssh" => Some(Need::Ssh),
            "disk" => Some(Need::Disk),
            "bubble" => Some(Need::Bubble),
            word => unknown(word, item.span),
        },
        ExprKind::Call(call) => match (call.callee.head.text.as_str(), call.arguments.as_slice()) {
            ("http", [origin]) => Some(Need::Http { origin: need_place(cx, module, hook, &origin.value)? }),
            ("dns", [server]) => Some(Need::Dns { server: need_place(cx, module, hook, &server.value)? }),
            ("mail", [server]) => Some(Need::Mail { server: need_place(cx, module, hook, &server.value)? }),
            ("authority", [file]) => authority(cx, module, &file.value),
            ("secret", [secret]) => {
                let ExprKind::Ref(reference) = &secret.value.kind else {
                    return cx.report(Diagnostic::error(
                        211,
                        "`secret` names a secret",
                        secret.value.span,
                        "not a name",
                    ));
                };
                let name = &reference.head;
                match cx.lookup(module, &name.text) {
                    Some(symbol) if symbol.kind == Kind::Secret => {
                        let key = crate::secrets::key_of(cx, symbol)?;
                        Some(Need::Secret { name: name.text.clone(), key })
                    }
                    _ if cx.is_poisoned(module, &name.text) => None,
                    _ => cx.report(
                        Diagnostic::error(
                            801,
                            format!("there is no secret `{}`", name.text),
                            name.span,
                            "not declared",
                        )
                        .help(format!("declare it: `secret {} = keyring(\"…\")`", name.text)),
                    ),
                }
            }
            (word @ ("http" | "dns" | "mail" | "secret" | "authority"), _) => {
                cx.report(Diagnostic::error(208, format!("`{word}` takes one argument"), call.span, "wrong arguments"))
            }
            (word, _) => unknown(word, call.callee.span),
        },
        _ => cx.report(Diagnostic::error(211, "this is not a need", item.span, "wrong kind")),
    }
}

/// Bytes of a file of authorities: some tens of certificates.
const AUTHORITY_BYTES_MAX: usize = 64 << 10;

/// The certificates become part of the sheet: a run needs no file, and the approver's hash covers whom it trusts.
fn authority(cx: &Context<'_>, module: usize, expr: &ast::Expr) -> Option<Need> {
    let file = cx.text(module, &Env::new(), expr)?;
    let path = crate::load::beside(&cx.modules[module].path, &file);
    let wrong = |what: String, label: &str| {
        Diagnostic::error(701, what, expr.span, label)
            .help("name a file with the public certificates of the authority, relative to this one: `-----BEGIN CERTIFICATE-----`")
    };
    let Some(pem) = cx.world.read(&path) else {
        return cx.report(wrong(format!("there is no file `{path}`"), "no such file"));
    };
    if pem.contains("PRIVATE KEY-----") {
        return cx.report(wrong(format!("`{path}` holds a private key"), "would be written into every runsheet"));
    }
    if !pem.contains("-----BEGIN CERTIFICATE-----") || pem.len() > AUTHORITY_BYTES_MAX {
        return cx.report(wrong(format!("`{path}` holds no certificates, or too many"), "not an authority"));
    }
    Some(Need::Authority { pem })
}

/// `undo =` names a hook with the same parameters.
fn check_undo(cx: &Context<'_>, module: usize, hook: &ast::Hook, hooks: &mut BTreeMap<String, HookModel>) {
    let Some(fact) = hook.facts.iter().find(|fact| fact.name.text == "undo") else { return };
    let Some(expr) = plain(cx, fact) else { return };
    let Some(Value::Named(_, name)) = cx.expect(module, &Env::new(), expr, &Type::Named(Kind::Hook)) else { return };
    let (Some(own), Some(undo)) = (hooks.get(&hook.name.text), hooks.get(&name)) else { return };
    let unread = |hook: &HookModel| hook.parameters.iter().any(|parameter| parameter.unread);
    let mut meant = None;
    if own.sheet.parameters != undo.sheet.parameters && !unread(own) && !unread(undo) {
        let diagnostic = Diagnostic::error(
            707,
            format!("`{name}` cannot undo `{}`: its parameters differ", hook.name.text),
            expr.span,
            "another contract",
        );
        let same = |(own, undo): &(&Parameter, &Parameter)| (&own.name, &own.kind) == (&undo.name, &undo.kind);
        let pair = own.parameters.iter().zip(&undo.parameters).find(|pair| !same(pair));
        let equally_many = own.parameters.len() == undo.parameters.len();
        cx.push(
            match pair.filter(|_| equally_many) {
                Some((own, undo)) => {
                    meant = nearest(&own.name, [undo.name.as_str()]).map(str::to_owned);
                    diagnostic
                        .related(own.span, format!("`{}`, {}, here", own.name, own.kind.with_article()))
                        .related(undo.span, format!("`{}`, {}, here", undo.name, undo.kind.with_article()))
                }
                None => diagnostic.related(undo.span, "declared here"),
            }
            .help("give both the same parameters: the undo is called with the arguments of the do"),
        );
    }
    if let Some(own) = hooks.get_mut(&hook.name.text) {
        own.meant = own.meant.take().or(meant);
        own.sheet.undo = Some(name.as_str().into());
    }
}

/// Arguments by parameter name: positions first, then names, then defaults. A last list takes what is left over.
pub(crate) fn bind(
    cx: &Context<'_>,
    module: usize,
    env: &Env,
    call: &ast::Call,
    parameters: &[Parameter],
) -> Option<BTreeMap<String, Value>> {
    let mut binding = Binding { cx, module, env, call, parameters, bound: BTreeMap::new(), position: 0, misfit: false };
    for argument in &call.arguments {
        binding.argument(argument);
    }
    binding.defaults();
    binding.bound.into_iter().map(|(name, value)| Some((name, value?))).collect()
}

struct Binding<'a, 'w> {
    cx: &'a Context<'w>,
    module: usize,
    env: &'a Env,
    call: &'a ast::Call,
    parameters: &'a [Parameter],
    /// `None` where the argument was wrong, and that has been said.
    bound: BTreeMap<String, Option<Value>>,
    position: usize,
    /// An argument fits no parameter: the one that is missing is probably that one.
    misfit: bool,
}

impl Binding<'_, '_> {
    fn argument(&mut self, argument: &ast::Argument) {
        let swallows = self.parameters.last().filter(|last| matches!(last.kind, Type::List(_)));
        let parameter = match &argument.name {
            Some(name) => self.parameters.iter().find(|parameter| parameter.name == name.text),
            None => {
                self.position += 1;
                self.parameters.get(self.position - 1).or(swallows)
            }
        };
        let Some(parameter) = parameter else {
            let meant = self.cx.hooks.get(&self.call.callee.head.text).and_then(|hook| hook.meant.as_deref());
            let said = argument.name.as_ref().is_some_and(|name| meant == Some(name.text.as_str()));
            if !said {
                self.cx.push(unknown_argument(self.call, argument, self.parameters));
            }
            self.misfit = true;
            let name = argument.name.as_ref().map_or_else(|| self.position.to_string(), |name| name.text.clone());
            self.bound.insert(name, None);
            return;
        };
        if let Type::List(of) = &parameter.kind
            && argument.name.is_none()
            && self.position >= self.parameters.len()
            && !matches!(argument.value.kind, ExprKind::List(_))
        {
            self.left_over(&parameter.name, of, &argument.value);
            return;
        }
        if self.bound.contains_key(&parameter.name) {
            let span = argument.name.as_ref().map_or(argument.value.span, |name| name.span);
            self.cx.push(Diagnostic::error(208, format!("`{}` is given twice", parameter.name), span, "again here"));
            self.bound.insert(parameter.name.clone(), None);
            return;
        }
        let value = match parameter.unread {
            true => None,
            false => self.cx.argument(self.module, self.env, &argument.value, &parameter.kind),
        };
        self.bound.insert(parameter.name.clone(), value);
    }

    /// One more item for the list at the end; a list is taken item by item.
    fn left_over(&mut self, name: &str, of: &Type, expr: &ast::Expr) {
        let items = match self.cx.eval(self.module, self.env, expr) {
            Some(Value::List(items)) => Some(items),
            Some(value) => self.cx.insist(value, of, expr.span).map(|value| vec![value]),
            None => None,
        };
        let known = self.bound.remove(name).unwrap_or_else(|| Some(Value::List(Vec::new())));
        let all = match (known, items) {
            (Some(Value::List(mut known)), Some(items)) => {
                known.extend(items);
                Some(Value::List(known))
            }
            _ => None,
        };
        self.bound.insert(name.to_owned(), all);
    }

    fn defaults(&mut self) {
        for parameter in self.parameters {
            if self.bound.contains_key(&parameter.name) {
                continue;
            }
            if parameter.default.is_none() && !self.misfit {
                self.cx.push(
                    Diagnostic::error(
                        208,
                        format!("`{}` is missing", parameter.name),
                        self.call.callee.span,
                        "an argument is missing",
                    )
                    .help(format!(
                        "add `{} = …`: {}",
                        parameter.name,
                        parameter.kind.with_article()
                    )),
                );
            }
            self.bound.insert(parameter.name.clone(), parameter.default.clone());
        }
    }
}

fn unknown_argument(call: &ast::Call, argument: &ast::Argument, parameters: &[Parameter]) -> Diagnostic {
    let callee = &call.callee.head.text;
    let names = || parameters.iter().map(|parameter| parameter.name.as_str());
    match &argument.name {
        Some(name) => {
            let diagnostic = Diagnostic::error(
                208,
                format!("`{callee}` has no parameter `{}`", name.text),
                name.span,
                UNKNOWN_PARAMETER,
            );
            match nearest(&name.text, names()) {
                Some(near) => {
                    let diagnostic =
                        diagnostic.help(format!("did you mean `{near}`?")).fix(name.span, near, Applicability::Maybe);
                    match parameters.iter().find(|parameter| parameter.name == near) {
                        // That one may be misspelt.
                        Some(parameter) => diagnostic.related(parameter.span, "declared here"),
                        None => diagnostic,
                    }
                }
                None => diagnostic.help(format!("it takes {}", listed(names()))),
            }
        }
        None => {
            Diagnostic::error(208, format!("`{callee}` takes fewer arguments"), argument.value.span, "one too many")
                .help(format!("it takes {}", listed(names())))
        }
    }
}

impl Context<'_> {
    /// An argument: a machine may be unknown in its own way, all else is an expression of that type.
    fn argument(&self, module: usize, env: &Env, expr: &ast::Expr, want: &Type) -> Option<Value> {
        match (want, &expr.kind) {
            (Type::Machine, _) => self.machine_name(module, env, expr).map(Value::Machine),
            (Type::List(of), ExprKind::List(items)) => {
                let values: Vec<_> = items.iter().map(|item| self.argument(module, env, item, of)).collect();
                values.into_iter().collect::<Option<Vec<_>>>().map(Value::List)
            }
            _ => self.expect(module, env, expr, want),
        }
    }
}
