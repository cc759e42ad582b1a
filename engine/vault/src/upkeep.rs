//! Upkeep that looks at whole objects: scrub (is every byte still what was stored?) and garbage (what does no point name?).

use crate::error::{SegmentPart, VaultError};
use crate::place::Place;
use crate::vault::Vault;
use muster_ports::{SegmentName, SegmentRef, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// A segment as the store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSegment {
    pub name: SegmentName,
    pub stored_bytes: u64,
    pub modified: Timestamp,
}

/// A segment that no point names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub name: SegmentName,
    pub stored_bytes: u64,
    pub age: Duration,
}

/// What could be deleted. Nothing has been.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    pub live_segments: u64,
    pub live_bytes: u64,
    /// Older than the grace period: safe to delete.
    pub orphans: Vec<Orphan>,
    /// Younger: a cycle may be about to commit them.
    pub young: Vec<Orphan>,
}

#[derive(Debug, Default)]
pub struct ScrubReport {
    pub segments: u64,
    pub bytes: u64,
    /// Empty is good.
    pub damaged: Vec<VaultError>,
}

/// Reads every object and compares size and BLAKE3 with what was noted when it was stored. Needs no key. Damage is
/// collected; only a store that cannot be read ends it early.
pub async fn scrub(place: &Place, segments: &[SegmentRef]) -> Result<ScrubReport, VaultError> {
    let mut report = ScrubReport::default();
    for segment in segments {
        report.segments += 1;
        match scrub_one(place, segment).await {
            Ok(()) => report.bytes += segment.stored_bytes,
            Err(error) if error.is_of_the_store() => return Err(error),
            Err(error) => report.damaged.push(error),
        }
    }
    Ok(report)
}

async fn scrub_one(place: &Place, reference: &SegmentRef) -> Result<(), VaultError> {
    let segment = &reference.name;
    let (found, hash) = place.hash(segment).await?;
    let expected = reference.stored_bytes;
    if found != expected {
        return Err(VaultError::Truncated { segment: segment.clone(), found, expected });
    }
    if hash.to_hex().as_str() != reference.hash {
        let reason = "do not match the hash that was noted when it was stored".to_owned();
        return Err(VaultError::Damaged { segment: segment.clone(), part: SegmentPart::Whole, reason });
    }
    Ok(())
}

impl Place {
    /// Every segment that lies here, by name.
    pub async fn segments(&self) -> Result<Vec<StoredSegment>, VaultError> {
        let data = self.path("data")?;
        let mut segments = Vec::new();
        for object in self.list("data").await? {
            let name = object.location.as_ref().strip_prefix(data.as_ref()).and_then(|rest| rest.strip_prefix('/'));
            let Some(name) = name.filter(|name| name.ends_with(".seg")) else { continue };
            segments.push(StoredSegment {
                name: SegmentName::new(name),
                stored_bytes: object.size,
                modified: Timestamp(u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0)),
            });
        }
        segments.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(segments)
    }

    /// Takes a segment over from another place, as it is: compared with what was noted when it was written there, before
    /// anything is stored here. One that is here already is left as it is, if it is the same. Holds one segment in memory.
    pub async fn take_over(&self, from: &Self, segment: &SegmentRef) -> Result<(), VaultError> {
        let name = &segment.name;
        let found = from.read(&from.segment_path(name)?).await?;
        let bytes =
            found.ok_or_else(|| VaultError::MissingSegment { segment: name.clone(), url: from.url().into() })?;
        let (found, expected) = (bytes.len() as u64, segment.stored_bytes);
        if found != expected {
            return Err(VaultError::Truncated { segment: name.clone(), found, expected });
        }
        if blake3::hash(&bytes).to_hex().as_str() != segment.hash {
            let reason = "do not match the hash that was noted when it was written".to_owned();
            return Err(VaultError::Damaged { segment: name.clone(), part: SegmentPart::Whole, reason });
        }
        match self.create(&self.segment_path(name)?, bytes).await? {
            true => Ok(()),
            false => {
                let reason = format!("are others at `{}` than at `{}`", self.url(), from.url());
                Err(VaultError::Damaged { segment: name.clone(), part: SegmentPart::Whole, reason })
            }
        }
    }

    /// Deletes segments. Those already gone are fine: deleting is repeated after a crash.
    pub async fn delete_segments(&self, names: &[SegmentName]) -> Result<u64, VaultError> {
        let mut deleted = 0;
        for name in names {
            deleted += u64::from(self.delete(&self.segment_path(name)?).await?);
        }
        Ok(deleted)
    }
}

impl Vault {
    /// See [`Place::segments`].
    pub async fn segments(&self) -> Result<Vec<StoredSegment>, VaultError> {
        self.place().segments().await
    }

    /// See [`Place::delete_segments`].
    pub async fn delete_segments(&self, names: &[SegmentName]) -> Result<u64, VaultError> {
        self.place().delete_segments(names).await
    }

    /// Lists what no point names; `live` must hold every segment of every committed point. Deletes nothing: give
    /// `orphans` to [`Vault::delete_segments`]. `grace` has to be longer than any cycle takes from its first segment to
    /// its commit.
    pub async fn gc(
        &self,
        live: &BTreeSet<SegmentName>,
        now: Timestamp,
        grace: Duration,
    ) -> Result<GcReport, VaultError> {
        let mut report = GcReport::default();
        for segment in self.segments().await? {
            if live.contains(&segment.name) {
                report.live_segments += 1;
                report.live_bytes += segment.stored_bytes;
                continue;
            }
            let age = now.since(segment.modified);
            let orphan = Orphan { name: segment.name, stored_bytes: segment.stored_bytes, age };
            if age >= grace { report.orphans.push(orphan) } else { report.young.push(orphan) }
        }
        Ok(report)
    }
}
