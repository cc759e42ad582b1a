//! XFS, versions 4 and 5, read as it lies on the disk ("XFS Algorithms & Data Structures", 3rd edition, kernel.org).
//!
//! All numbers are big-endian. An inode's number says where it lies; what belongs to it is a list of extents, in the inode
//! itself or in a tree below it. A folder is a file of entries.
//!
//! Not here: the log. What it holds and the rest of the disk does not yet is not seen; whether there can be such a thing is
//! said once, when the file system is opened. A point whose guest was frozen has nothing there.

use super::{
    Content, DEPTH_MAX, ENTRIES_MAX, Entry, FILE_BYTES_MAX, FileSystem, Kind, damaged, missing, not_a_folder,
    of_reader, rooted,
};
use crate::reader::PartReader;
use muster_ports::{Failure, Result};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;

/// Read from a file at once, in bytes.
const BUFFER_BYTES: u64 = 256 << 10;
/// Extents of one file at most: 16 TiB in extents of 16 MiB, or as many as fit in 64 MiB of memory.
const EXTENTS_MAX: usize = 1 << 20;
/// Levels of a tree of extents; the format has at most nine.
const LEVELS_MAX: u16 = 9;
/// Folders whose names are kept in memory.
const FOLDERS_KEPT: usize = 16;
/// Links followed for one path, as the kernel does.
const LINKS_MAX: usize = 40;
/// Bytes of a link's target.
const LINK_BYTES_MAX: u64 = 1024;
/// Where entries of a folder end and its indexes begin, in bytes of the folder.
const FOLDER_LEAVES: u64 = 32 << 30;
/// Incompatible features that change nothing for this reader, or that it knows: types in entries, sparse inodes, another
/// UUID, big times, many extents, exchanged ranges, parent pointers.
const INCOMPATIBLE_KNOWN: u32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80;
const INCOMPATIBLE_TYPES: u32 = 0x1;
const NEEDS_REPAIR: u32 = 0x10;

/// A structure on the disk.
struct Block(Vec<u8>);

impl Block {
    fn u8(&self, at: usize) -> Result<u8> {
        self.0.get(at).copied().ok_or_else(|| damaged("a structure that ends too early"))
    }
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let found = at.checked_add(N).and_then(|end| self.0.get(at..end)).and_then(|bytes| bytes.try_into().ok());
        found.ok_or_else(|| damaged("a structure that ends too early"))
    }
    fn u16(&self, at: usize) -> Result<u16> {
        self.bytes(at).map(u16::from_be_bytes)
    }
    fn u32(&self, at: usize) -> Result<u32> {
        self.bytes(at).map(u32::from_be_bytes)
    }
    fn u64(&self, at: usize) -> Result<u64> {
        self.bytes(at).map(u64::from_be_bytes)
    }
    fn slice(&self, at: usize, length: usize) -> Result<&[u8]> {
        let found = at.checked_add(length).and_then(|end| self.0.get(at..end));
        found.ok_or_else(|| damaged("a structure that ends too early"))
    }
}

/// What the superblock says.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Version 5: structures carry headers of their own.
    is_five: bool,
    /// Entries of folders carry a type.
    has_types: bool,
    block_bytes: u64,
    blocks: u64,
    folder_block_bytes: u64,
    inode_bytes: u64,
    root: u64,
    group_blocks: u64,
    groups: u64,
    group_bits: u32,
    inodes_per_block_bits: u32,
    log_begin: u64,
    log_blocks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// In blocks of the file.
    offset: u64,
    /// On the disk, with its group in the high bits.
    start: u64,
    blocks: u64,
    /// Room that was never written: reads as zeroes.
    unwritten: bool,
}

enum Fork {
    /// In the inode itself.
    Local(Vec<u8>),
    Extents(Vec<Extent>),
    /// Of a device.
    Nothing,
}

struct Inode {
    number: u64,
    kind: Kind,
    bytes: u64,
    fork: Fork,
}

/// Names and the numbers of their inodes.
type Names = Arc<BTreeMap<OsString, u64>>;

pub(super) struct Xfs {
    reader: PartReader,
    shape: Shape,
    /// Folders that were read, the newest first: all files of one are asked for by their whole path.
    folders: VecDeque<(u64, Names)>,
}

impl Xfs {
    pub(super) fn open(mut reader: PartReader) -> Result<Self> {
        let mut superblock = vec![0; 512];
        reader.read_exactly(0, &mut superblock).map_err(|error| of_reader(&error))?;
        let shape = shape(&Block(superblock))?;
        let mut system = Self { reader, shape, folders: VecDeque::new() };
        if !system.has_empty_log()? {
            tracing::warn!(
                "the log of this xfs is not replayed: of its last minute before the cut files may be missing or old; \
                 `muster mount --writable` and a mount by its own driver replay it"
            );
        }
        Ok(system)
    }

    fn read_at(&mut self, at: u64, length: u64) -> Result<Block> {
        let length = usize::try_from(length).map_err(|_| damaged("a structure that is too large"))?;
        let mut bytes = vec![0; length];
        self.reader.read_exactly(at, &mut bytes).map_err(|error| of_reader(&error))?;
        Ok(Block(bytes))
    }

    /// Where a block of the file system lies, in bytes; `start` has its allocation group in the high bits.
    fn place(&self, start: u64, blocks: u64) -> Result<u64> {
        let shape = &self.shape;
        let (group, within) = (start >> shape.group_bits, start & ((1 << shape.group_bits) - 1));
        let linear = group.checked_mul(shape.group_blocks).and_then(|first| first.checked_add(within));
        let fits = |first: &u64| first.checked_add(blocks).is_some_and(|end| end <= shape.blocks);
        match linear.filter(|_| group < shape.groups && within < shape.group_blocks).filter(fits) {
            Some(first) => Ok(first * shape.block_bytes),
            None => Err(damaged("a block beyond the end")),
        }
    }

    fn inode(&mut self, number: u64) -> Result<Inode> {
        let shape = self.shape;
        let block = self.place(number >> shape.inodes_per_block_bits, 1)?;
        let within = (number & ((1 << shape.inodes_per_block_bits) - 1)) * shape.inode_bytes;
        let core = self.read_at(block + within, shape.inode_bytes)?;
        let version = core.u8(4)?;
        if core.u16(0)? != 0x494e || version > 3 || (version == 3) != shape.is_five {
            return Err(damaged(format!("inode {number} is none")));
        }
        if version == 3 && core.u64(152)? != number {
            return Err(damaged(format!("at the place of inode {number} lies another")));
        }
        let kind = match core.u16(2)? & 0xf000 {
            0x8000 => Kind::File,
            0x4000 => Kind::Folder,
            0xa000 => Kind::Link,
            _ => Kind::Special,
        };
        let bytes = core.u64(56)?;
        if bytes > FILE_BYTES_MAX {
            return Err(damaged(format!("a file of {bytes} bytes")));
        }
        let is_realtime = core.u16(90)? & 1 != 0;
        if is_realtime && kind == Kind::File {
            return Err(Failure::refused("a file lies on the realtime device of this xfs, which is another disk"));
        }
        let has_many = version == 3 && core.u64(120)? & 1 << 4 != 0;
        let count = if has_many { core.u64(24)? } else { u64::from(core.u32(76)?) };
        let begin = if version == 3 { 176 } else { 100 };
        let end = match usize::from(core.u8(82)?) * 8 {
            0 => core.0.len(),
            length => begin + length,
        };
        let room = end.checked_sub(begin).ok_or_else(|| damaged("an inode without room"))?;
        let fork = match core.u8(5)? {
            0 => Fork::Nothing,
            1 if bytes <= room as u64 => Fork::Local(core.slice(begin, bytes as usize)?.to_vec()),
            2 => Fork::Extents(self.extents_of(&Block(core.slice(begin, room)?.to_vec()), 0, count)?),
            3 => Fork::Extents(self.extents_of_tree(number, &Block(core.slice(begin, room)?.to_vec()), count)?),
            other => return Err(damaged(format!("inode {number} has content of kind {other}"))),
        };
        Ok(Inode { number, kind, bytes, fork })
    }

    /// `count` packed extents from `at` on, each checked to lie on the disk.
    fn extents_of(&self, block: &Block, at: usize, count: u64) -> Result<Vec<Extent>> {
        if count > EXTENTS_MAX as u64 {
            return Err(damaged(format!("a file in {count} pieces")));
        }
        let mut extents = Vec::new();
        for index in 0..count as usize {
            let (high, low) = (block.u64(at + index * 16)?, block.u64(at + index * 16 + 8)?);
            let extent = Extent {
                offset: (high & !(1 << 63)) >> 9,
                start: (high & 0x1ff) << 43 | low >> 21,
                blocks: low & ((1 << 21) - 1),
                unwritten: high >> 63 != 0,
            };
            self.place(extent.start, extent.blocks)?;
            extents.push(extent);
        }
        Ok(extents)
    }

    /// All extents below a root that lies in its inode, from left to right.
    fn extents_of_tree(&mut self, owner: u64, root: &Block, count: u64) -> Result<Vec<Extent>> {
        let (level, children) = (root.u16(0)?, root.u16(2)?);
        if level == 0 || level > LEVELS_MAX {
            return Err(damaged(format!("a tree of {level} levels")));
        }
        let most = (root.0.len() - 4) / 16;
        let mut pointers = pointers(root, 4 + most * 8, usize::from(children).min(most + 1))?;
        let head = if self.shape.is_five { 72 } else { 24 };
        let magic = if self.shape.is_five { 0x424d_4133 } else { 0x424d_4150 };
        let mut extents = Vec::new();
        for level in (0..level).rev() {
            let mut below = Vec::new();
            for pointer in std::mem::take(&mut pointers) {
                let place = self.place(pointer, 1)?;
                let block = self.read_at(place, self.shape.block_bytes)?;
                let belongs = !self.shape.is_five || block.u64(56)? == owner;
                if block.u32(0)? != magic || block.u16(4)? != level || !belongs {
                    return Err(damaged(format!("a block of extents of inode {owner} is none")));
                }
                let records = block.u16(6)?;
                let most = (block.0.len() - head) / 16;
                if usize::from(records) > most || extents.len() + below.len() > EXTENTS_MAX {
                    return Err(damaged("a tree without end"));
                }
                if level == 0 {
                    extents.extend(self.extents_of(&block, head, u64::from(records))?);
                } else {
                    below.extend(self::pointers(&block, head + most * 8, usize::from(records))?);
                }
            }
            pointers = below;
        }
        if extents.len() as u64 != count {
            return Err(damaged(format!("inode {owner} has {} extents and says {count}", extents.len())));
        }
        Ok(extents)
    }

    fn content(&mut self, inode: &Inode, out: &mut dyn Content) -> Result<()> {
        let bytes = inode.bytes;
        let extents = match &inode.fork {
            Fork::Local(inside) => return Ok(out.write_all(inside)?),
            Fork::Extents(extents) => extents,
            Fork::Nothing => return Ok(()),
        };
        let mut at = 0;
        for extent in extents.iter().filter(|extent| !extent.unwritten) {
            let begin = extent.offset.saturating_mul(self.shape.block_bytes);
            let end = begin.saturating_add(extent.blocks * self.shape.block_bytes).min(bytes);
            if begin < at {
                return Err(damaged(format!("extents of inode {} overlap", inode.number)));
            }
            if begin >= bytes {
                break;
            }
            out.hole(begin - at);
            let place = self.place(extent.start, extent.blocks)?;
            at = begin;
            while at < end {
                let part = (end - at).min(BUFFER_BYTES);
                out.write_all(&self.read_at(place + (at - begin), part)?.0)?;
                at += part;
            }
        }
        out.hole(bytes - at);
        Ok(())
    }

    /// Names and inodes of a folder.
    fn entries(&mut self, folder: &Inode) -> Result<Vec<(OsString, u64)>> {
        let mut found = Vec::new();
        let extents = match &folder.fork {
            Fork::Local(inside) => {
                short_entries(&Block(inside.clone()), self.shape.has_types, &mut found)?;
                return Ok(found);
            }
            Fork::Extents(extents) => extents,
            Fork::Nothing => return Ok(found),
        };
        let shape = self.shape;
        let blocks = shape.folder_block_bytes / shape.block_bytes;
        for extent in extents {
            let end = extent.offset.saturating_add(extent.blocks).min(FOLDER_LEAVES / shape.block_bytes);
            let mut at = extent.offset.next_multiple_of(blocks);
            while at < end {
                let mut bytes = Vec::with_capacity(shape.folder_block_bytes as usize);
                // A block of the folder may lie in several pieces.
                for block in at..at + blocks {
                    let holds = |extent: &&Extent| (extent.offset..extent.offset + extent.blocks).contains(&block);
                    let piece = extents.iter().find(holds).ok_or_else(|| damaged("a folder with a hole"))?;
                    let place = self.place(piece.start + (block - piece.offset), 1)?;
                    bytes.extend(self.read_at(place, shape.block_bytes)?.0);
                }
                long_entries(&Block(bytes), &shape, &mut found)?;
                at += blocks;
            }
        }
        Ok(found)
    }

    fn names(&mut self, folder: u64) -> Result<Names> {
        if let Some((_, known)) = self.folders.iter().find(|(number, _)| *number == folder) {
            return Ok(known.clone());
        }
        let inode = self.inode(folder)?;
        let names: Names = Arc::new(self.entries(&inode)?.into_iter().collect());
        self.folders.truncate(FOLDERS_KEPT - 1);
        self.folders.push_front((folder, names.clone()));
        Ok(names)
    }

    fn target(&mut self, link: &Inode) -> Result<OsString> {
        if link.bytes > LINK_BYTES_MAX {
            return Err(damaged("a link that is too long"));
        }
        let extents = match &link.fork {
            Fork::Local(inside) => return Ok(OsStr::from_bytes(inside).to_owned()),
            Fork::Extents(extents) => extents.clone(),
            Fork::Nothing => Vec::new(),
        };
        // In version 5 each block begins with a header of its own.
        let head = if self.shape.is_five { 56 } else { 0 };
        let mut text = Vec::new();
        for extent in extents {
            for block in 0..extent.blocks {
                let place = self.place(extent.start + block, 1)?;
                let block = self.read_at(place, self.shape.block_bytes)?;
                text.extend(block.0.iter().skip(head));
                if text.len() as u64 >= link.bytes {
                    text.truncate(link.bytes as usize);
                    return Ok(OsString::from(OsStr::from_bytes(&text)));
                }
            }
        }
        Err(damaged("a link without its end"))
    }

    /// Follows links, the last one too.
    fn find(&mut self, path: &[OsString]) -> Result<Inode> {
        let mut ahead: Vec<OsString> = path.iter().rev().cloned().collect();
        let mut above = vec![self.inode(self.shape.root)?];
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            let here = above.last().ok_or_else(|| damaged("no root"))?;
            if here.kind != Kind::Folder {
                return Err(not_a_folder(path));
            }
            if name == ".." {
                above.truncate((above.len() - 1).max(1));
                continue;
            }
            let number = here.number;
            let number = self.names(number)?.get(&name).copied().ok_or_else(|| missing(path))?;
            let found = self.inode(number)?;
            if found.kind == Kind::Link {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Failure::permanent(format!("`{}`: links go round", rooted(path).display())));
                }
                let target = self.target(&found)?;
                for part in Path::new(&target).components().rev() {
                    match part {
                        Component::Normal(name) => ahead.push(name.to_owned()),
                        Component::ParentDir => ahead.push("..".into()),
                        Component::RootDir => above.truncate(1),
                        Component::CurDir | Component::Prefix(_) => {}
                    }
                }
                continue;
            }
            if above.len() > DEPTH_MAX {
                return Err(damaged("folders without end"));
            }
            above.push(found);
        }
        above.pop().ok_or_else(|| damaged("no root"))
    }

    /// Whether the newest record of the log is that of an orderly unmount. A log on another disk counts as full.
    fn has_empty_log(&mut self) -> Result<bool> {
        const SECTOR: u64 = 512;
        /// The largest record, in sectors.
        const RECORD_SECTORS: u64 = 512 + 8;
        const RECORD_MAGIC: u32 = 0xfeed_babe;
        const UNMOUNT: u8 = 0x20;
        let shape = self.shape;
        if shape.log_begin == 0 || shape.log_blocks == 0 {
            return Ok(false);
        }
        let begin = self.place(shape.log_begin, shape.log_blocks)?;
        let sectors = shape.log_blocks * shape.block_bytes / SECTOR;
        // Sectors are written round and round and carry the number of their round, those of records behind the magic.
        let round = |system: &mut Self, sector: u64| -> Result<u32> {
            let head = system.read_at(begin + sector * SECTOR, 8)?;
            if head.u32(0)? == RECORD_MAGIC { head.u32(4) } else { head.u32(0) }
        };
        let first = round(self, 0)?;
        let (mut low, mut high) = (0, sectors);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if round(self, middle)? == first { low = middle } else { high = middle }
        }
        // `high` is where the next record goes; the newest lies before it, perhaps around the end.
        for back in 1..=RECORD_SECTORS.min(sectors) {
            let sector = (high + sectors - back) % sectors;
            let head = self.read_at(begin + sector * SECTOR, SECTOR)?;
            if head.u32(0)? != RECORD_MAGIC {
                continue;
            }
            // Version 2 of the log may have more than one sector of head.
            let size = if head.u32(8)? & 2 != 0 { head.u32(320)? } else { 0 };
            let heads = u64::from(size).div_ceil(32 << 10).max(1);
            let body = self.read_at(begin + (sector + heads) % sectors * SECTOR, 16)?;
            return Ok(head.u32(40)? == 1 && body.u8(9)? & UNMOUNT != 0);
        }
        Ok(false)
    }
}

fn shape(superblock: &Block) -> Result<Shape> {
    let version = superblock.u16(100)? & 0xf;
    if superblock.u32(0)? != 0x5846_5342 || !(4..=5).contains(&version) {
        return Err(damaged("its superblock is none"));
    }
    let is_five = version == 5;
    let incompatible = if is_five { superblock.u32(216)? } else { 0 };
    if incompatible & NEEDS_REPAIR != 0 {
        return Err(damaged("it says itself that it needs repair"));
    }
    let unknown = incompatible & !INCOMPATIBLE_KNOWN;
    if unknown != 0 {
        return Err(Failure::refused(format!("this xfs has features ({unknown:#x}) that are not known here"))
            .help("`muster mount` serves the disk for tools that know them"));
    }
    let bits = |at: usize, most: u8| match superblock.u8(at)? {
        found if found <= most => Ok(u32::from(found)),
        found => Err(damaged(format!("a size of 2^{found}"))),
    };
    let block_bits = bits(120, 16)?;
    let block_bytes = 1u64 << block_bits;
    let shape = Shape {
        is_five,
        has_types: if is_five { incompatible & INCOMPATIBLE_TYPES != 0 } else { superblock.u32(200)? & 0x200 != 0 },
        block_bytes,
        blocks: superblock.u64(8)?,
        folder_block_bytes: 1 << (block_bits + bits(192, 16)?).min(16),
        inode_bytes: u64::from(superblock.u16(104)?),
        root: superblock.u64(56)?,
        group_blocks: u64::from(superblock.u32(84)?),
        groups: u64::from(superblock.u32(88)?),
        group_bits: bits(124, 31)?,
        inodes_per_block_bits: bits(123, 8)?,
        log_begin: superblock.u64(48)?,
        log_blocks: u64::from(superblock.u32(96)?),
    };
    let fits = u64::from(superblock.u32(4)?) == block_bytes
        && (512..=65_536).contains(&block_bytes)
        && (256..=2_048).contains(&shape.inode_bytes)
        && shape.inode_bytes << shape.inodes_per_block_bits == block_bytes
        && (1..=1 << shape.group_bits).contains(&shape.group_blocks)
        && shape.blocks.checked_mul(block_bytes).is_some();
    if fits { Ok(shape) } else { Err(damaged("its superblock contradicts itself")) }
}

fn pointers(block: &Block, at: usize, count: usize) -> Result<Vec<u64>> {
    (0..count).map(|index| block.u64(at + index * 8)).collect()
}

fn add(found: &mut Vec<(OsString, u64)>, name: &[u8], inode: u64) -> Result<()> {
    if name.is_empty() || name.contains(&0) || name.contains(&b'/') {
        return Err(damaged("a folder with a name that is none"));
    }
    if found.len() == ENTRIES_MAX {
        return Err(damaged("a folder without end"));
    }
    if name != b"." && name != b".." {
        found.push((OsStr::from_bytes(name).to_owned(), inode));
    }
    Ok(())
}

/// Entries that lie in the inode of the folder.
fn short_entries(block: &Block, has_types: bool, found: &mut Vec<(OsString, u64)>) -> Result<()> {
    let (count, wide) = (block.u8(0)?, block.u8(1)?);
    // With one wide number all are wide.
    let width = if wide > 0 { 8 } else { 4 };
    let count = count.max(wide);
    let mut at = 2 + width;
    for _ in 0..count {
        let length = usize::from(block.u8(at)?);
        let name = block.slice(at + 3, length)?.to_vec();
        at += 3 + length + usize::from(has_types);
        let inode = if width == 8 { block.u64(at)? } else { u64::from(block.u32(at)?) };
        at += width;
        add(found, &name, inode)?;
    }
    Ok(())
}

/// Entries of one block of a folder.
fn long_entries(block: &Block, shape: &Shape, found: &mut Vec<(OsString, u64)>) -> Result<()> {
    let (single, data) = if shape.is_five { (0x5844_4233, 0x5844_4433) } else { (0x5844_3242, 0x5844_3244) };
    let whole = block.0.len();
    let end = match block.u32(0)? {
        magic if magic == data => whole,
        // Its index lies at its end, and how long that is behind it.
        magic if magic == single => {
            let index = (block.u32(whole - 8)? as usize).checked_mul(8).and_then(|bytes| bytes.checked_add(8));
            index.and_then(|bytes| whole.checked_sub(bytes)).ok_or_else(|| damaged("a folder's index is too long"))?
        }
        _ => return Err(damaged("a block of a folder is none")),
    };
    let mut at = if shape.is_five { 64 } else { 16 };
    while at < end {
        if block.u16(at)? == 0xffff {
            let length = usize::from(block.u16(at + 2)?);
            if length < 8 || length % 8 != 0 {
                return Err(damaged("a folder with a gap that is none"));
            }
            at += length;
            continue;
        }
        let (inode, length) = (block.u64(at)?, usize::from(block.u8(at + 8)?));
        add(found, block.slice(at + 9, length)?, inode)?;
        at += (9 + length + usize::from(shape.has_types) + 2).next_multiple_of(8);
    }
    Ok(())
}

impl FileSystem for Xfs {
    fn look(&mut self, path: &[OsString]) -> Result<Entry> {
        let found = self.find(path)?;
        Ok(Entry { path: rooted(path), kind: found.kind, bytes: found.bytes })
    }

    fn list(&mut self, path: &[OsString]) -> Result<Vec<(OsString, Kind, u64)>> {
        let folder = self.find(path)?;
        if folder.kind != Kind::Folder {
            return Err(not_a_folder(path));
        }
        let names = self.names(folder.number)?;
        let about = |(name, number): (&OsString, &u64)| {
            self.inode(*number).map(|inode| (name.clone(), inode.kind, inode.bytes))
        };
        names.iter().map(about).collect()
    }

    fn read(&mut self, path: &[OsString], out: &mut dyn Content) -> Result<u64> {
        let file = self.find(path)?;
        if file.kind != Kind::File {
            return Err(Failure::permanent(format!("`{}` is no file", rooted(path).display())));
        }
        self.content(&file, out)?;
        Ok(file.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use muster_ports::{BlockSource, Extent as DiskExtent, ExtentKind};

    #[derive(Debug)]
    struct Memory(Vec<u8>);

    #[async_trait]
    impl BlockSource for Memory {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }
        async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            buffer.copy_from_slice(&self.0[offset as usize..offset as usize + buffer.len()]);
            Ok(())
        }
        async fn extents(&self, offset: u64, length: u64) -> Result<Vec<DiskExtent>> {
            Ok(vec![DiskExtent { offset, length, kind: ExtentKind::Data }])
        }
    }

    async fn is_empty(disk: Vec<u8>) -> bool {
        let runtime = tokio::runtime::Handle::current();
        let look = move || {
            let length = disk.len() as u64;
            let reader = PartReader::new(Arc::new(Memory(disk)), runtime, 0, length).unwrap();
            Xfs::open(reader).unwrap().has_empty_log().unwrap()
        };
        tokio::task::spawn_blocking(look).await.unwrap()
    }

    #[tokio::test]
    async fn a_log_with_something_in_it_is_told_from_one_without() {
        let clean = zstd::decode_all(&include_bytes!("../../tests/golden/xfs-in-pieces.zst")[..]).unwrap();
        assert!(is_empty(clean.clone()).await);
        // Of each record's first operation the flags are changed: it is no unmount any more.
        let mut busy = clean;
        let heads: Vec<usize> =
            (0..busy.len()).step_by(512).filter(|at| busy[*at..].starts_with(&[0xfe, 0xed, 0xba, 0xbe])).collect();
        assert!(!heads.is_empty());
        for head in heads {
            busy[head + 512 + 9] = 0x01;
        }
        assert!(!is_empty(busy).await);
    }
}
