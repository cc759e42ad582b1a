//! Disks as ranges of bytes. Offsets and lengths are bytes, multiples of 512.

use crate::error::Result;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExtentKind {
    /// Has to be read.
    Data,
    /// Reads as zeroes; need not be read.
    Zero,
    /// Not changed since the point this source is compared with.
    Unchanged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
    pub kind: ExtentKind,
}

/// A disk at one frozen moment.
#[async_trait]
pub trait BlockSource: Send + Sync + std::fmt::Debug {
    fn size(&self) -> u64;
    /// What lies in `[offset, offset + length)`, in order, without gaps. May answer for less than was asked (at least
    /// one extent), never for more.
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>>;
    /// Fills `buffer` from `offset`. Reading past the end is `Permanent`.
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;
}

/// A disk that can be written while its machine is off.
#[async_trait]
pub trait BlockTarget: BlockSource {
    async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()>;
    /// Writes parts of a buffer, each to its offset, and hands the memory back. A disk that blocks while it writes takes
    /// the buffer to another thread, so that several of these really run side by side.
    async fn write_parts(&self, parts: Vec<(u64, Range<usize>)>, data: Vec<u8>) -> Result<Vec<u8>> {
        for (offset, range) in parts {
            self.write_at(offset, &data[range]).await?;
        }
        Ok(data)
    }
    async fn write_zeroes(&self, offset: u64, length: u64) -> Result<()>;
    /// Returns once everything written is on stable storage.
    async fn flush(&self) -> Result<()>;
}
