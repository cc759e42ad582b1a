//! Files on disks of machines that are off, made with the file systems' own tools and read back with them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is wrong")]

mod common;

use async_trait::async_trait;
use muster_nbd::Server;
use muster_ports::*;
use muster_provider_qemu::QemuProvider;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const DISK_BYTES: u64 = 64 << 20;
/// Where the partition begins.
const START: u64 = 1 << 20;
const CONF: &str = "/etc/shop/db.conf";

fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(program).args(arguments).current_dir(folder).env("PATH", path).output();
    let output =
        output.unwrap_or_else(|error| panic!("`{program}`: {error}; `cargo verify` installs tests/lab/packages.txt"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {}: {out}{err}", arguments.join(" "));
    format!("{out}{err}")
}

/// What a landed machine reads below its overlay.
#[derive(Debug)]
struct Replica(Vec<u8>);

#[async_trait]
impl BlockSource for Replica {
    fn size(&self) -> u64 {
        DISK_BYTES
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        Ok(vec![Extent { offset, length, kind: ExtentKind::Data }])
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.0[start..start + buffer.len()]);
        Ok(())
    }
}

/// A raw disk with one partition, on it a file system with a configuration that belongs to somebody.
fn disk(folder: &Path, name: &str, kind: &str) -> PathBuf {
    let path = folder.join(name);
    let file = File::create(&path).unwrap();
    file.set_len(DISK_BYTES).unwrap();
    let mut table = [0u8; 512];
    table[446 + 4] = 0x83;
    table[446 + 8..446 + 12].copy_from_slice(&u32::try_from(START / 512).unwrap().to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    file.write_all_at(&table, 0).unwrap();
    let blocks = format!("{}k", (DISK_BYTES - START) / 1024);
    run(folder, "mke2fs", &["-q", "-F", "-t", kind, "-E", &format!("offset={START}"), name, &blocks]);
    std::fs::write(folder.join("conf"), "host=10.10.20.50\nport=5432\n").unwrap();
    let script = "mkdir /etc\nmkdir /etc/shop\ncd /etc/shop\nwrite conf db.conf\nsif db.conf mode 0100640\n\
                  sif db.conf uid 100999\nsif db.conf gid 27\nea_set db.conf user.label shop\n\
                  symlink link /etc/shop/db.conf\n";
    std::fs::write(folder.join("script"), script).unwrap();
    run(folder, "debugfs", &["-w", "-f", "script", &image(name)]);
    path
}

fn image(name: &str) -> String {
    format!("{name}?offset={START}")
}

fn shape(backing: DiskBacking) -> MachineShape {
    MachineShape {
        instance: "app".into(),
        machine: "app".into(),
        cpus: 1,
        memory_bytes: 128 << 20,
        disks: vec![DiskShape { name: "root".into(), size_bytes: DISK_BYTES, backing }],
        nics: Vec::new(),
        scope: NetworkScope::Live,
        labels: BTreeMap::from([("muster.key".to_owned(), "k".to_owned())]),
        track_from: None,
    }
}

/// What the disk of the machine holds now, as a raw file.
fn raw(site: &Path, to: &Path) {
    let home = site.join("machines/app");
    run(&home, "qemu-img", &["convert", "-O", "raw", "root.qcow2", to.to_str().unwrap()]);
}

async fn change(provider: &QemuProvider) {
    let app = InstanceName::from("app");
    let text = provider.disk_read(&app, CONF).await.unwrap().unwrap();
    assert_eq!(text, "host=10.10.20.50\nport=5432\n");
    let text = Concealed::new(text.replace("10.10.20.50", "10.60.20.50"));
    provider.disk_write(&app, CONF, &text).await.unwrap();
    // Twice is once.
    provider.disk_write(&app, CONF, &text).await.unwrap();
    provider.disk_write(&app, "/etc/motd", &Concealed::new("landed\n")).await.unwrap();
    assert_eq!(provider.disk_read(&app, "/etc/motd").await.unwrap().as_deref(), Some("landed\n"));
    assert_eq!(provider.disk_read(&app, "/etc/none").await.unwrap(), None);
}

/// Sound by its own tools, changed where it was to be, and everything about the file as it was.
fn holds(folder: &Path, name: &str) {
    run(folder, "e2fsck", &["-f", "-n", &image(name)]);
    let ask = |command: &str| run(folder, "debugfs", &["-R", command, &image(name)]);
    assert!(ask(&format!("cat {CONF}")).contains("host=10.60.20.50\nport=5432\n"));
    let facts = ask(&format!("stat {CONF}"));
    assert!(
        facts.contains("Mode:  0640") && facts.contains("User: 100999") && facts.contains("Group:    27"),
        "{facts}"
    );
    assert!(facts.contains("Links: 1"), "{facts}");
    assert!(ask(&format!("ea_list {CONF}")).contains("user.label (4) = \"shop\""));
    assert!(!ask("ls /etc/shop").contains("muster"));
}

#[tokio::test]
async fn a_file_is_replaced_on_every_kind_of_the_family() {
    for kind in ["ext2", "ext3", "ext4"] {
        let (site, bench) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = disk(bench.path(), "disk.raw", kind);
        let provider = common::open(site.path());
        assert!(provider.facts().await.unwrap().capabilities.disk_files, "FUSE, debugfs and e2fsck are here");
        provider.define(&shape(DiskBacking::Blank)).await.unwrap();
        let home = site.path().join("machines/app");
        run(&home, "qemu-img", &["convert", "-O", "qcow2", path.to_str().unwrap(), "root.qcow2"]);
        change(&provider).await;
        raw(site.path(), &bench.path().join("after.raw"));
        holds(bench.path(), "after.raw");
        assert!(!home.join("files.busy").exists() && !home.join("files.disk").exists());
    }
}

#[tokio::test]
async fn a_landed_overlay_stays_one_and_what_is_written_is_tracked() {
    let (site, bench) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = disk(bench.path(), "disk.raw", "ext4");
    let before = std::fs::read(&path).unwrap();
    let provider = common::open(site.path());
    let server = Server::bind_unix(&site.path().join("replica.sock")).await.unwrap();
    server.export("app/root", Arc::new(Replica(before.clone()))).unwrap();
    let backing = DiskBacking::Export { socket: "replica.sock".into(), export: "app/root".into() };
    let barrier = BarrierId::from("landed");
    provider.define(&MachineShape { track_from: Some(barrier), ..shape(backing) }).await.unwrap();
    change(&provider).await;
    let home = site.path().join("machines/app");
    let bitmaps = run(&home, "qemu-img", &["info", "-U", "--output=json", "root.qcow2"]);
    assert!(bitmaps.contains("landed"), "{bitmaps}");
    assert!(provider.instances().await.unwrap()[0].tied, "it still reads from the replica");
    let order = CutOrder {
        barrier: "next".into(),
        members: vec![CutMember { instance: "app".into(), machine: "app".into(), base: Some("landed".into()) }],
        consistency: Consistency::Crash,
        hold: false,
        hold_limit: Duration::from_secs(5),
    };
    let cut = provider.cut(&order).await.unwrap();
    let source = provider.open_cut(&"next".into(), &"app".into(), &"root".into(), true).await.unwrap();
    let mut changed = 0;
    let mut at = 0;
    while at < DISK_BYTES {
        for extent in source.extents(at, DISK_BYTES - at).await.unwrap() {
            at += extent.length;
            changed += if extent.kind == ExtentKind::Unchanged { 0 } else { extent.length };
        }
    }
    assert!(changed > 0 && changed < 8 << 20, "{changed} bytes of {cut:?}");
    drop(source);
    provider.settle(&"next".into(), CutOutcome::Abandoned).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_done_truly_is_refused_by_name() {
    let (site, bench) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let provider = common::open(site.path());
    let app = InstanceName::from("app");
    assert!(provider.disk_read(&app, CONF).await.is_err(), "no such machine");
    provider.define(&shape(DiskBacking::Blank)).await.unwrap();
    let empty = provider.disk_read(&app, CONF).await.unwrap_err();
    assert!(empty.message.contains("no ext2, ext3 or ext4: seen is nothing known"), "{empty}");

    let path = disk(bench.path(), "disk.raw", "ext4");
    let home = site.path().join("machines/app");
    run(&home, "qemu-img", &["convert", "-O", "qcow2", path.to_str().unwrap(), "root.qcow2"]);
    let link = provider.disk_read(&app, "/etc/shop/link").await.unwrap_err();
    assert!(link.message.contains("is no file: symlink"), "{link}");
    let text = Concealed::new("x");
    let folder = provider.disk_write(&app, "/no/such/file", &text).await.unwrap_err();
    assert!(folder.message.contains("there is no folder `/no/such`"), "{folder}");
    assert!(provider.disk_write(&app, "/etc/../x", &text).await.is_err());
    let large = Concealed::new("x".repeat(DISK_FILE_BYTES_MAX + 1));
    assert!(provider.disk_write(&app, CONF, &large).await.unwrap_err().message.contains("larger than"));

    // A host that died in mid-change: the file system is checked before it is touched again.
    std::fs::write(home.join("files.busy"), "\"/etc/shop/db.conf\"").unwrap();
    provider.disk_write(&app, "/etc/motd", &text).await.unwrap();
    assert!(!home.join("files.busy").exists());
    raw(site.path(), &bench.path().join("after.raw"));
    run(bench.path(), "e2fsck", &["-f", "-n", &image("after.raw")]);
}
