//! Carries replica data between the simulated sites, in memory and in virtual time.
//!
//! The disks are small, so what travels is not what takes time: that is what the machines of the plan write, by the
//! inventory's word, over the slowest of policy and link.

use async_trait::async_trait;
use muster_agent::DataPlane;
use muster_ports::*;
use muster_runsheet::{Estate, MachineName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Pieces in which disks are read.
const PIECE_BYTES: u64 = 256 << 10;

/// Longest transfer of a disk in one cycle. More is written than passes: each cycle would take longer than the one before,
/// for ever. That is a matter for promises (E0402), and a rehearsal has to end.
const TRANSFER_MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
struct Segment(Vec<(u64, Vec<u8>)>);

/// The vault of a rehearsal: segments by name.
#[derive(Debug, Default)]
struct Shelf {
    segments: BTreeMap<SegmentName, Arc<Segment>>,
    count: u64,
}

/// What is carried from one site. All carriers of a rehearsal share one shelf.
#[derive(Clone, Debug)]
pub(crate) struct Carrier {
    shelf: Arc<Mutex<Shelf>>,
    clock: Arc<dyn Clock>,
    /// Bytes a second, once the link is slow.
    link: Arc<OnceLock<u64>>,
    /// What a disk of the machine writes, bytes a second.
    churn: Arc<BTreeMap<MachineName, u64>>,
    shipped: Arc<Mutex<BTreeMap<(MachineName, DiskName), Timestamp>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Carrier {
    pub(crate) fn new(estate: &Estate, clock: Arc<dyn Clock>) -> Self {
        let of = |machine: &muster_runsheet::MachineSheet| {
            let facts = &machine.facts;
            let whole = match &facts.churn {
                Some(churn) if churn.interval.0 > 0 => churn.p95.0.saturating_mul(1_000) / churn.interval.0,
                _ => facts.churn_bytes_per_second,
            };
            whole / u64::try_from(facts.disks.len()).unwrap_or(u64::MAX).max(1)
        };
        let churn = estate.machines.iter().map(|(name, machine)| (name.clone(), of(machine))).collect();
        Self { shelf: Arc::default(), clock, link: Arc::default(), churn: Arc::new(churn), shipped: Arc::default() }
    }

    /// The same shelf, over a link of its own.
    pub(crate) fn of_site(&self) -> Self {
        Self { link: Arc::default(), ..self.clone() }
    }

    /// What all machines write, bytes a second.
    pub(crate) fn churn_in_all(&self) -> u64 {
        self.churn.values().fold(0, |sum, churn| sum.saturating_add(*churn))
    }

    /// From now on so many bytes a second pass.
    pub(crate) fn slow_down(&self, bytes_per_second: u64) {
        // It is slowed once in a rehearsal.
        let _ = self.link.set(bytes_per_second.max(1));
    }

    /// How long the changes since the last time take.
    fn transfer(&self, order: &ShipOrder) -> Duration {
        let now = self.clock.now();
        let key = (order.machine.clone(), order.disk.clone());
        let Some(last) = lock(&self.shipped).insert(key, now) else { return Duration::ZERO };
        let Some(rate) = self.link.get().copied().into_iter().chain(order.rate_limit).min() else {
            return Duration::ZERO;
        };
        let churn = self.churn.get(&order.machine).copied().unwrap_or(0);
        let millis = u128::from(churn) * now.since(last).as_millis() / u128::from(rate.max(1));
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)).min(TRANSFER_MAX)
    }

    fn image(&self, image: &ReplicaImage) -> Result<Vec<u8>> {
        let size = usize::try_from(image.size_bytes).unwrap_or(usize::MAX);
        let mut bytes = vec![0; size];
        for named in &image.segments {
            let segment = lock(&self.shelf).segments.get(&named.name).cloned();
            let segment = segment.ok_or_else(|| Failure::permanent(format!("there is no segment `{}`", named.name)))?;
            for (offset, data) in &segment.0 {
                let at = usize::try_from(*offset).unwrap_or(usize::MAX);
                if let Some(place) = bytes.get_mut(at..at.saturating_add(data.len())) {
                    place.copy_from_slice(data);
                }
            }
        }
        Ok(bytes)
    }

    async fn land(&self, image: &ReplicaImage, target: &dyn BlockTarget) -> Result<LandReport> {
        let bytes = self.image(image)?;
        target.write_at(0, &bytes).await?;
        let written_bytes = bytes.len() as u64;
        Ok(LandReport { fetched_bytes: written_bytes, written_bytes, ..LandReport::default() })
    }
}

async fn read(source: &dyn BlockSource) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < source.size() {
        let length = PIECE_BYTES.min(source.size() - at);
        let mut next = at;
        for extent in source.extents(at, length).await? {
            next = extent.offset + extent.length;
            let length = usize::try_from(extent.length).unwrap_or(0);
            let mut data = vec![0; length];
            match extent.kind {
                ExtentKind::Data => source.read_at(extent.offset, &mut data).await?,
                ExtentKind::Zero => {}
                ExtentKind::Unchanged => continue,
            }
            pieces.push((extent.offset, data));
        }
        if next == at {
            return Err(Failure::permanent("a simulated disk does not say what lies in it"));
        }
        at = next;
    }
    Ok(pieces)
}

#[async_trait]
impl DataPlane for Carrier {
    async fn ship(&self, source: &dyn BlockSource, order: &ShipOrder, _progress: &dyn Progress) -> Result<ShippedDisk> {
        let pieces = read(source).await?;
        let takes = self.transfer(order);
        if !takes.is_zero() {
            self.clock.sleep(takes).await;
        }
        let bytes = pieces.iter().map(|(_, data)| data.len() as u64).sum();
        let mut shelf = lock(&self.shelf);
        shelf.count += 1;
        let name = SegmentName::new(format!("{}/{:08}", order.lineage, shelf.count));
        shelf.segments.insert(name.clone(), Arc::new(Segment(pieces)));
        let segment = SegmentRef { name, stored_bytes: bytes, hash: String::new() };
        Ok(ShippedDisk {
            segments: vec![segment],
            read_bytes: bytes,
            sent_bytes: bytes,
            stored_bytes: bytes,
            zero_bytes: 0,
        })
    }

    async fn replica(&self, _image: &ReplicaImage) -> Result<Arc<dyn BlockSource>> {
        Err(Failure::permanent("a simulated site cannot run a machine from an export"))
    }

    async fn apply_differences(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        _progress: &dyn Progress,
    ) -> Result<LandReport> {
        self.land(image, &*target).await
    }

    async fn materialise(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        _progress: &dyn Progress,
    ) -> Result<LandReport> {
        self.land(image, &*target).await
    }
}
