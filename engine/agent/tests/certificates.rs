//! Between machines both sides show who they are; without certificates an agent is reached from its own machine only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use muster_agent::{AgentOptions, RemoteSite, run_agent};
use muster_ports::*;
use muster_tls::{Authority, Caller, Role};
use std::path::Path;
use std::time::Duration;
use support::*;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An address of this computer that is no loopback one; none where it has no network at all, which no test can mend.
fn outer_address() -> std::net::IpAddr {
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: the kernel only chooses an address.
    probe.connect("192.0.2.1:9").expect("a route out of this computer, for an address that is not loopback");
    probe.local_addr().unwrap().ip()
}

async fn free(ip: std::net::IpAddr) -> String {
    TcpListener::bind((ip, 0)).await.unwrap().local_addr().unwrap().to_string()
}

fn start(folder: &Path, listen: &str, certificates: Option<&Path>) -> JoinHandle<Result<()>> {
    let options = AgentOptions {
        site: "dr".into(),
        folder: folder.join("site"),
        listen: listen.to_owned(),
        certificates: certificates.map(Path::to_owned),
        key: muster_vault::KeySource::File(folder.join("key")),
    };
    tokio::spawn(run_agent(MemoryProvider::new("dr"), options))
}

/// What the agent answers once it is up.
async fn facts(address: &str, caller: Option<&Path>) -> Result<SiteFacts> {
    let caller = caller.map(|folder| Caller::open(folder).unwrap());
    let remote = RemoteSite::new("dr".into(), address).called_as(caller);
    for _ in 0..200 {
        match remote.facts().await {
            Err(failure) if failure.class == FailureClass::Transient => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => return answer,
        }
    }
    panic!("the agent does not come up")
}

#[tokio::test]
async fn whom_the_authority_knows_commands_the_site_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ip = outer_address();
    let ours = Authority::make(&at("ca"), &SystemClock).unwrap();
    ours.issue(&at("dr"), &[Role::Server], &[ip.to_string()], &SystemClock).unwrap();
    ours.issue(&at("engine"), &[Role::Client], &[], &SystemClock).unwrap();
    let theirs = Authority::make(&at("other-ca"), &SystemClock).unwrap();
    theirs.issue(&at("stranger"), &[Role::Client], &[], &SystemClock).unwrap();

    let address = free(ip).await;
    let agent = start(folder.path(), &address, Some(&at("dr")));
    assert_eq!(facts(&address, Some(&at("engine"))).await.unwrap().site.as_str(), "dr");
    let stranger = facts(&address, Some(&at("stranger"))).await.unwrap_err();
    assert!(stranger.message.contains("do not believe each other"), "{stranger}");
    let nobody = facts(&address, None).await.unwrap_err();
    assert_eq!(nobody.class, FailureClass::Refused, "{nobody}");
    assert!(nobody.message.contains("on another machine") && nobody.help.unwrap().contains("MUSTER_CERTIFICATES"));
    // Who stays silent in mid-handshake holds nobody up.
    let _silent = tokio::net::TcpStream::connect(&address).await.unwrap();
    assert!(facts(&address, Some(&at("engine"))).await.is_ok());
    agent.abort();
}

#[tokio::test]
async fn a_certificate_for_another_address_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ours = Authority::make(&at("ca"), &SystemClock).unwrap();
    ours.issue(&at("hq"), &[Role::Server], &["10.77.1.2".into()], &SystemClock).unwrap();
    ours.issue(&at("engine"), &[Role::Client], &[], &SystemClock).unwrap();
    let address = free("127.0.0.1".parse().unwrap()).await;
    let agent = start(folder.path(), &address, Some(&at("hq")));
    let failure = facts(&address, Some(&at("engine"))).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(failure.message.contains("not valid for name"), "{failure}");
    agent.abort();
}

#[tokio::test]
async fn one_side_with_certificates_and_one_without_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ours = Authority::make(&at("ca"), &SystemClock).unwrap();
    ours.issue(&at("both"), &[Role::Server, Role::Client], &["127.0.0.1".into()], &SystemClock).unwrap();

    let address = free("127.0.0.1".parse().unwrap()).await;
    let plain = start(&at("plain"), &address, None);
    assert!(facts(&address, None).await.is_ok());
    let failure = facts(&address, Some(&at("both"))).await.unwrap_err();
    assert!(failure.help.unwrap().contains("started with `--certificates`"), "{}", failure.message);
    plain.abort();

    let address = free("127.0.0.1".parse().unwrap()).await;
    let sealed = start(&at("sealed"), &address, Some(&at("both")));
    assert!(facts(&address, Some(&at("both"))).await.is_ok());
    let failure = facts(&address, None).await.unwrap_err();
    assert!(failure.help.unwrap().contains("certificates"), "{}", failure.message);
    sealed.abort();
}

#[tokio::test]
async fn without_certificates_only_loopback_is_listened_on() {
    let folder = tempfile::tempdir().unwrap();
    for ip in [outer_address(), "0.0.0.0".parse().unwrap(), "::".parse().unwrap()] {
        let refused = start(folder.path(), &free(ip).await, None).await.unwrap().unwrap_err();
        assert_eq!(refused.class, FailureClass::Refused, "{ip}: {refused}");
        assert!(refused.help.unwrap().contains("muster certificate issue"), "{ip}");
    }
}
