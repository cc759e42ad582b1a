//! Bits of the control state's tables and logs are flipped, one at a time: it is refused, or it answers what it always
//! did; never something else, and never without an end.
//!
//! Manifests are left out: the database below keeps no checksum of them, and a flip among three thousand of one gave
//! another answer. Until they have one, a manifest is only as good as the store that keeps it.
//!
//! `MUSTER_FLIPS=20000` flips so many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use muster_journal::*;
use muster_ports::*;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Flips of every day, drawn by lot over all bits of all files.
const FLIPS: u64 = 150;
/// Far above what opening and reading takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

fn objects(folder: &Path) -> Arc<dyn ObjectStore> {
    Arc::new(LocalFileSystem::new_with_prefix(folder).unwrap())
}

/// Enough turns of a writer that there are manifests, logs and tables of every age.
async fn write(folder: &Path) {
    for turn in 0..4u32 {
        let owner = Owner::this_process("bits");
        let clock = Arc::new(SystemClock);
        let store = SlateStore::open(objects(folder), "state", owner, TakeOver::Steal, clock).await.unwrap();
        for number in 0..6u32 {
            let key = format!("point/orders/{turn}-{number}");
            let value = format!("{{\"turn\":{turn},\"text\":\"{}\"}}", "all of it ".repeat(20));
            store.write(vec![Write::put(key, value.into_bytes())]).await.unwrap();
        }
        store.write(vec![Write::delete(format!("point/orders/{turn}-0"))]).await.unwrap();
        store.close().await.unwrap();
    }
}

/// What is said of everything, or why nothing is.
async fn read(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let reading = async {
        let reader = SlateStore::open_reader(objects(folder), "state").await.map_err(|error| error.to_string())?;
        let found = reader.scan("").await.map_err(|error| error.to_string())?;
        // Each by its own way too.
        for (key, value) in &found {
            let alone = reader.get(key).await.map_err(|error| error.to_string())?;
            assert_eq!(alone.as_ref(), Some(value), "{key}");
        }
        Ok(found.into_iter().map(|(key, value)| (key, value.to_vec())).collect())
    };
    tokio::time::timeout(LIMIT, reading).await.expect("it ends")
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "manifest")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_of_the_control_state_is_never_another_answer() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path()).await;
    let right = read(folder.path()).await.unwrap();
    assert!(right.iter().filter(|(key, _)| key.starts_with("point/")).count() == 20, "{right:?}");
    let all: Vec<(PathBuf, Vec<u8>)> =
        files(folder.path()).into_iter().map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect();
    let all: Vec<(PathBuf, Vec<u8>)> = all.into_iter().filter(|(path, _)| !is_manifest(path)).collect();
    assert!(all.len() > 4, "{} files", all.len());
    let bits: u64 = all.iter().map(|(_, bytes)| bytes.len() as u64 * 8).sum();
    let flips = std::env::var("MUSTER_FLIPS").ok().map_or(FLIPS, |text| text.parse().expect("MUSTER_FLIPS"));
    let mut lot = blake3::Hasher::new().update(b"bits").finalize_xof();
    let (mut refused, mut harmless) = (0, 0);
    for _ in 0..flips {
        let mut drawn = [0; 8];
        lot.fill(&mut drawn);
        let mut bit = u64::from_le_bytes(drawn) % bits;
        let hit = all.iter().find(|(_, bytes)| {
            let inside = bit < bytes.len() as u64 * 8;
            bit -= if inside { 0 } else { bytes.len() as u64 * 8 };
            inside
        });
        let (path, bytes) = hit.unwrap();
        let mut changed = bytes.clone();
        changed[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        std::fs::write(path, changed).unwrap();
        match read(folder.path()).await {
            Ok(answer) => {
                assert!(answer == right, "bit {bit} of {} gives another answer", path.display());
                harmless += 1;
            }
            Err(reason) => {
                assert!(!reason.is_empty());
                refused += 1;
            }
        }
        std::fs::write(path, bytes).unwrap();
    }
    assert!(refused > 0 && refused + harmless == flips, "{refused} refused, {harmless} harmless");
    assert!(read(folder.path()).await.unwrap() == right);
}
