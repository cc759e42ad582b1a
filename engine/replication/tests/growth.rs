//! Cost follows change: the same changes in a disk of 20 GiB and in one of 2 TiB are the same bytes read, sent and stored,
//! and about as many questions asked. What it costs in time and memory is printed by the bench `growth`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use async_trait::async_trait;
use muster_ports::*;
use muster_provider_simulated::*;
use muster_replication::pipeline::{FileDisk, apply_differences, materialise, ship};
use muster_vault::{KeySource, Replica, Vault};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const GIB: u64 = 1 << 30;
const SMALL: u64 = 20 * GIB;
const LARGE: u64 = 2048 * GIB;
/// Of changes in each cycle, in grains spread over the first 20 GiB and at the very end.
const CHANGED: u64 = 10 << 20;
const GRAIN: u64 = 64 << 10;
/// Questions about extents that a whole look over a disk may take, whatever its size.
const QUESTIONS_MAX: u64 = 200;

/// Counts what is asked of a disk.
#[derive(Debug)]
struct Counted<S> {
    inner: S,
    questions: AtomicU64,
    extents: AtomicU64,
    read: AtomicU64,
}

impl<S> Counted<S> {
    fn new(inner: S) -> Self {
        Self { inner, questions: AtomicU64::new(0), extents: AtomicU64::new(0), read: AtomicU64::new(0) }
    }
    fn cost(&self) -> Cost {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Cost { questions: now(&self.questions), extents: now(&self.extents), read: now(&self.read), stored: 0 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    questions: u64,
    extents: u64,
    read: u64,
    stored: u64,
}

#[async_trait]
impl BlockSource for Counted<Box<dyn BlockSource>> {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        let extents = self.inner.extents(offset, length).await?;
        self.questions.fetch_add(1, Ordering::Relaxed);
        self.extents.fetch_add(extents.len() as u64, Ordering::Relaxed);
        Ok(extents)
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.inner.read_at(offset, buffer).await
    }
}

/// A disk with its replica.
struct Disk {
    provider: SimulatedProvider,
    _folder: tempfile::TempDir,
    vault: Vault,
    size: u64,
    segments: Vec<SegmentRef>,
    base: Option<BarrierId>,
}

fn names() -> (MachineName, DiskName) {
    (MachineName::new("big"), DiskName::new("root"))
}

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; GRAIN as usize];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Grains of a cycle: the same places on every disk but for the last one, which is at its end.
fn places(size: u64, cycle: u64) -> Vec<u64> {
    let count = CHANGED / GRAIN;
    let mut places: Vec<u64> = (0..count).map(|at| (at * 1_999 + cycle * 7) * GRAIN % (SMALL - GRAIN)).collect();
    places[0] = size - GRAIN;
    places
}

impl Disk {
    async fn new(size: u64) -> Self {
        let (machine, disk) = names();
        let (clock, random) = (Arc::new(VirtualClock::starting_at(Timestamp(1))), Arc::new(SeededRandom::new(5)));
        let provider = SimulatedProvider::in_memory(SiteName::new("hq"), clock, random.clone()).unwrap();
        let spec = MachineSpec {
            name: machine,
            cpus: 1,
            memory_bytes: 1 << 20,
            disks: vec![DiskFacts { name: disk, size_bytes: size }],
            nics: Vec::new(),
            program: None,
            ballast_bytes: 4 << 20,
        };
        provider.add_machine(&spec).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let key = KeySource::generate_file(&folder.path().join("key"), random.as_ref()).unwrap();
        let url = format!("file://{}/vault", folder.path().display());
        let vault = Vault::init(&url, &key, random.as_ref()).await.unwrap();
        Self { provider, _folder: folder, vault, size, segments: Vec::new(), base: None }
    }

    fn change(&self, cycle: u64) {
        let (machine, disk) = names();
        for (number, at) in places(self.size, cycle).into_iter().enumerate() {
            let content = noise(cycle * 1_000 + number as u64);
            self.provider.write_disk(&InstanceName::live(&machine), &disk, at, &content).unwrap();
        }
    }

    /// Cuts, ships and settles.
    async fn cycle(&mut self, name: &str, mode: ShipMode) -> Cost {
        let (machine, disk) = names();
        let barrier = BarrierId::new(name);
        let order = CutOrder {
            barrier: barrier.clone(),
            members: vec![CutMember {
                instance: InstanceName::live(&machine),
                machine: machine.clone(),
                base: self.base.clone(),
            }],
            consistency: Consistency::Crash,
            hold: false,
            hold_limit: std::time::Duration::from_secs(10),
        };
        self.provider.cut(&order).await.unwrap();
        let changed_only = mode == ShipMode::Delta;
        let source = self.provider.open_cut(&barrier, &machine, &disk, changed_only).await.unwrap();
        let source = Counted::new(source);
        let order = ShipOrder {
            vault: self.vault.url().to_owned(),
            epoch: Epoch(1),
            barrier: barrier.clone(),
            machine,
            disk,
            lineage: LineageId::new("big-root-1"),
            mode,
            compression: 1,
            rate_limit: None,
            pace: None,
            seed: None,
        };
        let shipped = ship(&self.vault, &source, &order, &WriterId::new("w"), &Silent).await.unwrap();
        let cost = Cost { stored: shipped.stored_bytes, ..source.cost() };
        assert_eq!(shipped.read_bytes, cost.read, "what is reported is what was read");
        self.provider.settle(&barrier, CutOutcome::Committed).await.unwrap();
        self.segments.extend(shipped.segments);
        self.base = Some(barrier);
        cost
    }

    fn image(&self) -> ReplicaImage {
        ReplicaImage {
            vault: self.vault.url().to_owned(),
            point: PointId::new("p"),
            size_bytes: self.size,
            segments: self.segments.clone(),
        }
    }
}

fn assert_alike(what: &str, small: Cost, large: Cost) {
    println!("{what}: 20 GiB {small:?}, 2 TiB {large:?}");
    for (of, small, large) in [
        ("bytes read", small.read, large.read),
        ("bytes stored", small.stored, large.stored),
        ("extents told", small.extents, large.extents),
    ] {
        // A question more has an extent more: of those a few hundred are no cost.
        assert!(large * 10 <= small * 13 + 10 * QUESTIONS_MAX, "{what}: {large} {of} of 2 TiB, {small} of 20 GiB");
    }
    assert!(large.questions <= QUESTIONS_MAX, "{what}: {} questions", large.questions);
}

#[tokio::test]
async fn the_same_change_costs_the_same_in_a_disk_a_hundred_times_as_large() {
    let mut small = Disk::new(SMALL).await;
    let mut large = Disk::new(LARGE).await;
    let mut costs = Vec::new();
    for disk in [&mut small, &mut large] {
        let first = disk.cycle("first", ShipMode::Full).await;
        disk.change(1);
        let delta = disk.cycle("delta", ShipMode::Delta).await;
        let idle = disk.cycle("idle", ShipMode::Delta).await;
        assert_eq!((idle.read, idle.stored), (0, 0), "nothing has changed");
        disk.change(2);
        let resync = disk.cycle("resync", ShipMode::Compare { image: disk.image() }).await;
        costs.push([("first copy", first), ("delta", delta), ("nothing", idle), ("resync", resync)]);
    }
    for ((what, small), (_, large)) in costs[0].into_iter().zip(costs[1]) {
        assert_alike(what, small, large);
    }
    let delta = costs[1][1].1;
    assert_eq!(delta.read, CHANGED, "what changed is read, and nothing else");
    assert!(delta.stored < CHANGED * 11 / 10, "{delta:?}");
    // A resync reads all the data there is.
    lands(&large, costs[1][3].1.read).await;
}

/// What was shipped of the large disk is what it holds, on a new disk and on an old one.
async fn lands(disk: &Disk, data: u64) {
    let replica: Replica = disk.vault.replica(&disk.image());
    assert_eq!(replica.data_bytes().await.unwrap(), data, "data is data, holes are none");
    let folder = tempfile::tempdir().unwrap();
    let target = FileDisk::create(&folder.path().join("disk.raw"), disk.size).unwrap();
    let landed = materialise(&replica, &target, &Silent).await.unwrap();
    assert!(landed.written_bytes <= 25 << 20, "{landed:?}");
    let again = apply_differences(&replica, &target, &Silent).await.unwrap();
    assert!(again.compared_bytes <= 25 << 20 && again.written_bytes == 0, "{again:?}");
    for cycle in [1, 2] {
        for (number, at) in
            places(disk.size, cycle).into_iter().enumerate().filter(|(number, _)| cycle == 2 || *number > 0)
        {
            let mut read = vec![0; GRAIN as usize];
            target.read_at(at, &mut read).await.unwrap();
            assert!(read == noise(cycle * 1_000 + number as u64), "grain {number} of cycle {cycle} at {at}");
        }
    }
}
