//! Where keys come from: key files, the environment, passphrases. What they open is a slot (`slot.rs`).
//!
//! Key material lives in `Zeroizing` memory, has no `Debug` that shows it, and never enters an error.

use crate::error::VaultError;
use muster_ports::Random;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

pub(crate) const KEY_BYTES: usize = 32;
/// A key file is 64 hex digits and a newline; anything longer is another file.
const KEY_FILE_BYTES_MAX: u64 = 256;
/// Room for a long sentence; a longer file is not a passphrase.
const PASSPHRASE_FILE_BYTES_MAX: u64 = 4096;
/// Characters of a new passphrase: with 64 MiB of Argon2id for each guess, twelve that are not a word from a list are
/// out of reach.
const PASSPHRASE_CHARACTERS_MIN: usize = 12;

/// Where the key to a vault comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with 32 random bytes in hex, mode 0600.
    File(PathBuf),
    /// The same 64 hex digits in an environment variable of this name.
    Environment(String),
    /// Words that a person knows, stretched with Argon2id.
    Passphrase(Passphrase),
}

/// A passphrase. Does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Arc<Zeroizing<String>>);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

impl Passphrase {
    pub fn new(words: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(words.into())))
    }

    /// The first line of a file that only its owner can read.
    pub fn from_file(path: &Path) -> Result<Self, VaultError> {
        let bad = |reason: &str| VaultError::BadKeyFile { path: path.to_owned(), reason: reason.to_owned() };
        let text = read_secret_file(path, PASSPHRASE_FILE_BYTES_MAX)?;
        let text = std::str::from_utf8(&text).map_err(|_| bad("it is not text"))?;
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(Self::new(line)),
            _ => Err(bad("its first line is empty")),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// What a source gives: a key to use as it is, or words to be stretched.
pub(crate) enum Secret {
    Key(Zeroizing<[u8; KEY_BYTES]>),
    Passphrase(Passphrase),
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
            Self::Environment(name) => write!(f, "in the environment variable `{name}`"),
            Self::Passphrase(_) => f.write_str("of this passphrase"),
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

    /// Refuses a passphrase that could be guessed; for new slots only, never for opening.
    pub(crate) fn fit_for_a_new_slot(&self) -> Result<(), VaultError> {
        match self {
            Self::Passphrase(words) if words.0.chars().count() < PASSPHRASE_CHARACTERS_MIN => {
                Err(VaultError::ShortPassphrase { least: PASSPHRASE_CHARACTERS_MIN })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn secret(&self) -> Result<Secret, VaultError> {
        match self {
            Self::Passphrase(words) => Ok(Secret::Passphrase(words.clone())),
            Self::File(path) => {
                let text = read_secret_file(path, KEY_FILE_BYTES_MAX)?;
                let bad = |reason: &str| VaultError::BadKeyFile { path: path.clone(), reason: reason.to_owned() };
                key_of_hex(&text).map(Secret::Key).map_err(bad)
            }
            Self::Environment(name) => {
                let Some(text) = std::env::var_os(name).filter(|text| !text.is_empty()) else {
                    return Err(VaultError::MissingKeyVariable { name: name.clone() });
                };
                let text = Zeroizing::new(text.into_encoded_bytes());
                let bad = |reason: &str| VaultError::BadKeyVariable { name: name.clone(), reason: reason.to_owned() };
                key_of_hex(&text).map(Secret::Key).map_err(bad)
            }
        }
    }
}

fn key_of_hex(text: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, &'static str> {
    let digits = text.trim_ascii();
    if digits.len() != 2 * KEY_BYTES {
        return Err("it does not hold 64 hex digits");
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
            return Err("it holds something else than hex digits");
        };
        *byte = high << 4 | low;
    }
    Ok(key)
}

/// At most `limit` bytes and one more, so that the caller sees what is too long.
fn read_secret_file(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => VaultError::MissingKeyFile { path: path.to_owned() },
        _ => VaultError::KeyFile { path: path.to_owned(), source },
    };
    let mut text = Zeroizing::new(Vec::with_capacity(limit as usize + 1));
    let file = std::fs::File::open(path).map_err(failed)?;
    only_its_owners(path, &file)?;
    file.take(limit + 1).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
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
