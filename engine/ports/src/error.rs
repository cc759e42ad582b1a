//! One failure type for everything beyond the engine, classified by what the caller can do next.

use serde::{Deserialize, Serialize};

/// What a caller can do about a failure. Only `Transient` and `Timeout` are retried by the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// May pass by itself: a lost connection, a busy hypervisor.
    Transient,
    /// The limit of the attempt ran out; whether the effect happened is not known until it is observed.
    Timeout,
    /// Will fail the same way again: bad input, a missing image, no such machine.
    Permanent,
    /// The other side understood and said no: fenced, locked, not allowed.
    Refused,
    /// The world is not what the record says; a person has to look.
    Diverged,
}

/// A failure with its class, a message in plain words and, where there is one, what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub class: FailureClass,
    /// Lower case, no full stop, user text in backticks, no Rust type names, no secret.
    pub message: String,
    pub help: Option<String>,
}

pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), help: None }
    }
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Transient, message)
    }
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Timeout, message)
    }
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Permanent, message)
    }
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Refused, message)
    }
    pub fn diverged(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Diverged, message)
    }
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
    /// Puts what was being done in front of the message: `start `db`: connection refused`.
    pub fn during(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
    pub fn is_retryable(&self) -> bool {
        matches!(self.class, FailureClass::Transient | FailureClass::Timeout)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::*;
        let class = match error.kind() {
            NotFound | PermissionDenied | InvalidInput | InvalidData | AlreadyExists | Unsupported => {
                FailureClass::Permanent
            }
            TimedOut => FailureClass::Timeout,
            _ => FailureClass::Transient,
        };
        Self::new(class, error.to_string())
    }
}
