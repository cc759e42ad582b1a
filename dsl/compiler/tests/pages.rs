//! The wrong example of each page is wrong for the reason of the page, and the right one is not.
//!
//! Examples are excerpts: what a reader would add without a thought (sites, an inventory, a plan's `move`) is added here.

#![allow(clippy::unwrap_used, clippy::panic)] // tests and their helpers

mod common;

use common::{Texts, inventory};
use muster_diagnostics::pages::PAGES;
use std::collections::BTreeSet;

/// Wrong by something that is not in the text of the example.
const NOT_ALONE: &[(u16, &str)] = &[
    (203, "the thing of the wrong kind is declared elsewhere"),
    (204, "the imported file"),
    (206, "the second file"),
    (208, "the hook"),
    (209, "the hook"),
    (213, "the module and its lock"),
    (302, "what the inventory found"),
    (303, "a machine that is in no group"),
    (315, "the inventory itself"),
    (402, "what the machines write"),
    (405, "the group between policy and plan"),
    (407, "what the machines write"),
    (410, "a guest without an agent"),
    (412, "what was measured"),
    (413, "the policy of its groups"),
    (502, "the machine with the card"),
    (503, "the plan with both machines"),
    (504, "the networks of both sites"),
    (508, "the cards of the machine"),
    (512, "the vault of a provider"),
    (515, "the providers"),
    (601, "the state of the plan"),
    (607, "the hook"),
    (610, "the hook"),
    (612, "the group between policy and plan"),
    (708, "a hook that was run twice"),
    (712, "a run that was resumed"),
    (801, "a provider with a login"),
    (802, "the keyring"),
    (803, "the secret"),
    (903, "the runsheet"),
    (904, "the runsheet"),
    (905, "the runsheet"),
    (906, "a test that is carried out"),
];

const ESTATE: [(&str, &str); 6] = [
    (
        "hq",
        "site hq { provider = simulated(\"127.0.0.1:7301\"); network data = 10.10.20.0/24; network app = 10.10.30.0/24; network web = 10.10.40.0/24 }",
    ),
    (
        "dr",
        "site dr { provider = simulated(\"127.0.0.1:7302\"); network data = 10.60.20.0/24; network app = 10.60.30.0/24; network web = 10.60.40.0/24 }",
    ),
    (
        "route",
        "route hq <-> dr { vault = \"file:///v\"; data <-> data test isolated; app <-> app test isolated; web <-> web test isolated }",
    ),
    ("gold", "policy gold { rpo = 5m; replicate = every 30s; retain = 24h }"),
    ("ops", "team ops { members = [\"a@example.com\"] }"),
    ("leads", "team leads { members = [\"a@example.com\"] }"),
];
const MACHINES: [&str; 12] =
    ["sql-01", "sql-02", "app-01", "redis-01", "report-01", "billing-01", "a", "b", "x", "y", "web-01", "web-02"];

fn declares(text: &str, name: &str) -> bool {
    if name == "route" {
        return text.contains("route hq");
    }
    ["site", "policy", "team", "group", "plan", "machine", "stage", "hook", "network"]
        .iter()
        .any(|kind| text.contains(&format!("{kind} {name} ")))
}

/// Facts that every block of a kind must have, where the example leaves them out.
fn with_facts(text: &str, kind: &str, facts: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        match line.strip_prefix(kind).and_then(|rest| rest.split_once('{').map(|_| ())) {
            Some(()) => {
                let missing = facts.iter().filter(|(word, _)| !text.contains(&format!("{word} ")));
                let added: String = missing.map(|(word, value)| format!(" {word} = {value};")).collect();
                out.push_str(&line.replacen('{', &format!("{{{added}"), 1));
            }
            None => out.push_str(line),
        }
    }
    out
}

fn completed(example: &str) -> Texts {
    let mut text = with_facts(example, "plan ", &[("move", "hq -> dr")]);
    text = with_facts(&text, "policy ", &[("rpo", "5m"), ("replicate", "every 30s"), ("retain", "24h")]);
    text = with_facts(&text, "machine ", &[("disks", "[\"os\"]"), ("network", "data")]);
    text = with_facts(&text, "site ", &[("provider", "simulated(\"127.0.0.1:7301\")")]);
    for (name, declaration) in ESTATE {
        if !declares(example, name) {
            text.push_str(declaration);
            text.push('\n');
        }
    }
    let addresses: Vec<String> = (0..MACHINES.len()).map(|number| format!("10.10.20.{}", 11 + number)).collect();
    let machines: Vec<(&str, &str, &str)> = MACHINES
        .iter()
        .zip(&addresses)
        .filter(|(name, _)| !declares(example, name))
        .map(|(name, ip)| (*name, "data", ip.as_str()))
        .collect();
    let members: Vec<&str> = machines.iter().map(|(name, _, _)| *name).filter(|name| example.contains(name)).collect();
    if !example.contains("group ") && !members.is_empty() && example.contains("plan ") {
        let declaration = format!("group protected {{ policy = gold; machines = [{}] }}\n", members.join(", "));
        text.push_str(&declaration);
    }
    Texts::default()
        .with("page.plan", &text)
        .with("inventory.json", &inventory(&machines))
        .with("hooks/tell.rhai", "fn tell() { }\n")
}

fn said(example: &str) -> BTreeSet<u16> {
    completed(example).check(&["page.plan"]).diagnostics.iter().map(|found| found.code.0).collect()
}

#[test]
fn wrong_examples_are_wrong_for_their_reason_and_right_ones_are_not() {
    let mut wrong = Vec::new();
    for (code, page) in PAGES {
        let examples: Vec<&str> =
            page.split("```plan\n").skip(1).filter_map(|rest| rest.split("```\n").next()).collect();
        let alone = NOT_ALONE.iter().all(|(other, _)| other != code);
        let found = said(examples[0]);
        if alone != found.contains(code) {
            wrong.push(format!("E{code:04}: the wrong example says {found:?}"));
        }
        let found = said(examples[1]);
        if alone && found.contains(code) {
            wrong.push(format!("E{code:04}: the right example says {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
