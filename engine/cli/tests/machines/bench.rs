//! A shop of real machines, and the binary typed at like a person does; what every test of them looks at.

use muster_demo::estate::{AWAY, Estate, HOME, PointCheck};
use muster_demo::muster::Muster;
use muster_demo::real::{Console, RealEstate};
use muster_demo::{Result, during};
use muster_lab::process_of;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

pub(crate) const SHOP: [&str; 3] = ["db", "app", "web"];
/// Emulated machines on a loaded host; alone they take ten seconds.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// The longest one command may take: a planned move with its three boots takes 25 s.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(200);
pub(crate) const LOOK: Duration = Duration::from_millis(2);

/// One estate at a time on this computer's cores, also when the tests are threads of one process.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Bench {
    pub(crate) folder: PathBuf,
    pub(crate) estate: RealEstate,
    pub(crate) muster: Muster,
    typed: usize,
}

pub(crate) fn on_real_machines(name: &str, test: impl FnOnce(&mut Bench) -> Result<()>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Short on purpose: Unix sockets live below it, and their paths may have 107 bytes.
    let folder = std::env::temp_dir().join(format!("muster-{name}-{}", std::process::id()));
    let began = Instant::now();
    match Bench::new(&folder).and_then(|mut bench| test(&mut bench)) {
        Ok(()) => {
            println!("{name}: {:.0}s", began.elapsed().as_secs_f64());
            let _ = std::fs::remove_dir_all(&folder);
        }
        Err(error) => panic!("{error}\n(everything lies in {})", folder.display()),
    }
}

impl Bench {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(during(folder.display()))?;
        // A copy: a build during the tests must not change what they test.
        let binary = folder.join("muster");
        std::fs::copy(env!("CARGO_BIN_EXE_muster"), &binary).map_err(during(binary.display()))?;
        let key = folder.join("muster.key");
        let estate = RealEstate::new(&folder.join("lab"), &binary, &key)?;
        let runtime = folder.join("run");
        std::fs::create_dir_all(&runtime).map_err(during(runtime.display()))?;
        let muster = Muster { binary, plans: folder.join("plans"), key, runtime: Some(runtime), show: false };
        Ok(Self { folder: folder.to_owned(), estate, muster, typed: 0 })
    }

    /// Both agents, and the plans with the given text beside the sites'.
    pub(crate) fn begin(&mut self, name: &str, plan: &str) -> Result<()> {
        for site in [HOME, AWAY] {
            self.estate.start(site)?;
        }
        let plans = self.muster.plans.clone();
        std::fs::create_dir_all(&plans).map_err(during(plans.display()))?;
        let vault = format!("file://{}", self.folder.join("vault").display());
        std::fs::write(plans.join("sites.plan"), self.estate.sites_plan(&vault)).map_err(during(plans.display()))?;
        std::fs::write(plans.join(name), plan).map_err(during(plans.display()))?;
        self.muster.wait_until("the sites answer", Duration::from_secs(60), || {
            let answer = self.muster.json(&["machines"])?;
            Ok(answer["silent"].as_array().is_some_and(Vec::is_empty))
        })
    }

    /// The shop at home, writing, with a first copy in the vault. No process of Muster but the agents is left.
    pub(crate) fn shop(&mut self) -> Result<()> {
        let plan = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans/shop/shop.plan");
        let plan = std::fs::read_to_string(&plan).map_err(during(plan.display()))?;
        self.begin("shop.plan", &plan)?;
        for machine in SHOP {
            self.run(&["power", "on", HOME, machine], &[0])?;
        }
        self.writes_beyond(HOME, 20)?;
        for words in [&["inventory", "pull"][..], &["check"], &["vault", "init"], &["protect"]] {
            self.run(words, &[0])?;
        }
        self.run(&["replicate", "--until-protected"], &[0]).map(drop)
    }

    pub(crate) fn writes_beyond(&self, site: &str, record: u64) -> Result<()> {
        self.muster.wait_until(&format!("the shop writes at {site}"), BOOT_LIMIT, || {
            self.estate.last_answered(site).map(|last| last > record)
        })
    }

    /// Types a command and waits for its end; what it says lies in a file of its own.
    pub(crate) fn run(&mut self, words: &[&str], accepted: &[i32]) -> Result<i32> {
        let (child, log) = self.spawn(words)?;
        let code = ended(child, words)?;
        if accepted.contains(&code) {
            return Ok(code);
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        Err(format!("`muster {}` ended with {code}\n{said}", words.join(" ")))
    }

    pub(crate) fn spawn(&mut self, words: &[&str]) -> Result<(Child, PathBuf)> {
        self.typed += 1;
        let log = self.folder.join(format!("{:03}-{}.log", self.typed, words[0]));
        Ok((self.muster.spawn(words, &log)?, log))
    }

    /// Says yes to every question that is open.
    pub(crate) fn say_yes(&mut self) -> Result<()> {
        let runs = self.muster.json(&["runs"])?;
        for run in runs.as_array().into_iter().flatten().filter(|run| run["status"] == "open") {
            let id = run["id"].as_str().unwrap_or_default().to_owned();
            let log = self.muster.json(&["log", &id])?;
            let mut asked: Vec<&str> = Vec::new();
            for record in log["records"].as_array().into_iter().flatten() {
                let node = record["node"].as_str().unwrap_or_default();
                match record["event"].as_str() {
                    Some("asked") => asked.push(node),
                    Some("answered") => asked.retain(|open| *open != node),
                    _ => {}
                }
            }
            for step in asked {
                self.run(&["approve", &id, step, "--why", "the test says yes"], &[0])?;
            }
        }
        Ok(())
    }

    pub(crate) fn newest_run(&self) -> Result<Value> {
        let runs = self.muster.json(&["runs"])?;
        runs.as_array().and_then(|runs| runs.first()).cloned().ok_or_else(|| "there is no run".to_owned())
    }

    /// Goes on with the newest run until it has ended, as a person would: resume, answer, resume. Answers with how
    /// each `muster resume` ended.
    pub(crate) fn resume_to_the_end(&mut self) -> Result<Vec<i32>> {
        const ROUNDS: usize = 4;
        let mut codes = Vec::new();
        for _ in 0..ROUNDS {
            if self.newest_run()?["status"] != "open" {
                return Ok(codes);
            }
            let code = self.run(&["resume", "--no-wait"], &[0, 4])?;
            codes.push(code);
            if code == 4 {
                self.say_yes()?;
            }
        }
        Err(format!("the run has not ended after {ROUNDS} times `muster resume`"))
    }

    /// An operation from its first to its last step, its questions answered.
    pub(crate) fn operate(&mut self, words: &[&str]) -> Result<()> {
        let words: Vec<&str> = words.iter().copied().chain(["--no-wait"]).collect();
        if self.run(&words, &[0, 4])? == 4 {
            self.say_yes()?;
            self.resume_to_the_end()?;
        }
        expect("the run has ended", &self.newest_run()?["status"], &"done".into())
    }

    pub(crate) fn make_final(&mut self) -> Result<()> {
        self.operate(&["commit", "shop"])?;
        self.operate(&["reprotect", "shop"])
    }

    pub(crate) fn stands(&self, phase: &str, direction: &str) -> Result<()> {
        let plan = &self.muster.json(&["status"])?["plans"]["shop"];
        expect("phase of the plan", &plan["phase"], &phase.into())?;
        expect("direction of the plan", &plan["direction"], &direction.into())
    }

    /// Every machine of the shop is on at one site and off at the other, by what Muster says and by the processes.
    pub(crate) fn runs_only_at(&self, site: &str) -> Result<()> {
        let answer = self.muster.json(&["machines"])?;
        let on = |state: &Value| state["power"].as_str().is_some_and(|power| power.eq_ignore_ascii_case("on"));
        for machine in SHOP {
            let all = answer["instances"].as_array().into_iter().flatten();
            let of: Vec<&Value> = all.filter(|found| found[1]["machine"] == machine).collect();
            let here: Vec<&&Value> = of.iter().filter(|found| found[0] == site).collect();
            let running = of.iter().filter(|found| on(&found[1])).count();
            if here.len() != 1 || running != 1 || !on(&here[0][1]) {
                return Err(format!("`{machine}` should run once, at {site}: {of:?}"));
            }
            for other in [HOME, AWAY] {
                let process = self.estate.process(other, machine)?;
                if process.is_some() != (other == site) {
                    return Err(format!("{machine} at {other} has process {process:?}, and should run at {site} only"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn consoles(&self, site: &str) -> Result<Vec<Console>> {
        SHOP.iter().map(|machine| self.estate.console(site, machine)).collect()
    }

    pub(crate) fn group(&self, name: &str) -> Result<Value> {
        let status = self.muster.json(&["status"])?;
        let found = status["groups"].as_array().into_iter().flatten().find(|group| group["group"] == name).cloned();
        found.ok_or_else(|| format!("no group `{name}`"))
    }

    /// The newest point of the shop's orders, checked as files; answers with its newest record.
    pub(crate) fn check_newest_point(&self) -> Result<u64> {
        let group = self.group("orders")?;
        self.check_point(group["newest"]["id"].as_str().ok_or("no point")?).map(|check| check.last)
    }

    /// A point of the shop's orders, written out and checked as files.
    pub(crate) fn check_point(&self, point: &str) -> Result<PointCheck> {
        let to = self.folder.join("point");
        self.muster.json(&["materialise", point, "db", "app", "--to", &to.display().to_string()])?;
        let check = self.estate.check_point(&to);
        let _ = std::fs::remove_dir_all(&to);
        check
    }
}

pub(crate) fn ended(mut child: Child, words: &[&str]) -> Result<i32> {
    let began = Instant::now();
    while began.elapsed() < COMMAND_LIMIT {
        if let Some(status) = child.try_wait().map_err(during("wait for muster"))? {
            return Ok(status.code().unwrap_or(-1));
        }
        sleep(Duration::from_millis(10));
    }
    end(&mut child);
    Err(format!("`muster {}` has not ended within {}s", words.join(" "), COMMAND_LIMIT.as_secs()))
}

/// The run has ended: its command ends well by itself.
pub(crate) fn ended_in_place(child: &mut Child) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < COMMAND_LIMIT {
        if let Some(status) = child.try_wait().map_err(during("wait for muster"))? {
            return expect("exit code of the command", &status.code(), &Some(0));
        }
        sleep(Duration::from_millis(10));
    }
    end(child);
    Err("the run has ended and its command has not".to_owned())
}

/// SIGKILL, and nobody left to collect.
pub(crate) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

pub(crate) fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Result<()> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, wanted {wanted:?}")) }
}

/// Looks all the time whether a machine runs at both sites.
pub(crate) struct Sentry {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<&'static str>)>,
}

impl Sentry {
    pub(crate) fn start(estate: &RealEstate) -> Result<Self> {
        let mut watched = Vec::new();
        for machine in SHOP {
            let file = |site| estate.folder_of(site, machine).map(|folder| folder.join("qemu.pid"));
            watched.push((machine, file(HOME)?, file(AWAY)?));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut looks, mut twice) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let both =
                    watched.iter().filter(|(_, home, away)| process_of(home).is_some() && process_of(away).is_some());
                twice.extend(both.map(|(machine, ..)| *machine));
                looks += 1;
                sleep(Duration::from_millis(20));
            }
            (looks, twice)
        });
        Ok(Self { stop, thread })
    }

    /// How often it has looked, when all was well.
    pub(crate) fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let (looks, twice) = self.thread.join().map_err(|_| "the sentry has died")?;
        expect("machines that were on at both sites at once", &twice, &Vec::new())?;
        Ok(looks)
    }
}
