//! What may change in the sheet of a run that is open: only what has not begun.
//!
//! Pure, and asked twice: before an amendment is recorded, and whenever the record is read again.
//!
//! What is absent: a judgement whether the change is wise. It compiles (or was reviewed), and a person has signed for it.

use crate::stand::Stand;
use crate::state::{NodeState, RunState};
use muster_ports::Failure;
use muster_runsheet::{Action, Edge, Node, Runsheet, StepId};
use std::collections::{BTreeMap, BTreeSet};

/// Whether a step is more than planned: it was tried, asked, waited for, decided about or left out.
pub fn has_begun(node: &NodeState) -> bool {
    node.stand != Stand::Waiting || node.attempted() || node.started_at.is_some() || node.redo > 0
}

fn refuse<T>(message: String, help: &str) -> Result<T, Failure> {
    Err(Failure::refused(message).help(help))
}

/// One line for each step that the new sheet changes, or why this run cannot go on with it.
pub fn changes(before: &Runsheet, after: &Runsheet, state: &RunState) -> Result<Vec<String>, Failure> {
    let anew = "write it anew from the plans with `muster dry-run PLAN OPERATION -o FILE`";
    if state.undo.is_some() {
        return refuse("the run is being taken back: there is nothing to amend".to_owned(), "`muster status` shows it");
    }
    let head = |sheet: &Runsheet| (sheet.plan.clone(), sheet.operation, sheet.source.clone(), sheet.target.clone());
    if head(before) != head(after) {
        return refuse(
            format!(
                "the sheet is of `{}` `{}` from {} to {}, the run of `{}` `{}` from {} to {}",
                after.plan,
                after.operation,
                after.source,
                after.target,
                before.plan,
                before.operation,
                before.source,
                before.target
            ),
            anew,
        );
    }
    if before.vault != after.vault {
        return refuse(format!("the sheet is for vault `{}`, the run for `{}`", after.vault, before.vault), anew);
    }
    if let Some(hook) = after.tampered_hooks().first() {
        return refuse(format!("hook `{hook}` of the sheet is not the text it was approved with (E0905)"), anew);
    }
    same_where_begun(before, after, state)?;
    guards_stay(before, after)?;
    Ok(listed(before, after))
}

fn by_id(sheet: &Runsheet) -> BTreeMap<&StepId, &Node> {
    sheet.nodes.iter().map(|node| (&node.id, node)).collect()
}

/// What leads to a step, in an order that does not matter.
fn leading<'a>(sheet: &'a Runsheet, id: &StepId) -> BTreeSet<(&'a StepId, &'static str)> {
    let word = |edge: &Edge| if edge.kind == muster_runsheet::EdgeKind::Needs { "needs" } else { "ends" };
    sheet.edges.iter().filter(|edge| edge.to == *id).map(|edge| (&edge.from, word(edge))).collect()
}

fn same_where_begun(before: &Runsheet, after: &Runsheet, state: &RunState) -> Result<(), Failure> {
    let (old, new) = (by_id(before), by_id(after));
    let help = "what has begun stays as it is: change only later steps (`redo` does a step again)";
    for node in state.nodes().filter(|node| has_begun(node)) {
        let id = &node.id;
        match (old.get(id), new.get(id)) {
            (_, None) => return refuse(format!("the sheet has no step `{id}`, which is {}", node.stand.word()), help),
            (Some(was), Some(is)) if !same_effect(was, is) => {
                return refuse(format!("the sheet changes step `{id}`, which is {}", node.stand.word()), help);
            }
            (Some(_), Some(_)) if leading(before, id) != leading(after, id) => {
                return refuse(
                    format!("the sheet changes what comes before step `{id}`, which is {}", node.stand.word()),
                    help,
                );
            }
            _ => {}
        }
        if let Action::Run { hook, .. } = &old.get(id).map_or(&Action::Barrier, |node| &node.action)
            && before.hooks.get(hook).map(|hook| &hook.hash) != after.hooks.get(hook).map(|hook| &hook.hash)
        {
            return refuse(format!("the sheet changes hook `{hook}`, and step `{id}` of it has begun"), help);
        }
    }
    Ok(())
}

/// Where a step was written down does not matter: a line above it moves it.
fn same_effect(was: &Node, is: &Node) -> bool {
    Node { made_by: String::new(), ..was.clone() } == Node { made_by: String::new(), ..is.clone() }
}

/// Steps without which two sites may come to run one machine.
fn is_guard(node: &Node) -> bool {
    matches!(
        node.action,
        Action::Verify { .. } | Action::Lock { .. } | Action::NoReturn | Action::Fence { .. } | Action::Unlock { .. }
    )
}

fn guards_stay(before: &Runsheet, after: &Runsheet) -> Result<(), Failure> {
    let new = by_id(after);
    for guard in before.nodes.iter().filter(|node| is_guard(node)) {
        let id = &guard.id;
        let help = "the order of the dangerous steps is not amended: cancel the run, and begin another one";
        if new.get(id).is_none_or(|node| node.action != guard.action) {
            return refuse(format!("the sheet leaves out or changes `{id}`, which guards this operation"), help);
        }
        let lost = before.edges.iter().filter(|edge| edge.from == *id && new.contains_key(&edge.to));
        for edge in lost {
            if !after.edges.contains(edge) && !is_before(after, id, &edge.to) {
                return refuse(format!("in the sheet `{}` no longer comes after `{id}`", edge.to), help);
            }
        }
    }
    Ok(())
}

/// Whether `first` is somewhere before `second`.
fn is_before(sheet: &Runsheet, first: &StepId, second: &StepId) -> bool {
    let mut before: BTreeMap<&StepId, Vec<&StepId>> = BTreeMap::new();
    for edge in &sheet.edges {
        before.entry(&edge.to).or_default().push(&edge.from);
    }
    let mut seen = BTreeSet::new();
    let mut waiting = vec![second];
    while let Some(id) = waiting.pop() {
        for from in before.get(id).into_iter().flatten() {
            if *from == first {
                return true;
            }
            if seen.insert(*from) {
                waiting.push(from);
            }
        }
    }
    false
}

fn listed(before: &Runsheet, after: &Runsheet) -> Vec<String> {
    let (old, new) = (by_id(before), by_id(after));
    let gone = old.keys().filter(|id| !new.contains_key(*id)).map(|id| format!("without `{id}`"));
    let come = new.keys().filter(|id| !old.contains_key(*id)).map(|id| format!("with `{id}`"));
    let other = old.iter().filter_map(|(id, was)| {
        let is = new.get(id)?;
        let moved = leading(before, id) != leading(after, id);
        (!same_effect(was, is) || moved).then(|| format!("`{id}` changed"))
    });
    let hooks = after.hooks.iter().filter_map(|(name, hook)| {
        let was = before.hooks.get(name)?;
        (was.hash != hook.hash).then(|| format!("hook `{name}` changed"))
    });
    gone.chain(come).chain(other).chain(hooks).collect()
}
