//! Numbered calls within a step: how a hook is replayed after a crash.

use async_trait::async_trait;
use muster_ports::Result;
use serde::{Deserialize, Serialize};

/// One host call of a hook, as recorded. `result` is missing while it is only intended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// From 0, in the order in which the script asked.
    pub number: u32,
    /// `http.put`, `exec`, `checkpoint`.
    pub operation: String,
    /// BLAKE3 of the canonical arguments, hex.
    pub arguments: String,
    /// JSON; never a secret.
    pub result: Option<serde_json::Value>,
}

/// The journal of one attempt of one step. Each method returns once the record is durable.
#[async_trait]
pub trait CallJournal: Send + Sync + std::fmt::Debug {
    /// What earlier attempts with the same key have recorded, in order.
    fn recorded(&self) -> Vec<CallRecord>;
    async fn intend(&self, number: u32, operation: &str, arguments: &str) -> Result<()>;
    async fn done(&self, number: u32, result: serde_json::Value) -> Result<()>;
    /// A line for people in the run's log.
    async fn note(&self, text: &str) -> Result<()>;
    /// For an undo: the calls of the step that is being taken back, so that it finds what that one saved.
    fn undoes(&self) -> Vec<CallRecord> {
        Vec::new()
    }
}
