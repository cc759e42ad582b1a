//! The disks of the lab's machines, made once and kept by a hash of everything that goes into them.
//!
//! ```text
//!   1 MiB  MBR boot code, partition table
//!   1 MiB  FAT16: syslinux, kernel, initrd           (mtools: nothing is mounted)
//!  25 MiB  ext4: busybox, guest agent, guest program (mke2fs -d: nothing is mounted)
//! ```
//!
//! The kernel and the guest agent come as Debian packages that are downloaded and unpacked, not installed.

use crate::command::{command, run};
use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// Kernel 14 MB, initrd 1 MB, loader; FAT16 wants some room besides.
const BOOT_BYTES: u64 = 24 * MIB;
const BOOT_AT: u64 = MIB;
/// Where the root file system begins on a root disk.
pub(crate) const ROOT_AT: u64 = BOOT_AT + BOOT_BYTES;
/// A root disk.
pub const ROOT_BYTES: u64 = 96 * MIB;
/// The second disk of a database.
pub const DATA_BYTES: u64 = 64 * MIB;
/// One moment for all files, so that the same input makes the same disk.
const EPOCH: &str = "1700000000";
/// Raise it when this file changes what the disks hold.
const RECIPE: &str = "1";

const GUEST_MAIN: &str = include_str!("../guest/main.rs");
const GUEST_RECORD: &str = include_str!("../guest/record.rs");
const GUEST_INIT: &str = include_str!("../guest/init.sh");
const GUEST_INITRD: &str = include_str!("../guest/initrd.sh");
const GUEST_UDHCPC: &str = include_str!("../guest/udhcpc.sh");

const INITRD_MODULES: [&str; 6] = [
    "virtio/virtio_ring",
    "virtio/virtio",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci",
    "block/virtio_blk",
];
const ROOT_MODULES: [&str; 7] = [
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/char/virtio_console",
    "drivers/char/hw_random/virtio-rng",
    "drivers/acpi/button",
    "drivers/input/evdev",
];
const KERNEL_LINE: &str = "root=/dev/vda2 console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on";

/// Where the lab keeps what it made.
#[derive(Clone, Debug)]
pub struct LabDir(pub PathBuf);

impl LabDir {
    /// `$MUSTER_LAB_DIR`, or `target/lab` of this workspace.
    pub fn shared() -> Self {
        let fallback = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/lab");
        Self(std::env::var_os("MUSTER_LAB_DIR").map_or_else(fallback, PathBuf::from))
    }
}

/// Finished images: raw, sparse, read-only for everybody.
#[derive(Clone, Debug)]
pub struct Images {
    folder: PathBuf,
}

impl Images {
    /// Makes them, or finds them made. Several processes may call at once; one builds, the others wait.
    pub fn prepare(dir: &LabDir) -> Result<Self> {
        crate::requirements()?;
        fs::create_dir_all(&dir.0).map_err(Error::file(&dir.0))?;
        let root = dir.0.canonicalize().map_err(Error::file(&dir.0))?;
        let lock_path = root.join("images.lock");
        let lock = File::create(&lock_path).map_err(Error::file(&lock_path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| Error::file(&lock_path)(error.into()))?;
        let debs = Debs::unpack(&root.join("debs"))?;
        let folder = root.join(format!("images-{}", recipe_hash(&debs)));
        let images = Self { folder };
        if !images.folder.is_dir() {
            let work = tempfile::Builder::new().prefix("build-").tempdir_in(&root).map_err(Error::file(&root))?;
            let outcome = work.path().join("out");
            make_folder(&outcome)?;
            build(&debs, work.path(), &outcome)?;
            fs::rename(&outcome, &images.folder).map_err(Error::file(&images.folder))?;
        }
        Ok(images)
    }

    /// A root disk without role and name: [`crate::Site::machine`] bakes them in.
    pub fn root_disk(&self) -> PathBuf {
        self.folder.join("root.raw")
    }
    /// An empty ext4 for the database.
    pub fn data_disk(&self) -> PathBuf {
        self.folder.join("data.raw")
    }
}

fn recipe_hash(debs: &Debs) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [RECIPE, GUEST_MAIN, GUEST_RECORD, GUEST_INIT, GUEST_INITRD, GUEST_UDHCPC, KERNEL_LINE, &debs.versions]
    {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}

/// Unpacked Debian packages: a kernel with its modules, the guest agent.
struct Debs {
    folder: PathBuf,
    kernel: String,
    versions: String,
}

impl Debs {
    fn unpack(folder: &Path) -> Result<Self> {
        let done = folder.join("done");
        if !done.is_file() {
            let _ = fs::remove_dir_all(folder);
            make_folder(folder)?;
            let depends = run(command("apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
            let kernel = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
            let kernel = kernel.ok_or_else(|| {
                Error::Said("apt knows no linux-image-cloud-amd64: run `apt-get update` with Debian sources".to_owned())
            })?;
            // The download runs as root: apt's own user may not write here.
            let packages = [format!("linux-image-{}", kernel.trim()), "qemu-guest-agent".to_owned()];
            run(command("apt-get")
                .args(["download", "-q", "-o", "APT::Sandbox::User=root"])
                .args(&packages)
                .current_dir(folder))?;
            let mut names: Vec<String> = list(folder)?.into_iter().filter(|name| name.ends_with(".deb")).collect();
            names.sort();
            for name in &names {
                run(command("dpkg-deb").arg("-x").arg(folder.join(name)).arg(folder))?;
                fs::remove_file(folder.join(name)).map_err(Error::file(folder.join(name)))?;
            }
            write(&done, &names.join("\n"))?;
        }
        let versions = fs::read_to_string(&done).map_err(Error::file(&done))?;
        let modules = folder.join("lib/modules");
        let kernel = list(&modules)?.into_iter().next();
        let kernel = kernel.ok_or_else(|| Error::Said(format!("{} is empty", modules.display())))?;
        Ok(Self { folder: folder.to_owned(), kernel, versions })
    }

    fn module(&self, name: &str) -> PathBuf {
        self.folder.join("lib/modules").join(&self.kernel).join("kernel").join(format!("{name}.ko"))
    }
}

fn build(debs: &Debs, work: &Path, outcome: &Path) -> Result<()> {
    let initrd = build_initrd(debs, work)?;
    let tree = build_tree(debs, work)?;
    let root = work.join("root.ext4");
    make_ext4(&root, ROOT_BYTES - ROOT_AT, "root", Some(&tree))?;
    let boot = build_boot(debs, work, &initrd)?;
    assemble(&outcome.join("root.raw"), &boot, &root)?;
    make_ext4(&outcome.join("data.raw"), DATA_BYTES, "data", None)
}

fn build_initrd(debs: &Debs, work: &Path) -> Result<PathBuf> {
    let tree = work.join("initrd");
    for folder in ["proc", "sys", "dev", "r", "m", "bin"] {
        make_folder(&tree.join(folder))?;
    }
    let busybox = crate::command::find("busybox").ok_or_else(|| Error::Said("busybox is gone".to_owned()))?;
    copy(&busybox, &tree.join("busybox"))?;
    symlink("../busybox", tree.join("bin/busybox")).map_err(Error::file(&tree))?;
    write_program(&tree.join("init"), GUEST_INITRD)?;
    for module in INITRD_MODULES {
        let name = module.rsplit('/').next().unwrap_or(module);
        copy(&debs.module(&format!("drivers/{module}")), &tree.join(format!("m/{name}.ko")))?;
    }
    settle_times(&tree)?;
    let initrd = work.join("initrd.gz");
    // A low level: unpacking is paid at every boot under emulation, packing once.
    let pack = "find . | sort | cpio --quiet -o -H newc --reproducible -R 0:0 | gzip -n6 > \"$0\"";
    run(command("sh").args(["-c", pack]).arg(&initrd).current_dir(&tree))?;
    Ok(initrd)
}

fn build_tree(debs: &Debs, work: &Path) -> Result<PathBuf> {
    let tree = work.join("tree");
    for folder in [
        "bin",
        "sbin",
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "data",
        "etc/acpi/PWRF",
        "lib/modules",
        "lib64",
        "root",
        "usr",
        "var/lib/app",
        "var/run",
    ] {
        make_folder(&tree.join(folder))?;
    }
    let busybox = crate::command::find("busybox").ok_or_else(|| Error::Said("busybox is gone".to_owned()))?;
    copy(&busybox, &tree.join("bin/busybox"))?;
    for applet in run(command("busybox").arg("--list"))?.lines().filter(|applet| *applet != "busybox") {
        let link = tree.join("bin").join(applet);
        symlink("busybox", &link).map_err(Error::file(&link))?;
    }
    write_program(&tree.join("sbin/init"), GUEST_INIT)?;
    write_program(&tree.join("sbin/shutdown"), "#!/bin/sh\n# What the guest agent runs.\nexec /bin/poweroff\n")?;
    write_program(&tree.join("etc/acpi/PWRF/00000080"), "#!/bin/sh\nexec /bin/poweroff\n")?;
    write_program(&tree.join("etc/udhcpc.sh"), GUEST_UDHCPC)?;
    for (name, file) in [("set-db-host", "/etc/db-host"), ("set-app-host", "/etc/app-host")] {
        write_program(&tree.join("bin").join(name), &format!("#!/bin/sh\nexec /sbin/guest set-host {file} \"$1\"\n"))?;
    }
    build_guest(work, &tree.join("sbin/guest"))?;
    install_agent(debs, &tree)?;
    for module in ROOT_MODULES {
        let name = module.rsplit('/').next().unwrap_or(module);
        copy(&debs.module(module), &tree.join(format!("lib/modules/{name}.ko")))?;
    }
    settle_times(&tree)?;
    Ok(tree)
}

/// One `rustc` call, static: no crate, no cargo, and so no lock and no target folder shared with anybody.
fn build_guest(work: &Path, outcome: &Path) -> Result<()> {
    let sources = work.join("guest");
    make_folder(&sources)?;
    write(&sources.join("main.rs"), GUEST_MAIN)?;
    write(&sources.join("record.rs"), GUEST_RECORD)?;
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    run(command(&rustc)
        .args(["--edition", "2024", "--target", "x86_64-unknown-linux-gnu", "--cap-lints", "allow"])
        .args(["-C", "target-feature=+crt-static", "-C", "opt-level=s", "-C", "strip=symbols", "-o"])
        .arg(outcome)
        .arg("main.rs")
        .current_dir(&sources))
    .map(drop)
}

/// The agent and the libraries it names, from this computer.
fn install_agent(debs: &Debs, tree: &Path) -> Result<()> {
    let agent = debs.folder.join("usr/sbin/qemu-ga");
    let agent = if agent.is_file() { agent } else { debs.folder.join("usr/bin/qemu-ga") };
    copy(&agent, &tree.join("sbin/qemu-ga"))?;
    for line in run(command("ldd").arg(&agent))?.lines() {
        if line.contains("not found") {
            return Err(Error::Missing { what: line.trim().to_owned(), packages: crate::packages().join(" ") });
        }
        let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        let name = path.rsplit('/').next().unwrap_or(path);
        let folder = if name.starts_with("ld-linux") { "lib64" } else { "lib" };
        copy(Path::new(path), &tree.join(folder).join(name))?;
    }
    Ok(())
}

fn build_boot(debs: &Debs, work: &Path, initrd: &Path) -> Result<PathBuf> {
    let boot = work.join("boot.fat");
    blank(&boot, BOOT_BYTES)?;
    let kernel = debs.folder.join(format!("boot/vmlinuz-{}", debs.kernel));
    let config = work.join("syslinux.cfg");
    write(
        &config,
        &format!(
            "DEFAULT l\nPROMPT 0\nTIMEOUT 0\nLABEL l\n KERNEL /vmlinuz\n INITRD /initrd.gz\n APPEND {KERNEL_LINE}\n"
        ),
    )?;
    let sectors = (BOOT_BYTES / 512).to_string();
    let hidden = (BOOT_AT / 512).to_string();
    run(command("mformat")
        .args(["-N", "12345678", "-T", &sectors, "-h", "16", "-s", "63", "-H", &hidden, "-v", "BOOT", "-i"])
        .arg(&boot)
        .arg("::"))?;
    for (from, to) in [(kernel.as_path(), "::/vmlinuz"), (initrd, "::/initrd.gz"), (&config, "::/syslinux.cfg")] {
        run(command("mcopy").arg("-i").arg(&boot).arg(from).arg(to))?;
    }
    run(command("syslinux").arg("--install").arg(&boot))?;
    Ok(boot)
}

/// Puts the parts behind a master boot record with two partitions.
fn assemble(disk: &Path, boot: &Path, root: &Path) -> Result<()> {
    const MBR: &str = "/usr/lib/syslinux/mbr/mbr.bin";
    const BOOT_CODE_BYTES: usize = 440;
    let code = fs::read(MBR).map_err(Error::file(MBR))?;
    let mut record = vec![0u8; 512];
    let length = code.len().min(BOOT_CODE_BYTES);
    record[..length].copy_from_slice(&code[..length]);
    record[440..444].copy_from_slice(&0xd15a_57e2u32.to_le_bytes());
    let parts = [(0x80u8, 0x06u8, BOOT_AT, BOOT_BYTES), (0, 0x83, ROOT_AT, ROOT_BYTES - ROOT_AT)];
    for (index, (active, kind, at, bytes)) in parts.into_iter().enumerate() {
        let entry = &mut record[446 + index * 16..462 + index * 16];
        entry[0] = active;
        // Cylinders say nothing any more: the block numbers count.
        entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[4] = kind;
        entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[8..12].copy_from_slice(&u32::try_from(at / 512).unwrap_or(u32::MAX).to_le_bytes());
        entry[12..16].copy_from_slice(&u32::try_from(bytes / 512).unwrap_or(u32::MAX).to_le_bytes());
    }
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    blank(disk, ROOT_BYTES)?;
    put(disk, 0, &record)?;
    put(disk, BOOT_AT, &fs::read(boot).map_err(Error::file(boot))?)?;
    put(disk, ROOT_AT, &fs::read(root).map_err(Error::file(root))?)
}

fn make_ext4(file: &Path, bytes: u64, label: &str, tree: Option<&Path>) -> Result<()> {
    const IDENTITY: &str = "6d0a5e2c-0000-4000-8000-000000000001";
    let mut mke2fs = command("mke2fs");
    mke2fs
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-J", "size=4", "-U", IDENTITY, "-L", label, "-O"])
        .args(["^resize_inode", "-E"])
        .arg(format!("hash_seed={IDENTITY},root_owner=0:0,lazy_itable_init=0"))
        .env("E2FSPROGS_FAKE_TIME", EPOCH);
    if let Some(tree) = tree {
        mke2fs.arg("-d").arg(tree);
    }
    run(mke2fs.arg(file).arg(format!("{}k", bytes / 1024))).map(drop)
}

fn settle_times(tree: &Path) -> Result<()> {
    let date = format!("@{EPOCH}");
    run(command("find").arg(tree).args(["-exec", "touch", "-hd", &date, "{}", "+"])).map(drop)
}

pub(crate) fn blank(file: &Path, bytes: u64) -> Result<()> {
    File::create(file).and_then(|new| new.set_len(bytes)).map_err(Error::file(file))
}

/// Writes at an offset and leaves holes where there are only zeroes.
fn put(file: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    const STEP: usize = 64 << 10;
    let mut open = File::options().write(true).open(file).map_err(Error::file(file))?;
    for (index, chunk) in bytes.chunks(STEP).enumerate() {
        if chunk.iter().any(|byte| *byte != 0) {
            let at = offset + (index * STEP) as u64;
            open.seek(SeekFrom::Start(at)).and_then(|_| open.write_all(chunk)).map_err(Error::file(file))?;
        }
    }
    Ok(())
}

pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::file(folder))
}

pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(Error::file(file))
}

fn write_program(file: &Path, text: &str) -> Result<()> {
    write(file, text)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).map_err(Error::file(file))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(Error::file(from))
}

fn list(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(Error::file(folder))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}
