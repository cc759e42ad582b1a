//! One disk at one point, read from the vault as if it were a disk.

use crate::cache::Cache;
use crate::error::VaultError;
use crate::extents::{ExtentMap, Piece};
use crate::layout::{DataEntry, Segment};
use crate::runs::{Run, RunContent};
use crate::vault::Vault;
use crate::{FRAME_CACHE_BYTES, REPLICA_PIECES_MAX};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use muster_ports::{BlockSource, Extent, ExtentKind, Progress, ReplicaImage, Result, SegmentName};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Indexes read at the same time when a replica is opened.
const INDEX_READS: usize = 8;
/// Runs on their way at the same time when all is read back.
const RUNS_IN_FLIGHT: usize = 4;
/// Extents given in one answer; the caller asks again for the rest.
const EXTENTS_MAX: usize = 4096;

/// A frame of the replica that no younger segment covers, not even in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaFrame {
    pub offset: u64,
    pub length: u64,
    /// BLAKE3 of its plain content.
    pub hash: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceContent {
    Zero,
    /// A whole frame: comparing needs only its hash.
    Whole {
        hash: [u8; 32],
    },
    /// Part of a frame: comparing needs its content.
    Part,
}

/// What the replica holds at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaPiece {
    pub offset: u64,
    pub length: u64,
    pub content: PieceContent,
}

/// What reading everything back found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    pub frames: u64,
    pub bytes: u64,
    /// Frames that do not read back; empty is good.
    pub damaged: Vec<VaultError>,
}

/// Reads lazily: nothing is fetched before the first question. Cheap to clone; clones share the cache.
#[derive(Clone, Debug)]
pub struct Replica {
    inner: Arc<Inner>,
}

type FrameCell = Arc<OnceCell<Bytes>>;

#[derive(Debug)]
struct Inner {
    vault: Vault,
    image: ReplicaImage,
    map: OnceCell<ExtentMap>,
    frames: Mutex<Cache<(u32, u32), FrameCell>>,
}

impl Replica {
    pub(crate) fn new(vault: Vault, image: ReplicaImage) -> Self {
        let frames = Mutex::new(Cache::new(FRAME_CACHE_BYTES));
        Self { inner: Arc::new(Inner { vault, image, map: OnceCell::new(), frames }) }
    }

    pub fn image(&self) -> &ReplicaImage {
        &self.inner.image
    }

    /// Bytes of the disk that are stored as data; the rest is zero.
    pub async fn data_bytes(&self) -> Result<u64, VaultError> {
        Ok(self.map().await?.iter().map(|(_, piece)| u64::from(piece.length)).sum())
    }

    /// All frames that are whole, in disk order.
    pub async fn frames(&self) -> Result<impl Iterator<Item = ReplicaFrame> + '_, VaultError> {
        let map = self.map().await?;
        Ok(map.iter().filter_map(move |(offset, piece)| {
            let (_, entry) = map.frame(piece)?;
            let whole = entry.offset == offset && entry.length == piece.length;
            whole.then_some(ReplicaFrame { offset, length: u64::from(piece.length), hash: entry.hash })
        }))
    }

    /// What lies in `[offset, offset + length)`, in order, without gaps, at most to the end of the disk.
    pub async fn pieces(&self, offset: u64, length: u64) -> Result<Vec<ReplicaPiece>, VaultError> {
        let map = self.map().await?;
        let spans = map.spans(offset, length).into_iter();
        Ok(spans
            .map(|span| {
                let content = match span.piece.and_then(|piece| map.frame(piece)) {
                    None => PieceContent::Zero,
                    Some((_, entry)) if entry.offset == span.offset && u64::from(entry.length) == span.length => {
                        PieceContent::Whole { hash: entry.hash }
                    }
                    Some(_) => PieceContent::Part,
                };
                ReplicaPiece { offset: span.offset, length: span.length, content }
            })
            .collect())
    }

    /// Where data next lies at or behind `offset`, as `[begin, end)`; `None` when only zeroes follow.
    pub async fn next_data(&self, offset: u64) -> Result<Option<(u64, u64)>, VaultError> {
        Ok(self.map().await?.next_data(offset))
    }

    /// The frames to be read together at or behind `offset`; `None` when only zeroes follow.
    pub async fn next_run(&self, offset: u64) -> Result<Option<Run>, VaultError> {
        Ok(Run::next(self.map().await?, offset, self.inner.image.size_bytes))
    }

    /// Reads a run, opens it on a thread that may block and checks every frame of it. `buffer` lends its memory.
    pub async fn open_run(&self, run: Run, buffer: Vec<u8>) -> Result<RunContent, VaultError> {
        run.open(&self.inner.vault, buffer).await
    }

    /// Fills `buffer` from `offset`.
    pub async fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VaultError> {
        let size = self.inner.image.size_bytes;
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= size);
        let Some(end) = end else {
            return Err(VaultError::OutOfRange { offset, end: offset.saturating_add(buffer.len() as u64), size });
        };
        let map = self.map().await?;
        for span in map.spans(offset, end - offset) {
            // Inside the buffer, because a span lies inside what was asked for.
            let begin = (span.offset - offset) as usize;
            let part = &mut buffer[begin..begin + span.length as usize];
            let Some((piece, (segment, entry))) = span.piece.and_then(|piece| Some((piece, map.frame(piece)?))) else {
                part.fill(0);
                continue;
            };
            let content = self.frame(piece, segment, entry).await?;
            let from = (span.offset - entry.offset) as usize;
            part.copy_from_slice(&content[from..from + part.len()]);
        }
        Ok(())
    }

    /// Reads every live frame back and checks it against its BLAKE3. Damage is collected, not returned as an error.
    pub async fn verify(&self, progress: &dyn Progress) -> Result<VerifyReport, VaultError> {
        let map = self.map().await?;
        let size = self.inner.image.size_bytes;
        let total = self.data_bytes().await?;
        let mut report = VerifyReport::default();
        let runs = std::iter::successors(Run::next(map, 0, size), |run| Run::next(map, run.end(), size));
        let opened = futures::stream::iter(runs).map(|run| async move {
            let content = run.clone().open(&self.inner.vault, Vec::new()).await;
            (run, content)
        });
        let mut opened = opened.buffered(RUNS_IN_FLIGHT);
        while let Some((run, content)) = opened.next().await {
            match content {
                Ok(content) => {
                    report.frames += run.len() as u64;
                    report.bytes += content.bytes();
                }
                Err(error) if error.is_of_the_store() => return Err(error),
                // Which of its frames are damaged, one by one.
                Err(_) => self.verify_pieces(map, &run, &mut report).await?,
            }
            progress.report(report.bytes, Some(total));
        }
        progress.report(report.bytes, Some(total));
        Ok(report)
    }

    async fn verify_pieces(&self, map: &ExtentMap, run: &Run, report: &mut VerifyReport) -> Result<(), VaultError> {
        for (_, piece) in map.from(run.begin()).take(run.len()) {
            let Some((segment, entry)) = map.frame(piece) else { continue };
            report.frames += 1;
            match fetch(&self.inner.vault, segment, entry).await {
                Ok(_) => report.bytes += u64::from(piece.length),
                Err(error) if error.is_of_the_store() => return Err(error),
                Err(error) => report.damaged.push(error),
            }
        }
        Ok(())
    }

    async fn map(&self) -> Result<&ExtentMap, VaultError> {
        self.inner.map.get_or_try_init(|| self.load()).await
    }

    /// Reads the indexes of all segments and merges them, oldest first.
    async fn load(&self) -> Result<ExtentMap, VaultError> {
        let Inner { vault, image, .. } = &*self.inner;
        let mut map = ExtentMap::new(image.size_bytes);
        let reads = image.segments.iter().cloned().map(|segment| async move { vault.segment(&segment).await });
        let mut segments = futures::stream::iter(reads).buffered(INDEX_READS);
        while let Some(segment) = segments.try_next().await? {
            map.lay_over(segment);
            if map.len() > REPLICA_PIECES_MAX {
                return Err(VaultError::TooFragmented { segments: image.segments.len(), limit: REPLICA_PIECES_MAX });
            }
        }
        Ok(map)
    }

    /// The content of a frame, from the cache or the vault. Asked twice at once, it is fetched once.
    async fn frame(&self, piece: Piece, segment: &Arc<Segment>, entry: &DataEntry) -> Result<Bytes, VaultError> {
        let key = (piece.segment, piece.entry);
        let cell = {
            let mut frames = self.inner.frames.lock().unwrap_or_else(PoisonError::into_inner);
            match frames.get(&key) {
                Some(cell) => cell,
                None => {
                    let cell = FrameCell::default();
                    frames.insert(key, cell.clone(), entry.length as usize);
                    cell
                }
            }
        };
        cell.get_or_try_init(|| fetch(&self.inner.vault, segment, entry)).await.cloned()
    }
}

async fn fetch(vault: &Vault, segment: &Arc<Segment>, entry: &DataEntry) -> Result<Bytes, VaultError> {
    let sealed = vault.place().read_range(&segment.name, entry.stored_range()).await?;
    let (segment, entry) = (segment.clone(), entry.clone());
    let opened = tokio::task::spawn_blocking(move || segment.open_frame(&entry, Vec::from(sealed)));
    opened.await.map_err(|error| VaultError::Stopped(error.to_string()))?.map(Bytes::from)
}

#[async_trait]
impl BlockSource for Replica {
    fn size(&self) -> u64 {
        self.inner.image.size_bytes
    }

    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        let size = self.size();
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(VaultError::OutOfRange { offset, end: offset.saturating_add(length), size }.into());
        }
        let (map, end) = (self.map().await?, offset + length);
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < end && extents.len() < EXTENTS_MAX {
            let (begin, data_end) = map.next_data(at).map_or((end, end), |(begin, end)| (begin.max(at), end));
            let (kind, until) = match begin > at {
                true => (ExtentKind::Zero, begin.min(end)),
                false => (ExtentKind::Data, data_end.min(end)),
            };
            match extents.last_mut() {
                Some(last) if last.kind == kind => last.length += until - at,
                _ => extents.push(Extent { offset: at, length: until - at, kind }),
            }
            at = until;
        }
        Ok(extents)
    }

    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        Ok(self.read(offset, buffer).await?)
    }
}

/// The name a segment is cached by.
pub(crate) type SegmentCache = Cache<SegmentName, Arc<Segment>>;
