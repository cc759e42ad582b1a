//! Bits of everything the control state keeps are flipped, one at a time: it is refused, or it answers what it always
//! did; never something else, and never without an end.
//!
//! `MUSTER_FLIPS=20000` flips so many, half of them in small objects, which are few bytes and decide what is read at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use muster_journal::seal::{MAGIC, SEAL_BYTES};
use muster_journal::*;
use muster_ports::*;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Flips of every day, drawn by lot: half of them over the bits of tables and logs, half over those of everything else.
const FLIPS: u64 = 160;
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

/// Tables and logs; the rest is manifests and other small objects.
fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sst")
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

/// Where the lot falls, over all bits of these files.
fn drawn<'a>(files: &'a [(PathBuf, Vec<u8>)], lot: &mut blake3::OutputReader) -> (&'a Path, &'a [u8], u64) {
    let mut drawn = [0; 8];
    lot.fill(&mut drawn);
    let mut bit = u64::from_le_bytes(drawn) % files.iter().map(|(_, bytes)| bytes.len() as u64 * 8).sum::<u64>();
    for (path, bytes) in files {
        if bit < bytes.len() as u64 * 8 {
            return (path, bytes, bit);
        }
        bit -= bytes.len() as u64 * 8;
    }
    unreachable!("it is below their sum");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_of_the_control_state_is_never_another_answer() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path()).await;
    let right = read(folder.path()).await.unwrap();
    assert!(right.iter().filter(|(key, _)| key.starts_with("point/")).count() == 20, "{right:?}");
    let all = files(folder.path()).into_iter().map(|path| (path.clone(), std::fs::read(&path).unwrap()));
    let (tables, mut others): (Vec<_>, Vec<_>) = all.partition(|(path, _)| is_table(path));
    assert!(tables.len() > 4 && others.len() > 4, "{} tables, {} others", tables.len(), others.len());
    // The newest of its kind is what is read; older ones share the other half of the lots.
    let newest = others.iter().rposition(|(path, _)| path.extension().is_some_and(|is| is == "manifest")).unwrap();
    let newest = vec![others.remove(newest)];
    let flips = std::env::var("MUSTER_FLIPS").ok().map_or(FLIPS, |text| text.parse().expect("MUSTER_FLIPS"));
    let mut lot = blake3::Hasher::new().update(b"bits").finalize_xof();
    for (files, flips) in [(&tables, flips / 2), (&others, flips / 4), (&newest, flips / 4)] {
        let (mut refused, mut harmless) = (0, 0);
        for _ in 0..flips {
            let (path, bytes, bit) = drawn(files, &mut lot);
            let mut changed = bytes.to_vec();
            changed[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
            std::fs::write(path, changed).unwrap();
            match read(folder.path()).await {
                Ok(answer) => {
                    assert!(answer == right, "bit {bit} of {} gives another answer", path.display());
                    assert!(files[0].0 != newest[0].0, "bit {bit} of {} is not refused", path.display());
                    harmless += 1;
                }
                Err(reason) => {
                    assert!(reason.contains("put back") || is_table(path), "{reason}");
                    refused += 1;
                }
            }
            std::fs::write(path, bytes).unwrap();
        }
        println!("{refused} refused, {harmless} harmless");
        assert!(refused + harmless == flips);
    }
    assert!(read(folder.path()).await.unwrap() == right);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_cut_short_or_under_a_newer_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path()).await;
    let manifests: Vec<PathBuf> =
        files(folder.path()).into_iter().filter(|path| path.extension().is_some_and(|is| is == "manifest")).collect();
    let [.., older, newest] = manifests.as_slice() else { panic!("{manifests:?}") };
    let whole = std::fs::read(newest).unwrap();
    for keep in (0..whole.len()).step_by(29).chain([whole.len() - SEAL_BYTES, whole.len() - 1]) {
        std::fs::write(newest, &whole[..keep]).unwrap();
        let refused = read(folder.path()).await.expect_err("cut short");
        assert!(refused.contains(".manifest`") && refused.contains("put back"), "{keep}: {refused}");
    }
    std::fs::copy(older, newest).unwrap();
    let refused = read(folder.path()).await.expect_err("another's");
    assert!(refused.contains("under another's name"), "{refused}");
    // The next number, as if it were the newest.
    std::fs::write(newest, &whole).unwrap();
    let number: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    std::fs::copy(older, newest.with_file_name(format!("{:020}.manifest", number + 1))).unwrap();
    let refused = read(folder.path()).await.expect_err("an older one as the newest");
    assert!(refused.contains("under another's name"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_state_without_seals_is_read_and_written_on() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path()).await;
    let right = read(folder.path()).await.unwrap();
    // As an older muster has left it.
    for path in files(folder.path()).into_iter().filter(|path| !is_table(path)) {
        let bytes = std::fs::read(&path).unwrap();
        let body = bytes.len() - SEAL_BYTES;
        assert!(bytes[body..].starts_with(MAGIC), "{}", path.display());
        std::fs::write(&path, &bytes[..body]).unwrap();
    }
    assert!(read(folder.path()).await.unwrap() == right);
    let owner = Owner::this_process("bits");
    let open = SlateStore::open(objects(folder.path()), "state", owner, TakeOver::Steal, Arc::new(SystemClock));
    let store = open.await.unwrap();
    store.write(vec![Write::put("point/orders/new", "1")]).await.unwrap();
    store.close().await.unwrap();
    let now = read(folder.path()).await.unwrap();
    assert!(now.len() == right.len() + 1 && now.iter().any(|(key, _)| key == "point/orders/new"), "{now:?}");
    // What is new has seals.
    let newest = files(folder.path()).into_iter().rfind(|path| path.extension().is_some_and(|is| is == "manifest"));
    assert!(std::fs::read(newest.unwrap()).unwrap().windows(MAGIC.len()).any(|window| window == MAGIC));
}
/// A writer reads more than a reader does: what was being merged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_refuses_a_changed_list_of_compactions() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path()).await;
    let all = files(folder.path());
    let newest = all.iter().rfind(|path| path.extension().is_some_and(|is| is == "compactions")).unwrap();
    let whole = std::fs::read(newest).unwrap();
    for bit in (3..whole.len() * 8).step_by(97) {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(newest, changed).unwrap();
        let owner = Owner::this_process("bits");
        let open = SlateStore::open(objects(folder.path()), "state", owner, TakeOver::Steal, Arc::new(SystemClock));
        match tokio::time::timeout(LIMIT, open).await.expect("it ends") {
            Err(OpenError::Store(StoreError::Damaged(text))) => assert!(text.contains(".compactions`"), "{text}"),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}
