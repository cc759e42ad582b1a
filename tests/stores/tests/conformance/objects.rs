//! What every object store has to do.

use super::{Upload, done};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use muster_stores::Store;
use muster_vault::Place;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, PutResult};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Races, and creators in each. SeaweedFS lets creators of one object wait for each other, seconds in each race;
/// MUSTER_RACES asks for more.
const RACES: usize = 5;
const CREATORS: usize = 8;
/// Small objects written and deleted, so many at once.
const SMALL: usize = 400;
const AT_ONCE: usize = 16;
/// The largest object a vault makes, in bytes.
const BIG: usize = 64 << 20;
/// Parts of an upload in parts, in bytes; S3 takes none smaller, but for the last.
const PART: usize = 5 << 20;

/// One way to the place under test.
pub(crate) struct Door {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Door {
    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    async fn create(&self, name: &str, content: Bytes) -> object_store::Result<PutResult> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.store.put_opts(&self.path(name), PutPayload::from_bytes(content), options).await
    }

    async fn read(&self, name: &str) -> object_store::Result<Bytes> {
        self.store.get(&self.path(name)).await?.bytes().await
    }

    async fn list(&self, folder: &str) -> Vec<String> {
        let objects: Vec<_> = self.store.list(Some(&self.path(folder))).try_collect().await.unwrap();
        objects.into_iter().map(|object| object.location.filename().unwrap().to_owned()).collect()
    }
}

pub(crate) fn open(store: &Store) -> Door {
    let place = Place::open_with(&store.url, true, &store.settings()).unwrap();
    // The client that the control state has, which repeats what a loaded host answers too late.
    Door { store: place.control_store(), prefix: place.prefix().clone() }
}

/// Bytes that do not repeat, the same on every run.
fn noise(seed: usize, length: usize) -> Bytes {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

pub(crate) async fn one_creator_wins(doors: &[Door]) {
    let races = std::env::var("MUSTER_RACES").ok().and_then(|text| text.parse().ok());
    for race in 0..races.unwrap_or(RACES) {
        let name = format!("races/{race}");
        let door = |creator: usize| &doors[creator % doors.len()];
        let creators = (0..CREATORS).map(|creator| door(creator).create(&name, noise(creator, 4096)));
        let tried = futures::future::join_all(creators).await;
        let mut winners = Vec::new();
        for (creator, result) in tried.into_iter().enumerate() {
            match result {
                Ok(_) => winners.push(creator),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(error) => panic!("race {race}: {error}"),
            }
        }
        let [winner] = winners.as_slice() else { panic!("race {race} was won by {winners:?}") };
        for door in doors {
            assert!(door.read(&name).await.unwrap() == noise(*winner, 4096), "race {race}: not what the winner wrote");
        }
    }
    done("of many that create one object at once, one wins, and what it wrote stays");
}

pub(crate) async fn what_was_put_is_listed_until_it_is_deleted(doors: &[Door]) {
    let names: BTreeSet<String> = (0..SMALL).map(|number| format!("{number:05}")).collect();
    let door = |at: usize| &doors[at % doors.len()];
    let put = |(at, name): (usize, &String)| {
        let (name, content) = (format!("small/{name}"), noise(at, 100 + at));
        async move { door(at).create(&name, content).await.map(drop) }
    };
    let all = futures::stream::iter(names.iter().enumerate().map(put)).buffer_unordered(AT_ONCE);
    all.try_collect::<Vec<()>>().await.unwrap();
    for door in doors {
        let listed = door.list("small").await;
        assert_eq!(listed.len(), SMALL, "nothing is listed twice");
        assert!(listed.into_iter().collect::<BTreeSet<_>>() == names, "what was put is listed");
    }
    // Through the other door, at once.
    doors[0].create("small/late", Bytes::from_static(b"late")).await.unwrap();
    assert!(doors[doors.len() - 1].list("small").await.contains(&"late".to_owned()), "seen at once");
    assert!(doors[0].list("smal").await.is_empty(), "a folder is a whole name");
    let gone = names.iter().map(String::as_str).chain(["late"]).enumerate().map(|(at, name)| {
        let door = door(at);
        let path = door.path(&format!("small/{name}"));
        async move { door.store.delete(&path).await }
    });
    futures::stream::iter(gone).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await.unwrap();
    for door in doors {
        assert_eq!(door.list("small").await, Vec::<String>::new(), "what was deleted is listed no more");
        let read = door.read("small/00007").await;
        assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
    }
    // A name that was free again can be created again.
    doors[0].create("small/late", Bytes::from_static(b"again")).await.unwrap();
    assert_eq!(doors[0].read("small/late").await.unwrap(), "again");
    done("what was put is listed at once, and what was deleted is gone");
}

pub(crate) async fn ranges_are_exact(doors: &[Door]) {
    let whole = noise(1, 1 << 20);
    let end = whole.len() as u64;
    doors[0].create("ranged", whole.clone()).await.unwrap();
    let door = &doors[doors.len() - 1];
    for range in [0..1, 0..end, 1..2, 4095..4097, 65_536..131_072, end - 1..end, 500_000..500_001] {
        let got = door.store.get_range(&door.path("ranged"), range.clone()).await.unwrap();
        assert!(got == whole[range.start as usize..range.end as usize], "bytes {range:?}");
    }
    assert_eq!(door.store.head(&door.path("ranged")).await.unwrap().size, end);
    done("a range is what was asked for");
}

pub(crate) async fn big_objects_come_back_whole(doors: &[Door]) {
    let door = &doors[0];
    let content = noise(2, BIG);
    // The client for segments has more time.
    door.create("big", content.clone()).await.unwrap();
    assert!(doors[doors.len() - 1].read("big").await.unwrap() == content, "{BIG} bytes in one request");
    let mut upload = door.store.put_multipart(&door.path("parts")).await.unwrap();
    for part in content[..3 * PART + 12_345].chunks(PART) {
        upload.put_part(PutPayload::from_bytes(content.slice_ref(part))).await.unwrap();
    }
    upload.complete().await.unwrap();
    assert!(door.read("parts").await.unwrap() == content[..3 * PART + 12_345], "four parts");
    for name in ["big", "parts"] {
        door.store.delete(&door.path(name)).await.unwrap();
    }
    done("big objects come back whole, in one request and in parts");
}

pub(crate) async fn an_upload_that_breaks_off_leaves_nothing(door: &Door, upload: Option<&Upload>) {
    let mut parts = door.store.put_multipart(&door.path("unfinished")).await.unwrap();
    parts.put_part(PutPayload::from_bytes(noise(3, PART))).await.unwrap();
    parts.put_part(PutPayload::from_bytes(noise(4, PART))).await.unwrap();
    assert!(matches!(door.read("unfinished").await, Err(Error::NotFound { .. })), "nothing before the last word");
    parts.abort().await.unwrap();
    let mut names: Vec<&str> = vec!["unfinished"];
    if let Some(upload) = upload {
        tokio::task::block_in_place(|| break_off(upload));
        names.push(&upload.object);
    }
    for name in names {
        let read = door.read(name).await.map(|bytes| bytes.len());
        assert!(matches!(read, Err(Error::NotFound { .. })), "{name}: {read:?}");
        assert!(!door.list("").await.contains(&name.to_owned()), "{name} is listed");
    }
    done("an upload that breaks off leaves nothing to be seen");
}

/// Sends half of what it announced, and hangs up.
fn break_off(upload: &Upload) {
    const ANNOUNCED: usize = 1 << 20;
    let rest = upload.url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!(
        "PUT /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {ANNOUNCED}\r\n{}Connection: close\r\n\r\n",
        upload.headers
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&noise(5, ANNOUNCED / 2)).unwrap();
    stream.flush().unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    // Until the server has made up its mind, or half a minute at most.
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let first = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    assert!(!first.contains(" 200 ") && !first.contains(" 201 "), "half an object was taken: {first}");
}
