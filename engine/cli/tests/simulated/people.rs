//! The words of people: retry, skip, abort, yes, no, cancel.

use crate::shop::{Said, Shop};
use muster_demo::estate::{AWAY, Estate, HOME};

/// The shop, asking before it checks the database; the check gives up soon.
fn asks_before_the_check(text: String) -> String {
    let line = "    check db tcp(7000) within 2m\n";
    assert!(text.contains(line), "{text}");
    text.replace(line, "    approve \"Look at the database?\" by anyone within 15m\n    check db tcp(7000) within 2s\n")
}

/// A drill whose check of the database has failed: its clone was switched off by hand. Answers with the step.
fn failed_check(shop: &Shop) -> (String, String, String) {
    shop.write_plans(asks_before_the_check);
    shop.type_in(&["drill", "shop", "--no-wait"]).ends(4).says(&["Look at the database?", "muster approve"]);
    let run = shop.run_id();
    let clone = format!("db~{run}");
    shop.type_in(&["power", "off", AWAY, &clone]).ends(0);
    for question in shop.questions(&run) {
        shop.type_in(&["approve", &run, &question]).ends(0).says(&["muster resume"]);
    }
    let said = shop.type_in(&["resume", &run, "--no-wait"]).ends(4);
    said.says(&["database.check-tcp/db", "retry|", "muster decide"]);
    (run, clone, "database.check-tcp/db".to_owned())
}

#[test]
fn a_failed_check_is_tried_again() {
    let shop = Shop::protected();
    let (run, clone, step) = failed_check(&shop);
    shop.type_in(&["power", "on", AWAY, &clone]).ends(0);
    shop.type_in(&["decide", &run, "no-such-step", "retry"])
        .ends(5)
        .says(&["no step `no-such-step`", "hint: `database.check-tcp/db` waits"]);
    shop.type_in(&["decide", &run, &step, "retry", "--why", "it was off"]).ends(0);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(0);
    let log = shop.type_in(&["log", &run]).ends(0).out;
    assert!(log.contains("it was off"), "{log}");
    shop.play(&["cleanup", "shop"]);
    shop.assert_nothing_lost();
}

#[test]
fn a_failed_check_is_skipped_and_the_run_is_degraded() {
    let shop = Shop::protected();
    let (run, clone, step) = failed_check(&shop);
    shop.type_in(&["power", "on", AWAY, &clone]).ends(0);
    shop.type_in(&["decide", &run, &step, "skip", "--why", "we know"]).ends(0);
    let said: Said = shop.type_in(&["resume", &run, "--no-wait"]);
    assert!(matches!(said.code, Some(0 | 6)), "{said:#?}");
    assert_eq!(shop.json(&["status"])["plans"]["shop"]["drilled"], true);
    shop.play(&["cleanup", "shop"]);
    shop.assert_nothing_lost();
}

#[test]
fn an_aborted_drill_can_be_taken_away() {
    let shop = Shop::protected();
    let (run, _, step) = failed_check(&shop);
    shop.type_in(&["decide", &run, &step, "abort", "--why", "enough"]).ends(0);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(1);
    assert_ne!(shop.newest_run()["status"], "open");
    shop.assert_runs_at(HOME);
    // Whatever way it ended: no clone stays once the plan can be drilled again.
    if shop.json(&["status"])["plans"]["shop"]["drilled"] == true {
        shop.play(&["cleanup", "shop"]);
    }
    shop.write_plans(|text| text);
    shop.play(&["drill", "shop"]);
    shop.play(&["cleanup", "shop"]);
    assert_eq!(shop.json(&["machines"])["instances"].as_array().unwrap().len(), 3, "no clone is left");
    shop.assert_nothing_lost();
}

#[test]
fn cancelled_before_no_return_everything_is_taken_back() {
    let mut shop = Shop::protected();
    // The final synchronisation stops in the middle: the target's agent does not answer.
    shop.estate.kill(AWAY).unwrap();
    let said = shop.type_in(&["failover", "shop", "--planned", "--no-wait"]).ends(4);
    said.says(&["`dr`"]);
    shop.estate.start(AWAY).unwrap();
    shop.wait_until("dr answers", || shop.json(&["machines"])["silent"].as_array().unwrap().is_empty());
    let said = shop.type_in(&["cancel", "shop", "--why", "wrong day"]);
    assert_eq!(said.code, Some(1), "undone is not done: {said:#?}");
    assert!(matches!(shop.newest_run()["status"].as_str(), Some("undone" | "aborted")), "{}", shop.newest_run());
    assert_eq!(shop.json(&["status"])["plans"]["shop"]["phase"], "protected");
    shop.assert_nothing_lost();
    // Nothing stays locked.
    shop.play(&["failover", "shop", "--planned"]);
    shop.assert_runs_at(AWAY);
}

#[test]
fn cancelled_before_commit_production_goes_home() {
    let shop = Shop::protected();
    shop.play(&["failover", "shop", "--planned"]);
    shop.assert_runs_at(AWAY);
    let had = shop.estate.last_on_disk(HOME).unwrap();
    shop.play(&["cancel", "shop"]);
    shop.assert_runs_at(HOME);
    assert_eq!(shop.json(&["status"])["plans"]["shop"]["phase"], "protected");
    shop.wait_until("home writes on", || shop.estate.last_answered(HOME).unwrap() > had);
    shop.assert_nothing_lost();
}

#[test]
fn a_no_is_an_answer() {
    let shop = Shop::protected();
    shop.write_plans(asks_before_the_check);
    shop.type_in(&["drill", "shop", "--no-wait"]).ends(4);
    let run = shop.run_id();
    let question = shop.questions(&run).remove(0);
    shop.type_in(&["approve", &run, &question, "--no", "--why", "not today"]).ends(0);
    let said = shop.type_in(&["resume", &run, "--no-wait"]);
    assert!(matches!(said.code, Some(1 | 4)), "a no stops the run: {said:#?}");
    assert!(said.err.contains("not today"), "{said:#?}");
    shop.type_in(&["cancel", "shop"]);
    assert_ne!(shop.newest_run()["status"], "open");
    shop.assert_runs_at(HOME);
}
