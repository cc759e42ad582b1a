//! Pure decisions over the catalogue: what makes up a disk, which points age out, which layers nothing needs.
//!
//! Architecture invariant: no I/O here; everything is decided from records that were read before.

use crate::records::*;
use crate::recovery::PointKind;
use muster_ports::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub type Lineages = BTreeMap<LineageId, Lineage>;

/// Forks of one disk followed at most; each is a reversal of direction, so more means a damaged catalogue.
const FORKS_MAX: usize = 10_000;

/// The lineages below a tip with how far each counts, oldest first.
pub fn chain(lineages: &Lineages, tip: &Tip) -> Result<Vec<Tip>> {
    let mut chain = vec![tip.clone()];
    let mut at = tip.clone();
    loop {
        let lineage = lineages.get(&at.lineage).ok_or_else(|| {
            Failure::diverged(format!("the catalogue names the lineage `{}` and does not hold it", at.lineage))
                .help("the control state is damaged; choose another point, or protect the group anew")
        })?;
        let Some(parent) = &lineage.parent else { break };
        if chain.len() >= FORKS_MAX {
            return Err(Failure::diverged(format!("the lineage `{}` has no beginning", tip.lineage)));
        }
        chain.push(parent.clone());
        at = parent.clone();
    }
    chain.reverse();
    Ok(chain)
}

/// Whether a point lies on the way that led to the replica as it is now, and not on a branch that was left by going back.
pub fn is_on_way(lineages: &Lineages, protection: &Protection, point: &Point) -> bool {
    let disks =
        protection.members.iter().flat_map(|member| member.disks.iter().map(move |disk| (&member.machine, disk)));
    let mut ways = BTreeMap::new();
    for (machine, disk) in disks {
        let now = Tip { lineage: disk.lineage.clone(), seq: u64::MAX };
        let mut way = chain(lineages, &now).unwrap_or_default();
        way.extend(disk.replaced.iter().flat_map(|end| chain(lineages, end).unwrap_or_default()));
        ways.insert((machine, &disk.disk), way);
    }
    point.disks.iter().all(|disk| {
        ways.get(&(&disk.machine, &disk.disk))
            .is_none_or(|way| way.iter().any(|step| step.lineage == disk.tip.lineage && disk.tip.seq <= step.seq))
    })
}

/// Points that are too old: never the newest, never one that is held or that a direction began with.
pub fn aged_out(
    points: &[Point],
    newest: Option<&PointId>,
    origin: Option<&PointId>,
    held: &BTreeSet<PointId>,
    now: Timestamp,
    retain: Duration,
) -> Vec<PointId> {
    let oldest_kept = now.minus(retain);
    points
        .iter()
        .map(|point| &point.summary)
        .filter(|summary| summary.at < oldest_kept)
        .filter(|summary| Some(&summary.id) != newest && Some(&summary.id) != origin && !held.contains(&summary.id))
        .map(|summary| summary.id.clone())
        .collect()
}

/// How far each lineage is needed: by a point, or by a replica that goes on from there.
pub fn needed(lineages: &Lineages, points: &[Point], protections: &[Protection]) -> Result<BTreeMap<LineageId, u64>> {
    let mut needed: BTreeMap<LineageId, u64> = BTreeMap::new();
    let tips = points.iter().flat_map(|point| point.disks.iter().map(|disk| disk.tip.clone()));
    let disks = || protections.iter().flat_map(|protection| &protection.members).flat_map(|member| &member.disks);
    let replicas = disks().filter_map(|disk| disk.tip.clone());
    let next = disks().map(|disk| Tip { lineage: disk.lineage.clone(), seq: 0 });
    for tip in tips.chain(replicas).chain(next) {
        for step in chain(lineages, &tip)? {
            let upto = needed.entry(step.lineage).or_default();
            *upto = (*upto).max(step.seq);
        }
    }
    Ok(needed)
}

/// When the next cycle is due. After a failure sooner than usual: 5 s, doubling, never later than the policy's cycle.
pub fn due_at(protection: &Protection) -> Option<Timestamp> {
    const RETRY_FIRST: Duration = Duration::from_secs(5);
    if protection.suspended.is_some() {
        return None;
    }
    let Some(last) = protection.last_attempt else { return Some(Timestamp(0)) };
    let cycle = protection.policy.cycle.std();
    Some(match &protection.last_error {
        Some(error) => {
            let factor = 1u32 << error.in_a_row.saturating_sub(1).min(16);
            last.plus(RETRY_FIRST.saturating_mul(factor).min(cycle))
        }
        None => last.plus(cycle),
    })
}

/// Whether the next cycle should be app-consistent.
pub fn app_is_due(protection: &Protection, now: Timestamp) -> bool {
    let Some(every) = protection.policy.app_every else { return false };
    protection.last_app.is_none_or(|last| now >= last.plus(every.std()))
}

/// In words, for a message: `3 points from 1700000000000 to 1700000600000 (2 crash, 1 app)`.
pub fn describe(points: &[Point]) -> String {
    let (Some(oldest), Some(newest)) =
        (points.iter().map(|point| point.summary.at).min(), points.iter().map(|point| point.summary.at).max())
    else {
        return "there are no points".to_owned();
    };
    let count = |kind| points.iter().filter(|point| point.summary.kind == kind).count();
    let kinds = [
        (PointKind::Crash, "crash"),
        (PointKind::App, "app"),
        (PointKind::Final, "final"),
        (PointKind::Named, "named"),
    ];
    let kinds: Vec<_> = kinds
        .into_iter()
        .filter(|(kind, _)| count(*kind) > 0)
        .map(|(kind, word)| format!("{} {word}", count(kind)))
        .collect();
    format!("there are {} points from {} to {}: {}", points.len(), oldest.0, newest.0, kinds.join(", "))
}
