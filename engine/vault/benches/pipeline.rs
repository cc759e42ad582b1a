//! What the stages of the way into the vault cost, as ratios within one run: `cargo bench -p muster-vault`.
//!
//! Absolute numbers depend on the machine and its load; the ratios say whether everything hides behind compression.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use aes_gcm::aead::{AeadInOut, KeyInit};
use muster_ports::{
    Clock, Epoch, LineageId, PointId, Random, ReplicaImage, Silent, SystemClock, SystemRandom, WriterId,
};
use muster_vault::{KeySource, Packer, Vault, is_zero};
use std::hint::black_box;

const FRAME: usize = 256 << 10;
const TOTAL: usize = 128 << 20;
const LEVEL: i32 = 3;

/// Half text, half noise: about as compressible as a system disk.
fn sample() -> Vec<u8> {
    let mut bytes = vec![0; TOTAL];
    SystemRandom.fill(&mut bytes);
    for (number, block) in bytes.chunks_mut(4096).enumerate() {
        if number % 2 == 0 {
            for (at, byte) in block.iter_mut().enumerate() {
                *byte = b"the quick brown fox jumps over "[(at + *byte as usize % 3) % 31];
            }
        }
    }
    bytes
}

fn measure(what: &str, base: Option<f64>, work: impl FnOnce()) -> f64 {
    let begin = SystemClock.now();
    work();
    let seconds = SystemClock.now().since(begin).as_secs_f64().max(0.001);
    let ratio = base.map_or(1.0, |base| seconds / base);
    println!("{what:<34} {:>8.0} MB/s   {ratio:>6.2} x zstd", TOTAL as f64 / 1e6 / seconds);
    seconds
}

fn main() {
    let data = sample();
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).unwrap();
    let mut stored = Vec::with_capacity(zstd::zstd_safe::compress_bound(FRAME));
    let mut compressed = 0;
    let zstd = measure("zstd -3 alone", None, || {
        for frame in data.chunks(FRAME) {
            stored.clear();
            compressed += compressor.compress_to_buffer(frame, &mut stored).unwrap();
        }
    });
    let base = Some(zstd);
    measure("zero test alone", base, || {
        black_box(data.chunks(64 << 10).filter(|block| is_zero(block)).count());
    });
    measure("BLAKE3 alone", base, || {
        for frame in data.chunks(FRAME) {
            black_box(blake3::hash(frame));
        }
    });
    let cipher = aes_gcm::Aes256Gcm::new(&[7; 32].into());
    let mut sealed = data.clone();
    measure("AES-256-GCM alone, in place", base, || {
        for frame in sealed.chunks_mut(FRAME) {
            black_box(cipher.encrypt_inout_detached(&[1; 12].into(), b"", frame.into()).unwrap());
        }
    });
    drop(sealed);
    let mut packer = Packer::new(LEVEL).unwrap();
    measure("zstd and BLAKE3 (packer)", base, || {
        for frame in data.chunks(FRAME) {
            black_box(packer.pack(frame).unwrap());
        }
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = KeySource::generate_file(&folder.path().join("key"), &SystemRandom).unwrap();
    let url = format!("file://{}/vault", folder.path().display());
    let vault = runtime.block_on(Vault::init(&url, &key, &SystemRandom)).unwrap();
    let mut writer = vault.segment_writer(&LineageId::new("l"), Epoch(1), &WriterId::new("bench"), LEVEL);
    let mut segments = Vec::new();
    measure("whole way in, one thread, fsync", base, || {
        segments = runtime.block_on(async {
            writer.write(0, &data).await.unwrap();
            writer.finish().await.unwrap()
        });
    });
    let stored: u64 = segments.iter().map(|segment| segment.stored_bytes).sum();
    let image = ReplicaImage { vault: url, point: PointId::new("p"), size_bytes: TOTAL as u64, segments };
    measure("whole way out, every frame checked", base, || {
        let report = runtime.block_on(vault.replica(&image).verify(&Silent)).unwrap();
        assert!(report.damaged.is_empty());
    });
    println!(
        "stored {:.2} of the plain size (zstd alone {:.2})",
        stored as f64 / TOTAL as f64,
        compressed as f64 / TOTAL as f64
    );
}
