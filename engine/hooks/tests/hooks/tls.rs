//! TLS with an authority of one's own: for `http` and for `mail`, against servers of this test.

use crate::support::*;
use async_trait::async_trait;
use muster_hooks::{HookMachine, World};
use muster_ports::*;
use muster_runsheet::Need;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

#[derive(Debug)]
struct World1;

#[async_trait]
impl World for World1 {
    async fn exec(&self, _: &HookMachine, _: &GuestCommand) -> Result<GuestOutput> {
        Err(Failure::permanent("no guests here"))
    }
    async fn probe(&self, _: &Probe) -> Result<ProbeAnswer> {
        Err(Failure::permanent("no networks here"))
    }
}

fn openssl(folder: &Path, words: &str) {
    let output = Command::new("openssl").args(words.split(' ')).current_dir(folder).output();
    let output =
        output.unwrap_or_else(|error| panic!("`openssl`: {error}; `cargo verify` installs tests/stdlib/packages.txt"));
    assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority and the server that it vouches for; made anew for each test, valid for two days.
struct House {
    authority: String,
    config: Arc<rustls::ServerConfig>,
}

fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(at, &format!("req -x509 {new} -keyout ca.key -out ca.pem -days 2 -subj /CN=house"));
    openssl(at, &format!("req {new} -keyout leaf.key -out leaf.csr -subj /CN=server"));
    std::fs::write(at.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    openssl(at, "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 2 -days 2 -extfile names -out leaf.pem");
    let leaf = CertificateDer::from_pem_file(at.join("leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(at.join("leaf.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .unwrap();
    House { authority: std::fs::read_to_string(at.join("ca.pem")).unwrap(), config: Arc::new(config) }
}

type Tls = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

fn tls(config: &Arc<rustls::ServerConfig>, stream: TcpStream) -> Tls {
    rustls::StreamOwned::new(rustls::ServerConnection::new(config.clone()).unwrap(), stream)
}

/// Talks to one client after the other; a handshake that the client broke off ends that one.
fn serve(talk: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(talk));
    port
}

fn https(house: &House) -> (u16, Arc<Mutex<Vec<String>>>) {
    let (config, seen) = (house.config.clone(), Arc::new(Mutex::new(Vec::new())));
    let kept = seen.clone();
    let port = serve(move |stream| {
        let mut reader = BufReader::new(tls(&config, stream));
        let mut head = String::new();
        while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
        if head.is_empty() {
            return;
        }
        kept.lock().unwrap().push(head);
        let _ = reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell");
        let _ = reader.get_mut().flush();
    });
    (port, seen)
}

#[tokio::test]
async fn an_origin_is_held_against_the_authority_of_the_contract() {
    let (house, stranger) = (house(), house());
    let (port, seen) = https(&house);
    let origin = format!("https://127.0.0.1:{port}");
    let text = r#"let r = http.get("/health"); r.body"#;
    let play = async |authority: Option<&str>, origin: &str| {
        let mut needs = http_need(origin);
        needs.extend(authority.map(|pem| Need::Authority { pem: pem.to_owned() }));
        Bench::default().run_with(&sheet("ring", &[], needs, text), &World1, &Fuse::never()).await.map(|end| end.value)
    };
    assert_eq!(play(Some(&house.authority), &origin).await.unwrap(), "well");
    assert_eq!(seen.lock().unwrap().len(), 1);
    // The public authorities do not know it, and another house does not vouch for it.
    for other in [None, Some(stranger.authority.as_str())] {
        let failure = play(other, &origin).await.unwrap_err();
        assert!(!failure.is_retryable() && failure.message.contains("certificate"), "{failure:?}");
    }
    // Its name is checked too, and a text that is no certificate trusts nobody.
    let failure = play(Some(&house.authority), &format!("https://127.0.0.2:{port}")).await;
    assert!(failure.is_err());
    assert!(play(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), &origin).await.is_err());
    assert_eq!(seen.lock().unwrap().len(), 1, "nothing was said to any of them");
}

/// Takes letters and keeps them before it says so. Returns when the client goes, or (`true`) wants to begin TLS.
fn smtp(stream: impl Read + Write, greets: bool, letters: &Mutex<Vec<String>>) -> bool {
    let mut stream = BufReader::new(stream);
    if greets && stream.get_mut().write_all(b"220 house\r\n").is_err() {
        return false;
    }
    let mut letter: Option<String> = None;
    loop {
        let mut line = String::new();
        if !stream.read_line(&mut line).is_ok_and(|read| read > 0) {
            return false;
        }
        let word = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match (&mut letter, word.as_str()) {
            (Some(text), ".") => {
                letters.lock().unwrap().push(std::mem::take(text));
                letter = None;
                b"250 taken\r\n"
            }
            (Some(text), _) => {
                text.push_str(&line);
                continue;
            }
            (None, "EHLO") => b"250-house\r\n250 STARTTLS\r\n",
            (None, "STARTTLS") => return stream.get_mut().write_all(b"220 go on\r\n").is_ok(),
            (None, "DATA") => {
                letter = Some(String::new());
                b"354 go on\r\n"
            }
            (None, "QUIT") => b"221 bye\r\n",
            _ => b"250 well\r\n",
        };
        if stream.get_mut().write_all(reply).and_then(|()| stream.get_mut().flush()).is_err() {
            return false;
        }
    }
}

#[tokio::test]
async fn a_mail_goes_out_over_tls_of_both_kinds() {
    let (house, stranger) = (house(), house());
    for kind in ["tls", "starttls"] {
        let (config, letters) = (house.config.clone(), Arc::new(Mutex::new(Vec::new())));
        let kept = letters.clone();
        let port = serve(move |stream| {
            if kind == "tls" || smtp(&stream, true, &kept) {
                smtp(tls(&config, stream), kind == "tls", &kept);
            }
        });
        let text = format!(
            r#"mail.send(#{{ from: "dr@example.com", to: "ops@example.com", subject: "s", text: "it is up", tls: "{kind}" }});"#
        );
        let play = async |authority: &str| {
            let server = Need::Mail { server: format!("localhost:{port}") };
            let needs = vec![server, Need::Authority { pem: authority.to_owned() }];
            Bench::default().run_with(&sheet("tell", &[], needs, &text), &World1, &Fuse::never()).await
        };
        let failure = play(&stranger.authority).await.unwrap_err();
        assert!(failure.message.contains("certificate"), "{kind}: {failure:?}");
        assert!(letters.lock().unwrap().is_empty());
        play(&house.authority).await.unwrap_or_else(|failure| panic!("{kind}: {failure:?}"));
        let letters = letters.lock().unwrap();
        assert!(letters.len() == 1 && letters[0].contains("it is up"), "{kind}: {letters:?}");
    }
}
