//! A sheet as a file: no bit of it can be another one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // also in the helpers of tests

use muster_runsheet::*;

fn sheet() -> Runsheet {
    let hook = serde_json::json!({
        "name": "tell", "function": "tell", "probe": false, "parameters": [], "needs": [], "undo": null,
        "origin": "shop.plan:1", "text": "fn tell() {}", "hash": Hash::of("fn tell() {}"),
    });
    let node = |id: &str, count: u32| {
        serde_json::json!({
            "id": id, "kind": "act", "phase": "rise", "stage": "s", "made_by": "shop.plan:1", "within": "5m",
            "action": { "verb": "start", "machine": "db", "site": "dr" }, "usually": null, "otherwise": "pause",
            "retry": { "count": count, "delay": "20s", "factor": 2 }, "after_no_return": true, "locks": ["machine:db"],
        })
    };
    let text = serde_json::json!({
        "format": RUNSHEET_FORMAT, "plan": "shop", "operation": { "kind": "test", "direction": "out" },
        "source": "hq", "target": "dr", "rto": "15m", "rpo": null, "owner": null, "keep": null, "vault": "file:///v",
        "inventory": "0", "sites": {}, "groups": {}, "machines": {}, "hooks": { "tell": hook }, "assumptions": [],
        "edges": [{ "from": "a", "to": "b", "kind": "needs" }], "left_out": [], "nodes": [node("a", 1), node("b", 2)],
    });
    Runsheet::from_json(&text.to_string()).unwrap()
}

#[test]
fn what_was_sealed_is_read_and_any_bit_that_differs_is_refused() {
    let sealed = seal(&sheet());
    assert_eq!(unseal(&sealed).unwrap(), sheet());
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            // What is not even text is refused before.
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert!(unseal(&text).is_err(), "bit {bit} of byte {at}: {}", &text[at.saturating_sub(20)..]);
        }
    }
}

#[test]
fn each_way_of_being_wrong_has_its_name() {
    let sealed = seal(&sheet());
    let says = |text: &str, part: &str| {
        let error = unseal(text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    says(&sheet().to_json(), "its seal is missing (E0904)");
    says(&sealed.replace("\"count\": 2", "\"count\": 3"), "its seal is of another text");
    says(&sealed.replace("fn tell() {}", "fn tell() { }"), "hook `tell` is not the one it was approved with (E0905)");
    says(&sealed.replace("muster.runsheet/1", "muster.runsheet/2"), "format `muster.runsheet/2`");
    says(&sealed[..sealed.len() / 2], "damaged");
    says(&format!("{} \n", sealed.trim_end()), "its seal is damaged");
}
