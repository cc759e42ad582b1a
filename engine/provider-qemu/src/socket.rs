//! Lines of JSON over a Unix socket, bounded: one end is a guest, and a guest may say anything.

use crate::limits;
use muster_ports::{Failure, Result};
use serde_json::Value;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A socket's path that fits the kernel's 108 bytes: long ones go through the open folder. Valid while this lives.
#[derive(Debug)]
pub(crate) struct SocketPath {
    path: PathBuf,
    _folder: Option<File>,
}

impl SocketPath {
    pub(crate) fn new(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        if path.as_os_str().len() <= limits::SOCKET_PATH_BYTES {
            return Ok(Self { path, _folder: None });
        }
        let open = File::open(folder).map_err(|error| crate::folder::at(folder, &error))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", open.as_raw_fd()));
        Ok(Self { path, _folder: Some(open) })
    }
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Read at once. Not on the stack: it would be part of every future that talks to a monitor.
const READ_BYTES: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct JsonLines {
    stream: UnixStream,
    pending: Vec<u8>,
    /// Who is spoken to, for messages.
    pub(crate) peer: String,
}

impl JsonLines {
    pub(crate) async fn connect(folder: &Path, name: &str, peer: String) -> Result<Self> {
        let socket = SocketPath::new(folder, name)?;
        let stream = UnixStream::connect(socket.path())
            .await
            .map_err(|error| Failure::transient(format!("{peer} cannot be reached: {error}")))?;
        Ok(Self { stream, pending: Vec::new(), peer })
    }

    pub(crate) fn peer_pid(&self) -> Option<u32> {
        self.stream.peer_cred().ok()?.pid().and_then(|pid| u32::try_from(pid).ok())
    }

    pub(crate) async fn send(&mut self, prefix: &[u8], value: &Value) -> Result<()> {
        let mut line = prefix.to_vec();
        line.extend_from_slice(value.to_string().as_bytes());
        line.push(b'\n');
        self.stream
            .write_all(&line)
            .await
            .map_err(|error| Failure::transient(format!("{} cannot be told anything: {error}", self.peer)))
    }

    /// The next line, whatever it is.
    pub(crate) async fn line(&mut self) -> Result<Vec<u8>> {
        let mut looked = 0;
        loop {
            if let Some(end) = self.pending[looked..].iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(looked + end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                return Ok(line);
            }
            looked = self.pending.len();
            if looked > limits::LINE_BYTES {
                return Err(Failure::permanent(format!("{} sends a line without end", self.peer)));
            }
            self.pending.reserve(READ_BYTES);
            match self.stream.read_buf(&mut self.pending).await {
                Ok(0) => return Err(Failure::transient(format!("{} has hung up", self.peer))),
                Ok(_) => {}
                Err(error) => return Err(Failure::transient(format!("{} cannot be heard: {error}", self.peer))),
            }
        }
    }
}
