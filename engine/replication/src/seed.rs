//! A first copy that travels on a disk: exported at the source, imported where the vault is, and followed by cycles that
//! send what has changed since.
//!
//! ```text
//!   protect (initial-copy = offline)      the group waits, nothing is cut
//!   export    cut, ship to a folder       a record of what the point will be; changes are tracked from the cut on
//!   ... the disk travels ...
//!   import    folder -> vault             one batch makes the point; the next cycle is a delta
//! ```
//!
//! The segments are those that a cycle over the wire would have written: sealed with the vault's key and bound to their
//! lineage, so that what is lost on the way tells nobody anything, and what was changed on the way is found.

use crate::catalogue::put;
use crate::cycle::{Wish, gave_way};
use crate::records::*;
use crate::replicator::Replicator;
use futures::{StreamExt, TryStreamExt};
use muster_ports::*;
use muster_runsheet::InitialCopy;
use muster_vault::Place;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// Segments on their way into the vault at once. Each is held in memory.
const COPIES_AT_ONCE: usize = 4;

/// Where a seed was written, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    pub to: String,
    pub at: Timestamp,
}

/// What an import will make true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seed {
    pub point: Point,
    pub to: String,
    pub exported: Timestamp,
    /// The protection as it will be, as far as it does not change meanwhile.
    after: Protection,
    layers: Vec<Layer>,
}

impl Seed {
    pub(crate) fn new(point: Point, to: String, after: Protection, batch: Vec<Write>) -> Result<Self> {
        let mut layers = Vec::new();
        for write in batch {
            // A disk that has no copy yet begins no new lineage: all there is are layers.
            let Write::Put { key, value } = write else { continue };
            let layer = serde_json::from_slice(&value);
            layers.push(layer.map_err(|error| Failure::diverged(format!("`{key}` is no layer: {error}")))?);
        }
        let exported = after.last_cycle.as_ref().map_or(point.summary.at, |cycle| cycle.ended);
        Ok(Self { point, to, exported, after, layers })
    }

    pub(crate) fn segments(self) -> impl Iterator<Item = SegmentRef> {
        self.layers.into_iter().flat_map(|layer| layer.segments)
    }
}

/// The policy wants the first copy on a disk, and it has not come.
pub(crate) fn is_awaited(protection: &Protection) -> bool {
    protection.policy.initial_copy == InitialCopy::Offline
        && protection.newest.is_none()
        && protection.members.iter().flat_map(|member| &member.disks).all(|disk| disk.tip.is_none())
}

pub(crate) fn awaited(group: &GroupName) -> Failure {
    Failure::refused(format!("the group `{group}` waits for its first copy on a disk")).help(format!(
        "`muster seed export {group} --to FOLDER`, then `muster seed import {group} --from FOLDER`; or write \
         `initial-copy = online` and `muster protect` again"
    ))
}

/// What an import has brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedReport {
    pub group: GroupName,
    pub point: PointId,
    pub segments: u64,
    pub bytes: u64,
}

impl Replicator {
    /// Groups that wait for a first copy on a disk.
    pub async fn awaiting_seed(&self) -> Result<Vec<GroupName>> {
        let all = self.catalogue.protections().await?;
        Ok(all.into_iter().filter(is_awaited).map(|protection| protection.group).collect())
    }

    /// Writes the first copy of a group to a store at its source. A second export is a copy of its own: the first one can
    /// no longer be imported.
    pub async fn export_seed(&self, group: &GroupName, to: &str, progress: &dyn Progress) -> Result<SeedReport> {
        let gate = self.gate(group);
        let _work = gate.work.lock().await;
        let protection = self.catalogue.protection(group).await?;
        if !is_awaited(&protection) {
            let why = match protection.policy.initial_copy {
                InitialCopy::Offline => "has its first copy already",
                InitialCopy::Online => "has a policy with `initial-copy = online`",
            };
            return Err(Failure::refused(format!("the group `{group}` {why}: there is nothing to export")));
        }
        let point = self.locked_cycle(group, &gate, Wish::Seed(to.to_owned()), progress).await?;
        let seed = self.catalogue.seed(group).await?;
        let (mut segments, mut bytes) = (0, 0);
        for segment in seed.into_iter().flat_map(Seed::segments) {
            (segments, bytes) = (segments + 1, bytes + segment.stored_bytes);
        }
        Ok(SeedReport { group: group.clone(), point: point.summary.id, segments, bytes })
    }

    /// Takes a seed over into the vault, and makes it the group's first point. Begun again after a crash it goes on where
    /// it was: what has arrived is not sent twice.
    pub async fn import_seed(
        &self,
        group: &GroupName,
        from: &Place,
        vault: &Place,
        progress: &dyn Progress,
    ) -> Result<SeedReport> {
        let gate = self.gate(group);
        let _work = gate.work.lock().await;
        let mut interrupts = gate.interrupts();
        let mut protection = self.catalogue.protection(group).await?;
        let Some(seed) = self.catalogue.seed(group).await? else {
            return Err(Failure::refused(format!("no seed of the group `{group}` was exported"))
                .help(format!("`muster seed export {group} --to FOLDER` at its source comes first")));
        };
        if !adopt(&mut protection, &seed) {
            return Err(Failure::refused(format!(
                "the seed in `{}` is of an earlier protection of the group `{group}`, or it has its first copy already",
                from.url()
            ))
            .help(format!("`muster seed export {group} --to FOLDER` makes one of the disks as they are now")));
        }
        let segments: Vec<SegmentRef> = seed.clone().segments().collect();
        let total: u64 = segments.iter().map(|segment| segment.stored_bytes).sum();
        let done = AtomicU64::new(0);
        let here: std::collections::BTreeSet<SegmentName> =
            vault.segments().await?.into_iter().map(|segment| segment.name).collect();
        let take_over = |segment: &SegmentRef| {
            let (segment, known) = (segment.clone(), here.contains(&segment.name));
            let done = &done;
            async move {
                if !known {
                    vault.take_over(from, &segment).await?;
                }
                let done = done.fetch_add(segment.stored_bytes, Ordering::Relaxed) + segment.stored_bytes;
                progress.report(done, Some(total));
                Ok::<(), Failure>(())
            }
        };
        let copies: Vec<_> = segments.iter().map(take_over).collect();
        let copies = futures::stream::iter(copies).buffer_unordered(COPIES_AT_ONCE).try_collect::<Vec<()>>();
        // Whoever pauses or gives up the group does not wait for hours; the next import goes on from here.
        tokio::select! {
            biased;
            _ = interrupts.changed() => return Err(gave_way(group)),
            copied = copies => copied?,
        };
        let report = SeedReport {
            group: group.clone(),
            point: seed.point.summary.id.clone(),
            segments: segments.len() as u64,
            bytes: total,
        };
        let mut batch = vec![
            put(point_key(group, &seed.point.summary.id), &seed.point)?,
            put(protection_key(group), &protection)?,
            Write::delete(seed_key(group)),
        ];
        for layer in &seed.layers {
            batch.push(put(layer_key(&layer.lineage, layer.seq), layer)?);
        }
        self.catalogue.store.write(batch).await.map_err(|error| Failure::from(error).during("commit the seed"))?;
        Ok(report)
    }
}

/// Gives the protection, whose policy and members may have changed meanwhile, the tips of the seed. `false` when it has
/// none of its disks as they were.
fn adopt(protection: &mut Protection, seed: &Seed) -> bool {
    let mut adopted = false;
    for member in &mut protection.members {
        let found = seed.after.members.iter().find(|other| other.machine == member.machine);
        let Some(found) = found.filter(|_| member.base.is_none()) else { continue };
        for disk in &mut member.disks {
            let same = |other: &&MemberDisk| other.disk == disk.disk && other.lineage == disk.lineage;
            let Some(copied) = found.disks.iter().find(same).filter(|_| disk.tip.is_none()) else { continue };
            (disk.tip, disk.size_bytes) = (copied.tip.clone(), copied.size_bytes);
            member.base.clone_from(&found.base);
            adopted = true;
        }
    }
    if adopted {
        protection.seq = protection.seq.max(seed.after.seq);
        protection.newest.clone_from(&seed.after.newest);
        protection.last_app = seed.after.last_app;
        protection.last_cycle.clone_from(&seed.after.last_cycle);
        protection.totals = seed.after.totals;
        // What has changed since the export is due at once.
        protection.last_attempt = None;
    }
    adopted
}
