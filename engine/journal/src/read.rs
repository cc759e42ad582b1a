//! Reads a run record by record: checks each link of the chain, folds it, and lets go of it.
//!
//! ```text
//!   head -> pages of records -> Chain -> RunState        open: from the first record
//!            new ones only   ->       ->                 read_on: from where it stands
//! ```
//!
//! Nothing is believed unchecked, and no more than a page of records is held at once, however long the run is.

use crate::error::JournalError;
use crate::event::*;
use crate::run::*;
use crate::state::RunState;
use bytes::Bytes;
use muster_ports::RunId;
use muster_runsheet::{Hash, Runsheet};
use std::sync::Arc;

/// Records read from the store at once: enough that their number of requests does not matter, and few MiB.
const PAGE_RECORDS: usize = 2_000;

fn damaged(run: &RunId, seq: u64, what: impl Into<String>) -> JournalError {
    JournalError::Damaged { run: run.clone(), seq, what: what.into() }
}

/// The chain of a run's records as far as it was followed.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    run: RunId,
    /// Number of the record that comes next.
    next: u64,
    /// What that one has to be chained to.
    hash: Hash,
}

impl Chain {
    /// Begins with the runsheet.
    pub(crate) fn of(run: &RunId, sheet_json: &[u8]) -> Self {
        Self { run: run.clone(), next: 0, hash: genesis(run, sheet_json) }
    }

    fn key(&self) -> String {
        event_key(&self.run, self.next)
    }

    /// Takes the next record, as it is stored.
    pub(crate) fn take(&mut self, key: &str, bytes: &Bytes) -> Result<Record, JournalError> {
        let seq = self.next;
        let damaged = |what: String| Err(damaged(&self.run, seq, what));
        if key != self.key() {
            return damaged(format!("it is missing; the next one there is `{key}`"));
        }
        let record: Record = match serde_json::from_slice(bytes) {
            Ok(record) => record,
            Err(error) => {
                return damaged(format!(
                    "it does not read back ({error}); it was changed, or written by a newer muster"
                ));
            }
        };
        if record.seq != seq {
            return damaged(format!("it says that it is record {}", record.seq));
        }
        if record.prev_hash != self.hash {
            let what = if seq == 0 { "the runsheet" } else { "the record before it" };
            return damaged(format!("{what} is not what this one was chained to"));
        }
        self.hash = Hash::of(bytes);
        self.next += 1;
        Ok(record)
    }

    /// Whether the newest record is the one that the head names.
    pub(crate) fn ends_at(&self, head: &RunSummary) -> Result<(), JournalError> {
        let last = self.next.checked_sub(1);
        if last != Some(head.seq) {
            let there = last.map_or("there is none".to_owned(), |last| format!("the last one there is {last}"));
            return Err(damaged(&self.run, head.seq, format!("it should be the newest, and {there}")));
        }
        if self.hash != head.hash {
            return Err(damaged(&self.run, head.seq, "it is not what was written"));
        }
        Ok(())
    }
}

/// A run as it was read so far; [`RunStore::read_on`] takes in what has been recorded since.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The sheet that is carried out now.
    pub sheet: Arc<Runsheet>,
    /// What the records read so far fold to.
    pub state: RunState,
    chain: Chain,
}

impl Followed {
    /// Hash of the newest record, to which all others are chained.
    pub fn head(&self) -> &Hash {
        &self.chain.hash
    }
}

impl RunStore {
    /// Reads a run from its beginning. Each record is handed over once it is checked; what has already been handed over
    /// when a later one turns out to be damaged is nevertheless what was written.
    pub async fn follow(&self, run: &RunId, each: &mut (dyn FnMut(Record) + Send)) -> Result<Followed, JournalError> {
        let head = self.head(run).await?;
        let Some(json) = self.store().get(&sheet_key(run)).await? else {
            return Err(damaged(run, 0, "its runsheet is missing"));
        };
        let mut chain = Chain::of(run, &json);
        let first = self.store().scan_from(&event_prefix(run), &chain.key(), 1).await?;
        let Some((key, bytes)) = first.first() else {
            return Err(damaged(run, head.seq, "it should be the newest, and there is none"));
        };
        let first = chain.take(key, bytes)?;
        let text = std::str::from_utf8(&json).map_err(|error| damaged(run, 0, format!("its runsheet: {error}")))?;
        let sheet = Runsheet::from_json(text).map_err(|source| JournalError::Sheet { run: run.clone(), source })?;
        let state = match RunState::opened(run, &sheet, &first) {
            Ok(state) => state,
            Err(error) => return Err(self.unless_changed(&chain, &head, error).await),
        };
        each(first);
        let mut followed = Followed { sheet: Arc::new(sheet), state, chain };
        self.read_to(&mut followed, &head, each).await?;
        Ok(followed)
    }

    /// Reads what was recorded since, and only that. After an error it has to be followed anew.
    pub async fn read_on(
        &self,
        followed: &mut Followed,
        each: &mut (dyn FnMut(Record) + Send),
    ) -> Result<(), JournalError> {
        let head = self.head(&followed.state.run).await?;
        self.read_to(followed, &head, each).await
    }

    /// The records after this one, up to the newest, and nothing else is read: each link of the chain is checked from the
    /// one named, which the caller has, to the head. None where that one is the newest.
    pub async fn records_after(&self, run: &RunId, after: u64) -> Result<Vec<Record>, JournalError> {
        let head = self.head(run).await?;
        let prefix = event_prefix(run);
        let known = self.store().scan_from(&prefix, &event_key(run, after), 1).await?;
        let Some(known) = known.first().and_then(|(_, bytes)| serde_json::from_slice::<Record>(bytes).ok()) else {
            return Err(damaged(run, after, "it is missing, or does not read back"));
        };
        let mut chain = Chain { run: run.clone(), next: after, hash: known.prev_hash };
        let mut records = Vec::new();
        while chain.next <= head.seq {
            let page = self.store().scan_from(&prefix, &chain.key(), PAGE_RECORDS).await?;
            if page.is_empty() {
                break;
            }
            for (key, bytes) in &page {
                // What was appended since the head was read is for the next time.
                if chain.next <= head.seq {
                    records.push(chain.take(key, bytes)?);
                }
            }
        }
        chain.ends_at(&head)?;
        records.retain(|record| record.seq > after);
        Ok(records)
    }

    async fn head(&self, run: &RunId) -> Result<RunSummary, JournalError> {
        let Some(head) = self.store().get(&head_key(run)).await? else {
            return Err(JournalError::NoSuchRun(run.clone()));
        };
        serde_json::from_slice(&head).map_err(|error| damaged(run, 0, format!("its head does not read back ({error})")))
    }

    async fn read_to(
        &self,
        followed: &mut Followed,
        head: &RunSummary,
        each: &mut (dyn FnMut(Record) + Send),
    ) -> Result<(), JournalError> {
        let prefix = event_prefix(&head.id);
        loop {
            let page = self.store().scan_from(&prefix, &followed.chain.key(), PAGE_RECORDS).await?;
            for (key, bytes) in &page {
                if followed.chain.next > head.seq {
                    // The head was read before: another process may have appended since.
                    return match self.head(&head.id).await? {
                        now if now.seq > head.seq => followed.chain.ends_at(head),
                        _ => Err(damaged(&head.id, head.seq, "it should be the newest, and there are later ones")),
                    };
                }
                let record = followed.chain.take(key, bytes)?;
                if let Err(error) = self.take_in(followed, &record).await {
                    return Err(self.unless_changed(&followed.chain, head, error).await);
                }
                each(record);
            }
            if page.len() < PAGE_RECORDS {
                return followed.chain.ends_at(head);
            }
        }
    }

    /// The error that the newest record led to, or that it was changed: then what comes after it is not chained to it.
    async fn unless_changed(&self, chain: &Chain, head: &RunSummary, error: JournalError) -> JournalError {
        /// What all formats of records have in common.
        #[derive(serde::Deserialize)]
        struct Link {
            prev_hash: Hash,
        }
        let linked = if chain.next > head.seq {
            Some(head.hash.clone())
        } else {
            match self.store().scan_from(&event_prefix(&chain.run), &chain.key(), 1).await {
                Ok(next) => next.first().and_then(|(_, bytes)| serde_json::from_slice::<Link>(bytes).ok()),
                Err(unread) => return unread.into(),
            }
            .map(|link| link.prev_hash)
        };
        match linked {
            Some(hash) if hash == chain.hash => error,
            _ => damaged(&chain.run, chain.next - 1, "it is not what was written"),
        }
    }

    async fn take_in(&self, followed: &mut Followed, record: &Record) -> Result<(), JournalError> {
        let Event::Amended { text, .. } = &record.event else { return followed.state.apply(record) };
        let run = &followed.state.run;
        let stored = self.store().get(&amended_key(run, text)).await?;
        // By the hash of what is really stored: a changed one is as good as none.
        let stored = stored.filter(|stored| Hash::of(stored) == *text);
        let read = stored.and_then(|stored| Runsheet::from_json(std::str::from_utf8(&stored).ok()?).ok());
        let Some(after) = read else {
            return Err(damaged(run, record.seq, "the sheet that it was amended to is missing"));
        };
        followed.state.apply_amended(record, &followed.sheet, &after)?;
        followed.sheet = Arc::new(after);
        Ok(())
    }
}
