//! Folding: many layers of one disk become one, so that reading a point never walks more than a bounded number of them.
//!
//! ```text
//!   segments of layers k+1 .. n --indexes--> what of them still counts --unseal, seal--> new segments
//! ```
//!
//! The new segments say of every byte what the old ones together said, and nothing of any other. Packed frames travel as
//! they are, only sealed anew, since a seal is bound to its segment; a frame that counts only in part is packed again.
//! Nothing is taken away here: the old segments stay as long as a point needs them.

use crate::REPLICA_PIECES_MAX;
use crate::error::VaultError;
use crate::extents::ExtentMap;
use crate::frame::Packer;
use crate::layout::Entry;
use crate::runs::{Resealed, Run};
use crate::vault::Vault;
use crate::writer::SegmentWriter;
use futures::{StreamExt, TryStreamExt};
use muster_ports::SegmentRef;
use std::collections::BTreeMap;

/// Indexes read at the same time.
const INDEX_READS: usize = 8;
/// Runs on their way at the same time.
const RUNS_IN_FLIGHT: usize = 4;

/// Ranges of disk that read as zeroes, none touching another.
#[derive(Debug, Default)]
struct Zeroes(BTreeMap<u64, u64>);

impl Zeroes {
    fn add(&mut self, mut from: u64, mut to: u64) {
        while let Some((&begin, &end)) = self.0.range(..=to).next_back() {
            if end < from {
                break;
            }
            self.0.remove(&begin);
            (from, to) = (from.min(begin), to.max(end));
        }
        if from < to {
            self.0.insert(from, to);
        }
    }

    /// What of `[from, to)` is among them.
    fn within(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let first = self.0.range(..=from).next_back().map_or(from, |(begin, _)| *begin);
        let clipped = self.0.range(first..to.max(first)).map(|(begin, end)| ((*begin).max(from), (*end).min(to)));
        clipped.filter(|(begin, end)| begin < end).collect()
    }
}

impl Vault {
    /// Writes what `segments` (oldest first) say together through `writer`, packing with `compression` what has to be
    /// packed anew. With `bottom` nothing lies below them, so their zeroes need not be said.
    pub async fn fold(
        &self,
        segments: &[SegmentRef],
        bottom: bool,
        compression: i32,
        mut writer: SegmentWriter,
    ) -> Result<Vec<SegmentRef>, VaultError> {
        let (map, zeroes) = self.merged(segments, bottom).await?;
        let runs = futures::stream::iter(std::iter::successors(Run::next(&map, 0, u64::MAX), |run| {
            Run::next(&map, run.end(), u64::MAX)
        }));
        let mut unsealed = runs.map(|run| run.unseal(self)).buffered(RUNS_IN_FLIGHT);
        let mut packer = None;
        let mut at = 0;
        while let Some(parts) = unsealed.try_next().await? {
            for part in parts {
                let (offset, frame) = match part {
                    Resealed::Whole(offset, frame) => (offset, frame),
                    Resealed::Part(offset, data) => {
                        let packer = match &mut packer {
                            Some(packer) => packer,
                            none => none.insert(Packer::new(compression)?),
                        };
                        (offset, packer.pack(&data)?)
                    }
                };
                for (from, to) in zeroes.within(at, offset) {
                    writer.zero(from, to - from).await?;
                }
                at = offset + frame.length();
                writer.append(offset, &frame).await?;
            }
        }
        for (from, to) in zeroes.within(at, u64::MAX) {
            writer.zero(from, to - from).await?;
        }
        writer.finish().await
    }

    async fn merged(&self, segments: &[SegmentRef], bottom: bool) -> Result<(ExtentMap, Zeroes), VaultError> {
        let mut map = ExtentMap::new(u64::MAX);
        let mut zeroes = Zeroes::default();
        let reads = segments.iter().cloned().map(|segment| async move { self.segment(&segment).await });
        let mut indexes = futures::stream::iter(reads).buffered(INDEX_READS);
        while let Some(segment) = indexes.try_next().await? {
            for entry in segment.entries.iter().filter(|_| !bottom) {
                if let Entry::Zero { offset, length } = entry {
                    zeroes.add(*offset, offset.saturating_add(*length));
                }
            }
            map.lay_over(segment);
            if map.len() > REPLICA_PIECES_MAX {
                return Err(VaultError::TooFragmented { segments: segments.len(), limit: REPLICA_PIECES_MAX });
            }
        }
        Ok((map, zeroes))
    }
}

#[cfg(test)]
mod tests {
    use super::Zeroes;

    #[test]
    fn zeroes_join_and_are_cut() {
        let mut zeroes = Zeroes::default();
        zeroes.add(10, 20);
        zeroes.add(30, 40);
        zeroes.add(20, 25);
        zeroes.add(50, 50);
        assert_eq!(zeroes.within(0, 100), [(10, 25), (30, 40)]);
        assert_eq!(zeroes.within(12, 35), [(12, 25), (30, 35)]);
        zeroes.add(0, 100);
        assert_eq!(zeroes.within(40, 60), [(40, 60)]);
    }
}
