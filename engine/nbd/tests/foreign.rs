//! Clients that others wrote, at our server: `nbdinfo` and `nbdcopy` of libnbd, `qemu-img` and `qemu-io` of QEMU, and `fio`,
//! which checks what it wrote itself. What is served is a disk at a point, read from a vault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use muster_nbd::Server;
use muster_ports::*;
use muster_tls::{Authority, Role};
use muster_vault::{KeySource, Vault, is_zero};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use support::url;

const MIB: u64 = 1 << 20;
/// What fio writes: blocks that each carry their place and a checksum.
const WRITTEN: u64 = 12 * MIB;
/// The rest is zero.
const SIZE: u64 = 32 * MIB;
const BLOCK: u64 = 64 << 10;

/// Runs a program of others off the test's own thread. Fails loudly when it is not installed.
/// Whether it ended well, its answer, and what else it said.
async fn foreign(program: &'static str, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(program);
    // It leaves notes where it stands.
    command.args(arguments).current_dir(std::env::temp_dir());
    tokio::task::spawn_blocking(move || {
        let output = command.output().unwrap_or_else(|error| {
            panic!("`{program}` cannot be run ({error}): `apt-get install qemu-utils libnbd-bin fio`")
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    })
    .await
    .unwrap()
}

async fn well(program: &'static str, arguments: &[&str]) -> String {
    let (well, answer, said) = foreign(program, arguments).await;
    assert!(well, "{program} {arguments:?}: {answer}{said}");
    answer
}

struct Bench {
    folder: tempfile::TempDir,
    server: Server,
    source: Arc<dyn BlockSource>,
    disk: PathBuf,
    url: String,
}

impl Bench {
    /// A disk that fio wrote, shipped into a vault and served from there. `hurt` may change the disk before.
    async fn new(hurt: impl FnOnce(&mut Vec<u8>)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk.raw");
        let file = format!("--filename={}", disk.display());
        let size = format!("--size={WRITTEN}");
        well("fio", &[&CHECKED[..], &[&file, &size, "--rw=write", "--ioengine=psync", "--do_verify=0"]].concat()).await;
        let mut content = std::fs::read(&disk).unwrap();
        assert_eq!(content.len() as u64, WRITTEN);
        hurt(&mut content);
        content.resize(usize::try_from(SIZE).unwrap(), 0);
        std::fs::write(&disk, &content).unwrap();

        let key = KeySource::generate_file(&folder.path().join("key"), &SystemRandom).unwrap();
        let vault = format!("file://{}/vault", folder.path().display());
        let vault = Vault::init(&vault, &key, &SystemRandom).await.unwrap();
        let mut writer = vault.segment_writer(&"l".into(), Epoch(1), &"w".into(), 1);
        for (number, block) in content.chunks(BLOCK as usize).enumerate().filter(|(_, block)| !is_zero(block)) {
            writer.write(number as u64 * BLOCK, block).await.unwrap();
        }
        let segments = writer.finish().await.unwrap();
        let vault_url = vault.url().to_owned();
        let image = ReplicaImage { vault: vault_url, point: "p".into(), size_bytes: SIZE, segments };
        let socket = folder.path().join("m.sock");
        let server = Server::bind_unix(&socket).await.unwrap();
        let source: Arc<dyn BlockSource> = Arc::new(vault.replica(&image));
        server.export("db/root", source.clone()).unwrap();
        let url = url("db/root", &socket);
        Self { folder, server, source, disk, url }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// How fio marks a block when it writes it, and checks one when it reads it.
const CHECKED: [&str; 4] = ["--name=w", "--bs=64k", "--verify=crc32c", "--verify_fatal=1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nbdinfo_sees_what_the_server_can() {
    let bench = Bench::new(|_| {}).await;
    let info: Value = serde_json::from_str(&well("nbdinfo", &["--json", &bench.url]).await).unwrap();
    assert_eq!((&info["protocol"], &info["structured"]), (&"newstyle-fixed".into(), &true.into()), "{info}");
    let export = &info["exports"][0];
    assert_eq!((&export["export-name"], &export["export-size"]), (&"db/root".into(), &SIZE.into()), "{info}");
    for able in ["can_multi_conn", "is_read_only"] {
        assert_eq!(export[able], true, "{able}: {info}");
    }
    assert_eq!(export["can_trim"], false, "{info}");
    assert_eq!(export["contexts"], serde_json::json!(["base:allocation"]), "{info}");
    let map: Value = serde_json::from_str(&well("nbdinfo", &["--map", "--json", &bench.url]).await).unwrap();
    let wanted = serde_json::json!([
        { "offset": 0, "length": WRITTEN, "type": 0, "description": "data" },
        { "offset": WRITTEN, "length": SIZE - WRITTEN, "type": 3, "description": "hole,zero" },
    ]);
    assert_eq!(map, wanted);
    let socket = bench.url.split_once('?').unwrap().1;
    let listed = well("nbdinfo", &["--list", "--json", &format!("nbd+unix:///?{socket}")]).await;
    assert!(listed.contains("\"export-name\": \"db/root\""), "{listed}");
    let (well, _, said) = foreign("nbdinfo", &[&format!("nbd+unix:///nothing?{socket}")]).await;
    assert!(!well && said.contains("nbdinfo:"), "{said}");
    bench.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nbdcopy_takes_a_disk_over_several_connections() {
    let bench = Bench::new(|_| {}).await;
    let disk = std::fs::read(&bench.disk).unwrap();
    for (name, connections) in [("one", "1"), ("four", "4")] {
        let copy = bench.path(name);
        let connections = format!("--connections={connections}");
        well("nbdcopy", &[&connections, "--requests=16", "--threads=2", &bench.url, &copy]).await;
        assert!(std::fs::read(&copy).unwrap() == disk, "{connections}: the copy differs");
    }
    // Small requests, and no look at the map.
    let copy = bench.path("small");
    well("nbdcopy", &["--no-extents", "--request-size=4096", &bench.url, &copy]).await;
    assert!(std::fs::read(&copy).unwrap() == disk, "the copy differs");
    bench.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qemu_compares_and_reads_and_cannot_write() {
    let bench = Bench::new(|_| {}).await;
    let disk = bench.disk.display().to_string();
    let said = well("qemu-img", &["compare", "-f", "raw", "-F", "raw", &disk, &bench.url]).await;
    assert!(said.contains("Images are identical"), "{said}");
    let zeroes = format!("read -P 0 {WRITTEN} {}", SIZE - WRITTEN);
    let ranges = ["-c", "read 511 4097", "-c", "aio_read -q 0 1M", "-c", "aio_read -q 3M 1M", "-c", "aio_flush"];
    let said = well("qemu-io", &[&["-r", "-f", "raw", "-c", &zeroes], &ranges[..], &[&bench.url]].concat()).await;
    assert!(!said.contains("failed") && said.contains("read 4097/4097 bytes at offset 511"), "{said}");
    let (well, answer, said) = foreign("qemu-io", &["-f", "raw", "-c", "write 0 64k", &bench.url]).await;
    let said = answer + &said;
    assert!(!well && said.contains("Permission denied"), "{said}");
    bench.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fio_finds_every_block_it_wrote() {
    let bench = Bench::new(|_| {}).await;
    for (order, jobs) in [("read", "1"), ("randread", "4")] {
        let said = fio(&bench.url, order, jobs).await;
        assert!(said.0 && said.1.contains("err= 0"), "{order}: {}", said.1);
    }
    bench.server.shutdown().await;
    // The check can fail: one byte of one block.
    let bench = Bench::new(|content| content[5 * MIB as usize + 777] ^= 1).await;
    let (well, said) = fio(&bench.url, "read", "1").await;
    assert!(!well && said.contains("crc32c: verify failed at file"), "{said}");
    bench.server.shutdown().await;
}

async fn fio(url: &str, order: &str, jobs: &str) -> (bool, String) {
    let uri = format!("--uri={url}");
    let (size, order, jobs) = (format!("--size={WRITTEN}"), format!("--rw={order}"), format!("--numjobs={jobs}"));
    let rest = ["--ioengine=nbd", "--iodepth=16", "--group_reporting", &uri, &size, &order, &jobs];
    let (well, answer, said) = foreign("fio", &[&CHECKED[..], &rest[..]].concat()).await;
    (well, answer + &said)
}

/// Folders with certificates for both sides, and one of a stranger.
fn certificates(bench: &Bench) -> [String; 2] {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    ["ours", "strange"].map(|name| {
        let authority = Authority::make(&bench.folder.path().join(format!("{name}-ca")), &SystemClock).unwrap();
        let folder = bench.folder.path().join(name);
        authority.issue(&folder, &[Role::Server, Role::Client], &names, &SystemClock).unwrap();
        folder.display().to_string()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_same_disk_comes_and_only_to_whom_the_authority_knows() {
    let bench = Bench::new(|_| {}).await;
    let disk = std::fs::read(&bench.disk).unwrap();
    let [ours, strange] = certificates(&bench);
    let acceptor = muster_tls::acceptor(ours.as_ref()).unwrap();
    let server = Server::bind_tls("127.0.0.1:0".parse().unwrap(), acceptor).await.unwrap();
    server.export("db/root", bench.source.clone()).unwrap();
    let port = server.address().unwrap().port();

    let url = |folder: &str| format!("nbds://localhost:{port}/db/root?tls-certificates={folder}");
    let info: Value = serde_json::from_str(&well("nbdinfo", &["--json", &url(&ours)]).await).unwrap();
    assert_eq!((&info["TLS"], &info["structured"]), (&true.into(), &true.into()), "{info}");
    let copy = bench.path("copy");
    well("nbdcopy", &["--connections=4", "--requests=16", &url(&ours), &copy]).await;
    assert!(std::fs::read(&copy).unwrap() == disk, "the copy differs");

    let credentials = |folder: &str| format!("tls-creds-x509,id=tls,endpoint=client,verify-peer=yes,dir={folder}");
    let image =
        format!("driver=nbd,server.type=inet,server.host=127.0.0.1,server.port={port},export=db/root,tls-creds=tls");
    let compare = |folder: &str| {
        let (object, local) = (credentials(folder), format!("driver=raw,file.filename={}", bench.disk.display()));
        ["compare".into(), "--object".into(), object, "--image-opts".into(), local, image.clone()]
    };
    let said = well("qemu-img", &compare(&ours).each_ref().map(String::as_str)).await;
    assert!(said.contains("Images are identical"), "{said}");

    let (well, _, said) = foreign("qemu-img", &compare(&strange).each_ref().map(String::as_str)).await;
    // Each side finds out by itself that it does not know the other; who is first hangs up on the other one's words.
    assert!(!well && (said.contains("certificate") || said.contains("TLS handshake failed")), "{said}");
    let (well, ..) = foreign("nbdinfo", &[&url(&strange)]).await;
    assert!(!well, "a stranger was let in");
    // Who believes the server and shows nothing, and who does not speak TLS.
    let (well, _, said) = foreign("nbdinfo", &[&format!("nbds://localhost:{port}/db/root")]).await;
    assert!(!well, "{said}");
    let (well, _, said) = foreign("qemu-img", &["info", &format!("nbd://127.0.0.1:{port}/db/root")]).await;
    assert!(!well && said.contains("TLS"), "{said}");
    let (well, _, said) = foreign("nbdinfo", &["--list", &format!("nbd://127.0.0.1:{port}/")]).await;
    assert!(!well && !said.contains("db/root"), "{said}");
    server.shutdown().await;
    bench.server.shutdown().await;
}
