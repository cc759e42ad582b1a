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

/// The places of each lineage that are needed: by a point, or by a replica that goes on from there.
pub fn needed(
    lineages: &Lineages,
    points: &[Point],
    protections: &[Protection],
) -> Result<BTreeMap<LineageId, BTreeSet<u64>>> {
    let mut needed: BTreeMap<LineageId, BTreeSet<u64>> = BTreeMap::new();
    let tips = points.iter().flat_map(|point| point.disks.iter().map(|disk| disk.tip.clone()));
    let disks = || protections.iter().flat_map(|protection| &protection.members).flat_map(|member| &member.disks);
    let replicas = disks().filter_map(|disk| disk.tip.clone());
    let next = disks().map(|disk| Tip { lineage: disk.lineage.clone(), seq: 0 });
    for tip in tips.chain(replicas).chain(next) {
        for step in chain(lineages, &tip)? {
            needed.entry(step.lineage).or_default().insert(step.seq);
        }
    }
    Ok(needed)
}

/// How long before the end of the policy's cycle the next one begins, so that its point stands when the cycle is over:
/// what is lost with a site is then no older than one cycle. The longest of the last cycles and a quarter, never more
/// than half a cycle; half a cycle while nothing has been measured.
fn lead(protection: &Protection) -> Duration {
    /// The commit itself, and the driver's own delay.
    const COMMIT: Duration = Duration::from_millis(250);
    let half = protection.policy.cycle.std() / 2;
    let longest = protection.cycle_times.iter().max().map(|millis| Duration::from_millis(*millis));
    longest.map_or(half, |longest| half.min(longest + longest / 4 + COMMIT))
}

/// When the next cycle begins. After a failure sooner than usual: 5 s, doubling, never later than the policy's cycle.
pub fn due_at(protection: &Protection, now: Timestamp) -> Option<Timestamp> {
    if protection.suspended.is_some() || protection.paused.is_some() || crate::seed::is_awaited(protection) {
        return None;
    }
    let due = usual_due(protection);
    let due = protection.resync_required.as_ref().map_or(due, |required| due.max(required.from));
    // In hours in which nothing may leave a cut would only stand open.
    let closed = crate::windows::pace(&protection.policy, due.max(now));
    let closed = closed.and_then(|spans| spans.first().copied()).filter(|span| span.bytes_per_second == Some(0));
    Some(closed.map_or(due, |span| due.max(now).plus(Duration::from_millis(span.millis))))
}

fn usual_due(protection: &Protection) -> Timestamp {
    /// After a first failure.
    const RETRY_FIRST: Duration = Duration::from_secs(5);
    let Some(last) = protection.last_attempt else { return Timestamp(0) };
    let cycle = protection.policy.cycle.std();
    match &protection.last_error {
        Some(error) => {
            let factor = 1u32 << error.in_a_row.saturating_sub(1).min(16);
            last.plus(RETRY_FIRST.saturating_mul(factor).min(cycle))
        }
        None => last.plus(cycle.saturating_sub(lead(protection))),
    }
}

/// Whether the next cycle should be app-consistent.
pub fn app_is_due(protection: &Protection, now: Timestamp) -> bool {
    let Some(every) = protection.policy.app_every else { return false };
    protection.last_app.is_none_or(|last| now >= last.plus(every.std()))
}

/// In words, for a message: `there are 3 points from 2027-01-15T08:00:00Z to 2027-01-15T08:10:00Z: 2 crash, 1 app`.
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
    let moment = |at: Timestamp| {
        let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        // In whole seconds; beyond the year 9999 the number itself says it best.
        jiff::Timestamp::from_second(millis / 1000).map_or_else(|_| millis.to_string(), |at| at.to_string())
    };
    format!("there are {} points from {} to {}: {}", points.len(), moment(oldest), moment(newest), kinds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::PointSummary;
    use proptest::prelude::*;

    fn point(id: u64, at: u64) -> Point {
        let summary = PointSummary {
            id: PointId::new(format!("{id:04}")),
            group: GroupName::new("g"),
            at: Timestamp(at),
            kind: PointKind::Crash,
            machines: Vec::new(),
        };
        Point { summary, barriers: Vec::new(), key: None, disks: Vec::new(), times: None }
    }

    fn lineage(index: usize, parent: Option<(usize, u64)>) -> Lineage {
        Lineage {
            id: LineageId::new(format!("l{index}")),
            group: GroupName::new("g"),
            machine: MachineName::new("m"),
            disk: DiskName::new("d"),
            parent: parent.map(|(of, seq)| Tip { lineage: LineageId::new(format!("l{of}")), seq }),
            created: Timestamp(0),
        }
    }

    /// A history as it happens: write a block and commit, or go back to an earlier state and fork from it.
    #[derive(Clone, Debug)]
    enum Move {
        Write { block: usize, value: u32 },
        Fork { to: prop::sample::Index },
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let write = (0usize..8, 1u32..1000).prop_map(|(block, value)| Move::Write { block, value });
        let fork = any::<prop::sample::Index>().prop_map(|to| Move::Fork { to });
        prop::collection::vec(prop_oneof![4 => write, 1 => fork], 1..60)
    }

    struct Model {
        lineages: Lineages,
        /// By lineage and seq: which block got which value.
        layers: BTreeMap<(LineageId, u64), (usize, u32)>,
        /// Every state that was committed.
        states: Vec<(Tip, [u32; 8])>,
    }

    fn play(moves: &[Move]) -> Model {
        let first = lineage(0, None);
        let mut now = (Tip { lineage: first.id.clone(), seq: 0 }, [0u32; 8]);
        let mut model =
            Model { lineages: BTreeMap::from([(first.id.clone(), first)]), layers: BTreeMap::new(), states: vec![] };
        let mut seq = 0;
        for step in moves {
            match step {
                Move::Write { block, value } => {
                    seq += 1;
                    now.0.seq = seq;
                    now.1[*block] = *value;
                    model.layers.insert((now.0.lineage.clone(), seq), (*block, *value));
                    model.states.push(now.clone());
                }
                Move::Fork { to } if !model.states.is_empty() => {
                    let (tip, state) = to.get(&model.states).clone();
                    let index = model.lineages.len();
                    let fork = Lineage { parent: Some(tip), ..lineage(index, None) };
                    // Nothing is in the new lineage yet; its first layer has the next seq.
                    now = (Tip { lineage: fork.id.clone(), seq }, state);
                    model.lineages.insert(fork.id.clone(), fork);
                }
                Move::Fork { .. } => {}
            }
        }
        model
    }

    fn assemble(model: &Model, keep: impl Fn(&LineageId, u64) -> bool, tip: &Tip) -> [u32; 8] {
        let mut blocks = [0; 8];
        for step in chain(&model.lineages, tip).unwrap() {
            for ((lineage, seq), (block, value)) in &model.layers {
                if *lineage == step.lineage && *seq <= step.seq && keep(lineage, *seq) {
                    blocks[*block] = *value;
                }
            }
        }
        blocks
    }

    proptest! {
        #[test]
        fn every_state_is_the_sum_of_its_layers(moves in moves()) {
            let model = play(&moves);
            for (tip, state) in &model.states {
                prop_assert_eq!(assemble(&model, |_, _| true, tip), *state);
            }
        }

        #[test]
        fn what_is_not_needed_can_go(moves in moves(), kept in prop::collection::vec(any::<prop::sample::Index>(), 1..5)) {
            let model = play(&moves);
            prop_assume!(!model.states.is_empty());
            let kept: Vec<_> = kept.iter().map(|index| index.get(&model.states).clone()).collect();
            let points: Vec<Point> = kept.iter().map(|(tip, _)| {
                let disk = PointDisk {
                    machine: MachineName::new("m"), disk: DiskName::new("d"), size_bytes: 512, tip: tip.clone(),
                };
                Point { disks: vec![disk], ..point(1, 1) }
            }).collect();
            let needed = needed(&model.lineages, &points, &[]).unwrap();
            let keep = |lineage: &LineageId, seq: u64| needed.get(lineage).and_then(BTreeSet::last).is_some_and(|upto| seq <= *upto);
            for (tip, state) in &kept {
                prop_assert_eq!(assemble(&model, keep, tip), *state);
            }
        }

        #[test]
        fn retention_drops_exactly_the_old_and_free(
            ages in prop::collection::vec(0u64..1000, 1..40),
            held in prop::collection::btree_set(0usize..40, 0..5),
            retain in 0u64..1000,
        ) {
            let now = Timestamp(10_000);
            let points: Vec<_> = ages.iter().enumerate().map(|(id, age)| point(id as u64, now.0 - age)).collect();
            let newest = points.iter().max_by_key(|point| point.summary.at).map(|point| point.summary.id.clone());
            let held: BTreeSet<_> = held.iter().filter_map(|index| points.get(*index)).map(|point| point.summary.id.clone()).collect();
            let dropped = aged_out(&points, newest.as_ref(), None, &held, now, Duration::from_millis(retain));
            for point in &points {
                let id = &point.summary.id;
                let old = now.0 - point.summary.at.0 > retain;
                let free = !held.contains(id) && newest.as_ref() != Some(id);
                prop_assert_eq!(dropped.contains(id), old && free);
            }
            prop_assert!(dropped.len() < points.len());
        }
    }

    #[test]
    fn a_damaged_catalogue_is_said_and_does_not_hang() {
        let mut lineages = Lineages::new();
        let tip = Tip { lineage: LineageId::new("l0"), seq: 1 };
        assert_eq!(chain(&lineages, &tip).unwrap_err().class, FailureClass::Diverged);
        lineages.insert(LineageId::new("l0"), lineage(0, Some((1, 1))));
        lineages.insert(LineageId::new("l1"), lineage(1, Some((0, 1))));
        assert!(chain(&lineages, &tip).unwrap_err().message.contains("no beginning"));
    }
}
