//! What to do next: a pure function of runsheet, folded journal and time.
//!
//! It knows nothing of stores, tasks or channels, so that a test can ask it anything and a run can be followed on paper.
//! What it returns is done in order; records first, and after any record it is asked again.

use crate::chart::{Chart, Entry, STEPS_AT_ONCE, Way, can_undo, lock_capacity, way};
use crate::text::fill;
use muster_journal::{
    Answer, Event, NodeState, Question, QuestionKind, RunState, RunStatus, SkippedBy, Stand, StepOutput, effect_key,
};
use muster_ports::{EffectKey, Failure, FailureClass, Timestamp};
use muster_runsheet::{Action, Node, NodeKind, Otherwise, RetrySheet, StepId};
use std::collections::BTreeMap;
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
    /// When this attempt is given up; `deadline`, but for a last look.
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

/// What to do next. Empty: nothing, until an attempt ends or a person says something.
pub fn decide(chart: &Chart, state: &RunState, now: Timestamp) -> Vec<Do> {
    if state.is_closed() {
        return Vec::new();
    }
    if state.undo.is_some() {
        return decide_undo(chart, state, now);
    }
    let mut plan = Plan { chart, state, now, locks: Locks::held(chart, state), todo: Vec::new() };
    let mut all_ended = true;
    for &at in chart.order() {
        let Some(node) = state.node_at(at) else { continue };
        all_ended &= node.stand.has_ended();
        plan.step(at, node);
        // Alone: what else was found rests on a state that this record ends.
        if let Some(Do::Record(events)) = plan.todo.last()
            && matches!(events.last(), Some(Event::UndoBegun { .. } | Event::AnswerExpired { .. }))
        {
            return plan.todo.split_off(plan.todo.len() - 1);
        }
    }
    if all_ended && plan.todo.is_empty() {
        return vec![Do::Record(vec![close(state, RunStatus::Done, now)])];
    }
    plan.todo
}

struct Plan<'a> {
    chart: &'a Chart,
    state: &'a RunState,
    now: Timestamp,
    locks: Locks,
    todo: Vec<Do>,
}

impl Plan<'_> {
    fn step(&mut self, at: usize, node: &NodeState) {
        let sheet = self.chart.node(at);
        let due = node.due.unwrap_or_default();
        match node.stand {
            Stand::Waiting => match self.chart.entry(self.state, at) {
                Entry::NotYet => {}
                Entry::Open => self.begin(at, node, sheet),
                Entry::Never(needs) => {
                    let why = format!("it needs `{needs}`, which did not succeed");
                    let skipped = SkippedBy::Rule { needs };
                    self.record(vec![Event::NodeSkipped { node: node.id.clone(), skipped, why }]);
                }
            },
            Stand::Running if node.orphaned(self.state.claim_seq) => self.again(at, node, sheet, true),
            Stand::Retrying if due <= self.now => self.again(at, node, sheet, false),
            Stand::Retrying => self.todo.push(Do::Wake(due)),
            Stand::Sleeping if due <= self.now => {
                self.record(vec![Event::TimerFired { node: node.id.clone() }, succeeded(node, StepOutput::None)]);
            }
            Stand::Sleeping => self.todo.push(Do::Wake(due)),
            Stand::Asking | Stand::Answered | Stand::Succeeded if self.is_stale(at, node) => {
                let why = "it was asked before the point of no return and is older than an hour".to_owned();
                self.record(vec![Event::AnswerExpired { node: node.id.clone(), why }]);
            }
            Stand::Asking => self.asking(node, sheet),
            Stand::Answered => self.answered(at, node, sheet),
            Stand::Failed => self.failed(node, sheet),
            _ => {}
        }
    }

    fn record(&mut self, events: Vec<Event>) {
        self.todo.push(Do::Record(events));
    }

    fn begin(&mut self, at: usize, node: &NodeState, sheet: &Node) {
        let id = node.id.clone();
        match way(sheet) {
            Way::Pass => self.record(vec![succeeded(node, StepOutput::None)]),
            _ if self.state.paused.is_some() => {}
            Way::NoReturn => {
                self.record(vec![succeeded(node, StepOutput::None), Event::NoReturn { node: id }]);
            }
            Way::Timer(duration) => {
                self.record(vec![Event::TimerSet { node: id, due: self.now.plus(duration.std()) }]);
            }
            Way::Person => {
                let deadline = self.now.plus(sheet.within.std());
                self.record(vec![Event::Asked { node: id, question: self.question(sheet), deadline }]);
            }
            Way::Runner => {
                let deadline = self.now.plus(sheet.within.std());
                let look = if sheet.kind == NodeKind::Act { Look::First } else { Look::No };
                self.attempt(at, node, deadline, deadline, look);
            }
        }
    }

    /// A further attempt of a step that has begun.
    fn again(&mut self, at: usize, node: &NodeState, sheet: &Node, crashed: bool) {
        if self.state.paused.is_some() {
            return;
        }
        let deadline = node.deadline.unwrap_or_else(|| self.now.plus(sheet.within.std()));
        let (limit, look) = match (sheet.kind == NodeKind::Act, crashed) {
            (true, _) if deadline <= self.now => (self.now.plus(LOOK_LIMIT), Look::Only),
            (true, true) => (deadline, Look::AfterCrash),
            (true, false) => (deadline, Look::First),
            (false, _) => (deadline, Look::No),
        };
        self.attempt(at, node, deadline, limit, look);
    }

    fn attempt(&mut self, at: usize, node: &NodeState, deadline: Timestamp, limit: Timestamp, look: Look) {
        if !holds_locks(node) && !self.locks.take(self.chart.locks(at)) {
            return;
        }
        let key = effect_key(&self.state.run, &node.id, node.redo);
        let attempt = node.attempt.saturating_add(1);
        self.todo.push(Do::Attempt(Attempt { at, node: node.id.clone(), attempt, key, deadline, limit, look }));
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

    fn asking(&mut self, node: &NodeState, sheet: &Node) {
        if let Some(answer) = self.signed(node).cloned() {
            return self.record(vec![Event::Answered { node: node.id.clone(), answer }]);
        }
        let deadline = node.deadline.unwrap_or(self.now);
        if deadline > self.now {
            return self.todo.push(Do::Expect(deadline));
        }
        let failure = Failure::timeout(format!("nobody answered within {}", sheet.within))
            .help("`retry` asks again; `skip` and `abort` are possible too");
        self.record(vec![Event::AttemptFailed { node: node.id.clone(), attempt: node.attempt, failure }]);
    }

    fn answered(&mut self, at: usize, node: &NodeState, sheet: &Node) {
        let Some(answer) = &node.answer else { return };
        if way(sheet) != Way::Person {
            if self.state.paused.is_none() {
                let deadline = node.deadline.unwrap_or_else(|| self.now.plus(sheet.within.std()));
                self.attempt(at, node, deadline, deadline, Look::No);
            }
            return;
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
        self.record(vec![if answer.yes {
            succeeded(node, StepOutput::Text { text })
        } else {
            Event::AttemptFailed { node: node.id.clone(), attempt: node.attempt, failure: Failure::refused(text) }
        }]);
    }

    /// What a failure leads to: another attempt, or what the plan says.
    fn failed(&mut self, node: &NodeState, sheet: &Node) {
        let id = node.id.clone();
        let Some(failure) = &node.failure else { return };
        let asked_person = way(sheet) == Way::Person;
        let deadline = node.deadline.unwrap_or(self.now);
        if !asked_person
            && let Some(delay) = retry_delay(sheet.retry, failure, node.failures)
            && self.now.plus(delay) < deadline
        {
            return self.todo.push(Do::Retry { node: id, delay });
        }
        let undo_is_open = self.state.no_return.is_none() && !sheet.after_no_return;
        let harmless = sheet.kind == NodeKind::Note;
        self.record(vec![match sheet.otherwise {
            // The world is not what the record says: no rule may walk over that.
            _ if failure.class == FailureClass::Diverged => Event::Paused { node: id, why: failure.clone() },
            Otherwise::Undo if undo_is_open => Event::UndoBegun { by: None, why: format!("`{id}` failed: {failure}") },
            Otherwise::Continue => Event::NodeDegraded { node: id, why: failure.message.clone() },
            Otherwise::Pause if harmless => Event::NodeDegraded { node: id, why: failure.message.clone() },
            Otherwise::Pause | Otherwise::Undo => Event::Paused { node: id, why: failure.clone() },
        }]);
    }
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

/// Steps are taken back one at a time, in the reverse of the order in which they were begun.
fn decide_undo(chart: &Chart, state: &RunState, now: Timestamp) -> Vec<Do> {
    let alive = |node: &NodeState| node.stand == Stand::Running && !node.orphaned(state.claim_seq);
    if state.nodes().any(alive) {
        return Vec::new();
    }
    let mut begun: Vec<(u64, usize)> = state
        .nodes()
        .enumerate()
        .filter(|(at, node)| can_undo(chart.node(*at)) && !node.found)
        .filter_map(|(at, node)| Some((node.first_seq?, at)))
        .collect();
    begun.sort_unstable_by(|a, b| b.cmp(a));
    for (_, at) in begun {
        let Some(node) = state.node_at(at) else { continue };
        let due = node.due.unwrap_or_default();
        return match node.stand {
            Stand::Undone | Stand::Left => continue,
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

/// A step keeps its locks from its first attempt on, over retries and crashes: waiting for others in between would use up
/// its limit. While it waits for a person it holds none.
fn holds_locks(node: &NodeState) -> bool {
    matches!(node.stand, Stand::Running | Stand::Retrying)
}

/// Semaphores.
struct Locks {
    held: BTreeMap<String, usize>,
    running: usize,
}

impl Locks {
    fn held(chart: &Chart, state: &RunState) -> Self {
        let mut locks = Self { held: BTreeMap::new(), running: 0 };
        for (at, node) in state.nodes().enumerate() {
            if holds_locks(node) {
                locks.add(chart.locks(at));
            }
        }
        locks
    }
    fn add(&mut self, of: &[String]) {
        self.running += 1;
        for lock in of {
            *self.held.entry(lock.clone()).or_default() += 1;
        }
    }
    fn take(&mut self, of: &[String]) -> bool {
        let free = |lock: &String| self.held.get(lock).copied().unwrap_or(0) < lock_capacity(lock);
        let open = self.running < STEPS_AT_ONCE && of.iter().all(free);
        if open {
            self.add(of);
        }
        open
    }
}
