//! A shop on two simulated sites, its plans and its vault, and the binary typed at like a person does.

use muster_demo::estate::{AWAY, Estate, HOME};
use muster_demo::simulated::SimulatedEstate;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_muster");
pub const MACHINES: [&str; 3] = ["db", "app", "web"];
/// The longest one command may take; a whole planned move takes one or two seconds.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long something may take to become true, on a loaded host.
const WAIT_LIMIT: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(20);

pub struct Shop {
    pub estate: SimulatedEstate,
    pub folder: TempDir,
    vault: PathBuf,
    /// Where the vault is when it is in no folder, and what a process needs in its environment to get there.
    store: Option<(String, Vec<(String, String)>)>,
}

/// What a command said and how it ended.
#[derive(Debug)]
#[allow(dead_code, reason = "failed assertions show all of it")]
pub struct Said {
    pub words: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Of no command: to go on with a run that waits for a person.
    pub fn waiting() -> Self {
        Self { words: String::new(), code: Some(4), out: String::new(), err: String::new() }
    }

    /// It ended so.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert!(!self.err.contains("panicked"), "{self:#?}");
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// It said all of this to the person.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is missing in {self:#?}");
        }
        self
    }

    #[track_caller]
    pub fn data(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {self:#?}"))
    }
}

impl Shop {
    /// Two agents that answer, machines that are on, plans; no vault yet.
    pub fn new() -> Self {
        Self::with_vault(|folder| folder.join("vault"))
    }

    /// The same, with the vault somewhere else.
    pub fn with_vault(place: impl FnOnce(&Path) -> PathBuf) -> Self {
        Self::at(place, None)
    }

    /// The same, with the vault in an object store.
    #[allow(dead_code, reason = "the tests of stores do")]
    pub fn with_store(url: &str, environment: &[(String, String)]) -> Self {
        Self::at(|folder| folder.join("no-vault"), Some((url.to_owned(), environment.to_vec())))
    }

    fn at(place: impl FnOnce(&Path) -> PathBuf, store: Option<(String, Vec<(String, String)>)>) -> Self {
        // Short: Unix sockets live below it, and their paths may have 107 bytes.
        let folder = tempfile::Builder::new().prefix("mus-").tempdir().unwrap();
        let at = folder.path();
        std::fs::create_dir_all(at.join("plans")).unwrap();
        std::fs::create_dir_all(at.join("run")).unwrap();
        let estate =
            SimulatedEstate::new(&at.join("lab"), Path::new(BINARY), &at.join("muster.key"), "in a test").unwrap();
        let estate = estate.with_environment(store.iter().flat_map(|(_, environment)| environment.clone()).collect());
        let vault = place(at);
        let mut shop = Self { estate, folder, vault, store };
        shop.write_plans(|text| text);
        for site in [HOME, AWAY] {
            shop.estate.start(site).unwrap();
        }
        shop.wait_until("the sites answer", || {
            shop.json(&["machines"])["silent"].as_array().is_some_and(std::vec::Vec::is_empty)
        });
        for machine in MACHINES {
            shop.type_in(&["power", "on", HOME, machine]).ends(0);
        }
        shop.type_in(&["inventory", "pull"]).ends(0);
        shop
    }

    /// Every group has a recovery point, the database has records, and nobody holds the vault.
    pub fn protected() -> Self {
        Self::new().protect()
    }

    pub fn protect(self) -> Self {
        let shop = self;
        shop.type_in(&["vault", "init"]).ends(0);
        shop.type_in(&["protect"]).ends(0);
        shop.wait_until("the shop writes", || shop.estate.last_answered(HOME).unwrap() > 10);
        shop.type_in(&["replicate", "--once"]).ends(0);
        shop
    }

    /// The shop of `plans/shop` with another text of its plan, and this shop's sites.
    pub fn write_plans(&self, change: impl FnOnce(String) -> String) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans/shop/shop.plan");
        let text = change(std::fs::read_to_string(source).unwrap());
        std::fs::write(self.plans().join("shop.plan"), text).unwrap();
        let url = match &self.store {
            Some((url, _)) => url.clone(),
            None => format!("file://{}", self.vault().display()),
        };
        let sites = self.estate.sites_plan(&url);
        std::fs::write(self.plans().join("sites.plan"), sites).unwrap();
    }

    /// Changes the text of a plan that is there.
    pub fn write_plan(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.plans().join(file);
        let text = change(std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, text).unwrap();
    }

    pub fn plans(&self) -> PathBuf {
        self.folder.path().join("plans")
    }
    pub fn vault(&self) -> PathBuf {
        self.vault.clone()
    }
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("muster.key")
    }

    /// A command of this shop's person.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words).stdin(Stdio::null());
        command.env("MUSTER_PLANS", self.plans()).env("MUSTER_KEY_FILE", self.key()).env("MUSTER_USER", "tester");
        command.env("XDG_RUNTIME_DIR", self.folder.path().join("run")).env("NO_COLOR", "1").env_remove("RUST_LOG");
        command.env_remove("MUSTER_VAULT");
        command.envs(self.store.iter().flat_map(|(_, environment)| environment.clone()));
        command
    }

    /// The same person in another session (or on another host): the socket of the holder is not there.
    pub fn elsewhere(&self, words: &[&str]) -> Command {
        let other = self.folder.path().join("run2");
        std::fs::create_dir_all(&other).unwrap();
        let mut command = self.command(words);
        command.env("XDG_RUNTIME_DIR", other);
        command
    }

    pub fn type_in(&self, words: &[&str]) -> Said {
        said(self.command(words), words)
    }

    pub fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        self.type_in(&words).ends(0).data()
    }

    /// A command that stays, until it is dropped.
    pub fn stays(&self, mut command: Command) -> Running {
        let log = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        let also = log.reopen().unwrap();
        let child = command.stdout(also.try_clone().unwrap()).stderr(also).spawn().unwrap();
        Running { child, log }
    }

    /// `replicate`, once it holds the vault.
    pub fn replicating(&self) -> Running {
        let replication = self.stays(self.command(&["replicate"]));
        self.wait_until("replicate holds the vault", || self.json(&["status"])["holder"].is_string());
        replication
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, holds: impl FnMut() -> bool) {
        wait_for(what, WAIT_LIMIT, holds);
    }

    /// For what has to wait until the lease of a holder that could not give it back has run out.
    #[track_caller]
    pub fn wait_until_long(&self, what: &str, holds: impl FnMut() -> bool) {
        wait_for(what, 2 * WAIT_LIMIT, holds);
    }

    /// The newest recovery point of a group.
    pub fn newest_point(&self, group: &str) -> String {
        let answer = self.json(&["points", group]);
        let points = answer["points"].as_array().unwrap();
        let newest = points.iter().max_by_key(|point| point["at"].as_u64()).expect("a point");
        newest["id"].as_str().unwrap().to_owned()
    }

    pub fn points(&self) -> usize {
        self.json(&["points"])["points"].as_array().unwrap().len()
    }

    /// Where each live machine is on, as `machine@site`.
    pub fn live(&self) -> Vec<String> {
        let answer = self.json(&["machines"]);
        let mut on: Vec<String> = answer["instances"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|pair| pair[1]["power"] == "on" && pair[1]["scope"]["scope"] == "live")
            .map(|pair| format!("{}@{}", pair[1]["machine"].as_str().unwrap(), pair[0].as_str().unwrap()))
            .collect();
        on.sort();
        on
    }

    /// No machine runs at both sites.
    #[track_caller]
    pub fn assert_runs_once(&self) {
        let live = self.live();
        let mut machines: Vec<&str> = live.iter().filter_map(|at| at.split('@').next()).collect();
        let on = machines.len();
        machines.dedup();
        assert_eq!(machines.len(), on, "a machine runs at both sites: {live:?}");
    }

    #[track_caller]
    pub fn assert_runs_at(&self, site: &str) {
        assert_eq!(self.live(), ["app", "db", "web"].map(|machine| format!("{machine}@{site}")));
    }

    /// The newest record of the database in the newest point of `orders`, its disks checked.
    #[track_caller]
    pub fn recovered(&self) -> u64 {
        let to = tempfile::tempdir_in(self.folder.path()).unwrap();
        let point = self.newest_point("orders");
        self.type_in(&["materialise", &point, "db", "app", "--to", &to.path().display().to_string()]).ends(0);
        self.estate.check_point(to.path()).unwrap().last
    }

    /// What a refusal or a damage must leave behind: home runs, the vault is whole, and replication goes on.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        self.assert_runs_at(HOME);
        let had = self.estate.last_answered(HOME).unwrap();
        self.type_in(&["replicate", "--once"]).ends(0);
        assert!(self.recovered() >= had, "a point made after record {had} does not hold it");
    }

    pub fn newest_run(&self) -> Value {
        self.json(&["runs"])[0].clone()
    }

    /// The steps the newest run waits for, answered by this word of a person.
    pub fn run_id(&self) -> String {
        self.newest_run()["id"].as_str().expect("a run").to_owned()
    }

    /// Questions of a run that nobody has answered.
    pub fn questions(&self, run: &str) -> Vec<String> {
        let log = self.json(&["log", run]);
        let mut open: Vec<String> = Vec::new();
        for record in log["records"].as_array().unwrap() {
            let node = record["node"].as_str().unwrap_or_default().to_owned();
            match record["event"].as_str() {
                Some("asked") => open.push(node),
                Some("answered") => open.retain(|asked| *asked != node),
                _ => {}
            }
        }
        open
    }

    /// Goes on with a run that has stopped (exit code 4), saying yes to every question, until it ends.
    #[track_caller]
    pub fn finish(&self, stopped: Said) -> Said {
        let mut stopped = stopped;
        // The plan asks once; a run that asks again and again is wrong.
        for _ in 0..5 {
            if stopped.code != Some(4) {
                return stopped;
            }
            let run = self.run_id();
            let questions = self.questions(&run);
            assert!(!questions.is_empty(), "waits for something else than an answer: {stopped:#?}");
            for step in questions {
                self.type_in(&["approve", &run, &step]).ends(0);
            }
            stopped = self.type_in(&["resume", &run, "--no-wait"]);
        }
        panic!("it asks for ever: {stopped:#?}");
    }

    /// An operation with all questions answered yes.
    #[track_caller]
    pub fn play(&self, words: &[&str]) {
        let words: Vec<&str> = words.iter().copied().chain(["--no-wait"]).collect();
        self.finish(self.type_in(&words)).ends(0);
    }
}

#[track_caller]
fn wait_for(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "{what}: not within {}s", limit.as_secs());
        std::thread::sleep(LOOK);
    }
}

/// Runs a command to its end, with a limit.
pub fn said(mut command: Command, words: &[&str]) -> Said {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    let (done, ended) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let output = child.wait_with_output();
        let _ = done.send(());
        output
    });
    let late = ended.recv_timeout(COMMAND_LIMIT).is_err();
    if late {
        let _ = kill_process(pid, Signal::KILL);
    }
    let output = waiting.join().unwrap().unwrap();
    let said = Said {
        words: words.join(" "),
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!late, "did not end within {}s: {said:#?}", COMMAND_LIMIT.as_secs());
    said
}

/// A command that stays; killed when dropped.
pub struct Running {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Running {
    /// What it has said so far, data and words.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
    pub fn process(&self) -> u32 {
        self.child.id()
    }
    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
    /// Its exit code, when it ends in time.
    pub fn ended(&mut self) -> Option<i32> {
        let began = Instant::now();
        while began.elapsed() < WAIT_LIMIT {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(LOOK);
        }
        panic!("still runs after {}s: {}", WAIT_LIMIT.as_secs(), self.log());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
