//! Frames: a range of disk, compressed when that makes it smaller, with the BLAKE3 of its plain content.

use crate::error::VaultError;
use std::cell::RefCell;
use std::fmt;
use zstd::bulk::{Compressor, Decompressor};

/// How the bytes of a frame are stored. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Raw = 0,
    Zstd = 1,
}

impl Compression {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A frame ready to be sealed. Made on any thread; only the sealing is in order.
#[derive(Clone)]
pub struct Frame {
    pub(crate) length: u32,
    pub(crate) hash: [u8; 32],
    pub(crate) compression: Compression,
    pub(crate) stored: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("length", &self.length).field("stored", &self.stored.len()).finish()
    }
}

impl Frame {
    /// Bytes of disk.
    pub fn length(&self) -> u64 {
        u64::from(self.length)
    }
    /// Bytes it takes in the vault, without its index entry.
    pub fn stored_bytes(&self) -> u64 {
        self.stored.len() as u64 + crate::cipher::TAG_BYTES as u64
    }
    /// BLAKE3 of the plain content.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }
    /// Its memory, for the next frame.
    pub fn into_buffer(self) -> Vec<u8> {
        self.stored
    }
}

/// Compresses frames, one after another, with one zstd context.
pub struct Packer {
    compressor: Compressor<'static>,
    level: i32,
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").field("level", &self.level).finish()
    }
}

impl Packer {
    /// The level from the next frame on.
    pub fn set_level(&mut self, level: i32) -> Result<(), VaultError> {
        if level != self.level {
            self.compressor.set_compression_level(level).map_err(|source| VaultError::Compression { level, source })?;
            self.level = level;
        }
        Ok(())
    }

    /// `level` is a zstd level; 1 to 19 make sense.
    pub fn new(level: i32) -> Result<Self, VaultError> {
        let compressor = Compressor::new(level).map_err(|source| VaultError::Compression { level, source })?;
        Ok(Self { compressor, level })
    }

    /// # Errors
    /// `OutOfRange` when `plain` is empty or larger than a frame may be.
    pub fn pack(&mut self, plain: &[u8]) -> Result<Frame, VaultError> {
        self.pack_into(plain, Vec::new())
    }

    /// Like [`Packer::pack`], in a buffer that was used before ([`Frame::into_buffer`]): a stream of frames then costs no
    /// allocation.
    pub fn pack_into(&mut self, plain: &[u8], buffer: Vec<u8>) -> Result<Frame, VaultError> {
        if plain.is_empty() || plain.len() > crate::FRAME_BYTES_MAX {
            let (end, size) = (plain.len() as u64, crate::FRAME_BYTES_MAX as u64);
            return Err(VaultError::OutOfRange { offset: 0, end, size });
        }
        let mut stored = buffer;
        stored.clear();
        stored.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        self.compressor
            .compress_to_buffer(plain, &mut stored)
            .map_err(|source| VaultError::Compression { level: self.level, source })?;
        let compression = if stored.len() < plain.len() { Compression::Zstd } else { Compression::Raw };
        if compression == Compression::Raw {
            stored.clear();
            stored.extend_from_slice(plain);
        }
        // Bounded by FRAME_BYTES_MAX above.
        Ok(Frame { length: plain.len() as u32, hash: *blake3::hash(plain).as_bytes(), compression, stored })
    }
}

thread_local! {
    /// One zstd context for each thread that opens frames: making one costs more than a small frame.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Fills `plain`, which has the length the index says, or says why it cannot.
pub(crate) fn unpack(stored: &[u8], compression: Compression, plain: &mut [u8]) -> Result<(), String> {
    let length = match compression {
        Compression::Raw => {
            if stored.len() == plain.len() {
                plain.copy_from_slice(stored);
            }
            stored.len()
        }
        Compression::Zstd => DECOMPRESSOR
            .with_borrow_mut(|slot| -> std::io::Result<usize> {
                let decompressor = match slot {
                    Some(decompressor) => decompressor,
                    None => slot.insert(Decompressor::new()?),
                };
                decompressor.decompress_to_buffer(stored, plain)
            })
            .map_err(|error| format!("does not decompress ({error})"))?,
    };
    if plain.len() != length {
        return Err(format!("holds {length} bytes where the index says {}", plain.len()));
    }
    Ok(())
}

/// Whether all bytes are zero. Compares in words that the compiler turns into vectors.
pub fn is_zero(data: &[u8]) -> bool {
    let mut chunks = data.chunks_exact(256);
    chunks.all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0) && {
        // `all` has consumed every whole chunk.
        data[data.len() - data.len() % 256..].iter().all(|byte| *byte == 0)
    }
}
