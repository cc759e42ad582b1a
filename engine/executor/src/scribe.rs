//! The one way to a run's journal while it is driven. Whoever has something to record writes it, one after the other, on
//! the task that it is already on: a record costs no change of tasks. What is begun is ended, even where an attempt is cut
//! off by its limit in the middle of writing: then, and only then, the rest goes on as a task of its own.

use crate::observer::RunObserver;
use async_trait::async_trait;
use futures::future::BoxFuture;
use muster_journal::{CallJournal, CallRecord, Event, JournalError, Record, RunJournal, RunState, Signed};
use muster_ports::{Clock, EffectKey, Failure, StepId};
use muster_runsheet::Runsheet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::sync::watch;

enum Entry {
    Events(Vec<Event>),
    Amendment(Arc<Runsheet>, Signed),
}

#[derive(Clone, Debug)]
pub(crate) struct Scribe(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Held over the durable write: who waits for it writes in the order of asking.
    journal: tokio::sync::Mutex<RunJournal>,
    state: watch::Sender<Arc<RunState>>,
    /// The first failure. After it nothing is written any more.
    broken: watch::Sender<Option<JournalError>>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn RunObserver>,
}

/// Is brought to its end even when nobody waits for it any more.
struct Ended<T: Send + 'static>(Option<BoxFuture<'static, T>>);

impl<T: Send + 'static> Future for Ended<T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Not asked again once it has ended.
        let Some(work) = self.0.as_mut() else { return Poll::Pending };
        let result = ready!(work.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(result)
    }
}

impl<T: Send + 'static> Drop for Ended<T> {
    fn drop(&mut self) {
        // Without a runtime the process is at its end, which is as good as a crash.
        if let (Some(rest), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(rest);
        }
    }
}

impl Scribe {
    pub(crate) fn start(journal: RunJournal, clock: Arc<dyn Clock>, observer: Arc<dyn RunObserver>) -> Self {
        let (state, _) = watch::channel(journal.state().clone());
        let (broken, _) = watch::channel(None);
        Self(Arc::new(Shared { journal: journal.into(), state, broken, clock, observer }))
    }

    pub(crate) fn state(&self) -> Arc<RunState> {
        self.0.state.borrow().clone()
    }

    /// Returns their records once the events are durable and the state has taken them in. After the first failure nothing
    /// is written any more and every call fails with it.
    pub(crate) async fn append(&self, events: Vec<Event>) -> Result<Vec<Record>, JournalError> {
        self.write(Entry::Events(events)).await
    }

    /// As `append`, for another sheet in the place of this one.
    pub(crate) async fn amend(&self, sheet: Arc<Runsheet>, by: Signed) -> Result<Vec<Record>, JournalError> {
        self.write(Entry::Amendment(sheet, by)).await
    }

    async fn write(&self, entry: Entry) -> Result<Vec<Record>, JournalError> {
        Ended(Some(Box::pin(write(self.0.clone(), entry)))).await
    }

    /// Ends when the journal cannot be written any more.
    pub(crate) async fn broken(&self) -> JournalError {
        let mut broken = self.0.broken.subscribe();
        loop {
            if let Some(error) = broken.borrow_and_update().clone() {
                return error;
            }
            if broken.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn write(shared: Arc<Shared>, entry: Entry) -> Result<Vec<Record>, JournalError> {
    let mut journal = shared.journal.lock().await;
    if let Some(error) = shared.broken.borrow().clone() {
        return Err(error);
    }
    let now = shared.clock.now();
    let result = match entry {
        Entry::Events(events) => journal.append(events, now).await,
        Entry::Amendment(sheet, by) => journal.amend(sheet, by, now).await,
    };
    match &result {
        Ok(records) => {
            shared.state.send_replace(journal.state().clone());
            for record in records {
                shared.observer.recorded(record, journal.state());
            }
        }
        Err(error) => {
            shared.broken.send_replace(Some(error.clone()));
        }
    }
    result
}

/// The numbered calls of one attempt, kept in the run's journal.
#[derive(Debug)]
pub(crate) struct Calls {
    scribe: Scribe,
    node: StepId,
    key: EffectKey,
    undo: bool,
    /// Numbers that have no result yet, with those that the record had when the attempt began.
    recorded: Vec<CallRecord>,
    undoes: Vec<CallRecord>,
    intended: Mutex<Vec<u32>>,
}

impl Calls {
    pub(crate) fn new(scribe: Scribe, node: StepId, key: EffectKey, undo: bool) -> Self {
        let state = scribe.state();
        let (calls, undo_calls) =
            state.node(&node).map(|node| (node.calls.clone(), node.undo_calls.clone())).unwrap_or_default();
        let (recorded, undoes) = if undo { (undo_calls, calls) } else { (calls, Vec::new()) };
        let open = recorded.iter().filter(|call| call.result.is_none()).map(|call| call.number).collect();
        Self { scribe, node, key, undo, recorded, undoes, intended: Mutex::new(open) }
    }
    fn intended(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        // Nothing panics while it holds the lock.
        self.intended.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl CallJournal for Calls {
    fn recorded(&self) -> Vec<CallRecord> {
        self.recorded.clone()
    }

    async fn intend(&self, number: u32, operation: &str, arguments: &str) -> Result<(), Failure> {
        if let Some(known) = self.recorded.iter().find(|call| call.number == number)
            && (known.operation != operation || known.arguments != arguments)
        {
            return Err(Failure::diverged(format!(
                "call {number} of `{}` was `{}` when it first ran, and is `{operation}` now",
                self.node, known.operation
            ))
            .help("the hook or what it reads has changed since: decide by hand, `redo` begins anew"));
        }
        self.scribe
            .append(vec![Event::EffectIntended {
                node: self.node.clone(),
                key: self.key.clone(),
                undo: self.undo,
                call: number,
                operation: operation.to_owned(),
                arguments: arguments.to_owned(),
            }])
            .await?;
        self.intended().push(number);
        Ok(())
    }

    async fn done(&self, number: u32, result: serde_json::Value) -> Result<(), Failure> {
        if !self.intended().contains(&number) {
            return Err(Failure::diverged(format!("call {number} of `{}` was never announced", self.node)));
        }
        let (node, key) = (self.node.clone(), self.key.clone());
        self.scribe.append(vec![Event::EffectDone { node, key, undo: self.undo, call: number, result }]).await?;
        Ok(())
    }

    async fn note(&self, text: &str) -> Result<(), Failure> {
        self.scribe.append(vec![Event::Noted { node: self.node.clone(), text: text.to_owned() }]).await?;
        Ok(())
    }

    fn undoes(&self) -> Vec<CallRecord> {
        self.undoes.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Ended;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn what_has_begun_is_ended_though_nobody_waits_for_it_any_more() {
        let (let_go, gate) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel();
        let work = async move {
            gate.await.unwrap();
            ended.send(()).unwrap();
        };
        let mut writing = Ended(Some(Box::pin(work)));
        assert!(futures::poll!(&mut writing).is_pending());
        drop(writing);
        let_go.send(()).unwrap();
        end.await.unwrap();
    }
}
