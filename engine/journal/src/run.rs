//! Runs in the store: created whole, appended to record by record, read back with every link of the chain checked.
//!
//! ```text
//!   run/<id>/sheet              the runsheet, as approved
//!   run/<id>/amended/<hash>     a sheet that it was amended to, by the hash of its text; the record of it names the hash
//!   run/<id>/event/<seq>        one record each; `prev_hash` is the BLAKE3 of the bytes of the one before
//!   runs/<id>                   head: hash of the newest record, and what a list of runs shows
//! ```
//!
//! The head is written in the same batch as the records, so that a changed or missing last record is found too.

use crate::amend;
use crate::error::JournalError;
use crate::event::*;
use crate::outcome::Answer;
use crate::read::Chain;
use crate::state::RunState;
use bytes::Bytes;
use muster_ports::{RunId, StateStore, StoreError, Timestamp, Write};
use muster_runsheet::{Hash, Operation, PlanName, Runsheet};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Room for most records.
const RECORD_BYTES_USUAL: usize = 512;
/// Longest record, in bytes: a hook's reply is cut at 1 MiB, and JSON may double it.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// A run as a list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    pub id: RunId,
    pub plan: PlanName,
    pub operation: Operation,
    pub status: RunStatus,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
    pub who: String,
    pub why: String,
    /// Steps that wait for a person.
    pub waiting: u32,
    /// Of the newest record.
    pub seq: u64,
    pub hash: Hash,
}

/// Who begins a run, and why.
#[derive(Clone, Debug)]
pub struct Opening {
    pub who: String,
    pub why: String,
    pub incident: Option<Timestamp>,
    /// The signature for the question of split-brain, given in advance. It is journaled: whoever takes the run up after
    /// a crash need not ask again.
    pub signed: Option<Answer>,
}

/// A run read back and checked.
#[derive(Clone, Debug)]
pub struct LoadedRun {
    pub run: RunId,
    pub sheet: Arc<Runsheet>,
    pub records: Vec<Record>,
    pub state: RunState,
    head: Hash,
}

impl LoadedRun {
    /// Hash of the newest record, to which all others are chained.
    pub fn head(&self) -> &Hash {
        &self.head
    }
}

/// All runs of a vault.
#[derive(Clone, Debug)]
pub struct RunStore {
    store: Arc<dyn StateStore>,
}

pub(crate) fn sheet_key(run: &RunId) -> String {
    format!("run/{run}/sheet")
}
pub(crate) fn amended_key(run: &RunId, text: &Hash) -> String {
    format!("run/{run}/amended/{text}")
}
pub(crate) fn event_prefix(run: &RunId) -> String {
    format!("run/{run}/event/")
}
pub(crate) fn event_key(run: &RunId, seq: u64) -> String {
    format!("run/{run}/event/{seq:010}")
}
pub(crate) fn head_key(run: &RunId) -> String {
    format!("runs/{run}")
}
/// What the first record is chained to.
pub(crate) fn genesis(run: &RunId, sheet_json: &[u8]) -> Hash {
    Hash::of([run.as_str().as_bytes(), b"\0", sheet_json].concat())
}
fn encode<T: Serialize>(value: &T) -> Result<Bytes, JournalError> {
    let mut bytes = Vec::with_capacity(RECORD_BYTES_USUAL);
    serde_json::to_writer(&mut bytes, value).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    if bytes.len() > RECORD_BYTES_MAX {
        let text = format!("a record of {} bytes is over the limit of {RECORD_BYTES_MAX}", bytes.len());
        return Err(StoreError::Unavailable(text).into());
    }
    Ok(Bytes::from(bytes))
}

/// Checks the chain from the runsheet to the head and gives the records. Finds every byte that was changed, and every
/// record that was lost or added.
pub fn verify(
    run: &RunId,
    sheet_json: &[u8],
    stored: &[(String, Bytes)],
    head: &RunSummary,
) -> Result<Vec<Record>, JournalError> {
    let mut chain = Chain::of(run, sheet_json);
    let records = stored.iter().map(|(key, bytes)| chain.take(key, bytes)).collect::<Result<_, _>>()?;
    chain.ends_at(head)?;
    Ok(records)
}

impl RunStore {
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self { store }
    }
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.store
    }

    /// Stores the runsheet and the first record, both or neither.
    pub async fn create(
        &self,
        run: &RunId,
        sheet: &Runsheet,
        opening: &Opening,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        sheet.graph().map_err(|source| JournalError::Sheet { run: run.clone(), source })?;
        if self.store.get(&head_key(run)).await?.is_some() {
            return Err(JournalError::RunExists(run.clone()));
        }
        let json = Bytes::from(sheet.to_json());
        let event = Event::RunOpened {
            format: RUN_FORMAT.to_owned(),
            sheet: sheet.hash(),
            plan: sheet.plan.clone(),
            operation: sheet.operation,
            who: opening.who.clone(),
            why: opening.why.clone(),
            incident: opening.incident,
            signed: opening.signed.clone(),
        };
        let prev_hash = genesis(run, &json);
        let record = Record { seq: 0, time: now, epoch: self.store.epoch(), prev_hash, event };
        let state = RunState::opened(run, sheet, &record)?;
        let bytes = encode(&record)?;
        let head = summary(&state, Hash::of(&bytes));
        self.store
            .write(vec![
                Write::put(sheet_key(run), json),
                Write::put(event_key(run, 0), bytes),
                Write::put(head_key(run), encode(&head)?),
            ])
            .await?;
        Ok(())
    }

    /// Reads a run, checks its chain and folds it.
    pub async fn load(&self, run: &RunId) -> Result<LoadedRun, JournalError> {
        let mut records = Vec::new();
        let read = self.follow(run, &mut |record| records.push(record)).await?;
        let head = read.head().clone();
        Ok(LoadedRun { run: run.clone(), sheet: read.sheet, records, state: read.state, head })
    }

    /// Oldest first.
    pub async fn list(&self) -> Result<Vec<RunSummary>, JournalError> {
        let mut runs = Vec::new();
        for (key, bytes) in self.store.scan("runs/").await? {
            let summary: RunSummary = serde_json::from_slice(&bytes).map_err(|error| {
                JournalError::Store(StoreError::Damaged(format!("`{key}` does not read back ({error})")))
            })?;
            runs.push(summary);
        }
        Ok(runs)
    }

    /// Opens a run for appending.
    pub async fn journal(&self, run: &RunId) -> Result<RunJournal, JournalError> {
        let read = self.follow(run, &mut drop).await?;
        let head = read.head().clone();
        let (store, run) = (self.store.clone(), run.clone());
        Ok(RunJournal { store, run, sheet: read.sheet, state: Arc::new(read.state), head })
    }
}

fn summary(state: &RunState, hash: Hash) -> RunSummary {
    RunSummary {
        id: state.run.clone(),
        plan: state.plan.clone(),
        operation: state.operation,
        status: state.status,
        started: state.opened_at,
        ended: state.closed_at,
        who: state.who.clone(),
        why: state.why.clone(),
        waiting: u32::try_from(state.waiting()).unwrap_or(u32::MAX),
        seq: state.seq,
        hash,
    }
}

/// The one writer of one run's records. Not to be dropped in the middle of [`append`](Self::append): what was being
/// written may be durable without being known here.
#[derive(Debug)]
pub struct RunJournal {
    store: Arc<dyn StateStore>,
    run: RunId,
    sheet: Arc<Runsheet>,
    state: Arc<RunState>,
    head: Hash,
}

impl RunJournal {
    pub fn run(&self) -> &RunId {
        &self.run
    }
    pub fn sheet(&self) -> &Arc<Runsheet> {
        &self.sheet
    }
    pub fn state(&self) -> &Arc<RunState> {
        &self.state
    }

    /// Puts another sheet in the place of the one that is carried out; see [`amend::changes`]. Durable like
    /// [`append`](Self::append), sheet and record both or neither.
    pub async fn amend(
        &mut self,
        sheet: Arc<Runsheet>,
        by: Signed,
        now: Timestamp,
    ) -> Result<Vec<Record>, JournalError> {
        let mut state = (*self.state).clone();
        let seq = state.seq + 1;
        let json = Bytes::from(sheet.to_json());
        let text = Hash::of(&json);
        let changes = amend::changes(&self.sheet, &sheet, &state).map_err(|failure| JournalError::IllegalRun {
            seq,
            event: "amended",
            why: failure.message,
        })?;
        let (before, after) = (self.sheet.hash(), sheet.hash());
        let event = Event::Amended { before, after, text: text.clone(), changes, who: by.who, why: by.why };
        let record = Record { seq, time: now, epoch: self.store.epoch(), prev_hash: self.head.clone(), event };
        state.apply_amended(&record, &self.sheet, &sheet)?;
        let bytes = encode(&record)?;
        let head = Hash::of(&bytes);
        self.store
            .write(vec![
                Write::put(amended_key(&self.run, &text), json),
                Write::put(event_key(&self.run, seq), bytes),
                Write::put(head_key(&self.run), encode(&summary(&state, head.clone()))?),
            ])
            .await?;
        self.state = Arc::new(state);
        self.sheet = sheet;
        self.head = head;
        Ok(vec![record])
    }

    /// Checks that the events may follow, writes them in one batch, and returns once they are durable. After a store
    /// error it is not known whether they are: the run has to be loaded anew.
    pub async fn append(&mut self, events: Vec<Event>, now: Timestamp) -> Result<Vec<Record>, JournalError> {
        let mut state = (*self.state).clone();
        let mut head = self.head.clone();
        let mut records = Vec::with_capacity(events.len());
        let mut writes = Vec::with_capacity(events.len() + 1);
        for event in events {
            let seq = state.seq + 1;
            let record = Record { seq, time: now, epoch: self.store.epoch(), prev_hash: head, event };
            state.apply(&record)?;
            let bytes = encode(&record)?;
            head = Hash::of(&bytes);
            writes.push(Write::put(event_key(&self.run, seq), bytes));
            records.push(record);
        }
        if records.is_empty() {
            return Ok(records);
        }
        writes.push(Write::put(head_key(&self.run), encode(&summary(&state, head.clone()))?));
        self.store.write(writes).await?;
        self.state = Arc::new(state);
        self.head = head;
        Ok(records)
    }
}
