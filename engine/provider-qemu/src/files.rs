//! Files on the disk of a machine that is off: ext2, ext3 and ext4, whole disk or partition.
//!
//! ```text
//!   disk.qcow2 ── attendant (tracks changes, reads from the replica below) ── FUSE ── files.disk ── e2fsprogs
//! ```
//!
//! The storage daemon that stands in for a machine that is off shows the disk as a file, and e2fsprogs, the file system's
//! own tools, work on that: no mount, no loop device, no kernel that parses a file system somebody may have broken. What
//! is written goes through the block layer, so that an overlay stays an overlay and the way home knows of the change.
//!
//! A journal that was not replayed is replayed first, as the boot would do it. A file is written under another name and
//! then takes the place of the old one, with its owner, mode and extended attributes; it is read back before anybody is
//! told. A host that dies in between leaves a mark, and whoever comes next has the file system checked first.
//!
//! Not here: other file systems, LVM, RAID, encrypted disks, logical partitions of an MBR. Each is refused by name.

use crate::folder::{MachineRecord, at, remove};
use crate::host::Host;
use crate::limits;
use crate::process::missing;
use crate::shell::{memory, path_of};
use muster_ports::*;
use serde_json::json;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

/// In the machine's folder: where the disk is shown as a file.
const SHOWN: &str = "files.disk";
/// In the machine's folder while a file system is being changed.
const MARK: &str = "files.busy";
const EXPORT: &str = "files";
/// In the folder of the file, until it takes the place of the old one.
const YOUNG: &str = ".muster-new";
const MODE_NEW: &str = "0644";
const SECTOR: u64 = 512;

/// Whether this host has what it takes.
pub(crate) async fn are_here() -> bool {
    static HERE: OnceCell<bool> = OnceCell::const_new();
    let tools = ["debugfs", "e2fsck"].iter().all(|tool| Path::new("/usr/sbin").join(tool).is_file() || in_path(tool));
    let daemon = HERE.get_or_init(|| async {
        let help = Command::new("qemu-storage-daemon").arg("--help").output().await;
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("fuse"))
    });
    tools && Path::new("/dev/fuse").exists() && *daemon.await
}

fn in_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

/// A file system on a disk that is shown.
struct Volume {
    home: PathBuf,
    /// `files.disk?offset=1048576`
    image: String,
}

/// The path of a file, in parts that e2fsprogs takes for one word each.
struct Place {
    folder: String,
    name: String,
    whole: String,
}

impl Place {
    fn of(path: &str) -> Result<Self> {
        let wrong = |why: &str| Failure::permanent(format!("`{path}` is no path of a file on a disk: {why}"));
        let Some((folder, name)) = path.rsplit_once('/').filter(|_| path.starts_with('/')) else {
            return Err(wrong("it begins with `/`"));
        };
        if name.is_empty() || path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong("it has empty parts, `.` or `..`"));
        }
        if path.chars().any(|c| c.is_control() || c == '"') || path.len() > limits::DISK_PATH_BYTES {
            return Err(wrong("it has quotes or line breaks, or is too long"));
        }
        let folder = if folder.is_empty() { "/" } else { folder };
        Ok(Self { folder: folder.to_owned(), name: name.to_owned(), whole: path.to_owned() })
    }
}

/// What is known of a file that is there.
struct Known {
    mode: String,
    user: u32,
    group: u32,
    bytes: u64,
}

/// The machine is off and nobody else works on its disks.
pub(crate) async fn read(home: &Path, record: &MachineRecord, path: &str, mut host: Host) -> Result<Option<String>> {
    let place = Place::of(path)?;
    let result = async {
        let volume = show(home, record, &mut host).await?;
        volume.make_sound().await?;
        volume.read(&place).await
    };
    let result = result.await;
    put_away(home, &mut host).await?;
    result
}

pub(crate) async fn write(home: &Path, record: &MachineRecord, path: &str, text: &str, mut host: Host) -> Result<()> {
    let place = Place::of(path)?;
    if text.len() > DISK_FILE_BYTES_MAX {
        return Err(Failure::permanent(format!("`{path}` would be larger than {DISK_FILE_BYTES_MAX} bytes")));
    }
    let result = async {
        let volume = show(home, record, &mut host).await?;
        volume.make_sound().await?;
        if volume.read(&place).await?.as_deref() == Some(text) {
            return Ok(());
        }
        volume.replace(&place, text).await
    };
    let result = result.await;
    put_away(home, &mut host).await?;
    result
}

/// Shows the first disk as a file, and finds the file system on it.
async fn show(home: &Path, record: &MachineRecord, host: &mut Host) -> Result<Volume> {
    put_away(home, host).await?;
    let shown = home.join(SHOWN);
    fs::write(&shown, b"").map_err(|error| at(&shown, &error))?;
    let export = json!({
        "id": EXPORT, "type": "fuse", "node-name": crate::disk::node(0), "mountpoint": shown, "writable": true,
    });
    host.execute("block-export-add", export).await.map_err(|failure| failure.during("show the disk as a file"))?;
    let found = {
        let shown = shown.clone();
        tokio::task::spawn_blocking(move || file_systems(&shown))
            .await
            .map_err(|error| Failure::transient(format!("the disk was not looked at: {error}")))??
    };
    let volume = |offset: &u64| Volume { home: home.to_owned(), image: format!("{SHOWN}?offset={offset}") };
    let name = &record.instance;
    match found.extended.as_slice() {
        [] => {
            let seen = if found.other.is_empty() { "nothing known".to_owned() } else { found.other.join(", ") };
            Err(Failure::permanent(format!("the first disk of `{name}` has no ext2, ext3 or ext4: seen is {seen}"))
                .help("change the file in the running guest: `needs = [guest]` and `m.put(path, text)`"))
        }
        [offset] => Ok(volume(offset)),
        several => {
            let mut roots = Vec::new();
            for offset in several {
                let one = volume(offset);
                if one.debugfs("stat \"/etc\"").await?.contains("Type: directory") {
                    roots.push(one);
                }
            }
            let count = roots.len();
            roots.pop().filter(|_| count == 1).ok_or_else(|| {
                Failure::permanent(format!(
                    "the first disk of `{name}` has {} file systems and {count} of them with `/etc`: which is meant cannot \
                     be told",
                    several.len()
                ))
            })
        }
    }
}

/// Takes the file away that shows the disk; what was written is on stable storage then.
async fn put_away(home: &Path, host: &mut Host) -> Result<()> {
    let shown = home.join(SHOWN);
    if has_export(host).await? {
        host.execute("block-export-del", json!({ "id": EXPORT, "mode": "hard" })).await?;
        let gone = async {
            while has_export(host).await? {
                sleep(limits::LOOK).await;
            }
            Ok::<_, Failure>(())
        };
        timeout(limits::QUIT, gone).await.map_err(|_| Failure::timeout("QEMU does not let go of the disk"))??;
    }
    // Left of a daemon that died: nobody answers behind it any more.
    if fs::symlink_metadata(&shown).is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound) {
        tool(home, "umount", &["-l", SHOWN]).await?;
    }
    remove(&shown)
}

async fn has_export(host: &mut Host) -> Result<bool> {
    let exports = host.execute("query-block-exports", json!({})).await?;
    Ok(exports.as_array().is_some_and(|exports| exports.iter().any(|export| export["id"] == EXPORT)))
}

impl Volume {
    /// Replays the journal; after a death in mid-change, has everything checked.
    async fn make_sound(&self) -> Result<()> {
        let mark = self.home.join(MARK);
        if mark.exists() {
            let said = tool(&self.home, "e2fsck", &["-f", "-p", &self.image]).await?;
            // 1 and 2: what was wrong has been put right.
            if said.code > 2 {
                return Err(Failure::diverged(format!("the file system is damaged: {}", said.short()))
                    .help("a change of it was broken off; land the machine again"));
            }
            return remove(&mark);
        }
        let state = self.debugfs("show_super_stats -h").await?;
        let line = |name: &str| state.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        if line("Filesystem features:").split_whitespace().any(|word| word == "needs_recovery") {
            let said = tool(&self.home, "e2fsck", &["-p", "-E", "journal_only", &self.image]).await?;
            if said.code > 2 {
                return Err(Failure::permanent(format!("its journal cannot be replayed: {}", said.short())));
            }
            return Ok(());
        }
        match line("Filesystem state:") {
            "clean" => Ok(()),
            other => Err(Failure::permanent(format!("the file system is `{other}` and has nothing to replay"))
                .help("it has to be checked in the guest first; change the file there: `needs = [guest]`")),
        }
    }

    async fn read(&self, place: &Place) -> Result<Option<String>> {
        let Some(known) = self.known(place).await? else { return Ok(None) };
        if known.bytes > DISK_FILE_BYTES_MAX as u64 {
            return Err(Failure::permanent(format!("`{}` is larger than {DISK_FILE_BYTES_MAX} bytes", place.whole)));
        }
        let said = tool(&self.home, "debugfs", &["-R", &format!("cat \"{}\"", place.whole), &self.image]).await?;
        if said.out.len() as u64 != known.bytes {
            return Err(Failure::permanent(format!("`{}` does not read: {}", place.whole, said.short())));
        }
        String::from_utf8(said.out)
            .map(Some)
            .map_err(|_| Failure::permanent(format!("`{}` is no text in UTF-8", place.whole)))
    }

    async fn known(&self, place: &Place) -> Result<Option<Known>> {
        let facts = self.debugfs(&format!("stat \"{}\"", place.whole)).await?;
        if !facts.contains("Inode: ") {
            return match facts.contains("File not found") {
                true => Ok(None),
                false => Err(Failure::permanent(format!("`{}` cannot be looked at: {}", place.whole, facts.trim()))),
            };
        }
        let words: Vec<&str> = facts.split_whitespace().collect();
        let after = |name: &str| {
            words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied().unwrap_or_default()
        };
        if after("Type:") != "regular" {
            return Err(Failure::permanent(format!("`{}` is no file: {}", place.whole, after("Type:")))
                .help("name the file itself: links are not followed"));
        }
        let number = |name: &str| after(name).parse::<u64>().ok();
        let (Some(user), Some(group), Some(bytes)) = (number("User:"), number("Group:"), number("Size:")) else {
            return Err(Failure::permanent(format!("what `debugfs` says of `{}` does not read", place.whole)));
        };
        let narrow = |id: u64| u32::try_from(id).unwrap_or_default();
        Ok(Some(Known { mode: after("Mode:").to_owned(), user: narrow(user), group: narrow(group), bytes }))
    }

    async fn replace(&self, place: &Place, text: &str) -> Result<()> {
        let known = self.known(place).await?;
        if !self.debugfs(&format!("stat \"{}\"", place.folder)).await?.contains("Type: directory") {
            return Err(Failure::permanent(format!("there is no folder `{}` on the disk", place.folder)));
        }
        let content = memory(text.as_bytes())?;
        let (mode, user, group) =
            known.as_ref().map_or((MODE_NEW, 0, 0), |known| (&known.mode, known.user, known.group));
        let mut script = format!("cd \"{}\"\n", place.folder);
        // Left of a change that was broken off.
        if self.debugfs(&format!("stat \"{}/{YOUNG}\"", place.folder)).await?.contains("Inode: ") {
            script.push_str(&format!("rm {YOUNG}\n"));
        }
        script.push_str(&format!("write {} {YOUNG}\nsif {YOUNG} mode 010{mode}\n", path_of(&content)));
        for (name, id) in [("uid", user), ("gid", group)] {
            script.push_str(&format!("sif {YOUNG} {name} {id}\n"));
        }
        let mut attributes = Vec::new();
        if known.is_some() {
            for (name, value) in self.attributes(place).await? {
                script.push_str(&format!("ea_set -f {} {YOUNG} {name}\n", path_of(&value)));
                attributes.push(value);
            }
            script.push_str(&format!("rm \"{}\"\n", place.name));
        }
        script.push_str(&format!("ln {YOUNG} \"{}\"\nunlink {YOUNG}\n", place.name));
        let mark = self.home.join(MARK);
        crate::folder::write_json(&mark, &place.whole)?;
        let commands = memory(script.as_bytes())?;
        let said = tool(&self.home, "debugfs", &["-w", "-f", &path_of(&commands), &self.image]).await?;
        drop((content, attributes));
        // The tool says little by its exit code: what lies there now is what counts.
        if self.read(place).await?.as_deref() != Some(text) {
            return Err(Failure::permanent(format!("`{}` could not be written: {}", place.whole, said.short()))
                .help("there may be no room left on that file system"));
        }
        remove(&mark)
    }

    /// Extended attributes: labels of SELinux, access lists.
    async fn attributes(&self, place: &Place) -> Result<Vec<(String, fs::File)>> {
        let listed = self.debugfs(&format!("ea_list \"{}\"", place.whole)).await?;
        let mut found = Vec::new();
        for line in listed.lines().filter(|line| line.starts_with("  ")) {
            let Some(name) = line.split_whitespace().next().filter(|name| name.contains('.')) else { continue };
            let value = memory(b"")?;
            self.debugfs(&format!("ea_get -f {} \"{}\" {name}", path_of(&value), place.whole)).await?;
            found.push((name.to_owned(), value));
        }
        Ok(found)
    }

    /// One question; what it answers, and what it complains about.
    async fn debugfs(&self, command: &str) -> Result<String> {
        let said = tool(&self.home, "debugfs", &["-R", command, &self.image]).await?;
        Ok(format!("{}\n{}", String::from_utf8_lossy(&said.out), said.err))
    }
}

struct Said {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Said {
    fn short(&self) -> String {
        let out = String::from_utf8_lossy(&self.out);
        // Its first line is the tool's name and version.
        let lines = self.err.lines().filter(|line| !line.starts_with("debugfs 1.") && !line.starts_with("e2fsck 1."));
        let said: Vec<&str> = lines.chain(out.lines()).filter(|line| !line.trim().is_empty()).collect();
        said.join("; ").chars().take(limits::TOOL_WORDS).collect()
    }
}

async fn tool(home: &Path, program: &str, arguments: &[&str]) -> Result<Said> {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.args(arguments).current_dir(home).stdin(Stdio::null()).kill_on_drop(true);
    // Where Debian puts them, which is not in everybody's path.
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C").env("DEBUGFS_PAGER", "cat");
    let output = timeout(limits::TOOL, command.output())
        .await
        .map_err(|_| Failure::timeout(format!("`{program}` did not end within {} s", limits::TOOL.as_secs())))?
        .map_err(|error| missing(program, &error))?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Said { code: output.status.code().unwrap_or(-1), out: output.stdout, err })
}

/// What lies on a disk.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Where file systems of the ext family begin, bytes.
    extended: Vec<u64>,
    /// What else was seen, in words.
    other: Vec<String>,
}

fn file_systems(path: &Path) -> Result<Found> {
    let disk = fs::File::open(path).map_err(|error| at(path, &error))?;
    let read = |offset: u64, buffer: &mut [u8]| disk.read_exact_at(buffer, offset).is_ok();
    Ok(look(&read))
}

type ReadAt<'a> = dyn Fn(u64, &mut [u8]) -> bool + 'a;

fn look(read: &ReadAt<'_>) -> Found {
    let mut found = Found::default();
    if !seen(read, 0, &mut found) {
        for start in partitions(read) {
            if !seen(read, start, &mut found) {
                found.other.push("a partition of another kind".to_owned());
            }
        }
    }
    found
}

/// Notes what begins there, if it is known.
fn seen(read: &ReadAt<'_>, start: u64, found: &mut Found) -> bool {
    let has = |offset: u64, magic: &[u8]| {
        let mut there = vec![0; magic.len()];
        read(start.saturating_add(offset), &mut there) && there == magic
    };
    if has(1024 + 56, &[0x53, 0xef]) {
        found.extended.push(start);
        return true;
    }
    let others: [(u64, &[u8], &str); 7] = [
        (0, b"XFSB", "XFS"),
        (0x1_0040, b"_BHRfS_M", "Btrfs"),
        (3, b"NTFS    ", "NTFS"),
        (SECTOR, b"LABELONE", "LVM"),
        (0, b"LUKS\xba\xbe", "an encrypted disk (LUKS)"),
        (0x52, b"FAT32", "FAT"),
        (0x36, b"FAT", "FAT"),
    ];
    match others.iter().find(|(offset, magic, _)| has(*offset, magic)) {
        Some((_, _, name)) => {
            found.other.push((*name).to_owned());
            true
        }
        None => false,
    }
}

/// Where partitions begin, bytes: GPT, or the four of an MBR.
fn partitions(read: &ReadAt<'_>) -> Vec<u64> {
    let mut first = [0; SECTOR as usize];
    if !read(0, &mut first) || first[510..] != [0x55, 0xaa] {
        return Vec::new();
    }
    let entries = (0..4).map(|index| &first[446 + 16 * index..462 + 16 * index]);
    let entries: Vec<&[u8]> = entries.filter(|entry| entry[4] != 0).collect();
    if entries.iter().any(|entry| entry[4] == 0xee) {
        return gpt(read);
    }
    let start = |entry: &&[u8]| u64::from(u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]])) * SECTOR;
    entries.iter().map(start).collect()
}

fn gpt(read: &ReadAt<'_>) -> Vec<u64> {
    let mut header = [0; SECTOR as usize];
    if !read(SECTOR, &mut header) || !header.starts_with(b"EFI PART") {
        return Vec::new();
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (table, count, size) = (number(&header[72..80]), number(&header[80..84]), number(&header[84..88]));
    if !(128..=4096).contains(&size) {
        return Vec::new();
    }
    let mut starts = Vec::new();
    for index in 0..count.min(limits::PARTITIONS) {
        let mut entry = [0; 48];
        let offset = table.checked_mul(SECTOR).and_then(|offset| offset.checked_add(index * size));
        if !offset.is_some_and(|offset| read(offset, &mut entry)) {
            break;
        }
        if entry[..16].iter().any(|byte| *byte != 0) {
            starts.extend(number(&entry[32..40]).checked_mul(SECTOR));
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_on(disk: &[u8]) -> Found {
        look(&|offset, buffer| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            match start.checked_add(buffer.len()).and_then(|end| disk.get(start..end)) {
                Some(there) => {
                    buffer.copy_from_slice(there);
                    true
                }
                None => false,
            }
        })
    }

    #[test]
    fn partitions_are_found_and_others_are_named() {
        let mut disk = vec![0; 4 << 20];
        assert_eq!(seen_on(&disk), Found::default());
        disk[1 << 20..][1080..1082].copy_from_slice(&[0x53, 0xef]);
        disk[2 << 20..][..4].copy_from_slice(b"XFSB");
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        for (index, (kind, mib)) in [(0x83, 1u32), (0x83, 2), (0x82, 3)].into_iter().enumerate() {
            disk[446 + 16 * index + 4] = kind;
            disk[446 + 16 * index + 8..][..4].copy_from_slice(&(mib * 2048).to_le_bytes());
        }
        let other = vec!["XFS".to_owned(), "a partition of another kind".to_owned()];
        assert_eq!(seen_on(&disk), Found { extended: vec![1 << 20], other });

        // The same places by a GPT.
        disk[446..510].fill(0);
        disk[450] = 0xee;
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[512 + 72..][..8].copy_from_slice(&2u64.to_le_bytes());
        disk[512 + 80..][..4].copy_from_slice(&4u32.to_le_bytes());
        disk[512 + 84..][..4].copy_from_slice(&128u32.to_le_bytes());
        disk[1024] = 1;
        disk[1024 + 32..][..8].copy_from_slice(&2048u64.to_le_bytes());
        assert_eq!(seen_on(&disk).extended, [1 << 20]);
        // Sizes and places that cannot be are no reason to fall over.
        disk[512 + 72..][..8].copy_from_slice(&u64::MAX.to_le_bytes());
        disk[512 + 80..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(seen_on(&disk), Found::default());
        disk[512 + 84..][..4].copy_from_slice(&0u32.to_le_bytes());
        assert_eq!(seen_on(&disk), Found::default());
    }

    #[test]
    fn paths_that_mean_something_else_are_refused() {
        for wrong in ["", "etc/x", "/", "/etc/", "/etc/../x", "/a//b", "/a\"b", "/a\nrm /b"] {
            assert!(Place::of(wrong).is_err(), "{wrong}");
        }
        let place = Place::of("/motd").unwrap();
        assert_eq!((place.folder.as_str(), place.name.as_str()), ("/", "motd"));
    }
}
