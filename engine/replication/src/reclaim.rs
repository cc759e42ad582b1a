//! Taking away what no recovery point needs any more. Deleting is done in two phases, so that a crash at any moment
//! leaves garbage and never a hole.
//!
//! ```text
//!   layer that nothing needs --(one batch)--> reclaim record --(grace)--> object deleted --> record deleted
//!   object that nothing ever named -------------------------(grace)--> object deleted
//! ```
//!
//! What is reclaimed: layers that only dropped points needed, which are those of lineages that were left (a direction
//! that was turned, a group no longer protected, a branch behind a fork) and of disks that got a new first copy; and
//! segments of cycles that never committed.
//! And what was folded: a disk at a point is the sum of its layers, or of the folds that stand for them, so a layer goes
//! once every point that is left reads the fold.

use crate::catalogue::put;
use crate::folding::Used;
use crate::history;
use crate::records::*;
use crate::replicator::{Replicator, lock};
use async_trait::async_trait;
use muster_ports::*;
use muster_vault::Unfinished;
use std::collections::BTreeSet;
use std::time::Duration;

/// Records written in one batch at most, so that a batch stays small.
const UNLINKS_PER_BATCH: usize = 256;
/// An unfinished file that belongs to no disk is left alone for so long: far longer than any write of the control state
/// may take, and its writer may be this very process.
const UNFINISHED_CONTROL_AGE: Duration = Duration::from_secs(3600);

/// An object below `data/` of the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSegment {
    pub name: SegmentName,
    pub stored_bytes: u64,
    /// By the store's clock.
    pub written: Timestamp,
}

/// The vault as seen by the sweeper.
#[async_trait]
pub trait SegmentBin: Send + Sync + std::fmt::Debug {
    async fn list(&self) -> Result<Vec<StoredSegment>>;
    /// Succeeds when it is not there.
    async fn delete(&self, segment: &SegmentName) -> Result<()>;
    /// What killed writers left that is no object yet; most stores keep nothing of that kind.
    async fn unfinished(&self) -> Result<Vec<Unfinished>> {
        Ok(Vec::new())
    }
    /// Succeeds when it is not there.
    async fn delete_unfinished(&self, _file: &Unfinished) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl SegmentBin for muster_vault::Place {
    async fn list(&self) -> Result<Vec<StoredSegment>> {
        let stored = |segment: muster_vault::StoredSegment| StoredSegment {
            name: segment.name,
            stored_bytes: segment.stored_bytes,
            written: segment.modified,
        };
        Ok(self.segments().await?.into_iter().map(stored).collect())
    }
    async fn delete(&self, segment: &SegmentName) -> Result<()> {
        self.delete_segments(std::slice::from_ref(segment)).await?;
        Ok(())
    }
    async fn unfinished(&self) -> Result<Vec<Unfinished>> {
        Ok(self.unfinished().await?)
    }
    async fn delete_unfinished(&self, file: &Unfinished) -> Result<()> {
        Ok(self.delete_unfinished(file).await?)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GcReport {
    /// Layers taken out of the catalogue by this call.
    pub unlinked_layers: usize,
    pub unlinked_bytes: u64,
    pub removed_lineages: usize,
    /// Objects deleted that were unlinked longer ago than the grace.
    pub deleted_segments: usize,
    pub deleted_bytes: u64,
    /// Objects deleted that no point ever named.
    pub deleted_orphans: usize,
    pub orphan_bytes: u64,
    /// Objects that wait for the grace to pass.
    pub waiting_segments: usize,
}

impl Replicator {
    /// Every segment that a layer of the catalogue names.
    pub async fn live_segments(&self) -> Result<BTreeSet<SegmentName>> {
        let layers = self.catalogue.all_layers().await?.into_iter().flat_map(|layer| layer.segments);
        let folds = self.catalogue.all_folds().await?.into_iter().flat_map(|fold| fold.segments);
        // What has arrived of a seed is named by nothing else until all of it has.
        let seeds = self.catalogue.seeds().await?.into_iter().flat_map(|seed| seed.segments());
        Ok(layers.chain(folds).chain(seeds).map(|segment| segment.name).collect())
    }

    /// Takes away what no point needs. `grace` is how long an unlinked segment may still be read by a machine that runs
    /// from it or a landing under way.
    pub async fn gc(&self, bin: &dyn SegmentBin, grace: Duration) -> Result<GcReport> {
        let mut report = GcReport::default();
        self.unlink(&mut report).await?;
        self.delete_unlinked(bin, grace, &mut report).await?;
        self.delete_orphans(bin, grace, &mut report).await?;
        Ok(report)
    }

    async fn unlink(&self, report: &mut GcReport) -> Result<()> {
        // While this lock is held no point comes back into use and no direction turns.
        let _points = self.points_lock.lock().await;
        let layers = self.catalogue.all_layers().await?;
        let folds = self.catalogue.all_folds().await?;
        let lineages = self.catalogue.lineages().await?;
        let protections = self.catalogue.protections().await?;
        let points = self.catalogue.all_points().await?;
        // What is judged was read first and what is needed last: a cycle that commits meanwhile only adds.
        let needed = history::needed(&self.catalogue.lineages().await?, &points, &protections)?;
        let used = Used::of(&layers, &folds, &needed);
        let now = self.clock.now();
        let mut batch = Vec::new();
        for fold in folds.into_iter().filter(|fold| !used.has_fold(fold)) {
            report.unlinked_layers += 1;
            report.unlinked_bytes += fold.segments.iter().map(|segment| segment.stored_bytes).sum::<u64>();
            batch.push(Write::delete(fold_key(&fold)));
            batch.push(put(reclaim_fold_key(&fold), &Reclaim { unlinked: now, segments: fold.segments })?);
        }
        for layer in layers {
            if used.has_layer(&layer) {
                continue;
            }
            report.unlinked_layers += 1;
            report.unlinked_bytes += layer.segments.iter().map(|segment| segment.stored_bytes).sum::<u64>();
            batch.push(Write::delete(layer_key(&layer.lineage, layer.seq)));
            batch.push(put(
                reclaim_key(&layer.lineage, layer.seq),
                &Reclaim { unlinked: now, segments: layer.segments },
            )?);
            if batch.len() >= 2 * UNLINKS_PER_BATCH {
                self.catalogue.store.write(std::mem::take(&mut batch)).await?;
            }
        }
        // The layers go before the lineages: a lineage without layers is harmless, the reverse is a hole.
        for lineage in lineages.keys().filter(|lineage| !needed.contains_key(*lineage)) {
            report.removed_lineages += 1;
            batch.push(Write::delete(lineage_key(lineage)));
        }
        if batch.is_empty() {
            return Ok(());
        }
        Ok(self.catalogue.store.write(batch).await?)
    }

    async fn delete_unlinked(&self, bin: &dyn SegmentBin, grace: Duration, report: &mut GcReport) -> Result<()> {
        let now = self.clock.now();
        let live = self.live_segments().await?;
        for (key, reclaim) in self.catalogue.reclaims().await? {
            if now.since(reclaim.unlinked) < grace {
                report.waiting_segments += reclaim.segments.len();
                continue;
            }
            for segment in reclaim.segments.iter().filter(|segment| !live.contains(&segment.name)) {
                bin.delete(&segment.name).await?;
                report.deleted_segments += 1;
                report.deleted_bytes += segment.stored_bytes;
            }
            self.catalogue.store.write(vec![Write::delete(key)]).await?;
        }
        Ok(())
    }

    async fn delete_orphans(&self, bin: &dyn SegmentBin, grace: Duration, report: &mut GcReport) -> Result<()> {
        // The list comes first: whatever is committed after it was made is then seen as live or as under way.
        let (objects, unfinished) = (bin.list().await?, bin.unfinished().await?);
        let mut under_way = self.lineages_under_way().await?;
        under_way.prefixes.extend(lock(&self.folding).iter().map(ToString::to_string));
        let mut named = self.live_segments().await?;
        for (_, reclaim) in self.catalogue.reclaims().await? {
            named.extend(reclaim.segments.into_iter().map(|segment| segment.name));
        }
        let now = self.clock.now();
        for file in unfinished {
            let lineage = file.name.strip_prefix("data/").and_then(|rest| rest.split('/').next());
            let age = if lineage.is_some() { grace } else { grace.max(UNFINISHED_CONTROL_AGE) };
            if lineage.is_some_and(|lineage| under_way.contains(lineage)) || now.since(file.modified) < age {
                continue;
            }
            bin.delete_unfinished(&file).await?;
            report.deleted_orphans += 1;
            report.orphan_bytes += file.bytes;
        }
        for object in objects {
            let lineage = object.name.as_str().split('/').next().unwrap_or_default();
            if named.contains(&object.name) || under_way.contains(lineage) {
                continue;
            }
            if now.since(object.written) < grace {
                report.waiting_segments += 1;
                continue;
            }
            bin.delete(&object.name).await?;
            report.deleted_orphans += 1;
            report.orphan_bytes += object.stored_bytes;
        }
        Ok(())
    }

    /// Lineages that a cycle may be writing to: those of groups with a cut that has not been settled. A disk that begins
    /// anew writes to a lineage that is in no record yet, so every lineage of such a group's disks counts by its name.
    async fn lineages_under_way(&self) -> Result<UnderWay> {
        let mut under_way = UnderWay::default();
        for protection in self.catalogue.protections().await? {
            let settled = lock(&self.settled);
            let open = |open: &OpenCut| {
                open.outcome == CutOutcome::Abandoned && !open.barriers.iter().all(|barrier| settled.contains(barrier))
            };
            if protection.open.iter().any(open) {
                let disks = protection.members.iter().flat_map(|member| {
                    member.disks.iter().map(move |disk| format!("{}-{}-", member.machine, disk.disk))
                });
                under_way.prefixes.extend(disks);
            }
        }
        Ok(under_way)
    }
}

#[derive(Debug, Default)]
struct UnderWay {
    prefixes: Vec<String>,
}

impl UnderWay {
    fn contains(&self, lineage: &str) -> bool {
        self.prefixes.iter().any(|prefix| lineage.starts_with(prefix))
    }
}
