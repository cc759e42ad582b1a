//! Checks that follow each other closely, as in an editor: what did not change is neither read nor compiled again.
//!
//! ```text
//! text  == the text read before under this number  -> its tree
//! trees == the trees before, but for plans         -> what all plans share
//! tree  == the tree before, and all that is shared -> each plan of it, resolved and looked at
//! plan  == the plan before, and all it may name     -> what compiling its operations said
//! ```
//!
//! Architecture invariant: a session never says anything that a fresh check of the same texts would not say. Whatever
//! joins files and plans is therefore done again in every check; only pure functions of one text, of all that is no plan, or
//! of one plan and what surrounds it are remembered.

use crate::context::Context;
use crate::hooks::HookModel;
use crate::known_plans::KnownPlans;
use crate::model::{LineModel, PlanModel, VerbModel};
use crate::shared::{Shared, differing};
use crate::value::Value;
use crate::{Checked, Program, World, check_again};
use muster_diagnostics::{Diagnostic, FileId, Span};
use muster_runsheet::{Estate, GroupSheet};
use muster_syntax::ast;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Checks of the same plans, one after the other.
#[derive(Debug, Default)]
pub struct Session {
    memory: Memory,
    last: Option<Checked>,
}

impl Session {
    /// What [`crate::check`] would answer.
    pub fn check(&mut self, world: &dyn World, files: &[String]) -> &Checked {
        let before = self.last.as_ref().map(|checked| &checked.program);
        let checked = check_again(world, files, &mut self.memory, before);
        self.last.insert(checked)
    }
}

/// What outlives a check.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub parses: Parses,
    pub shared: Option<Shared>,
    pub plans: KnownPlans,
    /// What compiling each plan said.
    pub verdicts: BTreeMap<String, Vec<Diagnostic>>,
}

/// Trees by the number of their file: places in a tree carry that number.
#[derive(Debug, Default)]
pub(crate) struct Parses(BTreeMap<FileId, Parsed>);

#[derive(Debug)]
pub(crate) struct Parsed {
    text: String,
    pub ast: Arc<ast::File>,
    pub diagnostics: Vec<Diagnostic>,
    pub unread: Vec<Span>,
}

impl Parses {
    /// Reads the text, if it is not the one that was read before.
    pub(crate) fn read(&mut self, file: FileId, text: String) -> &Parsed {
        let known = self.0.remove(&file).filter(|known| known.text == text);
        self.0.entry(file).or_insert(known.unwrap_or_else(|| {
            let parse = muster_syntax::parse(file, &text);
            Parsed { text, ast: Arc::new(parse.ast), diagnostics: parse.diagnostics, unread: parse.unread }
        }))
    }
}

/// Which plans have to be compiled again.
pub(crate) struct Verdicts<'m> {
    /// What is known from before; empty when what all plans share has changed.
    old: BTreeMap<String, Vec<Diagnostic>>,
    before: Option<&'m Program>,
    new: &'m mut BTreeMap<String, Vec<Diagnostic>>,
    /// Machines and groups that are not what they were.
    changed: BTreeSet<String>,
}

impl<'m> Verdicts<'m> {
    pub(crate) fn new(
        verdicts: &'m mut BTreeMap<String, Vec<Diagnostic>>,
        before: Option<&'m Program>,
        now: &Program,
    ) -> Self {
        let old = std::mem::take(verdicts);
        let mut changed = BTreeSet::new();
        let same = before.is_some_and(|before| {
            if !Arc::ptr_eq(&before.estate, &now.estate) {
                differing(&before.estate.machines, &now.estate.machines, &mut changed);
                differing(&before.estate.groups, &now.estate.groups, &mut changed);
                let mut policies = BTreeSet::new();
                differing(&before.estate.policies, &now.estate.policies, &mut policies);
                let hangs_on =
                    |group: &GroupSheet| group.policy.as_ref().is_some_and(|policy| policies.contains(policy.as_str()));
                let groups = now.estate.groups.values().filter(|group| hangs_on(group));
                changed.extend(groups.map(|group| group.name.as_str().to_owned()));
            }
            share(before, now, &changed)
        });
        Self { old: if same { old } else { BTreeMap::new() }, before, new: verdicts, changed }
    }

    /// Compiles the plan, or repeats what was said when that was done.
    pub(crate) fn judge(&mut self, cx: &Context<'_>, plan: &Arc<PlanModel>, compile: impl FnOnce()) {
        let before = self.before.and_then(|program| program.plans.get(&plan.name));
        let same = before.is_some_and(|(before, _)| Arc::ptr_eq(before, plan) || before == plan)
            && !is_touched(plan, &self.changed);
        let said = match self.old.remove(&plan.name).filter(|_| same) {
            Some(said) => {
                cx.extend(said.iter().cloned());
                said
            }
            None => {
                let mark = cx.pushed();
                compile();
                cx.pushed_since(mark)
            }
        };
        self.new.insert(plan.name.clone(), said);
    }
}

/// The plan may look at a machine or a group of these. Texts name machines inside braces, so any text that contains a name
/// counts.
pub(crate) fn is_touched(plan: &PlanModel, changed: &BTreeSet<String>) -> bool {
    if changed.is_empty() {
        return false;
    }
    let known = |name: &String| changed.contains(name);
    if plan.machines.keys().any(known) || plan.groups.iter().any(known) {
        return true;
    }
    let mut texts = Vec::new();
    plan.stages.iter().for_each(|stage| texts_of(&stage.lines, &mut texts));
    texts.iter().any(|text| changed.iter().any(|name| text.contains(name.as_str())))
}

/// What every plan may look at is the same. Destructured, so that a new part is not forgotten here.
fn share(before: &Program, now: &Program, changed: &BTreeSet<String>) -> bool {
    let Program { estate, routes, hooks, secrets, plans: _, inventory, ranges, main: _ } = now;
    let Estate { sites, routes: route_sheets, policies: _, groups: _, machines: _, teams } = &**estate;
    let old = &before.estate;
    (sites, route_sheets, teams) == (&old.sites, &old.routes, &old.teams)
        && (routes, secrets, inventory, ranges) == (&before.routes, &before.secrets, &before.inventory, &before.ranges)
        && hooks == &before.hooks
        && !is_named_by_hooks(hooks, changed)
}

/// A default of a hook names what no plan does.
pub(crate) fn is_named_by_hooks(hooks: &BTreeMap<String, HookModel>, changed: &BTreeSet<String>) -> bool {
    let hooks = if changed.is_empty() { String::new() } else { format!("{hooks:?}") };
    changed.iter().any(|name| hooks.contains(name.as_str()))
}

fn texts_of<'p>(lines: &'p [LineModel], texts: &mut Vec<&'p str>) {
    for line in lines {
        match line {
            LineModel::Step(step) => texts_of_verb(&step.verb, texts),
            LineModel::When(_, lines)
            | LineModel::Parallel(lines)
            | LineModel::Down(lines)
            | LineModel::Sequence(lines) => texts_of(lines, texts),
        }
    }
}

fn texts_of_verb<'p>(verb: &'p VerbModel, texts: &mut Vec<&'p str>) {
    match verb {
        VerbModel::Start { machines, in_turn: _ } | VerbModel::Stop { machines, in_turn: _ } => {
            texts.extend(machines.iter().map(|(name, _)| name.as_str()));
        }
        VerbModel::Create { machines, from } => {
            texts.extend(machines.iter().map(|(name, _)| name.as_str()));
            texts.push(from);
        }
        VerbModel::Check { machines, probe: _, arguments } => {
            texts.extend(machines.iter().map(|(name, _)| name.as_str()));
            arguments.values().for_each(|value| texts_of_value(value, texts));
        }
        VerbModel::Run { hook: _, arguments } => {
            arguments.values().for_each(|value| texts_of_value(value, texts));
        }
        VerbModel::Approve { text, by: _ } | VerbModel::Manual { text, by: _ } | VerbModel::Notify { to: _, text } => {
            texts.push(text);
        }
        VerbModel::Wait { duration: _ } => {}
    }
}

fn texts_of_value<'p>(value: &'p Value, texts: &mut Vec<&'p str>) {
    match value {
        Value::Text(text) | Value::Cidr(text) | Value::Mac(text) | Value::Machine(text) | Value::Named(_, text) => {
            texts.push(text);
        }
        Value::List(items) => items.iter().for_each(|item| texts_of_value(item, texts)),
        Value::Int(_)
        | Value::Bool(_)
        | Value::Duration(_)
        | Value::Size(_)
        | Value::Rate(_)
        | Value::Percent(_)
        | Value::Ip(_) => {}
    }
}
