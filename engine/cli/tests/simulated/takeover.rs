//! A second muster takes over while the first one is frozen; then the first one wakes up.
//!
//! SIGSTOP is what a paused virtual machine, a swapping host or a debugger does to a process: it knows nothing of the time
//! that has passed. What it does when it goes on must harm nobody.

use crate::shop::{Said, Shop, said};
use muster_demo::estate::AWAY;
use rustix::process::{Pid, Signal, kill_process};

fn signal(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).unwrap();
    kill_process(process, signal).unwrap();
}

const STEAL: [&str; 4] = ["--steal", "--why", "its host hangs", "--no-wait"];

fn elsewhere(shop: &Shop, words: &[&str]) -> Said {
    said(shop.elsewhere(words), words)
}

#[test]
fn steal_asks_for_a_name_and_a_reason() {
    let shop = Shop::protected();
    let refused = ["`--steal` asks for a name and a reason", "hint: ", "--by NAME --why TEXT"];
    shop.type_in(&["replicate", "--once", "--steal"]).ends(5).says(&refused);
    shop.type_in(&["resume", "--steal", "--why", "  "]).ends(5).says(&refused);
    let words = ["replicate", "--once", "--steal", "--why", "it hangs"];
    let mut nobody = shop.command(&words);
    nobody.env_remove("MUSTER_USER");
    said(nobody, &words).ends(5).says(&refused);
    shop.assert_nothing_lost();
}

/// Freezes a move after it has said so many lines, has another process carry it on, and wakes the first one.
fn frozen_after(lines: usize) {
    let shop = Shop::protected();
    let mut first = shop.stays(shop.command(&["failover", "shop", "--planned"]));
    shop.wait_until("the move has come so far", || first.log().lines().count() >= lines);
    signal(first.process(), Signal::STOP);
    let frozen = first.log();
    assert!(!frozen.contains(" asks "), "frozen too late: {frozen}");

    // It seems alive: nobody takes over by accident.
    let process = first.process().to_string();
    let run = elsewhere(&shop, &["runs", "--json"]).ends(0).data()[0]["id"].as_str().unwrap().to_owned();
    elsewhere(&shop, &["resume", &run, "--no-wait"]).ends(5).says(&["the vault is in use by", &process, "--steal"]);
    let words: Vec<&str> = ["resume", &run].into_iter().chain(STEAL).collect();
    let second = elsewhere(&shop, &words).ends(4);
    second.says(&["taken over from", &process, "by tester: its host hangs", "Send customers"]);
    shop.assert_runs_at(AWAY);

    // In the middle of whatever it did. It is fenced, says so, and changes nothing.
    let before = elsewhere(&shop, &["log", &run, "--json"]).ends(0).data();
    signal(first.process(), Signal::CONT);
    assert_eq!(first.ended(), Some(5), "{}", first.log());
    let log = first.log();
    assert!(log.contains("another muster has taken over") && !log.contains("panicked"), "{log}");
    shop.assert_runs_at(AWAY);
    let after = elsewhere(&shop, &["log", &run, "--json"]).ends(0).data();
    assert_eq!(after, before, "the woken engine has written nothing");

    // Each step has one end, and the record names who took over and why.
    let records = after["records"].as_array().unwrap();
    for record in records.iter().filter(|record| record["event"] == "node-succeeded") {
        let same = |other: &&serde_json::Value| other["event"] == "node-succeeded" && other["node"] == record["node"];
        assert_eq!(records.iter().filter(same).count(), 1, "{record}");
    }
    let taken: Vec<_> = records.iter().filter(|record| record["event"] == "taken-over").collect();
    assert_eq!(taken.len(), 1, "{after}");
    assert_eq!((&taken[0]["who"], &taken[0]["why"]), (&"tester".into(), &"its host hangs".into()));
    assert!(taken[0]["from"].as_str().unwrap().contains(&process), "{}", taken[0]);
    shop.finish(Said::waiting()).ends(0);
    crate::kills::assert_moved(&shop);
}

#[test]
fn frozen_while_the_source_is_left() {
    frozen_after(8);
}

#[test]
fn frozen_while_the_target_rises() {
    frozen_after(24);
}
