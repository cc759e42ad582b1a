//! Disks of a point on a Unix socket, read-only, or through an overlay that takes writes.

use crate::process;
use muster_nbd::{Place, Server};
use muster_ports::{BlockSource, Failure, Result};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::Child;

const SOCKET: &str = "nbd.sock";
/// How long `qemu-nbd` may take until it serves; it is there in milliseconds.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks whether it serves.
const START_LOOK: Duration = Duration::from_millis(20);
/// Clients of one overlay at once: QEMU and its tools use one or two each.
const OVERLAY_CLIENTS: &str = "16";

/// A server in a folder of its own, which only this user may enter; both are gone when it is dropped.
#[derive(Debug)]
pub struct Served {
    server: Server,
    // Behind the server: the folder goes last.
    _folder: Option<TempDir>,
}

impl Served {
    /// At this socket, or at one in a new folder.
    pub async fn begin(socket: Option<&Path>) -> Result<Self> {
        let (folder, socket) = match socket {
            Some(socket) => (None, socket.to_owned()),
            None => {
                let folder = private_folder()?;
                let socket = folder.path().join(SOCKET);
                (Some(folder), socket)
            }
        };
        let server = Server::bind_unix(&socket).await?;
        Ok(Self { server, _folder: folder })
    }

    /// At this address, for whom the authority of the folder knows.
    pub async fn begin_tls(address: SocketAddr, certificates: &Path) -> Result<Self> {
        let server = Server::bind_tls(address, muster_tls::acceptor(certificates)?).await?;
        Ok(Self { server, _folder: None })
    }

    pub fn add(&self, name: &str, source: Arc<dyn BlockSource>) -> Result<()> {
        self.server.export(name, source)
    }

    /// What NBD clients call it; over TLS with `FOLDER` for where the client has its certificate.
    pub fn uri(&self, name: &str) -> String {
        match self.server.place() {
            Place::Socket(socket) => uri(socket, name),
            Place::Port(address) => {
                format!("nbds://{address}/{}?tls-certificates=FOLDER", escaped(name))
            }
        }
    }

    pub async fn end(self) {
        self.server.shutdown().await;
    }
}

/// What NBD clients call an export on a Unix socket.
pub fn uri(socket: &Path, name: &str) -> String {
    format!("nbd+unix:///{}?socket={}", escaped(name), escaped(&socket.display().to_string()))
}

/// Everything but what may stand in any part of a URI.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn private_folder() -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix("muster-").tempdir();
    made.map_err(|error| Failure::from(error).during("make a folder for a socket"))
}

/// One disk that can be written: what is written lies in a file beside, and is gone with it.
#[derive(Debug)]
pub struct Overlay {
    child: Child,
    socket: PathBuf,
    _folder: TempDir,
}

impl Overlay {
    /// Over an export of `below`, served by `qemu-nbd`. With `keep` the overlay is this file, which stays and may be there
    /// already; else it is a temporary one.
    pub async fn begin(below: &Served, name: &str, keep: Option<&Path>) -> Result<Self> {
        let folder = private_folder()?;
        let file = keep.map_or_else(|| folder.path().join("overlay.qcow2"), Path::to_owned);
        let options = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"].map(OsString::from);
        let mut create = options.to_vec();
        create.extend([below.uri(name).into(), file.clone().into()]);
        if keep.is_some() && file.exists() {
            // The socket below has another name in each process.
            let rebase = ["rebase", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b"].map(OsString::from);
            create = rebase.to_vec();
            create.extend([below.uri(name).into(), file.clone().into()]);
        }
        process::run("qemu-img", &create, None).await?;
        let socket = folder.path().join(SOCKET);
        let words = ["--persistent", "--format=qcow2", "--discard=unmap", "--shared", OVERLAY_CLIENTS];
        let mut arguments: Vec<OsString> = words.map(OsString::from).to_vec();
        arguments.extend(["--export-name".into(), name.into(), "--socket".into(), socket.clone().into(), file.into()]);
        let child = process::start("qemu-nbd", &arguments)?;
        let mut overlay = Self { child, socket, _folder: folder };
        overlay.wait().await?;
        Ok(overlay)
    }

    async fn wait(&mut self) -> Result<()> {
        let looks = START_LIMIT.as_millis() / START_LOOK.as_millis();
        for _ in 0..looks {
            if tokio::net::UnixStream::connect(&self.socket).await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let mut said = String::new();
                if let Some(words) = self.child.stderr.take() {
                    words.take(16 << 10).read_to_string(&mut said).await?;
                }
                return Err(Failure::permanent(format!("`qemu-nbd` ended ({status}): {}", said.trim())));
            }
            tokio::time::sleep(START_LOOK).await;
        }
        Err(Failure::timeout(format!("`qemu-nbd` does not serve after {} s", START_LIMIT.as_secs())))
    }

    pub fn uri(&self, name: &str) -> String {
        uri(&self.socket, name)
    }

    /// Waits for the program, which ends by itself only when something is wrong.
    pub async fn ended(&mut self) -> Failure {
        match self.child.wait().await {
            Ok(status) => Failure::permanent(format!("`qemu-nbd` ended ({status})")),
            Err(error) => error.into(),
        }
    }

    /// Asks it to write down what it holds and to end.
    pub async fn end(mut self) -> Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(std::io::Error::from)?;
            self.child.wait().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_in_uris() {
        assert_eq!(uri(Path::new("/run/a b.sock"), "db/da#ta"), "nbd+unix:///db/da%23ta?socket=/run/a%20b.sock");
    }
}
