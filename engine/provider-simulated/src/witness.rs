//! Who saw a machine run where: the one thing that recovery must never get wrong.

use crate::provider::SimulatedProvider;
use muster_ports::{MachineName, SiteName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by the sites of a test: notes every moment at which a live machine had power at two sites, also when it was
/// over before anybody looked.
#[derive(Clone, Debug, Default)]
pub struct PowerWitness(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    on: BTreeMap<MachineName, BTreeSet<SiteName>>,
    doubles: Vec<(MachineName, Vec<SiteName>)>,
}

impl PowerWitness {
    pub fn new() -> Self {
        Self::default()
    }
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn on(&self, machine: &MachineName, site: &SiteName) {
        let mut seen = self.seen();
        let sites = seen.on.entry(machine.clone()).or_default();
        sites.insert(site.clone());
        if sites.len() > 1 {
            let sites = sites.iter().cloned().collect();
            seen.doubles.push((machine.clone(), sites));
        }
    }
    pub(crate) fn off(&self, machine: &MachineName, site: &SiteName) {
        if let Some(sites) = self.seen().on.get_mut(machine) {
            sites.remove(site);
        }
    }
    /// Every time a machine was switched on at one site while it was on at another.
    pub fn doubles(&self) -> Vec<(MachineName, Vec<SiteName>)> {
        self.seen().doubles.clone()
    }
}

/// Machines that are on, live, at more than one of these sites now.
pub fn machines_on_twice(sites: &[&SimulatedProvider]) -> Vec<(MachineName, Vec<SiteName>)> {
    let mut on: BTreeMap<MachineName, BTreeSet<SiteName>> = BTreeMap::new();
    for site in sites {
        for machine in site.live_machines_on() {
            on.entry(machine).or_default().insert(site.site().clone());
        }
    }
    on.into_iter().filter(|(_, at)| at.len() > 1).map(|(machine, at)| (machine, at.into_iter().collect())).collect()
}
