//! The process that holds a vault, as other commands on the host meet it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use muster_control::{Access, Event, OpenOptions, Request, Sink, socket};
use muster_ports::*;
use muster_runsheet::{Duration as Span, Estate, GroupSheet, InitialCopy, MachineSheet, PolicySheet, SiteSheet};
use muster_vault::{KeySource, Vault};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn silent() -> Arc<dyn Sink> {
    Arc::new(|_: Event| {})
}

/// One group at one site, whose agent is at an address.
fn estate(agent: String, vault: &str) -> Estate {
    let mut estate = Estate::default();
    let hq = SiteName::new("hq");
    let site = SiteSheet {
        name: hq.clone(),
        provider: "simulated".into(),
        agent,
        networks: Vec::new(),
        endpoint: None,
        login: None,
        labels: BTreeMap::new(),
    };
    estate.sites.insert(hq.clone(), site);
    let policy = PolicySheet {
        name: "gold".into(),
        rpo: Span::from_mins(5),
        cycle: Span::from_mins(1),
        app_every: None,
        retain: Span::from_mins(60),
        bandwidth: None,
        bandwidth_windows: Vec::new(),
        change_log: None,
        compression: 3,
        continuous: false,
        crash_every: None,
        tiers: Vec::new(),
        retain_all: None,
        encryption: None,
        resync_window: None,
        initial_copy: InitialCopy::Online,
    };
    let group = GroupSheet {
        name: "orders".into(),
        policy: Some(policy.name.clone()),
        machines: vec!["db".into()],
        together: true,
        home: Some(hq.clone()),
        away: None,
        query: None,
    };
    let facts = MachineFacts {
        name: "db".into(),
        cpus: 1,
        memory_bytes: 1 << 20,
        disks: vec![DiskFacts { name: "root".into(), size_bytes: 1 << 20 }],
        nics: Vec::new(),
        guest_agent: false,
        churn_bytes_per_second: 0,
        churn: None,
        containers: BTreeMap::new(),
        tags: Vec::new(),
        power: Power::Off,
    };
    estate.machines.insert(
        "db".into(),
        MachineSheet { facts, home: hq, group: Some("orders".into()), known_as: None, places: BTreeMap::new() },
    );
    estate.groups.insert("orders".into(), group);
    estate.policies.insert(policy.name.clone(), policy);
    assert!(vault.starts_with("file://"));
    estate
}

#[tokio::test]
async fn a_holder_that_hangs_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holder.sock");
    // It takes connections, as the kernel does for it, and never says a word: stopped, or on a dead disk.
    let _listener = tokio::net::UnixListener::bind(&path).unwrap();
    let found = tokio::time::timeout(Duration::from_secs(20), socket::connect(&path)).await;
    assert!(found.expect("an answer within the limit").is_none());
}

#[tokio::test]
async fn a_holder_that_is_done_first_ends_after_the_work_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let vault = format!("file://{}/vault", folder.path().display());
    let key_file = folder.path().join("key");
    let key = KeySource::generate_file(&key_file, &SystemRandom).unwrap();
    Vault::init(&vault, &key, &SystemRandom).await.unwrap();
    // An agent that never greets keeps a cycle busy until the limit of connecting.
    let agent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let estate = estate(agent.local_addr().unwrap().to_string(), &vault);
    let options = OpenOptions {
        vault: vault.clone(),
        key,
        sites: estate.sites.clone(),
        caller: None,
        purpose: "protect".into(),
        steal: false,
    };
    let first = Access::for_writing(options.clone()).await.unwrap();
    let groups = vec!["orders".into()];
    first.call(&Request::Protect { estate: Box::new(estate), groups }, silent()).await.unwrap();
    let second = loop {
        let access = Access::for_reading(options.clone()).await.unwrap();
        if access.is_remote() {
            break access;
        }
        access.close().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let cycle = tokio::spawn(async move { second.call(&Request::Cycle { groups: Vec::new() }, silent()).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!cycle.is_finished());
    first.close().await;
    let failure = cycle.await.unwrap().unwrap_err();
    assert!(failure.message.contains("site `hq` does not answer"), "its own end, not ours: {failure}");
}

#[tokio::test]
async fn a_request_that_comes_too_late_finds_the_next_holder() {
    let folder = tempfile::tempdir().unwrap();
    let vault = format!("file://{}/vault", folder.path().display());
    let key_file = folder.path().join("key");
    let key = KeySource::generate_file(&key_file, &SystemRandom).unwrap();
    Vault::init(&vault, &key, &SystemRandom).await.unwrap();
    let options =
        OpenOptions { vault, key, sites: Default::default(), caller: None, purpose: "test".into(), steal: false };
    let first = Access::for_writing(options.clone()).await.unwrap();
    let second = loop {
        // The socket is there a moment after the vault is held.
        let access = Access::for_reading(options.clone()).await.unwrap();
        if access.is_remote() {
            access.close().await;
            break Access::for_writing(options.clone()).await.unwrap();
        }
        access.close().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(second.is_remote());
    first.close().await;
    // It has greeted a holder that is gone now; what it asks for is done all the same, by itself.
    let status = second.call(&Request::Status, silent()).await.unwrap();
    assert!(status["holder"].is_string(), "{status}");
    second.close().await;
}
