//! The threads that compress and hash: one for each core, each with one zstd context, so that contexts stay in the caches
//! of their cores. They take windows from one queue and end with their shipment.

use crate::pipeline::WINDOWS_MAX;
use muster_ports::{Failure, Result};
use muster_vault::{Frame, Packer, VaultError};
use std::ops::Range;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Frames of one window at most.
const FRAMES_PER_WINDOW: usize = 4;

/// Cheap to clone. Memory goes round: plain windows and packed frames are used again, never more than windows in flight
/// need.
#[derive(Clone, Debug)]
pub(crate) struct Packers {
    shared: Arc<Shared>,
    /// As long as somebody can send, the threads live. Never longer than windows in flight.
    jobs: Sender<Job>,
}

#[derive(Debug)]
struct Shared {
    level: AtomicI32,
    plains: Mutex<Vec<Vec<u8>>>,
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// Ranges of a window that begins at `offset`, to be packed.
#[derive(Debug)]
struct Job {
    plain: Vec<u8>,
    offset: u64,
    frames: Vec<Range<u64>>,
    done: oneshot::Sender<Result<Vec<(u64, Frame)>, VaultError>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it is held leaves a whole list behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Packers {
    pub(crate) fn new(level: i32) -> Result<Self> {
        let (jobs, queue) = channel();
        let (level, queue) = (AtomicI32::new(level), Arc::new(Mutex::new(queue)));
        let shared = Arc::new(Shared { level, plains: Mutex::default(), buffers: Mutex::default() });
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..cores.clamp(1, WINDOWS_MAX) {
            let (queue, shared) = (queue.clone(), shared.clone());
            let started =
                std::thread::Builder::new().name("muster-pack".to_owned()).spawn(move || work(&queue, &shared));
            started.map_err(|error| Failure::from(error).during("start a thread that compresses"))?;
        }
        Ok(Self { shared, jobs })
    }

    /// The level from the next window on.
    pub(crate) fn set_level(&self, level: i32) {
        self.shared.level.store(level, Ordering::Relaxed);
    }

    /// Memory for a window; what it holds is what the last one left.
    pub(crate) fn plain(&self) -> Vec<u8> {
        lock(&self.shared.plains).pop().unwrap_or_default()
    }

    /// The memory of a frame that is sealed.
    pub(crate) fn take_back(&self, frame: Frame) {
        let mut buffers = lock(&self.shared.buffers);
        if buffers.len() < FRAMES_PER_WINDOW * WINDOWS_MAX {
            buffers.push(frame.into_buffer());
        }
    }

    /// Compresses and hashes ranges of a window that begins at `offset`.
    pub(crate) async fn pack(&self, plain: Vec<u8>, offset: u64, frames: Vec<Range<u64>>) -> Result<Vec<(u64, Frame)>> {
        if frames.is_empty() {
            self.shared.keep(plain);
            return Ok(Vec::new());
        }
        let cut_off = || Failure::transient("compressing was cut off");
        let (done, packed) = oneshot::channel();
        self.jobs.send(Job { plain, offset, frames, done }).map_err(|_| cut_off())?;
        Ok(packed.await.map_err(|_| cut_off())??)
    }
}

impl Shared {
    fn keep(&self, plain: Vec<u8>) {
        let mut plains = lock(&self.plains);
        if plain.capacity() > 0 && plains.len() < WINDOWS_MAX {
            plains.push(plain);
        }
    }

    fn pack(&self, packer: &mut Packer, job: &Job) -> Result<Vec<(u64, Frame)>, VaultError> {
        packer.set_level(self.level.load(Ordering::Relaxed))?;
        let mut packed = Vec::with_capacity(job.frames.len());
        for range in &job.frames {
            let (from, to) = ((range.start - job.offset) as usize, (range.end - job.offset) as usize);
            let buffer = lock(&self.buffers).pop().unwrap_or_default();
            packed.push((range.start, packer.pack_into(&job.plain[from..to], buffer)?));
        }
        Ok(packed)
    }
}

fn work(queue: &Mutex<Receiver<Job>>, shared: &Shared) {
    let mut packer = None;
    loop {
        // Whoever waits in line waits for the lock instead of the queue: the same.
        let Ok(job) = lock(queue).recv() else { return };
        let made = match packer.take() {
            Some(packer) => Ok(packer),
            None => Packer::new(shared.level.load(Ordering::Relaxed)),
        };
        let packed = made.and_then(|mut made| {
            let packed = shared.pack(&mut made, &job);
            packer = Some(made);
            packed
        });
        shared.keep(job.plain);
        // Nobody waits for the rest of a shipment that was given up.
        let _ = job.done.send(packed);
    }
}
