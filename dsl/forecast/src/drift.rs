//! What the sites have become since the inventory the plans were compiled against.

use muster_runsheet::{Estate, Inventory, MachineFacts, MachineName, NicShape, SiteInventory, SiteName};
use serde::Serialize;
use std::collections::BTreeMap;

/// One thing that is not as the plans have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "drift", rename_all = "kebab-case")]
pub enum Drift {
    /// Plans name it, the site does not have it.
    Gone {
        site: SiteName,
        machine: MachineName,
        protected: bool,
    },
    /// The site has it, and no inventory nor plan knows it.
    New {
        site: SiteName,
        machine: MachineName,
    },
    Changed {
        site: SiteName,
        machine: MachineName,
        protected: bool,
        what: Vec<String>,
    },
    /// The site can no longer do something, or now can.
    Able {
        site: SiteName,
        what: String,
        now: bool,
    },
    /// The site did not answer, so nothing is known of it.
    Silent {
        site: SiteName,
    },
}

impl Drift {
    /// One sentence.
    pub fn words(&self) -> String {
        let mark = |protected: &bool| if *protected { "" } else { " (in no plan)" };
        match self {
            Self::Gone { site, machine, protected } => format!("{machine} is gone from {site}{}", mark(protected)),
            Self::New { site, machine } => format!("{machine} is new at {site}: no plan protects it"),
            Self::Changed { site, machine, protected, what } => {
                format!("{machine} at {site} has changed{}: {}", mark(protected), what.join(", "))
            }
            Self::Able { site, what, now: false } => format!("{site} can no longer do {what}"),
            Self::Able { site, what, now: true } => format!("{site} can now do {what}"),
            Self::Silent { site } => format!("{site} does not answer: nothing is known of it"),
        }
    }
}

/// The plans' estate and the inventory they were compiled against, and what the sites say now. Sites that are missing in
/// `now` are silent.
pub fn drift(estate: &Estate, before: &Inventory, now: &Inventory) -> Vec<Drift> {
    let mut found = Vec::new();
    for site in estate.sites.keys() {
        match now.sites.get(site) {
            Some(fresh) => site_drift(estate, before, site, fresh, &mut found),
            None => found.push(Drift::Silent { site: site.clone() }),
        }
    }
    found
}

fn site_drift(estate: &Estate, before: &Inventory, site: &SiteName, fresh: &SiteInventory, found: &mut Vec<Drift>) {
    let known = before.sites.get(site);
    // By what the site calls a machine; with the name the plans have for it.
    let mut expected: BTreeMap<&str, (&MachineName, &MachineFacts)> = BTreeMap::new();
    let inventory = known.iter().flat_map(|known| &known.machines);
    expected.extend(inventory.map(|facts| (facts.name.as_str(), (&facts.name, facts))));
    let at_home = estate.machines.iter().filter(|(_, machine)| machine.home == *site);
    expected.extend(at_home.map(|(name, machine)| (machine.called(name), (name, &machine.facts))));
    let protected = |name: &MachineName| {
        estate.machines.get(name).is_some_and(|machine| machine.home == *site && machine.group.is_some())
    };
    for (called, (name, facts)) in &expected {
        let there = fresh.machines.iter().find(|machine| machine.name.as_str() == *called);
        let event = match there {
            None => Some(Drift::Gone { site: site.clone(), machine: (*name).clone(), protected: protected(name) }),
            Some(there) => {
                let what = changes(facts, there);
                let (site, machine, protected) = (site.clone(), (*name).clone(), protected(name));
                (!what.is_empty()).then_some(Drift::Changed { site, machine, protected, what })
            }
        };
        found.extend(event);
    }
    // What a failover has landed there is known by its name in the plans.
    let unknown = |machine: &&MachineFacts| {
        !expected.contains_key(machine.name.as_str()) && !estate.machines.contains_key(&machine.name)
    };
    let new = fresh.machines.iter().filter(unknown);
    found.extend(new.map(|machine| Drift::New { site: site.clone(), machine: machine.name.clone() }));
    if let Some(known) = known {
        let (was, is) = (abilities(known), abilities(fresh));
        for ((what, was), (_, is)) in was.into_iter().zip(is).filter(|((_, was), (_, is))| was != is) {
            found.push(Drift::Able { site: site.clone(), what: what.to_owned(), now: is && !was });
        }
    }
}

fn abilities(site: &SiteInventory) -> [(&'static str, bool); 6] {
    let can = &site.capabilities;
    [
        ("orderly shutdowns", can.planned_shutdown),
        ("proof of power-off", can.power_fencing),
        ("tracking of changes below the guest", can.host_tracking),
        ("application-consistent points", can.app_consistency),
        ("instant recovery", can.instant_recovery),
        ("isolated networks", can.bubbles),
    ]
}

/// Power is no drift: machines are switched on and off. Nor is what they write.
fn changes(was: &MachineFacts, is: &MachineFacts) -> Vec<String> {
    let mut what = Vec::new();
    if was.cpus != is.cpus {
        what.push(format!("{} CPUs → {}", was.cpus, is.cpus));
    }
    if was.memory_bytes != is.memory_bytes {
        what.push(format!("memory {} → {}", size(was.memory_bytes), size(is.memory_bytes)));
    }
    for disk in &was.disks {
        match is.disks.iter().find(|other| other.name == disk.name) {
            None => what.push(format!("disk {} is gone", disk.name)),
            Some(other) if other.size_bytes != disk.size_bytes => {
                what.push(format!("disk {} {} → {}", disk.name, size(disk.size_bytes), size(other.size_bytes)));
            }
            Some(_) => {}
        }
    }
    let new = is.disks.iter().filter(|disk| was.disks.iter().all(|other| other.name != disk.name));
    what.extend(new.map(|disk| format!("disk {} is new, {}", disk.name, size(disk.size_bytes))));
    let cards = |facts: &MachineFacts| facts.nics.iter().map(card).collect::<Vec<_>>();
    if cards(was) != cards(is) {
        what.push(format!("network cards {} → {}", listed(&cards(was)), listed(&cards(is))));
    }
    if was.guest_agent && !is.guest_agent {
        what.push("its guest agent no longer answers".to_owned());
    }
    what
}

fn card(nic: &NicShape) -> String {
    let ip = nic.ip.map_or_else(|| "no address".to_owned(), |ip| ip.to_string());
    format!("{} {} {ip}", nic.network, nic.mac.to_ascii_lowercase())
}

fn listed(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(" and ") }
}

fn size(bytes: u64) -> String {
    muster_runsheet::Size(bytes).to_string()
}
