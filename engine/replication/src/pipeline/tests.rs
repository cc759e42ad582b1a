//! Ship and land against plain arrays of bytes.

// A list of one range is what is meant here.
#![allow(clippy::single_range_in_vec_init)]

use crate::pipeline::{apply_differences, materialise, ship};
use async_trait::async_trait;
use muster_ports::*;
use muster_vault::{KeySource, Vault};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

const BLOCK: usize = 64 << 10;

/// A disk in memory that says of ranges what it is told to.
#[derive(Debug, Default)]
struct Disk {
    bytes: Mutex<Vec<u8>>,
    /// Unchanged in all other places when given.
    dirty: Option<Vec<Range<usize>>>,
    written: Mutex<u64>,
}

impl Disk {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Mutex::new(bytes), ..Self::default() }
    }
    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

#[async_trait]
impl BlockSource for Disk {
    fn size(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        let bytes = self.bytes.lock().unwrap();
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        // Answers for less than was asked, as it may.
        while at < offset + length && extents.len() < 3 {
            let end = (at - at % 4096 + 4096).min(offset + length);
            let range = at as usize..end as usize;
            let changed = |dirty: &Vec<Range<usize>>| dirty.iter().any(|d| d.start < range.end && range.start < d.end);
            let kind = match () {
                () if self.dirty.as_ref().is_some_and(|dirty| !changed(dirty)) => ExtentKind::Unchanged,
                () if bytes[range].iter().all(|byte| *byte == 0) => ExtentKind::Zero,
                () => ExtentKind::Data,
            };
            match extents.last_mut() {
                Some(last) if last.kind == kind => last.length += end - at,
                _ => extents.push(Extent { offset: at, length: end - at, kind }),
            }
            at = end;
        }
        Ok(extents)
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let from = offset as usize;
        let part = bytes.get(from..from + buffer.len()).ok_or_else(|| Failure::permanent("past the end"))?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

#[async_trait]
impl BlockTarget for Disk {
    async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.bytes.lock().unwrap()[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        *self.written.lock().unwrap() += data.len() as u64;
        Ok(())
    }
    async fn write_zeroes(&self, offset: u64, length: u64) -> Result<()> {
        self.write_at(offset, &vec![0; length as usize]).await
    }
    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}

struct Room {
    _folder: tempfile::TempDir,
    vault: Vault,
}

async fn room() -> Room {
    let folder = tempfile::tempdir().unwrap();
    let key = KeySource::generate_file(&folder.path().join("key"), &SystemRandom).unwrap();
    let url = format!("file://{}/vault", folder.path().display());
    let vault = Vault::init(&url, &key, &SystemRandom).await.unwrap();
    Room { _folder: folder, vault }
}

impl Room {
    async fn ship(&self, disk: &dyn BlockSource, mode: ShipMode, rate_limit: Option<u64>) -> ShippedDisk {
        let order = ShipOrder {
            vault: self.vault.url().to_owned(),
            epoch: Epoch(1),
            barrier: BarrierId::new("b"),
            machine: MachineName::new("db"),
            disk: DiskName::new("root"),
            lineage: LineageId::new("l1"),
            mode,
            compression: 1,
            rate_limit: None,
            pace: rate_limit.map(|rate| Pace {
                shared_by: "test".to_owned(),
                spans: vec![PaceSpan { millis: 0, bytes_per_second: Some(rate) }],
            }),
            seed: None,
        };
        ship(&self.vault, disk, &order, &WriterId::new("agent@host:1"), &Silent).await.unwrap()
    }
    fn image(&self, size: usize, segments: &[SegmentRef]) -> ReplicaImage {
        ReplicaImage {
            vault: self.vault.url().to_owned(),
            point: PointId::new("p"),
            size_bytes: size as u64,
            segments: segments.to_vec(),
        }
    }
    async fn read(&self, size: usize, segments: &[SegmentRef]) -> Vec<u8> {
        let mut bytes = vec![0xee; size];
        self.vault.replica(&self.image(size, segments)).read(0, &mut bytes).await.unwrap();
        bytes
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[derive(Clone, Debug)]
struct Patch {
    at: usize,
    length: usize,
    /// `None` writes zeroes.
    seed: Option<u64>,
}

fn patches(size: usize) -> impl Strategy<Value = Vec<Patch>> {
    let sectors = size / 512;
    let patch = (0..sectors, 1..900usize, prop::option::weighted(0.7, any::<u64>()));
    let patch =
        patch.prop_map(move |(at, length, seed)| Patch { at: at * 512, length: length.min(sectors - at) * 512, seed });
    prop::collection::vec(patch, 0..6)
}

fn apply(bytes: &mut [u8], patches: &[Patch]) -> Vec<Range<usize>> {
    for patch in patches {
        let part = &mut bytes[patch.at..patch.at + patch.length];
        match patch.seed {
            Some(seed) => part.copy_from_slice(&noise(seed, patch.length)),
            None => part.fill(0),
        }
    }
    patches.iter().map(|patch| patch.at..patch.at + patch.length).collect()
}

/// Full, then a delta, then a resync of a disk that may have grown; back onto a new disk and onto an old one.
async fn round_trip(size: usize, grown: usize, steps: [Vec<Patch>; 4]) {
    let room = room().await;
    let mut bytes = vec![0; size];
    apply(&mut bytes, &steps[0]);
    let first = room.ship(&Disk::new(bytes.clone()), ShipMode::Full, None).await;
    let mut segments = first.segments;
    assert!(room.read(size, &segments).await == bytes, "full");

    let dirty = apply(&mut bytes, &steps[1]);
    let disk = Disk { dirty: Some(dirty), ..Disk::new(bytes.clone()) };
    let delta = room.ship(&disk, ShipMode::Delta, None).await;
    segments.extend(delta.segments);
    assert!(room.read(size, &segments).await == bytes, "delta");

    let image = room.image(size, &segments);
    let same = room.ship(&Disk::new(bytes.clone()), ShipMode::Compare { image: image.clone() }, None).await;
    assert_eq!((same.sent_bytes, same.segments.len()), (0, 0), "nothing differs");
    bytes.resize(size + grown, 0);
    apply(&mut bytes, &steps[2]);
    // What the tracker says must not matter here.
    let disk = Disk { dirty: Some(Vec::new()), ..Disk::new(bytes.clone()) };
    let resync = room.ship(&disk, ShipMode::Compare { image }, None).await;
    segments.extend(resync.segments);
    let size = bytes.len();
    assert!(room.read(size, &segments).await == bytes, "compare");

    let replica = room.vault.replica(&room.image(size, &segments));
    let fresh = Disk::new(vec![0; size]);
    materialise(&replica, &fresh, &Silent).await.unwrap();
    assert!(fresh.bytes() == bytes, "materialise");
    let mut old = bytes.clone();
    let changed = apply(&mut old, &steps[3]);
    let old = Disk::new(old);
    let report = apply_differences(&replica, &old, &Silent).await.unwrap();
    assert!(old.bytes() == bytes, "apply differences");
    let most: usize = changed.iter().map(|range| range.len() + 2 * BLOCK).sum();
    assert!(report.written_bytes <= most as u64, "only what differs is written");
    let again = apply_differences(&replica, &old, &Silent).await.unwrap();
    assert_eq!((again.written_bytes, again.fetched_bytes > report.fetched_bytes), (0, false));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn disks_come_back_as_they_went(
        sectors in 1usize..4000,
        grown in 0usize..600,
        steps in (patches(1 << 20), patches(1 << 20), patches(1 << 20), patches(1 << 20)),
    ) {
        let (size, grown) = (sectors * 512, grown * 512);
        let fit = |patches: Vec<Patch>, size: usize| -> Vec<Patch> {
            let cut = |patch: Patch| Patch { length: patch.length.min(size - patch.at), ..patch };
            patches.into_iter().filter(|patch| patch.at < size).map(cut).collect()
        };
        let all = size + grown;
        let steps = [fit(steps.0, size), fit(steps.1, size), fit(steps.2, all), fit(steps.3, all)];
        tokio::runtime::Runtime::new().unwrap().block_on(round_trip(size, grown, steps));
    }
}

#[tokio::test]
async fn a_small_change_of_a_large_frame_sends_one_block() {
    let room = room().await;
    let size = 16 * BLOCK;
    let mut bytes = noise(1, size);
    let full = room.ship(&Disk::new(bytes.clone()), ShipMode::Full, None).await;
    assert_eq!((full.sent_bytes, full.read_bytes, full.zero_bytes), (size as u64, size as u64, 0));
    bytes[5 * BLOCK + 17] ^= 1;
    let image = room.image(size, &full.segments);
    let resync = room.ship(&Disk::new(bytes.clone()), ShipMode::Compare { image: image.clone() }, None).await;
    assert_eq!((resync.sent_bytes, resync.read_bytes), (BLOCK as u64, size as u64));
    let old = Disk::new(bytes);
    let report = apply_differences(&room.vault.replica(&image), &old, &Silent).await.unwrap();
    assert_eq!((report.written_bytes, report.fetched_bytes), (BLOCK as u64, 4 * BLOCK as u64));
    assert_eq!(*old.written.lock().unwrap(), BLOCK as u64);
}

#[tokio::test]
async fn zeroes_are_left_out_of_a_first_copy_and_written_in_a_delta() {
    let room = room().await;
    let empty = room.ship(&Disk::new(vec![0; 40 * BLOCK]), ShipMode::Full, None).await;
    assert_eq!((empty.segments.len(), empty.zero_bytes), (0, 40 * BLOCK as u64));
    let delta = Disk { dirty: Some(Vec::from([0..BLOCK])), ..Disk::new(vec![0; 40 * BLOCK]) };
    let delta = room.ship(&delta, ShipMode::Delta, None).await;
    assert_eq!((delta.segments.len(), delta.zero_bytes, delta.sent_bytes), (1, BLOCK as u64, 0));
}

#[tokio::test]
async fn a_disk_that_is_too_small_or_answers_nonsense_is_refused() {
    let room = room().await;
    let full = room.ship(&Disk::new(noise(1, 2 * BLOCK)), ShipMode::Full, None).await;
    let replica = room.vault.replica(&room.image(2 * BLOCK, &full.segments));
    let error = materialise(&replica, &Disk::new(vec![0; BLOCK]), &Silent).await.unwrap_err();
    assert!(error.class == FailureClass::Permanent && error.help.is_some(), "{error}");
    for extents in [vec![], vec![(4096, 4096)], vec![(0, 0)], vec![(0, u64::MAX)], vec![(0, 4096), (8192, 4096)]] {
        let liar = Liar(&extents);
        let mut walk = crate::pipeline::walk::Walk::new(&liar, 1 << 20);
        let error = loop {
            match walk.next().await {
                Ok(stretch) => assert!(stretch.is_some(), "a gap was taken for the end: {extents:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.class, FailureClass::Permanent, "{extents:?}");
    }
}

/// Always gives the same extents, whatever was asked.
#[derive(Debug)]
struct Liar<'a>(&'a [(u64, u64)]);

#[async_trait]
impl BlockSource for Liar<'_> {
    fn size(&self) -> u64 {
        1 << 20
    }
    async fn extents(&self, _offset: u64, _length: u64) -> Result<Vec<Extent>> {
        let extent = |&(offset, length)| Extent { offset, length, kind: ExtentKind::Data };
        Ok(self.0.iter().map(extent).collect())
    }
    async fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_holds() {
    let rate = crate::pipeline::rate::Pacer::constant(1 << 20);
    let begin = tokio::time::Instant::now();
    for _ in 0..100 {
        rate.take(256 << 10).await;
    }
    // 25 MiB at 1 MiB/s, less the burst of half a second.
    let seconds = begin.elapsed().as_secs_f64();
    assert!((24.4..25.5).contains(&seconds), "{seconds}");
}

/// 20 GiB, of which `data` is noise and the rest zero; never in memory.
#[derive(Debug)]
struct Huge {
    data: Vec<Range<u64>>,
    rest: ExtentKind,
}

#[async_trait]
impl BlockSource for Huge {
    fn size(&self) -> u64 {
        20 << 30
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        let (mut at, end, mut extents) = (offset, offset + length, Vec::new());
        for range in &self.data {
            let (from, to) = (range.start.clamp(at, end), range.end.clamp(at, end));
            if from < to {
                extents.extend((at < from).then_some(Extent { offset: at, length: from - at, kind: self.rest }));
                extents.push(Extent { offset: from, length: to - from, kind: ExtentKind::Data });
                at = to;
            }
        }
        extents.extend((at < end).then_some(Extent { offset: at, length: end - at, kind: self.rest }));
        Ok(extents)
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        buffer.copy_from_slice(&noise(offset, buffer.len()));
        Ok(())
    }
}

/// Peak resident memory of this process in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_sparse_disk_costs_little_memory_and_a_small_change_little_time() {
    let room = room().await;
    // 256 MiB in pieces of 4 MiB, all over the disk.
    let data = (0..64u64).map(|number| ((number * 300) << 20)..((number * 300 + 4) << 20)).collect();
    let full = room.ship(&Huge { data, rest: ExtentKind::Zero }, ShipMode::Full, None).await;
    assert_eq!((full.sent_bytes, full.zero_bytes), (256 << 20, (20 << 30) - (256 << 20)));
    assert!(full.segments.len() >= 16);
    let change = Huge { data: Vec::from([(7 << 30)..(7 << 30) + BLOCK as u64]), rest: ExtentKind::Unchanged };
    let begin = SystemClock.now();
    let delta = room.ship(&change, ShipMode::Delta, None).await;
    assert!(SystemClock.now().since(begin).as_secs() < 2);
    assert_eq!((delta.read_bytes, delta.sent_bytes), (BLOCK as u64, BLOCK as u64));
    if let Some(peak) = peak_memory() {
        assert!(peak < 200 << 20, "{} MiB", peak >> 20);
    }
}

/// Landings of several disks are work for several threads.
#[tokio::test]
async fn a_landing_may_move_between_threads() {
    fn movable<T: Send>(work: T) -> T {
        work
    }
    let room = room().await;
    let (vault, point) = (room.vault.url().to_owned(), PointId::new("p"));
    let replica = room.vault.replica(&ReplicaImage { vault, point, size_bytes: BLOCK as u64, segments: Vec::new() });
    let disk = Disk::new(vec![7; BLOCK]);
    let report = movable(apply_differences(&replica, &disk, &Silent)).await.unwrap();
    assert_eq!((report.written_bytes, disk.bytes() == vec![0; BLOCK]), (BLOCK as u64, true));
    assert_eq!(movable(materialise(&replica, &disk, &Silent)).await.unwrap().written_bytes, 0);
}

/// Two disks of one group share its rate a frame at a time, whatever the hour says; a small one is not held up by a
/// large one.
#[tokio::test(start_paused = true)]
async fn disks_of_a_group_share_the_hours_of_its_rate() {
    let rate = |seconds: u64, rate| PaceSpan { millis: seconds * 1000, bytes_per_second: rate };
    let spans = vec![rate(10, Some(1 << 20)), rate(20, Some(0)), rate(30, None)];
    let pacers = crate::pipeline::Pacers::default();
    let pace = Pace { shared_by: "shop".to_owned(), spans };
    let (one, other) = (pacers.pacer(&pace).await.unwrap(), pacers.pacer(&pace).await.unwrap());
    let begin = tokio::time::Instant::now();
    let take = |pacer: std::sync::Arc<crate::pipeline::rate::Pacer>, times: u32| async move {
        for _ in 0..times {
            pacer.take(64 << 10).await;
        }
        begin.elapsed().as_secs_f64()
    };
    let (small, large) = tokio::join!(take(one, 40), take(other, 400));
    // Of the first 10 MiB each gets half while both want some: 2.5 MiB are through after about 5 s.
    assert!((3.5..5.5).contains(&small), "{small}");
    // 10.5 MiB pass in the first ten seconds, nothing in the next twenty, then all of the rest at once.
    assert!((30.0..30.2).contains(&large), "{large}");
}
