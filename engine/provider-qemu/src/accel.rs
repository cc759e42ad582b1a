//! How machines are run here: KVM when it works, emulation when not. Whether it works is tried, not asked: hosts exist
//! that offer `/dev/kvm` and then hang, and hosts whose KVM runs a machine's firmware and breaks down in its boot loader.
//!
//! It is tried twice. Before the first machine a boot sector goes the way of a boot loader and a kernel
//! (`boot-probe.s`). And a machine that KVM drops soon after its start is started again under emulation, like every
//! machine after it.

use crate::folder::{at, read_json, write_json};
use crate::limits;
use crate::process::{Namespace, run};
use muster_ports::Result;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Accelerator {
    Kvm,
    Tcg,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accel {
    pub(crate) accelerator: Accelerator,
    /// QEMU's version and why this accelerator.
    pub(crate) detail: String,
    /// The kernel it was found out under; another one may do better or worse.
    #[serde(default)]
    kernel: String,
    /// Which probe found it out.
    #[serde(default)]
    probe: u32,
}

impl Accel {
    fn new(accelerator: Accelerator, detail: String) -> Self {
        Self { accelerator, detail, kernel: kernel(), probe: PROBE }
    }

    pub(crate) fn arguments(&self) -> [&'static str; 4] {
        match self.accelerator {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

/// Ends QEMU with [`PROOF`] when it got through.
const BOOT_PROBE: &[u8; 512] = include_bytes!("boot-probe.bin");
/// What it writes to QEMU's exit port is 42.
const PROOF: i32 = (42 << 1) | 1;
/// Counted up whenever the probe asks for more, so that what a weaker one found is found out again.
const PROBE: u32 = 2;

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Finds out once for every kernel and remembers it in the site's folder.
pub(crate) async fn find(folder: &Path) -> Result<Accel> {
    let path = folder.join("accel.json");
    let known: Option<Accel> = read_json(&path)?;
    if let Some(found) = known
        && found.probe == PROBE
        && found.kernel == kernel()
    {
        return Ok(found);
    }
    let version = version(folder).await?;
    let found = match try_kvm(folder).await? {
        Ok(()) => Accel::new(Accelerator::Kvm, format!("qemu {version}, accel kvm")),
        Err(reason) => Accel::new(Accelerator::Tcg, format!("qemu {version}, accel tcg (kvm: {reason})")),
    };
    write_json(&path, &found)?;
    Ok(found)
}

/// From now on machines are emulated here.
pub(crate) async fn give_up_kvm(folder: &Path, reason: &str) -> Result<()> {
    let version = version(folder).await?;
    let found = Accel::new(Accelerator::Tcg, format!("qemu {version}, accel tcg (kvm: {reason})"));
    write_json(&folder.join("accel.json"), &found)
}

async fn version(folder: &Path) -> Result<String> {
    let said = run(Namespace::Own, folder, "qemu-system-x86_64", &["--version"]).await?;
    Ok(said.split_whitespace().nth(3).unwrap_or("of unknown version").to_owned())
}

/// What QEMU says when its kernel cannot go on with a machine, which then stands still for ever.
pub(crate) fn is_breakdown(line: &str) -> bool {
    line.starts_with("KVM internal error") || line.starts_with("error: kvm run failed")
}

/// The inner error is the reason why KVM is not used.
async fn try_kvm(folder: &Path) -> Result<Result<(), String>> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Err("there is no /dev/kvm".to_owned()));
    }
    let image = folder.join("accel-probe.raw");
    fs::write(&image, BOOT_PROBE).map_err(|error| at(&image, &error))?;
    let outcome = probe_boot(folder, "kvm", "host").await;
    crate::folder::remove(&image)?;
    Ok(outcome)
}

async fn probe_boot(folder: &Path, accel: &str, cpu: &str) -> Result<(), String> {
    let child = Command::new("qemu-system-x86_64")
        .args(["-accel", accel, "-cpu", cpu, "-machine", "pc", "-m", "16", "-nodefaults", "-display", "none"])
        .args(["-drive", "file=accel-probe.raw,format=raw,if=ide,readonly=off"])
        .args(["-device", "isa-debug-exit,iobase=0x501,iosize=1"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    timeout(limits::KVM_PROBE, verdict(child))
        .await
        .unwrap_or_else(|_| Err(format!("a probe boot gave no answer within {} s", limits::KVM_PROBE.as_secs())))
}

async fn verdict(mut child: Child) -> Result<(), String> {
    let mut last = "a probe boot failed".to_owned();
    if let Some(said) = child.stderr.take() {
        let mut lines = BufReader::new(said).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            last = line.trim().chars().take(limits::ACCEL_REASON).collect();
            // It does not end by itself.
            if is_breakdown(&last) {
                return Err(last);
            }
        }
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.code() == Some(PROOF) { Ok(()) } else { Err(last) }
}

/// Why KVM gave up the machine in this folder, when it did so soon after its start. Later it may have had another reason
/// than that it never works here.
pub(crate) fn early_breakdown(started: &Path, log: &Path) -> Option<String> {
    let text = fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| is_breakdown(line))?;
    let moment = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let ran: Duration = moment(log)?.duration_since(moment(started)?).unwrap_or_default();
    (ran <= limits::KVM_TRIAL).then(|| line.trim().chars().take(limits::ACCEL_REASON).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]
mod tests {
    use super::*;

    /// `gcc`, which Rust needs too, brings the two programs along.
    #[test]
    fn the_probe_is_what_its_source_says() {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/boot-probe.s");
        let run = |program: &str, arguments: &[&str]| {
            let status = std::process::Command::new(program).args(arguments).current_dir(folder.path()).status();
            assert!(status.unwrap_or_else(|error| panic!("{program}: {error}")).success(), "{program}");
        };
        run("as", &["--64", "-o", "probe.o", source.to_str().unwrap()]);
        let link = ["-m", "elf_x86_64", "-Ttext", "0x7c00", "--oformat", "binary", "-e", "start"];
        run("ld", &[&link[..], &["-o", "probe.bin", "probe.o"]].concat());
        assert_eq!(fs::read(folder.path().join("probe.bin")).unwrap(), BOOT_PROBE);
    }

    #[tokio::test]
    async fn the_probe_gets_through_where_machines_run() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("accel-probe.raw"), BOOT_PROBE).unwrap();
        assert_eq!(probe_boot(folder.path(), "tcg", "max").await, Ok(()));
    }

    #[test]
    fn only_a_breakdown_soon_after_the_start_is_one_of_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let (started, log) = (folder.path().join("pid"), folder.path().join("log"));
        fs::write(&started, "").unwrap();
        assert_eq!(early_breakdown(&started, &log), None);
        fs::write(&log, "qemu: a warning\n").unwrap();
        assert_eq!(early_breakdown(&started, &log), None);
        fs::write(&log, "qemu: a warning\nKVM internal error. Suberror: 1\nextra data[0]: 0\n").unwrap();
        assert_eq!(early_breakdown(&started, &log).as_deref(), Some("KVM internal error. Suberror: 1"));
        let later = fs::metadata(&started).unwrap().modified().unwrap() + limits::KVM_TRIAL + Duration::from_secs(2);
        fs::File::open(&log).unwrap().set_modified(later).unwrap();
        assert_eq!(early_breakdown(&started, &log), None);
    }
}
