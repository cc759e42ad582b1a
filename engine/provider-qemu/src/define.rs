//! Making and removing instances, and opening a disk of one that is off.

use crate::folder::{
    DiskRecord, ExportRecord, Folder, MACHINE_FORMAT, MachineRecord, at, check_name, remove, short_hash,
};
use crate::host::{call_writer, dismiss, dismiss_all, machine_process, node_facts, remove_bitmap};
use crate::socket::SocketPath;
use crate::source::OpenDisk;
use crate::{disk, host, network};
use muster_nbd::{BASE_ALLOCATION, Client};
use muster_ports::{DiskBacking, DiskName, DiskShape, Failure, InstanceName, MachineShape, Result};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Makes the instance exist, powered off. The record is written last: before it is there, nothing can be started.
pub(crate) async fn define(folder: &Folder, shape: &MachineShape) -> Result<()> {
    check_name("instance", shape.instance.as_str())?;
    for wanted in &shape.disks {
        check_name("disk", wanted.name.as_str())?;
    }
    let known = folder.record(&shape.instance)?;
    let key = shape.labels.get(crate::folder::KEY_LABEL).map(String::as_str);
    let ours = known.as_ref().is_some_and(|known| known.key() == key);
    let home = folder.machine(&shape.instance)?;
    if known.as_ref().is_some_and(|known| known.key().is_some()) && !ours {
        return Err(Failure::refused(format!("`{}` exists at this site and belongs to another step", shape.instance))
            .help("remove it first, or finish the run that made it"));
    }
    if machine_process(&home).await.is_some() {
        if ours && key.is_some() {
            return Ok(());
        }
        return Err(Failure::refused(format!("`{}` is on at this site", shape.instance)).help("stop it first"));
    }
    dismiss_all(&home).await?;
    fs::create_dir_all(&home).map_err(|error| at(&home, &error))?;
    let mut disks = Vec::new();
    for wanted in &shape.disks {
        let before = known.iter().flat_map(|known| &known.disks).find(|disk| disk.name == wanted.name);
        let made = make_disk(&home, wanted, before, ours && key.is_some()).await;
        disks.push(made.map_err(|failure| failure.during(format!("disk `{}` of `{}`", wanted.name, shape.instance)))?);
    }
    if let Some(base) = &shape.track_from {
        for made in &disks {
            if !disk::look(&home, &made.file).await?.bitmaps.iter().any(|name| name == base.as_str()) {
                disk::add_bitmap(&home, &made.file, base.as_str()).await?;
            }
        }
    }
    folder.write_record(&MachineRecord {
        format: MACHINE_FORMAT.to_owned(),
        instance: shape.instance.clone(),
        machine: shape.machine.clone(),
        cpus: shape.cpus,
        memory_bytes: shape.memory_bytes,
        disks,
        nics: shape.nics.clone(),
        scope: shape.scope.clone(),
        labels: shape.labels.clone(),
        guest_agent: known.is_some_and(|known| known.guest_agent),
    })?;
    network::refresh_hosts(folder, &shape.scope)
}

/// `ours`: the instance was made by the same step before, and its disks may have been written since.
async fn make_disk(home: &Path, shape: &DiskShape, before: Option<&DiskRecord>, ours: bool) -> Result<DiskRecord> {
    let file = before.map_or_else(|| disk::file_of(&shape.name), |before| before.file.clone());
    let path = home.join(&file);
    let found = if path.is_file() { Some(disk::look(home, &file).await?) } else { None };
    let record =
        |export| DiskRecord { name: shape.name.clone(), size_bytes: shape.size_bytes, file: file.clone(), export };
    match (&shape.backing, found) {
        (DiskBacking::Existing, None) => Err(Failure::permanent("there is no such disk at this site")),
        (DiskBacking::Existing, Some(found)) if found.size_bytes != shape.size_bytes => Err(Failure::diverged(
            format!("the disk here has {} bytes, wanted are {}", found.size_bytes, shape.size_bytes),
        )),
        (DiskBacking::Existing, Some(found)) => {
            let tie = before.and_then(|before| before.export.clone()).filter(|_| found.has_backing);
            Ok(record(tie))
        }
        (DiskBacking::Blank, Some(found)) if ours && found.size_bytes == shape.size_bytes => Ok(record(None)),
        (DiskBacking::Blank, found) => {
            if found.is_some_and(|found| !found.has_backing) {
                disk::set_aside(home, &file)?;
            }
            disk::create(home, &file, shape.size_bytes).await?;
            Ok(record(None))
        }
        (DiskBacking::Export { .. }, Some(found)) if ours && !found.has_backing => Ok(record(None)),
        (DiskBacking::Export { socket, export }, found) => {
            let tie = ExportRecord { socket: socket.clone(), export: export.clone() };
            if !(ours && found.is_some()) {
                // An overlay without a record is half a landing: nothing was ever written to it.
                if found.is_some_and(|found| !found.has_backing) {
                    disk::set_aside(home, &file)?;
                }
                disk::create_overlay(home, &file, &tie, shape.size_bytes).await?;
            }
            Ok(record(Some(tie)))
        }
    }
}

/// The caller has seen to it that the machine is off.
pub(crate) async fn undefine(folder: &Folder, instance: &InstanceName, disks: bool) -> Result<()> {
    let home = folder.machine(instance)?;
    if !home.is_dir() {
        return Ok(());
    }
    dismiss_all(&home).await?;
    let scope = folder.record(instance)?.map(|record| record.scope);
    remove(&home.join("machine.json"))?;
    if disks {
        fs::remove_dir_all(&home).map_err(|error| at(&home, &error))?;
    }
    scope.map_or(Ok(()), |scope| network::refresh_hosts(folder, &scope))
}

/// A disk of a machine that is off, writable; the second part says whether it was there.
pub(crate) async fn open_disk(
    folder: &Folder,
    instance: &InstanceName,
    name: &DiskName,
    size_bytes: u64,
) -> Result<(OpenDisk, bool)> {
    check_name("disk", name.as_str())?;
    let home = folder.machine(instance)?;
    if machine_process(&home).await.is_some() {
        return Err(Failure::refused(format!("`{instance}` is on: its disks cannot be written from outside")));
    }
    host::dismiss_attendant(&home).await?;
    fs::create_dir_all(&home).map_err(|error| at(&home, &error))?;
    let known = folder.record(instance)?.and_then(|record| record.disks.into_iter().find(|disk| disk.name == *name));
    if known.as_ref().is_some_and(|known| known.export.is_some()) {
        return Err(Failure::refused(format!("the disk `{name}` of `{instance}` still reads from a replica"))
            .help("hydrate it first, or remove the machine with its disks"));
    }
    let file = known.map_or_else(|| disk::file_of(name), |known| known.file);
    let tag = format!("writer-{}", short_hash(name.as_str()));
    dismiss(&home.join(format!("{tag}.pid"))).await?;
    let was_there = home.join(&file).is_file() && make_fit(&home, &file, size_bytes).await?;
    if !was_there {
        disk::create(&home, &file, size_bytes).await?;
    }
    let record = DiskRecord { name: name.clone(), size_bytes, file, export: None };
    let open = serve(&home, &tag, &record).await?;
    Ok((open, was_there))
}

/// Says whether the disk can be used as it is; what is left of an overlay cannot.
async fn make_fit(home: &Path, file: &str, size_bytes: u64) -> Result<bool> {
    let found = disk::look(home, file).await?;
    if found.has_backing {
        return Ok(false);
    }
    if found.size_bytes > size_bytes {
        return Err(Failure::diverged(format!(
            "`{file}` has {} bytes and would have to shrink to {size_bytes}",
            found.size_bytes
        ))
        .help("move the old disk away"));
    }
    if found.size_bytes < size_bytes {
        // A disk with bitmaps does not grow, and what they say is to be forgotten anyway.
        let record = DiskRecord { name: DiskName::new("grow"), size_bytes, file: file.to_owned(), export: None };
        drop(serve(home, "writer-grow", &record).await?);
        dismiss(&home.join("writer-grow.pid")).await?;
        disk::grow(home, file, size_bytes).await?;
    }
    Ok(true)
}

async fn serve(home: &Path, tag: &str, record: &DiskRecord) -> Result<OpenDisk> {
    let node = disk::node(0);
    let mut host = call_writer(home, tag, disk::blockdevs(home, 0, record)).await?;
    let opening = async {
        for bitmap in node_facts(&mut host, &node).await?.bitmaps {
            remove_bitmap(&mut host, &node, &bitmap.name).await?;
        }
        let nbd = format!("{tag}.nbd");
        remove(&home.join(&nbd))?;
        host.execute("nbd-server-start", json!({ "addr": { "type": "unix", "data": { "path": nbd } } })).await?;
        let export = json!({ "id": "disk", "type": "nbd", "node-name": node, "name": "disk", "writable": true });
        host.execute("block-export-add", export).await?;
        let socket = SocketPath::new(home, &nbd)?;
        Client::connect_unix(socket.path(), "disk", &[BASE_ALLOCATION]).await
    };
    match opening.await {
        Ok(client) => Ok(OpenDisk { client, daemon: host.process }),
        Err(failure) => {
            host.process.end(crate::limits::QUIT).await?;
            Err(failure)
        }
    }
}
