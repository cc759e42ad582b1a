//! What the tests of the vault share.

#![allow(dead_code, unreachable_pub)]

use muster_ports::*;
use muster_vault::*;
use object_store::memory::InMemory;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Random bytes that are the same on every run.
#[derive(Debug)]
pub struct Seeded(Mutex<blake3::OutputReader>);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof()))
    }
}

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap().fill(bytes);
    }
}

pub struct Bench {
    pub folder: tempfile::TempDir,
    pub key: KeySource,
    pub store: Arc<InMemory>,
    pub vault: Vault,
}

pub fn key_file(folder: &tempfile::TempDir, name: &str, seed: u64) -> KeySource {
    KeySource::generate_file(&folder.path().join(name), &Seeded::new(seed)).unwrap()
}

/// A vault in memory.
pub async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let key = key_file(&folder, "vault.key", 1);
    let store = Arc::new(InMemory::new());
    let place = Place::at("memory:///", store.clone(), Default::default());
    let vault = Vault::init_at(place, &key, &Seeded::new(2)).await.unwrap();
    Bench { folder, key, store, vault: vault.with_random(Arc::new(Seeded::new(3))) }
}

pub fn writer(vault: &Vault) -> SegmentWriter {
    vault.segment_writer(&LineageId::new("db.root-1"), Epoch(7), &WriterId::new("tester"), 3)
}

pub fn image(vault: &Vault, size: u64, segments: &[SegmentRef]) -> ReplicaImage {
    ReplicaImage {
        vault: vault.url().to_owned(),
        point: PointId::new("p1"),
        size_bytes: size,
        segments: segments.to_vec(),
    }
}

/// Bytes that do not compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Seeded::new(seed).fill(&mut bytes);
    bytes
}

pub async fn content(replica: &Replica) -> Vec<u8> {
    let mut bytes = vec![0xaa; replica.size() as usize];
    replica.read(0, &mut bytes).await.unwrap();
    bytes
}

pub fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}
