//! Our client against QEMU's server, and QEMU's clients against our server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use muster_nbd::{ALLOCATION_ZERO, BASE_ALLOCATION, BITMAP_DIRTY, BlockStatus, Client, Server, bitmap_context};
use std::path::Path;
use std::sync::Arc;
use support::*;

const MIB: u64 = 1 << 20;

async fn image(folder: &Path, size: &str) -> String {
    let path = folder.join("disk.qcow2").display().to_string();
    tool("qemu-img", &["create", "-q", "-f", "qcow2", &path, size]).await;
    path
}

#[tokio::test]
async fn the_client_writes_and_reads_a_disk_of_qemu() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(folder.path(), "80M").await;
    let server = QemuNbd::start(folder.path(), &["-f", "qcow2", "-x", "disk", "--discard=unmap", &disk]).await;
    let client = Client::connect_unix(&server.socket, "disk", &[BASE_ALLOCATION]).await.unwrap();
    assert_eq!(client.size(), 80 * MIB);
    assert!(!client.is_read_only());

    // Larger than one request may be, so it goes and comes in parts.
    let written: Vec<u8> = (0..40 * MIB).map(|at| (at / 977) as u8 | 1).collect();
    client.write_at(3 * MIB, &written).await.unwrap();
    client.write_zeroes(5 * MIB, 2 * MIB).await.unwrap();
    client.trim(20 * MIB, MIB).await.unwrap();
    client.flush().await.unwrap();
    let mut read = vec![0xff; 40 * MIB as usize];
    client.read_at(3 * MIB, &mut read).await.unwrap();
    let zeroed = 2 * MIB as usize..4 * MIB as usize;
    assert!(read[zeroed.clone()].iter().all(|byte| *byte == 0));
    assert_eq!(read[..zeroed.start], written[..zeroed.start]);
    assert_eq!(read[zeroed.end..17 * MIB as usize], written[zeroed.end..17 * MIB as usize]);

    let map = client.block_status(BASE_ALLOCATION, 0, 80 * MIB).await.unwrap();
    assert_eq!(map.iter().map(|run| run.length).sum::<u64>(), 80 * MIB);
    assert_ne!(map[0].flags & ALLOCATION_ZERO, 0);
    assert_eq!((map[0].length, map[1].flags), (3 * MIB, 0), "{map:?}");
    drop(client);

    let client = Client::connect_unix(&server.socket, "disk", &[]).await.unwrap();
    let mut again = vec![0; 512];
    client.read_at(3 * MIB + 512, &mut again).await.unwrap();
    assert_eq!(again, written[512..1024]);
}

#[tokio::test]
async fn the_client_reads_a_dirty_bitmap_of_qemu() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(folder.path(), "64M").await;
    tool("qemu-img", &["bitmap", "--add", "-g", "64K", &disk, "since"]).await;
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 7 1M 64k", "-c", "write -P 7 60M 4k", &disk]).await;
    let server = QemuNbd::start(folder.path(), &["-r", "-f", "qcow2", "-x", "disk", "-B", "since", &disk]).await;
    let context = bitmap_context("since");
    let client = Client::connect_unix(&server.socket, "disk", &[BASE_ALLOCATION, &context]).await.unwrap();
    assert!(client.is_read_only());
    let clean = |length| BlockStatus { length, flags: 0 };
    let dirty = BlockStatus { length: GRAIN, flags: BITMAP_DIRTY };
    let map = client.block_status(&context, 0, 64 * MIB).await.unwrap();
    assert_eq!(map, [clean(MIB), dirty, clean(59 * MIB - GRAIN), dirty, clean(4 * MIB - GRAIN)]);
    // A range that begins and ends inside of runs is covered exactly.
    let map = client.block_status(&context, MIB - 512, 1024).await.unwrap();
    assert_eq!(map, [clean(512), BlockStatus { length: 512, flags: BITMAP_DIRTY }]);

    let refused = client.write_at(0, &[1; 512]).await.unwrap_err();
    assert_eq!(refused.class, muster_ports::FailureClass::Refused, "{refused}");
    let missing = Client::connect_unix(&server.socket, "disk", &["qemu:dirty-bitmap:other"]).await.unwrap_err();
    assert!(missing.message.contains("lacks the context `qemu:dirty-bitmap:other`"), "{missing}");
    let missing = Client::connect_unix(&server.socket, "tape", &[]).await.unwrap_err();
    assert!(missing.message.contains("no such export"), "{missing}");
}

#[tokio::test]
async fn many_requests_are_in_flight_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(folder.path(), "64M").await;
    let server = QemuNbd::start(folder.path(), &["-f", "qcow2", "-x", "disk", &disk]).await;
    let client = Arc::new(Client::connect_unix(&server.socket, "disk", &[]).await.unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200u64 {
        let client = client.clone();
        tasks.spawn(async move {
            let data = vec![number as u8; 4096];
            client.write_at(number * 65536, &data).await.unwrap();
            let mut back = vec![0; 4096];
            client.read_at(number * 65536, &mut back).await.unwrap();
            assert_eq!(back, data);
        });
    }
    // Callers that give up harm nobody else.
    for number in 0..50u64 {
        let mut buffer = vec![0; 65536];
        let _ = tokio::time::timeout(std::time::Duration::ZERO, client.read_at(number * 65536, &mut buffer)).await;
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_killed_server_is_a_transient_failure() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(folder.path(), "1M").await;
    let server = QemuNbd::start(folder.path(), &["-f", "qcow2", "-x", "disk", &disk]).await;
    let client = Client::connect_unix(&server.socket, "disk", &[]).await.unwrap();
    let socket = server.socket.clone();
    drop(server);
    for _ in 0..2 {
        let failure = client.read_at(0, &mut [0; 512]).await.unwrap_err();
        assert_eq!(failure.class, muster_ports::FailureClass::Transient, "{failure}");
    }
    let failure = Client::connect_unix(&socket, "disk", &[]).await.unwrap_err();
    assert!(failure.message.contains("q.sock"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qemu_img_reads_and_maps_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("m.sock");
    let server = Server::bind_unix(&socket).await.unwrap();
    let disk = Arc::new(MemoryDisk::patterned(9 * MIB + 512));
    server.export("db/root", disk.clone()).unwrap();
    server.export("other", Arc::new(MemoryDisk::patterned(MIB))).unwrap();

    let copy = folder.path().join("copy.raw");
    let source = url("db/root", &socket);
    tool("qemu-img", &["convert", "-f", "raw", "-O", "raw", &source, copy.to_str().unwrap()]).await;
    assert!(std::fs::read(&copy).unwrap() == disk.data, "the copy differs");

    let map = tool("qemu-img", &["map", "--output=json", "-f", "raw", &source]).await;
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    let runs: Vec<(u64, u64, bool)> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|run| (run["start"].as_u64().unwrap(), run["length"].as_u64().unwrap(), run["zero"].as_bool().unwrap()))
        .collect();
    assert_eq!(runs[0], (0, GRAIN, false));
    assert_eq!(runs[1], (GRAIN, 2 * GRAIN, true));
    assert_eq!(runs.len(), 97, "{runs:?}");
    assert_eq!(runs.iter().map(|run| run.1).sum::<u64>(), 9 * MIB + 512);

    let listed = tool("qemu-nbd", &["--list", "--socket", socket.to_str().unwrap()]).await;
    assert!(listed.contains("exports available: 2") && listed.contains("export: 'db/root'"), "{listed}");
    assert!(listed.contains("base:allocation") && listed.contains("multi"), "{listed}");
    server.shutdown().await;
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qemu_overlay_lives_on_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("m.sock");
    let server = Server::bind_unix(&socket).await.unwrap();
    let disk = Arc::new(MemoryDisk::patterned(4 * MIB));
    server.export("root", disk.clone()).unwrap();
    let overlay = folder.path().join("o.qcow2").display().to_string();
    let source = url("root", &socket);
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &source, &overlay]).await;
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 9 64k 512", &overlay]).await;
    let copy = folder.path().join("copy.raw");
    tool("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", &overlay, copy.to_str().unwrap()]).await;
    let mut wanted = disk.data.clone();
    wanted[GRAIN as usize..GRAIN as usize + 512].fill(9);
    assert!(std::fs::read(&copy).unwrap() == wanted, "the overlay differs");
    // A withdrawn export is gone for new clients.
    assert!(server.withdraw("root") && !server.withdraw("root"));
    let output = tokio::task::spawn_blocking(move || run("qemu-img", &["info", &source])).await.unwrap();
    assert!(!output.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qemu_sees_an_error_of_the_source_as_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("m.sock");
    let server = Server::bind_unix(&socket).await.unwrap();
    let disk = Arc::new(MemoryDisk::patterned(4 * MIB));
    disk.bad.lock().unwrap().push(3 * GRAIN + 5);
    server.export("root", disk.clone()).unwrap();
    let source = url("root", &socket);
    let commands = ["-r", "-f", "raw", "-c", "read 192k 64k", "-c", "read 0 64k", &source].map(str::to_owned);
    let output =
        tokio::task::spawn_blocking(move || run("qemu-io", &commands.iter().map(String::as_str).collect::<Vec<_>>()));
    let output = output.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("read failed: Input/output error"), "{text}");
    assert!(text.contains("read 65536/65536 bytes at offset 0"), "the connection did not survive: {text}");
}

/// In few and long questions: what did not change of a large disk must not cost.
#[tokio::test]
async fn a_dirty_bitmap_of_two_tebibytes_is_told_in_runs() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(folder.path(), "2T").await;
    tool("qemu-img", &["bitmap", "--add", "-g", "64K", &disk, "since"]).await;
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 7 1536G 64k", &disk]).await;
    let server = QemuNbd::start(folder.path(), &["-r", "-f", "qcow2", "-x", "disk", "-B", "since", &disk]).await;
    let context = bitmap_context("since");
    let client = Client::connect_unix(&server.socket, "disk", &[BASE_ALLOCATION, &context]).await.unwrap();
    let clean = |length| BlockStatus { length, flags: 0 };
    let dirty = BlockStatus { length: GRAIN, flags: BITMAP_DIRTY };
    let map = client.block_status(&context, 0, client.size()).await.unwrap();
    assert_eq!(map, [clean(1536 << 30), dirty, clean((512 << 30) - GRAIN)]);
    let map = client.block_status(BASE_ALLOCATION, 0, client.size()).await.unwrap();
    assert_eq!(map.iter().map(|run| run.length).sum::<u64>(), 2 << 40);
    assert!(map.len() <= 3, "{map:?}");
}
