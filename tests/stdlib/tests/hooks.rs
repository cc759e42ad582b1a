//! The four automatic tests over every hook of the standard library and of the plans of this repository.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests and their helpers

use muster_library::{Folder, repository};
use muster_rehearsal::hooks::{Fakes, HookCase, HookTrial, HookVerdict, hook_cases, test_hook};
use std::collections::BTreeSet;
use std::path::Path;

/// All `.plan` files of one folder.
fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = names.filter(|name| name.ends_with(".plan")).collect();
    files.sort();
    files
}

/// The library's fakes, behind those of the folder.
fn fakes(folder: &Path) -> Fakes {
    let mut all = Fakes::default();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".fakes.json") {
            all.extend(Fakes::parse(&name, &std::fs::read_to_string(&path).unwrap()).unwrap());
        }
    }
    all.extend(Fakes::of_library().unwrap());
    all
}

/// Every hook that the plans of a folder run, tested; on as many threads as there are cores.
fn tested(folder: &Path, files: &[String]) -> Vec<(HookCase, HookTrial)> {
    let checked = muster_compiler::check(&Folder(folder.to_owned()), files);
    let cases: Vec<HookCase> = hook_cases(&checked).unwrap().into_values().collect();
    let fakes = fakes(folder);
    let half = cases.len().div_ceil(2).max(1);
    let trials: Vec<HookTrial> = std::thread::scope(|scope| {
        let work = |part: &[HookCase]| part.iter().map(|case| test_hook(case, &fakes).unwrap()).collect::<Vec<_>>();
        let parts: Vec<_> = cases.chunks(half).map(|part| scope.spawn(move || work(part))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    cases.into_iter().zip(trials).collect()
}

/// What does not pass, one line each.
fn failed(trials: &[(HookCase, HookTrial)]) -> Vec<String> {
    let all = trials.iter().flat_map(|(_, trial)| trial.all().map(|(test, verdict)| (&trial.hook, test, verdict)));
    let bad = all.filter_map(|(hook, test, verdict)| match verdict {
        HookVerdict::Failed(why) => Some(format!("{hook} {test}: {why}")),
        HookVerdict::Passed | HookVerdict::Nothing(_) => None,
    });
    bad.collect()
}

#[test]
fn every_hook_of_the_library_stands_its_four_tests() {
    let folder = repository().join("tests/stdlib/plans");
    let mut seen = BTreeSet::new();
    let mut said = Vec::new();
    for file in files(&folder).iter().filter(|file| *file != "sites.plan") {
        let trials = tested(&folder, std::slice::from_ref(file));
        said.extend(failed(&trials));
        seen.extend(trials.iter().map(|(case, _)| case.sheet.name.to_string()));
    }
    assert!(said.is_empty(), "{}", said.join("\n"));
    for module in muster_library::modules() {
        for entry in module.entries.iter().filter(|entry| entry.what != "template") {
            // Four probes are words of the engine and have no text.
            let builtin = ["tcp", "http", "guest", "command"].contains(&entry.name.as_str());
            assert!(builtin || seen.contains(&entry.name), "{} `{}` was not tested", entry.what, entry.name);
        }
    }
}

#[test]
fn every_hook_of_the_plans_stands_its_four_tests() {
    let mut count = 0;
    for entry in std::fs::read_dir(repository().join("plans")).unwrap() {
        let folder = entry.unwrap().path();
        let trials = tested(&folder, &files(&folder));
        let said = failed(&trials);
        let name = folder.file_name().unwrap().display();
        assert!(said.is_empty(), "{name}: {}", said.join("\n"));
        count += trials.len();
    }
    assert!(count >= 20, "{count} hooks");
}

/// A hook in a plan of its own, tested.
fn trial_of(hook: &str, call: &str, fakes: &str) -> HookTrial {
    let text = format!(
        "edition 2026\nuse ./sites {{ hq, dr, steady }}\n\n{hook}\n\ngroup all {{\n  policy = steady\n  machines = [one]\n}}\n\n\
         plan trial {{\n  move = hq -> dr\n\n  stage all {{\n    start one\n    when live {{ {call} within 2m }}\n  }}\n}}\n"
    );
    let checked = muster_compiler::check(&muster_library::Text(text), &["bench.plan".to_owned()]);
    let errors: Vec<&str> =
        checked.diagnostics.iter().filter(|found| found.is_error()).map(|found| found.message.as_str()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let (name, case) = hook_cases(&checked).unwrap().into_iter().find(|(_, case)| case.takes_back.is_none()).unwrap();
    let mut all = Fakes::default();
    if !fakes.is_empty() {
        all.extend(Fakes::parse("trial.fakes.json", &fakes.replace("NAME", name.as_str())).unwrap());
    }
    test_hook(&case, &all).unwrap()
}

fn why(verdict: &HookVerdict) -> &str {
    match verdict {
        HookVerdict::Failed(why) => why,
        other => panic!("it passes: {other:?}"),
    }
}

const NEEDS: &str = "needs = [http(\"https://a.example.com\")]";

#[test]
fn a_second_effect_is_found() {
    let hook = format!("hook note() {{\n  {NEEDS}\n  body = \"http.post(`/notes`, `at ${{now()}}`);\"\n}}");
    let trial = trial_of(&hook, "run note()", "");
    assert!(why(&trial.twice).starts_with("E0708: its second run adds `http.post"), "{trial:?}");
    assert_eq!(trial.crash, HookVerdict::Passed, "the record keeps the time of the first attempt: {trial:?}");
    // The post moves to another place of the record once the put is not needed any more, and with it its key.
    let moving = format!(
        "hook swing() {{\n  {NEEDS}\n  body = \"\"\"\n    let old = http.get(\"/a\").json();\n    \
         if old.to != 1 {{ http.put(\"/a\", #{{ to: 1 }}); }}\n    http.post(\"/told\", \"moved\");\n  \"\"\"\n}}"
    );
    let fakes = r#"{ "format": "muster.fakes/1", "hooks": { "NAME": { "answers": [
        { "call": "http.get", "answer": { "body": { "to": 0 } } } ] } } }"#;
    let trial = trial_of(&moving, "run swing()", fakes);
    assert!(why(&trial.twice).contains("under another key"), "{trial:?}");
}

#[test]
fn a_hook_that_looks_at_its_attempt_is_found_by_a_crash() {
    let hook = format!(
        "hook odd() {{\n  {NEEDS}\n  body = \"\"\"\n    if run.attempt == 1 {{ http.put(\"/a\", \"1\"); }} else {{ http.put(\"/b\", \"1\"); }}\n  \"\"\"\n}}"
    );
    let trial = trial_of(&hook, "run odd()", "");
    assert!(why(&trial.crash).contains("E0712"), "{trial:?}");
}

#[test]
fn an_undo_that_leaves_something_is_found() {
    let hooks = |undo: &str| {
        format!(
            "hook swing() {{\n  {NEEDS}\n  undo = restore\n  body = \"\"\"\n    checkpoint(\"old\", http.get(\"/a\").json().to);\n    \
             http.put(\"/a\", #{{ to: 1 }});\n  \"\"\"\n}}\n\nhook restore() {{\n  {NEEDS}\n  body = \"\"\"\n    {undo}\n  \"\"\"\n}}"
        )
    };
    let fakes = r#"{ "format": "muster.fakes/1", "answers": [
        { "call": "http.get", "answer": { "body": { "to": 7, "ttl": 60 } } } ] }"#;
    let trial = |undo: &str| trial_of(&hooks(undo), "run swing()", fakes);
    assert_eq!(trial(r#"http.put("/a", #{ to: saved("old") });"#).undo, HookVerdict::Passed);
    let wrong = trial(r#"http.put("/a", #{ to: 8 });"#);
    assert!(why(&wrong.undo).contains("leaves https://a.example.com/a with `to` 8"), "{wrong:?}");
    let elsewhere = trial(r#"http.put("/b", #{ to: saved("old") });"#);
    assert!(why(&elsewhere.undo).contains("does not touch https://a.example.com/a"), "{elsewhere:?}");
    let broken = trial(r#"http.put("/a", #{ to: saved("odl") });"#);
    assert!(why(&broken.undo).contains("`odl`, which was never set"), "{broken:?}");
}

#[test]
fn what_nobody_can_answer_is_named() {
    let hook = format!("hook read() {{\n  {NEEDS}\n  body = \"http.get(`/a`).json().x\"\n}}");
    let trial = trial_of(&hook, "run read()", "");
    for (_, verdict) in trial.all() {
        assert!(why(verdict).contains("reads GET https://a.example.com/a"), "{trial:?}");
    }
}

#[test]
fn the_same_hook_gets_the_same_verdict() {
    let folder = repository().join("tests/stdlib/plans");
    let trials = || tested(&folder, &["dns.plan".to_owned()]).into_iter().map(|(_, trial)| trial).collect::<Vec<_>>();
    assert_eq!(trials(), trials());
}
