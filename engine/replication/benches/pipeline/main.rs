//! The whole way of a disk into the vault and back, beside a bare loop over the same libraries and beside other tools.
//!
//! ```text
//!   cargo bench -p muster-replication --bench pipeline -- 4GiB 3        size of the image, number of runs
//! ```
//!
//! Every run makes a new vault from the same seeded image and does, one after the other, first the roofline and then
//! Muster: a first copy, a delta of 1 %, a delta of 5 % (both with the changed extents known), and a restore that is
//! compared with the disk. At the end stand the medians. The roofline is two threads that read, test for zeroes,
//! compress, seal, hash and write, with no queue, format or index between them: what is physically there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod image;
mod measure;
mod peers;
mod roofline;

use image::{Known, Sample};
use measure::{Cost, Table, measure};
use muster_ports::*;
use muster_replication::pipeline::{FileDisk, materialise, ship};
use muster_vault::{KeySource, Vault};
use std::path::Path;

const LEVEL: i32 = 3;

fn main() {
    let mut sizes = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let size = sizes.next().map_or(4 << 30, |text| bytes_of(&text));
    let runs: usize = sizes.next().map_or(1, |text| text.parse().expect("the number of runs"));
    take_memory_from_the_host();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut table = Table::default();
    for run in 0..runs {
        eprintln!("run {} of {runs}", run + 1);
        let mut sample = Sample::make(&folder.path().join("disk.raw"), size);
        eprintln!("image: {} MiB, {} MiB of it data", size >> 20, sample.data_bytes() >> 20);
        let place = folder.path().join(format!("run-{run}"));
        std::fs::create_dir(&place).unwrap();
        one_run(&runtime, &mut sample, &place, &mut table);
        std::fs::remove_dir_all(&place).unwrap();
        std::fs::remove_file(sample.path()).unwrap();
    }
    table.print();
}

/// The first use of a page in a virtual machine whose host has not given it yet costs ten times what the next one does
/// (measured: 2.3 s a GiB of files written, and 0.2 s after that), and whoever is measured first would pay for all.
fn take_memory_from_the_host() {
    let facts = std::fs::read_to_string("/proc/meminfo").unwrap();
    let available = facts.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    let kibibytes: usize = available.trim().trim_end_matches(" kB").parse().unwrap();
    let gibibytes = (kibibytes >> 20).saturating_sub(1);
    eprintln!("taking {gibibytes} GiB of memory from the host, so that nobody measured has to");
    let taken: Vec<Vec<u8>> = (0..gibibytes).map(|_| vec![1; 1 << 30]).collect();
    std::hint::black_box(taken);
}

fn bytes_of(text: &str) -> u64 {
    let size: muster_runsheet::Size = text.parse().expect("a size, `4GiB`");
    size.0
}

fn one_run(runtime: &tokio::runtime::Runtime, sample: &mut Sample, place: &Path, table: &mut Table) {
    let key = KeySource::generate_file(&place.join("key"), &SystemRandom).unwrap();
    let url = format!("file://{}", place.join("vault").display());
    let vault = runtime.block_on(Vault::init(&url, &key, &SystemRandom)).unwrap();
    let mut segments = Vec::new();
    let all: Vec<_> = std::iter::once(0..sample.size()).collect();
    for (what, percent) in [("first copy", 0), ("delta 1 %", 1), ("delta 5 %", 5)] {
        let known = if percent == 0 { None } else { Some(sample.change(percent)) };
        let ranges = known.as_deref().unwrap_or(&all);
        let bare = place.join("roofline");
        let (frames, cost) = measure(|| roofline::copy(sample.path(), ranges, &bare, percent == 0));
        table.add(what, "roofline", cost.stored(frames.stored_bytes()));
        let cost = runtime.block_on(muster_copy(&vault, sample, known.clone(), &mut segments));
        table.add(what, "muster", cost);
        if percent == 0 {
            roofline_restore(&frames, place, sample, table);
        }
        peers::copy(what, sample.path(), place, table);
        std::fs::remove_file(&bare).unwrap();
    }
    muster_restore(runtime, &vault, &segments, sample, place, table);
    peers::restore(place, table);
}

async fn muster_copy(
    vault: &Vault,
    sample: &Sample,
    known: Option<Vec<std::ops::Range<u64>>>,
    segments: &mut Vec<SegmentRef>,
) -> Cost {
    let order = ShipOrder {
        vault: vault.url().to_owned(),
        epoch: Epoch(1),
        barrier: "b".into(),
        machine: "m".into(),
        disk: "d".into(),
        lineage: "l".into(),
        mode: if known.is_some() { ShipMode::Delta } else { ShipMode::Full },
        compression: LEVEL,
        rate_limit: None,
        pace: None,
        seed: None,
    };
    let disk = FileDisk::open(sample.path()).unwrap();
    let (shipped, cost) = measure::measure_async(async {
        match known {
            Some(ranges) => ship(vault, &Known { disk, ranges }, &order, &"w".into(), &Silent).await.unwrap(),
            None => ship(vault, &disk, &order, &"w".into(), &Silent).await.unwrap(),
        }
    })
    .await;
    segments.extend(shipped.segments);
    cost.stored(shipped.stored_bytes)
}

fn roofline_restore(frames: &roofline::Frames, place: &Path, sample: &Sample, table: &mut Table) {
    let target = place.join("roofline.raw");
    let ((), cost) = measure(|| frames.restore(&target, sample.size()));
    table.add("restore", "roofline", cost);
    std::fs::remove_file(&target).unwrap();
}

/// The newest state, three layers deep, compared with the disk.
fn muster_restore(
    runtime: &tokio::runtime::Runtime,
    vault: &Vault,
    segments: &[SegmentRef],
    sample: &Sample,
    place: &Path,
    table: &mut Table,
) {
    let image = ReplicaImage {
        vault: vault.url().to_owned(),
        point: "p".into(),
        size_bytes: sample.size(),
        segments: segments.to_vec(),
    };
    let path = place.join("restored.raw");
    for (who, durable) in [("muster", false), ("muster, durable", true)] {
        let target = FileDisk::create(&path, sample.size()).unwrap();
        let target = if durable { target } else { target.without_flush() };
        let (report, cost) = runtime.block_on(measure::measure_async(async {
            materialise(&vault.replica(&image), &target, &Silent).await.unwrap()
        }));
        assert!(report.written_bytes > 0);
        table.add("restore", who, cost);
        assert!(image::same(&path, sample.path()), "the restored disk differs");
        std::fs::remove_file(&path).unwrap();
    }
}
