//! Who may open a vault: keys are added and revoked, a passphrase opens, and the last slot stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use muster_vault::*;

async fn vault(folder: &tempfile::TempDir) -> (String, KeySource, Vault) {
    let url = format!("file://{}/vault", folder.path().display());
    let key = key_file(folder, "first", 1);
    let vault = Vault::init(&url, &key, &Seeded::new(2)).await.unwrap();
    (url, key, vault)
}

/// A disk of one frame, and the segment that holds it.
const SIZE: u64 = 4096;

async fn one_segment(vault: &Vault) -> Vec<muster_ports::SegmentRef> {
    let mut writer = writer(vault);
    writer.write(0, &noise(9, SIZE as usize)).await.unwrap();
    writer.finish().await.unwrap()
}

async fn read(vault: &Vault, segments: &[muster_ports::SegmentRef]) -> Vec<u8> {
    content(&vault.replica(&image(vault, SIZE, segments))).await
}

fn words(text: &str) -> KeySource {
    KeySource::Passphrase(Passphrase::new(text))
}

#[tokio::test]
async fn every_slot_opens_the_same_vault_until_it_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let (url, first, vault) = vault(&folder).await;
    let segment = one_segment(&vault).await;
    let second = key_file(&folder, "second", 3);
    let sentence = words("correct horse battery staple");
    assert_eq!(vault.add_slot(&second, "anna, safe in Ulm").await.unwrap(), 2);
    assert_eq!(vault.add_slot(&sentence, "for the night").await.unwrap(), 3);
    for key in [&first, &second, &sentence] {
        let opened = Vault::open(&url, key).await.unwrap();
        assert_eq!(opened.id(), vault.id());
        assert_eq!(read(&opened, &segment).await, read(&vault, &segment).await);
    }
    let shown: Vec<_> = vault.slots().await.unwrap();
    let shown: Vec<_> = shown.iter().map(|slot| (slot.number, slot.kind.as_str(), slot.label.as_str())).collect();
    assert_eq!(shown, [(1, "key", ""), (2, "key", "anna, safe in Ulm"), (3, "passphrase", "for the night")]);

    assert_eq!(vault.revoke_slot(2).await.unwrap().label, "anna, safe in Ulm");
    assert!(matches!(Vault::open(&url, &second).await, Err(VaultError::WrongKey { .. })));
    assert!(matches!(vault.revoke_slot(2).await, Err(VaultError::NoSuchSlot { .. })));
    assert_eq!(vault.add_slot(&second, "anna again").await.unwrap(), 2, "a free number is used again");
    vault.revoke_slot(1).await.unwrap();
    vault.revoke_slot(2).await.unwrap();
    assert!(matches!(vault.revoke_slot(3).await, Err(VaultError::LastSlot { .. })));
    assert_eq!(read(&Vault::open(&url, &sentence).await.unwrap(), &segment).await, read(&vault, &segment).await);
}

#[tokio::test]
async fn a_passphrase_must_be_right_and_hard_to_guess() {
    let folder = tempfile::tempdir().unwrap();
    let (url, first, vault) = vault(&folder).await;
    assert!(matches!(vault.add_slot(&words("too short"), "").await, Err(VaultError::ShortPassphrase { .. })));
    assert!(matches!(vault.add_slot(&first, "two\nlines").await, Err(VaultError::BadLabel { .. })));
    assert!(matches!(Vault::open(&url, &words("there is no such slot")).await, Err(VaultError::WrongKey { .. })));
    vault.add_slot(&words("correct horse battery staple"), "").await.unwrap();
    let wrong = Vault::open(&url, &words("correct horse battery stable")).await.unwrap_err();
    assert!(wrong.to_string().contains("keys/2.slot"), "{wrong}");
    assert!(!format!("{wrong:?} {:?}", words("correct horse battery stable")).contains("horse"));
}

#[tokio::test]
async fn a_passphrase_comes_from_the_first_line_of_a_closed_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words");
    std::fs::write(&path, "correct horse battery staple\nnot this\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(matches!(Passphrase::from_file(&path), Err(VaultError::LooseKeyFile { mode: 0o644, .. })));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    assert!(Passphrase::from_file(&path).unwrap() == Passphrase::new("correct horse battery staple"));
    std::fs::write(&path, "\n").unwrap();
    assert!(matches!(Passphrase::from_file(&path), Err(VaultError::BadKeyFile { .. })));
    assert!(matches!(Passphrase::from_file(&folder.path().join("none")), Err(VaultError::MissingKeyFile { .. })));
}

/// Kind 2 as `FORMAT.md` has it: a slot that asks for more memory than any limit is not tried.
#[tokio::test]
async fn a_slot_cannot_make_a_reader_spend_all_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (url, _, vault) = vault(&folder).await;
    let sentence = words("correct horse battery staple");
    let number = vault.add_slot(&sentence, "").await.unwrap();
    let path = folder.path().join(format!("vault/keys/{number}.slot"));
    let good = std::fs::read(&path).unwrap();
    for (at, value) in [(62, u32::MAX), (62, 0), (66, 1000), (70, 1000), (70, 0)] {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(Vault::open(&url, &sentence).await, Err(VaultError::DamagedObject { .. })), "{at} {value}");
    }
}

#[tokio::test]
async fn the_environment_holds_a_key_as_a_file_does() {
    let folder = tempfile::tempdir().unwrap();
    let (url, ..) = vault(&folder).await;
    let missing = KeySource::Environment("MUSTER_TEST_NO_SUCH_KEY".to_owned());
    assert!(matches!(Vault::open(&url, &missing).await, Err(VaultError::MissingKeyVariable { .. })));
    let prose = KeySource::Environment("PATH".to_owned());
    let refused = Vault::open(&url, &prose).await.unwrap_err();
    assert!(matches!(refused, VaultError::BadKeyVariable { .. }));
    assert!(!format!("{refused} {refused:?}").contains("/bin"), "what it holds is not shown");
}

#[tokio::test]
async fn a_damaged_slot_does_not_stand_in_the_way_of_a_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let (url, first, vault) = vault(&folder).await;
    let second = key_file(&folder, "second", 3);
    vault.add_slot(&second, "").await.unwrap();
    for rotten in [b"not a slot".to_vec(), Vec::new(), [b"MUSTSLOT", [9u8; 200].as_slice()].concat()] {
        std::fs::write(folder.path().join("vault/keys/1.slot"), rotten).unwrap();
        let opened = Vault::open(&url, &second).await.unwrap();
        let slots = opened.slots().await.unwrap();
        assert_eq!(slots.iter().map(|slot| slot.usable).collect::<Vec<_>>(), [false, true]);
        assert!(matches!(opened.revoke_slot(2).await, Err(VaultError::LastSlot { .. })), "a damaged slot is no other");
        let without = Vault::open(&url, &first).await.unwrap_err();
        assert!(without.to_string().contains("keys/1.slot"), "{without}");
    }
    vault.revoke_slot(1).await.unwrap();
    Vault::open(&url, &second).await.unwrap();
}
