//! A first copy that travels on a disk: the wire carries what has changed since, and nothing else.

use crate::shop::Shop;
use muster_demo::estate::{Estate, HOME};

#[test]
fn a_first_copy_on_a_disk_is_followed_by_changes_over_the_wire() {
    let shop = Shop::new();
    shop.write_plan("shop.plan", |text| {
        let policy = "policy gold {\n";
        assert!(text.contains(policy));
        text.replace(policy, "policy gold {\n  initial-copy = offline\n")
    });
    shop.type_in(&["vault", "init"]).ends(0);
    shop.type_in(&["protect"]).ends(0);
    shop.type_in(&["replicate", "--once"]).ends(0).says(&["orders: waits for its first copy on a disk"]);
    let status = shop.type_in(&["status"]).ends(0);
    assert!(status.out.contains("waits for `muster seed export`"), "{status:?}");
    let relative = shop.type_in(&["seed", "export", "--to", "usb"]).ends(1);
    relative.says(&["`usb` is no absolute path", "on which the site agent runs"]);
    shop.type_in(&["seed", "import", "--from", "/nowhere"]).ends(1).says(&["`/nowhere` cannot be read"]);

    shop.wait_until("the shop writes", || shop.estate.last_answered(HOME).unwrap() > 10);
    let usb = shop.folder.path().join("usb").display().to_string();
    shop.type_in(&["seed", "export", "--to", &usb]).ends(0).says(&["orders: ", "front: ", "seed import"]);
    let data = shop.vault().join("data");
    assert!(!data.exists(), "nothing of it went to the vault");
    let exported = shop.estate.last_answered(HOME).unwrap();
    shop.wait_until("the shop writes on", || shop.estate.last_answered(HOME).unwrap() > exported + 10);
    let status = shop.type_in(&["status"]).ends(0);
    assert!(status.out.contains("waits for the seed of "), "{status:?}");

    // The disk arrives: what is there now holds what was written before it left.
    let travelled = shop.folder.path().join("travelled");
    std::fs::rename(&usb, &travelled).unwrap();
    let from = travelled.display().to_string();
    shop.type_in(&["seed", "import", "--from", &from]).ends(0).says(&["orders: point ", "front: point "]);
    let had = shop.estate.last_answered(HOME).unwrap();
    let copied = shop.recovered();
    assert!(copied + 1 >= 10 && copied < had, "the seed holds record {copied}, {had} are written");
    shop.type_in(&["replicate", "--once"]).ends(0);
    assert!(shop.recovered() >= had);
    let cycle = |group: &str| {
        let status = shop.json(&["status"]);
        let found = status["groups"].as_array().unwrap().iter().find(|found| found["group"] == group).cloned();
        found.unwrap()["last_cycle"]["read_bytes"].as_u64().unwrap()
    };
    assert!(cycle("orders") < 4 << 20, "{} bytes were read for what has changed", cycle("orders"));
    shop.type_in(&["seed", "export", "--to", &usb]).ends(5).says(&["no group waits for its first copy"]);
    shop.play(&["failover", "--planned", "shop"]);
    shop.assert_runs_at("dr");
}
