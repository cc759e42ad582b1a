//! The control state: ordered keys, one writer, durable batches.

use async_trait::async_trait;
use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put { key: String, value: Bytes },
    Delete { key: String },
}

impl Write {
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into() }
    }
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete { key: key.into() }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer has taken over; this one must stop and may write nothing more.
    #[error("another muster has taken over the control state of this vault")]
    Fenced,
    /// No room; nothing of the batch is promised. Passes when somebody makes room.
    #[error("the control state cannot be written: the disk that holds the vault is full (`{place}`)")]
    Full { place: String },
    /// The store cannot be reached; nothing of the batch is promised. May pass.
    #[error("the control state cannot be written: {0}")]
    Unavailable(String),
    /// What is stored does not read back.
    #[error("the control state is damaged: {0}")]
    Damaged(String),
}

/// One writer, any number of readers. Keys are UTF-8 paths (`run/<id>/event/<seq>`), in byte order.
#[async_trait]
pub trait StateStore: Send + Sync + std::fmt::Debug {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError>;
    /// All pairs whose key begins with `prefix`, in key order.
    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError>;
    /// Those of them whose key is `from` (which begins with `prefix`) or comes after it, `limit` at most: what may be long is
    /// read page by page, and what grows is read on from where it was left.
    async fn scan_from(&self, prefix: &str, from: &str, limit: usize) -> Result<Vec<(String, Bytes)>, StoreError> {
        let all = self.scan(prefix).await?.into_iter();
        Ok(all.skip_while(|(key, _)| key.as_str() < from).take(limit).collect())
    }
    /// Applies all or nothing, and returns once it is durable.
    async fn write(&self, batch: Vec<Write>) -> Result<(), StoreError>;
    /// The fencing epoch of this writer.
    fn epoch(&self) -> crate::Epoch;
}

impl From<StoreError> for crate::Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Fenced => crate::Failure::refused(message),
            StoreError::Full { .. } => crate::Failure::transient(message).help(
                "make room there: what was recorded before is safe, replication goes on by itself, and `muster resume` \
                 goes on with a run",
            ),
            StoreError::Unavailable(_) => crate::Failure::transient(message),
            StoreError::Damaged(_) => crate::Failure::diverged(message),
        }
    }
}
