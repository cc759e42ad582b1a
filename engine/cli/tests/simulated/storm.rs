//! SIGKILL at random moments of everything that writes to a vault or lands from it: first copies, cycles, resyncs, garbage
//! collection, landings. After each: every committed point still says what it said, and once replication has gone on the
//! newest says what lies on the disks, and garbage collection leaves nothing that no point needs.
//!
//! A life is one shop with a round of each kind, in an order that its number decides. A moment is not a time but a number
//! of files that came or went since the command began, so that a slow machine is killed in the same places as a fast one.
//!
//! `MUSTER_STORM_LIVES=40` plays two hundred rounds; `MUSTER_STORM_LIFE=17` plays the life of that number again, alone.

use crate::shop::{MACHINES, Running, Shop};
use muster_demo::estate::{AWAY, Estate, HOME};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Lives of every run of the tests; a life takes some ten seconds.
const LIVES: u64 = 2;
/// A kill comes up to so much after its file, in microseconds: before, in or behind the next write.
const AFTER_FILE_MICROS: u64 = 8_000;
/// Bytes of changes behind the back of an agent, which it then has to find by comparing.
const NOISE_BYTES: usize = 2 << 20;
const LOOK: Duration = Duration::from_millis(1);
/// Far above what any of the commands takes.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// What is hashed at once; holes of a sparse file are as quick as their zeroes.
const BLOCK: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    FirstCopy,
    Cycle,
    Resync,
    Gc,
    Landing,
}

impl Kind {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::FirstCopy | Self::Cycle | Self::Resync => &["replicate", "--once"],
            Self::Gc => &["vault", "gc", "--grace", "0s"],
            Self::Landing => &["drill", "shop", "--no-wait"],
        }
    }

    /// Files that come and go from the beginning to the end of the command, about: kills are spread over them.
    fn files(self) -> u64 {
        match self {
            Self::FirstCopy | Self::Cycle | Self::Resync => 24,
            Self::Gc => 16,
            Self::Landing => 60,
        }
    }

    /// The site whose agent works for it.
    fn site(self) -> Option<&'static str> {
        match self {
            Self::FirstCopy | Self::Cycle | Self::Resync => Some(HOME),
            Self::Landing => Some(AWAY),
            Self::Gc => None,
        }
    }
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Muster,
    Agent,
    Both,
}

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn victim(&mut self, kind: Kind) -> Victim {
        match (kind.site(), self.below(10)) {
            (Some(_), 0 | 1) => Victim::Agent,
            (Some(_), 2 | 3) => Victim::Both,
            _ => Victim::Muster,
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

#[test]
fn killed_at_any_moment_nothing_committed_is_lost_and_nothing_is_left_over() {
    let lives: Vec<u64> = match number("MUSTER_STORM_LIFE") {
        Some(life) => vec![life],
        None => (1..=number("MUSTER_STORM_LIVES").unwrap_or(LIVES)).collect(),
    };
    let mut hit = 0;
    for life in &lives {
        println!("MUSTER_STORM_LIFE={life}");
        hit += Life::new(*life).play();
    }
    assert!(hit >= lives.len(), "{hit} kills in {} lives: the moments have to be spread anew", lives.len());
}

struct Life {
    shop: Shop,
    chance: Chance,
    /// What each point said when it was first seen: a hash for each of its disks.
    known: BTreeMap<String, BTreeMap<String, String>>,
}

impl Life {
    fn new(number: u64) -> Self {
        let shop = Shop::new();
        shop.type_in(&["vault", "init"]).ends(0);
        shop.type_in(&["protect"]).ends(0);
        Self { shop, chance: Chance(number), known: BTreeMap::new() }
    }

    /// Answers with how many kills came before their command had ended.
    fn play(mut self) -> usize {
        let mut kinds = vec![Kind::Cycle, Kind::Resync, Kind::Gc, Kind::Landing];
        let mut hit = usize::from(self.round(Kind::FirstCopy));
        while !kinds.is_empty() {
            let next = usize::try_from(self.chance.below(kinds.len() as u64)).unwrap();
            let kind = kinds.swap_remove(next);
            hit += usize::from(self.round(kind));
        }
        hit
    }

    fn round(&mut self, kind: Kind) -> bool {
        let began = Instant::now();
        self.prepare(kind);
        let victim = self.chance.victim(kind);
        let (files, after) = (self.chance.below(kind.files()), self.chance.below(AFTER_FILE_MICROS));
        let hit = self.kill(kind, victim, files, Duration::from_micros(after));
        let met = if hit { "in the middle" } else { "ended before" };
        println!("  {kind:?}: {victim:?} killed after {files} files and {after} us ({met})");
        self.assert_committed_points_are_whole();
        self.heal(kind);
        self.assert_the_newest_points_are_the_disks();
        self.assert_no_orphans();
        println!("  {kind:?}: {:.1} s", began.elapsed().as_secs_f64());
        hit
    }

    fn prepare(&mut self, kind: Kind) {
        match kind {
            Kind::FirstCopy | Kind::Landing => {}
            Kind::Cycle => {
                let had = self.shop.estate.last_answered(HOME).unwrap();
                self.shop.wait_until("the shop writes", || self.shop.estate.last_answered(HOME).unwrap() > had);
            }
            Kind::Resync => {
                self.shop.estate.kill(HOME).unwrap();
                self.write_noise();
                self.revive(HOME);
            }
            Kind::Gc => {
                for number in 0..6 {
                    let orphan = self.shop.vault().join(format!("data/nobody-root-{number}/1-agent-000001.seg"));
                    std::fs::create_dir_all(orphan.parent().unwrap()).unwrap();
                    std::fs::write(orphan, [7; 4096]).unwrap();
                }
            }
        }
    }

    /// Over the end of the web machine's disk, which holds no records.
    fn write_noise(&mut self) {
        let mut file = File::options().write(true).open(self.disk("web", "root")).unwrap();
        let length = file.metadata().unwrap().len();
        let words = (0..NOISE_BYTES / 8).map(|_| self.chance.below(u64::MAX).to_le_bytes());
        let noise: Vec<u8> = words.flatten().collect();
        file.seek(SeekFrom::Start(length - noise.len() as u64)).unwrap();
        file.write_all(&noise).unwrap();
    }

    fn disk(&self, machine: &str, disk: &str) -> PathBuf {
        self.shop.folder.path().join("lab").join(HOME).join("machines").join(machine).join(format!("{disk}.raw"))
    }

    /// Starts the command and kills whom it shall after so many files; false when the command had ended by then.
    fn kill(&mut self, kind: Kind, victim: Victim, files: u64, after: Duration) -> bool {
        let watched = [self.shop.vault(), self.shop.folder.path().join("lab").join(AWAY)];
        let mut seen = Seen::new(&watched);
        let mut running = self.shop.stays(self.shop.command(kind.words()));
        while seen.changes() < files {
            if !running.is_running() {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        std::thread::sleep(after);
        let hit = running.is_running();
        if victim != Victim::Agent {
            running.kill();
        }
        if let (Victim::Agent | Victim::Both, Some(site)) = (victim, kind.site()) {
            self.shop.estate.kill(site).unwrap();
            self.revive(site);
        }
        wait_for_the_end(&mut running);
        hit
    }

    fn revive(&mut self, site: &str) {
        self.shop.estate.start(site).unwrap();
        let shop = &self.shop;
        shop.wait_until("the agent answers", || shop.json(&["machines"])["silent"].as_array().unwrap().is_empty());
        if site == HOME {
            self.power("on");
        }
    }

    fn power(&self, word: &str) {
        for machine in MACHINES {
            self.shop.type_in(&["power", word, HOME, machine]).ends(0);
        }
    }

    /// Ends what was begun, as a person would.
    fn heal(&self, kind: Kind) {
        if kind != Kind::Landing {
            return;
        }
        let shop = &self.shop;
        let runs = shop.json(&["runs"]);
        let open = runs.as_array().unwrap().iter().any(|run| run["status"] == "open");
        if open {
            let resumed = shop.type_in(&["resume", "--no-wait"]);
            shop.finish(resumed).ends(0);
        }
        if !runs.as_array().unwrap().is_empty() {
            shop.play(&["cleanup", "shop"]);
        }
    }

    /// What was committed before the kill says what it said; what was committed by it can be read.
    fn assert_committed_points_are_whole(&mut self) {
        let shop = &self.shop;
        let scrubbed = shop.json(&["scrub"]);
        assert!(scrubbed["damaged"].as_array().unwrap().is_empty(), "{scrubbed}");
        let verified = shop.json(&["verify", "--all"]);
        assert!(verified["damaged"].as_array().unwrap().is_empty(), "{verified}");
        let points: BTreeSet<String> = shop.json(&["points"])["points"]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| point["id"].as_str().unwrap().to_owned())
            .collect();
        let gone: Vec<&String> = self.known.keys().filter(|point| !points.contains(*point)).collect();
        assert!(gone.is_empty(), "committed and gone: {gone:?}");
        // The new ones, and one of those that are known.
        let (old, mut looked_at): (Vec<String>, Vec<String>) =
            points.into_iter().partition(|point| self.known.contains_key(point));
        let lot = usize::try_from(self.chance.below(old.len().max(1) as u64)).unwrap();
        looked_at.extend(old.into_iter().nth(lot));
        for point in looked_at {
            let content = self.content(&point);
            let known = self.known.entry(point.clone()).or_insert_with(|| content.clone());
            assert_eq!(*known, content, "point {point} says something else");
        }
    }

    /// The disks of a point by the names of their files, `web-root.raw`.
    fn content(&self, point: &str) -> BTreeMap<String, String> {
        let to = tempfile::tempdir_in(self.shop.folder.path()).unwrap();
        self.shop.type_in(&["materialise", point, "--to", &to.path().display().to_string()]).ends(0);
        let files = std::fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), hash(&path))).collect()
    }

    /// Replication goes on, and a point of machines at rest is what lies on their disks.
    fn assert_the_newest_points_are_the_disks(&mut self) {
        self.power("off");
        self.shop.type_in(&["replicate", "--once"]).ends(0);
        for group in ["orders", "front"] {
            let point = self.shop.newest_point(group);
            let content = self.content(&point);
            assert!(!content.is_empty());
            for (file, found) in &content {
                let (machine, disk) = file.strip_suffix(".raw").unwrap().split_once('-').unwrap();
                assert_eq!(*found, hash(&self.disk(machine, disk)), "{file} of {point} is not what lies on the disk");
            }
            self.known.insert(point, content);
        }
        self.power("on");
    }

    /// Whatever lies among the segments, in the store's eyes an object or not, is needed by a point.
    fn assert_no_orphans(&self) {
        self.shop.type_in(&["vault", "gc", "--grace", "0s"]).ends(0);
        let scrubbed = self.shop.json(&["scrub"]);
        let mut files = BTreeSet::new();
        walk(&self.shop.vault().join("data"), &mut files);
        assert_eq!(scrubbed["segments"].as_u64().unwrap(), files.len() as u64, "{files:#?}");
    }
}

fn wait_for_the_end(running: &mut Running) {
    let began = Instant::now();
    while running.is_running() {
        assert!(began.elapsed() < COMMAND_LIMIT, "does not end: {}", running.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!running.log().contains("panicked"), "{}", running.log());
}

/// Files that have come or gone since a moment.
struct Seen<'a> {
    folders: &'a [PathBuf],
    now: BTreeSet<PathBuf>,
    changes: u64,
}

impl<'a> Seen<'a> {
    fn new(folders: &'a [PathBuf]) -> Self {
        let mut seen = Self { folders, now: BTreeSet::new(), changes: 0 };
        seen.changes();
        seen.changes = 0;
        seen
    }

    fn changes(&mut self) -> u64 {
        let mut files = BTreeSet::new();
        self.folders.iter().for_each(|folder| walk(folder, &mut files));
        self.changes += files.symmetric_difference(&self.now).count() as u64;
        self.now = files;
        self.changes
    }
}

/// Every file below a folder; others may be at work in it.
fn walk(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), files),
            Ok(_) => drop(files.insert(entry.path())),
            Err(_) => {}
        }
    }
}

/// Of a disk's content: where data lies, and which.
fn hash(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let zeroes = [0; BLOCK];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes.len().to_le_bytes());
    for (number, block) in bytes.chunks(BLOCK).enumerate().filter(|(_, block)| *block != &zeroes[..block.len()]) {
        hasher.update(&number.to_le_bytes()).update(block);
    }
    hasher.finalize().to_hex().to_string()
}
