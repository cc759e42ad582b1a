//! The record of a hook, read for replay.
//!
//! Records of one key lie in one numbered row. Markers divide it: `attempt.ended` where a script ended an attempt by its
//! own word, `undo` where taking back began. Only what comes after the last marker is replayed.

use muster_journal::CallRecord;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const ATTEMPT_ENDED: &str = "attempt.ended";
pub(crate) const UNDO: &str = "undo";

#[derive(Debug)]
pub(crate) struct Tape {
    /// Number of the first call of this attempt.
    pub(crate) base: u32,
    /// The calls to be replayed, by number.
    replay: BTreeMap<u32, CallRecord>,
    /// One past the last number in the row.
    pub(crate) end: u32,
    /// Taking back has begun.
    pub(crate) undoing: bool,
    saved: BTreeMap<String, Json>,
    /// Keys set by an earlier attempt: their first value stays.
    settled: BTreeSet<String>,
}

impl Tape {
    pub(crate) fn read(mut records: Vec<CallRecord>, undo: bool) -> Self {
        records.sort_by_key(|record| record.number);
        let mut tape = Self {
            base: 0,
            replay: BTreeMap::new(),
            end: 0,
            undoing: false,
            saved: BTreeMap::new(),
            settled: BTreeSet::new(),
        };
        let mut here = BTreeMap::new();
        for record in records {
            tape.end = record.number.saturating_add(1);
            match record.operation.as_str() {
                ATTEMPT_ENDED | UNDO => {
                    tape.undoing |= record.operation == UNDO;
                    tape.base = tape.end;
                    tape.replay.clear();
                    tape.settle(&mut here);
                }
                _ => {
                    if let Some((key, value)) = checkpoint(&record) {
                        here.insert(key, value);
                    }
                    tape.replay.insert(record.number, record);
                }
            }
        }
        if undo && !tape.undoing {
            // Nothing of the act is replayed by its undo, but all of its checkpoints can be read.
            tape.base = tape.end;
            tape.replay.clear();
            tape.settle(&mut here);
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

    /// Keeps a checkpoint and returns the value that holds.
    pub(crate) fn keep(&mut self, key: &str, value: &Json) {
        if !self.settled.contains(key) {
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
