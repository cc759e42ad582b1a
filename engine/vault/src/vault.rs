//! A vault that has been opened with one of its keys.

use crate::cache::Cache;
use crate::cipher::lineage_of;
use crate::error::{SegmentPart, VaultError};
use crate::keys::DataKey;
use crate::layout::{self, FOOTER_BYTES, HEADER_BYTES, Segment};
use crate::patience::Patience;
use crate::place::Place;
use crate::probe::probe;
use crate::replica::{Replica, SegmentCache};
use crate::slot::{self, SlotInfo, slot_name};
use crate::writer::SegmentWriter;
use crate::{FORMAT_VERSION, INDEX_CACHE_BYTES, KeySource};
use bytes::Bytes;
use muster_ports::{Epoch, LineageId, Random, ReplicaImage, SegmentRef, SystemRandom, WriterId};
use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

const VAULT_FILE: &str = "vault.json";
/// Key slots a vault can have: people and machines that may open it, each with its own key.
const SLOTS_MAX: usize = 64;
/// Bytes read from the end of a segment at once: index and footer of most segments.
const TAIL_BYTES: u64 = 64 << 10;

/// 16 random bytes, shown in hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VaultId(pub(crate) [u8; 16]);

impl fmt::Display for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultId({self})")
    }
}

impl VaultId {
    fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

/// The first thing read. `format` comes first in meaning: a newer one may say everything else differently.
#[derive(Debug, Serialize, Deserialize)]
struct VaultFile {
    format: u16,
    id: String,
}

/// What `vault info` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultInfo {
    pub url: String,
    pub id: String,
    pub format: u16,
    pub slots: Vec<SlotInfo>,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vault {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    place: Place,
    id: VaultId,
    key: DataKey,
    random: Arc<dyn Random>,
    indexes: Mutex<SegmentCache>,
}

impl Vault {
    /// Makes a vault with one key slot. Losing every key of a vault loses the vault.
    pub async fn init(url: &str, key: &KeySource, random: &dyn Random) -> Result<Self, VaultError> {
        Self::init_at(Place::open(url, true)?, key, random).await
    }

    pub async fn open(url: &str, key: &KeySource) -> Result<Self, VaultError> {
        Self::open_at(Place::open(url, false)?, key).await
    }

    /// Like [`Vault::init`], in a place that is already open.
    pub async fn init_at(place: Place, key: &KeySource, random: &dyn Random) -> Result<Self, VaultError> {
        let file = place.path(VAULT_FILE)?;
        let exists = || VaultError::VaultExists { url: place.url().to_owned() };
        if place.read_with(Patience::FirstContact, &file).await?.is_some() {
            return Err(exists());
        }
        let mut id = VaultId([0; 16]);
        random.fill(&mut id.0);
        probe(&place, id).await?;
        let data = DataKey::generate(random);
        // The slot first: a vault that exists can be opened. Whoever loses the race for `vault.json` takes its slot away.
        let slot = Bytes::from(slot::wrap(key, "", &data, id, random)?);
        let Some(number) = store_slot(&place, slot).await? else {
            return Err(VaultError::DamagedObject {
                object: "keys".to_owned(),
                reason: format!("it holds {SLOTS_MAX} slots, but there is no {VAULT_FILE}"),
            });
        };
        let text = format!("{{\"format\":{FORMAT_VERSION},\"id\":\"{id}\"}}\n");
        if !place.create(&file, Bytes::from(text)).await? {
            delete_slot(&place, number).await?;
            return Err(exists());
        }
        Ok(Self::opened(place, id, data))
    }

    /// Like [`Vault::open`], in a place that is already open.
    pub async fn open_at(place: Place, key: &KeySource) -> Result<Self, VaultError> {
        let id = read_id(&place).await?;
        let slots = read_slots(&place).await?;
        let data = unwrap(key, slots, id, place.url()).await?;
        Ok(Self::opened(place, id, data))
    }

    fn opened(place: Place, id: VaultId, key: DataKey) -> Self {
        let indexes = Mutex::new(Cache::new(INDEX_CACHE_BYTES));
        Self { inner: Arc::new(Inner { place, id, key, random: Arc::new(SystemRandom), indexes }) }
    }

    /// Draws the names and salts of segments from `random` instead of the system's generator, so that a simulation can
    /// be repeated. The same numbers twice would make the same names, which the store refuses.
    pub fn with_random(self, random: Arc<dyn Random>) -> Self {
        let Inner { place, id, key, .. } = &*self.inner;
        let indexes = Mutex::new(Cache::new(INDEX_CACHE_BYTES));
        Self { inner: Arc::new(Inner { place: place.clone(), id: *id, key: key.clone(), random, indexes }) }
    }

    /// The same vault, whose segments are written to another place and travel from there. Its control objects stay where
    /// they are.
    pub fn writing_to(&self, place: Place) -> Self {
        let Inner { id, key, random, .. } = &*self.inner;
        let indexes = Mutex::new(Cache::new(INDEX_CACHE_BYTES));
        Self { inner: Arc::new(Inner { place, id: *id, key: key.clone(), random: random.clone(), indexes }) }
    }

    pub fn url(&self) -> &str {
        self.inner.place.url()
    }
    pub fn id(&self) -> VaultId {
        self.inner.id
    }
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        self.inner.place.object_store()
    }
    /// For the control state; see [`Place::control_store`].
    pub fn control_store(&self) -> Arc<dyn ObjectStore> {
        self.inner.place.control_store()
    }
    pub fn prefix(&self) -> &Path {
        self.inner.place.prefix()
    }
    pub fn place(&self) -> &Place {
        &self.inner.place
    }
    pub(crate) fn random(&self) -> &dyn Random {
        &*self.inner.random
    }
    pub(crate) fn data_key(&self) -> &DataKey {
        &self.inner.key
    }

    pub async fn info(&self) -> Result<VaultInfo, VaultError> {
        let slots = self.slots().await?;
        Ok(VaultInfo { url: self.url().to_owned(), id: self.id().to_string(), format: FORMAT_VERSION, slots })
    }

    /// The slots of this vault by number, and those whose owner cannot be told because they are damaged.
    pub async fn slots(&self) -> Result<Vec<SlotInfo>, VaultError> {
        let mut slots = Vec::new();
        for (number, bytes) in read_slots(&self.inner.place).await? {
            match slot::slot_info(number, &bytes) {
                Ok((vault, slot)) if vault == self.inner.id => slots.push(slot),
                Ok(_) => {}
                Err(error) => {
                    let kind = "damaged".to_owned();
                    slots.push(SlotInfo { number, kind, label: error.to_string(), usable: false });
                }
            }
        }
        Ok(slots)
    }

    /// Lets another key open this vault; no data is rewritten. `label` says whose it is, and is not secret.
    pub async fn add_slot(&self, key: &KeySource, label: &str) -> Result<u32, VaultError> {
        let slot = slot::wrap(key, label, self.data_key(), self.id(), self.random())?;
        let full = VaultError::SlotsFull { limit: SLOTS_MAX };
        store_slot(&self.inner.place, Bytes::from(slot)).await?.ok_or(full)
    }

    /// Takes a slot away. Its key opens the vault no more, but who had it may have copied the data key: what they could
    /// read they can read on, should they still reach the store. Never takes the last one.
    pub async fn revoke_slot(&self, number: u32) -> Result<SlotInfo, VaultError> {
        let slots = self.slots().await?;
        let Some(found) = slots.iter().find(|slot| slot.number == number) else {
            return Err(VaultError::NoSuchSlot { slot: slot_name(number) });
        };
        let last = || VaultError::LastSlot { slot: slot_name(number) };
        let others = |slots: &[SlotInfo]| slots.iter().any(|slot| slot.usable && slot.number != number);
        if !others(&slots) {
            return Err(last());
        }
        let place = &self.inner.place;
        let kept = read_slots(place).await?.into_iter().find(|(other, _)| *other == number);
        delete_slot(place, number).await?;
        // Two people may have taken away each other's at the same moment.
        if !others(&self.slots().await?) {
            if let Some((_, bytes)) = kept {
                store_slot(place, Bytes::from(bytes)).await?;
            }
            return Err(last());
        }
        Ok(found.clone())
    }

    /// Writes the segments of one disk in one cycle. `compression` is a zstd level.
    pub fn segment_writer(
        &self,
        lineage: &LineageId,
        epoch: Epoch,
        writer: &WriterId,
        compression: i32,
    ) -> SegmentWriter {
        SegmentWriter::new(self.clone(), lineage, epoch, writer, compression)
    }

    /// A disk at a point. Reads nothing yet.
    pub fn replica(&self, image: &ReplicaImage) -> Replica {
        Replica::new(self.clone(), image.clone())
    }

    /// The opened index of a segment, from the cache or the store.
    pub(crate) async fn segment(&self, reference: &SegmentRef) -> Result<Arc<Segment>, VaultError> {
        if let Some(known) = self.indexes().get(&reference.name) {
            return Ok(known);
        }
        let segment = Arc::new(self.read_segment(reference).await?);
        debug_assert_eq!(segment.lineage, lineage_of(&reference.name));
        self.indexes().insert(reference.name.clone(), segment.clone(), segment.weight());
        Ok(segment)
    }

    fn indexes(&self) -> std::sync::MutexGuard<'_, SegmentCache> {
        // Nothing panics while it is held; were it poisoned, the cache would still be whole.
        self.inner.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_segment(&self, reference: &SegmentRef) -> Result<Segment, VaultError> {
        let (name, place) = (&reference.name, &self.inner.place);
        let size = place.head(name).await?.size;
        if size != reference.stored_bytes || size < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            let expected = reference.stored_bytes;
            return Err(VaultError::Truncated { segment: name.clone(), found: size, expected });
        }
        let short = |part| VaultError::Damaged { segment: name.clone(), part, reason: "is too short".to_owned() };
        let tail_from = size.saturating_sub(TAIL_BYTES);
        let tail = place.read_range(name, tail_from..size).await?;
        let header = match tail_from {
            0 => tail.slice(..HEADER_BYTES),
            _ => place.read_range(name, 0..HEADER_BYTES as u64).await?,
        };
        let header = header.as_ref().try_into().map_err(|_| short(SegmentPart::Header))?;
        layout::parse_header(name, header, self.inner.id)?;
        let footer = tail.last_chunk::<FOOTER_BYTES>().ok_or_else(|| short(SegmentPart::Footer))?;
        let footer = layout::parse_footer(name, *footer, size)?;
        let index_end = footer.index_offset + footer.index_length;
        let sealed = match footer.index_offset.checked_sub(tail_from) {
            // Within the tail: it reaches from `tail_from` to the end of the object, and the index ends before that.
            Some(begin) => tail.slice(begin as usize..(index_end - tail_from) as usize).to_vec(),
            None => Vec::from(place.read_range(name, footer.index_offset..index_end).await?),
        };
        Segment::open(name, &self.inner.key, self.inner.id, header, &footer, sealed)
    }
}

async fn read_id(place: &Place) -> Result<VaultId, VaultError> {
    let path = place.path(VAULT_FILE)?;
    let bytes = place
        .read_with(Patience::FirstContact, &path)
        .await?
        .ok_or_else(|| VaultError::NoVault { url: place.url().to_owned() })?;
    let damaged = |reason: String| VaultError::DamagedObject { object: VAULT_FILE.to_owned(), reason };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if let Some(found) = format.filter(|format| *format > u64::from(FORMAT_VERSION)) {
        let found = u16::try_from(found).unwrap_or(u16::MAX);
        return Err(VaultError::NewerFormat { object: VAULT_FILE.to_owned(), found, known: FORMAT_VERSION });
    }
    let file: VaultFile = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
    if file.format == 0 {
        return Err(damaged("format 0 does not exist".to_owned()));
    }
    VaultId::parse(&file.id).ok_or_else(|| damaged("its id is not 32 hex digits".to_owned()))
}

/// All slots by number, with their bytes.
async fn read_slots(place: &Place) -> Result<Vec<(u32, Vec<u8>)>, VaultError> {
    let mut slots = Vec::new();
    for object in place.list("keys").await? {
        let Some(number) = object.location.filename().and_then(|name| name.strip_suffix(".slot")?.parse::<u32>().ok())
        else {
            continue;
        };
        if let Some(bytes) = place.read(&object.location).await? {
            slots.push((number, bytes.to_vec()));
        }
    }
    slots.sort_by_key(|(number, _)| *number);
    slots.truncate(SLOTS_MAX);
    Ok(slots)
}

/// Under the first free number; `None` when there is none.
async fn store_slot(place: &Place, slot: Bytes) -> Result<Option<u32>, VaultError> {
    for number in 1..=SLOTS_MAX as u32 {
        if place.create(&place.path(&slot_name(number))?, slot.clone()).await? {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

async fn delete_slot(place: &Place, number: u32) -> Result<(), VaultError> {
    place.delete(&place.path(&slot_name(number))?).await.map(drop)
}

/// Off the runtime's threads when a passphrase is stretched: one for each of its slots.
async fn unwrap(key: &KeySource, slots: Vec<(u32, Vec<u8>)>, id: VaultId, url: &str) -> Result<DataKey, VaultError> {
    if !matches!(key, KeySource::Passphrase(_)) {
        return slot::unwrap(key, &slots, id, url);
    }
    let (key, url) = (key.clone(), url.to_owned());
    let opened = tokio::task::spawn_blocking(move || slot::unwrap(&key, &slots, id, &url)).await;
    opened.map_err(|error| VaultError::Stopped(error.to_string()))?
}
