//! What if: a link is slow, a step fails, a site is dead, fewer machines boot at once.

use muster_runsheet::{
    Action, Duration, FenceProof, GroupName, Kind, MachineSheet, Need, Node, Rate, Runsheet, SheetPhase, SiteName,
    StepId,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Starts of machines at one site at once, as the executor holds it.
const BOOTS_AT_ONCE: u32 = 8;

/// Circumstances of a run, beside those that have been measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conditions {
    /// No more than this passes between two sites, in either direction.
    pub slow: Vec<(SiteName, SiteName, Rate)>,
    /// The first attempts of a step that fail, with a failure that can pass.
    pub fail: BTreeMap<StepId, u32>,
    /// Sites that do not answer.
    pub dead: BTreeSet<SiteName>,
    /// Machines that boot at once at a site.
    pub boots: BTreeMap<SiteName, u32>,
}

/// A condition that is about nothing in the sheet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionsError {
    /// The step, and those of the sheet whose names begin like it.
    NoSuchStep(StepId, Vec<StepId>),
    /// The site, and those of the sheet.
    NoSuchSite(SiteName, Vec<SiteName>),
    /// Machines have to boot somehow.
    NoBoots(SiteName),
    NoRate(SiteName, SiteName),
}

impl fmt::Display for ConditionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchStep(step, _) => write!(f, "there is no step `{step}` in this operation"),
            Self::NoSuchSite(site, _) => write!(f, "there is no site `{site}` in this plan"),
            Self::NoBoots(site) => write!(f, "with no boots at `{site}` nothing starts: `--dead` says that it is gone"),
            Self::NoRate(from, to) => {
                write!(f, "nothing fits through 0bit/s: `--dead` says that {from} or {to} is gone")
            }
        }
    }
}

impl std::error::Error for ConditionsError {}

impl Conditions {
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Everything named is in the sheet.
    pub fn check(&self, sheet: &Runsheet) -> Result<(), ConditionsError> {
        for step in self.fail.keys() {
            if sheet.node(step).is_none() {
                let near = sheet.nodes.iter().map(|node| &node.id);
                let near = near.filter(|id| id.as_str().contains(step.as_str())).cloned().collect();
                return Err(ConditionsError::NoSuchStep(step.clone(), near));
            }
        }
        let ends = self.slow.iter().flat_map(|(from, to, _)| [from, to]);
        for site in ends.chain(&self.dead).chain(self.boots.keys()) {
            if !sheet.sites.contains_key(site) {
                return Err(ConditionsError::NoSuchSite(site.clone(), sheet.sites.keys().cloned().collect()));
            }
        }
        if let Some((site, _)) = self.boots.iter().find(|(_, count)| **count == 0) {
            return Err(ConditionsError::NoBoots(site.clone()));
        }
        match self.slow.iter().find(|(_, _, rate)| rate.0 == 0) {
            Some((from, to, _)) => Err(ConditionsError::NoRate(from.clone(), to.clone())),
            None => Ok(()),
        }
    }

    /// In words, one condition each.
    pub fn words(&self) -> Vec<String> {
        let slow = self.slow.iter().map(|(from, to, rate)| format!("{from} → {to} at {rate}"));
        let fail = self.fail.iter().map(|(step, times)| format!("{step} fails {}", times_of(*times)));
        let dead = self.dead.iter().map(|site| format!("{site} dead"));
        let boots = self.boots.iter().map(|(site, count)| format!("boots at {site}: {count} at once"));
        slow.chain(fail).chain(dead).chain(boots).collect()
    }

    /// How many steps may hold a lock at once, as the executor has it unless a condition says otherwise.
    pub fn capacity(&self, lock: &str) -> u32 {
        match lock.strip_prefix("boots@") {
            Some(text) => {
                // `boots@dr:2`: the sheet itself says how many.
                let (site, own) = text.rsplit_once(':').unwrap_or((text, ""));
                self.boots.get(site).copied().or(own.parse().ok()).unwrap_or(BOOTS_AT_ONCE)
            }
            None => 1,
        }
    }

    /// The slowest that a condition allows between two sites.
    pub(crate) fn rate(&self, from: &SiteName, to: &SiteName) -> Option<Rate> {
        let between = |(a, b, _): &&(SiteName, SiteName, Rate)| (a == from && b == to) || (a == to && b == from);
        self.slow.iter().filter(between).map(|(_, _, rate)| *rate).min()
    }

    /// What the deaths of sites do to a step.
    pub(crate) fn blow(&self, sheet: &Runsheet, node: &Node) -> Blow {
        if self.dead.is_empty() {
            return Blow::None;
        }
        if let Action::Fence { site, proof: FenceProof::PowerOffOrSignature, .. } = &node.action {
            return if self.dead.contains(site) { Blow::Signature } else { Blow::None };
        }
        if !needed(sheet, node).into_iter().any(|site| self.dead.contains(site)) {
            return Blow::None;
        }
        match (&node.action, sheet.operation.kind) {
            (Action::Stop { .. }, Kind::Unplanned) => Blow::Waived,
            _ => Blow::Fails,
        }
    }
}

/// `once`, `3 times`.
pub(crate) fn times_of(times: u32) -> String {
    if times == 1 { "once".to_owned() } else { format!("{times} times") }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    None,
    /// A person has to sign that the site is dead.
    Signature,
    /// A stop that only tries: it is waited for, and then the fence decides.
    Waived,
    /// It cannot succeed.
    Fails,
}

/// Sites that must answer for a step to succeed.
fn needed<'a>(sheet: &'a Runsheet, node: &'a Node) -> Vec<&'a SiteName> {
    match &node.action {
        Action::Start { site, .. }
        | Action::Stop { site, .. }
        | Action::Create { site, .. }
        | Action::Check { site, .. }
        | Action::Fence { site, .. }
        | Action::Unfence { site, .. }
        | Action::Bubble { site, .. }
        | Action::Clone { site, .. }
        | Action::Promote { site, .. }
        | Action::Hydrate { site, .. }
        | Action::Discard { site, .. }
        | Action::DiscardBubble { site, .. } => vec![site],
        Action::Verify { required, .. } => required.iter().collect(),
        Action::SyncFinal { .. } => vec![&sheet.source],
        Action::Reverse { source, target, .. } => vec![source, target],
        // After a move replication starts from where production now is.
        Action::Resync { .. } | Action::AwaitLag { .. } => vec![&sheet.target],
        Action::AssertReplicating { .. } => vec![&sheet.source],
        Action::Run { hook, .. } => match sheet.hooks.get(hook) {
            Some(hook)
                if hook
                    .needs
                    .iter()
                    .any(|need| matches!(need, Need::Guest | Need::Ssh | Need::Disk | Need::Bubble)) =>
            {
                vec![if node.phase == SheetPhase::Leave { &sheet.source } else { &sheet.target }]
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Bytes that a step sends over the route, as far as the sheet tells, with the ends of the link.
pub(crate) fn freight<'a>(sheet: &'a Runsheet, node: &'a Node, cycle: &dyn Fn(&GroupName) -> Option<Duration>) -> u64 {
    let churn = |machine: &MachineSheet| u128::from(machine.facts.churn_bytes_per_second);
    let bytes = match &node.action {
        // What was written since the cycle before.
        Action::SyncFinal { group } => {
            let Some((sheet_group, every)) = sheet.groups.get(group).zip(cycle(group)) else { return 0 };
            let all: u128 = sheet_group.machines.iter().filter_map(|name| sheet.machines.get(name)).map(churn).sum();
            all * u128::from(every.0) / 1_000
        }
        // Everything: which blocks are in use is not known beforehand.
        Action::Hydrate { machine, .. } => {
            let disks = sheet.machines.get(machine).map(|machine| machine.facts.disks.as_slice()).unwrap_or_default();
            disks.iter().map(|disk| u128::from(disk.size_bytes)).sum()
        }
        _ => 0,
    };
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
