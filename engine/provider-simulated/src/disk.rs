//! A disk with its change map and the snapshot of an open cut.
//!
//! ```text
//!   guest writes --> preserve what an open cut still needs --> medium
//!                `-> mark the grains in the change map
//! ```
//!
//! A cut takes the change map away and gives a new one; settling decides what becomes of the old: forgotten when the
//! point was committed, merged back when it was not. So nothing is skipped and nothing is sent twice for nothing.

use crate::bitmap::{Bitmap, GRAIN_BYTES};
use crate::medium::Medium;
use async_trait::async_trait;
use muster_ports::{BarrierId, BlockSource, BlockTarget, CutOutcome, Extent, ExtentKind, Failure, Result, Tracking};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room for old contents kept for one open cut, in memory. A cut that outgrows it fails and is made again.
pub(crate) const SNAPSHOT_ROOM_BYTES: u64 = 256 << 20;
/// Extents given in one answer, so that a badly scattered disk costs bounded memory.
const EXTENTS_PER_ANSWER: usize = 4096;

/// Since when the changes of a disk are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Known(BarrierId),
    /// Why they are not.
    Lost(String),
}

#[derive(Debug)]
struct Snapshot {
    barrier: BarrierId,
    base: Base,
    /// What had changed when it was cut.
    changed: Bitmap,
    /// Old contents of grains written since.
    preserved: BTreeMap<u64, Box<[u8]>>,
    outgrown: bool,
}

#[derive(Debug)]
struct Inner {
    medium: Medium,
    size: u64,
    base: Base,
    dirty: Bitmap,
    snapshot: Option<Snapshot>,
    /// Open handles that may write it past the guest.
    writers: u32,
}

#[derive(Debug)]
pub(crate) struct Disk {
    /// `db/data`, for messages.
    label: String,
    inner: Mutex<Inner>,
}

impl Disk {
    pub(crate) fn new(label: String, medium: Medium, size: u64, base: Base, dirty: Option<Bitmap>) -> Arc<Self> {
        let dirty = dirty.unwrap_or_else(|| Bitmap::new(size));
        Arc::new(Self { label, inner: Mutex::new(Inner { medium, size, base, dirty, snapshot: None, writers: 0 }) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn size(&self) -> u64 {
        self.inner().size
    }

    fn within(&self, size: u64, offset: u64, length: u64) -> Result<()> {
        if offset.checked_add(length).is_some_and(|end| end <= size) {
            return Ok(());
        }
        Err(Failure::permanent(format!(
            "disk `{}` has {size} bytes; {length} bytes at {offset} reach beyond its end",
            self.label
        )))
    }

    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let inner = self.inner();
        self.within(inner.size, offset, buffer.len() as u64)?;
        inner.medium.read(offset, buffer).map_err(|failure| failure.during(format!("read disk `{}`", self.label)))
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut inner = self.inner();
        self.within(inner.size, offset, data.len() as u64)?;
        inner.preserve(offset, data.len() as u64)?;
        inner.dirty.mark(offset, data.len() as u64);
        inner.medium.write(offset, data).map_err(|failure| failure.during(format!("write disk `{}`", self.label)))
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<()> {
        let mut inner = self.inner();
        self.within(inner.size, offset, length)?;
        inner.preserve(offset, length)?;
        inner.dirty.mark(offset, length);
        inner.medium.zero(offset, length).map_err(|failure| failure.during(format!("clear disk `{}`", self.label)))
    }

    pub(crate) fn flush(&self) -> Result<()> {
        self.inner().medium.flush().map_err(|failure| failure.during(format!("flush disk `{}`", self.label)))
    }

    pub(crate) fn grow(&self, size: u64) -> Result<()> {
        let mut inner = self.inner();
        inner.medium.grow(size)?;
        inner.size = size;
        inner.base = Base::Lost("the disk was made larger".to_owned());
        inner.dirty = Bitmap::new(size);
        inner.snapshot = None;
        Ok(())
    }

    /// Freezes the moment. Asked again for the same barrier, says the same.
    pub(crate) fn cut(&self, barrier: &BarrierId, wanted: Option<&BarrierId>) -> Result<(Tracking, u64)> {
        let mut inner = self.inner();
        if let Some(open) = &inner.snapshot
            && open.barrier != *barrier
        {
            return Err(Failure::refused(format!("disk `{}` has the open cut `{}`", self.label, open.barrier))
                .help("settle that cut first"));
        }
        if inner.snapshot.is_none() {
            let changed = std::mem::replace(&mut inner.dirty, Bitmap::new(0));
            inner.dirty = Bitmap::new(inner.size);
            let base = inner.base.clone();
            inner.snapshot =
                Some(Snapshot { barrier: barrier.clone(), base, changed, preserved: BTreeMap::new(), outgrown: false });
        }
        let Some(snapshot) = &inner.snapshot else {
            return Err(Failure::transient("the cut was settled while it was made"));
        };
        let lost = |reason: String| (Tracking::Lost { reason }, inner.size);
        Ok(match (&snapshot.base, wanted) {
            (_, None) => lost("everything was asked for".to_owned()),
            (Base::Lost(reason), _) => lost(reason.clone()),
            (Base::Known(base), Some(wanted)) if base == wanted => {
                (Tracking::Since { barrier: base.clone() }, snapshot.changed.marked_bytes())
            }
            (Base::Known(base), Some(wanted)) => {
                lost(format!("changes are known since `{base}`, but wanted since `{wanted}`"))
            }
        })
    }

    /// Whether there was such a cut.
    pub(crate) fn settle(&self, barrier: &BarrierId, outcome: CutOutcome) -> bool {
        let mut inner = self.inner();
        match inner.snapshot.take() {
            Some(snapshot) if snapshot.barrier == *barrier => {
                match outcome {
                    CutOutcome::Committed => inner.base = Base::Known(barrier.clone()),
                    CutOutcome::Abandoned => inner.dirty.union(&snapshot.changed),
                }
                true
            }
            other => {
                inner.snapshot = other;
                false
            }
        }
    }

    /// Nothing is known about changes any more; an open cut is gone too.
    pub(crate) fn lose(&self, reason: &str) {
        let mut inner = self.inner();
        inner.base = Base::Lost(reason.to_owned());
        inner.dirty = Bitmap::new(inner.size);
        inner.snapshot = None;
    }

    /// Forgets the base; an open cut stays readable.
    pub(crate) fn forget_base(&self, reason: &str) {
        let mut inner = self.inner();
        inner.base = Base::Lost(reason.to_owned());
        inner.dirty = Bitmap::new(inner.size);
        if let Some(snapshot) = &mut inner.snapshot {
            snapshot.base = Base::Lost(reason.to_owned());
        }
    }

    /// As if cut at `barrier` now.
    pub(crate) fn track_from(&self, barrier: &BarrierId) {
        let mut inner = self.inner();
        inner.base = Base::Known(barrier.clone());
        inner.dirty = Bitmap::new(inner.size);
        inner.snapshot = None;
    }

    /// What has to be kept so that tracking goes on after the process has ended: the base and everything changed since,
    /// an open cut counted as not committed.
    pub(crate) fn tracking(&self) -> (Base, Bitmap) {
        let inner = self.inner();
        let mut dirty = inner.dirty.clone();
        if let Some(snapshot) = &inner.snapshot {
            dirty.union(&snapshot.changed);
        }
        (inner.base.clone(), dirty)
    }

    pub(crate) fn is_open_for_writing(&self) -> bool {
        self.inner().writers > 0
    }

    fn cut_extents(&self, barrier: &BarrierId, changed_only: bool, offset: u64, length: u64) -> Result<Vec<Extent>> {
        let inner = self.inner();
        self.within(inner.size, offset, length)?;
        let snapshot = inner.snapshot(barrier, &self.label)?;
        let end = offset + length;
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < end {
            let grain = at / GRAIN_BYTES;
            let grain_end = ((grain + 1) * GRAIN_BYTES).min(end);
            let (length, kind) = if changed_only && !snapshot.changed.is_marked(grain) {
                // At once, however long: what did not change must not cost by the grain.
                let next = snapshot.changed.next_marked(grain).map_or(end, |next| (next * GRAIN_BYTES).min(end));
                (next - at, ExtentKind::Unchanged)
            } else if snapshot.preserved.contains_key(&grain) {
                (grain_end - at, ExtentKind::Data)
            } else {
                let next =
                    snapshot.preserved.range(grain..).next().map_or(end, |(next, _)| (next * GRAIN_BYTES).min(end));
                let (length, data) = inner.medium.extent(at, if changed_only { grain_end } else { next })?;
                (length, if data { ExtentKind::Data } else { ExtentKind::Zero })
            };
            let full = extents.len() == EXTENTS_PER_ANSWER;
            match extents.last_mut() {
                Some(last) if last.kind == kind => last.length += length,
                _ if full => break,
                _ => extents.push(Extent { offset: at, length, kind }),
            }
            at += length;
        }
        Ok(extents)
    }

    fn cut_read(&self, barrier: &BarrierId, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let inner = self.inner();
        self.within(inner.size, offset, buffer.len() as u64)?;
        let snapshot = inner.snapshot(barrier, &self.label)?;
        let mut done = 0usize;
        while done < buffer.len() {
            let at = offset + done as u64;
            let grain = at / GRAIN_BYTES;
            let inside = (at % GRAIN_BYTES) as usize;
            let take = (GRAIN_BYTES as usize - inside).min(buffer.len() - done);
            let piece = &mut buffer[done..done + take];
            match snapshot.preserved.get(&grain) {
                Some(old) => piece.copy_from_slice(&old[inside..inside + take]),
                None => inner.medium.read(at, piece)?,
            }
            done += take;
        }
        Ok(())
    }
}

impl Inner {
    /// Keeps the old contents of what is about to be written, where an open cut has not kept them yet.
    fn preserve(&mut self, offset: u64, length: u64) -> Result<()> {
        let Some(snapshot) = &mut self.snapshot else { return Ok(()) };
        if snapshot.outgrown || length == 0 {
            return Ok(());
        }
        for grain in offset / GRAIN_BYTES..=(offset + length - 1) / GRAIN_BYTES {
            if snapshot.preserved.contains_key(&grain) {
                continue;
            }
            if (snapshot.preserved.len() as u64 + 1) * GRAIN_BYTES > SNAPSHOT_ROOM_BYTES {
                // The guest must go on; the cut is what gives way.
                snapshot.outgrown = true;
                snapshot.preserved.clear();
                return Ok(());
            }
            let start = grain * GRAIN_BYTES;
            let mut old = vec![0u8; GRAIN_BYTES.min(self.size - start) as usize];
            self.medium.read(start, &mut old)?;
            snapshot.preserved.insert(grain, old.into_boxed_slice());
        }
        Ok(())
    }

    fn snapshot(&self, barrier: &BarrierId, label: &str) -> Result<&Snapshot> {
        match &self.snapshot {
            Some(snapshot) if snapshot.outgrown => Err(Failure::transient(format!(
                "the cut `{barrier}` of disk `{label}` outgrew its room of {SNAPSHOT_ROOM_BYTES} bytes"
            ))
            .help("the machine writes faster than the cut is read; the next cycle cuts again")),
            Some(snapshot) if snapshot.barrier == *barrier => Ok(snapshot),
            _ => Err(Failure::permanent(format!("disk `{label}` has no open cut `{barrier}`"))
                .help("it was settled, or the site was restarted; the next cycle cuts again")),
        }
    }
}

/// A disk at the moment of a cut.
#[derive(Debug)]
pub(crate) struct CutDisk {
    disk: Arc<Disk>,
    barrier: BarrierId,
    changed_only: bool,
    size: u64,
}

impl CutDisk {
    /// Fails at once when there is no such cut.
    pub(crate) fn open(disk: Arc<Disk>, barrier: &BarrierId, changed_only: bool) -> Result<Self> {
        let size = {
            let inner = disk.inner();
            let snapshot = inner.snapshot(barrier, &disk.label)?;
            if changed_only && let Base::Lost(reason) = &snapshot.base {
                return Err(Failure::refused(format!("the changes of disk `{}` are not known: {reason}", disk.label)));
            }
            inner.size
        };
        Ok(Self { disk, barrier: barrier.clone(), changed_only, size })
    }
}

#[async_trait]
impl BlockSource for CutDisk {
    fn size(&self) -> u64 {
        self.size
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        self.disk.cut_extents(&self.barrier, self.changed_only, offset, length)
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk.cut_read(&self.barrier, offset, buffer)
    }
}

/// A disk of a machine that is off, open for writing. The machine cannot start while this lives.
#[derive(Debug)]
pub(crate) struct OpenDisk {
    disk: Arc<Disk>,
    size: u64,
}

impl OpenDisk {
    pub(crate) fn new(disk: Arc<Disk>) -> Self {
        let size = {
            let mut inner = disk.inner();
            inner.writers += 1;
            inner.size
        };
        Self { disk, size }
    }
}

impl Drop for OpenDisk {
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        inner.writers = inner.writers.saturating_sub(1);
    }
}

#[async_trait]
impl BlockSource for OpenDisk {
    fn size(&self) -> u64 {
        self.size
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        let inner = self.disk.inner();
        self.disk.within(inner.size, offset, length)?;
        let mut extents = Vec::new();
        let (mut at, end) = (offset, offset + length);
        while at < end && extents.len() < EXTENTS_PER_ANSWER {
            let (length, data) = inner.medium.extent(at, end)?;
            let kind = if data { ExtentKind::Data } else { ExtentKind::Zero };
            extents.push(Extent { offset: at, length, kind });
            at += length;
        }
        Ok(extents)
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk.read(offset, buffer)
    }
}

#[async_trait]
impl BlockTarget for OpenDisk {
    async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.disk.write(offset, data)
    }
    async fn write_zeroes(&self, offset: u64, length: u64) -> Result<()> {
        self.disk.write_zeroes(offset, length)
    }
    async fn flush(&self) -> Result<()> {
        self.disk.flush()
    }
}
