//! What the agent needs from vault and pipeline, in one place.

use crate::limits::VAULTS_MAX;
use crate::progress::Newest;
use async_trait::async_trait;
use muster_ports::*;
use muster_replication::pipeline::{self, Pacers};
use muster_vault::{KeySource, Place, Replica, Vault};
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
    /// Rates that the shipments of a group share.
    pacers: Pacers,
}

impl VaultPlane {
    pub fn new(key: KeySource, random: &dyn Random) -> Self {
        let writer = WriterId::new(format!("{:016x}", random.next_u64()));
        Self { key, writer, vaults: Mutex::default(), pacers: Pacers::default() }
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
        let vault = match &order.seed {
            Some(seed) => vault.writing_to(Place::open(seed, true)?),
            None => vault,
        };
        pipeline::ship_paced(&vault, source, order, &self.writer, progress, &self.pacers).await
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
        self.land(image, target, Before::Anything, progress).await
    }

    async fn materialise(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        progress: &dyn Progress,
    ) -> Result<LandReport> {
        self.land(image, target, Before::Zeroes, progress).await
    }
}

/// What a disk holds before it is landed on.
#[derive(Clone, Copy, Debug)]
enum Before {
    Anything,
    Zeroes,
}

impl VaultPlane {
    /// Lands on a thread of its own, and tells its progress here: comparing and hashing a disk must not hold up the calls
    /// of the other machines.
    async fn land(
        &self,
        image: &ReplicaImage,
        target: Arc<dyn BlockTarget>,
        before: Before,
        progress: &dyn Progress,
    ) -> Result<LandReport> {
        let replica = self.open(image).await?;
        let (sender, mut news) = watch::channel(None);
        let landing = async move {
            let newest = Newest(sender);
            let work = async {
                match before {
                    Before::Anything => pipeline::apply_differences(&replica, &*target, &newest).await,
                    Before::Zeroes => pipeline::materialise(&replica, &*target, &newest).await,
                }
            };
            tokio::select! {
                landed = work => landed,
                // Nobody waits for it any more: then nobody keeps others off the disk either.
                () = newest.0.closed() => Err(Failure::transient("the landing was given up")),
            }
        };
        let runtime = Handle::current();
        let mut working = tokio::task::spawn_blocking(move || runtime.block_on(landing));
        loop {
            tokio::select! {
                biased;
                Ok(()) = news.changed() => {
                    if let Some((done, total)) = *news.borrow_and_update() {
                        progress.report(done, total);
                    }
                }
                done = &mut working => {
                    let bug = |_| Err(Failure::diverged("landing a disk failed inside; this is a bug"));
                    return done.unwrap_or_else(bug);
                }
            }
        }
    }
}
