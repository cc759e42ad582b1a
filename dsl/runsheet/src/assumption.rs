//! What a sheet takes for granted, so that only what breaks it makes it stale, and is named.

use crate::names::HookName;
use crate::sheet::Runsheet;
use crate::units::Size;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Opens the name of an assumption about a run.
const CONTINUES: &str = "run:";

/// One thing that has to be so for a sheet to be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assumption {
    /// `machine:db`, `network:dr/data`, `group:orders`, `hook:set-db-host`, `plan:shop`, `run:01ab`.
    pub about: String,
    pub expects: String,
}

/// An assumption that no longer holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    pub about: String,
    pub expected: String,
    /// `None`: there is no such thing any more.
    pub found: Option<String>,
}

impl Broken {
    /// The hook was edited after the sheet was made.
    pub fn is_hook(&self) -> bool {
        self.about.starts_with("hook:")
    }
    /// `` `machine:db` was expected to be ..., and is ... ``.
    pub fn words(&self) -> String {
        match &self.found {
            Some(found) => format!("`{}` was to be: {}; it is: {found}", self.about, self.expected),
            None => format!("`{}` was to be: {}; there is none", self.about, self.expected),
        }
    }
}

impl Runsheet {
    /// What this sheet takes for granted, from its own content.
    pub fn taken_for_granted(&self) -> Vec<Assumption> {
        let mut all = Vec::new();
        let mut add = |about: String, expects: String| all.push(Assumption { about, expects });
        add(format!("plan:{}", self.plan), format!("`{}` is legal", self.operation));
        for (name, machine) in &self.machines {
            let disk = |disk: &crate::DiskFacts| format!("{} {}", disk.name, Size(disk.size_bytes));
            let disks: Vec<String> = machine.facts.disks.iter().map(disk).collect();
            let card = |nic: &crate::NicShape| {
                nic.ip.map_or_else(|| nic.network.to_string(), |ip| format!("{} {ip}", nic.network))
            };
            let cards: Vec<String> = machine.facts.nics.iter().map(card).collect();
            let expects = format!("at home at {}, disks {}, cards {}", machine.home, listed(&disks), listed(&cards));
            add(format!("machine:{name}"), expects);
        }
        for (name, site) in &self.sites {
            for network in &site.networks {
                add(format!("network:{name}/{}", network.name), network.cidr.clone());
            }
        }
        for (name, group) in &self.groups {
            let members: Vec<String> = group.machines.iter().map(ToString::to_string).collect();
            let together = if group.together { " together" } else { "" };
            let policy = group.policy.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            add(format!("group:{name}"), format!("{}{together}, policy {policy}", listed(&members)));
        }
        for (name, hook) in &self.hooks {
            add(format!("hook:{name}"), format!("text {}", hook.hash.short()));
        }
        all
    }

    /// Those of this sheet's assumptions that do not hold by what another compilation of the same takes for granted.
    pub fn broken_by(&self, now: &[Assumption]) -> Vec<Broken> {
        let now: BTreeMap<&str, &str> =
            now.iter().map(|known| (known.about.as_str(), known.expects.as_str())).collect();
        let broken = |assumed: &Assumption| {
            let found = now.get(assumed.about.as_str()).copied();
            (found != Some(assumed.expects.as_str())).then(|| Broken {
                about: assumed.about.clone(),
                expected: assumed.expects.clone(),
                found: found.map(str::to_owned),
            })
        };
        self.assumptions.iter().filter_map(broken).collect()
    }

    /// The run that this one goes on from: a failover that is landed again from another point.
    pub fn continues(&self) -> Option<&str> {
        self.assumptions.iter().find_map(|assumed| assumed.about.strip_prefix(CONTINUES))
    }

    /// Says that this sheet goes on from a run.
    pub fn assume_run(&mut self, run: &str) {
        let expects = "it has moved production, and is not committed".to_owned();
        self.assumptions.retain(|assumed| !assumed.about.starts_with(CONTINUES));
        self.assumptions.push(Assumption { about: format!("{CONTINUES}{run}"), expects });
    }

    /// Hooks whose text is not the one the sheet was approved with: the file was changed by hand.
    pub fn tampered_hooks(&self) -> Vec<&HookName> {
        let changed = |(_, hook): &(&HookName, &crate::HookSheet)| crate::Hash::of(&hook.text) != hook.hash;
        self.hooks.iter().filter(changed).map(|(name, _)| name).collect()
    }
}

impl crate::MachineSheet {
    /// What its home site calls it.
    pub fn called<'a>(&'a self, name: &'a crate::MachineName) -> &'a str {
        self.known_as.as_deref().unwrap_or(name.as_str())
    }
}

fn listed(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(" and ") }
}
