//! Sealing: HKDF-SHA-256 for keys, AES-256-GCM in place, and what each seal is bound to.
//!
//! Every segment has a key of its own, derived from the vault's data key, 32 random bytes in the segment's header and its
//! name. So the nonce can simply be the frame's number: a pair of key and nonce never comes twice, not even when a name
//! is used again after an orphan was deleted.

use crate::FORMAT_VERSION;
use crate::frame::Compression;
use crate::keys::{DataKey, KEY_BYTES};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use muster_ports::{LineageId, SegmentName};
use std::fmt;
use zeroize::Zeroizing;

pub(crate) const TAG_BYTES: usize = 16;
pub(crate) const SALT_BYTES: usize = 32;
const SEGMENT_KEY_INFO: &[u8] = b"muster segment key v1";
/// The nonce of a segment's index; frames count up from 0 and can never reach it.
const INDEX_NONCE: u64 = u64::MAX;

const SEALED_FRAME: u8 = 1;
const SEALED_INDEX: u8 = 2;

pub(crate) fn derive(key: &[u8], salt: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut derived = Zeroizing::new([0; KEY_BYTES]);
    let expanded = hkdf::Hkdf::<sha2::Sha256>::new(Some(salt), key).expand_multi_info(info, &mut *derived);
    debug_assert!(expanded.is_ok(), "32 bytes are one block of SHA-256");
    derived
}

pub(crate) fn seal_in_place(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; 12],
    bound_to: &[u8],
    data: &mut [u8],
) -> Result<[u8; TAG_BYTES], ()> {
    seal(&Aes256Gcm::new(key.into()), nonce, bound_to, data)
}

pub(crate) fn open_in_place(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; 12],
    bound_to: &[u8],
    data: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), ()> {
    open(&Aes256Gcm::new(key.into()), nonce, bound_to, data, tag)
}

fn seal(cipher: &Aes256Gcm, nonce: &[u8; 12], bound_to: &[u8], data: &mut [u8]) -> Result<[u8; TAG_BYTES], ()> {
    let nonce: &Nonce<_> = nonce.into();
    cipher.encrypt_inout_detached(nonce, bound_to, data.into()).map(Into::into).map_err(|_| ())
}

fn open(
    cipher: &Aes256Gcm,
    nonce: &[u8; 12],
    bound_to: &[u8],
    data: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), ()> {
    let (nonce, tag): (&Nonce<_>, &Tag) = (nonce.into(), tag.into());
    cipher.decrypt_inout_detached(nonce, bound_to, data.into(), tag).map_err(|_| ())
}

/// What a frame is bound to besides its segment: opened anywhere else, it does not open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameAddress {
    pub(crate) number: u32,
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) compression: Compression,
}

/// Seals and opens the parts of one segment.
pub(crate) struct SegmentCipher {
    cipher: Aes256Gcm,
    /// Format version, lineage and name: the part of the associated data that all seals of the segment share.
    identity: Vec<u8>,
}

impl fmt::Debug for SegmentCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SegmentCipher(..)")
    }
}

impl SegmentCipher {
    pub(crate) fn new(data_key: &DataKey, salt: &[u8; SALT_BYTES], name: &SegmentName) -> Self {
        let key = derive(&*data_key.0, salt, &[SEGMENT_KEY_INFO, name.as_str().as_bytes()]);
        let lineage = lineage_of(name);
        let mut identity = Vec::with_capacity(64 + 2 * name.as_str().len());
        identity.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        for text in [lineage.as_str(), name.as_str()] {
            // Names are limited to 512 bytes where they are turned into paths.
            identity.extend_from_slice(&(text.len() as u32).to_le_bytes());
            identity.extend_from_slice(text.as_bytes());
        }
        Self { cipher: Aes256Gcm::new((&*key).into()), identity }
    }

    fn frame_data(&self, at: &FrameAddress) -> Vec<u8> {
        let mut data = self.identity.clone();
        data.extend_from_slice(&[SEALED_FRAME, at.compression as u8]);
        data.extend_from_slice(&at.offset.to_le_bytes());
        data.extend_from_slice(&at.length.to_le_bytes());
        data
    }

    fn index_data(&self, header: &[u8], footer: &[u8]) -> Vec<u8> {
        let mut data = self.identity.clone();
        data.extend_from_slice(&[SEALED_INDEX, 0]);
        data.extend_from_slice(header);
        data.extend_from_slice(footer);
        data
    }

    pub(crate) fn seal_frame(&self, at: &FrameAddress, data: &mut [u8]) -> Result<[u8; TAG_BYTES], ()> {
        seal(&self.cipher, &nonce(u64::from(at.number)), &self.frame_data(at), data)
    }
    pub(crate) fn open_frame(&self, at: &FrameAddress, data: &mut [u8], tag: &[u8; TAG_BYTES]) -> Result<(), ()> {
        open(&self.cipher, &nonce(u64::from(at.number)), &self.frame_data(at), data, tag)
    }
    /// Seals the index, bound to the header and the footer: all three are right, or none.
    pub(crate) fn seal_index(&self, header: &[u8], footer: &[u8], data: &mut [u8]) -> Result<[u8; TAG_BYTES], ()> {
        seal(&self.cipher, &nonce(INDEX_NONCE), &self.index_data(header, footer), data)
    }
    pub(crate) fn open_index(
        &self,
        header: &[u8],
        footer: &[u8],
        data: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), ()> {
        open(&self.cipher, &nonce(INDEX_NONCE), &self.index_data(header, footer), data, tag)
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// The lineage a segment belongs to: all of its name but the last part.
pub(crate) fn lineage_of(name: &SegmentName) -> LineageId {
    LineageId::new(name.as_str().rsplit_once('/').map_or("", |(lineage, _)| lineage))
}
