//! Whoever has a machine's disks open: the machine itself while it is on, a storage daemon that stands in while it is
//! off. Both speak QMP and know the same block nodes, so cuts, bitmaps and hydration are written once.
//!
//! ```text
//!   on    qemu-system   qemu.pid       qmp.sock, watch.sock
//!   off   attendant     attendant.pid  attendant.sock    for a cut, a hydration; dismissed before the machine starts
//!   off   writer        writer-*.pid   writer-*.sock     one disk, writable, for a landing
//! ```

use crate::disk::blockdevs;
use crate::folder::{Folder, MachineRecord, at, remove};
use crate::limits;
use crate::process::{Namespace, ProcessId, from_file, launch, tail};
use crate::qmp::{Qmp, limited};
use muster_ports::{Failure, InstanceName, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tokio::time::sleep;

pub(crate) const MACHINE_PID: &str = "qemu.pid";
pub(crate) const MACHINE_SOCKET: &str = "qmp.sock";
/// A second monitor, for watchdogs: a monitor serves one client, and that one may not move any more.
pub(crate) const WATCH_SOCKET: &str = "watch.sock";
pub(crate) const MACHINE_LOG: &str = "qemu.log";
const ATTENDANT: &str = "attendant";

#[derive(Debug)]
pub(crate) struct Host {
    folder: PathBuf,
    socket: String,
    pub(crate) process: ProcessId,
    /// The machine is off and a storage daemon holds its disks.
    pub(crate) attended: bool,
    qmp: Option<Qmp>,
}

impl Host {
    fn new(folder: &Path, socket: &str, process: ProcessId, attended: bool) -> Self {
        Self { folder: folder.to_owned(), socket: socket.to_owned(), process, attended, qmp: None }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut qmp = match self.qmp.take() {
            Some(qmp) => qmp,
            None => Qmp::connect(&self.folder, &self.socket).await?,
        };
        let answer = qmp.execute(command, arguments).await;
        // A connection whose answer is still to come would give it to the next question.
        if !matches!(&answer, Err(failure) if failure.is_retryable()) {
            self.qmp = Some(qmp);
        }
        answer
    }

    /// Forgets the connection, for instance after a call that was given up in the middle.
    pub(crate) fn hang_up(&mut self) {
        self.qmp = None;
    }
}

/// The process of a machine that is on.
pub(crate) async fn machine_process(folder: &Path) -> Option<ProcessId> {
    if let Some(process) = from_file(&folder.join(MACHINE_PID)) {
        return Some(process);
    }
    // An agent that was killed between starting a machine and writing its number down finds it by its monitor.
    if !folder.join(MACHINE_SOCKET).exists() {
        return None;
    }
    let qmp = Qmp::connect(folder, MACHINE_SOCKET).await.ok()?;
    let process = qmp.pid().and_then(ProcessId::of)?;
    if let Err(failure) = crate::folder::write_json(&folder.join(MACHINE_PID), &process) {
        tracing::warn!(folder = %folder.display(), %failure, "a running machine was found and cannot be written down");
    }
    Some(process)
}

/// Who has the disks open; when nobody has, an attendant is called.
pub(crate) async fn reach(folder: &Folder, record: &MachineRecord) -> Result<Host> {
    let home = folder.machine(&record.instance)?;
    if let Some(process) = machine_process(&home).await {
        return Ok(Host::new(&home, MACHINE_SOCKET, process, false));
    }
    let socket = format!("{ATTENDANT}.sock");
    if let Some(process) = attendant(&home) {
        return Ok(Host::new(&home, &socket, process, true));
    }
    let nodes = record.disks.iter().enumerate().flat_map(|(index, disk)| blockdevs(&home, index, disk)).collect();
    let process = call_daemon(&home, ATTENDANT, nodes).await?;
    Ok(Host::new(&home, &socket, process, true))
}

/// A storage daemon that has one disk open to be written.
pub(crate) async fn call_writer(home: &Path, tag: &str, nodes: Vec<Value>) -> Result<Host> {
    let process = call_daemon(home, tag, nodes).await?;
    Ok(Host::new(home, &format!("{tag}.sock"), process, true))
}

async fn call_daemon(home: &Path, tag: &str, nodes: Vec<Value>) -> Result<ProcessId> {
    let socket = format!("{tag}.sock");
    remove(&home.join(&socket))?;
    let mut arguments = Vec::new();
    for node in nodes {
        arguments.extend(["--blockdev".to_owned(), node.to_string()]);
    }
    arguments.extend(["--chardev".to_owned(), format!("socket,id=monitor,path={socket},server=on,wait=off")]);
    arguments.extend(["--monitor".to_owned(), "chardev=monitor".to_owned()]);
    let log = format!("{tag}.log");
    let pid_file = home.join(format!("{tag}.pid"));
    let process = launch(Namespace::Own, home, &log, &pid_file, "qemu-storage-daemon", &arguments).await?;
    await_monitor(home, &socket, process, &log).await?;
    Ok(process)
}

/// Waits for the monitor of a process that was just started. A process that ends instead says why in its log.
pub(crate) async fn await_monitor(home: &Path, socket: &str, process: ProcessId, log: &str) -> Result<()> {
    let waiting = async {
        loop {
            if home.join(socket).exists() && Qmp::connect(home, socket).await.is_ok() {
                return Ok(());
            }
            if !process.is_alive() {
                let said = tail(&home.join(log));
                let failure = if said.contains("lock") { Failure::transient } else { Failure::permanent };
                return Err(failure(format!("QEMU ended at once: {said}")));
            }
            sleep(limits::LOOK).await;
        }
    };
    let outcome = limited(limits::START, "QEMU's monitor", waiting).await;
    if outcome.is_err() {
        process.kill().await?;
    }
    outcome
}

/// The attendant, when there is one.
pub(crate) fn attendant(home: &Path) -> Option<ProcessId> {
    from_file(&home.join(format!("{ATTENDANT}.pid")))
}

/// Sends the attendant away, if there is one. It stores bitmaps and flushes before it goes.
pub(crate) async fn dismiss_attendant(home: &Path) -> Result<()> {
    dismiss(&home.join(format!("{ATTENDANT}.pid"))).await
}

/// Sends everybody away who stands in for a machine that is off.
pub(crate) async fn dismiss_all(home: &Path) -> Result<()> {
    dismiss_attendant(home).await?;
    let Ok(entries) = fs::read_dir(home) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(|error| at(home, &error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("writer-") && name.ends_with(".pid") {
            dismiss(&entry.path()).await?;
        }
    }
    Ok(())
}

pub(crate) async fn dismiss(pid_file: &Path) -> Result<()> {
    if let Some(process) = from_file(pid_file) {
        process.end(limits::QUIT).await?;
    }
    remove(pid_file)
}

pub(crate) async fn is_on(folder: &Folder, instance: &InstanceName) -> Result<bool> {
    Ok(machine_process(&folder.machine(instance)?).await.is_some())
}

/// What a block node is like.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    pub(crate) size_bytes: u64,
    pub(crate) bitmaps: Vec<Bitmap>,
}

#[derive(Clone, Debug)]
pub(crate) struct Bitmap {
    pub(crate) name: String,
    pub(crate) dirty_bytes: u64,
    pub(crate) recording: bool,
    /// Its last user ended without storing it: what it says is not to be believed.
    pub(crate) inconsistent: bool,
}

impl NodeFacts {
    pub(crate) fn bitmap(&self, name: &str) -> Option<&Bitmap> {
        self.bitmaps.iter().find(|bitmap| bitmap.name == name)
    }
}

pub(crate) async fn nodes(host: &mut Host) -> Result<Vec<(String, NodeFacts)>> {
    let answer = host.execute("query-named-block-nodes", json!({ "flat": true })).await?;
    let nodes = answer.as_array().cloned().unwrap_or_default();
    let facts = |node: &Value| {
        let bitmaps = node["dirty-bitmaps"].as_array().cloned().unwrap_or_default();
        let bitmaps = bitmaps.iter().filter_map(|bitmap| {
            Some(Bitmap {
                name: bitmap["name"].as_str()?.to_owned(),
                dirty_bytes: bitmap["count"].as_u64().unwrap_or(0),
                recording: bitmap["recording"].as_bool().unwrap_or(false),
                inconsistent: bitmap["inconsistent"].as_bool().unwrap_or(false),
            })
        });
        let size_bytes = node["image"]["virtual-size"].as_u64().unwrap_or(0);
        NodeFacts { size_bytes, bitmaps: bitmaps.collect() }
    };
    Ok(nodes.iter().filter_map(|node| Some((node["node-name"].as_str()?.to_owned(), facts(node)))).collect())
}

pub(crate) async fn node_facts(host: &mut Host, name: &str) -> Result<NodeFacts> {
    let found = nodes(host).await?.into_iter().find(|(node, _)| node == name);
    found
        .map(|(_, facts)| facts)
        .ok_or_else(|| Failure::diverged(format!("QEMU has no disk `{name}` open in {}", host.folder().display())))
}

pub(crate) async fn remove_bitmap(host: &mut Host, node: &str, name: &str) -> Result<()> {
    host.execute("block-dirty-bitmap-remove", json!({ "node": node, "name": name })).await.map(drop)
}
