//! A runsheet with its edges by place, and the questions `decide` asks of it.

use muster_journal::{NodeState, RunState, Stand};
use muster_runsheet::{Action, EdgeKind, Node, NodeKind, Runsheet, SheetError, StepId};
use petgraph::Direction;
use petgraph::visit::EdgeRef;
use std::collections::HashMap;
use std::sync::Arc;

/// Starts of machines at one site at once. More does not boot faster on shared disks, and storms have killed storages.
pub const BOOTS_AT_ONCE: usize = 8;
/// Steps that copy disks over one link at once: more share its bandwidth and finish none sooner, while each keeps buffers
/// at both ends.
pub const COPIES_AT_ONCE: usize = 8;
/// Steps in flight in one run: bounds connections and memory, far above what plans need.
pub const STEPS_AT_ONCE: usize = 64;

#[derive(Clone, Debug)]
pub struct Chart {
    sheet: Arc<Runsheet>,
    incoming: Vec<Vec<(usize, EdgeKind)>>,
    outgoing: Vec<Vec<usize>>,
    places: HashMap<StepId, usize>,
    /// Semaphores of each step: those of the sheet, and those that follow from what it does.
    locks: Vec<Vec<String>>,
    /// The same by number in `capacities`, after the place in flight that each step takes.
    semaphores: Vec<Vec<usize>>,
    /// How many may hold each semaphore at once.
    capacities: Vec<usize>,
    /// Places, those with the longest way to the end first.
    order: Vec<usize>,
    /// Where in that order each place is.
    ranks: Vec<usize>,
}

/// Whether a step may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Something before it has not ended.
    NotYet,
    Open,
    /// A step it needs has ended without success; all others before it have ended too.
    Never(StepId),
}

impl Chart {
    /// Fails on a runsheet with duplicate steps, dangling edges or a cycle.
    pub fn new(sheet: Arc<Runsheet>) -> Result<Self, SheetError> {
        let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
        let order;
        {
            let (graph, index) = sheet.graph()?;
            // `graph()` adds nodes in the order of the sheet, so that a node's index is its place.
            for node in &sheet.nodes {
                let at = index[&node.id];
                let edges = graph.edges_directed(at, Direction::Incoming);
                let mut before: Vec<_> = edges.map(|edge| (edge.source().index(), *edge.weight())).collect();
                before.sort_by_key(|(from, _)| *from);
                incoming.push(before);
                let mut after: Vec<_> = graph.neighbors(at).map(|next| next.index()).collect();
                after.sort_unstable();
                outgoing.push(after);
            }
            // `graph()` has found no cycle, so there is an order.
            let sorted = petgraph::algo::toposort(&graph, None).unwrap_or_default();
            order = critical_first(&sheet, &outgoing, sorted.into_iter().map(|at| at.index()));
        }
        let mut ranks = vec![0; order.len()];
        order.iter().enumerate().for_each(|(rank, &at)| ranks[at] = rank);
        let places = sheet.nodes.iter().enumerate().map(|(at, node)| (node.id.clone(), at)).collect();
        let locks: Vec<Vec<String>> = sheet.nodes.iter().map(|node| locks_of(&sheet, node)).collect();
        let (semaphores, capacities) = numbered(&locks);
        Ok(Self { sheet, incoming, outgoing, places, locks, semaphores, capacities, order, ranks })
    }

    pub fn sheet(&self) -> &Arc<Runsheet> {
        &self.sheet
    }
    pub fn node(&self, at: usize) -> &Node {
        &self.sheet.nodes[at]
    }
    pub fn len(&self) -> usize {
        self.sheet.nodes.len()
    }
    pub fn is_empty(&self) -> bool {
        self.sheet.nodes.is_empty()
    }
    pub fn place(&self, id: &StepId) -> Option<usize> {
        self.places.get(id).copied()
    }
    /// All places, in the order in which steps that may begin do: where the way to the end is longest, a wait for a
    /// semaphore costs most.
    pub fn order(&self) -> &[usize] {
        &self.order
    }
    /// Where in [`order`](Self::order) a place is.
    pub(crate) fn rank(&self, at: usize) -> usize {
        self.ranks[at]
    }
    /// What a step holds while it runs.
    pub fn locks(&self, at: usize) -> &[String] {
        &self.locks[at]
    }
    /// The same by number, with its place in flight.
    pub(crate) fn semaphores(&self, at: usize) -> &[usize] {
        &self.semaphores[at]
    }
    /// How many may hold each semaphore at once, by its number.
    pub(crate) fn capacities(&self) -> &[usize] {
        &self.capacities
    }
    /// Steps that come directly before.
    pub(crate) fn before(&self, at: usize) -> impl ExactSizeIterator<Item = usize> {
        self.incoming[at].iter().map(|(from, _)| *from)
    }
    /// Steps that come directly after.
    pub fn after(&self, at: usize) -> &[usize] {
        &self.outgoing[at]
    }

    pub(crate) fn entry(&self, state: &RunState, at: usize) -> Entry {
        let mut unmet = None;
        for (from, kind) in &self.incoming[at] {
            let Some(source) = state.node_at(*from) else { return Entry::NotYet };
            if !source.stand.has_ended() {
                return Entry::NotYet;
            }
            if *kind == EdgeKind::Needs && !satisfies(self.node(*from), source) {
                unmet.get_or_insert_with(|| source.id.clone());
            }
        }
        unmet.map_or(Entry::Open, Entry::Never)
    }
}

/// Places by the longest way from them to the end, equal ones in the order of the sheet. `sorted` is a topological order.
fn critical_first(
    sheet: &Runsheet,
    outgoing: &[Vec<usize>],
    sorted: impl DoubleEndedIterator<Item = usize>,
) -> Vec<usize> {
    let mut rest = vec![0u64; sheet.nodes.len()];
    for at in sorted.rev() {
        let own = sheet.nodes[at].usually.map_or(USUALLY_UNKNOWN.0, |usually| usually.0);
        let next = outgoing[at].iter().map(|&next| rest[next]).max().unwrap_or(0);
        rest[at] = next.saturating_add(own);
    }
    let mut order: Vec<usize> = (0..sheet.nodes.len()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(rest[at]), at));
    order
}

/// What a step takes for the order of starts when the plan does not say: every step counts.
const USUALLY_UNKNOWN: muster_runsheet::Duration = muster_runsheet::Duration(1_000);

/// Each step's semaphores by number, and what each number holds. Number 0 is the place in flight, which every step takes.
fn numbered(locks: &[Vec<String>]) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut capacities = vec![STEPS_AT_ONCE];
    let semaphores = locks.iter().map(|of| {
        let mut all = vec![0];
        for lock in of {
            all.push(*numbers.entry(lock).or_insert_with(|| {
                capacities.push(lock_capacity(lock));
                capacities.len() - 1
            }));
        }
        all
    });
    let semaphores = semaphores.collect();
    (semaphores, capacities)
}

/// The semaphores of the sheet, one for each group that an action is about, and the link that it copies over.
fn locks_of(sheet: &Runsheet, node: &Node) -> Vec<String> {
    let mut locks = node.locks.clone();
    let group = match &node.action {
        Action::SyncFinal { group }
        | Action::PickPoint { group, .. }
        | Action::DropPoints { group }
        | Action::Reverse { group, .. }
        | Action::Resync { group }
        | Action::AwaitLag { group, .. } => Some(group),
        _ => None,
    };
    locks.extend(group.map(|group| format!("group:{group}")));
    let copies = matches!(
        node.action,
        Action::SyncFinal { .. } | Action::Resync { .. } | Action::Promote { .. } | Action::Hydrate { .. }
    );
    locks.extend(copies.then(|| format!("copies@{}>{}", sheet.source, sheet.target)));
    locks
}

/// Whether what needs this step may go on: it succeeded, a person said to go on without it, or its loss is harmless.
fn satisfies(node: &Node, state: &NodeState) -> bool {
    match state.stand {
        Stand::Succeeded => true,
        Stand::Skipped => state.skipped_by_person(),
        Stand::Degraded => node.kind == NodeKind::Note,
        _ => false,
    }
}

/// How many steps may hold a lock at once.
pub fn lock_capacity(lock: &str) -> usize {
    if lock.starts_with("copies@") {
        return COPIES_AT_ONCE;
    }
    match lock.strip_prefix("boots@") {
        // `boots@dr:2`: the sheet itself says how many.
        Some(site) => site.rsplit_once(':').and_then(|(_, count)| count.parse().ok()).unwrap_or(BOOTS_AT_ONCE),
        None => 1,
    }
}

/// How the executor carries a step out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing happens; it is recorded.
    Pass,
    NoReturn,
    Timer(muster_runsheet::Duration),
    /// A person is asked by the executor itself.
    Person,
    /// The step runner does it.
    Runner,
}

pub(crate) fn way(node: &Node) -> Way {
    match &node.action {
        Action::NoReturn => Way::NoReturn,
        Action::Wait { duration } => Way::Timer(*duration),
        Action::Approve { .. } | Action::Manual { .. } => Way::Person,
        Action::Barrier => Way::Pass,
        _ if node.kind == NodeKind::Barrier => Way::Pass,
        _ => Way::Runner,
    }
}

/// Whether a step leaves something that can be taken back.
pub(crate) fn can_undo(node: &Node) -> bool {
    way(node) == Way::Runner && matches!(node.kind, NodeKind::Act | NodeKind::Gate | NodeKind::Hook)
}
