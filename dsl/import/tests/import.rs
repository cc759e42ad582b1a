//! Every kind of policy and plan comes over, formatted and without errors; what could not be said is named.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

mod common;

use common::{ASR, SRM, checked, errors, shown, sources};
use muster_import::{Imported, Source, asr, srm};

fn settled(name: &str, imported: &Imported) {
    let checked = checked(&imported.text);
    assert_eq!(errors(&checked), "", "{}", imported.text);
    assert!(!checked.plans.is_empty() && checked.plans.iter().all(|plan| plan.sound), "{}", imported.text);
    assert_eq!(muster_editor::format(&imported.text).unwrap(), imported.text, "not formatted");
    insta::assert_snapshot!(name, shown(imported));
}

#[test]
fn plans_of_azure_site_recovery() {
    for (name, files) in ASR {
        settled(name, &asr(&sources(files)).unwrap());
    }
}

#[test]
fn plans_of_site_recovery_manager() {
    for (name, files) in SRM {
        settled(name, &srm(&sources(files)).unwrap());
    }
}

#[test]
fn what_cannot_be_read_says_where_and_what_to_do() {
    let refused = |text: &str| {
        let refusal = asr(&[Source::new("plan.json", text)]).unwrap_err();
        format!("{refusal}\nhint: {}\n", refusal.help)
    };
    let mut said = String::new();
    for text in ["", "{", "{\"a\":1}", "[]", "param x string", "<xml/>", "{\"value\":[]}", "{\"resources\":[]}", "3"] {
        said.push_str(&refused(text));
    }
    let policy = r#"{"type": "Microsoft.RecoveryServices/vaults/replicationPolicies", "name": "p", "properties": {}}"#;
    said.push_str(&refused(policy));
    for text in ["", "<a", "<a/>", "{}"] {
        let refusal = srm(&[Source::new("plan.xml", text)]).unwrap_err();
        said.push_str(&format!("{refusal}\nhint: {}\n", refusal.help));
    }
    insta::assert_snapshot!(said);
}
