//! What a run leaves, read back: its report in three forms, checked offline and against the vault; the bundle that lets a
//! run go on where nothing else is left.

use crate::shop::{Said, Shop, said};
use muster_demo::estate::{AWAY, Estate, HOME};
use std::path::{Path, PathBuf};

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A drill whose reason would be markup, in HTML and in Markdown.
const WHY: &str = "<script>alert(1)</script> | **bold** --> & `tick`";

/// A command far from the shop: no plans, no vault to be found.
fn elsewhere(shop: &Shop, words: &[&str], vault: bool) -> Said {
    let empty = shop.folder.path().join("empty");
    std::fs::create_dir_all(&empty).unwrap();
    let mut command = shop.elsewhere(words);
    command.env("MUSTER_PLANS", &empty).current_dir(&empty);
    if vault {
        command.env("MUSTER_VAULT", format!("file://{}", shop.vault().display()));
    }
    said(command, words)
}

#[test]
fn a_report_says_what_the_run_did_and_a_changed_byte_is_refused() {
    let shop = Shop::protected();
    shop.play(&["failover", "shop", "--planned", "--why", WHY]);
    let run = shop.run_id();
    let file = |name: &str| shop.folder.path().join(name);
    let key = shop.type_in(&["report", "--public-key"]).ends(0).out.trim().to_owned();
    assert_eq!(key.len(), 64, "{key}");

    for name in ["report.html", "report.md", "report.json"] {
        let path = file(name);
        shop.type_in(&["report", &run, "-o", &text(&path)]).ends(0).says(&["written to"]);
        let report = std::fs::read_to_string(&path).unwrap();
        for part in ["tester", "shop", "Send customers to dr?", "final"] {
            assert!(report.contains(part), "`{part}` is missing in {name}: {report}");
        }
        // With the vault: signature and journal.
        let with = shop.type_in(&["report", "--verify", &text(&path)]).ends(0);
        assert!(with.out.contains("the vault's journal agrees"), "{with:#?}");
        // Without anything but the key.
        let alone = elsewhere(&shop, &["report", "--verify", &text(&path), "--signed-by", &key], false).ends(0);
        assert!(alone.out.contains(&key) && alone.err.contains("the vault was not asked"), "{alone:#?}");
        elsewhere(&shop, &["report", "--verify", &text(&path)], false)
            .ends(5)
            .says(&["whose key that is", "--signed-by"]);
        elsewhere(&shop, &["report", "--verify", &text(&path), "--signed-by", &"ab".repeat(32)], false)
            .ends(5)
            .says(&["not with abab"]);
        // One byte in the body, one in the signature.
        for at in [report.find("tester").unwrap(), report.rfind(&key).unwrap(), report.len() - 2] {
            let mut bytes = report.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = file(&format!("changed-{name}"));
            std::fs::write(&changed, bytes).unwrap();
            let refused = shop.type_in(&["report", "--verify", &text(&changed)]).ends(5);
            assert!(refused.err.contains(&text(&changed)), "{refused:#?}");
        }
    }
    let html = std::fs::read_to_string(file("report.html")).unwrap();
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(1)"), "{html}");
    assert_eq!(html.matches("-->").count(), 1, "only the signature is a comment");
    let markdown = std::fs::read_to_string(file("report.md")).unwrap();
    assert!(!markdown.contains("<script") && markdown.contains("\\*\\*bold\\*\\*"), "{markdown}");

    let data: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file("report.json")).unwrap()).unwrap();
    assert_eq!((&data["format"], &data["status"]), (&"muster.report/1".into(), &"done".into()));
    assert_eq!(data["journal"]["head"], shop.newest_run()["hash"], "{data}");
    let clock = &data["clock"];
    assert!(clock["failover_done_millis"].as_u64() <= clock["healthy_millis"].as_u64(), "{clock}");
    assert!(clock["healthy_millis"].as_u64() <= clock["whole_millis"].as_u64(), "{clock}");
    let losses = data["losses"].as_array().unwrap();
    assert!(!losses.is_empty() && losses.iter().all(|loss| loss["consistency"] == "final"), "{losses:?}");
    let started = data["steps"].as_array().unwrap().iter().find(|step| step["what"] == "start db at dr").unwrap();
    assert!(started["took_millis"].is_u64() && started["estimate_millis"].is_u64(), "{started}");
}

/// Two runs of one vault: the report of one is not the report of the other, and later records do not spoil an early report.
#[test]
fn a_report_of_an_unfinished_run_holds_when_the_run_has_gone_on() {
    let shop = Shop::protected();
    let stopped = shop.type_in(&["failover", "shop", "--planned", "--no-wait"]).ends(4);
    let path = text(&shop.folder.path().join("early.md"));
    shop.type_in(&["report", "-o", &path]).ends(0);
    let early = std::fs::read_to_string(&path).unwrap();
    assert!(early.contains("not ended") && early.contains("waits"), "{early}");
    shop.finish(stopped).ends(0);
    let later = shop.type_in(&["report", "--verify", &path]).ends(0);
    assert!(later.out.contains("agrees, and has") && later.out.contains("records more"), "{later:#?}");
}

/// The run is begun where everything is, and killed. Then the source site dies, and plans and control service with it: an
/// empty folder, the binary, the key and the bundle take the run to its end.
#[test]
fn a_run_goes_on_from_the_bundle_when_everything_else_is_gone() {
    let mut shop = Shop::protected();
    let bundle = text(&shop.folder.path().join("shop.bundle"));
    shop.type_in(&["bundle", "-o", &bundle]).ends(0).says(&["recovery points written to", "a folder of this computer"]);
    let words = ["failover", "shop", "--accept-split-brain", "--why", "hq burns", "-v"];
    shop.estate.kill(HOME).unwrap();
    let mut running = shop.stays(shop.command(&words));
    shop.wait_until("the run has begun", || running.log().contains("ready/verify"));
    running.kill();
    // The control service is gone with its sockets, the plans with their folder.
    std::fs::remove_dir_all(shop.folder.path().join("run")).unwrap();
    std::fs::remove_dir_all(shop.plans()).unwrap();

    let mut said = elsewhere(&shop, &["--bundle", &bundle, "resume", "--no-wait"], false);
    for _ in 0..5 {
        if said.code != Some(4) {
            break;
        }
        let status = elsewhere(&shop, &["--bundle", &bundle, "runs", "--json"], false).ends(0).data();
        let run = status[0]["id"].as_str().unwrap().to_owned();
        let line = said.err.lines().find(|line| line.contains("muster approve")).unwrap().trim().to_owned();
        let step = line.split_whitespace().nth(3).unwrap().to_owned();
        elsewhere(&shop, &["--bundle", &bundle, "approve", &run, &step], false).ends(0);
        said = elsewhere(&shop, &["--bundle", &bundle, "resume", &run, "--no-wait"], false);
    }
    let said = said.ends(0);
    assert!(said.out.contains("done"), "{said:#?}");
    let status = elsewhere(&shop, &["--bundle", &bundle, "status", "--json"], false).ends(0).data();
    assert_eq!(status["plans"]["shop"]["phase"], "failed-over", "{status}");
    assert_eq!(status["runs"].as_array().unwrap().len(), 1, "the run that was killed went on: {status}");
    // The next operation needs the plans, compiled from the bundle.
    elsewhere(&shop, &["--bundle", &bundle, "commit", "shop", "--no-wait"], false).ends(0);
    let machines = elsewhere(&shop, &["--bundle", &bundle, "machines", "--json"], false).data();
    let at_away =
        machines["instances"].as_array().unwrap().iter().filter(|pair| pair[0] == AWAY && pair[1]["power"] == "on");
    assert_eq!(at_away.count(), 3, "{machines}");
}

#[test]
fn a_bundle_opens_into_a_folder_and_a_changed_one_does_not() {
    let shop = Shop::protected();
    let bundle = shop.folder.path().join("shop.bundle");
    shop.type_in(&["bundle", "-o", &text(&bundle)]).ends(0);
    let folder = shop.folder.path().join("opened");
    let opened = elsewhere(&shop, &["bundle", "open", &text(&bundle), &text(&folder)], false).ends(0);
    assert!(opened.out.contains("--vault file://"), "{opened:#?}");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let names: Vec<&str> = names.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(names, ["inventory.json", "shop.plan", "sites.plan"]);
    let same = std::fs::read(shop.plans().join("shop.plan")).unwrap();
    assert_eq!(std::fs::read(folder.join("shop.plan")).unwrap(), same);
    let shown = elsewhere(&shop, &["-C", &text(&folder), "dry-run", "shop", "unplanned"], false).ends(0);
    assert!(shown.out.contains("start db at dr"), "{shown:#?}");
    elsewhere(&shop, &["bundle", "open", &text(&bundle), &text(&folder)], false).ends(5).says(&["is not empty"]);

    // No key: it opens all the same, and says what is not known.
    let show = ["--key-file", "none.key", "bundle", "show", &text(&bundle)];
    elsewhere(&shop, &show, false).ends(0).says(&["does not open here"]);
    let mut bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.windows(7).position(|part| part == b"edition").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    for words in [&["bundle", "show", &text(&bundle)][..], &["--bundle", &text(&bundle), "status"]] {
        elsewhere(&shop, words, false).ends(5).says(&["changed after it was signed"]);
    }
}
