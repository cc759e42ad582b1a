//! Runs: frames that lie behind each other in one object and follow each other on the disk, read with one request and
//! opened on one thread.
//!
//! ```text
//!   extent map --next--> run --one range read--> sealed bytes --blocking thread: open, unzstd, BLAKE3--> content
//! ```
//!
//! A run is at most [`RUN_BYTES`] of disk, so that whoever keeps `n` of them in flight holds about `2 n` times that.

use crate::cipher::TAG_BYTES;
use crate::error::VaultError;
use crate::extents::ExtentMap;
use crate::frame::Frame;
use crate::layout::{DataEntry, Entry, Segment};
use crate::vault::Vault;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of disk in one run at most; a frame that is larger is a run by itself. Four frames of a first copy: enough that
/// the request and the change of threads cost nothing beside the unpacking.
pub const RUN_BYTES: u64 = 1 << 20;

/// Frames to be read together.
#[derive(Clone, Debug)]
pub struct Run {
    segment: Arc<Segment>,
    /// The range of the object.
    stored: Range<u64>,
    pieces: Vec<RunPiece>,
    bytes: u64,
}

/// The part of a frame that counts.
#[derive(Clone, Copy, Debug)]
struct RunPiece {
    offset: u64,
    length: u32,
    /// In the segment's index.
    entry: usize,
}

/// What a run holds, opened and checked.
#[derive(Debug, Default)]
pub struct RunContent {
    /// Offset on disk and range of `data`; touching pieces are one.
    pieces: Vec<(u64, Range<usize>)>,
    data: Vec<u8>,
    bytes: u64,
}

impl RunContent {
    /// Offset on disk and content, in disk order.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pieces.iter().map(|(offset, range)| (*offset, &self.data[range.clone()]))
    }
    /// Bytes of disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Its memory, for the next run.
    pub fn into_buffer(self) -> Vec<u8> {
        self.data
    }
}

/// A piece of a run that was unsealed for another segment.
pub(crate) enum Resealed {
    /// As it was packed.
    Whole(u64, Frame),
    /// Part of a frame: has to be packed anew.
    Part(u64, Vec<u8>),
}

impl Run {
    /// Where it begins on the disk.
    pub(crate) fn begin(&self) -> u64 {
        self.pieces.first().map_or(0, |piece| piece.offset)
    }
    /// Where it ends on the disk.
    pub fn end(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.offset + u64::from(piece.length))
    }
    /// Bytes of disk that it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// How many frames.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The first run at or behind `at`, not beyond `end`.
    pub(crate) fn next(map: &ExtentMap, at: u64, end: u64) -> Option<Self> {
        let mut run: Option<Self> = None;
        for (offset, piece) in map.from(at) {
            let begin = offset.max(at);
            let until = (offset + u64::from(piece.length)).min(end);
            if begin >= until {
                break;
            }
            let Some((segment, entry)) = map.frame(piece) else { break };
            let stored = entry.stored_range();
            // Bounded by the length of a frame.
            let found = RunPiece { offset: begin, length: (until - begin) as u32, entry: piece.entry as usize };
            match &mut run {
                None => {
                    let segment = segment.clone();
                    run = Some(Self { segment, stored, pieces: vec![found], bytes: until - begin });
                }
                Some(run) => {
                    let follows = stored.start == run.stored.end || stored.end == run.stored.end;
                    let fits = run.bytes + (until - begin) <= RUN_BYTES;
                    if run.segment.name != segment.name || !follows || !fits {
                        break;
                    }
                    run.stored.end = stored.end;
                    run.bytes += until - begin;
                    run.pieces.push(found);
                }
            }
        }
        run
    }

    async fn fetch(&self, vault: &Vault) -> Result<Vec<u8>, VaultError> {
        let sealed = vault.place().read_range(&self.segment.name, self.stored.clone()).await?;
        // Without a copy when nobody else holds the bytes.
        Ok(Vec::from(sealed))
    }

    /// Reads, opens and checks every frame of it, into the memory of `buffer`.
    pub(crate) async fn open(self, vault: &Vault, buffer: Vec<u8>) -> Result<RunContent, VaultError> {
        let sealed = self.fetch(vault).await?;
        let opened = tokio::task::spawn_blocking(move || self.open_all(sealed, buffer)).await;
        opened.map_err(|error| VaultError::Stopped(error.to_string()))?
    }

    fn open_all(self, mut sealed: Vec<u8>, mut data: Vec<u8>) -> Result<RunContent, VaultError> {
        // A run is at most as long as its largest frame or `RUN_BYTES`.
        data.resize(self.bytes as usize, 0);
        let mut pieces: Vec<(u64, Range<usize>)> = Vec::new();
        let mut filled = 0;
        // Two pieces of one frame follow each other: it is opened once.
        let mut opened: Option<(usize, Vec<u8>)> = None;
        for piece in &self.pieces {
            let range = filled..filled + piece.length as usize;
            filled = range.end;
            let entry = self.entry(piece)?;
            if piece.offset == entry.offset && piece.length == entry.length {
                let stored = self.within(entry, sealed.len())?;
                self.segment.open_frame_into(entry, &mut sealed[stored], &mut data[range.clone()])?;
            } else {
                if opened.as_ref().is_none_or(|(number, _)| *number != piece.entry) {
                    let stored = self.within(entry, sealed.len())?;
                    let mut whole = vec![0; entry.length as usize];
                    self.segment.open_frame_into(entry, &mut sealed[stored], &mut whole)?;
                    opened = Some((piece.entry, whole));
                }
                let from = (piece.offset - entry.offset) as usize;
                let part = opened.as_ref().map_or(&[][..], |(_, whole)| &whole[from..from + piece.length as usize]);
                data[range.clone()].copy_from_slice(part);
            }
            match pieces.last_mut() {
                Some((offset, last)) if *offset + last.len() as u64 == piece.offset => last.end = range.end,
                _ => pieces.push((piece.offset, range)),
            }
        }
        Ok(RunContent { pieces, data, bytes: self.bytes })
    }

    /// Reads it to be sealed into another segment: what counts as a whole stays packed.
    pub(crate) async fn unseal(self, vault: &Vault) -> Result<Vec<Resealed>, VaultError> {
        let sealed = self.fetch(vault).await?;
        let opened = tokio::task::spawn_blocking(move || self.unseal_all(sealed)).await;
        opened.map_err(|error| VaultError::Stopped(error.to_string()))?
    }

    fn unseal_all(self, mut sealed: Vec<u8>) -> Result<Vec<Resealed>, VaultError> {
        let mut parts = Vec::new();
        let mut opened: Option<(usize, Vec<u8>)> = None;
        for piece in &self.pieces {
            let entry = self.entry(piece)?;
            if piece.offset == entry.offset && piece.length == entry.length {
                let stored = self.within(entry, sealed.len())?;
                let body = self.segment.unseal(entry, &mut sealed[stored])?;
                let (length, hash, compression) = (entry.length, entry.hash, entry.compression);
                parts.push(Resealed::Whole(piece.offset, Frame { length, hash, compression, stored: body.to_vec() }));
                continue;
            }
            if opened.as_ref().is_none_or(|(number, _)| *number != piece.entry) {
                let stored = self.within(entry, sealed.len())?;
                let mut whole = vec![0; entry.length as usize];
                self.segment.open_frame_into(entry, &mut sealed[stored], &mut whole)?;
                opened = Some((piece.entry, whole));
            }
            let from = (piece.offset - entry.offset) as usize;
            let part = opened.as_ref().map_or(&[][..], |(_, whole)| &whole[from..from + piece.length as usize]);
            parts.push(Resealed::Part(piece.offset, part.to_vec()));
        }
        Ok(parts)
    }

    fn entry(&self, piece: &RunPiece) -> Result<&DataEntry, VaultError> {
        match self.segment.entries.get(piece.entry) {
            Some(Entry::Data(entry)) => Ok(entry),
            // The map was made of this very index.
            _ => Err(VaultError::Stopped("a run names no frame; this is a bug".to_owned())),
        }
    }

    /// Where ciphertext and tag of a frame lie in what was read.
    fn within(&self, entry: &DataEntry, length: usize) -> Result<Range<usize>, VaultError> {
        let begin = entry.stored_offset.saturating_sub(self.stored.start) as usize;
        let end = begin + entry.stored_length as usize + TAG_BYTES;
        if end > length {
            let segment = self.segment.name.clone();
            return Err(VaultError::Truncated { segment, found: length as u64, expected: end as u64 });
        }
        Ok(begin..end)
    }
}
