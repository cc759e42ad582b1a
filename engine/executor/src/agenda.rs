//! Which steps are worth a look: a turn costs as much as has changed since the last one, not as much as there is.
//!
//! ```text
//!   record -- take_in --> due (by rank) -- turn: the rules, step by step --> [Do]   stays due until its record is here
//!                          ^ ^ ^ ^                     '--> timers, questions   until their time
//!                          | | | '----------------------'-> semaphores          until there is room
//!                          | | '------------------------'-> held                until the run goes on
//!                          | '------------- count of open steps before it -->   until they have ended
//! ```
//!
//! It decides nothing: everything here could be found anew by a look at all steps, which is what [`Agenda::new`] does, and
//! what every turn is compared with where tests run.

use crate::chart::{Chart, can_undo};
use crate::decide::{Do, Next, Rules, close, holds_locks, take_back};
use crate::semaphores::Semaphores;
use muster_journal::{Event, RunState, RunStatus, Stand};
use muster_ports::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Steps by the time they wait for.
#[derive(Clone, Debug, Default)]
struct Alarms {
    by_time: BTreeSet<(Timestamp, usize)>,
    by_rank: BTreeMap<usize, Timestamp>,
}

impl Alarms {
    fn set(&mut self, rank: usize, at: Timestamp) {
        self.by_time.insert((at, rank));
        self.by_rank.insert(rank, at);
    }
    fn drop(&mut self, rank: usize) {
        if let Some(at) = self.by_rank.remove(&rank) {
            self.by_time.remove(&(at, rank));
        }
    }
    fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }
    /// Those whose time has come.
    fn ring(&mut self, now: Timestamp, due: &mut BTreeSet<usize>) {
        while let Some(&(at, rank)) = self.by_time.first().filter(|(at, _)| *at <= now) {
            self.by_time.remove(&(at, rank));
            self.by_rank.remove(&rank);
            due.insert(rank);
        }
    }
}

/// How a step stood when it was last taken in.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    stand: Stand,
    holds: bool,
    /// An attempt of it is being made.
    alive: bool,
    /// Steps directly before it that have not ended.
    open_before: usize,
}

/// What one engine knows about a run beside its state, from turn to turn.
#[derive(Clone, Debug)]
pub struct Agenda {
    known: Vec<Known>,
    /// Ranks of the steps to look at.
    due: BTreeSet<usize>,
    timers: Alarms,
    questions: Alarms,
    held: BTreeSet<usize>,
    semaphores: Semaphores,
    ended: usize,
    alive: usize,
    /// While steps are taken back: those that were begun, in that order.
    begun: Option<Vec<usize>>,
}

impl Agenda {
    /// Of a run that was just taken up, or amended: everything is worth a look.
    pub fn new(chart: &Chart, state: &RunState) -> Self {
        let open_before = |at| Known { open_before: chart.before(at).len(), ..Known::default() };
        let mut agenda = Self {
            known: (0..chart.len()).map(open_before).collect(),
            due: (0..chart.len()).collect(),
            timers: Alarms::default(),
            questions: Alarms::default(),
            held: BTreeSet::new(),
            semaphores: Semaphores::new(chart),
            ended: 0,
            alive: 0,
            begun: None,
        };
        (0..chart.len()).for_each(|at| agenda.look_at(chart, state, at));
        agenda
    }

    /// Takes in what these records have changed; `state` is the one that they led to.
    pub fn take_in<'a>(&mut self, chart: &Chart, state: &RunState, events: impl IntoIterator<Item = &'a Event>) {
        for event in events {
            match event {
                // Nothing is as it was.
                Event::EngineClaimed { .. } | Event::Amended { .. } => *self = Self::new(chart, state),
                Event::RunResumed { .. } => self.due.append(&mut self.held),
                _ => {
                    if let Some(at) = event.node().and_then(|node| chart.place(node)) {
                        self.look_at(chart, state, at);
                    }
                }
            }
        }
    }

    /// A step has changed.
    fn look_at(&mut self, chart: &Chart, state: &RunState, at: usize) {
        let Some(node) = state.node_at(at) else { return };
        let rank = chart.rank(at);
        self.due.insert(rank);
        self.held.remove(&rank);
        self.timers.drop(rank);
        self.questions.drop(rank);
        self.semaphores.leave(rank);

        let alive = node.stand == Stand::Running && !node.orphaned(state.claim_seq);
        let (stand, holds) = (node.stand, holds_locks(node));
        let was = self.known[at];
        self.known[at] = Known { stand, holds, alive, ..was };
        self.alive = self.alive + usize::from(alive) - usize::from(was.alive);
        match (was.holds, holds) {
            (false, true) => self.semaphores.hold(chart.semaphores(at)),
            (true, false) => self.semaphores.free(chart.semaphores(at)),
            _ => {}
        }
        match (was.stand.has_ended(), stand.has_ended()) {
            (false, true) => self.has_ended(chart, at),
            (true, false) => self.is_open_again(chart, at),
            _ => {}
        }
        if was.stand != stand && stand == Stand::Waiting {
            // An approval before it may be too old, now that nothing rests on it.
            self.due.extend(chart.before(at).map(|before| chart.rank(before)));
        }
    }

    fn has_ended(&mut self, chart: &Chart, at: usize) {
        self.ended += 1;
        for &next in chart.after(at) {
            self.known[next].open_before -= 1;
            if self.known[next].open_before == 0 {
                self.due.insert(chart.rank(next));
            }
        }
    }

    fn is_open_again(&mut self, chart: &Chart, at: usize) {
        self.ended -= 1;
        for &next in chart.after(at) {
            self.known[next].open_before += 1;
        }
    }

    /// What to do now. Asking again gives the same, until a record is taken in or time goes on.
    pub fn turn(&mut self, chart: &Chart, state: &RunState, now: Timestamp) -> Vec<Do> {
        if state.is_closed() {
            return Vec::new();
        }
        if state.undo.is_some() {
            return self.turn_back(chart, state, now);
        }
        let todo = self.go_on(chart, state, now);
        self.semaphores.give_back();
        if todo.is_empty() && self.ended == chart.len() {
            return vec![Do::Record(vec![close(state, RunStatus::Done, now)])];
        }
        todo
    }

    fn go_on(&mut self, chart: &Chart, state: &RunState, now: Timestamp) -> Vec<Do> {
        self.timers.ring(now, &mut self.due);
        self.questions.ring(now, &mut self.due);
        self.due.extend(self.semaphores.admitted());
        let mut todo = Vec::new();
        let mut looked = None;
        while let Some(rank) = self.due.range(looked.map_or(0, |last| last + 1)..).next().copied() {
            looked = Some(rank);
            let at = chart.order()[rank];
            let Some(node) = state.node_at(at) else { continue };
            match (Rules { chart, state, now, semaphores: &mut self.semaphores }).step(at, node) {
                // Alone: what else was found rests on a state that this record ends.
                Next::Do(Do::Record(events)) if ends_the_turn(&events) => return vec![Do::Record(events)],
                Next::Do(what) => {
                    todo.push(what);
                    continue;
                }
                Next::At(time) => self.timers.set(rank, time),
                Next::Unanswered(time) => self.questions.set(rank, time),
                Next::Behind(semaphore) => self.semaphores.wait(rank, semaphore),
                Next::Held => drop(self.held.insert(rank)),
                Next::Rest => {}
            }
            self.due.remove(&rank);
            self.due.extend(self.semaphores.next(chart.semaphores(at)));
        }
        todo.extend(self.timers.first().map(Do::Wake));
        todo.extend(self.questions.first().map(Do::Expect));
        todo
    }

    fn turn_back(&mut self, chart: &Chart, state: &RunState, now: Timestamp) -> Vec<Do> {
        if self.alive > 0 {
            return Vec::new();
        }
        let begun = self.begun.get_or_insert_with(|| {
            let nodes = state.nodes().enumerate().filter(|(at, node)| can_undo(chart.node(*at)) && !node.found);
            let mut begun: Vec<(u64, usize)> = nodes.filter_map(|(at, node)| Some((node.first_seq?, at))).collect();
            begun.sort_unstable();
            begun.into_iter().map(|(_, at)| at).collect()
        });
        take_back(chart, state, now, begun)
    }
}

/// After these the run is another one.
fn ends_the_turn(events: &[Event]) -> bool {
    matches!(events.last(), Some(Event::UndoBegun { .. } | Event::AnswerExpired { .. }))
}
