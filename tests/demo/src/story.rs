//! The main job, told once: protect, rehearse, move, return, and lose a site.
//!
//! It only types commands a user could type, and measures from outside: what the database had on its disk when it went
//! down, what the recovery point holds, when the first healthy answer came.

use crate::estate::{AWAY, Estate, HOME};
use crate::muster::Muster;
use crate::summary::Row;
use crate::{Result, during};
use serde_json::Value;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long an agent may take until it answers, and a first copy until it is done.
const START_LIMIT: Duration = Duration::from_secs(60);
const FIRST_COPY_LIMIT: Duration = Duration::from_secs(240);
/// How long the shop may take to write its first hundred records after power on.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// How long the next recovery point may take: a few cycles of the plan's ten seconds.
const FRESH_POINT_LIMIT: Duration = Duration::from_secs(60);
/// What the loss of a site may cost at most: one cycle of ten seconds, at a record every 50 ms.
pub const RECORDS_OF_A_CYCLE: u64 = 200;
/// Replication cycles the shop writes on after a step, so that there is something to lose.
const WRITE_ON: Duration = Duration::from_secs(12);

pub struct Story<'a> {
    pub muster: Muster,
    pub estate: &'a mut dyn Estate,
    pub folder: &'a Path,
    pub rows: Vec<Row>,
}

impl std::fmt::Debug for Story<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Story").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[allow(clippy::print_stdout)]
fn chapter(title: &str) {
    println!("\n── {title} {}", "─".repeat(100usize.saturating_sub(title.chars().count())));
}

#[allow(clippy::disallowed_methods)]
fn write_on() {
    std::thread::sleep(WRITE_ON);
}

impl Story<'_> {
    pub fn tell(&mut self) -> Result<()> {
        let replication = self.protect()?;
        let mut replication = Stopped(replication);
        let _approver = Approver::start(self.muster.clone());
        self.rehearse()?;
        self.move_and_return()?;
        self.lose_home()?;
        self.muster.run(&["status"], &[0])?;
        let _ = replication.0.kill();
        Ok(())
    }

    fn protect(&mut self) -> Result<Child> {
        chapter("two sites, a shop at home on hq, and a vault");
        for site in [HOME, AWAY] {
            self.estate.start(site)?;
        }
        let vault = self.folder.join("vault");
        self.write_plans(&format!("file://{}", vault.display()))?;
        let muster = self.muster.clone();
        muster.wait_until("the sites answer", START_LIMIT, || {
            muster.json(&["machines"]).map(|answer| answer["silent"].as_array().is_some_and(Vec::is_empty))
        })?;
        for machine in ["db", "app", "web"] {
            muster.run(&["power", "on", HOME, machine], &[0])?;
        }
        muster.wait_until("the shop writes", BOOT_LIMIT, || self.estate.last_answered(HOME).map(|last| last > 20))?;
        muster.run(&["inventory", "pull"], &[0])?;
        muster.run(&["check"], &[0])?;
        muster.run(&["vault", "init"], &[0])?;
        muster.run(&["protect"], &[0])?;
        let replication = muster.spawn(&["replicate"], &self.folder.join("replicate.log"))?;
        let until = ["replicate", "--until-protected"];
        muster.wait_until("the first copy is done", FIRST_COPY_LIMIT, || Ok(muster.run(&until, &[0]).is_ok()))?;
        Ok(replication)
    }

    fn write_plans(&self, vault: &str) -> Result<()> {
        let plans = &self.muster.plans;
        std::fs::create_dir_all(plans).map_err(during(plans.display()))?;
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans/shop/shop.plan");
        std::fs::copy(&from, plans.join("shop.plan")).map_err(during(from.display()))?;
        std::fs::write(plans.join("sites.plan"), self.estate.sites_plan(vault)).map_err(during(plans.display()))
    }

    fn rehearse(&mut self) -> Result<()> {
        chapter("a drill in a bubble, while production keeps writing");
        self.muster.run(&["dry-run", "shop", "unplanned"], &[0])?;
        self.drill("drill", HOME)
    }

    /// A drill at the other site while production runs at `at`, and its cleanup.
    fn drill(&mut self, name: &str, at: &str) -> Result<()> {
        let before = self.estate.last_answered(at)?;
        let points = self.points()?;
        self.muster.run(&["drill", "shop"], &[0])?;
        // The drill stands until it is taken away; a fast one is over before the next replication cycle is due.
        let muster = self.muster.clone();
        muster.wait_until("a fresh point while the drill stands", FRESH_POINT_LIMIT, || Ok(self.points()? > points))?;
        let after = self.estate.last_answered(at)?;
        let fresh = self.points()?.saturating_sub(points);
        if after <= before {
            return Err(format!("production stood still during the drill: records {before} to {after}"));
        }
        let mut row = self.measure(name)?;
        row.note = format!("production wrote {} records and {fresh} points meanwhile", after - before);
        self.check_chosen_point(&mut row)?;
        self.rows.push(row);
        self.muster.run(&["points", "orders"], &[0])?;
        self.muster.run(&["cleanup", "shop"], &[0])?;
        let row = self.measure("cleanup")?;
        self.rows.push(row);
        Ok(())
    }

    fn move_and_return(&mut self) -> Result<()> {
        chapter("planned failover to dr: orderly, nothing lost");
        self.move_production(&["failover", "shop", "--planned"], "planned failover", HOME, AWAY, 0)?;
        self.make_final()?;
        write_on();
        chapter("a drill of the way home, at hq, while dr serves");
        self.drill("drill, way home", AWAY)?;
        chapter("failback to hq: only differences travel");
        self.move_production(&["failback", "shop"], "failback", AWAY, HOME, 0)?;
        self.make_final()
    }

    fn make_final(&mut self) -> Result<()> {
        self.muster.run(&["commit", "shop"], &[0])?;
        let row = self.measure("commit")?;
        self.rows.push(row);
        self.muster.run(&["reprotect", "shop"], &[0])?;
        let row = self.measure("reprotect")?;
        self.rows.push(row);
        Ok(())
    }

    fn lose_home(&mut self) -> Result<()> {
        write_on();
        chapter("hq dies in mid-write (SIGKILL), unplanned failover to dr");
        self.estate.kill(HOME)?;
        let words = ["failover", "shop", "--accept-split-brain", "--why", "hq burns"];
        self.move_production(&words, "unplanned failover", HOME, AWAY, RECORDS_OF_A_CYCLE)
    }

    /// Runs a live operation and holds what it recovered against what its source had on disk.
    fn move_production(&mut self, words: &[&str], name: &str, from: &str, to: &str, loss_max: u64) -> Result<()> {
        // Steps whose failure the plan tolerates make the run degraded (6): the dead site's machines did not stop.
        self.muster.run(words, &[0, 6])?;
        let mut row = self.measure(name)?;
        let had = self.estate.last_on_disk(from)?;
        let recovered = self.check_chosen_point(&mut row)?;
        let lost = had.saturating_sub(recovered);
        row.lost = Some(lost);
        if lost > loss_max {
            return Err(format!(
                "{name}: {lost} records lost ({from} had {had}, the point {recovered}), at most {loss_max} may be"
            ));
        }
        let muster = self.muster.clone();
        muster.wait_until("the shop writes on", BOOT_LIMIT, || {
            self.estate.last_answered(to).map(|last| last > recovered)
        })?;
        self.rows.push(row);
        Ok(())
    }

    /// Steps, time and outcome of the newest run, by its own journal.
    fn measure(&self, name: &str) -> Result<Row> {
        let log = self.muster.json(&["log"])?;
        let records = log["records"].as_array().ok_or("a log without records")?;
        let time = |record: &Value| record["time"].as_u64().unwrap_or(0);
        let began = records.first().map(time).ok_or("an empty log")?;
        let ended = records.last().map(time).unwrap_or(began);
        let succeeded: Vec<&Value> = records.iter().filter(|record| record["event"] == "node-succeeded").collect();
        let is_check = |record: &&&Value| record["node"].as_str().is_some_and(|node| node.contains("check"));
        let healthy = succeeded.iter().filter(is_check).map(|record| time(record)).max();
        let degraded = records.iter().filter(|record| record["event"] == "node-degraded").count();
        Ok(Row {
            name: name.to_owned(),
            steps: succeeded.len(),
            healthy: healthy.map(|at| at.saturating_sub(began)),
            took: ended.saturating_sub(began),
            lost: None,
            note: if degraded > 0 { format!("{degraded} steps went on degraded") } else { String::new() },
        })
    }

    /// Writes the point the newest run has chosen out of the vault, and checks the disks.
    fn check_chosen_point(&self, row: &mut Row) -> Result<u64> {
        let log = self.muster.json(&["log"])?;
        let records = log["records"].as_array().ok_or("a log without records")?;
        let chosen = records.iter().find_map(|record| {
            let output = &record["output"];
            (output["output"] == "point" && output["group"] == "orders").then(|| output["point"].as_str()).flatten()
        });
        let point = chosen.ok_or("the run chose no point for `orders`")?;
        let folder = self.folder.join("point");
        let _ = std::fs::remove_dir_all(&folder);
        let to = folder.display().to_string();
        self.muster.json(&["materialise", point, "db", "app", "--to", &to])?;
        let check = self.estate.check_point(&folder)?;
        let how = if check.clean { "disks clean" } else { "disks sound after journal replay" };
        row.note = if row.note.is_empty() { how.to_owned() } else { format!("{how}; {}", row.note) };
        let _ = std::fs::remove_dir_all(&folder);
        Ok(check.last)
    }

    fn points(&self) -> Result<usize> {
        let answer = self.muster.json(&["points", "orders"])?;
        Ok(answer["points"].as_array().map_or(0, Vec::len))
    }
}

/// Ends the replication process with the story, however it goes.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The person who says yes: looks for questions of runs and answers them with `muster approve`.
struct Approver {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Approver {
    #[allow(clippy::disallowed_methods)]
    fn start(muster: Muster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Err(error) = answer_questions(&muster) {
                    tracing_to_file(&muster.plans, &error);
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

/// The approver's own troubles: they show in the story as a question that nobody answers.
fn tracing_to_file(plans: &Path, error: &str) {
    let _ = std::fs::write(plans.join("approver.log"), error);
}

fn answer_questions(muster: &Muster) -> Result<()> {
    let runs = muster.json(&["runs"])?;
    for run in runs.as_array().into_iter().flatten() {
        if run["status"] != "open" || run["waiting"].as_u64().unwrap_or(0) == 0 {
            continue;
        }
        let id = run["id"].as_str().unwrap_or_default();
        let log = muster.json(&["log", id])?;
        let mut open: Vec<&str> = Vec::new();
        for record in log["records"].as_array().into_iter().flatten() {
            let node = record["node"].as_str().unwrap_or_default();
            match record["event"].as_str() {
                Some("asked") if record["question"]["kind"] == "approve" => open.push(node),
                Some("answered") => open.retain(|asked| *asked != node),
                _ => {}
            }
        }
        for step in open {
            muster.json(&["approve", id, step, "--by", "demo", "--why", "the demo says yes"])?;
        }
    }
    Ok(())
}

impl Drop for Approver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
