//! What real machines wait for: from the order to land until a machine runs from the vault, and how long a cut holds a group.
//!
//! ```text
//!   cargo bench -p muster --bench real-machines          as root; what it needs is installed by `cargo verify`
//! ```
//!
//! **Instant recovery.** A machine whose disk lies in a vault is landed and started at a site without that disk. Its
//! processor has begun (QEMU's event RESUME) when its monitor answers, which is when `start` returns; beside it the moment
//! its firmware first reads from our server.
//!
//! **Cut.** Four database machines with two disks each write while they are cut together with their file systems frozen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

use async_trait::async_trait;
use muster_agent::{DataPlane, LocalSite, VaultPlane};
use muster_lab::{Lab, Machine, Role};
use muster_ports::*;
use muster_provider_qemu::{QemuProvider, Watchdog};
use muster_vault::{KeySource, Vault};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const FRAME: u64 = 256 << 10;
const LANDINGS: usize = 5;
const MACHINES: usize = 4;
const CUTS: usize = 21;
const BOOT: Duration = Duration::from_secs(180);

/// The moment of the first read of a replica.
type First = Arc<Mutex<Option<Instant>>>;

fn main() {
    let mut lab = Lab::open("measured").unwrap_or_else(|error| panic!("{error}"));
    let images = lab.images().clone();
    let site = lab.add_site("hq").unwrap_or_else(|error| panic!("{error}"));
    site.write_networks(&[("prod", "10.10.20.0/24")]).unwrap();
    for number in 0..MACHINES {
        let (mac, ip) = (format!("52:54:00:10:01:{number:02}"), format!("10.10.20.{}", 20 + number));
        let machine = Machine::new(&format!("db{number}"), Role::Database, "prod", &mac, &ip).interval_ms(20);
        site.machine(&images, &machine).unwrap_or_else(|error| panic!("{error}"));
    }
    site.enter().unwrap_or_else(|error| panic!("{error}"));
    let folder = site.folder().to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let program = env!("CARGO_BIN_EXE_muster").into();
        let watchdog = Watchdog { program, arguments: vec!["cut-watchdog".to_owned()] };
        let provider = QemuProvider::open("hq".into(), folder.clone(), Arc::new(SystemClock), watchdog).unwrap();
        let provider: Arc<dyn Provider> = provider;
        println!("{}", provider.facts().await.unwrap().detail);
        let size = 64 * MIB;
        for (name, size) in [("64 MiB", size), ("1 TiB, sparse", 1 << 40)] {
            instant(&provider, &folder, name, size).await;
        }
        cut(&*provider).await;
    });
}

async fn instant(provider: &Arc<dyn Provider>, folder: &Path, name: &str, size: u64) {
    let work = tempfile::tempdir().unwrap();
    let key = KeySource::generate_file(&work.path().join("key"), &SystemRandom).unwrap();
    let image = vault_with_a_disk(work.path(), &key, size).await;
    let first = First::default();
    let plane = Watched { inner: VaultPlane::new(key, &SystemRandom), first: first.clone() };
    let site = LocalSite::with_data_plane(provider.clone(), "hq".into(), folder.to_owned(), Arc::new(plane));
    site.resume().await.unwrap();
    let (mut runs, mut reads) = (Vec::new(), Vec::new());
    for number in 0..LANDINGS {
        let instance = InstanceName::new(format!("landed{number}"));
        let order = LandOrder {
            shape: MachineShape {
                instance: instance.clone(),
                machine: MachineName::new(instance.as_str()),
                cpus: 1,
                memory_bytes: 128 * MIB,
                disks: vec![DiskShape { name: "root".into(), size_bytes: size, backing: DiskBacking::Blank }],
                nics: Vec::new(),
                scope: NetworkScope::Live,
                labels: BTreeMap::from([("muster.key".to_owned(), instance.to_string())]),
                track_from: None,
            },
            images: BTreeMap::from([("root".into(), image.clone())]),
            mode: LandMode::Instant,
        };
        *first.lock().unwrap() = None;
        let began = Instant::now();
        site.land(&order, &Silent).await.unwrap();
        site.start(&instance).await.unwrap();
        runs.push(began.elapsed());
        let read = loop {
            if let Some(read) = *first.lock().unwrap() {
                break read;
            }
            assert!(began.elapsed() < BOOT, "the machine reads nothing");
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        reads.push(read.saturating_duration_since(began));
        site.stop(&instance, StopMode::Hard).await.unwrap();
        site.undefine(&instance, true).await.unwrap();
    }
    let (run, read) = (median(&mut runs), median(&mut reads));
    let kept = if run.max(read) <= Duration::from_secs(2) { "kept" } else { "MISSED" };
    println!("instant recovery of {name}: runs after {run:.2?}, first read after {read:.2?} (2 s promised: {kept})");
}

/// 64 MiB at its beginning, the rest zero.
async fn vault_with_a_disk(folder: &Path, key: &KeySource, size: u64) -> ReplicaImage {
    let vault = format!("file://{}/vault", folder.display());
    let vault = Vault::init(&vault, key, &SystemRandom).await.unwrap();
    let mut writer = vault.segment_writer(&"l".into(), Epoch(1), &"w".into(), 3);
    let mut state = 1u64;
    for at in (0..64 * MIB).step_by(FRAME as usize) {
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()[6]
        };
        let frame: Vec<u8> = (0..FRAME).map(next).collect();
        writer.write(at, &frame).await.unwrap();
    }
    let segments = writer.finish().await.unwrap();
    ReplicaImage { vault: vault.url().to_owned(), point: "p".into(), size_bytes: size, segments }
}

async fn cut(provider: &dyn Provider) {
    let names: Vec<String> = (0..MACHINES).map(|number| format!("db{number}")).collect();
    for name in &names {
        provider.start(&InstanceName::new(name)).await.unwrap();
    }
    let began = Instant::now();
    for name in &names {
        while provider.guest_ping(&InstanceName::new(name)).await.is_err() {
            assert!(began.elapsed() < BOOT, "`{name}` does not boot");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    let (mut flushes, mut holds) = (Vec::new(), Vec::new());
    let mut base = None;
    for number in 0..CUTS {
        // As far apart as cycles are, so that the guests have something to flush.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let barrier = BarrierId::new(format!("b{number}"));
        let member = |name: &String| CutMember {
            instance: InstanceName::new(name),
            machine: MachineName::new(name),
            base: base.clone(),
        };
        let order = CutOrder {
            barrier: barrier.clone(),
            members: names.iter().map(member).collect(),
            consistency: Consistency::App,
            hold: true,
            hold_limit: Duration::from_secs(30),
        };
        let report = provider.cut(&order).await.unwrap();
        assert_eq!((report.consistency, report.disks.len()), (Consistency::App, 2 * MACHINES), "{:?}", report.notes);
        flushes.push(Duration::from_micros(report.flush_micros));
        holds.push(Duration::from_micros(report.hold_micros));
        provider.settle(&barrier, CutOutcome::Committed).await.unwrap();
        base = Some(barrier);
    }
    let worst = holds.iter().max().copied().unwrap_or_default();
    let (flush, hold) = (median(&mut flushes), median(&mut holds));
    let kept = if hold <= Duration::from_millis(250) { "kept" } else { "MISSED" };
    println!(
        "{CUTS} cuts of {MACHINES} machines with two disks each: held for {hold:.1?} (250 ms promised: {kept}; the longest \
         {worst:.1?}), after the guests had flushed for {flush:.1?}; medians"
    );
}

fn median(values: &mut [Duration]) -> Duration {
    values.sort();
    values[values.len() / 2]
}

/// Vault and pipeline, with the first read noted.
#[derive(Debug)]
struct Watched {
    inner: VaultPlane,
    first: First,
}

#[async_trait]
impl DataPlane for Watched {
    async fn ship(&self, source: &dyn BlockSource, order: &ShipOrder, progress: &dyn Progress) -> Result<ShippedDisk> {
        self.inner.ship(source, order, progress).await
    }
    async fn replica(&self, image: &ReplicaImage) -> Result<Arc<dyn BlockSource>> {
        let inner = self.inner.replica(image).await?;
        Ok(Arc::new(Noting { inner, first: self.first.clone() }))
    }
    async fn apply_differences(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        progress: &dyn Progress,
    ) -> Result<LandReport> {
        self.inner.apply_differences(image, target, progress).await
    }
    async fn materialise(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        progress: &dyn Progress,
    ) -> Result<LandReport> {
        self.inner.materialise(image, target, progress).await
    }
}

#[derive(Debug)]
struct Noting {
    inner: Arc<dyn BlockSource>,
    first: First,
}

#[async_trait]
impl BlockSource for Noting {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        self.inner.extents(offset, length).await
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.inner.read_at(offset, buffer).await?;
        self.first.lock().unwrap().get_or_insert_with(Instant::now);
        Ok(())
    }
}
