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

/// The portal makes one group that shuts down; the REST interface takes more, and their actions end in the same stages.
#[test]
fn actions_of_two_groups_that_shut_down_keep_names_of_their_own() {
    let mut source = sources(&["azure-to-azure.json"]).remove(0);
    let mut value: serde_json::Value = serde_json::from_str(&source.text).unwrap();
    let groups = value.pointer_mut("/3/properties/groups").and_then(serde_json::Value::as_array_mut).unwrap();
    groups.extend(groups.clone());
    source.text = value.to_string();
    let imported = asr(&[source]).unwrap();
    assert_eq!(errors(&checked(&imported.text)), "", "{}", imported.text);
}
