//! The probes of `std/probe` that ask inside the machine, against real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests and their helpers

use muster_library::Bench;
use muster_library::servers::{free_port, start, tool, until};
use muster_runsheet::Kind;
use std::path::Path;

fn plan(checks: &str) -> String {
    format!(
        "edition 2026\nuse ./sites {{ dr, hq, steady }}\n\ngroup all {{\n  policy   = steady\n  machines = [one]\n}}\n\n\
         plan trial {{\n  move = hq -> dr\n\n  stage all {{\n    start one\n{checks}\n  }}\n}}\n"
    )
}

async fn asked(bench: &Bench, step: &str) -> bool {
    let end = bench.run(&format!("all.{step}/one")).await.unwrap_or_else(|failure| panic!("{step}: {failure}"));
    end.value.as_bool().unwrap()
}

/// A web server that speaks TLS with a certificate of its own making, for `shop.example.com`.
async fn tls_server(folder: &Path, port: u16) -> muster_library::servers::Server {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=shop.example.com"];
    let files = ["-keyout", key, "-out", certificate];
    tool("openssl", &[request.as_slice(), files.as_slice()].concat());
    let accept = port.to_string();
    let arguments = ["s_server", "-quiet", "-www", "-accept", &accept, "-key", key, "-cert", certificate];
    let server = start("openssl", &arguments, &folder.join("server.log"));
    until("the web server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn https_asks_a_server_and_minds_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (port, closed) = (free_port(), free_port());
    let _server = tls_server(folder.path(), port).await;
    let bench = Bench::new(
        &plan(&format!(
            "    check one https(\":{port}/\") as any\n    check one https(\":{port}\") as bare\n    \
             check one https(\":{port}/\", name = \"shop.example.com\") as named\n    check one https(\":{closed}/\") as closed"
        )),
        Kind::Test,
    )
    .unwrap();
    assert!(asked(&bench, "any").await);
    assert!(asked(&bench, "bare").await);
    assert!(!asked(&bench, "named").await, "nobody vouches for the certificate");
    assert!(!asked(&bench, "closed").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_looked_for_and_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    std::fs::write(&path, "mode = primary\n").unwrap();
    let shown = path.display();
    let bench = Bench::new(
        &plan(&format!(
            "    check one file(\"{shown}\") as there\n    check one file(\"{shown}.not\") as missing\n    \
             check one file(\"{shown}\", holds = \"= primary\") as holds\n    check one file(\"{shown}\", holds = \"-standby\") as lacks"
        )),
        Kind::Test,
    )
    .unwrap();
    assert!(asked(&bench, "there").await);
    assert!(!asked(&bench, "missing").await);
    assert!(asked(&bench, "holds").await);
    assert!(!asked(&bench, "lacks").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_asked_for_in_the_words_of_its_system() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("systemctl", "#!/bin/sh\n[ \"$*\" = \"is-active --quiet nginx\" ]\n"),
        ("sc.exe", "#!/bin/sh\n[ \"$2\" = W3SVC ] && echo \"  STATE : 4 RUNNING\" || echo \"  STATE : 1 STOPPED\"\n"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let checks = "    check one guest-service(\"nginx\") as runs\n    check one guest-service(\"apache2\") as stands\n    \
        check one windows-service(\"W3SVC\") as win-up\n    check one windows-service(\"Spooler\") as win-down";
    let bench = Bench::new(&plan(checks), Kind::Test).unwrap().with_programs(folder.path());
    let mut answers = Vec::new();
    for step in ["runs", "stands", "win-up", "win-down"] {
        answers.push(asked(&bench, step).await);
    }
    assert_eq!(answers, [true, false, true, false]);
}
