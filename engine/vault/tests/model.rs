//! Layers of segments against a plain array of bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use muster_ports::{BlockSource, ExtentKind};
use proptest::prelude::*;

const SIZE: usize = 2 << 20;
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write { sector: usize, sectors: usize, seed: u64, dull: bool },
    Zero { sector: usize, sectors: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let sectors = SIZE / SECTOR;
    // Lengths around the frame sizes matter: 64 KiB deltas inside 256 KiB frames, and odd ones across their borders.
    let length = prop_oneof![Just(128usize), Just(512), 1..700usize];
    let place = (0..sectors, length).prop_map(move |(at, length)| (at, length.min(sectors - at)));
    prop_oneof![
        3 => (place.clone(), any::<u64>(), any::<bool>()).prop_map(|((sector, sectors), seed, dull)| {
            Change::Write { sector, sectors, seed, dull }
        }),
        1 => place.prop_map(|(sector, sectors)| Change::Zero { sector, sectors }),
    ]
}

async fn check(layers: Vec<Vec<Change>>, segment_bytes: usize) {
    let bench = bench().await;
    let mut model = vec![0u8; SIZE];
    let mut segments = Vec::new();
    for layer in layers {
        let mut writer = writer(&bench.vault).with_segment_bytes(segment_bytes);
        for change in layer {
            match change {
                Change::Write { sector, sectors, seed, dull } => {
                    let range = sector * SECTOR..(sector + sectors) * SECTOR;
                    let data = if dull { vec![seed as u8; range.len()] } else { noise(seed, range.len()) };
                    model[range.clone()].copy_from_slice(&data);
                    writer.write(range.start as u64, &data).await.unwrap();
                }
                Change::Zero { sector, sectors } => {
                    model[sector * SECTOR..(sector + sectors) * SECTOR].fill(0);
                    writer.zero((sector * SECTOR) as u64, (sectors * SECTOR) as u64).await.unwrap();
                }
            }
        }
        segments.extend(writer.finish().await.unwrap());
        let replica = bench.vault.replica(&image(&bench.vault, SIZE as u64, &segments));
        assert!(content(&replica).await == model, "content differs");
    }
    let replica = bench.vault.replica(&image(&bench.vault, SIZE as u64, &segments));
    let mut at = 0;
    for extent in replica.extents(0, SIZE as u64).await.unwrap() {
        assert_eq!(extent.offset, at);
        at += extent.length;
        let range = extent.offset as usize..at as usize;
        assert!(extent.kind == ExtentKind::Data || model[range].iter().all(|byte| *byte == 0));
    }
    assert_eq!(at, SIZE as u64);
    let pieces = replica.pieces(0, SIZE as u64).await.unwrap();
    assert_eq!(pieces.iter().map(|piece| piece.length).sum::<u64>(), SIZE as u64);
    for frame in replica.frames().await.unwrap() {
        let range = frame.offset as usize..(frame.offset + frame.length) as usize;
        assert_eq!(*blake3::hash(&model[range]).as_bytes(), frame.hash);
    }
    assert!(replica.verify(&muster_ports::Silent).await.unwrap().damaged.is_empty());
    assert!(scrub(bench.vault.place(), &segments).await.unwrap().damaged.is_empty());
}

use muster_vault::scrub;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn layers_read_like_an_array(
        layers in prop::collection::vec(prop::collection::vec(change(), 0..6), 1..5),
        segment_bytes in prop_oneof![Just(0usize), Just(300 << 10), Just(16 << 20)],
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(check(layers, segment_bytes));
    }
}

#[tokio::test]
async fn a_small_delta_inside_a_large_frame_keeps_both_ends() {
    let bench = bench().await;
    let base = noise(1, 256 << 10);
    let mut first = writer(&bench.vault);
    first.write(0, &base).await.unwrap();
    let mut segments = first.finish().await.unwrap();
    let delta = noise(2, 64 << 10);
    let mut second = writer(&bench.vault);
    second.write(64 << 10, &delta).await.unwrap();
    segments.extend(second.finish().await.unwrap());
    let replica = bench.vault.replica(&image(&bench.vault, 256 << 10, &segments));
    let mut expected = base;
    expected[64 << 10..128 << 10].copy_from_slice(&delta);
    assert!(content(&replica).await == expected);
    assert_eq!(replica.frames().await.unwrap().count(), 1, "only the delta is whole");
    assert!(replica.read(1, &mut [0; 256 << 10]).await.is_err(), "past the end");
}
