//! Everything that can be wrong with a vault says what, where and what to do, and never panics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use async_trait::async_trait;
use common::*;
use futures::stream::BoxStream;
use muster_ports::*;
use muster_vault::*;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const FRAME: usize = 64 << 10;

async fn overwrite(store: &dyn ObjectStore, name: &SegmentName, bytes: Vec<u8>) {
    store.put(&Path::from(format!("data/{name}")), bytes.into()).await.unwrap();
}

async fn bytes_of(store: &dyn ObjectStore, name: &SegmentName) -> Vec<u8> {
    let found = store.get(&Path::from(format!("data/{name}"))).await.unwrap();
    found.bytes().await.unwrap().to_vec()
}

/// Two frames (one raw, one compressed) and a zero extent.
async fn segment(bench: &Bench) -> (SegmentRef, Vec<u8>) {
    let mut writer = writer(&bench.vault);
    let mut content = noise(9, FRAME);
    content.extend(vec![5; FRAME]);
    writer.write(0, &content[..FRAME]).await.unwrap();
    writer.write(FRAME as u64, &content[FRAME..]).await.unwrap();
    writer.zero(2 * FRAME as u64, FRAME as u64).await.unwrap();
    content.extend(vec![0; FRAME]);
    (writer.finish().await.unwrap().remove(0), content)
}

/// Reads everything with nothing cached.
async fn read_cold(bench: &Bench, segment: &SegmentRef) -> Result<Vec<u8>, VaultError> {
    let place = Place::at("memory:///", bench.store.clone(), Path::default());
    let vault = Vault::open_at(place, &bench.key).await.unwrap();
    let replica = vault.replica(&image(&vault, 3 * FRAME as u64, std::slice::from_ref(segment)));
    let mut content = vec![0; 3 * FRAME];
    replica.read(0, &mut content).await?;
    Ok(content)
}

#[tokio::test]
async fn every_flipped_byte_is_found_with_and_without_the_key() {
    let bench = bench().await;
    let (reference, content) = segment(&bench).await;
    assert!(read_cold(&bench, &reference).await.unwrap() == content);
    let good = bytes_of(&*bench.store, &reference.name).await;
    let index_end = good.len() - 32;
    let mut places: Vec<usize> = (0..64).chain(index_end - 180..good.len()).collect();
    places.extend([64, 64 + FRAME / 2, 64 + FRAME, 64 + FRAME + 15, 64 + FRAME + 16, index_end - 200]);
    for at in places {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        overwrite(&*bench.store, &reference.name, bad).await;
        let error = read_cold(&bench, &reference).await.expect_err("a changed byte must be found");
        let part = match &error {
            VaultError::Damaged { part, segment, .. } => {
                assert_eq!(*segment, reference.name);
                *part
            }
            VaultError::NewerFormat { .. } if (8..10).contains(&at) => SegmentPart::Header,
            other => panic!("byte {at}: {other}"),
        };
        match at {
            0..32 => assert_eq!(part, SegmentPart::Header, "byte {at}"),
            // The salt makes the key, so only the index can tell.
            32..64 => assert_eq!(part, SegmentPart::Index, "byte {at}"),
            at if at < 64 + FRAME + 16 => assert_eq!(part, SegmentPart::Frame { number: 0, offset: 0 }, "byte {at}"),
            at if at >= index_end => assert!(matches!(part, SegmentPart::Footer | SegmentPart::Index), "byte {at}"),
            _ => assert!(matches!(part, SegmentPart::Index | SegmentPart::Frame { number: 1, .. }), "byte {at}"),
        }
        let failure = Failure::from(error);
        assert!(failure.help.is_some() && failure.message.contains(reference.name.as_str()), "{failure:?}");
        let report = scrub(bench.vault.place(), std::slice::from_ref(&reference)).await.unwrap();
        assert_eq!(report.damaged.len(), 1, "scrub finds byte {at}");
    }
}

#[tokio::test]
async fn a_truncated_missing_or_renamed_segment_is_named() {
    let bench = bench().await;
    let (reference, _) = segment(&bench).await;
    let good = bytes_of(&*bench.store, &reference.name).await;
    for length in [0, 1, 63, 64, 95, 96, good.len() / 2, good.len() - 1] {
        overwrite(&*bench.store, &reference.name, good[..length].to_vec()).await;
        let error = read_cold(&bench, &reference).await.unwrap_err();
        assert!(matches!(error, VaultError::Truncated { .. }), "{length}: {error}");
        // Even when the reference agrees with the short object, nothing panics and nothing opens.
        let short = SegmentRef { stored_bytes: length as u64, ..reference.clone() };
        read_cold(&bench, &short).await.unwrap_err();
    }
    let renamed = SegmentRef { name: SegmentName::new("db.root-1/other.seg"), ..reference.clone() };
    overwrite(&*bench.store, &renamed.name, good.clone()).await;
    let error = read_cold(&bench, &renamed).await.unwrap_err();
    assert!(matches!(error, VaultError::Damaged { part: SegmentPart::Index, .. }), "{error}");
    let gone = SegmentRef { name: SegmentName::new("db.root-1/gone.seg"), ..reference };
    assert!(matches!(read_cold(&bench, &gone).await, Err(VaultError::MissingSegment { .. })));
    let escaping = SegmentRef { name: SegmentName::new("../vault.json"), ..gone };
    assert!(matches!(read_cold(&bench, &escaping).await, Err(VaultError::BadName { .. })));
}

#[tokio::test]
async fn a_frame_moved_elsewhere_does_not_open() {
    let bench = bench().await;
    let mut writer = writer(&bench.vault);
    let (a, b) = (noise(1, FRAME), noise(2, FRAME));
    writer.write(0, &a).await.unwrap();
    writer.write(FRAME as u64, &b).await.unwrap();
    let reference = writer.finish().await.unwrap().remove(0);
    let mut bytes = bytes_of(&*bench.store, &reference.name).await;
    let sealed = FRAME + 16;
    let (first, second) = bytes[64..64 + 2 * sealed].split_at_mut(sealed);
    first.swap_with_slice(second);
    overwrite(&*bench.store, &reference.name, bytes).await;
    let error = read_cold(&bench, &reference).await.unwrap_err();
    assert!(matches!(error, VaultError::Damaged { part: SegmentPart::Frame { number: 0, .. }, .. }), "{error}");
}

fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_key_that_others_can_read_or_write_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/vault", folder.path().display());
    let key = key_file(&folder, "vault.key", 1);
    Vault::init(&url, &key, &Seeded::new(3)).await.unwrap();
    let path = folder.path().join("vault.key");
    for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o601] {
        set_mode(&path, mode);
        let failure = Failure::from(Vault::open(&url, &key).await.unwrap_err());
        assert_eq!(failure.class, FailureClass::Refused, "{mode:o}");
        assert!(failure.message.contains(&format!("{mode:04o}")), "{failure}");
        assert!(failure.help.unwrap().contains("chmod 600"));
        let other = format!("file://{}/other", folder.path().display());
        assert!(matches!(Vault::init(&other, &key, &Seeded::new(4)).await, Err(VaultError::LooseKeyFile { .. })));
        assert!(!folder.path().join("other/vault.json").exists(), "nothing is made with it");
    }
    for mode in [0o600, 0o400] {
        set_mode(&path, mode);
        Vault::open(&url, &key).await.unwrap();
    }
}

#[tokio::test]
async fn keys_that_are_missing_wrong_or_no_keys_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/vault", folder.path().display());
    let key = key_file(&folder, "right", 1);
    let wrong = key_file(&folder, "wrong", 2);
    let absent = KeySource::File(folder.path().join("absent"));
    std::fs::write(folder.path().join("prose"), "no key at all").unwrap();
    let prose = KeySource::File(folder.path().join("prose"));
    set_mode(&folder.path().join("prose"), 0o600);
    assert!(matches!(Vault::open(&url, &key).await, Err(VaultError::NoVault { .. })));
    let vault = Vault::init(&url, &key, &Seeded::new(3)).await.unwrap();
    assert!(matches!(Vault::init(&url, &key, &Seeded::new(4)).await, Err(VaultError::VaultExists { .. })));
    assert_eq!(Vault::open(&url, &key).await.unwrap().id(), vault.id());
    assert!(matches!(Vault::open(&url, &absent).await, Err(VaultError::MissingKeyFile { .. })));
    assert!(matches!(Vault::open(&url, &prose).await, Err(VaultError::BadKeyFile { .. })));
    let failure = Failure::from(Vault::open(&url, &wrong).await.unwrap_err());
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.message.contains(&vault.id().to_string()) && failure.message.contains("keys/1.slot"));
    let secret = std::fs::read_to_string(folder.path().join("right")).unwrap();
    assert!(!format!("{vault:?}").contains(secret.trim()));
    let again = KeySource::generate_file(&folder.path().join("right"), &Seeded::new(5));
    assert!(matches!(again, Err(VaultError::KeyFileExists { .. })));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(folder.path().join("right")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(vault.info().await.unwrap().slots.len(), 1);

    let json = folder.path().join("vault/vault.json");
    std::fs::write(&json, r#"{"format":2,"id":7}"#).unwrap();
    assert!(matches!(Vault::open(&url, &key).await, Err(VaultError::NewerFormat { found: 2, .. })));
    std::fs::write(&json, "{").unwrap();
    assert!(matches!(Vault::open(&url, &key).await, Err(VaultError::DamagedObject { .. })));
    for bad in ["vault", "s4://bucket/vault", "s3://bucket/vault?secret=abc"] {
        assert!(matches!(Vault::open(bad, &key).await, Err(VaultError::BadUrl { .. })), "{bad}");
    }
}

#[tokio::test]
async fn a_damaged_slot_never_opens() {
    let bench = bench().await;
    let path = Path::from("keys/1.slot");
    let good = bench.store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        bench.store.put(&path, bad.into()).await.unwrap();
        let place = Place::at("memory:///", bench.store.clone(), Path::default());
        Vault::open_at(place, &bench.key).await.expect_err("a changed slot must not open");
        bench.store.put(&path, good[..at].to_vec().into()).await.unwrap();
        let place = Place::at("memory:///", bench.store.clone(), Path::default());
        Vault::open_at(place, &bench.key).await.expect_err("a short slot must not open");
    }
}

#[tokio::test]
async fn garbage_is_listed_by_age_and_deleted_on_request() {
    let bench = bench().await;
    let (kept, _) = segment(&bench).await;
    let (orphan, _) = segment(&bench).await;
    let live = BTreeSet::from([kept.name.clone()]);
    let now = SystemClock.now().plus(Duration::from_secs(3600));
    let young = bench.vault.gc(&live, now, Duration::from_secs(7200)).await.unwrap();
    assert_eq!((young.orphans.len(), young.young.len(), young.live_segments), (0, 1, 1));
    let old = bench.vault.gc(&live, now, Duration::from_secs(600)).await.unwrap();
    assert_eq!(old.orphans.iter().map(|orphan| &orphan.name).collect::<Vec<_>>(), [&orphan.name]);
    assert_eq!(bench.vault.delete_segments(&[orphan.name.clone(), kept.name.clone()]).await.unwrap(), 2);
    bench.vault.delete_segments(&[orphan.name]).await.unwrap();
    assert!(bench.vault.segments().await.unwrap().is_empty());
}

/// Takes one object and is full from then on.
#[derive(Debug)]
struct Full(Arc<object_store::memory::InMemory>);

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Full")
    }
}

#[async_trait]
impl ObjectStore for Full {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        if at.as_ref().ends_with("-000000.seg") || !at.as_ref().starts_with("data") {
            return self.0.put_opts(at, payload, options).await;
        }
        let source = Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
        Err(object_store::Error::Generic { store: "test", source })
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, options).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.0.get_opts(at, options).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_full_store_says_how_to_go_on_and_leaves_what_was_committed() {
    let bench = bench().await;
    let (committed, content) = segment(&bench).await;
    let place = Place::at("memory:///", Arc::new(Full(bench.store.clone())), Path::default());
    let vault = Vault::open_at(place, &bench.key).await.unwrap();
    let mut writer = writer(&vault).with_segment_bytes(FRAME);
    let mut outcome = Ok(());
    for number in 0..4 {
        outcome = writer.write(number * FRAME as u64, &noise(number, FRAME)).await;
        if outcome.is_err() {
            break;
        }
    }
    let error = match outcome {
        Err(error) => error,
        Ok(()) => writer.finish().await.unwrap_err(),
    };
    assert!(matches!(error, VaultError::Full { .. }), "{error}");
    let failure = Failure::from(error);
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(failure.help.unwrap().contains("muster vault gc"));
    assert!(read_cold(&bench, &committed).await.unwrap() == content);
}
