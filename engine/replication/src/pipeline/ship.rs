//! One disk of a cut on its way to the vault.

use crate::pipeline::compare::{self, blocks};
use crate::pipeline::level::Level;
use crate::pipeline::pack::Packers;
use crate::pipeline::rate::{Pacer, Pacers};
use crate::pipeline::walk::{Stretch, Walk};
use crate::pipeline::{WINDOW_BYTES, windows_in_flight};
use futures::{Stream, TryStreamExt};
use muster_ports::{BlockSource, ExtentKind, Progress, Result, ShipMode, ShipOrder, ShippedDisk, WriterId};
use muster_vault::{Frame, Replica, SegmentWriter, Vault, is_zero};
use std::ops::Range;
use std::sync::Arc;
use tokio::time::Instant;

/// Reads `source` as the order says and writes it to the vault. Nothing counts until a point names the segments, so this
/// may be dropped or fail at any moment.
///
/// In `Full` mode zeroes are left out: the segments begin a new image, and nothing may lie below them. In `Delta` and
/// `Compare` they are written, because they cover what older segments hold. `Compare` reads all that the source does not
/// call `Zero`, also what it calls `Unchanged`.
pub async fn ship(
    vault: &Vault,
    source: &dyn BlockSource,
    order: &ShipOrder,
    writer: &WriterId,
    progress: &dyn Progress,
) -> Result<ShippedDisk> {
    ship_paced(vault, source, order, writer, progress, &Pacers::default()).await
}

/// Like [`ship`], sharing the rates of `pacers` with the other shipments of the process.
pub async fn ship_paced(
    vault: &Vault,
    source: &dyn BlockSource,
    order: &ShipOrder,
    writer: &WriterId,
    progress: &dyn Progress,
    pacers: &Pacers,
) -> Result<ShippedDisk> {
    let pacer = match &order.pace {
        Some(pace) => pacers.pacer(pace).await,
        None => None,
    };
    let shipped = match Shipment::new(vault, source, order, writer, pacer) {
        Ok(shipment) => shipment.run(progress).await,
        Err(failure) => Err(failure),
    };
    shipped.map_err(|failure| failure.during(format_args!("ship disk `{}` of `{}`", order.disk, order.machine)))
}

/// What became of one part of the disk.
#[derive(Debug, Default)]
struct Packed {
    end: u64,
    read_bytes: u64,
    zero_bytes: u64,
    /// In disk order.
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Zero(Range<u64>),
    Data(u64, Frame),
}

struct Shipment<'a> {
    source: &'a dyn BlockSource,
    mode: Mode,
    packers: Packers,
    level: Level,
    segments: SegmentWriter,
    pacer: Option<Arc<Pacer>>,
}

#[derive(Clone, Debug)]
enum Mode {
    Full,
    Delta,
    Compare(Replica),
}

impl<'a> Shipment<'a> {
    fn new(
        vault: &Vault,
        source: &'a dyn BlockSource,
        order: &ShipOrder,
        writer: &WriterId,
        pacer: Option<Arc<Pacer>>,
    ) -> Result<Self> {
        let mode = match &order.mode {
            ShipMode::Full => Mode::Full,
            ShipMode::Delta => Mode::Delta,
            ShipMode::Compare { image } => Mode::Compare(vault.replica(image)),
        };
        let level = Level::new(order.compression);
        Ok(Self {
            source,
            mode,
            packers: Packers::new(level.get())?,
            segments: vault.segment_writer(&order.lineage, order.epoch, writer, level.get()),
            level,
            pacer,
        })
    }

    async fn run(self, progress: &dyn Progress) -> Result<ShippedDisk> {
        let Self { source, mode, packers, mut level, mut segments, pacer } = self;
        let size = source.size();
        let mut shipped = ShippedDisk::default();
        let stretches = stretches(Walk::new(source, size), mode.clone());
        let packed = stretches
            .map_ok(|stretch| pack(source, mode.clone(), packers.clone(), stretch))
            .try_buffered(windows_in_flight());
        futures::pin_mut!(packed);
        let (mut since, mut counted) = (Instant::now(), 0);
        while let Some(packed) = packed.try_next().await? {
            let waited_for_frames = since.elapsed();
            let storing = Instant::now();
            shipped.read_bytes += packed.read_bytes;
            shipped.zero_bytes += packed.zero_bytes;
            for part in packed.parts {
                match part {
                    Part::Zero(range) if !matches!(mode, Mode::Full) => {
                        segments.zero(range.start, range.end - range.start).await?;
                    }
                    Part::Zero(_) => {}
                    Part::Data(offset, frame) => {
                        shipped.sent_bytes += frame.length();
                        segments.append(offset, &frame).await?;
                        packers.take_back(frame);
                    }
                }
            }
            if let Some(pacer) = &pacer {
                let stored = segments.stored_bytes();
                pacer.take(stored.saturating_sub(std::mem::replace(&mut counted, stored))).await;
            }
            level.passed(packed.read_bytes, waited_for_frames, storing.elapsed(), since.elapsed());
            packers.set_level(level.get());
            since = Instant::now();
            progress.report(packed.end, Some(size));
        }
        shipped.segments = segments.finish().await?;
        shipped.stored_bytes = shipped.segments.iter().map(|segment| segment.stored_bytes).sum();
        progress.report(size, Some(size));
        Ok(shipped)
    }
}

/// The parts of the disk that this mode has to look at, in order.
fn stretches<'a>(walk: Walk<'a>, mode: Mode) -> impl Stream<Item = Result<Stretch>> + 'a {
    futures::stream::try_unfold((walk, mode, None), |(mut walk, mode, left)| async move {
        let next = match left {
            Some(stretch) => Some(stretch),
            None => walk.next().await?,
        };
        let Some(stretch) = next else { return Ok(None) };
        let (part, rest) = match &mode {
            Mode::Compare(replica) => {
                let stretch = windowed(believed(stretch));
                compare::split(replica, stretch).await?
            }
            Mode::Full => (windowed(believed(stretch)), None),
            Mode::Delta => (windowed(stretch), None),
        };
        let end = rest.map_or(part.end(), |rest| rest.end()).max(stretch.end());
        let rest = (part.end() < end).then(|| Stretch { offset: part.end(), length: end - part.end(), ..stretch });
        Ok(Some((part, (walk, mode, rest))))
    })
}

/// `Unchanged` counts as data where nothing is there to be compared with, or where it is not trusted.
fn believed(stretch: Stretch) -> Stretch {
    match stretch.kind {
        ExtentKind::Unchanged => Stretch { kind: ExtentKind::Data, ..stretch },
        _ => stretch,
    }
}

/// Data cut at the end of its window.
fn windowed(stretch: Stretch) -> Stretch {
    match stretch.kind {
        ExtentKind::Data => {
            Stretch { length: stretch.length.min(WINDOW_BYTES - stretch.offset % WINDOW_BYTES), ..stretch }
        }
        ExtentKind::Zero | ExtentKind::Unchanged => stretch,
    }
}

/// Reads, compares and compresses one part.
async fn pack(source: &dyn BlockSource, mode: Mode, packers: Packers, part: Stretch) -> Result<Packed> {
    let mut packed = Packed { end: part.end(), ..Packed::default() };
    if let Mode::Compare(replica) = &mode {
        let found = compare::compare(source, replica, part).await?;
        packed.read_bytes = found.read_bytes;
        let different: Vec<Range<u64>> = found.different.iter().flat_map(blocks).collect();
        let zero = |block: &Range<u64>| found.local(block).is_none();
        packed.zero_bytes = different.iter().filter(|block| zero(block)).map(|block| block.end - block.start).sum();
        let (zeroes, frames): (Vec<_>, Vec<_>) = different.into_iter().partition(zero);
        packed.parts =
            packers.pack(found.into_local(), part.offset, frames).await?.into_iter().map(data_part).collect();
        packed.parts.extend(zeroes.into_iter().map(Part::Zero));
        packed.parts.sort_by_key(Part::offset);
        return Ok(packed);
    }
    match part.kind {
        ExtentKind::Unchanged => return Ok(packed),
        ExtentKind::Zero => {
            packed.zero_bytes = part.length;
            packed.parts.push(Part::Zero(part.offset..part.end()));
            return Ok(packed);
        }
        ExtentKind::Data => {}
    }
    let mut plain = packers.plain();
    if (plain.len() as u64) < part.length {
        plain.resize(WINDOW_BYTES as usize, 0);
    }
    // Bounded by a window.
    let data = &mut plain[..part.length as usize];
    source.read_at(part.offset, data).await?;
    packed.read_bytes = part.length;
    let mut frames: Vec<Range<u64>> = Vec::new();
    for block in blocks(&(part.offset..part.end())) {
        if is_zero(&data[(block.start - part.offset) as usize..(block.end - part.offset) as usize]) {
            packed.zero_bytes += block.end - block.start;
            packed.parts.push(Part::Zero(block));
        } else if matches!(mode, Mode::Full) {
            // Long frames compress better; a first copy is read in order.
            compare::push(&mut frames, block);
        } else {
            frames.push(block);
        }
    }
    packed.parts.extend(packers.pack(plain, part.offset, frames).await?.into_iter().map(data_part));
    packed.parts.sort_by_key(Part::offset);
    Ok(packed)
}

impl Part {
    fn offset(&self) -> u64 {
        match self {
            Self::Zero(range) => range.start,
            Self::Data(offset, _) => *offset,
        }
    }
}

fn data_part((offset, frame): (u64, Frame)) -> Part {
    Part::Data(offset, frame)
}
