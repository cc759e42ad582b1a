//! The local socket of the process that holds a vault: how a second command on the same host reaches it.
//!
//! The socket lies in a folder only its user can enter, is named after the vault, and answers only the same user.

use crate::request::{Event, Request, SOCKET_PROTOCOL, Sink};
use crate::service::Control;
use muster_ports::{Failure, Result};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// A request carries at most one estate or runsheet. Bytes.
const REQUEST_BYTES_MAX: u64 = 64 << 20;
/// Events waiting for one slow client before further ones are dropped.
const EVENTS_QUEUED_MAX: usize = 4096;

/// How long a holder may take to say hello, which it does from memory: one that hangs is as good as none.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// Pause after a connection that could not be taken, such as when the process has no file numbers left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Where the holder of a vault listens, for this user on this host.
pub fn socket_path(vault_url: &str) -> Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) => PathBuf::from(folder).join("muster"),
        None => PathBuf::from(format!("/tmp/muster-{user}")),
    };
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
        Ok(()) => {}
        Err(error) => return Err(Failure::from(error).during(format!("make `{}`", folder.display()))),
    }
    let found = std::fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != user || found.permissions().mode() & 0o077 != 0 {
        return Err(Failure::refused(format!("`{}` is not a folder of this user alone", folder.display()))
            .help("remove it, or set XDG_RUNTIME_DIR"));
    }
    let name = muster_runsheet::Hash::of(vault_url.trim_end_matches('/'));
    Ok(folder.join(format!("{}.sock", &name.0[..16])))
}

/// Answers requests until the task is dropped.
pub async fn serve(control: Arc<Control>, path: PathBuf) -> Result<()> {
    // Only the holder of the vault's lease gets here: whatever lies there belongs to a process that is gone.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)
        .map_err(|error| Failure::from(error).during(format!("listen on `{}`", path.display())))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Of this one connection: the next may succeed, and nobody else can serve the vault's holder.
                tracing::warn!(%error, "a command on this host could not be heard");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let control = control.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(control, stream).await {
                tracing::debug!(%error, "a client of the local socket went away");
            }
        });
    }
}

async fn answer(control: Arc<Control>, stream: UnixStream) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(REQUEST_BYTES_MAX)).read_line(&mut line).await?;
    let (events, mut queued) = mpsc::channel::<Event>(EVENTS_QUEUED_MAX);
    let work = tokio::spawn(async move {
        // Nothing is said to a request that comes too late: its client looks for the next holder.
        let Some(_at_work) = control.at_work() else { return };
        let _ = events.send(Event::Taken).await;
        let last = match serde_json::from_str::<Request>(&line) {
            Ok(request) => {
                let sink = events.clone();
                let tell = move |event: Event| {
                    let _ = sink.try_send(event);
                };
                match control.handle(request, Arc::new(tell) as Arc<dyn Sink>).await {
                    Ok(answer) => Event::Done { answer },
                    Err(failure) => Event::Failed { failure },
                }
            }
            Err(error) => Event::Failed { failure: Failure::permanent(format!("not a request: {error}")) },
        };
        let _ = events.send(last).await;
    });
    // The work goes on when the client is gone: a closed terminal stops no failover.
    while let Some(event) = queued.recv().await {
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        write.write_all(&line).await?;
        if matches!(event, Event::Done { .. } | Event::Failed { .. }) {
            break;
        }
    }
    let _ = work.await;
    Ok(())
}

/// A running holder of the vault on this host, if there is one.
pub async fn connect(path: &Path) -> Option<Client> {
    let client = Client { path: path.to_owned() };
    let request = Request::Hello { protocol: SOCKET_PROTOCOL };
    let hello = tokio::time::timeout(HELLO_LIMIT, client.call(&request, &|_| {})).await;
    matches!(hello, Ok(Ok(_))).then_some(client)
}

#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub enum CallError {
    /// The holder was gone before it took the request: nothing has happened.
    NotTaken,
    Failed(Failure),
}

impl Client {
    /// Sends one request and passes its events on; returns the answer.
    pub async fn call(
        &self,
        request: &Request,
        tell: &(dyn Fn(Event) + Send + Sync),
    ) -> std::result::Result<serde_json::Value, CallError> {
        let mut line = serde_json::to_vec(request)
            .map_err(|error| Failure::permanent(format!("the request cannot be written as JSON: {error}")))
            .map_err(CallError::Failed)?;
        line.push(b'\n');
        let not_taken = |_: std::io::Error| CallError::NotTaken;
        let mut stream = UnixStream::connect(&self.path).await.map_err(not_taken)?;
        stream.write_all(&line).await.map_err(not_taken)?;
        let mut lines = BufReader::new(stream).lines();
        let mut taken = false;
        loop {
            let line = match lines.next_line().await {
                Ok(Some(line)) => line,
                Ok(None) | Err(_) if !taken => return Err(CallError::NotTaken),
                Ok(None) | Err(_) => return Err(CallError::Failed(gone())),
            };
            match serde_json::from_str(&line) {
                Ok(Event::Taken) => taken = true,
                Ok(Event::Done { answer }) => return Ok(answer),
                Ok(Event::Failed { failure }) => return Err(CallError::Failed(failure)),
                Ok(event) => tell(event),
                Err(error) => return Err(CallError::Failed(Failure::diverged(format!("not an event: {error}")))),
            }
        }
    }
}

fn gone() -> Failure {
    Failure::transient("the muster that holds the vault went away in the middle of the work")
        .help("`muster runs` shows where a run stands, `muster resume` goes on with it")
}
