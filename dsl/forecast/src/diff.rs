//! What changed between two sheets, by the paths of their steps.

use crate::chance::Dice;
use crate::cheapest::line_of;
use crate::conditions::Conditions;
use crate::estimate::Estimate;
use crate::evidence::Evidence;
use muster_runsheet::{Action, Duration, Estate, MachineName, Node, Otherwise, Runsheet, StepId, view};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A shift below this is the rounding of another step.
const SHIFT_MIN: i64 = 1_000;

/// Something that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `db.start/db`, `rto`, `group orders`.
    pub what: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// Steps that begin earlier or later, all by as much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shift {
    /// A line of the plan, or a single step.
    pub what: String,
    pub from: Duration,
    pub to: Duration,
    /// Milliseconds later; negative is earlier.
    pub later_millis: i64,
}

/// The difference of two sheets. Times are those of the plan's own words and the standard table, so that only the sheets
/// differ, not what was measured between them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SheetDiff {
    pub added: Vec<Change>,
    pub removed: Vec<Change>,
    /// Steps that do something else, or with other limits; hooks with another text.
    pub changed: Vec<Change>,
    /// Steps of both that wait for other steps than before.
    pub reordered: Vec<Change>,
    pub shifted: Vec<Shift>,
    /// What is no longer recovered, replicated, kept together or checked.
    pub unprotected: Vec<Change>,
    /// `rto`, `rpo` and other facts of the plan, its sites and assumptions.
    pub facts: Vec<Change>,
    pub rto_p50: [Option<Duration>; 2],
    pub rto_p95: [Option<Duration>; 2],
}

impl SheetDiff {
    /// Whether the two are the same runsheet; only the inventory they were compiled from may have been another file.
    pub fn is_empty(&self) -> bool {
        let lists = [&self.added, &self.removed, &self.changed, &self.reordered, &self.unprotected, &self.facts];
        lists.into_iter().all(Vec::is_empty) && self.shifted.is_empty()
    }
}

/// From `a` to `b`.
pub fn diff(a: &Runsheet, b: &Runsheet, dice: Dice) -> SheetDiff {
    let estimate =
        |sheet: &Runsheet| Estimate::of(sheet, &Estate::default(), &Evidence::default(), &Conditions::default(), dice);
    let (first, second) = (estimate(a), estimate(b));
    let (nodes_a, nodes_b) = (by_id(a), by_id(b));
    let only = |these: &BTreeMap<&StepId, &Node>, others: &BTreeMap<&StepId, &Node>, after: bool| -> Vec<Change> {
        let gone = these.iter().filter(|(id, _)| !others.contains_key(*id));
        gone.map(|(id, node)| {
            let words = Some(view::words(&node.action));
            let (before, after) = if after { (None, words) } else { (words, None) };
            Change { what: id.to_string(), before, after }
        })
        .collect()
    };
    let both: Vec<(&Node, &Node)> = nodes_a.iter().filter_map(|(id, node)| Some((*node, *nodes_b.get(*id)?))).collect();
    let mut changed: Vec<Change> = both.iter().flat_map(|(before, after)| node_changes(before, after)).collect();
    changed.extend(hook_changes(a, b));
    SheetDiff {
        added: only(&nodes_b, &nodes_a, true),
        removed: only(&nodes_a, &nodes_b, false),
        changed,
        reordered: reordered(a, b, &both),
        shifted: shifts(&both, &first, &second),
        unprotected: unprotected(a, b),
        facts: facts(a, b),
        rto_p50: [first.trials.p50, second.trials.p50],
        rto_p95: [first.trials.p95, second.trials.p95],
    }
}

fn by_id(sheet: &Runsheet) -> BTreeMap<&StepId, &Node> {
    sheet.nodes.iter().map(|node| (&node.id, node)).collect()
}

fn note(what: impl Into<String>, before: String, after: String) -> Option<Change> {
    (before != after).then(|| Change { what: what.into(), before: Some(before), after: Some(after) })
}

fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn node_changes(a: &Node, b: &Node) -> Vec<Change> {
    let retry = |node: &Node| {
        node.retry.map_or("none".to_owned(), |retry| {
            let each = retry.each.map_or_else(String::new, |each| format!(" each {each}"));
            format!("{} every {}{each}", retry.count, retry.delay)
        })
    };
    let otherwise = |node: &Node| match node.otherwise {
        Otherwise::Pause => "pause".to_owned(),
        Otherwise::Continue => "continue".to_owned(),
        Otherwise::Undo => "undo".to_owned(),
    };
    let mut changes: Vec<Change> = [
        note(a.id.as_str(), view::words(&a.action), view::words(&b.action)),
        note(format!("{} within", a.id), a.within.to_string(), b.within.to_string()),
        note(format!("{} usually", a.id), or_none(a.usually), or_none(b.usually)),
        note(format!("{} retry", a.id), retry(a), retry(b)),
        note(format!("{} else", a.id), otherwise(a), otherwise(b)),
        note(format!("{} stage", a.id), or_none(a.stage.as_ref()), or_none(b.stage.as_ref())),
    ]
    .into_iter()
    .flatten()
    .collect();
    // The words leave out what people need not see: the disks and cards of a landing.
    if changes.is_empty() && a.action != b.action {
        let text = |action: &Action| serde_json::to_string(action).unwrap_or_default();
        changes.extend(note(a.id.as_str(), text(&a.action), text(&b.action)));
    }
    changes
}

fn hook_changes(a: &Runsheet, b: &Runsheet) -> Vec<Change> {
    let names: BTreeSet<_> = a.hooks.keys().chain(b.hooks.keys()).collect();
    let text = |sheet: &Runsheet, name| sheet.hooks.get(name).map(|hook| hook.hash.short().to_owned());
    let change = |name| {
        let (before, after) = (text(a, name), text(b, name));
        (before != after).then(|| Change { what: format!("hook {name}"), before, after })
    };
    names.into_iter().filter_map(change).collect()
}

fn reordered(a: &Runsheet, b: &Runsheet, both: &[(&Node, &Node)]) -> Vec<Change> {
    let waits = |sheet: &Runsheet| {
        let mut waits: BTreeMap<StepId, BTreeSet<StepId>> = BTreeMap::new();
        for edge in &sheet.edges {
            waits.entry(edge.to.clone()).or_default().insert(edge.from.clone());
        }
        waits
    };
    let (before, after) = (waits(a), waits(b));
    let none = BTreeSet::new();
    let list = |ids: &BTreeSet<StepId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let change = |(node, _): &(&Node, &Node)| {
        let (was, is) = (before.get(&node.id).unwrap_or(&none), after.get(&node.id).unwrap_or(&none));
        note(format!("{} waits for", node.id), list(was), list(is))
    };
    both.iter().filter_map(change).collect()
}

/// Lines whose steps all move by as much are one shift.
fn shifts(both: &[(&Node, &Node)], first: &Estimate, second: &Estimate) -> Vec<Shift> {
    let mut moved: Vec<(Shift, StepId)> = Vec::new();
    let starts = |estimate: &Estimate| -> BTreeMap<StepId, Duration> {
        estimate.steps.iter().filter_map(|span| Some((span.id.clone(), span.start?))).collect()
    };
    let (before, after) = (starts(first), starts(second));
    for (node, _) in both.iter().filter(|(node, _)| node.kind != muster_runsheet::NodeKind::Barrier) {
        let (Some(from), Some(to)) = (before.get(&node.id), after.get(&node.id)) else { continue };
        let later_millis =
            i64::try_from(to.0).unwrap_or(i64::MAX).saturating_sub(i64::try_from(from.0).unwrap_or(i64::MAX));
        if later_millis.abs() >= SHIFT_MIN {
            let what = line_of(node.id.as_str()).to_owned();
            moved.push((Shift { what, from: *from, to: *to, later_millis }, node.id.clone()));
        }
    }
    let mut shifts: Vec<Shift> = Vec::new();
    for (shift, id) in &moved {
        let of_line = both.iter().filter(|(node, _)| line_of(node.id.as_str()) == shift.what).count();
        let alike =
            moved.iter().filter(|(other, _)| (&other.what, other.later_millis) == (&shift.what, shift.later_millis));
        let mut shift = shift.clone();
        if alike.count() != of_line {
            shift.what = id.to_string();
        }
        if !shifts.iter().any(|known| known.what == shift.what) {
            shifts.push(shift);
        }
    }
    shifts.sort_by_key(|shift| (shift.to, shift.what.clone()));
    shifts
}

fn unprotected(a: &Runsheet, b: &Runsheet) -> Vec<Change> {
    let mut lost = Vec::new();
    let mut gone = |what: String, before: String| lost.push(Change { what, before: Some(before), after: None });
    let landed = |sheet: &Runsheet| -> BTreeSet<MachineName> {
        let lands =
            |node: &&Node| matches!(node.action, Action::Promote { .. } | Action::Clone { .. } | Action::Create { .. });
        sheet.nodes.iter().filter(lands).filter_map(|node| node.action.machine().cloned()).collect()
    };
    let (lands_a, lands_b) = (landed(a), landed(b));
    for machine in a.machines.keys().filter(|name| !b.machines.contains_key(*name)) {
        gone(format!("machine {machine}"), "in the plan".to_owned());
    }
    for machine in lands_a.difference(&lands_b).filter(|name| b.machines.contains_key(*name)) {
        gone(format!("machine {machine}"), "recovered".to_owned());
    }
    for (name, group) in &a.groups {
        let members =
            |machines: &[MachineName]| machines.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match b.groups.get(name) {
            None => gone(format!("group {name}"), format!("with {}", members(&group.machines))),
            Some(other) => {
                if let (Some(policy), None) = (&group.policy, &other.policy) {
                    gone(format!("group {name}"), format!("replicated by {policy}"));
                }
                if group.together && !other.together {
                    gone(format!("group {name}"), "recovered to one point together".to_owned());
                }
                let lost: Vec<MachineName> =
                    group.machines.iter().filter(|name| !other.machines.contains(name)).cloned().collect();
                if !lost.is_empty() {
                    gone(format!("group {name}"), format!("with {}", members(&lost)));
                }
            }
        }
    }
    let checks = |sheet: &Runsheet| -> BTreeSet<String> {
        let check = |node: &&Node| matches!(node.action, Action::Check { .. });
        sheet.nodes.iter().filter(check).map(|node| view::words(&node.action)).collect()
    };
    for check in checks(a).difference(&checks(b)) {
        gone("check".to_owned(), check.clone());
    }
    lost
}

fn facts(a: &Runsheet, b: &Runsheet) -> Vec<Change> {
    let mut facts: Vec<Change> = [
        note("plan", a.plan.to_string(), b.plan.to_string()),
        note("operation", a.operation.to_string(), b.operation.to_string()),
        note("way", format!("{} → {}", a.source, a.target), format!("{} → {}", b.source, b.target)),
        note("rto", or_none(a.rto), or_none(b.rto)),
        note("rpo", or_none(a.rpo), or_none(b.rpo)),
        note("owner", or_none(a.owner.as_ref()), or_none(b.owner.as_ref())),
        note("keep", or_none(a.keep), or_none(b.keep)),
        note("vault", a.vault.clone(), b.vault.clone()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let policies = |sheet: &Runsheet| -> BTreeMap<String, String> {
        sheet.groups.values().map(|group| (format!("group {}", group.name), or_none(group.policy.as_ref()))).collect()
    };
    let assumed = |sheet: &Runsheet| -> BTreeMap<String, String> {
        sheet.assumptions.iter().map(|known| (known.about.clone(), known.expects.clone())).collect()
    };
    for (before, after) in [(policies(a), policies(b)), (assumed(a), assumed(b))] {
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let (was, is) = (before.get(name).cloned(), after.get(name).cloned());
            let known = facts.iter().any(|fact| fact.what == *name);
            if was != is && !known {
                facts.push(Change { what: name.clone(), before: was, after: is });
            }
        }
    }
    facts
}

impl SheetDiff {
    /// For people; empty when nothing differs.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut part = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                out.push_str(&format!("{title}\n"));
                for line in lines {
                    out.push_str(&view_hang(&line));
                }
            }
        };
        let both = |change: &Change| match (&change.before, &change.after) {
            (Some(before), Some(after)) => format!("{}: {before} → {after}", change.what),
            (Some(only), None) | (None, Some(only)) => format!("{}: {only}", change.what),
            (None, None) => change.what.clone(),
        };
        let all = |changes: &[Change]| changes.iter().map(both).collect::<Vec<_>>();
        part("no longer protected", all(&self.unprotected));
        part("facts", all(&self.facts));
        part("added", all(&self.added));
        part("removed", all(&self.removed));
        part("changed", all(&self.changed));
        part("other order", all(&self.reordered));
        part("earlier or later", shift_words(&self.shifted));
        if out.is_empty() {
            return out;
        }
        let seconds = |time: Option<Duration>| time.map_or("never".to_owned(), crate::view::seconds_words);
        let change =
            |name: &str, pair: [Option<Duration>; 2]| format!("{name} {} → {}", seconds(pair[0]), seconds(pair[1]));
        out.push_str(&format!("predicted time   {}   {}\n", change("p50", self.rto_p50), change("p95", self.rto_p95)));
        out
    }
}

/// What moves by as much stands on one line, in the order of the run.
fn shift_words(shifts: &[Shift]) -> Vec<String> {
    let mut lines: Vec<(i64, String)> = Vec::new();
    for shift in shifts {
        match lines.iter_mut().find(|(later, _)| *later == shift.later_millis) {
            Some((_, what)) => what.push_str(&format!(", {}", shift.what)),
            None => lines.push((shift.later_millis, shift.what.clone())),
        }
    }
    let line = |(later, what): (i64, String)| {
        let by = crate::view::seconds_words(Duration(later.unsigned_abs()));
        format!("{by} {}: {what}", if later < 0 { "earlier" } else { "later" })
    };
    lines.into_iter().map(line).collect()
}

fn view_hang(line: &str) -> String {
    let lines = crate::view::fold_words(line, 96);
    lines
        .iter()
        .enumerate()
        .map(|(number, line)| format!("  {}{line}\n", if number == 0 { "" } else { "  " }))
        .collect()
}
