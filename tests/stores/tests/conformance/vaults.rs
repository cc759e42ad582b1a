//! What a vault does on every store.

use super::done;
use bytes::Bytes;
use muster_journal::{Owner, SlateStore, TakeOver};
use muster_ports::*;
use muster_stores::{Server, Store};
use muster_vault::{KeySource, Place, Vault, VaultError, scrub};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Bytes of one frame, and frames of one disk.
const FRAME: usize = 256 << 10;
const FRAMES: usize = 96;

fn place(store: &Store) -> Place {
    Place::open_with(&store.url, true, &store.settings()).unwrap()
}

fn key(folder: &TempDir) -> KeySource {
    let path = folder.path().join("key");
    if !path.exists() {
        KeySource::generate_file(&path, &SystemRandom).unwrap();
    }
    KeySource::File(path)
}

fn frame(number: usize) -> Vec<u8> {
    let mut content = vec![0; FRAME];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

async fn write(vault: &Vault, frames: usize) -> Vec<SegmentRef> {
    let mut writer = vault.segment_writer(&LineageId::new("db.root-1"), Epoch(1), &WriterId::new("tester"), 1);
    for number in 0..frames {
        writer.write((number * FRAME) as u64, &frame(number)).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn read(vault: &Vault, segments: &[SegmentRef], frames: usize) {
    let image = ReplicaImage {
        vault: vault.url().to_owned(),
        point: PointId::new("p1"),
        size_bytes: (frames * FRAME) as u64,
        segments: segments.to_vec(),
    };
    let replica = vault.replica(&image);
    let mut content = vec![0; FRAME];
    for number in 0..frames {
        replica.read((number * FRAME) as u64, &mut content).await.unwrap();
        assert!(content == frame(number), "frame {number}");
    }
}

pub(crate) async fn a_vault_is_made_once_and_opened_through_every_door(doors: &[Store]) {
    let folder = tempfile::tempdir().unwrap();
    let key = key(&folder);
    // Several at once, through every door: one of them makes it.
    let makers = doors.iter().cycle().take(4).map(|door| Vault::init_at(place(door), &key, &SystemRandom));
    let made = futures::future::join_all(makers).await;
    let ids: Vec<String> = made.iter().flatten().map(|vault| vault.id().to_string()).collect();
    assert_eq!(ids.len(), 1, "{made:?}");
    assert!(made.iter().flatten().count() == 1);
    for refused in made.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, VaultError::VaultExists { .. }), "{refused}");
    }
    for door in doors {
        let vault = Vault::open_at(place(door), &key).await.unwrap();
        assert_eq!(vault.id().to_string(), ids[0]);
        assert_eq!(vault.slots().await.unwrap().len(), 1, "whoever lost has taken its key slot away");
    }
    done("a vault is made once, and opened through every door");
}

pub(crate) async fn what_is_written_is_read_scrubbed_and_collected(doors: &[Store]) {
    let folder = tempfile::tempdir().unwrap();
    let stores: Vec<Store> = doors.iter().map(|door| inside(door, "contents")).collect();
    let vault = Vault::init_at(place(&stores[0]), &key(&folder), &SystemRandom).await.unwrap();
    let segments = write(&vault, FRAMES).await;
    assert!(segments.len() > 1, "several segments");
    let other = Vault::open_at(place(&stores[stores.len() - 1]), &key(&folder)).await.unwrap();
    read(&other, &segments, FRAMES).await;
    let report = scrub(other.place(), &segments).await.unwrap();
    assert!(report.damaged.is_empty(), "{report:?}");
    let listed: BTreeSet<SegmentName> = other.segments().await.unwrap().into_iter().map(|found| found.name).collect();
    assert!(listed == segments.iter().map(|segment| segment.name.clone()).collect());
    // One goes: scrub says so, and by its name.
    let gone = segments[0].name.clone();
    vault.delete_segments(std::slice::from_ref(&gone)).await.unwrap();
    vault.delete_segments(std::slice::from_ref(&gone)).await.expect("deleting again is fine");
    let report = scrub(other.place(), &segments).await.unwrap();
    let [VaultError::MissingSegment { segment, .. }] = report.damaged.as_slice() else { panic!("{report:?}") };
    assert_eq!(*segment, gone);
    done("segments are written, read, scrubbed, listed and deleted");
}

pub(crate) async fn a_second_writer_fences_the_first(doors: &[Store]) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let open = async |door: usize, doing: &str, take_over| {
        let place = place(&inside(&doors[door % doors.len()], "fenced"));
        let prefix = place.prefix().clone().join("state").to_string();
        SlateStore::open(place.control_store(), &prefix, Owner::this_process(doing), take_over, clock.clone()).await
    };
    let first = open(0, "first", TakeOver::WhenStale).await.unwrap();
    first.write(vec![Write::put("a", "1")]).await.unwrap();
    let refused = open(1, "second", TakeOver::WhenStale).await.unwrap_err().to_string();
    assert!(refused.contains("first"), "{refused}");
    let second = open(1, "second", TakeOver::Steal).await.unwrap();
    assert!(second.epoch() > first.epoch());
    second.write(vec![Write::put("b", "2")]).await.unwrap();
    let fenced = first.write(vec![Write::put("a", "3"), Write::put("b", "3")]).await;
    assert!(matches!(fenced, Err(StoreError::Fenced)), "{fenced:?}");
    assert_eq!(second.get("a").await.unwrap(), Some(Bytes::from("1")));
    assert_eq!(second.get("b").await.unwrap(), Some(Bytes::from("2")));
    second.close().await.unwrap();
    let third = open(0, "third", TakeOver::WhenStale).await.unwrap();
    assert_eq!(third.get("b").await.unwrap(), Some(Bytes::from("2")), "what was acknowledged is there");
    third.close().await.unwrap();
    done("a second writer of the control state fences the first");
}

/// Every server in front of the store stops for a while: writing and reading go on after it, and nothing fails.
pub(crate) async fn a_frozen_store_is_waited_for(store: &Store, servers: &[&Server], stall: Duration) {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::init_at(place(store), &key(&folder), &SystemRandom).await.unwrap();
    let segments = write(&vault, 1).await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let prefix = vault.prefix().clone().join("state").to_string();
    let owner = Owner::this_process("frozen");
    let state = SlateStore::open(vault.control_store(), &prefix, owner, TakeOver::WhenStale, clock).await.unwrap();
    for server in servers {
        server.freeze();
    }
    let began = Instant::now();
    let thaw = async {
        tokio::time::sleep(stall).await;
        for server in servers {
            server.thaw();
        }
    };
    let wrote = async {
        let written = write(&vault, 2).await;
        assert!(began.elapsed() >= stall, "the store was frozen");
        written
    };
    let committed = async { state.write(vec![Write::put("a", "1")]).await.unwrap() };
    // Opened anew, so that nothing is in a cache.
    let again = async {
        let vault = Vault::open_at(place(store), &key(&folder)).await.unwrap();
        read(&vault, &segments, 1).await;
    };
    let (_, written, _, _) = tokio::join!(thaw, wrote, committed, again);
    read(&vault, &written, 2).await;
    assert_eq!(state.get("a").await.unwrap(), Some(Bytes::from("1")));
    state.close().await.unwrap();
    done("a store that freezes is waited for");
}

/// A place below that of a store.
fn inside(store: &Store, folder: &str) -> Store {
    let url = match store.url.split_once('?') {
        Some((place, settings)) => format!("{place}/{folder}?{settings}"),
        None => Path::new(&store.url).join(folder).display().to_string(),
    };
    Store { url, ..store.clone() }
}
