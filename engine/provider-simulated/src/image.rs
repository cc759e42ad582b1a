//! What lies on the disk of a simulated machine, and the public checker that reads it from raw bytes.
//!
//! ```text
//!   0       boot record: magic, length, CRC-32, JSON of the program        (first disk of a machine)
//!   4 KiB   settings:    magic, length, CRC-32, JSON of names and values
//!   64 KiB  volume:      magic, length, CRC-32, JSON: slots, ballast, whether it was left clean
//!   128 KiB records:     `slots` of 64 bytes; the record `n` lies in slot `n mod slots`
//!   ...     ballast:     4 KiB blocks whose content follows from the seed and the block's number
//! ```
//!
//! A record is 64 bytes, all numbers little-endian: magic `MREC`, CRC-32 of the other 56 bytes from byte 8 on, sequence
//! number, time in milliseconds, the cause (the newest record of the machine it depends on that its writer had seen),
//! and 32 bytes that follow from the sequence number. It never straddles a sector, so it is there whole or not at all.
//!
//! The checker knows nothing of tracking, cuts or replicas: it reads bytes, so it can be used on any recovered disk.

use crate::random::mix;
use muster_ports::{DiskName, Failure, Result, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(crate) const BOOT_AT: u64 = 0;
pub(crate) const SETTINGS_AT: u64 = 4 * 1024;
pub(crate) const VOLUME_AT: u64 = 64 * 1024;
const RECORDS_AT: u64 = 128 * 1024;
const RECORD_BYTES: u64 = 64;
const BALLAST_BLOCK_BYTES: u64 = 4096;
/// Room of a header: magic, length, CRC and JSON together.
const BOOT_ROOM_BYTES: usize = 4 * 1024;
const SETTINGS_ROOM_BYTES: usize = 60 * 1024;
const VOLUME_ROOM_BYTES: usize = 4 * 1024;
const BOOT_MAGIC: &[u8; 8] = b"MUSTBOOT";
const SETTINGS_MAGIC: &[u8; 8] = b"MUSTSETS";
const VOLUME_MAGIC: &[u8; 8] = b"MUSTVOLU";
const RECORD_MAGIC: &[u8; 4] = b"MREC";
/// The smallest disk that can be formatted: headers and 64 records.
pub(crate) const DISK_BYTES_MIN: u64 = RECORDS_AT + 64 * RECORD_BYTES;
/// Problems listed in a verdict; more are counted, not listed.
const PROBLEMS_MAX: usize = 20;

/// What a machine runs. It lies in the boot record, so the machine runs the same wherever its disks go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub kind: ProgramKind,
    /// The disk its records lie on.
    pub disk: DiskName,
    /// Where it answers.
    pub port: u16,
    /// Milliseconds between two records.
    pub every_millis: u64,
    /// The machine it reads from; the setting `db-host` (of a web server `app-host`) wins over it.
    pub upstream: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramKind {
    /// Writes a record every `every_millis`.
    Database,
    /// Reads the newest record of its upstream and writes down that it has seen it: the causal writer.
    App,
    /// Writes nothing; shows what its upstream answers.
    Web,
}

/// Header of a formatted disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// `db/data`.
    pub(crate) name: String,
    pub(crate) slots: u64,
    pub(crate) ballast_at: u64,
    pub(crate) ballast_bytes: u64,
    pub(crate) seed: u64,
    /// Written when the guest is frozen or has shut down; a disk found otherwise would need a replay.
    pub(crate) clean: bool,
}

pub(crate) type Settings = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    pub(crate) cause: u64,
}

/// What a checker found on one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The name the disk was formatted with.
    pub volume: String,
    /// Left clean by a shutdown or a freeze: nothing to replay.
    pub clean: bool,
    /// Records found whole.
    pub records: u64,
    /// Sequence numbers; 0 when there is no record.
    pub oldest: u64,
    pub newest: u64,
    /// When the newest record was written, by its writer's clock.
    pub newest_at: Timestamp,
    /// The newest record of the upstream that any record here depends on.
    pub newest_cause: u64,
    pub ballast_bytes: u64,
    /// Empty when every byte that can be checked is right.
    pub problems: Vec<String>,
}

impl Verdict {
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
    fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        }
    }
}

/// Reads bytes at an offset.
pub(crate) type ReadAt<'a> = dyn Fn(u64, &mut [u8]) -> Result<()> + 'a;

fn encode(magic: &[u8; 8], room: usize, value: &impl Serialize) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(value).map_err(|error| Failure::permanent(error.to_string()))?;
    let length = u32::try_from(json.len())
        .ok()
        .filter(|length| *length as usize + 16 <= room)
        .ok_or_else(|| Failure::permanent(format!("{} bytes do not fit into a header of {room} bytes", json.len())))?;
    let mut bytes = Vec::with_capacity(16 + json.len());
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&json).to_le_bytes());
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

/// `None` when there is no header of that kind; an error when there is one and it is damaged.
fn decode<T: DeserializeOwned>(magic: &[u8; 8], room: usize, at: u64, read: &ReadAt<'_>) -> Result<Option<T>> {
    let name = String::from_utf8_lossy(magic).into_owned();
    let mut head = [0u8; 16];
    read(at, &mut head)?;
    if head[..8] != *magic {
        return Ok(None);
    }
    let number = |from: usize| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
    let length = number(8) as usize;
    if length + 16 > room {
        return Err(Failure::permanent(format!("the header `{name}` says it has {length} bytes, more than its room")));
    }
    let mut json = vec![0u8; length];
    read(at + 16, &mut json)?;
    if crc32fast::hash(&json) != number(12) {
        return Err(Failure::permanent(format!("the header `{name}` has a wrong checksum")));
    }
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|error| Failure::permanent(format!("the header `{name}` does not read: {error}")))
}

pub(crate) fn program_bytes(program: &Program) -> Result<Vec<u8>> {
    encode(BOOT_MAGIC, BOOT_ROOM_BYTES, program)
}
pub(crate) fn read_program(read: &ReadAt<'_>) -> Result<Option<Program>> {
    decode(BOOT_MAGIC, BOOT_ROOM_BYTES, BOOT_AT, read)
}
pub(crate) fn settings_bytes(settings: &Settings) -> Result<Vec<u8>> {
    encode(SETTINGS_MAGIC, SETTINGS_ROOM_BYTES, settings)
}
pub(crate) fn read_settings(read: &ReadAt<'_>) -> Result<Settings> {
    Ok(decode(SETTINGS_MAGIC, SETTINGS_ROOM_BYTES, SETTINGS_AT, read)?.unwrap_or_default())
}
pub(crate) fn volume_bytes(volume: &Volume) -> Result<Vec<u8>> {
    encode(VOLUME_MAGIC, VOLUME_ROOM_BYTES, volume)
}
pub(crate) fn read_volume(read: &ReadAt<'_>) -> Result<Option<Volume>> {
    decode(VOLUME_MAGIC, VOLUME_ROOM_BYTES, VOLUME_AT, read)
}

impl Volume {
    /// A layout for a disk: a quarter of it for records (at most 4 MiB), as much ballast as was asked and fits.
    pub(crate) fn plan(name: String, size: u64, ballast_bytes: u64, seed: u64) -> Result<Self> {
        if size < DISK_BYTES_MIN {
            return Err(Failure::permanent(format!(
                "disk `{name}` has {size} bytes; at least {DISK_BYTES_MIN} are needed"
            )));
        }
        let slots = (size / 4).clamp(64 * RECORD_BYTES, 4 << 20).min(size - RECORDS_AT) / RECORD_BYTES;
        let ballast_at = (RECORDS_AT + slots * RECORD_BYTES).next_multiple_of(64 * 1024);
        let room = size.saturating_sub(ballast_at) / BALLAST_BLOCK_BYTES * BALLAST_BLOCK_BYTES;
        let ballast_bytes = (ballast_bytes / BALLAST_BLOCK_BYTES * BALLAST_BLOCK_BYTES).min(room);
        Ok(Self { name, slots, ballast_at, ballast_bytes, seed, clean: true })
    }

    pub(crate) fn ballast_blocks(&self) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
        (0..self.ballast_bytes / BALLAST_BLOCK_BYTES)
            .map(|block| (self.ballast_at + block * BALLAST_BLOCK_BYTES, ballast_block(self.seed, block)))
    }

    pub(crate) fn slot_at(&self, sequence: u64) -> u64 {
        RECORDS_AT + sequence % self.slots.max(1) * RECORD_BYTES
    }
}

fn ballast_block(seed: u64, block: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BALLAST_BLOCK_BYTES as usize);
    let start = mix(seed ^ block.wrapping_mul(0x2545_f491_4f6c_dd1d));
    for word in 0..BALLAST_BLOCK_BYTES / 8 {
        // Every second word repeats, so that the content compresses about as well as data does.
        let value = if word % 2 == 0 { mix(start.wrapping_add(word)) } else { start };
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes
}

impl Record {
    pub(crate) fn to_bytes(self) -> [u8; RECORD_BYTES as usize] {
        let mut bytes = [0u8; RECORD_BYTES as usize];
        bytes[..4].copy_from_slice(RECORD_MAGIC);
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.at.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.cause.to_le_bytes());
        for (index, chunk) in bytes[32..].chunks_mut(8).enumerate() {
            chunk.copy_from_slice(&mix(self.sequence.wrapping_add(index as u64)).to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `Ok(None)` for a slot never written; an error text for a damaged one.
    fn from_bytes(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let number = |from: usize| -> u64 {
            bytes.get(from..from + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_le_bytes)
        };
        if bytes.get(..4) != Some(RECORD_MAGIC.as_slice()) {
            return Err("it has a wrong magic");
        }
        let crc = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        if bytes.len() != RECORD_BYTES as usize || crc32fast::hash(&bytes[8..]) != crc {
            return Err("it has a wrong checksum");
        }
        Ok(Some(Self { sequence: number(8), at: Timestamp(number(16)), cause: number(24) }))
    }
}

/// The newest record, as a guest looks for it when it boots.
pub(crate) fn newest_record(volume: &Volume, size: u64, read: &ReadAt<'_>) -> Result<Option<Record>> {
    let mut newest: Option<Record> = None;
    each_slot(volume, size, read, |_, slot| {
        if let Ok(Some(record)) = slot
            && newest.is_none_or(|known| known.sequence < record.sequence)
        {
            newest = Some(record);
        }
    })?;
    Ok(newest)
}

fn each_slot(
    volume: &Volume,
    size: u64,
    read: &ReadAt<'_>,
    mut each: impl FnMut(u64, Result<Option<Record>, &'static str>),
) -> Result<()> {
    let end = volume.slots.checked_mul(RECORD_BYTES).and_then(|bytes| bytes.checked_add(RECORDS_AT));
    if end.is_none_or(|end| end > size) {
        return Err(Failure::permanent(format!(
            "the volume `{}` claims {} slots, more than its disk",
            volume.name, volume.slots
        )));
    }
    const SLOTS_AT_ONCE: u64 = 1024;
    let mut slot = 0;
    while slot < volume.slots {
        let count = SLOTS_AT_ONCE.min(volume.slots - slot);
        let mut bytes = vec![0u8; (count * RECORD_BYTES) as usize];
        read(RECORDS_AT + slot * RECORD_BYTES, &mut bytes)?;
        for (index, record) in bytes.chunks(RECORD_BYTES as usize).enumerate() {
            each(slot + index as u64, Record::from_bytes(record));
        }
        slot += count;
    }
    Ok(())
}

/// Checks a disk from its bytes alone: headers, every record's checksum, that the sequence has no gap, that time does
/// not run backwards in it, and the ballast.
pub fn check_disk(size: u64, read: impl Fn(u64, &mut [u8]) -> Result<()>) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    if let Err(failure) = read_program(&read).map(|_| ()).and(read_settings(&read).map(|_| ())) {
        verdict.problem(failure.message);
    }
    let volume = match read_volume(&read) {
        Ok(Some(volume)) => volume,
        Ok(None) => {
            verdict.problem("there is no volume header: this disk was never formatted, or its start is lost".into());
            return Ok(verdict);
        }
        Err(failure) => {
            verdict.problem(failure.message);
            return Ok(verdict);
        }
    };
    verdict.volume = volume.name.clone();
    verdict.clean = volume.clean;
    let mut records = BTreeMap::new();
    each_slot(&volume, size, &read, |slot, found| match found {
        Ok(None) => {}
        Ok(Some(record)) if record.sequence % volume.slots != slot => {
            verdict.problem(format!("record {} lies in slot {slot}, which is not its own", record.sequence));
        }
        Ok(Some(record)) => {
            records.insert(record.sequence, record);
        }
        Err(why) => verdict.problem(format!("the record in slot {slot} is damaged: {why}")),
    })?;
    check_sequence(&volume, &records, &mut verdict);
    if volume.ballast_at.checked_add(volume.ballast_bytes).is_none_or(|end| end > size) {
        verdict.problem(format!("the volume `{}` claims more ballast than its disk has", volume.name));
        return Ok(verdict);
    }
    verdict.ballast_bytes = volume.ballast_bytes;
    for (at, expected) in volume.ballast_blocks() {
        let mut found = vec![0u8; expected.len()];
        read(at, &mut found)?;
        if found != expected {
            verdict.problem(format!("the block at byte {at} is not what was written there"));
        }
    }
    Ok(verdict)
}

fn check_sequence(volume: &Volume, records: &BTreeMap<u64, Record>, verdict: &mut Verdict) {
    let (Some(oldest), Some(newest)) = (records.values().next(), records.values().next_back()) else { return };
    verdict.records = records.len() as u64;
    verdict.oldest = oldest.sequence;
    verdict.newest = newest.sequence;
    verdict.newest_at = newest.at;
    verdict.newest_cause = records.values().map(|record| record.cause).max().unwrap_or(0);
    let expected = newest.sequence.saturating_sub(volume.slots - 1).max(1);
    if oldest.sequence != expected {
        verdict.problem(format!("the oldest record is {}, it should be {expected}", oldest.sequence));
    }
    let mut last: Option<&Record> = None;
    for record in records.values() {
        if let Some(last) = last {
            if record.sequence != last.sequence + 1 {
                verdict.problem(format!("records {} to {} are missing", last.sequence + 1, record.sequence - 1));
            }
            if record.at < last.at {
                verdict.problem(format!("record {} is older than the one before it", record.sequence));
            }
            if record.cause < last.cause {
                verdict.problem(format!("record {} has seen less than the one before it", record.sequence));
            }
        }
        last = Some(record);
    }
}

/// Checks a raw image file.
pub fn check_file(path: &Path) -> Result<Verdict> {
    let open = std::fs::File::open(path).map_err(Failure::from);
    let file = open.map_err(|failure| failure.during(format!("open `{}`", path.display())))?;
    let size = file.metadata()?.len();
    check_disk(size, |offset, buffer| Ok(file.read_exact_at(buffer, offset)?))
        .map_err(|failure| failure.during(format!("check `{}`", path.display())))
}

/// No machine may hold an acknowledgement of a record that its upstream does not have. The error says what is missing.
pub fn check_causality(upstream: &Verdict, dependent: &Verdict) -> Result<(), String> {
    if dependent.newest_cause <= upstream.newest {
        return Ok(());
    }
    Err(format!(
        "`{}` has acknowledged record {} of `{}`, which holds records only to {}: they were not cut at one moment",
        dependent.volume, dependent.newest_cause, upstream.volume, upstream.newest
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn disk(sequences: impl Iterator<Item = u64>) -> Vec<u8> {
        let volume = Volume::plan("db/data".into(), SIZE, 128 * 1024, 7).unwrap();
        let mut bytes = vec![0u8; SIZE as usize];
        let mut put = |at: u64, data: &[u8]| bytes[at as usize..at as usize + data.len()].copy_from_slice(data);
        put(VOLUME_AT, &volume_bytes(&volume).unwrap());
        for sequence in sequences {
            let record = Record { sequence, at: Timestamp(1000 + sequence), cause: sequence / 2 };
            put(volume.slot_at(sequence), &record.to_bytes());
        }
        for (at, block) in volume.ballast_blocks() {
            put(at, &block);
        }
        bytes
    }

    fn check(bytes: &[u8]) -> Verdict {
        check_disk(bytes.len() as u64, |at, buffer| {
            let at = at as usize;
            buffer.copy_from_slice(bytes.get(at..at + buffer.len()).ok_or(Failure::permanent("beyond the end"))?);
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn a_right_disk_is_sound_also_after_the_ring_went_round() {
        let few = check(&disk(1..=100));
        assert!(few.is_sound(), "{:?}", few.problems);
        assert_eq!((few.oldest, few.newest, few.records, few.newest_cause), (1, 100, 100, 50));
        let slots = Volume::plan("db/data".into(), SIZE, 0, 7).unwrap().slots;
        let round = check(&disk(1..=slots + 10));
        assert!(round.is_sound(), "{:?}", round.problems);
        assert_eq!((round.oldest, round.newest), (11, slots + 10));
    }

    #[test]
    fn every_kind_of_damage_is_found() {
        let good = disk(1..=100);
        let missing = disk((1..=100).filter(|sequence| *sequence != 40));
        assert!(check(&missing).problems[0].contains("records 40 to 40 are missing"));
        assert!(check(&disk(2..=100)).problems[0].contains("it should be 1"));
        let mut flipped = good.clone();
        flipped[(RECORDS_AT + 5 * RECORD_BYTES + 20) as usize] ^= 1;
        assert!(check(&flipped).problems[0].contains("slot 5 is damaged"));
        let mut header = good.clone();
        header[VOLUME_AT as usize + 20] ^= 1;
        assert!(check(&header).problems[0].contains("checksum"));
        let volume = Volume::plan("db/data".into(), SIZE, 128 * 1024, 7).unwrap();
        let mut ballast = good.clone();
        ballast[volume.ballast_at as usize + 4097] ^= 1;
        assert!(check(&ballast).problems[0].contains("not what was written"));
        assert!(!check(&vec![0u8; SIZE as usize]).is_sound());
        assert!(!check(&vec![0xffu8; SIZE as usize]).is_sound());
    }

    #[test]
    fn an_effect_without_its_cause_is_found() {
        let upstream = check(&disk(1..=40));
        let dependent = check(&disk(1..=100));
        assert!(check_causality(&upstream, &dependent).unwrap_err().contains("record 50"));
        assert!(check_causality(&dependent, &upstream).is_ok());
    }
}
