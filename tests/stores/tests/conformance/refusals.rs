//! What a person is told who has a setting wrong, by the real stores.

use super::done;
use muster_ports::{Failure, SystemRandom};
use muster_stores::Store;
use muster_vault::{KeySource, Place, StoreSettings, Vault, VaultError};
use std::time::{Duration, Instant};

async fn refused(url: &str, settings: &StoreSettings) -> VaultError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    KeySource::generate_file(&path, &SystemRandom).unwrap();
    let place = match Place::open_with(url, true, settings) {
        Ok(place) => place,
        Err(error) => return error,
    };
    Vault::init_at(place, &KeySource::File(path), &SystemRandom).await.unwrap_err()
}

/// The message with its causes and its hint, as the command line shows it.
fn words(error: VaultError) -> String {
    let failure = Failure::from(error);
    format!("{}\n{}", failure.message, failure.help.unwrap_or_default())
}

pub(crate) async fn wrong_settings_are_named(store: &Store, secret: &str) {
    let settings = store.settings();
    let missing = store.url.replace("/vaults/", "/no-such-place/").replace("//vaults/", "//no-such-place/");
    let error = refused(&missing, &settings).await;
    assert!(matches!(error, VaultError::NoBucket { .. }), "{error:?}");

    let wrong = settings.clone().with(secret, "bm90IHRoZSByaWdodCBrZXkgYXQgYWxsIG5vdCBhdCBhbGw=");
    let error = refused(&store.url, &wrong).await;
    assert!(matches!(error, VaultError::Rejected { .. }), "{error:?}");
    let words = words(error);
    assert!(words.contains("check the credentials"), "{words}");
    for (_, value) in &store.environment {
        assert!(value == "lab" || !words.contains(value), "a secret is shown: {words}");
    }

    let error = refused(&store.url, &StoreSettings::default()).await;
    assert!(matches!(error, VaultError::NoCredentials { .. }), "{error:?}");

    // A port that nobody listens on: told soon, not after all the patience there is for a store that is known.
    let (place, endpoint) = store.url.split_once("?endpoint=").unwrap();
    let (host, _) = endpoint.rsplit_once(':').unwrap();
    let began = Instant::now();
    let error = refused(&format!("{place}?endpoint={host}:9"), &settings).await;
    assert!(matches!(error, VaultError::Unreachable { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    done("wrong settings are named");
}
