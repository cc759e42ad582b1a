//! The world beyond the sites, pretended: nothing is sent, everything is written down.
//!
//! What changes something is taken to succeed. What only asks cannot be answered by anybody here: the hook stops at that
//! question, and counts as done with a note, as a dry-run marks it: `unknown from here`.

use crate::conditions::HttpAnswer;
use async_trait::async_trait;
use muster_hooks::{Hidden, HttpReply, HttpRequest, MailOrder, Outside};
use muster_ports::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Begins the message of a failure that is none: nobody here knows the answer.
pub(crate) const UNKNOWN: &str = "unknown from here";

/// What hooks would have done, each once.
#[derive(Debug, Default)]
pub(crate) struct Pretended {
    answers: Vec<HttpAnswer>,
    effects: Mutex<BTreeSet<String>>,
}

impl Pretended {
    pub(crate) fn new(answers: Vec<HttpAnswer>) -> Self {
        Self { answers, effects: Mutex::default() }
    }
    pub(crate) fn effects(&self) -> BTreeSet<String> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn effect(&self, what: String) {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
    }
}

fn unknown(what: String) -> Failure {
    Failure::permanent(format!("{UNKNOWN} ({what})"))
}

#[async_trait]
impl Outside for Pretended {
    async fn http(&self, request: &HttpRequest) -> Result<HttpReply> {
        let fits = |answer: &&HttpAnswer| answer.method == request.method && request.url.starts_with(&answer.url);
        let given = self.answers.iter().find(fits);
        if request.method != "GET" {
            // The address may hold a secret; the origin is written in the plan.
            self.effect(format!("{} {}", request.method, request.origin));
        } else if given.is_none() {
            return Err(unknown(format!("asks {}", request.origin)));
        }
        let (status, body) = given.map_or((200, "{}".to_owned()), |answer| (answer.status, answer.body.clone()));
        Ok(HttpReply { status, headers: BTreeMap::new(), body, cut: false })
    }

    async fn dns(&self, server: &str, _message: &[u8]) -> Result<Vec<u8>> {
        self.effect(format!("dns {server}"));
        Err(unknown(format!("asks the name server {server}")))
    }

    async fn mail(&self, order: &MailOrder) -> Result<()> {
        self.effect(format!("mail to {}", order.to.join(", ")));
        Ok(())
    }

    async fn secret(&self, key: &str) -> Result<Hidden> {
        Ok(Hidden::new(format!("/pretended/{key}")))
    }
}
