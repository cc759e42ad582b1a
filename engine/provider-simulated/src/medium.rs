//! Where the bytes of a disk lie.

use muster_ports::{Failure, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Memory disks are kept in pieces of this many bytes; a piece never written is not there.
const PIECE_BYTES: u64 = 16 * 1024;

#[derive(Debug)]
pub(crate) enum Medium {
    /// Sparse, gone with the process.
    Memory(BTreeMap<u64, Box<[u8]>>),
    /// A raw image file, sparse where the file system can.
    File(File),
}

impl Medium {
    pub(crate) fn memory() -> Self {
        Self::Memory(BTreeMap::new())
    }

    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        match self {
            Self::File(file) => Ok(file.read_exact_at(buffer, offset)?),
            Self::Memory(pieces) => {
                for_pieces(offset, buffer.len(), |piece, inside, range| match pieces.get(&piece) {
                    Some(bytes) => buffer[range.clone()].copy_from_slice(&bytes[inside..inside + range.len()]),
                    None => buffer[range].fill(0),
                });
                Ok(())
            }
        }
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        match self {
            Self::File(file) => Ok(file.write_all_at(data, offset)?),
            Self::Memory(pieces) => {
                for_pieces(offset, data.len(), |piece, inside, range| {
                    let bytes = pieces.entry(piece).or_insert_with(|| vec![0; PIECE_BYTES as usize].into_boxed_slice());
                    bytes[inside..inside + range.len()].copy_from_slice(&data[range]);
                });
                Ok(())
            }
        }
    }

    pub(crate) fn zero(&mut self, offset: u64, length: u64) -> Result<()> {
        match self {
            Self::File(file) => {
                use rustix::fs::{FallocateFlags, fallocate};
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                if fallocate(&*file, flags, offset, length).is_err() {
                    // Not every file system can punch holes; zeroes read the same.
                    let zeroes = vec![0u8; 1 << 20];
                    let mut at = offset;
                    while at < offset + length {
                        let take = (offset + length - at).min(zeroes.len() as u64);
                        file.write_all_at(&zeroes[..take as usize], at)?;
                        at += take;
                    }
                }
                Ok(())
            }
            Self::Memory(pieces) => {
                let mut at = offset;
                while at < offset + length {
                    let piece = at / PIECE_BYTES;
                    let inside = at % PIECE_BYTES;
                    let take = (PIECE_BYTES - inside).min(offset + length - at);
                    if take == PIECE_BYTES {
                        pieces.remove(&piece);
                    } else if let Some(bytes) = pieces.get_mut(&piece) {
                        bytes[inside as usize..(inside + take) as usize].fill(0);
                    }
                    at += take;
                }
                Ok(())
            }
        }
    }

    /// How far from `offset`, at most to `end`, the medium is of one kind, and whether that kind is data.
    pub(crate) fn extent(&self, offset: u64, end: u64) -> Result<(u64, bool)> {
        match self {
            Self::File(file) => {
                use rustix::fs::{SeekFrom, seek};
                use rustix::io::Errno;
                let data = match seek(file, SeekFrom::Data(offset)) {
                    Ok(data) => data,
                    // Nothing but a hole up to the end of the file.
                    Err(Errno::NXIO) => return Ok((end - offset, false)),
                    // The file system cannot tell: everything is data.
                    Err(Errno::INVAL) => return Ok((end - offset, true)),
                    Err(error) => return Err(Failure::from(std::io::Error::from(error))),
                };
                if data > offset {
                    return Ok((data.min(end) - offset, false));
                }
                let hole = seek(file, SeekFrom::Hole(offset)).map_err(std::io::Error::from)?;
                Ok((hole.clamp(offset + 1, end) - offset, true))
            }
            Self::Memory(pieces) => {
                let first = offset / PIECE_BYTES;
                if pieces.contains_key(&first) {
                    return Ok((((first + 1) * PIECE_BYTES).min(end) - offset, true));
                }
                let next = pieces.range(first..).next().map_or(end, |(piece, _)| (piece * PIECE_BYTES).min(end));
                Ok((next - offset, false))
            }
        }
    }

    pub(crate) fn flush(&self) -> Result<()> {
        match self {
            Self::File(file) => Ok(file.sync_data()?),
            Self::Memory(_) => Ok(()),
        }
    }

    pub(crate) fn grow(&mut self, size: u64) -> Result<()> {
        match self {
            Self::File(file) => Ok(file.set_len(size)?),
            Self::Memory(_) => Ok(()),
        }
    }
}

/// Calls back for every piece that a range touches: its number, the offset in it, the range of the caller's bytes.
fn for_pieces(offset: u64, length: usize, mut each: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut done = 0usize;
    while done < length {
        let at = offset + done as u64;
        let inside = (at % PIECE_BYTES) as usize;
        let take = (PIECE_BYTES as usize - inside).min(length - done);
        each(at / PIECE_BYTES, inside, done..done + take);
        done += take;
    }
}
