//! A site as the engine sees it: everything a [`Provider`](crate::Provider) can do with plain data, and the three verbs
//! that move replica data between the site and the vault without passing through the engine.

use crate::*;
use async_trait::async_trait;

/// A site, wherever it is. Implemented by the agent in-process and by its TCP client; `Transient` when it cannot be
/// reached. Effects are convergent as in [`Provider`](crate::Provider).
#[async_trait]
pub trait Site: Send + Sync + std::fmt::Debug {
    async fn facts(&self) -> Result<SiteFacts>;
    async fn inventory(&self) -> Result<Vec<MachineFacts>>;
    async fn instances(&self) -> Result<Vec<InstanceState>>;
    /// `None` when there is no such instance.
    async fn instance(&self, instance: &InstanceName) -> Result<Option<InstanceState>> {
        Ok(self.instances().await?.into_iter().find(|found| found.instance == *instance))
    }
    async fn undefine(&self, instance: &InstanceName, disks: bool) -> Result<()>;
    async fn start(&self, instance: &InstanceName) -> Result<()>;
    async fn stop(&self, instance: &InstanceName, mode: StopMode) -> Result<()>;
    async fn fence(&self, instance: &InstanceName) -> Result<()>;
    async fn unfence(&self, instance: &InstanceName) -> Result<()>;
    async fn ensure_networks(&self, networks: &[NetworkShape]) -> Result<()>;
    async fn create_bubble(&self, bubble: &BubbleShape) -> Result<()>;
    async fn discard_bubble(&self, bubble: &BubbleId) -> Result<()>;
    async fn bubbles(&self) -> Result<Vec<BubbleId>>;
    async fn probe(&self, scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer>;
    async fn guest_ping(&self, instance: &InstanceName) -> Result<()>;
    async fn guest_exec(&self, instance: &InstanceName, command: &GuestCommand) -> Result<GuestOutput>;
    async fn guest_shell(&self, scope: &NetworkScope, order: &ShellOrder) -> Result<GuestOutput>;
    async fn disk_read(&self, instance: &InstanceName, path: &str) -> Result<Option<String>>;
    async fn disk_write(&self, instance: &InstanceName, path: &str, text: &Concealed) -> Result<()>;
    async fn console(&self, instance: &InstanceName, bytes: u64) -> Result<String>;

    async fn cut(&self, order: &CutOrder) -> Result<CutReport>;
    /// Reads one disk of an open cut and writes it to the vault. Nothing counts until a point names the segments.
    async fn ship(&self, order: &ShipOrder, progress: &dyn Progress) -> Result<ShippedDisk>;
    async fn settle(&self, barrier: &BarrierId, outcome: CutOutcome) -> Result<()>;
    async fn untrack(&self, instance: &InstanceName) -> Result<()>;

    /// Makes the instance exist, powered off, from a recovery point. Asked again with the same `muster.key`, it goes on
    /// where it stopped.
    async fn land(&self, order: &LandOrder, progress: &dyn Progress) -> Result<LandReport>;
    async fn hydrate(&self, instance: &InstanceName, progress: &dyn Progress) -> Result<()>;
}
