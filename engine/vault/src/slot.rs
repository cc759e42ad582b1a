//! Key slots: one data key per vault, wrapped by any number of slots (`FORMAT.md`, "Key slots").

use crate::cipher::{TAG_BYTES, derive, open_in_place, seal_in_place};
use crate::error::VaultError;
use crate::keys::{DataKey, KEY_BYTES, KeySource, Passphrase, Secret};
use crate::layout::take;
use crate::{FORMAT_VERSION, VaultId};
use muster_ports::Random;
use zeroize::Zeroizing;

const SLOT_MAGIC: &[u8; 8] = b"MUSTSLOT";
const SLOT_HEADER_BYTES: usize = 8 + 2 + 1 + 1 + 16 + 32 + 2;
const SLOT_NONCE_BYTES: usize = 12;
/// Parameters of a slot, in bytes. Bounds what a reader accepts.
const SLOT_PARAMETERS_MAX: usize = 1024;
/// A label, in bytes of UTF-8.
const LABEL_BYTES_MAX: usize = 128;
const SLOT_KEY_INFO: &[u8] = b"muster slot key file v1";

/// The kinds a slot can have. A number, once given, keeps its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotKind {
    /// 32 random bytes, from a file or the environment.
    Key = 1,
    /// Argon2id of a passphrase.
    Passphrase = 2,
}

/// A slot as it can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// The number in its name, `keys/<number>.slot`.
    pub number: u32,
    pub kind: String,
    /// Whose it is, in the words of whoever added it.
    pub label: String,
    /// Not damaged, and of a kind that this muster knows.
    pub usable: bool,
}

/// Cost of stretching a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Stretch {
    /// The second recommended option of RFC 9106, section 4: 64 MiB, for where 2 GiB are too much.
    const NEW: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 4 };
    /// What a slot may make a reader spend: 1 GiB and a few seconds.
    const MAX: Self = Self { memory_kib: 1 << 20, passes: 16, lanes: 16 };
    const BYTES: usize = 12;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (place, number) in bytes.chunks_exact_mut(4).zip([self.memory_kib, self.passes, self.lanes]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |at| take(bytes, at).map(u32::from_le_bytes);
        let stretch = Self { memory_kib: number(0)?, passes: number(4)?, lanes: number(8)? };
        let within = |value, max| (1..=max).contains(&value);
        let sound = within(stretch.memory_kib, Self::MAX.memory_kib)
            && within(stretch.passes, Self::MAX.passes)
            && within(stretch.lanes, Self::MAX.lanes)
            && stretch.memory_kib >= 8 * stretch.lanes;
        sound.then_some(stretch)
    }

    /// Argon2id, version 0x13 (RFC 9106).
    fn key(self, words: &Passphrase, salt: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        let params = argon2::Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_BYTES)).ok()?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .hash_password_into(words.bytes(), salt, &mut *key)
            .ok()?;
        Some(key)
    }
}

/// Wraps the data key for this source: the bytes of a slot object.
pub(crate) fn wrap(
    key: &KeySource,
    label: &str,
    data: &DataKey,
    vault: VaultId,
    random: &dyn Random,
) -> Result<Vec<u8>, VaultError> {
    key.fit_for_a_new_slot()?;
    if label.len() > LABEL_BYTES_MAX || label.chars().any(char::is_control) {
        return Err(VaultError::BadLabel { limit: LABEL_BYTES_MAX });
    }
    let secret = key.secret()?;
    let (mut salt, mut nonce) = ([0; 32], [0; SLOT_NONCE_BYTES]);
    random.fill(&mut salt);
    random.fill(&mut nonce);
    let (kind, mut parameters) = match &secret {
        Secret::Key(_) => (SlotKind::Key, Vec::new()),
        Secret::Passphrase(_) => (SlotKind::Passphrase, Stretch::NEW.to_bytes().to_vec()),
    };
    parameters.extend_from_slice(label.as_bytes());
    let mut slot = Vec::with_capacity(SLOT_HEADER_BYTES + parameters.len() + SLOT_NONCE_BYTES + KEY_BYTES + TAG_BYTES);
    slot.extend_from_slice(SLOT_MAGIC);
    slot.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    slot.extend_from_slice(&[kind as u8, 0]);
    slot.extend_from_slice(&vault.0);
    slot.extend_from_slice(&salt);
    // At most twelve bytes and a label.
    slot.extend_from_slice(&(parameters.len() as u16).to_le_bytes());
    slot.extend_from_slice(&parameters);
    let failed = || VaultError::DamagedObject {
        object: "a new key slot".to_owned(),
        reason: "its key could not be wrapped".to_owned(),
    };
    let wrapping = match &secret {
        Secret::Key(key) => derive(&**key, &salt, &[SLOT_KEY_INFO]),
        Secret::Passphrase(words) => Stretch::NEW.key(words, &salt).ok_or_else(failed)?,
    };
    let mut wrapped = Zeroizing::new(*data.0);
    let tag = seal_in_place(&wrapping, &nonce, &slot, &mut *wrapped).map_err(|()| failed())?;
    slot.extend_from_slice(&nonce);
    slot.extend_from_slice(&*wrapped);
    slot.extend_from_slice(&tag);
    Ok(slot)
}

/// Tries the slots in turn. Slots of another vault id are left-overs of an `init` that lost, and are passed over, and so
/// are those of kinds which this key cannot open, and damaged ones: those are named when no other opens. A passphrase
/// costs its stretching once for each of its slots.
pub(crate) fn unwrap(
    key: &KeySource,
    slots: &[(u32, Vec<u8>)],
    vault: VaultId,
    url: &str,
) -> Result<DataKey, VaultError> {
    let secret = key.secret()?;
    let mut tried = Vec::new();
    let mut any = false;
    let mut fault = None;
    for (number, bytes) in slots {
        let slot = match Slot::parse(*number, bytes) {
            Ok(slot) if slot.vault == vault => slot,
            Ok(_) => continue,
            Err(error) => {
                fault.get_or_insert(error);
                continue;
            }
        };
        any = true;
        let wrapping = match (&secret, SlotKind::of(slot.kind)) {
            (Secret::Key(key), Some(SlotKind::Key)) => derive(&**key, slot.salt, &[SLOT_KEY_INFO]),
            (Secret::Passphrase(words), Some(SlotKind::Passphrase)) => {
                let stretched = Stretch::parse(slot.parameters).and_then(|stretch| stretch.key(words, slot.salt));
                let Some(wrapping) = stretched else {
                    fault.get_or_insert(slot_damaged(*number, "it asks for a stretching beyond all limits"));
                    continue;
                };
                wrapping
            }
            _ => continue,
        };
        tried.push(format!("`{}`", slot_name(*number)));
        let mut data = Zeroizing::new(slot.wrapped);
        if open_in_place(&wrapping, &slot.nonce, slot.header, &mut *data, &slot.tag).is_ok() {
            return Ok(DataKey(data));
        }
    }
    if let Some(fault) = fault {
        return Err(fault);
    }
    if !any {
        return Err(VaultError::NoSlots { vault: vault.to_string(), url: url.to_owned() });
    }
    if tried.is_empty() {
        tried.push("none is of its kind".to_owned());
    }
    Err(VaultError::WrongKey {
        vault: vault.to_string(),
        url: url.to_owned(),
        key: key.to_string(),
        slots: tried.join(", "),
    })
}

pub(crate) fn slot_name(number: u32) -> String {
    format!("keys/{number}.slot")
}

fn slot_damaged(number: u32, reason: &str) -> VaultError {
    VaultError::DamagedObject { object: slot_name(number), reason: reason.to_owned() }
}

impl SlotKind {
    fn of(number: u8) -> Option<Self> {
        [Self::Key, Self::Passphrase].into_iter().find(|kind| *kind as u8 == number)
    }
}

struct Slot<'a> {
    header: &'a [u8],
    kind: u8,
    vault: VaultId,
    salt: &'a [u8],
    parameters: &'a [u8],
    nonce: [u8; SLOT_NONCE_BYTES],
    wrapped: [u8; KEY_BYTES],
    tag: [u8; TAG_BYTES],
}

impl<'a> Slot<'a> {
    fn parse(number: u32, bytes: &'a [u8]) -> Result<Self, VaultError> {
        let damaged = |reason: &str| slot_damaged(number, reason);
        let short = || damaged("it is too short for a key slot");
        if bytes.get(..8) != Some(SLOT_MAGIC) {
            return Err(damaged("it is not a key slot"));
        }
        let format = u16::from_le_bytes(take(bytes, 8).ok_or_else(short)?);
        if format > FORMAT_VERSION {
            return Err(VaultError::NewerFormat { object: slot_name(number), found: format, known: FORMAT_VERSION });
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
            parameters: bytes.get(SLOT_HEADER_BYTES..body).ok_or_else(short)?,
            nonce: take(bytes, body).ok_or_else(short)?,
            wrapped: take(bytes, body + SLOT_NONCE_BYTES).ok_or_else(short)?,
            tag: take(bytes, body + SLOT_NONCE_BYTES + KEY_BYTES).ok_or_else(short)?,
        };
        if bytes.len() != body + SLOT_NONCE_BYTES + KEY_BYTES + TAG_BYTES {
            return Err(damaged("it has bytes behind its end"));
        }
        Ok(slot)
    }

    fn label(&self) -> String {
        let bytes = match SlotKind::of(self.kind) {
            Some(SlotKind::Key) => self.parameters,
            Some(SlotKind::Passphrase) => self.parameters.get(Stretch::BYTES..).unwrap_or_default(),
            None => &[],
        };
        // It is shown before anybody has proved it with a key.
        String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect()
    }
}

/// What a slot says about itself without any key.
pub(crate) fn slot_info(number: u32, bytes: &[u8]) -> Result<(VaultId, SlotInfo), VaultError> {
    let slot = Slot::parse(number, bytes)?;
    let kind = match SlotKind::of(slot.kind) {
        Some(SlotKind::Key) => "key".to_owned(),
        Some(SlotKind::Passphrase) => "passphrase".to_owned(),
        None => format!("kind {}, not known to this muster", slot.kind),
    };
    let usable = SlotKind::of(slot.kind).is_some();
    Ok((slot.vault, SlotInfo { number, kind, label: slot.label(), usable }))
}
