//! Landing: convergent, never onto a running machine, and served again after a restart of the agent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use muster_agent::LocalSite;
use muster_ports::*;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use support::*;

struct Lab {
    folder: tempfile::TempDir,
    provider: Arc<MemoryProvider>,
    plane: Arc<MemoryPlane>,
}

impl Lab {
    fn new() -> Self {
        let (provider, plane) = (MemoryProvider::new("dr"), Arc::new(MemoryPlane::default()));
        Self { folder: tempfile::tempdir().unwrap(), provider, plane }
    }
    fn site(&self) -> LocalSite {
        local(&self.provider, &self.plane, self.folder.path())
    }
    fn order(&self, key: &str, mode: LandMode) -> LandOrder {
        order("db", key, mode, [self.plane.put("root", content(1)), self.plane.put("data", content(2))])
    }
    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("nbd.sock")
    }
    fn ties(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("ties")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// What QEMU reads from an export.
async fn read_with_qemu(socket: &Path, export: &str) -> Result<Vec<u8>, String> {
    let url = format!("nbd+unix:///{export}?socket={}", socket.display());
    tokio::task::spawn_blocking(move || {
        let copy = tempfile::NamedTempFile::new().unwrap();
        let output = Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "raw", &url, copy.path().to_str().unwrap()])
            .output()
            .unwrap_or_else(|error| {
                panic!("`qemu-img` cannot be run ({error}): install QEMU's tools (`apt-get install qemu-utils`)")
            });
        match output.status.success() {
            true => Ok(std::fs::read(copy.path()).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_are_served_again_after_a_restart_until_the_tie_is_cut() {
    let lab = Lab::new();
    let site = lab.site();
    assert!(site.resume().await.unwrap().is_empty());
    let order = lab.order("k1", LandMode::Instant);
    site.land(&order, &Silent).await.unwrap();
    let DiskBacking::Export { socket, export } = lab.provider.backing("db", "data") else { panic!("not tied") };
    assert_eq!((Path::new(&socket), export.as_str()), (&*lab.socket(), "db/data"));
    assert!(read_with_qemu(&lab.socket(), "db/data").await.unwrap() == content(2));
    assert_eq!(lab.ties(), ["db.json"]);

    // Another agent on the same folder is refused while this one lives.
    let failure = lab.site().resume().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused, "{failure}");

    drop(site);
    read_with_qemu(&lab.socket(), "db/root").await.unwrap_err();
    let site = lab.site();
    assert!(site.resume().await.unwrap().is_empty());
    assert!(read_with_qemu(&lab.socket(), "db/root").await.unwrap() == content(1));

    site.hydrate(&name("db"), &Silent).await.unwrap();
    assert_eq!(lab.provider.disk("db", "root").unwrap().bytes(), content(1));
    assert!(lab.ties().is_empty());
    read_with_qemu(&lab.socket(), "db/root").await.unwrap_err();
    site.hydrate(&name("db"), &Silent).await.unwrap();
}

#[tokio::test]
async fn landed_twice_with_the_same_key_is_landed_once() {
    let lab = Lab::new();
    for mode in [LandMode::Instant, LandMode::Full, LandMode::Differences] {
        let (site, order) = (Arc::new(lab.site()), lab.order("k1", mode));
        let before = lab.provider.count("define");
        let (one, two) = tokio::join!(site.land(&order, &Silent), site.land(&order, &Silent));
        one.and(two).unwrap();
        drop(site);
        lab.site().land(&order, &Silent).await.unwrap();
        assert_eq!(lab.provider.count("define") - before, 1, "{mode:?}");
        lab.site().undefine(&name("db"), true).await.unwrap();
        assert!(lab.ties().is_empty());
    }
}

#[tokio::test]
async fn a_landing_that_was_interrupted_goes_on() {
    let lab = Lab::new();
    let (site, order) = (lab.site(), lab.order("k1", LandMode::Full));
    // One disk was being written when the agent died.
    let mut half = content(1);
    half[DISK_BYTES as usize / 2..].fill(7);
    lab.provider.put_disk("db", "root", half);
    let report = site.land(&order, &Silent).await.unwrap();
    assert_eq!((report.compared_bytes, report.written_bytes), (DISK_BYTES, DISK_BYTES + DISK_BYTES / 2));
    assert_eq!(lab.provider.disk("db", "root").unwrap().bytes(), content(1));
    assert_eq!(lab.provider.disk("db", "data").unwrap().bytes(), content(2));
    assert_eq!(lab.provider.backing("db", "root"), DiskBacking::Existing);
}

#[tokio::test]
async fn differences_are_written_onto_the_machine_that_is_there_when_it_is_off() {
    let lab = Lab::new();
    let site = lab.site();
    site.land(&lab.order("old", LandMode::Full), &Silent).await.unwrap();
    site.start(&name("db")).await.unwrap();
    let back =
        order("db", "k2", LandMode::Differences, [lab.plane.put("r2", content(1)), lab.plane.put("d2", content(5))]);
    let failure = site.land(&back, &Silent).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused, "{failure}");
    assert_eq!(lab.provider.disk("db", "data").unwrap().bytes(), content(2), "a running machine's disk was written");
    site.stop(&name("db"), StopMode::Hard).await.unwrap();
    for mode in [LandMode::Full, LandMode::Instant] {
        let failure = site.land(&lab.order("k2", mode), &Silent).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Refused, "{failure}");
    }
    let report = site.land(&back, &Silent).await.unwrap();
    assert_eq!((report.compared_bytes, report.written_bytes), (2 * DISK_BYTES, DISK_BYTES));
    assert!(report.notes.is_empty());
    assert_eq!(lab.provider.disk("db", "data").unwrap().bytes(), content(5));
    let state = site.instance(&name("db")).await.unwrap().unwrap();
    assert_eq!(state.labels["muster.key"], "k2");
}

#[tokio::test]
async fn a_disk_that_is_not_there_is_written_in_full_and_said() {
    let lab = Lab::new();
    lab.provider.put_disk("db", "root", content(1));
    let report = lab.site().land(&lab.order("k1", LandMode::Differences), &Silent).await.unwrap();
    assert_eq!(report.notes, ["disk `data` was not at this site; it was written in full"]);
    assert_eq!(report.written_bytes, DISK_BYTES);
}

#[tokio::test]
async fn wrong_orders_change_nothing() {
    let lab = Lab::new();
    let site = lab.site();
    let mut missing = lab.order("k", LandMode::Instant);
    missing.images.remove(&DiskName::new("data"));
    let mut resized = lab.order("k", LandMode::Full);
    resized.shape.disks[0].size_bytes += 512;
    let mut nameless = lab.order("k", LandMode::Full);
    nameless.shape.labels.clear();
    let mut stray = lab.order("k", LandMode::Full);
    stray.shape.disks.pop();
    for (order, reason) in [
        (missing, "the point has no image of disk `data`"),
        (resized, "disk `root` is to have 1049088 bytes, at the point it has 1048576"),
        (nameless, "the order has no label `muster.key`"),
        (stray, "there is an image for disk `data`, which it does not have"),
    ] {
        let failure = site.land(&order, &Silent).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Permanent);
        assert_eq!(failure.message, format!("land `db`: {reason}"));
    }
    assert!(lab.provider.estate.lock().unwrap().log.is_empty());
    assert!(lab.provider.disk("db", "root").is_none());
}

#[tokio::test]
async fn a_refused_definition_leaves_no_tie_and_a_lost_one_is_forgotten() {
    let lab = Lab::new();
    let site = lab.site();
    lab.provider.estate.lock().unwrap().define_fails = Some(Failure::refused("no room"));
    site.land(&lab.order("k", LandMode::Instant), &Silent).await.unwrap_err();
    assert!(lab.ties().is_empty());
    lab.provider.estate.lock().unwrap().define_fails = Some(Failure::transient("busy"));
    site.land(&lab.order("k", LandMode::Instant), &Silent).await.unwrap_err();
    assert_eq!(lab.ties(), ["db.json"], "it may have been defined after all");
    site.resume().await.unwrap();
    assert!(lab.ties().is_empty(), "it was not");
}

#[tokio::test]
async fn a_vault_that_comes_back_later_is_served_then() {
    let lab = Lab::new();
    lab.site().land(&lab.order("k", LandMode::Instant), &Silent).await.unwrap();
    *lab.plane.gone.lock().unwrap() = true;
    let site = lab.site();
    let failures = site.resume().await.unwrap();
    assert_eq!(failures.len(), 1);
    assert!(failures[0].message.contains("serve the disks of `db`: open the replica of disk `data`"), "{failures:?}");
    let failure = site.start(&name("db")).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient, "{failure}");
    site.fence(&name("db")).await.unwrap();
    site.unfence(&name("db")).await.unwrap();
    *lab.plane.gone.lock().unwrap() = false;
    site.start(&name("db")).await.unwrap();
    site.hydrate(&name("db"), &Silent).await.unwrap();
}

#[tokio::test]
async fn a_damaged_tie_is_said_and_keeps_nothing_else_from_coming_up() {
    let lab = Lab::new();
    lab.site().land(&lab.order("k", LandMode::Instant), &Silent).await.unwrap();
    std::fs::write(lab.folder.path().join("ties").join("web.json"), "{").unwrap();
    let site = lab.site();
    let failures = site.resume().await.unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].class, FailureClass::Diverged);
    assert!(failures[0].message.contains("web.json"), "{failures:?}");
    site.hydrate(&name("db"), &Silent).await.unwrap();
}

#[tokio::test]
async fn a_folder_too_deep_for_a_socket_is_said() {
    let lab = Lab::new();
    let deep = lab.folder.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let failure = local(&lab.provider, &lab.plane, &deep).resume().await.unwrap_err();
    assert!(failure.message.contains("the path of the socket has"), "{failure}");
    assert_eq!(failure.help.as_deref(), Some("use a folder with a shorter path"));
}
