//! The record both the guests and the checks speak: 64 bytes, written and fsynced one by one. Shared as source: the
//! guest is built by `rustc` alone, static, without any crate.
//!
//! ```text
//!   0 magic "MREC"   4 crc32 of the rest   8 sequence   16 nanoseconds   24 boot   32 host, zero padded   56 kind
//! ```

pub const RECORD_BYTES: usize = 64;
const MAGIC: &[u8; 4] = b"MREC";
const HOST_BYTES: usize = 24;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// In the database: 1, 2, 3 ... In the app's journal: the database's number, after it was acknowledged.
    pub sequence: u64,
    /// Nanoseconds since the Unix epoch by the guest's clock.
    pub nanos: u64,
    /// Nanoseconds at which the writer started: tells boots apart.
    pub boot: u64,
    pub host: String,
}

impl Record {
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0u8; RECORD_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.nanos.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.boot.to_le_bytes());
        let host = self.host.as_bytes();
        let length = host.len().min(HOST_BYTES);
        bytes[32..32 + length].copy_from_slice(&host[..length]);
        let crc = crc32(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` when the magic or the check sum is wrong.
    pub fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let number = |at: usize| bytes[at..at + 8].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let crc = bytes[4..8].iter().rev().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
        if &bytes[..4] != MAGIC || crc != crc32(&bytes[8..]) {
            return None;
        }
        let host = &bytes[32..32 + HOST_BYTES];
        let end = host.iter().position(|byte| *byte == 0).unwrap_or(HOST_BYTES);
        Some(Self {
            sequence: number(8),
            nanos: number(16),
            boot: number(24),
            host: String::from_utf8_lossy(&host[..end]).into_owned(),
        })
    }
}

/// What a file of records holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub records: u64,
    /// The highest number seen.
    pub last: u64,
    /// Places where a number does not follow the one before it.
    pub gaps: u64,
    /// Places where a number is not above the one before it.
    pub backwards: u64,
    /// Records that do not read back, anywhere but in the last place.
    pub bad: u64,
    /// The last record does not read back: what a power cut leaves of a write that was never acknowledged.
    pub torn: bool,
    /// Bytes up to the end of the last good record.
    pub good_bytes: u64,
}

impl Tally {
    pub fn of(bytes: &[u8]) -> Self {
        let mut tally = Self::default();
        let mut chunks = bytes.chunks(RECORD_BYTES).enumerate().peekable();
        while let Some((index, chunk)) = chunks.next() {
            let record = <&[u8; RECORD_BYTES]>::try_from(chunk).ok().and_then(Record::decode);
            let Some(record) = record else {
                if chunks.peek().is_none() {
                    tally.torn = true;
                } else {
                    tally.bad += 1;
                }
                continue;
            };
            if record.sequence != tally.last + 1 {
                tally.gaps += 1;
            }
            if record.sequence <= tally.last {
                tally.backwards += 1;
            }
            tally.records += 1;
            tally.last = tally.last.max(record.sequence);
            tally.good_bytes = ((index + 1) * RECORD_BYTES) as u64;
        }
        tally
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
