//! What a group loses: now, by its newest point, and at worst, by its policy.

use crate::conditions::Conditions;
use crate::estimate::slowest;
use crate::evidence::Evidence;
use muster_runsheet::week::{Churn, Piece, pieces};
use muster_runsheet::{Action, Duration, Estate, GroupName, Kind, Node, PointChoice, PolicySheet, Rate, Runsheet};
use serde::Serialize;

/// From the last byte in the vault until the point that names it is committed.
const APPLY: Duration = Duration::from_secs(2);

/// What a recovery of a group loses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupLoss {
    pub group: GroupName,
    /// By the age of its newest point; `None` when no vault was asked or it has no point.
    pub now: Option<Duration>,
    pub worst: Worst,
    /// Nothing is known of what its machines write: the worst case counts no transfer.
    pub churn_unknown: bool,
}

/// The most that a policy lets be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "worst", rename_all = "kebab-case")]
pub enum Worst {
    /// Nothing: the last cycle runs with the machines off, or production is not touched.
    None,
    /// An interval, its transfer at the slowest rate, what waits before it in the worst week, and making the point.
    Bounded { loss: Duration },
    /// More is written than passes: it grows for as long as that lasts.
    Grows,
}

/// Of every replicated group of the sheet.
pub(crate) fn losses(
    sheet: &Runsheet,
    estate: &Estate,
    evidence: &Evidence,
    conditions: &Conditions,
) -> Vec<GroupLoss> {
    let of = |(name, group): (&GroupName, &muster_runsheet::GroupSheet)| {
        let policy = estate.policies.get(group.policy.as_ref()?)?;
        let churn = churn(sheet, name);
        let link = conditions.rate(&sheet.source, &sheet.target);
        let now = evidence.lags.as_ref().and_then(|lags| lags.get(name)).copied();
        Some(GroupLoss {
            group: name.clone(),
            now: if loses(sheet) { now } else { Some(Duration::ZERO) },
            worst: if loses(sheet) { worst(sheet, name, policy, churn, link) } else { Worst::None },
            churn_unknown: churn.is_none(),
        })
    };
    sheet.groups.iter().filter_map(of).collect()
}

/// Only an unplanned move loses anything.
fn loses(sheet: &Runsheet) -> bool {
    sheet.operation.kind == Kind::Unplanned
}

/// What the machines of a group write together, as far as that is known.
fn churn(sheet: &Runsheet, group: &GroupName) -> Churn {
    let machines = sheet.groups.get(group).map(|group| group.machines.as_slice()).unwrap_or_default();
    let known = machines.iter().filter_map(|name| sheet.machines.get(name));
    known.fold(Churn::NONE, |sum, machine| sum.and(Churn::of(&machine.facts)))
}

fn worst(sheet: &Runsheet, group: &GroupName, policy: &PolicySheet, churn: Churn, link: Option<Rate>) -> Worst {
    let worst = muster_runsheet::week::Worst::of(policy, churn, &week(policy, link));
    if worst.is_endless() {
        return Worst::Grows;
    }
    // Application-consistent points come less often.
    let chooses_app = |node: &Node| matches!(&node.action, Action::PickPoint { group: of, choice: PointChoice::LatestApp } if of == group);
    let rarer = match policy.app_every {
        Some(every) if sheet.nodes.iter().any(chooses_app) => every.0.saturating_sub(policy.cycle.0),
        _ => 0,
    };
    Worst::Bounded { loss: Duration(worst.loss(policy).0.saturating_add(rarer).saturating_add(APPLY.0)) }
}

/// The rates of a week, none above what the link lets through.
fn week(policy: &PolicySheet, link: Option<Rate>) -> Vec<Piece> {
    let windows = &policy.bandwidth_windows;
    let one_zone = windows.windows(2).all(|pair| pair[0].0.zone == pair[1].0.zone);
    let spans: Option<Vec<_>> = windows.iter().map(|(window, rate)| Some((window.minutes()?, *rate))).collect();
    let mut week = match spans.filter(|_| one_zone) {
        Some(spans) => pieces(&spans, policy.bandwidth),
        // Clocks of several zones: taken as if the slowest rate held all week, which is never too hopeful.
        None => pieces(&[], slowest(policy)),
    };
    for piece in &mut week {
        piece.rate = piece.rate.into_iter().chain(link).min();
    }
    week
}
