//! The record of a hook, read for replay.
//!
//! Records of one key lie in one numbered row. A marker, `attempt.ended`, divides it where a script ended an attempt by
//! its own word: only what comes after the last one is replayed.

use muster_journal::CallRecord;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const ATTEMPT_ENDED: &str = "attempt.ended";

#[derive(Debug)]
pub(crate) struct Tape {
    /// Number of the first call of this attempt.
    pub(crate) base: u32,
    /// The calls to be replayed, by number.
    replay: BTreeMap<u32, CallRecord>,
    /// One past the last number in the row.
    pub(crate) end: u32,
    saved: BTreeMap<String, Json>,
    /// Keys set by an earlier attempt: their first value stays.
    settled: BTreeSet<String>,
}

impl Tape {
    /// `undoes` is the row of the hook that is taken back: its checkpoints can be read.
    pub(crate) fn read(records: Vec<CallRecord>, undoes: Vec<CallRecord>) -> Self {
        let mut tape = Self::of(records);
        if !undoes.is_empty() {
            for (key, value) in Self::of(undoes).saved {
                tape.saved.entry(key).or_insert(value);
            }
        }
        tape
    }

    fn of(mut records: Vec<CallRecord>) -> Self {
        records.sort_by_key(|record| record.number);
        let mut tape =
            Self { base: 0, replay: BTreeMap::new(), end: 0, saved: BTreeMap::new(), settled: BTreeSet::new() };
        let mut here = BTreeMap::new();
        for record in records {
            tape.end = record.number.saturating_add(1);
            if record.operation == ATTEMPT_ENDED {
                tape.base = tape.end;
                tape.replay.clear();
                tape.settle(&mut here);
                continue;
            }
            if let Some((key, value)) = checkpoint(&record) {
                here.insert(key, value);
            }
            tape.replay.insert(record.number, record);
        }
        for (key, value) in here {
            tape.saved.entry(key).or_insert(value);
        }
        tape
    }

    fn settle(&mut self, here: &mut BTreeMap<String, Json>) {
        for (key, value) in std::mem::take(here) {
            self.saved.entry(key.clone()).or_insert(value);
            self.settled.insert(key);
        }
    }

    pub(crate) fn recorded(&self, number: u32) -> Option<&CallRecord> {
        self.replay.get(&number)
    }

    /// A recorded call that the script has not asked for, now that it has ended with `calls` calls.
    pub(crate) fn left_over(&self, calls: u32) -> Option<&CallRecord> {
        self.replay.range(self.base.saturating_add(calls)..).next().map(|(_, record)| record)
    }

    /// An earlier attempt has set it.
    pub(crate) fn is_settled(&self, key: &str) -> bool {
        self.settled.contains(key)
    }

    /// Keeps a checkpoint, unless an earlier attempt has set it.
    pub(crate) fn keep(&mut self, key: &str, value: &Json) {
        if !self.is_settled(key) {
            self.saved.insert(key.to_owned(), value.clone());
        }
    }

    pub(crate) fn saved(&self, key: &str) -> Option<&Json> {
        self.saved.get(key)
    }

    pub(crate) fn checkpoints(&self) -> &BTreeMap<String, Json> {
        &self.saved
    }
}

fn checkpoint(record: &CallRecord) -> Option<(String, Json)> {
    if record.operation != "checkpoint" {
        return None;
    }
    let result = record.result.as_ref()?;
    Some((result.get("key")?.as_str()?.to_owned(), result.get("value")?.clone()))
}
