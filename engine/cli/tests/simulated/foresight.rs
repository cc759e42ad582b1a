//! Looking ahead: what a drill teaches the next dry-run, what-ifs, differences of sheets, drift of sites, stale sheets.

use crate::shop::Shop;
use muster_demo::estate::Estate;
use serde_json::Value;
use std::path::Path;

/// No line is wider than a projector shows.
#[track_caller]
fn narrow(table: &str) {
    for line in table.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let before = std::fs::read_to_string(path).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after, "nothing was changed in {}", path.display());
    std::fs::write(path, after).unwrap();
}

/// The second disk of the database is twice as large in the inventory.
fn grow_disk(inventory: &Path) {
    edit(inventory, |text| {
        let mut value: Value = serde_json::from_str(&text).unwrap();
        let machines = value["sites"]["hq"]["machines"].as_array_mut().unwrap();
        let db = machines.iter_mut().find(|machine| machine["name"] == "db").unwrap();
        let disk = &mut db["disks"][1]["size_bytes"];
        *disk = (disk.as_u64().unwrap() * 2).into();
        serde_json::to_string_pretty(&value).unwrap()
    });
}

#[test]
fn a_drill_teaches_the_next_dry_run() {
    let shop = Shop::protected();
    let before = shop.type_in(&["dry-run", "shop", "unplanned"]).ends(0).says(&["E0412", "muster drill shop"]);
    assert!(before.out.contains("never drilled") && before.out.contains("loss now: front "), "{}", before.out);
    assert!(before.out.contains("never rehearsed by a drill: all of it"), "{}", before.out);
    narrow(&before.out);
    shop.play(&["drill", "shop"]);
    let after = shop.type_in(&["dry-run", "shop", "unplanned"]).ends(0);
    assert!(after.out.contains("ago: passed") && !after.err.contains("E0412"), "{after:#?}");
    assert!(
        after.out.contains("never rehearsed by a drill: stop, fence, promote, doors.approve, hydrate"),
        "{}",
        after.out
    );
    narrow(&after.out);
    let forecast = &shop.json(&["dry-run", "shop", "unplanned"])["forecast"];
    let steps = forecast["estimate"]["steps"].as_array().unwrap();
    let start = steps.iter().find(|step| step["id"] == "database.start/db").unwrap();
    assert_eq!((&start["origin"], &start["samples"]), (&"measured".into(), &1.into()), "{start}");
    assert_eq!(forecast["drills"]["drill"]["passed"], true, "{forecast}");
    assert_eq!(forecast["losses"].as_array().unwrap().len(), 2);
    for loss in forecast["losses"].as_array().unwrap() {
        assert!(loss["now"].is_string() && loss["worst"]["worst"] == "bounded", "{loss}");
    }
    // The same drill teaches nothing about a way home.
    let back = &shop.json(&["dry-run", "shop", "unplanned", "--back"])["forecast"]["estimate"]["steps"];
    assert!(back.as_array().unwrap().iter().all(|step| step["origin"] != "measured"), "{back}");
    shop.play(&["cleanup", "shop"]);
}

#[test]
fn pictures_are_drawn() {
    let shop = Shop::new();
    let svg = shop.type_in(&["dry-run", "shop", "planned", "--view", "svg"]).ends(0).out;
    assert!(svg.starts_with("<svg ") && svg.contains("database.start/db") && svg.trim_end().ends_with("</svg>"));
    let table = shop.type_in(&["dry-run", "shop", "planned", "--color", "always"]).ends(0).out;
    assert!(table.contains("\u{1b}[2m"), "derived steps are dimmed: {table}");
    assert!(!shop.type_in(&["dry-run", "shop", "planned"]).ends(0).out.contains('\u{1b}'));
}

#[test]
fn what_ifs_stand_beside_the_plain_estimate() {
    let shop = Shop::protected();
    let what_if = |operation: &str, words: &[&str]| {
        let words: Vec<&str> = ["what-if", "shop", operation].iter().chain(words).copied().collect();
        shop.type_in(&words)
    };
    let burnt = what_if("unplanned", &["--dead", "hq"]).ends(0).out;
    for part in ["what if    hq dead", "plain", "no answer: the fence decides", "healthy"] {
        assert!(burnt.contains(part), "`{part}` is missing in\n{burnt}");
    }
    narrow(&burnt);
    let refused = what_if("planned", &["--dead", "hq"]).ends(0).out;
    assert!(refused.contains("a person has to decide") && refused.contains("never"), "{refused}");
    let failing = what_if("unplanned", &["--fail", "database.start/db=2", "--boots", "dr=1"]).ends(0).out;
    assert!(failing.contains("fails 2 times first") && failing.contains("boots at dr: 1 at once"), "{failing}");
    let slow = what_if("planned", &["--slow", "hq:dr=64kbit/s", "--json"]).ends(0).data();
    assert_eq!(slow["format"], "muster.what-if/1");
    assert_eq!(slow["under"]["conditions"][0], "hq → dr at 64kbit/s", "{slow}");
    assert!(slow["plain"]["estimate"]["total"].is_string());
    what_if("unplanned", &[]).ends(1).says(&["nothing to suppose", "--slow"]);
    what_if("unplanned", &["--fail", "database.start=1"]).ends(1).says(&["no step", "database.start/db"]);
    what_if("unplanned", &["--dead", "mars"]).ends(1).says(&["no site `mars`", "hq"]);
    what_if("unplanned", &["--slow", "hq=1Mbit/s"]).ends(2).says(&["hq:dr"]);
}

#[test]
fn sheets_are_compared() {
    let shop = Shop::new();
    let file = |name: &str| shop.folder.path().join(name).display().to_string();
    let (old, new) = (file("old.runsheet"), file("new.runsheet"));
    shop.type_in(&["dry-run", "shop", "unplanned", "-o", &old]).ends(0);
    let shown = shop.type_in(&["show", &old]).ends(0).out;
    assert!(
        shown.contains("takes for granted\n  plan:shop: `unplanned` is legal\n  machine:app: at home at hq"),
        "{shown}"
    );
    narrow(&shown);
    assert_eq!(shop.type_in(&["diff", &old, &old]).ends(0).says(&["do the same"]).out, "");
    shop.type_in(&["diff", &old]).ends(0);
    shop.write_plans(|text| {
        text.replace("    check db tcp(7000) within 2m\n", "")
            .replace("stage front-door after application", "stage front-door after database")
    });
    shop.type_in(&["dry-run", "shop", "unplanned", "-o", &new]).ends(0);
    let text = shop.type_in(&["diff", &old, &new]).ends(1).says(&["differ"]).out;
    for part in ["no longer protected", "check db tcp 7000", "earlier: ", "front-door.start", "predicted time   p50 "] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
    assert_eq!(shop.type_in(&["diff", &old]).ends(1).out, text, "what the plans would give now");
    let value = shop.type_in(&["diff", &old, &new, "--json"]).ends(1).data();
    assert_eq!((&value["format"], &value["same"]), (&"muster.diff/1".into(), &false.into()));
    assert_eq!(value["unprotected"][0]["before"], "check db tcp 7000", "{value}");
    shop.type_in(&["diff", &old, &file("none")]).ends(1).says(&["none"]);
}

#[test]
fn drift_is_found_at_the_sites_and_in_a_file() {
    let mut shop = Shop::new();
    shop.type_in(&["drift"]).ends(0).says(&["no drift"]);
    assert_eq!(shop.json(&["drift"]), serde_json::json!({ "format": "muster.drift/1", "drift": [] }));
    let inventory = shop.plans().join("inventory.json");
    let fresh = shop.folder.path().join("fresh.json");
    std::fs::copy(&inventory, &fresh).unwrap();
    let given = fresh.display().to_string();
    shop.type_in(&["drift", "--inventory", &given]).ends(0);
    // The plans believe in a larger disk than the site has.
    grow_disk(&inventory);
    let said = shop.type_in(&["drift"]).ends(1).says(&["1 drifted", "muster inventory pull"]).out;
    assert!(said.starts_with("db at hq has changed: disk data "), "{said}");
    assert_eq!(shop.type_in(&["drift", "--inventory", &given]).ends(1).out, said);
    shop.type_in(&["inventory", "pull"]).ends(0);
    shop.type_in(&["drift"]).ends(0);
    shop.estate.kill("dr").unwrap();
    let value = shop.type_in(&["drift", "--json"]).ends(1).data();
    assert_eq!(value["drift"], serde_json::json!([{ "drift": "silent", "site": "dr" }]));
    shop.type_in(&["drift", "--inventory", "none.json"]).ends(1).says(&["none.json"]);
}

#[test]
fn stale_sheets_are_refused_by_name() {
    let shop = Shop::protected();
    let file = shop.folder.path().join("shop.runsheet");
    let path = file.display().to_string();
    let write = |operation: &str| {
        shop.type_in(&["dry-run", "shop", operation, "-o", &path]).ends(0);
    };
    let run = || shop.type_in(&["run", &path, "--no-wait"]);
    let inventory = shop.plans().join("inventory.json");
    let runs = shop.json(&["runs"]);

    write("test");
    grow_disk(&inventory);
    run().ends(5).says(&["E0903", "`machine:db`", "disks root", "muster diff"]);
    // The site itself has the last word too: a sheet of plans that believe something else.
    write("test");
    run().ends(5).says(&["E0903", "`machine:db`"]);
    shop.type_in(&["inventory", "pull"]).ends(0);

    write("test");
    shop.write_plans(|text| text.replace("now reads from", "reads from"));
    run().ends(5).says(&["E0905", "`hook:set-db-host`"]);
    shop.write_plans(|text| text);
    edit(&file, |text| text.replace("now reads from", "reads from"));
    run().ends(5).says(&["E0905", "approved with"]);

    write("test");
    edit(&file, |text| text.replace("muster.runsheet/1", "muster.runsheet/0"));
    run().ends(1).says(&["E0904", "muster.runsheet/0"]);
    assert_eq!(shop.json(&["runs"]), runs, "a refused sheet leaves no run");

    // In a disaster an old sheet is better than none.
    write("unplanned");
    shop.write_plans(|text| text.replace("together = true\n", ""));
    shop.wait_until("the shop writes", || shop.estate.last_answered("hq").unwrap() > 10);
    run().ends(4).says(&["warning", "stale (E0903)", "`group:orders`"]);
}
