//! An order that was on the wire when its writer was replaced: refused, also by an agent that has been started anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use muster_agent::{Epochs, RemoteSite, Token, serve_remembering};
use muster_ports::*;
use std::path::Path;
use std::sync::Arc;
use support::*;
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

struct Served {
    address: String,
    serving: JoinHandle<Result<()>>,
}

async fn serving(site: Arc<dyn Site>, folder: &Path) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let epochs = Epochs::open(folder).unwrap();
    Served { address, serving: tokio::spawn(serve_remembering(listener, site, epochs)) }
}

/// A wire on which what goes to the agent can be held back: first lets through what `held` says is free.
async fn slow_wire(to: String, mut free: watch::Receiver<bool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let (mut from_engine, mut to_engine) = near.into_split();
        let (mut from_agent, mut to_agent) = TcpStream::connect(to).await.unwrap().into_split();
        let back = tokio::spawn(async move { copy(&mut from_agent, &mut to_engine).await });
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = tokio::io::AsyncReadExt::read(&mut from_engine, &mut buffer).await.unwrap_or(0);
            if read == 0 || free.wait_for(|free| *free).await.is_err() {
                break;
            }
            tokio::io::AsyncWriteExt::write_all(&mut to_agent, &buffer[..read]).await.unwrap();
        }
        back.abort();
    });
    address
}

fn writer(address: &str, epoch: u64) -> RemoteSite {
    let token = Token { vault: "vault-1".into(), epoch: Epoch(epoch) };
    RemoteSite::new("dr".into(), address).commanded_by(token)
}

async fn power(site: &RemoteSite) -> Power {
    site.instance(&name("db")).await.unwrap().unwrap().power
}

#[tokio::test]
async fn an_order_of_a_replaced_writer_that_arrives_late_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, plane) = (MemoryProvider::new("dr"), Arc::new(MemoryPlane::default()));
    let site = Arc::new(local(&provider, &plane, folder.path()));
    let images = [plane.put("root", content(1)), plane.put("data", content(2))];
    site.land(&order("db", "k", LandMode::Full, images), &Silent).await.unwrap();
    let agent = serving(site.clone(), folder.path()).await;

    let (wire, free) = watch::channel(true);
    let old = Arc::new(writer(&slow_wire(agent.address.clone(), free).await, 7));
    assert_eq!(power(&old).await, Power::Off);
    // Its order leaves, and then nothing of it moves any more: neither the process nor the wire.
    wire.send_replace(false);
    let late = tokio::spawn({
        let old = old.clone();
        async move { old.start(&name("db")).await }
    });
    // Another process takes the vault over, and looks at its sites.
    let new = writer(&agent.address, 8);
    assert_eq!(power(&new).await, Power::Off);
    wire.send_replace(true);
    let refused = late.await.unwrap().unwrap_err();
    assert_eq!(refused.class, FailureClass::Refused);
    assert!(refused.message.contains("this one is of epoch 00000007, whose writer was replaced"), "{refused}");
    assert_eq!(power(&new).await, Power::Off, "nothing has happened");

    // The agent remembers over its own death, and a person who asks without a vault is heard.
    agent.serving.abort();
    let agent = serving(site, folder.path()).await;
    let refused = writer(&agent.address, 7).start(&name("db")).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Refused);
    assert_eq!(power(&writer(&agent.address, 8)).await, Power::Off);
    RemoteSite::new("dr".into(), agent.address.clone()).start(&name("db")).await.unwrap();
    assert_eq!(power(&writer(&agent.address, 9)).await, Power::On);
    agent.serving.abort();
}
