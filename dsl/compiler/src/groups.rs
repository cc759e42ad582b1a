//! Groups: the units of consistency, and how their members are chosen.

use crate::context::Context;
use crate::facts::{Facts, Shape, word};
use crate::machines::MachineEntry;
use crate::names::Kind;
use crate::suggest::{listed, nearest};
use crate::value::{Env, Type, Value};
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{MachineFacts, SiteName};
use muster_syntax::ast::{self, ExprKind, Item};
use std::collections::{BTreeMap, BTreeSet, HashMap};

const GROUP: Shape =
    Shape { what: "a group", known: &["policy", "machines", "together"], required: &["machines"], conditional: &[] };

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupModel {
    pub name: String,
    /// `None` is `policy = none`, or a policy that could not be read (`broken`).
    pub policy: Option<String>,
    pub machines: Vec<(String, Span)>,
    pub together: bool,
    /// `select(hq, tag = "shop")`, as written.
    pub query: Option<String>,
    pub span: Span,
    pub broken: bool,
}

pub(crate) fn resolve_groups(cx: &mut Context<'_>) {
    let mut groups: BTreeMap<String, GroupModel> = BTreeMap::new();
    for module in 0..cx.modules.len() {
        for item in &cx.modules[module].ast.items {
            let Item::Group(block) = item else { continue };
            let model = resolve_group(cx, module, block);
            groups.entry(block.name.text.clone()).or_insert(model);
        }
    }
    let mut owner: BTreeMap<&str, (&str, Span)> = BTreeMap::new();
    let mut by_place: Vec<&GroupModel> = groups.values().collect();
    by_place.sort_by_key(|group| group.span);
    for group in by_place {
        for (machine, span) in &group.machines {
            if let Some((first, first_span)) = owner.get(machine.as_str()) {
                cx.push(
                    Diagnostic::error(
                        305,
                        format!("`{machine}` is in two groups"),
                        *span,
                        format!("in `{}` here", group.name),
                    )
                    .related(*first_span, format!("in `{first}` here"))
                    .help("a machine has one group: its policy and its recovery points come from there"),
                );
            } else {
                owner.insert(machine, (&group.name, *span));
            }
        }
    }
    cx.groups = groups;
}

/// The group of each machine; the first by name, where several have it.
pub(crate) fn groups_of_machines(groups: &BTreeMap<String, GroupModel>) -> HashMap<&str, &GroupModel> {
    let mut of: HashMap<&str, &GroupModel> = HashMap::new();
    for group in groups.values() {
        for (machine, _) in &group.machines {
            of.entry(machine).or_insert(group);
        }
    }
    of
}

fn resolve_group(cx: &Context<'_>, module: usize, block: &ast::Block) -> GroupModel {
    let before = cx.errors();
    let (base_module, base) = base_of(cx, module, block, Kind::Group).unwrap_or((module, &[]));
    let shape = if base.is_empty() { &GROUP } else { &Shape { required: &[], ..GROUP } };
    let facts = Facts::read(cx, shape, block.name.span, block.span, &block.facts);
    let base_facts: Vec<&ast::Fact> = base.iter().filter(|fact| facts.get(&fact.name.text).is_none()).collect();
    let lookup = |word: &str| {
        let own = facts.get(word).map(|fact| (module, fact));
        own.or_else(|| base_facts.iter().find(|fact| fact.name.text == word).map(|fact| (base_module, *fact)))
    };
    let plain = |word: &str| {
        let (module, fact) = lookup(word)?;
        Some((module, crate::facts::plain(cx, fact)?))
    };
    let mut policy_unread = false;
    let policy = match plain("policy") {
        Some((_, expr)) if word(expr) == Some("none") => None,
        Some((module, expr)) => match cx.expect(module, &Env::new(), expr, &Type::Named(Kind::Policy)) {
            Some(Value::Named(_, name)) => Some(name),
            _ => {
                policy_unread = true;
                None
            }
        },
        None => {
            let misspelt = crate::facts::is_misspelt(&GROUP, &block.facts, "policy");
            if lookup("policy").is_none() && !misspelt && !cx.is_unread(block.span) {
                cx.push(
                    Diagnostic::error(
                        304,
                        format!("group `{}` has no policy", block.name.text),
                        block.name.span,
                        "no `policy`",
                    )
                    .note("what is not replicated is decided, not forgotten")
                    .help("add `policy = …`, or write `policy = none` if its machines are rebuilt"),
                );
            }
            None
        }
    };
    let listed = plain("machines").map(|(module, expr)| members(cx, module, expr));
    // A member may be unknown because of a mistake that was said elsewhere.
    let (machines, all_known) = listed.unwrap_or((Vec::new(), true));
    let query = plain("machines").and_then(|(_, expr)| query_of(cx, expr));
    let together = plain("together")
        .and_then(|(module, expr)| cx.expect(module, &Env::new(), expr, &Type::Bool))
        .is_some_and(|value| value == Value::Bool(true));
    GroupModel {
        name: block.name.text.clone(),
        policy,
        machines,
        together,
        query,
        span: block.name.span,
        broken: cx.errors() > before || policy_unread || !all_known || cx.is_unread(block.span),
    }
}

/// The facts of the block that this one is `like`; one level deep.
pub(crate) fn base_of<'a>(
    cx: &'a Context<'_>,
    module: usize,
    block: &ast::Block,
    kind: Kind,
) -> Option<(usize, &'a [ast::Fact])> {
    let like = block.like.as_ref()?;
    let symbol = cx.named(module, like, kind)?;
    let (Item::Policy(base) | Item::Group(base) | Item::Team(base)) =
        &cx.modules[symbol.module].ast.items[symbol.index]
    else {
        return None;
    };
    if let Some(deeper) = &base.like {
        return cx.report(
            Diagnostic::error(
                203,
                format!("`{}` is itself like `{}`", like.text, deeper.text),
                like.span,
                "a copy of a copy",
            )
            .help("`like` goes one level deep: name the original"),
        );
    }
    Some((symbol.module, &base.facts))
}

/// With whether all of them are known.
fn members(cx: &Context<'_>, module: usize, expr: &ast::Expr) -> (Vec<(String, Span)>, bool) {
    let ExprKind::List(items) = &expr.kind else {
        match cx.expect(module, &Env::new(), expr, &Type::List(Box::new(Type::Machine))) {
            Some(Value::List(values)) => {
                let name = |value| if let Value::Machine(name) = value { Some((name, expr.span)) } else { None };
                return (values.into_iter().filter_map(name).collect(), true);
            }
            _ => return (Vec::new(), false),
        }
    };
    let mut members: Vec<(String, Span)> = Vec::new();
    let mut all_known = true;
    for item in items {
        let Some(name) = cx.machine_name(module, &Env::new(), item) else {
            all_known = false;
            continue;
        };
        if let Some((_, first)) = members.iter().find(|(known, _)| *known == name) {
            cx.push(
                Diagnostic::error(104, format!("`{name}` is listed twice"), item.span, "again here")
                    .related(*first, "first here"),
            );
            continue;
        }
        members.push((name, item.span));
    }
    (members, all_known)
}

/// The text of a query, when the members are chosen by one.
fn query_of(cx: &Context<'_>, expr: &ast::Expr) -> Option<String> {
    let ExprKind::Call(call) = &expr.kind else { return None };
    let file = cx.sources.get(call.span.file)?;
    let text = file.text.get(call.span.start as usize..call.span.end as usize)?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

impl Context<'_> {
    /// `select(hq, cloud = "Gold", tag = "shop")`: the machines of a site that lie in these containers and bear these
    /// tags, by name.
    pub(crate) fn select(&self, module: usize, env: &Env, call: &ast::Call) -> Option<Value> {
        let (mut site, mut conditions) = (None, Vec::new());
        for argument in &call.arguments {
            match &argument.name {
                None if site.is_none() && conditions.is_empty() => {
                    site = Some(self.expect(module, env, &argument.value, &Type::Named(Kind::Site))?);
                }
                Some(name) => conditions.push((name, self.text(module, env, &argument.value)?)),
                None => {
                    return self.report(
                        Diagnostic::error(208, "`select` does not take this", argument.value.span, "wrong argument")
                            .help("write `select(hq, folder = \"/Shop\", tag = \"shop\")`"),
                    );
                }
            }
        }
        let Some(Value::Named(_, site)) = site else {
            return self.report(
                Diagnostic::error(208, "`select` begins with a site", call.span, "where are they?")
                    .help("write `select(hq, tag = \"shop\")`"),
            );
        };
        let site = SiteName::new(site);
        let machines: Vec<(&String, &MachineFacts)> =
            self.machines.iter().filter_map(|(name, entry)| Some((name, entry.at.get(&site)?))).collect();
        let fits = |facts: &MachineFacts| {
            conditions.iter().all(|(key, value)| match key.text.as_str() {
                "tag" => facts.tags.contains(value),
                key => facts.containers.get(key) == Some(value),
            })
        };
        let chosen: Vec<Value> =
            machines.iter().filter(|(_, facts)| fits(facts)).map(|(name, _)| Value::Machine((*name).clone())).collect();
        // One that could not be read may be among those meant.
        let is_unread = |entry: &MachineEntry| {
            entry.declared.as_ref().is_some_and(|(at, _)| *at == site) && !entry.at.contains_key(&site)
        };
        if chosen.is_empty() && !self.is_inventory_unread() && !self.machines.values().any(is_unread) {
            return self.report(nothing_chosen(&site, call, &conditions, &machines));
        }
        (!chosen.is_empty()).then_some(Value::List(chosen))
    }
}

fn nothing_chosen(
    site: &SiteName,
    call: &ast::Call,
    conditions: &[(&ast::Name, String)],
    machines: &[(&String, &MachineFacts)],
) -> Diagnostic {
    let keys: BTreeSet<&str> =
        machines.iter().flat_map(|(_, facts)| facts.containers.keys().map(String::as_str)).chain(["tag"]).collect();
    if let Some((key, _)) = conditions.iter().find(|(key, _)| !keys.contains(key.text.as_str())) {
        let diagnostic = Diagnostic::error(
            208,
            format!("no machine of `{site}` lies in a `{}`", key.text),
            key.span,
            "unknown container",
        );
        return match nearest(&key.text, keys.iter().copied()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(key.span, near, Applicability::Maybe),
            None => diagnostic.help(format!("by the inventory they are chosen by {}", listed(keys))),
        };
    }
    let diagnostic =
        Diagnostic::error(301, format!("no machine of `{site}` is meant by this"), call.span, "chooses nothing");
    let known = |key: &str| -> BTreeSet<&str> {
        machines
            .iter()
            .flat_map(|(_, facts)| match key {
                "tag" => facts.tags.iter().map(String::as_str).collect::<Vec<_>>(),
                key => facts.containers.get(key).map(String::as_str).into_iter().collect(),
            })
            .collect()
    };
    let misspelt = conditions.iter().find_map(|(key, value)| {
        let known = known(&key.text);
        if known.contains(value.as_str()) { None } else { Some((key, value, known)) }
    });
    match misspelt {
        Some((key, value, known)) => match nearest(value, known.iter().copied()) {
            Some(near) => diagnostic.help(format!("did you mean `{} = \"{near}\"`?", key.text)),
            None => diagnostic
                .note(format!("none has `{} = \"{value}\"`", key.text))
                .help("pull the inventory again: `muster inventory pull`, or correct the query"),
        },
        None => diagnostic.help("pull the inventory again: `muster inventory pull`, or ask for less at once"),
    }
}
