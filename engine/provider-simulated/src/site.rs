//! The state of a site, and what every call goes through.

use crate::disk::{Base, Disk};
use crate::faults::*;
use crate::folder::{Folder, check_name, was_on};
use crate::guest::Guest;
use crate::medium::Medium;
use crate::witness::PowerWitness;
use muster_ports::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio::task::AbortHandle;

/// What a console keeps; older text is dropped.
const CONSOLE_BYTES: usize = 64 * 1024;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MachineRecord {
    pub(crate) machine: MachineName,
    #[serde(default = "one")]
    pub(crate) cpus: u32,
    #[serde(default)]
    pub(crate) memory_bytes: u64,
    pub(crate) disks: Vec<DiskFacts>,
    #[serde(default)]
    pub(crate) nics: Vec<NicShape>,
    #[serde(default = "live")]
    pub(crate) scope: NetworkScope,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default = "off")]
    pub(crate) power: Power,
}

fn one() -> u32 {
    1
}
fn live() -> NetworkScope {
    NetworkScope::Live
}
fn off() -> Power {
    Power::Off
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SiteRecord {
    #[serde(default)]
    pub(crate) fences: BTreeSet<InstanceName>,
    #[serde(default)]
    pub(crate) networks: BTreeMap<NetworkName, NetworkShape>,
    #[serde(default)]
    pub(crate) bubbles: BTreeMap<BubbleId, BubbleShape>,
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) record: MachineRecord,
    pub(crate) running: Option<Running>,
    /// Held for reading by a guest that writes, for writing by a cut.
    pub(crate) io: Arc<RwLock<()>>,
    pub(crate) console: String,
}

#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) booted_at: Timestamp,
    pub(crate) guest: Option<Arc<Guest>>,
    pub(crate) task: Option<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Machine {
    pub(crate) fn new(record: MachineRecord) -> Self {
        Self { record, running: None, io: Arc::new(RwLock::new(())), console: String::new() }
    }
    pub(crate) fn key(&self) -> Option<EffectKey> {
        self.record.labels.get("muster.key").map(EffectKey::new)
    }
    pub(crate) fn say(&mut self, now: Timestamp, line: &str) {
        self.console.push_str(&format!("[{}] {line}\n", now.as_millis()));
        if self.console.len() > CONSOLE_BYTES {
            let mut cut = self.console.len() - CONSOLE_BYTES;
            while !self.console.is_char_boundary(cut) {
                cut += 1;
            }
            self.console.drain(..cut);
        }
    }
    /// The guest, once it has booted.
    pub(crate) fn guest(&self, now: Timestamp) -> Option<&Arc<Guest>> {
        self.running.as_ref().filter(|running| running.booted_at <= now).and_then(|running| running.guest.as_ref())
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) machines: BTreeMap<InstanceName, Machine>,
    /// Disks outlive the definition of their machine.
    pub(crate) disks: BTreeMap<(InstanceName, DiskName), Arc<Disk>>,
    pub(crate) record: SiteRecord,
    /// Open cuts: what was reported, and which instance stood for which machine.
    pub(crate) cuts: BTreeMap<BarrierId, (CutReport, BTreeMap<MachineName, InstanceName>)>,
}

impl State {
    pub(crate) fn machine(&self, instance: &InstanceName) -> Result<&Machine> {
        self.machines.get(instance).ok_or_else(|| no_such(instance, &self.machines))
    }
    pub(crate) fn machine_mut(&mut self, instance: &InstanceName) -> Result<&mut Machine> {
        if !self.machines.contains_key(instance) {
            return Err(no_such(instance, &self.machines));
        }
        self.machines.get_mut(instance).ok_or_else(|| Failure::permanent(format!("there is no machine `{instance}`")))
    }
    pub(crate) fn disks_of(&self, instance: &InstanceName) -> BTreeMap<DiskName, Arc<Disk>> {
        let mine = self.disks.iter().filter(|((of, _), _)| of == instance);
        mine.map(|((_, name), disk)| (name.clone(), Arc::clone(disk))).collect()
    }
    /// The machine that is on, in that scope, with that address.
    pub(crate) fn at_address(&self, scope: &NetworkScope, ip: std::net::IpAddr) -> Option<&Machine> {
        self.machines.values().find(|machine| {
            machine.running.is_some()
                && machine.record.scope == *scope
                && machine.record.nics.iter().any(|nic| nic.ip == Some(ip))
        })
    }
}

fn no_such(instance: &InstanceName, machines: &BTreeMap<InstanceName, Machine>) -> Failure {
    let there = machines.keys().map(InstanceName::as_str).collect::<Vec<_>>().join(", ");
    let there = if there.is_empty() { "it has none".to_owned() } else { format!("it has {there}") };
    Failure::permanent(format!("there is no machine `{instance}` at this site ({there})"))
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) site: SiteName,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) folder: Option<Folder>,
    pub(crate) timing: Mutex<Timing>,
    pub(crate) chance: Mutex<Chance>,
    pub(crate) effects: Mutex<Vec<Effect>>,
    pub(crate) down: AtomicBool,
    /// Guests run by themselves; otherwise only when a test says so.
    pub(crate) guests_run: AtomicBool,
    /// Whoever is asked says yes.
    pub(crate) obliging: AtomicBool,
    /// What obliging guests print, by a part of the command.
    pub(crate) replies: Mutex<Vec<(String, GuestOutput)>>,
    pub(crate) witness: Mutex<Option<PowerWitness>>,
    state: Mutex<State>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        site: SiteName,
        folder: Option<Folder>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self> {
        let state = match &folder {
            Some(folder) => load(folder)?,
            None => State::default(),
        };
        Ok(Self {
            site,
            clock,
            random,
            folder,
            timing: Mutex::default(),
            chance: Mutex::new(Chance::new(FaultPlan::none())),
            effects: Mutex::default(),
            down: AtomicBool::new(false),
            guests_run: AtomicBool::new(true),
            obliging: AtomicBool::new(false),
            replies: Mutex::default(),
            witness: Mutex::default(),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn reachable(&self) -> Result<()> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Failure::transient(format!("the site `{}` cannot be reached", self.site)));
        }
        Ok(())
    }

    /// One call: reachability, its time, its fault, the work, and the way back.
    pub(crate) async fn call<T>(&self, class: CallClass, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.reachable()?;
        let fault = lock(&self.chance).draw(class);
        let mut takes = lock(&self.timing).calls.get(&class).copied().unwrap_or_default();
        if fault == Some(Fault::Slow) {
            takes += lock(&self.chance).slow_by();
        }
        if !takes.is_zero() {
            self.clock.sleep(takes).await;
            self.reachable()?;
        }
        if let Some(failure) = fault.and_then(|fault| fault.before(class)) {
            return Err(failure);
        }
        let answer = work.await?;
        self.reachable()?;
        if fault == Some(Fault::LostReply) {
            return Err(Failure::timeout(format!("the answer was lost on the way (injected fault, {class:?})")));
        }
        Ok(answer)
    }

    pub(crate) fn effect(&self, class: CallClass, subject: impl Into<String>, key: Option<EffectKey>, changed: bool) {
        let effect = Effect { at: self.clock.now(), class, subject: subject.into(), key, changed };
        lock(&self.effects).push(effect);
    }

    pub(crate) fn save_site(&self, state: &State) -> Result<()> {
        self.folder.as_ref().map_or(Ok(()), |folder| folder.save_site(&state.record))
    }
    pub(crate) fn save_machine(&self, instance: &InstanceName, machine: &Machine) -> Result<()> {
        self.folder.as_ref().map_or(Ok(()), |folder| folder.save_machine(instance, &machine.record))
    }
    pub(crate) fn save_tracks(&self, state: &State, instance: &InstanceName) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        state.disks_of(instance).iter().try_for_each(|(name, disk)| folder.save_track(instance, name, disk))
    }
    pub(crate) fn remove_tracks(&self, state: &State, instance: &InstanceName) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        state.disks_of(instance).keys().try_for_each(|name| folder.remove_track(instance, name))
    }

    /// A new disk of zeroes in place of whatever was there.
    pub(crate) fn make_disk(
        &self,
        state: &mut State,
        instance: &InstanceName,
        name: &DiskName,
        size: u64,
    ) -> Result<Arc<Disk>> {
        check_name("machine", instance.as_str())?;
        check_name("disk", name.as_str())?;
        if size == 0 || !size.is_multiple_of(512) {
            return Err(Failure::permanent(format!("a disk of {size} bytes cannot be; sizes are multiples of 512")));
        }
        let medium = match &self.folder {
            Some(folder) => {
                folder.remove_track(instance, name)?;
                folder.create_disk(instance, name, size)?
            }
            None => Medium::memory(),
        };
        let base = Base::Lost("the disk was not tracked".to_owned());
        let disk = Disk::new(format!("{instance}/{name}"), medium, size, base, None);
        state.disks.insert((instance.clone(), name.clone()), Arc::clone(&disk));
        Ok(disk)
    }

    pub(crate) fn witness(&self, machine: &Machine, on: bool) {
        if machine.record.scope != NetworkScope::Live {
            return;
        }
        if let Some(witness) = &*lock(&self.witness) {
            if on {
                witness.on(&machine.record.machine, &self.site);
            } else {
                witness.off(&machine.record.machine, &self.site);
            }
        }
    }

    /// Gives a machine power. Its change maps are now only in memory.
    pub(crate) fn power_on(self: &Arc<Self>, instance: &InstanceName) -> Result<bool> {
        let now = self.clock.now();
        let boot = lock(&self.timing).boot;
        let mut state = self.state();
        if state.record.fences.contains(instance) {
            return Err(Failure::refused(format!("the machine `{instance}` is fenced at `{}`", self.site))
                .help("it runs elsewhere or may; unfence it only when that is over"));
        }
        let disks = state.disks_of(instance);
        if let Some(name) = disks.iter().find(|(_, disk)| disk.is_open_for_writing()).map(|(name, _)| name) {
            return Err(Failure::refused(format!("the disk `{name}` of `{instance}` is being written by a landing")));
        }
        if state.machine(instance)?.running.is_some() {
            return Ok(false);
        }
        self.remove_tracks(&state, instance)?;
        let machine = state.machine_mut(instance)?;
        machine.record.power = Power::On;
        self.save_machine(instance, machine)?;
        let booted_at = now.plus(boot);
        machine.say(now, "power on");
        let guest = match Guest::boot(&disks, machine.record.disks.first().map(|disk| &disk.name)) {
            Ok(Some(guest)) => {
                machine.say(booted_at, &format!("booted, last record {}", guest.last()));
                Some(Arc::new(guest))
            }
            Ok(None) => {
                machine.say(booted_at, "no bootable device");
                None
            }
            Err(failure) => {
                machine.say(booted_at, &format!("boot failed: {}", failure.message));
                None
            }
        };
        let task = guest.as_ref().filter(|_| self.guests_run.load(Ordering::SeqCst)).map(|guest| {
            let life = run_guest(Arc::downgrade(self), instance.clone(), Arc::clone(guest), booted_at);
            tokio::spawn(life).abort_handle()
        });
        machine.running = Some(Running { booted_at, guest, task });
        self.witness(machine, true);
        Ok(true)
    }

    /// Takes the power. Change maps survive: the tracker sits below the guest.
    pub(crate) fn power_off(&self, instance: &InstanceName, orderly: bool) -> Result<bool> {
        let now = self.clock.now();
        let mut state = self.state();
        let Some(machine) = state.machines.get_mut(instance) else { return Ok(false) };
        let Some(running) = machine.running.take() else { return Ok(false) };
        if let Some(guest) = &running.guest {
            guest.halt(orderly)?;
        }
        machine.say(now, if orderly { "shut down" } else { "power cut" });
        machine.record.power = Power::Off;
        self.witness(machine, false);
        for disk in state.disks_of(instance).values() {
            disk.flush()?;
        }
        // Maps first: a record that says "off" promises that they are there.
        self.save_tracks(&state, instance)?;
        self.save_machine(instance, state.machine(instance)?)?;
        Ok(true)
    }

    /// What the upstream of a guest answers, seen from its network.
    pub(crate) fn ask_upstream(&self, scope: &NetworkScope, guest: &Guest) -> Option<u64> {
        let ip = guest.upstream()?;
        let state = self.state();
        let machine = state.at_address(scope, ip)?;
        machine.guest(self.clock.now()).map(|guest| guest.last())
    }

    pub(crate) fn scope_of(&self, instance: &InstanceName) -> Option<NetworkScope> {
        self.state().machines.get(instance).map(|machine| machine.record.scope.clone())
    }

    /// One step of a guest, unless its I/O is held. Says whether it ran.
    pub(crate) fn step_guest(&self, instance: &InstanceName, guest: &Guest) -> bool {
        let Some(scope) = self.scope_of(instance) else { return false };
        let cause = self.ask_upstream(&scope, guest);
        let now = self.clock.now();
        if let Err(failure) = guest.step(now, cause)
            && let Ok(machine) = self.state().machine_mut(instance)
        {
            machine.say(now, &format!("write failed: {}", failure.message));
        }
        true
    }
}

/// The life of a guest: a step every so often, held while a cut holds its machine's I/O.
async fn run_guest(shared: Weak<Shared>, instance: InstanceName, guest: Arc<Guest>, booted_at: Timestamp) {
    let every = Duration::from_millis(guest.program.every_millis.max(1));
    let Some((clock, io)) = shared.upgrade().and_then(|shared| {
        let io = shared.state().machines.get(&instance).map(|machine| Arc::clone(&machine.io))?;
        Some((Arc::clone(&shared.clock), io))
    }) else {
        return;
    };
    clock.sleep_until(booted_at).await;
    loop {
        clock.sleep(every).await;
        let _io = io.read().await;
        let Some(shared) = shared.upgrade() else { return };
        shared.step_guest(&instance, &guest);
    }
}

fn load(folder: &Folder) -> Result<State> {
    let mut state = State { record: folder.load_site()?, ..State::default() };
    for (instance, record) in folder.load_machines()? {
        for found in folder.load_disks(&instance, was_on(record.as_ref()))? {
            state.disks.insert((instance.clone(), found.name), found.disk);
        }
        let Some(mut record) = record else { continue };
        let mut killed = false;
        if record.power == Power::On {
            killed = true;
            record.power = Power::Off;
            folder.save_machine(&instance, &record)?;
        }
        let mut machine = Machine::new(record);
        if killed {
            machine.console.push_str("the machine's process was killed\n");
        }
        state.machines.insert(instance, machine);
    }
    Ok(state)
}
