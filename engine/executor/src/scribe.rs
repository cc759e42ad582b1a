//! The one owner of a run's journal while it is driven: an own task, so that no record is half known when an attempt is
//! cut off by its limit in the middle of writing.

use crate::observer::RunObserver;
use async_trait::async_trait;
use muster_journal::{CallJournal, CallRecord, Event, JournalError, Record, RunJournal, RunState, Signed};
use muster_ports::{Clock, EffectKey, Failure, StepId};
use muster_runsheet::Runsheet;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot, watch};

/// Appends waiting for the store. Every attempt has at most one; the rest is room for the driver.
const APPENDS_MAX: usize = 128;

enum Entry {
    Events(Vec<Event>),
    Amendment(Arc<Runsheet>, Signed),
}

struct Append {
    entry: Entry,
    reply: oneshot::Sender<Result<Vec<Record>, JournalError>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Scribe {
    appends: mpsc::Sender<Append>,
    state: watch::Receiver<Arc<RunState>>,
    broken: watch::Receiver<Option<JournalError>>,
}

impl Scribe {
    pub(crate) fn start(journal: RunJournal, clock: Arc<dyn Clock>, observer: Arc<dyn RunObserver>) -> Self {
        let (appends, inbox) = mpsc::channel(APPENDS_MAX);
        let (state_sender, state) = watch::channel(journal.state().clone());
        let (broken_sender, broken) = watch::channel(None);
        tokio::spawn(write_all(journal, clock, observer, inbox, state_sender, broken_sender));
        Self { appends, state, broken }
    }

    pub(crate) fn state(&self) -> Arc<RunState> {
        self.state.borrow().clone()
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
        let (reply, written) = oneshot::channel();
        let gone = || JournalError::Store(muster_ports::StoreError::Unavailable("the journal has been closed".into()));
        self.appends.send(Append { entry, reply }).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }

    /// Ends when the journal cannot be written any more.
    pub(crate) async fn broken(&self) -> JournalError {
        let mut broken = self.broken.clone();
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

async fn write_all(
    mut journal: RunJournal,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn RunObserver>,
    mut inbox: mpsc::Receiver<Append>,
    state: watch::Sender<Arc<RunState>>,
    broken: watch::Sender<Option<JournalError>>,
) {
    while let Some(Append { entry, reply }) = inbox.recv().await {
        let known = broken.borrow().clone();
        let result = match (known, entry) {
            (Some(error), _) => Err(error),
            (None, Entry::Events(events)) => journal.append(events, clock.now()).await,
            (None, Entry::Amendment(sheet, by)) => journal.amend(sheet, by, clock.now()).await,
        };
        let result = match result {
            Ok(records) => {
                state.send_replace(journal.state().clone());
                for record in &records {
                    observer.recorded(record, journal.state());
                }
                Ok(records)
            }
            Err(error) => {
                broken.send_replace(Some(error.clone()));
                Err(error)
            }
        };
        // Whoever asked may have been cut off by its limit; the record stands all the same.
        let _ = reply.send(result);
    }
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
