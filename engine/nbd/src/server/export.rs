//! What is served, by name.

use crate::limits::*;
use muster_ports::{BlockSource, Failure, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// One disk under one name, until it is withdrawn.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) name: String,
    pub(crate) source: Arc<dyn BlockSource>,
    withdrawn: watch::Sender<bool>,
}

impl Export {
    pub(crate) async fn withdrawn(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.withdrawn.subscribe().wait_for(|withdrawn| *withdrawn).await;
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Exports(Arc<RwLock<BTreeMap<String, Arc<Export>>>>);

impl Exports {
    pub(crate) fn add(&self, name: String, source: Arc<dyn BlockSource>) -> Result<()> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let message = format!("the name of an export has 1 to {NAME_BYTES_MAX} bytes, `{name}` has {}", name.len());
            return Err(Failure::permanent(message));
        }
        let export = Arc::new(Export { name: name.clone(), source, withdrawn: watch::Sender::new(false) });
        let before = self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, export);
        if let Some(before) = before {
            before.withdrawn.send_replace(true);
        }
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str) -> bool {
        let removed = self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(export) = &removed {
            export.withdrawn.send_replace(true);
        }
        removed.is_some()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Export>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}
