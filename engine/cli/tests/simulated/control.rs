//! How people steer a run: pause it, agree on it in numbers, change what has not begun; and what is refused by name.

use crate::shop::Shop;
use serde_json::Value;

const CHECK: &str = "    check db tcp(7000) within 2m\n";

/// The shop, asking before it checks the database.
fn asks_first(by: &'static str) -> impl Fn(String) -> String {
    move |text: String| {
        assert!(text.contains(CHECK), "{text}");
        let team = "\nteam leads {\n  members = [\"anna@example.com\", \"ben@example.com\", \"carl@example.com\"]\n  quorum  = 2\n}\n";
        let text = text.replace(CHECK, &format!("    approve \"Look at the database?\" by {by} within 15m\n{CHECK}"));
        if by == "leads" { text + team } else { text }
    }
}

fn records(shop: &Shop, run: &str) -> Vec<Value> {
    shop.json(&["log", run])["records"].as_array().unwrap().clone()
}

fn of<'a>(records: &'a [Value], event: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["event"] == event).collect()
}

/// A drill that waits for an answer.
fn asking(shop: &Shop, by: &'static str) -> (String, String) {
    shop.write_plans(asks_first(by));
    shop.type_in(&["drill", "shop", "--no-wait"]).ends(4).says(&["Look at the database?"]);
    let run = shop.run_id();
    let question = shop.questions(&run).remove(0);
    (run, question)
}

#[test]
fn a_paused_run_begins_nothing_and_goes_on_when_told() {
    let shop = Shop::protected();
    shop.write_plans(asks_first("anyone"));
    let mut drill = shop.stays(shop.command(&["drill", "shop"]));
    shop.wait_until("it asks", || drill.log().contains(" asks "));
    let run = shop.run_id();
    let question = shop.questions(&run).remove(0);
    shop.type_in(&["pause", &run, "--by", "anna", "--why", "the phone rings"]).ends(0);
    shop.type_in(&["pause", &run]).ends(5).says(&["paused already, by anna", "muster resume"]);
    shop.type_in(&["approve", &run, &question]).ends(0);
    shop.wait_until("the answer is taken", || of(&records(&shop, &run), "answered").len() == 1);
    let paused = records(&shop, &run);
    let begun = |records: &[Value]| of(records, "attempt-started").len();
    assert!(drill.is_running(), "{}", drill.log());
    // From another terminal; whoever drives the run goes on with it.
    shop.type_in(&["resume", &run, "--by", "ben", "--why", "hung up"]).ends(0);
    assert_eq!(drill.ended(), Some(0), "{}", drill.log());
    let all = records(&shop, &run);
    let at = |event: &str| all.iter().position(|record| record["event"] == event).unwrap();
    assert!(at("run-paused") < at("answered") && at("answered") < at("run-resumed"), "{all:#?}");
    assert_eq!(begun(&all[..at("run-resumed")]), begun(&paused), "nothing begins while it is paused");
    let signed = |event: &str| (of(&all, event)[0]["who"].clone(), of(&all, event)[0]["why"].clone());
    assert_eq!(signed("run-paused"), ("anna".into(), "the phone rings".into()));
    assert_eq!(signed("run-resumed"), ("ben".into(), "hung up".into()));
    shop.type_in(&["pause", &run]).ends(5).says(&["has ended: done"]);
    shop.play(&["cleanup", "shop"]);
}

#[test]
fn two_of_three_have_to_agree() {
    let shop = Shop::protected();
    let (run, question) = asking(&shop, "leads");
    let approve = |who: &str| shop.type_in(&["approve", &run, &question, "--by", who, "--why", "it is time"]);
    let stranger = approve("dora").ends(5);
    stranger.says(&["`dora` may not answer", "`leads`", "its members: anna@example.com, ben@example.com"]);
    assert_eq!(of(&records(&shop, &run), "answered").len(), 0, "nothing of it is recorded");
    approve("anna").ends(0);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(4).says(&["Look at the database?", "1 of 2", "anna@example.com"]);
    approve("anna@example.com").ends(5).says(&["has said yes", "2 have to agree", "ben@example.com"]);
    approve("ben").ends(0);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(0);
    let all = records(&shop, &run);
    let who: Vec<&Value> = of(&all, "answered").iter().map(|record| &record["answer"]["who"]).collect();
    assert_eq!(who, ["anna@example.com", "ben@example.com"]);
    let said = all.iter().find(|record| record["event"] == "node-succeeded" && record["node"] == question.as_str());
    assert!(
        said.unwrap()["output"]["text"].as_str().unwrap().contains("anna@example.com and ben@example.com said yes")
    );
    shop.type_in(&["log", &run, "--verify"]).ends(0).says(&["verifies"]);
    shop.play(&["cleanup", "shop"]);
}

#[test]
fn one_no_of_a_team_is_enough() {
    let shop = Shop::protected();
    let (run, question) = asking(&shop, "leads");
    shop.type_in(&["approve", &run, &question, "--by", "anna"]).ends(0);
    shop.type_in(&["approve", &run, &question, "--by", "carl", "--no", "--why", "not today"]).ends(0);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(4).says(&["carl@example.com said no: not today"]);
    // Asked again, everybody is asked again.
    shop.type_in(&["decide", &run, &question, "retry", "--why", "carl is convinced"]).ends(0);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(4).says(&["Look at the database?"]);
    shop.type_in(&["approve", &run, &question, "--by", "carl"]).ends(0);
    shop.type_in(&["approve", &run, &question, "--by", "anna"]).ends(0);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(0);
    shop.play(&["cleanup", "shop"]);
}

#[test]
fn a_decision_about_a_step_that_does_not_wait_is_refused_by_name() {
    let shop = Shop::protected();
    let (run, question) = asking(&shop, "anyone");
    let before = records(&shop, &run);
    for (step, decision, stand) in [
        ("ready/verify", "retry", "succeeded"),
        ("database.start/db", "skip", "succeeded"),
        ("application.start/app", "done-by-hand", "waiting"),
        (question.as_str(), "skip", "asking"),
    ] {
        let said = shop.type_in(&["decide", &run, step, decision, "--why", "a slip"]).ends(5);
        said.says(&[&format!("`{decision}` is not possible for `{step}`, which is {stand}"), "hint: "]);
    }
    shop.type_in(&["decide", &run, "ready/verify", "skip"]).ends(5).says(&["`skip` asks for a reason", "--why"]);
    shop.type_in(&["approve", &run, "ready/verify"]).ends(5).says(&["`ready/verify` asks nothing now"]);
    assert_eq!(records(&shop, &run), before, "a refused word leaves no record");
    shop.type_in(&["approve", &run, &question]).ends(0);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(0);
    shop.play(&["cleanup", "shop"]);
}

#[test]
fn what_has_not_begun_is_amended() {
    let shop = Shop::protected();
    let (run, question) = asking(&shop, "anyone");
    let file = shop.folder.path().join("better.json").display().to_string();
    let written = |operation: &str, change: &dyn Fn(String) -> String| {
        shop.write_plans(|text| change(asks_first("anyone")(text)));
        shop.type_in(&["dry-run", "shop", operation, "-o", &file]).ends(0);
    };
    let amend = || shop.type_in(&["amend", &run, &file, "--by", "anna", "--why", "the page is gone"]);
    let page = "    check web http(\":80/\") within 2m\n";
    let before = records(&shop, &run);

    written("test", &|text| text);
    amend().ends(5).says(&["changes nothing of this run"]);
    written("planned", &|text| text);
    amend().ends(5).says(&["the sheet is of `shop` `planned`", "the run of `shop` `test`"]);
    written("test", &|text| text.replace("start db within 5m", "start db within 6m"));
    amend().ends(5).says(&["changes step `database.start/db`, which is succeeded", "stays as it is"]);
    assert_eq!(records(&shop, &run), before, "a refused sheet leaves no record");

    written("test", &|text| {
        assert!(text.contains(page), "{text}");
        text.replace(page, "    wait 1s\n")
    });
    amend().ends(0).says(&["muster resume"]);
    shop.type_in(&["approve", &run, &question]).ends(0);
    shop.type_in(&["resume", &run, "--no-wait"]).ends(0);
    let all = records(&shop, &run);
    let amended = of(&all, "amended")[0];
    assert_eq!((&amended["who"], &amended["why"]), (&"anna".into(), &"the page is gone".into()));
    let changes = amended["changes"].to_string();
    assert!(
        changes.contains("without `front-door.check-http/web`") && changes.contains("with `front-door.wait"),
        "{changes}"
    );
    let ended =
        |step: &str| of(&all, "node-succeeded").iter().any(|record| record["node"].as_str().unwrap().starts_with(step));
    assert!(ended("front-door.wait") && !ended("front-door.check-http") && ended("application.check-http"), "{all:#?}");
    shop.type_in(&["log", &run, "--verify"]).ends(0).says(&["verifies"]);
    shop.write_plans(|text| text);
    shop.play(&["cleanup", "shop"]);
    shop.assert_nothing_lost();
}

/// A wait is over when it was to be over, whoever lives to see it.
#[test]
fn a_timer_survives_the_death_of_its_engine() {
    let shop = Shop::protected();
    shop.write_plans(|text| text.replace(CHECK, &format!("    wait 3s\n{CHECK}")));
    let mut drill = shop.stays(shop.command(&["drill", "shop", "--no-wait", "-v"]));
    shop.wait_until("it waits", || {
        let runs = shop.json(&["runs"]);
        let Some(run) = runs[0]["id"].as_str() else { return false };
        of(&records(&shop, run), "timer-set").len() == 1
    });
    drill.kill();
    let run = shop.run_id();
    let set = of(&records(&shop, &run), "timer-set")[0].clone();
    shop.type_in(&["resume", &run, "--no-wait"]).ends(0);
    let all = records(&shop, &run);
    assert_eq!(of(&all, "timer-set"), [&set], "it is not set anew");
    let fired = of(&all, "timer-fired");
    assert_eq!(fired.len(), 1, "{all:#?}");
    assert!(fired[0]["time"].as_u64() >= set["due"].as_u64(), "{fired:?} {set}");
    shop.write_plans(|text| text);
    shop.play(&["cleanup", "shop"]);
}
