//! The seals of small objects by themselves, over a store in memory: every bit, every length, conditions and sizes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use futures::TryStreamExt;
use muster_journal::seal::SEAL_BYTES;
use muster_journal::{Sealed, Unsound};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion,
};
use std::sync::Arc;

fn store() -> (Arc<InMemory>, Sealed) {
    let inner = Arc::new(InMemory::new());
    (inner.clone(), Sealed::new(inner, Path::from("vault/state")))
}

fn manifest(number: u64) -> Path {
    Path::from(format!("vault/state/manifest/{number:020}.manifest"))
}

fn body() -> Bytes {
    (0..200u32).flat_map(|n| (n * n).to_le_bytes()).collect()
}

async fn put(store: &dyn ObjectStore, path: &Path, bytes: Bytes) {
    store.put(path, bytes.into()).await.unwrap();
}

async fn get(store: &dyn ObjectStore, path: &Path) -> object_store::Result<Bytes> {
    store.get(path).await?.bytes().await
}

fn assert_refused(result: object_store::Result<Bytes>, path: &Path, what: &str) {
    let error = result.expect_err(what);
    let unsound = Unsound::find(&error).unwrap_or_else(|| panic!("{what}: {error}"));
    assert_eq!(&unsound.location, path, "{what}");
}

#[tokio::test]
async fn every_flipped_bit_is_refused_by_name() {
    let (inner, sealed) = store();
    for path in [manifest(7), Path::from("vault/state/gc/wal.boundary")] {
        put(&sealed, &path, body()).await;
        assert_eq!(get(&sealed, &path).await.unwrap(), body());
        let stored = get(&*inner, &path).await.unwrap();
        assert_eq!(stored.len(), body().len() + SEAL_BYTES);
        for bit in 0..stored.len() * 8 {
            let mut changed = stored.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            put(&*inner, &path, changed.into()).await;
            assert_refused(get(&sealed, &path).await, &path, &format!("bit {bit}"));
        }
    }
}

#[tokio::test]
async fn an_object_of_another_length_is_refused_beside_one_with_a_seal() {
    let (inner, sealed) = store();
    put(&sealed, &manifest(6), body()).await;
    put(&sealed, &manifest(7), body()).await;
    let stored = get(&*inner, &manifest(7)).await.unwrap();
    for keep in 0..stored.len() {
        put(&*inner, &manifest(7), stored.slice(..keep)).await;
        assert_refused(get(&sealed, &manifest(7)).await, &manifest(7), &format!("cut to {keep}"));
    }
    for more in 1..100 {
        let longer: Bytes = stored.iter().copied().chain(std::iter::repeat_n(0, more)).collect();
        put(&*inner, &manifest(7), longer).await;
        assert_refused(get(&sealed, &manifest(7)).await, &manifest(7), &format!("{more} zeros more"));
    }
    // The seal of another name.
    put(&*inner, &manifest(7), get(&*inner, &manifest(6)).await.unwrap()).await;
    assert_refused(get(&sealed, &manifest(7)).await, &manifest(7), "of another name");
    // The last sector is gone.
    let mut zeroed = stored.to_vec();
    zeroed[512..].fill(0);
    put(&*inner, &manifest(7), zeroed.into()).await;
    assert_refused(get(&sealed, &manifest(7)).await, &manifest(7), "zeros");
}

#[tokio::test]
async fn what_an_older_muster_wrote_is_read_as_it_is() {
    let (inner, sealed) = store();
    for number in 1..=3 {
        put(&*inner, &manifest(number), body()).await;
    }
    put(&*inner, &Path::from("vault/state/gc/wal.boundary"), "17".into()).await;
    assert_eq!(get(&sealed, &manifest(3)).await.unwrap(), body());
    assert_eq!(get(&sealed, &manifest(1)).await.unwrap(), body());
    assert_eq!(get(&sealed, &Path::from("vault/state/gc/wal.boundary")).await.unwrap(), "17");
    // A newer muster goes on, and an older one after it.
    put(&sealed, &manifest(4), body()).await;
    put(&*inner, &manifest(5), body()).await;
    put(&*inner, &manifest(6), body()).await;
    assert_eq!(get(&sealed, &manifest(6)).await.unwrap(), body());
    assert_refused(get(&sealed, &manifest(5)).await, &manifest(5), "alone after one with a seal");
    // One whose predecessor was collected.
    inner.delete(&manifest(4)).await.unwrap();
    assert_eq!(get(&sealed, &manifest(5)).await.unwrap(), body());
}

#[tokio::test]
async fn sizes_and_ranges_are_those_of_the_body() {
    let (_, sealed) = store();
    put(&sealed, &manifest(1), body()).await;
    assert_eq!(sealed.head(&manifest(1)).await.unwrap().size, body().len() as u64);
    assert_eq!(sealed.get(&manifest(1)).await.unwrap().meta.size, body().len() as u64);
    assert_eq!(sealed.get_range(&manifest(1), 8..24).await.unwrap(), body().slice(8..24));
    let last = GetOptions { range: Some(GetRange::Suffix(5)), ..GetOptions::default() };
    let last = sealed.get_opts(&manifest(1), last).await.unwrap();
    assert_eq!(last.range, 795..800);
    assert_eq!(last.bytes().await.unwrap(), body().slice(795..));
    let beyond = GetOptions { range: Some(GetRange::Offset(800)), ..GetOptions::default() };
    assert!(sealed.get_opts(&manifest(1), beyond).await.is_err());
    let parts = sealed.get_ranges(&manifest(1), &[0..4, 700..4_000]).await.unwrap();
    assert_eq!(parts, [body().slice(..4), body().slice(700..)]);
    // An empty one has a seal too.
    put(&sealed, &manifest(2), Bytes::new()).await;
    assert_eq!(get(&sealed, &manifest(2)).await.unwrap(), Bytes::new());
}

#[tokio::test]
async fn conditions_mean_what_they_mean_without_seals() {
    let (_, sealed) = store();
    let create = || PutOptions::from(PutMode::Create);
    let first = sealed.put_opts(&manifest(1), body().into(), create()).await.unwrap();
    let again = sealed.put_opts(&manifest(1), "other".into(), create()).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(get(&sealed, &manifest(1)).await.unwrap(), body());
    let known = sealed.get(&manifest(1)).await.unwrap().meta;
    assert_eq!(known.e_tag, first.e_tag);

    let same = GetOptions { if_none_match: known.e_tag.clone(), ..GetOptions::default() };
    assert!(matches!(sealed.get_opts(&manifest(1), same.clone()).await, Err(Error::NotModified { .. })));
    let update = || PutMode::Update(UpdateVersion { e_tag: known.e_tag.clone(), version: known.version.clone() });
    sealed.put_opts(&manifest(1), "newer".into(), update().into()).await.unwrap();
    let late = sealed.put_opts(&manifest(1), "late".into(), update().into()).await;
    assert!(matches!(late, Err(Error::Precondition { .. })), "{late:?}");
    assert_eq!(sealed.get_opts(&manifest(1), same).await.unwrap().bytes().await.unwrap(), "newer");
    assert!(matches!(get(&sealed, &manifest(9)).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn tables_and_what_lies_beside_the_state_pass_as_they_are() {
    let (inner, sealed) = store();
    for path in ["vault/state/wal/1.sst", "vault/state/compacted/2.sst", "vault/data/x.seg", "vault/state-of-old/m"] {
        let path = Path::from(path);
        put(&sealed, &path, body()).await;
        assert_eq!(get(&*inner, &path).await.unwrap(), body(), "{path}");
        put(&*inner, &path, "anything".into()).await;
        assert_eq!(get(&sealed, &path).await.unwrap(), "anything", "{path}");
    }
    put(&sealed, &manifest(1), body()).await;
    let listed: Vec<_> = sealed.list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 5);
    // A seal holds for one name and for all of a body.
    let copied = sealed.copy_opts(&manifest(1), &manifest(2), CopyOptions::default()).await;
    assert!(matches!(copied, Err(Error::NotSupported { .. })), "{copied:?}");
    assert!(matches!(sealed.put_multipart(&manifest(2)).await, Err(Error::NotSupported { .. })));
}

#[tokio::test]
async fn the_bytes_are_those_that_the_format_says() {
    let (inner, sealed) = store();
    put(&sealed, &manifest(7), "body".into()).await;
    let name = "manifest/00000000000000000007.manifest";
    let hashed = [&(name.len() as u64).to_le_bytes(), name.as_bytes(), b"body"].concat();
    let hash = blake3::derive_key("muster 2026 seal of an object of the control state", &hashed);
    let expected = [b"bodymuster.seal\0\x01\0\0\0".as_slice(), &hash].concat();
    assert_eq!(get(&*inner, &manifest(7)).await.unwrap(), expected);
}
