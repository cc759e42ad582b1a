//! A small world for the reconciler: simulated sites, a vault in memory, a store whose writes can fail, and a model of
//! what every disk held at every cut.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use async_trait::async_trait;
use bytes::Bytes;
use muster_ports::*;
use muster_provider_simulated::*;
use muster_replication::{Recovery, Replicator, SegmentBin, StoredSegment};
use muster_runsheet::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration as Span;

pub const GRAIN: usize = 64 * 1024;
pub const START: Timestamp = Timestamp(1_800_000_000_000);

/// A store in memory. A write may fail before it counts, or count and lose its answer.
#[derive(Debug)]
pub struct MemoryStore {
    pub pairs: Mutex<BTreeMap<String, Bytes>>,
    pub random: SeededRandom,
    /// In a thousand writes.
    pub fail: AtomicU32,
    pub lose_answer: AtomicU32,
    pub writes: AtomicU64,
    /// Writes asked for, whatever became of them.
    pub asked: AtomicU64,
}

impl MemoryStore {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            pairs: Mutex::default(),
            random: SeededRandom::new(seed),
            fail: AtomicU32::new(0),
            lose_answer: AtomicU32::new(0),
            writes: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        })
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.pairs.lock().unwrap().get(key).cloned())
    }
    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        let pairs = self.pairs.lock().unwrap();
        Ok(pairs.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
    async fn write(&self, batch: Vec<Write>) -> Result<(), StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Span::from_millis(1)).await;
        if self.random.below(1000) < u64::from(self.fail.load(Ordering::Relaxed)) {
            return Err(StoreError::Unavailable("injected, not written".into()));
        }
        let mut pairs = self.pairs.lock().unwrap();
        for write in batch {
            match write {
                Write::Put { key, value } => pairs.insert(key, value),
                Write::Delete { key } => pairs.remove(&key),
            };
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        if self.random.below(1000) < u64::from(self.lose_answer.load(Ordering::Relaxed)) {
            return Err(StoreError::Unavailable("injected, answer lost".into()));
        }
        Ok(())
    }
    fn epoch(&self) -> Epoch {
        Epoch(1)
    }
}

/// Segments as lists of pieces; `None` is zeroes.
type Pieces = Vec<(u64, usize, Option<Vec<u8>>)>;

#[derive(Debug, Default)]
pub struct MemoryVault {
    pub segments: Mutex<BTreeMap<SegmentName, (Timestamp, Pieces)>>,
    next: AtomicU64,
}

impl MemoryVault {
    pub fn assemble(&self, image: &ReplicaImage) -> Vec<u8> {
        let mut bytes = vec![0u8; image.size_bytes as usize];
        let segments = self.segments.lock().unwrap();
        for segment in &image.segments {
            let (_, pieces) = segments.get(&segment.name).unwrap_or_else(|| panic!("segment {} is gone", segment.name));
            for (at, length, data) in pieces {
                let target = &mut bytes[*at as usize..*at as usize + length];
                match data {
                    Some(data) => target.copy_from_slice(data),
                    None => target.fill(0),
                }
            }
        }
        bytes
    }
    pub fn put(&self, lineage: &LineageId, now: Timestamp, pieces: Pieces) -> Vec<SegmentRef> {
        if pieces.is_empty() {
            return Vec::new();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = SegmentName::new(format!("{lineage}/00000001-test-{number:06}.seg"));
        let stored_bytes = pieces.iter().map(|piece| piece.2.as_ref().map_or(0, Vec::len) as u64).sum();
        self.segments.lock().unwrap().insert(name.clone(), (now, pieces));
        vec![SegmentRef { name, stored_bytes, hash: String::new() }]
    }
}

#[derive(Debug)]
pub struct Bin(pub Arc<MemoryVault>);

#[async_trait]
impl SegmentBin for Bin {
    async fn list(&self) -> Result<Vec<StoredSegment>> {
        let segments = self.0.segments.lock().unwrap();
        let stored = segments.iter().map(|(name, (written, _))| StoredSegment {
            name: name.clone(),
            stored_bytes: 1,
            written: *written,
        });
        Ok(stored.collect())
    }
    async fn delete(&self, segment: &SegmentName) -> Result<()> {
        self.0.segments.lock().unwrap().remove(segment);
        Ok(())
    }
}

/// What every disk of a cut held.
pub type Contents = BTreeMap<(MachineName, DiskName), Vec<u8>>;

/// A provider and the vault in memory as a site.
#[derive(Debug)]
pub struct TestSite {
    pub provider: SimulatedProvider,
    pub vault: Arc<MemoryVault>,
    pub clock: Arc<dyn Clock>,
    /// By barrier. Only filled while nothing writes by itself.
    pub model: Arc<Mutex<BTreeMap<BarrierId, Contents>>>,
    pub record_model: AtomicBool,
    /// Writes to the cut disk while it is shipped, so that snapshots are put to the test.
    pub scribble: Option<Arc<SeededRandom>>,
    pub fail_ships: AtomicU32,
    pub hang_ships: AtomicBool,
    /// How long a disk takes to travel.
    pub ship_millis: AtomicU64,
    pub hang_settles: AtomicBool,
    pub modes: Mutex<Vec<String>>,
    pub rate_limits: Mutex<Vec<Option<u64>>>,
    /// Ship with the real pipeline into this vault.
    pub real: Mutex<Option<muster_vault::Vault>>,
}

impl TestSite {
    async fn read_all(source: &dyn BlockSource, skip: ExtentKind) -> Result<Pieces> {
        let mut pieces = Pieces::new();
        let mut at = 0;
        while at < source.size() {
            for extent in source.extents(at, source.size() - at).await? {
                assert_eq!(extent.offset, at, "extents have no gaps");
                at += extent.length;
                match extent.kind {
                    kind if kind == skip || kind == ExtentKind::Unchanged => {}
                    ExtentKind::Zero => pieces.push((extent.offset, extent.length as usize, None)),
                    _ => {
                        let mut data = vec![0u8; extent.length as usize];
                        source.read_at(extent.offset, &mut data).await?;
                        pieces.push((extent.offset, data.len(), Some(data)));
                    }
                }
            }
        }
        Ok(pieces)
    }

    async fn compare(&self, source: &dyn BlockSource, image: &ReplicaImage) -> Result<Pieces> {
        let old = self.vault.assemble(image);
        let mut pieces = Pieces::new();
        for at in (0..source.size()).step_by(GRAIN) {
            let mut data = vec![0u8; GRAIN.min((source.size() - at) as usize)];
            source.read_at(at, &mut data).await?;
            if old[at as usize..at as usize + data.len()] != data[..] {
                pieces.push((at, data.len(), Some(data)));
            }
        }
        Ok(pieces)
    }
}

#[async_trait]
impl Site for TestSite {
    async fn facts(&self) -> Result<SiteFacts> {
        self.provider.facts().await
    }
    async fn inventory(&self) -> Result<Vec<MachineFacts>> {
        self.provider.inventory().await
    }
    async fn instances(&self) -> Result<Vec<InstanceState>> {
        self.provider.instances().await
    }
    async fn undefine(&self, instance: &InstanceName, disks: bool) -> Result<()> {
        self.provider.undefine(instance, disks).await
    }
    async fn start(&self, instance: &InstanceName) -> Result<()> {
        self.provider.start(instance).await
    }
    async fn stop(&self, instance: &InstanceName, mode: StopMode) -> Result<()> {
        self.provider.stop(instance, mode).await
    }
    async fn fence(&self, instance: &InstanceName) -> Result<()> {
        self.provider.fence(instance).await
    }
    async fn unfence(&self, instance: &InstanceName) -> Result<()> {
        self.provider.unfence(instance).await
    }
    async fn ensure_networks(&self, networks: &[NetworkShape]) -> Result<()> {
        self.provider.ensure_networks(networks).await
    }
    async fn create_bubble(&self, bubble: &BubbleShape) -> Result<()> {
        self.provider.create_bubble(bubble).await
    }
    async fn discard_bubble(&self, bubble: &BubbleId) -> Result<()> {
        self.provider.discard_bubble(bubble).await
    }
    async fn bubbles(&self) -> Result<Vec<BubbleId>> {
        self.provider.bubbles().await
    }
    async fn probe(&self, scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer> {
        self.provider.probe(scope, probe).await
    }
    async fn guest_ping(&self, instance: &InstanceName) -> Result<()> {
        self.provider.guest_ping(instance).await
    }
    async fn guest_exec(&self, instance: &InstanceName, command: &GuestCommand) -> Result<GuestOutput> {
        self.provider.guest_exec(instance, command).await
    }
    async fn guest_shell(&self, scope: &NetworkScope, order: &ShellOrder) -> Result<GuestOutput> {
        self.provider.guest_shell(scope, order).await
    }
    async fn disk_read(&self, instance: &InstanceName, path: &str) -> Result<Option<String>> {
        self.provider.disk_read(instance, path).await
    }
    async fn disk_write(&self, instance: &InstanceName, path: &str, text: &Concealed) -> Result<()> {
        self.provider.disk_write(instance, path, text).await
    }
    async fn console(&self, instance: &InstanceName, bytes: u64) -> Result<String> {
        self.provider.console(instance, bytes).await
    }

    async fn cut(&self, order: &CutOrder) -> Result<CutReport> {
        if self.record_model.load(Ordering::Relaxed) {
            let known = self.model.lock().unwrap().contains_key(&order.barrier);
            if !known {
                let mut contents = Contents::new();
                for member in &order.members {
                    for machine in plain_machines().into_iter().filter(|machine| machine.name == member.machine) {
                        for disk in machine.disks {
                            let bytes = disk_bytes(&self.provider, &member.machine, &disk.name);
                            contents.insert((member.machine.clone(), disk.name), bytes);
                        }
                    }
                }
                self.model.lock().unwrap().insert(order.barrier.clone(), contents);
            }
        }
        self.provider.cut(order).await
    }

    async fn ship(&self, order: &ShipOrder, progress: &dyn Progress) -> Result<ShippedDisk> {
        let mode = match order.mode {
            ShipMode::Full => "full",
            ShipMode::Delta => "delta",
            ShipMode::Compare { .. } => "compare",
        };
        self.modes.lock().unwrap().push(format!("{}/{}:{mode}", order.machine, order.disk));
        self.rate_limits.lock().unwrap().push(order.rate_limit);
        let changed_only = order.mode == ShipMode::Delta;
        let source = self.provider.open_cut(&order.barrier, &order.machine, &order.disk, changed_only).await?;
        tokio::time::sleep(Span::from_millis(self.ship_millis.load(Ordering::Relaxed))).await;
        if self.hang_ships.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if let Some(random) = &self.scribble {
            scribble(&self.provider, random, &order.machine, &order.disk);
        }
        if let Some(random) = &self.scribble
            && random.below(1000) < u64::from(self.fail_ships.load(Ordering::Relaxed))
        {
            // What was written so far stays behind as an orphan.
            self.vault.put(&order.lineage, self.clock.now(), vec![(0, 512, Some(vec![9; 512]))]);
            return Err(Failure::transient("injected: the way to the vault broke"));
        }
        let real = self.real.lock().unwrap().clone();
        if let Some(vault) = real {
            let writer = WriterId::new(format!("w{}", self.vault.next.fetch_add(1, Ordering::Relaxed)));
            let vault = match &order.seed {
                Some(seed) => vault.writing_to(muster_vault::Place::open(seed, true)?),
                None => vault,
            };
            return muster_replication::pipeline::ship(&vault, source.as_ref(), order, &writer, progress).await;
        }
        let pieces = match &order.mode {
            ShipMode::Full => Self::read_all(source.as_ref(), ExtentKind::Zero).await?,
            ShipMode::Delta => Self::read_all(source.as_ref(), ExtentKind::Unchanged).await?,
            ShipMode::Compare { image } => self.compare(source.as_ref(), image).await?,
        };
        let sent_bytes = pieces.iter().map(|piece| piece.1 as u64).sum();
        progress.report(sent_bytes, None);
        let segments = self.vault.put(&order.lineage, self.clock.now(), pieces);
        Ok(ShippedDisk { segments, read_bytes: sent_bytes, sent_bytes, stored_bytes: sent_bytes, zero_bytes: 0 })
    }

    async fn settle(&self, barrier: &BarrierId, outcome: CutOutcome) -> Result<()> {
        if self.hang_settles.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.provider.settle(barrier, outcome).await
    }
    async fn untrack(&self, instance: &InstanceName) -> Result<()> {
        self.provider.untrack(instance).await
    }

    async fn land(&self, order: &LandOrder, _progress: &dyn Progress) -> Result<LandReport> {
        let mut shape = order.shape.clone();
        for disk in &mut shape.disks {
            disk.backing = DiskBacking::Existing;
            let bytes = self.vault.assemble(&order.images[&disk.name]);
            let (target, _) = self.provider.open_disk(&shape.instance, &disk.name, disk.size_bytes).await?;
            for (index, chunk) in bytes.chunks(GRAIN).enumerate() {
                target.write_at((index * GRAIN) as u64, chunk).await?;
            }
            target.flush().await?;
        }
        self.provider.define(&shape).await?;
        Ok(LandReport::default())
    }
    async fn hydrate(&self, instance: &InstanceName, progress: &dyn Progress) -> Result<()> {
        self.provider.hydrate(instance, progress).await
    }
}

pub fn disk_bytes(provider: &SimulatedProvider, machine: &MachineName, disk: &DiskName) -> Vec<u8> {
    let instance = InstanceName::live(machine);
    let mut bytes = vec![0u8; provider.disk_size(&instance, disk).unwrap() as usize];
    provider.read_disk(&instance, disk, 0, &mut bytes).unwrap();
    bytes
}

pub fn scribble(provider: &SimulatedProvider, random: &SeededRandom, machine: &MachineName, disk: &DiskName) {
    let instance = InstanceName::live(machine);
    let size = provider.disk_size(&instance, disk).unwrap();
    for _ in 0..random.below(3) {
        let length = 512 * (1 + random.below(200));
        let at = random.below((size - length) / 512) * 512;
        let value = if random.below(4) == 0 { 0 } else { random.below(255) as u8 + 1 };
        provider.write_disk(&instance, disk, at, &vec![value; length as usize]).unwrap();
    }
}

pub struct World {
    pub clock: Arc<VirtualClock>,
    pub random: Arc<SeededRandom>,
    pub store: Arc<MemoryStore>,
    pub vault: Arc<MemoryVault>,
    pub model: Arc<Mutex<BTreeMap<BarrierId, Contents>>>,
    pub sites: BTreeMap<SiteName, Arc<TestSite>>,
    pub replicator: Replicator,
    pub estate: Estate,
}

pub fn home() -> SiteName {
    SiteName::new("hq")
}
pub fn away() -> SiteName {
    SiteName::new("dr")
}
pub fn group() -> GroupName {
    GroupName::new("shop")
}

pub fn policy(cycle: Span, retain: Span) -> PolicySheet {
    PolicySheet {
        name: PolicyName::new("gold"),
        rpo: Duration::from_mins(5),
        cycle: cycle.into(),
        app_every: None,
        retain: retain.into(),
        bandwidth: None,
        bandwidth_windows: Vec::new(),
        change_log: None,
        compression: 3,
        continuous: false,
        crash_every: None,
        tiers: Vec::new(),
        retain_all: None,
        encryption: None,
        resync_window: None,
        initial_copy: InitialCopy::Online,
    }
}

impl World {
    /// Two sites; the machines are at home.
    pub async fn new(seed: u64, machines: &[MachineSpec], together: bool, scribbles: bool) -> Self {
        let clock = Arc::new(VirtualClock::starting_at(START));
        let random = Arc::new(SeededRandom::new(seed));
        let vault = Arc::new(MemoryVault::default());
        let model = Arc::new(Mutex::default());
        let mut sites = BTreeMap::new();
        for site in [home(), away()] {
            let provider = SimulatedProvider::in_memory(site.clone(), clock.clone(), random.clone()).unwrap();
            if site == home() {
                machines.iter().for_each(|machine| provider.add_machine(machine).unwrap());
            }
            let made = TestSite {
                provider,
                vault: Arc::clone(&vault),
                clock: clock.clone(),
                model: Arc::clone(&model),
                record_model: AtomicBool::new(true),
                scribble: scribbles.then(|| Arc::clone(&random)),
                fail_ships: AtomicU32::new(0),
                hang_ships: AtomicBool::new(false),
                ship_millis: AtomicU64::new(10),
                hang_settles: AtomicBool::new(false),
                modes: Mutex::default(),
                rate_limits: Mutex::default(),
                real: Mutex::default(),
            };
            sites.insert(site, Arc::new(made));
        }
        let mut estate = Estate::default();
        let gold = policy(Span::from_secs(60), Span::from_secs(600));
        let names = machines.iter().map(|machine| machine.name.clone()).collect();
        for facts in sites[&home()].provider.inventory().await.unwrap() {
            let sheet =
                MachineSheet { facts, home: home(), group: Some(group()), known_as: None, places: BTreeMap::new() };
            estate.machines.insert(sheet.facts.name.clone(), sheet);
        }
        let sheet = GroupSheet {
            name: group(),
            policy: Some(gold.name.clone()),
            machines: names,
            together,
            home: Some(home()),
            away: Some(away()),
            query: None,
        };
        estate.groups.insert(group(), sheet);
        estate.policies.insert(gold.name.clone(), gold);
        let store = MemoryStore::new(seed ^ 0x55);
        let replicator = connect(&store, &sites, &clock, &random, "file:///vault");
        let world = Self { clock, random, store, vault, model, sites, replicator, estate };
        world.replicator.protect(&world.estate, &group()).await.unwrap();
        world
    }

    pub fn site(&self, site: &SiteName) -> &TestSite {
        &self.sites[site]
    }
    pub fn home(&self) -> &SimulatedProvider {
        &self.site(&home()).provider
    }
    pub fn away(&self) -> &SimulatedProvider {
        &self.site(&away()).provider
    }
    /// The control service is killed and another one starts.
    pub fn restart(&mut self) {
        self.replicator = connect(&self.store, &self.sites, &self.clock, &self.random, "file:///vault");
    }
    pub fn connect_to(&mut self, vault: &str) {
        self.replicator = connect(&self.store, &self.sites, &self.clock, &self.random, vault);
    }
    pub fn take_modes(&self, site: &SiteName) -> Vec<String> {
        let mut modes = std::mem::take(&mut *self.site(site).modes.lock().unwrap());
        modes.sort();
        modes
    }

    /// Every point's every disk, assembled from the vault, is what the disk held at the cut.
    pub async fn check_images(&self) -> BTreeSet<PointId> {
        self.check_images_but(&BTreeSet::new()).await
    }

    /// The same for points not in `known`; all that there are come back.
    pub async fn check_images_but(&self, known: &BTreeSet<PointId>) -> BTreeSet<PointId> {
        let mut seen = BTreeSet::new();
        for point in self.replicator.point_records(&group()).await.unwrap() {
            if known.contains(&point.summary.id) {
                seen.insert(point.summary.id);
                continue;
            }
            let model = self.model.lock().unwrap().clone();
            for machine in &point.summary.machines {
                let images = self.replicator.images(&point.summary.id, machine).await.unwrap();
                for (disk, image) in images {
                    let key = (machine.clone(), disk.clone());
                    let held = point.barriers.iter().find_map(|barrier| model.get(barrier)?.get(&key)).unwrap();
                    let same = self.vault.assemble(&image) == *held;
                    assert!(same, "point {} holds other bytes for {machine}/{disk} than the cut", point.summary.id);
                }
            }
            seen.insert(point.summary.id);
        }
        seen
    }

    /// Lands every machine at a site from a point and switches it on.
    pub async fn land(&self, site: &SiteName, point: &PointId, key: &str) {
        for sheet in self.estate.machines.values() {
            let instance = InstanceName::live(&sheet.facts.name);
            let images: BTreeMap<_, _> =
                self.replicator.images(point, &sheet.facts.name).await.unwrap().into_iter().collect();
            let disks = sheet.facts.disks.iter().map(|disk| DiskShape {
                name: disk.name.clone(),
                size_bytes: disk.size_bytes,
                backing: DiskBacking::Existing,
            });
            let shape = MachineShape {
                instance: instance.clone(),
                machine: sheet.facts.name.clone(),
                cpus: 1,
                memory_bytes: 1 << 20,
                disks: disks.collect(),
                nics: sheet.facts.nics.clone(),
                scope: NetworkScope::Live,
                labels: BTreeMap::from([("muster.key".to_owned(), key.to_owned())]),
                track_from: Some(BarrierId::landed(point)),
            };
            self.site(site).provider.undefine(&instance, false).await.unwrap();
            self.site(site).land(&LandOrder { shape, images, mode: LandMode::Full }, &Silent).await.unwrap();
            self.site(site).provider.start(&instance).await.unwrap();
        }
    }

    pub async fn cycle(&self) -> Result<PointId> {
        Ok(self.replicator.cycle(&group(), &Silent).await?.id)
    }
    pub async fn notes(&self) -> Vec<String> {
        let status = self.replicator.status().await.unwrap();
        status[0].last_cycle.as_ref().map(|cycle| cycle.notes.clone()).unwrap_or_default()
    }
    pub async fn sent(&self) -> u64 {
        let status = self.replicator.status().await.unwrap();
        status[0].last_cycle.as_ref().unwrap().sent_bytes
    }
}

fn connect(
    store: &Arc<MemoryStore>,
    sites: &BTreeMap<SiteName, Arc<TestSite>>,
    clock: &Arc<VirtualClock>,
    random: &Arc<SeededRandom>,
    vault: &str,
) -> Replicator {
    let sites = sites.iter().map(|(name, site)| (name.clone(), Arc::clone(site) as Arc<dyn Site>)).collect();
    Replicator::new(store.clone(), sites, vault, clock.clone(), random.clone())
}

/// Two machines without programs: three disks of 1 MiB.
pub fn plain_machines() -> Vec<MachineSpec> {
    let disk = |name: &str| DiskFacts { name: DiskName::new(name), size_bytes: 1 << 20 };
    let machine = |name: &str, disks: Vec<DiskFacts>| MachineSpec {
        name: MachineName::new(name),
        cpus: 1,
        memory_bytes: 1 << 20,
        disks,
        nics: Vec::new(),
        program: None,
        ballast_bytes: 256 << 10,
    };
    vec![machine("db", vec![disk("root"), disk("data")]), machine("app", vec![disk("root")])]
}
