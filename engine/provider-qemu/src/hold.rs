//! Guests that wait for a cut, and how they are let go: by the cut itself, by the agent that lives on, by the next agent,
//! by the watchdog when there is no agent any more.
//!
//! ```text
//!   machines/INSTANCE/hold.json     written before the guest is held, removed when it is known to run again
//!
//!   cut ------ lets go at its end, whatever became of it
//!   agent ---- tries again what a cut could not, with growing pauses, as long as it lives; first of all when it starts
//!   watchdog - when the agent's end of the line breaks, or its deadline passes (see `watchdog`)
//! ```
//!
//! What a guest was like before is what it gets back: one that a person has paused stays paused, one that somebody else
//! froze stays frozen.

use crate::folder::{Folder, read_json, remove, write_json};
use crate::host::{Host, MACHINE_SOCKET, WATCH_SOCKET, machine_process};
use crate::process::ProcessId;
use crate::qmp::Qmp;
use crate::watchdog::{Watch, Word};
use crate::{guest, limits};
use muster_ports::{BarrierId, CutOrder, Failure, InstanceName, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

const RECORD: &str = "hold.json";

/// A guest that may be waiting because of us.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HoldRecord {
    pub(crate) barrier: BarrierId,
    /// The process that is held; one that came after it runs freely.
    pub(crate) machine: ProcessId,
    pub(crate) since: Timestamp,
    /// Its file systems may be frozen.
    pub(crate) thaw: bool,
    /// Its processors may be stopped.
    pub(crate) resume: bool,
    /// Whose cut it is. As long as that process lives nobody else lets the guest go.
    pub(crate) agent: Option<ProcessId>,
    pub(crate) watchdog: Option<ProcessId>,
    /// How often it was let go in vain since the cut gave it up, and what was said last.
    #[serde(default)]
    pub(crate) tries: u32,
    #[serde(default)]
    pub(crate) said: String,
}

pub(crate) fn record_of(home: &Path) -> Result<Option<HoldRecord>> {
    read_json(&home.join(RECORD))
}

pub(crate) fn write_record(home: &Path, record: &HoldRecord) -> Result<()> {
    write_json(&home.join(RECORD), record)
}

pub(crate) fn remove_record(home: &Path) -> Result<()> {
    remove(&home.join(RECORD))
}

/// Machines whose guests may be waiting.
pub(crate) fn all_held(folder: &Folder) -> Result<Vec<(InstanceName, PathBuf)>> {
    let machines = folder.path().join("machines");
    let mut held = Vec::new();
    for entry in std::fs::read_dir(&machines).map_err(|error| crate::folder::at(&machines, &error))? {
        let home = entry.map_err(|error| crate::folder::at(&machines, &error))?.path();
        if home.join(RECORD).exists()
            && let Some(name) = home.file_name()
        {
            held.push((InstanceName::new(name.to_string_lossy()), home));
        }
    }
    Ok(held)
}

/// One attempt to let a guest go. Done twice it does no harm.
pub(crate) async fn let_go(home: &Path, thaw: bool, resume: bool) -> Result<()> {
    if resume {
        // A monitor of its own: the other one may be in the hands of somebody who does not move any more. Machines that
        // were started by an earlier version have only the one.
        let socket = if home.join(WATCH_SOCKET).exists() { WATCH_SOCKET } else { MACHINE_SOCKET };
        let mut qmp = Qmp::connect(home, socket).await?;
        // Stopped for another reason (a full disk, a panic) it is not ours to start.
        if qmp.execute("query-status", json!({})).await?["status"] == "paused" {
            qmp.execute("cont", json!({})).await?;
        }
    }
    if thaw {
        guest::thaw_once(home, limits::GUEST_CALL).await?;
    }
    Ok(())
}

/// What is left of a hold after one more attempt to end it.
#[derive(Debug)]
pub(crate) enum Left {
    Nothing,
    /// It was held until now.
    Ended(HoldRecord),
    /// It may still be held.
    Still(HoldRecord),
    /// Another agent is in the middle of it.
    Theirs(ProcessId),
}

/// Ends what an earlier cut left behind, if it did. The caller has the turn of the machine's guest agent.
pub(crate) async fn end_left(home: &Path) -> Result<Left> {
    let Some(mut record) = record_of(home)? else { return Ok(Left::Nothing) };
    if let Some(other) = record.agent.filter(|agent| Some(*agent) != ProcessId::own() && agent.is_alive()) {
        return Ok(Left::Theirs(other));
    }
    if machine_process(home).await == Some(record.machine)
        && let Err(failure) = let_go(home, record.thaw, record.resume).await
    {
        record.tries = record.tries.saturating_add(1);
        record.said = failure.message;
        // To go on trying matters more than to remember how often.
        if let Err(failure) = write_record(home, &record) {
            tracing::warn!(%failure, "a guest that is still held cannot be noted down again");
        }
        return Ok(Left::Still(record));
    }
    // It has nothing left to do, and must not come between the next freeze and its thaw.
    dismiss_watchdog(&record).await?;
    remove_record(home)?;
    Ok(Left::Ended(record))
}

async fn dismiss_watchdog(record: &HoldRecord) -> Result<()> {
    match record.watchdog {
        Some(watchdog) => watchdog.kill().await,
        None => Ok(()),
    }
}

/// One guest on its way through a cut.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) instance: InstanceName,
    home: PathBuf,
    /// It is to be frozen.
    freeze: bool,
    /// It is to be stopped when it cannot be frozen.
    stop: bool,
    /// The freeze was confirmed.
    pub(crate) frozen: bool,
    /// The freeze was over before we ended it.
    pub(crate) thawed_early: bool,
    /// Its processors stand still, by our doing or by somebody else's.
    still: bool,
    thaw_owed: bool,
    resume_owed: bool,
    /// An earlier cut froze it, and it has not thawed since.
    inherited: Option<HoldRecord>,
    /// What is written down of this cut.
    record: Option<HoldRecord>,
    pub(crate) notes: Vec<String>,
}

impl Hold {
    /// Nothing to hold: the machine is off.
    pub(crate) fn none(instance: &InstanceName, home: &Path) -> Self {
        Self {
            instance: instance.clone(),
            home: home.to_owned(),
            freeze: false,
            stop: false,
            frozen: false,
            thawed_early: false,
            still: false,
            thaw_owed: false,
            resume_owed: false,
            inherited: None,
            record: None,
            notes: Vec::new(),
        }
    }

    /// Looks how the guest stands, while it still runs.
    pub(crate) async fn prepare(order: &CutOrder, instance: &InstanceName, host: &mut Host) -> Result<Self> {
        let mut hold = Self::none(instance, host.folder());
        hold.stop = order.hold;
        match end_left(host.folder()).await? {
            Left::Nothing => {}
            Left::Ended(before) => hold.notes.push(before.words(instance, "was held until now")),
            Left::Still(before) => {
                hold.notes.push(before.words(instance, "may still be held"));
                hold.inherited = Some(before);
            }
            Left::Theirs(other) => {
                let message = format!("another agent (process {}) is making a cut of `{instance}`", other.pid);
                return Err(Failure::refused(message).help("one site has one agent: end the other one"));
            }
        }
        if order.consistency == muster_ports::Consistency::App && hold.inherited.is_none() {
            match Self::can_freeze(host).await {
                Ok(()) => hold.freeze = true,
                Err(failure) => hold.notes.push(format!("`{instance}` cannot be frozen: {failure}")),
            }
        }
        Ok(hold)
    }

    async fn can_freeze(host: &mut Host) -> Result<()> {
        let status = status(host).await?;
        if status != "running" {
            return Err(Failure::permanent(format!("it is not running (QEMU says `{status}`)")));
        }
        if guest::is_frozen(host.folder(), limits::GUEST_GLANCE).await? {
            return Err(Failure::permanent("somebody else has frozen it"));
        }
        Ok(())
    }

    pub(crate) fn may_wait(&self) -> bool {
        self.freeze || self.stop
    }

    /// There is nobody to watch over it: it runs on through the cut.
    pub(crate) fn give_up(&mut self, why: &Failure) {
        if self.freeze {
            self.notes.push(format!("`{}` cannot be frozen: {why}", self.instance));
        }
        (self.freeze, self.stop) = (false, false);
    }

    /// Writes down that the guest may be held from now on.
    pub(crate) async fn note_down(&mut self, record: HoldRecord, watch: &Watch) -> Result<()> {
        let mut record = HoldRecord { thaw: self.freeze, resume: self.stop, ..record };
        if let Some(before) = &mut self.inherited {
            // The new watchdog takes over what the old one had to do.
            dismiss_watchdog(before).await?;
            before.watchdog = record.watchdog;
            let (thaw, resume) = (before.thaw || record.thaw, before.resume || record.resume);
            record = HoldRecord { thaw, resume, ..before.clone() };
            before.tell(&self.instance, watch).await?;
        }
        write_record(&self.home, &record)?;
        self.record = Some(record);
        Ok(())
    }

    /// Makes the guest wait. What is owed to it is noted before it is done: what was given up in the middle may still
    /// happen.
    pub(crate) async fn begin(&mut self, limit: Duration, host: &mut Host, watch: Option<&Watch>) -> Result<()> {
        // Whoever may wait has a watchdog; see the caller.
        let Some(watch) = watch.filter(|_| self.may_wait()) else { return Ok(()) };
        if self.freeze {
            watch.tell(&Word::Freezing { instance: self.instance.clone() }).await?;
            self.thaw_owed = true;
            match guest::freeze(&self.home, limit).await {
                Ok(_) => {
                    self.frozen = true;
                    return Ok(());
                }
                Err(failure) => self.notes.push(format!("`{}` could not be frozen: {failure}", self.instance)),
            }
            // An agent that answers this has nothing of ours left to do. One that does not may freeze at any time: it
            // is thawed after the cut, for as long as that takes.
            self.thaw_owed = guest::thaw_once(&self.home, limits::GUEST_GLANCE).await.is_err();
        }
        if self.stop { self.stop(host, watch).await } else { Ok(()) }
    }

    async fn stop(&mut self, host: &mut Host, watch: &Watch) -> Result<()> {
        self.still = true;
        if status(host).await? != "running" {
            return Ok(());
        }
        watch.tell(&Word::Stopping { instance: self.instance.clone() }).await?;
        self.resume_owed = true;
        host.execute("stop", json!({})).await.map(drop)
    }

    /// After the transaction: did it stand still all the time? Nobody but a person or the watchdog starts it.
    pub(crate) async fn check(&self, host: &mut Host) -> Result<()> {
        if self.still && status(host).await? == "running" {
            let message = format!("`{}` was started by somebody in the middle of the cut", self.instance);
            return Err(Failure::transient(message).help("the next cut is made as usual"));
        }
        Ok(())
    }

    /// Lets the guest go. A failure leaves it to the agent, which tries again.
    pub(crate) async fn end(&mut self, host: &mut Host, watch: Option<&Watch>) -> Result<()> {
        let Some(watch) = watch.filter(|_| self.may_wait()) else { return Ok(()) };
        if self.resume_owed {
            host.execute("cont", json!({})).await?;
            self.resume_owed = false;
        }
        if self.thaw_owed {
            self.thaw().await?;
        }
        let late = self.record.clone().filter(|_| self.thaw_owed);
        let late = late.map(|record| HoldRecord { thaw: true, resume: false, ..record });
        // That the watchdog has gone is no concern any more: there is nothing left for it to do.
        let _ = watch.tell(&Word::Released { instance: self.instance.clone() }).await;
        match self.inherited.clone().or(late) {
            Some(left) => {
                write_record(&self.home, &left)?;
                left.tell(&self.instance, watch).await
            }
            None => remove_record(&self.home),
        }
    }

    async fn thaw(&mut self) -> Result<()> {
        if self.frozen {
            let lasted = guest::thaw(&self.home).await?;
            if !lasted {
                (self.frozen, self.thawed_early) = (false, true);
                self.notes.push(format!("`{}` was thawed by somebody before the cut was done", self.instance));
            }
        } else if let Err(failure) = guest::thaw_once(&self.home, limits::GUEST_CALL).await {
            // The cut did not build on the freeze, so it stands. The freeze may still come.
            let instance = &self.instance;
            self.notes.push(format!("`{instance}` may still freeze, and is thawed as soon as it answers: {failure}"));
            return Ok(());
        }
        self.thaw_owed = false;
        Ok(())
    }
}

impl HoldRecord {
    pub(crate) fn new(order: &CutOrder, machine: ProcessId, watchdog: ProcessId, since: Timestamp) -> Self {
        let (barrier, said) = (order.barrier.clone(), String::new());
        let (agent, watchdog) = (ProcessId::own(), Some(watchdog));
        Self { barrier, machine, since, thaw: false, resume: false, agent, watchdog, tries: 0, said }
    }

    async fn tell(&self, instance: &InstanceName, watch: &Watch) -> Result<()> {
        if self.thaw {
            watch.tell(&Word::Freezing { instance: instance.clone() }).await?;
        }
        if self.resume {
            watch.tell(&Word::Stopping { instance: instance.clone() }).await?;
        }
        Ok(())
    }

    fn words(&self, instance: &InstanceName, how: &str) -> String {
        let tries = match self.tries {
            0 => String::new(),
            1 => format!("; to let it go failed once: {}", self.said),
            tries => format!("; to let it go failed {tries} times, last: {}", self.said),
        };
        format!("the guest of `{instance}` {how}, since the cut `{}`{tries}", self.barrier)
    }
}

async fn status(host: &mut Host) -> Result<String> {
    let answer = host.execute("query-status", json!({})).await?;
    Ok(answer["status"].as_str().unwrap_or("unknown").to_owned())
}
