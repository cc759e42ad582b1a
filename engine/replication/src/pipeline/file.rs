//! A file or block device of this machine as a disk: for images, for seeds that travel, for whatever can be read.

use async_trait::async_trait;
use muster_ports::{BlockSource, BlockTarget, Extent, ExtentKind, Failure, Result};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Sparse-aware: holes are neither read nor written.
#[derive(Clone, Debug)]
pub struct FileDisk {
    file: Arc<File>,
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

impl FileDisk {
    /// An existing image or block device, to be read.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(path, File::options().read(true).open(path))
    }

    /// An existing image or block device, to be read and written.
    pub fn open_to_write(path: &Path) -> Result<Self> {
        Self::of(path, File::options().read(true).write(true).open(path))
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
        Ok(Self { file: Arc::new(file), path: path.to_owned(), size, durable: true, write_back: Arc::default() })
    }

    fn of(path: &Path, opened: std::io::Result<File>) -> Result<Self> {
        let during = |error: std::io::Error| Failure::from(error).during(format!("open `{}`", path.display()));
        let file = opened.map_err(during)?;
        // Of a block device the length of the file says nothing, its end does.
        let size = seek(&file, SeekFrom::End(0)).map_err(|errno| during(errno.into()))?;
        Ok(Self { file: Arc::new(file), path: path.to_owned(), size, durable: true, write_back: Arc::default() })
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
        let file = self.file.clone();
        let bytes = parts.iter().map(|(_, range)| range.len() as u64).sum();
        let written = tokio::task::spawn_blocking(move || {
            for (offset, range) in parts {
                file.write_all_at(&data[range], offset)?;
            }
            Ok::<_, std::io::Error>(data)
        })
        .await;
        let written = written.map_err(|error| Failure::transient(format!("writing was cut off: {error}")))?;
        let data = written.map_err(|error| self.failed(error))?;
        self.write_back(bytes);
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
