//! What the tests of this crate share: a disk in memory, and QEMU's tools.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use async_trait::async_trait;
use muster_ports::{BlockSource, Extent, ExtentKind, Failure, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::Duration;

pub(crate) const GRAIN: u64 = 64 << 10;

/// A disk in memory that knows its zeroes by grains of 64 KiB.
#[derive(Debug)]
pub(crate) struct MemoryDisk {
    pub(crate) data: Vec<u8>,
    /// Offsets at which reading fails.
    pub(crate) bad: Mutex<Vec<u64>>,
}

impl MemoryDisk {
    /// Data in every third grain, and a last grain of its own kind.
    pub(crate) fn patterned(size: u64) -> Self {
        let mut data = vec![0; size as usize];
        for (number, grain) in data.chunks_mut(GRAIN as usize).enumerate() {
            if number % 3 == 0 {
                for (index, byte) in grain.iter_mut().enumerate() {
                    *byte = (index as u8) ^ (number as u8) | 1;
                }
            }
        }
        Self { data, bad: Mutex::default() }
    }
}

#[async_trait]
impl BlockSource for MemoryDisk {
    fn size(&self) -> u64 {
        self.data.len() as u64
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        // One grain at a time: callers have to ask on.
        let end = ((offset / GRAIN + 1) * GRAIN).min(offset + length);
        let zero = self.data[offset as usize..end as usize].iter().all(|byte| *byte == 0);
        let kind = if zero { ExtentKind::Zero } else { ExtentKind::Data };
        Ok(vec![Extent { offset, length: end - offset, kind }])
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset + buffer.len() as u64;
        if self.bad.lock().unwrap().iter().any(|bad| (offset..end).contains(bad)) {
            return Err(Failure::transient("the vault does not answer"));
        }
        buffer.copy_from_slice(&self.data[offset as usize..end as usize]);
        Ok(())
    }
}

/// Runs a tool of QEMU and returns what it printed. Fails loudly when it is not installed.
pub(crate) fn run(tool: &str, arguments: &[&str]) -> Output {
    match Command::new(tool).args(arguments).output() {
        Ok(output) => output,
        Err(error) => panic!("`{tool}` cannot be run ({error}): install QEMU's tools (`apt-get install qemu-utils`)"),
    }
}

/// Runs a tool of QEMU off the test's own thread, since the server it talks to may live there.
pub(crate) async fn tool(tool: &'static str, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    tokio::task::spawn_blocking(move || {
        let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = run(tool, &borrowed);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool} {arguments:?} failed: {err}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
    .await
    .unwrap()
}

pub(crate) fn url(export: &str, socket: &Path) -> String {
    format!("nbd+unix:///{export}?socket={}", socket.display())
}

/// A `qemu-nbd` that ends with the test.
#[derive(Debug)]
pub(crate) struct QemuNbd {
    child: std::process::Child,
    pub(crate) socket: PathBuf,
}

impl QemuNbd {
    pub(crate) async fn start(folder: &Path, arguments: &[&str]) -> Self {
        let socket = folder.join("q.sock");
        let child = Command::new("qemu-nbd")
            .args(["--persistent", "--shared=8", "--socket"])
            .arg(&socket)
            .args(arguments)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("`qemu-nbd` cannot be run ({error}): install QEMU's tools (`apt-get install qemu-utils`)")
            });
        let mut server = Self { child, socket };
        for _ in 0..300 {
            if std::os::unix::net::UnixStream::connect(&server.socket).is_ok() {
                return server;
            }
            assert!(server.child.try_wait().unwrap().is_none(), "qemu-nbd has ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("qemu-nbd does not listen after 15 s");
    }
}

impl Drop for QemuNbd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
