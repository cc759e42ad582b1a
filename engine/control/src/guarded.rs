//! Sites that take orders only from the writer of the control state.
//!
//! A process that was frozen in the middle of a step wakes up behind its last record, which was durable, and would go on
//! with the next order of that step although another process has taken over. So each order that changes something is
//! preceded by a write of its own: the store refuses it when this process is no longer the writer.
//!
//! What is left is an order that was under way when the process froze. One that arrived before anybody took over is
//! repeated by whoever did, as after any crash; one that arrives later is refused by the site agent, which remembers the
//! highest epoch it has been commanded by.

use async_trait::async_trait;
use muster_ports::*;
use std::sync::Arc;

/// Written before each order; only that it can be written matters.
const GUARD_KEY: &str = "engine/guard";

#[derive(Debug)]
pub(crate) struct Guarded {
    site: Arc<dyn Site>,
    store: Arc<dyn StateStore>,
}

impl Guarded {
    pub(crate) fn new(site: Arc<dyn Site>, store: Arc<dyn StateStore>) -> Self {
        Self { site, store }
    }

    async fn still_writer(&self) -> Result<()> {
        let epoch = self.store.epoch().0.to_string();
        Ok(self.store.write(vec![Write::put(GUARD_KEY, epoch)]).await?)
    }
}

#[async_trait]
impl Site for Guarded {
    async fn facts(&self) -> Result<SiteFacts> {
        self.site.facts().await
    }
    async fn inventory(&self) -> Result<Vec<MachineFacts>> {
        self.site.inventory().await
    }
    async fn instances(&self) -> Result<Vec<InstanceState>> {
        self.site.instances().await
    }
    async fn instance(&self, instance: &InstanceName) -> Result<Option<InstanceState>> {
        self.site.instance(instance).await
    }
    async fn undefine(&self, instance: &InstanceName, disks: bool) -> Result<()> {
        self.still_writer().await?;
        self.site.undefine(instance, disks).await
    }
    async fn start(&self, instance: &InstanceName) -> Result<()> {
        self.still_writer().await?;
        self.site.start(instance).await
    }
    async fn stop(&self, instance: &InstanceName, mode: StopMode) -> Result<()> {
        self.still_writer().await?;
        self.site.stop(instance, mode).await
    }
    async fn fence(&self, instance: &InstanceName) -> Result<()> {
        self.still_writer().await?;
        self.site.fence(instance).await
    }
    async fn unfence(&self, instance: &InstanceName) -> Result<()> {
        self.still_writer().await?;
        self.site.unfence(instance).await
    }
    async fn ensure_networks(&self, networks: &[NetworkShape]) -> Result<()> {
        self.still_writer().await?;
        self.site.ensure_networks(networks).await
    }
    async fn create_bubble(&self, bubble: &BubbleShape) -> Result<()> {
        self.still_writer().await?;
        self.site.create_bubble(bubble).await
    }
    async fn discard_bubble(&self, bubble: &BubbleId) -> Result<()> {
        self.still_writer().await?;
        self.site.discard_bubble(bubble).await
    }
    async fn bubbles(&self) -> Result<Vec<BubbleId>> {
        self.site.bubbles().await
    }
    async fn probe(&self, scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer> {
        self.site.probe(scope, probe).await
    }
    async fn guest_ping(&self, instance: &InstanceName) -> Result<()> {
        self.site.guest_ping(instance).await
    }
    async fn guest_exec(&self, instance: &InstanceName, command: &GuestCommand) -> Result<GuestOutput> {
        self.still_writer().await?;
        self.site.guest_exec(instance, command).await
    }
    async fn guest_shell(&self, scope: &NetworkScope, order: &ShellOrder) -> Result<GuestOutput> {
        self.still_writer().await?;
        self.site.guest_shell(scope, order).await
    }
    async fn disk_read(&self, instance: &InstanceName, path: &str) -> Result<Option<String>> {
        self.site.disk_read(instance, path).await
    }
    async fn disk_write(&self, instance: &InstanceName, path: &str, text: &Concealed) -> Result<()> {
        self.still_writer().await?;
        self.site.disk_write(instance, path, text).await
    }
    async fn console(&self, instance: &InstanceName, bytes: u64) -> Result<String> {
        self.site.console(instance, bytes).await
    }
    async fn cut(&self, order: &CutOrder) -> Result<CutReport> {
        self.still_writer().await?;
        self.site.cut(order).await
    }
    async fn ship(&self, order: &ShipOrder, progress: &dyn Progress) -> Result<ShippedDisk> {
        self.site.ship(order, progress).await
    }
    async fn settle(&self, barrier: &BarrierId, outcome: CutOutcome) -> Result<()> {
        self.site.settle(barrier, outcome).await
    }
    async fn untrack(&self, instance: &InstanceName) -> Result<()> {
        self.still_writer().await?;
        self.site.untrack(instance).await
    }
    async fn land(&self, order: &LandOrder, progress: &dyn Progress) -> Result<LandReport> {
        self.still_writer().await?;
        self.site.land(order, progress).await
    }
    async fn hydrate(&self, instance: &InstanceName, progress: &dyn Progress) -> Result<()> {
        self.still_writer().await?;
        self.site.hydrate(instance, progress).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use muster_agent::LocalSite;
    use muster_journal::MemoryStore;
    use muster_provider_simulated::{EstateSpec, SimulatedProvider};
    use muster_vault::KeySource;

    #[tokio::test]
    async fn whoever_was_replaced_gives_no_order_and_may_still_look() {
        let folder = tempfile::tempdir().unwrap();
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let provider = SimulatedProvider::in_memory("hq".into(), clock, random.clone()).unwrap();
        provider.add_estate(&EstateSpec::tiny()).unwrap();
        let key = KeySource::generate_file(&folder.path().join("key"), random.as_ref()).unwrap();
        let home = folder.path().join("hq");
        std::fs::create_dir_all(&home).unwrap();
        let site: Arc<dyn Site> = Arc::new(LocalSite::new(Arc::new(provider), "hq".into(), home, key, random.as_ref()));
        let store = Arc::new(MemoryStore::new());
        let guarded = Guarded::new(site.clone(), store.clone());
        let db = InstanceName::live(&"db".into());
        guarded.start(&db).await.unwrap();
        assert_eq!(site.instance(&db).await.unwrap().unwrap().power, Power::On);

        let _taken_over = store.reopen();
        let refused = guarded.stop(&db, StopMode::Hard).await.unwrap_err();
        assert_eq!(refused.class, FailureClass::Refused, "{refused}");
        assert_eq!(guarded.fence(&db).await.unwrap_err().class, FailureClass::Refused);
        let seen = guarded.instance(&db).await.unwrap().unwrap();
        assert!(seen.power == Power::On && !seen.fenced, "nothing has happened to it");
    }
}
