//! Drives one site of plain QEMU machines: no daemon, no library, a folder and the processes it names.
//!
//! ```text
//!   agent -> QemuProvider -> QMP   qemu-system          a machine that is on
//!                         -> QMP   qemu-storage-daemon  the disks of one that is off
//!                         -> QGA   guest agent          ping, exec, freeze, shut down
//!                         -> NBD   cuts, landings
//!                         -> ip, dnsmasq                networks and bubbles
//! ```
//!
//! The agent, and so this code, runs inside the site's network namespace. Machines are processes of their own session:
//! they outlive the agent, and the next one finds them by pid files (number and start time) and monitor sockets.
//! Changes are tracked by QEMU's persistent dirty bitmaps, named after barriers; [`cut`] has the rules for believing them.
//!
//! A guest that waits for a cut is let go whatever dies: the `hold` module has the rules, the `watchdog` module the
//! process that is started for it.
//!
//! Not here: snapshots inside images, live migration, passthrough devices, firmware other than SeaBIOS, IPv6 addresses
//! by DHCP.
//!
//! Architecture invariant: all state is in the site's folder and in the processes; this value can be dropped at any moment.

mod accel;
mod cut;
mod define;
mod disk;
mod files;
mod folder;
mod guest;
mod hold;
mod host;
mod hydrate;
mod keeper;
mod limits;
mod network;
mod power;
mod probe;
mod process;
mod qmp;
mod shell;
mod socket;
mod source;
mod watchdog;

pub use watchdog::{Watchdog, keep_watch};

use async_trait::async_trait;
use folder::{Folder, MachineRecord, SiteRecord};
use host::machine_process;
use muster_nbd::{BASE_ALLOCATION, Client, bitmap_context};
use muster_ports::*;
use serde_json::json;
use socket::SocketPath;
use source::{CutDisk, lost};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Mutex as Turn, Notify, OwnedMutexGuard};
use tokio::task::AbortHandle;

/// One site of QEMU machines.
#[derive(Debug)]
pub struct QemuProvider {
    site: SiteName,
    folder: Folder,
    clock: Arc<dyn Clock>,
    /// One operation on a machine at a time; its disks have one owner.
    machines: Turns,
    /// One call to a guest agent at a time; it serves one client.
    guests: Turns,
    /// Cuts and settlements take turns: each may involve several machines.
    cuts: Turn<()>,
    networks: Turn<()>,
    /// What was written when it was last looked, for the rate of change.
    written: Mutex<BTreeMap<InstanceName, (Timestamp, u64)>>,
    watchdog: Watchdog,
    /// Tells the keeper that a cut is over, and may have left a guest behind.
    left: Arc<Notify>,
    keeper: Mutex<Option<AbortHandle>>,
}

impl Drop for QemuProvider {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper.take() {
            keeper.abort();
        }
    }
}

#[derive(Debug, Default)]
struct Turns(Mutex<BTreeMap<InstanceName, Arc<Turn<()>>>>);

impl Turns {
    fn of(&self, instance: &InstanceName) -> Arc<Turn<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(instance.clone()).or_default())
    }
    async fn take(&self, instance: &InstanceName) -> OwnedMutexGuard<()> {
        self.of(instance).lock_owned().await
    }
    fn try_take(&self, instance: &InstanceName) -> Option<OwnedMutexGuard<()>> {
        self.of(instance).try_lock_owned().ok()
    }
}

impl QemuProvider {
    /// Opens a site's folder, making it where it is new. Inside a tokio runtime, guests that a killed agent left waiting
    /// are let go in the background; no machine is started. `watchdog` is started for every cut that makes guests wait.
    pub fn open(site: SiteName, folder: PathBuf, clock: Arc<dyn Clock>, watchdog: Watchdog) -> Result<Arc<Self>> {
        let folder = Folder::open(&folder, &site)?;
        let provider = Arc::new(Self {
            site,
            folder,
            clock,
            machines: Turns::default(),
            guests: Turns::default(),
            cuts: Turn::new(()),
            networks: Turn::new(()),
            written: Mutex::default(),
            watchdog,
            left: Arc::default(),
            keeper: Mutex::default(),
        });
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let keeper = runtime.spawn(keeper::keep(Arc::downgrade(&provider), Arc::clone(&provider.left)));
            *provider.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper.abort_handle());
        }
        Ok(provider)
    }

    fn is_fenced(&self, instance: &InstanceName) -> bool {
        self.folder.fence(instance).exists()
    }

    async fn take_all(&self, instances: impl IntoIterator<Item = InstanceName>) -> Vec<OwnedMutexGuard<()>> {
        // In one order, so that nobody waits in a ring.
        let sorted: BTreeSet<InstanceName> = instances.into_iter().collect();
        let mut turns = Vec::new();
        for instance in &sorted {
            turns.push(self.machines.take(instance).await);
        }
        turns
    }

    async fn glance(&self, record: &MachineRecord) -> Result<MachineFacts> {
        let home = self.folder.machine(&record.instance)?;
        let process = machine_process(&home).await;
        let mut guest_agent = record.guest_agent;
        if process.is_some() {
            let _turn = self.guests.take(&record.instance).await;
            guest_agent = guest::ping(&home, limits::GUEST_GLANCE).await.is_ok();
        }
        let churn_bytes_per_second = if process.is_some() { self.churn(record).await.unwrap_or(0) } else { 0 };
        let disks = record
            .disks
            .iter()
            .map(|disk| DiskFacts { name: disk.name.clone(), size_bytes: disk.size_bytes })
            .collect();
        Ok(MachineFacts {
            name: record.machine.clone(),
            cpus: record.cpus,
            memory_bytes: record.memory_bytes,
            disks,
            nics: record.nics.clone(),
            power: if process.is_some() { Power::On } else { Power::Off },
            guest_agent,
            churn_bytes_per_second,
            churn: None,
            containers: BTreeMap::new(),
            tags: Vec::new(),
        })
    }

    /// Mean of what was written a second since the last look.
    async fn churn(&self, record: &MachineRecord) -> Result<u64> {
        let _turn = self.machines.take(&record.instance).await;
        let mut host = host::reach(&self.folder, record).await?;
        if host.attended {
            host::dismiss_attendant(host.folder()).await?;
            return Ok(0);
        }
        let stats = host.execute("query-blockstats", json!({})).await?;
        let written = stats.as_array().into_iter().flatten();
        let written: u64 = written.filter_map(|disk| disk["stats"]["wr_bytes"].as_u64()).sum();
        let now = self.clock.now();
        let mut all = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.insert(record.instance.clone(), (now, written));
        let Some((then, before)) = before else { return Ok(0) };
        let millis = u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX);
        Ok(written.saturating_sub(before).saturating_mul(1000).checked_div(millis).unwrap_or(0))
    }

    /// Settles every open cut that shares a machine with the order: committed when the order builds on it, else abandoned.
    async fn settle_before(&self, order: &CutOrder) -> Result<Option<CutReport>> {
        for open in cut::open_cuts(&self.folder)? {
            let shared = order.members.iter().filter(|member| open.has(&member.instance)).collect::<Vec<_>>();
            if shared.is_empty() && *open.barrier() != order.barrier {
                continue;
            }
            if open.order == *order && open.holds_all() && open.report.is_some() {
                return Ok(open.report);
            }
            let built_upon = shared.iter().any(|member| member.base.as_ref() == Some(open.barrier()));
            let outcome = if built_upon { CutOutcome::Committed } else { CutOutcome::Abandoned };
            let _turns = self.take_all(open.members.iter().map(|member| member.instance.clone())).await;
            cut::settle(&self.folder, &open, outcome).await?;
        }
        Ok(None)
    }

    /// The caller holds the machine's turn.
    async fn start_in_turn(&self, instance: &InstanceName) -> Result<()> {
        let fenced = || {
            Failure::refused(format!("`{instance}` is fenced at the site `{}`", self.site))
                .help("unfence it once it is certain that no other copy of it runs")
        };
        if self.is_fenced(instance) {
            return Err(fenced());
        }
        let mut record = self.folder.known(instance)?;
        let started = {
            let _networks = self.networks.lock().await;
            power::start(&self.folder, &mut record).await
        };
        // A fence that came while it was starting has looked for a process before there was one.
        if self.is_fenced(instance) {
            let home = self.folder.machine(instance)?;
            power::cut_power(&home, limits::KILL).await?;
            return Err(fenced());
        }
        started
    }

    /// Waits for the machine to go down, without holding its turn: it can still be fenced or cut meanwhile.
    async fn stop_orderly(&self, instance: &InstanceName, within: std::time::Duration) -> Result<()> {
        let home = self.folder.machine(instance)?;
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let process = {
                let _turn = self.machines.take(instance).await;
                let _guest = self.guests.take(instance).await;
                power::ask_down(&home).await?
            };
            let Some(process) = process else { return Ok(()) };
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            // A guest that is still booting has heard nothing: it is asked again.
            if process.gone_within(left.min(limits::ASK_DOWN_AGAIN)).await {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Failure::timeout(format!("`{instance}` has not shut down within {} s", within.as_secs()))
                    .help("it is still on; stop it hard, or give it more time"));
            }
        }
    }
}

#[async_trait]
impl Provider for QemuProvider {
    async fn facts(&self) -> Result<SiteFacts> {
        let accel = accel::find(self.folder.path()).await?;
        let capabilities = Capabilities {
            planned_shutdown: true,
            power_fencing: true,
            host_tracking: true,
            app_consistency: true,
            instant_recovery: true,
            bubbles: true,
            test_networks: false,
            guest_ssh: shell::is_here(),
            disk_files: files::are_here().await,
        };
        Ok(SiteFacts { site: self.site.clone(), provider: "qemu".to_owned(), detail: accel.detail, capabilities })
    }

    async fn inventory(&self) -> Result<Vec<MachineFacts>> {
        let records = self.folder.records()?;
        let live = records.iter().filter(|record| record.instance == InstanceName::live(&record.machine));
        let mut found = Vec::new();
        for (record, outcome) in
            live.clone().zip(futures::future::join_all(live.map(|record| self.glance(record))).await)
        {
            let facts = outcome?;
            if facts.guest_agent && !record.guest_agent {
                // Remembered for the time when it is off; a record that changed meanwhile is asked again next time.
                let _turn = self.machines.take(&record.instance).await;
                if let Some(mut now) = self.folder.record(&record.instance)? {
                    now.guest_agent = true;
                    self.folder.write_record(&now)?;
                }
            }
            found.push(facts);
        }
        Ok(found)
    }

    async fn instances(&self) -> Result<Vec<InstanceState>> {
        let mut states = Vec::new();
        for record in self.folder.records()? {
            let on = host::is_on(&self.folder, &record.instance).await?;
            states.push(InstanceState {
                power: if on { Power::On } else { Power::Off },
                fenced: self.is_fenced(&record.instance),
                tied: record.is_tied(),
                instance: record.instance,
                machine: record.machine,
                scope: record.scope,
                nics: record.nics,
                labels: record.labels,
            });
        }
        Ok(states)
    }

    async fn define(&self, shape: &MachineShape) -> Result<()> {
        let _turn = self.machines.take(&shape.instance).await;
        define::define(&self.folder, shape)
            .await
            .map_err(|failure| failure.during(format!("define `{}`", shape.instance)))
    }

    async fn undefine(&self, instance: &InstanceName, disks: bool) -> Result<()> {
        let _turn = self.machines.take(instance).await;
        if host::is_on(&self.folder, instance).await? {
            return Err(Failure::refused(format!("`{instance}` is on and cannot be removed")).help("stop it first"));
        }
        define::undefine(&self.folder, instance, disks).await
    }

    async fn start(&self, instance: &InstanceName) -> Result<()> {
        let _turn = self.machines.take(instance).await;
        self.start_in_turn(instance).await
    }

    async fn stop(&self, instance: &InstanceName, mode: StopMode) -> Result<()> {
        if let StopMode::Orderly { within } = mode {
            self.stop_orderly(instance, within).await?;
        }
        let _turn = self.machines.take(instance).await;
        let home = self.folder.machine(instance)?;
        if mode == StopMode::Hard {
            power::cut_power(&home, limits::QUIT).await?;
        }
        power::tidy(&self.folder, instance).await
    }

    async fn fence(&self, instance: &InstanceName) -> Result<()> {
        let home = self.folder.machine(instance)?;
        let since = json!({ "instance": instance, "since": self.clock.now() });
        folder::write_json(&self.folder.fence(instance), &since)?;
        // Not in turn: whoever has it may be waiting for the very machine that has to go.
        power::cut_power(&home, limits::KILL).await?;
        let _turn = self.machines.take(instance).await;
        power::cut_power(&home, limits::KILL).await?;
        if home.is_dir() { power::tidy(&self.folder, instance).await } else { Ok(()) }
    }

    async fn unfence(&self, instance: &InstanceName) -> Result<()> {
        folder::remove(&self.folder.fence(instance))
    }

    async fn ensure_networks(&self, networks: &[NetworkShape]) -> Result<()> {
        network::check_networks(networks)?;
        let _turn = self.networks.lock().await;
        let mut site = self.folder.site()?.unwrap_or_else(|| SiteRecord::new(&self.site));
        for network in networks {
            match site.networks.iter_mut().find(|known| known.name == network.name) {
                Some(known) if known.cidr == network.cidr => {}
                Some(known) => {
                    return Err(Failure::diverged(format!(
                        "the network `{}` is {} at this site, not {}",
                        network.name, known.cidr, network.cidr
                    ))
                    .help("rename one of them, or change the site's network by hand"));
                }
                None => site.networks.push(network.clone()),
            }
        }
        self.folder.write_site(&site)?;
        network::ensure(&self.folder, &NetworkScope::Live).await.map(drop)
    }

    async fn create_bubble(&self, bubble: &BubbleShape) -> Result<()> {
        let _turn = self.networks.lock().await;
        network::create_bubble(&self.folder, bubble).await
    }

    async fn discard_bubble(&self, bubble: &BubbleId) -> Result<()> {
        let _turn = self.networks.lock().await;
        let scope = NetworkScope::Bubble { bubble: bubble.clone() };
        for record in self.folder.records()?.iter().filter(|record| record.scope == scope) {
            if host::is_on(&self.folder, &record.instance).await? {
                return Err(Failure::refused(format!("`{}` is on in the bubble `{bubble}`", record.instance))
                    .help("stop the drill's machines first"));
            }
        }
        network::discard_bubble(&self.folder, bubble).await
    }

    async fn bubbles(&self) -> Result<Vec<BubbleId>> {
        network::bubbles(&self.folder)
    }

    async fn probe(&self, scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer> {
        probe::ask(network::namespace_of(&self.folder, scope)?, probe.clone()).await
    }

    async fn guest_ping(&self, instance: &InstanceName) -> Result<()> {
        let home = self.home_of_running(instance).await?;
        let _turn = self.guests.take(instance).await;
        guest::ping(&home, limits::GUEST_CALL).await
    }

    async fn guest_exec(&self, instance: &InstanceName, command: &GuestCommand) -> Result<GuestOutput> {
        let home = self.home_of_running(instance).await?;
        let deadline = self.clock.now().plus(command.within);
        let pid = {
            let _turn = self.guests.take(instance).await;
            guest::spawn(&home, command).await?
        };
        // Between looks others may speak with the agent: a cut must not wait for somebody's long command.
        loop {
            let looked = {
                let _turn = self.guests.take(instance).await;
                guest::look(&home, pid).await
            };
            match looked {
                Ok(Some(output)) => return Ok(output),
                Err(failure) if !failure.is_retryable() => return Err(failure),
                _ if self.clock.now() >= deadline => {
                    return Err(Failure::timeout(format!(
                        "`{}` in `{instance}` has not ended within {} s",
                        command.program,
                        command.within.as_secs()
                    ))
                    .help("it may still run in the guest"));
                }
                _ => tokio::time::sleep(limits::LOOK_SLOW).await,
            }
        }
    }

    async fn guest_shell(&self, scope: &NetworkScope, order: &ShellOrder) -> Result<GuestOutput> {
        shell::run(network::namespace_of(&self.folder, scope)?, order).await
    }

    async fn disk_read(&self, instance: &InstanceName, path: &str) -> Result<Option<String>> {
        self.with_disks_at_rest(instance, path, async |home, record, host| files::read(home, record, path, host).await)
            .await
    }

    async fn disk_write(&self, instance: &InstanceName, path: &str, text: &Concealed) -> Result<()> {
        let text = text.reveal();
        let write =
            async |home: &Path, record: &MachineRecord, host| files::write(home, record, path, text, host).await;
        self.with_disks_at_rest(instance, path, write).await
    }

    async fn console(&self, instance: &InstanceName, bytes: u64) -> Result<String> {
        self.folder.known(instance)?;
        let path = self.folder.machine(instance)?.join(power::CONSOLE);
        read_tail(&path, bytes.min(limits::CONSOLE_ANSWER_BYTES))
    }

    async fn cut(&self, order: &CutOrder) -> Result<CutReport> {
        let _turn = self.cuts.lock().await;
        if let Some(report) = self.settle_before(order).await? {
            return Ok(report);
        }
        let members = order.members.iter().map(|member| member.instance.clone());
        let turns = self.take_all(members.clone()).await;
        // The agents' turns too: nobody's question may stand between a freeze and its thaw.
        let mut guests = Vec::new();
        for instance in members.collect::<BTreeSet<_>>() {
            guests.push(self.guests.take(&instance).await);
        }
        let place = cut::Place { folder: &self.folder, clock: &*self.clock, watchdog: &self.watchdog };
        let made = cut::make(place, order).await;
        drop((turns, guests));
        self.left.notify_one();
        made
    }

    async fn open_cut(
        &self,
        barrier: &BarrierId,
        machine: &MachineName,
        disk: &DiskName,
        changed_only: bool,
    ) -> Result<Box<dyn BlockSource>> {
        let missing = |what: String| Failure::permanent(format!("{what} `{barrier}`")).help("cut again");
        let cut = cut::read(&self.folder, barrier)?.filter(|cut| cut.report.is_some());
        let cut = cut.ok_or_else(|| missing("there is no open cut".to_owned()))?;
        let member = cut.members.iter().find(|member| member.machine == *machine);
        let member = member.ok_or_else(|| missing(format!("`{machine}` is not in the cut")))?;
        let found = member.disks.iter().find(|found| found.name == *disk);
        let found = found.ok_or_else(|| missing(format!("`{machine}` has no disk `{disk}` in the cut")))?;
        let gone = || lost(&format!("`{machine}`, disk `{disk}`, cut `{barrier}`"));
        let holder = member.holder.filter(|holder| holder.is_alive()).ok_or_else(gone)?;
        let changed = match (&found.changed, changed_only) {
            (_, false) => None,
            (Some(bitmap), true) => Some(bitmap_context(bitmap)),
            (None, true) => {
                return Err(Failure::refused(format!("changes of `{machine}`, disk `{disk}`, are not known"))
                    .help("read the whole disk, or compare it with the last point"));
            }
        };
        let socket = SocketPath::new(&self.folder.machine(&member.instance)?, cut::NBD_SOCKET)?;
        let contexts: Vec<&str> = std::iter::once(BASE_ALLOCATION).chain(changed.as_deref()).collect();
        let client = Client::connect_unix(socket.path(), &found.id, &contexts).await;
        let client = client.map_err(|failure| if holder.is_alive() { failure } else { gone() })?;
        Ok(Box::new(CutDisk { client, changed, holder }))
    }

    async fn settle(&self, barrier: &BarrierId, outcome: CutOutcome) -> Result<()> {
        let _turn = self.cuts.lock().await;
        let Some(cut) = cut::read(&self.folder, barrier)? else { return Ok(()) };
        let _turns = self.take_all(cut.members.iter().map(|member| member.instance.clone())).await;
        cut::settle(&self.folder, &cut, outcome).await
    }

    async fn untrack(&self, instance: &InstanceName) -> Result<()> {
        let _turn = self.cuts.lock().await;
        for open in cut::open_cuts(&self.folder)?.iter().filter(|open| open.has(instance)) {
            let _turns = self.take_all(open.members.iter().map(|member| member.instance.clone())).await;
            cut::settle(&self.folder, open, CutOutcome::Abandoned).await?;
        }
        let _machine = self.machines.take(instance).await;
        match self.folder.record(instance)? {
            Some(record) => cut::forget(&self.folder, &record).await,
            None => Ok(()),
        }
    }

    async fn open_disk(
        &self,
        instance: &InstanceName,
        disk: &DiskName,
        size_bytes: u64,
    ) -> Result<(Box<dyn BlockTarget>, bool)> {
        let _turn = self.machines.take(instance).await;
        let (open, was_there) = define::open_disk(&self.folder, instance, disk, size_bytes)
            .await
            .map_err(|failure| failure.during(format!("open the disk `{disk}` of `{instance}`")))?;
        Ok((Box::new(open), was_there))
    }

    async fn hydrate(&self, instance: &InstanceName, progress: &dyn Progress) -> Result<()> {
        loop {
            let stage = {
                let _turn = self.machines.take(instance).await;
                hydrate::step(&self.folder, instance).await?
            };
            match stage {
                hydrate::Stage::Done => return Ok(()),
                hydrate::Stage::Copying { done, total } => hydrate::tell(progress, done, total).await,
            }
        }
    }
}

impl QemuProvider {
    /// Works on the disks of a machine that is off.
    async fn with_disks_at_rest<T>(
        &self,
        instance: &InstanceName,
        path: &str,
        work: impl AsyncFnOnce(&Path, &MachineRecord, host::Host) -> Result<T>,
    ) -> Result<T> {
        let _turn = self.machines.take(instance).await;
        let record = self.folder.known(instance)?;
        let home = self.folder.machine(instance)?;
        if host::is_on(&self.folder, instance).await? {
            return Err(Failure::refused(format!("`{instance}` is on: its disk is not changed beside it"))
                .help("work in the guest: `needs = [guest]` and `m.put(path, text)`"));
        }
        let others_too = host::attendant(&home).is_some();
        let host = host::reach(&self.folder, &record).await?;
        let done = work(&home, &record, host).await;
        if !others_too {
            // It stores what it has tracked before it goes. One that an open cut needs does so when that is settled.
            host::dismiss_attendant(&home).await?;
        }
        done.map_err(|failure| failure.during(format!("`{path}` on the disk of `{instance}`")))
    }

    async fn home_of_running(&self, instance: &InstanceName) -> Result<PathBuf> {
        self.folder.known(instance)?;
        let home = self.folder.machine(instance)?;
        match machine_process(&home).await {
            Some(_) => Ok(home),
            None => Err(Failure::transient(format!("`{instance}` is off: its guest cannot be asked"))),
        }
    }
}

fn read_tail(path: &Path, bytes: u64) -> Result<String> {
    let mut file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        other => other.map_err(|error| folder::at(path, &error))?,
    };
    let mut text = Vec::new();
    let length = file.metadata().map_err(|error| folder::at(path, &error))?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))
        .and_then(|_| file.take(bytes).read_to_end(&mut text))
        .map_err(|error| folder::at(path, &error))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
