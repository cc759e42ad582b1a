//! What can go wrong with a vault, and what the person in front of it can do.

use muster_ports::{Failure, FailureClass, SegmentName};
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Where in a segment something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentPart {
    Whole,
    Header,
    Footer,
    Index,
    /// `number` counts frames from 0; `offset` is the byte of disk it begins at.
    Frame {
        number: u32,
        offset: u64,
    },
}

impl fmt::Display for SegmentPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("its bytes"),
            Self::Header => f.write_str("its header"),
            Self::Footer => f.write_str("its footer"),
            Self::Index => f.write_str("its index"),
            Self::Frame { number, offset } => write!(f, "its frame {number} (disk offset {offset})"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("`{url}` is not a vault URL: {reason}")]
    BadUrl { url: String, reason: String },
    #[error("the settings of the store at `{url}` do not go together")]
    UnsupportedUrl { url: String, source: object_store::Error },
    #[error("there is no vault at `{url}`")]
    NoVault { url: String },
    #[error("there already is a vault at `{url}`")]
    VaultExists { url: String },
    #[error("the key file `{path}` is missing")]
    MissingKeyFile { path: PathBuf },
    #[error("the key file `{path}` is not usable: {reason}")]
    BadKeyFile { path: PathBuf, reason: String },
    #[error("the key file `{path}` is open to other users (mode {mode:04o}): it is not used")]
    LooseKeyFile { path: PathBuf, mode: u32 },
    #[error("the key file `{path}` already exists and is not replaced")]
    KeyFileExists { path: PathBuf },
    #[error("the environment variable `{name}` should hold the vault key, and is not set")]
    MissingKeyVariable { name: String },
    #[error("the environment variable `{name}` is no vault key: {reason}")]
    BadKeyVariable { name: String, reason: String },
    #[error("a passphrase of fewer than {least} characters can be guessed: it is not used")]
    ShortPassphrase { least: usize },
    #[error("a label has at most {limit} bytes, on one line")]
    BadLabel { limit: usize },
    #[error("there is no key slot `{slot}`")]
    NoSuchSlot { slot: String },
    #[error("`{slot}` is the vault's last key slot: it stays")]
    LastSlot { slot: String },
    #[error("the vault has {limit} key slots, and takes no more")]
    SlotsFull { limit: usize },
    #[error("the key file `{path}` cannot be used")]
    KeyFile { path: PathBuf, source: std::io::Error },
    #[error("the key {key} does not open vault {vault} at `{url}`; slots tried: {slots}")]
    WrongKey { vault: String, url: String, key: String, slots: String },
    #[error("vault {vault} at `{url}` has no key slot left")]
    NoSlots { vault: String, url: String },
    #[error("`{object}` has format version {found}, and this muster knows versions up to {known}")]
    NewerFormat { object: String, found: u16, known: u16 },
    #[error("`{object}` does not read as what it should be: {reason}")]
    DamagedObject { object: String, reason: String },
    #[error("segment `{segment}` is damaged: {part} {reason}")]
    Damaged { segment: SegmentName, part: SegmentPart, reason: String },
    #[error("segment `{segment}` has {found} bytes where {expected} were stored")]
    Truncated { segment: SegmentName, found: u64, expected: u64 },
    #[error("segment `{segment}` is missing at `{url}`")]
    MissingSegment { segment: SegmentName, url: String },
    #[error("the vault at `{url}` is full: `{object}` could not be stored")]
    Full { url: String, object: String },
    #[error("segment `{segment}` is already there with other bytes")]
    NameTaken { segment: SegmentName },
    #[error("`{name}` cannot be part of an object's name: {reason}")]
    BadName { name: String, reason: String },
    #[error("a replica of {segments} segments has more than {limit} pieces")]
    TooFragmented { segments: usize, limit: usize },
    #[error("bytes {offset} to {end} do not lie on a disk of {size} bytes")]
    OutOfRange { offset: u64, end: u64, size: u64 },
    #[error("cannot compress with zstd level {level}")]
    Compression { level: i32, source: std::io::Error },
    #[error("the settings in `{path}` cannot be used: {reason}")]
    BadSettings { path: PathBuf, reason: String },
    #[error("the store at `{url}` would be reached without TLS at `{host}`, which is another machine")]
    PlainHttp { url: String, host: String },
    #[error("there is no bucket or container for `{url}`")]
    NoBucket { url: String },
    #[error("there are no credentials for the store at `{url}`")]
    NoCredentials { url: String },
    #[error("the store at `{url}` refuses `{object}`: {said}")]
    Rejected { url: String, object: String, said: String },
    #[error("the store at `{url}` says that the clock of this machine is wrong")]
    ClockSkew { url: String },
    #[error("the bucket of `{url}` is of another region: {said}")]
    WrongRegion { url: String, said: String },
    #[error("the store at `{url}` does not create objects on condition: {reason}")]
    Unconditional { url: String, reason: String },
    #[error("the store at `{url}` keeps `{object}`: {said}")]
    KeptByStore { url: String, object: String, said: String },
    #[error("nobody answers at the store of `{url}`")]
    Unreachable { url: String, source: object_store::Error },
    #[error("the vault at `{url}` cannot be used (`{object}`)")]
    Store { url: String, object: String, source: object_store::Error },
    #[error("work on the vault was cut off: {0}")]
    Stopped(String),
}

impl VaultError {
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            Self::BadUrl { .. } => {
                "a local folder is written `file:///absolute/path`, a bucket `s3://bucket/prefix` or `gs://bucket/prefix`, a \
                 container `az://account/container/prefix`"
            }
            Self::UnsupportedUrl { .. } => {
                "look at the settings in the environment; the book's page on stores names them"
            }
            Self::BadSettings { .. } => "it holds lines `NAME=value` and has mode 0600",
            Self::PlainHttp { .. } => {
                "use an `https` endpoint; where the network itself is sealed, set AWS_ALLOW_HTTP=true (AZURE_ALLOW_HTTP)"
            }
            Self::NoBucket { .. } => "check the name, or make it with the provider's tools: muster makes no buckets",
            Self::NoCredentials { .. } => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_ACCOUNT_KEY or \
                 GOOGLE_APPLICATION_CREDENTIALS, in the environment or in the file that MUSTER_STORE_FILE names"
            }
            Self::Rejected { .. } => {
                "check the credentials, and that they may list, read, create and delete below the vault's prefix"
            }
            Self::ClockSkew { .. } => "set the clock (`timedatectl`): requests are signed with the time",
            Self::WrongRegion { .. } => "name it: `?region=…` at the end of the URL, or AWS_REGION",
            Self::Unconditional { .. } => {
                "two writers could overwrite each other there: use a store that honours `If-None-Match` on put"
            }
            Self::KeptByStore { .. } => {
                "a hold or retention of the bucket itself keeps it; it can go when that has ended"
            }
            Self::Unreachable { .. } => "check the URL's host or endpoint, the network and that the store runs",
            Self::NoVault { .. } => "check the URL, or make a vault there with `muster vault init`",
            Self::VaultExists { .. } => "use it as it is, or choose another URL; a vault is never overwritten",
            Self::MissingKeyFile { .. } => {
                "give the path of the key file that was made with the vault; without any of its keys a vault cannot be read"
            }
            Self::BadKeyFile { .. } => "a key file holds 64 hex digits; restore it from your copy",
            Self::LooseKeyFile { .. } => {
                "`chmod 600` it; if others may have read it, treat the vault's contents as known to them"
            }
            Self::KeyFileExists { .. } => "use that file, or name another one; a key may be the only one to a vault",
            Self::KeyFile { .. } => "check the path and its permissions",
            Self::MissingKeyVariable { .. } | Self::BadKeyVariable { .. } => {
                "set it to the 64 hex digits of a key file of this vault, or name a key file"
            }
            Self::ShortPassphrase { .. } => "take several words that do not belong together",
            Self::BadLabel { .. } => "a name and a place are enough: `anna, safe in Ulm`",
            Self::NoSuchSlot { .. } => "`muster vault key list` shows the slots",
            Self::LastSlot { .. } => "add another key first: without any slot nobody can ever read the vault",
            Self::SlotsFull { .. } => "revoke one that is not needed any more",
            Self::WrongKey { .. } => "give the key that belongs to this vault id: a key file, or the passphrase",
            Self::NoSlots { .. } => {
                "restore the `keys` folder of the vault from a copy; without it the data cannot be read"
            }
            Self::NewerFormat { .. } => "use the newer muster that wrote it",
            Self::DamagedObject { .. } => "restore this object from a copy of the vault",
            Self::Damaged { .. } | Self::Truncated { .. } | Self::MissingSegment { .. } => {
                "points that name this segment cannot be trusted: restore the object from a copy of the vault, or recover \
                 from a point that does not name it, then resync the disk"
            }
            Self::Full { .. } => {
                "committed points are intact; free space or let go of old points (`muster vault gc`), then go on: the \
                 cycle is repeated"
            }
            Self::NameTaken { .. } => "nothing was overwritten; run the cycle again, it draws a new name",
            Self::BadName { .. } => "names of lineages take letters, digits, `.`, `_`, `-` and `/`",
            Self::TooFragmented { .. } => "take a new full copy of the disk, so that the chain begins anew",
            Self::Store { .. } => "check that the store can be reached and written",
            Self::OutOfRange { .. } | Self::Compression { .. } | Self::Stopped(_) => return None,
        })
    }

    /// Whether it says something about the store, or the way to it, and nothing about what lies there.
    pub fn is_of_the_store(&self) -> bool {
        matches!(
            self,
            Self::Store { .. }
                | Self::Stopped(_)
                | Self::Unreachable { .. }
                | Self::Rejected { .. }
                | Self::NoBucket { .. }
                | Self::NoCredentials { .. }
                | Self::ClockSkew { .. }
                | Self::WrongRegion { .. }
                | Self::Unconditional { .. }
                | Self::KeptByStore { .. }
                | Self::Full { .. }
        )
    }

    /// The segment that is damaged.
    pub fn segment(&self) -> Option<&SegmentName> {
        match self {
            Self::Damaged { segment, .. } | Self::Truncated { segment, .. } | Self::MissingSegment { segment, .. } => {
                Some(segment)
            }
            _ => None,
        }
    }

    pub fn class(&self) -> FailureClass {
        match self {
            Self::Damaged { .. }
            | Self::Truncated { .. }
            | Self::MissingSegment { .. }
            | Self::DamagedObject { .. } => FailureClass::Diverged,
            Self::VaultExists { .. }
            | Self::WrongKey { .. }
            | Self::KeyFileExists { .. }
            | Self::ShortPassphrase { .. }
            | Self::LastSlot { .. }
            | Self::LooseKeyFile { .. }
            | Self::Unconditional { .. }
            | Self::KeptByStore { .. }
            | Self::PlainHttp { .. } => FailureClass::Refused,
            Self::NameTaken { .. } | Self::Stopped(_) | Self::Unreachable { .. } => FailureClass::Transient,
            Self::Store { source, .. } => match io_kind(source) {
                Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory) => {
                    FailureClass::Permanent
                }
                _ => match source {
                    object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                        FailureClass::Permanent
                    }
                    _ => FailureClass::Transient,
                },
            },
            _ => FailureClass::Permanent,
        }
    }
}

/// The kind of the operating system's error below an object store's, if there is one.
pub(crate) fn io_kind(error: &object_store::Error) -> Option<ErrorKind> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        next = current.source();
    }
    None
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        use std::error::Error as _;
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(current) = cause {
            let text = current.to_string();
            // Object stores repeat their source in their own text.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = current.source();
        }
        let failure = Failure::new(error.class(), message);
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}
