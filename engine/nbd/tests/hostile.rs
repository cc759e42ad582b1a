//! Peers that send anything at all: nothing panics, nothing hangs, others are served on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use muster_nbd::{BASE_ALLOCATION, Client, Server};
use muster_ports::SystemClock;
use muster_tls::{Authority, Role};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};

/// Well above what an honest answer takes, well below every limit of the crate.
const PATIENCE: Duration = Duration::from_secs(5);

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Panics in tasks are caught by the runtime; here they count.
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends `bytes` and waits until the server hangs up.
async fn poke(socket: &Path, bytes: &[u8]) {
    poke_at(UnixStream::connect(socket).await.unwrap(), bytes).await;
}

/// What the server said.
async fn poke_at(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Vec<u8> {
    // The server may hang up before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut sink = Vec::new();
    let answer = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut sink)).await;
    assert!(answer.is_ok(), "the server neither answers nor hangs up");
    sink
}

/// A well-formed way into transmission, so that random bytes reach the requests too.
fn prologue(structured: bool) -> Vec<u8> {
    let option = |number: u32, data: &[u8]| {
        let mut message = b"IHAVEOPT".to_vec();
        message.extend(number.to_be_bytes());
        message.extend((data.len() as u32).to_be_bytes());
        message.extend(data);
        message
    };
    let mut bytes = 3u32.to_be_bytes().to_vec();
    if structured {
        bytes.extend(option(8, &[]));
        let mut data = vec![0, 0, 0, 4];
        data.extend(b"disk\0\0\0\x01\0\0\0\x0fbase:allocation");
        bytes.extend(option(10, &data));
    }
    bytes.extend(option(7, b"\0\0\0\x04disk\0\0"));
    bytes
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let size = 4u64 << 20;
    let offset = prop_oneof![0..size, any::<u64>()];
    let length = prop_oneof![0u32..100_000, any::<u32>()];
    (0u16..16, prop_oneof![0u16..9, any::<u16>()], any::<u64>(), offset, length).prop_map(
        |(flags, command, cookie, offset, length)| {
            let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
            bytes.extend(flags.to_be_bytes());
            bytes.extend(command.to_be_bytes());
            bytes.extend(cookie.to_be_bytes());
            bytes.extend(offset.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes
        },
    )
}

fn option() -> impl Strategy<Value = Vec<u8>> {
    let data = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        Just(b"\0\0\0\x04disk\0\x01\0\x03".to_vec()),
        Just(b"\0\0\0\x04disk\0\0\0\x01\0\0\0\x05base:".to_vec()),
        Just(b"disk".to_vec()),
    ];
    (0u32..14, data, any::<bool>()).prop_map(|(number, data, lies)| {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend(number.to_be_bytes());
        bytes.extend((data.len() as u32 + u32::from(lies) * 1_000_000).to_be_bytes());
        bytes.extend(data);
        bytes
    })
}

fn to_server() -> impl Strategy<Value = Vec<u8>> {
    let noise = || proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        noise(),
        proptest::collection::vec(option(), 1..12).prop_map(|options| {
            let mut bytes = 1u32.to_be_bytes().to_vec();
            bytes.extend(options.concat());
            bytes
        }),
        (any::<bool>(), proptest::collection::vec(request(), 1..20), noise()).prop_map(
            |(structured, requests, noise)| {
                let mut bytes = prologue(structured);
                bytes.extend(requests.concat());
                bytes.extend(noise);
                bytes
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_server_outlives_any_client(bytes in to_server()) {
        count_panics();
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("s");
            let server = Server::bind_unix(&socket).await.unwrap();
            server.export("disk", Arc::new(MemoryDisk::patterned(4 << 20))).unwrap();
            poke(&socket, &bytes).await;
            let client = Client::connect_unix(&socket, "disk", &[BASE_ALLOCATION]).await.unwrap();
            client.read_at(0, &mut [0; 512]).await.unwrap();
        });
        prop_assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn without_a_certificate_a_port_tells_nobody_what_it_has(bytes in to_server()) {
        count_panics();
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let authority = Authority::make(&folder.path().join("ca"), &SystemClock).unwrap();
            authority.issue(folder.path(), &[Role::Server], &["localhost".into()], &SystemClock).unwrap();
            let acceptor = muster_tls::acceptor(folder.path()).unwrap();
            let server = Server::bind_tls("127.0.0.1:0".parse().unwrap(), acceptor).await.unwrap();
            server.export("disk", Arc::new(MemoryDisk::patterned(4 << 20))).unwrap();
            for _ in 0..2 {
                let said = poke_at(TcpStream::connect(server.address().unwrap()).await.unwrap(), &bytes).await;
                assert!(said.starts_with(b"NBDMAGICIHAVEOPT"));
                assert!(!said.windows(4).any(|word| word == b"disk"), "it named its export");
            }
        });
        prop_assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_client_outlives_any_server(honest in 0usize..200, noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        count_panics();
        // A recording of an honest server up to some byte, then anything.
        let mut bytes = honest_server();
        bytes.truncate(honest);
        bytes.extend(noise);
        runtime().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("s");
            let listener = UnixListener::bind(&socket).unwrap();
            let serving = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
            let ended = tokio::time::timeout(PATIENCE, async {
                let client = Client::connect_unix(&socket, "disk", &[BASE_ALLOCATION]).await?;
                let mut buffer = [0; 512];
                let (read, status) =
                    tokio::join!(client.read_at(0, &mut buffer), client.block_status(BASE_ALLOCATION, 0, 1 << 20));
                read.and(status.map(drop))
            });
            let ended = ended.await;
            assert!(ended.is_ok(), "the client hangs");
            drop(ended);
            tokio::time::timeout(PATIENCE, serving).await.expect("the client did not hang up").unwrap();
        });
        prop_assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    }
}

/// Greeting, answers to structured replies, contexts and go, and the answer to a read and a block status.
fn honest_server() -> Vec<u8> {
    let reply = |option: u32, kind: u32, data: &[u8]| {
        let mut message = 0x3e889045565a9u64.to_be_bytes().to_vec();
        message.extend(option.to_be_bytes());
        message.extend(kind.to_be_bytes());
        message.extend((data.len() as u32).to_be_bytes());
        message.extend(data);
        message
    };
    let mut bytes = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
    bytes.extend(reply(8, 1, &[]));
    bytes.extend(reply(10, 4, b"\0\0\0\x01base:allocation"));
    bytes.extend(reply(10, 1, &[]));
    bytes.extend(reply(7, 3, &[0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1]));
    bytes.extend(reply(7, 1, &[]));
    let head = |done: u16, kind: u16, cookie: u64, length: u32| {
        let mut message = 0x668e_33efu32.to_be_bytes().to_vec();
        message.extend(done.to_be_bytes());
        message.extend(kind.to_be_bytes());
        message.extend(cookie.to_be_bytes());
        message.extend(length.to_be_bytes());
        message
    };
    bytes.extend(head(1, 2, 0, 12));
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    bytes.extend(head(1, 5, 1, 12));
    bytes.extend([0, 0, 0, 1, 0, 16, 0, 0, 0, 0, 0, 0]);
    bytes
}

#[test]
fn the_recording_of_an_honest_server_is_honest() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Everything up to the answers, which may only come after the questions.
            let bytes = honest_server();
            let answers = bytes.len() - 64;
            stream.write_all(&bytes[..answers]).await.unwrap();
            let mut questions = vec![0; 4 + 16 + 16 + 12 + 19 + 16 + 4 + 4 + 4 + 28 + 28];
            stream.read_exact(&mut questions).await.unwrap();
            stream.write_all(&bytes[answers..]).await.unwrap();
        });
        let client = Client::connect_unix(&socket, "disk", &[BASE_ALLOCATION]).await.unwrap();
        let mut buffer = [7; 512];
        let (read, status) =
            tokio::join!(client.read_at(0, &mut buffer), client.block_status(BASE_ALLOCATION, 0, 1 << 20));
        read.unwrap();
        assert_eq!(buffer, [0; 512]);
        assert_eq!(status.unwrap().len(), 1);
    });
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_hold_others_up() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let server = Server::bind_unix(&socket).await.unwrap();
    server.export("disk", Arc::new(MemoryDisk::patterned(4 << 20))).unwrap();
    let _silent: Vec<UnixStream> = futures_of((0..20).map(|_| UnixStream::connect(&socket)))
        .await
        .into_iter()
        .map(|stream| stream.unwrap())
        .collect();
    let client = Client::connect_unix(&socket, "disk", &[]).await.unwrap();
    client.read_at(0, &mut [0; 512]).await.unwrap();
}

async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut outputs = Vec::new();
    for future in futures {
        outputs.push(future.await);
    }
    outputs
}
