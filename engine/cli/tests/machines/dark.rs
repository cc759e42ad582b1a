//! The way to the site that production leaves is cut in the middle of a planned move, and comes back later.
//!
//! Before no return the run stands still and starts nothing elsewhere; past it production starts at the target without
//! the source. In both cases the run ends like one that nothing disturbed once the way is back.

use crate::bench::{Bench, COMMAND_LIMIT, LOOK, SHOP, Sentry, end, expect, on_real_machines};
use crate::kills::{every_step_succeeded_once, lines_of_the_run};
use muster_demo::estate::{AWAY, Estate, HOME};
use muster_demo::{Result, during};
use serde_json::Value;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for every call that was under way to be given up, and for a try or two after it.
const DARK: Duration = Duration::from_secs(25);

/// When the way is cut, and what may happen without it.
struct Moment {
    name: &'static str,
    out: bool,
    /// What one line of `muster -v` contains at that time.
    line: [&'static str; 2],
    /// Whether production starts at the target although the source cannot be seen.
    starts: bool,
}

const MOMENTS: [Moment; 3] = [
    Moment { name: "while machines stop", out: true, line: ["leave/", "begins"], starts: false },
    Moment { name: "at the proof that the source is off", out: false, line: ["fence", "begins"], starts: false },
    Moment {
        name: "past no return, while machines start",
        out: true,
        line: ["database.start", "begins"],
        starts: true,
    },
];

#[test]
fn a_source_that_goes_dark_during_a_move_stops_nothing_for_good() {
    on_real_machines("dark", |bench| {
        bench.shop()?;
        for moment in &MOMENTS {
            dark_move(bench, moment).map_err(during(moment.name))?;
        }
        Ok(())
    });
}

fn dark_move(bench: &mut Bench, moment: &Moment) -> Result<()> {
    let (from, to) = if moment.out { (HOME, AWAY) } else { (AWAY, HOME) };
    bench.runs_only_at(from)?;
    for machine in SHOP {
        let _ = std::fs::remove_file(bench.estate.folder_of(to, machine)?.join("console.log"));
    }
    let before = bench.consoles(from)?;
    let sentry = Sentry::start(&bench.estate)?;
    let words: &[&str] =
        if moment.out { &["failover", "shop", "--planned", "-v"] } else { &["failback", "shop", "-v"] };
    let (mut driver, log) = bench.spawn(words)?;
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    let began = Instant::now();
    let here = |text: &str| lines_of_the_run(text).any(|line| moment.line.iter().all(|part| line.contains(part)));
    while !here(&text()) {
        if began.elapsed() > COMMAND_LIMIT || driver.try_wait().map_err(during("wait for muster"))?.is_some() {
            end(&mut driver);
            return Err(format!("the move never came to `{}`:\n{}", moment.line.join(" "), text()));
        }
        sleep(LOOK);
    }
    bench.estate.cut_off(from, true)?;
    sleep(DARK);
    let started: Vec<&str> = processes(bench, to)?;
    let proof = if moment.starts {
        expect("machines on at the target while the source is dark", &started.is_empty(), &false)
    } else {
        expect("machines on at the target before the source is known to be off", &started, &Vec::new())
    };
    bench.estate.cut_off(from, false)?;
    proof.map_err(|error| format!("{error}\n{}", text()))?;
    let ended = end_of(bench, &mut driver);
    ended.map_err(|error| format!("{error}\n{}", text()))?;
    let looks = sentry.end()?;

    expect("status of the run", &bench.newest_run()?["status"], &"done".into())?;
    bench.stands("failed-over", if moment.out { "out" } else { "back" })?;
    bench.runs_only_at(to)?;
    every_step_succeeded_once(&bench.muster.json(&["log", "--verify"])?)?;
    let had = bench.estate.last_on_disk(from)?;
    bench.writes_beyond(to, had)?;
    for ((machine, before), after) in SHOP.iter().zip(&before).zip(bench.consoles(from)?) {
        expect(&format!("orderly stops of {machine} at {from}"), &after.downs, &(before.downs + 1))?;
    }
    let landed = bench.consoles(to)?;
    for (machine, console) in SHOP.iter().zip(&landed) {
        expect(&format!("boots of {machine} at {to}"), &console.boots, &1)?;
    }
    expect("the newest record the database found", &landed[0].found, &vec![had])?;
    println!("dark {}: {from} to {to}, 0 records lost, at both sites in 0 of {looks} looks", moment.name);
    bench.make_final()
}

fn processes(bench: &Bench, site: &str) -> Result<Vec<&'static str>> {
    let mut on = Vec::new();
    for machine in SHOP {
        if bench.estate.process(site, machine)?.is_some() {
            on.push(machine);
        }
    }
    Ok(on)
}

/// What a person does now: looks, says yes to questions, has steps that wait tried again, goes on with what has stopped.
fn end_of(bench: &mut Bench, driver: &mut std::process::Child) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < COMMAND_LIMIT {
        let living = driver.try_wait().map_err(during("wait for muster"))?.is_none();
        let run = bench.newest_run()?;
        if run["status"] != "open" {
            return if living { crate::bench::ended_in_place(driver) } else { Ok(()) };
        }
        bench.say_yes()?;
        let id = run["id"].as_str().unwrap_or_default().to_owned();
        for step in waiting(&bench.muster.json(&["log", &id])?) {
            bench.run(&["decide", &id, &step, "retry", "--why", "the way is back"], &[0])?;
        }
        if !living {
            bench.run(&["resume", "--no-wait"], &[0, 4])?;
        }
        sleep(Duration::from_millis(300));
    }
    end(driver);
    Err("the run has not ended after the way came back".to_owned())
}

/// Steps that failed and wait for a decision.
fn waiting(log: &Value) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    for record in log["records"].as_array().into_iter().flatten() {
        let node = record["node"].as_str().unwrap_or_default();
        match record["event"].as_str() {
            Some("paused") => steps.push(node.to_owned()),
            Some("decided") => steps.retain(|step| step != node),
            _ => {}
        }
    }
    steps
}
