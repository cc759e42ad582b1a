//! `materialise`, `mount`, `files`, `restore`, `scan`: what is in a vault, without booting it.

use super::point_disks::{PointDisk, PointDisks, Told};
use super::replicate::interrupted;
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output::{self, Watcher};
use clap::{Args, Subcommand, ValueEnum};
use muster_extract::files::Kind;
use muster_extract::image::{self, Format};
use muster_extract::mount::{Overlay, Served};
use muster_extract::partitions::{Partition, partitions};
use muster_extract::{files, restore_over, scan as scan_disk};
use muster_ports::{Failure, Result};
use muster_replication::pipeline::FileDisk;
use serde::Serialize;
use std::io::{BufRead, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Ranges of a scan shown to a person at most; JSON has them all.
const RANGES_SHOWN: usize = 50;

#[derive(Debug, Args)]
pub struct MaterialiseOptions {
    point: String,
    /// All machines of the point when none is named.
    machines: Vec<String>,
    /// Folder for the files `<machine>-<disk>.<format>`.
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// All but raw and vhd are written by `qemu-img`, which reads the point from a socket of ours.
    #[arg(long, value_enum, default_value_t = FormatWord::Raw)]
    format: FormatWord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatWord {
    /// Plain bytes, sparse.
    Raw,
    /// QEMU, KVM, OpenStack.
    Qcow2,
    /// Fixed, in whole MiB: Azure.
    Vhd,
    /// Dynamic: Hyper-V.
    Vhdx,
    /// Sparse: VMware Workstation, VirtualBox.
    Vmdk,
    /// Stream-optimised: vSphere, inside an OVA.
    VmdkStream,
}

impl From<FormatWord> for Format {
    fn from(word: FormatWord) -> Self {
        match word {
            FormatWord::Raw => Self::Raw,
            FormatWord::Qcow2 => Self::Qcow2,
            FormatWord::Vhd => Self::Vhd,
            FormatWord::Vhdx => Self::Vhdx,
            FormatWord::Vmdk => Self::Vmdk,
            FormatWord::VmdkStream => Self::VmdkStream,
        }
    }
}

/// Writes a point's disks as image files.
pub async fn materialise(common: &Common, options: MaterialiseOptions) -> Result<Exit> {
    let found = PointDisks::of_machines(common, &options.point, &options.machines).await?;
    std::fs::create_dir_all(&options.to)?;
    let format = Format::from(options.format);
    let watcher = Watcher::new(common);
    let mut written = Vec::new();
    for disk in &found.disks {
        let told = Told { watcher: &watcher, what: disk.name() };
        let path = options.to.join(format!("{}-{}.{}", disk.machine, disk.disk, format.suffix()));
        // Dropped in the middle, the work takes away what it has written.
        let path = unless_interrupted(image::write(&disk.replica, format, &path, found.point.at, &told)).await?;
        written.push(path.display().to_string());
    }
    if common.json {
        output::json(&written);
    } else {
        output::data(written.join("\n"));
    }
    Ok(Exit::Done)
}

async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = work => done,
        () = interrupted() => Err(Failure::refused("interrupted; nothing half-written is left")),
    }
}

#[derive(Debug, Args)]
pub struct MountOptions {
    /// `POINT`, or one disk of it: `POINT:MACHINE/DISK`.
    #[arg(value_name = "POINT[:MACHINE/DISK]")]
    point: String,
    /// Let clients write: into an overlay that goes away with this command. The point never changes.
    #[arg(long)]
    writable: bool,
    /// Keep the overlay in this file (qcow2), and go on with it when it is there. One disk only.
    #[arg(long, value_name = "FILE", requires = "writable")]
    overlay: Option<PathBuf>,
    /// Listen at this socket instead of one in a new folder.
    #[arg(long, value_name = "SOCKET", conflicts_with = "writable")]
    socket: Option<PathBuf>,
    /// Listen at this address, `host:port`, for clients on other machines: TLS, with the certificates of `--certificates`.
    /// A client needs one of the same authority.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["writable", "socket"])]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Serialize)]
struct Mounted {
    disk: String,
    uri: String,
    bytes: u64,
}

/// Serves disks until it is interrupted.
pub async fn mount(common: &Common, options: MountOptions) -> Result<Exit> {
    let found = PointDisks::named(common, &options.point).await?;
    if options.overlay.is_some() && found.disks.len() > 1 {
        found.only(&options.point)?;
        return Ok(Exit::Failed);
    }
    let served = match (options.listen, &common.certificates) {
        (None, _) => Served::begin(options.socket.as_deref()).await?,
        (Some(address), Some(folder)) => Served::begin_tls(address, folder).await?,
        (Some(_), None) => {
            return Err(Failure::refused(
                "disks are served to other machines over TLS only, and no certificates are given",
            )
            .help("`--certificates FOLDER`, or MUSTER_CERTIFICATES; `muster certificate issue` writes such a folder"));
        }
    };
    let (mut mounted, mut overlays) = (Vec::new(), Vec::new());
    for disk in &found.disks {
        let name = disk.name();
        served.add(&name, Arc::new(disk.replica.clone()))?;
        let mut uri = served.uri(&name);
        if options.writable {
            let overlay = Overlay::begin(&served, &name, options.overlay.as_deref()).await?;
            uri = overlay.uri(&name);
            overlays.push(overlay);
        }
        mounted.push(Mounted { disk: name, uri, bytes: disk.replica.image().size_bytes });
    }
    if common.json {
        output::json(&mounted);
    } else {
        let row = |disk: &Mounted| vec![disk.disk.clone(), output::bytes(disk.bytes), disk.uri.clone()];
        output::data(output::table(&["disk", "size", "uri"], &mounted.iter().map(row).collect::<Vec<_>>()));
    }
    output::say("served until interrupted");
    let ended = tokio::select! {
        () = interrupted() => Ok(Exit::Done),
        failure = first_to_end(&mut overlays) => Err(failure),
    };
    for overlay in overlays {
        overlay.end().await?;
    }
    served.end().await;
    ended
}

async fn first_to_end(overlays: &mut [Overlay]) -> Failure {
    if overlays.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(overlays.iter_mut().map(|overlay| Box::pin(overlay.ended()))).await.0
}

#[derive(Debug, Subcommand)]
pub enum FilesCommand {
    /// The partitions of a point's disks, or with a path what lies there.
    List {
        #[command(flatten)]
        place: Place,
        /// From the root of the partition.
        path: Option<PathBuf>,
    },
    /// Copy files and folders out. Links, devices and names that cannot stand here are left out and named.
    Copy {
        #[command(flatten)]
        place: Place,
        /// From the root of the partition.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Folder for the copies; they keep their last names.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
}

/// A partition of a disk at a point.
#[derive(Debug, Args)]
pub struct Place {
    /// `POINT` when it has one disk, else `POINT:MACHINE/DISK`.
    #[arg(value_name = "POINT[:MACHINE/DISK]")]
    point: String,
    /// Its number, as `list` without a path shows it; may be left out when only one can be read.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
}

#[derive(Debug, Serialize)]
struct DiskParts {
    disk: String,
    partitions: Vec<Partition>,
}

/// Lists or copies files.
pub async fn files(common: &Common, command: FilesCommand) -> Result<Exit> {
    match command {
        FilesCommand::List { place, path: None } => list_partitions(common, &place).await,
        FilesCommand::List { place, path: Some(path) } => {
            let (disk, partition) = part(common, &place).await?;
            let entries = files::list(Arc::new(disk.replica), &partition, &path).await?;
            if common.json {
                output::json(&entries);
                return Ok(Exit::Done);
            }
            let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
            output::data(output::table(&["kind", "bytes", "path"], &rows));
            Ok(Exit::Done)
        }
        FilesCommand::Copy { place, paths, to } => {
            let (disk, partition) = part(common, &place).await?;
            let copied = files::copy(Arc::new(disk.replica), &partition, &paths, &to).await?;
            for left in &copied.left_out {
                output::say(format!("left out: {left}"));
            }
            if common.json {
                output::json(&copied);
            } else {
                let written: Vec<String> = copied.written.iter().map(|path| path.display().to_string()).collect();
                output::data(written.join("\n"));
                output::say(format!("{} files, {}", copied.files, output::bytes(copied.bytes)));
            }
            Ok(if copied.left_out.is_empty() { Exit::Done } else { Exit::Degraded })
        }
    }
}

fn row(entry: &files::Entry) -> Vec<String> {
    let kind = match entry.kind {
        Kind::File => "file",
        Kind::Folder => "folder",
        Kind::Link => "link",
        Kind::Special => "special",
    };
    vec![kind.to_owned(), entry.bytes.to_string(), entry.path.display().to_string()]
}

async fn list_partitions(common: &Common, place: &Place) -> Result<Exit> {
    let found = PointDisks::named(common, &place.point).await?;
    let mut disks = Vec::new();
    for disk in found.disks {
        let mut parts = partitions(Arc::new(disk.replica.clone())).await?;
        parts.retain(|part| place.partition.is_none_or(|number| number == part.number));
        disks.push(DiskParts { disk: disk.name(), partitions: parts });
    }
    if common.json {
        output::json(&disks);
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = disks
        .iter()
        .flat_map(|disk| disk.partitions.iter().map(move |part| (disk.disk.clone(), part)))
        .map(|(disk, part)| {
            let number = if part.number == 0 { "whole".to_owned() } else { part.number.to_string() };
            let files = if part.holds.is_readable() { "files" } else { "" };
            vec![disk, number, output::bytes(part.bytes), part.holds.word().to_owned(), files.to_owned()]
        })
        .collect();
    output::data(output::table(&["disk", "partition", "size", "holds", ""], &rows));
    Ok(Exit::Done)
}

/// The one partition that is meant.
async fn part(common: &Common, place: &Place) -> Result<(PointDisk, Partition)> {
    let disk = PointDisks::named(common, &place.point).await?.only(&place.point)?;
    let parts = partitions(Arc::new(disk.replica.clone())).await?;
    let words = parts.iter().map(|part| format!("{} ({})", part.number, part.holds.word()));
    let words = words.collect::<Vec<_>>().join(", ");
    if let Some(number) = place.partition {
        let found = parts.into_iter().find(|part| part.number == number);
        let missing =
            || Failure::permanent(format!("there is no partition {number}")).help(format!("there is {words}"));
        return found.map(|part| (disk, part)).ok_or_else(missing);
    }
    // One that cannot be read is refused by its name where it is the only one.
    let alone = parts.len() == 1;
    let mut readable = parts.into_iter().filter(|part| alone || part.holds.is_readable());
    match (readable.next(), readable.next()) {
        (Some(part), None) => Ok((disk, part)),
        (None, _) => Err(Failure::refused(format!("files cannot be read out of any partition: {words}"))
            .help("`muster mount` serves the disk for tools that can: `guestfish --ro -a URI -i`")),
        _ => Err(Failure::permanent(format!("which partition? There is {words}")).help("say `--partition NUMBER`")),
    }
}

#[derive(Debug, Args)]
pub struct RestoreOptions {
    point: String,
    /// The disk: `MACHINE/DISK`.
    #[arg(long, value_name = "MACHINE/DISK")]
    disk: String,
    /// Image file or block device with old content; what differs is overwritten, nothing else is written.
    #[arg(long, value_name = "FILE")]
    over: PathBuf,
    /// Consent, where nobody is asked at the terminal.
    #[arg(long)]
    overwrite: bool,
}

/// Makes a disk of this machine equal to one of a point.
pub async fn restore(common: &Common, options: RestoreOptions) -> Result<Exit> {
    let name = format!("{}:{}", options.point, options.disk);
    let disk = PointDisks::named(common, &name).await?.only(&name)?;
    let there = FileDisk::open(&options.over)?;
    let (size, room) = (disk.replica.image().size_bytes, muster_ports::BlockSource::size(&there));
    if room < size {
        return Err(Failure::refused(format!("`{}` has {room} bytes, the disk has {size}", options.over.display()))
            .help("make it larger, or `muster materialise` the disk into a new file"));
    }
    drop(there);
    if !options.overwrite {
        consent(&options.over, &name)?;
    }
    let watcher = Watcher::new(common);
    let told = Told { watcher: &watcher, what: disk.name() };
    let report = restore_over(&disk.replica, &options.over, &told).await?;
    if common.json {
        output::json(&report);
    } else {
        output::data(format!(
            "compared  {}\nfetched   {}\nwritten   {}",
            output::bytes(report.compared_bytes),
            output::bytes(report.fetched_bytes),
            output::bytes(report.written_bytes),
        ));
    }
    Ok(Exit::Done)
}

/// Asks a person at the terminal, who answers in a word; a script says `--overwrite`.
fn consent(over: &Path, name: &str) -> Result<()> {
    let refused = || {
        Failure::refused(format!("`{}` would be overwritten where it differs from `{name}`", over.display()))
            .help("say `--overwrite` when that is meant")
    };
    if !std::io::stdin().is_terminal() {
        return Err(refused());
    }
    output::say(format!(
        "`{}` is overwritten where it differs from `{name}`. Write `overwrite` to go on:",
        over.display()
    ));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == "overwrite" { Ok(()) } else { Err(refused()) }
}

#[derive(Debug, Args)]
pub struct ScanOptions {
    /// Image file or block device.
    file: PathBuf,
    /// What it is compared with.
    #[arg(long, value_name = "POINT[:MACHINE/DISK]")]
    against: String,
}

/// Where something that can be read differs from a disk of a point.
pub async fn scan(common: &Common, options: ScanOptions) -> Result<Exit> {
    let disk = PointDisks::named(common, &options.against).await?.only(&options.against)?;
    let here = FileDisk::open(&options.file)?;
    let watcher = Watcher::new(common);
    let told = Told { watcher: &watcher, what: disk.name() };
    let found = scan_disk(&here, &disk.replica, &told).await?;
    if common.json {
        output::json(&found);
    } else {
        let shown = found.ranges.iter().take(RANGES_SHOWN);
        let rows: Vec<Vec<String>> =
            shown.map(|range| vec![range.offset.to_string(), range.bytes.to_string()]).collect();
        if !rows.is_empty() {
            output::data(output::table(&["offset", "bytes"], &rows));
        }
        let more = found.ranges.len().saturating_sub(RANGES_SHOWN) as u64 + found.more_ranges;
        if more > 0 {
            output::say(format!("and {more} more ranges; `--json` has them"));
        }
        if found.point_bytes != found.here_bytes {
            output::say(format!("the disk has {} bytes, this {}", found.point_bytes, found.here_bytes));
        }
        output::say(format!("{} differ of {}", output::bytes(found.different_bytes), output::bytes(found.size_bytes)));
    }
    Ok(if found.none() { Exit::Done } else { Exit::Failed })
}
