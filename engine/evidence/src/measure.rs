//! How long it took, on the clock of the promise: until the machines were over, and until the application was healthy. Two
//! times, because the second is what people wait for and the first is what is usually reported.

use crate::report::{Clock, Fate};
use crate::tell::{Line, Tale, millis};
use muster_forecast::Estimate;
use muster_ports::Timestamp;
use muster_runsheet::{Action, Kind, Node, NodeKind, Runsheet, SheetPhase};

/// The run on the clock of its promise.
pub(crate) fn clock(sheet: &Runsheet, tale: &Tale, estimate: &Estimate) -> Clock {
    let (from, began_with) = begin(sheet, tale);
    let rises = sheet.operation.kind.is_live() || sheet.operation.kind == Kind::Test;
    let over =
        |node: &&Node| matches!(node.action, Action::Promote { .. } | Action::Clone { .. } | Action::Start { .. });
    let counts = |node: &&Node| node.phase != SheetPhase::Settle && node.kind != NodeKind::Barrier;
    let (healthy, not_shown) = match last_well(sheet.nodes.iter().filter(counts), tale) {
        _ if !rises => (None, None),
        Ok(at) => (Some(at), None),
        Err(step) => (None, Some(step)),
    };
    let done = last_well(sheet.nodes.iter().filter(counts).filter(over), tale).ok().flatten();
    Clock {
        from,
        began_with,
        failover_done_millis: done.filter(|_| rises).map(|at| millis(at, from)),
        healthy_millis: healthy.flatten().map(|at| millis(at, from)),
        not_shown,
        promised_millis: sheet.rto.filter(|_| sheet.operation.kind.is_live()).map(|rto| rto.0),
        estimated_millis: estimate.objective.filter(|_| rises).map(|objective| objective.0),
        whole_millis: tale.ended().map(|closed| millis(closed, tale.opened)),
    }
}

/// The incident, when its time was said; else the run, and for an orderly move its first stop.
fn begin(sheet: &Runsheet, tale: &Tale) -> (Timestamp, String) {
    if let Some(incident) = tale.incident {
        return (incident, "the incident".to_owned());
    }
    let leaves = |node: &&Node| {
        node.phase == SheetPhase::Leave && matches!(node.action, Action::Stop { .. } | Action::Run { .. })
    };
    let first = sheet
        .nodes
        .iter()
        .filter(leaves)
        .filter_map(|node| Some((tale.lines.get(&node.id)?.began?, node)))
        .min_by_key(|(at, _)| *at);
    match first {
        Some((at, node)) if sheet.operation.kind == Kind::Planned => (at, format!("step {}", node.id)),
        _ => (tale.opened, "the opening of the run".to_owned()),
    }
}

/// When the last of them was done. What was not done well is named: it was not shown that it holds.
fn last_well<'a>(nodes: impl Iterator<Item = &'a Node>, tale: &Tale) -> Result<Option<Timestamp>, String> {
    let mut last: Option<Timestamp> = None;
    for node in nodes {
        let line = tale.lines.get(&node.id);
        let fate = line.and_then(|line| line.fate).unwrap_or(Fate::NotBegun);
        // Skipping a message or a source that is gone takes nothing from the health of what has risen.
        let matters = node.kind != NodeKind::Note && !matches!(node.phase, SheetPhase::Ready | SheetPhase::Leave);
        if !fate.is_well() && matters {
            return Err(format!("step {}: {}", node.id, fate.word()));
        }
        last = last.max(line.and_then(|line: &Line| line.ended));
    }
    Ok(last)
}
