//! Upkeep of the vault: points that people keep, what nothing needs any more, and whether every byte is still there.

use crate::request::{Event, Sink};
use muster_journal::SlateStore;
use muster_ports::*;
use muster_replication::{GcReport, Recovery, Replicator};
use muster_vault::{Place, scrub};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Folder of the control state below the vault's prefix.
pub(crate) const STATE: &str = "state";

/// Segments read between two words about how far it has come.
const SCRUB_STEP: usize = 16;

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubAnswer {
    pub segments: u64,
    pub bytes: u64,
    /// Each damage in words; empty is good.
    pub damaged: Vec<String>,
    /// Points that need a damaged segment.
    pub points: Vec<PointId>,
}

/// Reads every segment that a point needs and compares it with what was noted when it was stored. Needs no key of the
/// vault and no holder, and changes nothing.
pub async fn scrub_vault(url: &str, sink: &dyn Sink) -> Result<ScrubAnswer> {
    let place = Place::open(url, false)?;
    let prefix = place.prefix().clone().join(STATE).to_string();
    let slate = Arc::new(SlateStore::open_reader(place.control_store(), &prefix).await?);
    let store: Arc<dyn StateStore> = slate.clone();
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let replicator = Replicator::new(store, BTreeMap::new(), url.to_owned(), clock, random);
    let done = scrub_all(&place, &replicator, sink).await;
    slate.close().await;
    done
}

async fn scrub_all(place: &Place, replicator: &Replicator, sink: &dyn Sink) -> Result<ScrubAnswer> {
    let mut users: BTreeMap<SegmentName, BTreeSet<PointId>> = BTreeMap::new();
    let mut segments: BTreeMap<SegmentName, SegmentRef> = BTreeMap::new();
    for status in replicator.status().await? {
        for point in replicator.points(&status.group).await? {
            for machine in &point.machines {
                for (_, image) in replicator.images(&point.id, machine).await? {
                    for segment in image.segments {
                        users.entry(segment.name.clone()).or_default().insert(point.id.clone());
                        segments.insert(segment.name.clone(), segment);
                    }
                }
            }
        }
    }
    let all: Vec<SegmentRef> = segments.into_values().collect();
    let total: u64 = all.iter().map(|segment| segment.stored_bytes).sum();
    let mut answer = ScrubAnswer::default();
    let mut points = BTreeSet::new();
    for some in all.chunks(SCRUB_STEP) {
        let report = scrub(place, some).await?;
        answer.segments += report.segments;
        answer.bytes += report.bytes;
        for damage in report.damaged {
            if let Some(segment) = damage.segment() {
                points.extend(users.get(segment).into_iter().flatten().cloned());
            }
            answer.damaged.push(damage.to_string());
        }
        sink.tell(Event::Progress { what: "scrub".to_owned(), done: answer.bytes, total: Some(total) });
    }
    answer.points = points.into_iter().collect();
    Ok(answer)
}

/// Takes away what no point needs, in the holder.
pub(crate) async fn gc(replicator: &Replicator, url: &str, grace: Duration) -> Result<GcReport> {
    let place = Place::open(url, false)?;
    replicator.gc(&place, grace).await
}

/// Points that people keep, of those listed.
pub(crate) async fn kept(replicator: &Replicator) -> Result<BTreeMap<PointId, String>> {
    let now = replicator.now();
    let keeps = replicator.keeps().await?.into_iter().filter(|keep| keep.is_in_force(now));
    Ok(keeps.map(|keep| (keep.point.clone(), keep.words(now))).collect())
}
