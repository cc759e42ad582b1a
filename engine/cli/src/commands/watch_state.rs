//! What the live table shows, as data: the records of a run, folded for a person who looks at it. Pure: time comes with each
//! look, keys come as words.

use muster_control::words;
use muster_journal::{Decision, Event, Record, RunStatus};
use muster_ports::{RunId, StepId, Timestamp};
use muster_runsheet::{Action, Hash, Kind, NodeKind, Runsheet, SheetPhase, view};
use std::collections::BTreeMap;

/// How a step stands, for the person at the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Waits for other steps.
    Next,
    Running,
    /// A person is asked.
    Asks {
        to: String,
        text: String,
    },
    /// Failed, and a person has to decide.
    Stopped,
    Done,
    /// Not done, and the run goes on without it.
    Without,
    TakenBack,
}

/// One step of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: StepId,
    pub what: String,
    pub stand: Stand,
    pub began: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// Milliseconds.
    pub estimate: Option<u64>,
    /// What it said last.
    pub note: String,
    /// Bytes done, and of how many.
    pub progress: Option<(u64, Option<u64>)>,
}

/// What a key led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Answer {
        step: StepId,
        yes: bool,
    },
    Pause,
    Resume,
    /// Leave the table; the run goes on.
    Leave,
    /// End this process at once, as Ctrl-C does elsewhere.
    Interrupt,
}

/// A key of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Yes,
    No,
    Pause,
    Another,
    Confirm,
    Back,
    Quit,
    Interrupt,
}

/// What the person is about to do, before they confirm it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    Answer { step: StepId, yes: bool },
    Pause,
    Resume,
}

/// Everything the table shows.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub run: RunId,
    /// Of the runsheet in force when the run was read.
    pub sheet: Hash,
    pub title: String,
    pub way: String,
    kind: Kind,
    rto: Option<u64>,
    /// Of the whole run, milliseconds.
    pub estimate: Option<u64>,
    pub opened: Timestamp,
    clock_from: Option<Timestamp>,
    pub rows: Vec<Row>,
    places: BTreeMap<StepId, usize>,
    leaves: Vec<StepId>,
    /// Sequence number of the next record.
    next: u64,
    pub paused: Option<String>,
    /// Why everything is taken back, once it is.
    pub undo: Option<String>,
    pub closed: Option<(RunStatus, Timestamp)>,
    pub prompt: Option<Prompt>,
    /// Which of the questions the keys are for.
    pub chosen: usize,
    /// What became of the last key.
    pub message: String,
    /// Keys that speak to the run work: somebody drives it.
    pub may_speak: bool,
}

/// What the sheet lets expect, in milliseconds: each step, and the whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimates {
    pub steps: BTreeMap<StepId, u64>,
    pub whole: Option<u64>,
}

impl State {
    pub fn new(run: &RunId, sheet: &Runsheet, estimates: &Estimates) -> Self {
        let shown = sheet.nodes.iter().filter(|node| node.kind != NodeKind::Barrier);
        let rows: Vec<Row> = shown
            .map(|node| Row {
                id: node.id.clone(),
                what: view::words(&node.action),
                stand: Stand::Next,
                began: None,
                ended: None,
                estimate: estimates.steps.get(&node.id).copied(),
                note: String::new(),
                progress: None,
            })
            .collect();
        let leave = |node: &&muster_runsheet::Node| {
            node.phase == SheetPhase::Leave && matches!(node.action, Action::Stop { .. } | Action::Run { .. })
        };
        Self {
            run: run.clone(),
            sheet: sheet.hash(),
            title: format!("{} · {}", sheet.plan, sheet.operation),
            way: format!("{} → {}", sheet.source, sheet.target),
            kind: sheet.operation.kind,
            rto: sheet.rto.filter(|_| sheet.operation.kind.is_live()).map(|rto| rto.0),
            estimate: estimates.whole,
            opened: Timestamp(0),
            clock_from: None,
            places: rows.iter().map(|row| row.id.clone()).zip(0..).collect(),
            leaves: sheet.nodes.iter().filter(leave).map(|node| node.id.clone()).collect(),
            rows,
            next: 0,
            paused: None,
            undo: None,
            closed: None,
            prompt: None,
            chosen: 0,
            message: String::new(),
            may_speak: true,
        }
    }

    /// The newest record that was taken.
    pub fn newest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Takes the next record; one that was seen already changes nothing. `false`: records between are missing, and the run
    /// has to be read anew.
    pub fn take(&mut self, record: &Record) -> bool {
        if record.seq > self.next {
            return false;
        }
        if record.seq == self.next {
            self.next += 1;
            self.apply(record);
        }
        true
    }

    fn apply(&mut self, record: &Record) {
        let at = record.time;
        match &record.event {
            Event::RunOpened { incident, .. } => {
                self.opened = at;
                self.clock_from = *incident;
                if incident.is_none() && self.kind != Kind::Planned {
                    self.clock_from = Some(at);
                }
            }
            Event::RunPaused { who, why } => self.paused = Some(format!("{who}: {why}")),
            Event::RunResumed { .. } => self.paused = None,
            Event::UndoBegun { why, .. } => self.undo = Some(why.clone()),
            Event::RunClosed { status, .. } => self.closed = Some((*status, at)),
            event => {
                if let Some(node) = event.node() {
                    self.apply_step(at, &node.clone(), record);
                }
            }
        }
        self.chosen = self.chosen.min(self.questions().count().saturating_sub(1));
        if let Some(Prompt::Answer { step, .. }) = &self.prompt
            && !self.questions().any(|row| row.id == *step)
        {
            self.prompt = None;
        }
    }

    fn apply_step(&mut self, at: Timestamp, step: &StepId, record: &Record) {
        if self.clock_from.is_none() && self.leaves.contains(step) {
            self.clock_from = Some(at);
        }
        let Some(row) = self.places.get(step).and_then(|&place| self.rows.get_mut(place)) else { return };
        let stand = match &record.event {
            Event::AttemptStarted { .. } | Event::TimerSet { .. } | Event::UndoStarted { .. } => Stand::Running,
            Event::Asked { question, .. } => Stand::Asks { to: question.to.clone(), text: question.text.clone() },
            // Who else has to answer is for the journal: until enough have, the step goes on asking.
            Event::Answered { answer, .. } if !answer.yes => Stand::Running,
            Event::NodeSucceeded { .. } => Stand::Done,
            Event::NodeDegraded { .. } | Event::NodeSkipped { .. } => Stand::Without,
            Event::Paused { .. } => Stand::Stopped,
            Event::Decided { decision: Decision::DoneByHand, .. } => Stand::Done,
            Event::Decided { decision: Decision::Skip, .. } => Stand::Without,
            Event::Decided { decision: Decision::Retry | Decision::Redo, .. } => Stand::Next,
            Event::UndoDone { .. } => Stand::TakenBack,
            Event::UndoFailed { .. } => Stand::Stopped,
            _ => row.stand.clone(),
        };
        if stand == Stand::Running || matches!(stand, Stand::Asks { .. }) {
            row.began.get_or_insert(at);
        }
        let ended = matches!(stand, Stand::Done | Stand::Without | Stand::TakenBack);
        if ended && row.stand != stand {
            row.ended = Some(at);
            row.progress = None;
        }
        if !ended {
            row.ended = None;
        }
        row.stand = stand;
        if !matches!(record.event, Event::AttemptStarted { .. } | Event::Asked { .. } | Event::TimerSet { .. }) {
            row.note = words::line(record).2;
        }
    }

    pub fn progress(&mut self, step: &str, done: u64, total: Option<u64>) {
        if let Some(row) = self.places.get(&StepId::new(step)).and_then(|&place| self.rows.get_mut(place)) {
            row.progress = Some((done, total));
        }
    }

    /// Steps that ask a person, in the order of the sheet.
    pub fn questions(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| matches!(row.stand, Stand::Asks { .. }))
    }

    /// How many steps have ended, and of how many.
    pub fn done(&self) -> (usize, usize) {
        (self.rows.iter().filter(|row| row.ended.is_some()).count(), self.rows.len())
    }

    /// Milliseconds until the promise is broken; below zero since it was. `None` without one, and before its clock runs.
    pub fn left(&self, now: Timestamp) -> Option<i64> {
        let (rto, from) = (self.rto?, self.clock_from?);
        let passed = i64::try_from(now.0.saturating_sub(from.0)).ok()?;
        Some(i64::try_from(rto).ok()?.saturating_sub(passed))
    }
    pub fn rto(&self) -> Option<u64> {
        self.rto
    }

    /// A key was pressed. What speaks to the run is confirmed first: a finger slips at night.
    pub fn press(&mut self, key: Key) -> Option<Act> {
        self.message.clear();
        if key == Key::Interrupt {
            return Some(Act::Interrupt);
        }
        if let Some(prompt) = self.prompt.take() {
            return match (key, prompt) {
                (Key::Confirm, Prompt::Answer { step, yes }) => Some(Act::Answer { step, yes }),
                (Key::Confirm, Prompt::Pause) => Some(Act::Pause),
                (Key::Confirm, Prompt::Resume) => Some(Act::Resume),
                _ => None,
            };
        }
        match key {
            Key::Quit => return Some(Act::Leave),
            Key::Another => self.chosen = (self.chosen + 1) % self.questions().count().max(1),
            Key::Yes | Key::No | Key::Pause if !self.may_speak => {
                self.message = "nobody drives this run: `muster resume` does".to_owned();
            }
            Key::Yes | Key::No => {
                let asks = self.questions().nth(self.chosen).map(|row| row.id.clone());
                match asks {
                    Some(step) => self.prompt = Some(Prompt::Answer { step, yes: key == Key::Yes }),
                    None => self.message = "nothing is asked now".to_owned(),
                }
            }
            Key::Pause if self.paused.is_some() => self.prompt = Some(Prompt::Resume),
            Key::Pause => self.prompt = Some(Prompt::Pause),
            Key::Confirm | Key::Back | Key::Interrupt => {}
        }
        None
    }
}
