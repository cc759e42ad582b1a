//! Every single bit of a small vault is flipped, one at a time: a scrub without any key finds it, and a reader with the key
//! never gets a wrong byte. Of a big one, so many bits drawn by lot.
//!
//! `MUSTER_FLIPS=100000` flips so many of the big one; `MUSTER_EVERY_BIT=1` reads the small one after every single flip.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::*;
use muster_ports::*;
use muster_vault::*;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::sync::Arc;

/// 64 KiB in eight segments, so that a flipped bit costs the reading of one.
const SEGMENTS: u64 = 8;
const SEGMENT_BYTES: usize = 8 << 10;
/// Flips of one segment that are also read with the key: all of its bits take minutes, every so many is enough for every
/// day.
const READ_EVERY: usize = 37;
/// Segments of the big vault, its bytes, and its flips of every day.
const BIG_SEGMENTS: u64 = 512;
const BIG_BYTES: u64 = 64 << 20;
const BIG_FLIPS: u64 = 10_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

struct Small {
    bench: Bench,
    segments: Vec<SegmentRef>,
    objects: Vec<Vec<u8>>,
}

impl Small {
    async fn new() -> Self {
        let bench = bench().await;
        let (mut segments, mut objects) = (Vec::new(), Vec::new());
        for number in 0..SEGMENTS {
            let mut writer = writer(&bench.vault);
            let at = number << 20;
            // Frames that compress and frames that do not, one entry of zeroes.
            writer.write(at, &noise(number, 3 << 10)).await.unwrap();
            writer.write(at + 4096, &b"word ".repeat(800)).await.unwrap();
            writer.zero(at + 16_384, 4096).await.unwrap();
            let rest = noise(100 + number, SEGMENT_BYTES - (3 << 10) - 700);
            writer.write(at + 32_768, &rest).await.unwrap();
            segments.extend(writer.finish().await.unwrap());
        }
        for segment in &segments {
            let object = bench.store.get(&path(segment)).await.unwrap().bytes().await.unwrap();
            objects.push(object.to_vec());
        }
        let total: usize = objects.iter().map(Vec::len).sum();
        assert!((56 << 10..72 << 10).contains(&total), "{total}");
        Self { bench, segments, objects }
    }

    async fn put(&self, index: usize, bytes: &[u8]) {
        let options = PutOptions { mode: PutMode::Overwrite, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(Bytes::copy_from_slice(bytes));
        self.bench.store.put_opts(&path(&self.segments[index]), payload, options).await.unwrap();
    }

    /// With no index remembered from before.
    fn fresh(&self) -> Vault {
        self.bench.vault.clone().with_random(Arc::new(Seeded::new(9)))
    }
}

fn path(segment: &SegmentRef) -> Path {
    Path::from(format!("data/{}", segment.name))
}

#[tokio::test]
async fn every_flipped_bit_is_found_without_a_key() {
    let small = Small::new().await;
    let place = small.bench.vault.place().clone();
    let (mut flips, mut missed) = (0u64, Vec::new());
    for (index, object) in small.objects.iter().enumerate() {
        let one = &small.segments[index..=index];
        let mut bytes = object.clone();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            small.put(index, &bytes).await;
            if scrub(&place, one).await.unwrap().damaged.is_empty() {
                missed.push((index, bit));
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
            flips += 1;
        }
        small.put(index, object).await;
    }
    assert!(missed.is_empty(), "{missed:?}");
    assert!(flips > 56 << 13, "{flips}");
    assert!(scrub(&place, &small.segments).await.unwrap().damaged.is_empty());
}

#[tokio::test]
async fn a_flipped_bit_is_an_error_and_never_another_byte() {
    let small = Small::new().await;
    let size = SEGMENTS << 20;
    let right = content(&small.fresh().replica(&image(&small.bench.vault, size, &small.segments))).await;
    let every = if number("MUSTER_EVERY_BIT").is_some() { 1 } else { READ_EVERY };
    let mut flips = 0;
    for (index, object) in small.objects.iter().enumerate() {
        let one = image(&small.bench.vault, size, &small.segments[index..=index]);
        let begin = index << 20;
        let mut bytes = object.clone();
        for bit in (index % every..bytes.len() * 8).step_by(every) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            small.put(index, &bytes).await;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let replica = small.fresh().replica(&one);
            let mut read = vec![0xaa; 64 << 10];
            match replica.read(begin as u64, &mut read).await {
                Ok(()) => assert!(read == right[begin..begin + read.len()], "segment {index}, bit {bit}: wrong bytes"),
                Err(error) => assert!(!matches!(error, VaultError::Store { .. }), "{error}"),
            }
            // What is read of it may not need the bit; reading all of it does.
            let found = match replica.verify(&Silent).await {
                Ok(report) => !report.damaged.is_empty(),
                Err(_) => true,
            };
            assert!(found, "segment {index}, bit {bit}: not found by verify");
            flips += 1;
        }
        small.put(index, object).await;
    }
    assert!(flips > 12_000, "{flips}");
}

/// A segment of an older point under the name of a younger one, or of another disk, does not open: names are sealed in.
#[tokio::test]
async fn a_segment_replayed_under_another_name_does_not_open() {
    let small = Small::new().await;
    for (index, other) in [(1, 0), (0, 7), (3, 4)] {
        small.put(index, &small.objects[other]).await;
        let mut reference = small.segments[index].clone();
        reference.stored_bytes = small.objects[other].len() as u64;
        let one = image(&small.bench.vault, SEGMENTS << 20, &[reference]);
        let mut read = vec![0; 4096];
        small.fresh().replica(&one).read((index as u64) << 20, &mut read).await.unwrap_err();
        small.put(index, &small.objects[index]).await;
    }
}

/// `vault.json` and the key slot: whoever opens the vault gets its content or a reason.
#[tokio::test]
async fn a_flipped_bit_of_what_opens_a_vault_is_never_another_content() {
    let small = Small::new().await;
    let size = SEGMENTS << 20;
    let of = |vault: &Vault| image(vault, size, &small.segments[..1]);
    let store: Arc<dyn ObjectStore> = small.bench.store.clone();
    let open = async || Vault::open_at(Place::at("memory:///", store.clone(), Path::default()), &small.bench.key).await;
    let mut right = vec![0; 64 << 10];
    small.fresh().replica(&of(&small.bench.vault)).read(0, &mut right).await.unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for name in ["vault.json", "keys/1.slot"] {
        let path = Path::from(name);
        let object = small.bench.store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        let mut bytes = object.clone();
        for bit in 0..object.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            store.put(&path, bytes.clone().into()).await.unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match open().await {
                // White space, or a digit in capitals: it means the same.
                Ok(vault) => {
                    let mut read = vec![0xaa; right.len()];
                    vault.replica(&of(&vault)).read(0, &mut read).await.unwrap();
                    assert!(read == right, "{name}, bit {bit}");
                    harmless += 1;
                }
                Err(error) => {
                    assert!(!matches!(error, VaultError::Store { .. }), "{name}, bit {bit}: {error}");
                    refused += 1;
                }
            }
        }
        store.put(&path, object.into()).await.unwrap();
    }
    assert!(refused > 1_000 && harmless * 20 < refused, "{refused} refused, {harmless} harmless");
}

#[tokio::test]
async fn flips_of_a_big_vault_are_found_with_and_without_a_key() {
    let bench = bench().await;
    let each = BIG_BYTES / BIG_SEGMENTS;
    let mut segments = Vec::new();
    for number in 0..BIG_SEGMENTS {
        let mut writer = writer(&bench.vault);
        let content = noise(number, usize::try_from(each).unwrap());
        writer.write(number * each, &content).await.unwrap();
        segments.extend(writer.finish().await.unwrap());
    }
    let mut objects = Vec::new();
    for segment in &segments {
        objects.push(bench.store.get(&path(segment)).await.unwrap().bytes().await.unwrap().to_vec());
    }
    let all: u64 = objects.iter().map(|object| object.len() as u64 * 8).sum();
    assert!(all >= BIG_BYTES * 8, "{all}");
    let lot = Seeded::new(20);
    for flip in 0..number("MUSTER_FLIPS").unwrap_or(BIG_FLIPS) {
        let mut bit = usize::try_from(lot.next_u64() % all).unwrap();
        let index = objects.iter().position(|object| {
            let inside = bit < object.len() * 8;
            bit -= if inside { 0 } else { object.len() * 8 };
            inside
        });
        let index = index.unwrap();
        let mut bytes = objects[index].clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bench.store.put(&path(&segments[index]), bytes.into()).await.unwrap();
        let one = &segments[index..=index];
        let scrubbed = scrub(bench.vault.place(), one).await.unwrap();
        assert_eq!(scrubbed.damaged.len(), 1, "flip {flip}: bit {bit} of segment {index}");
        let vault = bench.vault.clone().with_random(Arc::new(Seeded::new(9)));
        let found = match vault.replica(&image(&vault, BIG_BYTES, one)).verify(&Silent).await {
            Ok(report) => !report.damaged.is_empty(),
            Err(_) => true,
        };
        assert!(found, "flip {flip}: bit {bit} of segment {index} is not found by verify");
        bench.store.put(&path(&segments[index]), objects[index].clone().into()).await.unwrap();
    }
    assert!(scrub(bench.vault.place(), &segments).await.unwrap().damaged.is_empty());
}
