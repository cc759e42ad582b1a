//! What does not grow: the cost of a cycle with the size of its disk, and the cost of opening a point with the number of
//! points before it.
//!
//! ```text
//!   cargo bench -p muster-replication --bench growth -- 2000            number of points
//! ```
//!
//! Cycles go the whole way, from the cut of a simulated tracker to the commit. Processor time is that of the process, as
//! the kernel counts it; memory is the most the process ever held.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, unreachable_pub)]

#[path = "../tests/world/mod.rs"]
mod world;

use muster_journal::{Owner, SlateStore, TakeOver};
use muster_ports::*;
use muster_provider_simulated::MachineSpec;
use muster_replication::{Recovery, Replicator};
use muster_vault::{KeySource, Vault};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use world::*;

const GIB: u64 = 1 << 30;
const CHANGED: u64 = 10 << 20;
const GRAIN_BYTES: u64 = 64 << 10;
/// Changes lie in the first 20 GiB of either disk.
const SPREAD: u64 = 20 * GIB;
const CYCLES: u64 = 20;
/// Of the disk with many points, and what changes in it between two.
const SMALL_DISK: u64 = 64 << 20;
const GRAINS_PER_POINT: u64 = 4;
/// Points between two looks of the folder, as a service makes them.
const FOLD_EVERY: usize = 40;
/// Clock ticks a second in `/proc`: fixed in the kernel's interface.
const TICKS: f64 = 100.0;

fn main() {
    let mut numbers = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let points: usize = numbers.next().map_or(2000, |text| text.parse().expect("the number of points"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        println!("a cycle of {} MiB changed, median of {CYCLES}:", CHANGED >> 20);
        let costs = [cycles(20 * GIB).await, cycles(2048 * GIB).await];
        println!("  2 TiB costs {:.2} of the processor time of 20 GiB", costs[1] / costs[0]);
        many_points(points).await;
    });
}

fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let field = |number: usize| after.split_whitespace().nth(number).unwrap().parse::<f64>().unwrap();
    (11..=12).map(field).sum::<f64>() / TICKS
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn machine(size_bytes: u64) -> MachineSpec {
    MachineSpec {
        name: MachineName::new("big"),
        cpus: 1,
        memory_bytes: 1 << 20,
        disks: vec![DiskFacts { name: DiskName::new("root"), size_bytes }],
        nics: Vec::new(),
        program: None,
        ballast_bytes: 4 << 20,
    }
}

struct Room {
    world: World,
    folder: tempfile::TempDir,
    key: KeySource,
    url: String,
    noise: u64,
}

impl Room {
    async fn new(size: u64) -> Self {
        let world = World::new(7, &[machine(size)], false, false).await;
        let site = world.site(&home());
        site.record_model.store(false, Ordering::Relaxed);
        site.ship_millis.store(0, Ordering::Relaxed);
        let folder = tempfile::tempdir().unwrap();
        let key = KeySource::generate_file(&folder.path().join("key"), &SystemRandom).unwrap();
        let url = format!("file://{}/vault", folder.path().display());
        *site.real.lock().unwrap() = Some(Vault::init(&url, &key, &SystemRandom).await.unwrap());
        Self { world, folder, key, url, noise: 0 }
    }

    /// Writes half-compressible noise to a grain.
    fn change(&mut self, at: u64) {
        self.noise += 1;
        let mut grain = vec![0; GRAIN_BYTES as usize];
        blake3::Hasher::new().update(&self.noise.to_le_bytes()).finalize_xof().fill(&mut grain[..GRAIN / 2]);
        self.world.home().write_disk(&"big".into(), &"root".into(), at, &grain).unwrap();
    }

    async fn store(&self) -> Arc<SlateStore> {
        let place = muster_vault::Place::open(&self.url, true).unwrap();
        let (owner, clock) = (Owner::this_process("growth"), Arc::new(SystemClock));
        Arc::new(SlateStore::open(place.control_store(), "state", owner, TakeOver::Steal, clock).await.unwrap())
    }

    fn replicator(&self, store: Arc<SlateStore>) -> Replicator {
        let sites = self.world.sites.iter();
        let sites: BTreeMap<_, _> = sites.map(|(name, site)| (name.clone(), site.clone() as Arc<dyn Site>)).collect();
        Replicator::new(store, sites, self.url.clone(), Arc::new(SystemClock), Arc::new(SystemRandom))
    }
}

/// Answers with the processor time of one.
async fn cycles(size: u64) -> f64 {
    let mut room = Room::new(size).await;
    room.world.connect_to(&room.url.clone());
    room.world.cycle().await.unwrap();
    let (mut times, mut walls) = (Vec::new(), Vec::new());
    for cycle in 0..CYCLES {
        for number in 0..CHANGED / GRAIN_BYTES {
            room.change((number * 1_999 + cycle * 7) * GRAIN_BYTES % SPREAD);
        }
        let (before, began) = (cpu(), SystemClock.now());
        room.world.cycle().await.unwrap();
        walls.push(SystemClock.now().since(began).as_secs_f64());
        times.push(cpu() - before);
    }
    let last = room.world.replicator.status().await.unwrap()[0].last_cycle.clone().unwrap();
    [&mut times, &mut walls].into_iter().for_each(|values| values.sort_by(f64::total_cmp));
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    println!(
        "  {:>5} GiB: {:.0} ms of processor (mean), {:.0} ms, {:.1} MiB read, {:.1} MiB stored, peak memory {} MiB",
        size / GIB,
        mean * 1000.0,
        walls[walls.len() / 2] * 1000.0,
        last.read_bytes as f64 / f64::from(1 << 20),
        last.stored_bytes as f64 / f64::from(1 << 20),
        peak_mib(),
    );
    mean
}

async fn many_points(points: usize) {
    let mut room = Room::new(SMALL_DISK).await;
    let vault = Vault::open(&room.url, &room.key).await.unwrap();
    let store = room.store().await;
    let replicator = room.replicator(store.clone());
    replicator.protect(&room.world.estate, &group()).await.unwrap();
    let began = SystemClock.now();
    for point in 0..points {
        for number in 0..GRAINS_PER_POINT {
            let at = (point as u64 * 37 + number * 211) % (SMALL_DISK / GRAIN_BYTES) * GRAIN_BYTES;
            room.change(at);
        }
        replicator.cycle(&group(), &Silent).await.unwrap();
        if point % FOLD_EVERY == FOLD_EVERY - 1 {
            replicator.fold(&vault).await.unwrap();
        }
    }
    println!("{points} points of one disk, made in {:.0} s:", SystemClock.now().since(began).as_secs_f64());
    drop(replicator);
    store.close().await.unwrap();
    drop((store, vault));
    for _ in 0..3 {
        open_the_newest(&room, points).await;
    }
    drop(room.folder);
}

/// Everything from a cold start: the control state, the vault, the point, its first 4 KiB.
async fn open_the_newest(room: &Room, points: usize) {
    let began = SystemClock.now();
    let mut last = began;
    let mut lap = || {
        let now = SystemClock.now();
        let took = now.since(std::mem::replace(&mut last, now));
        took.as_millis()
    };
    let store = room.store().await;
    let replicator = room.replicator(store.clone());
    let state = lap();
    let vault = Vault::open(&room.url, &room.key).await.unwrap();
    let opened = lap();
    let found = replicator.point_records(&group()).await.unwrap();
    assert_eq!(found.len(), points);
    let newest = found.iter().max_by_key(|point| (point.summary.at, point.summary.id.clone())).unwrap();
    let images = replicator.images(&newest.summary.id, &"big".into()).await.unwrap();
    let resolved = lap();
    let (_, image) = &images[0];
    let mut first = vec![0; 4096];
    vault.replica(image).read(0, &mut first).await.unwrap();
    let read = lap();
    println!(
        "  opening the newest: {} ms (control state {state}, vault {opened}, which segments {resolved}, indexes of {} \
         segments and the first read {read})",
        SystemClock.now().since(began).as_millis(),
        image.segments.len(),
    );
    store.close().await.unwrap();
}
