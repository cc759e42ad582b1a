//! Where the cheapest minute is: the one change to a sheet that saves the most.

use crate::chart::Chart;
use crate::course::{Course, Play};
use crate::estimate::Estimate;
use muster_runsheet::{Action, Duration, EdgeKind, Runsheet};
use serde::Serialize;
use std::collections::BTreeMap;

/// A saving below this is not worth a change of a plan.
const WORTH: Duration = Duration::from_secs(5);

/// What a change would save.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Saving {
    /// `` `in turn` on web.start ``.
    pub what: String,
    pub saves: Duration,
}

/// The part of a step's name that all machines of a line share.
pub(crate) fn line_of(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(line, _)| line)
}

pub(crate) fn cheapest(sheet: &Runsheet, chart: &Chart, estimate: &Estimate) -> Option<Saving> {
    let total = estimate.total?;
    let plays: Vec<Play> = estimate.steps.iter().map(|span| Play::Ends(span.took.0)).collect();
    let saved = |chart: &Chart, plays: &[Play]| {
        let mut course = Course::default();
        course.run(chart, plays);
        Duration(total.0.saturating_sub(course.healthy(chart, plays).unwrap_or(total.0)))
    };
    let mut found: Vec<Saving> = Vec::new();
    for (line, chain) in chains(sheet) {
        found.push(Saving { what: format!("`in turn` on {line}"), saves: saved(&beside(chart, &chain), &plays) });
    }
    for site in sheet.sites.keys() {
        let Some((wide, now)) = chart.with_all_boots(site.as_str()) else { continue };
        let what = format!("no more than {now} boots at once at {site}");
        found.push(Saving { what, saves: saved(&wide, &plays) });
    }
    for (at, node) in sheet.nodes.iter().enumerate().filter(|(at, _)| estimate.steps[*at].critical) {
        let what = match &node.action {
            Action::Approve { .. } => format!("waiting for the answer to {}", node.id),
            Action::Manual { .. } => format!("waiting for a person in {}", node.id),
            Action::Wait { .. } => format!("the wait {}", node.id),
            _ => continue,
        };
        let mut without = plays.clone();
        without[at] = Play::Ends(0);
        found.push(Saving { what, saves: saved(chart, &without) });
    }
    // The first of equals: what a line of the plan costs is easier to change than what a person does.
    let best = found.into_iter().rev().max_by_key(|saving| saving.saves);
    best.filter(|saving| saving.saves >= WORTH)
}

/// Starts and stops of one line that stand one behind the other.
fn chains(sheet: &Runsheet) -> BTreeMap<&str, Vec<(usize, usize)>> {
    let index: BTreeMap<_, usize> = sheet.nodes.iter().enumerate().map(|(at, node)| (&node.id, at)).collect();
    let mut chains: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    for edge in &sheet.edges {
        let (Some(from), Some(to)) = (index.get(&edge.from), index.get(&edge.to)) else { continue };
        let moves = |at: usize| matches!(sheet.nodes[at].action, Action::Start { .. });
        let line = line_of(edge.from.as_str());
        if moves(*from) && moves(*to) && line == line_of(edge.to.as_str()) && line != edge.from.as_str() {
            chains.entry(line).or_default().push((*from, *to));
        }
    }
    chains
}

/// The chart with the steps of a chain side by side: each begins where the first did, and what follows waits for all.
fn beside(chart: &Chart, chain: &[(usize, usize)]) -> Chart {
    let mut chart = chart.clone();
    let mut sorted = chain.to_vec();
    sorted.sort_unstable();
    for (from, to) in &sorted {
        let kind =
            chart.before[*to].iter().find(|(at, _)| *at == *from as u32).map_or(EdgeKind::Needs, |(_, kind)| *kind);
        chart.before[*to].retain(|(at, _)| *at != *from as u32);
        chart.after[*from].retain(|at| *at != *to as u32);
        for (before, kind) in chart.before[*from].clone() {
            if !chart.before[*to].iter().any(|(at, _)| *at == before) {
                chart.before[*to].push((before, kind));
                chart.after[before as usize].push(*to as u32);
            }
        }
        let members: Vec<usize> = sorted.iter().flat_map(|(from, to)| [*from, *to]).collect();
        let exits: Vec<u32> = chart.after[last_of(&sorted, *to)]
            .iter()
            .copied()
            .filter(|at| !members.contains(&(*at as usize)))
            .collect();
        for exit in exits {
            if !chart.before[exit as usize].iter().any(|(at, _)| *at == *from as u32) {
                chart.before[exit as usize].push((*from as u32, kind));
                chart.after[*from].push(exit);
            }
        }
    }
    chart
}

fn last_of(chain: &[(usize, usize)], mut at: usize) -> usize {
    while let Some((_, next)) = chain.iter().find(|(from, _)| *from == at) {
        at = *next;
    }
    at
}
