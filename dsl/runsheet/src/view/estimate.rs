//! How long a sheet takes: the longest way through its graph.

use crate::names::StepId;
use crate::sheet::{Action, Node, Runsheet};
use crate::units::Duration;
use std::collections::BTreeMap;

/// A step on the clock of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: Duration,
    pub took: Duration,
    /// Neither measured nor written in the plan.
    pub assumed: bool,
    /// Any delay of it delays the end.
    pub critical: bool,
}

impl Span {
    pub fn end(&self) -> Duration {
        Duration(self.start.0.saturating_add(self.took.0))
    }
}

/// When each step runs, as far as can be known before.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    pub steps: BTreeMap<StepId, Span>,
    /// Until the last step that production waits for: what runs in `settle` behind it is not counted.
    pub total: Duration,
    /// Until everything has ended.
    pub whole: Duration,
    /// Part of the total rests on assumptions.
    pub assumed: bool,
}

impl Estimate {
    /// By `usually`, else by the table of the standard library.
    pub fn of(sheet: &Runsheet) -> Self {
        Self::with(sheet, |node| match (written(node), muster_stdlib::timing(timing_key(node))) {
            (Some(took), _) => (took, false),
            (None, Some(line)) => {
                let took: Duration = line.assumed.parse().unwrap_or_default();
                (took.min(node.within), took != Duration::ZERO)
            }
            (None, None) => (Duration::ZERO, false),
        })
    }
    /// By what the plan itself says: waits and `usually`. Everything else takes no time.
    pub fn of_written(sheet: &Runsheet) -> Self {
        Self::with(sheet, |node| (written(node).unwrap_or_default(), false))
    }

    fn with(sheet: &Runsheet, took: impl Fn(&Node) -> (Duration, bool)) -> Self {
        let mut steps: BTreeMap<StepId, Span> = BTreeMap::new();
        // Nodes stand in an order in which every edge points forward.
        for node in &sheet.nodes {
            let before = sheet.edges.iter().filter(|edge| edge.to == node.id).filter_map(|edge| steps.get(&edge.from));
            let start = before.map(Span::end).max().unwrap_or_default();
            let (took, assumed) = took(node);
            steps.insert(node.id.clone(), Span { start, took, assumed, critical: false });
        }
        let counts = |node: &&Node| node.phase != crate::SheetPhase::Settle;
        let last = |nodes: &mut dyn Iterator<Item = &Node>| {
            nodes.filter_map(|node| steps.get(&node.id)).map(Span::end).max().unwrap_or_default()
        };
        let whole = last(&mut sheet.nodes.iter());
        let total = match last(&mut sheet.nodes.iter().filter(counts)) {
            Duration::ZERO => whole,
            total => total,
        };
        mark_critical(sheet, &mut steps, total);
        let assumed = steps.values().any(|span| span.critical && span.assumed);
        Self { steps, total, whole, assumed }
    }
}

fn written(node: &Node) -> Option<Duration> {
    match &node.action {
        Action::Wait { duration } => Some(*duration),
        _ => node.usually,
    }
}

/// A stop of which nobody knows whether it is possible has a line of its own.
fn timing_key(node: &Node) -> &'static str {
    match (&node.action, node.otherwise) {
        (Action::Stop { .. }, crate::Otherwise::Continue) => "stop-budget",
        (action, _) => action.verb(),
    }
}

/// Walks back from every step that ends at `total`, along those that end where the next begins.
fn mark_critical(sheet: &Runsheet, steps: &mut BTreeMap<StepId, Span>, total: Duration) {
    let mut waiting: Vec<StepId> = sheet
        .nodes
        .iter()
        .map(|node| &node.id)
        .filter(|id| steps.get(*id).is_some_and(|span| span.end() == total && total != Duration::ZERO))
        .cloned()
        .collect();
    while let Some(id) = waiting.pop() {
        let Some(span) = steps.get_mut(&id) else { continue };
        if std::mem::replace(&mut span.critical, true) {
            continue;
        }
        let start = span.start;
        let before = sheet.edges.iter().filter(|edge| edge.to == id).map(|edge| &edge.from);
        let tight = before.filter(|from| steps.get(*from).is_some_and(|span| span.end() == start));
        waiting.extend(tight.cloned().collect::<Vec<_>>());
    }
}
