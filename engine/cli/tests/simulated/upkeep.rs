//! Upkeep of a vault: rot is found with and without a key, points that people keep stay, and what nothing needs goes.

use crate::shop::Shop;
use std::path::{Path, PathBuf};

fn segments(shop: &Shop) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&shop.vault().join("data"), &mut found);
    found.sort();
    found
}

#[test]
fn rot_is_found_without_a_key_and_with_one() {
    let shop = Shop::protected();
    let whole = shop.json(&["scrub"]);
    assert_eq!(whole["segments"].as_u64().unwrap(), segments(&shop).len() as u64);
    assert!(whole["damaged"].as_array().unwrap().is_empty(), "{whole}");
    let verified = shop.json(&["verify"]);
    assert_eq!(verified["points"].as_array().unwrap().len(), 2, "the newest of each group: {verified}");
    let orders = verified["points"].as_array().unwrap().iter().find(|point| point["group"] == "orders").unwrap();
    assert_eq!(orders["barriers"].as_array().unwrap().len(), 1, "one cut for the group: {orders}");
    assert!(orders["times"]["hold_micros"].is_u64() && orders["times"]["flush_micros"].is_u64(), "{orders}");

    let victim = segments(&shop).into_iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    let name = victim.file_name().unwrap().to_str().unwrap().to_owned();
    // The key is not there: nothing asks for it.
    let (key, away) = (shop.key(), shop.folder.path().join("away.key"));
    std::fs::rename(&key, &away).unwrap();
    let scrubbed = shop.type_in(&["scrub", "--json"]).ends(1).data();
    std::fs::rename(&away, &key).unwrap();
    assert!(scrubbed["damaged"][0].as_str().unwrap().contains(&name), "{scrubbed}");
    assert!(!scrubbed["points"].as_array().unwrap().is_empty(), "{scrubbed}");
    let verified = shop.type_in(&["verify", "--all", "--json"]).ends(1).data();
    assert!(verified["damaged"].to_string().contains(&name), "{verified}");
    shop.type_in(&["scrub"]).ends(1).says(&[&name, "cannot be trusted", "hint: "]);
}

#[test]
fn points_that_people_keep_stay_and_others_go() {
    let shop = Shop::protected();
    let (held, dated) = (shop.newest_point("orders"), shop.newest_point("front"));
    shop.type_in(&["replicate", "--once"]).ends(0);
    let newest = shop.newest_point("orders");
    let newest_refused = ["it is the newest", "nothing could be recovered"];
    shop.type_in(&["point", "delete", &newest]).ends(5).says(&newest_refused);

    shop.type_in(&["point", "hold", &held, "--by", "anna", "--why", "audit"])
        .ends(0)
        .says(&["held by anna", "(audit)"]);
    shop.type_in(&["point", "delete", &held]).ends(5).says(&[&held, "held by anna"]);
    shop.type_in(&["point", "hold", &dated, "--until", "2199-01-01"]).ends(0).says(&["kept until 2199-01-01"]);
    shop.type_in(&["point", "hold", &dated, "--until", "2198-01-01"]).ends(5).says(&["moved out, never in"]);
    shop.type_in(&["point", "hold", &dated, "--until", "soon"]).ends(1).says(&["`soon` is no date"]);
    shop.type_in(&["point", "hold", &dated, "--until", "2001-01-01"]).ends(1).says(&["has passed"]);
    shop.type_in(&["point", "release", &dated]).ends(5).says(&["kept until 2199-01-01", "before that date"]);
    shop.type_in(&["point", "delete", &dated]).ends(5).says(&["kept until 2199-01-01"]);
    let points = shop.json(&["points"]);
    assert!(points["kept"][&held].as_str().unwrap().contains("anna"), "{points}");
    assert!(points["kept"][&dated].as_str().unwrap().contains("2199"), "{points}");

    shop.type_in(&["point", "release", &held]).ends(0).says(&["held no more"]);
    shop.type_in(&["point", "release", &held]).ends(5).says(&["nobody holds"]);
    let before = shop.points();
    shop.type_in(&["point", "delete", &held]).ends(0).says(&["is gone"]);
    assert_eq!(shop.points(), before - 1);
    shop.type_in(&["point", "delete", &held]).ends(1).says(&["there is no recovery point"]);
    shop.assert_nothing_lost();
}

#[test]
fn what_nothing_needs_goes_in_two_phases() {
    let shop = Shop::protected();
    let orphan = shop.vault().join("data/nobody-root-0/1-agent-000001.seg");
    std::fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    std::fs::write(&orphan, [7; 4096]).unwrap();
    // What the store had not finished when its process was killed; it is in no list of objects.
    let unfinished = orphan.with_file_name("1-agent-000002.seg#1");
    std::fs::write(&unfinished, [7; 100]).unwrap();
    let first = shop.json(&["vault", "gc"]);
    assert_eq!((first["deleted_orphans"].as_u64(), first["waiting_segments"].as_u64()), (Some(0), Some(1)), "{first}");
    assert!(orphan.exists(), "the grace has not passed");
    let second = shop.json(&["vault", "gc", "--grace", "0s"]);
    assert_eq!(
        (second["deleted_orphans"].as_u64(), second["orphan_bytes"].as_u64()),
        (Some(2), Some(4196)),
        "{second}"
    );
    assert!(!orphan.exists() && !unfinished.exists());
    assert_eq!(shop.json(&["scrub"])["segments"].as_u64().unwrap(), segments(&shop).len() as u64);
    shop.type_in(&["vault", "gc", "--grace", "tomorrow"]).ends(1).says(&["is no length of time"]);
    shop.assert_nothing_lost();
}
