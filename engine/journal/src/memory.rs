//! A store in memory, for simulations and tests, that fails when it is told to.

use async_trait::async_trait;
use bytes::Bytes;
use muster_ports::{Epoch, StateStore, StoreError, Write};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a [`MemoryStore`] is to do wrong. Writes are counted from 1, over all handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// From the `n`-th write on nothing is written.
    DieBefore(u64),
    /// The `n`-th write is applied, but this and all later ones are reported as failed.
    DieAfter(u64),
}

#[derive(Debug, Default)]
struct Shared {
    pairs: BTreeMap<String, Bytes>,
    epoch: u64,
    writes: u64,
    fault: Option<Fault>,
}

/// One handle is one writer: a newer handle fences the older ones, as the durable store does.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
    epoch: Epoch,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Nothing panics while it holds the lock; if it did, the pairs are still whole.
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl MemoryStore {
    pub fn new() -> Self {
        Self { shared: Arc::new(Mutex::new(Shared { epoch: 1, ..Shared::default() })), epoch: Epoch(1) }
    }
    /// A new writer over the same pairs. Older handles are fenced; faults are gone.
    pub fn reopen(&self) -> Self {
        let mut shared = lock(&self.shared);
        shared.epoch += 1;
        shared.fault = None;
        Self { shared: self.shared.clone(), epoch: Epoch(shared.epoch) }
    }
    pub fn inject(&self, fault: Option<Fault>) {
        lock(&self.shared).fault = fault;
    }
    /// From now on every write fails, as if the process had been killed.
    pub fn kill(&self) {
        self.inject(Some(Fault::DieBefore(0)));
    }
    /// Writes so far, over all handles, including failed ones.
    pub fn writes(&self) -> u64 {
        lock(&self.shared).writes
    }
    /// Changes a pair behind the writer's back; for tests of damage.
    pub fn tamper(&self, key: &str, value: Option<Bytes>) {
        let mut shared = lock(&self.shared);
        match value {
            Some(value) => shared.pairs.insert(key.to_owned(), value),
            None => shared.pairs.remove(key),
        };
    }
}

fn apply(pairs: &mut BTreeMap<String, Bytes>, batch: Vec<Write>) {
    for write in batch {
        match write {
            Write::Put { key, value } => pairs.insert(key, value),
            Write::Delete { key } => pairs.remove(&key),
        };
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(lock(&self.shared).pairs.get(key).cloned())
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        let shared = lock(&self.shared);
        let from = shared.pairs.range(prefix.to_owned()..);
        let within = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(within.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    async fn scan_from(&self, prefix: &str, from: &str, limit: usize) -> Result<Vec<(String, Bytes)>, StoreError> {
        let shared = lock(&self.shared);
        let first = from.max(prefix).to_owned();
        let within = shared.pairs.range(first..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(within.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    async fn write(&self, batch: Vec<Write>) -> Result<(), StoreError> {
        let mut shared = lock(&self.shared);
        if shared.epoch != self.epoch.0 {
            return Err(StoreError::Fenced);
        }
        shared.writes += 1;
        let dead = || StoreError::Unavailable("the store was told to fail".to_owned());
        match shared.fault {
            Some(Fault::DieBefore(n)) if shared.writes >= n => return Err(dead()),
            Some(Fault::DieAfter(n)) if shared.writes > n => return Err(dead()),
            Some(Fault::DieAfter(n)) if shared.writes == n => {
                apply(&mut shared.pairs, batch);
                return Err(dead());
            }
            _ => {}
        }
        apply(&mut shared.pairs, batch);
        Ok(())
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }
}
