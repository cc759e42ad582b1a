//! The people of a rehearsal: asked, they take their time and answer.

use crate::conditions::Reply;
use muster_executor::{Command, CommandSender, RunObserver};
use muster_journal::{Answer, Event, Question, QuestionKind, Record, RunState, Stand};
use muster_ports::{Clock, Timestamp};
use muster_runsheet::{Duration, StepId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The one who answers, as the journal shows it.
const WHO: &str = "rehearsal";

/// What is to be said, and when.
#[derive(Clone, Debug)]
struct Word {
    due: Timestamp,
    answer: Answer,
}

/// Knows the answers; hears the questions as an observer of the run.
#[derive(Debug)]
pub(crate) struct People {
    replies: BTreeMap<StepId, Reply>,
    /// How long a person usually takes for each step, and for a signature.
    takes: BTreeMap<StepId, Duration>,
    signature: Duration,
    words: Mutex<BTreeMap<StepId, Word>>,
    assumed: Mutex<Vec<String>>,
    heard: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl People {
    pub(crate) fn new(
        replies: BTreeMap<StepId, Reply>,
        takes: BTreeMap<StepId, Duration>,
        signature: Duration,
    ) -> Self {
        Self { replies, takes, signature, words: Mutex::default(), assumed: Mutex::default(), heard: Notify::new() }
    }

    pub(crate) fn assumed(&self) -> Vec<String> {
        lock(&self.assumed).clone()
    }

    fn asked(&self, step: &StepId, question: &Question, at: Timestamp) {
        let reply = self.replies.get(step).copied();
        let usual = match question.kind {
            QuestionKind::SplitBrain => self.signature,
            QuestionKind::Approve | QuestionKind::Manual => self.takes.get(step).copied().unwrap_or_default(),
        };
        let after = reply.and_then(|reply| reply.after).unwrap_or(usual);
        let yes = reply.is_none_or(|reply| reply.yes);
        if reply.is_none() {
            let word = match question.kind {
                QuestionKind::Approve => "answered yes",
                QuestionKind::Manual => "done",
                QuestionKind::SplitBrain => "signed",
            };
            lock(&self.assumed).push(format!("`{step}` is {word} after {after}"));
        }
        let answer = Answer { yes, who: WHO.to_owned(), why: String::new() };
        lock(&self.words).insert(step.clone(), Word { due: at.plus(after.std()), answer });
        self.heard.notify_one();
    }

    /// What a run that is taken up waits for; an engine that died may have told nobody.
    pub(crate) fn catch_up(&self, state: &RunState) {
        for node in state.nodes() {
            let asking = node.stand == Stand::Asking;
            let known = lock(&self.words).contains_key(&node.id);
            match (asking, &node.question, node.asked_at) {
                (true, Some(question), Some(at)) if !known => self.asked(&node.id, question, at),
                (false, _, _) if known => drop(lock(&self.words).remove(&node.id)),
                _ => {}
            }
        }
    }

    fn next(&self) -> Option<(StepId, Word)> {
        let words = lock(&self.words);
        let first = words.iter().min_by_key(|(step, word)| (word.due, step.as_str().to_owned()));
        first.map(|(step, word)| (step.clone(), word.clone()))
    }

    /// Says what is due to a run that is being driven. Never returns.
    pub(crate) async fn speak(&self, clock: &dyn Clock, sender: &CommandSender) {
        loop {
            let Some((step, word)) = self.next() else {
                self.heard.notified().await;
                continue;
            };
            tokio::select! {
                biased;
                () = self.heard.notified() => continue,
                () = clock.sleep_until(word.due) => {}
            }
            let command = Command::Answer { node: step.clone(), answer: word.answer };
            // Kept until it is durable: the run may let go of everything at this very moment, and be told later.
            match sender.send(command).await {
                Ok(()) => self.said(&step),
                Err(_) => std::future::pending::<()>().await,
            }
        }
    }

    /// The next word for one of these steps, which nobody drives now.
    pub(crate) fn next_for(&self, steps: &[StepId]) -> Option<(StepId, Timestamp, Answer)> {
        let words = lock(&self.words);
        let mine = words.iter().filter(|(step, _)| steps.contains(step));
        let first = mine.min_by_key(|(step, word)| (word.due, step.as_str().to_owned()));
        first.map(|(step, word)| (step.clone(), word.due, word.answer.clone()))
    }

    pub(crate) fn said(&self, step: &StepId) {
        lock(&self.words).remove(step);
    }
}

/// Listens to a run.
#[derive(Debug)]
pub(crate) struct Listening(pub(crate) Arc<People>);

impl RunObserver for Listening {
    fn recorded(&self, record: &Record, _state: &RunState) {
        match &record.event {
            Event::Asked { node, question, .. } => self.0.asked(node, question, record.time),
            Event::Answered { node, .. } | Event::AttemptFailed { node, .. } => self.0.said(node),
            _ => {}
        }
    }
}
