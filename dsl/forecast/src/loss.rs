//! What a group loses: now, by its newest point, and at worst, by its policy.

use crate::conditions::Conditions;
use crate::estimate::slowest;
use crate::evidence::Evidence;
use muster_runsheet::{Duration, Estate, GroupName, Kind, PointChoice, PolicySheet, Rate, Runsheet};
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
    /// An interval, its transfer at the slowest rate, and making the point.
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
            churn_unknown: churn == 0,
        })
    };
    sheet.groups.iter().filter_map(of).collect()
}

/// Only an unplanned move loses anything.
fn loses(sheet: &Runsheet) -> bool {
    sheet.operation.kind == Kind::Unplanned
}

/// Bits a second that a group writes: in its busy intervals where that is known, else on the mean.
fn churn(sheet: &Runsheet, group: &GroupName) -> u64 {
    let machines = sheet.groups.get(group).map(|group| group.machines.as_slice()).unwrap_or_default();
    let of = |facts: &muster_runsheet::MachineFacts| match &facts.churn {
        Some(churn) if churn.interval.0 > 0 => churn.p95.0.saturating_mul(8_000) / churn.interval.0,
        _ => facts.churn_bytes_per_second.saturating_mul(8),
    };
    machines.iter().filter_map(|name| sheet.machines.get(name)).map(|machine| of(&machine.facts)).sum()
}

fn worst(sheet: &Runsheet, group: &GroupName, policy: &PolicySheet, churn: u64, link: Option<Rate>) -> Worst {
    // Application-consistent points come less often.
    let chooses_app = |node: &muster_runsheet::Node| matches!(&node.action, muster_runsheet::Action::PickPoint { group: of, choice: PointChoice::LatestApp } if of == group);
    let interval = match policy.app_every {
        Some(every) if sheet.nodes.iter().any(chooses_app) => every.max(policy.cycle),
        _ => policy.cycle,
    };
    let rate = slowest(policy).into_iter().chain(link).min();
    let transfer = match rate {
        Some(rate) if churn >= rate.0 => return Worst::Grows,
        Some(rate) => u128::from(churn) * u128::from(policy.cycle.0) / u128::from(rate.0.max(1)),
        None => 0,
    };
    let transfer = u64::try_from(transfer).unwrap_or(u64::MAX);
    Worst::Bounded { loss: Duration(interval.0.saturating_add(transfer).saturating_add(APPLY.0)) }
}
