//! Both sides of a wire, with certificates that were issued by this crate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use muster_ports::{FailureClass, SystemClock};
use muster_tls::*;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

fn folder_of(authority: &Authority, at: &Path) {
    authority
        .issue(at, &[Role::Server, Role::Client], &["dr.example.com".into(), "10.77.2.2".into()], &SystemClock)
        .unwrap();
}

/// What the server reads of a client that says "hello", or why not.
async fn hello(server: &Path, client: &Path, name: &str) -> Result<String, String> {
    let (near, far) = duplex(64 << 10);
    let (acceptor, caller) = (acceptor(server).unwrap(), Caller::open(client).unwrap());
    let calling = async {
        let mut stream = caller.call(name, near).await.map_err(|error| error.to_string())?;
        // In TLS 1.3 a client learns only later that it was refused: what counts is what arrives.
        let _ = stream.write_all(b"hello").await;
        let _ = stream.shutdown().await;
        Ok::<_, String>(stream)
    };
    let answering = async {
        let mut stream = acceptor.accept(far).await.map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(text)
    };
    let (called, answered) = tokio::join!(calling, answering);
    called.and(answered)
}

#[tokio::test]
async fn who_was_issued_for_is_let_in_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ours = Authority::make(&at("ca"), &SystemClock).unwrap();
    folder_of(&ours, &at("hq"));
    // An authority that was closed and opened again is the same one.
    folder_of(&Authority::open(&at("ca")).unwrap(), &at("dr"));
    folder_of(&Authority::make(&at("other-ca"), &SystemClock).unwrap(), &at("stranger"));
    for name in ["dr.example.com", "10.77.2.2"] {
        assert_eq!(hello(&at("dr"), &at("hq"), name).await.as_deref(), Ok("hello"), "{name}");
    }
    let wrong_name = hello(&at("dr"), &at("hq"), "10.77.1.2").await.unwrap_err();
    assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
    assert!(hello(&at("dr"), &at("stranger"), "10.77.2.2").await.is_err());
    assert!(hello(&at("stranger"), &at("hq"), "10.77.2.2").await.is_err());
}

#[tokio::test]
async fn a_servers_certificate_does_not_call() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ours = Authority::make(&at("ca"), &SystemClock).unwrap();
    folder_of(&ours, &at("dr"));
    ours.issue(&at("thief"), &[Role::Server], &["10.77.2.2".into()], &SystemClock).unwrap();
    for (from, to) in [("server-cert.pem", "client-cert.pem"), ("server-key.pem", "client-key.pem")] {
        std::fs::rename(at("thief").join(from), at("thief").join(to)).unwrap();
    }
    assert!(hello(&at("dr"), &at("thief"), "10.77.2.2").await.is_err());
}

#[test]
fn keys_are_private_and_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ours = Authority::make(&at("ca"), &SystemClock).unwrap();
    assert_eq!(Authority::make(&at("ca"), &SystemClock).unwrap_err().class, FailureClass::Refused);
    folder_of(&ours, &at("dr"));
    let again = ours.issue(&at("dr"), &[Role::Client], &[], &SystemClock).unwrap_err();
    assert_eq!(again.class, FailureClass::Refused, "{again}");
    let other = Authority::make(&at("other-ca"), &SystemClock).unwrap();
    ours.issue(&at("mixed"), &[Role::Client], &[], &SystemClock).unwrap();
    let mixed = other.issue(&at("mixed"), &[Role::Server], &["dr".into()], &SystemClock).unwrap_err();
    assert!(mixed.to_string().contains("another authority") && !at("mixed/server-key.pem").exists(), "{mixed}");
    let nameless = ours.issue(&at("x"), &[Role::Server], &[], &SystemClock).unwrap_err();
    assert!(nameless.to_string().contains("called by something"), "{nameless}");
    let mode =
        |name: &str| std::os::unix::fs::PermissionsExt::mode(&at(name).metadata().unwrap().permissions()) & 0o777;
    assert_eq!((mode("ca/ca-key.pem"), mode("dr/server-key.pem"), mode("dr")), (0o600, 0o600, 0o700));
    std::fs::set_permissions(at("dr/client-key.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let open = Caller::open(&at("dr")).unwrap_err();
    assert!(open.to_string().contains("others can read the key"), "{open}");
}

#[test]
fn what_is_not_a_certificate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(acceptor(&at("nowhere")).err().unwrap().to_string().contains("ca-cert.pem"));
    folder_of(&Authority::make(&at("ca"), &SystemClock).unwrap(), &at("dr"));
    for (name, text) in
        [("ca-cert.pem", ""), ("server-cert.pem", "-----BEGIN CERTIFICATE-----\n???"), ("server-key.pem", "\0")]
    {
        let kept = std::fs::read(at("dr").join(name)).unwrap();
        std::fs::write(at("dr").join(name), text).unwrap();
        let failure = acceptor(&at("dr")).err().unwrap();
        assert!(failure.to_string().contains(name), "{failure}");
        std::fs::write(at("dr").join(name), kept).unwrap();
    }
    assert!(acceptor(&at("dr")).is_ok());
}
