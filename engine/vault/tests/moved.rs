//! Whoever can write to the store moves sealed bytes about: frames within a segment, between segments, between points and
//! between disks, whole indexes and whole objects. Nothing that does not lie where it was sealed for is ever opened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::*;
use muster_ports::*;
use muster_vault::*;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::ops::Range;

/// Every frame is stored raw and as long as the others, so that each fits in the place of each.
const FRAME: usize = 4096;
const FRAMES: usize = 4;
/// From FORMAT.md.
const HEADER: usize = 64;
const TAG: usize = 16;
const SIZE: u64 = (FRAMES * FRAME) as u64;

/// Two points of one disk and one of another, all at the same offsets.
struct Three {
    bench: Bench,
    segments: Vec<SegmentRef>,
    objects: Vec<Vec<u8>>,
}

const OLDER: usize = 0;
const NEWER: usize = 1;
const OTHER_DISK: usize = 2;

impl Three {
    async fn new() -> Self {
        let bench = bench().await;
        let (mut segments, mut objects) = (Vec::new(), Vec::new());
        for (number, lineage) in [(OLDER, "db.root-1"), (NEWER, "db.root-1"), (OTHER_DISK, "app.root-1")] {
            let lineage = LineageId::new(lineage);
            let mut writer = bench.vault.segment_writer(&lineage, Epoch(7), &WriterId::new("tester"), 3);
            for frame in 0..FRAMES {
                let content = noise((number * FRAMES + frame) as u64, FRAME);
                writer.write((frame * FRAME) as u64, &content).await.unwrap();
            }
            segments.extend(writer.finish().await.unwrap());
        }
        for segment in &segments {
            objects.push(bench.store.get(&path(segment)).await.unwrap().bytes().await.unwrap().to_vec());
        }
        let length = objects[0].len();
        assert!(segments.len() == 3 && objects.iter().all(|object| object.len() == length));
        Self { bench, segments, objects }
    }

    async fn put(&self, index: usize, bytes: &[u8]) {
        let options = PutOptions { mode: PutMode::Overwrite, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(Bytes::copy_from_slice(bytes));
        self.bench.store.put_opts(&path(&self.segments[index]), payload, options).await.unwrap();
    }

    /// The frames that can still be read of a segment whose object is now this; with the right content or not at all.
    async fn readable(&self, index: usize, object: &[u8]) -> Vec<usize> {
        self.put(index, object).await;
        // With no index remembered from before.
        let vault = self.bench.vault.clone().with_random(std::sync::Arc::new(Seeded::new(9)));
        let replica = vault.replica(&image(&vault, SIZE, &self.segments[index..=index]));
        let mut readable = Vec::new();
        for frame in 0..FRAMES {
            let mut read = vec![0xaa; FRAME];
            match replica.read((frame * FRAME) as u64, &mut read).await {
                Ok(()) => {
                    assert!(read == noise((index * FRAMES + frame) as u64, FRAME), "frame {frame}: another content");
                    readable.push(frame);
                }
                Err(error) => assert!(!matches!(error, VaultError::Store { .. }), "{error}"),
            }
        }
        let found = match replica.verify(&Silent).await {
            Ok(report) => !report.damaged.is_empty(),
            Err(_) => true,
        };
        assert_eq!(found, object != self.objects[index], "verify");
        let scrubbed = scrub(vault.place(), &self.segments[index..=index]).await.unwrap();
        assert_eq!(!scrubbed.damaged.is_empty(), object != self.objects[index], "scrub");
        self.put(index, &self.objects[index]).await;
        readable
    }
}

fn path(segment: &SegmentRef) -> Path {
    Path::from(format!("data/{}", segment.name))
}

/// Ciphertext and tag of a frame.
fn frame(number: usize) -> Range<usize> {
    let begin = HEADER + number * (FRAME + TAG);
    begin..begin + FRAME + TAG
}

#[tokio::test]
async fn frames_that_change_places_do_not_open() {
    let three = Three::new().await;
    assert_eq!(three.readable(OLDER, &three.objects[OLDER]).await, [0, 1, 2, 3], "they lie where they are thought to");
    for (one, other) in [(0, 1), (1, 3), (0, 3), (2, 1)] {
        let mut object = three.objects[NEWER].clone();
        object[frame(one)].copy_from_slice(&three.objects[NEWER][frame(other)]);
        object[frame(other)].copy_from_slice(&three.objects[NEWER][frame(one)]);
        let rest: Vec<usize> = (0..FRAMES).filter(|number| *number != one && *number != other).collect();
        assert_eq!(three.readable(NEWER, &object).await, rest);
    }
    // One frame twice.
    let mut object = three.objects[NEWER].clone();
    object.copy_within(frame(0), frame(2).start);
    assert_eq!(three.readable(NEWER, &object).await, [0, 1, 3]);
}

#[tokio::test]
async fn frames_of_another_point_or_disk_do_not_open() {
    let three = Three::new().await;
    for (into, from) in [(NEWER, OLDER), (OLDER, NEWER), (NEWER, OTHER_DISK), (OTHER_DISK, OLDER)] {
        for number in 0..FRAMES {
            let mut object = three.objects[into].clone();
            object[frame(number)].copy_from_slice(&three.objects[from][frame(number)]);
            let rest: Vec<usize> = (0..FRAMES).filter(|other| *other != number).collect();
            assert_eq!(three.readable(into, &object).await, rest, "from {from} into {into}");
        }
        // All frames, or header and frames, or index and footer, or everything.
        let length = three.objects[into].len();
        let frames = frame(0).start..frame(FRAMES - 1).end;
        for part in [frames.clone(), 0..frames.end, frames.end..length, 0..HEADER, 0..length] {
            let mut object = three.objects[into].clone();
            object[part.clone()].copy_from_slice(&three.objects[from][part.clone()]);
            assert!(three.readable(into, &object).await.is_empty(), "{part:?} from {from} into {into}");
        }
    }
}
