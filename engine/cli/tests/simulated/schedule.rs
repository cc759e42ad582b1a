//! The schedule under a person's hand, what it says of itself, and lineages that grow long.

use crate::shop::Shop;

#[test]
fn a_person_stops_the_schedule_and_lets_it_go_on() {
    let shop = Shop::protected();
    let words = ["replicate", "--pause", "--by", "ada", "--why", "the line is being repaired"];
    shop.type_in(&words).ends(0).says(&["paused: "]);
    let status = shop.json(&["status"]);
    for group in status["groups"].as_array().unwrap() {
        assert_eq!((&group["phase"], &group["by"], &group["next_due"]), (&"paused".into(), &"ada".into(), &().into()));
    }
    let metrics = shop.type_in(&["metrics"]).ends(0).out;
    let paused: Vec<&str> = metrics.lines().filter(|line| line.starts_with("muster_paused{")).collect();
    assert!(!paused.is_empty() && paused.iter().all(|line| line.ends_with(" 1")), "{metrics}");
    // Another process that keeps the schedule finds nothing to do, and what is asked for by name is done.
    let points = shop.points();
    let holder = shop.replicating();
    shop.type_in(&["replicate", "--once"]).ends(0);
    let by_hand = shop.points();
    assert!(by_hand > points);
    shop.type_in(&["replicate", "--resume"]).ends(0).says(&["replicates again: "]);
    shop.wait_until("the schedule goes on", || shop.points() > by_hand);
    drop(holder);
    shop.type_in(&["replicate", "--pause", "nobody"]).ends(1).says(&["`nobody` is not protected"]);
}

/// One line in the text format of Prometheus: a comment, or a name with labels and a number.
fn reads(line: &str) -> bool {
    if line.starts_with("# HELP muster_") || line.starts_with("# TYPE muster_") {
        return true;
    }
    let Some((name, value)) = line.rsplit_once(' ') else { return false };
    let plain = name.split('{').next().unwrap();
    value.parse::<f64>().is_ok()
        && plain.starts_with("muster_")
        && plain.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && (name == plain || name.ends_with("\"}"))
}

#[test]
fn metrics_count_what_was_replicated() {
    let shop = Shop::protected();
    let count = |text: &str, metric: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(&format!("muster_{metric}{{")));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    };
    let before = shop.type_in(&["metrics"]).ends(0).out;
    assert!(before.lines().all(reads), "{before}");
    shop.type_in(&["replicate", "--once"]).ends(0);
    let after = shop.type_in(&["metrics"]).ends(0).out;
    assert_eq!(count(&after, "cycles_total"), count(&before, "cycles_total") + 2.0, "{after}");
    assert!(count(&after, "read_bytes_total") > count(&before, "read_bytes_total"), "{after}");
    assert!(count(&after, "stored_bytes_total") > 0.0 && count(&after, "failed_cycles_total") == 0.0, "{after}");
}

/// Every cycle adds a layer; past 32 of them they are written once more as one, and the points hold what they held.
#[test]
fn long_lineages_are_folded() {
    let shop = Shop::protected();
    let mut folded = false;
    for _ in 0..40 {
        let said = shop.type_in(&["replicate", "--once", "-v"]).ends(0);
        folded = said.err.contains("layers were folded");
        if folded {
            break;
        }
    }
    assert!(folded, "40 cycles were not folded");
    shop.assert_nothing_lost();
    let point = shop.newest_point("orders");
    let folder = shop.plans().join("images");
    shop.type_in(&["materialise", &point, "--to", folder.to_str().unwrap()]).ends(0);
    let files: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path().to_str().unwrap().to_owned()).collect();
    let mut words = vec!["laboratory", "check"];
    words.extend(files.iter().map(String::as_str));
    shop.type_in(&words).ends(0);
    shop.type_in(&["verify"]).ends(0);
}

/// Nobody has to remember a drill whose plan says for how long it may stand; who cleans up in time is not meddled with.
#[test]
fn a_forgotten_drill_is_taken_away() {
    let shop = Shop::protected();
    shop.write_plans(|text| text.replace("  rto  = 15m\n", "  rto  = 15m\n  keep = 12s when test\n"));
    let mut holder = shop.replicating();
    let cleanups = || {
        let runs = shop.json(&["runs"]);
        let kind = |run: &&serde_json::Value| run["operation"]["kind"] == "cleanup";
        runs.as_array().unwrap().iter().filter(kind).cloned().collect::<Vec<_>>()
    };
    shop.play(&["drill", "shop"]);
    shop.type_in(&["cleanup", "shop", "--by", "ada"]).ends(0);
    shop.play(&["drill", "shop"]);
    let until = shop.json(&["status"])["drills_until"]["shop"].as_u64().unwrap();
    let left = shop.json(&["runs"])[0]["ended"].as_u64().unwrap();
    assert_eq!(until, left + 12_000);
    let said = shop.type_in(&["status"]).ends(0);
    assert!(said.out.contains("a drill stands until ") || said.err.contains("a drill stands until "), "{said:#?}");
    assert_eq!(cleanups().len(), 1);
    shop.wait_until("the drill is taken away", || cleanups().len() == 2 && cleanups()[0]["status"] == "done");
    let cleanup = &cleanups()[0];
    assert_eq!(cleanup["who"], "muster");
    assert!(cleanup["why"].as_str().unwrap().contains("`keep = 12s`"), "{cleanup}");
    assert!(cleanup["started"].as_u64().unwrap() >= until, "{cleanup}");
    assert_eq!(shop.json(&["status"])["plans"]["shop"]["drilled"], false);
    shop.wait_until("the holder says so", || holder.log().contains("a drill that had stood for 12s is taken away"));
    assert!(holder.is_running(), "{}", holder.log());
    shop.assert_nothing_lost();
    shop.assert_runs_once();
}
