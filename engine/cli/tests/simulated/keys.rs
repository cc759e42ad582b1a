//! Who may open a vault: a passphrase, a key in the environment, a key that is revoked.

use crate::shop::{Said, Shop, said};
use std::os::unix::fs::PermissionsExt;

/// What the command says with no key file named.
fn keyless(shop: &Shop, words: &[&str], key: Option<&str>) -> Said {
    let mut command = shop.command(words);
    command.env_remove("MUSTER_KEY_FILE").current_dir(shop.folder.path().join("run"));
    if let Some(key) = key {
        command.env("MUSTER_KEY", key);
    }
    said(command, words)
}

#[test]
fn a_passphrase_and_the_environment_open_the_vault_and_a_revoked_key_does_not() {
    let shop = Shop::protected();
    let file = shop.folder.path().join("words");
    std::fs::write(&file, "correct horse battery staple\n").unwrap();
    let words = file.display().to_string();
    shop.type_in(&["vault", "key", "add", "--new-passphrase-file", &words]).ends(5).says(&["other users", "chmod 600"]);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    shop.type_in(&["vault", "key", "add", "--new-passphrase-file", &words, "--label", "on paper, safe in Ulm"]).ends(0);
    let listed = shop.json(&["vault", "key", "list"]);
    assert_eq!(listed[1]["kind"], "passphrase");
    assert_eq!(listed[1]["label"], "on paper, safe in Ulm");

    // The night: the key file has burnt, the sentence is known.
    let kept = std::fs::read_to_string(shop.key()).unwrap();
    let points = keyless(&shop, &["--passphrase-file", &words, "points", "orders"], None).ends(0);
    assert!(!points.out.trim().is_empty());
    assert_eq!(keyless(&shop, &["points", "orders"], Some(kept.trim())).ends(0).out, points.out);
    keyless(&shop, &["points", "orders"], None).ends(1).says(&["muster.key", "missing"]);

    shop.type_in(&["vault", "key", "revoke", "1"]).ends(0).says(&["no more"]);
    shop.type_in(&["points", "orders"]).ends(5).says(&["does not open vault"]);
    let last = ["--passphrase-file", &words, "vault", "key", "revoke", "2"];
    keyless(&shop, &last, None).ends(5).says(&["last key slot", "add another key first"]);

    // A new key file in the place of the sentence.
    let fresh = shop.folder.path().join("fresh.key").display().to_string();
    let rotate = ["--passphrase-file", &words, "vault", "key", "rotate", "2", "--new-key-file", &fresh];
    keyless(&shop, &rotate, None).ends(0);
    keyless(&shop, &["--key-file", &fresh, "points", "orders"], None).ends(0);
    keyless(&shop, &["--passphrase-file", &words, "points", "orders"], None).ends(5);
}
