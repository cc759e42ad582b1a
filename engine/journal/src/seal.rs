//! Seals on the small objects of the control state that the database keeps no checksum of.
//!
//! ```text
//!   put:  body                                  -> body || magic || version || BLAKE3(name, body)
//!   get:  body || magic || version || BLAKE3    -> body, or a refusal that names the object
//! ```
//!
//! Tables and logs (`*.sst`) carry a checksum on every block and pass as they are. Everything else below the prefix, which
//! is manifests, lists of compactions and boundaries of the collector, is small, read whole, and has none. `FORMAT.md` of
//! the vault has the bytes.
//!
//! A seal finds what rots, is cut short or lies under another name. It is no signature: whoever may write to the vault can
//! make one.
//!
//! Architecture invariant: conditions of a request and versions of an object pass untouched, so that compare-and-set means
//! the same above as below. Sizes of lists are those of the store, with the seal; sizes of what is got are without.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use slatedb_common::retry::NonRetryable;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How a seal begins. First, so that an object which lost its end still shows that it had a seal.
pub const MAGIC: &[u8; 12] = b"muster.seal\0";
/// Version of seals that are written; the only one there is.
pub const VERSION: u32 = 1;
/// Bytes of a whole seal: magic, version, hash.
pub const SEAL_BYTES: usize = MAGIC.len() + size_of::<u32>() + blake3::OUT_LEN;
/// Keeps this hash apart from every other use of BLAKE3.
const CONTEXT: &str = "muster 2026 seal of an object of the control state";
/// Bits of the magic's 96 that may be wrong before it counts as something else; of other bytes about half are.
const MAGIC_WRONG_BITS_MAX: u32 = 12;
/// The name of the store in errors of the layers above.
const STORE: &str = "control state";

/// An object of the control state that is not what was written under its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{location}` {what}")]
pub struct Unsound {
    /// The whole path of the object in its store.
    pub location: Path,
    what: &'static str,
}

impl Unsound {
    /// The one behind this error, if that is what it comes from.
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

/// What the end of an object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trailer {
    /// The body ends here.
    Whole(usize),
    /// There is none, and nothing that was one.
    Absent,
    Wrong(&'static str),
}

/// Of an object's name below the prefix, so that a whole folder may be copied elsewhere, and its body.
fn hash(name: &str, body: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(body);
    hasher.finalize()
}

fn seal(name: &str, body: &[u8]) -> [u8; SEAL_BYTES] {
    let mut seal = [0; SEAL_BYTES];
    let (magic, rest) = seal.split_at_mut(MAGIC.len());
    let (version, digest) = rest.split_at_mut(size_of::<u32>());
    magic.copy_from_slice(MAGIC);
    version.copy_from_slice(&VERSION.to_le_bytes());
    digest.copy_from_slice(hash(name, body).as_bytes());
    seal
}

fn trailer(name: &str, bytes: &[u8]) -> Trailer {
    let contains_magic = || bytes.windows(MAGIC.len()).any(|window| window == MAGIC);
    let Some(body) = bytes.len().checked_sub(SEAL_BYTES) else {
        return if contains_magic() { Trailer::Wrong("was cut short: its seal is not whole") } else { Trailer::Absent };
    };
    let (magic, rest) = bytes[body..].split_at(MAGIC.len());
    let (version, digest) = rest.split_at(size_of::<u32>());
    let fits = digest == hash(name, &bytes[..body]).as_bytes();
    match (magic == MAGIC, version == VERSION.to_le_bytes(), fits) {
        (true, true, true) => Trailer::Whole(body),
        (true, true, false) => Trailer::Wrong("does not fit its seal: it was changed, or lies under another's name"),
        (true, false, false) => Trailer::Wrong("has a seal of a version that this muster does not know"),
        // One bit of a seal is wrong, or a few: it was one.
        (_, _, true) => Trailer::Wrong("has a seal that was changed"),
        (false, ..) if wrong_bits(magic) <= MAGIC_WRONG_BITS_MAX => Trailer::Wrong("has a seal that was changed"),
        (false, ..) if contains_magic() => Trailer::Wrong("was cut short or has grown: its seal is not at its end"),
        (false, ..) => Trailer::Absent,
    }
}

fn wrong_bits(magic: &[u8]) -> u32 {
    magic.iter().zip(MAGIC).map(|(found, right)| (found ^ right).count_ones()).sum()
}

/// The name of the object before this one, of those that are numbered: `manifest/00000000000000000007.manifest`.
fn predecessor(location: &Path) -> Option<Path> {
    let text = location.as_ref();
    let (folder, name) = text.rsplit_once('/')?;
    let (digits, extension) = name.split_once('.')?;
    let before = digits.parse::<u64>().ok()?.checked_sub(1)?;
    let width = digits.len();
    Path::parse(format!("{folder}/{before:0width$}.{extension}")).ok()
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: STORE, source: Box::new(source) }
}

/// Asking again gives the same bytes.
fn refuse(location: &Path, what: &'static str) -> Error {
    generic(NonRetryable(Box::new(Unsound { location: location.clone(), what })))
}

/// The store of one control state, with the seals of its small objects put on and taken off.
#[derive(Clone, Debug)]
pub struct Sealed {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Sealed {
    /// `prefix` is what the control state lies below. Objects beside it pass as they are.
    pub fn new(inner: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { inner, prefix }
    }

    /// The name that goes into the seal, of an object that has one.
    fn name(&self, location: &Path) -> Option<String> {
        let parts: Vec<_> = location.prefix_match(&self.prefix)?.collect();
        let name = parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/");
        (!name.is_empty() && location.extension() != Some("sst")).then_some(name)
    }

    /// The bytes of a small object, as they lie there, and all that the store says of it.
    async fn whole(&self, location: &Path, mut options: GetOptions) -> Result<(GetResult, Bytes)> {
        options.range = None;
        options.head = false;
        let got = self.inner.get_opts(location, options).await?;
        let (meta, range) = (got.meta.clone(), got.range.clone());
        let (attributes, extensions) = (got.attributes.clone(), got.extensions.clone());
        let bytes = got.bytes().await?;
        let payload = GetResultPayload::Stream(futures::stream::empty().boxed());
        Ok((GetResult { payload, meta, range, attributes, extensions }, bytes))
    }

    /// An object without a seal was written by an older muster, and then so was the one before it: that muster wrote
    /// several each time. Alone after one that has a seal, it has lost its own.
    async fn allow_unsealed(&self, location: &Path) -> Result<()> {
        let Some((before, name)) = predecessor(location).and_then(|path| Some((path.clone(), self.name(&path)?)))
        else {
            return Ok(());
        };
        match self.whole(&before, GetOptions::default()).await {
            Ok((_, bytes)) if trailer(&name, &bytes) == Trailer::Absent => Ok(()),
            Ok(_) => Err(refuse(
                location,
                "has lost its seal, which the one before it has (if a muster older than seals wrote it, open the vault \
                 with that one once more)",
            )),
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The body of a small object, once it is known to be what was written.
    async fn opened(&self, location: &Path, name: &str, options: GetOptions) -> Result<(GetResult, Bytes)> {
        let (got, bytes) = self.whole(location, options).await?;
        match trailer(name, &bytes) {
            Trailer::Whole(body) => Ok((got, bytes.slice(..body))),
            Trailer::Wrong(what) => Err(refuse(location, what)),
            Trailer::Absent => {
                self.allow_unsealed(location).await?;
                Ok((got, bytes))
            }
        }
    }
}

fn not_for_sealed(operation: &'static str) -> Error {
    Error::NotSupported { source: format!("{operation} of an object with a seal").into() }
}

#[async_trait]
impl ObjectStore for Sealed {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let Some(name) = self.name(location) else { return self.inner.put_opts(location, payload, options).await };
        let body = Bytes::from(payload);
        let seal = Bytes::copy_from_slice(&seal(&name, &body));
        self.inner.put_opts(location, [body, seal].into_iter().collect(), options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.name(location) {
            None => self.inner.put_multipart_opts(location, options).await,
            Some(_) => Err(not_for_sealed("an upload in parts")),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(name) = self.name(location) else { return self.inner.get_opts(location, options).await };
        let (range, head) = (options.range.clone(), options.head);
        let (mut got, body) = self.opened(location, &name, options).await?;
        let size = body.len() as u64;
        got.meta.size = size;
        got.range = match &range {
            Some(range) => range.as_range(size).map_err(generic)?,
            None => 0..size,
        };
        if !head {
            let part = slice(&body, &got.range);
            got.payload = GetResultPayload::Stream(futures::stream::once(async move { Ok(part) }).boxed());
        }
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let Some(name) = self.name(location) else { return self.inner.get_ranges(location, ranges).await };
        let (_, body) = self.opened(location, &name, GetOptions::default()).await?;
        let part = |range: &Range<u64>| {
            let range = object_store::GetRange::Bounded(range.clone()).as_range(body.len() as u64).map_err(generic)?;
            Ok(slice(&body, &range))
        };
        ranges.iter().map(part).collect()
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match (self.name(from), self.name(to)) {
            (None, None) => self.inner.copy_opts(from, to, options).await,
            // A seal holds for one name.
            _ => Err(not_for_sealed("a copy")),
        }
    }
}

/// Within the bytes, since it was made for their length.
fn slice(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let clamped = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(clamped(range.start)..clamped(range.end))
}
