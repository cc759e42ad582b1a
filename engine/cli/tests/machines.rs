//! The real binary on real machines: the whole story, kills in the middle of it, cancels, a large disk, a lost machine.
//!
//! What is missing on this computer fails the tests with the command that installs it: nothing is skipped.
//!
//! `MUSTER_KILL_POINTS=20` spreads more kills over a planned move than the five of every run; `MUSTER_KILL_SEED=n` moves
//! them.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test ends where something is wrong, and says what it measured"
)]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

use muster_demo::estate::{AWAY, Estate, HOME};
use muster_demo::muster::Muster;
use muster_demo::real::{Console, RealEstate};
use muster_demo::story::{RECORDS_OF_A_CYCLE, Story};
use muster_demo::{Result, during, summary};
use muster_lab::{Machine, Role, process_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

const SHOP: [&str; 3] = ["db", "app", "web"];
/// Emulated machines on a loaded host; alone they take ten seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// The longest one command may take: a planned move with its three boots takes 25 s.
const COMMAND_LIMIT: Duration = Duration::from_secs(200);
const LOOK: Duration = Duration::from_millis(2);

/// One estate at a time on this computer's cores, also when the tests are threads of one process.
static TURN: Mutex<()> = Mutex::new(());

struct Bench {
    folder: PathBuf,
    estate: RealEstate,
    muster: Muster,
    typed: usize,
}

fn on_real_machines(name: &str, test: impl FnOnce(&mut Bench) -> Result<()>) {
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
    fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(during(folder.display()))?;
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_muster"));
        let key = folder.join("muster.key");
        let estate = RealEstate::new(&folder.join("lab"), &binary, &key)?;
        let muster = Muster { binary, plans: folder.join("plans"), key, show: false };
        Ok(Self { folder: folder.to_owned(), estate, muster, typed: 0 })
    }

    /// Both agents, and the plans with the given text beside the sites'.
    fn begin(&mut self, name: &str, plan: &str) -> Result<()> {
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
    fn shop(&mut self) -> Result<()> {
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

    fn writes_beyond(&self, site: &str, record: u64) -> Result<()> {
        self.muster.wait_until(&format!("the shop writes at {site}"), BOOT_LIMIT, || {
            self.estate.last_answered(site).map(|last| last > record)
        })
    }

    /// Types a command and waits for its end; what it says lies in a file of its own.
    fn run(&mut self, words: &[&str], accepted: &[i32]) -> Result<i32> {
        let (child, log) = self.spawn(words)?;
        let code = ended(child, words)?;
        if accepted.contains(&code) {
            return Ok(code);
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        Err(format!("`muster {}` ended with {code}\n{said}", words.join(" ")))
    }

    fn spawn(&mut self, words: &[&str]) -> Result<(Child, PathBuf)> {
        self.typed += 1;
        let log = self.folder.join(format!("{:03}-{}.log", self.typed, words[0]));
        Ok((self.muster.spawn(words, &log)?, log))
    }

    /// Says yes to every question that is open.
    fn say_yes(&mut self) -> Result<()> {
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

    fn newest_run(&self) -> Result<Value> {
        let runs = self.muster.json(&["runs"])?;
        runs.as_array().and_then(|runs| runs.first()).cloned().ok_or_else(|| "there is no run".to_owned())
    }

    /// Goes on with the newest run until it has ended, as a person would: resume, answer, resume.
    fn resume_to_the_end(&mut self) -> Result<()> {
        const ROUNDS: usize = 4;
        for _ in 0..ROUNDS {
            if self.newest_run()?["status"] != "open" {
                return Ok(());
            }
            if self.run(&["resume", "--no-wait"], &[0, 4])? == 4 {
                self.say_yes()?;
            }
        }
        Err(format!("the run has not ended after {ROUNDS} times `muster resume`"))
    }

    /// An operation from its first to its last step, its questions answered.
    fn operate(&mut self, words: &[&str]) -> Result<()> {
        let words: Vec<&str> = words.iter().copied().chain(["--no-wait"]).collect();
        if self.run(&words, &[0, 4])? == 4 {
            self.say_yes()?;
            self.resume_to_the_end()?;
        }
        expect("the run has ended", &self.newest_run()?["status"], &"done".into())
    }

    fn make_final(&mut self) -> Result<()> {
        self.operate(&["commit", "shop"])?;
        self.operate(&["reprotect", "shop"])
    }

    fn stands(&self, phase: &str, direction: &str) -> Result<()> {
        let plan = &self.muster.json(&["status"])?["plans"]["shop"];
        expect("phase of the plan", &plan["phase"], &phase.into())?;
        expect("direction of the plan", &plan["direction"], &direction.into())
    }

    /// Every machine of the shop is on at one site and off at the other, by what Muster says and by the processes.
    fn runs_only_at(&self, site: &str) -> Result<()> {
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

    fn consoles(&self, site: &str) -> Result<Vec<Console>> {
        SHOP.iter().map(|machine| self.estate.console(site, machine)).collect()
    }

    fn group(&self, name: &str) -> Result<Value> {
        let status = self.muster.json(&["status"])?;
        let found = status["groups"].as_array().into_iter().flatten().find(|group| group["group"] == name).cloned();
        found.ok_or_else(|| format!("no group `{name}`"))
    }

    /// The newest point of the shop's orders, checked as files; answers with its newest record.
    fn check_newest_point(&self) -> Result<u64> {
        let group = self.group("orders")?;
        let point = group["newest"]["id"].as_str().ok_or("no point")?;
        let to = self.folder.join("point");
        self.muster.json(&["materialise", point, "db", "app", "--to", &to.display().to_string()])?;
        let check = self.estate.check_point(&to)?;
        let _ = std::fs::remove_dir_all(&to);
        Ok(check.last)
    }
}

fn ended(mut child: Child, words: &[&str]) -> Result<i32> {
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

/// SIGKILL, and nobody left to collect.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Result<()> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, wanted {wanted:?}")) }
}

/// Looks all the time whether a machine runs at both sites.
struct Sentry {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<&'static str>>,
}

impl Sentry {
    fn start(estate: &RealEstate) -> Result<Self> {
        let mut watched = Vec::new();
        for machine in SHOP {
            let file = |site| estate.folder_of(site, machine).map(|folder| folder.join("qemu.pid"));
            watched.push((machine, file(HOME)?, file(AWAY)?));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut twice = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let both =
                    watched.iter().filter(|(_, home, away)| process_of(home).is_some() && process_of(away).is_some());
                twice.extend(both.map(|(machine, ..)| *machine));
                sleep(Duration::from_millis(20));
            }
            twice
        });
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let twice = self.thread.join().map_err(|_| "the sentry has died")?;
        expect("machines that were on at both sites at once", &twice, &Vec::new())
    }
}

#[test]
fn the_whole_story_loses_nothing_it_should_not() {
    on_real_machines("story", |bench| {
        let muster = Muster { show: true, ..bench.muster.clone() };
        let folder = bench.folder.clone();
        let mut story = Story { muster, estate: &mut bench.estate, folder: &folder, rows: Vec::new() };
        let told = story.tell();
        let rows = std::mem::take(&mut story.rows);
        println!("{}", summary::table(&rows));
        told?;
        let row = |name: &str| rows.iter().find(|row| row.name == name).ok_or(format!("no row `{name}`"));
        for name in ["drill", "planned failover", "failback", "unplanned failover"] {
            let note = &row(name)?.note;
            if !(note.contains("disks clean") || note.contains("disks sound")) {
                return Err(format!("{name}: `{note}` says nothing good of the disks"));
            }
        }
        expect("records lost by the planned failover", &row("planned failover")?.lost, &Some(0))?;
        expect("records lost by the failback", &row("failback")?.lost, &Some(0))?;
        // The story itself refuses to lose more than a cycle.
        match row("unplanned failover")?.lost {
            Some(lost) if lost <= RECORDS_OF_A_CYCLE => Ok(()),
            lost => Err(format!("the unplanned failover lost {lost:?} records, at most {RECORDS_OF_A_CYCLE} may be")),
        }
    });
}

/// Where the process is killed: so many lines of the journal after the start, and a moment later.
#[derive(Clone, Copy, Debug)]
struct KillPoint {
    line: usize,
    after: Duration,
}

/// Lines `muster -v` prints in a planned move of the shop, about: the points are spread over them.
const LINES_OF_A_MOVE: u64 = 76;

/// Spread over a move by number, and placed within their part by the seed.
fn kill_points(count: u64, seed: u64) -> Vec<KillPoint> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below.max(1)
    };
    let part = |at: u64| at * LINES_OF_A_MOVE / count;
    let points = (0..count).map(|at| {
        let line = 1 + part(at) + random(part(at + 1) - part(at));
        // Half of them at once, the others within the time a machine takes to boot.
        let after = Duration::from_millis(if random(2) == 0 { random(30) } else { random(2500) });
        KillPoint { line: usize::try_from(line).unwrap_or(1), after }
    });
    points.collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// The process that was told to move production; it holds the vault.
    Driver,
    /// `muster replicate`, which holds the vault and therefore drives the run of another command.
    Replicate,
}

fn from_environment(name: &str, fallback: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(fallback), |text| text.parse().map_err(during(format!("{name}={text}"))))
}

#[test]
fn a_killed_move_goes_on_and_loses_nothing() {
    on_real_machines("kill", |bench| {
        let points = kill_points(from_environment("MUSTER_KILL_POINTS", 5)?, from_environment("MUSTER_KILL_SEED", 1)?);
        bench.shop()?;
        let middle = KillPoint { line: 24, after: Duration::from_millis(5) };
        let replicate = std::iter::once((middle, Victim::Replicate));
        let all = points.into_iter().map(|point| (point, Victim::Driver)).chain(replicate);
        for (number, (point, victim)) in all.enumerate() {
            let out = number % 2 == 0;
            let moved = killed_move(bench, point, victim, out);
            moved.map_err(during(format!(
                "kill {number} ({victim:?}, {point:?}, {})",
                if out { "out" } else { "back" }
            )))?;
        }
        Ok(())
    });
}

fn killed_move(bench: &mut Bench, point: KillPoint, victim: Victim, out: bool) -> Result<()> {
    let began = Instant::now();
    let (from, to) = if out { (HOME, AWAY) } else { (AWAY, HOME) };
    bench.runs_only_at(from)?;
    for machine in SHOP {
        // Off there: what its console says from now on is of this move.
        let _ = std::fs::remove_file(bench.estate.folder_of(to, machine)?.join("console.log"));
    }
    let before = bench.consoles(from)?;
    let sentry = Sentry::start(&bench.estate)?;
    let said = kill_in_the_middle(bench, point, victim, out)?;
    let runs = bench.newest_run()?;
    bench.resume_to_the_end()?;
    sentry.end()?;

    expect("status of the run", &bench.newest_run()?["status"], &"done".into())?;
    bench.stands("failed-over", if out { "out" } else { "back" })?;
    bench.runs_only_at(to)?;
    every_step_succeeded_once(&bench.muster.json(&["log", "--verify"])?)?;
    let had = bench.estate.last_on_disk(from)?;
    bench.writes_beyond(to, had)?;
    for ((machine, before), after) in SHOP.iter().zip(&before).zip(bench.consoles(from)?) {
        expect(&format!("orderly stops of {machine} at {from}"), &after.downs, &(before.downs + 1))?;
        expect(&format!("boots of {machine} at {from}"), &after.boots, &before.boots)?;
    }
    let landed = bench.consoles(to)?;
    for (machine, console) in SHOP.iter().zip(&landed) {
        expect(&format!("boots of {machine} at {to}"), &console.boots, &1)?;
    }
    expect("the newest record the database found", &landed[0].found, &vec![had])?;
    bench.make_final()?;
    println!("{victim:?} killed {point:?} {said} (run {}): {:.0}s", runs["id"], began.elapsed().as_secs_f64());
    Ok(())
}

/// Starts a move and kills its driver; answers with the last line it had printed.
fn kill_in_the_middle(bench: &mut Bench, point: KillPoint, victim: Victim, out: bool) -> Result<String> {
    let mut holder = match victim {
        Victim::Driver => None,
        Victim::Replicate => {
            let (child, _) = bench.spawn(&["replicate"])?;
            bench.muster.wait_until("`replicate` holds the vault", Duration::from_secs(30), || {
                let holder = bench.muster.json(&["status"])?["holder"].as_str().unwrap_or_default().to_owned();
                Ok(holder.contains("replicate"))
            })?;
            Some(child)
        }
    };
    let words: &[&str] = if out { &["failover", "shop", "--planned", "-v"] } else { &["failback", "shop", "-v"] };
    let (mut driver, log) = bench.spawn(words)?;
    let began = Instant::now();
    let mut asked = false;
    let last = loop {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| line.as_bytes().get(2) == Some(&b':')).collect();
        if lines.len() >= point.line {
            sleep(point.after);
            break lines.last().copied().unwrap_or_default().to_owned();
        }
        if !asked && text.contains("asks anyone") {
            asked = true;
            bench.say_yes()?;
        }
        if let Some(status) = driver.try_wait().map_err(during("wait for muster"))? {
            if status.code() == Some(0) {
                break format!("after its end, {} lines", lines.len());
            }
            return Err(format!("the move ended by itself with {status}\n{text}"));
        }
        if began.elapsed() > COMMAND_LIMIT {
            end(&mut driver);
            return Err(format!("the move came only so far:\n{text}"));
        }
        sleep(LOOK);
    };
    match &mut holder {
        None => end(&mut driver),
        Some(holder) => {
            end(holder);
            if ended(driver, words)? == 0 && !last.starts_with("after") {
                return Err("the command said that all is well although its run was killed".to_owned());
            }
        }
    }
    Ok(last)
}

fn every_step_succeeded_once(log: &Value) -> Result<()> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for record in log["records"].as_array().ok_or("a log without records")? {
        if record["event"] == "node-succeeded" {
            *times.entry(record["node"].as_str().unwrap_or_default()).or_default() += 1;
        }
    }
    times.retain(|_, times| *times != 1);
    expect("steps that succeeded more than once", &times, &BTreeMap::new())
}

#[test]
fn a_move_is_taken_back_and_a_lost_machine_is_read_anew() {
    on_real_machines("cancel", |bench| {
        bench.shop()?;
        cancel_before_no_return(bench)?;
        cancel_before_commit(bench)?;
        lose_one_machine(bench)
    });
}

fn cancel_before_no_return(bench: &mut Bench) -> Result<()> {
    let before = bench.consoles(HOME)?;
    let sentry = Sentry::start(&bench.estate)?;
    let words = ["failover", "shop", "--planned", "-v"];
    let (driver, log) = bench.spawn(&words)?;
    bench.muster.wait_until("machines are being stopped", Duration::from_secs(30), || {
        Ok(std::fs::read_to_string(&log).unwrap_or_default().contains("leave/"))
    })?;
    let cancel = ["cancel", "shop", "--why", "not today"];
    let (canceller, answer) = bench.spawn(&cancel)?;
    expect("exit code of the cancel", &ended(canceller, &cancel)?, &1)?;
    let answer = std::fs::read_to_string(&answer).unwrap_or_default();
    if !answer.contains("everything was taken back") {
        return Err(format!("whoever cancelled was told: {answer}"));
    }
    expect("exit code of the failover", &ended(driver, &words)?, &1)?;
    sentry.end()?;
    expect("status of the run", &bench.newest_run()?["status"], &"aborted".into())?;
    bench.stands("protected", "out")?;
    bench.runs_only_at(HOME)?;
    let after = bench.consoles(HOME)?;
    let downs = |consoles: &[Console]| consoles.iter().map(|console| console.downs).sum::<usize>();
    if downs(&after) == downs(&before) {
        return Err("the cancel came before anything was stopped, so it proved nothing".to_owned());
    }
    let found = after[0].found.last().copied().unwrap_or(0);
    bench.writes_beyond(HOME, found + 20)?;
    bench.run(&["replicate", "--once"], &[0])?;
    bench.check_newest_point().map(drop)
}

fn cancel_before_commit(bench: &mut Bench) -> Result<()> {
    bench.operate(&["failover", "shop", "--planned"])?;
    bench.runs_only_at(AWAY)?;
    let had = bench.estate.last_on_disk(HOME)?;
    bench.writes_beyond(AWAY, had + 40)?;
    let before = bench.consoles(HOME)?;
    let sentry = Sentry::start(&bench.estate)?;
    bench.operate(&["cancel", "shop", "--why", "back to what we had"])?;
    sentry.end()?;
    bench.stands("protected", "out")?;
    bench.runs_only_at(HOME)?;
    bench.writes_beyond(HOME, had)?;
    let after = bench.estate.console(HOME, "db")?;
    let found = after.found.get(before[0].found.len()..).unwrap_or_default();
    expect("what the database at home found: its own records and none of the target's", &found, &&[had][..])?;
    bench.run(&["replicate", "--once"], &[0])?;
    let point = bench.check_newest_point()?;
    if point < had { Err(format!("the point after the cancel ends at {point}, before {had}")) } else { Ok(()) }
}

/// The process of one machine is killed: its records of changes are lost with it, and that must not go unnoticed.
fn lose_one_machine(bench: &mut Bench) -> Result<()> {
    bench.run(&["replicate", "--once"], &[0])?;
    let process = bench.estate.process(HOME, "db")?.ok_or("the database is not on")?;
    let killed = Command::new("kill").args(["-9", &process.to_string()]).status().map_err(during("kill"))?;
    expect("kill", &killed.success(), &true)?;
    bench.muster.wait_until("the machine is dead", Duration::from_secs(10), || {
        bench.estate.process(HOME, "db").map(|process| process.is_none())
    })?;
    let had = bench.estate.last_on_disk(HOME)?;
    bench.run(&["replicate", "--once"], &[0])?;
    let notes = bench.group("orders")?["last_cycle"]["notes"].to_string();
    for disk in ["root", "data"] {
        if !notes.contains(&format!("resync of `db/{disk}`")) {
            return Err(format!("the cycle after the kill says only {notes}"));
        }
    }
    expect("the newest record of the point of the dead machine", &bench.check_newest_point()?, &had)?;
    bench.run(&["power", "on", HOME, "db"], &[0])?;
    bench.writes_beyond(HOME, had + 20)?;
    bench.run(&["replicate", "--once"], &[0])?;
    let cycle = bench.group("orders")?["last_cycle"].clone();
    if cycle["notes"].to_string().contains("resync") {
        return Err(format!("the second cycle after the kill still reads everything: {}", cycle["notes"]));
    }
    let point = bench.check_newest_point()?;
    if point <= had { Err(format!("the point ends at {point}, and at {had} before")) } else { Ok(()) }
}

const GIB: u64 = 1 << 30;
const LARGE: u64 = 20 * GIB;
/// Of random bytes, at each of these places of the large disk.
const PIECE: u64 = 64 << 20;
const PLACES: [u64; 4] = [0, 5 * GIB + (3 << 20), 12 * GIB, LARGE - PIECE];
const MEMORY_MAX: u64 = 200 << 20;
const CYCLE_MAX: Duration = Duration::from_secs(2);
const LARGE_PLAN: &str = "edition 2026
use ./sites { hq, dr }

policy rarely {
  rpo       = 1h
  replicate = every 10m
  retain    = 24h
}

group bulk {
  policy   = rarely
  machines = [big]
}

plan archive {
  move = hq -> dr
  rto  = 1h
  rpo  = 1h

  stage only {
    start big within 5m
  }
}
";

#[test]
fn a_large_disk_costs_what_it_holds_and_what_changes() {
    on_real_machines("large", |bench| {
        let machine = Machine::new("big", Role::Web, "web", "52:54:00:00:40:20", "10.10.40.20").disk("bulk", LARGE);
        let disk = bench.estate.add(HOME, &machine)?.join("bulk.qcow2");
        let piece = bench.folder.join("piece");
        let mut state = 1u64;
        let random = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 24).to_le_bytes()[0]
        };
        let bytes: Vec<u8> = (0..PIECE).map(|_| random(&mut state)).collect();
        std::fs::write(&piece, bytes).map_err(during(piece.display()))?;
        for place in PLACES {
            qemu_io(&disk, &format!("write -s {} {place} {PIECE}", piece.display()))?;
        }
        bench.begin("archive.plan", LARGE_PLAN)?;
        for words in [&["inventory", "pull"][..], &["check"], &["vault", "init"], &["protect"]] {
            bench.run(words, &[0])?;
        }
        let first = cycle_measured(bench)?;
        println!("first copy of {} GiB with {} MiB in it: {first}", LARGE / GIB, (PIECE * 4) >> 20);
        qemu_io(&disk, &format!("write -P 77 {} 64k", 7 * GIB))?;
        let second = cycle_measured(bench)?;
        println!("64 KiB changed: {second}");
        for measured in [&first, &second] {
            if measured.agent > MEMORY_MAX || measured.muster > MEMORY_MAX {
                return Err(format!("more than {} MiB of memory: {measured}", MEMORY_MAX >> 20));
            }
        }
        if second.cycle > CYCLE_MAX || second.read > 1 << 20 {
            return Err(format!("64 KiB of changes cost too much: {second}"));
        }
        Ok(())
    });
}

struct Measured {
    cycle: Duration,
    wall: Duration,
    read: u64,
    stored: u64,
    agent: u64,
    muster: u64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cycle {:.2}s (command {:.2}s), read {:.1} MiB, stored {:.1} MiB, peak memory: agent {} MiB, muster {} MiB",
            self.cycle.as_secs_f64(),
            self.wall.as_secs_f64(),
            self.read as f64 / f64::from(1 << 20),
            self.stored as f64 / f64::from(1 << 20),
            self.agent >> 20,
            self.muster >> 20,
        )
    }
}

/// One `muster replicate --once`, with the most memory it and the agent ever had.
fn cycle_measured(bench: &mut Bench) -> Result<Measured> {
    let words = ["replicate", "--once"];
    let began = Instant::now();
    let (mut child, log) = bench.spawn(&words)?;
    let mut muster = 0;
    let status = loop {
        muster = peak_memory(child.id()).unwrap_or(muster).max(muster);
        if let Some(status) = child.try_wait().map_err(during("wait for muster"))? {
            break status;
        }
        if began.elapsed() > COMMAND_LIMIT {
            end(&mut child);
            return Err("the cycle does not end".to_owned());
        }
        sleep(LOOK);
    };
    let wall = began.elapsed();
    if !status.success() {
        return Err(std::fs::read_to_string(&log).unwrap_or_default());
    }
    let cycle = bench.group("bulk")?["last_cycle"].clone();
    let number = |name: &str| cycle[name].as_u64().unwrap_or(u64::MAX);
    Ok(Measured {
        cycle: Duration::from_millis(number("ended").saturating_sub(number("started"))),
        wall,
        read: number("read_bytes"),
        stored: number("stored_bytes"),
        agent: peak_memory(bench.estate.agent(HOME)?).ok_or("the agent's memory cannot be read")?,
        muster,
    })
}

/// `VmHWM` of a process, in bytes.
fn peak_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

fn qemu_io(disk: &Path, command: &str) -> Result<()> {
    let output = Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", command])
        .arg(disk)
        .stdin(Stdio::null())
        .output()
        .map_err(during("qemu-io (of the Debian package qemu-utils)"))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // It ends well also when a write has failed.
    if output.status.success() && said.contains("wrote") { Ok(()) } else { Err(format!("qemu-io {command}: {said}")) }
}
