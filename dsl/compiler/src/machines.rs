//! Machines, from the inventory and from the text, and what they become at other sites.

use crate::context::{Context, Said, UNKNOWN_MACHINE};
use crate::facts::{Facts, Shape, is_misspelt, word};
use crate::names::Kind;
use crate::providers::provider;
use crate::routes::unknown_network;
use crate::suggest::nearest;
use crate::value::{Env, Type, Value};
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{DiskFacts, MachineFacts, MachineName, NicShape, Power, SiteInventory, SiteName};
use muster_syntax::ast::{self, ExprKind, Item};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

const MACHINE: Shape = Shape {
    what: "a machine",
    known: &["disks", "network", "ip", "mac", "cpus", "memory", "tags"],
    required: &["disks", "network"],
    conditional: &[],
};

/// What a machine declared in the text has when the text does not say.
const CPUS_DEFAULT: u64 = 1;
const MEMORY_DEFAULT_BYTES: u64 = 1 << 30;

/// A machine, wherever it has been seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MachineEntry {
    pub at: BTreeMap<SiteName, MachineFacts>,
    /// `machine … at …` in the text.
    pub declared: Option<(SiteName, Span)>,
    /// What its site calls it, where the inventory gives it another name for the plans.
    pub known_as: Option<String>,
}

impl MachineEntry {
    /// Where it is at home when no plan says so.
    pub(crate) fn first_site(&self) -> Option<&SiteName> {
        self.declared.as_ref().map(|(site, _)| site).or_else(|| self.at.keys().next())
    }
}

/// What was said of the machines of each module.
pub(crate) type SaidOfMachines = Vec<Said>;

/// What the check before made of the same files, of which some may differ in their machines, but in none of their names.
pub(crate) struct MachinesBefore {
    pub entries: BTreeMap<String, MachineEntry>,
    pub said: SaidOfMachines,
    pub files: Vec<Arc<ast::File>>,
}

/// Reads the machines of all modules, or, if there is a check before, of those modules that have changed; then with the
/// machines that are no longer what they were.
pub(crate) fn resolve_machines(
    cx: &mut Context<'_>,
    before: Option<MachinesBefore>,
) -> (SaidOfMachines, Option<BTreeSet<String>>) {
    // A machine that is declared twice, or found as well as declared, comes of more than one place.
    match before.filter(|_| cx.inventory.is_none() && cx.errors() == 0) {
        Some(before) => {
            let (said, changed) = resolve_changed(cx, before);
            (said, Some(changed))
        }
        None => (resolve_all(cx), None),
    }
}

fn resolve_changed(cx: &mut Context<'_>, mut before: MachinesBefore) -> (SaidOfMachines, BTreeSet<String>) {
    let mut changed = BTreeSet::new();
    let entries = &mut before.entries;
    for ((module, file), said) in before.files.iter().enumerate().zip(&mut before.said) {
        if Arc::ptr_eq(file, &cx.modules[module].ast) {
            cx.repeat(said);
            continue;
        }
        let recording = cx.record();
        let mut old = BTreeMap::new();
        for item in &file.items {
            if let Item::Machine(machine) = item
                && let Some(entry) = entries.remove(&machine.name.text)
            {
                old.insert(machine.name.text.clone(), entry);
            }
        }
        declare_all(cx, module, entries);
        *said = cx.recorded(recording);
        changed.extend(old.into_iter().filter(|(name, old)| entries.get(name) != Some(old)).map(|(name, _)| name));
    }
    cx.machines = before.entries;
    (before.said, changed)
}

fn declare_all(cx: &Context<'_>, module: usize, machines: &mut BTreeMap<String, MachineEntry>) {
    for item in &cx.modules[module].ast.items {
        if let Item::Machine(machine) = item {
            declare(cx, module, machine, machines);
        }
    }
}

fn resolve_all(cx: &mut Context<'_>) -> SaidOfMachines {
    let mut machines: BTreeMap<String, MachineEntry> = BTreeMap::new();
    if let Some(inventory) = &cx.inventory {
        for (site, found) in &inventory.sites {
            check_aliases(cx, site, found);
            let aliases: BTreeMap<&str, &MachineName> =
                found.aliases.iter().map(|(alias, known)| (known.as_str(), alias)).collect();
            for facts in &found.machines {
                let alias = aliases.get(facts.name.as_str()).copied();
                let name = alias.unwrap_or(&facts.name);
                let entry = machines.entry(name.as_str().to_owned()).or_default();
                entry.known_as = entry.known_as.take().or_else(|| alias.map(|_| facts.name.as_str().to_owned()));
                entry.at.insert(site.clone(), MachineFacts { name: name.clone(), ..facts.clone() });
            }
        }
    }
    let declare = |module| {
        let recording = cx.record();
        declare_all(cx, module, &mut machines);
        cx.recorded(recording)
    };
    let said = (0..cx.modules.len()).map(declare).collect();
    cx.machines = machines;
    said
}

/// An alias names a machine of its site, and is itself a name that plans can write: E0315.
fn check_aliases(cx: &Context<'_>, site: &SiteName, found: &SiteInventory) {
    for (alias, known) in &found.aliases {
        let word = alias.as_str();
        let is_name = word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        let wrong = if !is_name {
            format!("the alias `{alias}` is not a name")
        } else if !found.machines.iter().any(|facts| facts.name.as_str() == known) {
            format!("the alias `{alias}` is of `{known}`, which `{site}` does not have")
        } else if found.machines.iter().any(|facts| facts.name == *alias) {
            format!("the alias `{alias}` is the name of another machine of `{site}`")
        } else {
            continue;
        };
        cx.push(
            Diagnostic::error(315, wrong, cx.in_inventory(known), "among the `aliases`")
                .help("correct it in `inventory.json`: `\"aliases\": { \"sql-01\": \"SQL PROD (01)\" }`"),
        );
    }
}

/// What machines become at sites that are not their home, by machine (`None` is `*`) and site.
pub(crate) type Places = BTreeMap<Option<String>, BTreeMap<String, BTreeMap<String, muster_runsheet::Value>>>;

pub(crate) fn resolve_places(cx: &Context<'_>) -> Places {
    let mut places = Places::new();
    let mut said: BTreeMap<(Option<String>, String), Span> = BTreeMap::new();
    for (module, file) in cx.modules.iter().enumerate() {
        for item in &file.ast.items {
            let Item::Place(place) = item else { continue };
            let Some((key, facts)) = resolve_place(cx, module, place) else { continue };
            if let Some(first) = said.get(&key) {
                let what = key.0.as_deref().unwrap_or("*");
                cx.push(
                    Diagnostic::error(104, format!("`{what}` has two places at `{}`", key.1), place.span, "again here")
                        .related(*first, "first here"),
                );
                continue;
            }
            said.insert(key.clone(), place.site.span);
            places.entry(key.0).or_default().insert(key.1, facts);
        }
    }
    places
}

type Placed = ((Option<String>, String), BTreeMap<String, muster_runsheet::Value>);

fn resolve_place(cx: &Context<'_>, module: usize, place: &ast::Place) -> Option<Placed> {
    let machine = match &place.machine {
        Some(name) => {
            let head = ast::Ref { head: name.clone(), path: Vec::new(), span: name.span };
            let expr = ast::Expr { kind: ExprKind::Ref(head), span: name.span };
            Some(cx.machine_name(module, &Env::new(), &expr)).map_or(Some(None), |name| name.map(Some))
        }
        None => Some(None),
    };
    let at = cx.declared(module, &place.site, Kind::Site);
    let (machine, at) = (machine?, at?);
    let site = cx.sites.get(&at.text).filter(|site| !site.broken)?;
    let provider = provider(&site.sheet.provider)?;
    let home = machine.as_ref().and_then(|name| cx.machines.get(name)?.first_site());
    if home.is_some_and(|home| *home == site.sheet.name) {
        return cx.report(
            Diagnostic::error(
                302,
                format!("`{}` is at home at `{}`", machine.unwrap_or_default(), at.text),
                place.site.span,
                "not another site",
            )
            .help("a place says what a machine becomes at a site that is not its home"),
        );
    }
    Some(((machine, at.text), crate::providers::resolve_place(cx, module, provider, &place.facts)))
}

fn declare(cx: &Context<'_>, module: usize, machine: &ast::Machine, all: &mut BTreeMap<String, MachineEntry>) {
    let name = &machine.name;
    let facts = Facts::read(cx, &MACHINE, name.span, machine.span, &machine.facts);
    let Some(at) = cx.declared(module, &machine.site, Kind::Site) else {
        all.entry(name.text.clone()).or_default();
        return;
    };
    let site = SiteName::new(at.text.as_str());
    let read = read_machine(cx, module, machine, &at.text, &facts);
    let entry = all.entry(name.text.clone()).or_default();
    if entry.declared.is_some() {
        return; // The second declaration is an E0202.
    }
    entry.declared = Some((site.clone(), name.span));
    match (entry.at.get(&site), read) {
        (Some(found), Some(written)) => agree(cx, machine, &facts, found, &written),
        (None, Some(written)) => {
            if let Some(other) = entry.at.keys().next() {
                cx.push(
                    Diagnostic::error(
                        302,
                        format!("`{}` is not at `{site}`", name.text),
                        machine.site.span,
                        "here by the text",
                    )
                    .note(format!("the inventory found it at `{other}`"))
                    .help("correct the text, or pull the inventory again: `muster inventory pull`"),
                );
            }
            entry.at.insert(site, written);
        }
        (_, None) => {}
    }
}

fn read_machine(
    cx: &Context<'_>,
    module: usize,
    machine: &ast::Machine,
    site: &str,
    facts: &Facts<'_>,
) -> Option<MachineFacts> {
    let env = Env::new();
    let number = |word: &str, want: &Type| match facts.expr(cx, word) {
        None => Some(None),
        Some(expr) => match cx.expect(module, &env, expr, want)? {
            Value::Int(value) => Some(Some(value)),
            Value::Size(size) => Some(Some(size.0)),
            _ => None,
        },
    };
    let cpus = number("cpus", &Type::Int);
    let memory = number("memory", &Type::Size);
    let disks = facts.expr(cx, "disks").and_then(|expr| read_disks(cx, module, expr));
    let nic = read_nic(cx, module, machine, site, facts);
    let tags = match facts.expr(cx, "tags") {
        Some(expr) => read_tags(cx, module, expr),
        // What is misspelt has been said, and a query that misses its tags is not to blame.
        None if is_misspelt(&MACHINE, &machine.facts, "tags") => None,
        None => Some(Vec::new()),
    };
    Some(MachineFacts {
        name: machine.name.text.as_str().into(),
        cpus: u32::try_from(cpus?.unwrap_or(CPUS_DEFAULT)).unwrap_or(u32::MAX),
        memory_bytes: memory?.unwrap_or(MEMORY_DEFAULT_BYTES),
        disks: disks?,
        nics: vec![nic?],
        power: Power::On,
        guest_agent: false,
        churn_bytes_per_second: 0,
        churn: None,
        containers: BTreeMap::new(),
        tags: tags?,
    })
}

/// `["front", "shop"]`, in the order of the alphabet.
fn read_tags(cx: &Context<'_>, module: usize, expr: &ast::Expr) -> Option<Vec<String>> {
    let Value::List(items) = cx.expect(module, &Env::new(), expr, &Type::List(Box::new(Type::Text)))? else {
        return None;
    };
    let tags: BTreeSet<String> =
        items.into_iter().filter_map(|item| if let Value::Text(tag) = item { Some(tag) } else { None }).collect();
    Some(tags.into_iter().collect())
}

/// `["os", "data"]`, or with sizes `[disk("os", 10GiB)]`.
fn read_disks(cx: &Context<'_>, module: usize, expr: &ast::Expr) -> Option<Vec<DiskFacts>> {
    let env = Env::new();
    let ExprKind::List(items) = &expr.kind else {
        return cx.report(
            Diagnostic::error(211, "`disks` is a list", expr.span, "not a list").help("write `[\"os\", \"data\"]`"),
        );
    };
    let mut disks: Vec<DiskFacts> = Vec::new();
    for item in items {
        let (name, size_bytes) = match &item.kind {
            ExprKind::Call(call) if call.callee.head.text == "disk" && call.arguments.len() == 2 => {
                let name = cx.text(module, &env, &call.arguments[0].value);
                match (name, cx.expect(module, &env, &call.arguments[1].value, &Type::Size)) {
                    (Some(name), Some(Value::Size(size))) => (name, size.0),
                    _ => return None,
                }
            }
            _ => (cx.text(module, &env, item)?, 0),
        };
        if disks.iter().any(|disk| disk.name.as_str() == name) {
            return cx.report(Diagnostic::error(104, format!("disk `{name}` is given twice"), item.span, "again here"));
        }
        disks.push(DiskFacts { name: name.into(), size_bytes });
    }
    Some(disks)
}

fn read_nic(
    cx: &Context<'_>,
    module: usize,
    machine: &ast::Machine,
    site: &str,
    facts: &Facts<'_>,
) -> Option<NicShape> {
    let ip = match facts.expr(cx, "ip") {
        Some(expr) => Some((cx.ip(module, expr)?, expr.span)),
        None => None,
    };
    let mac = match facts.expr(cx, "mac") {
        Some(expr) => match cx.expect(module, &Env::new(), expr, &Type::Mac)? {
            Value::Mac(mac) => mac,
            _ => return None,
        },
        None => derived_mac(&machine.name.text),
    };
    let expr = facts.expr(cx, "network")?;
    let Some(network) = word(expr) else {
        return cx.report(Diagnostic::error(211, "`network` names a network of the site", expr.span, "not a name"));
    };
    let site = cx.sites.get(site)?;
    let Some((cidr, span)) = site.networks.get(network) else {
        if site.broken {
            return None;
        }
        let name = ast::Name { text: network.to_owned(), span: expr.span };
        return cx.report(unknown_network(site, &name, &[]));
    };
    if let Some((ip, ip_span)) = ip.filter(|(ip, _)| !cidr.contains(*ip) || cidr.is_reserved(*ip)) {
        return cx.report(
            Diagnostic::error(
                507,
                format!("{ip} cannot be a machine's address in `{network}`"),
                ip_span,
                "wrong address",
            )
            .related(*span, format!("this network is {cidr}"))
            .note("the first address is the network, the second its gateway, the last its broadcast"),
        );
    }
    Some(NicShape { network: network.into(), mac, ip: ip.map(|(ip, _)| ip) })
}

/// The same address for the same name, in the range that hypervisors use for themselves.
fn derived_mac(name: &str) -> String {
    let hash = blake3::hash(name.as_bytes());
    let bytes = hash.as_bytes();
    format!("52:54:00:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2])
}

/// What the text says must be what was found: E0302 at the line that differs.
fn agree(cx: &Context<'_>, machine: &ast::Machine, facts: &Facts<'_>, found: &MachineFacts, written: &MachineFacts) {
    let names = |disks: &[DiskFacts]| disks.iter().map(|disk| disk.name.to_string()).collect::<Vec<_>>().join(", ");
    let tags = |facts: &MachineFacts| {
        let tags: BTreeSet<&str> = facts.tags.iter().map(String::as_str).collect();
        tags.into_iter().collect::<Vec<_>>().join(", ")
    };
    let (nic, other) = (written.nics.first(), found.nics.first());
    let ip = |nic: Option<&NicShape>| nic.and_then(|nic| nic.ip).map_or("none".to_owned(), |ip: IpAddr| ip.to_string());
    let pairs = [
        ("disks", names(&written.disks), names(&found.disks)),
        (
            "network",
            nic.map_or_else(String::new, |nic| nic.network.to_string()),
            other.map_or_else(String::new, |nic| nic.network.to_string()),
        ),
        ("ip", ip(nic), ip(other)),
        (
            "mac",
            nic.map_or_else(String::new, |nic| nic.mac.clone()),
            other.map_or_else(String::new, |nic| nic.mac.clone()),
        ),
        ("cpus", written.cpus.to_string(), found.cpus.to_string()),
        ("memory", written.memory_bytes.to_string(), found.memory_bytes.to_string()),
        ("tags", tags(written), tags(found)),
    ];
    for (word, text, inventory) in pairs {
        let Some(fact) = facts.get(word).filter(|_| text != inventory) else { continue };
        cx.push(
            Diagnostic::error(
                302,
                format!("the text and the inventory disagree about `{}`", machine.name.text),
                fact.span,
                format!("`{word}` is {text} here"),
            )
            .note(format!("the inventory found {inventory}"))
            .help("correct the text, or pull the inventory again: `muster inventory pull`"),
        );
    }
}

impl Context<'_> {
    /// A machine by name; an unknown one is an E0301 with the closest in the inventory.
    pub(crate) fn machine_name(&self, module: usize, env: &Env, expr: &ast::Expr) -> Option<String> {
        if let ExprKind::Ref(reference) = &expr.kind
            && let Some(known) = self.machine_ref(module, env, reference)
        {
            return known;
        }
        match self.expect(module, env, expr, &Type::Machine)? {
            Value::Machine(name) => Some(name),
            _ => None,
        }
    }

    /// `Some(None)` when the word is unknown and that has been said.
    fn machine_ref(&self, module: usize, env: &Env, reference: &ast::Ref) -> Option<Option<String>> {
        let name = &reference.head;
        let plain = reference.path.is_empty() && !env.contains_key(&name.text);
        if !plain || self.lookup(module, &name.text).is_some() || self.is_poisoned(module, &name.text) {
            return None;
        }
        if self.machines.contains_key(&name.text) {
            return Some(Some(name.text.clone()));
        }
        self.mark_unknown_machine(&name.text);
        // What could not be read may declare it.
        if self.is_inventory_unread() || self.is_in_unread(&name.text) {
            return Some(None);
        }
        if self.inventory.is_none() && self.machines.is_empty() {
            return Some(
                self.report(
                    Diagnostic::error(
                        UNKNOWN_MACHINE,
                        "no machine is known: there is no `inventory.json` beside the plans",
                        name.span,
                        "names a machine",
                    )
                    .help(
                        "pull it: `muster inventory pull`, or declare machines in the text: `machine db at hq { … }`",
                    ),
                ),
            );
        }
        let message = format!("there is no machine `{}`", name.text);
        let mut diagnostic = Diagnostic::error(UNKNOWN_MACHINE, message, name.span, "unknown machine");
        if let Some(near) = nearest(&name.text, self.machines.keys().map(String::as_str)) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?")).fix(name.span, near, Applicability::Maybe);
            if let Some((_, declared)) = self.machines.get(near).and_then(|entry| entry.declared.as_ref()) {
                diagnostic = diagnostic.related(*declared, "declared here");
            }
        } else if self.inventory.is_none() {
            diagnostic = diagnostic
                .note("there is no `inventory.json` beside the plans")
                .help("pull it: `muster inventory pull`, or declare the machine in the text");
        } else {
            diagnostic = diagnostic
                .note("it is neither in `inventory.json` nor declared in the text")
                .help("pull the inventory again: `muster inventory pull`, or declare the machine in the text");
        }
        Some(self.report(diagnostic))
    }

    /// The machines a list of references names, in order.
    pub(crate) fn machine_refs(
        &self,
        module: usize,
        env: &Env,
        references: &[ast::Ref],
    ) -> Option<Vec<(String, Span)>> {
        let mut all = Some(Vec::new());
        for reference in references {
            let found = self.machines_of_ref(module, env, reference);
            match (&mut all, found) {
                (Some(all), Some(found)) => all.extend(found),
                _ => all = None,
            }
        }
        all
    }

    fn machines_of_ref(&self, module: usize, env: &Env, reference: &ast::Ref) -> Option<Vec<(String, Span)>> {
        if let Some(known) = self.machine_ref(module, env, reference) {
            return known.map(|name| vec![(name, reference.span)]);
        }
        let expr = ast::Expr { kind: ExprKind::Ref(reference.clone()), span: reference.span };
        match self.eval(module, env, &expr)? {
            Value::Machine(name) => Some(vec![(name, reference.span)]),
            Value::List(items) => {
                let value = self.insist(Value::List(items), &Type::List(Box::new(Type::Machine)), reference.span)?;
                let Value::List(items) = value else { return None };
                let name = |value| if let Value::Machine(name) = value { Some((name, reference.span)) } else { None };
                Some(items.into_iter().filter_map(name).collect())
            }
            other => self.insist(other, &Type::Machine, reference.span).and(None),
        }
    }

    pub(crate) fn group_machines(&self, group: &str) -> Option<Value> {
        self.mark_read(group);
        let group = self.groups.get(group)?;
        let machines = group.machines.iter().map(|(name, _)| Value::Machine(name.clone())).collect();
        (!group.broken).then_some(Value::List(machines))
    }

    /// `m.ip`: the first address of the machine at home.
    pub(crate) fn home_ip(&self, machine: &str, span: Span) -> Option<Value> {
        self.mark_read(machine);
        let entry = self.machines.get(machine)?;
        let facts =
            entry.declared.as_ref().and_then(|(site, _)| entry.at.get(site)).or_else(|| entry.at.values().next());
        match facts?.nics.iter().find_map(|nic| nic.ip) {
            Some(ip) => Some(Value::Ip(ip)),
            None => self.report(
                Diagnostic::error(705, format!("`{machine}` has no known address"), span, "not known")
                    .help("the inventory has none: pull it again while the machine is on, or declare `ip = …`"),
            ),
        }
    }
}
