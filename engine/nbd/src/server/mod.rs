//! The server: read-only exports of block sources on one Unix socket, or on a TCP port behind mutual TLS.
//!
//! Exports come and go while the server runs; withdrawing one hangs up on its clients. The socket's file has mode
//! 0600 from its first moment: it is made under another name and then moved to its place. On a port nothing is said of
//! the exports before the client has shown a certificate (`FORCEDTLS` of the protocol).

mod export;
mod negotiation;
mod session;

use crate::limits::*;
use export::Exports;
use muster_ports::{BlockSource, Failure, Result};
use muster_tls::TlsAcceptor;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// Serves until it is shut down or dropped; then the socket's file is gone.
#[derive(Debug)]
pub struct Server {
    place: Place,
    exports: Exports,
    stop: watch::Sender<bool>,
    accepting: Option<JoinHandle<()>>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Unix socket.
    Socket(PathBuf),
    Port(SocketAddr),
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(out),
            Self::Port(address) => address.fmt(out),
        }
    }
}

enum Listener {
    Socket(UnixListener),
    Port(TcpListener, TlsAcceptor),
}

enum Caller {
    Socket(UnixStream),
    Port(TcpStream, TlsAcceptor),
}

impl Server {
    /// Listens at `path`. A socket left behind by a dead server is replaced; `Refused` when a living one answers.
    pub async fn bind_unix(path: &Path) -> Result<Self> {
        let what = || format!("serve disks at `{}`", path.display());
        let bytes = path.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            let message = format!("the path of the socket has {bytes} bytes, the system takes {SOCKET_PATH_BYTES_MAX}");
            return Err(Failure::permanent(message).during(what()).help("use a folder with a shorter path"));
        }
        refuse_if_served(path).await.map_err(|failure| failure.during(what()))?;
        let listener = listen(path).map_err(|error| Failure::from(error).during(what()))?;
        Ok(Self::begin(Place::Socket(path.to_owned()), Listener::Socket(listener)))
    }

    /// Listens at `address`, where port 0 is any free one. Whom `acceptor` does not believe is told nothing.
    pub async fn bind_tls(address: SocketAddr, acceptor: TlsAcceptor) -> Result<Self> {
        let what = |error: std::io::Error| Failure::from(error).during(format!("serve disks at {address}"));
        let listener = TcpListener::bind(address).await.map_err(what)?;
        let address = listener.local_addr().map_err(what)?;
        Ok(Self::begin(Place::Port(address), Listener::Port(listener, acceptor)))
    }

    fn begin(place: Place, listener: Listener) -> Self {
        let exports = Exports::default();
        let (stop, stopping) = watch::channel(false);
        let accepting = Some(tokio::spawn(accept(listener, exports.clone(), stopping)));
        Self { place, exports, stop, accepting }
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where it listens, when that is a Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        match &self.place {
            Place::Socket(path) => Some(path),
            Place::Port(_) => None,
        }
    }

    /// Where it listens, when that is a port.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Socket(_) => None,
            Place::Port(address) => Some(*address),
        }
    }

    /// Serves `source` under `name`; what was served under it before is withdrawn.
    pub fn export(&self, name: impl Into<String>, source: Arc<dyn BlockSource>) -> Result<()> {
        self.exports.add(name.into(), source)
    }

    /// Stops serving `name` and hangs up on its clients. Says whether there was such an export.
    pub fn withdraw(&self, name: &str) -> bool {
        self.exports.remove(name)
    }

    /// The names served now, in order.
    pub fn exports(&self) -> Vec<String> {
        self.exports.names()
    }

    /// Hangs up on all clients, stops listening and removes the socket's file.
    pub async fn shutdown(mut self) {
        // Nobody listening means that accepting has ended already.
        let _ = self.stop.send(true);
        if let Some(accepting) = self.accepting.take()
            && let Err(error) = accepting.await
        {
            tracing::error!(%error, at = %self.place, "the nbd server ended badly");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `shutdown` there is nothing to stop; the file may be gone too.
        let _ = self.stop.send(true);
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
        if let Place::Socket(path) = &self.place {
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn refuse_if_served(path: &Path) -> Result<()> {
    let answer = timeout(NEGOTIATION_LIMIT, UnixStream::connect(path)).await;
    match answer {
        Ok(Err(error)) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
        Ok(Err(error)) => return Err(error.into()),
        // A queue so full that connecting hangs belongs to a living server too.
        Ok(Ok(_)) | Err(_) => {
            let help = "stop the other process, or use another folder for this one";
            return Err(Failure::refused("another process serves this socket").help(help));
        }
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            Err(Failure::refused("there is a file of another kind at this path").help("move it away"))
        }
        _ => Ok(()),
    }
}

fn listen(path: &Path) -> std::io::Result<UnixListener> {
    let mut young = path.as_os_str().to_owned();
    young.push("~");
    let young = PathBuf::from(young);
    match std::fs::remove_file(&young) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&young)?;
    std::fs::set_permissions(&young, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&young, path)?;
    Ok(listener)
}

/// Accepts until told to stop; its connections end with it.
async fn accept(listener: Listener, exports: Exports, mut stopping: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(SERVER_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = next_client(&listener, &room) => {
                let Some((caller, permit)) = accepted else { continue };
                let exports = exports.clone();
                connections.spawn(async move {
                    match caller {
                        Caller::Socket(stream) => session::serve(stream, &exports).await,
                        Caller::Port(stream, acceptor) => session::serve_tls(stream, &acceptor, &exports).await,
                    }
                    drop(permit);
                });
            }
        }
    }
    connections.shutdown().await;
}

async fn next_client(
    listener: &Listener,
    room: &Arc<Semaphore>,
) -> Option<(Caller, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    let accepted = match listener {
        Listener::Socket(listener) => listener.accept().await.map(|(stream, _)| Caller::Socket(stream)),
        Listener::Port(listener, acceptor) => listener.accept().await.and_then(|(stream, _)| {
            // Requests are small and each waits for its answer.
            stream.set_nodelay(true)?;
            Ok(Caller::Port(stream, acceptor.clone()))
        }),
    };
    match accepted {
        Ok(caller) => Some((caller, permit)),
        Err(error) => {
            tracing::warn!(%error, "an nbd client could not be accepted");
            // Out of file descriptors: others have to end first, and asking again at once would only burn a core.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            None
        }
    }
}
