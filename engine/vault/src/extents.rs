//! Which frame of which segment holds which part of a disk: the indexes of a chain, merged.

use crate::layout::{DataEntry, Entry, Segment};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Part of a frame that no later segment covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) length: u32,
    pub(crate) segment: u32,
    pub(crate) entry: u32,
}

/// What lies at a place of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// `None` reads as zeroes.
    pub(crate) piece: Option<Piece>,
}

#[derive(Debug)]
pub(crate) struct ExtentMap {
    size: u64,
    segments: Vec<Arc<Segment>>,
    pieces: BTreeMap<u64, Piece>,
}

impl ExtentMap {
    pub(crate) fn new(size: u64) -> Self {
        Self { size, segments: Vec::new(), pieces: BTreeMap::new() }
    }

    /// Lays a younger segment over what is there.
    pub(crate) fn lay_over(&mut self, segment: Arc<Segment>) {
        // A replica has at most as many segments as pieces; both are limited far below 2^32.
        let number = self.segments.len() as u32;
        for (position, entry) in segment.entries.iter().enumerate() {
            match entry {
                Entry::Zero { offset, length } => {
                    self.clear(*offset, offset.saturating_add(*length));
                }
                Entry::Data(data) => {
                    let end = (data.offset + u64::from(data.length)).min(self.size);
                    if data.offset >= end {
                        continue;
                    }
                    self.clear(data.offset, end);
                    // Both are limited: a frame to 1 MiB, an index to SEGMENT_ENTRIES_MAX.
                    let (length, entry) = ((end - data.offset) as u32, position as u32);
                    self.pieces.insert(data.offset, Piece { length, segment: number, entry });
                }
            }
        }
        self.segments.push(segment);
    }

    /// Takes away what covers `[from, to)`; pieces across an edge are cut there.
    fn clear(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        if let Some((&start, &piece)) = self.pieces.range(..from).next_back() {
            let end = start + u64::from(piece.length);
            if end > from {
                self.pieces.insert(start, Piece { length: (from - start) as u32, ..piece });
                if end > to {
                    self.pieces.insert(to, Piece { length: (end - to) as u32, ..piece });
                }
            }
        }
        while let Some((&start, &piece)) = self.pieces.range(from..to).next() {
            self.pieces.remove(&start);
            let end = start + u64::from(piece.length);
            if end > to {
                self.pieces.insert(to, Piece { length: (end - to) as u32, ..piece });
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// All of `[offset, offset + length)` in order, without gaps; at most to the end of the disk.
    pub(crate) fn spans(&self, offset: u64, length: u64) -> Vec<Span> {
        let end = offset.saturating_add(length).min(self.size);
        let mut spans = Vec::new();
        let mut at = offset;
        let first = self.pieces.range(..=offset).next_back().map_or(offset, |(start, _)| *start);
        for (&start, &piece) in self.pieces.range(first..end.max(first)) {
            let piece_end = (start + u64::from(piece.length)).min(end);
            let begin = start.max(offset);
            if piece_end <= begin {
                continue;
            }
            if at < begin {
                spans.push(Span { offset: at, length: begin - at, piece: None });
            }
            spans.push(Span { offset: begin, length: piece_end - begin, piece: Some(piece) });
            at = piece_end;
        }
        if at < end {
            spans.push(Span { offset: at, length: end - at, piece: None });
        }
        spans
    }

    /// The next piece of data that ends behind `offset`, as `[begin, end)`.
    pub(crate) fn next_data(&self, offset: u64) -> Option<(u64, u64)> {
        if let Some((&start, piece)) = self.pieces.range(..=offset).next_back() {
            let end = start + u64::from(piece.length);
            if end > offset {
                return Some((start, end));
            }
        }
        self.pieces.range(offset..).next().map(|(&start, piece)| (start, start + u64::from(piece.length)))
    }

    /// Pieces in disk order, from the one that covers `offset` on.
    pub(crate) fn from(&self, offset: u64) -> impl Iterator<Item = (u64, Piece)> + '_ {
        let covering = self.pieces.range(..offset).next_back();
        let first = covering.filter(|(start, piece)| **start + u64::from(piece.length) > offset);
        let first = first.map_or(offset, |(start, _)| *start);
        self.pieces.range(first..).map(|(offset, piece)| (*offset, *piece))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Piece)> + '_ {
        self.pieces.iter().map(|(offset, piece)| (*offset, *piece))
    }

    /// The frame a piece is part of. Always there for a piece of this map.
    pub(crate) fn frame(&self, piece: Piece) -> Option<(&Arc<Segment>, &DataEntry)> {
        let segment = self.segments.get(piece.segment as usize)?;
        match segment.entries.get(piece.entry as usize)? {
            Entry::Data(data) => Some((segment, data)),
            Entry::Zero { .. } => None,
        }
    }
}
