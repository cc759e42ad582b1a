//! What a dry-run says that hooks would touch, and that it says the same every time. No site, no vault, no network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is wrong")]

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A copy of the shop whose last stage calls this hook, with the hook's declaration.
fn shop(contract: &str, call: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let plans = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans/shop");
    for name in ["shop.plan", "sites.plan", "inventory.json"] {
        let text = std::fs::read_to_string(plans.join(name)).unwrap();
        let text = text.replacen("## The web shop: ", &format!("{contract}\n\n## The web shop: "), 1);
        let text = text.replacen("within 15m }", &format!("within 15m }}\n    {call}"), 1);
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn muster(folder: &TempDir, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.current_dir(folder.path()).args(words).env_remove("RUST_LOG").env_remove("MUSTER_PLANS");
    let output = command.env("NO_COLOR", "1").output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

/// The entry of one step in the JSON of a dry-run.
fn effects(folder: &TempDir, operation: &str, step: &str) -> Value {
    let json: Value = serde_json::from_str(&muster(folder, &["dry-run", "shop", operation, "--json"])).unwrap();
    let all = json["forecast"]["effects"].as_array().expect("effects are listed").clone();
    let found = all.iter().find(|one| one["step"] == step);
    found.unwrap_or_else(|| panic!("no `{step}` in {all:#?}")).clone()
}

#[test]
fn commands_in_guests_are_listed_with_the_addresses_of_the_operation() {
    let folder = shop("", "");
    let table = muster(&folder, &["dry-run", "shop", "unplanned"]);
    let shown =
        "what hooks would touch:\n  application.set-db-host  needs guest\n    app: /bin/set-db-host 10.60.20.11\n";
    assert!(table.contains(shown), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    let found = effects(&folder, "unplanned", "application.set-db-host");
    assert_eq!(found["needs"], serde_json::json!(["guest"]));
    assert_eq!(found["touches"], serde_json::json!(["app: /bin/set-db-host 10.60.20.11"]));
    assert_eq!((&found["outside"], &found["unknown"]), (&Value::Bool(false), &Value::Null));
    let back = muster(&folder, &["dry-run", "shop", "unplanned", "--back"]);
    assert!(back.contains("app: /bin/set-db-host 10.10.20.11"), "home again with the addresses of home: {back}");
}

#[test]
fn writes_to_the_world_are_listed_and_not_sent() {
    let contract = r#"secret token = keyring("shop/token")
hook tell() {
  needs = [http("https://status.invalid"), secret(token), guest]
  body  = """
    let said = http.post("/notes", #{ text: "moved" }, #{ bearer: secret("token") });
    if said.status >= 400 { throw fail("no"); }
    for n in 0..3 { http.put(`/pages/${n}`, #{}); }
  """
}"#;
    let folder = shop(contract, "when live { run tell() }");
    let found = effects(&folder, "planned", "doors.tell");
    let posts = ["POST https://status.invalid/notes", "PUT https://status.invalid/pages/0"];
    assert_eq!(found["touches"][0], posts[0]);
    assert_eq!(found["touches"][1], posts[1]);
    assert_eq!(found["touches"].as_array().unwrap().len(), 4);
    assert_eq!(found["needs"], serde_json::json!(["http https://status.invalid", "secret token", "guest"]));
    assert_eq!(found["outside"], true);
    let table = muster(&folder, &["dry-run", "shop", "planned"]);
    assert!(table.contains("⚠ reaches the world"), "{table}");
    let drill = muster(&folder, &["dry-run", "shop", "test"]);
    assert!(!drill.contains("status.invalid/notes"), "a drill does not run it: {drill}");
}

#[test]
fn what_nobody_here_knows_ends_the_hook_and_says_so() {
    let contract = r#"hook swing() {
  needs = [http("https://dns.invalid")]
  body  = """
    let old = http.get("/zones/shop").json();
    http.put("/zones/shop", #{ address: old.address });
  """
}"#;
    let found = effects(&shop(contract, "when live { run swing() }"), "unplanned", "doors.swing");
    assert_eq!(found["unknown"], "unknown from here (reads GET https://dns.invalid/zones/shop)");
    assert_eq!(found["touches"], serde_json::json!([]));

    let contract = r#"hook read(web: machine) {
  needs = [guest]
  body  = """
    web.exec(["systemctl", "reload", "nginx"]);
    let answer = parse_int(web.exec(["cat", "/etc/workers"]).out);
    web.put("/etc/workers", `${answer + 1}`);
  """
}"#;
    let found = effects(&shop(contract, "run read(web = web)"), "unplanned", "doors.read");
    assert_eq!(found["touches"], serde_json::json!(["web: systemctl reload nginx", "web: cat /etc/workers"]));
    let why = found["unknown"].as_str().unwrap();
    assert!(why.starts_with("unknown from here (stops over a pretended answer: "), "{why}");
}

#[test]
fn a_hook_that_never_ends_is_ended_by_its_limit() {
    let contract = r#"hook poll(web: machine) {
  needs = [guest]
  body  = """
    loop {
      if web.exec(["ready"]).out == "yes" { break; }
      sleep(5);
    }
  """
}"#;
    let found = effects(&shop(contract, "run poll(web = web) within 10m"), "unplanned", "doors.poll");
    assert_eq!(found["touches"], serde_json::json!(["web: ready"]), "once, however often it is asked");
    let why = found["unknown"].as_str().unwrap();
    assert!(why.contains("ran out of its time"), "{why}");
}

#[test]
fn the_same_question_gets_the_same_bytes() {
    let folder = shop("", "");
    for operation in ["test", "planned", "unplanned"] {
        let words = ["dry-run", "shop", operation];
        assert_eq!(muster(&folder, &words), muster(&folder, &words));
        // Nobody pulled the inventory of an example, so nothing in it grows old with the clock.
        let json = || muster(&folder, &["dry-run", "shop", operation, "--json"]);
        assert!(!muster(&folder, &words).contains(" old  "), "an age that nothing was pulled at");
        assert_eq!(json(), json());
        let sheets = ["a.runsheet", "b.runsheet"].map(|name| {
            muster(&folder, &["dry-run", "shop", operation, "-o", name]);
            std::fs::read(folder.path().join(name)).unwrap()
        });
        assert_eq!(sheets[0], sheets[1], "the reviewed sheet of `{operation}`");
    }
    let what_if = ["what-if", "shop", "unplanned", "--dead", "hq", "--json"];
    let stable = |text: String| text.lines().filter(|line| !line.contains("inventory_age")).collect::<String>();
    assert_eq!(stable(muster(&folder, &what_if)), stable(muster(&folder, &what_if)));
}
