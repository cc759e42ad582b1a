//! A store whose process dies at chosen records: before each one, and after it.

use async_trait::async_trait;
use bytes::Bytes;
use muster_journal::{Event, MemoryStore, Record};
use muster_ports::{Epoch, StateStore, StoreError, Write};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Where the engine has died already: once before and once after each record of each step, so that it gets on.
#[derive(Debug, Default)]
pub(crate) struct Deaths(Mutex<BTreeSet<String>>);

impl Deaths {
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.0.lock().unwrap_or_else(PoisonError::into_inner).len()).unwrap_or(u32::MAX)
    }
    fn is_new(&self, what: String) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(what)
    }
}

/// One life of the engine's store.
#[derive(Debug)]
pub(crate) struct Mortal {
    store: MemoryStore,
    deaths: Option<Arc<Deaths>>,
    dead: AtomicBool,
    died: Notify,
}

impl Mortal {
    /// With `deaths`, one that dies.
    pub(crate) fn new(store: MemoryStore, deaths: Option<Arc<Deaths>>) -> Self {
        Self { store, deaths, dead: AtomicBool::new(false), died: Notify::new() }
    }

    /// Returns when it has died.
    pub(crate) async fn died(&self) {
        while !self.dead.load(Ordering::SeqCst) {
            self.died.notified().await;
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn die(&self) -> StoreError {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
        StoreError::Unavailable("the engine was killed".to_owned())
    }
}

/// What a batch records of a run; `None` when it does not.
fn recorded(batch: &[Write]) -> Option<String> {
    let mut words = Vec::new();
    for write in batch {
        let Write::Put { key, value } = write else { continue };
        if !(key.starts_with("run/") && key.contains("/event/")) {
            continue;
        }
        let record: Record = serde_json::from_slice(value).ok()?;
        // Every life begins with a claim.
        if !matches!(record.event, Event::EngineClaimed { .. } | Event::EngineReleased) {
            let call = match &record.event {
                Event::EffectIntended { call, .. } | Event::EffectDone { call, .. } => format!(" {call}"),
                _ => String::new(),
            };
            let node = record.event.node().map(ToString::to_string).unwrap_or_default();
            words.push(format!("{} {node}{call}", record.event.word()));
        }
    }
    (!words.is_empty()).then(|| words.join(", "))
}

#[async_trait]
impl StateStore for Mortal {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.store.get(key).await
    }
    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.store.scan(prefix).await
    }
    async fn write(&self, batch: Vec<Write>) -> Result<(), StoreError> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(self.die());
        }
        let deaths = self.deaths.as_ref().zip(recorded(&batch));
        if let Some((deaths, what)) = &deaths
            && deaths.is_new(format!("before {what}"))
        {
            return Err(self.die());
        }
        self.store.write(batch).await?;
        match &deaths {
            Some((deaths, what)) if deaths.is_new(format!("after {what}")) => Err(self.die()),
            _ => Ok(()),
        }
    }
    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }
}
