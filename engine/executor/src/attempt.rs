//! One attempt of one step: look, act, within its limit.

use crate::decide::{Attempt, Look};
use crate::observer::{RunObserver, StepProgress};
use crate::runner::{Acted, Observation, StepContext, StepRunner};
use crate::scribe::{Calls, Scribe};
use muster_journal::{Event, Question, RunState, StepOutput};
use muster_ports::{Clock, Failure};
use muster_runsheet::{Action, Node, Runsheet};
use std::fmt::Display;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Succeeded { output: StepOutput, adopted: bool },
    Asked(Question),
    Failed(Failure),
    Undone,
    UndoFailed(Failure),
}

/// Everything an attempt needs; it lives on its own task.
pub(crate) struct Work {
    pub(crate) sheet: Arc<Runsheet>,
    pub(crate) state: Arc<RunState>,
    pub(crate) scribe: Scribe,
    pub(crate) runner: Arc<dyn StepRunner>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Arc<dyn RunObserver>,
}

/// The attempt is already durable in the journal.
pub(crate) async fn run(work: Work, attempt: Attempt, undo: bool) -> Outcome {
    let node = &work.sheet.nodes[attempt.at];
    let calls = Calls::new(work.scribe.clone(), attempt.node.clone(), attempt.key.clone(), undo);
    let progress = StepProgress { step: attempt.node.clone(), observer: work.observer.clone() };
    let answer = work.state.node_at(attempt.at).and_then(|state| state.answer.as_ref());
    let cx = StepContext {
        run: &work.state.run,
        sheet: &work.sheet,
        node,
        key: &attempt.key,
        attempt: attempt.attempt,
        deadline: attempt.limit,
        outputs: &work.state.outputs,
        answer,
        calls: &calls,
        progress: &progress,
    };
    if undo {
        return match limited(&*work.clock, &attempt, node, work.runner.undo(cx)).await {
            Ok(()) => Outcome::Undone,
            Err(failure) => Outcome::UndoFailed(failure),
        };
    }
    let acting = look_and_act(&*work.runner, cx, attempt.look);
    limited(&*work.clock, &attempt, node, acting).await.unwrap_or_else(Outcome::Failed)
}

/// How an attempt ended, if it needs nothing that is not there. It may be polled on by another task afterwards.
pub(crate) fn at_once(work: Pin<&mut (impl Future<Output = Outcome> + ?Sized)>, undo: bool) -> Option<Outcome> {
    let mut nobody = Context::from_waker(Waker::noop());
    match catch_unwind(AssertUnwindSafe(|| work.poll(&mut nobody))) {
        Ok(Poll::Ready(outcome)) => Some(outcome),
        Ok(Poll::Pending) => None,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Some(broke_off(format!("panicked with message {:?}", text.unwrap_or_default()), undo))
        }
    }
}

/// A defect in one step must not take the run down with it.
pub(crate) fn broke_off(how: impl Display, undo: bool) -> Outcome {
    let failure = Failure::permanent(format!("the step broke off: {how}"))
        .help("this is a defect of muster; look at what it was to do, then decide");
    if undo { Outcome::UndoFailed(failure) } else { Outcome::Failed(failure) }
}

async fn look_and_act(runner: &dyn StepRunner, cx: StepContext<'_>, look: Look) -> Result<Outcome, Failure> {
    if look != Look::No {
        match (runner.observe(cx).await?, look) {
            (Observation::Holds(output), _) => return Ok(Outcome::Succeeded { output, adopted: true }),
            (Observation::CannotTell(why), Look::AfterCrash | Look::Only) => {
                return Err(Failure::diverged(format!(
                    "an attempt was cut short, and it cannot be told how far it got: {why}"
                ))
                .help("look at it yourself, then `retry`, or `done-by-hand` when it has happened"));
            }
            (Observation::DoesNotHold, Look::Only) => {
                return Err(Failure::timeout(format!(
                    "its limit of {} ran out before it could be tried again, and it has not happened",
                    cx.node.within
                )));
            }
            (Observation::DoesNotHold | Observation::CannotTell(_), _) => {}
        }
    }
    Ok(match runner.act(cx).await? {
        Acted::Done(output) => Outcome::Succeeded { output, adopted: false },
        Acted::Ask(question) => Outcome::Asked(question),
    })
}

/// `within` is over when it is over, whatever the work says.
async fn limited<T>(
    clock: &dyn Clock,
    attempt: &Attempt,
    node: &Node,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let limit = attempt.limit;
    let over = || {
        let each = node.retry.and_then(|retry| retry.each).filter(|_| limit < attempt.deadline);
        Failure::timeout(match each {
            Some(each) => format!("not done within {each}, the limit of each attempt"),
            None => format!("not done within {}", node.within),
        })
    };
    if clock.now() >= limit {
        return Err(over());
    }
    tokio::select! {
        biased;
        result = work => result,
        () = clock.sleep_until(limit) => Err(over()),
    }
}

/// The records that an outcome makes, in one batch.
pub(crate) fn events(node: &Node, attempt: &Attempt, outcome: Outcome) -> Vec<Event> {
    let id = attempt.node.clone();
    match outcome {
        Outcome::Succeeded { output, adopted } => {
            let mut events = vec![Event::NodeSucceeded { node: id.clone(), output: output.clone(), adopted }];
            match &node.action {
                Action::Lock { machines, drill } => {
                    let machines = machines.iter().map(ToString::to_string).collect();
                    events.push(Event::LocksTaken { node: id.clone(), machines, drill: *drill });
                }
                Action::Unlock { machines, .. } => {
                    let machines = machines.iter().map(ToString::to_string).collect();
                    events.push(Event::LocksFreed { node: id.clone(), machines });
                }
                _ => {}
            }
            match output {
                StepOutput::Point { group, point, at, loss_millis } => {
                    events.push(Event::PointChosen { node: id, group, point, at, loss_millis });
                }
                StepOutput::Fence { how } => events.push(Event::FenceProven { node: id, how }),
                StepOutput::None | StepOutput::Text { .. } | StepOutput::Bytes { .. } => {}
            }
            events
        }
        Outcome::Asked(question) => vec![Event::Asked { node: id, question, deadline: attempt.deadline }],
        Outcome::Failed(failure) => vec![Event::AttemptFailed { node: id, attempt: attempt.attempt, failure }],
        Outcome::Undone => {
            let mut events = vec![Event::UndoDone { node: id.clone() }];
            if let Action::Lock { machines, .. } = &node.action {
                let machines = machines.iter().map(ToString::to_string).collect();
                events.push(Event::LocksFreed { node: id, machines });
            }
            events
        }
        Outcome::UndoFailed(failure) => vec![Event::UndoFailed { node: id, attempt: attempt.attempt, failure }],
    }
}
