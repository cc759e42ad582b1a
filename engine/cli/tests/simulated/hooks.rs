//! What a hook did in a run: told while it goes on, after its engine was killed, and when all is over.

use crate::shop::Shop;
use serde_json::Value;

const STEP: &str = "database.settle";

fn trace(shop: &Shop) -> Option<Value> {
    let runs = shop.json(&["runs"]);
    let run = runs.as_array()?.first()?["id"].as_str()?.to_owned();
    let said = shop.type_in(&["hook", "trace", &run, STEP, "--json"]);
    (said.code == Some(0)).then(|| said.data())
}

fn call<'a>(trace: &'a Value, operation: &str) -> Option<&'a Value> {
    trace["calls"].as_array()?.iter().find(|call| call["operation"] == operation)
}

#[test]
fn a_hook_is_traced_while_it_runs_and_after_its_engine_died() {
    let shop = Shop::protected();
    shop.write_plans(|text| {
        let line = "    check db tcp(7000) within 2m\n";
        assert!(text.contains(line), "{text}");
        let text = text.replace(line, &format!("{line}    when test {{ run settle(mark = \"blue\") within 4m }}\n"));
        let body = "log.info(`before ${mark}`); let begun = now(); sleep(12); checkpoint(\\\"begun\\\", begun); \
                    log.info(`after ${mark}`);"
            .replace("\\\"", "\"");
        format!("{text}\nhook settle(mark: text) {{\n  body = \"\"\"\n    {body}\n  \"\"\"\n}}\n")
    });
    let mut drill = shop.stays(shop.command(&["drill", "shop", "--no-wait"]));
    let mut seen = Value::Null;
    shop.wait_until("the hook sleeps", || {
        seen = trace(&shop).unwrap_or_default();
        call(&seen, "sleep").is_some()
    });
    let sleep = call(&seen, "sleep").unwrap();
    assert_eq!((&sleep["answered_at"], &sleep["attempt"]), (&Value::Null, &1.into()), "it is under way: {seen}");
    assert_eq!(call(&seen, "log.info").unwrap()["arguments"][0], "before blue");
    assert_eq!(seen["attempts"][0]["end"], Value::Null);
    drill.kill();

    let resumed = shop.type_in(&["resume", "--no-wait"]);
    assert!(resumed.code.is_some(), "{resumed:#?}");
    shop.finish(resumed).ends(0);
    let after = trace(&shop).unwrap();
    assert_eq!(call(&after, "now").unwrap()["replayed_in"], serde_json::json!([2]), "{after}");
    assert_eq!(call(&after, "now").unwrap()["answer"], call(&seen, "now").unwrap()["answer"], "the first answer stays");
    let sleep = call(&after, "sleep").unwrap();
    assert_eq!(sleep["repeated_in"], serde_json::json!([2]), "{after}");
    assert_ne!(sleep["answered_at"], Value::Null);
    let last = after["calls"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["arguments"][0], &last["attempt"]), (&"after blue".into(), &2.into()), "{after}");
    assert_eq!((&after["attempts"][1]["end"], &after["unread"]), (&"succeeded".into(), &Value::Null), "{after}");

    let run = after["run"].as_str().unwrap();
    let table = shop.type_in(&["hook", "trace", run, STEP]).ends(0).out;
    assert!(table.contains("log.info after blue") && table.contains("again in 2"), "{table}");
    let other = shop.type_in(&["hook", "trace", run, "application.set-db-host", "--json"]).ends(0).data();
    assert_eq!(call(&other, "exec").unwrap()["arguments"][1], "/bin/set-db-host", "{other}");
    shop.type_in(&["hook", "trace", run, "database.settel"]).ends(1).says(&["has no step", STEP]);
    shop.type_in(&["hook", "trace", run, "database.start/db"]).ends(1).says(&["runs no hook"]);
}
