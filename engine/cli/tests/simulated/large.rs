//! A disk of 2 TiB through the whole program: what holds little and changes little costs little, in bytes and in memory.

use crate::shop::{COMMAND_LIMIT, Shop};
use muster_demo::estate::{Estate, HOME};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 2 << 40;
/// Of noise, at a time.
const NOISE: u64 = 10 * MIB;
/// What each process may ever hold, whatever the size of its disks.
const MEMORY_MAX: u64 = 256 * MIB;
/// Of ballast, records and whatever the guest writes meanwhile.
const OTHER: u64 = 8 * MIB;
const LOOK: Duration = Duration::from_millis(5);

struct Large {
    shop: Shop,
    muster_peak: u64,
}

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(NOISE).unwrap()];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn peak_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

impl Large {
    /// A shop whose web machine has a disk of 2 TiB.
    fn new() -> Self {
        let mut large = Self { shop: Shop::new(), muster_peak: 0 };
        large.behind_the_agent(|large| {
            let file = File::options().write(true).open(large.disk()).unwrap();
            file.set_len(SIZE).unwrap();
            file.write_all_at(&noise(1), SIZE - NOISE).unwrap();
            let definition = large.disk().with_file_name("machine.json");
            let mut machine: Value = serde_json::from_slice(&std::fs::read(&definition).unwrap()).unwrap();
            machine["disks"][0]["size_bytes"] = SIZE.into();
            std::fs::write(&definition, machine.to_string()).unwrap();
        });
        for words in [&["inventory", "pull"][..], &["vault", "init"], &["protect"]] {
            large.shop.type_in(words).ends(0);
        }
        large
    }

    fn disk(&self) -> PathBuf {
        self.shop.folder.path().join("lab").join(HOME).join("machines/web/root.raw")
    }

    /// Does something while no agent is there to see it.
    fn behind_the_agent(&mut self, what: impl FnOnce(&Self)) {
        self.shop.estate.kill(HOME).unwrap();
        what(self);
        self.shop.estate.start(HOME).unwrap();
        let shop = &self.shop;
        shop.wait_until("hq answers", || shop.json(&["machines"])["silent"].as_array().unwrap().is_empty());
        for machine in crate::shop::MACHINES {
            shop.type_in(&["power", "on", HOME, machine]).ends(0);
        }
    }

    /// Bytes that a cycle of the large disk read, and those it stored.
    fn cycle(&mut self) -> (u64, u64) {
        let mut running = self.shop.stays(self.shop.command(&["replicate", "--once"]));
        let began = Instant::now();
        while running.is_running() {
            assert!(began.elapsed() < COMMAND_LIMIT, "{}", running.log());
            self.muster_peak = self.muster_peak.max(peak_memory(running.process()).unwrap_or(0));
            std::thread::sleep(LOOK);
        }
        assert_eq!(running.ended(), Some(0), "{}", running.log());
        let status = self.shop.json(&["status"]);
        let group = status["groups"].as_array().unwrap().iter().find(|group| group["group"] == "front").unwrap();
        let cycle = &group["last_cycle"];
        let number = |name: &str| cycle[name].as_u64().unwrap_or_else(|| panic!("{name}: {group}"));
        (number("read_bytes"), number("stored_bytes"))
    }
}

#[test]
fn a_disk_of_two_tebibytes_costs_what_it_holds_and_what_changes() {
    let mut large = Large::new();
    let (read, stored) = large.cycle();
    println!("first copy of 2 TiB with {} MiB in it: {read} bytes read, {stored} stored", NOISE / MIB);
    assert!((NOISE..NOISE + OTHER).contains(&read) && stored < NOISE + OTHER, "{read} read, {stored} stored");
    let (read, stored) = large.cycle();
    println!("a cycle: {read} bytes read, {stored} stored");
    assert!(read < MIB && stored < MIB, "{read} read, {stored} stored");
    // The agent does not know what changed, and compares.
    large.behind_the_agent(|large| {
        File::options().write(true).open(large.disk()).unwrap().write_all_at(&noise(2), SIZE / 2).unwrap();
    });
    let (read, stored) = large.cycle();
    println!("a resync with {} MiB changed: {read} bytes read, {stored} stored", NOISE / MIB);
    assert!(read < 2 * NOISE + OTHER && stored < NOISE + MIB, "{read} read, {stored} stored");

    let to = tempfile::tempdir_in(large.shop.folder.path()).unwrap();
    let point = large.shop.newest_point("front");
    large.shop.type_in(&["materialise", &point, "--to", &to.path().display().to_string()]).ends(0);
    let copy = File::open(to.path().join("web-root.raw")).unwrap();
    let facts = copy.metadata().unwrap();
    assert_eq!(facts.len(), SIZE);
    assert!(facts.blocks() * 512 < 2 * NOISE + OTHER, "{} blocks: it is not sparse", facts.blocks());
    for (seed, at) in [(1, SIZE - NOISE), (2, SIZE / 2)] {
        let mut found = vec![0; usize::try_from(NOISE).unwrap()];
        copy.read_exact_at(&mut found, at).unwrap();
        assert!(found == noise(seed), "noise {seed}");
    }
    let agent = large.shop.estate.agent(HOME).and_then(peak_memory).expect("the agent's memory");
    println!("peak memory: agent {} MiB, muster {} MiB", agent / MIB, large.muster_peak / MIB);
    assert!(agent < MEMORY_MAX && large.muster_peak < MEMORY_MAX && large.muster_peak > 0);
}
