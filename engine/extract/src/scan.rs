//! Where something that can be read differs from a point, found by hash where a whole frame is to be compared.

use muster_ports::{BlockSource, ExtentKind, Progress, Result};
use muster_vault::{PieceContent, Replica, ReplicaPiece, is_zero};
use serde::Serialize;

/// Compared at once, in bytes.
const WINDOW_BYTES: u64 = 1 << 20;
/// Differences are told in blocks of this many bytes, which is what is sent of a change.
const BLOCK_BYTES: u64 = 64 << 10;
/// Ranges told at most; beyond, only their number and bytes are counted.
const RANGES_MAX: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub offset: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// What was looked at: the shorter of both.
    pub size_bytes: u64,
    /// The size that the point's disk has, and what was scanned has.
    pub point_bytes: u64,
    pub here_bytes: u64,
    pub different_bytes: u64,
    /// Read from what was scanned; holes and zeroes on both sides are not.
    pub read_bytes: u64,
    /// Fetched from the vault, where no hash was enough.
    pub fetched_bytes: u64,
    pub ranges: Vec<Difference>,
    /// Ranges that are not listed, because there are too many.
    pub more_ranges: u64,
}

impl Differences {
    /// Same size, same content.
    pub fn none(&self) -> bool {
        self.different_bytes == 0 && self.point_bytes == self.here_bytes
    }

    fn push(&mut self, offset: u64, bytes: u64) {
        self.different_bytes += bytes;
        let full = self.ranges.len() == RANGES_MAX;
        match self.ranges.last_mut() {
            Some(last) if last.offset + last.bytes == offset => last.bytes += bytes,
            _ if full => self.more_ranges += 1,
            _ => self.ranges.push(Difference { offset, bytes }),
        }
    }
}

/// Compares what both have; the rest of the longer one is told by the sizes alone.
pub async fn scan(here: &dyn BlockSource, replica: &Replica, progress: &dyn Progress) -> Result<Differences> {
    let (point, local) = (replica.image().size_bytes, here.size());
    let size = point.min(local);
    let mut found = Differences { size_bytes: size, point_bytes: point, here_bytes: local, ..Default::default() };
    let mut at = 0;
    while at < size {
        let window = (WINDOW_BYTES - at % WINDOW_BYTES).min(size - at);
        let extents = here.extents(at, (size - at).min(1 << 30)).await?;
        for extent in extents {
            let end = extent.offset.saturating_add(extent.length).min(size);
            if extent.kind == ExtentKind::Zero {
                at = zeroes_here(replica, extent.offset, end, &mut found).await?;
                continue;
            }
            while at < end {
                let length = (WINDOW_BYTES - at % WINDOW_BYTES).min(end - at);
                data_here(here, replica, at, length, &mut found).await?;
                at += length;
                progress.report(at, Some(size));
            }
        }
        // A source that says nothing is read, never skipped.
        if window > 0 && at < size && here.extents(at, window).await?.is_empty() {
            data_here(here, replica, at, window, &mut found).await?;
            at += window;
        }
        progress.report(at, Some(size));
    }
    Ok(found)
}

/// Where nothing lies here, whatever is in the point is a difference.
async fn zeroes_here(replica: &Replica, begin: u64, end: u64, found: &mut Differences) -> Result<u64> {
    let mut at = begin;
    while let Some((data, until)) = replica.next_data(at).await?.filter(|(data, _)| *data < end) {
        let (data, until) = (data.max(at), until.min(end));
        let mut place = data;
        while place < until {
            let length = (WINDOW_BYTES - place % WINDOW_BYTES).min(until - place);
            let mut there = vec![0; length as usize];
            replica.read(place, &mut there).await?;
            found.fetched_bytes += length;
            let zeroes = vec![0; length as usize];
            differ(place, &zeroes, &there, found);
            place += length;
        }
        at = until;
    }
    Ok(end)
}

async fn data_here(
    here: &dyn BlockSource,
    replica: &Replica,
    offset: u64,
    length: u64,
    found: &mut Differences,
) -> Result<()> {
    let mut local = vec![0; length as usize];
    here.read_at(offset, &mut local).await?;
    found.read_bytes += length;
    for ReplicaPiece { offset: at, length, content } in replica.pieces(offset, length).await? {
        // Inside the window, because the pieces are.
        let begin = (at - offset) as usize;
        let part = &local[begin..begin + length as usize];
        match content {
            PieceContent::Zero if is_zero(part) => {}
            PieceContent::Whole { hash } if *blake3::hash(part).as_bytes() == hash => {}
            PieceContent::Zero => differ(at, part, &vec![0; part.len()], found),
            PieceContent::Whole { .. } | PieceContent::Part => {
                let mut there = vec![0; part.len()];
                replica.read(at, &mut there).await?;
                found.fetched_bytes += length;
                differ(at, part, &there, found);
            }
        }
    }
    Ok(())
}

fn differ(offset: u64, here: &[u8], there: &[u8], found: &mut Differences) {
    let mut at = 0;
    while at < here.len() {
        let to_border = BLOCK_BYTES - (offset + at as u64) % BLOCK_BYTES;
        let end = here.len().min(at + to_border as usize);
        if here[at..end] != there[at..end] {
            found.push(offset + at as u64, (end - at) as u64);
        }
        at = end;
    }
}
