//! What is wrong about sites, places, queries, policies and modules: each said once. And what is right about IPv6.

#![allow(clippy::unwrap_used, clippy::panic)] // tests and their helpers

mod common;

use common::{Texts, inventory, said};
use muster_compiler::CompileOptions;
use muster_runsheet::{Action, ChurnFacts, Direction, Inventory, Kind, Operation, Size, Value};

const SITES: &str = r#"edition 2026
secret azure-dr = keyring("dr/azure")
site hq {
  provider = simulated("127.0.0.1:7301")
  network data = 10.10.20.0/24
  network web  = 10.10.40.0/24
}
site dr {
  provider = simulated("127.0.0.1:7302")
  network data = 10.60.20.0/24
  network web  = 10.60.40.0/24
}
route hq <-> dr {
  vault = "file:///var/lib/vault"
  data <-> data test isolated
  web  <-> web  test isolated
}
window office = mon-fri 08:00-18:00 Europe/Amsterdam
"#;

fn estate() -> Texts {
    let machines = [("db", "data", "10.10.20.11"), ("app", "data", "10.10.20.12"), ("web-01", "web", "10.10.40.11")];
    Texts::default().with("sites.plan", SITES).with("inventory.json", &inventory(&machines))
}

/// What the check says about a file that uses the estate.
fn check(text: &str) -> String {
    let file = format!("edition 2026\nuse ./sites {{ hq, dr, azure-dr, office }}\n{text}");
    let checked = estate().with("case.plan", &file).check(&["case.plan"]);
    let unused = |text: &str| text.starts_with("E0204");
    // Each case uses its part of the estate.
    let mut kept = String::new();
    let mut skip = false;
    for line in said(&checked).lines() {
        if !line.starts_with(' ') {
            skip = unused(line);
        }
        if !skip {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// `db` writes this much in its busy hours.
fn with_churn(text: &str, interval: &str, p95: u64) -> String {
    let mut texts = estate();
    let mut inventory: Inventory = serde_json::from_str(&texts.0["inventory.json"]).unwrap();
    for machine in &mut inventory.sites.get_mut("hq").unwrap().machines {
        if machine.name.as_str() == "db" {
            let churn = ChurnFacts {
                interval: interval.parse().unwrap(),
                p95: Size(p95),
                days: 30,
                until: "2027-03-02".into(),
            };
            machine.churn = Some(churn);
        }
    }
    texts = texts.with("inventory.json", &serde_json::to_string(&inventory).unwrap());
    let rest = "group dbs { policy = p; machines = [db] }\nplan dbs-back { move = hq -> dr; stage all { start db } }";
    let file = format!("edition 2026\nuse ./sites {{ hq, dr }}\n{text}\n{rest}\n");
    said(&texts.with("case.plan", &file).check(&["case.plan"]))
}

#[test]
fn sites_and_routes() {
    insta::assert_snapshot!(check(
        r#"
site a { provider = vshpere("vc.example.com") }
site b { provider = vsphere("https://vc.example.com") }
site c { provider = azure(login = azure-dr) }
site d { provider = azure("westeurope", login = office); agent = "nowhere" }
site e { provider = qemu("127.0.0.1:1"); agent = "127.0.0.1:2" }
site f { provider = cloud("eu-west-1"); network web = 10.70.40.0/24; network web-test = 10.71.40.0/28 }
route hq <-> f {
  vault   = "s3://v/x"
  through = ps-hq
  target  = [mt-hq] when test
  web <-> web test web-test
  resolver 10.10.0.53 <-> 10.70.0.53
  resolver 10.10.0.53 <-> 10.70.0.54
  10.10.40.9 <-> fd00::9
}
"#
    ));
}

#[test]
fn places_and_queries() {
    insta::assert_snapshot!(check(
        r#"
site west { provider = azure("westeurope", login = azure-dr) }
place * at west { size = "Standard_D2s_v5"; public-ip = "yes"; siz = "big" }
place db at west { storage = "premium" when live; zone = "1"; zone = "2" }
place db at west { size = "Standard_E8s_v5" }
place db at hq { size = "small" }
place dbx at west { size = "small" }
policy p { rpo = 5m; replicate = every 30s; retain = 24h }
group g1 { policy = p; machines = select(hq, tag = "shop") }
group g2 { policy = p; machines = select(hq, folder = "/Shop") }
group g3 { policy = p; machines = select(tag = "shop") }
"#
    ));
}

#[test]
fn policies() {
    insta::assert_snapshot!(check(
        r#"
window odd = mon-fri 08:00-18:00 Amsterdam
policy a { rpo = 5m; replicate = every 30s for 1h; retain = every 1h for 7d }
policy b { rpo = 5m; replicate = every 30s; retain = 24h, every 1h for 7d, every 30m for 30d }
policy c { rpo = 5m; replicate = every 30s; retain = 24h, 7d; snapshot = every 1h app-consistnet }
policy d { rpo = 5m; replicate = every 30s; retain = 24h; snapshot = every 1h, every 2h app-consistent }
policy e { rpo = 5m; replicate = every 30s; retain = 24h; encryption = off; resync = weekends; initial-copy = van }
policy f { rpo = 5m; replicate = every 30s; retain = 24h; bandwidth = 0Mbit/s when office; encryption = azure-dr }
policy g { rpo = 5m, 6m; replicate = every 30s; retain = 24h }
group h { policy = f; machines = db, app }
policy i { rpo = 5m; replicate = every 30s; retain = 24h; bandwidth = none }
"#
    ));
}

#[test]
fn a_parameter_is_a_word_of_its_own() {
    let said = check("template t(office: list(machine)) { start office }");
    assert!(said.starts_with("E0202 `office` already means something"), "{said}");
}

#[test]
fn values() {
    insta::assert_snapshot!(check(
        r#"
let a = 120GB / 400Mbit/s
let b = 10m / 3
let c = 10m / 0
let d = 5m / 10GB
let e = [1, "two"]
let f = a + b
"#
    ));
}

#[test]
fn files_under_a_name() {
    let file = r#"edition 2026
use ./sites as s
use ./sites
policy p { rpo = 5m; replicate = every 30s; retain = 24h; bandwidth = 400Mbit/s when s.offce }
group g { policy = p; machines = [db] }
plan g-back { move = s.hq -> t.dr; stage all { start db } }
plan h-back { move = sites.hq -> s.office; stage all { start app } }
"#;
    insta::assert_snapshot!(said(&estate().with("case.plan", file).check(&["case.plan"])));
}

#[test]
fn aliases_of_the_inventory() {
    let mut inventory: Inventory = serde_json::from_str(&estate().0["inventory.json"]).unwrap();
    let aliases = [("sql 1", "db"), ("sql-2", "SQL PROD (02)"), ("app", "web-01")];
    inventory.sites.get_mut("hq").unwrap().aliases =
        aliases.map(|(alias, known)| (alias.into(), known.to_owned())).into();
    let texts = estate().with("inventory.json", &serde_json::to_string(&inventory).unwrap());
    let said = said(&texts.check(&["sites.plan"]));
    let messages: Vec<&str> = said.lines().filter(|line| line.starts_with('E')).collect();
    assert_eq!(
        messages,
        [
            "E0315 the alias `sql 1` is not a name",
            "E0315 the alias `app` is the name of another machine of `hq`",
            "E0315 the alias `sql-2` is of `SQL PROD (02)`, which `hq` does not have",
        ]
    );
}

#[test]
fn a_damaged_or_changed_lock_is_said_at_its_place() {
    let file = "edition 2026\nuse acme/lb@1.4 { drain }\nlet a = drain\n";
    let texts = || {
        let module = "edition 2026\nhook drain() { body = \"1\" }\n";
        Texts::default().with("case.plan", file).with("vendor/acme/lb@1.4.plan", module)
    };
    let first = |texts: Texts| {
        let checked = texts.check(&["case.plan"]);
        assert_eq!(checked.diagnostics.len(), 1, "{}", said(&checked));
        checked.diagnostics[0].message.clone()
    };
    assert_eq!(first(texts()), "`vendor/acme/lb@1.4.plan` is not locked");
    let changed = format!("{}  vendor/acme/lb@1.4.plan\n", "0".repeat(64));
    assert_eq!(first(texts().with("plan.lock", &changed)), "`vendor/acme/lb@1.4.plan` is not the text that was locked");
    assert_eq!(first(texts().with("plan.lock", "sha256 what\n")), "this is not a line of a lock");
    let gone = Texts::default().with("case.plan", file);
    assert_eq!(first(gone), "there is no file `vendor/acme/lb@1.4.plan`");
}

#[test]
fn promises_hold_exactly_to_the_last_bit() {
    let policy = |rpo: &str, rate: &str| {
        format!("policy p {{ rpo = {rpo}; replicate = every 30s; retain = 24h; bandwidth = {rate} }}")
    };
    // 30 MB in a cycle, through 8 Mbit/s in 30 s: a minute, and not a millisecond less.
    assert_eq!(with_churn(&policy("60s", "8Mbit/s"), "30s", 30_000_000), "");
    let refuted = with_churn(&policy("59s", "8Mbit/s"), "30s", 30_000_000);
    assert!(refuted.contains("a cycle and its transfer take 1m\n"), "{refuted}");
    assert!(refuted.contains("help: allow 8300kbit/s or more, or promise 1m\n"), "{refuted}");
    // One byte more than the line carries is never worked off.
    let endless = with_churn(&policy("7d", "8Mbit/s"), "30s", 30_000_001);
    assert!(endless.contains("each week leaves 20.1 kB more than the last"), "{endless}");
    assert!(endless.contains("help: allow 8100kbit/s or more\n"), "{endless}");
    assert_eq!(with_churn("policy p { rpo = 30s; replicate = every 30s; retain = 24h }", "30s", 30_000_000), "");
}

#[test]
fn closed_hours_count_against_the_promise() {
    let policy = |rpo: &str| {
        format!(
            "window closed = sat,sun 22:00-02:00 UTC\n\
             policy p {{ rpo = {rpo}; replicate = every 5m; retain = 24h; bandwidth = none when closed; bandwidth = 100Mbit/s }}"
        )
    };
    assert_eq!(with_churn(&policy("4h10m"), "1m", 60_000_000), "");
    insta::assert_snapshot!(with_churn(&policy("4h"), "1m", 60_000_000));
}

#[test]
fn continuous_replication_has_no_cycle_to_wait_for() {
    let policy =
        |rpo: &str| format!("policy p {{ rpo = {rpo}; replicate = continuous; retain = 24h; bandwidth = 80Mbit/s }}");
    assert_eq!(with_churn(&policy("2s"), "1m", 60_000_000), "", "a promise shorter than any cycle");
    assert!(with_churn(&policy("2s"), "1m", 60_000_000_000).contains("E0402"));
}

#[test]
fn addresses_of_both_families_are_translated() {
    let file = r#"edition 2026
site six { provider = simulated("[::1]:7301"); network lan = fd00:1::/64 }
site far { provider = simulated("[::1]:7302"); network lan = fd00:2::/64 }
route six <-> far {
  vault = "file:///v"
  lan <-> lan test isolated
  fd00:1::50 <-> fd00:2::77
  resolver 2001:db8::53 <-> 2001:db8::54
}
machine one at six { disks = ["os"]; network = lan; ip = fd00:1::11 }
policy p { rpo = 5m; replicate = every 30s; retain = 24h }
group g { policy = p; machines = [one] }
team ops { members = ["a@example.com"] }
hook tell(to: ip, base: text) { body = "log.info(base);" }
plan g-back {
  move = six -> far
  stage all {
    start one
    run tell(to = fd00:1::50, base = "http://{one.ip}:8080/") when live
    notify ops "{one.ip} asks \{nobody\}"
  }
}
"#;
    let checked = Texts::default().with("six.plan", file).check(&["six.plan"]);
    assert_eq!(said(&checked), "");
    let operation = Operation { kind: Kind::Planned, direction: Direction::Out };
    let sheet = checked.compile("g-back", operation, CompileOptions::default()).unwrap();
    let Action::Promote { nics, .. } = &sheet.node(&"land/one".into()).unwrap().action else { panic!() };
    assert_eq!(nics[0].ip, Some("fd00:2::11".parse().unwrap()));
    let Action::Run { arguments, .. } = &sheet.node(&"all.tell".into()).unwrap().action else { panic!() };
    assert_eq!(arguments["to"], Value::Ip("fd00:2::77".parse().unwrap()));
    assert_eq!(arguments["base"], Value::Text("http://[fd00:2::11]:8080/".into()), "brackets in a URL");
    let Action::Notify { text, .. } = &sheet.node(&"all.notify".into()).unwrap().action else { panic!() };
    assert_eq!(text, "fd00:2::11 asks {nobody}");
    assert_eq!(sheet.resolvers, [("2001:db8::53".parse().unwrap(), "2001:db8::54".parse().unwrap())]);
}
