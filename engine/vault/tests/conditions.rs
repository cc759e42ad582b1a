//! Stores that do not keep the promise of conditional creation, and answers that get lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use async_trait::async_trait;
use common::*;
use futures::stream::BoxStream;
use muster_vault::*;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    /// Creates over what is there, as a store that has never heard of the condition.
    Overwrites,
    /// Says that it cannot.
    Refuses,
    /// Keeps the promise, and every answer to a creation is lost once.
    LosesAnswers,
    /// Says that it was deleted, and keeps it.
    KeepsDeleted,
}

#[derive(Debug)]
struct Flawed {
    store: InMemory,
    flaw: Flaw,
    creations: AtomicUsize,
}

impl std::fmt::Display for Flawed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flawed")
    }
}

#[async_trait]
impl ObjectStore for Flawed {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        match self.flaw {
            Flaw::Overwrites => self.store.put_opts(at, payload, PutOptions::default()).await,
            Flaw::Refuses => Err(Error::NotImplemented { operation: "conditions".into(), implementer: "test".into() }),
            Flaw::LosesAnswers => {
                let done = self.store.put_opts(at, payload, options).await;
                let lost = done.is_ok() && self.creations.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
                if lost { Err(Error::Generic { store: "test", source: "the answer got lost".into() }) } else { done }
            }
            Flaw::KeepsDeleted => self.store.put_opts(at, payload, options).await,
        }
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(at, options).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.store.get_opts(at, options).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        if self.flaw == Flaw::KeepsDeleted { locations } else { self.store.delete_stream(locations) }
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.store.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

async fn init(flaw: Flaw) -> Result<Vault, VaultError> {
    let folder = tempfile::tempdir().unwrap();
    let key = key_file(&folder, "vault.key", 1);
    let store = Flawed { store: InMemory::new(), flaw, creations: AtomicUsize::new(0) };
    let place = Place::at("memory:///", Arc::new(store), Path::default());
    Vault::init_at(place, &key, &Seeded::new(2)).await
}

#[tokio::test(start_paused = true)]
async fn a_store_without_conditional_creation_is_refused_by_name() {
    for (flaw, reason) in [
        (Flaw::Overwrites, "4 were told they had"),
        (Flaw::Refuses, "conditions"),
        (Flaw::KeepsDeleted, "deleted is still there"),
    ] {
        let error = init(flaw).await.unwrap_err();
        assert!(matches!(error, VaultError::Unconditional { .. }), "{flaw:?}: {error:?}");
        assert!(error.to_string().contains(reason), "{flaw:?}: {error}");
        assert!(error.to_string().contains("memory:///"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_gets_lost_is_no_second_creator() {
    let vault = init(Flaw::LosesAnswers).await.unwrap();
    assert_eq!(vault.slots().await.unwrap().len(), 1);
    let mut writer = writer(&vault);
    writer.write(0, &noise(1, 64 << 10)).await.unwrap();
    let segments = writer.finish().await.unwrap();
    assert!(scrub(vault.place(), &segments).await.unwrap().damaged.is_empty());
}
