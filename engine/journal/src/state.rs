//! A run's state as the fold of its records. Pure: no store, no clock.
//!
//! A state is a value: whoever was handed one keeps it while the journal goes on. Its parts are shared between one state
//! and the next, so that a copy costs nothing that grows with the runsheet.

use crate::amend;
use crate::call::CallRecord;
use crate::error::JournalError;
use crate::event::*;
use crate::outcome::{Answer, Question, StepOutput};
use crate::outputs::Outputs;
use crate::stand::Stand;
use crate::team::Team;
use muster_ports::{EffectKey, Epoch, Failure, RunId, Timestamp};
use muster_runsheet::{Node, NodeKind, Operation, PlanName, Runsheet, StepId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One step as its records left it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeState {
    pub id: StepId,
    pub stand: Stand,
    /// Raised by a person's *redo*; part of the effect key.
    pub redo: u32,
    /// Number of the last attempt, counted over retries and crashes.
    pub attempt: u32,
    /// Failed attempts since it was begun or a person said *retry*.
    pub failures: u32,
    /// The end of `within`, for all attempts together.
    pub deadline: Option<Timestamp>,
    /// When a retry or a timer is due.
    pub due: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Sequence number of the first attempt: the order in which steps are undone is the reverse of it.
    pub first_seq: Option<u64>,
    /// Sequence number of the record that began what runs now.
    pub running_seq: u64,
    pub failure: Option<Failure>,
    pub question: Option<Question>,
    pub asked_at: Option<Timestamp>,
    /// The answer that counts: a no, or the last yes that was needed.
    pub answer: Option<Answer>,
    /// When the first person answered.
    pub answered_at: Option<Timestamp>,
    /// Everybody who has said yes to the question as it stands.
    pub agreed: Vec<Answer>,
    /// Who may answer what this step asks, and how many of them have to agree.
    pub team: Arc<Team>,
    /// The effect was found to hold before this run had tried anything: it is not this run's to take back.
    pub found: bool,
    pub adopted: bool,
    /// A person said *done by hand*.
    pub by_hand: bool,
    pub skipped: Option<SkippedBy>,
    pub calls: Vec<CallRecord>,
    pub undo_calls: Vec<CallRecord>,
    pub undo_attempt: u32,
    pub undo_failures: u32,
    pub undo_deadline: Option<Timestamp>,
    /// Whether the time in which no engine was alive counts against `within`: it does for acts.
    downtime_counts: bool,
}

impl NodeState {
    /// Begun by an engine that is gone: nobody is at it.
    pub fn orphaned(&self, claim_seq: u64) -> bool {
        matches!(self.stand, Stand::Running | Stand::Undoing) && self.running_seq < claim_seq
    }
    pub fn skipped_by_person(&self) -> bool {
        matches!(self.skipped, Some(SkippedBy::Person { .. }))
    }
    /// Has tried to change something.
    pub fn attempted(&self) -> bool {
        self.first_seq.is_some()
    }

    fn new(sheet: &Runsheet, node: &Node, anyone: &Arc<Team>) -> Self {
        let team = Team::of(sheet, node);
        Self {
            id: node.id.clone(),
            team: if team == **anyone { anyone.clone() } else { Arc::new(team) },
            agreed: Vec::new(),
            stand: Stand::Waiting,
            redo: 0,
            attempt: 0,
            failures: 0,
            deadline: None,
            due: None,
            started_at: None,
            ended_at: None,
            first_seq: None,
            running_seq: 0,
            failure: None,
            question: None,
            asked_at: None,
            answer: None,
            answered_at: None,
            found: false,
            adopted: false,
            by_hand: false,
            skipped: None,
            calls: Vec::new(),
            undo_calls: Vec::new(),
            undo_attempt: 0,
            undo_failures: 0,
            undo_deadline: None,
            downtime_counts: node.kind == NodeKind::Act,
        }
    }
    /// As if never begun, but for its attempts and records.
    fn begin_again(&mut self) {
        self.failures = 0;
        self.deadline = None;
        self.due = None;
        self.ended_at = None;
        self.failure = None;
        self.question = None;
        self.asked_at = None;
        self.answer = None;
        self.answered_at = None;
        self.agreed.clear();
        self.skipped = None;
        self.by_hand = false;
    }
}

/// Why and since when steps are being taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct Undoing {
    pub by: Option<Signed>,
    pub why: String,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    pub point: muster_ports::PointId,
    pub at: Timestamp,
    pub loss_millis: u64,
}

/// A copy costs the same however many steps there are.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState {
    pub run: RunId,
    pub plan: PlanName,
    pub operation: Operation,
    pub who: String,
    pub why: String,
    pub incident: Option<Timestamp>,
    /// Given in advance for the question of split-brain.
    pub signed: Option<Answer>,
    pub opened_at: Timestamp,
    pub status: RunStatus,
    pub closed_at: Option<Timestamp>,
    pub took_millis: Option<u64>,
    pub no_return: Option<Timestamp>,
    pub paused: Option<Signed>,
    pub undo: Option<Undoing>,
    /// Sequence number and time of the last claim.
    pub claim_seq: u64,
    pub claimed_at: Timestamp,
    pub engine: Option<String>,
    pub epoch: Epoch,
    /// Of the newest record.
    pub seq: u64,
    pub time: Timestamp,
    /// Outputs of the steps that have succeeded.
    pub outputs: Outputs,
    /// By group.
    pub points: Arc<BTreeMap<String, Chosen>>,
    nodes: rpds::VectorSync<Arc<NodeState>>,
    /// How many of them wait for a person.
    waiting: usize,
    index: Arc<HashMap<StepId, usize>>,
}

/// Folds all records of a run that was not amended. The first must be `RunOpened`.
pub fn fold(run: &RunId, sheet: &Runsheet, records: &[Record]) -> Result<RunState, JournalError> {
    let Some((first, rest)) = records.split_first() else {
        return Err(JournalError::Damaged { run: run.clone(), seq: 0, what: "it has no record".to_owned() });
    };
    let mut state = RunState::opened(run, sheet, first)?;
    rest.iter().try_for_each(|record| state.apply(record))?;
    Ok(state)
}

impl RunState {
    pub fn opened(run: &RunId, sheet: &Runsheet, first: &Record) -> Result<Self, JournalError> {
        let Event::RunOpened { format, plan, operation, who, why, incident, signed, .. } = &first.event else {
            let why = "a run begins with `run-opened`".to_owned();
            return Err(JournalError::IllegalRun { seq: first.seq, event: first.event.word(), why });
        };
        if !RUN_FORMATS.iter().any(|(known, _)| known == format) {
            return Err(JournalError::Format { run: run.clone(), found: format.clone() });
        }
        let anyone = Arc::new(Team::anyone());
        let nodes = persistent(sheet.nodes.iter().map(|node| Arc::new(NodeState::new(sheet, node, &anyone))));
        let index = places(sheet);
        Ok(Self {
            run: run.clone(),
            plan: plan.clone(),
            operation: *operation,
            who: who.clone(),
            why: why.clone(),
            incident: *incident,
            signed: signed.clone(),
            opened_at: first.time,
            status: RunStatus::Open,
            closed_at: None,
            took_millis: None,
            no_return: None,
            paused: None,
            undo: None,
            claim_seq: 0,
            claimed_at: first.time,
            engine: None,
            epoch: first.epoch,
            seq: first.seq,
            time: first.time,
            outputs: Outputs::default(),
            points: Arc::default(),
            nodes,
            waiting: 0,
            index: Arc::new(index),
        })
    }

    /// In the order of the runsheet.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeState> {
        self.nodes.iter().map(|node| &**node)
    }
    /// Place of a step in the runsheet.
    pub fn place(&self, id: &StepId) -> Option<usize> {
        self.index.get(id).copied()
    }
    pub fn node(&self, id: &StepId) -> Option<&NodeState> {
        self.node_at(self.place(id)?)
    }
    /// How many steps wait for a person.
    pub fn waiting(&self) -> usize {
        self.waiting
    }
    /// By place in the runsheet; for walkers of the graph.
    pub fn node_at(&self, at: usize) -> Option<&NodeState> {
        self.nodes.get(at).map(|node| &**node)
    }
    pub fn is_closed(&self) -> bool {
        self.status != RunStatus::Open
    }
    /// What a person or the plan decided to go on without.
    pub fn degraded(&self) -> Vec<StepId> {
        let without = |node: &&NodeState| matches!(node.stand, Stand::Degraded | Stand::Skipped);
        self.nodes().filter(without).map(|node| node.id.clone()).collect()
    }
    pub fn losses(&self) -> Vec<GroupLoss> {
        let loss =
            |(group, chosen): (&String, &Chosen)| GroupLoss { group: group.clone(), loss_millis: chosen.loss_millis };
        self.points.iter().map(loss).collect()
    }

    /// As [`apply`](Self::apply), of the record that puts `after` in the place of `before`. Steps that have begun keep
    /// their state, all others are as if never looked at.
    pub fn apply_amended(&mut self, record: &Record, before: &Runsheet, after: &Runsheet) -> Result<(), JournalError> {
        self.may_follow(record)?;
        amend::changes(before, after, self).map_err(|failure| JournalError::IllegalRun {
            seq: record.seq,
            event: record.event.word(),
            why: failure.message,
        })?;
        let anyone = Arc::new(Team::anyone());
        let state_of = |node: &Node| match self.index.get(&node.id) {
            Some(&at) if amend::has_begun(&self.nodes[at]) => self.nodes[at].clone(),
            _ => Arc::new(NodeState::new(after, node, &anyone)),
        };
        self.nodes = persistent(after.nodes.iter().map(state_of));
        self.waiting = self.nodes().filter(|node| node.stand.waits_for_person()).count();
        self.index = Arc::new(places(after));
        self.took_in(record);
        Ok(())
    }

    fn may_follow(&self, record: &Record) -> Result<(), JournalError> {
        let illegal = |why: &str| {
            Err(JournalError::IllegalRun { seq: record.seq, event: record.event.word(), why: why.to_owned() })
        };
        if record.seq != self.seq + 1 {
            return illegal(&format!("record {} was expected", self.seq + 1));
        }
        if record.epoch < self.epoch {
            return illegal("its writer had been replaced by a newer one");
        }
        if self.is_closed() {
            return illegal("the run is closed");
        }
        Ok(())
    }

    fn took_in(&mut self, record: &Record) {
        self.seq = record.seq;
        // A clock that was set back must not make durations negative or deadlines jump.
        self.time = self.time.max(record.time);
        self.epoch = record.epoch;
    }

    /// Takes one more record, or says why it cannot follow. On an error the state is not to be used further.
    pub fn apply(&mut self, record: &Record) -> Result<(), JournalError> {
        let illegal = |why: &str| {
            Err(JournalError::IllegalRun { seq: record.seq, event: record.event.word(), why: why.to_owned() })
        };
        self.may_follow(record)?;
        match &record.event {
            Event::RunOpened { .. } => return illegal("the run is open already"),
            Event::EngineClaimed { engine } => self.claim(record, engine),
            Event::EngineReleased | Event::TakenOver { .. } => {}
            Event::Amended { .. } => return illegal("it is not there with the sheet that it names"),
            Event::LeftOpen { .. } if self.no_return.is_none() => {
                return illegal("the point of no return has not passed");
            }
            Event::LeftOpen { .. } => {}
            Event::RunPaused { who, why } => self.paused = Some(Signed { who: who.clone(), why: why.clone() }),
            Event::RunResumed { .. } => self.paused = None,
            Event::UndoBegun { by, why } => {
                if self.no_return.is_some() {
                    return illegal("the point of no return has passed");
                }
                if self.undo.is_some() {
                    return illegal("it is being undone already");
                }
                self.undo = Some(Undoing { by: by.clone(), why: why.clone(), at: record.time });
            }
            Event::NoReturn { .. } if self.undo.is_some() => return illegal("the run is being undone"),
            Event::RunClosed { status, took_millis, .. } => {
                if *status == RunStatus::Open {
                    return illegal("a run does not close as open");
                }
                self.status = *status;
                self.closed_at = Some(record.time);
                self.took_millis = Some(*took_millis);
            }
            _ => self.apply_to_node(record)?,
        }
        self.took_in(record);
        Ok(())
    }

    /// A new engine: attempts in flight have no owner, and clocks that do not count its absence are put forward.
    fn claim(&mut self, record: &Record, engine: &str) {
        let away = record.time.since(self.time);
        let waits = |node: &NodeState| {
            matches!(node.stand, Stand::Running | Stand::Asking | Stand::Retrying | Stand::Answered)
                && !node.downtime_counts
        };
        let put_forward: Vec<usize> =
            self.nodes().enumerate().filter(|(_, node)| waits(node)).map(|(at, _)| at).collect();
        for at in put_forward {
            if let Some(node) = self.nodes.get_mut(at).map(Arc::make_mut) {
                node.deadline = node.deadline.map(|deadline| deadline.plus(away));
            }
        }
        self.claim_seq = record.seq;
        self.claimed_at = record.time;
        self.engine = Some(engine.to_owned());
    }

    fn apply_to_node(&mut self, record: &Record) -> Result<(), JournalError> {
        let Some(id) = record.event.node() else { return Ok(()) };
        let no_such = || JournalError::NoSuchStep { seq: record.seq, node: id.clone() };
        let at = self.place(id).ok_or_else(no_such)?;
        let to = self.next_stand(&self.nodes[at], record)?;
        let node = Arc::make_mut(self.nodes.get_mut(at).ok_or_else(no_such)?);
        let waited = node.stand.waits_for_person();
        if let Some(to) = to {
            if !node.stand.may_become(to) {
                return Err(JournalError::Illegal {
                    seq: record.seq,
                    event: record.event.word(),
                    node: id.clone(),
                    from: node.stand.word(),
                    to: to.word(),
                });
            }
            node.stand = to;
        }
        note_on(node, record);
        self.waiting = self.waiting + usize::from(node.stand.waits_for_person()) - usize::from(waited);
        match &record.event {
            Event::NodeSucceeded { output, .. } => {
                self.outputs.insert(id.clone(), output.clone());
            }
            Event::Decided { decision: Decision::DoneByHand, .. } if to == Some(Stand::Succeeded) => {
                self.outputs.insert(id.clone(), StepOutput::None);
            }
            Event::Decided { decision: Decision::Redo, .. } | Event::AnswerExpired { .. } | Event::UndoDone { .. } => {
                self.outputs.remove(id);
            }
            Event::PointChosen { group, point, at, loss_millis, .. } => {
                let chosen = Chosen { point: point.clone(), at: *at, loss_millis: *loss_millis };
                Arc::make_mut(&mut self.points).insert(group.clone(), chosen);
            }
            Event::NoReturn { .. } => self.no_return = Some(record.time),
            _ => {}
        }
        Ok(())
    }

    /// Where the record takes the step; `None` when it stays where it is.
    fn next_stand(&self, node: &NodeState, record: &Record) -> Result<Option<Stand>, JournalError> {
        let illegal = |to: &'static str| {
            Err(JournalError::Illegal {
                seq: record.seq,
                event: record.event.word(),
                node: node.id.clone(),
                from: node.stand.word(),
                to,
            })
        };
        Ok(Some(match &record.event {
            Event::AttemptStarted { .. } => Stand::Running,
            Event::AttemptFailed { .. } => Stand::Failed,
            Event::NodeSucceeded { .. } => Stand::Succeeded,
            Event::NodeDegraded { .. } => Stand::Degraded,
            Event::NodeSkipped { .. } => Stand::Skipped,
            Event::Asked { .. } => Stand::Asking,
            Event::Answered { .. } if node.stand != Stand::Asking => return illegal(Stand::Answered.word()),
            // Others have to agree as well.
            Event::Answered { answer, .. } if answer.yes && node.agreed.len() + 1 < node.team.quorum => Stand::Asking,
            Event::Answered { .. } => Stand::Answered,
            Event::AnswerExpired { .. } => Stand::Waiting,
            Event::TimerSet { .. } => match node.stand {
                Stand::Waiting => Stand::Sleeping,
                Stand::UndoFailed => Stand::UndoRetrying,
                _ => Stand::Retrying,
            },
            Event::Paused { .. } if node.stand == Stand::UndoFailed => Stand::Stuck,
            Event::Paused { .. } => Stand::Paused,
            Event::Decided { decision, .. } => match (decision, node.stand) {
                (Decision::Abort, _) => return Ok(None),
                (Decision::Retry, Stand::Stuck) => Stand::UndoRetrying,
                (Decision::Skip, Stand::Stuck) => Stand::Left,
                (Decision::DoneByHand, Stand::Stuck) => Stand::Undone,
                (Decision::Retry, Stand::Paused) => Stand::Waiting,
                (Decision::Skip, Stand::Paused) => Stand::Skipped,
                (Decision::DoneByHand, Stand::Paused) => Stand::Succeeded,
                (Decision::Redo, Stand::Paused | Stand::Succeeded | Stand::Degraded | Stand::Skipped) => Stand::Waiting,
                (decision, _) => return illegal(decision.word()),
            },
            Event::UndoStarted { .. } => Stand::Undoing,
            Event::UndoDone { .. } => Stand::Undone,
            Event::UndoFailed { .. } => Stand::UndoFailed,
            Event::TimerFired { .. } if node.stand != Stand::Sleeping => return illegal("fired"),
            _ => return Ok(None),
        }))
    }
}

/// Narrow nodes: a record copies those on the way to its step, and each pointer in them costs as much as a level.
const VECTOR_BITS: u8 = 3;

fn persistent(nodes: impl Iterator<Item = Arc<NodeState>>) -> rpds::VectorSync<Arc<NodeState>> {
    let mut vector = rpds::VectorSync::new_with_bits(VECTOR_BITS);
    nodes.for_each(|node| vector.push_back_mut(node));
    vector
}

fn places(sheet: &Runsheet) -> HashMap<StepId, usize> {
    sheet.nodes.iter().enumerate().map(|(at, node)| (node.id.clone(), at)).collect()
}

/// Keeps what the record says beside the stand.
fn note_on(node: &mut NodeState, record: &Record) {
    let now = record.time;
    match &record.event {
        Event::AttemptStarted { attempt, deadline, .. } => {
            node.attempt = *attempt;
            node.deadline = Some(*deadline);
            node.due = None;
            node.running_seq = record.seq;
            node.started_at = node.started_at.or(Some(now));
            node.first_seq = node.first_seq.or(Some(record.seq));
        }
        Event::AttemptFailed { failure, .. } => {
            node.failures += 1;
            node.failure = Some(failure.clone());
        }
        Event::NodeSucceeded { adopted, .. } => {
            node.adopted = *adopted;
            node.found = *adopted && node.attempt <= 1;
            node.started_at = node.started_at.or(Some(now));
            node.ended_at = Some(now);
        }
        Event::NodeDegraded { .. } => node.ended_at = Some(now),
        Event::NodeSkipped { skipped, .. } => {
            node.skipped = Some(skipped.clone());
            node.ended_at = Some(now);
        }
        Event::Asked { question, deadline, .. } => {
            node.question = Some(question.clone());
            node.asked_at = Some(now);
            node.answer = None;
            node.answered_at = None;
            node.agreed.clear();
            node.deadline = Some(*deadline);
            node.started_at = node.started_at.or(Some(now));
        }
        Event::Answered { answer, .. } => {
            if answer.yes {
                node.agreed.push(answer.clone());
            }
            if node.stand == Stand::Answered {
                node.answer = Some(answer.clone());
            }
            // Of several answers the oldest says how old the approval is.
            node.answered_at = node.answered_at.or(Some(now));
        }
        Event::AnswerExpired { .. } => node.begin_again(),
        Event::TimerSet { due, .. } => {
            node.due = Some(*due);
            node.started_at = node.started_at.or(Some(now));
        }
        Event::Paused { why, .. } => node.failure = Some(why.clone()),
        Event::Decided { decision, who, .. } => note_decision(node, *decision, who, now),
        Event::UndoStarted { attempt, deadline, .. } => {
            node.undo_attempt = *attempt;
            node.undo_deadline = Some(*deadline);
            node.due = None;
            node.running_seq = record.seq;
        }
        Event::UndoFailed { failure, .. } => {
            node.undo_failures += 1;
            node.failure = Some(failure.clone());
        }
        Event::EffectIntended { key: _, undo, call, operation, arguments, .. } => {
            let calls = if *undo { &mut node.undo_calls } else { &mut node.calls };
            // Intended again after a crash: the first record stays.
            if !calls.iter().any(|known| known.number == *call) {
                let (operation, arguments) = (operation.clone(), arguments.clone());
                calls.push(CallRecord { number: *call, operation, arguments, result: None });
            }
        }
        Event::EffectDone { undo, call, result, .. } => {
            let calls = if *undo { &mut node.undo_calls } else { &mut node.calls };
            if let Some(known) = calls.iter_mut().find(|known| known.number == *call) {
                known.result = Some(result.clone());
            }
        }
        _ => {}
    }
}

fn note_decision(node: &mut NodeState, decision: Decision, who: &str, now: Timestamp) {
    match (decision, node.stand) {
        // The stand is the new one here: taking back is tried again at once.
        (Decision::Retry, Stand::UndoRetrying) => {
            node.undo_failures = 0;
            node.undo_deadline = None;
            node.due = Some(now);
        }
        (Decision::Retry, _) => node.begin_again(),
        (Decision::Redo, _) => {
            node.begin_again();
            node.redo += 1;
            node.calls.clear();
            node.found = false;
            node.adopted = false;
        }
        (Decision::Skip, Stand::Skipped) => {
            node.skipped = Some(SkippedBy::Person { who: who.to_owned() });
            node.ended_at = Some(now);
        }
        (Decision::DoneByHand, _) => {
            node.by_hand = true;
            node.ended_at = Some(now);
        }
        (Decision::Skip | Decision::Abort, _) => {}
    }
}

/// The same for every attempt and after every crash; a person's *redo* changes it. 128 bits of BLAKE3, hex.
pub fn effect_key(run: &RunId, step: &StepId, redo: u32) -> EffectKey {
    let hash = muster_runsheet::Hash::of(format!("{run}\0{step}\0{redo}"));
    EffectKey::new(hash.0.get(..32).unwrap_or(&hash.0))
}
