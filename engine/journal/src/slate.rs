//! The control state as a SlateDB database in the vault, below `state/`.
//!
//! What SlateDB gives: batches that are applied whole, durable once they are flushed to the object store, and fencing of
//! an older writer by compare-and-set. What is added here: a lease that is looked at before anybody is fenced, group
//! commit, a reader that writes nothing, and errors sorted by what can be done about them.
//!
//! Architecture invariant: opening claims exactly the writer epoch after the one under which the lease was read, so that
//! of two musters that saw the same stale lease one is told to look again.

use crate::lease::*;
use crate::seal::{Sealed, Unsound};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};
use muster_ports::{Clock, Epoch, StateStore, StoreError, Timestamp, Write};
use object_store::{ObjectStore, path::Path};
use slatedb::config::{DbReaderOptions, Settings};
use slatedb::{CloseReason, Db, DbReader, DbReaderMode, ErrorKind};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// Longest time one read or write of the control state may take, over all retries: an object store under load answers
/// in less, a distributed one that chooses a new leader was measured to stop for 30 s, and one that hangs must not hang
/// a failover.
pub const STORE_LIMIT: Duration = SECOND.saturating_mul(90);
/// Retries of one object-store operation, on top of those of its client.
const OBJECT_RETRIES: u32 = 3;
/// Times that opening is tried again when somebody else was faster.
const OPEN_ROUNDS: u32 = 5;
/// State in memory before it is written out as a table, in bytes. Control state is small; memory is for replication.
const TABLE_BYTES: usize = 4 << 20;
/// Bytes not yet durable at which writers are held back.
const UNFLUSHED_BYTES_MAX: usize = 64 << 20;

/// Why the control state cannot be opened for writing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the vault is in use by {}, since {}; its last sign of life was {} ago", .0.lease.owner, .0.since, .0.silent)]
    Held(Box<Held>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Clone, Debug)]
pub struct Held {
    pub lease: Lease,
    /// As text, UTC.
    since: String,
    silent: muster_runsheet::Duration,
}

impl OpenError {
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Held(held) => Some(format!(
                "wait until it has ended, stop it (process {} on `{}`), or take over with `--steal`: it is then fenced \
                 and can do nothing more",
                held.lease.owner.pid, held.lease.owner.host
            )),
            Self::Store(_) => None,
        }
    }
    fn held(lease: Lease, now: Timestamp) -> Self {
        let since = i64::try_from(lease.since.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let since = since.map_or_else(|| "an unknown time".to_owned(), |at| format!("{at:.0}"));
        let silent = now.since(lease.renewed_at).into();
        Self::Held(Box::new(Held { lease, since, silent }))
    }
}

impl From<OpenError> for muster_ports::Failure {
    fn from(error: OpenError) -> Self {
        let help = error.help();
        let mut failure = match error {
            OpenError::Held(_) => muster_ports::Failure::refused(error.to_string()),
            OpenError::Store(error) => error.into(),
        };
        failure.help = failure.help.or(help);
        failure
    }
}

/// The one writer.
pub struct SlateStore {
    place: Place,
    db: Db,
    epoch: Epoch,
    fenced: Arc<AtomicBool>,
    renewal: tokio::task::JoinHandle<()>,
    /// The lease of a writer that seemed alive and was pushed aside.
    replaced: Option<Lease>,
}

impl std::fmt::Debug for SlateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlateStore").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Drop for SlateStore {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

fn full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull) {
            return true;
        }
        next = error.source();
    }
    // Layers below keep the system's error only as text.
    error.to_string().contains("os error 28")
}

/// Where the control state lies, for messages.
#[derive(Clone, Debug)]
struct Place(Arc<str>);

impl Place {
    fn new(store: &Arc<dyn ObjectStore>, prefix: &str) -> Self {
        let store = store.to_string();
        // A local folder is shown as its users know it, anything else by the name its client gives it.
        let root = store.strip_prefix("LocalFileSystem(file://").and_then(|rest| rest.strip_suffix(')'));
        let text = root
            .map_or_else(|| format!("{store}, {prefix}"), |root| format!("{}/{prefix}", root.trim_end_matches('/')));
        Self(text.into())
    }
}

fn store_error(place: &Place, error: slatedb::Error) -> StoreError {
    if let Some(unsound) = Unsound::find(&error) {
        return damaged(unsound);
    }
    match error.kind() {
        ErrorKind::Closed(CloseReason::Fenced) => StoreError::Fenced,
        _ if full_disk(&error) => StoreError::Full { place: place.0.to_string() },
        ErrorKind::Data => damaged(error),
        ErrorKind::Closed(_) => StoreError::Unavailable(format!(
            "the database has closed after an earlier failure ({error}); start muster again, which takes the run up \
             where its journal ends"
        )),
        _ => StoreError::Unavailable(format!(
            "{error}; check that the vault can be reached and written, then start muster again"
        )),
    }
}

fn damaged(what: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!(
        "{what}; a file below `state` of the vault was cut short, changed or removed: put back the whole folder from a \
         copy. The replicas below `data` are not touched by this"
    ))
}

/// While opening, an internal error of the database is one of decoding what lies there.
async fn opening<T>(place: &Place, build: impl Future<Output = Result<T, slatedb::Error>>) -> Result<T, StoreError> {
    let decoded = async {
        build.await.map_err(|error| match error.kind() {
            ErrorKind::Internal if !full_disk(&error) => slatedb::Error::data(error.to_string()),
            _ => error,
        })
    };
    guarded(place, decoded).await
}

/// Runs one operation with its limit. A panic inside the database on what it read is damage, not our end.
async fn guarded<T>(place: &Place, work: impl Future<Output = Result<T, slatedb::Error>>) -> Result<T, StoreError> {
    // Boxed: the future of a database on a remote store is large, and the stacks of worker threads are not.
    let work = AssertUnwindSafe(Box::pin(work));
    match tokio::time::timeout(STORE_LIMIT, work.catch_unwind()).await {
        Ok(Ok(result)) => result.map_err(|error| store_error(place, error)),
        Ok(Err(_panic)) => Err(damaged("what is stored cannot be understood")),
        Err(_) => Err(StoreError::Unavailable(format!(
            "no answer from the object store within {} s; check that the vault can be reached",
            STORE_LIMIT.as_secs()
        ))),
    }
}

fn object_error(error: object_store::Error) -> StoreError {
    StoreError::Unavailable(format!("{error}; check that the vault can be reached"))
}

/// Whether there is a database below the prefix. Files without a manifest are damage: never start anew over them.
async fn exists(store: &Arc<dyn ObjectStore>, prefix: &str) -> Result<bool, StoreError> {
    let first = async |path: String| store.list(Some(&Path::from(path))).try_next().await.map_err(object_error);
    if first(format!("{prefix}/manifest")).await?.is_some() {
        return Ok(true);
    }
    match first(prefix.to_owned()).await? {
        None => Ok(false),
        Some(object) => Err(damaged(format!("there is `{}` but no manifest", object.location))),
    }
}

/// What the database is given: the store with its small objects sealed.
fn sealed(store: Arc<dyn ObjectStore>, prefix: &str) -> Arc<dyn ObjectStore> {
    Arc::new(Sealed::new(store, Path::from(prefix)))
}

fn settings() -> Settings {
    Settings {
        // Every write flushes by itself; this only drives the housekeeping of memory.
        flush_interval: Some(Duration::from_millis(100)),
        l0_sst_size_bytes: TABLE_BYTES,
        max_unflushed_bytes: UNFLUSHED_BYTES_MAX,
        manifest_update_timeout: STORE_LIMIT,
        object_store_max_retries: Some(OBJECT_RETRIES),
        ..Settings::default()
    }
}

async fn read_lease(store: &dyn StateStore) -> Result<Option<Lease>, StoreError> {
    let Some(bytes) = store.get(LEASE_KEY).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(format!("the lease does not read back ({error})")))
}

fn lease_write(lease: &Lease) -> Result<Write, StoreError> {
    let json = serde_json::to_vec(lease).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(Write::put(LEASE_KEY, json))
}

async fn commit(place: &Place, db: &Db, batch: Vec<Write>) -> Result<(), StoreError> {
    let mut writes = slatedb::WriteBatch::new();
    for write in batch {
        match write {
            Write::Put { key, value } => writes.put_bytes(Bytes::from(key), value),
            Write::Delete { key } => writes.delete(key),
        }
    }
    if writes.is_empty() {
        return Ok(());
    }
    guarded(place, async {
        let handle = db.write(writes).await?;
        // One flush makes durable whatever is in the log by then: writers that come together share it.
        db.flush().await?;
        handle.await_durable().await
    })
    .await
}

impl SlateStore {
    /// Becomes the writer, unless another one is alive.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        owner: Owner,
        take_over: TakeOver,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let mut last = StoreError::Unavailable("others keep opening the control state; try again".to_owned());
        let place = Place::new(&store, prefix);
        for _ in 0..OPEN_ROUNDS {
            let mut seen_epoch = 0;
            let mut replaced = None;
            if exists(&store, prefix).await? {
                let reader = SlateReader::open(store.clone(), prefix).await?;
                seen_epoch = reader.epoch().0;
                let lease = read_lease(&reader).await?;
                reader.close().await;
                match lease {
                    Some(lease) if take_over == TakeOver::WhenStale && lease.is_alive(clock.now()) => {
                        return Err(OpenError::held(lease, clock.now()));
                    }
                    Some(lease) => {
                        tracing::info!(holder = %lease.owner, "taking over the control state");
                        replaced = Some(lease).filter(|lease| lease.is_alive(clock.now()));
                    }
                    None => {}
                }
            }
            let built = Db::builder(prefix.to_owned(), sealed(store.clone(), prefix))
                .with_settings(settings())
                .with_expected_epoch(seen_epoch)
                .build();
            match opening(&place, built).await {
                Ok(db) => {
                    let mut store = Self::claim(place, db, owner, clock).await?;
                    store.replaced = replaced;
                    return Ok(store);
                }
                // Somebody opened it between our look and our claim, or made it first: look again.
                Err(error @ StoreError::Fenced) => last = error,
                Err(StoreError::Damaged(text)) if text.contains("version already exists") => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.into())
    }

    async fn claim(place: Place, db: Db, owner: Owner, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let epoch = Epoch(db.manifest().writer_epoch());
        let now = clock.now();
        let ttl_millis = u64::try_from(LEASE_TTL.as_millis()).unwrap_or(u64::MAX);
        let lease = Lease { owner, epoch, since: now, renewed_at: now, ttl_millis };
        commit(&place, &db, vec![lease_write(&lease)?]).await?;
        let fenced = Arc::new(AtomicBool::new(false));
        let renewal = tokio::spawn(renew(place.clone(), db.clone(), lease, clock, fenced.clone()));
        Ok(Self { place, db, epoch, fenced, renewal, replaced: None })
    }

    /// Who seemed alive and was pushed aside when this writer opened with [`TakeOver::Steal`].
    pub fn replaced(&self) -> Option<&Lease> {
        self.replaced.as_ref()
    }

    /// Whether another writer is known to have taken over.
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Gives the lease back and closes in good order.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.renewal.abort();
        let freed = commit(&self.place, &self.db, vec![Write::delete(LEASE_KEY)]).await;
        if matches!(freed, Err(StoreError::Fenced)) {
            self.fenced.store(true, Ordering::Release);
        }
        let closed = guarded(&self.place, self.db.close()).await;
        freed.and(closed)
    }

    /// Opens for reading while another process may be the writer. Writes nothing at all.
    pub async fn open_reader(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<SlateReader, StoreError> {
        if exists(&store, prefix).await? {
            SlateReader::open(store, prefix).await
        } else {
            Ok(SlateReader { place: Place::new(&store, prefix), db: None, epoch: Epoch(0) })
        }
    }
}

async fn renew(place: Place, db: Db, mut lease: Lease, clock: Arc<dyn Clock>, fenced: Arc<AtomicBool>) {
    loop {
        clock.sleep(LEASE_RENEWAL).await;
        lease.renewed_at = clock.now();
        let Ok(write) = lease_write(&lease) else { return };
        match commit(&place, &db, vec![write]).await {
            Ok(()) => {}
            Err(StoreError::Fenced) => {
                fenced.store(true, Ordering::Release);
                tracing::error!("another muster has taken over the control state; this one can write nothing more");
                return;
            }
            // The next write of the engine meets the same failure and is where it is told.
            Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
        }
    }
}

async fn collect(mut pairs: slatedb::DbIterator, limit: usize) -> Result<Vec<(Bytes, Bytes)>, slatedb::Error> {
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(pair) = pairs.next().await?
    {
        found.push((pair.key, pair.value));
    }
    Ok(found)
}

/// The keys of a prefix from this one on, as the database wants them: by what follows the prefix.
fn rest_from<'a>(prefix: &str, from: &'a str) -> std::ops::RangeFrom<&'a [u8]> {
    from.strip_prefix(prefix).unwrap_or_default().as_bytes()..
}

fn with_text_keys(pairs: Vec<(Bytes, Bytes)>) -> Result<Vec<(String, Bytes)>, StoreError> {
    let text = |(key, value): (Bytes, Bytes)| {
        let key = String::from_utf8(key.to_vec()).map_err(|_| damaged("a key is not text"))?;
        Ok((key, value))
    };
    pairs.into_iter().map(text).collect()
}

#[async_trait]
impl StateStore for SlateStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        guarded(&self.place, self.db.get(key)).await
    }
    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.scan_from(prefix, prefix, usize::MAX).await
    }
    async fn scan_from(&self, prefix: &str, from: &str, limit: usize) -> Result<Vec<(String, Bytes)>, StoreError> {
        let pairs = self.db.scan_prefix(prefix, rest_from(prefix, from));
        with_text_keys(guarded(&self.place, async { collect(pairs.await?, limit).await }).await?)
    }
    async fn write(&self, batch: Vec<Write>) -> Result<(), StoreError> {
        if self.is_fenced() {
            return Err(StoreError::Fenced);
        }
        let result = commit(&self.place, &self.db, batch).await;
        if matches!(result, Err(StoreError::Fenced)) {
            self.fenced.store(true, Ordering::Release);
        }
        result
    }
    fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// The control state as it was durable at most a second ago, for status commands beside a living writer.
pub struct SlateReader {
    place: Place,
    /// `None` while there is no control state yet: everything is absent.
    db: Option<DbReader>,
    epoch: Epoch,
}

impl std::fmt::Debug for SlateReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlateReader").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl SlateReader {
    async fn open(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self, StoreError> {
        let options = DbReaderOptions {
            manifest_poll_interval: SECOND,
            max_memtable_bytes: TABLE_BYTES as u64,
            object_store_max_retries: Some(OBJECT_RETRIES),
            ..DbReaderOptions::default()
        };
        let place = Place::new(&store, prefix);
        let build = DbReader::builder(prefix.to_owned(), sealed(store, prefix))
            .with_reader_mode(DbReaderMode::FollowLatest)
            .with_options(options)
            .build();
        let db = opening(&place, build).await?;
        let epoch = Epoch(db.manifest().writer_epoch());
        Ok(Self { place, db: Some(db), epoch })
    }
    /// Who is the writer now, alive or not.
    pub async fn lease(&self) -> Result<Option<Lease>, StoreError> {
        read_lease(self).await
    }
    pub async fn close(&self) {
        if let Some(db) = &self.db
            && let Err(error) = guarded(&self.place, db.close()).await
        {
            tracing::debug!(%error, "closing a reader");
        }
    }
}

#[async_trait]
impl StateStore for SlateReader {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let Some(db) = &self.db else { return Ok(None) };
        guarded(&self.place, db.get(key)).await
    }
    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.scan_from(prefix, prefix, usize::MAX).await
    }
    async fn scan_from(&self, prefix: &str, from: &str, limit: usize) -> Result<Vec<(String, Bytes)>, StoreError> {
        let Some(db) = &self.db else { return Ok(Vec::new()) };
        let pairs = db.scan_prefix(prefix, rest_from(prefix, from));
        with_text_keys(guarded(&self.place, async { collect(pairs.await?, limit).await }).await?)
    }
    async fn write(&self, _batch: Vec<Write>) -> Result<(), StoreError> {
        Err(StoreError::Unavailable("it was opened for reading only".to_owned()))
    }
    /// Of the writer, when this reader was opened.
    fn epoch(&self) -> Epoch {
        self.epoch
    }
}
