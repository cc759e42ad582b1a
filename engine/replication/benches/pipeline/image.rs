//! A disk image as people have them: a file system with real system files, a database-like area, and room.

use async_trait::async_trait;
use muster_ports::*;
use muster_replication::pipeline::FileDisk;
use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const GRAIN: u64 = 64 << 10;
const PAGE: usize = 8 << 10;

/// Numbers that are the same on every run.
#[derive(Debug)]
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[derive(Debug)]
pub struct Sample {
    path: PathBuf,
    size: u64,
    random: Seeded,
}

impl Sample {
    /// Seven eighths of the disk are a file system filled to about 70 %, the last eighth is the database.
    pub fn make(path: &Path, size: u64) -> Self {
        let stage = path.with_extension("stage");
        std::fs::create_dir(&stage).unwrap();
        let volume = size / 8 * 7;
        let mut left = size / 8 * 5;
        gather(Path::new("/usr"), &stage, &mut left, &mut 0);
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0", "-E", "hash_seed=00000000-0000-0000-0000-000000000001", "-d"])
            .arg(&stage)
            .arg(path)
            .arg(format!("{}k", volume >> 10))
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("no mkfs.ext4: the files stand behind each other without a file system");
            lay_out(&stage, path);
        }
        std::fs::remove_dir_all(&stage).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(size).unwrap();
        let mut sample = Self { path: path.to_owned(), size, random: Seeded(1) };
        let mut at = volume;
        while at < size {
            file.write_all_at(&sample.page(), at).unwrap();
            at += PAGE as u64;
        }
        file.sync_all().unwrap();
        sample
    }

    /// A page of a database: a head, rows of small numbers and words, some room at its end.
    fn page(&mut self) -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE);
        let filled = PAGE - 256 - self.random.below(2048) as usize;
        while page.len() < filled {
            page.extend_from_slice(&self.random.below(100_000).to_le_bytes());
            page.extend_from_slice(&self.random.next().to_le_bytes()[..5]);
            page.extend_from_slice(b"customer order item ".as_slice());
        }
        page.resize(PAGE, 0);
        page
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
    pub fn size(&self) -> u64 {
        self.size
    }
    pub fn data_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&self.path).unwrap().blocks() * 512
    }

    /// Writes so many percent of the disk anew, in writes of 4 to 60 KiB; the grains they touch come back.
    pub fn change(&mut self, percent: u64) -> Vec<Range<u64>> {
        let file = File::options().read(true).write(true).open(&self.path).unwrap();
        let mut left = self.size / 100 * percent;
        let mut grains = BTreeSet::new();
        while left > 0 {
            let length = (4 + 4 * self.random.below(15)) << 10;
            let at = self.random.below((self.size - length) >> 12) << 12;
            let mut data = Vec::new();
            while data.len() < length as usize {
                data.extend(self.page());
            }
            file.write_all_at(&data[..length as usize], at).unwrap();
            grains.extend(at / GRAIN..(at + length).div_ceil(GRAIN));
            left = left.saturating_sub(length);
        }
        file.sync_all().unwrap();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for grain in grains {
            match ranges.last_mut() {
                Some(last) if last.end == grain * GRAIN => last.end += GRAIN,
                _ => ranges.push(grain * GRAIN..(grain + 1) * GRAIN),
            }
        }
        ranges
    }
}

/// Files of a folder, the largest first no more than any other, until so many bytes are there.
fn gather(from: &Path, into: &Path, left: &mut u64, count: &mut u64) {
    let Ok(entries) = std::fs::read_dir(from) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            gather(&entry.path(), into, left, count);
        } else if kind.is_file() {
            let length = entry.metadata().map_or(0, |facts| facts.len());
            // No single file dominates the picture.
            if length == 0 || length > *left || length > 256 << 20 {
                continue;
            }
            let folder = into.join(format!("{:04}", *count / 512));
            std::fs::create_dir_all(&folder).unwrap();
            let target = folder.join(count.to_string());
            if std::fs::hard_link(entry.path(), &target).is_err() && std::fs::copy(entry.path(), &target).is_err() {
                continue;
            }
            *count += 1;
            *left -= length;
        }
    }
}

fn lay_out(stage: &Path, path: &Path) {
    let output = File::create(path).unwrap();
    let mut at = 0;
    let mut folders = vec![stage.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let data = std::fs::read(entry.path()).unwrap();
            output.write_all_at(&data, at).unwrap();
            at += (data.len() as u64).next_multiple_of(4096);
        }
    }
}

/// A disk of which is known what has changed, as a tracker knows it.
#[derive(Debug)]
pub struct Known {
    pub disk: FileDisk,
    pub ranges: Vec<Range<u64>>,
}

#[async_trait]
impl BlockSource for Known {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        let (mut at, end) = (offset, offset + length);
        let mut extents = Vec::new();
        let first = self.ranges.partition_point(|range| range.end <= offset);
        for range in self.ranges[first..].iter().take_while(|range| range.start < end) {
            let (from, to) = (range.start.max(offset), range.end.min(end));
            if at < from {
                extents.push(Extent { offset: at, length: from - at, kind: ExtentKind::Unchanged });
            }
            extents.push(Extent { offset: from, length: to - from, kind: ExtentKind::Data });
            at = to;
        }
        if at < end {
            extents.push(Extent { offset: at, length: end - at, kind: ExtentKind::Unchanged });
        }
        Ok(extents)
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk.read_at(offset, buffer).await
    }
}

/// Whether two files hold the same.
pub fn same(left: &Path, right: &Path) -> bool {
    let (left, right) = (File::open(left).unwrap(), File::open(right).unwrap());
    let size = left.metadata().unwrap().len();
    let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    while at < size {
        let length = (size - at).min(1 << 20) as usize;
        left.read_exact_at(&mut one[..length], at).unwrap();
        right.read_exact_at(&mut other[..length], at).unwrap();
        if one[..length] != other[..length] {
            return false;
        }
        at += length as u64;
    }
    size == right.metadata().unwrap().len()
}
