//! `muster hook run` and `muster hook test` as users type them. No site, no vault; one server on this machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is wrong")]

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const SWING: &str = r#"secret token = keyring("shop/token")

hook swing(zone: text, to: ip) {
  needs = [http("https://dns.invalid"), secret(token)]
  undo  = restore
  body  = """
    let login = #{ bearer: secret("token") };
    let old = http.get(`/zones/${zone}`, login).json();
    checkpoint("old", old.address);
    if old.address == to.to_string() { return; }
    let said = http.put(`/zones/${zone}`, #{ address: to.to_string() }, login);
    if said.status >= 400 { fail(`dns said ${said.status}`); }
    log.info(`${zone} -> ${to}`);
    said.status
  """
}

hook restore(zone: text, to: ip) {
  needs = [http("https://dns.invalid")]
  body  = """
    http.put(`/zones/${zone}`, #{ address: saved("old") });
  """
}"#;

const FAKES: &str = r#"{
  "format": "muster.fakes/1",
  "secrets": { "shop/token": "s3cret-of-the-shop" },
  "hooks": { "swing": { "answers": [
    { "call": "http.get", "to": "*/zones/shop", "answer": { "body": { "address": "10.0.0.1", "echo": "s3cret-of-the-shop" } } }
  ] } }
}"#;

const CALL: &str = "when live { run swing(zone = \"shop\", to = 10.10.20.11) within 3m }";

/// A copy of the shop whose last stage calls this hook, with the hook's declaration and its fakes.
fn shop(contract: &str, call: &str, fakes: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let plans = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans/shop");
    for name in ["shop.plan", "sites.plan", "inventory.json"] {
        let text = std::fs::read_to_string(plans.join(name)).unwrap();
        let text = text.replacen("## The web shop: ", &format!("{contract}\n\n## The web shop: "), 1);
        let text = text.replacen("within 15m }", &format!("within 15m }}\n    {call}"), 1);
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    if !fakes.is_empty() {
        std::fs::write(folder.path().join("shop.fakes.json"), fakes).unwrap();
    }
    folder
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

fn muster(folder: &TempDir, words: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.current_dir(folder.path()).args(words).env_remove("RUST_LOG").env_remove("MUSTER_PLANS");
    let output =
        command.env("NO_COLOR", "1").env("MUSTER_SECRET_SHOP_TOKEN", "s3cret-of-the-keyring").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let said = Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!said.err.contains("panicked"), "{words:?}: {}", said.err);
    said
}

fn json(folder: &TempDir, words: &[&str], code: i32) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    let said = muster(folder, &words);
    assert_eq!(said.code, code, "{words:?}: {}{}", said.out, said.err);
    serde_json::from_str(&said.out).unwrap()
}

#[test]
fn a_hook_runs_against_its_fakes_and_shows_what_it_did() {
    let folder = shop(SWING, CALL, FAKES);
    let found = json(&folder, &["hook", "run", "swing"], 0);
    assert_eq!((&found["format"], &found["step"]), (&"muster.hook-run/1".into(), &"doors.swing".into()));
    let run = &found["runs"][0];
    let calls = run["calls"].as_array().unwrap();
    let operations: Vec<&str> = calls.iter().map(|call| call["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["http.get", "checkpoint", "http.put", "log.info"]);
    assert_eq!((&calls[0]["by"], &calls[2]["by"]), (&"fake".into(), &"assumed".into()));
    assert_eq!(calls[2]["to"], "https://dns.invalid/zones/shop");
    assert!(calls[2]["key"].is_string() && calls[2]["changes"] == true, "{run}");
    assert_eq!((&run["returned"], &run["host_calls"]), (&200.into(), &4.into()));
    assert!(run["operations"].as_u64().unwrap() > 0 && run["journal_bytes"].as_u64().unwrap() > 0, "{run}");
    assert!(!found.to_string().contains("s3cret"), "secrets are names: {found}");

    // Done already; then other arguments than those of the step.
    let done = json(&folder, &["hook", "run", "swing", "to=10.0.0.1"], 0);
    assert_eq!(done["runs"][0]["host_calls"], 2, "{done}");
    let back = json(&folder, &["hook", "run", "swing", "--undo"], 0);
    assert_eq!(back["runs"][1]["calls"][0]["arguments"][2]["address"], "10.0.0.1", "{back}");
    let table = muster(&folder, &["hook", "run", "swing"]);
    assert!(table.out.contains("returned 200") && table.out.contains("used 4 of 500 host calls"), "{}", table.out);
    for (words, said) in [
        (&["hook", "run", "swign"][..], "no hook `swign`"),
        (&["hook", "run", "swing", "too=1"], "no parameter `too`"),
        (&["hook", "run", "swing", "to=here"], "`here` is no ip"),
        (&["hook", "run", "swing", "--step", "doors.swign"], "no step `doors.swign` runs hook `swing`"),
        (&["hook", "run", "swing", "--drill"], "leaves the bubble"),
    ] {
        let refused = muster(&folder, words);
        assert!(matches!(refused.code, 1 | 5) && refused.err.contains(said), "{words:?}: {}", refused.err);
    }
}

#[test]
fn a_recording_is_replayed_and_a_call_that_differs_is_shown_from_both_sides() {
    let folder = shop(SWING, CALL, FAKES);
    let said = muster(&folder, &["hook", "run", "swing", "--record", "swing.cassette"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let recorded = std::fs::read_to_string(folder.path().join("swing.cassette")).unwrap();
    assert!(recorded.contains("muster.cassette/1") && recorded.contains("***"), "{recorded}");
    assert!(!recorded.contains("s3cret"), "{recorded}");
    std::fs::remove_file(folder.path().join("shop.fakes.json")).unwrap();
    let played = json(&folder, &["hook", "run", "swing", "--cassette", "swing.cassette"], 0);
    assert_eq!(played["runs"][0]["calls"][0]["by"], "cassette", "{played}");
    assert_eq!(played["runs"][0]["returned"], 200);

    let other = muster(&folder, &["hook", "run", "swing", "to=10.9.9.9", "--cassette", "swing.cassette"]);
    assert_eq!(other.code, 1);
    for part in
        ["call 2 is not what is on the cassette", "cassette: http.put", "10.60.20.11", "hook:     http.put", "10.9.9.9"]
    {
        assert!(other.err.contains(part), "`{part}` is missing: {}", other.err);
    }
    let shorter = muster(&folder, &["hook", "run", "swing", "to=10.0.0.1", "--cassette", "swing.cassette"]);
    assert!(shorter.code == 1 && shorter.err.contains("hook:     ends"), "{}", shorter.err);
    let wrong = muster(&folder, &["hook", "run", "restore", "--cassette", "swing.cassette"]);
    assert!(wrong.err.contains("a recording of hook `swing`"), "{}", wrong.err);
}

/// Answers two requests, and says what they were.
fn server() -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = r#"{"address":"10.0.0.7","echo":"s3cret-of-the-keyring"}"#;
            let reply =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}", answer.len());
            stream.write_all(reply.as_bytes()).unwrap();
            seen.push(head + &String::from_utf8(body).unwrap());
        }
        seen
    };
    (port, std::thread::spawn(serve))
}

#[test]
fn only_what_is_named_is_really_called() {
    let (port, served) = server();
    let origin = format!("http://127.0.0.1:{port}");
    let contract = SWING.replace("https://dns.invalid", &origin);
    let folder = shop(&contract, CALL, "");
    // Not named, nothing is sent: nobody here knows the answer.
    let quiet = muster(&folder, &["hook", "run", "swing"]);
    assert!(quiet.code == 1 && quiet.err.contains("unknown from here (reads GET"), "{}", quiet.err);
    for (words, said) in [
        (["hook", "run", "swing", "--live", "http:"], "does not name `http:`"),
        (["hook", "run", "restore", "--live", &origin], "takes back what `swing` did"),
    ] {
        let refused = muster(&folder, &words);
        assert!(refused.code == 5 && refused.err.contains(said), "{words:?}: {}", refused.err);
    }
    let found = json(&folder, &["hook", "run", "swing", "--live", &origin, "--record", "live.cassette"], 0);
    let calls = found["runs"][0]["calls"].as_array().unwrap();
    assert_eq!((&calls[0]["by"], &calls[2]["by"]), (&"live".into(), &"live".into()), "{found}");
    let seen = served.join().unwrap();
    assert!(seen[0].starts_with("GET /zones/shop") && seen[1].starts_with("PUT /zones/shop"), "{seen:?}");
    assert!(seen[1].to_lowercase().contains("idempotency-key:") && seen[1].contains("10.60.20.11"), "{seen:?}");
    assert!(seen[0].contains("s3cret-of-the-keyring"), "the secret of the keyring is sent: {seen:?}");
    let recorded = std::fs::read_to_string(folder.path().join("live.cassette")).unwrap();
    assert!(!found.to_string().contains("s3cret") && !recorded.contains("s3cret"), "and kept nowhere: {recorded}");
    let played = json(&folder, &["hook", "run", "swing", "--cassette", "live.cassette"], 0);
    assert_eq!(played["runs"][0]["returned"], 200, "{played}");
}

#[test]
fn hooks_are_tested_without_being_asked_how() {
    let folder = shop(SWING, CALL, FAKES);
    let found = json(&folder, &["hook", "test"], 0);
    assert_eq!((&found["format"], &found["failed"]), (&"muster.hook-test/1".into(), &0.into()), "{found}");
    let hooks = found["hooks"].as_array().unwrap();
    let names: Vec<&str> = hooks.iter().map(|hook| hook["hook"].as_str().unwrap()).collect();
    assert_eq!(names, ["restore", "set-app-host", "set-db-host", "swing"]);
    let swing = hooks.last().unwrap();
    for test in ["twice", "crash", "undo", "budget"] {
        assert_eq!(swing[test]["verdict"], "passed", "{swing}");
    }
    assert_eq!(hooks[0]["undo"]["verdict"], "nothing", "{found}");

    // The same hook that forgets what was before.
    let careless = SWING.replace("saved(\"old\")", "\"10.0.0.2\"");
    let folder = shop(&careless, CALL, FAKES);
    let said = muster(&folder, &["hook", "test", "swing", "--junit", "hooks.xml"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("swing undo: its undo `restore` leaves https://dns.invalid/zones/shop"), "{}", said.out);
    assert!(said.err.contains("1 hook: 0 passed, 1 failed"), "{}", said.err);
    let junit = std::fs::read_to_string(folder.path().join("hooks.xml")).unwrap();
    assert!(junit.contains("<testsuite name=\"swing\" tests=\"4\" failures=\"1\""), "{junit}");
    assert!(junit.contains("name=\"undo\"><failure message=\"its undo `restore` leaves"), "{junit}");
    let broken = shop(SWING, CALL, &FAKES.replace("\"to\":", "\"two\":"));
    assert!(muster(&broken, &["hook", "test"]).err.contains("unknown field `two`"));
}
