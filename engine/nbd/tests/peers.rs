//! Our client against our server, and the life of a socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use muster_nbd::{ALLOCATION_HOLE, ALLOCATION_ZERO, BASE_ALLOCATION, Client, Server};
use muster_ports::FailureClass;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use support::*;

const MIB: u64 = 1 << 20;

async fn pair(disk: Arc<MemoryDisk>) -> (tempfile::TempDir, Server, Client) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let server = Server::bind_unix(&socket).await.unwrap();
    server.export("disk", disk).unwrap();
    let client = Client::connect_unix(&socket, "disk", &[BASE_ALLOCATION]).await.unwrap();
    (folder, server, client)
}

#[tokio::test]
async fn what_is_served_is_what_is_read() {
    let disk = Arc::new(MemoryDisk::patterned(70 * MIB));
    let (_folder, _server, client) = pair(disk.clone()).await;
    assert!(client.is_read_only());
    for (offset, length) in [(0, 70 * MIB), (0, 0), (GRAIN - 1, 3), (70 * MIB - 1, 1), (5 * MIB + 7, 2 * MIB + 1)] {
        let mut read = vec![0xaa; length as usize];
        client.read_at(offset, &mut read).await.unwrap();
        assert!(read == disk.data[offset as usize..(offset + length) as usize], "at {offset}");
    }
    let map = client.block_status(BASE_ALLOCATION, 0, 70 * MIB).await.unwrap();
    let mut at = 0;
    for run in map {
        let zero = disk.data[at as usize..(at + run.length) as usize].iter().all(|byte| *byte == 0);
        assert_eq!(run.flags, if zero { ALLOCATION_HOLE | ALLOCATION_ZERO } else { 0 }, "at {at}");
        at += run.length;
    }
    assert_eq!(at, 70 * MIB);
}

#[tokio::test]
async fn failures_say_what_they_are() {
    let disk = Arc::new(MemoryDisk::patterned(4 * MIB));
    disk.bad.lock().unwrap().push(3 * GRAIN);
    let (folder, server, client) = pair(disk).await;
    let failure = client.read_at(2 * GRAIN, &mut vec![0; 2 * GRAIN as usize]).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.message.contains("input/output error (`the vault does not answer`)"), "{failure}");
    client.read_at(0, &mut [0; 512]).await.unwrap();

    let failure = client.read_at(4 * MIB - 1, &mut [0; 2]).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Permanent);
    let failure = client.block_status("qemu:dirty-bitmap:x", 0, 512).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Permanent);
    for failure in [client.write_at(0, &[0; 512]).await, client.write_zeroes(0, 512).await, client.trim(0, 512).await] {
        assert_eq!(failure.unwrap_err().class, FailureClass::Refused);
    }
    client.flush().await.unwrap();

    let failure = Client::connect_unix(&folder.path().join("s"), "nothing", &[]).await.unwrap_err();
    assert!(failure.message.contains("it has no such export"), "{failure}");
    assert!(server.withdraw("disk"));
    let failure = client.read_at(0, &mut [0; 512]).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient, "{failure}");
}

#[tokio::test]
async fn a_socket_has_one_server_and_no_strangers() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "a dead server leaves its socket behind");
    let server = Server::bind_unix(&socket).await.unwrap();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let failure = Server::bind_unix(&socket).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused, "{failure}");
    server.export("a", Arc::new(MemoryDisk::patterned(512))).unwrap();
    assert_eq!(server.exports(), ["a"]);
    assert!(server.export("", Arc::new(MemoryDisk::patterned(512))).is_err());
    server.shutdown().await;
    assert!(!socket.exists());

    std::fs::write(&socket, "mine").unwrap();
    assert!(Server::bind_unix(&socket).await.is_err());
    assert_eq!(std::fs::read(&socket).unwrap(), b"mine");
    let deep = folder.path().join("d".repeat(100));
    let failure = Server::bind_unix(&deep).await.unwrap_err();
    assert!(failure.message.contains("the path of the socket has"), "{failure}");
    assert!(failure.help.is_some());
}
