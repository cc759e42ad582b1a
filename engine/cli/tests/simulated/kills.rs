//! SIGKILL in the middle of a planned move: whoever takes it up ends it as if nothing had been.
//!
//! `MUSTER_KILL_SEED=n` moves the moments.

use crate::shop::{Said, Shop};
use muster_demo::estate::{AWAY, Estate, HOME};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

/// Kills spread over the lines that a planned move of the shop prints before it asks its question.
const KILLS: u64 = 6;
const LINES: u64 = 36;
/// The kill comes up to so much after the line: in the middle of the step, or of the next one.
const AFTER_LINE_MICROS_MAX: u64 = 15_000;

fn seed() -> u64 {
    std::env::var("MUSTER_KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// splitmix64.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn killed_in_part(part: u64) {
    let chance = mixed(seed().wrapping_mul(KILLS) + part);
    let (from, to) = (part * LINES / KILLS, (part + 1) * LINES / KILLS);
    let line = from + chance % (to - from);
    let after = Duration::from_micros((chance >> 32) % AFTER_LINE_MICROS_MAX);
    println!("MUSTER_KILL_SEED={}: part {part}, after line {line} and {after:?}", seed());

    let shop = Shop::protected();
    let reached = kill_failover(&shop, line, after);
    shop.assert_runs_once();
    let resumed = shop.type_in(&["resume", "--no-wait"]);
    assert!(resumed.code.is_some(), "killed after `{reached}`: {resumed:#?}");
    shop.assert_runs_once();
    shop.finish(resumed).ends(0);
    assert_moved(&shop);
}

/// Starts the move and kills it so long after it has said so many lines; answers with the last line.
fn kill_failover(shop: &Shop, line: u64, after: Duration) -> String {
    let mut command = shop.command(&["failover", "shop", "--planned"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut last = String::new();
    for _ in 0..=line {
        match said.next() {
            Some(text) => last = text.unwrap(),
            None => break,
        }
        // It waits for the answer to this question: no line comes after it.
        if last.contains(" asks ") {
            break;
        }
    }
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!last.is_empty(), "the move has not begun");
    last
}

/// The state an undisturbed move ends in.
pub fn assert_moved(shop: &Shop) {
    let status = shop.json(&["status"]);
    assert_eq!(status["plans"]["shop"]["phase"], "failed-over", "{status}");
    assert_eq!(status["runs"].as_array().unwrap().len(), 1, "one run, taken up: {status}");
    assert_eq!(status["runs"][0]["status"], "done", "{status}");
    shop.assert_runs_at(AWAY);
    let had = shop.estate.last_on_disk(HOME).unwrap();
    let recovered = shop.recovered();
    assert_eq!(recovered, had, "records lost");
    shop.wait_until("the shop writes on", || shop.estate.last_answered(AWAY).unwrap() > recovered);
    shop.type_in(&["log", "--verify"]).ends(0).says(&["verifies"]);
    // Nothing is locked or left over: the next operations go through.
    shop.play(&["commit", "shop"]);
    shop.play(&["reprotect", "shop"]);
}

#[test]
fn an_undisturbed_move_ends_so() {
    let shop = Shop::protected();
    let stopped: Said = shop.type_in(&["failover", "shop", "--planned", "--no-wait"]).ends(4);
    let lines = stopped.err.lines().count();
    assert!(lines as u64 >= LINES - 4, "{lines} lines before the question: spread the kills anew");
    shop.finish(stopped).ends(0);
    assert_moved(&shop);
}

#[test]
fn killed_in_its_first_sixth() {
    killed_in_part(0);
}

#[test]
fn killed_in_its_second_sixth() {
    killed_in_part(1);
}

#[test]
fn killed_in_its_third_sixth() {
    killed_in_part(2);
}

#[test]
fn killed_in_its_fourth_sixth() {
    killed_in_part(3);
}

#[test]
fn killed_in_its_fifth_sixth() {
    killed_in_part(4);
}

#[test]
fn killed_in_its_last_sixth() {
    killed_in_part(5);
}

/// The signature given with the command is in the journal: whoever resumes is not asked for it again.
#[test]
fn a_signature_given_with_the_command_outlives_its_process() {
    let mut shop = Shop::protected();
    shop.estate.kill(HOME).unwrap();
    let words = ["failover", "shop", "--accept-split-brain", "--why", "hq burns", "-v"];
    let mut running = shop.stays(shop.command(&words));
    // Before the question: the source is looked for, and the lock is taken.
    shop.wait_until("the run has begun", || running.log().contains("ready/verify"));
    running.kill();
    assert!(!running.log().contains("asks anyone: Site"), "killed too late: {}", running.log());
    let resumed = shop.type_in(&["resume", "--no-wait", "-v"]).ends(4);
    let text = "signed in advance with --accept-split-brain: hq burns";
    for part in ["tester says yes: ", text, "asks anyone: Send customers"] {
        assert!(resumed.err.contains(part), "`{part}` is missing in {resumed:#?}");
    }
    shop.finish(resumed).ends(0);
    shop.assert_runs_at(AWAY);
    let opened = shop.json(&["log"])["records"][0].clone();
    assert_eq!(opened["signed"]["why"], text, "{opened}");
}
