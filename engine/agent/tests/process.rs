//! The agent as a process: comes up, serves, and goes when it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use muster_agent::{AgentOptions, RemoteSite, run_agent};
use muster_ports::*;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use support::*;
use tokio::net::TcpListener;
use tokio::time::timeout;

fn options(folder: &Path, listen: &str) -> AgentOptions {
    AgentOptions {
        site: "dr".into(),
        folder: folder.join("site"),
        listen: listen.to_owned(),
        certificates: None,
        key: muster_vault::KeySource::File(folder.join("key")),
    }
}

async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn it_serves_until_it_is_told_to_stop_and_finishes_what_it_has_begun() {
    let folder = tempfile::tempdir().unwrap();
    let provider = MemoryProvider::new("dr");
    let address = free_port().await.to_string();
    let agent = tokio::spawn(run_agent(provider.clone(), options(folder.path(), &address)));
    let remote = RemoteSite::new("dr".into(), address.clone());
    timeout(Duration::from_secs(20), async {
        while let Err(failure) = remote.facts().await {
            assert_eq!(failure.class, FailureClass::Transient, "{failure}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the agent does not come up");
    assert!(folder.path().join("site/nbd.sock").exists());

    // A second agent on the same folder does not come up.
    let second = run_agent(provider.clone(), options(folder.path(), &free_port().await.to_string())).await;
    assert_eq!(second.unwrap_err().class, FailureClass::Refused);

    let gate = provider.gate.acquire_many(1_000).await.unwrap();
    let fenced = name("db");
    let starting = timeout(Duration::from_millis(300), remote.start(&fenced)).await;
    assert!(starting.is_err(), "the machine was to be held back");
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!agent.is_finished(), "the agent left in the middle of an effect");
    drop(gate);
    timeout(Duration::from_secs(10), agent).await.expect("the agent does not stop").unwrap().unwrap();
    assert_eq!(remote.facts().await.unwrap_err().class, FailureClass::Transient);
    assert!(!folder.path().join("site/nbd.sock").exists());
}

#[tokio::test]
async fn it_does_not_come_up_where_everybody_could_reach_it() {
    let folder = tempfile::tempdir().unwrap();
    let failure = run_agent(MemoryProvider::new("dr"), options(folder.path(), "7300")).await.unwrap_err();
    assert!(failure.message.contains("`7300` is no address to listen on"), "{failure}");
    let failure = run_agent(MemoryProvider::new("dr"), options(folder.path(), "0.0.0.0:0")).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.help.is_some_and(|help| help.contains("loopback")));
    assert!(!folder.path().join("site").exists());
}
