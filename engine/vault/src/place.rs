//! Where a vault is: a URL, the object store behind it and the prefix inside. Needs no key.

use crate::error::{VaultError, io_kind};
use bytes::Bytes;
use muster_ports::SegmentName;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Longest time a put or a read is tried again before it fails. A distributed store was measured to stop for 30 s when its
/// leader is killed; this outlasts it.
const RETRY_LIMIT: Duration = Duration::from_secs(45);
/// First pause between two attempts; each next one is twice as long, up to `PAUSE_MAX`.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Length of a segment's or slot's name, in bytes: well below what file systems and object stores take.
const NAME_BYTES_MAX: usize = 512;

#[derive(Clone, Debug)]
pub struct Place {
    url: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Place {
    /// Opens what `url` names. With `create`, a local folder is made when it is not there.
    pub fn open(url: &str, create: bool) -> Result<Self, VaultError> {
        let parsed = url::Url::parse(url)
            .map_err(|error| VaultError::BadUrl { url: url.to_owned(), reason: error.to_string() })?;
        if parsed.scheme() != "file" {
            let (store, prefix) = object_store::parse_url(&parsed)
                .map_err(|source| VaultError::UnsupportedUrl { url: url.to_owned(), source })?;
            return Ok(Self::at(url, Arc::from(store), prefix));
        }
        let folder = parsed.to_file_path().map_err(|()| VaultError::BadUrl {
            url: url.to_owned(),
            reason: "it does not name a folder of this machine".to_owned(),
        })?;
        if create {
            std::fs::create_dir_all(&folder).map_err(|error| VaultError::BadUrl {
                url: url.to_owned(),
                reason: format!("its folder cannot be made: {error}"),
            })?;
        } else if !folder.is_dir() {
            return Err(VaultError::NoVault { url: url.to_owned() });
        }
        let store = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|source| VaultError::Store { url: url.to_owned(), object: String::new(), source })?
            // Off by default there; without it a point could be committed whose segments are lost with the power.
            .with_fsync(true);
        Ok(Self::at(url, Arc::new(store), Path::default()))
    }

    /// A vault in an object store that the caller has opened; `url` is only its name in messages.
    pub fn at(url: &str, store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { url: url.to_owned(), store, prefix }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The path of an object of the vault, `vault.json` or `data/...`.
    pub(crate) fn path(&self, object: &str) -> Result<Path, VaultError> {
        let bad = |reason: &str| VaultError::BadName { name: object.to_owned(), reason: reason.to_owned() };
        if object.len() > NAME_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        for part in object.split('/') {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if part.is_empty() || part.starts_with('.') || !part.chars().all(known) {
                return Err(bad("it has a part that is empty, begins with a dot or holds other characters"));
            }
        }
        let whole = match self.prefix.as_ref() {
            "" => object.to_owned(),
            prefix => format!("{prefix}/{object}"),
        };
        Path::parse(whole).map_err(|error| bad(&error.to_string()))
    }

    pub(crate) fn segment_path(&self, name: &SegmentName) -> Result<Path, VaultError> {
        self.path(&format!("data/{name}"))
    }

    pub(crate) fn failed(&self, object: impl std::fmt::Display, source: object_store::Error) -> VaultError {
        let (url, object) = (self.url.clone(), object.to_string());
        match io_kind(&source) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => VaultError::Full { url, object },
            _ => VaultError::Store { url, object, source },
        }
    }

    /// Stores a new object. `Ok(false)` when one of that name is already there.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool, VaultError> {
        let put = || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            self.store.put_opts(path, PutPayload::from_bytes(bytes.clone()), options)
        };
        match patiently(path, put).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    pub(crate) async fn read(&self, path: &Path) -> Result<Option<Bytes>, VaultError> {
        let get = || async { self.store.get(path).await?.bytes().await };
        match patiently(path, get).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    pub(crate) async fn head(&self, segment: &SegmentName) -> Result<ObjectMeta, VaultError> {
        let path = self.segment_path(segment)?;
        let found = patiently(&path, || self.store.head(&path)).await;
        found.map_err(|error| self.segment_failed(segment, error))
    }

    pub(crate) async fn read_range(&self, segment: &SegmentName, range: Range<u64>) -> Result<Bytes, VaultError> {
        let path = self.segment_path(segment)?;
        let wanted = range.end.saturating_sub(range.start);
        let bytes = patiently(&path, || self.store.get_range(&path, range.clone())).await;
        let bytes = bytes.map_err(|error| self.segment_failed(segment, error))?;
        if bytes.len() as u64 != wanted {
            let found = range.start.saturating_add(bytes.len() as u64);
            return Err(VaultError::Truncated { segment: segment.clone(), found, expected: range.end });
        }
        Ok(bytes)
    }

    pub(crate) async fn stream(&self, segment: &SegmentName) -> Result<object_store::GetResult, VaultError> {
        let path = self.segment_path(segment)?;
        let options = GetOptions::default();
        self.store.get_opts(&path, options).await.map_err(|error| self.segment_failed(segment, error))
    }

    pub(crate) fn segment_failed(&self, segment: &SegmentName, error: object_store::Error) -> VaultError {
        match error {
            object_store::Error::NotFound { .. } => {
                VaultError::MissingSegment { segment: segment.clone(), url: self.url.clone() }
            }
            other => self.failed(format!("data/{segment}"), other),
        }
    }
}

/// Tries again while another attempt may succeed. Reads and conditional puts may be repeated as often as one likes.
async fn patiently<T, F>(path: &Path, attempt: impl Fn() -> F) -> object_store::Result<T>
where
    F: Future<Output = object_store::Result<T>>,
{
    let started = tokio::time::Instant::now();
    let mut pause = PAUSE_FIRST;
    loop {
        match attempt().await {
            Err(error) if may_pass(&error) && started.elapsed() + pause < RETRY_LIMIT => {
                tracing::debug!(object = %path, %error, "the store did not answer, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            done => return done,
        }
    }
}

/// Whether another attempt may succeed: not when the store said no, and not for what a local disk says (a full or
/// broken one does not mend within seconds).
fn may_pass(error: &object_store::Error) -> bool {
    match io_kind(error) {
        Some(kind) => matches!(
            kind,
            ErrorKind::Interrupted
                | ErrorKind::TimedOut
                | ErrorKind::WouldBlock
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
        ),
        None => matches!(error, object_store::Error::Generic { .. }),
    }
}
