//! How machines are run here: KVM when it works, emulation when not. Whether it works is tried, not asked: hosts exist
//! that offer `/dev/kvm` and then hang.

use crate::folder::{at, read_json, write_json};
use crate::limits;
use crate::process::{Namespace, run};
use muster_ports::Result;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;
use tokio::time::timeout;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Accelerator {
    Kvm,
    Tcg,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Accel {
    pub(crate) accelerator: Accelerator,
    /// QEMU's version and why this accelerator.
    pub(crate) detail: String,
}

impl Accel {
    pub(crate) fn arguments(&self) -> [&'static str; 4] {
        match self.accelerator {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

/// Writes 42 to QEMU's exit port, which ends QEMU with 85.
const BOOT_SECTOR: [u8; 8] = [0xb0, 42, 0xba, 0x01, 0x05, 0xee, 0xf4, 0xf4];
const PROOF: i32 = (42 << 1) | 1;

/// Finds out once and remembers it in the site's folder. Remove `accel.json` after changing the host.
pub(crate) async fn find(folder: &Path) -> Result<Accel> {
    let path = folder.join("accel.json");
    if let Some(found) = read_json(&path)? {
        return Ok(found);
    }
    let version = run(Namespace::Own, folder, "qemu-system-x86_64", &["--version"]).await?;
    let version = version.split_whitespace().nth(3).unwrap_or("of unknown version").to_owned();
    let found = match try_kvm(folder).await? {
        Ok(()) => Accel { accelerator: Accelerator::Kvm, detail: format!("qemu {version}, accel kvm") },
        Err(reason) => {
            Accel { accelerator: Accelerator::Tcg, detail: format!("qemu {version}, accel tcg (kvm: {reason})") }
        }
    };
    write_json(&path, &found)?;
    Ok(found)
}

/// The inner error is the reason why KVM is not used.
async fn try_kvm(folder: &Path) -> Result<Result<(), String>> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Err("there is no /dev/kvm".to_owned()));
    }
    let image = folder.join("accel-probe.raw");
    let mut sector = [0u8; 512];
    sector[..BOOT_SECTOR.len()].copy_from_slice(&BOOT_SECTOR);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&image, sector).map_err(|error| at(&image, &error))?;
    let child = Command::new("qemu-system-x86_64")
        .args(["-accel", "kvm", "-cpu", "host", "-machine", "pc", "-m", "16", "-nodefaults", "-display", "none"])
        .args(["-drive", "file=accel-probe.raw,format=raw,if=ide,readonly=off"])
        .args(["-device", "isa-debug-exit,iobase=0x501,iosize=1"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let outcome = match timeout(limits::KVM_PROBE, child).await {
        Err(_) => Err(format!("a probe boot gave no answer within {} s", limits::KVM_PROBE.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(output)) if output.status.code() == Some(PROOF) => Ok(()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().last().unwrap_or("a probe boot failed").trim().chars().take(200).collect())
        }
    };
    crate::folder::remove(&image)?;
    Ok(outcome)
}
