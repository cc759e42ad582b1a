//! A provider, a folder and a key make a site.

use crate::data_plane::{DataPlane, VaultPlane};
use crate::limits::{COPIES_MAX, DELTAS_MAX, SETTLED_MAX};
use crate::ties::Ties;
use async_trait::async_trait;
use muster_ports::*;
use muster_vault::KeySource;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// The site beside its hypervisor. Landing, hydrating and removing the same instance exclude each other; everything else
/// goes to the provider at once, so that a fence never waits for anything.
#[derive(Debug)]
pub struct LocalSite {
    pub(crate) provider: Arc<dyn Provider>,
    site: SiteName,
    pub(crate) plane: Arc<dyn DataPlane>,
    pub(crate) ties: Ties,
    busy: Mutex<HashMap<InstanceName, Arc<tokio::sync::Mutex<()>>>>,
    /// Disks read whole, and changes of disks, on their way at once: two kinds, so that the protected do not wait for
    /// those that are being protected.
    copies: Semaphore,
    deltas: Semaphore,
    /// The newest cuts that were settled, oldest first: whoever gave a cut up settles it at once, and its order may still
    /// be on its way here.
    settled: Mutex<VecDeque<BarrierId>>,
}

impl LocalSite {
    /// `folder` is the site's own; `key` opens the vaults. Call [`resume`](Self::resume) before serving.
    pub fn new(
        provider: Arc<dyn Provider>,
        site: SiteName,
        folder: PathBuf,
        key: KeySource,
        random: &dyn Random,
    ) -> Self {
        Self::with_data_plane(provider, site, folder, Arc::new(VaultPlane::new(key, random)))
    }

    /// With another way to move data than vault and pipeline.
    pub fn with_data_plane(
        provider: Arc<dyn Provider>,
        site: SiteName,
        folder: PathBuf,
        plane: Arc<dyn DataPlane>,
    ) -> Self {
        let ties = Ties::new(Some(folder), plane.clone());
        Self::of(provider, site, plane, ties)
    }

    /// Without a folder: for a provider that cannot run machines from exports, so that nothing outlives the process.
    pub fn in_memory(provider: Arc<dyn Provider>, site: SiteName, plane: Arc<dyn DataPlane>) -> Self {
        let ties = Ties::new(None, plane.clone());
        Self::of(provider, site, plane, ties)
    }

    fn of(provider: Arc<dyn Provider>, site: SiteName, plane: Arc<dyn DataPlane>, ties: Ties) -> Self {
        let (copies, deltas) = (Semaphore::new(COPIES_MAX), Semaphore::new(DELTAS_MAX));
        Self { provider, site, plane, ties, busy: Mutex::default(), copies, deltas, settled: Mutex::default() }
    }

    /// Serves again what instances of before still need, and forgets what none does. Fails when the folder cannot be
    /// used at all; an instance that cannot be served (its vault is not there) is among the failures that come back, and
    /// is tried again when it is started or at the next call.
    pub async fn resume(&self) -> Result<Vec<Failure>> {
        self.ties.server().await?;
        let (ties, mut failures) = self.ties.all().await?;
        for tie in ties {
            if let Err(failure) = self.resume_instance(&tie.instance).await {
                failures.push(failure.during(format!("serve the disks of `{}`", tie.instance)));
            }
        }
        Ok(failures)
    }

    async fn resume_instance(&self, instance: &InstanceName) -> Result<()> {
        let lock = self.lock_of(instance);
        // Somebody at work on the instance serves what it needs.
        let Ok(_busy) = lock.try_lock() else { return Ok(()) };
        match self.find(instance).await? {
            Some(found) if found.tied => self.ties.serve(instance).await,
            _ => self.ties.untie(instance).await,
        }
    }

    pub(crate) async fn find(&self, instance: &InstanceName) -> Result<Option<InstanceState>> {
        Ok(self.provider.instances().await?.into_iter().find(|found| found.instance == *instance))
    }

    fn settled(&self) -> MutexGuard<'_, VecDeque<BarrierId>> {
        // A panic while the lock is held cannot leave the list half changed.
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a cut that was settled before it was made: nobody would settle it again, and it would bar the next one.
    fn refuse_settled(&self, barrier: &BarrierId) -> Result<()> {
        if !self.settled().contains(barrier) {
            return Ok(());
        }
        Err(Failure::refused(format!("the cut `{barrier}` was settled before it was made"))
            .help("nothing is left of it; the next cycle makes its own"))
    }

    /// Excludes the long effects on one instance from each other.
    pub(crate) fn lock_of(&self, instance: &InstanceName) -> Arc<tokio::sync::Mutex<()>> {
        // A panic while the lock is held cannot leave the map half changed.
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, lock| Arc::strong_count(lock) > 1);
        busy.entry(instance.clone()).or_default().clone()
    }
}

#[async_trait]
impl Site for LocalSite {
    async fn facts(&self) -> Result<SiteFacts> {
        let facts = self.provider.facts().await?;
        if facts.site != self.site {
            let message = format!("the agent of site `{}` was given the provider of site `{}`", self.site, facts.site);
            return Err(Failure::permanent(message).help("start the agent with the name and folder of one site"));
        }
        Ok(facts)
    }
    async fn inventory(&self) -> Result<Vec<MachineFacts>> {
        self.provider.inventory().await
    }
    async fn instances(&self) -> Result<Vec<InstanceState>> {
        self.provider.instances().await
    }
    async fn undefine(&self, instance: &InstanceName, disks: bool) -> Result<()> {
        let lock = self.lock_of(instance);
        let Ok(_busy) = lock.try_lock() else {
            return Err(Failure::transient(format!("`{instance}` is being landed or hydrated right now")));
        };
        self.provider.undefine(instance, disks).await?;
        self.ties.untie(instance).await
    }
    async fn start(&self, instance: &InstanceName) -> Result<()> {
        self.ties.serve(instance).await.map_err(|failure| failure.during(format!("start `{instance}`")))?;
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
        let lock = self.lock_of(instance);
        let _busy = lock.lock().await;
        self.ties.serve(instance).await.map_err(|failure| failure.during(format!("read a disk of `{instance}`")))?;
        self.provider.disk_read(instance, path).await
    }
    async fn disk_write(&self, instance: &InstanceName, path: &str, text: &Concealed) -> Result<()> {
        let lock = self.lock_of(instance);
        let _busy = lock.lock().await;
        self.ties.serve(instance).await.map_err(|failure| failure.during(format!("write a disk of `{instance}`")))?;
        self.provider.disk_write(instance, path, text).await
    }
    async fn console(&self, instance: &InstanceName, bytes: u64) -> Result<String> {
        self.provider.console(instance, bytes).await
    }
    async fn cut(&self, order: &CutOrder) -> Result<CutReport> {
        self.refuse_settled(&order.barrier)?;
        let report = self.provider.cut(order).await?;
        if let Err(refused) = self.refuse_settled(&order.barrier) {
            self.provider.settle(&order.barrier, CutOutcome::Abandoned).await?;
            return Err(refused);
        }
        Ok(report)
    }
    async fn ship(&self, order: &ShipOrder, progress: &dyn Progress) -> Result<ShippedDisk> {
        let changed_only = matches!(order.mode, ShipMode::Delta);
        let turns = if changed_only { &self.deltas } else { &self.copies };
        let _turn = turns.acquire().await.map_err(|_| Failure::transient("the agent is ending"))?;
        let source = self.provider.open_cut(&order.barrier, &order.machine, &order.disk, changed_only).await?;
        self.plane.ship(&*source, order, progress).await
    }
    async fn settle(&self, barrier: &BarrierId, outcome: CutOutcome) -> Result<()> {
        {
            let mut settled = self.settled();
            if !settled.contains(barrier) {
                settled.push_back(barrier.clone());
            }
            let surplus = settled.len().saturating_sub(SETTLED_MAX);
            settled.drain(..surplus);
        }
        self.provider.settle(barrier, outcome).await
    }
    async fn untrack(&self, instance: &InstanceName) -> Result<()> {
        self.provider.untrack(instance).await
    }
    async fn land(&self, order: &LandOrder, progress: &dyn Progress) -> Result<LandReport> {
        let instance = &order.shape.instance;
        let lock = self.lock_of(instance);
        let _busy = lock.lock().await;
        self.land_alone(order, progress).await.map_err(|failure| failure.during(format!("land `{instance}`")))
    }
    async fn hydrate(&self, instance: &InstanceName, progress: &dyn Progress) -> Result<()> {
        let lock = self.lock_of(instance);
        let _busy = lock.lock().await;
        self.ties.serve(instance).await.map_err(|failure| failure.during(format!("hydrate `{instance}`")))?;
        self.provider.hydrate(instance, progress).await?;
        self.ties.untie(instance).await
    }
}
