//! Processes that outlive the agent: who they are, whether they live, how they end.
//!
//! A process is known by its number and the moment it began, so that a reused number is never taken for it. A zombie is
//! not alive: on some hosts nobody ever collects them.

use crate::folder::{at, read_json, write_json};
use crate::limits;
use muster_ports::{Failure, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Clock ticks since boot.
    pub(crate) start: u64,
}

impl ProcessId {
    /// The process that has this number now, unless it is dead already.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything, brackets too.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let start = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X" | "x")).then_some(Self { pid, start })
    }

    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            // A process that has just ended is what was wanted.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it is gone; says whether it is.
    pub(crate) async fn gone_within(self, limit: Duration) -> bool {
        let gone = async {
            while self.is_alive() {
                sleep(limits::LOOK).await;
            }
        };
        timeout(limit, gone).await.is_ok()
    }

    /// Asks it to end, then makes it.
    pub(crate) async fn end(self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            // Asked once, a storage daemon that is just about to wait for work can miss it, and would wait for ever.
            self.signal(Signal::TERM);
            let left = deadline.saturating_duration_since(Instant::now());
            if self.gone_within(left.min(limits::ASK_TO_END_AGAIN)).await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return self.kill().await;
            }
        }
    }

    pub(crate) async fn kill(self) -> Result<()> {
        self.signal(Signal::KILL);
        if self.gone_within(limits::KILL).await {
            return Ok(());
        }
        Err(Failure::timeout(format!("process {} does not end although it was killed", self.pid))
            .help("it hangs in the kernel, most often on storage that does not answer"))
    }

    pub(crate) fn namespace_file(self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid))
    }
}

/// The living process a pid file names. The file of a dead one says nothing.
pub(crate) fn from_file(path: &Path) -> Option<ProcessId> {
    let id: ProcessId = read_json(path).ok().flatten()?;
    id.is_alive().then_some(id)
}

/// Where a process is to run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Namespace {
    /// The agent's own: the live networks.
    Own,
    /// That of a bubble's keeper.
    Of(ProcessId),
}

impl Namespace {
    /// A command inside; every program on the way replaces the one before, so the child's number stays its number.
    pub(crate) fn words(self, program: &str) -> Vec<String> {
        match self {
            Self::Own => vec![program.to_owned()],
            Self::Of(keeper) => {
                let net = format!("--net={}", keeper.namespace_file().display());
                vec!["nsenter".to_owned(), net, "--".to_owned(), program.to_owned()]
            }
        }
    }
}

/// Runs a tool to its end and gives what it printed. A failure carries the tool's own words.
pub(crate) async fn run(namespace: Namespace, folder: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let words = namespace.words(program);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(limits::TOOL, command.output())
        .await
        .map_err(|_| Failure::timeout(format!("`{program}` did not end within {} s", limits::TOOL.as_secs())))?
        .map_err(|error| missing(&words[0], &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(limits::TOOL_WORDS).collect();
    Err(Failure::permanent(format!("`{program} {}` failed: {said}", arguments.join(" "))))
}

pub(crate) fn missing(program: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::permanent(format!("`{program}` cannot be run: {error}"));
    match error.kind() {
        std::io::ErrorKind::NotFound => failure.help(
            "install what this site needs: `apt-get install qemu-system-x86 qemu-utils qemu-block-extra dnsmasq-base iproute2 util-linux`, for \
             commands over SSH `openssh-client`, for files on disks `e2fsprogs`",
        ),
        _ => failure,
    }
}

/// Starts a process that outlives us, in a session of its own, what it says going to `log`.
///
/// `pid_file` is written at once. Between the start and that write a killed agent loses sight of the process; a machine
/// is found again through its monitor socket, everything else is only started when its place is free.
pub(crate) async fn launch(
    namespace: Namespace,
    folder: &Path,
    log: &str,
    pid_file: &Path,
    program: &str,
    arguments: &[String],
) -> Result<ProcessId> {
    let log_path = folder.join(log);
    let log = File::create(&log_path).map_err(|error| at(&log_path, &error))?;
    let errors = log.try_clone().map_err(|error| at(&log_path, &error))?;
    let mut child = Command::new("setsid")
        .args(namespace.words(program))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .kill_on_drop(false)
        .spawn()
        .map_err(|error| missing("setsid", &error))?;
    let id = child.id().and_then(ProcessId::of);
    // Collects the child when it ends; while we live there is no zombie of ours.
    tokio::spawn(async move { child.wait().await });
    let Some(id) = id else {
        return Err(Failure::permanent(format!("`{program}` ended at once: {}", tail(&log_path))));
    };
    if let Err(failure) = write_json(pid_file, &id) {
        id.kill().await?;
        return Err(failure);
    }
    Ok(id)
}

/// The last words of a log.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let skip = text.chars().count().saturating_sub(limits::TOOL_WORDS);
    let said: String = text.chars().skip(skip).collect();
    if said.trim().is_empty() { "it said nothing".to_owned() } else { said.trim().to_owned() }
}
