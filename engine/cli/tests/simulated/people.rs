//! The words of people: retry, skip, abort, yes, no, cancel.

use crate::shop::Shop;
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
    let answer = shop.type_in(&["resume", &run, "--no-wait", "--json"]).ends(6).data();
    assert_eq!((&answer["end"], &answer["degraded"]), (&"done".into(), &true.into()), "{answer}");
    let log = shop.type_in(&["log", &run]).ends(0).out;
    assert!(log.contains("database.check-tcp/db") && log.contains("tester decides skip: we know"), "{log}");
    assert_eq!(shop.json(&["status"])["plans"]["shop"]["drilled"], true);
    shop.play(&["cleanup", "shop"]);
    shop.assert_nothing_lost();
}

#[test]
fn a_failed_check_is_done_by_hand_and_counts_as_done() {
    let shop = Shop::protected();
    let (run, clone, step) = failed_check(&shop);
    shop.type_in(&["power", "on", AWAY, &clone]).ends(0);
    shop.type_in(&["decide", &run, &step, "done-by-hand"]).ends(5).says(&["`done-by-hand` asks for a reason"]);
    shop.type_in(&["decide", &run, &step, "done-by-hand", "--by", "ben", "--why", "I looked myself"]).ends(0);
    let answer = shop.type_in(&["resume", &run, "--no-wait", "--json"]).ends(0).data();
    assert_eq!(answer["degraded"], false, "{answer}");
    let log = shop.type_in(&["log", &run]).ends(0).out;
    assert!(log.contains("ben decides done-by-hand: I looked myself"), "{log}");
    shop.play(&["cleanup", "shop"]);
}

#[test]
fn a_failed_check_is_done_again_with_a_new_key() {
    let shop = Shop::protected();
    let (run, clone, step) = failed_check(&shop);
    shop.type_in(&["power", "on", AWAY, &clone]).ends(0);
    shop.type_in(&["decide", &run, &step, "redo", "--by", "ben", "--why", "from its beginning"]).ends(0);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(0);
    let log = shop.json(&["log", &run]);
    let of = |record: &&serde_json::Value| record["event"] == "attempt-started" && record["node"] == step.as_str();
    let keys: Vec<&serde_json::Value> =
        log["records"].as_array().unwrap().iter().filter(of).map(|record| &record["key"]).collect();
    assert!(keys.len() >= 2 && keys[0] != keys[keys.len() - 1], "{keys:?}");
    shop.play(&["cleanup", "shop"]);
}

#[test]
fn an_aborted_drill_can_be_taken_away() {
    let shop = Shop::protected();
    let (run, _, step) = failed_check(&shop);
    shop.type_in(&["decide", &run, &step, "abort", "--why", "enough"]).ends(0);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(1);
    assert_eq!(shop.newest_run()["status"], "aborted");
    assert_drill_left_nothing(&shop);
}

#[test]
fn a_drill_that_undoes_itself_leaves_nothing() {
    let shop = Shop::protected();
    shop.write_plans(|text| {
        let line = "    check db tcp(7000) within 2m\n";
        assert!(text.contains(line), "{text}");
        let text = text.replace(line, &format!("{line}    when test {{ run give-up(db = db) within 1m else undo }}\n"));
        text + "\nhook give-up(db: machine) {\n  body = \"throw fail(`${db.name} will not do`)\"\n  undo = step-back\n}\n"
            + "\nhook step-back(db: machine) {\n  body = \"log.info(`${db.name} is as before`)\"\n}\n"
    });
    shop.type_in(&["drill", "shop", "--no-wait"]).ends(1).says(&["db will not do"]);
    let run = shop.newest_run();
    assert_eq!(run["status"], "undone", "{run}");
    let log = shop.json(&["log"])["records"].to_string();
    assert!(
        log.contains("database.start/db") && log.contains("\"undo-done\""),
        "clones were made and taken back: {log}"
    );
    assert_drill_left_nothing(&shop);
}

fn instances(shop: &Shop) -> usize {
    shop.json(&["machines"])["instances"].as_array().unwrap().len()
}

/// A drill that was given up: no clone, no bubble, no hold on a point, nothing to clean up, and the next one goes through.
#[track_caller]
fn assert_drill_left_nothing(shop: &Shop) {
    shop.assert_runs_at(HOME);
    assert_eq!(instances(shop), 3, "no clone is left");
    assert_eq!(shop.json(&["machines"])["bubbles"].as_array().map_or(0, Vec::len), 0, "no bubble is left");
    assert_ne!(shop.json(&["status"])["plans"]["shop"]["drilled"], true);
    shop.type_in(&["cleanup", "shop"]).ends(5).says(&["no drill of `shop` to take away"]);
    shop.write_plans(|text| text);
    shop.play(&["drill", "shop"]);
    shop.play(&["cleanup", "shop"]);
    shop.type_in(&["cleanup", "shop"]).ends(5).says(&["no drill of `shop` to take away"]);
    assert_eq!(instances(shop), 3);
    shop.assert_nothing_lost();
}

#[test]
fn cancelled_before_no_return_everything_is_taken_back() {
    let shop = Shop::protected();
    shop.write_plans(|text| {
        let line = "  stage database {\n";
        assert!(text.contains(line), "{text}");
        text.replace(line, &format!("{line}    down {{ approve \"Stop the database?\" by anyone within 15m }}\n"))
    });
    // Web and app are off by then, and the database is on.
    shop.type_in(&["failover", "shop", "--planned", "--no-wait"]).ends(4).says(&["Stop the database?"]);
    assert_eq!(shop.live(), [format!("db@{HOME}")], "there is something to take back");
    let had = shop.estate.last_answered(HOME).unwrap();
    // Undone is not done.
    let said = shop.type_in(&["cancel", "shop", "--why", "wrong day"]).ends(1);
    assert!(said.out.contains("everything was taken back"), "{said:#?}");
    let run = shop.newest_run();
    assert_eq!(run["status"], "aborted", "{run}");
    shop.assert_runs_at(HOME);
    let records = shop.json(&["log"])["records"].clone();
    let undone = |step: &str| {
        let of = |record: &&serde_json::Value| record["event"] == "undo-done" && record["node"] == step;
        records.as_array().unwrap().iter().filter(of).count()
    };
    for step in ["leave/front-door.stop/web", "leave/application.stop/app", "ready/lock"] {
        assert_eq!(undone(step), 1, "{step}: {records}");
    }
    assert_eq!(shop.json(&["status"])["plans"]["shop"]["phase"], "protected");
    shop.wait_until("the shop writes on", || shop.estate.last_answered(HOME).unwrap() > had);
    shop.assert_nothing_lost();
    shop.write_plans(|text| text);
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
    // A no stops the run there, for a person to decide.
    shop.type_in(&["resume", &run, "--no-wait"]).ends(4).says(&["tester said no: not today", "muster decide"]);
    shop.type_in(&["cancel", "shop"]).ends(1);
    assert_eq!(shop.newest_run()["status"], "aborted");
    assert_drill_left_nothing(&shop);
}
