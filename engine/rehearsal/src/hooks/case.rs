//! A hook with everything that it is run with: from a step of a plan, or from what somebody says.

use crate::effects::{call_of, facts, landed, machines};
use muster_compiler::{Checked, HookFacts};
use muster_hooks::{HookMachine, RunFacts};
use muster_ports::*;
use muster_runsheet::{Direction, GroupName, HookSheet, Kind, Node, Operation, Runsheet, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Time for a hook that stands in no step.
const WITHIN: Duration = Duration::from_secs(600);
/// Operations in whose sheets a hook is looked for, in this order: first in earnest.
const KINDS: [Kind; 6] = [Kind::Planned, Kind::Unplanned, Kind::Test, Kind::Commit, Kind::Reprotect, Kind::Cancel];

/// One hook, ready to be run.
#[derive(Clone, Debug)]
pub struct HookCase {
    /// What it is about.
    pub sheet: HookSheet,
    /// What takes it back.
    pub undo: Option<HookSheet>,
    /// The hook takes back what this one did, which has to run before it.
    pub takes_back: Option<Box<HookSheet>>,
    pub arguments: BTreeMap<String, Value>,
    /// The step it was taken from.
    pub step: Option<StepId>,
    pub facts: RunFacts,
    pub machines: Vec<HookMachine>,
    pub groups: BTreeMap<GroupName, Vec<MachineName>>,
    pub within: Duration,
}

impl HookCase {
    /// The hook of a step.
    pub fn of_step(sheet: &Runsheet, node: &Node) -> Option<Self> {
        let (name, arguments) = call_of(node)?;
        let hook = sheet.hooks.get(name)?;
        Some(Self {
            sheet: hook.clone(),
            undo: hook.undo.as_ref().and_then(|undo| sheet.hooks.get(undo)).cloned(),
            takes_back: None,
            arguments: arguments.clone(),
            step: Some(node.id.clone()),
            facts: facts(sheet, node),
            machines: machines(sheet, node, &landed(sheet)),
            groups: sheet.groups.iter().map(|(name, group)| (name.clone(), group.machines.clone())).collect(),
            within: node.within.std(),
        })
    }

    /// The hook by itself, with arguments in words.
    ///
    /// # Errors
    /// An argument that is missing, is none of the hook, or does not read as its type.
    pub fn alone(checked: &Checked, hook: &HookFacts, said: &BTreeMap<String, String>) -> Result<Self> {
        let sites: Vec<&SiteName> = checked.estate.sites.keys().collect();
        let [source, target] =
            [sites.first(), sites.last()].map(|site| site.map_or("here".into(), |site| (*site).clone()));
        let machines = checked.estate.machines.iter().map(|(name, machine)| {
            let ip = machine.facts.nics.iter().find_map(|nic| nic.ip);
            let (site, instance) = (machine.home.clone(), InstanceName::live(name));
            HookMachine { name: name.clone(), site, instance, ip, source_ip: ip }
        });
        let mut case = Self {
            sheet: hook.sheet.clone(),
            undo: None,
            takes_back: None,
            arguments: hook.defaults.clone(),
            step: None,
            facts: RunFacts {
                run: RunId::new("trial"),
                operation: Operation { kind: Kind::Planned, direction: Direction::Out }.to_string(),
                plan: checked.plans.first().map_or_else(|| PlanName::new("trial"), |plan| plan.name.clone()),
                stage: None,
                attempt: 1,
                key: EffectKey::new(format!("trial-{}", hook.sheet.name)),
                source,
                target,
                is_drill: false,
            },
            machines: machines.collect(),
            groups: checked.estate.groups.iter().map(|(name, group)| (name.clone(), group.machines.clone())).collect(),
            within: WITHIN,
        };
        let undo = hook.sheet.undo.as_ref();
        case.undo = checked.hooks().into_iter().find(|other| Some(&other.sheet.name) == undo).map(|undo| undo.sheet);
        case.give(checked, said)?;
        for (name, kind) in &case.sheet.parameters {
            if !case.arguments.contains_key(name) {
                return Err(Failure::permanent(format!(
                    "hook `{}` is not given its parameter `{name}`",
                    case.sheet.name
                ))
                .help(format!("no step of the plans runs it: say `{name}=...`, a {kind}")));
            }
        }
        Ok(case)
    }

    /// Puts arguments in words in the place of those it has.
    ///
    /// # Errors
    /// An argument that is none of the hook, or does not read as its type.
    pub fn give(&mut self, checked: &Checked, said: &BTreeMap<String, String>) -> Result<()> {
        for (name, text) in said {
            let Some((_, kind)) = self.sheet.parameters.iter().find(|(known, _)| known == name) else {
                let known: Vec<&str> = self.sheet.parameters.iter().map(|(name, _)| name.as_str()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Failure::permanent(format!("hook `{}` has no parameter `{name}`", self.sheet.name))
                    .help(format!("its parameters: {known}")));
            };
            let value = read(checked, kind, text).ok_or_else(|| {
                Failure::permanent(format!("`{text}` is no {kind}, as `{name}` of hook `{}` wants", self.sheet.name))
            })?;
            self.arguments.insert(name.clone(), value);
        }
        Ok(())
    }

    /// The case of what takes this one back.
    pub fn taking_back(&self) -> Option<Self> {
        let undo = self.undo.clone()?;
        Some(Self { sheet: undo, undo: None, takes_back: Some(Box::new(self.sheet.clone())), ..self.clone() })
    }

    /// The hook is one of a drill: nothing beyond its bubble can be reached.
    #[must_use]
    pub fn in_drill(mut self) -> Self {
        self.facts.is_drill = true;
        self.facts.operation = Operation { kind: Kind::Test, direction: Direction::Out }.to_string();
        self
    }
}

/// A value of the language in words.
fn read(checked: &Checked, kind: &str, text: &str) -> Option<Value> {
    if let Some(of) = kind.strip_prefix("list(").and_then(|of| of.strip_suffix(')')) {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        return items.map(|item| read(checked, of, item)).collect::<Option<Vec<_>>>().map(Value::List);
    }
    Some(match kind {
        "int" => Value::Int(text.parse().ok()?),
        "percent" => Value::Percent(text.trim_end_matches('%').parse().ok()?),
        "bool" => Value::Bool(match text {
            "yes" | "true" => true,
            "no" | "false" => false,
            _ => return None,
        }),
        "duration" => Value::Duration(text.parse().ok()?),
        "size" => Value::Size(text.parse().ok()?),
        "rate" => Value::Rate(text.parse().ok()?),
        "ip" => Value::Ip(text.parse::<IpAddr>().ok()?),
        "port" => Value::Port(text.parse().ok()?),
        "machine" => Value::Machine(checked.estate.machines.get_key_value(text)?.0.clone()),
        "group" => Value::Group(checked.estate.groups.get_key_value(text)?.0.clone()),
        "site" => Value::Site(checked.estate.sites.get_key_value(text)?.0.clone()),
        "secret" => Value::Secret { name: text.to_owned(), key: checked.secret_key(text)?.to_owned() },
        _ => Value::Text(text.to_owned()),
    })
}

/// The first step of each hook over all plans and operations, and what takes each of them back.
///
/// # Errors
/// A plan that does not compile.
pub fn hook_cases(checked: &Checked) -> Result<BTreeMap<HookName, HookCase>> {
    let mut found: BTreeMap<HookName, HookCase> = BTreeMap::new();
    each_step(checked, |case| {
        found.entry(case.sheet.name.clone()).or_insert(case);
    })?;
    let backwards: Vec<HookCase> = found.values().filter_map(HookCase::taking_back).collect();
    for case in backwards {
        found.entry(case.sheet.name.clone()).or_insert(case);
    }
    Ok(found)
}

/// A hook as this step runs it.
///
/// # Errors
/// A plan that does not compile, and a step that does not run this hook in any operation.
pub fn hook_case_of_step(checked: &Checked, hook: &str, step: &str) -> Result<HookCase> {
    let (mut found, mut steps) = (None, BTreeSet::new());
    each_step(checked, |case| {
        let Some(id) = case.step.clone().filter(|_| case.sheet.name.as_str() == hook) else { return };
        if id.as_str() == step && found.is_none() {
            found = Some(case);
        }
        steps.insert(id.to_string());
    })?;
    found.ok_or_else(|| {
        let known = steps.into_iter().collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "no step runs it".to_owned() } else { format!("it is run by {known}") };
        Failure::permanent(format!("no step `{step}` runs hook `{hook}`")).help(known)
    })
}

fn each_step(checked: &Checked, mut take: impl FnMut(HookCase)) -> Result<()> {
    for kind in KINDS {
        for direction in [Direction::Out, Direction::Back] {
            for plan in &checked.plans {
                let operation = Operation { kind, direction };
                let sheet = checked.compile(plan.name.as_str(), operation, Default::default()).map_err(|said| {
                    let why = said.first().map(|first| first.message.clone()).unwrap_or_default();
                    Failure::permanent(format!("{operation} of plan `{}` does not compile: {why}", plan.name))
                })?;
                sheet.nodes.iter().filter_map(|node| HookCase::of_step(&sheet, node)).for_each(&mut take);
            }
        }
    }
    Ok(())
}
