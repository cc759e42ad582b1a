//! What has to be within reach when a site is gone, and what a stage waits for: each way to be wrong, and what is right.

#![allow(clippy::unwrap_used, clippy::panic)] // tests and their helpers

mod common;

use common::{Texts, inventory, said};
use muster_compiler::Checked;

/// `hq` is left for `dr`; `spare` is another home.
const SITES: &str = r#"edition 2026
secret dr-login = keyring("dr/login" LOGIN)
secret seal     = keyring("dr/seal" SEAL)
site hq {
  provider = simulated("127.0.0.1:7301")
  network data = 10.10.20.0/24
}
site dr {
  provider = azure("westeurope", login = dr-login)
  network data = 10.60.20.0/24
}
site spare {
  provider = simulated("127.0.0.1:7303")
  network data = 10.90.20.0/24
}
place * at dr { size = "Standard_D2s_v5" }
route hq <-> dr {
  vault = "file:///v"
  data <-> data test isolated
  resolver 10.10.0.53 <-> 10.60.0.53
}
route spare <-> dr {
  vault = "file:///v"
  data <-> data test isolated
  SPARE
}
policy gold { rpo = 5m; replicate = every 30s; retain = 24h; encryption = seal }
"#;

/// The plan on this estate: what stands at each mark, and the rest as it should be.
fn check(marks: &[(&str, &str)], plan: &str) -> String {
    said(&checked(marks, plan))
}

fn checked(marks: &[(&str, &str)], plan: &str) -> Checked {
    let mut sites = SITES.to_owned();
    for (mark, text) in marks.iter().chain(&[("LOGIN", ""), ("SEAL", ""), ("SPARE", "")]) {
        sites = sites.replacen(mark, text, 1);
    }
    let text = format!(
        "edition 2026\nuse ./sites {{ hq, dr, gold{} }}\ngroup shop {{ policy = gold; machines = [db, web] }}\n{plan}",
        if plan.contains("spare") { ", spare" } else { "" }
    );
    let machines = inventory(&[("db", "data", "10.10.20.11"), ("web", "data", "10.10.20.12")]);
    let texts = Texts::default().with("sites.plan", &sites).with("inventory.json", &machines).with("p.plan", &text);
    texts.check(&["p.plan"])
}

/// A plan of one stage with a step that is given a secret, which lies only where `at` says.
fn with_secret(at: &str, step: &str) -> Checked {
    checked(
        &[("SPARE", "resolver 10.90.0.53 <-> 10.60.0.53")],
        &format!(
            "secret token = keyring(\"dr/token\"{at})\n\
             hook tell(key: secret) {{\n  needs = [http(\"https://x.example.com\")]\n  \
             body  = \"http.post(`/`, #{{}}, #{{ bearer: key }});\"\n}}\n\
             plan p {{\n  move = hq -> dr back spare\n  stage all {{\n    start db, web\n    {step}\n  }}\n}}\n"
        ),
    )
}

const PLAIN: &str = "plan p {\n  move = hq -> dr\n  stage all { start db, web }\n}\n";

/// The codes with how grave they are, in order.
fn heads(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.starts_with('E')).collect()
}

#[test]
fn a_secret_given_to_a_hook_is_needed_like_one_of_its_contract() {
    let gone = "E0805 secret `token` is only at `hq`, and a failover from there needs it";
    let said = said(&with_secret(", at = hq", "run tell(token) when live"));
    assert_eq!(heads(&said), [gone], "{said}");
    assert!(said.contains("`run tell(token) when live`: opened here, when `hq` is gone"), "{said}");
    assert!(said.contains("help: put it into the keyring at `dr` too, and take `at = hq` away"), "{said}");
    for (at, step) in [
        ("", "run tell(token) when live"),
        (", at = spare", "run tell(token) when live"),
        // While the site still answers.
        (", at = hq", "run tell(token) when planned"),
        (", at = hq", "down { run tell(token) when live }"),
        // Home is another site by then.
        (", at = hq", "run tell(token) when failback"),
    ] {
        assert_eq!(common::said(&with_secret(at, step)), "", "{at} {step}");
    }
}

#[test]
fn what_lies_at_the_other_end_or_may_fail_is_a_warning() {
    for (at, step) in
        [(", at = dr", "run tell(token) when live"), (", at = hq", "run tell(token) when live else continue")]
    {
        let checked = with_secret(at, step);
        let [found] = checked.diagnostics.as_slice() else { panic!("{}", said(&checked)) };
        assert_eq!((found.code.0, found.is_error()), (805, false), "{}", said(&checked));
    }
}

#[test]
fn a_login_and_a_seal_outlive_the_source() {
    assert_eq!(check(&[], PLAIN), "");
    assert_eq!(check(&[("LOGIN", ", at = dr")], PLAIN), "", "who is there can read it");
    for (mark, secret) in [("LOGIN", "dr-login"), ("SEAL", "seal")] {
        let text = check(&[(mark, ", at = hq")], PLAIN);
        assert_eq!(
            heads(&text),
            [format!("E0805 secret `{secret}` is only at `hq`, and a failover from there needs it")],
            "{text}"
        );
    }
}

#[test]
fn a_keyring_stands_at_a_site() {
    let wrong = |arguments: &str| check(&[("\"dr/seal\" SEAL", arguments)], PLAIN);
    insta::assert_snapshot!(
        [
            wrong("\"dr/seal\", at = nowhere"),
            wrong("\"dr/seal\", at = gold"),
            wrong("\"dr/seal\", at = hq, at = dr"),
            wrong("at = hq"),
            wrong("\"dr/seal\", where = hq"),
        ]
        .join("\n")
    );
}

#[test]
fn a_machine_that_comes_home_elsewhere_finds_a_name_server_there() {
    let elsewhere = "plan p {\n  move = hq -> dr back spare\n  stage all { start db, web }\n}\n";
    assert_eq!(check(&[("SPARE", "resolver 10.90.0.53 <-> 10.60.0.53")], elsewhere), "");
    insta::assert_snapshot!(check(&[], elsewhere));
    assert_eq!(check(&[], PLAIN), "", "a route that no plan takes may be without");
}

#[test]
fn a_wait_is_looked_at_through_empty_stages() {
    let stages = |web: &str, doors: &str| {
        check(
            &[],
            &format!(
                "hook tell() {{ body = \"log.info(`x`);\" }}\nplan p {{\n  move = hq -> dr\n  stage data {{ start db }}\n  \
                 stage warm after data {{ run tell() when live }}\n  stage look after warm {{ run tell() as look when live }}\n  \
                 stage web after {web} {{ start web }}\n  stage doors after web {{ run tell() as open {doors} }}\n}}\n"
            ),
        )
    };
    insta::assert_snapshot!(stages("look", "when live"));
    assert_eq!(stages("look, data", "when live"), "", "it is said what the stage is after then");
    assert_eq!(stages("data", "when live"), "", "stages of one operation may follow each other");
}
