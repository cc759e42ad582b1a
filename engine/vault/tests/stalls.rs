//! A store that does not answer for a while, as a distributed one does when its leader is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use async_trait::async_trait;
use common::*;
use futures::stream::BoxStream;
use muster_ports::*;
use muster_vault::*;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const FRAME: usize = 64 << 10;

/// Refuses connections until that moment.
#[derive(Debug)]
struct Stalled {
    store: Arc<InMemory>,
    until: Instant,
}

impl std::fmt::Display for Stalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stalled")
    }
}

impl Stalled {
    fn answers(&self) -> object_store::Result<&InMemory> {
        if Instant::now() >= self.until {
            return Ok(&self.store);
        }
        let source = Box::new(std::io::Error::from(ErrorKind::ConnectionRefused));
        Err(object_store::Error::Generic { store: "test", source })
    }
}

#[async_trait]
impl ObjectStore for Stalled {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.answers()?.put_opts(at, payload, options).await
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.answers()?.put_multipart_opts(at, options).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.answers()?.get_opts(at, options).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.store.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.store.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.answers()?.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.answers()?.copy_opts(from, to, options).await
    }
}

/// The vault of `bench`, whose store does not answer for so long.
async fn stalled(bench: &Bench, seconds: u64) -> Result<Vault, VaultError> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let store = Stalled { store: bench.store.clone(), until };
    Vault::open_at(Place::at("memory:///", Arc::new(store), Path::default()), &bench.key).await
}

#[tokio::test(start_paused = true)]
async fn reading_outlasts_a_stall_of_thirty_seconds() {
    let bench = bench().await;
    let mut writer = writer(&bench.vault);
    let content = noise(3, FRAME);
    writer.write(0, &content).await.unwrap();
    let segments = writer.finish().await.unwrap();
    // From the first byte: opening the vault, the index, the content.
    let vault = stalled(&bench, 30).await.unwrap();
    let mut read = vec![0; FRAME];
    vault.replica(&image(&vault, FRAME as u64, &segments)).read(0, &mut read).await.unwrap();
    assert!(read == content);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_is_given_up_in_bounded_time() {
    let bench = bench().await;
    let began = Instant::now();
    let error = stalled(&bench, 3600).await.unwrap_err();
    let took = began.elapsed();
    assert!((Duration::from_secs(60)..Duration::from_secs(120)).contains(&took), "{took:?}");
    assert!(Failure::from(error).is_retryable());
}
