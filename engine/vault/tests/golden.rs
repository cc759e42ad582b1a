//! A vault written once and kept in the repository: this build must read it for ever, and write the same bytes.
//!
//! `MUSTER_WRITE_GOLDEN=1 cargo test -p muster-vault --test golden` makes it anew, after a new format version only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use muster_ports::*;
use muster_vault::*;
use std::path::Path;
use std::sync::Arc;

const SIZE: u64 = 256 << 10;

/// Compressible, not compressible, and a hole in an older frame.
async fn write(folder: &Path) -> (Vec<SegmentRef>, Vec<u8>) {
    let key = KeySource::generate_file(&folder.join("vault.key"), &Seeded::new(11)).unwrap();
    let url = format!("file://{}/vault", folder.display());
    let vault = Vault::init(&url, &key, &Seeded::new(12)).await.unwrap().with_random(Arc::new(Seeded::new(13)));
    let mut content = vec![0u8; SIZE as usize];
    content[..4096].copy_from_slice(&noise(14, 4096));
    content[65536..131072].fill(7);
    let mut first = writer(&vault);
    first.write(0, &content[..4096]).await.unwrap();
    first.write(65536, &content[65536..131072]).await.unwrap();
    let mut segments = first.finish().await.unwrap();
    content[70000 / 512 * 512..80384].fill(0);
    let mut second = writer(&vault);
    second.zero(70000 / 512 * 512, 80384 - 70000 / 512 * 512).await.unwrap();
    segments.extend(second.finish().await.unwrap());
    std::fs::write(folder.join("segments.json"), serde_json::to_string_pretty(&segments).unwrap()).unwrap();
    (segments, content)
}

#[tokio::test]
async fn the_golden_vault_reads_and_is_written_the_same() {
    if std::env::var_os("MUSTER_WRITE_GOLDEN").is_some() {
        let _ = std::fs::remove_dir_all(golden());
        std::fs::create_dir_all(golden()).unwrap();
        write(&golden()).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let (fresh, content) = write(folder.path()).await;
    let kept: Vec<SegmentRef> =
        serde_json::from_slice(&std::fs::read(golden().join("segments.json")).unwrap()).unwrap();
    let url = format!("file://{}/vault", golden().display());
    // Version control keeps no permissions: the copy that is used has those a key file must have.
    let key = folder.path().join("golden.key");
    std::fs::copy(golden().join("vault.key"), &key).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let vault = Vault::open(&url, &KeySource::File(key)).await.unwrap();
    let replica = vault.replica(&image(&vault, SIZE, &kept));
    assert!(common::content(&replica).await == content);
    assert!(scrub(vault.place(), &kept).await.unwrap().damaged.is_empty());

    for object in ["vault.json", "keys/1.slot"] {
        let (new, old) = (folder.path().join("vault").join(object), golden().join("vault").join(object));
        assert_eq!(std::fs::read(new).unwrap(), std::fs::read(old).unwrap(), "{object}");
    }
    // A newer zstd may pack the compressed frame in other bytes, but names, header and the raw first frame stay.
    for (new, old) in fresh.iter().zip(&kept) {
        assert_eq!(new.name, old.name);
        let new = std::fs::read(folder.path().join("vault/data").join(new.name.as_str())).unwrap();
        let old = std::fs::read(golden().join("vault/data").join(old.name.as_str())).unwrap();
        let same = 64 + if old.len() > 4096 { 4096 + 16 } else { 0 };
        assert_eq!(new[..same], old[..same]);
    }
}
