//! The bytes of a segment: header, index entries, footer. See `FORMAT.md`; nothing here does I/O.

use crate::cipher::{FrameAddress, SALT_BYTES, SegmentCipher, TAG_BYTES, lineage_of};
use crate::error::{SegmentPart, VaultError};
use crate::frame::{Compression, unpack};
use crate::keys::DataKey;
use crate::{FORMAT_VERSION, FRAME_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_ENTRIES_MAX, VaultId};
use muster_ports::{LineageId, SegmentName};

const HEADER_MAGIC: &[u8; 8] = b"MUSTSEGM";
const FOOTER_MAGIC: &[u8; 8] = b"MUSTENDS";
/// AES-256-GCM with zstd frames: the only suite so far.
const SUITE: u8 = 1;
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const FOOTER_BYTES: usize = 32;
const DATA_ENTRY_BYTES: usize = 64;
const ZERO_ENTRY_BYTES: usize = 24;
const KIND_ZERO: u8 = 0;
const KIND_DATA: u8 = 1;
/// The largest sealed index: every entry is a frame.
pub(crate) const INDEX_BYTES_MAX: usize = SEGMENT_ENTRIES_MAX * DATA_ENTRY_BYTES + TAG_BYTES;

/// One line of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Zero { offset: u64, length: u64 },
    Data(DataEntry),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataEntry {
    pub(crate) number: u32,
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) compression: Compression,
    /// Where the ciphertext begins in the object.
    pub(crate) stored_offset: u64,
    /// Bytes of ciphertext, without the tag that follows them.
    pub(crate) stored_length: u32,
    pub(crate) hash: [u8; 32],
}

impl DataEntry {
    pub(crate) fn address(&self) -> FrameAddress {
        FrameAddress { number: self.number, offset: self.offset, length: self.length, compression: self.compression }
    }
    /// What a message calls it.
    pub(crate) fn part(&self) -> SegmentPart {
        SegmentPart::Frame { number: self.number, offset: self.offset }
    }
    /// The range of the object with ciphertext and tag.
    pub(crate) fn stored_range(&self) -> std::ops::Range<u64> {
        self.stored_offset..self.stored_offset + u64::from(self.stored_length) + TAG_BYTES as u64
    }
}

pub(crate) fn header(vault: VaultId, salt: &[u8; SALT_BYTES]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(HEADER_MAGIC);
    header[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[10] = SUITE;
    header[16..32].copy_from_slice(&vault.0);
    header[32..64].copy_from_slice(salt);
    header
}

pub(crate) fn footer(index_offset: u64, index_length: u64, entries: u32, frames: u32) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    footer[..8].copy_from_slice(&index_offset.to_le_bytes());
    footer[8..16].copy_from_slice(&index_length.to_le_bytes());
    footer[16..20].copy_from_slice(&entries.to_le_bytes());
    footer[20..24].copy_from_slice(&frames.to_le_bytes());
    footer[24..].copy_from_slice(FOOTER_MAGIC);
    footer
}

pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    match entry {
        Entry::Zero { .. } => ZERO_ENTRY_BYTES,
        Entry::Data(_) => DATA_ENTRY_BYTES,
    }
}

pub(crate) fn encode_index(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.iter().map(entry_bytes).sum::<usize>() + TAG_BYTES);
    for entry in entries {
        match entry {
            Entry::Zero { offset, length } => {
                bytes.extend_from_slice(&[KIND_ZERO, 0, 0, 0, 0, 0, 0, 0]);
                bytes.extend_from_slice(&offset.to_le_bytes());
                bytes.extend_from_slice(&length.to_le_bytes());
            }
            Entry::Data(data) => {
                bytes.extend_from_slice(&[KIND_DATA, data.compression as u8, 0, 0]);
                bytes.extend_from_slice(&data.number.to_le_bytes());
                bytes.extend_from_slice(&data.offset.to_le_bytes());
                bytes.extend_from_slice(&data.length.to_le_bytes());
                bytes.extend_from_slice(&data.stored_length.to_le_bytes());
                bytes.extend_from_slice(&data.stored_offset.to_le_bytes());
                bytes.extend_from_slice(&data.hash);
            }
        }
    }
    bytes
}

/// Where the index of a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) bytes: [u8; FOOTER_BYTES],
    pub(crate) index_offset: u64,
    pub(crate) index_length: u64,
    entries: u32,
    frames: u32,
}

/// A segment whose index has been opened.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) lineage: LineageId,
    cipher: SegmentCipher,
    pub(crate) entries: Vec<Entry>,
}

fn damaged(segment: &SegmentName, part: SegmentPart, reason: &str) -> VaultError {
    VaultError::Damaged { segment: segment.clone(), part, reason: reason.to_owned() }
}

/// Checks the header of a segment and gives its salt.
pub(crate) fn parse_header(
    name: &SegmentName,
    header: &[u8; HEADER_BYTES],
    vault: VaultId,
) -> Result<[u8; SALT_BYTES], VaultError> {
    let wrong = |reason| damaged(name, SegmentPart::Header, reason);
    let format = u16::from_le_bytes([header[8], header[9]]);
    if &header[..8] != HEADER_MAGIC {
        return Err(wrong("does not begin like a segment"));
    }
    if format > FORMAT_VERSION {
        return Err(VaultError::NewerFormat { object: name.to_string(), found: format, known: FORMAT_VERSION });
    }
    if format == 0 || header[10] != SUITE || header[11..16] != [0; 5] {
        return Err(wrong("names a format that does not exist"));
    }
    if header[16..32] != vault.0 {
        return Err(wrong("names another vault"));
    }
    take(header, 32).ok_or_else(|| wrong("is too short"))
}

pub(crate) fn parse_footer(name: &SegmentName, bytes: [u8; FOOTER_BYTES], size: u64) -> Result<Footer, VaultError> {
    let wrong = |reason| damaged(name, SegmentPart::Footer, reason);
    let number = |at| take(&bytes, at).map(u64::from_le_bytes).unwrap_or_default();
    let count = |at| take(&bytes, at).map(u32::from_le_bytes).unwrap_or_default();
    if &bytes[24..] != FOOTER_MAGIC {
        return Err(wrong("does not end like a segment"));
    }
    let footer =
        Footer { bytes, index_offset: number(0), index_length: number(8), entries: count(16), frames: count(20) };
    let end = footer.index_offset.checked_add(footer.index_length);
    if footer.index_offset < HEADER_BYTES as u64
        || footer.index_length > INDEX_BYTES_MAX as u64
        || footer.index_length < TAG_BYTES as u64
        || end.and_then(|end| end.checked_add(FOOTER_BYTES as u64)) != Some(size)
        || size > SEGMENT_BYTES_MAX as u64
    {
        return Err(wrong("gives the index a place that cannot be"));
    }
    Ok(footer)
}

impl Segment {
    /// Opens and checks an index. `sealed` is the sealed index with its tag.
    pub(crate) fn open(
        name: &SegmentName,
        data_key: &DataKey,
        vault: VaultId,
        header: &[u8; HEADER_BYTES],
        footer: &Footer,
        mut sealed: Vec<u8>,
    ) -> Result<Self, VaultError> {
        let wrong = |reason| damaged(name, SegmentPart::Index, reason);
        let salt = parse_header(name, header, vault)?;
        let cipher = SegmentCipher::new(data_key, &salt, name);
        let body = sealed.len().checked_sub(TAG_BYTES).ok_or_else(|| wrong("is too short"))?;
        let tag = take(&sealed, body).ok_or_else(|| wrong("is too short"))?;
        sealed.truncate(body);
        cipher.open_index(header, &footer.bytes, &mut sealed, &tag).map_err(|()| {
            wrong("does not open: it, the header or the footer was changed, or the object was renamed")
        })?;
        let entries = decode_index(&sealed, footer).map_err(wrong)?;
        Ok(Self { name: name.clone(), lineage: lineage_of(name), cipher, entries })
    }

    /// Memory it takes, roughly.
    pub(crate) fn weight(&self) -> usize {
        512 + self.entries.len() * size_of::<Entry>()
    }

    /// Opens one frame. `sealed` is ciphertext and tag.
    pub(crate) fn open_frame(&self, entry: &DataEntry, mut sealed: Vec<u8>) -> Result<Vec<u8>, VaultError> {
        let mut plain = vec![0; entry.length as usize];
        self.open_frame_into(entry, &mut sealed, &mut plain)?;
        Ok(plain)
    }

    /// Opens one frame in place and unpacks it into `plain`, which is as long as the frame's range of disk. When this
    /// fails, what `plain` holds is nothing.
    pub(crate) fn open_frame_into(
        &self,
        entry: &DataEntry,
        sealed: &mut [u8],
        plain: &mut [u8],
    ) -> Result<(), VaultError> {
        let wrong = |reason: &str| damaged(&self.name, entry.part(), reason);
        let body = self.unseal(entry, sealed)?;
        unpack(body, entry.compression, plain).map_err(|reason| wrong(&reason))?;
        if *blake3::hash(plain).as_bytes() != entry.hash {
            return Err(wrong("opens, but its content does not match its BLAKE3"));
        }
        Ok(())
    }

    /// Opens one frame in place and leaves it packed.
    pub(crate) fn unseal<'a>(&self, entry: &DataEntry, sealed: &'a mut [u8]) -> Result<&'a [u8], VaultError> {
        let wrong = |reason: &str| damaged(&self.name, entry.part(), reason);
        let (body, tag) =
            sealed.split_at_mut_checked(entry.stored_length as usize).ok_or_else(|| wrong("is too short"))?;
        let tag: &[u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| wrong("is too short"))?;
        self.cipher
            .open_frame(&entry.address(), body, tag)
            .map_err(|()| wrong("does not open: its bytes were changed or moved"))?;
        Ok(body)
    }
}

fn decode_index(bytes: &[u8], footer: &Footer) -> Result<Vec<Entry>, &'static str> {
    const SHORT: &str = "ends in the middle of an entry";
    let mut entries = Vec::with_capacity((footer.entries as usize).min(SEGMENT_ENTRIES_MAX));
    let (mut rest, mut frames, mut stored_end) = (bytes, 0u32, HEADER_BYTES as u64);
    while let Some(kind) = rest.first() {
        let size = match *kind {
            KIND_ZERO => ZERO_ENTRY_BYTES,
            KIND_DATA => DATA_ENTRY_BYTES,
            _ => return Err("has an entry of an unknown kind"),
        };
        let (entry, next) = rest.split_at_checked(size).ok_or(SHORT)?;
        rest = next;
        let offset = take(entry, 8).map(u64::from_le_bytes).ok_or(SHORT)?;
        if *kind == KIND_ZERO {
            let length = take(entry, 16).map(u64::from_le_bytes).ok_or(SHORT)?;
            offset.checked_add(length).ok_or("has an extent beyond any disk")?;
            entries.push(Entry::Zero { offset, length });
            continue;
        }
        let data = DataEntry {
            number: take(entry, 4).map(u32::from_le_bytes).ok_or(SHORT)?,
            offset,
            length: take(entry, 16).map(u32::from_le_bytes).ok_or(SHORT)?,
            compression: Compression::from_byte(entry[1]).ok_or("names an unknown compression")?,
            stored_length: take(entry, 20).map(u32::from_le_bytes).ok_or(SHORT)?,
            stored_offset: take(entry, 24).map(u64::from_le_bytes).ok_or(SHORT)?,
            hash: take(entry, 32).ok_or(SHORT)?,
        };
        let fits = data.length as usize <= FRAME_BYTES_MAX
            && data.length > 0
            && data.stored_length <= data.length
            && data.number == frames
            && data.stored_offset == stored_end
            && offset.checked_add(u64::from(data.length)).is_some();
        if !fits || data.stored_range().end > footer.index_offset {
            return Err("has an entry whose numbers do not fit together");
        }
        stored_end = data.stored_range().end;
        frames += 1;
        entries.push(Entry::Data(data));
    }
    if entries.len() != footer.entries as usize || frames != footer.frames || stored_end != footer.index_offset {
        return Err("does not match the footer");
    }
    Ok(entries)
}

/// `N` bytes at `at`, if they are there.
pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
