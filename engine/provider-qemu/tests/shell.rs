//! Commands over SSH, against a real server of Debian's packages on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test waits, and ends where something is wrong"
)]

mod common;

use muster_ports::*;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server with keys of its own, ended with the test.
struct Server {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("`{program}`: {error}; `cargo verify` installs tests/lab/packages.txt"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn key(folder: &Path, name: &str) -> (String, String) {
    let path = folder.join(name);
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", path.to_str().unwrap()]);
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    (read(path.clone()), read(path.with_extension("pub")))
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        key(folder.path(), "host");
        let (_, public) = key(folder.path(), "user");
        std::fs::write(at("authorized"), public).unwrap();
        // The server wants it, whoever starts it.
        let _ = std::fs::create_dir_all("/run/sshd");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            at("host"),
            at("authorized")
        );
        std::fs::write(at("config"), config).unwrap();
        let child =
            Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f", &at("config")]).stderr(Stdio::null()).spawn();
        let child =
            child.unwrap_or_else(|error| panic!("`sshd`: {error}; `cargo verify` installs tests/lab/packages.txt"));
        let mut server = Self { child, folder, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "sshd ended at once");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn order(&self, words: &[&str]) -> ShellOrder {
        ShellOrder {
            ip: IpAddr::from([127, 0, 0, 1]),
            port: self.port,
            user: run("id", &["-un"]),
            key: Concealed::new(self.file("user")),
            host_keys: self.file("host.pub"),
            command: GuestCommand {
                program: words[0].to_owned(),
                arguments: words[1..].iter().map(|word| (*word).to_owned()).collect(),
                stdin: None,
                within: Duration::from_secs(60),
            },
        }
    }
}

#[tokio::test]
async fn commands_run_as_they_are_written_and_only_where_the_host_key_is_known() {
    let server = Server::start();
    let site = tempfile::tempdir().unwrap();
    let provider = common::open(site.path());
    assert!(provider.facts().await.unwrap().capabilities.guest_ssh);
    let ask = async |order: &ShellOrder| provider.guest_shell(&NetworkScope::Live, order).await;

    let output = ask(&server.order(&["printf", "%s|", "a b", "it's $HOME;", ""])).await.unwrap();
    assert_eq!((output.code, output.out.as_str(), output.err.as_str()), (0, "a b|it's $HOME;||", ""));
    let mut order = server.order(&["/bin/sh", "-c", "cat; echo wrong >&2; exit 3"]);
    order.command.stdin = Some("a secret line\n".into());
    let output = ask(&order).await.unwrap();
    assert_eq!((output.code, output.out.as_str(), output.err.as_str()), (3, "a secret line\n", "wrong\n"));
    // What the client says of itself when it fails, a command may say too.
    assert_eq!(ask(&server.order(&["/bin/sh", "-c", "exit 255"])).await.unwrap().code, 255);
    assert_eq!(ask(&server.order(&["/no/such/program"])).await.unwrap().code, 127);

    // Another server's key: nothing is said to it, and nothing runs.
    let marker = server.folder.path().join("marker");
    let (_, other) = key(server.folder.path(), "other");
    let mut order = server.order(&["touch", marker.to_str().unwrap()]);
    order.host_keys = other;
    let refused = ask(&order).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Refused, "{refused}");
    assert!(refused.message.contains("does not prove to be the guest"), "{refused}");
    order.host_keys = String::new();
    assert!(ask(&order).await.unwrap_err().message.contains("no host key of the guest is named"));
    assert!(!marker.exists());

    // A key that is not let in, one that is none, a user that is an option.
    let mut order = server.order(&["touch", marker.to_str().unwrap()]);
    order.key = Concealed::new(server.file("other"));
    let refused = ask(&order).await.unwrap_err();
    assert!(
        refused.class == FailureClass::Permanent && refused.message.contains("does not let this key in"),
        "{refused}"
    );
    assert_eq!(format!("{:?}", order.key), "***");
    order.key = Concealed::new("hunter2");
    assert!(ask(&order).await.unwrap_err().message.contains("is not a private key"));
    let mut order = server.order(&["touch", marker.to_str().unwrap()]);
    order.user = "-oProxyCommand=touch".into();
    assert!(ask(&order).await.unwrap_err().message.contains("is not the name of a user"));
    assert!(!marker.exists());
}

#[tokio::test]
async fn output_and_time_have_limits() {
    let server = Server::start();
    let site = tempfile::tempdir().unwrap();
    let provider = common::open(site.path());
    let output = provider
        .guest_shell(&NetworkScope::Live, &server.order(&["/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"]))
        .await
        .unwrap();
    assert_eq!((output.code, output.out.len()), (0, 1 << 20));

    let mut order = server.order(&["sleep", "600"]);
    order.command.within = Duration::from_secs(2);
    let late = provider.guest_shell(&NetworkScope::Live, &order).await.unwrap_err();
    assert_eq!(late.class, FailureClass::Timeout, "{late}");

    // Nobody there: the guest may be on its way up.
    let mut order = server.order(&["true"]);
    order.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let absent = provider.guest_shell(&NetworkScope::Live, &order).await.unwrap_err();
    assert_eq!(absent.class, FailureClass::Transient, "{absent}");
}
