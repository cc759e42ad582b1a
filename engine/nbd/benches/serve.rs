//! How fast a point of a vault is served, beside `qemu-nbd` on the same disk as a raw file: one client, one run.
//!
//! ```text
//!   cargo bench -p muster-nbd --bench serve              needs fio and qemu-nbd
//! ```
//!
//! The client is fio, one connection. *Warm* reads go again and again over what the cache of frames holds; *cold* ones go
//! once over the whole disk, so that each frame is read, opened and unpacked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, dead_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use muster_nbd::Server;
use muster_ports::*;
use muster_vault::{FRAME_CACHE_BYTES, KeySource, Vault};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use support::{QemuNbd, url};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 512 * MIB;
/// Half of the cache: what surely stays in it.
const WARM: u64 = FRAME_CACHE_BYTES as u64 / 2;
const FRAME: usize = 256 << 10;
const RUNS: usize = 5;

/// What is asked of both servers, and the least share of `qemu-nbd` that is promised for it.
struct Question {
    name: &'static str,
    words: &'static [&'static str],
    bytes: u64,
    again: bool,
    promised: Option<f64>,
}

const QUESTIONS: [Question; 3] = [
    Question {
        name: "random 4 KiB, warm",
        words: &["--rw=randread", "--bs=4k", "--iodepth=16"],
        bytes: WARM,
        again: true,
        promised: Some(0.5),
    },
    Question {
        name: "sequential 1 MiB, warm",
        words: &["--rw=read", "--bs=1m", "--iodepth=4"],
        bytes: WARM,
        again: true,
        promised: Some(0.7),
    },
    Question {
        name: "sequential 1 MiB, cold",
        words: &["--rw=read", "--bs=1m", "--iodepth=4"],
        bytes: SIZE,
        again: false,
        promised: None,
    },
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    let content = half_random(SIZE);
    std::fs::write(&disk, &content).unwrap();
    let peer = QemuNbd::start(folder.path(), &["-r", "-f", "raw", "-x", "disk", disk.to_str().unwrap()]).await;
    let theirs = url("disk", &peer.socket);

    let key = KeySource::generate_file(&folder.path().join("key"), &SystemRandom).unwrap();
    let vault = format!("file://{}/vault", folder.path().display());
    let vault = Vault::init(&vault, &key, &SystemRandom).await.unwrap();
    let mut writer = vault.segment_writer(&"l".into(), Epoch(1), &"w".into(), 3);
    for (number, frame) in content.chunks(FRAME).enumerate() {
        writer.write((number * FRAME) as u64, frame).await.unwrap();
    }
    let segments = writer.finish().await.unwrap();
    let image = ReplicaImage { vault: vault.url().to_owned(), point: "p".into(), size_bytes: SIZE, segments };
    let socket = folder.path().join("m.sock");
    let server = Server::bind_unix(&socket).await.unwrap();
    let source: Arc<dyn BlockSource> = Arc::new(vault.replica(&image));
    server.export("disk", source).unwrap();
    let ours = url("disk", &socket);

    println!("{:<24} {:>14} {:>14} {:>7}   promised", "MiB/s, medians", "muster", "qemu-nbd", "ratio");
    for question in &QUESTIONS {
        let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            of_ours.push(ask(question, &ours, folder.path()).await);
            of_theirs.push(ask(question, &theirs, folder.path()).await);
        }
        let (of_ours, of_theirs) = (median(&mut of_ours), median(&mut of_theirs));
        let ratio = of_ours / of_theirs;
        let promised = question
            .promised
            .map_or(String::new(), |least| format!("{least:.1}, {}", if ratio >= least { "kept" } else { "MISSED" }));
        println!("{:<24} {of_ours:>14.0} {of_theirs:>14.0} {ratio:>7.2}   {promised}", question.name);
    }
    server.shutdown().await;
}

/// Bytes that compress by about a half, as the files of a system do.
fn half_random(size: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut content = Vec::with_capacity(size as usize);
    while (content.len() as u64) < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend(state.to_le_bytes());
        content.extend([7; 8]);
    }
    content
}

/// MiB a second, as fio counts them.
async fn ask(question: &Question, url: &str, folder: &Path) -> f64 {
    let mut words = vec!["--name=q".to_owned(), "--ioengine=nbd".to_owned(), "--output-format=json".to_owned()];
    words.push(format!("--uri={url}"));
    words.push(format!("--size={}", question.bytes));
    words.extend(question.words.iter().map(|word| (*word).to_owned()));
    if question.again {
        words.extend(["--time_based", "--runtime=3", "--ramp_time=1"].map(str::to_owned));
    }
    let folder = folder.to_owned();
    let output = tokio::task::spawn_blocking(move || Command::new("fio").args(words).current_dir(folder).output());
    let output = output.await.unwrap().expect("`fio` (apt-get install fio)");
    let said = String::from_utf8_lossy(&output.stdout);
    let json = said.find('{').map_or("", |at| &said[at..]);
    let answer: serde_json::Value = serde_json::from_str(json)
        .unwrap_or_else(|error| panic!("fio: {error}: {said}{}", String::from_utf8_lossy(&output.stderr)));
    answer["jobs"][0]["read"]["bw_bytes"].as_f64().unwrap() / MIB as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
