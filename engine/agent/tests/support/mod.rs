//! A site in memory: a provider whose disks are byte vectors, and a data plane whose vault is a map.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use async_trait::async_trait;
use muster_agent::{DataPlane, LocalSite, RemoteSite, serve};
use muster_nbd::Client;
use muster_ports::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub(crate) const DISK_BYTES: u64 = 1 << 20;

pub(crate) fn name(text: &str) -> InstanceName {
    InstanceName::new(text)
}

#[derive(Debug, Clone)]
pub(crate) struct MemoryDisk(pub(crate) Arc<Mutex<Vec<u8>>>);

impl MemoryDisk {
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(bytes)))
    }
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl BlockSource for MemoryDisk {
    fn size(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        Ok(vec![Extent { offset, length, kind: ExtentKind::Data }])
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let disk = self.0.lock().unwrap();
        let range = offset as usize..offset as usize + buffer.len();
        buffer.copy_from_slice(disk.get(range).ok_or_else(|| Failure::permanent("read past the end"))?);
        Ok(())
    }
}

#[async_trait]
impl BlockTarget for MemoryDisk {
    async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.0.lock().unwrap()[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        Ok(())
    }
    async fn write_zeroes(&self, offset: u64, length: u64) -> Result<()> {
        self.0.lock().unwrap()[offset as usize..(offset + length) as usize].fill(0);
        Ok(())
    }
    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// A vault as a map from segment name to the whole disk. Outlives agents, as vaults do.
#[derive(Debug, Default)]
pub(crate) struct MemoryPlane {
    pub(crate) segments: Mutex<BTreeMap<String, Vec<u8>>>,
    /// When set, nothing can be read.
    pub(crate) gone: Mutex<bool>,
    /// Disks being shipped now, and the most there ever were at once.
    pub(crate) shipping: Mutex<(usize, usize)>,
}

impl MemoryPlane {
    pub(crate) fn put(&self, segment: &str, bytes: Vec<u8>) -> ReplicaImage {
        let size_bytes = bytes.len() as u64;
        self.segments.lock().unwrap().insert(segment.to_owned(), bytes);
        let segment = SegmentRef { name: SegmentName::new(segment), stored_bytes: size_bytes, hash: String::new() };
        let (vault, point) = ("file:///vault".to_owned(), PointId::new("p1"));
        ReplicaImage { vault, point, size_bytes, segments: vec![segment] }
    }
    fn get(&self, image: &ReplicaImage) -> Result<Vec<u8>> {
        if *self.gone.lock().unwrap() {
            return Err(Failure::transient("the vault is not there"));
        }
        let name = image.segments.last().map(|segment| segment.name.as_str()).unwrap_or_default();
        let segments = self.segments.lock().unwrap();
        segments.get(name).cloned().ok_or_else(|| Failure::permanent(format!("there is no segment `{name}`")))
    }
}

#[async_trait]
impl DataPlane for MemoryPlane {
    async fn ship(&self, source: &dyn BlockSource, order: &ShipOrder, progress: &dyn Progress) -> Result<ShippedDisk> {
        {
            let mut shipping = self.shipping.lock().unwrap();
            *shipping = (shipping.0 + 1, shipping.1.max(shipping.0 + 1));
        }
        let mut bytes = vec![0; source.size() as usize];
        let total = bytes.len() as u64;
        for (number, part) in bytes.chunks_mut(256 << 10).enumerate() {
            source.read_at(number as u64 * (256 << 10), part).await?;
            progress.report((number as u64 + 1) * (256 << 10), Some(total));
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        self.shipping.lock().unwrap().0 -= 1;
        let image = self.put(&format!("{}/{}", order.lineage, order.disk), bytes);
        Ok(ShippedDisk { segments: image.segments, read_bytes: total, ..ShippedDisk::default() })
    }
    async fn replica(&self, image: &ReplicaImage) -> Result<Arc<dyn BlockSource>> {
        Ok(Arc::new(MemoryDisk::of(self.get(image)?)))
    }
    async fn apply_differences(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        progress: &dyn Progress,
    ) -> Result<LandReport> {
        let wanted = self.get(image)?;
        let mut written_bytes = 0;
        for (number, part) in wanted.chunks(4096).enumerate() {
            let at = number as u64 * 4096;
            let mut old = vec![0; part.len()];
            target.read_at(at, &mut old).await?;
            if old != part {
                target.write_at(at, part).await?;
                written_bytes += part.len() as u64;
            }
            progress.report(at + part.len() as u64, Some(wanted.len() as u64));
        }
        Ok(LandReport { compared_bytes: wanted.len() as u64, written_bytes, ..LandReport::default() })
    }
    async fn materialise(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        progress: &dyn Progress,
    ) -> Result<LandReport> {
        let wanted = self.get(image)?;
        let mut old = vec![0; wanted.len()];
        target.read_at(0, &mut old).await?;
        if old.iter().any(|byte| *byte != 0) {
            return Err(Failure::diverged("materialise was given a disk that is not empty"));
        }
        target.write_at(0, &wanted).await?;
        progress.report(wanted.len() as u64, Some(wanted.len() as u64));
        Ok(LandReport { written_bytes: wanted.len() as u64, ..LandReport::default() })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Estate {
    pub(crate) instances: BTreeMap<InstanceName, InstanceState>,
    pub(crate) shapes: BTreeMap<InstanceName, MachineShape>,
    pub(crate) disks: BTreeMap<(InstanceName, DiskName), MemoryDisk>,
    pub(crate) fenced: BTreeSet<InstanceName>,
    pub(crate) bubbles: BTreeSet<BubbleId>,
    pub(crate) networks: Vec<NetworkShape>,
    pub(crate) cuts: BTreeMap<BarrierId, BTreeMap<(MachineName, DiskName), Vec<u8>>>,
    /// Effects in order, for counting.
    pub(crate) log: Vec<String>,
    /// The next definition fails with this.
    pub(crate) define_fails: Option<Failure>,
}

/// Outlives agents, as hypervisors do.
#[derive(Debug)]
pub(crate) struct MemoryProvider {
    pub(crate) site: SiteName,
    pub(crate) estate: Mutex<Estate>,
    /// Starting a machine takes one permit: tests hold it back.
    pub(crate) gate: Semaphore,
}

impl MemoryProvider {
    pub(crate) fn new(site: &str) -> Arc<Self> {
        let estate = Mutex::new(Estate::default());
        Arc::new(Self { site: SiteName::new(site), estate, gate: Semaphore::new(1_000) })
    }
    pub(crate) fn count(&self, effect: &str) -> usize {
        self.estate.lock().unwrap().log.iter().filter(|line| line.starts_with(effect)).count()
    }
    pub(crate) fn disk(&self, instance: &str, disk: &str) -> Option<MemoryDisk> {
        self.estate.lock().unwrap().disks.get(&(name(instance), DiskName::new(disk))).cloned()
    }
    pub(crate) fn put_disk(&self, instance: &str, disk: &str, bytes: Vec<u8>) {
        let key = (name(instance), DiskName::new(disk));
        self.estate.lock().unwrap().disks.insert(key, MemoryDisk::of(bytes));
    }
    pub(crate) fn backing(&self, instance: &str, disk: &str) -> DiskBacking {
        let estate = self.estate.lock().unwrap();
        estate.shapes[&name(instance)].disks.iter().find(|shape| shape.name.as_str() == disk).unwrap().backing.clone()
    }
    fn change(&self, instance: &InstanceName, change: impl FnOnce(&mut InstanceState)) -> Result<()> {
        let mut estate = self.estate.lock().unwrap();
        let missing = || Failure::permanent(format!("there is no `{instance}`")).help("look at the inventory");
        change(estate.instances.get_mut(instance).ok_or_else(missing)?);
        Ok(())
    }
}

#[async_trait]
impl Provider for MemoryProvider {
    async fn facts(&self) -> Result<SiteFacts> {
        let (provider, detail) = ("memory".to_owned(), "for tests".to_owned());
        Ok(SiteFacts { site: self.site.clone(), provider, detail, capabilities: Capabilities::default() })
    }
    async fn inventory(&self) -> Result<Vec<MachineFacts>> {
        let estate = self.estate.lock().unwrap();
        Ok(estate.shapes.values().map(facts_of).collect())
    }
    async fn instances(&self) -> Result<Vec<InstanceState>> {
        Ok(self.estate.lock().unwrap().instances.values().cloned().collect())
    }
    async fn define(&self, shape: &MachineShape) -> Result<()> {
        let mut estate = self.estate.lock().unwrap();
        if let Some(failure) = estate.define_fails.take() {
            return Err(failure);
        }
        estate.log.push(format!("define {}", shape.instance));
        for disk in &shape.disks {
            let key = (shape.instance.clone(), disk.name.clone());
            match disk.backing {
                DiskBacking::Blank => {
                    estate.disks.insert(key, MemoryDisk::of(vec![0; disk.size_bytes as usize]));
                }
                DiskBacking::Existing if !estate.disks.contains_key(&key) => {
                    return Err(Failure::permanent(format!("there is no disk `{}`", disk.name)));
                }
                _ => {}
            }
        }
        let state = InstanceState {
            instance: shape.instance.clone(),
            machine: shape.machine.clone(),
            power: Power::Off,
            fenced: estate.fenced.contains(&shape.instance),
            tied: shape.disks.iter().any(|disk| matches!(disk.backing, DiskBacking::Export { .. })),
            scope: shape.scope.clone(),
            nics: shape.nics.clone(),
            labels: shape.labels.clone(),
        };
        estate.instances.insert(shape.instance.clone(), state);
        estate.shapes.insert(shape.instance.clone(), shape.clone());
        Ok(())
    }
    async fn undefine(&self, instance: &InstanceName, disks: bool) -> Result<()> {
        let mut estate = self.estate.lock().unwrap();
        if estate.instances.get(instance).is_some_and(|found| found.power == Power::On) {
            return Err(Failure::refused(format!("`{instance}` is on")));
        }
        estate.log.push(format!("undefine {instance}"));
        estate.instances.remove(instance);
        estate.shapes.remove(instance);
        if disks {
            estate.disks.retain(|(owner, _), _| owner != instance);
        }
        Ok(())
    }
    async fn start(&self, instance: &InstanceName) -> Result<()> {
        self.gate.acquire().await.unwrap().forget();
        if self.estate.lock().unwrap().fenced.contains(instance) {
            return Err(Failure::refused(format!("`{instance}` is fenced")));
        }
        self.change(instance, |found| found.power = Power::On)?;
        self.estate.lock().unwrap().log.push(format!("start {instance}"));
        Ok(())
    }
    async fn stop(&self, instance: &InstanceName, _mode: StopMode) -> Result<()> {
        self.change(instance, |found| found.power = Power::Off)
    }
    async fn fence(&self, instance: &InstanceName) -> Result<()> {
        self.estate.lock().unwrap().fenced.insert(instance.clone());
        let _ = self.change(instance, |found| (found.power, found.fenced) = (Power::Off, true));
        Ok(())
    }
    async fn unfence(&self, instance: &InstanceName) -> Result<()> {
        self.estate.lock().unwrap().fenced.remove(instance);
        let _ = self.change(instance, |found| found.fenced = false);
        Ok(())
    }
    async fn ensure_networks(&self, networks: &[NetworkShape]) -> Result<()> {
        self.estate.lock().unwrap().networks = networks.to_vec();
        Ok(())
    }
    async fn create_bubble(&self, bubble: &BubbleShape) -> Result<()> {
        self.estate.lock().unwrap().bubbles.insert(bubble.bubble.clone());
        Ok(())
    }
    async fn discard_bubble(&self, bubble: &BubbleId) -> Result<()> {
        self.estate.lock().unwrap().bubbles.remove(bubble);
        Ok(())
    }
    async fn bubbles(&self) -> Result<Vec<BubbleId>> {
        Ok(self.estate.lock().unwrap().bubbles.iter().cloned().collect())
    }
    async fn probe(&self, _scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer> {
        match probe {
            Probe::Http { path, .. } => Ok(ProbeAnswer { status: 200, body: path.clone() }),
            Probe::Talk { send, .. } => Ok(ProbeAnswer { status: 0, body: send.to_uppercase() }),
            Probe::Tcp { .. } => panic!("this provider has a bug, for tests"),
        }
    }
    async fn guest_ping(&self, instance: &InstanceName) -> Result<()> {
        self.change(instance, |_| {})
    }
    async fn guest_exec(&self, _instance: &InstanceName, command: &GuestCommand) -> Result<GuestOutput> {
        let out = command.stdin.clone().unwrap_or_default();
        Ok(GuestOutput { code: command.arguments.len() as i32, out, err: command.program.clone() })
    }
    async fn console(&self, _instance: &InstanceName, bytes: u64) -> Result<String> {
        Ok("x".repeat(bytes as usize))
    }
    async fn cut(&self, order: &CutOrder) -> Result<CutReport> {
        let mut estate = self.estate.lock().unwrap();
        let mut frozen = BTreeMap::new();
        let mut disks = Vec::new();
        for member in &order.members {
            for ((owner, disk), content) in &estate.disks {
                if *owner == member.instance {
                    frozen.insert((member.machine.clone(), disk.clone()), content.bytes());
                    let size_bytes = content.bytes().len() as u64;
                    let (machine, disk) = (member.machine.clone(), disk.clone());
                    let tracking = Tracking::Lost { reason: "first".to_owned() };
                    disks.push(DiskCut { machine, disk, size_bytes, tracking, dirty_bytes: size_bytes });
                }
            }
        }
        estate.cuts.insert(order.barrier.clone(), frozen);
        Ok(CutReport {
            barrier: order.barrier.clone(),
            at: Timestamp(1),
            consistency: order.consistency,
            flush_micros: 1,
            hold_micros: 1,
            transaction_micros: 1,
            disks,
            notes: Vec::new(),
        })
    }
    async fn open_cut(
        &self,
        barrier: &BarrierId,
        machine: &MachineName,
        disk: &DiskName,
        _changed_only: bool,
    ) -> Result<Box<dyn BlockSource>> {
        let estate = self.estate.lock().unwrap();
        let bytes = estate.cuts.get(barrier).and_then(|cut| cut.get(&(machine.clone(), disk.clone())));
        let bytes = bytes.ok_or_else(|| Failure::permanent(format!("there is no cut `{barrier}`")))?;
        Ok(Box::new(MemoryDisk::of(bytes.clone())))
    }
    async fn settle(&self, barrier: &BarrierId, _outcome: CutOutcome) -> Result<()> {
        self.estate.lock().unwrap().cuts.remove(barrier);
        Ok(())
    }
    async fn untrack(&self, _instance: &InstanceName) -> Result<()> {
        Ok(())
    }
    async fn open_disk(
        &self,
        instance: &InstanceName,
        disk: &DiskName,
        size_bytes: u64,
    ) -> Result<(Box<dyn BlockTarget>, bool)> {
        let mut estate = self.estate.lock().unwrap();
        let key = (instance.clone(), disk.clone());
        let existed = estate.disks.contains_key(&key);
        let disk = estate.disks.entry(key).or_insert_with(|| MemoryDisk::of(vec![0; size_bytes as usize]));
        Ok((Box::new(disk.clone()), existed))
    }
    async fn hydrate(&self, instance: &InstanceName, progress: &dyn Progress) -> Result<()> {
        if self.estate.lock().unwrap().instances.get(instance).is_some_and(|found| !found.tied) {
            return Ok(());
        }
        let shape = self.estate.lock().unwrap().shapes.get(instance).cloned();
        let shape = shape.ok_or_else(|| Failure::permanent(format!("there is no `{instance}`")))?;
        for disk in &shape.disks {
            if let DiskBacking::Export { socket, export } = &disk.backing {
                let client = Client::connect_unix(Path::new(socket), export, &[]).await?;
                let mut bytes = vec![0; client.size() as usize];
                client.read_at(0, &mut bytes).await?;
                progress.report(bytes.len() as u64, None);
                self.put_disk(instance.as_str(), disk.name.as_str(), bytes);
            }
        }
        self.change(instance, |found| found.tied = false)
    }
}

fn facts_of(shape: &MachineShape) -> MachineFacts {
    MachineFacts {
        name: shape.machine.clone(),
        cpus: shape.cpus,
        memory_bytes: shape.memory_bytes,
        disks: shape
            .disks
            .iter()
            .map(|disk| DiskFacts { name: disk.name.clone(), size_bytes: disk.size_bytes })
            .collect(),
        nics: shape.nics.clone(),
        power: Power::Off,
        guest_agent: true,
        churn_bytes_per_second: 0,
        churn: None,
        containers: BTreeMap::new(),
        tags: Vec::new(),
    }
}

/// A disk with a different byte everywhere.
pub(crate) fn content(seed: u8) -> Vec<u8> {
    (0..DISK_BYTES).map(|at| (at / 4096) as u8 ^ seed | 1).collect()
}

/// Lands `machine` with disks `root` and `data`, whose contents are those of `images`.
pub(crate) fn order(machine: &str, key: &str, mode: LandMode, images: [ReplicaImage; 2]) -> LandOrder {
    let names = ["root", "data"].map(DiskName::new);
    let disk = |name: &DiskName| DiskShape { name: name.clone(), size_bytes: DISK_BYTES, backing: DiskBacking::Blank };
    let shape = MachineShape {
        instance: name(machine),
        machine: MachineName::new(machine),
        cpus: 1,
        memory_bytes: 1 << 28,
        disks: names.iter().map(disk).collect(),
        nics: Vec::new(),
        scope: NetworkScope::Live,
        labels: BTreeMap::from([("muster.key".to_owned(), key.to_owned())]),
        track_from: None,
    };
    LandOrder { shape, images: names.into_iter().zip(images).collect(), mode }
}

/// An agent on loopback that can be killed.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) address: String,
    pub(crate) serving: JoinHandle<Result<()>>,
}

impl Agent {
    pub(crate) async fn start(site: Arc<dyn Site>) -> Self {
        Self::start_at("127.0.0.1:0", site).await
    }
    pub(crate) async fn start_at(address: &str, site: Arc<dyn Site>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { address, serving: tokio::spawn(serve(listener, site)) }
    }
    pub(crate) fn remote(&self, site: &str) -> Arc<RemoteSite> {
        Arc::new(RemoteSite::new(SiteName::new(site), self.address.clone()))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn local(provider: &Arc<MemoryProvider>, plane: &Arc<MemoryPlane>, folder: &Path) -> LocalSite {
    LocalSite::with_data_plane(provider.clone(), provider.site.clone(), folder.to_owned(), plane.clone())
}
