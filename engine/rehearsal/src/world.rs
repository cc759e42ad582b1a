//! The estate of the plans, made of simulated sites.

use crate::carrier::Carrier;
use crate::conditions::Conditions;
use muster_agent::LocalSite;
use muster_ports::*;
use muster_provider_simulated::{
    CallClass, Effect, MachineSpec, Program, ProgramKind, SeededRandom, SimulatedProvider, VirtualClock,
};
use muster_runsheet::{Action, Estate, MachineSheet, Rate, Runsheet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// When every rehearsal begins, so that the same seed gives the same ids: 2027-01-15 08:00 UTC, a Friday.
const BEGINNING: Timestamp = Timestamp(1_800_000_000_000);
/// Size of every simulated disk. Small: what travels in virtual time is counted by the inventory's churn, not by it.
const DISK_BYTES: u64 = 512 << 10;
/// A port that nothing asks for: guests are obliging.
const NO_PORT: u16 = 1;
/// Guests do not write by themselves; a program has to say a pace.
const PACE_MILLIS: u64 = 60_000;

/// Two sites or more, a clock, and chance.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<SeededRandom>,
    pub(crate) providers: BTreeMap<SiteName, SimulatedProvider>,
    carriers: BTreeMap<SiteName, Carrier>,
    pub(crate) sites: BTreeMap<SiteName, Arc<dyn Site>>,
    /// The estate with the disks of this world.
    pub(crate) estate: Estate,
}

impl World {
    /// Every machine at its home and on; what a plan creates lies ready where it is to be.
    pub(crate) async fn new(estate: &Estate, sheets: &[&Runsheet], conditions: &Conditions) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(BEGINNING));
        let random = Arc::new(SeededRandom::new(conditions.seed));
        let mut small = estate.clone();
        for machine in small.machines.values_mut() {
            machine.facts.disks.iter_mut().for_each(|disk| disk.size_bytes = DISK_BYTES);
        }
        let carrier = Carrier::new(estate, clock.clone());
        let (mut providers, mut carriers) = (BTreeMap::new(), BTreeMap::new());
        let mut sites: BTreeMap<SiteName, Arc<dyn Site>> = BTreeMap::new();
        for name in small.sites.keys() {
            let provider = SimulatedProvider::in_memory(name.clone(), clock.clone(), random.clone())?;
            provider.set_guests_run(false);
            provider.set_obliging(true);
            let given = conditions.guests.iter().map(|reply| (reply.words.clone(), reply.output.clone()));
            let healthy = muster_stdlib::rehearsed().map(|(words, out)| {
                (words.to_owned(), GuestOutput { code: 0, out: out.to_owned(), err: String::new() })
            });
            provider.set_replies(given.chain(healthy).collect());
            let carrier = carrier.of_site();
            let local = LocalSite::in_memory(Arc::new(provider.clone()), name.clone(), Arc::new(carrier.clone()));
            carriers.insert(name.clone(), carrier);
            sites.insert(name.clone(), Arc::new(local));
            providers.insert(name.clone(), provider);
        }
        let world = Self { clock, random, providers, carriers, sites, estate: small };
        world.furnish(sheets).await?;
        Ok(world)
    }

    async fn furnish(&self, sheets: &[&Runsheet]) -> Result<()> {
        let created: BTreeSet<(MachineName, SiteName)> = sheets
            .iter()
            .flat_map(|sheet| &sheet.nodes)
            .filter_map(|node| match &node.action {
                Action::Create { machine, site, .. } => Some((machine.clone(), site.clone())),
                _ => None,
            })
            .collect();
        for (name, machine) in &self.estate.machines {
            let Some(provider) = self.providers.get(&machine.home) else { continue };
            provider.add_machine(&spec(machine))?;
            if let Some(site) = self.sites.get(&machine.home) {
                site.start(&InstanceName::live(name)).await?;
            }
        }
        for (name, at) in created {
            let Some((provider, machine)) = self.providers.get(&at).zip(self.estate.machines.get(&name)) else {
                continue;
            };
            if machine.home != at {
                provider.add_machine(&spec(machine))?;
            }
        }
        Ok(())
    }

    /// Links become as slow as the conditions say.
    pub(crate) fn slow_links(&self, conditions: &Conditions) -> Result<()> {
        for (site, carrier) in &self.carriers {
            let Some(rate) = link(conditions, site) else { continue };
            if carrier.churn_in_all() >= rate.0 / 8 {
                let written = Rate(carrier.churn_in_all().saturating_mul(8));
                let message =
                    format!("the machines write {written}, more than the {rate} of the link: it never catches up");
                return Err(Failure::refused(message).help("give the link more; `muster what-if` shows what is lost"));
            }
            carrier.slow_down(rate.0 / 8);
        }
        Ok(())
    }

    /// As a fire would: the machines lose their power and the site does not answer.
    pub(crate) fn burn(&self, site: &SiteName) -> Result<()> {
        self.providers.get(site).map_or(Ok(()), SimulatedProvider::kill_site)
    }

    pub(crate) fn running(&self) -> BTreeMap<SiteName, BTreeSet<MachineName>> {
        let of = |(name, provider): (&SiteName, &SimulatedProvider)| {
            (name.clone(), provider.live_machines_on().into_iter().collect())
        };
        self.providers.iter().map(of).collect()
    }

    /// What has changed at the sites so far, each once, without what only replication does.
    pub(crate) fn effects(&self, from: &BTreeMap<SiteName, usize>, run: &RunId) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for (site, provider) in &self.providers {
            let effects = provider.effects();
            let new = effects.iter().skip(from.get(site).copied().unwrap_or(0));
            all.extend(new.filter_map(|effect| words(site, effect, run)));
        }
        all
    }

    pub(crate) fn effects_so_far(&self) -> BTreeMap<SiteName, usize> {
        self.providers.iter().map(|(site, provider)| (site.clone(), provider.effects().len())).collect()
    }
}

fn words(site: &SiteName, effect: &Effect, run: &RunId) -> Option<String> {
    let word = match effect.class {
        CallClass::Define => "define",
        CallClass::Undefine => "remove",
        CallClass::Start => "start",
        CallClass::Stop => "stop",
        CallClass::Fence => "fence",
        CallClass::Unfence => "unfence",
        CallClass::Network => "network",
        CallClass::Guest => "in the guest of",
        _ => return None,
    };
    // A drill's clones and its bubble are called like its run.
    let subject = effect.subject.replace(run.as_str(), "drill");
    effect.changed.then(|| format!("{site}: {word} {subject}"))
}

/// The slowest that a condition says of a link at this site.
fn link(conditions: &Conditions, site: &SiteName) -> Option<Rate> {
    let at = |(a, b, _): &&(SiteName, SiteName, Rate)| a == site || b == site;
    conditions.world.slow.iter().filter(at).map(|(_, _, rate)| *rate).min()
}

fn spec(machine: &MachineSheet) -> MachineSpec {
    let facts = &machine.facts;
    // A guest that can be frozen: its disk has a volume.
    let program = facts.disks.first().map(|disk| Program {
        kind: ProgramKind::Database,
        disk: disk.name.clone(),
        port: NO_PORT,
        every_millis: PACE_MILLIS,
        upstream: None,
    });
    MachineSpec {
        name: facts.name.clone(),
        cpus: facts.cpus,
        memory_bytes: facts.memory_bytes,
        disks: facts.disks.clone(),
        nics: facts.nics.clone(),
        program,
        ballast_bytes: 0,
    }
}
