//! Walks a disk's extents in windows, asking for few and long answers.

use crate::pipeline::WINDOW_BYTES;
use muster_ports::{BlockSource, Extent, ExtentKind, Failure, Result};

/// How much of a disk the first question about extents covers, in bytes.
const STRIDE_BYTES: u64 = 1 << 30;

/// How much one covers at most. The next is twice as long after an answer without any data, so that a large disk with
/// few changes is not asked about by the gigabyte; were it scattered after all, its answer has 524,288 extents of 64 KiB,
/// 12 MiB of memory.
const STRIDE_BYTES_MAX: u64 = 32 << 30;

/// A part of one extent: data lies within one aligned window, everything else may be as long as its extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) kind: ExtentKind,
}

impl Stretch {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.length
    }
}

#[derive(Debug)]
pub(crate) struct Walk<'a> {
    source: &'a dyn BlockSource,
    at: u64,
    end: u64,
    stride: u64,
    extents: std::collections::VecDeque<Extent>,
}

impl<'a> Walk<'a> {
    /// From the beginning to `end`, at most the source's size.
    pub(crate) fn new(source: &'a dyn BlockSource, end: u64) -> Self {
        Self { source, at: 0, end: end.min(source.size()), stride: STRIDE_BYTES, extents: Default::default() }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Stretch>> {
        loop {
            while let Some(extent) = self.extents.front_mut() {
                if extent.length == 0 {
                    self.extents.pop_front();
                    continue;
                }
                let length = match extent.kind {
                    ExtentKind::Data => extent.length.min(WINDOW_BYTES - extent.offset % WINDOW_BYTES),
                    ExtentKind::Zero | ExtentKind::Unchanged => extent.length,
                };
                let stretch = Stretch { offset: extent.offset, length, kind: extent.kind };
                extent.offset += length;
                extent.length -= length;
                return Ok(Some(stretch));
            }
            if self.at >= self.end {
                return Ok(None);
            }
            self.ask().await?;
        }
    }

    /// The next extents. What a source answers is checked: a gap would silently lose data.
    async fn ask(&mut self) -> Result<()> {
        let wanted = self.stride.min(self.end - self.at);
        let extents = self.source.extents(self.at, wanted).await?;
        let (begin, limit) = (self.at, self.at + wanted);
        for extent in extents {
            let end = extent.offset.checked_add(extent.length).filter(|end| *end <= limit);
            let Some(end) = end.filter(|_| extent.offset == self.at) else {
                return Err(Failure::permanent(format!(
                    "the disk answered an extent at {} of {} bytes where {} to {limit} was asked",
                    extent.offset, extent.length, self.at
                )));
            };
            self.at = end;
            self.extents.push_back(extent);
        }
        let empty = self.extents.iter().all(|extent| extent.kind != ExtentKind::Data);
        self.stride = if empty { (2 * self.stride).min(STRIDE_BYTES_MAX) } else { STRIDE_BYTES };
        if self.at == begin {
            return Err(Failure::permanent(format!("the disk does not say what lies at {begin}")));
        }
        Ok(())
    }
}
