//! Everything the views show of one sheet.

use crate::chance::Dice;
use crate::cheapest::{Saving, cheapest, line_of};
use crate::conditions::Conditions;
use crate::effects::HookEffects;
use crate::estimate::Estimate;
use crate::evidence::{Drills, Evidence, History, what_of};
use crate::loss::{GroupLoss, losses};
use muster_runsheet::{Action, Duration, Estate, Kind, Node, NodeKind, Runsheet, SheetPhase};
use serde::Serialize;

/// What to look into the future with.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub sheet: &'a Runsheet,
    /// For the policies of its groups.
    pub estate: &'a Estate,
    pub evidence: &'a Evidence,
    pub conditions: &'a Conditions,
    pub dice: Dice,
}

/// What a sheet would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast<'a> {
    #[serde(skip)]
    pub sheet: &'a Runsheet,
    pub estimate: Estimate,
    /// Of each replicated group.
    pub losses: Vec<GroupLoss>,
    pub drills: Drills,
    /// Lines of this operation that no drill has ever run; `None` when no vault was asked.
    pub unrehearsed: Option<Vec<String>>,
    pub cheapest: Option<Saving>,
    pub inventory_age: Option<Duration>,
    /// Past runs the estimate could rest on.
    pub runs: usize,
    pub conditions: Vec<String>,
    /// What hooks would touch; `None` where nobody has tried them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effects: Option<Vec<HookEffects>>,
}

impl<'a> Forecast<'a> {
    pub fn of(question: Question<'a>) -> Self {
        let Question { sheet, estate, evidence, conditions, dice } = question;
        let (estimate, chart) = Estimate::with_chart(sheet, estate, evidence, conditions, dice);
        Self {
            losses: losses(sheet, estate, evidence, conditions),
            drills: Drills::of(evidence.history.as_ref()),
            unrehearsed: evidence.history.as_ref().map(|history| unrehearsed(sheet, history)),
            cheapest: cheapest(sheet, &chart, &estimate),
            inventory_age: evidence.inventory_age,
            runs: evidence.history.as_ref().map_or(0, |history| history.runs),
            conditions: conditions.words(),
            effects: None,
            sheet,
            estimate,
        }
    }
}

/// Derived steps by their verb, written ones by their line; each once, in the order of the sheet.
fn unrehearsed(sheet: &Runsheet, history: &History) -> Vec<String> {
    if !sheet.operation.kind.is_live() {
        return Vec::new();
    }
    let mut lines: Vec<String> = Vec::new();
    for node in sheet.nodes.iter().filter(|node| matters(node)) {
        let what = what_of(node);
        let machine = node.action.machine();
        let drilled = history.samples.iter().any(|sample| {
            sample.operation.kind == Kind::Test
                && sample.took.is_some()
                && sample.what == what
                && sample.machine.as_ref() == machine
        });
        let line = match node.phase {
            SheetPhase::Rise => line_of(node.id.as_str()),
            _ => node.action.verb(),
        };
        if !drilled && !lines.iter().any(|known| known == line) {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// A rehearsal of it would prove something.
fn matters(node: &Node) -> bool {
    let record = matches!(
        node.action,
        Action::Lock { .. } | Action::Unlock { .. } | Action::Report | Action::Wait { .. } | Action::Notify { .. }
    );
    !record
        && !matches!(node.action, Action::Verify { .. } | Action::PickPoint { .. })
        && node.kind != NodeKind::Barrier
}
