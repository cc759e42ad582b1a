//! One kind of hypervisor, seen from beside it. Implemented by `engine/provider-*`; called only by the site agent.

use crate::*;
use async_trait::async_trait;

fn no_disk_files() -> Failure {
    Failure::permanent("this site does not reach files on disks")
        .help("change the file in the running guest: `needs = [guest]` and `m.put(path, text)`")
}

/// Drives one site's hypervisor.
///
/// Every effect is convergent: asked twice with the same arguments it does the work once and succeeds twice.
/// State that must outlive the agent's process (definitions, fences, labels, tracking bases) is kept by the provider in
/// the site's folder. Nothing is started by itself when the agent starts.
#[async_trait]
pub trait Provider: Send + Sync + std::fmt::Debug {
    async fn facts(&self) -> Result<SiteFacts>;
    async fn inventory(&self) -> Result<Vec<MachineFacts>>;

    /// All instances, clones of drills included.
    async fn instances(&self) -> Result<Vec<InstanceState>>;
    /// Makes the instance exist, powered off, with these disks. `Refused` if one of that name exists with another `muster.key`.
    async fn define(&self, shape: &MachineShape) -> Result<()>;
    /// Removes the instance; with `disks`, the disks too. Succeeds when it does not exist. `Refused` while it is on.
    async fn undefine(&self, instance: &InstanceName, disks: bool) -> Result<()>;
    /// Returns when the machine has power, not when it has booted. `Refused` while fenced.
    async fn start(&self, instance: &InstanceName) -> Result<()>;
    /// Returns when the machine is off and its disks are on stable storage.
    async fn stop(&self, instance: &InstanceName, mode: StopMode) -> Result<()>;
    /// Cuts the power and refuses any start until unfenced; survives restarts of the agent. Works on unknown instances.
    async fn fence(&self, instance: &InstanceName) -> Result<()>;
    async fn unfence(&self, instance: &InstanceName) -> Result<()>;

    /// Makes the live networks exist.
    async fn ensure_networks(&self, networks: &[NetworkShape]) -> Result<()>;
    async fn create_bubble(&self, bubble: &BubbleShape) -> Result<()>;
    /// `Refused` while a machine is on in it. Succeeds when it does not exist.
    async fn discard_bubble(&self, bubble: &BubbleId) -> Result<()>;
    async fn bubbles(&self) -> Result<Vec<BubbleId>>;
    async fn probe(&self, scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer>;

    async fn guest_ping(&self, instance: &InstanceName) -> Result<()>;
    async fn guest_exec(&self, instance: &InstanceName, command: &GuestCommand) -> Result<GuestOutput>;
    /// Runs a command in a guest over SSH, from inside the scope's network. The guest's host key is checked. Not convergent,
    /// as [`guest_exec`](Self::guest_exec) is not.
    async fn guest_shell(&self, _scope: &NetworkScope, _order: &ShellOrder) -> Result<GuestOutput> {
        Err(Failure::permanent("this site does not run commands over SSH").help(
            "`muster status` shows what each site can do; give the guest an agent, and the hook `needs = [guest]`",
        ))
    }
    /// What a file on the first disk of an instance holds; `None` when there is none. `Refused` while the machine is on.
    /// Also what tells whether [`disk_write`](Self::disk_write) has happened.
    async fn disk_read(&self, _instance: &InstanceName, _path: &str) -> Result<Option<String>> {
        Err(no_disk_files())
    }
    /// Makes a file on the first disk of an instance hold this; the folder is there already, owner and mode of a file that
    /// is there stay. On stable storage when it returns, and still tracked for the way home. `Refused` while the machine
    /// is on.
    async fn disk_write(&self, _instance: &InstanceName, _path: &str, _text: &Concealed) -> Result<()> {
        Err(no_disk_files())
    }
    /// What the machine has printed on its console, the last `bytes` of it.
    async fn console(&self, instance: &InstanceName, bytes: u64) -> Result<String>;

    /// Freezes the moment. The cut's disks stay readable until it is settled. A machine that is off is cut as it lies.
    async fn cut(&self, order: &CutOrder) -> Result<CutReport>;
    /// Opens a disk of an open cut. With `changed_only`, extents not changed since the base are `Unchanged`.
    async fn open_cut(
        &self,
        barrier: &BarrierId,
        machine: &MachineName,
        disk: &DiskName,
        changed_only: bool,
    ) -> Result<Box<dyn BlockSource>>;
    /// Ends a cut. Succeeds when it is already ended or was never made.
    async fn settle(&self, barrier: &BarrierId, outcome: CutOutcome) -> Result<()>;
    /// Stops tracking and forgets all bases of the instance.
    async fn untrack(&self, instance: &InstanceName) -> Result<()>;

    /// Opens a disk of a machine that is off, to compare and write it in place; makes it (zeroes) if it is not there.
    /// The answer's second part says whether it was already there. Forgets all tracking bases of the disk.
    async fn open_disk(
        &self,
        instance: &InstanceName,
        disk: &DiskName,
        size_bytes: u64,
    ) -> Result<(Box<dyn BlockTarget>, bool)>;
    /// Copies what is still missing from the export below the overlays of a running or stopped instance, then cuts the
    /// tie. Returns when no disk needs its export any more.
    async fn hydrate(&self, instance: &InstanceName, progress: &dyn Progress) -> Result<()>;
}
