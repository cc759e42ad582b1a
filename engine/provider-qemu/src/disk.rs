//! Disks as files: making them, looking at them, and the words QEMU opens them with.
//!
//! The disk number `i` of a machine is the block node `disk<i>` in every process that opens it, be it the machine or the
//! storage daemon that stands in while the machine is off. A disk that still reads from a replica has `base<i>` below it.

use crate::folder::{DiskRecord, ExportRecord, MachineRecord, at, remove};
use crate::limits;
use crate::process::{Namespace, run};
use muster_ports::{DiskName, Failure, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn node(index: usize) -> String {
    format!("disk{index}")
}

pub(crate) fn file_of(disk: &DiskName) -> String {
    format!("{disk}.qcow2")
}

/// Where an export's socket is, as seen from a machine's folder: relative, so that long site folders fit the kernel's
/// limit on socket paths.
fn socket_from(machine: &Path, socket: &str) -> String {
    let site = machine.parent().and_then(Path::parent);
    match site.and_then(|site| Path::new(socket).strip_prefix(site).ok()) {
        Some(inside) => format!("../../{}", inside.display()),
        None if Path::new(socket).is_absolute() => socket.to_owned(),
        None => format!("../../{socket}"),
    }
}

/// The node an overlay reads from.
pub(crate) fn base(index: usize) -> String {
    format!("base{index}")
}

/// The block nodes of a disk, lower ones first, for a process whose working folder is the machine's.
pub(crate) fn blockdevs(folder: &Path, index: usize, disk: &DiskRecord) -> Vec<Value> {
    let mut nodes = Vec::new();
    let mut top = json!({
        "driver": "qcow2",
        "node-name": node(index),
        "discard": "unmap",
        "file": { "driver": "file", "filename": disk.file, "discard": "unmap" },
    });
    if let Some(export) = &disk.export {
        // A node of its own: options given in place would be mixed with those in the image's header.
        top["backing"] = json!(base(index));
        nodes.push(json!({
            "driver": "raw",
            "node-name": base(index),
            "read-only": true,
            "file": {
                "driver": "nbd",
                "server": { "type": "unix", "path": socket_from(folder, &export.socket) },
                "export": export.export,
                "reconnect-delay": limits::EXPORT_RECONNECT_SECONDS,
                "open-timeout": limits::EXPORT_OPEN_SECONDS,
            },
        }));
    }
    nodes.push(top);
    nodes
}

async fn qemu_img(folder: &Path, arguments: &[&str]) -> Result<String> {
    run(Namespace::Own, folder, "qemu-img", arguments).await
}

#[derive(Clone, Debug)]
pub(crate) struct ImageFacts {
    pub(crate) size_bytes: u64,
    pub(crate) has_backing: bool,
    pub(crate) bitmaps: Vec<String>,
}

/// What the file itself says; also while a machine has it open.
pub(crate) async fn look(folder: &Path, file: &str) -> Result<ImageFacts> {
    // `driver=qcow2` alone would open the backing as well, which may be an export that is not there now.
    let image = json!({ "driver": "qcow2", "file": { "driver": "file", "filename": file }, "backing": null });
    let image = format!("json:{image}");
    let text = qemu_img(folder, &["info", "-U", "--output=json", &image]).await?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::permanent(format!("`qemu-img info` of `{file}` does not read back: {error}")))?;
    let size_bytes = value["virtual-size"]
        .as_u64()
        .ok_or_else(|| Failure::permanent(format!("`qemu-img info` gives no size for `{file}`")))?;
    let bitmaps = value["format-specific"]["data"]["bitmaps"].as_array().cloned().unwrap_or_default();
    let bitmaps = bitmaps.iter().filter_map(|bitmap| bitmap["name"].as_str().map(str::to_owned)).collect();
    // With the backing left out, QEMU does not report it: the header does.
    Ok(ImageFacts { size_bytes, has_backing: header_names_backing(&folder.join(file))?, bitmaps })
}

/// Bytes 8 to 15 of a qcow2 are where the backing file's name lies; zero says there is none.
pub(crate) fn header_names_backing(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut header = [0u8; 16];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut header)).map_err(|error| at(path, &error))?;
    Ok(header[8..].iter().any(|byte| *byte != 0))
}

pub(crate) async fn create(folder: &Path, file: &str, size_bytes: u64) -> Result<()> {
    let size = size_bytes.to_string();
    qemu_img(folder, &["create", "-q", "-f", "qcow2", file, &size]).await.map(drop)
}

/// An image over another one that is not looked at: whoever opens it says what is below.
pub(crate) async fn create_over(folder: &Path, file: &str, below: &str, format: &str, size_bytes: u64) -> Result<()> {
    let size = size_bytes.to_string();
    qemu_img(folder, &["create", "-q", "-f", "qcow2", "-u", "-b", below, "-F", format, file, &size]).await.map(drop)
}

pub(crate) async fn create_overlay(folder: &Path, file: &str, export: &ExportRecord, size_bytes: u64) -> Result<()> {
    let below = format!("nbd+unix:///{}?socket={}", export.export, socket_from(folder, &export.socket));
    create_over(folder, file, &below, "raw", size_bytes).await
}

pub(crate) async fn grow(folder: &Path, file: &str, size_bytes: u64) -> Result<()> {
    qemu_img(folder, &["resize", "-q", "-f", "qcow2", file, &size_bytes.to_string()]).await.map(drop)
}

/// Begins to track changes in an image that nobody has open.
pub(crate) async fn add_bitmap(folder: &Path, file: &str, name: &str) -> Result<()> {
    let image = json!({ "driver": "qcow2", "file": { "driver": "file", "filename": file }, "backing": null });
    let image = format!("json:{image}");
    let grain = limits::GRAIN_BYTES.to_string();
    qemu_img(folder, &["bitmap", "--add", "-g", &grain, &image, name]).await.map(drop)
}

/// A disk that was here before is kept beside once, so that a landing never destroys the only copy of something.
pub(crate) fn set_aside(folder: &Path, file: &str) -> Result<()> {
    let path = folder.join(file);
    let aside: PathBuf = path.with_extension("replaced.qcow2");
    remove(&aside)?;
    fs::rename(&path, &aside).map_err(|error| at(&path, &error))
}

/// The record after what the files say: a disk whose image names no backing any more is not tied, whatever was
/// written down before a crash.
pub(crate) fn reconcile_ties(folder: &Path, record: &mut MachineRecord) -> Result<bool> {
    let mut changed = false;
    for disk in &mut record.disks {
        if disk.export.is_some() && !header_names_backing(&folder.join(&disk.file))? {
            disk.export = None;
            changed = true;
        }
    }
    Ok(changed)
}
