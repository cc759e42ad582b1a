//! On and off.

use crate::accel::{self, Accel};
use crate::disk::{blockdevs, node, reconcile_ties};
use crate::folder::{Folder, MachineRecord, at, remove};
use crate::host::{
    MACHINE_LOG, MACHINE_PID, MACHINE_SOCKET, WATCH_SOCKET, await_monitor, dismiss_all, machine_process,
};
use crate::network::{self, Place};
use crate::process::{Namespace, ProcessId, launch};
use crate::qmp::Qmp;
use crate::{guest, limits};
use muster_ports::{Failure, InstanceName, Result};
use serde_json::json;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

pub(crate) const CONSOLE: &str = "console.log";

/// Returns when the machine has power. The caller holds the machine's lock and has looked at its fence.
pub(crate) async fn start(folder: &Folder, record: &mut MachineRecord) -> Result<()> {
    let home = folder.machine(&record.instance)?;
    if machine_process(&home).await.is_some() {
        return Ok(());
    }
    dismiss_all(&home).await?;
    for disk in &record.disks {
        if !home.join(&disk.file).is_file() {
            return Err(Failure::permanent(format!("the disk `{}` of `{}` is not there", disk.name, record.instance)));
        }
    }
    if reconcile_ties(&home, record)? {
        folder.write_record(record)?;
    }
    let accel = accel::find(folder.path()).await?;
    let place = network::ensure(folder, &record.scope).await?;
    for (index, nic) in record.nics.iter().enumerate() {
        network::plug(&place, &network::tap(folder, record, index), &nic.network).await?;
    }
    for socket in [MACHINE_SOCKET, WATCH_SOCKET, guest::SOCKET] {
        remove(&home.join(socket))?;
    }
    rotate_console(&home)?;
    let arguments = command_line(folder, &home, record, &accel);
    let outcome = switch_on(place.namespace, &home, &arguments).await;
    if outcome.is_err() {
        unplug_all(folder, record, &place).await;
    }
    outcome.map_err(|failure| failure.during(format!("start `{}`", record.instance)))
}

async fn switch_on(namespace: Namespace, home: &Path, arguments: &[String]) -> Result<()> {
    let pid_file = home.join(MACHINE_PID);
    let process = launch(namespace, home, MACHINE_LOG, &pid_file, "qemu-system-x86_64", arguments).await?;
    await_monitor(home, MACHINE_SOCKET, process, MACHINE_LOG).await
}

fn command_line(folder: &Folder, home: &Path, record: &MachineRecord, accel: &Accel) -> Vec<String> {
    let mebibytes = record.memory_bytes.div_ceil(1 << 20).max(1);
    let mut words: Vec<String> = ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc"]
        .into_iter()
        .chain(accel.arguments())
        .map(str::to_owned)
        .collect();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("-name", format!("guest={}", record.instance));
    add("-smp", record.cpus.max(1).to_string());
    add("-m", format!("{mebibytes}M"));
    add("-rtc", "base=utc".to_owned());
    // A guest that breaks out of the machine model finds little to do.
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".to_owned());
    add("-chardev", format!("file,id=console,path={CONSOLE},append=on"));
    add("-serial", "chardev:console".to_owned());
    add("-qmp", format!("unix:{MACHINE_SOCKET},server=on,wait=off"));
    add("-qmp", format!("unix:{WATCH_SOCKET},server=on,wait=off"));
    add("-device", "virtio-serial-pci".to_owned());
    add("-chardev", format!("socket,id=agent,path={},server=on,wait=off", guest::SOCKET));
    add("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0".to_owned());
    add("-device", "virtio-rng-pci".to_owned());
    for (index, disk) in record.disks.iter().enumerate() {
        for node in blockdevs(home, index, disk) {
            add("-blockdev", node.to_string());
        }
        let mut device = json!({ "driver": "virtio-blk-pci", "drive": node(index), "id": format!("drive{index}") });
        if index == 0 {
            device["bootindex"] = json!(1);
        }
        add("-device", device.to_string());
    }
    for (index, nic) in record.nics.iter().enumerate() {
        let tap = network::tap(folder, record, index);
        add("-netdev", format!("tap,id=net{index},ifname={tap},script=no,downscript=no"));
        let device = json!({
            "driver": "virtio-net-pci", "netdev": format!("net{index}"), "mac": nic.mac, "romfile": "",
        });
        add("-device", device.to_string());
    }
    words
}

/// The console's story goes on over restarts, up to a limit.
fn rotate_console(home: &Path) -> Result<()> {
    let path = home.join(CONSOLE);
    if fs::metadata(&path).is_ok_and(|file| file.len() > limits::CONSOLE_BYTES) {
        fs::rename(&path, home.join("console.1.log")).map_err(|error| at(&path, &error))?;
    }
    Ok(())
}

async fn unplug_all(folder: &Folder, record: &MachineRecord, place: &Place) {
    for index in 0..record.nics.len() {
        network::unplug(place, &network::tap(folder, record, index)).await;
    }
}

/// Asks the guest to go down; says what to wait for. `None` when it is off already.
pub(crate) async fn ask_down(home: &Path) -> Result<Option<ProcessId>> {
    let Some(process) = machine_process(home).await else { return Ok(None) };
    let asked = match guest::ping(home, limits::GUEST_GLANCE).await {
        Ok(()) => guest::shut_down(home).await.is_ok(),
        Err(_) => false,
    };
    if !asked {
        let press = async { Qmp::connect(home, MACHINE_SOCKET).await?.execute("system_powerdown", json!({})).await };
        match press.await {
            // It went down while it was being asked.
            Err(_) if !process.is_alive() => {}
            outcome => drop(outcome?),
        }
    }
    Ok(Some(process))
}

/// Cuts the power. QEMU may still store its change records; when it does not get that done it is killed.
pub(crate) async fn cut_power(home: &Path, patience: Duration) -> Result<()> {
    let Some(process) = machine_process(home).await else { return Ok(()) };
    let quit = async {
        if let Ok(mut qmp) = Qmp::connect(home, MACHINE_SOCKET).await {
            // No answer is fine: it is quitting.
            let _ = qmp.execute("quit", json!({})).await;
        }
    };
    // A monitor that hangs must not stand between a fence and the power.
    let _ = tokio::time::timeout(limits::QUIT_WORD, quit).await;
    process.end(patience).await
}

/// After the process is gone: its taps go, and what it wrote is put on stable storage.
pub(crate) async fn tidy(folder: &Folder, instance: &InstanceName) -> Result<()> {
    let home = folder.machine(instance)?;
    remove(&home.join(MACHINE_PID))?;
    for socket in [MACHINE_SOCKET, WATCH_SOCKET, guest::SOCKET] {
        remove(&home.join(socket))?;
    }
    let Some(record) = folder.record(instance)? else { return Ok(()) };
    for disk in &record.disks {
        let path = home.join(&disk.file);
        match File::open(&path) {
            Ok(file) => file.sync_all().map_err(|error| at(&path, &error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&path, &error)),
        }
    }
    if let Ok(namespace) = network::namespace_of(folder, &record.scope) {
        for index in 0..record.nics.len() {
            network::unplug_in(namespace, folder, &network::tap(folder, &record, index)).await;
        }
    }
    Ok(())
}
