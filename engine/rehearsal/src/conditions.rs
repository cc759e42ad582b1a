//! What a rehearsal is told beside the plan.

use muster_ports::GuestOutput;
use muster_runsheet::{Duration, StepId};
use serde::Serialize;
use std::collections::BTreeMap;

/// Under which circumstances the plan is carried out. The default: nothing goes wrong, and people say yes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Decides everything that is left to chance: how old the newest point is when it happens, the jitter of retries.
    pub seed: u64,
    /// Slow links, failing steps, dead sites, boots at once: the same words as in a forecast.
    pub world: muster_forecast::Conditions,
    /// What people say when they are asked; whoever is not here says yes when the plan's `usually`, or else the assumed
    /// time, has passed.
    pub answers: BTreeMap<StepId, Reply>,
    /// The engine is killed before and after every record of the run, and another one resumes.
    pub crashes: bool,
    /// What commands in guests print, by a part of the command; the first that fits. Everything else succeeds in silence.
    pub guests: Vec<GuestReply>,
    /// What is answered from beyond the sites, by method and the beginning of the address; the first that fits.
    pub http: Vec<HttpAnswer>,
}

/// One person's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reply {
    pub yes: bool,
    /// `None`: as long as it usually takes.
    pub after: Option<Duration>,
}

/// What a command in a guest answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestReply {
    /// Found anywhere in program and arguments, put together with blanks.
    pub words: String,
    pub output: GuestOutput,
}

/// What an address beyond the sites answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// `GET`, `PUT`.
    pub method: String,
    /// The beginning of the address.
    pub url: String,
    pub status: u16,
    pub body: String,
}
