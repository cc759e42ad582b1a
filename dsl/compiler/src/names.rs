//! Names: what a file declares, what it takes from others, and finding a word's one meaning.

use crate::context::{Context, NOT_DECLARED, UNKNOWN_NAME};
use crate::suggest::{listed, nearest};
use crate::value::{Env, Type, Value};
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{Inventory, SiteInventory, SiteName};
use muster_syntax::ast::{self, Access, Item, UseNames};
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Let,
    Secret,
    Site,
    Machine,
    Window,
    Team,
    Policy,
    Group,
    Hook,
    Probe,
    Template,
    Plan,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Let => "let",
            Self::Secret => "secret",
            Self::Site => "site",
            Self::Machine => "machine",
            Self::Window => "window",
            Self::Team => "team",
            Self::Policy => "policy",
            Self::Group => "group",
            Self::Hook => "hook",
            Self::Probe => "probe",
            Self::Template => "template",
            Self::Plan => "plan",
        }
    }
    /// Such names are known to the engine by themselves, so they are one in all files together.
    fn is_global(self) -> bool {
        !matches!(self, Self::Let | Self::Window | Self::Template)
    }
}

/// A declaration: the item at `index` of the module's file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol {
    pub module: usize,
    pub index: usize,
    pub kind: Kind,
    pub span: Span,
}

/// What the words of one file mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub names: BTreeMap<String, Symbol>,
    /// `use ./sites as s`.
    pub aliases: BTreeMap<String, (usize, Span)>,
    /// Imported names and aliases, for the warning about unused ones.
    pub imports: BTreeMap<String, Span>,
    /// Names that could not be imported; said once, at the `use`.
    pub poisoned: Vec<String>,
}

fn declared(item: &Item) -> Option<(&ast::Name, Kind)> {
    Some(match item {
        Item::Let(item) => (&item.name, Kind::Let),
        Item::Secret(item) => (&item.name, Kind::Secret),
        Item::Site(item) => (&item.name, Kind::Site),
        Item::Machine(item) => (&item.name, Kind::Machine),
        Item::Window(item) => (&item.name, Kind::Window),
        Item::Team(item) => (&item.name, Kind::Team),
        Item::Policy(item) => (&item.name, Kind::Policy),
        Item::Group(item) => (&item.name, Kind::Group),
        Item::Hook(item) => (&item.name, if item.probe { Kind::Probe } else { Kind::Hook }),
        Item::Template(item) => (&item.name, Kind::Template),
        Item::Plan(item) => (&item.name, Kind::Plan),
        Item::Use(_) | Item::Route(_) | Item::Place(_) | Item::Test(_) => return None,
    })
}

fn machines_of(inventory: &Inventory) -> impl Iterator<Item = (String, SiteName)> {
    let of = |(site, found): (&SiteName, &SiteInventory)| {
        found.machines.iter().map(|machine| (machine.name.as_str().to_owned(), site.clone())).collect::<Vec<_>>()
    };
    inventory.sites.iter().flat_map(of)
}

/// Fills the scope of every module: own declarations first, then what it takes from others.
pub(crate) fn collect(cx: &mut Context<'_>) {
    let mut global: BTreeMap<String, Symbol> = BTreeMap::new();
    // The first site that has each machine, where several have it.
    let found: Vec<(String, SiteName)> = cx.inventory.iter().flat_map(machines_of).collect();
    let found_at: HashMap<&str, &SiteName> = found.iter().rev().map(|(name, site)| (name.as_str(), site)).collect();
    for module in 0..cx.modules.len() {
        let mut scope = Scope::default();
        for (index, item) in cx.modules[module].ast.items.iter().enumerate() {
            let Some((name, kind)) = declared(item) else { continue };
            let symbol = Symbol { module, index, kind, span: name.span };
            let taken = scope.names.get(&name.text).or_else(|| global.get(&name.text).filter(|_| kind.is_global()));
            if let Some(first) = taken {
                let first = *first;
                cx.shadowed(&name.text, name.span, first);
                // Known here all the same: that it is declared twice has been said.
                scope.names.entry(name.text.clone()).or_insert(symbol);
                continue;
            }
            if kind != Kind::Machine
                && let Some(site) = found_at.get(name.text.as_str())
            {
                let what = kind.word();
                cx.push(
                    Diagnostic::error(
                        202,
                        format!("`{}` is also a machine", name.text),
                        name.span,
                        format!("a {what} here"),
                    )
                    .note(format!("the inventory has a machine of this name at `{site}`"))
                    .help("give one of them another name: a word has one meaning"),
                );
            }
            if kind.is_global() {
                global.insert(name.text.clone(), symbol);
            }
            scope.names.insert(name.text.clone(), symbol);
        }
        cx.modules[module].scope = scope;
    }
    for module in 0..cx.modules.len() {
        // What an unread line names may be declared or imported there.
        let unread = cx.unread_words(cx.modules[module].file);
        let scope = &mut cx.modules[module].scope;
        scope.poisoned.extend(unread.into_iter().filter(|word| !scope.names.contains_key(word)));
    }
    for module in 0..cx.modules.len() {
        import(cx, module);
    }
}

fn import(cx: &mut Context<'_>, module: usize) {
    let uses: Vec<(ast::Use, Option<usize>)> = {
        let of = &cx.modules[module];
        of.ast
            .items
            .iter()
            .filter_map(|item| if let Item::Use(item) = item { Some(item.clone()) } else { None })
            .map(|item| {
                let target = of.uses.get(&item.path.text).copied().flatten();
                (item, target)
            })
            .collect()
    };
    for (item, target) in uses {
        match (&item.names, target) {
            (UseNames::Some(names), Some(target)) => {
                names.iter().for_each(|name| import_name(cx, module, target, name))
            }
            (UseNames::Some(names), None) => {
                cx.modules[module].scope.poisoned.extend(names.iter().map(|name| name.text.clone()));
            }
            (UseNames::As(name), Some(target)) => {
                if let Some(first) = cx.modules[module].scope.names.get(&name.text).copied() {
                    cx.shadowed(&name.text, name.span, first);
                    continue;
                }
                let scope = &mut cx.modules[module].scope;
                scope.aliases.insert(name.text.clone(), (target, name.span));
                scope.imports.insert(name.text.clone(), name.span);
            }
            (UseNames::As(name), None) => cx.modules[module].scope.poisoned.push(name.text.clone()),
            (UseNames::Bare, Some(target)) => {
                let name = last_part(&item.path.text);
                let scope = &mut cx.modules[module].scope;
                if !scope.names.contains_key(name) {
                    scope.aliases.entry(name.to_owned()).or_insert((target, item.path.span));
                }
            }
            (UseNames::Bare, None) => cx.modules[module].scope.poisoned.push(last_part(&item.path.text).to_owned()),
        }
    }
}

/// The name that `use std/mssql` gives to the file: `mssql`.
fn last_part(path: &str) -> &str {
    let path = path.split('@').next().unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path)
}

fn import_name(cx: &mut Context<'_>, module: usize, target: usize, name: &ast::Name) {
    let found = cx.modules[target].scope.names.get(&name.text).copied().filter(|symbol| symbol.module == target);
    let Some(symbol) = found else {
        if cx.is_poisoned(target, &name.text) {
            cx.modules[module].scope.poisoned.push(name.text.clone());
            return;
        }
        let path = cx.modules[target].path.clone();
        let own = cx.modules[target].scope.names.iter().filter(|(_, symbol)| symbol.module == target);
        let names: Vec<&str> = own.map(|(name, _)| name.as_str()).collect();
        let mut diagnostic =
            Diagnostic::error(201, format!("`{path}` has no `{}`", name.text), name.span, NOT_DECLARED);
        let near = nearest(&name.text, names.iter().copied()).map(str::to_owned);
        let meant = near.as_ref().and_then(|near| cx.modules[target].scope.names.get(near));
        if let Some(meant) = meant {
            // The misspelt one may be that.
            diagnostic = diagnostic.related(meant.span, "declared here");
        }
        diagnostic = match &near {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(name.span, near, Applicability::Maybe),
            None => diagnostic.help(format!("it declares {}", listed(names))),
        };
        cx.push(diagnostic);
        let scope = &mut cx.modules[module].scope;
        scope.poisoned.push(name.text.clone());
        // The name that was meant is used below, and is not there because of this mistake.
        scope.poisoned.extend(near.filter(|near| !scope.names.contains_key(near)));
        return;
    };
    if let Some(first) = cx.modules[module].scope.names.get(&name.text).copied() {
        let said = first.kind.is_global() && symbol.kind.is_global();
        if first.span != symbol.span && !said {
            cx.shadowed(&name.text, name.span, first);
        }
        return;
    }
    let scope = &mut cx.modules[module].scope;
    scope.names.insert(name.text.clone(), symbol);
    scope.imports.insert(name.text.clone(), name.span);
}

impl Context<'_> {
    fn shadowed(&self, name: &str, span: Span, first: Symbol) {
        self.push(
            Diagnostic::error(202, format!("`{name}` already means something"), span, "a second meaning")
                .related(first.span, format!("a {} since here", first.kind.word()))
                .help("give one of them another name: a word has one meaning"),
        );
    }

    /// The declaration behind a plain name; `None` without a word when there is none.
    pub(crate) fn lookup(&self, module: usize, name: &str) -> Option<Symbol> {
        let scope = &self.modules[module].scope;
        if let Some(symbol) = scope.names.get(name) {
            self.mark_used(module, name);
            return Some(*symbol);
        }
        self.prelude.and_then(|std| self.modules[std].scope.names.get(name)).copied()
    }

    pub(crate) fn is_window(&self, module: usize, name: &str) -> bool {
        let symbol = match name.split_once('.') {
            Some((alias, word)) => {
                let target = self.modules[module].scope.aliases.get(alias).map(|(target, _)| *target);
                target.and_then(|target| self.modules[target].scope.names.get(word)).copied()
            }
            None => self.lookup(module, name),
        };
        symbol.is_some_and(|symbol| symbol.kind == Kind::Window)
    }

    pub(crate) fn is_poisoned(&self, module: usize, name: &str) -> bool {
        self.modules[module].scope.poisoned.iter().any(|poisoned| poisoned == name)
    }

    /// A name of one kind: the word itself when it is declared so. Reports what is wrong otherwise.
    pub(crate) fn named(&self, module: usize, name: &ast::Name, kind: Kind) -> Option<Symbol> {
        if let Some((alias, word)) = name.text.split_once('.') {
            return self.named_in(module, alias, word, name.span, kind);
        }
        match self.lookup(module, &name.text) {
            Some(symbol) if symbol.kind == kind => Some(symbol),
            Some(symbol) => self.report(wrong_kind(name, symbol, kind)),
            None if self.is_poisoned(module, &name.text) => None,
            None => self.unknown(module, name, Some(kind)),
        }
    }

    /// `s.hq` of a `use ./sites as s`.
    fn named_in(&self, module: usize, alias: &str, word: &str, span: Span, kind: Kind) -> Option<Symbol> {
        let cut = span.start + u32::try_from(alias.len()).unwrap_or(0);
        let alias = ast::Name { text: alias.to_owned(), span: Span::new(span.file, span.start, cut) };
        let word = ast::Name { text: word.to_owned(), span: Span::new(span.file, cut + 1, span.end) };
        let Some((target, _)) = self.modules[module].scope.aliases.get(&alias.text).copied() else {
            return if self.is_poisoned(module, &alias.text) { None } else { self.unknown(module, &alias, None) };
        };
        self.mark_used(module, &alias.text);
        match self.modules[target].scope.names.get(&word.text).copied() {
            Some(symbol) if symbol.kind == kind => Some(symbol),
            Some(symbol) => self.report(wrong_kind(&word, symbol, kind)),
            None => self.unknown(target, &word, Some(kind)),
        }
    }

    /// As [`Self::named`]: the name as it is declared, at the place where it is used.
    pub(crate) fn declared(&self, module: usize, name: &ast::Name, kind: Kind) -> Option<ast::Name> {
        self.named(module, name, kind)?;
        let text = name.text.rsplit_once('.').map_or(name.text.as_str(), |(_, word)| word);
        Some(ast::Name { text: text.to_owned(), span: name.span })
    }

    /// `a`, or `s.a` for a `use … as s`; with what is left of the path.
    pub(crate) fn symbol_of<'r>(
        &self,
        module: usize,
        reference: &'r ast::Ref,
    ) -> Option<(Symbol, &'r ast::Name, &'r [Access])> {
        let head = &reference.head;
        if let Some((target, _)) = self.modules[module].scope.aliases.get(&head.text) {
            self.mark_used(module, &head.text);
            let Some(Access::Field(name)) = reference.path.first() else {
                return self.report(
                    Diagnostic::error(203, format!("`{}` is a file", head.text), head.span, "a file here")
                        .help(format!("say which of its names: `{}.name`", head.text)),
                );
            };
            let symbol = self.modules[*target].scope.names.get(&name.text).copied();
            return match symbol {
                Some(symbol) => Some((symbol, name, &reference.path[1..])),
                None => self.unknown(*target, name, None),
            };
        }
        self.lookup(module, &head.text).map(|symbol| (symbol, head, reference.path.as_slice()))
    }

    /// The value a reference begins with, and what is left of its path.
    pub(crate) fn resolve_head<'r>(
        &self,
        module: usize,
        env: &Env,
        reference: &'r ast::Ref,
    ) -> Option<(Value, &'r [Access])> {
        let head = &reference.head;
        if let Some(value) = env.get(&head.text) {
            return Some((value.clone(), &reference.path));
        }
        if self.modules[module].scope.aliases.contains_key(&head.text) || self.lookup(module, &head.text).is_some() {
            let (symbol, name, rest) = self.symbol_of(module, reference)?;
            return Some((self.value_of(symbol, name)?, rest));
        }
        if self.machines.contains_key(&head.text) {
            return Some((Value::Machine(head.text.clone()), &reference.path));
        }
        if self.is_poisoned(module, &head.text) {
            return None;
        }
        self.unknown(module, head, None)
    }

    fn value_of(&self, symbol: Symbol, name: &ast::Name) -> Option<Value> {
        match symbol.kind {
            Kind::Let => self.let_value(symbol, name),
            Kind::Machine => Some(Value::Machine(name.text.clone())),
            kind => Some(Value::Named(kind, name.text.clone())),
        }
    }

    /// The value of a `let`, computed once. A `let` that leads to itself is an E0201 at the name.
    fn let_value(&self, symbol: Symbol, name: &ast::Name) -> Option<Value> {
        let key = (symbol.module, symbol.index);
        if let Some(known) = self.lets.borrow().get(&key) {
            return known.clone();
        }
        if self.lets_open.borrow().contains(&key) {
            return self.report(
                Diagnostic::error(201, format!("`{}` is defined by itself", name.text), name.span, "leads back here")
                    .related(symbol.span, "defined here"),
            );
        }
        let Item::Let(item) = &self.modules[symbol.module].ast.items[symbol.index] else { return None };
        self.lets_open.borrow_mut().push(key);
        let value = self.eval(symbol.module, &Env::new(), &item.value);
        self.lets_open.borrow_mut().pop();
        self.lets.borrow_mut().insert(key, value.clone());
        value
    }

    /// A plain word that nothing in this file means.
    pub(crate) fn is_nowhere(&self, module: usize, env: &Env, reference: &ast::Ref) -> bool {
        let word = &reference.head.text;
        let scope = &self.modules[module].scope;
        reference.path.is_empty()
            && !env.contains_key(word)
            && !scope.aliases.contains_key(word)
            && !self.machines.contains_key(word)
            && !matches!(word.as_str(), "true" | "false" | "yes" | "no")
            && !self.is_poisoned(module, word)
            && self.lookup(module, word).is_none()
    }

    /// Reports an unknown name with the nearest one: E0301 where a machine is wanted, else E0201.
    pub(crate) fn unknown<T>(&self, module: usize, name: &ast::Name, kind: Option<Kind>) -> Option<T> {
        let scope = &self.modules[module].scope;
        let fits = |symbol: &Symbol| kind.is_none_or(|kind| symbol.kind == kind);
        let mut names: Vec<&str> =
            scope.names.iter().filter(|(_, symbol)| fits(symbol)).map(|(name, _)| name.as_str()).collect();
        if kind.is_none() || kind == Some(Kind::Machine) {
            names.extend(self.machines.keys().map(String::as_str));
            names.extend(scope.aliases.keys().map(String::as_str));
        }
        let what = kind.map_or("name", Kind::word);
        let mut diagnostic =
            Diagnostic::error(201, format!("there is no {what} `{}`", name.text), name.span, UNKNOWN_NAME);
        if let Some(near) = nearest(&name.text, names) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?")).fix(name.span, near, Applicability::Maybe);
            if let Some(declared) = scope.names.get(near) {
                // The misspelt one may be that.
                diagnostic = diagnostic.related(declared.span, "declared here");
            }
        } else if let Some(path) = self.declared_elsewhere(&name.text, kind) {
            diagnostic = diagnostic.help(format!(
                "`{path}` declares it: `use ./{} {{ {} }}`",
                path.trim_end_matches(".plan"),
                name.text
            ));
        } else if let Some(kind) = kind {
            diagnostic = diagnostic
                .help(format!("declare it, or take it from another file: `use ./file {{ {} }}`", name.text))
                .note(format!("wanted is {}", Type::Named(kind).with_article()));
        }
        self.report(diagnostic)
    }

    fn declared_elsewhere(&self, name: &str, kind: Option<Kind>) -> Option<&str> {
        self.modules.iter().find_map(|module| {
            let symbol = module.scope.names.get(name)?;
            let own = self.modules[symbol.module].path == module.path;
            (own && kind.is_none_or(|kind| kind == symbol.kind)).then_some(module.path.as_str())
        })
    }
}

/// A parameter of a template is a word of its own: E0202 when it already means something in its file.
pub(crate) fn check_templates(cx: &Context<'_>) {
    for file in &cx.modules {
        for item in &file.ast.items {
            let Item::Template(template) = item else { continue };
            for parameter in &template.parameters {
                if let Some(first) = file.scope.names.get(&parameter.name.text) {
                    cx.shadowed(&parameter.name.text, parameter.name.span, *first);
                }
            }
        }
    }
}

/// Evaluates every `let`, so that a wrong one shows even where nobody uses it.
pub(crate) fn check_lets(cx: &Context<'_>) {
    for (module, file) in cx.modules.iter().enumerate() {
        for (index, item) in file.ast.items.iter().enumerate() {
            if let Item::Let(item) = item {
                cx.let_value(Symbol { module, index, kind: Kind::Let, span: item.name.span }, &item.name);
            }
        }
    }
}

fn wrong_kind(name: &ast::Name, symbol: Symbol, kind: Kind) -> Diagnostic {
    let (found, wanted) = (Type::Named(symbol.kind).with_article(), Type::Named(kind).with_article());
    Diagnostic::error(
        203,
        format!("`{}` is {found}, wanted is {wanted}", name.text),
        name.span,
        format!("{found} here"),
    )
    .related(symbol.span, "declared here")
}
