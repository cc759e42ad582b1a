//! The two sides of NBD before a peer that sends anything.

use crate::runtime;
use async_trait::async_trait;
use muster_nbd::{BASE_ALLOCATION, Client, Server};
use muster_ports::{BlockSource, Extent, ExtentKind, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Bytes of the disk that is served.
const DISK_BYTES: u64 = 1 << 20;
/// Far above what an answer takes on a busy machine: whoever is not done by then waits for nothing.
const HANGS_AFTER: Duration = Duration::from_secs(60);

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Panics of tasks are caught by the runtime; here they count.
fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(info);
        }));
    });
}

/// A disk whose second half is a hole.
#[derive(Debug)]
struct Disk;

#[async_trait]
impl BlockSource for Disk {
    fn size(&self) -> u64 {
        DISK_BYTES
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        let (kind, ends) = match offset < DISK_BYTES / 2 {
            true => (ExtentKind::Data, DISK_BYTES / 2),
            false => (ExtentKind::Zero, DISK_BYTES),
        };
        Ok(vec![Extent { offset, length: ends.min(offset + length) - offset, kind }])
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        buffer.fill(if offset < DISK_BYTES / 2 { 7 } else { 0 });
        Ok(())
    }
}

/// The first byte says who is fed: the server from the greeting on, the server behind an honest beginning without or
/// with structured replies, or the client.
pub fn nbd(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    count_panics();
    let before = PANICS.load(Ordering::SeqCst);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    runtime().block_on(async {
        let fed = async {
            match how % 4 {
                0 => serve(&socket, rest.to_vec()).await,
                1 => serve(&socket, [beginning(false), rest.to_vec()].concat()).await,
                2 => serve(&socket, [beginning(true), rest.to_vec()].concat()).await,
                _ => ask(&socket, rest.to_vec()).await,
            }
        };
        assert!(tokio::time::timeout(HANGS_AFTER, fed).await.is_ok(), "a peer is waited for that has hung up");
    });
    assert_eq!(PANICS.load(Ordering::SeqCst), before, "a task broke");
}

/// A well-formed way into transmission, so that anything reaches the requests too.
fn beginning(structured: bool) -> Vec<u8> {
    let option = |number: u32, data: &[u8]| {
        let length = u32::try_from(data.len()).unwrap();
        [b"IHAVEOPT".as_slice(), &number.to_be_bytes(), &length.to_be_bytes(), data].concat()
    };
    let mut bytes = 3u32.to_be_bytes().to_vec();
    if structured {
        bytes.extend(option(8, &[]));
        bytes.extend(option(10, b"\0\0\0\x04disk\0\0\0\x01\0\0\0\x0fbase:allocation"));
    }
    bytes.extend(option(7, b"\0\0\0\x04disk\0\0"));
    bytes
}

/// A server outlives any client, and serves the next one.
async fn serve(socket: &Path, bytes: Vec<u8>) {
    let server = Server::bind_unix(socket).await.unwrap();
    server.export("disk", Arc::new(Disk)).unwrap();
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let write = async {
        // The server may hang up before it has read everything.
        let _ = to.write_all(&bytes).await;
        let _ = to.shutdown().await;
    };
    let mut answer = Vec::new();
    let (_, _) = tokio::join!(write, from.read_to_end(&mut answer));
    let client = Client::connect_unix(socket, "disk", &[BASE_ALLOCATION]).await.unwrap();
    let mut buffer = [0; 512];
    client.read_at(0, &mut buffer).await.unwrap();
    assert_eq!(buffer, [7; 512], "the next client gets something else");
    drop(client);
    server.shutdown().await;
}

/// A client outlives any server: it reads, or says why not.
async fn ask(socket: &Path, bytes: Vec<u8>) {
    let listener = UnixListener::bind(socket).unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    if let Ok(client) = Client::connect_unix(socket, "disk", &[BASE_ALLOCATION]).await {
        let mut buffer = [0; 512];
        let questions = (client.read_at(0, &mut buffer), client.block_status(BASE_ALLOCATION, 0, DISK_BYTES));
        let (_, status) = tokio::join!(questions.0, questions.1);
        if let Ok(status) = status {
            let told = status.iter().fold(0, |sum: u64, part| sum.saturating_add(part.length));
            assert!(told <= DISK_BYTES, "{told} bytes are told of {DISK_BYTES}");
        }
    }
    serving.await.unwrap();
}
