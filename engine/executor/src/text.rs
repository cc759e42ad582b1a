//! Fills in what a person reads: `{target}`, `{point.at}`, `{loss}`. An approver must see what is approved.

use muster_journal::RunState;
use muster_ports::Timestamp;
use muster_runsheet::{Duration, Runsheet};

/// A moment for people: UTC, to the second.
pub fn moment(at: Timestamp) -> String {
    let at = i64::try_from(at.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    at.map_or_else(|| "an unknown time".to_owned(), |at| format!("{at:.0}"))
}

/// Replaces the known names in braces; what is not known stays as it was written.
///
/// `{source}` `{target}` `{plan}` `{operation}` `{run}` · `{point.at}`: the oldest of the points chosen ·
/// `{loss}`: the largest loss of a group.
pub fn fill(text: &str, sheet: &Runsheet, state: &RunState) -> String {
    let point_at = || match state.points.values().map(|chosen| chosen.at).min() {
        Some(at) => moment(at),
        None => "a point not chosen yet".to_owned(),
    };
    let loss = || match state.points.values().map(|chosen| chosen.loss_millis).max() {
        // Whole seconds: more digits would promise what no clock of two sites can keep.
        Some(millis) => Duration(millis - millis % 1_000).to_string(),
        None => "not known yet".to_owned(),
    };
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        rest = &rest[open..];
        let Some(close) = rest.find('}') else { break };
        match &rest[1..close] {
            "source" => filled.push_str(sheet.source.as_str()),
            "target" => filled.push_str(sheet.target.as_str()),
            "plan" => filled.push_str(sheet.plan.as_str()),
            "operation" => filled.push_str(&sheet.operation.to_string()),
            "run" => filled.push_str(state.run.as_str()),
            "point.at" => filled.push_str(&point_at()),
            "loss" => filled.push_str(&loss()),
            _ => filled.push_str(&rest[..=close]),
        }
        rest = &rest[close + 1..];
    }
    filled.push_str(rest);
    filled
}
