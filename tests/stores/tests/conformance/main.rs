//! What a store has to do to hold a vault, asked of a local folder, of a SeaweedFS cluster and of Azurite.
//!
//! Each store is one test, so that its servers start once. How long a frozen gateway is left frozen is 10 s, or what
//! MUSTER_STALL_SECONDS says; stores are required to be waited for through 30.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is wrong")]
#![allow(clippy::disallowed_methods, reason = "real servers take real time")]
#![allow(clippy::print_stdout, reason = "a failed test says how far it came")]

mod objects;
mod refusals;
mod vaults;

use muster_stores::{Azurite, SeaweedFs, Server, Store};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A store under test.
struct Subject {
    /// One place, through each of the doors that the store has.
    doors: Vec<Store>,
    /// A signed request that puts the object of this name, for an upload that breaks off. None where there is no wire.
    upload: Option<Upload>,
}

struct Upload {
    object: String,
    url: String,
    headers: &'static str,
}

async fn conforms(subject: &Subject) {
    done("the store runs");
    let places: Vec<_> = subject.doors.iter().map(objects::open).collect();
    // Boxed: unoptimised, their futures together outgrow the stack of a test's thread.
    Box::pin(objects::one_creator_wins(&places)).await;
    Box::pin(objects::what_was_put_is_listed_until_it_is_deleted(&places)).await;
    Box::pin(objects::ranges_are_exact(&places)).await;
    Box::pin(objects::big_objects_come_back_whole(&places)).await;
    Box::pin(objects::an_upload_that_breaks_off_leaves_nothing(&places[0], subject.upload.as_ref())).await;
    Box::pin(vaults::a_vault_is_made_once_and_opened_through_every_door(&subject.doors)).await;
    Box::pin(vaults::what_is_written_is_read_scrubbed_and_collected(&subject.doors)).await;
    Box::pin(vaults::a_second_writer_fences_the_first(&subject.doors)).await;
}

fn stall() -> Duration {
    let seconds = std::env::var("MUSTER_STALL_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

/// Says how far it has come, and when.
fn done(what: &str) {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let since = BEGAN.get_or_init(Instant::now).elapsed();
    println!("{:6.1} s  {what}", since.as_secs_f64());
}

#[tokio::test]
async fn a_local_folder() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().join("a/vault").display());
    conforms(&Subject { doors: vec![Store { url, environment: Vec::new() }], upload: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seaweedfs() {
    let cluster = tokio::task::block_in_place(SeaweedFs::start);
    cluster.make_bucket("vaults").await;
    let object = "conformance/broken-off".to_owned();
    let url = cluster.signed("PUT", "vaults", &object).await;
    let doors = vec![cluster.store("vaults", "conformance", 0), cluster.store("vaults", "conformance", 1)];
    conforms(&Subject { doors, upload: Some(Upload { object: "broken-off".to_owned(), url, headers: "" }) }).await;
    let refused = cluster.store("vaults", "refused", 0);
    Box::pin(refusals::wrong_settings_are_named(&refused, "AWS_SECRET_ACCESS_KEY")).await;
    let frozen: Vec<&Server> = cluster.gateways.iter().collect();
    Box::pin(vaults::a_frozen_store_is_waited_for(&cluster.store("vaults", "frozen", 0), &frozen, stall())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azurite() {
    let azurite = tokio::task::block_in_place(Azurite::start);
    tokio::task::block_in_place(|| azurite.make_container("vaults"));
    let url = azurite.signed("PUT", "vaults", "conformance/broken-off").await;
    let upload = Upload { object: "broken-off".to_owned(), url, headers: "x-ms-blob-type: BlockBlob\r\n" };
    conforms(&Subject { doors: vec![azurite.store("vaults", "conformance")], upload: Some(upload) }).await;
    let refused = azurite.store("vaults", "refused");
    Box::pin(refusals::wrong_settings_are_named(&refused, "AZURE_STORAGE_ACCOUNT_KEY")).await;
    Box::pin(vaults::a_frozen_store_is_waited_for(&azurite.store("vaults", "frozen"), &[&azurite.server], stall()))
        .await;
}
