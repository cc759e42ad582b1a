//! Where a vault is: a URL, the object store behind it and the prefix inside. Needs no key.

use crate::address;
use crate::complaint::{self, Complaint};
use crate::connect::{self, Connected};
use crate::error::{VaultError, io_kind};
use crate::lock::BucketLock;
use crate::patience::{Patience, patiently};
use crate::settings::StoreSettings;
use bytes::Bytes;
use futures::TryStreamExt;
use muster_ports::SegmentName;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Length of a segment's or slot's name, in bytes: well below what file systems and object stores take.
const NAME_BYTES_MAX: usize = 512;

#[derive(Clone, Debug)]
pub struct Place {
    url: String,
    store: Arc<dyn ObjectStore>,
    control: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Of a vault in a folder of this machine.
    folder: Option<PathBuf>,
    signer: Option<Arc<dyn Signer>>,
    plain_http: bool,
}

impl Place {
    /// Opens what `url` names, with what the environment says of its store. With `create`, a local folder is made when
    /// it is not there.
    pub fn open(url: &str, create: bool) -> Result<Self, VaultError> {
        Self::open_with(url, create, &StoreSettings::from_environment()?)
    }

    /// The same with settings at hand.
    pub fn open_with(url: &str, create: bool, settings: &StoreSettings) -> Result<Self, VaultError> {
        let Connected { data, control, prefix, folder, signer, plain_http } =
            connect::connect(url, address::parse(url)?, create, settings)?;
        Ok(Self { url: url.to_owned(), store: data, control, prefix, folder, signer, plain_http })
    }

    /// A vault in an object store that the caller has opened; `url` is only its name in messages.
    pub fn at(url: &str, store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self {
            url: url.to_owned(),
            control: store.clone(),
            store,
            prefix,
            folder: None,
            signer: None,
            plain_http: false,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
    /// For segments.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }
    /// For the control state: the same objects through a client that repeats its requests itself and gives a lost one up
    /// sooner.
    pub fn control_store(&self) -> Arc<dyn ObjectStore> {
        self.control.clone()
    }
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }
    pub(crate) fn folder(&self) -> Option<&std::path::Path> {
        self.folder.as_deref()
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
        if let Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) = io_kind(&source) {
            return VaultError::Full { url, object };
        }
        match complaint::of(&source) {
            Some(Complaint::NoBucket) => VaultError::NoBucket { url },
            Some(Complaint::NoCredentials) => VaultError::NoCredentials { url },
            Some(Complaint::Rejected(said)) => VaultError::Rejected { url, object, said },
            Some(Complaint::ClockSkew) => VaultError::ClockSkew { url },
            Some(Complaint::WrongRegion(said)) => VaultError::WrongRegion { url, said },
            Some(Complaint::Unsupported(said)) => VaultError::Unconditional { url, reason: said },
            Some(Complaint::Kept(said)) => VaultError::KeptByStore { url, object, said },
            Some(Complaint::Unreachable) => VaultError::Unreachable { url, source },
            None if complaint::status(&source) == Some(507) => VaultError::Full { url, object },
            None => VaultError::Store { url, object, source },
        }
    }

    /// Stores a new object. `Ok(false)` when another one of that name is already there; one with these very bytes is
    /// taken for an earlier attempt of this call whose answer was lost.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool, VaultError> {
        let put = || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            self.store.put_opts(path, PutPayload::from_bytes(bytes.clone()), options)
        };
        match patiently(Patience::Full, path, put).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(self.read(path).await?.is_some_and(|found| found == bytes))
            }
            Err(error) => Err(self.failed(path, error)),
        }
    }

    pub(crate) async fn read(&self, path: &Path) -> Result<Option<Bytes>, VaultError> {
        self.read_with(Patience::Full, path).await
    }

    /// With less patience for a store that nobody ever heard of.
    pub(crate) async fn read_with(&self, patience: Patience, path: &Path) -> Result<Option<Bytes>, VaultError> {
        let get = || async { self.store.get(path).await?.bytes().await };
        match patiently(patience, path, get).await {
            Ok(found) => Ok(Some(found)),
            Err(error) => match self.is_missing(&error) {
                true => Ok(None),
                false => Err(self.failed(path, error)),
            },
        }
    }

    /// `false` when it was not there; not every store says so.
    pub(crate) async fn delete(&self, path: &Path) -> Result<bool, VaultError> {
        match patiently(Patience::Full, path, || self.store.delete(path)).await {
            Ok(()) => Ok(true),
            Err(error) => match self.is_missing(&error) {
                true => Ok(false),
                false => Err(self.failed(path, error)),
            },
        }
    }

    /// Every object below a folder of the vault.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<ObjectMeta>, VaultError> {
        let path = self.path(folder)?;
        let list = || self.store.list(Some(&path)).try_collect::<Vec<ObjectMeta>>();
        patiently(Patience::Full, &path, list).await.map_err(|error| self.failed(folder, error))
    }

    /// Whether the object is not there; a bucket that is not there is something else.
    fn is_missing(&self, error: &object_store::Error) -> bool {
        matches!(error, object_store::Error::NotFound { .. }) && complaint::of(error).is_none()
    }

    pub(crate) async fn head(&self, segment: &SegmentName) -> Result<ObjectMeta, VaultError> {
        let path = self.segment_path(segment)?;
        let found = patiently(Patience::Full, &path, || self.store.head(&path)).await;
        found.map_err(|error| self.segment_failed(segment, error))
    }

    pub(crate) async fn read_range(&self, segment: &SegmentName, range: Range<u64>) -> Result<Bytes, VaultError> {
        let path = self.segment_path(segment)?;
        let wanted = range.end.saturating_sub(range.start);
        let bytes = patiently(Patience::Full, &path, || self.store.get_range(&path, range.clone())).await;
        let bytes = bytes.map_err(|error| self.segment_failed(segment, error))?;
        if bytes.len() as u64 != wanted {
            let found = range.start.saturating_add(bytes.len() as u64);
            return Err(VaultError::Truncated { segment: segment.clone(), found, expected: range.end });
        }
        Ok(bytes)
    }

    /// Size and BLAKE3 of an object, in one pass that holds a part of it at a time.
    pub(crate) async fn hash(&self, segment: &SegmentName) -> Result<(u64, blake3::Hash), VaultError> {
        let path = self.segment_path(segment)?;
        let attempt = || async {
            let object = self.store.get_opts(&path, GetOptions::default()).await?;
            let size = object.meta.size;
            let mut bytes = object.into_stream();
            let mut hasher = blake3::Hasher::new();
            while let Some(part) = bytes.try_next().await? {
                hasher.update(&part);
            }
            Ok((size, hasher.finalize()))
        };
        patiently(Patience::Full, &path, attempt).await.map_err(|error| self.segment_failed(segment, error))
    }

    /// Whether the bucket itself keeps what is written to it for a time; `None` when its store cannot be asked.
    pub async fn bucket_lock(&self) -> Option<BucketLock> {
        crate::lock::of(self.signer.as_ref()?.as_ref(), self.plain_http).await
    }

    pub(crate) fn segment_failed(&self, segment: &SegmentName, error: object_store::Error) -> VaultError {
        match self.is_missing(&error) {
            true => VaultError::MissingSegment { segment: segment.clone(), url: self.url.clone() },
            false => self.failed(format!("data/{segment}"), error),
        }
    }
}
