//! Writes segments: frames in the order they come, one object at a time.

use crate::cipher::{FrameAddress, SALT_BYTES, SegmentCipher, TAG_BYTES};
use crate::error::{SegmentPart, VaultError};
use crate::frame::{Compression, Frame, Packer};
use crate::layout::{self, DataEntry, Entry, FOOTER_BYTES, HEADER_BYTES};
use crate::place::Place;
use crate::vault::Vault;
use crate::{FRAME_BYTES_MAX, SEGMENT_BYTES, SEGMENT_BYTES_MAX, SEGMENT_ENTRIES_MAX};
use bytes::Bytes;
use muster_ports::{Epoch, LineageId, SegmentName, SegmentRef, WriterId};
use tokio::task::JoinSet;

/// Bytes of disk in one frame when the caller gives longer data.
const FRAME_BYTES: usize = 256 << 10;
/// Characters of a writer's name that go into a segment's name; uniqueness comes from the session number behind it.
const WRITER_CHARS_MAX: usize = 64;

/// Writes the segments of one disk in one cycle. Nothing it stored counts until a committed point names it, so it may
/// be dropped at any moment; what it left is an orphan.
#[derive(Debug)]
pub struct SegmentWriter {
    vault: Vault,
    /// `<lineage>/<epoch>-<writer>-<session>`: drawn at random, so that no two writers ever make the same name.
    stem: String,
    compression: i32,
    packer: Option<Packer>,
    /// The memory of the last frame that was packed here.
    spare: Vec<u8>,
    segment_bytes: usize,
    sequence: u32,
    open: Option<OpenSegment>,
    stored: Vec<SegmentRef>,
    /// At most one object is on its way while the next is filled.
    upload: JoinSet<Result<Uploaded, VaultError>>,
    /// The memory of the last object that was stored.
    stored_buffer: Option<Vec<u8>>,
}

/// What was stored, and its memory when nobody else holds it.
type Uploaded = (SegmentRef, Option<Vec<u8>>);

struct OpenSegment {
    name: SegmentName,
    cipher: SegmentCipher,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    index_bytes: usize,
    frames: u32,
}

impl std::fmt::Debug for OpenSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenSegment").field("name", &self.name).field("bytes", &self.bytes.len()).finish()
    }
}

impl SegmentWriter {
    pub(crate) fn new(vault: Vault, lineage: &LineageId, epoch: Epoch, writer: &WriterId, compression: i32) -> Self {
        let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '_' };
        let writer: String = writer.as_str().chars().map(safe).take(WRITER_CHARS_MAX).collect();
        let session = vault.random().next_u64();
        Self {
            stem: format!("{lineage}/{epoch}-{writer}-{session:016x}"),
            vault,
            compression,
            packer: None,
            spare: Vec::new(),
            segment_bytes: SEGMENT_BYTES,
            sequence: 0,
            open: None,
            stored: Vec::new(),
            upload: JoinSet::new(),
            stored_buffer: None,
        }
    }

    /// Begins a new object at `bytes` instead of `SEGMENT_BYTES`; never above `SEGMENT_BYTES_MAX`.
    pub fn with_segment_bytes(mut self, bytes: usize) -> Self {
        // Room for one frame, its entry and the ends, so that every frame fits some segment.
        let least = HEADER_BYTES + FOOTER_BYTES + 1024;
        self.segment_bytes = bytes.clamp(least, SEGMENT_BYTES_MAX - 2 * FRAME_BYTES_MAX);
        self
    }

    /// The content of the disk from `offset` on. Compresses in place; see [`SegmentWriter::append`] to do that elsewhere.
    pub async fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), VaultError> {
        let mut at = offset;
        for part in data.chunks(FRAME_BYTES) {
            let packer = match &mut self.packer {
                Some(packer) => packer,
                none => none.insert(Packer::new(self.compression)?),
            };
            let frame = packer.pack_into(part, std::mem::take(&mut self.spare))?;
            self.append(at, &frame).await?;
            self.spare = frame.into_buffer();
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Seals a packed frame into the segment.
    pub async fn append(&mut self, offset: u64, frame: &Frame) -> Result<(), VaultError> {
        let length = frame.length();
        self.check_range(offset, length)?;
        self.make_room(frame.stored.len() + TAG_BYTES).await?;
        let open = self.opened()?;
        let address =
            FrameAddress { number: open.frames, offset, length: frame.length, compression: frame.compression };
        let begin = open.bytes.len();
        open.bytes.extend_from_slice(&frame.stored);
        let sealed = open.cipher.seal_frame(&address, &mut open.bytes[begin..]);
        let tag = sealed.map_err(|()| unsealable(&open.name, SegmentPart::Frame { number: open.frames, offset }))?;
        open.bytes.extend_from_slice(&tag);
        open.push(Entry::Data(DataEntry {
            number: address.number,
            offset,
            length: frame.length,
            compression: frame.compression,
            stored_offset: begin as u64,
            // Bounded by FRAME_BYTES_MAX.
            stored_length: frame.stored.len() as u32,
            hash: frame.hash,
        }));
        open.frames += 1;
        Ok(())
    }

    /// The disk reads as zeroes there; covers what older segments hold.
    pub async fn zero(&mut self, offset: u64, length: u64) -> Result<(), VaultError> {
        self.check_range(offset, length)?;
        if length == 0 {
            return Ok(());
        }
        if let Some(Entry::Zero { offset: last, length: so_far }) =
            self.open.as_mut().and_then(|open| open.entries.last_mut())
            && *last + *so_far == offset
        {
            *so_far += length;
            return Ok(());
        }
        self.make_room(0).await?;
        self.opened()?.push(Entry::Zero { offset, length });
        Ok(())
    }

    /// Bytes in objects that are stored, on their way or being filled.
    pub fn stored_bytes(&self) -> u64 {
        let filling = self.open.as_ref().map_or(0, |open| open.bytes.len() as u64);
        self.stored.iter().map(|segment| segment.stored_bytes).sum::<u64>() + filling
    }

    /// Returns once every segment is durable; in the order they were written. Empty when nothing was.
    pub async fn finish(mut self) -> Result<Vec<SegmentRef>, VaultError> {
        self.close_segment().await?;
        self.await_upload().await?;
        Ok(std::mem::take(&mut self.stored))
    }

    fn check_range(&self, offset: u64, length: u64) -> Result<(), VaultError> {
        match offset.checked_add(length) {
            Some(_) => Ok(()),
            None => Err(VaultError::OutOfRange { offset, end: u64::MAX, size: u64::MAX }),
        }
    }

    /// Closes the open segment when `bytes` more and one more entry would take it over its limits.
    async fn make_room(&mut self, bytes: usize) -> Result<(), VaultError> {
        let full = self.open.as_ref().is_some_and(|open| {
            let grown = open.bytes.len() + bytes + open.index_bytes + 64 + TAG_BYTES + FOOTER_BYTES;
            !open.entries.is_empty() && (grown > self.segment_bytes || open.entries.len() >= SEGMENT_ENTRIES_MAX)
        });
        if full { self.close_segment().await } else { Ok(()) }
    }

    fn opened(&mut self) -> Result<&mut OpenSegment, VaultError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let name = SegmentName::new(format!("{}-{:06}.seg", self.stem, self.sequence));
                // Refused here, before anything is sealed for a name that no store takes.
                self.vault.place().segment_path(&name)?;
                self.sequence += 1;
                let mut salt = [0; SALT_BYTES];
                self.vault.random().fill(&mut salt);
                let mut bytes = self.stored_buffer.take().unwrap_or_default();
                bytes.clear();
                bytes.extend_from_slice(&layout::header(self.vault.id(), &salt));
                OpenSegment {
                    cipher: SegmentCipher::new(self.vault.data_key(), &salt, &name),
                    bytes,
                    name,
                    entries: Vec::new(),
                    index_bytes: 0,
                    frames: 0,
                }
            }
        };
        Ok(self.open.insert(open))
    }

    async fn close_segment(&mut self) -> Result<(), VaultError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let (name, bytes) = open.seal()?;
        self.await_upload().await?;
        let place = self.vault.place().clone();
        self.upload.spawn(async move { store(&place, name, bytes).await });
        Ok(())
    }

    async fn await_upload(&mut self) -> Result<(), VaultError> {
        while let Some(done) = self.upload.join_next().await {
            let (stored, buffer) = done.map_err(|error| VaultError::Stopped(error.to_string()))??;
            self.stored.push(stored);
            self.stored_buffer = buffer;
        }
        Ok(())
    }
}

fn unsealable(segment: &SegmentName, part: SegmentPart) -> VaultError {
    VaultError::Damaged { segment: segment.clone(), part, reason: "is too large to be sealed".to_owned() }
}

impl OpenSegment {
    fn push(&mut self, entry: Entry) {
        self.index_bytes += layout::entry_bytes(&entry);
        self.entries.push(entry);
    }

    /// Index and footer: the whole object.
    fn seal(mut self) -> Result<(SegmentName, Vec<u8>), VaultError> {
        let mut index = layout::encode_index(&self.entries);
        let index_offset = self.bytes.len() as u64;
        let index_length = (index.len() + TAG_BYTES) as u64;
        // Bounded by SEGMENT_ENTRIES_MAX.
        let footer = layout::footer(index_offset, index_length, self.entries.len() as u32, self.frames);
        let sealed = self.cipher.seal_index(&self.bytes[..HEADER_BYTES], &footer, &mut index);
        let tag = sealed.map_err(|()| unsealable(&self.name, SegmentPart::Index))?;
        self.bytes.extend_from_slice(&index);
        self.bytes.extend_from_slice(&tag);
        self.bytes.extend_from_slice(&footer);
        Ok((self.name, self.bytes))
    }
}

/// Gives the memory back, unless the store still holds it.
async fn store(place: &Place, name: SegmentName, bytes: Vec<u8>) -> Result<(SegmentRef, Option<Vec<u8>>), VaultError> {
    let path = place.segment_path(&name)?;
    let bytes = Bytes::from(bytes);
    let hash = blake3::hash(&bytes);
    let reference = SegmentRef { name, stored_bytes: bytes.len() as u64, hash: hash.to_hex().to_string() };
    if !place.create(&path, bytes.clone()).await? {
        // A put that was tried again may find its own first attempt.
        let found = place.read(&path).await?.unwrap_or_default();
        if blake3::hash(&found) != hash {
            return Err(VaultError::NameTaken { segment: reference.name });
        }
    }
    tracing::debug!(segment = %reference.name, bytes = reference.stored_bytes, "segment stored");
    Ok((reference, bytes.is_unique().then(|| Vec::from(bytes))))
}

const _: () = assert!(Compression::Raw as u8 == 0, "the numbers are part of the format");
