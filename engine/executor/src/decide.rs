//! What to do next: a pure function of runsheet, folded journal and time.
//!
//! It knows nothing of stores, tasks or channels, so that a test can ask it anything and a run can be followed on paper.
//! What it returns is done in order; records first, and after any record it is asked again.
//!
//! Here are the rules, one step at a time. Which steps are worth a look is the [`Agenda`]'s.

use crate::agenda::Agenda;
use crate::chart::{Chart, Entry, Way, way};
use crate::semaphores::Semaphores;
use crate::text::fill;
use muster_journal::{
    Answer, Event, NodeState, Question, QuestionKind, RunState, RunStatus, SkippedBy, Stand, StepOutput, effect_key,
};
use muster_ports::{EffectKey, Failure, FailureClass, Timestamp};
use muster_runsheet::{Action, Node, NodeKind, Otherwise, RetrySheet, StepId};
use std::time::Duration;

/// An act whose limit ran out while no engine was alive is still looked at, for so long.
pub const LOOK_LIMIT: Duration = Duration::from_secs(60);
/// Longest pause between two attempts, however often it has grown.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(600);
/// An approval given before the point of no return is asked again on resume when it is older, and a signature given with
/// the order to run does not answer a question that comes later: both speak of another world by then.
pub const ANSWER_AGE_MAX: Duration = Duration::from_secs(3600);

/// Whether the runner is asked, before it acts, if the effect holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    No,
    /// It may be so already; if that cannot be told, acting is right, since acts converge.
    First,
    /// An attempt was cut short by a crash; if nothing can be told, a person has to look.
    AfterCrash,
    /// As `AfterCrash`, but the limit has run out: it is only looked at.
    Only,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Place in the runsheet.
    pub at: usize,
    pub node: StepId,
    pub attempt: u32,
    pub key: EffectKey,
    /// The end of `within`.
    pub deadline: Timestamp,
    /// When this attempt is given up: `deadline`, or sooner where each attempt has a limit, or later for a last look.
    pub limit: Timestamp,
    pub look: Look,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Do {
    /// Only a record; the effect is in what follows from it. Written in one batch.
    Record(Vec<Event>),
    /// Set a timer for the next attempt: in `delay`, and up to a fifth more by chance, so that many do not come at once.
    Retry {
        node: StepId,
        delay: Duration,
    },
    Attempt(Attempt),
    Undo(Attempt),
    /// Ask again at this time.
    Wake(Timestamp),
    /// As `Wake`, for a question that will then have gone unanswered.
    Expect(Timestamp),
}

/// What to do next. Empty: nothing, until an attempt ends or a person says something. Looks at every step; whoever goes on
/// with a run keeps an [`Agenda`].
pub fn decide(chart: &Chart, state: &RunState, now: Timestamp) -> Vec<Do> {
    Agenda::new(chart, state).turn(chart, state, now)
}

/// What follows from how one step stands.
#[derive(Debug)]
pub(crate) enum Next {
    /// It stays to be looked at until the record of this is there.
    Do(Do),
    /// Not before this time.
    At(Timestamp),
    /// As `At`, for a question that will then have gone unanswered.
    Unanswered(Timestamp),
    /// Not before this semaphore has room.
    Behind(usize),
    /// Not before a person lets the run go on.
    Held,
    /// Nothing, until something changes: the step itself, or what it comes after.
    Rest,
}

/// The rules, for one turn.
pub(crate) struct Rules<'a> {
    pub(crate) chart: &'a Chart,
    pub(crate) state: &'a RunState,
    pub(crate) now: Timestamp,
    pub(crate) semaphores: &'a mut Semaphores,
}

impl Rules<'_> {
    pub(crate) fn step(&mut self, at: usize, node: &NodeState) -> Next {
        let sheet = self.chart.node(at);
        let due = node.due.unwrap_or_default();
        match node.stand {
            Stand::Waiting => match self.chart.entry(self.state, at) {
                Entry::NotYet => Next::Rest,
                Entry::Open => self.begin(at, node, sheet),
                Entry::Never(needs) => {
                    let why = format!("it needs `{needs}`, which did not succeed");
                    let skipped = SkippedBy::Rule { needs };
                    record(vec![Event::NodeSkipped { node: node.id.clone(), skipped, why }])
                }
            },
            Stand::Running if node.orphaned(self.state.claim_seq) => self.again(at, node, sheet, true),
            Stand::Retrying if due <= self.now => self.again(at, node, sheet, false),
            Stand::Retrying => Next::At(due),
            Stand::Sleeping if due <= self.now => {
                record(vec![Event::TimerFired { node: node.id.clone() }, succeeded(node, StepOutput::None)])
            }
            Stand::Sleeping => Next::At(due),
            Stand::Asking | Stand::Answered | Stand::Succeeded if self.is_stale(at, node) => {
                let why = "it was asked before the point of no return and is older than an hour".to_owned();
                record(vec![Event::AnswerExpired { node: node.id.clone(), why }])
            }
            Stand::Asking => self.asking(node, sheet),
            Stand::Answered => self.answered(at, node, sheet),
            Stand::Failed => self.failed(node, sheet),
            _ => Next::Rest,
        }
    }

    fn begin(&mut self, at: usize, node: &NodeState, sheet: &Node) -> Next {
        let id = node.id.clone();
        match way(sheet) {
            Way::Pass => record(vec![succeeded(node, StepOutput::None)]),
            _ if self.state.paused.is_some() => Next::Held,
            Way::NoReturn => record(vec![succeeded(node, StepOutput::None), Event::NoReturn { node: id }]),
            Way::Timer(duration) => record(vec![Event::TimerSet { node: id, due: self.now.plus(duration.std()) }]),
            Way::Person => {
                let deadline = self.now.plus(sheet.within.std());
                record(vec![Event::Asked { node: id, question: self.question(sheet), deadline }])
            }
            Way::Runner => {
                let deadline = self.now.plus(sheet.within.std());
                let look = if sheet.kind == NodeKind::Act { Look::First } else { Look::No };
                self.attempt(at, node, deadline, deadline, look)
            }
        }
    }

    /// A further attempt of a step that has begun.
    fn again(&mut self, at: usize, node: &NodeState, sheet: &Node, crashed: bool) -> Next {
        if self.state.paused.is_some() {
            return Next::Held;
        }
        let deadline = node.deadline.unwrap_or_else(|| self.now.plus(sheet.within.std()));
        let (limit, look) = match (sheet.kind == NodeKind::Act, crashed) {
            (true, _) if deadline <= self.now => (self.now.plus(LOOK_LIMIT), Look::Only),
            (true, true) => (deadline, Look::AfterCrash),
            (true, false) => (deadline, Look::First),
            (false, _) => (deadline, Look::No),
        };
        self.attempt(at, node, deadline, limit, look)
    }

    fn attempt(&mut self, at: usize, node: &NodeState, deadline: Timestamp, limit: Timestamp, look: Look) -> Next {
        if !holds_locks(node)
            && let Err(full) = self.semaphores.borrow(self.chart.semaphores(at))
        {
            return Next::Behind(full);
        }
        let key = effect_key(&self.state.run, &node.id, node.redo);
        let attempt = node.attempt.saturating_add(1);
        // What one attempt may take; `within` covers all of them.
        let each = self.chart.node(at).retry.and_then(|retry| retry.each);
        let limit = each.map_or(limit, |each| limit.min(self.now.plus(each.std())));
        Next::Do(Do::Attempt(Attempt { at, node: node.id.clone(), attempt, key, deadline, limit, look }))
    }

    fn question(&self, sheet: &Node) -> Question {
        let (text, to, kind) = match &sheet.action {
            Action::Manual { text, by } => (text, by, QuestionKind::Manual),
            Action::Approve { text, by } => (text, by, QuestionKind::Approve),
            // Only these two are asked by the executor itself; see `way`.
            _ => return Question { text: String::new(), to: "anyone".into(), kind: QuestionKind::Approve },
        };
        Question { text: fill(text, self.chart.sheet(), self.state), to: to.clone(), kind }
    }

    /// Rule 8: an approval asked before *no return*, under an earlier engine and long ago, speaks of another world.
    fn is_stale(&self, at: usize, node: &NodeState) -> bool {
        let said = node.answered_at.or(node.asked_at);
        matches!(self.chart.node(at).action, Action::Approve { .. })
            && self.state.no_return.is_none()
            && said
                .is_some_and(|said| said < self.state.claimed_at && self.state.claimed_at.since(said) > ANSWER_AGE_MAX)
            && self
                .chart
                .after(at)
                .iter()
                .all(|&next| self.state.node_at(next).is_some_and(|next| next.stand == Stand::Waiting))
    }

    /// The signature that came with the order to run, for a question asked soon enough after it.
    fn signed(&self, node: &NodeState) -> Option<&Answer> {
        let soon = node.asked_at.is_some_and(|asked| asked.since(self.state.opened_at) <= ANSWER_AGE_MAX);
        let split_brain = node.question.as_ref().is_some_and(|question| question.kind == QuestionKind::SplitBrain);
        self.state.signed.as_ref().filter(|_| soon && split_brain)
    }

    fn asking(&self, node: &NodeState, sheet: &Node) -> Next {
        if let Some(answer) = self.signed(node).cloned() {
            return record(vec![Event::Answered { node: node.id.clone(), answer }]);
        }
        let deadline = node.deadline.unwrap_or(self.now);
        if deadline > self.now {
            return Next::Unanswered(deadline);
        }
        let failure = Failure::timeout(format!("nobody answered within {}", sheet.within))
            .help("`retry` asks again; `skip` and `abort` are possible too");
        record(vec![Event::AttemptFailed { node: node.id.clone(), attempt: node.attempt, failure }])
    }

    fn answered(&mut self, at: usize, node: &NodeState, sheet: &Node) -> Next {
        let Some(answer) = &node.answer else { return Next::Rest };
        if way(sheet) != Way::Person {
            if self.state.paused.is_some() {
                return Next::Held;
            }
            let deadline = node.deadline.unwrap_or_else(|| self.now.plus(sheet.within.std()));
            return self.attempt(at, node, deadline, deadline, Look::No);
        }
        let because = if answer.why.is_empty() { String::new() } else { format!(": {}", answer.why) };
        let word = match (&sheet.action, answer.yes) {
            (Action::Manual { .. }, true) => "done",
            (Action::Manual { .. }, false) => "cannot",
            (_, true) => "yes",
            (_, false) => "no",
        };
        let text = match node.agreed.as_slice() {
            several @ [_, _, ..] if answer.yes => {
                let who: Vec<&str> = several.iter().map(|answer| answer.who.as_str()).collect();
                format!("{} said {word}{because}", who.join(" and "))
            }
            _ => format!("{} said {word}{because}", answer.who),
        };
        record(vec![if answer.yes {
            succeeded(node, StepOutput::Text { text })
        } else {
            Event::AttemptFailed { node: node.id.clone(), attempt: node.attempt, failure: Failure::refused(text) }
        }])
    }

    /// What a failure leads to: another attempt, or what the plan says.
    fn failed(&self, node: &NodeState, sheet: &Node) -> Next {
        let id = node.id.clone();
        let Some(failure) = &node.failure else { return Next::Rest };
        let asked_person = way(sheet) == Way::Person;
        let deadline = node.deadline.unwrap_or(self.now);
        if !asked_person
            && let Some(delay) = retry_delay(sheet.retry, failure, node.failures)
            && self.now.plus(delay) < deadline
        {
            return Next::Do(Do::Retry { node: id, delay });
        }
        let undo_is_open = self.state.no_return.is_none() && !sheet.after_no_return;
        let harmless = sheet.kind == NodeKind::Note;
        record(vec![match sheet.otherwise {
            // The world is not what the record says: no rule may walk over that.
            _ if failure.class == FailureClass::Diverged => Event::Paused { node: id, why: failure.clone() },
            Otherwise::Undo if undo_is_open => Event::UndoBegun { by: None, why: format!("`{id}` failed: {failure}") },
            Otherwise::Continue => Event::NodeDegraded { node: id, why: failure.message.clone() },
            Otherwise::Pause if harmless => Event::NodeDegraded { node: id, why: failure.message.clone() },
            Otherwise::Pause | Otherwise::Undo => Event::Paused { node: id, why: failure.clone() },
        }])
    }
}

fn record(events: Vec<Event>) -> Next {
    Next::Do(Do::Record(events))
}

fn succeeded(node: &NodeState, output: StepOutput) -> Event {
    Event::NodeSucceeded { node: node.id.clone(), output, adopted: false }
}

fn retry_delay(retry: Option<RetrySheet>, failure: &Failure, failures: u32) -> Option<Duration> {
    let retry = retry?;
    if !failure.is_retryable() || failures > retry.count {
        return None;
    }
    let factor = u64::from(retry.factor.max(1)).saturating_pow(failures.saturating_sub(1));
    Some(Duration::from_millis(retry.delay.0.saturating_mul(factor)).min(RETRY_DELAY_MAX))
}

/// Steps are taken back one at a time, in the reverse of the order in which they were begun. `begun` are their places in
/// that order; those that are done with are taken off its end.
pub(crate) fn take_back(chart: &Chart, state: &RunState, now: Timestamp, begun: &mut Vec<usize>) -> Vec<Do> {
    while let Some(&at) = begun.last() {
        let Some(node) = state.node_at(at) else { return Vec::new() };
        let due = node.due.unwrap_or_default();
        return match node.stand {
            Stand::Undone | Stand::Left => {
                begun.pop();
                continue;
            }
            // A person has to decide first; what was begun earlier may be what this one stands on.
            Stand::Stuck => Vec::new(),
            Stand::Undoing if !node.orphaned(state.claim_seq) => Vec::new(),
            Stand::UndoFailed => undo_failed(chart.node(at), node, now),
            Stand::UndoRetrying if due > now => vec![Do::Wake(due)],
            _ if state.paused.is_some() => Vec::new(),
            _ => vec![undo(chart.node(at), state, at, node, now)],
        };
    }
    let left = state.nodes().any(|node| node.stand == Stand::Left);
    let by_person = state.undo.as_ref().is_some_and(|undo| undo.by.is_some());
    let status = match (left, by_person) {
        (true, _) => RunStatus::Failed,
        (false, true) => RunStatus::Aborted,
        (false, false) => RunStatus::Undone,
    };
    vec![Do::Record(vec![close(state, status, now)])]
}

fn undo(sheet: &Node, state: &RunState, at: usize, node: &NodeState, now: Timestamp) -> Do {
    // Undoing is always tried, however late: its clock begins when it does, and after a crash it gets a fresh one.
    let fresh = now.plus(sheet.within.std());
    let deadline = match node.undo_deadline {
        Some(deadline) if !node.orphaned(state.claim_seq) => deadline,
        _ => fresh,
    };
    let key = effect_key(&state.run, &node.id, node.redo);
    let attempt = node.undo_attempt.saturating_add(1);
    Do::Undo(Attempt { at, node: node.id.clone(), attempt, key, deadline, limit: deadline, look: Look::No })
}

fn undo_failed(sheet: &Node, node: &NodeState, now: Timestamp) -> Vec<Do> {
    let Some(failure) = &node.failure else { return Vec::new() };
    if let Some(delay) = retry_delay(sheet.retry, failure, node.undo_failures)
        && node.undo_deadline.is_some_and(|deadline| now.plus(delay) < deadline)
    {
        return vec![Do::Retry { node: node.id.clone(), delay }];
    }
    let why = failure.clone().during(format!("taking back `{}`", node.id));
    vec![Do::Record(vec![Event::Paused { node: node.id.clone(), why }])]
}

pub(crate) fn close(state: &RunState, status: RunStatus, now: Timestamp) -> Event {
    let from = state.incident.unwrap_or(state.opened_at);
    let took_millis = u64::try_from(now.since(from).as_millis()).unwrap_or(u64::MAX);
    Event::RunClosed { status, took_millis, degraded: state.degraded(), losses: state.losses() }
}

/// A step keeps its semaphores from its first attempt on, over retries and crashes: waiting for others in between would
/// use up its limit. While it waits for a person it holds none.
pub(crate) fn holds_locks(node: &NodeState) -> bool {
    matches!(node.stand, Stand::Running | Stand::Retrying)
}
