//! The watchdog: a small process beside the agent that lets guests go when the agent cannot.
//!
//! ```text
//!   agent                                  watchdog (our own program, a session of its own)
//!     | --- whom, how long ------------------> |
//!     | <-- here I am ------------------------ |      only now anybody may be held
//!     | --- freezing db, stopping app -------> |      before it is done
//!     | --- released db, released app -------> |      after it is done
//!     x     line breaks, or deadline passes    |
//!                                              `---> thaws and starts whoever was not released, then ends
//! ```
//!
//! A process, because it must outlive an agent that is killed; of its own session, because a whole group of processes may
//! be killed at once; one for each cut, so that its end is in sight. What was said before a death is not lost: it lies
//! in the line's buffer, and the end of the line comes after it.
//!
//! A guest agent and a monitor serve one client at a time, and both forget a client that dies: the watchdog stands in
//! line until then. For the case that the agent lives but does not move any more, machines have a second monitor.
//! A guest agent has no second door: a watchdog waits until the stuck agent's call is over or its process gone.
//!
//! It ends by itself: at once when the line breaks and nobody is held, and never later than
//! [`WATCH_LIMIT`](limits::WATCH_LIMIT) after it began to let go. Then the next agent does it, before anything else.

use crate::hold::{let_go, record_of, remove_record};
use crate::limits;
use crate::process::ProcessId;
use futures::future::join_all;
use muster_ports::{Failure, InstanceName, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// How a watchdog is started: a program that ends up in [`keep_watch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// The program, found at any moment: also after its file was replaced by a newer one.
    pub program: PathBuf,
    /// What it is told.
    pub arguments: Vec<String>,
}

impl Watchdog {
    /// This very program, with these arguments. It is found through the running process, so that an upgrade that
    /// replaces the file changes nothing.
    pub fn this_program(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { program: PathBuf::from("/proc/self/exe"), arguments }
    }
}

/// A guest to be watched.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) instance: InstanceName,
    /// The machine's folder.
    pub(crate) home: PathBuf,
    pub(crate) machine: ProcessId,
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    charges: Vec<Charge>,
    deadline_millis: u64,
}

/// Every line after it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
pub(crate) enum Word {
    Freezing { instance: InstanceName },
    Stopping { instance: InstanceName },
    Released { instance: InstanceName },
}

/// The agent's end of the line. Dropping it is what the watchdog waits for.
#[derive(Debug)]
pub(crate) struct Watch {
    line: Mutex<UnixStream>,
    pub(crate) process: ProcessId,
}

impl Watch {
    /// Starts a watchdog over `charges` and waits until it is there.
    pub(crate) async fn arm(watchdog: &Watchdog, charges: Vec<Charge>, hold_limit: Duration) -> Result<Self> {
        let arming = async {
            let (ours, theirs) = StdStream::pair()?;
            ours.set_nonblocking(true)?;
            let mut child = Command::new(&watchdog.program)
                .arg0("muster")
                .args(&watchdog.arguments)
                .current_dir("/")
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                .kill_on_drop(false)
                .spawn()?;
            let process = child.id().and_then(ProcessId::of);
            // Collects it when it ends; when we end first, somebody else does.
            tokio::spawn(async move { child.wait().await });
            let mut line = UnixStream::from_std(ours)?;
            let deadline_millis = u64::try_from((hold_limit + limits::WATCH_GRACE).as_millis()).unwrap_or(u64::MAX);
            line.write_all(&sentence(&Orders { charges, deadline_millis })?).await?;
            // One byte: whatever comes, it is up and of a session of its own.
            line.read_exact(&mut [0]).await?;
            let process = process.ok_or_else(|| Failure::transient("it ended at once"))?;
            Ok(Self { line: Mutex::new(line), process })
        };
        let late = || Failure::timeout(format!("it is not up within {} s", limits::WATCH_START.as_secs()));
        timeout(limits::WATCH_START, arming).await.unwrap_or_else(|_| Err(late())).map_err(|failure: Failure| {
            let mut failure = failure.during("start the watchdog of the cut");
            failure.class = muster_ports::FailureClass::Transient;
            failure.help("nobody is held without one; look for a shortage of memory or processes on this host")
        })
    }

    /// Fails when the watchdog is gone: then nobody may be held.
    pub(crate) async fn tell(&self, word: &Word) -> Result<()> {
        let said = self.line.lock().await.write_all(&sentence(word)?).await;
        said.map_err(|error| Failure::transient(format!("the watchdog of the cut is gone: {error}")))
    }
}

fn sentence(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value).map_err(|error| Failure::permanent(error.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

/// What a guest is owed.
#[derive(Debug, Default)]
struct Debt {
    thaw: bool,
    resume: bool,
}

impl Debt {
    fn is_paid(&self) -> bool {
        !self.thaw && !self.resume
    }
}

#[derive(Debug)]
struct Keeper {
    charges: BTreeMap<InstanceName, (Charge, Debt)>,
    /// `None` once the agent's end is broken.
    line: Option<Lines<BufReader<UnixStream>>>,
    /// The same line: closed to the agent before the watchdog ends.
    door: StdStream,
}

/// Keeps watch over the guests of one cut, as a process of its own whose standard input is the line to the agent.
/// Returns when all are free or nothing more can be done.
pub async fn keep_watch() -> Result<()> {
    // Asked to end with everybody else (a service that stops, a closed terminal) it stays: its end is in sight anyway.
    let _deaf = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    // Fails for the leader of a session, which is as good.
    let _ = rustix::process::setsid();
    let line = std::io::stdin().as_fd().try_clone_to_owned()?;
    let line = StdStream::from(line);
    line.set_nonblocking(true)?;
    let door = line.try_clone()?;
    let mut line = UnixStream::from_std(line)?;
    let mut lines = BufReader::new(&mut line).lines();
    let first = timeout(limits::WATCH_START, lines.next_line()).await;
    let stranger = || Failure::refused("only a site agent starts this, over a socket").help("run `muster agent`");
    let first = first.ok().and_then(std::io::Result::ok).flatten().ok_or_else(stranger)?;
    let orders: Orders = serde_json::from_str(&first).map_err(|_| stranger())?;
    line.write_all(b"\n").await?;
    let charges = orders.charges.into_iter().map(|charge| (charge.instance.clone(), (charge, Debt::default())));
    let deadline = Instant::now() + Duration::from_millis(orders.deadline_millis);
    let mut keeper = Keeper { charges: charges.collect(), line: Some(BufReader::new(line).lines()), door };
    keeper.listen_until(deadline).await;
    keeper.release().await
}

impl Keeper {
    /// Hears what the agent says, until it says nothing more or the time has come.
    async fn listen_until(&mut self, until: Instant) {
        while let Some(line) = &mut self.line {
            match timeout_at(until, line.next_line()).await {
                Ok(Ok(Some(word))) => self.hear(&word),
                Ok(_) => self.line = None,
                Err(_) => return,
            }
        }
    }

    fn hear(&mut self, word: &str) {
        // Half a word: the agent died while it said it, and before it did it.
        let Ok(word) = serde_json::from_str::<Word>(word) else { return };
        let (Word::Freezing { instance } | Word::Stopping { instance } | Word::Released { instance }) = &word;
        let Some((_, debt)) = self.charges.get_mut(instance) else { return };
        match word {
            Word::Freezing { .. } => debt.thaw = true,
            Word::Stopping { .. } => debt.resume = true,
            Word::Released { .. } => *debt = Debt::default(),
        }
    }

    /// Lets everybody go who is still held.
    async fn release(&mut self) -> Result<()> {
        let end = Instant::now() + limits::WATCH_LIMIT;
        let mut pause = limits::WATCH_AGAIN;
        loop {
            let held = self.charges.values_mut().filter(|(_, debt)| !debt.is_paid());
            let left = join_all(held.map(|(charge, debt)| free(charge, debt))).await;
            let Some(failure) = left.into_iter().find_map(Result::err) else {
                if self.line.is_none() {
                    return Ok(());
                }
                // An agent that comes to itself after its time must not believe in a watchdog that is leaving: from here
                // on its words fail, and what it said before is heard to the end.
                let _ = self.door.shutdown(Shutdown::Read);
                self.listen_until(Instant::now() + limits::WATCH_AGAIN).await;
                self.line = None;
                continue;
            };
            if Instant::now() >= end {
                return Err(failure.help("the site's next agent tries again; or thaw the guest by hand"));
            }
            let until = Instant::now() + pause;
            self.listen_until(until).await;
            sleep_until(until).await;
            pause = (pause * 2).min(limits::WATCH_AGAIN_MAX);
        }
    }
}

/// One attempt.
async fn free(charge: &Charge, debt: &mut Debt) -> Result<()> {
    let instance = &charge.instance;
    if charge.machine.is_alive() {
        let_go(&charge.home, debt.thaw, debt.resume).await.inspect_err(|failure| {
            tracing::warn!(%instance, %failure, "the watchdog cannot let a guest go yet");
        })?;
        tracing::warn!(%instance, "the site agent did not let a guest go after a cut; its watchdog did");
    }
    *debt = Debt::default();
    // Only its own: another agent may have taken the guest over.
    let mine = ProcessId::own();
    if record_of(&charge.home)?.is_some_and(|record| record.watchdog == mine) {
        remove_record(&charge.home)?;
    }
    Ok(())
}
