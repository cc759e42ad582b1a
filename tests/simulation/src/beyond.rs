//! The world beyond the sites: servers that know idempotency keys, and count.

use crate::tally::{self, Tally};
use async_trait::async_trait;
use muster_hooks::{Hidden, HttpReply, HttpRequest, MailOrder, Outside};
use muster_ports::{Failure, Result};
use muster_provider_simulated::SeededRandom;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Begins the failure of a question that nobody here can answer; the runner takes the hook for done.
pub const UNKNOWN: &str = "unknown from here";

/// Every write by its key: what a server that keeps its word does once.
#[derive(Debug, Default)]
pub struct Beyond {
    done: Mutex<BTreeMap<String, BTreeSet<String>>>,
    trouble: Mutex<Option<(SeededRandom, u64)>>,
    tally: Tally,
}

impl Beyond {
    /// In so many of a thousand calls something goes wrong: nothing is done, or it is done and the answer is lost.
    pub fn trouble(&self, seed: u64, per_mille: u64) {
        *lock(&self.trouble) = (per_mille > 0).then(|| (SeededRandom::new(seed), per_mille));
    }
    /// Keys under which each write was done.
    pub fn writes(&self) -> BTreeMap<String, usize> {
        lock(&self.done).iter().map(|(what, keys)| (what.clone(), keys.len())).collect()
    }
    /// Counts there what goes wrong.
    pub fn counting(tally: Tally) -> Self {
        Self { tally, ..Self::default() }
    }
    fn luck(&self) -> (bool, bool) {
        let Some((random, per_mille)) = &*lock(&self.trouble) else { return (false, false) };
        (random.below(1000) < *per_mille, random.below(1000) < *per_mille)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Outside for Beyond {
    async fn http(&self, request: &HttpRequest) -> Result<HttpReply> {
        let (refused, lost) = self.luck();
        if refused {
            self.tally.note(tally::BEYOND_REFUSED);
            return Err(Failure::transient("the connection was refused (simulated)"));
        }
        if request.method == "GET" {
            return Err(Failure::permanent(format!("{UNKNOWN} (asks {})", request.origin)));
        }
        let what = format!("{} {} {}", request.method, request.url, request.body.clone().unwrap_or_default());
        let key = request.idempotency_key.clone().unwrap_or_default();
        lock(&self.done).entry(what).or_default().insert(key);
        if lost {
            self.tally.note(tally::BEYOND_ANSWER_LOST);
            return Err(Failure::timeout("the answer was lost (simulated)"));
        }
        Ok(HttpReply { status: 200, headers: BTreeMap::new(), body: "{}".to_owned(), cut: false })
    }
    async fn dns(&self, server: &str, _message: &[u8]) -> Result<Vec<u8>> {
        Err(Failure::permanent(format!("{UNKNOWN} (asks the name server {server})")))
    }
    async fn mail(&self, _order: &MailOrder) -> Result<()> {
        Ok(())
    }
    async fn secret(&self, key: &str) -> Result<Hidden> {
        Ok(Hidden::new(format!("/simulated/{key}")))
    }
}
