//! Which parts a disk has and what they hold: GPT, MBR with logical partitions, or a file system without any table.
//!
//! Sources: UEFI Specification 2.10, chapter 5 (GPT), with its checksums; the boot record as every BIOS reads it.

use crate::reader::PartReader;
use muster_ports::{BlockSource, Failure, Result};
use serde::Serialize;
use std::io;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Logical partitions followed; each names the next, and a damaged chain may go round.
const LOGICAL_MAX: u32 = 128;
/// Entries of a GPT read at most; 128 are usual.
const ENTRIES_MAX: u32 = 1024;
/// Bytes of one entry: 128 by the specification, or a power of two above.
const ENTRY_BYTES_MAX: u32 = 4096;

/// What a partition holds, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// ext2 or ext3 too.
    Ext4,
    Ntfs,
    Fat,
    Xfs,
    Btrfs,
    ExFat,
    ReFs,
    Swap,
    /// A physical volume of LVM.
    Lvm,
    Luks,
    BitLocker,
    Unknown,
}

impl Holds {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ntfs => "ntfs",
            Self::Fat => "fat",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::ExFat => "exfat",
            Self::ReFs => "refs",
            Self::Swap => "swap",
            Self::Lvm => "lvm",
            Self::Luks => "luks",
            Self::BitLocker => "bitlocker",
            Self::Unknown => "unknown",
        }
    }

    /// Whether files can be read out of it here.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Ext4 | Self::Ntfs | Self::Fat)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// As the guest counts them; 0 is the whole disk, which has no table.
    pub number: u32,
    pub offset: u64,
    pub bytes: u64,
    pub holds: Holds,
}

/// Reads the table. A disk without one is a single partition with the number 0.
pub async fn partitions(disk: Arc<dyn BlockSource>) -> Result<Vec<Partition>> {
    let runtime = Handle::current();
    let looked = tokio::task::spawn_blocking(move || {
        let size = disk.size();
        let reader = PartReader::new(disk, runtime, 0, size);
        reader.map_or_else(|| Ok(Vec::new()), |mut reader| look(&mut reader, size))
    });
    let found = looked.await.map_err(|error| Failure::permanent(format!("reading the partitions ended: {error}")))?;
    found.map_err(|error| Failure::from(error).during("read the partitions"))
}

fn look(disk: &mut PartReader, size: u64) -> io::Result<Vec<Partition>> {
    let whole = holds(disk, 0, size)?;
    let found = match whole {
        Holds::Unknown => match gpt(disk, size)? {
            Some(parts) => parts,
            None => mbr(disk, size)?,
        },
        _ => Vec::new(),
    };
    if found.is_empty() {
        return Ok(vec![Partition { number: 0, offset: 0, bytes: size, holds: whole }]);
    }
    let parts = found.into_iter().map(|(number, offset, bytes)| {
        let holds = holds(disk, offset, bytes)?;
        Ok(Partition { number, offset, bytes, holds })
    });
    parts.collect()
}

/// Number, offset, bytes.
type Part = (u32, u64, u64);

fn gpt(disk: &mut PartReader, size: u64) -> io::Result<Option<Vec<Part>>> {
    for sector in [512, 4096] {
        let last = (size / sector).saturating_sub(1) * sector;
        // The second header stands at the end, for the day when the first is gone.
        for at in [sector, last] {
            if let Some(parts) = gpt_at(disk, at, sector, size)? {
                return Ok(Some(parts));
            }
        }
    }
    Ok(None)
}

fn gpt_at(disk: &mut PartReader, at: u64, sector: u64, size: u64) -> io::Result<Option<Vec<Part>>> {
    let mut header = [0; 92];
    if at.checked_add(sector).is_none_or(|end| end > size) {
        return Ok(None);
    }
    disk.read_exactly(at, &mut header)?;
    let (count, bytes) = (word(&header, 80), word(&header, 84));
    let known = &header[..8] == b"EFI PART" && word(&header, 12) == 92 && sum(&header, 16) == word(&header, 16);
    if !known || count > ENTRIES_MAX || !(128..=ENTRY_BYTES_MAX).contains(&bytes) {
        return Ok(None);
    }
    let length = u64::from(count) * u64::from(bytes);
    let begin = long(&header, 72).checked_mul(sector);
    let Some(begin) = begin.filter(|begin| begin.checked_add(length).is_some_and(|end| end <= size)) else {
        return Ok(None);
    };
    let mut entries = vec![0; length as usize];
    disk.read_exactly(begin, &mut entries)?;
    if crc32fast::hash(&entries) != word(&header, 88) {
        return Ok(None);
    }
    let mut parts = Vec::new();
    for (number, entry) in (1..).zip(entries.chunks_exact(bytes as usize)) {
        let used = entry[..16].iter().any(|byte| *byte != 0);
        let (first, last) = (long(entry, 32), long(entry, 40));
        let range = last.checked_add(1).and_then(|end| Some((first.checked_mul(sector)?, end.checked_mul(sector)?)));
        if let Some((begin, end)) = range.filter(|(begin, end)| used && begin < end && *end <= size) {
            parts.push((number, begin, end - begin));
        }
    }
    Ok(Some(parts))
}

/// The header's checksum, with the place of the checksum itself as zeroes.
fn sum(header: &[u8], at: usize) -> u32 {
    let mut plain = header.to_vec();
    plain[at..at + 4].fill(0);
    crc32fast::hash(&plain)
}

const SECTOR: u64 = 512;

fn mbr(disk: &mut PartReader, size: u64) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let Some(first) = boot_record(disk, 0, size)? else { return Ok(parts) };
    let mut extended = None;
    for (number, entry) in (1..).zip(first) {
        if entry.is_extended() {
            extended = extended.or(Some(entry.begin));
        } else if let Some((begin, bytes)) = entry.range(0, size) {
            parts.push((number, begin, bytes));
        }
    }
    let Some(base) = extended else { return Ok(parts) };
    // Each logical partition has a record of its own that names the next, counted from the first of them.
    let mut at = base;
    for number in 5..5 + LOGICAL_MAX {
        let Some(record) = boot_record(disk, at, size)? else { break };
        if let Some((begin, bytes)) = record[0].range(at, size) {
            parts.push((number, begin, bytes));
        }
        let next = base.checked_add(record[1].begin).filter(|next| *next > at && record[1].is_extended());
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(parts)
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    kind: u8,
    /// In bytes, both.
    begin: u64,
    length: u64,
}

impl Entry {
    fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
    fn range(self, base: u64, size: u64) -> Option<(u64, u64)> {
        let begin = base.checked_add(self.begin)?;
        // The protective entry of a GPT is none.
        let real = self.kind != 0 && self.kind != 0xee && self.length > 0;
        (real && begin.checked_add(self.length)? <= size).then_some((begin, self.length))
    }
}

fn boot_record(disk: &mut PartReader, at: u64, size: u64) -> io::Result<Option<[Entry; 4]>> {
    if at.checked_add(SECTOR).is_none_or(|end| end > size) {
        return Ok(None);
    }
    let mut sector = [0; SECTOR as usize];
    disk.read_exactly(at, &mut sector)?;
    if sector[510..] != [0x55, 0xaa] {
        return Ok(None);
    }
    let mut entries = [Entry::default(); 4];
    for (entry, raw) in entries.iter_mut().zip(sector[446..510].chunks_exact(16)) {
        let sectors = |at| u64::from(word(raw, at)) * SECTOR;
        // A state of another kind belongs to a boot program, not to a table.
        if raw[0] & 0x7f != 0 {
            return Ok(None);
        }
        *entry = Entry { kind: raw[4], begin: sectors(8), length: sectors(12) };
    }
    Ok(Some(entries))
}

/// What lies in `[offset, offset + length)`, by the marks that each file system has.
fn holds(disk: &mut PartReader, offset: u64, length: u64) -> io::Result<Holds> {
    let marks: [(u64, &[u8], Holds); 13] = [
        (0, b"LUKS\xba\xbe", Holds::Luks),
        (0, b"XFSB", Holds::Xfs),
        (3, b"NTFS    ", Holds::Ntfs),
        (3, b"EXFAT   ", Holds::ExFat),
        (3, b"ReFS\0\0\0\0", Holds::ReFs),
        (3, b"-FVE-FS-", Holds::BitLocker),
        (54, b"FAT12   ", Holds::Fat),
        (54, b"FAT16   ", Holds::Fat),
        (82, b"FAT32   ", Holds::Fat),
        (536, b"LVM2 001", Holds::Lvm),
        (1080, b"\x53\xef", Holds::Ext4),
        (4086, b"SWAPSPACE2", Holds::Swap),
        (0x10040, b"_BHRfS_M", Holds::Btrfs),
    ];
    for (at, mark, holds) in marks {
        let mut found = vec![0; mark.len()];
        if at + mark.len() as u64 > length {
            continue;
        }
        disk.read_exactly(offset + at, &mut found)?;
        if found == mark {
            return Ok(holds);
        }
    }
    Ok(Holds::Unknown)
}

/// Four bytes, least significant first; the callers' buffers are longer.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}
