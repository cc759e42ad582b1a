//! A part of a disk as a stream that blocks, for readers of file systems that know nothing of tasks.

use muster_ports::{BlockSource, Failure};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Read at once, in bytes: readers of file systems ask for a few bytes at a time, many of them near each other.
const WINDOW_BYTES: u64 = 64 << 10;
/// Windows kept: a table, a folder and a file or two.
const WINDOWS: usize = 16;

/// The disk could not be read: nothing is said about the file system on it.
#[derive(Debug)]
pub(crate) struct OfSource(pub(crate) Failure);

impl std::fmt::Display for OfSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for OfSource {}

/// May only be used on a thread that may block.
#[derive(Clone, Debug)]
pub(crate) struct PartReader {
    source: Arc<dyn BlockSource>,
    runtime: Handle,
    /// Where the part begins, and its length.
    begin: u64,
    length: u64,
    at: u64,
    /// The newest first, each with its place on the disk.
    windows: VecDeque<(u64, Vec<u8>)>,
}

impl PartReader {
    /// `None` when the part does not lie within the disk.
    pub(crate) fn new(source: Arc<dyn BlockSource>, runtime: Handle, begin: u64, length: u64) -> Option<Self> {
        begin.checked_add(length).filter(|end| *end <= source.size())?;
        Some(Self { source, runtime, begin, length, at: 0, windows: VecDeque::new() })
    }

    pub(crate) fn read_exactly(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(buffer.len() as u64).filter(|end| *end <= self.length);
        end.ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, "beyond the end of the partition"))?;
        let mut done = 0;
        while done < buffer.len() {
            let place = self.begin + at + done as u64;
            let window = self.window(place - place % WINDOW_BYTES)?;
            let from = (place % WINDOW_BYTES) as usize;
            let part = (window.len() - from).min(buffer.len() - done);
            buffer[done..done + part].copy_from_slice(&window[from..from + part]);
            done += part;
        }
        Ok(())
    }

    fn window(&mut self, place: u64) -> io::Result<&[u8]> {
        match self.windows.iter().position(|(at, _)| *at == place) {
            Some(0) => {}
            Some(index) => {
                if let Some(window) = self.windows.remove(index) {
                    self.windows.push_front(window);
                }
            }
            None => {
                let length = WINDOW_BYTES.min(self.source.size() - place);
                let mut window = vec![0; length as usize];
                let read = self.runtime.block_on(self.source.read_at(place, &mut window));
                read.map_err(|failure| io::Error::other(OfSource(failure)))?;
                self.windows.truncate(WINDOWS - 1);
                self.windows.push_front((place, window));
            }
        }
        Ok(&self.windows[0].1)
    }
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.at);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.read_exactly(self.at, &mut buffer[..length])?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for PartReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a seek to before the beginning"))?;
        Ok(self.at)
    }
}

/// Readers that could write want this; a point never changes.
impl Write for PartReader {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::new(ErrorKind::ReadOnlyFilesystem, "a recovery point is never written"))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ext4_view::Ext4Read for PartReader {
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        Ok(self.read_exactly(at, buffer)?)
    }
}
