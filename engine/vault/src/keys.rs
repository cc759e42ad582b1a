//! Keys: one data key per vault, wrapped by any number of slots.
//!
//! Key material lives in `Zeroizing` memory, has no `Debug` that shows it, and never enters an error.

use crate::cipher::{TAG_BYTES, derive, open_in_place, seal_in_place};
use crate::error::VaultError;
use crate::{FORMAT_VERSION, VaultId};
use muster_ports::Random;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

pub(crate) const KEY_BYTES: usize = 32;
/// A key file is 64 hex digits and a newline; anything longer is another file.
const KEY_FILE_BYTES_MAX: u64 = 256;

const SLOT_MAGIC: &[u8; 8] = b"MUSTSLOT";
const SLOT_HEADER_BYTES: usize = 8 + 2 + 1 + 1 + 16 + 32 + 2;
const SLOT_NONCE_BYTES: usize = 12;
/// Parameters of a slot kind, in bytes. Bounds what a reader accepts.
const SLOT_PARAMETERS_MAX: usize = 1024;
const SLOT_KEY_INFO: &[u8] = b"muster slot key file v1";

/// Where the key to a vault comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with 32 random bytes in hex, mode 0600.
    File(PathBuf),
}

/// The kinds a slot can have. A number, once given, keeps its meaning; 2 is set aside for a passphrase (Argon2id).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotKind {
    KeyFile = 1,
}

/// A slot as it can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    pub name: String,
    pub kind: String,
}

#[derive(Clone)]
pub(crate) struct DataKey(pub(crate) Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

impl DataKey {
    pub(crate) fn generate(random: &dyn Random) -> Self {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        random.fill(&mut *key);
        Self(key)
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "in `{}`", path.display()),
        }
    }
}

impl KeySource {
    /// Makes a new key file, readable by its owner only. Never replaces a file.
    pub fn generate_file(path: &Path, random: &dyn Random) -> Result<Self, VaultError> {
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::AlreadyExists => VaultError::KeyFileExists { path: path.to_owned() },
            _ => VaultError::KeyFile { path: path.to_owned(), source },
        };
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        random.fill(&mut *key);
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES + 1));
        for byte in key.iter() {
            for digit in [byte >> 4, byte & 0xf] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        text.push('\n');
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(Self::File(path.to_owned()))
    }

    fn read(&self) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
        let Self::File(path) = self;
        let bad = |reason: &str| VaultError::BadKeyFile { path: path.clone(), reason: reason.to_owned() };
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound => VaultError::MissingKeyFile { path: path.clone() },
            _ => VaultError::KeyFile { path: path.clone(), source },
        };
        let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX as usize + 1));
        let file = std::fs::File::open(path).map_err(failed)?;
        only_its_owners(path, &file)?;
        file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        let digits = text.trim_ascii();
        if digits.len() != 2 * KEY_BYTES {
            return Err(bad("it does not hold 64 hex digits"));
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(bad("it holds something else than hex digits"));
            };
            *byte = high << 4 | low;
        }
        Ok(key)
    }

    /// Wraps the data key for this source: the bytes of a slot object.
    pub(crate) fn wrap(&self, data: &DataKey, vault: VaultId, random: &dyn Random) -> Result<Vec<u8>, VaultError> {
        let key = self.read()?;
        let (mut salt, mut nonce) = ([0; 32], [0; SLOT_NONCE_BYTES]);
        random.fill(&mut salt);
        random.fill(&mut nonce);
        let mut slot = Vec::with_capacity(SLOT_HEADER_BYTES + SLOT_NONCE_BYTES + KEY_BYTES + TAG_BYTES);
        slot.extend_from_slice(SLOT_MAGIC);
        slot.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        slot.extend_from_slice(&[SlotKind::KeyFile as u8, 0]);
        slot.extend_from_slice(&vault.0);
        slot.extend_from_slice(&salt);
        slot.extend_from_slice(&0u16.to_le_bytes());
        let mut wrapped = Zeroizing::new(*data.0);
        let wrapping = derive(&*key, &salt, &[SLOT_KEY_INFO]);
        let tag = seal_in_place(&wrapping, &nonce, &slot, &mut *wrapped).map_err(|()| VaultError::DamagedObject {
            object: "a new key slot".to_owned(),
            reason: "its key could not be wrapped".to_owned(),
        })?;
        slot.extend_from_slice(&nonce);
        slot.extend_from_slice(&*wrapped);
        slot.extend_from_slice(&tag);
        Ok(slot)
    }

    /// Tries the slots in turn. Slots of another vault id are left-overs of an `init` that lost, and are passed over.
    pub(crate) fn unwrap(&self, slots: &[(String, Vec<u8>)], vault: VaultId, url: &str) -> Result<DataKey, VaultError> {
        let key = self.read()?;
        let mut tried = Vec::new();
        for (name, bytes) in slots {
            let slot = Slot::parse(name, bytes)?;
            if slot.vault != vault || slot.kind != SlotKind::KeyFile as u8 {
                continue;
            }
            tried.push(format!("`{name}`"));
            let wrapping = derive(&*key, slot.salt, &[SLOT_KEY_INFO]);
            let mut data = Zeroizing::new(slot.wrapped);
            if open_in_place(&wrapping, &slot.nonce, slot.header, &mut *data, &slot.tag).is_ok() {
                return Ok(DataKey(data));
            }
        }
        if tried.is_empty() {
            return Err(VaultError::NoSlots { vault: vault.to_string(), url: url.to_owned() });
        }
        Err(VaultError::WrongKey {
            vault: vault.to_string(),
            url: url.to_owned(),
            key: self.to_string(),
            slots: tried.join(", "),
        })
    }
}

/// Whoever else can read the key can read every disk of every machine, and whoever can write it can shut its owner out.
#[cfg(unix)]
fn only_its_owners(path: &Path, file: &std::fs::File) -> Result<(), VaultError> {
    use std::os::unix::fs::PermissionsExt;
    const OTHERS: u32 = 0o077;
    // Of the open file, so that nothing can be put in its place between the look and the reading.
    let metadata = file.metadata().map_err(|source| VaultError::KeyFile { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & OTHERS != 0 {
        return Err(VaultError::LooseKeyFile { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn only_its_owners(_path: &Path, _file: &std::fs::File) -> Result<(), VaultError> {
    Ok(())
}

struct Slot<'a> {
    header: &'a [u8],
    kind: u8,
    vault: VaultId,
    salt: &'a [u8],
    nonce: [u8; SLOT_NONCE_BYTES],
    wrapped: [u8; KEY_BYTES],
    tag: [u8; TAG_BYTES],
}

impl<'a> Slot<'a> {
    fn parse(name: &str, bytes: &'a [u8]) -> Result<Self, VaultError> {
        let damaged = |reason: &str| VaultError::DamagedObject { object: name.to_owned(), reason: reason.to_owned() };
        let short = || damaged("it is too short for a key slot");
        if bytes.get(..8) != Some(SLOT_MAGIC) {
            return Err(damaged("it is not a key slot"));
        }
        let format = u16::from_le_bytes(take(bytes, 8).ok_or_else(short)?);
        if format > FORMAT_VERSION {
            return Err(VaultError::NewerFormat { object: name.to_owned(), found: format, known: FORMAT_VERSION });
        }
        let parameters = usize::from(u16::from_le_bytes(take(bytes, SLOT_HEADER_BYTES - 2).ok_or_else(short)?));
        if parameters > SLOT_PARAMETERS_MAX {
            return Err(damaged("its parameters are too long"));
        }
        let body = SLOT_HEADER_BYTES + parameters;
        let slot = Self {
            header: bytes.get(..body).ok_or_else(short)?,
            kind: take::<1>(bytes, 10).ok_or_else(short)?[0],
            vault: VaultId(take(bytes, 12).ok_or_else(short)?),
            salt: bytes.get(28..60).ok_or_else(short)?,
            nonce: take(bytes, body).ok_or_else(short)?,
            wrapped: take(bytes, body + SLOT_NONCE_BYTES).ok_or_else(short)?,
            tag: take(bytes, body + SLOT_NONCE_BYTES + KEY_BYTES).ok_or_else(short)?,
        };
        if bytes.len() != body + SLOT_NONCE_BYTES + KEY_BYTES + TAG_BYTES {
            return Err(damaged("it has bytes behind its end"));
        }
        Ok(slot)
    }
}

/// `N` bytes at `at`, if they are there.
pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// What a slot says about itself without any key.
pub(crate) fn slot_info(name: &str, bytes: &[u8]) -> Result<(VaultId, SlotInfo), VaultError> {
    let slot = Slot::parse(name, bytes)?;
    let kind = match slot.kind {
        1 => "key file".to_owned(),
        other => format!("kind {other}, not known to this muster"),
    };
    Ok((slot.vault, SlotInfo { name: name.to_owned(), kind }))
}
