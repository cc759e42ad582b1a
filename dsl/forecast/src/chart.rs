//! A sheet as numbers: who waits for whom, and which semaphores each step holds while it runs.

use crate::conditions::Conditions;
use muster_runsheet::{EdgeKind, Kind, Runsheet, SheetPhase};
use std::collections::{BTreeMap, HashMap};

/// By place in the sheet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chart {
    /// Steps before each, with whether only their end is awaited.
    pub before: Vec<Vec<(u32, EdgeKind)>>,
    pub after: Vec<Vec<u32>>,
    /// Semaphores each holds, as places in `capacity`.
    pub locks: Vec<Vec<u32>>,
    pub capacity: Vec<u32>,
    /// What the sheet calls each of them; empty for one that it does not name.
    pub names: Vec<String>,
    /// The end waits for it: where an application rises, all but what settles behind it.
    pub counted: Vec<bool>,
}

impl Chart {
    /// Edges from or to steps that are not there are left out: a sheet with such is refused where it is read.
    pub(crate) fn new(sheet: &Runsheet, conditions: &Conditions) -> Self {
        // Asked twice for each edge.
        let index: HashMap<_, u32> = sheet.nodes.iter().map(|node| &node.id).zip(0..).collect();
        let mut before = vec![Vec::new(); sheet.nodes.len()];
        let mut after = vec![Vec::new(); sheet.nodes.len()];
        for edge in &sheet.edges {
            let (Some(from), Some(to)) = (index.get(&edge.from), index.get(&edge.to)) else { continue };
            before[*to as usize].push((*from, edge.kind));
            after[*from as usize].push(*to);
        }
        let mut names: BTreeMap<&str, u32> = BTreeMap::new();
        let mut capacity = Vec::new();
        let mut locks = Vec::with_capacity(sheet.nodes.len());
        for node in &sheet.nodes {
            let mut held = Vec::with_capacity(node.locks.len());
            for lock in &node.locks {
                held.push(*names.entry(lock).or_insert_with(|| {
                    capacity.push(conditions.capacity(lock));
                    capacity.len() as u32 - 1
                }));
            }
            locks.push(held);
        }
        let rises = sheet.operation.kind.is_live() || sheet.operation.kind == Kind::Test;
        let counted = sheet.nodes.iter().map(|node| !rises || node.phase != SheetPhase::Settle).collect();
        let mut named = vec![String::new(); capacity.len()];
        for (name, at) in names {
            name.clone_into(&mut named[at as usize]);
        }
        Self { before, after, locks, capacity, names: named, counted }
    }

    /// Lets these steps run one at a time.
    pub(crate) fn share(&mut self, steps: &[usize]) {
        self.capacity.push(1);
        self.names.push(String::new());
        for step in steps {
            self.locks[*step].push(self.capacity.len() as u32 - 1);
        }
    }

    /// The same with as many boots at once at a site as there are machines; `None` when none boots there.
    pub(crate) fn with_all_boots(&self, site: &str) -> Option<(Self, u32)> {
        let of = |name: &String| name.strip_prefix("boots@").is_some_and(|rest| rest.split(':').next() == Some(site));
        let at = self.names.iter().position(of)?;
        let mut wide = self.clone();
        let now = std::mem::replace(&mut wide.capacity[at], u32::MAX);
        Some((wide, now))
    }

    pub(crate) fn len(&self) -> usize {
        self.after.len()
    }
}
