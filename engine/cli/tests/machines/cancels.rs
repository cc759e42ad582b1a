//! Moves that a person takes back, before and after the machines have moved, and a machine that is lost.

use crate::bench::{Bench, Sentry, ended, expect, on_real_machines};
use muster_demo::Result;
use muster_demo::estate::{AWAY, Estate, HOME};
use muster_demo::real::Console;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn a_move_is_taken_back_and_a_lost_machine_is_read_anew() {
    on_real_machines("cancel", |bench| {
        bench.shop()?;
        points_keep_their_word(bench)?;
        cancel_before_no_return(bench)?;
        cancel_before_commit(bench)?;
        lose_one_machine(bench)
    });
}

/// Under writes: the file systems of an app-consistent point have nothing to replay, those of a crash-consistent one have,
/// and are in order after it.
fn points_keep_their_word(bench: &mut Bench) -> Result<()> {
    const CYCLES_MAX: usize = 4;
    let mut seen = BTreeMap::new();
    for _ in 0..CYCLES_MAX {
        let answer = bench.muster.json(&["points", "orders"])?;
        for point in answer["points"].as_array().into_iter().flatten() {
            let word = |name: &str| point[name].as_str().unwrap_or_default().to_owned();
            seen.insert(word("kind"), word("id"));
        }
        if seen.contains_key("app") && seen.contains_key("crash") {
            break;
        }
        bench.run(&["replicate", "--once"], &[0])?;
    }
    for (kind, clean) in [("app", true), ("crash", false)] {
        let point = seen.get(kind).ok_or_else(|| format!("no {kind}-consistent point in {seen:?}"))?;
        expect(&format!("{kind}-consistent {point}: nothing to replay"), &bench.check_point(point)?.clean, &clean)?;
    }
    Ok(())
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
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or("no process has this number")?;
    kill_process(pid, Signal::KILL).map_err(|error| format!("kill process {process}: {error}"))?;
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
