//! A way home that ends at another site than it began at: home is rubble.

use crate::shop::{Running, Shop};
use muster_demo::estate::{Estate, HOME};
use std::net::TcpListener;

const NEW_HOME: &str = "hq2";

/// The shop, whose way home ends at a third site, which has none of its disks.
fn shop() -> (Shop, Running) {
    let shop = Shop::new();
    let home = format!("move = hq -> dr back {NEW_HOME}");
    shop.write_plan("shop.plan", |text| text.replace("move = hq -> dr", &home).replace("{ hq, dr", "{ hq, dr, hq2"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sites = shop.plans().join("sites.plan");
    let text = std::fs::read_to_string(&sites).unwrap();
    let vault = text.lines().find(|line| line.trim_start().starts_with("vault")).unwrap().to_owned();
    let more = format!(
        r#"
site {NEW_HOME} {{
  provider     = simulated("127.0.0.1:{port}")
  network data = 10.61.20.0/24
  network web  = 10.61.40.0/24
}}

route dr <-> {NEW_HOME} {{
{vault}
  data <-> data test isolated
  web  <-> web  test isolated
}}
"#
    );
    std::fs::write(&sites, text + &more).unwrap();
    let folder = shop.folder.path().join(NEW_HOME).display().to_string();
    let listen = format!("127.0.0.1:{port}");
    let key = shop.key().display().to_string();
    let words = [
        "agent",
        "--provider",
        "simulated",
        "--site",
        NEW_HOME,
        "--folder",
        &folder,
        "--listen",
        &listen,
        "--key-file",
        &key,
    ];
    let agent = shop.stays(shop.command(&words));
    shop.wait_until("the third site answers", || {
        shop.json(&["machines"])["silent"].as_array().is_some_and(std::vec::Vec::is_empty)
    });
    shop.type_in(&["inventory", "pull"]).ends(0);
    (shop.protect(), agent)
}

#[test]
fn the_way_home_may_end_at_another_site() {
    let (mut shop, _agent) = shop();
    shop.estate.kill(HOME).unwrap();
    shop.play(&["failover", "shop"]);
    shop.assert_runs_at("dr");
    shop.play(&["commit", "shop"]);
    // The first home is gone for good: a person says so once more, and nothing waits for it.
    shop.play(&["reprotect", "shop"]);
    shop.type_in(&["replicate", "--once"]).ends(0);
    shop.play(&["drill", "shop"]);
    shop.play(&["cleanup", "shop"]);
    shop.play(&["failback", "shop"]);
    shop.assert_runs_at(NEW_HOME);
    shop.play(&["commit", "shop"]);
    // From here on the plan would move machines from where they no longer are.
    let refused = shop.type_in(&["reprotect", "shop"]).ends(3);
    refused.says(&["production is at `hq2` for good", "write `move = hq2 -> dr`"]);
    shop.write_plan("shop.plan", |text| {
        text.replace("move = hq -> dr back hq2", "move = hq2 -> dr").replace("{ hq, dr, hq2", "{ dr, hq2")
    });
    // The dead site still stands in the files, and is the only one that does not answer.
    shop.type_in(&["inventory", "pull"]);
    let stale = shop.type_in(&["check"]).ends(0);
    stale.says(&["warning[E0518]: 10.10.20.11 is an address of `hq`", "write the address at `hq2`"]);
    shop.write_plan("shop.plan", |text| text.replace("10.10.", "10.61."));
    shop.play(&["reprotect", "shop"]);
    shop.type_in(&["replicate", "--once"]).ends(0);
    shop.play(&["failover", "--planned", "shop"]);
    shop.assert_runs_at("dr");
}
