//! A file or block device of this machine as a disk: for images, for seeds that travel, for whatever can be read.

use async_trait::async_trait;
use muster_ports::{BlockSource, BlockTarget, Extent, ExtentKind, Failure, Result};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Holes are told in whole grains of this many bytes: a grain that is a hole in part is read.
const GRAIN_BYTES: u64 = 64 << 10;
/// Extents given in one answer; the caller asks again for the rest.
const EXTENTS_MAX: usize = 4096;
/// Zeroes written at once where no hole can be punched, in bytes.
const ZEROES_BYTES: usize = 1 << 20;

/// Bytes after which stable storage is asked to take what was written so far, while writing goes on: the last flush then
/// finds little left.
const WRITE_BACK_BYTES: u64 = 128 << 20;

/// What memory, place and length of a write past the page cache have to be multiples of: no disk has larger sectors.
const DIRECT_ALIGN: usize = 4 << 10;
/// Shorter writes are left to the page cache, which makes longer ones of them.
const DIRECT_MIN: usize = 64 << 10;
/// The longest single write past the page cache.
const DIRECT_MAX: usize = 1 << 20;

/// Sparse-aware: holes are neither read nor written. Long writes of whole parts go past the page cache where the file
/// system lets them: a disk that is landed is larger than the cache and read later, if at all, and copying it there costs
/// more than unpacking it.
#[derive(Clone, Debug)]
pub struct FileDisk {
    file: Arc<File>,
    direct: Option<Arc<Direct>>,
    path: PathBuf,
    size: u64,
    durable: bool,
    write_back: Arc<WriteBack>,
}

/// Stable storage that takes what was written while writing goes on.
#[derive(Debug, Default)]
struct WriteBack {
    /// Bytes written so far.
    written: AtomicU64,
    /// The kernel tells an error of writing back to whoever asks first, so it is kept for the flush. Locked while a
    /// write-back runs.
    failed: Mutex<Option<std::io::Error>>,
}

/// The same file, opened past the page cache.
#[derive(Debug)]
struct Direct {
    file: File,
    /// Aligned memory that writes hand on to each other: no more pieces than there are writes at once.
    spare: Mutex<Vec<Vec<u8>>>,
    /// Some file systems take the flag and refuse the writes.
    refused: AtomicBool,
}

impl Direct {
    /// `None` where it cannot be had.
    fn open(path: &Path) -> Option<Arc<Self>> {
        let flag = i32::try_from(OFlags::DIRECT.bits()).ok()?;
        let file = File::options().write(true).custom_flags(flag).open(path).ok()?;
        Some(Arc::new(Self { file, spare: Mutex::default(), refused: AtomicBool::new(false) }))
    }

    /// How many bytes from the beginning of `data` it has written; the rest is the page cache's.
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<usize> {
        let aligned = offset.is_multiple_of(DIRECT_ALIGN as u64) && data.len() >= DIRECT_MIN;
        if !aligned || self.refused.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let whole = data.len() - data.len() % DIRECT_ALIGN;
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = spare.unwrap_or_else(|| vec![0; DIRECT_MAX + DIRECT_ALIGN]);
        let begin = memory.as_ptr().align_offset(DIRECT_ALIGN);
        let mut done = 0;
        let mut outcome = Ok(());
        for part in data[..whole].chunks(DIRECT_MAX) {
            let lent = &mut memory[begin..begin + part.len()];
            lent.copy_from_slice(part);
            outcome = self.file.write_all_at(lent, offset + done as u64);
            if outcome.is_err() {
                break;
            }
            done += part.len();
        }
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        match outcome {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.refused.store(true, Ordering::Relaxed);
                Ok(done)
            }
            outcome => outcome.map(|()| done),
        }
    }
}

impl FileDisk {
    /// An existing image or block device, to be read.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(path, File::options().read(true).open(path))
    }

    /// An existing image or block device, to be read and written.
    pub fn open_to_write(path: &Path) -> Result<Self> {
        let disk = Self::of(path, File::options().read(true).write(true).open(path))?;
        Ok(Self { direct: Direct::open(path), ..disk })
    }

    /// A new image, all zero; refuses to write over a file.
    pub fn create(path: &Path, size: u64) -> Result<Self> {
        let opened = File::options().read(true).write(true).create_new(true).open(path);
        let file = opened.map_err(|error| {
            let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
            let failure = Failure::from(error).during(format!("make `{}`", path.display()));
            if exists { failure.help("name another folder, or move the file away") } else { failure }
        })?;
        file.set_len(size)?;
        let direct = Direct::open(path);
        Ok(Self {
            file: Arc::new(file),
            direct,
            path: path.to_owned(),
            size,
            durable: true,
            write_back: Arc::default(),
        })
    }

    fn of(path: &Path, opened: std::io::Result<File>) -> Result<Self> {
        let during = |error: std::io::Error| Failure::from(error).during(format!("open `{}`", path.display()));
        let file = opened.map_err(during)?;
        // Of a block device the length of the file says nothing, its end does.
        let size = seek(&file, SeekFrom::End(0)).map_err(|errno| during(errno.into()))?;
        let write_back = Arc::default();
        Ok(Self { file: Arc::new(file), direct: None, path: path.to_owned(), size, durable: true, write_back })
    }

    /// Leaves it to the kernel when what was written reaches stable storage: for what can be made again.
    pub fn without_flush(self) -> Self {
        Self { durable: false, ..self }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, error: impl Into<std::io::Error>) -> Failure {
        Failure::from(error.into()).during(format!("disk `{}`", self.path.display()))
    }

    /// Begins a write-back each [`WRITE_BACK_BYTES`], on a thread of its own.
    fn write_back(&self, bytes: u64) {
        let before = self.write_back.written.fetch_add(bytes, Ordering::Relaxed);
        if self.durable && before / WRITE_BACK_BYTES != (before + bytes) / WRITE_BACK_BYTES {
            let disk = self.clone();
            drop(tokio::task::spawn_blocking(move || disk.sync(false)));
        }
    }

    fn sync(&self, whole: bool) -> std::io::Result<()> {
        let mut failed = self.write_back.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let synced = if whole { self.file.sync_all() } else { self.file.sync_data() };
        match (whole, failed.take()) {
            (true, earlier) => synced.and(earlier.map_or(Ok(()), Err)),
            (false, earlier) => {
                *failed = earlier.or(synced.err());
                Ok(())
            }
        }
    }

    /// Where data next begins at or behind `at`, and where it ends.
    fn next_data(&self, at: u64) -> Result<Option<(u64, u64)>> {
        let begin = match seek(&*self.file, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            Err(Errno::NXIO) => return Ok(None),
            // A device that knows no holes: all of it is data.
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(Some((at, self.size))),
            Err(errno) => return Err(self.failed(errno)),
        };
        let end = match seek(&*self.file, SeekFrom::Hole(begin)) {
            Ok(end) => end,
            Err(Errno::NXIO) => self.size,
            Err(errno) => return Err(self.failed(errno)),
        };
        Ok((begin < self.size).then_some((begin, end.min(self.size))))
    }

    fn look(&self, offset: u64, end: u64) -> Result<Vec<Extent>> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < end && extents.len() < EXTENTS_MAX {
            let (begin, until) = self.next_data(at)?.unwrap_or((end, end));
            let begin = (begin - begin % GRAIN_BYTES).clamp(at, end);
            let until = until.div_ceil(GRAIN_BYTES).saturating_mul(GRAIN_BYTES).clamp(begin, end);
            for (from, to, kind) in [(at, begin, ExtentKind::Zero), (begin, until, ExtentKind::Data)] {
                match extents.last_mut() {
                    _ if from == to => {}
                    Some(last) if last.kind == kind => last.length += to - from,
                    _ => extents.push(Extent { offset: from, length: to - from, kind }),
                }
            }
            at = until;
        }
        Ok(extents)
    }
}

/// Where the runtime has other threads, they take over while this one waits for the disk.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[async_trait]
impl BlockSource for FileDisk {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        let end = offset.checked_add(length).filter(|end| *end <= self.size);
        let end = end.ok_or_else(|| Failure::permanent(format!("`{}` ends at {}", self.path.display(), self.size)))?;
        blocking(|| self.look(offset, end))
    }

    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        blocking(|| self.file.read_exact_at(buffer, offset)).map_err(|error| self.failed(error))
    }
}

#[async_trait]
impl BlockTarget for FileDisk {
    async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        blocking(|| self.file.write_all_at(data, offset)).map_err(|error| self.failed(error))
    }

    async fn write_parts(&self, parts: Vec<(u64, Range<usize>)>, data: Vec<u8>) -> Result<Vec<u8>> {
        let (file, direct) = (self.file.clone(), self.direct.clone());
        let written = tokio::task::spawn_blocking(move || {
            let mut cached = 0;
            for (offset, range) in parts {
                let part = &data[range];
                let past = direct.as_ref().map_or(Ok(0), |direct| direct.write(offset, part))?;
                file.write_all_at(&part[past..], offset + past as u64)?;
                cached += (part.len() - past) as u64;
            }
            Ok::<_, std::io::Error>((data, cached))
        })
        .await;
        let written = written.map_err(|error| Failure::transient(format!("writing was cut off: {error}")))?;
        let (data, cached) = written.map_err(|error| self.failed(error))?;
        self.write_back(cached);
        Ok(data)
    }

    async fn write_zeroes(&self, offset: u64, length: u64) -> Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        blocking(|| match fallocate(&*self.file, hole, offset, length) {
            Ok(()) => Ok(()),
            Err(Errno::NOTSUP | Errno::NODEV | Errno::NOSYS | Errno::INVAL) => {
                let zeroes = vec![0; ZEROES_BYTES.min(usize::try_from(length).unwrap_or(ZEROES_BYTES))];
                let (mut at, end) = (offset, offset + length);
                while at < end {
                    let part = &zeroes[..zeroes.len().min((end - at) as usize)];
                    self.file.write_all_at(part, at).map_err(|error| self.failed(error))?;
                    at += part.len() as u64;
                }
                Ok(())
            }
            Err(errno) => Err(self.failed(errno)),
        })
    }

    async fn flush(&self) -> Result<()> {
        if !self.durable {
            return Ok(());
        }
        let disk = self.clone();
        let flushed = tokio::task::spawn_blocking(move || disk.sync(true)).await;
        let flushed = flushed.map_err(|error| Failure::transient(format!("flushing was cut off: {error}")))?;
        flushed.map_err(|error| self.failed(error))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]
mod tests {
    use super::*;

    /// What is written past the page cache, what is not, and where one ends and the other begins.
    #[tokio::test]
    async fn parts_of_any_length_and_place_are_written() {
        const SIZE: usize = 5 << 20;
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("disk.raw");
        let disk = FileDisk::create(&path, SIZE as u64).unwrap();
        let data: Vec<u8> = (0..3usize << 20).map(|at| (at / 511) as u8 | 1).collect();
        let parts =
            [(0, 64 << 10), (65_536, 512), (1 << 20, (2 << 20) + 512), (4 << 20, (1 << 20) - 100), (70_000, 100_000)];
        let mut wanted = vec![0; SIZE];
        let orders = parts.map(|(offset, length)| {
            wanted[offset..offset + length].copy_from_slice(&data[4096..4096 + length]);
            (offset as u64, 4096..4096 + length)
        });
        disk.write_parts(orders.to_vec(), data).await.unwrap();
        disk.flush().await.unwrap();
        assert!(std::fs::read(&path).unwrap() == wanted);
    }

    #[test]
    fn a_write_that_does_not_fit_sectors_is_left_to_the_page_cache() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("disk.raw");
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        let direct = Direct::open(&path).unwrap();
        let data = vec![7; 200 << 10];
        assert_eq!(direct.write(512, &data).unwrap(), 0);
        assert_eq!(direct.write(0, &data[..4096]).unwrap(), 0);
        assert_eq!(direct.write(0, &data[..(128 << 10) + 700]).unwrap(), 128 << 10);
        direct.refused.store(true, Ordering::Relaxed);
        assert_eq!(direct.write(0, &data).unwrap(), 0);
    }
}
