//! Folding: layers that lie on each other in one lineage are written once more as one, off the way of cycles, so that
//! opening a point reads a bounded number of indexes however long the lineage has grown.
//!
//! ```text
//!   base  1..32  33..64  ...  2001 2002 2003        strata of the newest tip, bottom first
//!         `-- rank 1 --'      `-- layers --'        32 of one rank become one of the next
//! ```
//!
//! A fold stands beside the layers it was made of: points within them still need those, points behind them read the
//! fold. What no point reads any more is unlinked by the sweeper, layers and folds alike. So the first copy and its
//! changes become one again once the changes weigh as much as the copy, and space comes back.
//!
//! Architecture invariant: what is folded, and what covers a tip, is decided here without I/O.

use crate::catalogue::put;
use crate::records::*;
use crate::replicator::{Replicator, lock};
use async_trait::async_trait;
use muster_ports::*;
use std::collections::{BTreeMap, BTreeSet};

/// Strata of one rank that become one of the next: 2,000 points are then at most about 60 strata, and every byte is
/// written once more for each rank.
pub const FOLD_WIDTH: usize = 32;

/// What is to be written as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldOrder {
    pub lineage: LineageId,
    pub epoch: Epoch,
    /// Oldest first.
    pub segments: Vec<SegmentRef>,
    /// Nothing lies below them.
    pub bottom: bool,
    pub compression: i32,
}

/// Whoever has the vault's key.
#[async_trait]
pub trait Folding: Send + Sync + std::fmt::Debug {
    async fn fold(&self, order: &FoldOrder) -> Result<Vec<SegmentRef>>;
}

#[async_trait]
impl Folding for muster_vault::Vault {
    async fn fold(&self, order: &FoldOrder) -> Result<Vec<SegmentRef>> {
        let writer = self.segment_writer(&order.lineage, order.epoch, &WriterId::new("fold"), order.compression);
        Ok(muster_vault::Vault::fold(self, &order.segments, order.bottom, order.compression, writer).await?)
    }
}

/// One layer, or one fold in the place of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stratum {
    /// Everything behind this seq ...
    pub from: u64,
    /// ... up to and with this one.
    pub to: u64,
    /// 0 is a layer.
    pub rank: u32,
    pub segments: Vec<SegmentRef>,
}

impl Stratum {
    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.stored_bytes).sum()
    }
}

/// The layers and folds of one lineage.
#[derive(Clone, Debug, Default)]
pub struct Strata {
    layers: BTreeMap<u64, Layer>,
    /// By where they begin and end.
    folds: BTreeMap<(u64, u64), Fold>,
}

impl Strata {
    pub fn new(layers: Vec<Layer>, folds: Vec<Fold>) -> Self {
        let layers = layers.into_iter().map(|layer| (layer.seq, layer)).collect();
        Self { layers, folds: folds.into_iter().map(|fold| ((fold.from, fold.to), fold)).collect() }
    }

    /// What makes up the lineage up to a seq, bottom first: the longest fold wherever one begins, else the next layer.
    pub fn cover(&self, upto: u64) -> Vec<Stratum> {
        let mut cover = Vec::new();
        let mut at = 0;
        loop {
            let fold = self.folds.range((at, at)..=(at, upto)).next_back().map(|(_, fold)| fold);
            let stratum = match (fold, self.layers.range(at + 1..).next().filter(|(seq, _)| **seq <= upto)) {
                (Some(fold), _) => Stratum { from: at, to: fold.to, rank: fold.rank, segments: fold.segments.clone() },
                (None, Some((seq, layer))) => Stratum { from: at, to: *seq, rank: 0, segments: layer.segments.clone() },
                (None, None) => return cover,
            };
            at = stratum.to;
            cover.push(stratum);
        }
    }
}

/// Which strata become one; `None` when they are few enough. `bottom`: the lineage begins with a first copy.
pub fn plan(cover: &[Stratum], bottom: bool) -> Option<std::ops::Range<usize>> {
    if bottom && cover.len() > FOLD_WIDTH {
        let above: u64 = cover[1..].iter().map(Stratum::bytes).sum();
        if above >= cover[0].bytes() {
            return Some(0..cover.len());
        }
    }
    // The first copy is not written again for the sake of a few changes.
    let first = usize::from(bottom);
    let mut ranks: Vec<u32> = cover.iter().skip(first).map(|stratum| stratum.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    ranks.into_iter().find_map(|rank| {
        let begin = (first..cover.len()).find(|index| cover[*index].rank == rank)?;
        let count = cover[begin..].iter().take_while(|stratum| stratum.rank == rank).count();
        (count >= FOLD_WIDTH).then(|| begin..begin + FOLD_WIDTH)
    })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoldReport {
    pub folds: usize,
    pub layers: usize,
    pub stored_bytes: u64,
}

impl Replicator {
    /// Folds what has grown too long, until nothing has. Cycles go on meanwhile.
    pub async fn fold(&self, folding: &dyn Folding) -> Result<FoldReport> {
        let mut report = FoldReport::default();
        for protection in self.catalogue.protections().await? {
            let disks = protection.members.iter().flat_map(|member| &member.disks);
            for tip in disks.filter_map(|disk| disk.tip.as_ref()) {
                while self.fold_lineage(tip, protection.policy.compression, folding, &mut report).await? {}
            }
        }
        Ok(report)
    }

    /// One fold, if there is one to be made.
    async fn fold_lineage(
        &self,
        tip: &Tip,
        compression: i32,
        folding: &dyn Folding,
        report: &mut FoldReport,
    ) -> Result<bool> {
        let Some(lineage) = self.catalogue.lineages().await?.remove(&tip.lineage) else { return Ok(false) };
        let cover = self.catalogue.strata(&tip.lineage).await?.cover(tip.seq);
        let Some(range) = plan(&cover, lineage.parent.is_none()) else { return Ok(false) };
        let folded = &cover[range.clone()];
        let (Some(first), Some(last)) = (folded.first(), folded.last()) else { return Ok(false) };
        let order = FoldOrder {
            lineage: tip.lineage.clone(),
            epoch: self.catalogue.store.epoch(),
            segments: folded.iter().flat_map(|stratum| stratum.segments.clone()).collect(),
            bottom: range.start == 0 && lineage.parent.is_none(),
            // 0 is for shipments that watch their link.
            compression: compression.max(1),
        };
        lock(&self.folding).insert(tip.lineage.clone());
        let written = folding.fold(&order).await;
        let committed = match written {
            Ok(segments) => {
                let rank = folded.iter().map(|stratum| stratum.rank).max().unwrap_or(0) + 1;
                let fold = Fold { lineage: tip.lineage.clone(), from: first.from, to: last.to, rank, segments };
                report.folds += 1;
                report.layers += folded.len();
                report.stored_bytes += fold.segments.iter().map(|segment| segment.stored_bytes).sum::<u64>();
                self.commit_fold(&fold).await
            }
            Err(failure) => Err(failure.during(format!("fold `{}`", tip.lineage))),
        };
        lock(&self.folding).remove(&tip.lineage);
        committed
    }

    /// False when the lineage was taken away meanwhile: then its segments are nobody's.
    async fn commit_fold(&self, fold: &Fold) -> Result<bool> {
        let _points = self.points_lock.lock().await;
        if !self.catalogue.lineages().await?.contains_key(&fold.lineage) {
            return Ok(false);
        }
        self.catalogue.store.write(vec![put(fold_key(fold), fold)?]).await?;
        Ok(true)
    }
}

impl Used {
    pub(crate) fn has_layer(&self, layer: &Layer) -> bool {
        self.layers.contains(&(layer.lineage.clone(), layer.seq))
    }
    pub(crate) fn has_fold(&self, fold: &Fold) -> bool {
        self.folds.contains(&(fold.lineage.clone(), fold.from, fold.to))
    }
}

/// Which layers and folds the wanted tips of each lineage read.
#[derive(Debug, Default)]
pub(crate) struct Used {
    layers: BTreeSet<(LineageId, u64)>,
    folds: BTreeSet<(LineageId, u64, u64)>,
}

impl Used {
    pub(crate) fn of(layers: &[Layer], folds: &[Fold], wanted: &BTreeMap<LineageId, BTreeSet<u64>>) -> Self {
        let mut by_lineage: BTreeMap<&LineageId, (Vec<Layer>, Vec<Fold>)> = BTreeMap::new();
        for layer in layers {
            by_lineage.entry(&layer.lineage).or_default().0.push(layer.clone());
        }
        for fold in folds {
            by_lineage.entry(&fold.lineage).or_default().1.push(fold.clone());
        }
        let mut used = Self::default();
        for (lineage, (layers, folds)) in by_lineage {
            let strata = Strata::new(layers, folds);
            for seq in wanted.get(lineage).into_iter().flatten() {
                for stratum in strata.cover(*seq) {
                    if stratum.rank == 0 {
                        used.layers.insert((lineage.clone(), stratum.to));
                    } else {
                        used.folds.insert((lineage.clone(), stratum.from, stratum.to));
                    }
                }
            }
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(name: String, stored_bytes: u64) -> SegmentRef {
        SegmentRef { name: SegmentName::new(name), stored_bytes, hash: String::new() }
    }

    fn lineage() -> LineageId {
        LineageId::new("l")
    }

    /// Layers with their seqs; each fold is what it was made of, so that its segments say which.
    fn grow(seqs: &[u64], bytes: &[u64], bottom: bool) -> (Vec<Layer>, Vec<Fold>) {
        let (mut layers, mut folds) = (Vec::new(), Vec::<Fold>::new());
        for (seq, bytes) in seqs.iter().zip(bytes) {
            let segments = vec![segment(format!("{seq}"), *bytes)];
            layers.push(Layer { lineage: lineage(), seq: *seq, segments });
            loop {
                let cover = Strata::new(layers.clone(), folds.clone()).cover(*seq);
                let Some(range) = plan(&cover, bottom) else { break };
                let part = &cover[range];
                let segments = part.iter().flat_map(|stratum| stratum.segments.clone()).collect();
                let rank = part.iter().map(|stratum| stratum.rank).max().unwrap() + 1;
                folds.push(Fold {
                    lineage: lineage(),
                    from: part[0].from,
                    to: part[part.len() - 1].to,
                    rank,
                    segments,
                });
            }
        }
        (layers, folds)
    }

    fn said(cover: &[Stratum]) -> Vec<String> {
        cover.iter().flat_map(|stratum| &stratum.segments).map(|segment| segment.name.to_string()).collect()
    }

    #[test]
    fn two_thousand_points_are_a_few_strata() {
        let seqs: Vec<u64> = (1..=2000).collect();
        let mut bytes = vec![10; 2000];
        bytes[0] = 1_000_000;
        let (layers, folds) = grow(&seqs, &bytes, true);
        let cover = Strata::new(layers, folds).cover(2000);
        assert!(cover.len() < 64, "{}", cover.len());
        assert_eq!(said(&cover), seqs.iter().map(u64::to_string).collect::<Vec<_>>());
        assert_eq!(cover[0].segments.len(), 1, "the first copy is not written again for little changes");
    }

    #[test]
    fn a_first_copy_is_folded_once_its_changes_weigh_as_much() {
        let seqs: Vec<u64> = (1..=40).collect();
        let (layers, folds) = grow(&seqs, &[100; 40], true);
        assert_eq!((folds[0].from, folds[0].to), (0, 33));
        assert_eq!(Strata::new(layers, folds).cover(40).len(), 8);
    }

    proptest! {
        #[test]
        fn every_tip_reads_its_layers_in_order_before_and_after_the_sweep(
            steps in prop::collection::vec((1u64..4, 1u64..1000), 1..200),
            wanted in prop::collection::btree_set(0usize..200, 1..6),
            bottom: bool,
        ) {
            let mut seqs = Vec::new();
            steps.iter().for_each(|(step, _)| seqs.push(seqs.last().copied().unwrap_or(0) + step));
            let bytes: Vec<u64> = steps.iter().map(|(_, bytes)| *bytes).collect();
            let (layers, folds) = grow(&seqs, &bytes, bottom);
            let tips: BTreeSet<u64> = wanted.iter().filter_map(|index| seqs.get(*index)).copied().collect();
            let used = Used::of(&layers, &folds, &BTreeMap::from([(lineage(), tips.clone())]));
            let strata = Strata::new(layers.clone(), folds.clone());
            let mut kept_layers = layers.clone();
            kept_layers.retain(|layer| used.layers.contains(&(lineage(), layer.seq)));
            let mut kept_folds = folds.clone();
            kept_folds.retain(|fold| used.folds.contains(&(lineage(), fold.from, fold.to)));
            let kept = Strata::new(kept_layers, kept_folds);
            for seq in seqs.iter().copied() {
                let all: Vec<String> = seqs.iter().filter(|other| **other <= seq).map(u64::to_string).collect();
                prop_assert_eq!(said(&strata.cover(seq)), all.clone());
                if tips.contains(&seq) {
                    prop_assert_eq!(said(&kept.cover(seq)), all);
                }
            }
        }
    }
}
