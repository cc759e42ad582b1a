//! Disks as the pipeline sees them, over NBD.

use crate::limits::{EXTENTS, GRAIN_BYTES};
use crate::process::ProcessId;
use async_trait::async_trait;
use muster_nbd::{ALLOCATION_ZERO, BASE_ALLOCATION, BITMAP_DIRTY, Client};
use muster_ports::{BlockSource, BlockTarget, Extent, ExtentKind, Failure, Result};
use rustix::process::Signal;

/// One disk of an open cut.
#[derive(Debug)]
pub(crate) struct CutDisk {
    pub(crate) client: Client,
    /// The context that says what changed, when only changes are wanted.
    pub(crate) changed: Option<String>,
    /// Whoever holds the cut; when it is gone, so is the cut.
    pub(crate) holder: ProcessId,
}

impl CutDisk {
    /// A lost connection to a holder that has ended is not a matter of trying again.
    fn explain(&self, failure: Failure) -> Failure {
        if self.holder.is_alive() { failure } else { lost(&failure.message) }
    }
}

pub(crate) fn lost(what: &str) -> Failure {
    Failure::transient(format!("the machine stopped while its cut was open, and the cut is lost: {what}"))
        .help("the next cut reads what this one missed")
}

#[async_trait]
impl BlockSource for CutDisk {
    fn size(&self) -> u64 {
        self.client.size()
    }

    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        let length = bounded(self.size(), offset, length)?;
        let found = match &self.changed {
            None => allocation(&self.client, offset, length).await,
            Some(context) => changes(&self.client, context, offset, length).await,
        };
        found.map_err(|failure| self.explain(failure))
    }

    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.client.read_at(offset, buffer).await.map_err(|error| self.explain(error))
    }
}

/// A disk of a machine that is off, open to be written. When it goes, so does the daemon that has it open.
#[derive(Debug)]
pub(crate) struct OpenDisk {
    pub(crate) client: Client,
    pub(crate) daemon: ProcessId,
}

impl Drop for OpenDisk {
    fn drop(&mut self) {
        // It flushes and ends; whoever needs the disk next waits for that.
        self.daemon.signal(Signal::TERM);
    }
}

#[async_trait]
impl BlockSource for OpenDisk {
    fn size(&self) -> u64 {
        self.client.size()
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        let length = bounded(self.size(), offset, length)?;
        allocation(&self.client, offset, length).await
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.client.read_at(offset, buffer).await
    }
}

#[async_trait]
impl BlockTarget for OpenDisk {
    async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.client.write_at(offset, data).await
    }
    async fn write_zeroes(&self, offset: u64, length: u64) -> Result<()> {
        self.client.write_zeroes(offset, length).await
    }
    async fn flush(&self) -> Result<()> {
        self.client.flush().await
    }
}

fn bounded(size: u64, offset: u64, length: u64) -> Result<u64> {
    if offset >= size || length == 0 {
        return Err(Failure::permanent(format!(
            "bytes {offset} to {offset}+{length} are not on a disk of {size} bytes"
        )));
    }
    Ok(length.min(size - offset))
}

/// Changed ranges as data or zeroes, the others as unchanged. Ends early rather than with too long a list.
async fn changes(client: &Client, context: &str, offset: u64, length: u64) -> Result<Vec<Extent>> {
    let mut extents = Vec::new();
    let mut at = offset;
    for status in client.block_status(context, offset, length).await? {
        let end = at.saturating_add(status.length).min(offset + length);
        if end <= at {
            break;
        }
        if status.flags & BITMAP_DIRTY == 0 {
            push(&mut extents, Extent { offset: at, length: end - at, kind: ExtentKind::Unchanged });
            at = end;
            continue;
        }
        while at < end {
            for extent in allocation(client, at, end - at).await? {
                at = extent.offset + extent.length;
                push(&mut extents, extent);
            }
            if extents.len() > EXTENTS {
                return Ok(extents);
            }
        }
    }
    filled(extents, offset)
}

async fn allocation(client: &Client, offset: u64, length: u64) -> Result<Vec<Extent>> {
    let statuses = client.block_status(BASE_ALLOCATION, offset, length).await?;
    let statuses = statuses.iter().map(|status| (status.length, status.flags & ALLOCATION_ZERO != 0));
    filled(grained(offset, length, client.size(), statuses), offset)
}

fn filled(extents: Vec<Extent>, offset: u64) -> Result<Vec<Extent>> {
    if extents.is_empty() {
        return Err(Failure::transient(format!("the export says nothing about the bytes from {offset} on")));
    }
    Ok(extents)
}

/// Whole grains only: a grain that is zero in part is data, so that nobody cuts a frame in pieces.
fn grained(offset: u64, length: u64, size: u64, statuses: impl Iterator<Item = (u64, bool)>) -> Vec<Extent> {
    let limit = offset + length;
    let mut extents = Vec::new();
    let mut at = offset;
    for (step, zero) in statuses {
        let end = at.saturating_add(step).min(limit);
        if end <= at || extents.len() > EXTENTS {
            break;
        }
        let up = if at == offset { at } else { at.next_multiple_of(GRAIN_BYTES).min(end) };
        let down = if end == size || end == limit { end } else { end / GRAIN_BYTES * GRAIN_BYTES };
        if zero && up < down {
            push(&mut extents, Extent { offset: at, length: up - at, kind: ExtentKind::Data });
            push(&mut extents, Extent { offset: up, length: down - up, kind: ExtentKind::Zero });
            push(&mut extents, Extent { offset: down, length: end - down, kind: ExtentKind::Data });
        } else {
            push(&mut extents, Extent { offset: at, length: end - at, kind: ExtentKind::Data });
        }
        at = end;
    }
    extents
}

/// Joins with the one before when they are of a kind; leaves empty ones out.
fn push(extents: &mut Vec<Extent>, extent: Extent) {
    match extents.last_mut() {
        _ if extent.length == 0 => {}
        Some(last) if last.kind == extent.kind && last.offset + last.length == extent.offset => {
            last.length += extent.length;
        }
        _ => extents.push(extent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: u64 = GRAIN_BYTES;

    fn kinds(extents: &[Extent]) -> Vec<(u64, u64, ExtentKind)> {
        extents.iter().map(|extent| (extent.offset, extent.length, extent.kind)).collect()
    }

    #[test]
    fn zeroes_shrink_to_whole_grains_and_data_takes_the_rest() {
        let found = grained(0, 8 * G, 8 * G, [(G / 2, false), (3 * G, true), (G, false), (10 * G, true)].into_iter());
        assert_eq!(
            kinds(&found),
            [
                (0, G, ExtentKind::Data),
                (G, 2 * G, ExtentKind::Zero),
                (3 * G, 2 * G, ExtentKind::Data),
                (5 * G, 3 * G, ExtentKind::Zero)
            ]
        );
    }

    #[test]
    fn an_answer_never_leaves_the_question() {
        let found = grained(G, 2 * G, 100 * G, [(50 * G, false)].into_iter());
        assert_eq!(kinds(&found), [(G, 2 * G, ExtentKind::Data)]);
        assert!(bounded(10, 10, 1).is_err());
        assert_eq!(bounded(10, 4, 100).unwrap(), 6);
    }

    #[test]
    fn the_odd_end_of_a_disk_may_be_zero() {
        let found = grained(0, G + 512, G + 512, [(G + 512, true)].into_iter());
        assert_eq!(kinds(&found), [(0, G + 512, ExtentKind::Zero)]);
    }
}
