//! What must be refused: each says what, where and what to do, with the documented exit code, and harms nothing.

use crate::shop::Shop;
use muster_demo::estate::{AWAY, Estate, HOME};
use serde_json::Value;

#[test]
fn a_vault_must_be_there_and_be_made_once() {
    let shop = Shop::new();
    for words in [&["protect"][..], &["points"], &["status"], &["vault", "info"]] {
        shop.type_in(words).ends(1).says(&["error: there is no vault at `file://", "hint: ", "muster vault init"]);
    }
    shop.type_in(&["vault", "init"]).ends(0).says(&["key file made", "whoever loses every key loses the vault"]);
    let info = shop.json(&["vault", "info"]);
    shop.type_in(&["vault", "init"]).ends(5).says(&["already", "hint: "]);
    assert_eq!(shop.json(&["vault", "info"])["id"], info["id"]);
    shop.type_in(&["replicate"]).ends(1).says(&["no group is protected", "muster protect"]);
    shop.type_in(&["protect"]).ends(0);
    shop.assert_nothing_lost();
}

#[test]
fn the_right_key_must_be_there() {
    let shop = Shop::protected();
    let nowhere = shop.folder.path().join("nowhere.key").display().to_string();
    shop.type_in(&["points", "--key-file", &nowhere]).ends(1).says(&["nowhere.key", "hint: "]);
    // A key of another vault: well formed, and not one of ours.
    let other = shop.folder.path().join("other.key").display().to_string();
    let url = format!("file://{}", shop.folder.path().join("other-vault").display());
    shop.type_in(&["vault", "init", "--vault", &url, "--key-file", &other]).ends(0);
    shop.type_in(&["points", "--key-file", &other]).ends(5).says(&["other.key", "does not open vault", "hint: "]);
    shop.type_in(&["replicate", "--once", "--key-file", &other]).ends(5).says(&["other.key"]);
    std::fs::write(&other, "not a key\n").unwrap();
    shop.type_in(&["points", "--key-file", &other]).ends(1).says(&["other.key"]);
    shop.assert_nothing_lost();
}

#[test]
fn operations_that_are_not_legal_name_the_legal_ones() {
    let shop = Shop::protected();
    let runs = shop.json(&["runs"]);
    for operation in ["commit", "reprotect", "cancel"] {
        let said = shop.type_in(&[operation, "shop"]).ends(5);
        said.says(&["E0601", operation, "of `shop`", "legal now: test, planned, unplanned"]);
    }
    shop.type_in(&["failback", "shop"]).ends(5).says(&["E0601", "muster failover shop"]);
    shop.type_in(&["cleanup", "shop"]).ends(5).says(&["no drill of `shop`", "hint: "]);
    shop.type_in(&["resume"]).ends(5).says(&["no run is unfinished", "muster runs"]);
    assert_eq!(shop.json(&["runs"]), runs, "a refused operation leaves no run");

    shop.type_in(&["drill", "shop"]).ends(0);
    shop.type_in(&["drill", "shop"]).ends(5).says(&["E0601", "legal now: cleanup, planned, unplanned"]);
    assert_eq!(shop.json(&["status"])["plans"]["shop"]["drilled"], true);
    shop.type_in(&["cleanup", "shop"]).ends(0);
    assert_eq!(shop.json(&["status"])["plans"]["shop"]["drilled"], false);
    shop.assert_nothing_lost();
}

#[test]
fn unknown_names_are_told_with_the_known_ones() {
    let shop = Shop::protected();
    shop.type_in(&["drill", "shopp"]).ends(1).says(&["no plan `shopp`", "hint: the plans here: shop"]);
    shop.type_in(&["dry-run", "shopp", "test"]).ends(1).says(&["no plan `shopp`", "shop"]);
    shop.type_in(&["dry-run", "shop", "tset"]).ends(1).says(&["`tset` is not an operation", "hint: operations: test"]);
    shop.type_in(&["protect", "order"]).ends(1).says(&["no group `order`", "front, orders"]);
    shop.type_in(&["points", "order"]).ends(1).says(&["no group `order`", "front, orders"]);
    let to = shop.folder.path().join("out").display().to_string();
    shop.type_in(&["materialise", "abc", "--to", &to]).ends(1).says(&["no recovery point `abc`", "muster points"]);
    shop.type_in(&["log", "r123"]).ends(1).says(&["r123"]);
    shop.type_in(&["resume", "r123"]).ends(1).says(&["r123"]);
    shop.type_in(&["approve", "r123", "doors.approve"]).ends(1).says(&["r123"]);
    shop.type_in(&["decide", "r123", "doors.approve", "retry"]).ends(1).says(&["r123"]);
    shop.type_in(&["power", "on", "hqq", "db"]).ends(1).says(&["no site `hqq`", "dr, hq"]);
    shop.type_in(&["power", "on", HOME, "dbb"]).ends(1).says(&["no machine `dbb`", "app, db, web"]);
    shop.type_in(&["explain", "E9999"]).ends(1).says(&["E9999", "hint: "]);
    // Before anything is stopped.
    let runs = shop.json(&["runs"]);
    shop.type_in(&["failover", "shop", "--point", "abc", "--no-wait"])
        .ends(1)
        .says(&["a point `abc`", "muster points"]);
    assert_eq!(shop.json(&["runs"]), runs, "a mistyped point leaves no run");
    shop.assert_nothing_lost();
}

#[test]
fn a_site_that_is_down_is_named_with_its_address() {
    let mut shop = Shop::protected();
    shop.estate.kill(AWAY).unwrap();
    let said = shop.type_in(&["inventory", "pull"]).ends(1).says(&["`dr`", "does not answer at 127.", "hint: "]);
    assert!(said.err.contains("hq: 3 machines"), "the other site is still asked: {said:#?}");
    let said = shop.type_in(&["machines"]).ends(0).says(&["`dr`", "127."]);
    assert!(said.out.contains("db"), "{said:#?}");
    shop.type_in(&["power", "on", AWAY, "db"]).ends(1).says(&["`dr`", "127."]);
    // Replication goes on: the source's agent writes into the vault.
    let before = shop.points();
    shop.type_in(&["replicate", "--once"]).ends(0);
    assert!(shop.points() > before);
    // A drill needs its target: it waits for a person to bring it back.
    shop.type_in(&["drill", "shop", "--no-wait"]).ends(4).says(&["site `dr` does not answer at 127.", "ready/verify"]);
    shop.estate.start(AWAY).unwrap();
    shop.wait_until("dr answers", || shop.json(&["machines"])["silent"].as_array().unwrap().is_empty());
    shop.assert_nothing_lost();
}

#[test]
fn wrong_usage_ends_with_two_and_wrong_plans_with_three() {
    let shop = Shop::new();
    shop.type_in(&["fly"]).ends(2).says(&["unrecognized subcommand 'fly'"]);
    shop.type_in(&["failover"]).ends(2).says(&["<PLAN>"]);
    shop.type_in(&["failover", "shop", "--planned", "--accept-split-brain"]).ends(2).says(&["cannot be used with"]);
    shop.write_plans(|text| text.replace("start db", "start dbb"));
    let said = shop.type_in(&["check"]).ends(3).says(&["error[E0301]", "shop.plan:", "dbb", "`db`", "1 error"]);
    assert!(said.out.is_empty(), "{said:#?}");
    shop.type_in(&["vault", "init"]).ends(0);
    shop.type_in(&["drill", "shop"]).ends(3).says(&["error[E0301]"]);
    let found = shop.type_in(&["check", "--json"]).ends(3).data();
    assert_eq!(found["diagnostics"][0]["code"], "E0301", "{found}");
    let empty = tempfile::tempdir().unwrap();
    let mut command = shop.command(&["status"]);
    command.env("MUSTER_PLANS", empty.path());
    let said = crate::shop::said(command, &["status"]);
    assert!(said.code == Some(1) && said.err.contains("hint: "), "{said:#?}");
}

/// The shop has two groups, and a person names one point: the other group goes to its newest one that is not later.
#[test]
fn a_named_point_chooses_for_every_group() {
    let shop = Shop::protected();
    let id = |points: &[Value], group: &str, at: usize| {
        let mut of: Vec<&Value> = points.iter().filter(|point| point["group"] == group).collect();
        of.sort_by_key(|point| point["at"].as_u64());
        of[at]["id"].as_str().unwrap().to_owned()
    };
    for _ in 0..2 {
        shop.type_in(&["replicate", "--once"]).ends(0);
    }
    let points = shop.json(&["points"])["points"].as_array().unwrap().clone();
    let orders = id(&points, "orders", 1);
    let named = points.iter().find(|point| point["id"] == orders.as_str()).unwrap();
    let fit = points.iter().filter(|point| point["group"] == "front" && point["at"].as_u64() <= named["at"].as_u64());
    let front = fit.max_by_key(|point| point["at"].as_u64()).unwrap()["id"].as_str().unwrap().to_owned();
    shop.play(&["failover", "shop", "--point", &orders, "--accept-split-brain"]);
    let log = shop.json(&["log"]);
    let chosen: Vec<(&str, &str)> = log["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record["output"]["output"] == "point")
        .map(|record| (record["output"]["group"].as_str().unwrap(), record["output"]["point"].as_str().unwrap()))
        .collect();
    assert_eq!(chosen.len(), 2, "{log:#}");
    assert!(chosen.contains(&("orders", &orders)) && chosen.contains(&("front", &front)), "{chosen:?}");
}
