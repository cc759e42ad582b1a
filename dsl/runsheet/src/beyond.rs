//! What a sheet or a policy says that an engine has to be able to do, and that doing nothing about would be a lie.
//!
//! The plans say more than every engine carries out. An engine compares this with what it can do, and refuses the rest by
//! name before anything is touched.

use crate::estate::{PolicySheet, RouteSheet};
use crate::names::*;
use crate::operation::Kind;
use crate::sheet::*;
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Something a run has to be able to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunNeed {
    /// Landed machines have to ask other name servers.
    Resolvers,
}

/// Something replication has to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyNeed {
    /// `replicate = continuous`.
    Continuous,
    /// `encryption = …`: a key of its own.
    OwnKey,
}

impl fmt::Display for RunNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolvers => f.write_str("the name servers of the route (`resolver … <-> …`)"),
        }
    }
}

impl fmt::Display for PolicyNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Continuous => "`replicate = continuous`",
            Self::OwnKey => "`encryption` with a key of its own",
        })
    }
}

impl Runsheet {
    /// What this run needs beyond its steps. An unplanned failover needs no more than it can have: it is never refused for
    /// its name servers.
    pub fn needs(&self) -> Vec<RunNeed> {
        let mut needs = Vec::new();
        if matches!(self.operation.kind, Kind::Test | Kind::Planned) && !self.resolvers.is_empty() {
            needs.push(RunNeed::Resolvers);
        }
        needs
    }
}

/// A hook that a step runs, asks, or is taken back by, and the site whose machines it sees.
#[derive(Clone, Copy, Debug)]
pub struct HookUse<'a> {
    pub node: &'a Node,
    pub hook: &'a HookSheet,
    pub arguments: &'a BTreeMap<String, Value>,
    pub site: &'a SiteName,
}

impl HookUse<'_> {
    /// A failure of the step holds the run up, or turns it round.
    pub fn is_awaited(&self) -> bool {
        self.node.otherwise != Otherwise::Continue
    }
}

impl Runsheet {
    /// Every hook of this sheet at every step that uses it, hooks that take back among them.
    pub fn hook_uses(&self) -> Vec<HookUse<'_>> {
        let mut uses = Vec::new();
        for node in &self.nodes {
            let (name, arguments) = match &node.action {
                Action::Run { hook, arguments } => (hook, arguments),
                Action::Check { probe: ProbeCall::Hook { hook, arguments }, .. } => (hook, arguments),
                _ => continue,
            };
            let site = if node.phase == SheetPhase::Leave { &self.source } else { &self.target };
            let Some(hook) = self.hooks.get(name) else { continue };
            uses.push(HookUse { node, hook, arguments, site });
            if let Some(undo) = hook.undo.as_ref().and_then(|undo| self.hooks.get(undo)) {
                uses.push(HookUse { node, hook: undo, arguments, site });
            }
        }
        uses
    }

    /// The machines that the arguments of a hook name, members of groups among them.
    pub fn machines_of(&self, arguments: &BTreeMap<String, Value>) -> BTreeSet<&MachineName> {
        let mut found = BTreeSet::new();
        let mut waiting: Vec<&Value> = arguments.values().collect();
        while let Some(value) = waiting.pop() {
            match value {
                Value::Machine(machine) => found.extend(self.machines.get_key_value(machine).map(|(name, _)| name)),
                Value::Group(group) => {
                    found.extend(self.groups.get(group).into_iter().flat_map(|group| &group.machines))
                }
                Value::List(items) => waiting.extend(items),
                _ => {}
            }
        }
        found
    }

    /// A machine of this use that is on by then, though its disk is to be worked on: one that still runs at the source,
    /// or one whose start is somewhere before.
    pub fn on_by_then<'a>(&'a self, of: &HookUse<'a>) -> Option<&'a MachineName> {
        let machines = self.machines_of(of.arguments);
        if of.node.phase == SheetPhase::Leave || matches!(of.node.action, Action::Check { .. }) {
            let checked = of.node.action.machine();
            return machines.into_iter().next().or(checked);
        }
        let mut before: BTreeMap<&StepId, Vec<&StepId>> = BTreeMap::new();
        for edge in &self.edges {
            before.entry(&edge.to).or_default().push(&edge.from);
        }
        let (mut seen, mut waiting) = (BTreeSet::from([&of.node.id]), vec![&of.node.id]);
        while let Some(id) = waiting.pop() {
            let from = before.get(id).into_iter().flatten().copied();
            waiting.extend(from.filter(|from| seen.insert(*from)));
        }
        self.nodes.iter().filter(|node| seen.contains(&node.id)).find_map(|node| match &node.action {
            Action::Start { machine, .. } | Action::Create { machine, .. } => machines.get(machine).copied(),
            _ => None,
        })
    }
}

impl RouteSheet {
    /// Servers that are to carry what leaves this site: process servers and master targets.
    pub fn carriers_from(&self, site: &SiteName) -> impl Iterator<Item = &str> {
        let rightward = (self.left == *site).then_some(&self.rightward);
        let leftward = (self.right == *site).then_some(&self.leftward);
        let carriers = rightward.into_iter().chain(leftward);
        carriers.flat_map(|carriers| carriers.through.iter().chain(&carriers.target)).map(String::as_str)
    }
}

impl PolicySheet {
    /// What replication needs for this policy beyond cycles over the wire.
    pub fn needs(&self) -> Vec<PolicyNeed> {
        let asked = [(self.continuous, PolicyNeed::Continuous), (self.encryption.is_some(), PolicyNeed::OwnKey)];
        asked.into_iter().filter(|(asked, _)| *asked).map(|(_, need)| need).collect()
    }
}
