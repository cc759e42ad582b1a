//! Bad input: a sheet that is not what was written, and a journal that is not whole. Each is refused by name.

use crate::shop::Shop;
use muster_journal::{Owner, SlateStore, TakeOver};
use muster_ports::{StateStore, SystemClock, Write};
use muster_vault::{KeySource, Vault};
use std::sync::Arc;

#[test]
fn a_sheet_with_one_bit_flipped_never_runs() {
    let shop = Shop::protected();
    let file = shop.folder.path().join("drill.json");
    let path = file.display().to_string();
    shop.type_in(&["dry-run", "shop", "test", "-o", &path]).ends(0);
    let whole = std::fs::read(&file).unwrap();
    let runs = shop.json(&["runs"]);
    // All over the file; `dsl/runsheet` flips every bit of a small one.
    const FLIPS: usize = 24;
    for flip in 0..FLIPS {
        let mut bytes = whole.clone();
        let at = flip * (bytes.len() - 1) / (FLIPS - 1);
        bytes[at] ^= 1 << (flip % 7);
        std::fs::write(&file, &bytes).unwrap();
        let said = shop.type_in(&["run", &path, "--no-wait"]);
        assert!(matches!(said.code, Some(1 | 5)), "bit {} of byte {at}: {said:#?}", flip % 7);
        said.says(&["drill.json", "hint: ", "muster dry-run"]);
    }
    // One that means another limit, and nothing else.
    let text = String::from_utf8(whole.clone()).unwrap();
    let edited = text.replacen("\"count\": 2", "\"count\": 3", 1);
    assert!(edited != text);
    std::fs::write(&file, edited).unwrap();
    shop.type_in(&["run", &path]).ends(5).says(&["not what was written", "E0904", "reviewed"]);
    shop.type_in(&["show", &path]).ends(5).says(&["not what was written"]);

    std::fs::write(&file, text.replace("muster.runsheet/1", "muster.runsheet/9")).unwrap();
    shop.type_in(&["run", &path]).ends(1).says(&["muster.runsheet/9", "E0904"]);
    std::fs::write(&file, &whole).unwrap();
    shop.type_in(&["run", &path, "--vault", "file:///elsewhere"])
        .ends(5)
        .says(&["the sheet is for the vault `file://", "not for `file:///elsewhere`"]);
    assert_eq!(shop.json(&["runs"]), runs, "a refused sheet leaves no run");
    shop.type_in(&["run", &path]).ends(0);
    shop.play(&["cleanup", "shop"]);
    shop.assert_nothing_lost();
}

/// Changes the control state behind muster's back.
fn tamper(shop: &Shop, batch: Vec<Write>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("file://{}", shop.vault().display());
        let vault = Vault::open(&url, &KeySource::File(shop.key())).await.unwrap();
        let prefix = vault.prefix().clone().join("state").to_string();
        let owner = Owner::this_process("a test");
        let clock = Arc::new(SystemClock);
        let store = SlateStore::open(vault.control_store(), &prefix, owner, TakeOver::WhenStale, clock).await.unwrap();
        store.write(batch).await.unwrap();
        store.close().await.unwrap();
    });
}

#[test]
fn a_journal_with_a_hole_is_named_and_not_resumed() {
    let shop = Shop::protected();
    shop.write_plans(|text| {
        let line = "    check db tcp(7000) within 2m\n";
        text.replace(line, &format!("    approve \"Go on?\" by anyone within 15m\n{line}"))
    });
    shop.type_in(&["drill", "shop", "--no-wait"]).ends(4);
    let run = shop.run_id();
    let question = shop.questions(&run).remove(0);
    let log = shop.json(&["log", &run]);
    shop.type_in(&["log", &run, "--verify"]).ends(0).says(&["verifies"]);
    let key = format!("run/{run}/event/{:010}", 5);
    let whole = serde_json::to_vec(&log["records"][5]).unwrap();

    tamper(&shop, vec![Write::delete(key.clone())]);
    let named = [&format!("the journal of run `{run}` is damaged at record 5")[..], "it is missing", "do not resume"];
    shop.type_in(&["log", &run, "--verify"]).ends(1).says(&named);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(1).says(&named);
    shop.type_in(&["approve", &run, &question]).ends(1).says(&named);
    // A record put in its place that says something else.
    tamper(&shop, vec![Write::put(key, whole)]);
    let changed = [&format!("the journal of run `{run}` is damaged at record")[..], "do not resume"];
    shop.type_in(&["log", &run, "--verify"]).ends(1).says(&changed);
    // Nothing else is lost with it.
    assert_eq!(shop.newest_run()["id"], run.as_str());
    shop.type_in(&["status"]).ends(0);
    shop.assert_nothing_lost();
}
