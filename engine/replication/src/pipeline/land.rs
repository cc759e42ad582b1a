//! A replica on its way onto a disk.

use crate::pipeline::compare::{self, Comparison, blocks};
use crate::pipeline::walk::{Stretch, Walk};
use crate::pipeline::{WINDOW_BYTES, windows_in_flight};
use futures::{StreamExt, TryStreamExt};
use muster_ports::{BlockSource, BlockTarget, Failure, LandReport, Progress, Result};
use muster_vault::{Replica, is_zero};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Makes a disk with old content equal to the replica, reading what lies here and fetching only what differs. Repeated
/// after a crash it goes on: what is equal by then is not written again.
///
/// `target` must not be smaller; bytes beyond the replica's size are left as they are.
pub async fn apply_differences(
    replica: &Replica,
    target: &dyn BlockTarget,
    progress: &dyn Progress,
) -> Result<LandReport> {
    let size = check_size(replica, target)?;
    let mut report = LandReport::default();
    let local: &dyn BlockSource = target;
    let walk = Walk::new(local, size);
    // What is compared ahead lies behind what is being written, so writing does not disturb it.
    let compared = futures::stream::try_unfold((walk, None::<Stretch>), |(mut walk, left)| async move {
        let next = match left {
            Some(stretch) => Some(stretch),
            None => walk.next().await?,
        };
        let Some(stretch) = next else { return Ok::<_, Failure>(None) };
        let (part, rest) = compare::split(replica, stretch).await?;
        // `Unchanged` has no meaning on a target: it is read in windows like data.
        let length = part.length.min(match part.kind {
            muster_ports::ExtentKind::Unchanged => WINDOW_BYTES - part.offset % WINDOW_BYTES,
            _ => part.length,
        });
        let part = Stretch { length, ..part };
        let rest = rest.map(|rest| rest.end()).or(Some(stretch.end())).filter(|end| *end > part.end());
        let rest = rest.map(|end| Stretch { offset: part.end(), length: end - part.end(), kind: stretch.kind });
        Ok(Some((part, (walk, rest))))
    })
    // Boxed, here and below, so that the whole landing may move between threads.
    .boxed()
    .map_ok(|part| compare::compare(local, replica, part))
    .try_buffered(windows_in_flight());
    futures::pin_mut!(compared);
    while let Some(found) = compared.try_next().await? {
        report.compared_bytes += found.read_bytes;
        report.fetched_bytes += found.fetched_bytes;
        write_differences(target, &found, &mut report).await?;
        progress.report(found.offset + found.length, Some(size));
    }
    target.flush().await?;
    Ok(report)
}

async fn write_differences(target: &dyn BlockTarget, found: &Comparison, report: &mut LandReport) -> Result<()> {
    let mut runs: Vec<(bool, Vec<Range<u64>>)> = Vec::new();
    for block in found.different.iter().flat_map(blocks) {
        let is_data = found.remote(&block).is_some();
        match runs.last_mut() {
            Some((kind, ranges)) if *kind == is_data => compare::push(ranges, block),
            _ => runs.push((is_data, vec![block])),
        }
    }
    for (is_data, range) in
        runs.into_iter().flat_map(|(kind, ranges)| ranges.into_iter().map(move |range| (kind, range)))
    {
        match found.remote(&range).filter(|_| is_data) {
            Some(data) => target.write_at(range.start, data).await?,
            None => target.write_zeroes(range.start, range.end - range.start).await?,
        }
        report.written_bytes += range.end - range.start;
    }
    Ok(())
}

/// Writes the replica onto a disk that is new and all zero; zeroes are not written, so it stays sparse.
pub async fn materialise(replica: &Replica, target: &dyn BlockTarget, progress: &dyn Progress) -> Result<LandReport> {
    let size = check_size(replica, target)?;
    let mut report = LandReport::default();
    let total = replica.data_bytes().await?;
    // Memory that runs hand on to each other.
    let spare = Mutex::new(Vec::<Vec<u8>>::new());
    let spare = &spare;
    let take = || spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    let runs = futures::stream::try_unfold(0u64, |at| async move {
        let run = replica.next_run(at).await?;
        Ok::<_, Failure>(run.map(|run| {
            let end = run.end();
            (run, end)
        }))
    })
    .boxed()
    // Nothing else is on the disk, so the order of writing is free: each run is written where it was opened.
    .map_ok(|run| async move {
        let content = replica.open_run(run, take()).await?;
        let fetched = content.bytes();
        let parts = data_parts(content.pieces(), size);
        let written = parts.iter().map(|(_, range)| range.len() as u64).sum::<u64>();
        let buffer = target.write_parts(parts, content.into_buffer()).await?;
        spare.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        Ok::<_, Failure>((fetched, written))
    })
    .try_buffer_unordered(windows_in_flight());
    futures::pin_mut!(runs);
    while let Some((fetched, written)) = runs.try_next().await? {
        report.fetched_bytes += fetched;
        report.written_bytes += written;
        progress.report(report.fetched_bytes, Some(total));
    }
    target.flush().await?;
    Ok(report)
}

/// Where the blocks that are not zero go on the disk, and where they lie in the run's memory.
fn data_parts<'a>(pieces: impl Iterator<Item = (u64, &'a [u8])>, size: u64) -> Vec<(u64, Range<usize>)> {
    let mut parts = Vec::new();
    // Pieces lie behind each other in memory.
    let mut begin = 0;
    for (offset, data) in pieces {
        let range = offset..(offset + data.len() as u64).min(size);
        for run in data_runs(&range, data) {
            let from = begin + (run.start - range.start) as usize;
            parts.push((run.start, from..from + (run.end - run.start) as usize));
        }
        begin += data.len();
    }
    parts
}

/// The runs of blocks that are not zero.
fn data_runs(range: &Range<u64>, data: &[u8]) -> Vec<Range<u64>> {
    let mut runs = Vec::new();
    for block in blocks(range) {
        if !is_zero(&data[(block.start - range.start) as usize..(block.end - range.start) as usize]) {
            compare::push(&mut runs, block);
        }
    }
    runs
}

fn check_size(replica: &Replica, target: &dyn BlockTarget) -> Result<u64> {
    let (size, here) = (replica.size(), target.size());
    if here < size {
        let point = &replica.image().point;
        return Err(Failure::permanent(format!("the disk has {here} bytes, and point `{point}` needs {size}"))
            .help("give the machine a disk that is at least as large"));
    }
    Ok(size)
}
