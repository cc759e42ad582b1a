//! The agent's port under bad weather: lost agents, lost clients, wrong peers, noise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use muster_agent::{RemoteSite, limits, serve};
use muster_ports::*;
use std::sync::Arc;
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

async fn started() -> (tempfile::TempDir, Arc<MemoryProvider>, Agent) {
    let folder = tempfile::tempdir().unwrap();
    let (provider, plane) = (MemoryProvider::new("dr"), Arc::new(MemoryPlane::default()));
    let site = Arc::new(local(&provider, &plane, folder.path()));
    let images = [plane.put("root", content(1)), plane.put("data", content(2))];
    site.land(&order("db", "k", LandMode::Full, images), &Silent).await.unwrap();
    let agent = Agent::start(site).await;
    (folder, provider, agent)
}

/// Waits for a state, not for a time.
async fn until(mut reached: impl FnMut() -> bool) {
    timeout(Duration::from_secs(20), async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("what is waited for does not come");
}

#[tokio::test]
async fn many_calls_share_a_connection_and_a_slow_one_holds_up_nobody() {
    let (_folder, provider, agent) = started().await;
    let remote = agent.remote("dr");
    let gate = provider.gate.acquire_many(1_000).await.unwrap();
    let starting = tokio::spawn({
        let remote = remote.clone();
        async move { remote.start(&name("db")).await }
    });
    for _ in 0..100 {
        assert_eq!(remote.instances().await.unwrap().len(), 1);
    }
    assert!(!starting.is_finished());
    drop(gate);
    starting.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_agent_killed_in_mid_call_is_transient_and_the_next_call_connects_anew() {
    let (_folder, provider, agent) = started().await;
    let (remote, address) = (agent.remote("dr"), agent.address.clone());
    let _gate = provider.gate.acquire_many(1_000).await.unwrap();
    remote.facts().await.unwrap();
    let starting = tokio::spawn({
        let remote = remote.clone();
        async move { remote.start(&name("db")).await }
    });
    until(|| provider.gate.available_permits() == 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    agent.serving.abort();
    let failure = timeout(Duration::from_secs(15), starting).await.unwrap().unwrap().unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.message.starts_with(&format!("site `dr` does not answer at {address}: ")), "{failure}");
    let failure = remote.facts().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient);

    let folder = tempfile::tempdir().unwrap();
    let again = local(&provider, &Arc::new(MemoryPlane::default()), folder.path());
    let _agent = Agent::start_at(&address, Arc::new(again)).await;
    assert_eq!(remote.instances().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_effect_is_done_to_its_end_when_its_client_goes_away() {
    let (_folder, provider, agent) = started().await;
    let gate = provider.gate.acquire_many(1_000).await.unwrap();
    let remote = agent.remote("dr");
    remote.facts().await.unwrap();
    let started = timeout(Duration::from_millis(300), remote.start(&name("db"))).await;
    assert!(started.is_err());
    drop(remote);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(provider.count("start"), 0);
    drop(gate);
    until(|| provider.count("start") == 1).await;
}

#[tokio::test]
async fn a_bug_in_a_provider_is_an_answer() {
    let (_folder, _provider, agent) = started().await;
    let remote = agent.remote("dr");
    let probe = Probe::Tcp { ip: [10, 0, 0, 1].into(), port: 1, within: Duration::from_secs(1) };
    let failure = remote.probe(&NetworkScope::Live, &probe).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Diverged, "{failure}");
    remote.facts().await.unwrap();
}

#[tokio::test]
async fn answers_and_orders_beyond_the_limit_are_failures_not_lost_connections() {
    let (_folder, _provider, agent) = started().await;
    let remote = agent.remote("dr");
    let failure = remote.console(&name("db"), u64::from(limits::FRAME_BYTES_MAX)).await.unwrap_err();
    assert!(failure.message.contains("too large"), "{failure}");
    let long = GuestCommand {
        program: "x".repeat(limits::FRAME_BYTES_MAX as usize),
        arguments: Vec::new(),
        stdin: None,
        within: Duration::from_secs(1),
    };
    let failure = remote.guest_exec(&name("db"), &long).await.unwrap_err();
    assert!(failure.message.contains("too large"), "{failure}");
    remote.facts().await.unwrap();
}

#[tokio::test]
async fn noise_harms_nobody() {
    let (_folder, _provider, agent) = started().await;
    let remote = agent.remote("dr");
    remote.facts().await.unwrap();
    let hello = br#"{"frame":"hello","protocol":2,"site":"dr"}"#;
    let framed = |body: &[u8]| [&(body.len() as u32).to_be_bytes()[..], body].concat();
    let noises: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 64],
        framed(b""),
        framed(b"{}"),
        framed(br#"{"frame":"ping"}"#),
        framed(&[b"[".repeat(100_000), b"]".repeat(100_000)].concat()),
        [framed(hello), framed(br#"{"frame":"call","id":1,"call":{"call":"format-disk"}}"#)].concat(),
        [framed(hello), framed(b"\xff\xfe")].concat(),
        [framed(hello), vec![0, 0, 1, 0, 1]].concat(),
    ];
    for noise in noises {
        let mut stream = TcpStream::connect(&agent.address).await.unwrap();
        stream.write_all(&noise).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = Vec::new();
        let ended = timeout(Duration::from_secs(5), stream.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "the agent does not hang up on {:?}", String::from_utf8_lossy(&noise));
        remote.facts().await.unwrap();
    }
    assert!(!agent.serving.is_finished());
}

#[tokio::test]
async fn a_malformed_call_is_told_what_is_wrong() {
    let (_folder, _provider, agent) = started().await;
    let mut stream = TcpStream::connect(&agent.address).await.unwrap();
    for body in [r#"{"frame":"hello","protocol":2,"site":"dr"}"#, r#"{"frame":"call","id":1,"call":{"call":"x"}}"#] {
        stream.write_u32(body.len() as u32).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
    }
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains(r#""frame":"refuse""#) && said.contains("unknown variant `x`"), "{said}");
}

#[tokio::test]
async fn another_sites_agent_and_another_protocol_are_refused() {
    let (_folder, _provider, agent) = started().await;
    let failure = agent.remote("east").facts().await.unwrap_err();
    assert_eq!(failure.message, "this is the agent of site `dr`, not of `east`");
    let mut stream = TcpStream::connect(&agent.address).await.unwrap();
    let body = r#"{"frame":"hello","protocol":9,"site":"dr"}"#;
    stream.write_u32(body.len() as u32).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert!(String::from_utf8_lossy(&said).contains("speaks protocol 2, the engine 9"));
}

#[tokio::test]
async fn an_open_address_is_refused() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let Ok(listener) = TcpListener::bind(address).await else { continue };
        let folder = tempfile::tempdir().unwrap();
        let site = local(&MemoryProvider::new("dr"), &Arc::new(MemoryPlane::default()), folder.path());
        let failure = serve(listener, Arc::new(site)).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Refused);
        assert!(failure.message.contains("everybody who reaches it"), "{failure}");
    }
}

#[tokio::test]
async fn a_site_that_is_not_there_is_transient_in_bounded_time() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    // Accepted by the kernel, and then silence.
    let remote = RemoteSite::new("dr".into(), address.clone());
    let failure = timeout(Duration::from_secs(8), remote.facts()).await.expect("it takes too long").unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient);
    assert_eq!(failure.message, format!("site `dr` does not answer at {address}: no greeting within 3 s"));
    drop(nobody);
    let failure = remote.facts().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.message.starts_with(&format!("site `dr` does not answer at {address}: ")), "{failure}");
}

#[tokio::test]
async fn an_agent_that_falls_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let hello = br#"{"frame":"hello","protocol":2,"site":"dr"}"#;
        stream.write_u32(hello.len() as u32).await.unwrap();
        stream.write_all(hello).await.unwrap();
        // As if cut off: the connection stays open and nothing comes any more.
        std::future::pending::<()>().await;
    });
    let remote = RemoteSite::new("dr".into(), address.clone());
    let failure = timeout(Duration::from_secs(15), remote.facts()).await.expect("it takes too long").unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient);
    assert_eq!(failure.message, format!("site `dr` does not answer at {address}: nothing was heard for 10 s"));
}

#[tokio::test]
async fn a_site_without_an_agent_says_what_is_missing() {
    let failure = RemoteSite::new("hq".into(), "").facts().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(failure.message.contains("no agent for site `hq`"), "{failure}");
}
