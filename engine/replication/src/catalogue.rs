//! The catalogue as it lies in the state store: typed reading, nothing cached, so that the store is the only truth.

use crate::folding::Strata;
use crate::history::Lineages;
use crate::keep::Keep;
use crate::records::*;
use crate::seed::Seed;
use muster_ports::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    pub(crate) store: Arc<dyn StateStore>,
}

fn read<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| {
        Failure::diverged(format!("`{key}` in the control state does not read: {error}"))
            .help("the control state is damaged, or was written by a newer muster")
    })
}

pub(crate) fn put(key: String, value: &impl Serialize) -> Result<Write> {
    let json = serde_json::to_vec(value).map_err(|error| Failure::permanent(format!("write `{key}`: {error}")))?;
    Ok(Write::put(key, json))
}

impl Catalogue {
    async fn get<T: DeserializeOwned>(&self, key: String) -> Result<Option<T>> {
        self.store.get(&key).await?.map(|value| read(&key, &value)).transpose()
    }
    async fn all<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<T>> {
        self.store.scan(prefix).await?.iter().map(|(key, value)| read(key, value)).collect()
    }

    pub(crate) async fn protections(&self) -> Result<Vec<Protection>> {
        let pairs = self.store.scan("group/").await?;
        let records = pairs.iter().filter(|(key, _)| key.ends_with("/protection"));
        records.map(|(key, value)| read(key, value)).collect()
    }
    pub(crate) async fn find_protection(&self, group: &GroupName) -> Result<Option<Protection>> {
        self.get(protection_key(group)).await
    }
    pub(crate) async fn protection(&self, group: &GroupName) -> Result<Protection> {
        self.find_protection(group).await?.ok_or_else(|| {
            Failure::permanent(format!("the group `{group}` is not protected")).help("run `muster protect`")
        })
    }
    pub(crate) async fn save(&self, protection: &Protection) -> Result<()> {
        Ok(self.store.write(vec![put(protection_key(&protection.group), protection)?]).await?)
    }

    pub(crate) async fn seed(&self, group: &GroupName) -> Result<Option<Seed>> {
        self.get(seed_key(group)).await
    }
    pub(crate) async fn seeds(&self) -> Result<Vec<Seed>> {
        self.all("seed/").await
    }

    pub(crate) async fn lineages(&self) -> Result<Lineages> {
        let all: Vec<Lineage> = self.all("lineage/").await?;
        Ok(all.into_iter().map(|lineage| (lineage.id.clone(), lineage)).collect())
    }

    /// Oldest first.
    pub(crate) async fn points(&self, group: &GroupName) -> Result<Vec<Point>> {
        let mut points: Vec<Point> = self.all(&format!("point/{group}/")).await?;
        points.sort_by(|left, right| (left.summary.at, &left.summary.id).cmp(&(right.summary.at, &right.summary.id)));
        Ok(points)
    }
    pub(crate) async fn all_points(&self) -> Result<Vec<Point>> {
        self.all("point/").await
    }
    pub(crate) async fn find_point(&self, point: &PointId) -> Result<Option<Point>> {
        let ending = format!("/{point}");
        let pairs = self.store.scan("point/").await?;
        pairs.iter().find(|(key, _)| key.ends_with(&ending)).map(|(key, value)| read(key, value)).transpose()
    }
    pub(crate) async fn point(&self, point: &PointId) -> Result<Point> {
        self.find_point(point).await?.ok_or_else(|| {
            Failure::permanent(format!("there is no recovery point `{point}`"))
                .help("it was never committed or has aged out; `muster points` lists what there is")
        })
    }

    pub(crate) async fn layers(&self, lineage: &LineageId) -> Result<Vec<Layer>> {
        self.all(&format!("layer/{lineage}/")).await
    }
    /// The layers of a lineage and what they were folded into.
    pub(crate) async fn strata(&self, lineage: &LineageId) -> Result<Strata> {
        // The folds first: what they replace is unlinked later than they are written.
        let folds = self.all(&format!("fold/{lineage}/")).await?;
        Ok(Strata::new(self.layers(lineage).await?, folds))
    }
    pub(crate) async fn all_folds(&self) -> Result<Vec<Fold>> {
        self.all("fold/").await
    }
    pub(crate) async fn all_layers(&self) -> Result<Vec<Layer>> {
        self.all("layer/").await
    }
    pub(crate) async fn reclaims(&self) -> Result<Vec<(String, Reclaim)>> {
        let pairs = self.store.scan("reclaim/").await?;
        pairs.into_iter().map(|(key, value)| Ok((key.clone(), read(&key, &value)?))).collect()
    }

    pub(crate) async fn keeps(&self) -> Result<Vec<Keep>> {
        self.all("keep/").await
    }
    pub(crate) async fn keep(&self, key: &str) -> Result<Option<Keep>> {
        self.get(key.to_owned()).await
    }

    pub(crate) async fn held(&self) -> Result<BTreeSet<PointId>> {
        let pairs = self.store.scan("hold/").await?;
        Ok(pairs.iter().filter_map(|(key, _)| key.rsplit('/').next()).map(PointId::new).collect())
    }

    /// All segments that make up the replica at a tip, oldest first.
    pub(crate) async fn segments(&self, lineages: &Lineages, tip: &Tip) -> Result<Vec<SegmentRef>> {
        let mut segments = Vec::new();
        for step in crate::history::chain(lineages, tip)? {
            let strata = self.strata(&step.lineage).await?;
            segments.extend(strata.cover(step.seq).into_iter().flat_map(|stratum| stratum.segments));
        }
        Ok(segments)
    }
}
