//! Another point after all: after no return, and before the commit.

use crate::shop::Shop;
use muster_demo::estate::{AWAY, Estate, HOME};

/// The oldest point of the database's group, and what it holds.
fn oldest_point(shop: &Shop) -> (String, u64) {
    let answer = shop.json(&["points", "orders"]);
    let points = answer["points"].as_array().unwrap();
    let oldest = points.iter().min_by_key(|point| point["at"].as_u64()).unwrap();
    let id = oldest["id"].as_str().unwrap().to_owned();
    let to = tempfile::tempdir_in(shop.folder.path()).unwrap();
    shop.type_in(&["materialise", &id, "db", "app", "--to", &to.path().display().to_string()]).ends(0);
    (id, shop.estate.check_point(to.path()).unwrap().last)
}

fn status_of(shop: &Shop, run: &str) -> String {
    let runs = shop.json(&["runs"]);
    let found = runs.as_array().unwrap().iter().find(|found| found["id"] == run).unwrap().clone();
    found["status"].as_str().unwrap().to_owned()
}

/// What is true once it was landed again.
#[track_caller]
fn assert_landed_from(shop: &Shop, point: &str) {
    shop.assert_runs_at(AWAY);
    assert_eq!(shop.json(&["status"])["plans"]["shop"]["phase"], "failed-over");
    let log = shop.json(&["log"]);
    let chosen = log["records"]
        .as_array()
        .unwrap()
        .iter()
        .find(|record| record["event"] == "point-chosen" && record["group"] == "orders");
    assert_eq!(chosen.unwrap()["point"], point, "{log}");
    shop.type_in(&["log", "--verify"]).ends(0).says(&["verifies"]);
}

#[test]
fn a_failover_is_landed_again_and_production_turns_round_from_there() {
    let shop = Shop::protected();
    let (point, held) = oldest_point(&shop);
    shop.wait_until("the shop writes on", || shop.estate.last_answered(HOME).unwrap() > held + 5);
    shop.type_in(&["repoint", "shop", "--point", &point]).ends(5).says(&["E0601", "legal now: test"]);
    shop.play(&["failover", "shop", "--planned"]);
    let first = shop.run_id();
    shop.type_in(&["repoint", "shop", "--point", "nope"]).ends(1).says(&["a point `nope`", "muster points"]);
    // Shown first, by a reader: what would be done, and nothing of it.
    let runs = shop.json(&["runs"]);
    shop.type_in(&["repoint", "shop", "--point", "nope", "--dry-run"]).ends(1).says(&["a point `nope`"]);
    let shown = shop.json(&["repoint", "shop", "--point", &point, "--dry-run"]);
    assert!(shown.to_string().contains("leave/stop/db") && shown.to_string().contains(&point), "{shown}");
    let table = shop.type_in(&["repoint", "shop", "--point", &point, "--dry-run"]).ends(0).out;
    assert!(table.contains("stop db at dr") && table.contains("made by"), "{table}");
    assert_eq!(shop.json(&["runs"]), runs, "nothing was begun");
    shop.play(&["repoint", "shop", "--point", &point, "--why", "the last orders are rubbish"]);
    assert_landed_from(&shop, &point);
    assert_eq!(status_of(&shop, &first), "done");
    // What lies there now was forked from that point, and grows.
    shop.wait_until("the shop writes on", || shop.estate.last_answered(AWAY).unwrap() > held);
    // A second time, and then for good.
    shop.play(&["repoint", "shop", "--point", &point]);
    assert_landed_from(&shop, &point);
    shop.play(&["commit", "shop"]);
    shop.type_in(&["repoint", "shop", "--point", &point]).ends(5).says(&["E0601", "legal now: reprotect"]);
    shop.play(&["reprotect", "shop"]);
    assert_eq!(shop.json(&["status"])["plans"]["shop"]["direction"], "back");
}

#[test]
fn what_was_landed_again_is_taken_back_by_a_cancel() {
    let shop = Shop::protected();
    let (point, _) = oldest_point(&shop);
    shop.play(&["failover", "shop", "--planned"]);
    let had = shop.estate.last_on_disk(HOME).unwrap();
    shop.play(&["repoint", "shop", "--point", &point]);
    shop.play(&["cancel", "shop"]);
    shop.assert_runs_at(HOME);
    shop.wait_until("home writes on", || shop.estate.last_answered(HOME).unwrap() > had);
    shop.assert_nothing_lost();
}

#[test]
fn a_failover_that_is_stuck_past_no_return_goes_on_from_another_point() {
    let shop = Shop::protected();
    let (point, _) = oldest_point(&shop);
    let check = "    check db tcp(7000) within 2m\n";
    shop.write_plans(|text| {
        assert!(text.contains(check), "{text}");
        text.replace(check, &format!("    approve \"Is it sane?\" by anyone within 15m\n{check}"))
    });
    shop.type_in(&["failover", "shop", "--planned", "--no-wait"]).ends(4).says(&["Is it sane?"]);
    let first = shop.run_id();
    let question = shop.questions(&first).remove(0);
    shop.type_in(&["approve", &first, &question, "--no", "--why", "its tables are empty"]).ends(0);
    shop.type_in(&["resume", &first, "--no-wait"]).ends(4).says(&["tester said no: its tables are empty"]);
    shop.type_in(&["cancel", "shop"]).ends(5).says(&["point of no return has passed"]);
    shop.play(&["repoint", "shop", "--point", &point, "--why", "an older one is sane"]);
    assert_landed_from(&shop, &point);
    assert_eq!(status_of(&shop, &first), "failed");
    let log = shop.type_in(&["log", &first]).ends(0).out;
    assert!(log.contains("left as it stands by tester") && log.contains("an older one is sane"), "{log}");
    // Nothing of the first run is in the way.
    shop.play(&["commit", "shop"]);
}

#[test]
fn before_no_return_there_is_nothing_to_land_again() {
    let shop = Shop::protected();
    let (point, _) = oldest_point(&shop);
    shop.write_plans(|text| {
        let line = "  stage database {\n";
        text.replace(line, &format!("{line}    down {{ approve \"Stop the database?\" by anyone within 15m }}\n"))
    });
    shop.type_in(&["failover", "shop", "--planned", "--no-wait"]).ends(4).says(&["Stop the database?"]);
    let refused = shop.type_in(&["repoint", "shop", "--point", &point]).ends(5);
    refused.says(&["has not passed the point of no return", "muster cancel shop"]);
    shop.type_in(&["cancel", "shop"]).ends(1);
    shop.write_plans(|text| text);
    shop.assert_nothing_lost();
}
