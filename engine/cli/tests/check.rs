//! `muster check` as people and programs call it: reports, fixes, and texts that are no plans. No site, no vault.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is wrong")]
#![allow(clippy::disallowed_methods, reason = "a hanging process is found by the real clock")]

use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Any text is checked within this on a busy machine; a text that makes the checker hang is found by it.
const CHECK_TIME_MAX: Duration = Duration::from_secs(60);

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn muster(folder: &Path, words: &[&str]) -> Said {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_muster"))
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env_remove("MUSTER_PLANS")
        .args(words)
        .output()
        .unwrap();
    let took = started.elapsed();
    let said = Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("data is UTF-8"),
        err: String::from_utf8(output.stderr).expect("messages are UTF-8"),
    };
    assert!(took < CHECK_TIME_MAX, "{words:?} took {took:?}");
    assert!(!said.err.contains("panicked"), "{}", said.err);
    said
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}{}", said.out, said.err))
}

const WRONG: &str = "edition 2026\n\nteam night {\n  membres = [\"c@example.com\"]\n  quorum  = 5\n}\n";

#[test]
fn exit_codes_and_streams_are_as_documented() {
    let right = folder(&[("a.plan", b"edition 2026\nteam night { members = [\"c@example.com\"] }\n")]);
    let said = muster(right.path(), &["check"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{}", said.err);
    assert!(said.err.contains("0 plans, 1 file: 0 errors, 0 warnings"), "{}", said.err);
    let wrong = folder(&[("a.plan", WRONG.as_bytes())]);
    let said = muster(wrong.path(), &["check"]);
    assert_eq!((said.code, said.out.as_str()), (Some(3), ""));
    assert!(said.err.contains("error[E0105]") && said.err.contains("members"), "{}", said.err);
    let empty = folder(&[]);
    assert_eq!(muster(empty.path(), &["check"]).code, Some(1));
    assert_eq!(muster(wrong.path(), &["check", "--json", "--sarif"]).code, Some(2), "one form at a time");
}

#[test]
fn json_is_one_versioned_object() {
    let wrong = folder(&[("a.plan", WRONG.as_bytes())]);
    let said = muster(wrong.path(), &["check", "--json"]);
    assert_eq!(said.code, Some(3));
    let report = json(&said);
    assert_eq!(report["format"], "muster.check/1");
    assert_eq!((&report["files"], &report["errors"], &report["warnings"]), (&1.into(), &1.into(), &0.into()));
    let found = &report["diagnostics"][0];
    assert_eq!((&found["code"], &found["severity"]), (&"E0105".into(), &"error".into()));
    assert_eq!(found["primary"]["file"], "a.plan");
    let place = ["line", "column", "end_line", "end_column"].map(|word| found["primary"][word].as_u64());
    assert_eq!(place, [Some(4), Some(3), Some(4), Some(10)]);
    assert_eq!((&found["fix"]["replacement"], &found["fix"]["applicability"]), (&"members".into(), &"certain".into()));
    assert_eq!(report["fixed"], serde_json::json!([]));
}

/// A folder is checked as one, whatever file of it is named.
#[test]
fn only_what_is_wrong_in_the_files_that_are_named_is_said() {
    let above = tempfile::tempdir().unwrap();
    let plans = above.path().join("plans");
    std::fs::create_dir(&plans).unwrap();
    std::fs::write(plans.join("right.plan"), "edition 2026\nuse ./wrong { night }\n").unwrap();
    std::fs::write(plans.join("wrong.plan"), WRONG).unwrap();
    std::fs::write(plans.join("notes.txt"), "").unwrap();
    // From above, from inside, and by the name of the folder: the same files are meant.
    for (from, words) in [
        (above.path(), ["check", "plans/wrong.plan"].as_slice()),
        (plans.as_path(), &["check", "wrong.plan"]),
        (plans.as_path(), &["check", "./wrong.plan", "--fix"]),
    ] {
        let said = muster(from, words);
        assert_eq!(said.code, Some(3), "{words:?}: {}", said.err);
        assert!(said.err.contains("wrong.plan") && !said.err.contains("right.plan"), "{}", said.err);
    }
    let said = muster(above.path(), &["check", "plans/right.plan", "--json"]);
    let report = json(&said);
    assert_eq!((said.code, &report["files"], &report["warnings"]), (Some(0), &1.into(), &1.into()), "{report}");
    for (file, part) in [("plans/notes.txt", "no `.plan` file below `plans`"), ("plans/gone.plan", "plans/gone.plan")] {
        let said = muster(above.path(), &["check", file]);
        assert!(said.code == Some(1) && said.err.contains(part), "{:?} {}", said.code, said.err);
    }
}

#[test]
fn sarif_names_files_from_where_it_runs() {
    let above = tempfile::tempdir().unwrap();
    std::fs::create_dir(above.path().join("plans")).unwrap();
    std::fs::write(above.path().join("plans/a b.plan"), WRONG).unwrap();
    let said = muster(above.path(), &["-C", "plans", "check", "--sarif"]);
    assert_eq!(said.code, Some(3));
    let run = &json(&said)["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"][0]["id"], "E0105");
    let result = &run["results"][0];
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "plans/a%20b.plan");
    assert_eq!((&place["region"]["startLine"], &place["region"]["startColumn"]), (&4.into(), &3.into()));
    let change = &result["fixes"][0]["artifactChanges"][0];
    assert_eq!(change["replacements"][0]["insertedContent"]["text"], "members");
}

#[test]
fn fixes_are_applied_to_a_fixed_point_and_named() {
    let plan = "team night {\n  membres = [\"c@example.com\"]\n}\nteam day {\n  members = [\"d@example.com\"]\n  qorum = 1\n}\n";
    let wrong = folder(&[("a.plan", plan.as_bytes()), ("b.plan", b"edition 2026\nuse ./a { night, day }\n")]);
    let said = muster(wrong.path(), &["check", "--fix"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for line in ["fixed a.plan:1: added `edition 2026`", "`membres` -> `members`", "fixed b.plan:2: removed `use ./a"] {
        assert!(said.err.contains(line), "{line}: {}", said.err);
    }
    let text = std::fs::read_to_string(wrong.path().join("a.plan")).unwrap();
    assert_eq!(text, format!("edition 2026\n{}", plan.replace("membres", "members").replace("qorum", "quorum")));
    assert_eq!(std::fs::read_to_string(wrong.path().join("b.plan")).unwrap(), "edition 2026\n");
    let again = muster(wrong.path(), &["check", "--fix", "--json"]);
    assert_eq!(json(&again)["fixed"], serde_json::json!([]), "a second time there is nothing to do");
}

#[test]
fn names_are_never_guessed_and_spoilt_files_never_written() {
    let guess = "edition 2026\nlet hold = 5m\nlet wait = hodl\n";
    let mut spoilt = b"edition 2026\nteam night { membres = [\"Ren".to_vec();
    spoilt.extend([0xe9, b'"', b']', b' ', b'}', b'\n']);
    let wrong = folder(&[("a.plan", guess.as_bytes()), ("b.plan", &spoilt)]);
    let said = muster(wrong.path(), &["check", "--fix"]);
    assert_eq!(said.code, Some(3));
    assert!(said.err.contains("did you mean `hold`?"), "{}", said.err);
    assert_eq!(std::fs::read(wrong.path().join("a.plan")).unwrap(), guess.as_bytes());
    assert_eq!(std::fs::read(wrong.path().join("b.plan")).unwrap(), spoilt, "its bytes are not ours to change");
}

/// What is no plan at all, or one that no hand wrote: one good message, soon.
#[test]
fn bad_texts_are_refused_by_name() {
    let head = "edition 2026\n";
    let deep = format!("{head}let a = {}1m{}\n", "(".repeat(5_000), ")".repeat(5_000));
    let braces = format!("{head}plan p {}", "{ ".repeat(100_000));
    let closing = format!("{head}{}", "}".repeat(100_000));
    let long = format!("{head}let a = {}1m\n", "1m + ".repeat(2 << 20));
    let long_line = format!("{head}strat {}\n", "a, ".repeat(100_000));
    let quotes = format!("{head}{}", "let a = \"\n".repeat(10_000));
    let mut latin = format!("{head}# Ren").into_bytes();
    latin.extend([0xe9, b'\n']);
    let cases: [(&str, &[u8], &str); 9] = [
        ("deep nesting", deep.as_bytes(), "E0110"),
        ("unclosed braces", braces.as_bytes(), "E0110"),
        ("closing braces", closing.as_bytes(), "E0103"),
        ("a line of ten megabytes", long.as_bytes(), "E0110"),
        ("a long unreadable line", long_line.as_bytes(), "E0101"),
        ("unfinished texts", quotes.as_bytes(), "E0108"),
        ("another encoding", &latin, "E0111"),
        ("no text", &[0, 159, 146, 150, 0, 1, 2, 3], "E0111"),
        ("an emoji in a name", "edition 2026\nteam night-🌙 { members = [\"a\"] }\n".as_bytes(), "E0109"),
    ];
    for (what, bytes, code) in cases {
        let wrong = folder(&[("a.plan", bytes)]);
        let said = muster(wrong.path(), &["check"]);
        assert_eq!(said.code, Some(3), "{what}: {}", said.err.get(..2_000).unwrap_or(&said.err));
        assert!(said.err.contains(&format!("error[{code}]")), "{what}: {}", said.err.get(..2_000).unwrap_or(&said.err));
        assert!(said.err.len() < 200_000, "{what}: {} bytes of messages", said.err.len());
        let report = json(&muster(wrong.path(), &["check", "--json"]));
        assert!(report["errors"].as_u64() > Some(0), "{what}");
    }
}

#[test]
fn other_systems_texts_are_plans_too() {
    let plan = "edition 2026\nteam night {\n\tmembers\t= [\"🌙@example.com\"]   # 🌙\n}\n";
    let windows = format!("\u{feff}{}", plan.replace('\n', "\r\n"));
    for text in [plan.to_owned(), windows, plan.replace('\n', "\r")] {
        let right = folder(&[("a.plan", text.as_bytes())]);
        let said = muster(right.path(), &["check"]);
        assert_eq!(said.code, Some(0), "{text:?}: {}", said.err);
    }
    let wrong = plan.replace("members", "membres").replace('\n', "\r\n");
    let wrong = folder(&[("a.plan", format!("\u{feff}{wrong}").as_bytes())]);
    let report = json(&muster(wrong.path(), &["check", "--json"]));
    let place = &report["diagnostics"][0]["primary"];
    assert_eq!((&place["line"], &place["column"]), (&3.into(), &2.into()), "a tab is one column");
    assert_eq!(muster(wrong.path(), &["check", "--fix"]).code, Some(0));
    let text = std::fs::read_to_string(wrong.path().join("a.plan")).unwrap();
    assert_eq!(text, format!("\u{feff}{}", plan.replace('\n', "\r\n")), "line ends and mark stay");
}

/// `check --watch`, and the lines of one of its streams as they come.
struct Watched {
    child: Child,
    lines: Receiver<String>,
}

impl Watched {
    fn new(folder: &Path, words: &[&str]) -> Self {
        let json = words.contains(&"--json");
        let mut child = Command::new(env!("CARGO_BIN_EXE_muster"))
            .current_dir(folder)
            .env("NO_COLOR", "1")
            .env_remove("MUSTER_PLANS")
            .args(["check", "--watch"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(if json { Stdio::inherit() } else { Stdio::piped() })
            .spawn()
            .unwrap();
        let stream: Box<dyn Read + Send> =
            if json { Box::new(child.stdout.take().unwrap()) } else { Box::new(child.stderr.take().unwrap()) };
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                // Where nobody listens any more the stream is closed.
                if line.is_err() || send.send(line.unwrap_or_default()).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }
    fn line(&self) -> String {
        self.lines.recv_timeout(CHECK_TIME_MAX).expect("a line of output")
    }
    fn report(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
    fn end(mut self) -> Option<i32> {
        let started = Instant::now();
        while started.elapsed() < CHECK_TIME_MAX {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().unwrap();
        panic!("`check --watch` did not end");
    }
}

const RIGHT: &str = "edition 2026\nteam night { members = [\"c@example.com\"] }\n";

#[test]
fn a_watch_checks_again_whenever_a_file_changes() {
    let folder = folder(&[("a.plan", RIGHT.as_bytes())]);
    let watched = Watched::new(folder.path(), &["--json"]);
    let report = watched.report();
    assert_eq!((&report["format"], &report["errors"]), (&"muster.check/1".into(), &0.into()));
    assert!(report["took_milliseconds"].is_u64(), "{report}");
    std::fs::write(folder.path().join("a.plan"), WRONG).unwrap();
    // A look may fall between the emptying and the writing of the file.
    let mut report = watched.report();
    while report["errors"] == 0 {
        report = watched.report();
    }
    assert_eq!(report["diagnostics"][0]["code"], "E0105");
    std::fs::write(folder.path().join("b.plan"), RIGHT.replace("night", "day")).unwrap();
    while report["files"] != 2 {
        report = watched.report();
    }
    std::fs::write(folder.path().join("a.plan"), RIGHT).unwrap();
    while report["errors"] != 0 {
        report = watched.report();
    }
    watched.signal(Signal::TERM);
    assert_eq!(watched.end(), Some(0));
}

#[test]
fn a_watch_speaks_to_people_on_stderr_and_ends_by_interrupt() {
    let folder = folder(&[("a.plan", RIGHT.as_bytes())]);
    let watched = Watched::new(folder.path(), &[]);
    let line = watched.line();
    assert!(line.starts_with("0 plans, 1 file: 0 errors, 0 warnings; took ") && line.ends_with(" ms"), "{line}");
    std::fs::write(folder.path().join("a.plan"), WRONG).unwrap();
    while !watched.line().contains("error[E0105]") {}
    while !watched.line().contains("1 error,") {}
    watched.signal(Signal::INT);
    assert_eq!(watched.end(), Some(0));
}

#[test]
fn a_watch_ends_when_nobody_reads_it() {
    let folder = folder(&[("a.plan", RIGHT.as_bytes())]);
    let Watched { child, lines } = Watched::new(folder.path(), &["--json"]);
    lines.recv_timeout(CHECK_TIME_MAX).expect("a first report");
    drop(lines);
    // The reader closes its end with the line that it can hand to nobody; the watch meets that with the one behind.
    let (_, lines) = channel();
    let watched = Watched { child, lines };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..600 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                std::fs::write(folder.path().join("b.plan"), format!("# {number}\n{RIGHT}")).unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let code = watched.end();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(code, Some(0));
    });
}
