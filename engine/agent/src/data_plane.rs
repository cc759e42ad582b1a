//! What the agent needs from vault and pipeline, in one place.

use crate::limits::VAULTS_MAX;
use crate::progress::Newest;
use async_trait::async_trait;
use muster_ports::*;
use muster_replication::pipeline;
use muster_vault::{KeySource, Replica, Vault};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};

/// Moves replica data between disks of a site and vaults.
#[async_trait]
pub trait DataPlane: Send + Sync + std::fmt::Debug {
    /// Writes what `order` asks of `source` to the vault.
    async fn ship(&self, source: &dyn BlockSource, order: &ShipOrder, progress: &dyn Progress) -> Result<ShippedDisk>;
    /// The disk at a point, to be read.
    async fn replica(&self, image: &ReplicaImage) -> Result<Arc<dyn BlockSource>>;
    /// Makes `target`, which holds anything, equal to the image.
    async fn apply_differences(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        progress: &dyn Progress,
    ) -> Result<LandReport>;
    /// Makes `target`, which is all zeroes, equal to the image.
    async fn materialise(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        progress: &dyn Progress,
    ) -> Result<LandReport>;
}

/// The real one. Vaults are opened once, with the site's own key; what it writes carries an id of its own, so that two
/// agents, or one before and after a restart, never choose the same name for a segment.
#[derive(Debug)]
pub struct VaultPlane {
    key: KeySource,
    writer: WriterId,
    vaults: Mutex<HashMap<String, Vault>>,
}

impl VaultPlane {
    pub fn new(key: KeySource, random: &dyn Random) -> Self {
        let writer = WriterId::new(format!("{:016x}", random.next_u64()));
        Self { key, writer, vaults: Mutex::default() }
    }

    async fn vault(&self, url: &str) -> Result<Vault> {
        // Held while opening: two callers never open the same vault twice, and opening takes milliseconds.
        let mut vaults = self.vaults.lock().await;
        if let Some(vault) = vaults.get(url) {
            return Ok(vault.clone());
        }
        let vault = Vault::open(url, &self.key).await?;
        if vaults.len() >= VAULTS_MAX {
            vaults.clear();
        }
        vaults.insert(url.to_owned(), vault.clone());
        Ok(vault)
    }

    async fn open(&self, image: &ReplicaImage) -> Result<Replica> {
        let replica = self.vault(&image.vault).await?.replica(image);
        // Reads the index of every segment, so that a missing one is found before a machine stands on it.
        replica.data_bytes().await?;
        Ok(replica)
    }
}

#[async_trait]
impl DataPlane for VaultPlane {
    async fn ship(&self, source: &dyn BlockSource, order: &ShipOrder, progress: &dyn Progress) -> Result<ShippedDisk> {
        let vault = self.vault(&order.vault).await?;
        pipeline::ship(&vault, source, order, &self.writer, progress).await
    }

    async fn replica(&self, image: &ReplicaImage) -> Result<Arc<dyn BlockSource>> {
        Ok(Arc::new(self.open(image).await?))
    }

    async fn apply_differences(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        progress: &dyn Progress,
    ) -> Result<LandReport> {
        let replica = self.open(image).await?;
        on_own_thread(progress, move |runtime, newest| {
            let landing = pipeline::apply_differences(&replica, &*target, newest);
            runtime.block_on(unless_given_up(landing, newest))
        })
        .await
    }

    async fn materialise(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        progress: &dyn Progress,
    ) -> Result<LandReport> {
        let replica = self.open(image).await?;
        on_own_thread(progress, move |runtime, newest| {
            let landing = pipeline::materialise(&replica, &*target, newest);
            runtime.block_on(unless_given_up(landing, newest))
        })
        .await
    }
}

/// Lands on a thread of its own, and tells its progress here: comparing and hashing a disk must not hold up the calls of
/// the other machines, and the pipeline's landing futures are tied to the thread that runs them.
async fn on_own_thread(
    progress: &dyn Progress,
    work: impl FnOnce(&Handle, &Newest) -> Result<LandReport> + Send + 'static,
) -> Result<LandReport> {
    let (sender, mut news) = watch::channel(None);
    let runtime = Handle::current();
    let mut working = tokio::task::spawn_blocking(move || work(&runtime, &Newest(sender)));
    loop {
        tokio::select! {
            biased;
            Ok(()) = news.changed() => {
                if let Some((done, total)) = *news.borrow_and_update() {
                    progress.report(done, total);
                }
            }
            done = &mut working => {
                return done.unwrap_or_else(|_| Err(Failure::diverged("landing a disk failed inside; this is a bug")));
            }
        }
    }
}

/// Ends the work when nobody waits for it any more: then nobody keeps others off the disk either.
async fn unless_given_up(landing: impl Future<Output = Result<LandReport>>, newest: &Newest) -> Result<LandReport> {
    tokio::select! {
        landed = landing => landed,
        () = newest.0.closed() => Err(Failure::transient("the landing was given up")),
    }
}
