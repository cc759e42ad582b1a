//! Does what `decide` says. Durable first, then the effect, then durable again.
//!
//! ```text
//!   loop: decide -> records -> decide -> attempts (own tasks) -> wait for the first of:
//!         journal broken | command | attempt ended | time
//! ```

use crate::agenda::Agenda;
use crate::attempt::{self, Outcome, Work};
use crate::chart::Chart;
use crate::command::{Command, CommandReceiver, Order, accept, waiting};
use crate::decide::{Attempt, Do};
use crate::executor::{ExecutorError, OnPause, RunEnd};
use crate::observer::RunObserver;
use crate::runner::StepRunner;
use crate::scribe::Scribe;
use muster_journal::{Event, JournalError, RunState, Signed};
use muster_ports::{Clock, Failure, Random, Timestamp};
use muster_runsheet::Runsheet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};

/// Part of a retry's delay that is left to chance: 1 in 5.
const JITTER_PARTS: u64 = 5;

pub(crate) struct Driver {
    pub(crate) chart: Chart,
    pub(crate) agenda: Agenda,
    pub(crate) scribe: Scribe,
    pub(crate) runner: Arc<dyn StepRunner>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) observer: Arc<dyn RunObserver>,
    pub(crate) on_pause: OnPause,
    /// Dropping it cuts all attempts off.
    pub(crate) tasks: JoinSet<Outcome>,
    pub(crate) attempts: HashMap<Id, (Attempt, bool)>,
    /// An attempt that was over at once, and has no record of it yet.
    pub(crate) at_once: Option<(Attempt, bool, Outcome)>,
}

/// When there is something to look at again.
#[derive(Default)]
struct Alarm {
    /// A retry or a timer: the run moves by itself.
    timer: Option<Timestamp>,
    /// A question that will have gone unanswered.
    question: Option<Timestamp>,
}

fn earlier(known: Option<Timestamp>, at: Timestamp) -> Option<Timestamp> {
    Some(known.map_or(at, |known| known.min(at)))
}

impl Driver {
    pub(crate) async fn run(mut self, mut commands: CommandReceiver) -> Result<RunEnd, ExecutorError> {
        let mut commands_open = true;
        loop {
            let alarm = self.proceed().await?;
            let state = self.scribe.state();
            if state.is_closed() {
                return Ok(RunEnd::of(&state));
            }
            let wake = match (alarm.timer, alarm.question) {
                (Some(timer), Some(question)) => Some(timer.min(question)),
                (timer, question) => timer.or(question),
            };
            let only_people = self.running().is_none() && alarm.timer.is_none();
            let may_wait = self.on_pause == OnPause::Wait && (commands_open || wake.is_some());
            if only_people && !may_wait {
                self.scribe.append(vec![Event::EngineReleased]).await?;
                return Ok(RunEnd::Paused { waiting: waiting(&self.chart, &state) });
            }
            let clock = self.clock.clone();
            let scribe = self.scribe.clone();
            tokio::select! {
                biased;
                error = scribe.broken() => return Err(error.into()),
                order = commands.recv(), if commands_open => match order {
                    Some(order) => self.obey(order).await?,
                    None => commands_open = false,
                },
                () = std::future::ready(()), if self.at_once.is_some() => {
                    let at_once = self.at_once.take();
                    let events = at_once.map(|(attempt, undo, outcome)| self.outcome(&attempt, undo, Ok(outcome)));
                    self.record(events.unwrap_or_default()).await?;
                }
                Some(ended) = self.tasks.join_next_with_id() => {
                    // Whatever has ended by now shares one durable write.
                    let mut events = self.ended(ended);
                    while let Some(ended) = self.tasks.try_join_next_with_id() {
                        events.extend(self.ended(ended));
                    }
                    self.record(events).await?;
                }
                () = clock.sleep_until(wake.unwrap_or_default()), if wake.is_some() => {}
            }
        }
    }

    /// Does all that can be done now; says when to look again.
    async fn proceed(&mut self) -> Result<Alarm, JournalError> {
        loop {
            let state = self.scribe.state();
            let now = self.clock.now();
            let mut alarm = Alarm::default();
            let (mut records, mut starts) = (Vec::new(), Vec::new());
            let todo = self.agenda.turn(&self.chart, &state, now);
            debug_assert_eq!(
                todo,
                crate::decide::decide(&self.chart, &state, now),
                "the agenda has forgotten something"
            );
            for todo in todo {
                match todo {
                    Do::Record(events) => records.extend(events),
                    Do::Retry { node, delay } => {
                        records.push(Event::TimerSet { node, due: now.plus(delay + self.jitter(delay)) });
                    }
                    Do::Attempt(attempt) => starts.push((attempt, false)),
                    Do::Undo(attempt) => starts.push((attempt, true)),
                    Do::Wake(at) => alarm.timer = earlier(alarm.timer, at),
                    Do::Expect(at) => alarm.question = earlier(alarm.question, at),
                }
            }
            // Records first: what follows from them may be that an attempt is not to be made.
            if !records.is_empty() {
                self.record(records).await?;
            } else if !starts.is_empty() {
                self.start(starts).await?;
            } else {
                return Ok(alarm);
            }
        }
    }

    /// Durable, and known to the agenda.
    async fn record(&mut self, events: Vec<Event>) -> Result<(), JournalError> {
        let records = self.scribe.append(events).await?;
        self.agenda.take_in(&self.chart, &self.scribe.state(), records.iter().map(|record| &record.event));
        Ok(())
    }

    async fn start(&mut self, starts: Vec<(Attempt, bool)>) -> Result<(), JournalError> {
        let events = starts.iter().map(|(attempt, undo)| {
            let Attempt { node, attempt, key, deadline, .. } = attempt.clone();
            if *undo {
                Event::UndoStarted { node, attempt, key, deadline }
            } else {
                Event::AttemptStarted { node, attempt, key, deadline }
            }
        });
        self.record(events.collect()).await?;
        let state = self.scribe.state();
        let alone = starts.len() == 1 && self.running().is_none();
        for (attempt, undo) in starts {
            let work = Work {
                sheet: self.chart.sheet().clone(),
                state: state.clone(),
                scribe: self.scribe.clone(),
                runner: self.runner.clone(),
                clock: self.clock.clone(),
                observer: self.observer.clone(),
            };
            let mut work = Box::pin(attempt::run(work, attempt.clone(), undo));
            // Where nothing else runs, what is over at once costs no change of tasks. A look disturbs nothing: a task looks
            // again as soon as it begins.
            if alone && let Some(outcome) = attempt::at_once(work.as_mut(), undo) {
                self.at_once = Some((attempt, undo, outcome));
                continue;
            }
            let task = self.tasks.spawn(work);
            self.attempts.insert(task.id(), (attempt, undo));
        }
        Ok(())
    }

    /// An attempt that has begun and has no record of its end.
    fn running(&self) -> Option<&Attempt> {
        let at_once = self.at_once.as_ref().map(|(attempt, ..)| attempt);
        at_once.or_else(|| self.attempts.values().next().map(|(attempt, _)| attempt))
    }

    /// The records of an attempt that is over.
    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) -> Vec<Event> {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, Ok(outcome)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some((attempt, undo)) = self.attempts.remove(&id) else { return Vec::new() };
        self.outcome(&attempt, undo, outcome)
    }

    fn outcome(&self, attempt: &Attempt, undo: bool, outcome: Result<Outcome, JoinError>) -> Vec<Event> {
        let outcome = outcome.unwrap_or_else(|error| attempt::broke_off(error, undo));
        // By name: an amendment may have moved it, and never takes away what has begun.
        let Some(at) = self.chart.place(&attempt.node) else { return Vec::new() };
        attempt::events(self.chart.node(at), attempt, outcome)
    }

    async fn obey(&mut self, order: Order) -> Result<(), JournalError> {
        let accepted = match (&order.command, self.running()) {
            (Command::LeaveOpen { .. }, Some(attempt)) => {
                Err(Failure::refused(format!("step `{}` is running", attempt.node))
                    .help("stop the run from beginning more with `muster pause`, wait until its steps have ended"))
            }
            _ => accept(&self.chart, &self.scribe.state(), &order.command),
        };
        let result = match accepted {
            Ok(events) => match &order.command {
                Command::Amend { sheet, who, why } => self.amend(sheet, who, why).await,
                _ => self.record(events).await,
            },
            Err(refused) => {
                let _ = order.reply.send(Err(refused));
                return Ok(());
            }
        };
        let _ = order.reply.send(result.clone().map_err(Failure::from));
        result
    }

    async fn amend(&mut self, sheet: &str, who: &str, why: &str) -> Result<(), JournalError> {
        let run = self.scribe.state().run.clone();
        let damaged = |source| JournalError::Sheet { run: run.clone(), source };
        // It was read to accept the command.
        let sheet = Arc::new(Runsheet::from_json(sheet).map_err(damaged)?);
        let chart = Chart::new(sheet.clone()).map_err(damaged)?;
        self.scribe.amend(sheet, Signed { who: who.to_owned(), why: why.to_owned() }).await?;
        self.agenda = Agenda::new(&chart, &self.scribe.state());
        self.chart = chart;
        Ok(())
    }

    fn jitter(&self, delay: Duration) -> Duration {
        let most = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX) / JITTER_PARTS;
        if most == 0 { Duration::ZERO } else { Duration::from_millis(self.random.next_u64() % most) }
    }
}

impl RunEnd {
    pub(crate) fn of(state: &RunState) -> Self {
        use muster_journal::RunStatus;
        match state.status {
            RunStatus::Open | RunStatus::Failed => {
                let left = state.nodes().filter(|node| node.stand == muster_journal::Stand::Left);
                Self::Failed { left: left.map(|node| node.id.clone()).collect() }
            }
            RunStatus::Done => Self::Done { degraded: state.degraded() },
            RunStatus::Undone => Self::Undone { why: undo_reason(state) },
            RunStatus::Aborted => Self::Aborted { why: undo_reason(state) },
        }
    }
}

fn undo_reason(state: &RunState) -> String {
    state.undo.as_ref().map(|undo| undo.why.clone()).unwrap_or_default()
}
