//! SIGKILL in the middle of a planned move of real machines: `muster resume` ends it as if nothing had been.
//!
//! `MUSTER_KILL_POINTS=20` spreads more kills over the move than the five of every run, `MUSTER_KILL_SEED=n` moves them,
//! `MUSTER_KILL_STEPS=37` kills at the end of each of so many steps before that, and `MUSTER_KILL_LOG=path` says where what
//! was seen is written (`kill-matrix.txt` in cargo's folder for tests when it does not). `cargo verify --matrix` sets all.

use crate::bench::{Bench, COMMAND_LIMIT, LOOK, SHOP, Sentry, end, ended, expect, on_real_machines};
use muster_demo::estate::{AWAY, Estate, HOME};
use muster_demo::{Result, during};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where the process is killed: when it has printed so many of these lines, and a moment later.
#[derive(Clone, Copy, Debug)]
struct KillPoint {
    lines: Lines,
    count: usize,
    after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    /// All that a run says.
    All,
    /// Those that say that a step has ended.
    StepsEnded,
}

impl KillPoint {
    fn is_reached(&self, text: &str) -> bool {
        let wanted = |line: &&str| match self.lines {
            Lines::All => true,
            // `02:15:11  ready/lock  ok`, perhaps with more behind a colon.
            Lines::StepsEnded => line.split_whitespace().nth(2).is_some_and(|word| matches!(word, "ok" | "ok:")),
        };
        lines_of_the_run(text).filter(wanted).count() >= self.count
    }
}

/// At the end of every one of the first `count` steps, at once.
fn step_ends(count: u64) -> impl Iterator<Item = KillPoint> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    (1..=count).map(|count| KillPoint { lines: Lines::StepsEnded, count, after: Duration::ZERO })
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
        KillPoint { lines: Lines::All, count: usize::try_from(line).unwrap_or(1), after }
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
    let count = from_environment("MUSTER_KILL_POINTS", 5).expect("a number of kills");
    let seed = from_environment("MUSTER_KILL_SEED", 1).expect("a seed");
    let steps = from_environment("MUSTER_KILL_STEPS", 0).expect("a number of steps");
    let moves = steps + count + 1;
    let mut log = Log::begin(moves, count, seed).expect("the log of the kills");
    on_real_machines("kill", |bench| {
        bench.shop()?;
        let middle = KillPoint { lines: Lines::All, count: 24, after: Duration::from_millis(5) };
        let replicate = std::iter::once((middle, Victim::Replicate));
        let points = step_ends(steps).chain(kill_points(count, seed));
        let all = points.map(|point| (point, Victim::Driver)).chain(replicate);
        for (number, (point, victim)) in all.enumerate() {
            let kill = Kill { number: number + 1, point, victim, out: number % 2 == 0 };
            let began = Instant::now();
            let mut told = Vec::new();
            let moved = killed_move(bench, &kill, &mut told);
            log.entry(&kill, &told, began.elapsed(), moved.as_ref().err())?;
            moved.map_err(during(kill.title()))?;
        }
        log.line(&format!("All {moves} killed moves ended like one that nobody killed."))
    });
}

struct Kill {
    number: usize,
    point: KillPoint,
    victim: Victim,
    out: bool,
}

impl Kill {
    fn words(&self) -> &'static [&'static str] {
        if self.out { &["failover", "shop", "--planned", "-v"] } else { &["failback", "shop", "-v"] }
    }

    fn title(&self) -> String {
        let KillPoint { lines, count, after } = self.point;
        let lines = match lines {
            Lines::All => format!("line {count}"),
            Lines::StepsEnded => format!("{count} steps"),
        };
        let after = after.as_millis();
        let victim = match self.victim {
            Victim::Driver => "itself",
            Victim::Replicate => "`muster replicate`, which drives it,",
        };
        let words = self.words().join(" ");
        format!("kill {}: `muster {words}`, {victim} killed {after} ms after {lines}", self.number)
    }
}

/// What was tried and seen, for a person to read after the tests.
struct Log {
    path: PathBuf,
}

impl Log {
    fn begin(moves: u64, points: u64, seed: u64) -> Result<Self> {
        let fallback = || Path::new(env!("CARGO_TARGET_TMPDIR")).join("kill-matrix.txt");
        let path = std::env::var_os("MUSTER_KILL_LOG").map_or_else(fallback, PathBuf::from);
        let git = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
        let commit = git.ok().filter(|output| output.status.success()).map(|output| output.stdout);
        let commit =
            commit.map_or_else(|| "unknown".to_owned(), |name| String::from_utf8_lossy(&name).trim().to_owned());
        let text = format!(
            "Planned moves of three real machines, each with a SIGKILL in the middle, then `muster resume`.\n\
             {moves} moves, seed {seed}, muster {} at commit {commit}. The same again: `cargo verify --matrix {points} {seed}`\n\n",
            env!("CARGO_PKG_VERSION"),
        );
        std::fs::write(&path, text).map_err(during(path.display()))?;
        Ok(Self { path })
    }

    fn line(&self, text: &str) -> Result<()> {
        let file = std::fs::OpenOptions::new().append(true).open(&self.path);
        file.and_then(|mut file| writeln!(file, "{text}")).map_err(during(self.path.display()))
    }

    fn entry(&mut self, kill: &Kill, told: &[String], took: Duration, wrong: Option<&String>) -> Result<()> {
        let mut text = kill.title();
        for line in told {
            text += &format!("\n  {line}");
        }
        match wrong {
            None => text += &format!("\n  all of it in {:.0} s\n", took.as_secs_f64()),
            Some(error) => text += &format!("\n  WRONG after {:.0} s: {error}\n", took.as_secs_f64()),
        }
        println!("{text}");
        self.line(&text)
    }
}

/// One move with its kill, resume and checks; what was seen goes to `told` as far as it came.
fn killed_move(bench: &mut Bench, kill: &Kill, told: &mut Vec<String>) -> Result<()> {
    let (from, to) = if kill.out { (HOME, AWAY) } else { (AWAY, HOME) };
    bench.runs_only_at(from)?;
    for machine in SHOP {
        // Off there: what its console says from now on is of this move.
        let _ = std::fs::remove_file(bench.estate.folder_of(to, machine)?.join("console.log"));
    }
    let before = bench.consoles(from)?;
    let sentry = Sentry::start(&bench.estate)?;
    let said = kill_in_the_middle(bench, kill)?;
    told.push(format!("last line: {said}"));
    let killed = Journal::read(bench)?;
    told.push(format!("journal:   {}", killed.at_the_kill()));
    let codes = bench.resume_to_the_end()?;
    let ended = Journal::read(bench)?;
    told.push(format!("resume:    {}", ended.since(&killed, &codes)));
    let looks = sentry.end()?;

    let run = bench.newest_run()?;
    expect("status of the run", &run["status"], &"done".into())?;
    let direction = if kill.out { "out" } else { "back" };
    bench.stands("failed-over", direction)?;
    bench.runs_only_at(to)?;
    every_step_succeeded_once(&bench.muster.json(&["log", "--verify"])?)?;
    told.push(format!(
        "end:       the run is done, the plan failed-over/{direction}; {} records, their hashes verified, each step \
         succeeded once",
        ended.records.len(),
    ));
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
    told.push(format!(
        "machines:  each shut down once at {from}, booted once at {to}, on at both sites in 0 of {looks} looks",
    ));
    told.push(format!("data:      last record on the disk at {from} {had}, found at {to} {had}, then written on"));
    bench.make_final()
}

/// The journal of the newest run.
struct Journal {
    records: Vec<Value>,
}

impl Journal {
    fn read(bench: &Bench) -> Result<Self> {
        let log = bench.muster.json(&["log"])?;
        Ok(Self { records: log["records"].as_array().cloned().ok_or("a log without records")? })
    }

    fn nodes<'a>(records: &'a [Value], event: &str) -> Vec<&'a str> {
        records.iter().filter(|record| record["event"] == event).filter_map(|record| record["node"].as_str()).collect()
    }

    /// Steps that were begun and had not come to an end.
    fn under_way(&self) -> Vec<&str> {
        let mut open: Vec<&str> = Vec::new();
        for record in &self.records {
            let node = record["node"].as_str().unwrap_or_default();
            match record["event"].as_str().unwrap_or_default() {
                "attempt-started" if !open.contains(&node) => open.push(node),
                "attempt-failed" | "node-succeeded" | "node-degraded" | "node-skipped" => {
                    open.retain(|begun| *begun != node);
                }
                _ => {}
            }
        }
        open
    }

    fn at_the_kill(&self) -> String {
        let open = self.under_way();
        let open = if open.is_empty() { "no step".to_owned() } else { open.join(", ") };
        let past = if Self::nodes(&self.records, "no-return").is_empty() { "before" } else { "past" };
        format!(
            "{} records, {} steps done, {past} no return; under way: {open}",
            self.records.len(),
            Self::nodes(&self.records, "node-succeeded").len(),
        )
    }

    /// What was done after the kill.
    fn since(&self, killed: &Self, codes: &[i32]) -> String {
        let new = self.records.get(killed.records.len()..).unwrap_or_default();
        let adopted = new.iter().filter(|record| record["event"] == "node-succeeded" && record["adopted"] == true);
        let adopted: Vec<&str> = adopted.filter_map(|record| record["node"].as_str()).collect();
        let open = killed.under_way();
        let begun = Self::nodes(new, "attempt-started");
        let again: Vec<&str> = open.into_iter().filter(|node| begun.contains(node)).collect();
        let list = |nodes: &[&str]| if nodes.is_empty() { "none".to_owned() } else { nodes.join(", ") };
        let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
        format!(
            "exit codes {}; {} records more; begun again: {}; found to hold already: {}",
            if codes.is_empty() { "none (the run had ended)".to_owned() } else { codes.join(", ") },
            new.len(),
            list(&again),
            list(&adopted),
        )
    }
}

/// Starts a move and kills its driver; answers with the last line it had printed.
fn kill_in_the_middle(bench: &mut Bench, kill: &Kill) -> Result<String> {
    let Kill { point, .. } = *kill;
    let mut holder = match kill.victim {
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
    let words = kill.words();
    let (mut driver, log) = bench.spawn(words)?;
    let began = Instant::now();
    let mut asked = false;
    let over = loop {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if point.is_reached(&text) {
            sleep(point.after);
            break false;
        }
        if !asked && text.contains("asks anyone") {
            asked = true;
            bench.say_yes()?;
        }
        if let Some(status) = driver.try_wait().map_err(during("wait for muster"))? {
            if status.code() == Some(0) {
                break true;
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
            if ended(driver, words)? == 0 && !over {
                return Err("the command said that all is well although its run was killed".to_owned());
            }
        }
    }
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let last = lines_of_the_run(&text).last().unwrap_or_default().split_whitespace().skip(1);
    let said = last.collect::<Vec<_>>().join(" ");
    Ok(if over { format!("{said} (it had ended before the kill)") } else { said })
}

/// What `muster -v` says of a run, each line with its time: `02:15:11  ready/lock  begins`.
pub(crate) fn lines_of_the_run(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.as_bytes().get(2) == Some(&b':'))
}

pub(crate) fn every_step_succeeded_once(log: &Value) -> Result<()> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for record in log["records"].as_array().ok_or("a log without records")? {
        if record["event"] == "node-succeeded" {
            *times.entry(record["node"].as_str().unwrap_or_default()).or_default() += 1;
        }
    }
    times.retain(|_, times| *times != 1);
    expect("steps that succeeded more than once", &times, &BTreeMap::new())
}
