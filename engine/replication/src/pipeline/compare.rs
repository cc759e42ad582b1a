//! What differs between a disk here and a replica: by hash where a whole frame is to be compared, by content elsewhere.

use crate::pipeline::BLOCK_BYTES;
use crate::pipeline::walk::Stretch;
use muster_ports::{BlockSource, ExtentKind, Result};
use muster_vault::{PieceContent, Replica, ReplicaPiece, is_zero};
use std::ops::Range;

/// The next range worth a look, at most one window long, or a longer one that is zero on both sides.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// What lies here; empty when it is all zero and was not read.
    local: Vec<u8>,
    /// What lies in the vault, where it had to be fetched; parallel to `local`'s range.
    remote: Option<Vec<u8>>,
    /// Blocks that differ, merged, by bytes of disk.
    pub(crate) different: Vec<Range<u64>>,
    pub(crate) read_bytes: u64,
    pub(crate) fetched_bytes: u64,
}

impl Comparison {
    /// What was read here; empty when nothing was.
    pub(crate) fn into_local(self) -> Vec<u8> {
        self.local
    }
    fn slice(&self, range: &Range<u64>) -> Range<usize> {
        (range.start - self.offset) as usize..(range.end - self.offset) as usize
    }
    /// What lies here in a range; `None` for zeroes.
    pub(crate) fn local(&self, range: &Range<u64>) -> Option<&[u8]> {
        if self.local.is_empty() {
            return None;
        }
        Some(&self.local[self.slice(range)]).filter(|data| !is_zero(data))
    }
    /// What the replica holds in a range; `None` for zeroes.
    pub(crate) fn remote(&self, range: &Range<u64>) -> Option<&[u8]> {
        let remote = self.remote.as_ref()?;
        Some(&remote[self.slice(range)]).filter(|data| !is_zero(data))
    }
}

/// Cuts a stretch of the local disk where the replica has no data, so that zeroes on both sides cost nothing. Returns the
/// part to compare now and the rest.
pub(crate) async fn split(replica: &Replica, stretch: Stretch) -> Result<(Stretch, Option<Stretch>)> {
    if stretch.kind == ExtentKind::Data {
        return Ok((stretch, None));
    }
    let window = crate::pipeline::WINDOW_BYTES;
    let length = match replica.next_data(stretch.offset).await? {
        // Data here: to the end of this window.
        Some((begin, _)) if begin <= stretch.offset => window - stretch.offset % window,
        Some((begin, _)) => begin - stretch.offset,
        None => stretch.length,
    };
    let length = length.min(stretch.length);
    let rest = Stretch { offset: stretch.offset + length, length: stretch.length - length, kind: stretch.kind };
    Ok((Stretch { length, ..stretch }, (rest.length > 0).then_some(rest)))
}

/// Compares one part as `split` gave it. `Unchanged` is not believed: it is read like data.
pub(crate) async fn compare(local: &dyn BlockSource, replica: &Replica, part: Stretch) -> Result<Comparison> {
    let mut found = Comparison {
        offset: part.offset,
        length: part.length,
        local: Vec::new(),
        remote: None,
        different: Vec::new(),
        read_bytes: 0,
        fetched_bytes: 0,
    };
    let mut pieces = replica.pieces(part.offset, part.length).await?;
    let covered = pieces.last().map_or(part.offset, |last| last.offset + last.length);
    if covered < part.end() {
        // The disk has grown since the point: there it held nothing.
        pieces.push(ReplicaPiece { offset: covered, length: part.end() - covered, content: PieceContent::Zero });
    }
    let remote_is_zero = pieces.iter().all(|piece| piece.content == PieceContent::Zero);
    if part.kind == ExtentKind::Zero && remote_is_zero {
        return Ok(found);
    }
    if part.kind != ExtentKind::Zero {
        found.local = vec![0; part.length as usize];
        local.read_at(part.offset, &mut found.local).await?;
        found.read_bytes = part.length;
    }
    for piece in &pieces {
        compare_piece(replica, piece, &mut found).await?;
    }
    Ok(found)
}

async fn compare_piece(replica: &Replica, piece: &ReplicaPiece, found: &mut Comparison) -> Result<()> {
    let range = piece.offset..piece.offset + piece.length;
    match piece.content {
        PieceContent::Zero => {
            // Not fetched: a comparison with zeroes.
            for block in blocks(&range) {
                if found.local(&block).is_some() {
                    push(&mut found.different, block);
                }
            }
            return Ok(());
        }
        PieceContent::Whole { hash } if !found.local.is_empty() => {
            let here = &found.local[found.slice(&range)];
            if *blake3::hash(here).as_bytes() == hash {
                return Ok(());
            }
        }
        PieceContent::Whole { .. } | PieceContent::Part => {}
    }
    let slice = found.slice(&range);
    let length = found.length as usize;
    let remote = found.remote.get_or_insert_with(|| vec![0; length]);
    replica.read(range.start, &mut remote[slice]).await?;
    found.fetched_bytes += piece.length;
    for block in blocks(&range) {
        if found.local(&block) != found.remote(&block) {
            push(&mut found.different, block);
        }
    }
    Ok(())
}

/// A range cut at the borders of blocks.
pub(crate) fn blocks(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let (mut at, end) = (range.start, range.end);
    std::iter::from_fn(move || {
        let block = at..end.min(at - at % BLOCK_BYTES + BLOCK_BYTES);
        at = block.end;
        (block.start < block.end).then_some(block)
    })
}

/// Appends a range, joined with the last one where they touch.
pub(crate) fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}
