//! The estate of a rehearsal for harnesses that play on it in their own way: the same machines, sites and first points,
//! without the engine, the people and the pace of [`simulate`](crate::simulate()).

use crate::conditions::Conditions;
use crate::engine::VAULT;
use crate::simulate::protect;
use crate::world::World;
use muster_journal::MemoryStore;
use muster_ports::*;
use muster_provider_simulated::SimulatedProvider;
use muster_replication::Replicator;
use muster_runsheet::{Estate, Runsheet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Simulated sites with every machine of a plan at its home and on. Must be made and used on a runtime whose time is
/// paused.
#[derive(Debug)]
pub struct Stage(World);

impl Stage {
    /// What the sheets create lies ready where it is to be.
    pub async fn new(estate: &Estate, sheets: &[&Runsheet], seed: u64) -> Result<Self> {
        let conditions = Conditions { seed, ..Conditions::default() };
        Ok(Self(World::new(estate, sheets, &conditions).await?))
    }

    /// The clock of the sites.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.0.clock.clone()
    }
    pub fn random(&self) -> Arc<dyn Random> {
        self.0.random.clone()
    }
    pub fn providers(&self) -> &BTreeMap<SiteName, SimulatedProvider> {
        &self.0.providers
    }
    pub fn sites(&self) -> &BTreeMap<SiteName, Arc<dyn Site>> {
        &self.0.sites
    }
    /// Live machines that are on, by site.
    pub fn running(&self) -> BTreeMap<SiteName, BTreeSet<MachineName>> {
        self.0.running()
    }

    /// Every replicated group of the sheet has a first point.
    pub async fn protect(&self, store: &MemoryStore, sheet: &Runsheet) -> Result<()> {
        protect(&self.0, store, Some(sheet)).await
    }

    /// Replication as one engine sees it: over its own way to the sites and by its own clock.
    pub fn replicator(
        &self,
        store: Arc<dyn StateStore>,
        sites: BTreeMap<SiteName, Arc<dyn Site>>,
        clock: Arc<dyn Clock>,
    ) -> Replicator {
        Replicator::new(store, sites, VAULT, clock, self.0.random.clone())
    }
}
