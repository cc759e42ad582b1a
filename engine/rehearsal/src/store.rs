//! A store whose process dies at every record: after it, and before it where something may have happened since the last.

use async_trait::async_trait;
use bytes::Bytes;
use muster_journal::{Event, MemoryStore, Record};
use muster_ports::{Epoch, StateStore, StoreError, Write};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Where the engine has died already: at each place once, so that it gets on.
#[derive(Debug, Default)]
pub(crate) struct Deaths {
    places: Mutex<BTreeSet<String>>,
    /// A question or an answer became durable in the moment of a death: nobody was told.
    unheard: AtomicBool,
}

impl Deaths {
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.places.lock().unwrap_or_else(PoisonError::into_inner).len()).unwrap_or(u32::MAX)
    }
    /// Whether people have to be told where the run stands; once.
    pub(crate) fn take_unheard(&self) -> bool {
        self.unheard.swap(false, Ordering::SeqCst)
    }
    fn is_new(&self, what: String) -> bool {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(what)
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

/// What a batch records of a run.
struct Recorded {
    words: String,
    /// Something may have been done since the record before: dying here is not the same as dying after that one.
    after_work: bool,
    to_people: bool,
}

/// `None` when it records nothing, or nothing but the claim that every life begins with.
fn recorded(batch: &[Write]) -> Option<Recorded> {
    let (mut words, mut after_work, mut to_people) = (Vec::new(), false, false);
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
            after_work |= !matches!(record.event, Event::AttemptStarted { .. } | Event::UndoStarted { .. });
            to_people |= matches!(record.event, Event::Asked { .. } | Event::Answered { .. });
        }
    }
    (!words.is_empty()).then(|| Recorded { words: words.join(", "), after_work, to_people })
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
            && what.after_work
            && deaths.is_new(format!("before {}", what.words))
        {
            return Err(self.die());
        }
        self.store.write(batch).await?;
        match &deaths {
            Some((deaths, what)) if deaths.is_new(format!("after {}", what.words)) => {
                if what.to_people {
                    deaths.unheard.store(true, Ordering::SeqCst);
                }
                Err(self.die())
            }
            _ => Ok(()),
        }
    }
    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }
}
