//! Reads a run's journal once more, by rules of its own, and says what is wrong with it.
//!
//! It knows nothing of the executor's decisions and of the journal's fold: only the runsheet, the records, and what the
//! records must mean.

use muster_journal::{Decision, Event, LoadedRun, Record, RunStatus, SkippedBy};
use muster_runsheet::{Action, EdgeKind, Node, NodeKind, Runsheet, StepId};
use std::collections::{BTreeMap, BTreeSet};

/// How a step has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Succeeded,
    /// A person said to go on without it.
    PassedOver,
    Degraded,
    SkippedByRule,
}

#[derive(Debug, Default)]
struct Step {
    ended: Option<Ended>,
    /// The record with which it was first begun.
    begun: Option<u64>,
    redone: u32,
    /// Key of its effects, by how often it was redone.
    keys: BTreeMap<u32, String>,
    undone: bool,
    left: bool,
    found: bool,
}

#[derive(Debug)]
struct Audit<'a> {
    sheet: &'a Runsheet,
    steps: BTreeMap<StepId, Step>,
    no_return: bool,
    undoing: bool,
    closed: Option<RunStatus>,
    /// Places of the steps that were taken back, in that order.
    taken_back: Vec<u64>,
    wrong: Vec<String>,
}

/// Everything that is wrong with a run's records. Empty: nothing.
pub fn audit(loaded: &LoadedRun) -> Vec<String> {
    let sheet = &*loaded.sheet;
    let steps = sheet.nodes.iter().map(|node| (node.id.clone(), Step::default())).collect();
    let (no_return, undoing, closed) = (false, false, None);
    let mut audit = Audit { sheet, steps, no_return, undoing, closed, taken_back: Vec::new(), wrong: Vec::new() };
    let mut epoch = loaded.records.first().map(|record| record.epoch);
    for (place, record) in loaded.records.iter().enumerate() {
        if record.seq != place as u64 {
            audit.wrong(record, "there is a hole before it");
        }
        if Some(record.epoch) < epoch {
            audit.wrong(record, "a writer that had been replaced wrote it");
        }
        epoch = Some(record.epoch);
        if audit.closed.is_some() {
            audit.wrong(record, "the run was closed before");
        }
        audit.take(record);
    }
    audit.end(loaded);
    audit.wrong
}

impl Audit<'_> {
    fn wrong(&mut self, record: &Record, why: impl std::fmt::Display) {
        let node = record.event.node().map(ToString::to_string).unwrap_or_default();
        self.wrong.push(format!("record {} ({} {node}): {why}", record.seq, record.event.word()));
    }

    fn node(&self, id: &StepId) -> Option<&Node> {
        self.sheet.nodes.iter().find(|node| node.id == *id)
    }

    /// Why a step may not begin now.
    fn closed_to(&self, id: &StepId) -> Option<String> {
        if self.undoing {
            return Some("the run is being taken back".to_owned());
        }
        if self.steps.get(id).is_some_and(|step| step.ended.is_some()) {
            return Some("it had ended".to_owned());
        }
        let node = self.node(id)?;
        let still_ahead = |step: &StepId| self.steps.get(step).is_some_and(|step| step.ended.is_none());
        let ahead =
            self.sheet.nodes.iter().any(|node| matches!(node.action, Action::NoReturn) && still_ahead(&node.id));
        let passes_it = matches!(node.action, Action::NoReturn);
        if node.after_no_return && !passes_it && !self.no_return && ahead {
            return Some("the point of no return has not passed".to_owned());
        }
        self.sheet.edges.iter().filter(|edge| edge.to == *id).find_map(|edge| {
            let before = self.steps.get(&edge.from)?;
            let Some(ended) = before.ended else { return Some(format!("`{}` comes before it", edge.from)) };
            let note = self.node(&edge.from).is_some_and(|node| node.kind == NodeKind::Note);
            let passes = match ended {
                Ended::Succeeded | Ended::PassedOver => true,
                Ended::Degraded => note,
                Ended::SkippedByRule => false,
            };
            (edge.kind == EdgeKind::Needs && !passes)
                .then(|| format!("it needs `{}`, which did not succeed", edge.from))
        })
    }

    fn begins(&mut self, record: &Record, id: &StepId) {
        if let Some(why) = self.closed_to(id) {
            self.wrong(record, why);
        }
    }

    fn ends(&mut self, record: &Record, id: &StepId, how: Ended) {
        let Some(step) = self.steps.get_mut(id) else { return self.wrong(record, "there is no such step") };
        if let Some(before) = step.ended.replace(how) {
            self.wrong(record, format!("it had ended already: {before:?}"));
        }
    }

    fn take(&mut self, record: &Record) {
        match &record.event {
            Event::AttemptStarted { node, key, .. } => {
                self.begins(record, node);
                let Some(step) = self.steps.get_mut(node) else { return self.wrong(record, "there is no such step") };
                step.begun = step.begun.or(Some(record.seq));
                let known = step.keys.entry(step.redone).or_insert_with(|| key.to_string());
                if *known != key.as_str() {
                    self.wrong(record, "its key is another one than before, and nobody redid it");
                }
            }
            Event::Asked { node, .. } if self.steps.get(node).is_some_and(|step| step.begun.is_none()) => {
                self.begins(record, node);
            }
            Event::NodeSucceeded { node, adopted, .. } => self.succeeded(record, node, *adopted),
            Event::NodeDegraded { node, .. } => self.ends(record, node, Ended::Degraded),
            Event::NodeSkipped { node, skipped, .. } => self.skipped(record, node, skipped),
            Event::NoReturn { .. } => self.no_return = true,
            Event::AnswerExpired { node, .. } => self.open_again(node),
            Event::Decided { node, decision, .. } => self.decided(record, node, *decision),
            Event::UndoBegun { .. } => {
                if self.no_return {
                    self.wrong(record, "the point of no return has passed");
                }
                self.undoing = true;
            }
            Event::UndoDone { node } => self.undone(record, node),
            Event::RunClosed { status, degraded, .. } => self.closed(record, *status, degraded),
            _ => {}
        }
    }

    fn open_again(&mut self, id: &StepId) {
        if let Some(step) = self.steps.get_mut(id) {
            step.ended = None;
        }
    }

    fn succeeded(&mut self, record: &Record, id: &StepId, adopted: bool) {
        let by_itself = self.node(id).is_some_and(|node| {
            node.kind == NodeKind::Barrier
                || matches!(node.action, Action::NoReturn | Action::Barrier | Action::Wait { .. })
        });
        let begun = self.steps.get(id).is_some_and(|step| step.begun.is_some());
        let asked =
            self.node(id).is_some_and(|node| matches!(node.action, Action::Approve { .. } | Action::Manual { .. }));
        if by_itself {
            self.begins(record, id);
        } else if !begun && !asked {
            self.wrong(record, "nothing announced it");
        }
        if self.undoing && !begun {
            self.wrong(record, "the run is being taken back");
        }
        if let Some(step) = self.steps.get_mut(id) {
            step.found = adopted;
        }
        self.ends(record, id, Ended::Succeeded);
    }

    fn skipped(&mut self, record: &Record, id: &StepId, skipped: &SkippedBy) {
        if let SkippedBy::Rule { needs } = skipped {
            let edge = |edge: &&muster_runsheet::Edge| edge.from == *needs && edge.to == *id;
            if !self.sheet.edges.iter().any(|found| edge(&found) && found.kind == EdgeKind::Needs) {
                self.wrong(record, format!("it does not need `{needs}`"));
            }
            let ended = self.steps.get(needs).and_then(|step| step.ended);
            if !matches!(ended, Some(Ended::Degraded | Ended::SkippedByRule)) {
                self.wrong(record, format!("`{needs}` has not failed: {ended:?}"));
            }
        }
        self.ends(record, id, Ended::SkippedByRule);
    }

    fn decided(&mut self, record: &Record, id: &StepId, decision: Decision) {
        let undoing = self.undoing;
        let dangerous =
            self.node(id).is_some_and(|node| matches!(node.action, Action::Fence { .. } | Action::Lock { .. }));
        if dangerous && !undoing && decision == Decision::Skip {
            self.wrong(record, "this must not be left out");
        }
        let Some(step) = self.steps.get_mut(id) else { return self.wrong(record, "there is no such step") };
        match (decision, undoing) {
            (Decision::Skip, true) => step.left = true,
            (Decision::DoneByHand, true) => step.undone = true,
            (Decision::Skip | Decision::DoneByHand, false) => self.ends(record, id, Ended::PassedOver),
            (Decision::Redo, _) => {
                step.redone += 1;
                step.ended = None;
            }
            (Decision::Retry | Decision::Abort, _) => {}
        }
    }

    fn undone(&mut self, record: &Record, id: &StepId) {
        if !self.undoing {
            self.wrong(record, "nobody has given the run up");
        }
        let Some(step) = self.steps.get_mut(id) else { return self.wrong(record, "there is no such step") };
        step.undone = true;
        let begun = step.begun;
        match (begun, self.taken_back.last()) {
            (None, _) => self.wrong(record, "it was never begun"),
            (Some(begun), Some(last)) if begun > *last => {
                self.wrong(record, "one that began before it was taken back first")
            }
            (Some(begun), _) => self.taken_back.push(begun),
        }
    }

    fn closed(&mut self, record: &Record, status: RunStatus, degraded: &[StepId]) {
        self.closed = Some(status);
        if (status == RunStatus::Done) == self.undoing {
            self.wrong(
                record,
                format!("a run does not end as {status} {}", if self.undoing { "taken back" } else { "" }),
            );
        }
        if status == RunStatus::Done {
            let open: Vec<_> =
                self.steps.iter().filter(|(_, step)| step.ended.is_none()).map(|(id, _)| id.clone()).collect();
            open.into_iter().for_each(|id| self.wrong(record, format!("`{id}` has not ended")));
        } else if status != RunStatus::Failed {
            let left: Vec<_> = self.steps.iter().filter(|(_, step)| step.left).map(|(id, _)| id.clone()).collect();
            left.into_iter().for_each(|id| self.wrong(record, format!("`{id}` was left as it is")));
        }
        let said: BTreeSet<&StepId> = degraded.iter().collect();
        for (id, step) in &self.steps {
            let without = matches!(step.ended, Some(Ended::Degraded | Ended::SkippedByRule));
            if status == RunStatus::Done && without && !said.contains(id) {
                self.wrong.push(format!("record {}: it does not say that `{id}` was gone on without", record.seq));
            }
        }
    }

    /// What the end must say.
    fn end(&mut self, loaded: &LoadedRun) {
        if self.closed != Some(loaded.state.status) && loaded.state.status != RunStatus::Open {
            self.wrong.push(format!("the state says {}, the records {:?}", loaded.state.status, self.closed));
        }
        if matches!(self.closed, Some(RunStatus::Undone | RunStatus::Aborted)) {
            for node in &self.sheet.nodes {
                let step = &self.steps[&node.id];
                let stays = matches!(node.kind, NodeKind::Check | NodeKind::Note | NodeKind::Barrier | NodeKind::Timer);
                let asked = matches!(node.action, Action::Approve { .. } | Action::Manual { .. });
                if step.begun.is_some() && !step.undone && !step.found && !stays && !asked {
                    self.wrong.push(format!("`{}` was begun and not taken back", node.id));
                }
            }
        }
    }
}
