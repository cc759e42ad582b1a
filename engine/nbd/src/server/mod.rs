//! The server: read-only exports of block sources on one Unix socket.
//!
//! Exports come and go while the server runs; withdrawing one hangs up on its clients. The socket's file has mode
//! 0600 from its first moment: it is made under another name and then moved to its place.

mod export;
mod negotiation;
mod session;

use crate::limits::*;
use export::Exports;
use muster_ports::{BlockSource, Failure, Result};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// Serves until it is shut down or dropped; then the socket's file is gone.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    exports: Exports,
    stop: watch::Sender<bool>,
    accepting: Option<JoinHandle<()>>,
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
        let exports = Exports::default();
        let (stop, stopping) = watch::channel(false);
        let accepting = Some(tokio::spawn(accept(listener, exports.clone(), stopping)));
        Ok(Self { path: path.to_owned(), exports, stop, accepting })
    }

    pub fn path(&self) -> &Path {
        &self.path
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
            tracing::error!(%error, socket = %self.path.display(), "the nbd server ended badly");
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
        let _ = std::fs::remove_file(&self.path);
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
async fn accept(listener: UnixListener, exports: Exports, mut stopping: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(SERVER_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = next_client(&listener, &room) => {
                let Some((stream, permit)) = accepted else { continue };
                let exports = exports.clone();
                connections.spawn(async move {
                    session::serve(stream, &exports).await;
                    drop(permit);
                });
            }
        }
    }
    connections.shutdown().await;
}

async fn next_client(
    listener: &UnixListener,
    room: &Arc<Semaphore>,
) -> Option<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "an nbd client could not be accepted");
            // Out of file descriptors: others have to end first, and asking again at once would only burn a core.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            None
        }
    }
}
