//! The bare loop: two threads over the same libraries, nothing between them but two counters.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const THREADS: usize = 2;
const WINDOW: u64 = 256 << 10;
const BLOCK: u64 = 64 << 10;

#[derive(Clone, Debug)]
struct Frame {
    disk: Range<u64>,
    stored: Range<u64>,
    nonce: u64,
    tag: [u8; 16],
    raw: bool,
    hash: [u8; 32],
}

#[derive(Debug)]
pub struct Frames {
    path: PathBuf,
    frames: Vec<Frame>,
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    nonce
}

fn cipher() -> Aes256Gcm {
    Aes256Gcm::new(&[7; 32].into())
}

/// The data of these ranges, in windows.
fn windows(path: &Path, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let file = File::open(path).unwrap();
    let mut windows = Vec::new();
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let Ok(begin) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) else { break };
            let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(begin)).unwrap().min(range.end);
            let mut from = (begin - begin % BLOCK).max(range.start);
            while from < end {
                let to = (from - from % WINDOW + WINDOW).min(range.end);
                windows.push(from..to);
                from = to;
            }
            at = end.max(from);
        }
    }
    windows
}

/// Whole windows as frames when `long`, else blocks.
pub fn copy(path: &Path, ranges: &[Range<u64>], into: &Path, long: bool) -> Frames {
    let windows = windows(path, ranges);
    let (next, stored) = (AtomicUsize::new(0), AtomicU64::new(0));
    let frames = Mutex::new(Vec::new());
    let output = File::create(into).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let file = File::open(path).unwrap();
                let (mut plain, mut packed) = (vec![0; WINDOW as usize], Vec::with_capacity(WINDOW as usize * 2));
                let mut compressor = zstd::bulk::Compressor::new(crate::LEVEL).unwrap();
                let cipher = cipher();
                let mut own = Vec::new();
                while let Some(window) = windows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let data = &mut plain[..(window.end - window.start) as usize];
                    file.read_exact_at(data, window.start).unwrap();
                    for range in cut(window, data, long) {
                        let part = &data[(range.start - window.start) as usize..(range.end - window.start) as usize];
                        let hash = *blake3::hash(part).as_bytes();
                        packed.clear();
                        compressor.compress_to_buffer(part, &mut packed).unwrap();
                        let raw = packed.len() >= part.len();
                        if raw {
                            packed.clear();
                            packed.extend_from_slice(part);
                        }
                        let at = stored.fetch_add(packed.len() as u64, Ordering::Relaxed);
                        let sealed =
                            cipher.encrypt_inout_detached(&nonce(at).into(), b"", packed.as_mut_slice().into());
                        let tag = sealed.unwrap().into();
                        output.write_all_at(&packed, at).unwrap();
                        let stored = at..at + packed.len() as u64;
                        own.push(Frame { disk: range, stored, nonce: at, tag, raw, hash });
                    }
                }
                frames.lock().unwrap().extend(own);
            });
        }
    });
    let mut frames = frames.into_inner().unwrap();
    frames.sort_by_key(|frame: &Frame| frame.disk.start);
    Frames { path: into.to_owned(), frames }
}

/// The runs (or single blocks) of a window that are not zero.
fn cut(window: &Range<u64>, data: &[u8], long: bool) -> Vec<Range<u64>> {
    let mut parts: Vec<Range<u64>> = Vec::new();
    let mut at = window.start;
    while at < window.end {
        let end = (at - at % BLOCK + BLOCK).min(window.end);
        if !muster_vault::is_zero(&data[(at - window.start) as usize..(end - window.start) as usize]) {
            match parts.last_mut() {
                Some(last) if long && last.end == at => last.end = end,
                _ => parts.push(at..end),
            }
        }
        at = end;
    }
    parts
}

impl Frames {
    pub fn stored_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| frame.stored.end - frame.stored.start).sum()
    }

    pub fn restore(&self, target: &Path, size: u64) {
        let output = File::create(target).unwrap();
        output.set_len(size).unwrap();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let file = File::open(&self.path).unwrap();
                    let (mut sealed, mut plain) = (vec![0; WINDOW as usize], vec![0; WINDOW as usize]);
                    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
                    let cipher = cipher();
                    while let Some(frame) = self.frames.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let body = &mut sealed[..(frame.stored.end - frame.stored.start) as usize];
                        file.read_exact_at(body, frame.stored.start).unwrap();
                        let (nonce, tag) = (nonce(frame.nonce), frame.tag);
                        cipher.decrypt_inout_detached(&nonce.into(), b"", (&mut *body).into(), &tag.into()).unwrap();
                        let plain = &mut plain[..(frame.disk.end - frame.disk.start) as usize];
                        if frame.raw {
                            plain.copy_from_slice(body);
                        } else {
                            decompressor.decompress_to_buffer(body, plain).unwrap();
                        }
                        assert_eq!(*blake3::hash(plain).as_bytes(), frame.hash);
                        output.write_all_at(plain, frame.disk.start).unwrap();
                    }
                });
            }
        });
    }
}
