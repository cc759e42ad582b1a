//! The durable store on a real folder: reopening, fencing, leases, damage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // also in the helpers of tests

use async_trait::async_trait;
use muster_journal::*;
use muster_ports::*;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Time that stands where it is put; sleepers never wake, so no lease is renewed behind a test's back.
#[derive(Debug, Default)]
struct HandClock(AtomicU64);

#[async_trait]
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_767_225_600_000 + self.0.load(Ordering::SeqCst))
    }
    async fn sleep_until(&self, _due: Timestamp) {
        std::future::pending().await
    }
}

struct Place {
    folder: tempfile::TempDir,
    clock: Arc<HandClock>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Arc::default() }
    }
    fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::new(LocalFileSystem::new_with_prefix(self.folder.path()).unwrap())
    }
    async fn open_as(&self, owner: Owner, take_over: TakeOver) -> Result<SlateStore, OpenError> {
        SlateStore::open(self.objects(), "state", owner, take_over, self.clock.clone()).await
    }
    async fn open(&self) -> SlateStore {
        self.open_as(Owner::this_process("muster test"), TakeOver::WhenStale).await.unwrap()
    }
    fn files(&self, below: &str) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(&self.folder.path().join(below), &mut found);
        found.sort();
        found
    }
}

async fn put(store: &dyn StateStore, key: &str, value: &str) -> Result<(), StoreError> {
    store.write(vec![Write::put(key.to_owned(), value.as_bytes().to_vec())]).await
}
async fn text(store: &dyn StateStore, key: &str) -> Option<String> {
    store.get(key).await.unwrap().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_reopening_and_the_epoch_rises() {
    let place = Place::new();
    let first = place.open().await;
    put(&first, "a/1", "one").await.unwrap();
    first.write(vec![Write::put("a/2", "two"), Write::put("b/1", "x"), Write::delete("a/1")]).await.unwrap();
    let epoch = first.epoch();
    first.close().await.unwrap();

    let second = place.open().await;
    assert!(second.epoch() > epoch);
    assert_eq!(text(&second, "a/1").await, None);
    let pairs = second.scan("a/").await.unwrap();
    assert_eq!(pairs.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a/2"]);
    second.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_dropped_without_closing_loses_nothing_that_was_acknowledged() {
    let place = Place::new();
    let store = place.open().await;
    for n in 0..20 {
        put(&store, &format!("n/{n:02}"), "x").await.unwrap();
    }
    drop(store);
    // Its lease is alive: this very process holds it. A stranger would have to wait, or steal.
    let again = place.open_as(Owner::this_process("muster test"), TakeOver::Steal).await.unwrap();
    assert_eq!(again.scan("n/").await.unwrap().len(), 20);
    again.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_writer_is_named_and_not_disturbed() {
    let place = Place::new();
    let holder = place.open_as(Owner::this_process("muster run shop"), TakeOver::WhenStale).await.unwrap();
    place.clock.0.store(5_000, Ordering::SeqCst);
    let error = place.open_as(Owner::this_process("muster status"), TakeOver::WhenStale).await.unwrap_err();
    let message = error.to_string();
    for part in ["`muster run shop`", &format!("process {}", std::process::id()), "2026-01-01T00:00:00Z", "5s ago"] {
        assert!(message.contains(part), "{message} says {part}");
    }
    assert!(error.help().unwrap().contains("--steal"));
    put(&holder, "k", "still mine").await.unwrap();
    holder.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_fences_the_holder() {
    let place = Place::new();
    let old = place.open().await;
    put(&old, "k", "old").await.unwrap();
    let new = place.open_as(Owner::this_process("muster thief"), TakeOver::Steal).await.unwrap();
    assert!(new.epoch() > old.epoch());
    assert!(matches!(put(&old, "k", "late").await, Err(StoreError::Fenced)));
    assert!(old.is_fenced());
    assert!(matches!(put(&old, "k", "later").await, Err(StoreError::Fenced)));
    assert_eq!(text(&new, "k").await.as_deref(), Some("old"));
    put(&new, "k", "new").await.unwrap();
    new.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_lease_is_taken_over_at_once() {
    // Expired: whoever it was has not renewed it.
    let place = Place::new();
    let mut stranger = Owner::this_process("muster elsewhere");
    stranger.host = "another-host".into();
    let _silent = place.open_as(stranger.clone(), TakeOver::WhenStale).await.unwrap();
    let refused = place.open_as(Owner::this_process("muster here"), TakeOver::WhenStale).await;
    assert!(matches!(refused, Err(OpenError::Held(_))), "a stranger within its time is believed");
    place.clock.0.store(31_000, Ordering::SeqCst);
    place.open().await.close().await.unwrap();

    // Gone: a process of this host that ended without a word. Its number may be in use again.
    let place = Place::new();
    let mut gone = Owner::this_process("muster killed");
    gone.started += 1;
    let _silent = place.open_as(gone, TakeOver::WhenStale).await.unwrap();
    place.open().await.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_everything_durable_beside_a_writer_and_writes_nothing() {
    let place = Place::new();
    let empty = SlateStore::open_reader(place.objects(), "state").await.unwrap();
    assert_eq!(text(&empty, "k").await, None);
    assert!(place.files("").is_empty(), "looking makes nothing");

    let writer = place.open().await;
    put(&writer, "k", "v").await.unwrap();
    let before = place.files("");
    let reader = SlateStore::open_reader(place.objects(), "state").await.unwrap();
    assert_eq!(text(&reader, "k").await.as_deref(), Some("v"));
    assert_eq!(reader.lease().await.unwrap().unwrap().epoch, writer.epoch());
    assert!(matches!(put(&reader, "k", "w").await, Err(StoreError::Unavailable(_))));
    reader.close().await;
    assert_eq!(place.files(""), before);
    put(&writer, "k", "w").await.unwrap();
    writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_open_at_once_one_is_the_writer() {
    let place = Place::new();
    place.open().await.close().await.unwrap();
    let open = |n: u32| {
        let mut owner = Owner::this_process(format!("muster {n}"));
        owner.host = format!("host-{n}");
        place.open_as(owner, TakeOver::WhenStale)
    };
    let (one, two) = tokio::join!(open(1), open(2));
    let mut writers = 0;
    for opened in [one, two] {
        match opened {
            Ok(store) => writers += u32::from(put(&store, "k", "v").await.is_ok()),
            Err(error) => {
                assert!(matches!(error, OpenError::Held(_) | OpenError::Store(StoreError::Fenced)), "{error}")
            }
        }
    }
    assert_eq!(writers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_cut_short_is_said_and_never_a_panic() {
    for keep in [0, 1, 7, 40] {
        for below in ["state/manifest", "state/wal"] {
            let place = Place::new();
            let store = place.open().await;
            put(&store, "k", &"v".repeat(500)).await.unwrap();
            store.close().await.unwrap();
            let files: Vec<_> = place
                .files(below)
                .into_iter()
                .filter(|file| file.metadata().unwrap().len() > keep && !file.to_string_lossy().contains("boundary"))
                .collect();
            let Some(newest) = files.last() else { panic!("there is something below {below}") };
            std::fs::OpenOptions::new().write(true).open(newest).unwrap().set_len(keep).unwrap();
            match place.open_as(Owner::this_process("muster test"), TakeOver::Steal).await {
                Err(OpenError::Store(StoreError::Damaged(text))) => {
                    assert!(text.contains("put back"), "{below} to {keep}: {text}");
                }
                Err(error) => panic!("{below} to {keep}: {error}"),
                // What the database does not need any more, since it lies in a table already, or a log file that is
                // empty, which is what the database itself leaves as a fence.
                Ok(store) => assert!(below == "state/wal", "{below} to {keep}: {:?}", text(&store, "k").await),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_manifest_is_damage_and_not_a_new_vault() {
    let place = Place::new();
    let store = place.open().await;
    put(&store, "k", "v").await.unwrap();
    store.close().await.unwrap();
    std::fs::remove_dir_all(place.folder.path().join("state/manifest")).unwrap();
    let error = place.open_as(Owner::this_process("muster test"), TakeOver::WhenStale).await.unwrap_err();
    assert!(error.to_string().contains("no manifest"), "{error}");
    assert!(SlateStore::open_reader(place.objects(), "state").await.is_err());
}
