//! The provider itself: each verb checks, changes the small world, makes it durable and writes down what it did.

use crate::disk::{CutDisk, OpenDisk};
use crate::faults::*;
use crate::folder::{Folder, check_name};
use crate::image::{self, Verdict};
use crate::site::{Machine, MachineRecord, Shared, lock};
use crate::witness::PowerWitness;
use async_trait::async_trait;
use muster_ports::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A simulated site. Clones are the same site.
#[derive(Clone, Debug)]
pub struct SimulatedProvider {
    pub(crate) shared: Arc<Shared>,
}

impl SimulatedProvider {
    /// Everything in memory; an empty site.
    pub fn in_memory(site: SiteName, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self> {
        Ok(Self { shared: Arc::new(Shared::new(site, None, clock, random)?) })
    }

    /// Over a site folder with raw images, made when it is not there. Every machine is found off: it ran in the process
    /// that had the folder before. Refused while another process has it open.
    pub fn open(site: SiteName, folder: &Path, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self> {
        let folder = Folder::open(folder)?;
        Ok(Self { shared: Arc::new(Shared::new(site, Some(folder), clock, random)?) })
    }

    pub fn site(&self) -> &SiteName {
        &self.shared.site
    }
    pub fn set_timing(&self, timing: Timing) {
        *lock(&self.shared.timing) = timing;
    }
    /// From now on calls fail by this plan.
    pub fn set_faults(&self, plan: FaultPlan) {
        lock(&self.shared.chance).replace(plan);
    }
    /// How often each fault was drawn so far, over all plans of faults.
    pub fn faults_drawn(&self) -> BTreeMap<Fault, u64> {
        lock(&self.shared.chance).counts().clone()
    }
    /// The next call of that class gets this fault; several queue up.
    pub fn fail_next(&self, class: CallClass, fault: Fault) {
        lock(&self.shared.chance).queue(class, fault);
    }
    /// Cut off from the engine; its machines run on.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }
    /// Guests started from now on write by themselves (the default), or only in [`step_guests`](Self::step_guests).
    pub fn set_guests_run(&self, run: bool) {
        self.shared.guests_run.store(run, Ordering::SeqCst);
    }
    /// Machines that are on answer every probe and carry out every command, whatever runs in them: for rehearsals of
    /// plans, whose services nobody has here. An address that is no machine's answers when any machine is on, as that of
    /// a cluster would.
    pub fn set_obliging(&self, obliging: bool) {
        self.shared.obliging.store(obliging, Ordering::SeqCst);
    }
    /// What obliging guests print for a command in which the text is found; the first that fits. Any other command
    /// succeeds in silence.
    pub fn set_replies(&self, replies: Vec<(String, GuestOutput)>) {
        *lock(&self.shared.replies) = replies;
    }
    /// What is on already has been seen, too.
    pub fn set_witness(&self, witness: PowerWitness) {
        self.live_machines_on().iter().for_each(|machine| witness.on(machine, self.site()));
        *lock(&self.shared.witness) = Some(witness);
    }

    /// Lets every booted guest whose I/O is not held take one step, in the order of the names.
    pub fn step_guests(&self) {
        let now = self.shared.clock.now();
        let guests: Vec<_> = {
            let state = self.shared.state();
            let booted = state.machines.iter().filter_map(|(name, machine)| {
                Some((name.clone(), Arc::clone(&machine.io), Arc::clone(machine.guest(now)?)))
            });
            booted.collect()
        };
        for (name, io, guest) in guests {
            if let Ok(_io) = io.try_read() {
                self.shared.step_guest(&name, &guest);
            }
        }
    }

    /// Kills the process a machine runs in: power is gone, and so is what the tracker knew.
    pub fn kill(&self, instance: &InstanceName) -> Result<()> {
        let killed = self.shared.power_off(instance, false)?;
        let state = self.shared.state();
        if killed {
            for disk in state.disks_of(instance).values() {
                disk.lose("the machine's process was killed, and its change map with it");
            }
        }
        self.shared.remove_tracks(&state, instance)
    }

    /// Kills every machine and cuts the site off, as a fire would. [`set_down`](Self::set_down) brings it back.
    pub fn kill_site(&self) -> Result<()> {
        self.set_down(true);
        let names: Vec<_> = self.shared.state().machines.keys().cloned().collect();
        names.iter().try_for_each(|instance| self.kill(instance))
    }

    /// Every effect so far, in order.
    pub fn effects(&self) -> Vec<Effect> {
        lock(&self.shared.effects).clone()
    }

    pub fn live_machines_on(&self) -> Vec<MachineName> {
        let state = self.shared.state();
        let on = |machine: &&Machine| machine.running.is_some() && machine.record.scope == NetworkScope::Live;
        state.machines.values().filter(on).map(|machine| machine.record.machine.clone()).collect()
    }

    /// Reads a disk as it lies now, past all guests and cuts: for checks and for tests.
    pub fn read_disk(&self, instance: &InstanceName, disk: &DiskName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk(instance, disk)?.read(offset, buffer)
    }
    /// Writes a disk past its guest, tracked like any write: for tests.
    pub fn write_disk(&self, instance: &InstanceName, disk: &DiskName, offset: u64, data: &[u8]) -> Result<()> {
        self.disk(instance, disk)?.write(offset, data)
    }
    pub fn disk_size(&self, instance: &InstanceName, disk: &DiskName) -> Result<u64> {
        Ok(self.disk(instance, disk)?.size())
    }
    /// Checks a disk as it lies now.
    pub fn check(&self, instance: &InstanceName, disk: &DiskName) -> Result<Verdict> {
        let disk = self.disk(instance, disk)?;
        image::check_disk(disk.size(), |offset, buffer| disk.read(offset, buffer))
    }

    fn disk(&self, instance: &InstanceName, disk: &DiskName) -> Result<Arc<crate::disk::Disk>> {
        let state = self.shared.state();
        state
            .disks
            .get(&(instance.clone(), disk.clone()))
            .cloned()
            .ok_or_else(|| Failure::permanent(format!("`{instance}` has no disk `{disk}` at `{}`", self.site())))
    }

    fn define_now(&self, shape: &MachineShape) -> Result<()> {
        check_name("machine", shape.instance.as_str())?;
        let key = shape.labels.get("muster.key").map(EffectKey::new);
        if let Some(there) = self.shared.state().machines.get(&shape.instance) {
            if there.key() == key {
                self.shared.effect(CallClass::Define, shape.instance.as_str(), key, false);
                return Ok(());
            }
            return Err(Failure::refused(format!("a machine `{}` exists that this step did not make", shape.instance))
                .help("undefine it first; its disks can stay"));
        }
        self.shared.check_scope(shape)?;
        let mut state = self.shared.state();
        for disk in &shape.disks {
            let found = state.disks.get(&(shape.instance.clone(), disk.name.clone())).cloned();
            let disk = match (&disk.backing, found) {
                (DiskBacking::Export { .. }, _) => {
                    return Err(Failure::permanent("a simulated site cannot run a machine from an export")
                        .help("land it in full: its capability `instant_recovery` says so"));
                }
                (DiskBacking::Blank, _) => {
                    self.shared.make_disk(&mut state, &shape.instance, &disk.name, disk.size_bytes)?
                }
                (DiskBacking::Existing, Some(found)) if found.size() == disk.size_bytes => found,
                (DiskBacking::Existing, Some(found)) => {
                    return Err(Failure::permanent(format!(
                        "the disk `{}` of `{}` has {} bytes, not {}",
                        disk.name,
                        shape.instance,
                        found.size(),
                        disk.size_bytes
                    )));
                }
                (DiskBacking::Existing, None) => {
                    return Err(Failure::permanent(format!("`{}` has no disk `{}` here", shape.instance, disk.name))
                        .help("land the machine in full"));
                }
            };
            if let Some(barrier) = &shape.track_from {
                disk.track_from(barrier);
            }
        }
        self.shared.save_tracks(&state, &shape.instance)?;
        let machine = Machine::new(record_of(shape));
        self.shared.save_machine(&shape.instance, &machine)?;
        state.machines.insert(shape.instance.clone(), machine);
        drop(state);
        self.shared.effect(CallClass::Define, shape.instance.as_str(), key, true);
        Ok(())
    }

    fn undefine_now(&self, instance: &InstanceName, disks: bool) -> Result<()> {
        let mut state = self.shared.state();
        if state.machines.get(instance).is_some_and(|machine| machine.running.is_some()) {
            return Err(Failure::refused(format!("the machine `{instance}` is on")).help("stop it first"));
        }
        let names: Vec<_> = state.disks_of(instance).into_keys().collect();
        let removed = state.machines.remove(instance);
        if let Some(folder) = &self.shared.folder {
            folder.remove_machine(instance)?;
        }
        let changed = removed.is_some() || (disks && !names.is_empty());
        if disks {
            for name in names {
                if let Some(folder) = &self.shared.folder {
                    folder.remove_disk(instance, &name)?;
                }
                state.disks.remove(&(instance.clone(), name));
            }
        }
        drop(state);
        let key = removed.and_then(|machine| machine.key());
        self.shared.effect(CallClass::Undefine, instance.as_str(), key, changed);
        Ok(())
    }

    async fn stop_now(&self, instance: &InstanceName, mode: StopMode) -> Result<()> {
        let (on, guest, key) = {
            let state = self.shared.state();
            let machine = state.machine(instance)?;
            (machine.running.is_some(), machine.guest(self.shared.clock.now()).is_some(), machine.key())
        };
        let orderly = matches!(mode, StopMode::Orderly { .. });
        if let StopMode::Orderly { within } = mode
            && on
        {
            let takes = lock(&self.shared.timing).shutdown;
            if !guest || takes > within {
                self.shared.clock.sleep(within).await;
                return Err(Failure::timeout(format!(
                    "`{instance}` has not shut down within {} ms",
                    within.as_millis()
                ))
                .help("its guest does not react; stop it hard, or look at its console"));
            }
            self.shared.clock.sleep(takes).await;
        }
        let changed = self.shared.power_off(instance, orderly)?;
        self.shared.effect(CallClass::Stop, instance.as_str(), key, changed);
        Ok(())
    }

    fn fence_now(&self, instance: &InstanceName) -> Result<()> {
        check_name("machine", instance.as_str())?;
        let mut state = self.shared.state();
        // The fence is durable before the power goes, so that nothing can start in between.
        let changed = state.record.fences.insert(instance.clone());
        self.shared.save_site(&state)?;
        drop(state);
        let off = self.shared.power_off(instance, false)?;
        self.shared.effect(CallClass::Fence, instance.as_str(), None, changed || off);
        Ok(())
    }

    fn open_disk_now(
        &self,
        instance: &InstanceName,
        name: &DiskName,
        size_bytes: u64,
    ) -> Result<(Box<dyn BlockTarget>, bool)> {
        let mut state = self.shared.state();
        if state.machines.get(instance).is_some_and(|machine| machine.running.is_some()) {
            return Err(Failure::refused(format!("the machine `{instance}` is on; its disks cannot be written"))
                .help("stop it first"));
        }
        let found = state.disks.get(&(instance.clone(), name.clone())).cloned();
        let there = found.is_some();
        let disk = match found {
            Some(disk) if disk.size() > size_bytes => {
                return Err(Failure::permanent(format!(
                    "the disk `{name}` of `{instance}` has {} bytes, more than the {size_bytes} wanted; nothing is cut off",
                    disk.size()
                ))
                .help("undefine the machine with its disks, then land it in full"));
            }
            Some(disk) => {
                if disk.size() < size_bytes {
                    disk.grow(size_bytes)?;
                }
                disk
            }
            None => self.shared.make_disk(&mut state, instance, name, size_bytes)?,
        };
        // Whatever was cut here is about to be overwritten; a cut left open by a lost engine goes with it.
        disk.lose("the disk was written by a landing");
        self.shared.remove_tracks(&state, instance)?;
        drop(state);
        self.shared.effect(CallClass::OpenDisk, format!("{instance}/{name}"), None, !there);
        Ok((Box::new(OpenDisk::new(disk)), there))
    }

    /// Its machine is on: that is all there is to it.
    fn oblige(&self, instance: &InstanceName, command: Option<&GuestCommand>) -> Result<GuestOutput> {
        let state = self.shared.state();
        let machine = state.machine(instance)?;
        if machine.running.is_none() {
            return Err(Failure::transient(format!("the machine `{instance}` is off")));
        }
        let key = machine.key();
        drop(state);
        let silence = GuestOutput { code: 0, out: String::new(), err: String::new() };
        let Some(command) = command else { return Ok(silence) };
        let words = format!("{} {}", command.program, command.arguments.join(" "));
        self.shared.effect(CallClass::Guest, format!("{instance}: {words}").trim_end(), key, true);
        let replies = lock(&self.shared.replies);
        Ok(replies.iter().find(|(part, _)| words.contains(part)).map_or(silence, |(_, output)| output.clone()))
    }

    fn guest(&self, instance: &InstanceName) -> Result<Arc<crate::guest::Guest>> {
        let state = self.shared.state();
        let machine = state.machine(instance)?;
        match (machine.guest(self.shared.clock.now()), &machine.running) {
            (Some(guest), _) => Ok(Arc::clone(guest)),
            (None, Some(_)) => Err(Failure::transient(format!("the guest of `{instance}` does not answer"))),
            (None, None) => Err(Failure::transient(format!("the machine `{instance}` is off"))),
        }
    }

    fn facts_of(&self, state: &crate::site::State, instance: &InstanceName, machine: &Machine) -> MachineFacts {
        let boots = machine.record.disks.first().and_then(|first| {
            let disk = state.disks.get(&(instance.clone(), first.name.clone()))?;
            image::read_program(&|at, buffer: &mut [u8]| disk.read(at, buffer)).ok().flatten()
        });
        MachineFacts {
            name: machine.record.machine.clone(),
            cpus: machine.record.cpus,
            memory_bytes: machine.record.memory_bytes,
            disks: machine.record.disks.clone(),
            nics: machine.record.nics.clone(),
            power: machine.record.power,
            guest_agent: boots.is_some(),
            churn_bytes_per_second: 0,
            churn: None,
            containers: std::collections::BTreeMap::new(),
            tags: Vec::new(),
        }
    }
}

fn record_of(shape: &MachineShape) -> MachineRecord {
    let facts = |disk: &DiskShape| DiskFacts { name: disk.name.clone(), size_bytes: disk.size_bytes };
    MachineRecord {
        machine: shape.machine.clone(),
        cpus: shape.cpus,
        memory_bytes: shape.memory_bytes,
        disks: shape.disks.iter().map(facts).collect(),
        nics: shape.nics.clone(),
        scope: shape.scope.clone(),
        labels: shape.labels.clone(),
        power: Power::Off,
    }
}

#[async_trait]
impl Provider for SimulatedProvider {
    async fn facts(&self) -> Result<SiteFacts> {
        let disks = if self.shared.folder.is_some() { "raw image files" } else { "disks in memory" };
        let facts = SiteFacts {
            site: self.shared.site.clone(),
            provider: "simulated".to_owned(),
            detail: format!("simulated machines, {disks}"),
            capabilities: Capabilities {
                planned_shutdown: true,
                power_fencing: true,
                host_tracking: true,
                app_consistency: true,
                instant_recovery: false,
                bubbles: true,
                // An obliging site stands for any kind of site, and some have networks for tests.
                test_networks: self.shared.obliging.load(Ordering::SeqCst),
                guest_ssh: true,
                disk_files: true,
            },
        };
        self.shared.call(CallClass::Look, async { Ok(facts) }).await
    }

    async fn inventory(&self) -> Result<Vec<MachineFacts>> {
        let look = async {
            let state = self.shared.state();
            let live = state.machines.iter().filter(|(_, machine)| machine.record.scope == NetworkScope::Live);
            Ok(live.map(|(instance, machine)| self.facts_of(&state, instance, machine)).collect())
        };
        self.shared.call(CallClass::Look, look).await
    }

    async fn instances(&self) -> Result<Vec<InstanceState>> {
        let look = async {
            let state = self.shared.state();
            let seen = state.machines.iter().map(|(instance, machine)| InstanceState {
                instance: instance.clone(),
                machine: machine.record.machine.clone(),
                power: machine.record.power,
                fenced: state.record.fences.contains(instance),
                tied: false,
                scope: machine.record.scope.clone(),
                nics: machine.record.nics.clone(),
                labels: machine.record.labels.clone(),
            });
            Ok(seen.collect())
        };
        self.shared.call(CallClass::Look, look).await
    }

    async fn define(&self, shape: &MachineShape) -> Result<()> {
        self.shared.call(CallClass::Define, async { self.define_now(shape) }).await
    }

    async fn undefine(&self, instance: &InstanceName, disks: bool) -> Result<()> {
        self.shared.call(CallClass::Undefine, async { self.undefine_now(instance, disks) }).await
    }

    async fn start(&self, instance: &InstanceName) -> Result<()> {
        let start = async {
            let changed = self.shared.power_on(instance)?;
            let key = self.shared.state().machine(instance)?.key();
            self.shared.effect(CallClass::Start, instance.as_str(), key, changed);
            Ok(())
        };
        self.shared.call(CallClass::Start, start).await
    }

    async fn stop(&self, instance: &InstanceName, mode: StopMode) -> Result<()> {
        self.shared.call(CallClass::Stop, self.stop_now(instance, mode)).await
    }

    async fn fence(&self, instance: &InstanceName) -> Result<()> {
        self.shared.call(CallClass::Fence, async { self.fence_now(instance) }).await
    }

    async fn unfence(&self, instance: &InstanceName) -> Result<()> {
        let unfence = async {
            let mut state = self.shared.state();
            let changed = state.record.fences.remove(instance);
            self.shared.save_site(&state)?;
            drop(state);
            self.shared.effect(CallClass::Unfence, instance.as_str(), None, changed);
            Ok(())
        };
        self.shared.call(CallClass::Unfence, unfence).await
    }

    async fn ensure_networks(&self, networks: &[NetworkShape]) -> Result<()> {
        self.shared.call(CallClass::Network, async { self.shared.ensure_networks(networks) }).await
    }
    async fn create_bubble(&self, bubble: &BubbleShape) -> Result<()> {
        self.shared.call(CallClass::Network, async { self.shared.create_bubble(bubble) }).await
    }
    async fn discard_bubble(&self, bubble: &BubbleId) -> Result<()> {
        self.shared.call(CallClass::Network, async { self.shared.discard_bubble(bubble) }).await
    }
    async fn bubbles(&self) -> Result<Vec<BubbleId>> {
        let look = async { Ok(self.shared.state().record.bubbles.keys().cloned().collect()) };
        self.shared.call(CallClass::Look, look).await
    }
    async fn probe(&self, scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer> {
        self.shared.call(CallClass::Probe, async { self.shared.probe(scope, probe) }).await
    }

    async fn guest_ping(&self, instance: &InstanceName) -> Result<()> {
        if self.shared.obliging.load(Ordering::SeqCst) {
            return self.shared.call(CallClass::Guest, async { self.oblige(instance, None).map(drop) }).await;
        }
        self.shared.call(CallClass::Guest, async { self.guest(instance).map(|_| ()) }).await
    }

    async fn guest_exec(&self, instance: &InstanceName, command: &GuestCommand) -> Result<GuestOutput> {
        if self.shared.obliging.load(Ordering::SeqCst) {
            return self.shared.call(CallClass::Guest, async { self.oblige(instance, Some(command)) }).await;
        }
        let exec = async {
            let guest = self.guest(instance)?;
            let (io, key) = {
                let state = self.shared.state();
                let machine = state.machine(instance)?;
                (Arc::clone(&machine.io), machine.key())
            };
            let _io = io.read().await;
            let output = guest.exec(&command.program, &command.arguments)?;
            let subject = format!("{instance}: {} {}", command.program, command.arguments.join(" "));
            self.shared.effect(CallClass::Guest, subject.trim_end(), key, true);
            Ok(output)
        };
        self.shared.call(CallClass::Guest, exec).await
    }

    /// Whoever has that address runs the command as if its agent had been asked; there are no keys to check.
    async fn guest_shell(&self, scope: &NetworkScope, order: &ShellOrder) -> Result<GuestOutput> {
        let found = self.instances().await?.into_iter().find(|found| {
            found.scope == *scope && found.nics.iter().any(|nic| nic.ip == Some(order.ip)) && found.power == Power::On
        });
        let found = found.ok_or_else(|| Failure::transient(format!("{} does not answer", order.ip)))?;
        self.guest_exec(&found.instance, &order.command).await
    }

    async fn disk_read(&self, instance: &InstanceName, path: &str) -> Result<Option<String>> {
        self.shared.call(CallClass::Look, async { self.read_file(instance, path) }).await
    }

    async fn disk_write(&self, instance: &InstanceName, path: &str, text: &Concealed) -> Result<()> {
        self.shared.call(CallClass::OpenDisk, async { self.write_file(instance, path, text.reveal()) }).await
    }

    async fn console(&self, instance: &InstanceName, bytes: u64) -> Result<String> {
        let look = async {
            let state = self.shared.state();
            let text = &state.machine(instance)?.console;
            let mut from = text.len().saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
            while !text.is_char_boundary(from) {
                from += 1;
            }
            Ok(text[from..].to_owned())
        };
        self.shared.call(CallClass::Look, look).await
    }

    async fn cut(&self, order: &CutOrder) -> Result<CutReport> {
        self.shared.call(CallClass::Cut, self.shared.cut(order)).await
    }

    async fn open_cut(
        &self,
        barrier: &BarrierId,
        machine: &MachineName,
        disk: &DiskName,
        changed_only: bool,
    ) -> Result<Box<dyn BlockSource>> {
        let open = async {
            let state = self.shared.state();
            let (_, instances) = state.cuts.get(barrier).ok_or_else(|| {
                Failure::permanent(format!("there is no open cut `{barrier}` at `{}`", self.shared.site))
                    .help("it was settled, or the site was restarted; the next cycle cuts again")
            })?;
            let instance = instances
                .get(machine)
                .ok_or_else(|| Failure::permanent(format!("the cut `{barrier}` has no machine `{machine}`")))?;
            let found = state.disks.get(&(instance.clone(), disk.clone())).cloned();
            let found =
                found.ok_or_else(|| Failure::permanent(format!("`{machine}` has no disk `{disk}` in the cut")))?;
            Ok(Box::new(CutDisk::open(found, barrier, changed_only)?) as Box<dyn BlockSource>)
        };
        self.shared.call(CallClass::OpenCut, open).await
    }

    async fn settle(&self, barrier: &BarrierId, outcome: CutOutcome) -> Result<()> {
        self.shared.call(CallClass::Settle, async { self.shared.settle(barrier, outcome) }).await
    }

    async fn untrack(&self, instance: &InstanceName) -> Result<()> {
        let untrack = async {
            let state = self.shared.state();
            for disk in state.disks_of(instance).values() {
                disk.forget_base("tracking was stopped");
            }
            self.shared.remove_tracks(&state, instance)?;
            drop(state);
            self.shared.effect(CallClass::Untrack, instance.as_str(), None, true);
            Ok(())
        };
        self.shared.call(CallClass::Untrack, untrack).await
    }

    async fn open_disk(
        &self,
        instance: &InstanceName,
        disk: &DiskName,
        size_bytes: u64,
    ) -> Result<(Box<dyn BlockTarget>, bool)> {
        self.shared.call(CallClass::OpenDisk, async { self.open_disk_now(instance, disk, size_bytes) }).await
    }

    async fn hydrate(&self, instance: &InstanceName, progress: &dyn Progress) -> Result<()> {
        let hydrate = async {
            self.shared.state().machine(instance)?;
            progress.report(0, Some(0));
            self.shared.effect(CallClass::Hydrate, instance.as_str(), None, false);
            Ok(())
        };
        self.shared.call(CallClass::Hydrate, hydrate).await
    }
}
