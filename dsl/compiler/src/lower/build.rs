//! Collects nodes and edges, and puts them into an order that is the same every time.

use crate::Program;
use crate::model::StepModel;
use muster_diagnostics::{Diagnostic, Span};
use muster_runsheet::{
    Action, Duration, Edge, EdgeKind, LeftOut, MachineName, Need, Node, NodeKind, Otherwise, ProbeCall, RetrySheet,
    SheetPhase, StageName, StepId, Value,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::LazyLock;

/// Delay before the first repeat of a derived step; growing by [`RETRY_FACTOR`].
const RETRY_DELAY: Duration = Duration::from_secs(5);
const RETRY_FACTOR: u32 = 2;

/// The beginning and the end of some steps; empty when there are none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow {
    pub entries: Vec<StepId>,
    pub exits: Vec<StepId>,
}

impl Flow {
    pub(crate) fn one(id: StepId) -> Self {
        Self { entries: vec![id.clone()], exits: vec![id] }
    }
    /// Side by side.
    pub(crate) fn beside(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self.exits.extend(other.exits);
        self
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Builder {
    nodes: BTreeMap<StepId, Node>,
    /// Every id that an edge names, by a number: a plan of a hundred machines has thousands of edges.
    numbers: HashMap<StepId, u32>,
    edges: Vec<(u32, u32)>,
    left_out: Vec<LeftOut>,
    hooks: BTreeSet<String>,
    /// Where people wrote the step.
    spans: BTreeMap<StepId, Span>,
    /// Where each machine is started.
    started: BTreeMap<MachineName, (StepId, Span)>,
    diagnostics: Vec<Diagnostic>,
    after_no_return: bool,
}

pub(crate) type Finished = (Vec<Node>, Vec<Edge>, Vec<LeftOut>, Vec<String>);

/// The table of the standard library has a line for every verb; its own test holds that each is read.
fn timing(verb: &str) -> (Duration, u32) {
    static READ: LazyLock<HashMap<&str, (Duration, u32)>> = LazyLock::new(|| {
        let read = |line: muster_stdlib::Timing| Some((line.verb, (line.within.parse().ok()?, line.retries)));
        muster_stdlib::timings().filter_map(read).collect()
    });
    READ.get(verb).copied().unwrap_or((Duration::from_mins(10), 0))
}

/// The default limit of a verb.
pub(crate) fn default_within(verb: &str) -> Duration {
    timing(verb).0
}

fn kind_of(action: &Action) -> NodeKind {
    match action {
        Action::Barrier | Action::NoReturn => NodeKind::Barrier,
        Action::Verify { .. } | Action::Lock { .. } | Action::Approve { .. } | Action::Manual { .. } => NodeKind::Gate,
        Action::Check { probe: muster_runsheet::ProbeCall::Hook { .. }, .. } | Action::Run { .. } => NodeKind::Hook,
        Action::Check { .. } | Action::AwaitLag { .. } | Action::AssertReplicating { .. } => NodeKind::Check,
        Action::Wait { .. } => NodeKind::Timer,
        Action::Notify { .. } | Action::Report => NodeKind::Note,
        _ => NodeKind::Act,
    }
}

fn locks_of(action: &Action) -> Vec<String> {
    match action {
        Action::Check { .. } => Vec::new(),
        Action::Start { machine, site } => vec![format!("boots@{site}"), format!("machine:{machine}")],
        other => other.machine().map(|machine| format!("machine:{machine}")).into_iter().collect(),
    }
}

/// Whether `first` is somewhere before `second`. Most often it is right before it: near steps are looked at first.
fn is_before(before: &[Vec<u32>], first: u32, second: u32) -> bool {
    let mut seen: HashSet<u32> = HashSet::new();
    let mut waiting = VecDeque::from([second]);
    while let Some(id) = waiting.pop_front() {
        let from = before.get(id as usize).map_or(&[][..], Vec::as_slice);
        if from.contains(&first) {
            return true;
        }
        waiting.extend(from.iter().copied().filter(|from| seen.insert(*from)));
    }
    false
}

/// The machines that arguments name, members of groups among them.
fn named(program: &Program, arguments: &BTreeMap<String, Value>) -> BTreeSet<MachineName> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<&Value> = arguments.values().collect();
    while let Some(value) = waiting.pop() {
        match value {
            Value::Machine(machine) => drop(found.insert(machine.clone())),
            Value::Group(group) => {
                let members = program.estate.groups.get(group).into_iter().flat_map(|group| &group.machines);
                found.extend(members.cloned());
            }
            Value::List(items) => waiting.extend(items),
            _ => {}
        }
    }
    found
}

impl Builder {
    /// A step that the table adds.
    pub(crate) fn derived(&mut self, id: impl Into<String>, phase: SheetPhase, action: Action, rule: &str) -> StepId {
        let id = StepId::from(id.into());
        let (within, count) = timing(action.verb());
        let retry = (count > 0).then_some(RetrySheet { count, delay: RETRY_DELAY, factor: RETRY_FACTOR, each: None });
        let node = Node {
            id: id.clone(),
            kind: kind_of(&action),
            phase,
            stage: None,
            locks: locks_of(&action),
            made_by: format!("rule: {rule}"),
            within,
            usually: None,
            retry,
            otherwise: Otherwise::Pause,
            after_no_return: self.after_no_return,
            action,
        };
        self.nodes.insert(id.clone(), node);
        id
    }

    /// A step that people wrote.
    pub(crate) fn written(
        &mut self,
        id: String,
        phase: SheetPhase,
        stage: &str,
        action: Action,
        step: &StepModel,
    ) -> StepId {
        let id = StepId::new(id);
        let (default, count) = timing(action.verb());
        let default = match &action {
            Action::Wait { duration } => Duration(default.0.saturating_add(duration.0)),
            _ => default,
        };
        // A second start of a machine is an E0310, wherever it stands.
        let starts = phase == SheetPhase::Rise && matches!(action, Action::Start { .. } | Action::Create { .. });
        if let Some(first) = self.spans.get(&id).filter(|_| !starts) {
            self.diagnostics.push(
                Diagnostic::error(209, format!("two steps are called `{id}`"), step.span, "the second")
                    .related(*first, "the first")
                    .help("give one of them a name of its own: `… as name`"),
            );
        }
        if step.otherwise == Otherwise::Undo && self.after_no_return {
            self.diagnostics.push(
                Diagnostic::error(
                    606,
                    "there is no undoing after the point of no return",
                    step.otherwise_span.unwrap_or(step.span),
                    "comes too late",
                )
                .note("in live operations the steps of a stage run behind it")
                .help("write `else pause` or `else continue`, or let the step run only `when test`"),
            );
        }
        let default_retry =
            (count > 0).then_some(RetrySheet { count, delay: RETRY_DELAY, factor: RETRY_FACTOR, each: None });
        let node = Node {
            id: id.clone(),
            kind: kind_of(&action),
            phase,
            stage: Some(StageName::new(stage)),
            locks: locks_of(&action),
            made_by: step.made_by.clone(),
            within: step.within.unwrap_or(default),
            usually: step.usually,
            retry: step.retry.or(default_retry),
            otherwise: step.otherwise,
            after_no_return: self.after_no_return,
            action,
        };
        self.spans.insert(id.clone(), step.span);
        self.nodes.insert(id.clone(), node);
        id
    }

    /// Tries, for a while, and goes on whatever comes of it.
    pub(crate) fn best_effort(&mut self, id: &StepId, budget: Duration) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.within = node.within.min(budget);
            node.otherwise = Otherwise::Continue;
            node.retry = None;
        }
    }
    pub(crate) fn in_stage(&mut self, id: &StepId, stage: &str) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.stage = Some(StageName::new(stage));
        }
    }

    pub(crate) fn edge(&mut self, from: &StepId, to: &StepId) {
        let edge = (self.number(from), self.number(to));
        self.edges.push(edge);
    }
    pub(crate) fn join(&mut self, from: &[StepId], to: &[StepId]) {
        let to: Vec<u32> = to.iter().map(|to| self.number(to)).collect();
        for from in from {
            let from = self.number(from);
            self.edges.extend(to.iter().map(|to| (from, *to)));
        }
    }
    fn number(&mut self, id: &StepId) -> u32 {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(id.clone(), number);
        number
    }
    /// One behind the other.
    pub(crate) fn then(&mut self, first: Flow, second: Flow) -> Flow {
        if first.is_empty() {
            return second;
        }
        if second.is_empty() {
            return first;
        }
        self.join(&first.exits, &second.entries);
        Flow { entries: first.entries, exits: second.exits }
    }
    /// Each behind the one before.
    pub(crate) fn chain(&mut self, ids: Vec<StepId>) -> Flow {
        ids.into_iter().fold(Flow::default(), |flow, id| self.then(flow, Flow::one(id)))
    }

    pub(crate) fn pass_no_return(&mut self) {
        self.after_no_return = true;
    }
    pub(crate) fn leave_out(&mut self, step: String, why: String) {
        self.left_out.push(LeftOut { step: StepId::new(step), why });
    }
    pub(crate) fn use_hook(&mut self, name: &str) {
        self.hooks.insert(name.to_owned());
    }
    pub(crate) fn diagnose(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }
    pub(crate) fn action(&self, id: &StepId) -> Option<&Action> {
        self.nodes.get(id).map(|node| &node.action)
    }
    pub(crate) fn ids(&self) -> impl Iterator<Item = &StepId> {
        self.nodes.keys()
    }
    pub(crate) fn has(&self, id: &str) -> bool {
        self.nodes.contains_key(id)
    }

    /// Remembers a start; a second one is an E0310.
    pub(crate) fn start(&mut self, machine: &MachineName, id: &StepId, span: Span) {
        if let Some((_, first)) = self.started.get(machine) {
            self.diagnostics.push(
                Diagnostic::error(310, format!("`{machine}` is started twice"), span, "again here")
                    .related(*first, "first here")
                    .help("start it once; where the place differs, say when: `when test`"),
            );
            return;
        }
        self.started.insert(machine.clone(), (id.clone(), span));
    }

    /// What each step waits for, by number.
    fn before(&self) -> Vec<Vec<u32>> {
        let mut before = vec![Vec::new(); self.numbers.len()];
        for (from, to) in &self.edges {
            before[*to as usize].push(*from);
        }
        before
    }

    /// A check of a machine needs its start somewhere before it: E0311.
    pub(crate) fn check_order(&mut self) {
        let before = self.before();
        let mut wrong = Vec::new();
        for node in self.nodes.values().filter(|node| node.phase == SheetPhase::Rise) {
            let (Action::Check { machine, .. }, Some(span)) = (&node.action, self.spans.get(&node.id)) else {
                continue;
            };
            let start = self.started.get(machine);
            let numbers = start.and_then(|(id, _)| Some((*self.numbers.get(id)?, *self.numbers.get(&node.id)?)));
            if numbers.is_some_and(|(start, check)| is_before(&before, start, check)) {
                continue;
            }
            let mut diagnostic = Diagnostic::error(
                311,
                format!("`{machine}` is checked before it is started"),
                *span,
                "not running yet",
            );
            diagnostic = match start {
                Some((_, start)) => diagnostic.related(*start, "started here").help("put the check behind the start"),
                None => diagnostic.help("no stage before this one starts it: add `after`, or start it here"),
            };
            wrong.push(diagnostic);
        }
        self.diagnostics.extend(wrong);
    }

    /// A disk is changed from beside its machine only while that is off: E0713.
    pub(crate) fn check_disks(&mut self, program: &Program) {
        let before = self.before();
        let mut wrong = Vec::new();
        for node in self.nodes.values() {
            let (hook, arguments) = match &node.action {
                Action::Run { hook, arguments } => (hook, arguments),
                Action::Check { probe: ProbeCall::Hook { hook, arguments }, .. } => (hook, arguments),
                _ => continue,
            };
            let needs = program.hooks.get(hook.as_str()).is_some_and(|hook| hook.sheet.needs.contains(&Need::Disk));
            let (true, Some(span)) = (needs, self.spans.get(&node.id)) else { continue };
            let say = |machine: &str, label: &str| {
                Diagnostic::error(
                    713,
                    format!("`{hook}` works on the disk of `{machine}`, which is on by then"),
                    *span,
                    label,
                )
                .note("two writers of one file system destroy it")
            };
            let machines = named(program, arguments);
            let first = machines.iter().next().map_or("its machine", |machine| machine.as_str());
            if node.phase == SheetPhase::Leave {
                wrong.push(say(first, "still runs at the source").help("run it in the stage itself, before the start"));
                continue;
            }
            if matches!(node.action, Action::Check { .. }) {
                wrong.push(
                    say(first, "a check looks at machines that run").help("look into the guest: `needs = [guest]`"),
                );
                continue;
            }
            let Some(number) = self.numbers.get(&node.id) else { continue };
            let started = machines.iter().find_map(|machine| {
                let (id, start) = self.started.get(machine)?;
                is_before(&before, *self.numbers.get(id)?, *number).then_some((machine, start))
            });
            if let Some((machine, start)) = started {
                wrong.push(
                    say(machine.as_str(), "too late")
                        .related(*start, "started here")
                        .help("put it before the start, or work in the guest: `needs = [guest]`"),
                );
            }
        }
        self.diagnostics.extend(wrong);
    }

    /// What makes the operation one that cannot be compiled; empty when it can.
    pub(crate) fn errors(self) -> Vec<Diagnostic> {
        if self.diagnostics.iter().any(Diagnostic::is_error) { self.diagnostics } else { Vec::new() }
    }

    /// All ids in their order, and the edges between their places there, each once and in order.
    fn in_order(&self) -> (Vec<StepId>, Vec<(u32, u32)>) {
        let lone = self.nodes.keys().filter(|id| !self.numbers.contains_key(*id));
        let numbered = self.numbers.iter().map(|(id, number)| (id, Some(*number)));
        let mut ids: Vec<(&StepId, Option<u32>)> = numbered.chain(lone.map(|id| (id, None))).collect();
        ids.sort_unstable();
        let mut places = vec![0u32; self.numbers.len()];
        for (place, (_, number)) in ids.iter().enumerate() {
            if let Some(number) = number {
                places[*number as usize] = place as u32;
            }
        }
        let place = |number: u32| places[number as usize];
        let mut edges: Vec<(u32, u32)> = self.edges.iter().map(|(from, to)| (place(*from), place(*to))).collect();
        edges.sort_unstable();
        edges.dedup();
        (ids.into_iter().map(|(id, _)| id.clone()).collect(), edges)
    }

    /// Levels by the longest way to a step; by id within a level.
    pub(crate) fn finish(self) -> Result<Finished, Vec<Diagnostic>> {
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            return Err(self.diagnostics);
        }
        let (ids, edges) = self.in_order();
        let mut incoming = vec![0u32; ids.len()];
        let mut outgoing = vec![Vec::new(); ids.len()];
        for (from, to) in &edges {
            incoming[*to as usize] += 1;
            outgoing[*from as usize].push(*to);
        }
        let mut ready: Vec<u32> = (0..ids.len() as u32).filter(|id| incoming[*id as usize] == 0).collect();
        let mut order: Vec<u32> = Vec::with_capacity(ids.len());
        while !ready.is_empty() {
            let mut next = Vec::new();
            for id in ready {
                order.push(id);
                for to in &outgoing[id as usize] {
                    let count = &mut incoming[*to as usize];
                    *count -= 1;
                    if *count == 0 {
                        next.push(*to);
                    }
                }
            }
            next.sort_unstable();
            ready = next;
        }
        let kind = |from: &StepId| match self.nodes.get(from).map(|node| node.otherwise) {
            Some(Otherwise::Continue) => EdgeKind::Ends,
            _ => EdgeKind::Needs,
        };
        let kinds: Vec<EdgeKind> = ids.iter().map(kind).collect();
        let edge = |(from, to): &(u32, u32)| {
            let (from, to) = (*from as usize, *to as usize);
            Edge { from: ids[from].clone(), to: ids[to].clone(), kind: kinds[from] }
        };
        let edges = edges.iter().map(edge).collect();
        let mut nodes = self.nodes;
        let nodes: Vec<Node> = order.iter().filter_map(|id| nodes.remove(&ids[*id as usize])).collect();
        let mut left_out = self.left_out;
        left_out.sort_by(|a, b| a.step.cmp(&b.step));
        left_out.dedup();
        Ok((nodes, edges, left_out, self.hooks.into_iter().collect()))
    }
}
