//! A site in a namespace of its own, with the test as its agent.
//!
//! What is missing on this computer fails the test with the command that installs it: nothing is skipped.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is wrong")]

pub mod fake;

use async_trait::async_trait;
use muster_lab::{Lab, Machine, Role};
use muster_ports::*;
use muster_provider_qemu::{QemuProvider, Watchdog};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{File, OpenOptions};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

pub const DATABASE_IP: &str = "10.10.20.11";
pub const DATABASE_MAC: &str = "52:54:00:10:00:11";
pub const PRODUCTION: &str = "10.10.20.0/24";
/// An emulated machine on a loaded host; alone it takes five seconds.
const BOOT: Duration = Duration::from_secs(120);

pub struct Bench {
    pub provider: Arc<QemuProvider>,
    pub lab: Lab,
}

/// A site that has a database machine, off; the thread is in its namespace, and whatever the thread starts.
pub fn enter_a_site(seed: &str) -> (Lab, PathBuf) {
    let mut lab = Lab::open(seed).unwrap_or_else(|error| panic!("{error}"));
    let images = lab.images().clone();
    let site = lab.add_site("hq").unwrap_or_else(|error| panic!("{error}"));
    site.write_networks(&[("prod", PRODUCTION)]).unwrap();
    let database = Machine::new("db", Role::Database, "prod", DATABASE_MAC, DATABASE_IP);
    site.machine(&images, &database).unwrap_or_else(|error| panic!("{error}"));
    site.enter().unwrap_or_else(|error| panic!("{error}"));
    let folder = site.folder().to_owned();
    (lab, folder)
}

/// Runs `test` inside a site that has a database machine, off.
pub fn on_a_site<F: Future<Output = ()>>(seed: &str, test: impl FnOnce(Bench) -> F) {
    let (lab, folder) = enter_a_site(seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let provider = open(&folder);
        test(Bench { provider, lab }).await;
    });
}

/// The site's provider, as an agent has it.
pub fn open(folder: &Path) -> Arc<QemuProvider> {
    let watchdog = Watchdog { program: program(), arguments: vec!["watch".to_owned()] };
    QemuProvider::open(SiteName::new("hq"), folder.to_owned(), Arc::new(SystemClock), watchdog).unwrap()
}

/// An agent that can be killed, and the watchdog beside it.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_qemu-site"))
}

pub fn held(consistency: Consistency, limit: Duration) -> CutOrder {
    CutOrder { hold_limit: limit, ..order("b1", None, consistency) }
}

/// The database and a second machine, `ghost`.
pub fn both(consistency: Consistency, limit: Duration) -> CutOrder {
    let mut order = held(consistency, limit);
    let (instance, machine) = (InstanceName::new("ghost"), MachineName::new("ghost"));
    order.members.push(CutMember { instance, machine, base: None });
    order
}

/// An agent of its own process group, making one cut.
pub fn agent(site: &Path, order: &CutOrder) -> Child {
    let mut agent = Command::new(program())
        .args(["cut", "hq"])
        .arg(site)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    serde_json::to_writer(agent.stdin.take().unwrap(), order).unwrap();
    agent
}

/// As a service that is killed with all that belongs to it.
pub fn kill_group(agent: &Child) {
    let group = Pid::from_raw(i32::try_from(agent.id()).unwrap()).unwrap();
    kill_process_group(group, Signal::KILL).unwrap();
}

impl Bench {
    pub fn folder(&self) -> PathBuf {
        self.lab.site("hq").unwrap().folder().to_owned()
    }
    /// Another agent over the same folder, as after a crash of the first.
    pub fn reopen(&self) -> Arc<QemuProvider> {
        open(&self.folder())
    }

    /// Waits until the database answers over its network; answers with its last record.
    pub async fn database_up(&self, scope: &NetworkScope) -> u64 {
        let mut last = None;
        self.until("the database answers", async || {
            last = self.talk(scope, "LAST\n").await;
            last.is_some()
        })
        .await;
        last.unwrap()
    }
    /// The number in the last line the database says.
    pub async fn talk(&self, scope: &NetworkScope, send: &str) -> Option<u64> {
        let ip: IpAddr = DATABASE_IP.parse().unwrap();
        let within = Duration::from_secs(20);
        let probe = Probe::Talk { ip, port: 7000, send: send.to_owned(), within };
        let answer = self.provider.probe(scope, &probe).await.ok()?;
        answer.body.lines().last()?.strip_prefix("last=")?.parse().ok()
    }
    pub async fn agent_up(&self, instance: &InstanceName) {
        self.until("the guest agent answers", async || self.provider.guest_ping(instance).await.is_ok()).await;
    }
    pub async fn until(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let clock = SystemClock;
        let deadline = clock.now().plus(BOOT);
        while !done().await {
            let console = self.provider.console(&InstanceName::new("db"), 2000).await.unwrap_or_default();
            assert!(clock.now() < deadline, "waited for `{what}` in vain; the console says:\n{console}");
            clock.sleep(Duration::from_millis(200)).await;
        }
    }

    pub async fn power(&self, instance: &InstanceName) -> Power {
        let all = self.provider.instances().await.unwrap();
        all.into_iter().find(|state| state.instance == *instance).unwrap().power
    }
    pub async fn cut(&self, barrier: &str, base: Option<&str>, consistency: Consistency) -> CutReport {
        self.provider.cut(&order(barrier, base, consistency)).await.unwrap()
    }
    /// How opening a disk of the cut fails.
    pub async fn cut_is_gone(&self, barrier: &str) -> FailureClass {
        let (machine, disk) = (MachineName::new("db"), DiskName::new("data"));
        self.provider.open_cut(&BarrierId::new(barrier), &machine, &disk, false).await.unwrap_err().class
    }
    /// Reads a cut disk into an image; with `changed_only` over what it holds. Answers with the bytes read.
    pub async fn read_cut(&self, barrier: &str, disk: &str, changed_only: bool, image: &Path) -> u64 {
        self.read_cut_of("db", barrier, disk, changed_only, image).await
    }
    pub async fn read_cut_of(&self, machine: &str, barrier: &str, disk: &str, changed_only: bool, image: &Path) -> u64 {
        let (barrier, machine, disk) = (BarrierId::new(barrier), MachineName::new(machine), DiskName::new(disk));
        let source = self.provider.open_cut(&barrier, &machine, &disk, changed_only).await.unwrap();
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(image).unwrap();
        file.set_len(source.size()).unwrap();
        let (mut at, mut read) = (0, 0);
        while at < source.size() {
            for extent in source.extents(at, source.size() - at).await.unwrap() {
                assert_eq!(extent.offset, at, "extents have no gaps");
                at += extent.length;
                let mut buffer = vec![0u8; usize::try_from(extent.length).unwrap()];
                match extent.kind {
                    ExtentKind::Unchanged => continue,
                    ExtentKind::Zero => {}
                    ExtentKind::Data => {
                        source.read_at(extent.offset, &mut buffer).await.unwrap();
                        read += extent.length;
                    }
                }
                file.write_all_at(&buffer, extent.offset).unwrap();
            }
        }
        read
    }
}

pub fn order(barrier: &str, base: Option<&str>, consistency: Consistency) -> CutOrder {
    CutOrder {
        barrier: BarrierId::new(barrier),
        members: vec![CutMember {
            instance: InstanceName::new("db"),
            machine: MachineName::new("db"),
            base: base.map(BarrierId::new),
        }],
        consistency,
        hold: true,
        hold_limit: Duration::from_secs(30),
    }
}

/// A raw image as a disk.
#[derive(Debug)]
pub struct Raw {
    file: File,
    size: u64,
}

impl Raw {
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        Self { file, size }
    }
}

#[async_trait]
impl BlockSource for Raw {
    fn size(&self) -> u64 {
        self.size
    }
    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>> {
        Ok(vec![Extent { offset, length, kind: ExtentKind::Data }])
    }
    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(Failure::from)
    }
}
