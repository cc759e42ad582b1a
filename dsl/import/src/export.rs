//! A plan as an ARM template of Azure Site Recovery.
//!
//! Stages become groups, in one line; steps become actions. Names of vault, fabrics and runbooks are parameters with the
//! names of the plan as their defaults.

use crate::export_plan::{Groups, groups};
use crate::{Exported, Notes, Refusal, Source};
use muster_diagnostics::FileId;
use muster_syntax::ast::{FactValue, Item, Plan};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The machines of each group, for steps that name them as `orders-db.machines`.
pub type Members = BTreeMap<String, Vec<String>>;

const SCHEMA: &str = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#";
const API: &str = "2025-08-01";
const ITEM: &str =
    "Microsoft.RecoveryServices/vaults/replicationFabrics/replicationProtectionContainers/replicationProtectedItems";
const FABRIC: &str = "Microsoft.RecoveryServices/vaults/replicationFabrics";

/// The plan of this name in a file; the only one when none is named.
pub fn export_asr(source: &Source, plan: Option<&str>, members: &Members) -> Result<Exported, Refusal> {
    let parsed = muster_syntax::parse(FileId(0), &source.text);
    let refuse = |what: String, help: &str| Refusal {
        file: source.name.clone(),
        path: String::new(),
        what,
        help: help.to_owned(),
    };
    if parsed.has_errors() {
        return Err(refuse("it has errors".into(), "`muster check` shows them"));
    }
    let plans: Vec<&Plan> = parsed
        .ast
        .items
        .iter()
        .filter_map(|item| if let Item::Plan(plan) = item { Some(plan) } else { None })
        .collect();
    let names = || plans.iter().map(|plan| plan.name.text.clone()).collect::<Vec<_>>().join(", ");
    let found = match plan {
        Some(name) => plans.iter().find(|plan| plan.name.text == name),
        None => plans.first().filter(|_| plans.len() == 1),
    };
    let Some(found) = found else {
        return Err(match (plan, plans.is_empty()) {
            (_, true) => refuse("no plan is in it".into(), "name a file with a `plan`"),
            (Some(name), _) => refuse(format!("there is no plan `{name}`"), &format!("it has {}", names())),
            (None, _) => refuse("it has several plans".into(), &format!("name one of them: {}", names())),
        });
    };
    let mut notes = Notes::default();
    let groups = groups(source, found, members, &mut notes);
    let text = serde_json::to_string_pretty(&template(source, found, &groups, &mut notes)).unwrap_or_default();
    Ok(Exported { text: text + "\n", notes: notes.take() })
}

/// `line 12`.
pub(crate) fn line(source: &Source, offset: u32) -> String {
    let before = source.text.get(..offset as usize).unwrap_or("");
    format!("line {}", before.matches('\n').count() + 1)
}

fn template(source: &Source, plan: &Plan, groups: &Groups, notes: &mut Notes) -> Value {
    let (mut from, mut to) = ("primary".to_owned(), "recovery".to_owned());
    for fact in &plan.facts {
        match &fact.value {
            FactValue::Move { from: left, to: right, back, .. } => {
                (from, to) = (left.text.clone(), right.text.clone());
                if let Some(back) = back {
                    notes.add(
                        &source.name,
                        &line(source, back.span.start),
                        "the way home ends where it began: `back` has no counterpart",
                    );
                }
            }
            _ => {
                let name = &fact.name.text;
                let text = format!("`{name}` has no counterpart in a recovery plan of the service");
                notes.add(&source.name, &line(source, fact.span.start), text);
            }
        }
    }
    let parameter = |value: &str, what: &str| json!({ "type": "string", "defaultValue": value, "metadata": { "description": what } });
    let azure = to == "azure";
    let mut parameters = json!({
        "vaultName": parameter("vault", "The Recovery Services vault."),
        "primaryFabricName": parameter(&from, "The fabric that the machines are protected from."),
        "containerName": parameter(&format!("{from}-container"), "The protection container of their items."),
    });
    let recovery = if azure {
        json!("Microsoft Azure")
    } else {
        parameters["recoveryFabricName"] = parameter(&to, "The fabric that they are recovered to.");
        json!(format!("[resourceId('{FABRIC}', parameters('vaultName'), parameters('recoveryFabricName'))]"))
    };
    if groups.runbooks {
        parameters["automationAccountName"] = parameter("automation", "The account that holds the runbooks.");
    }
    json!({
        "$schema": SCHEMA,
        "contentVersion": "1.0.0.0",
        "metadata": { "description": format!("Plan {} of muster, which moves {from} -> {to}.", plan.name.text) },
        "parameters": parameters,
        "resources": [{
            "type": "Microsoft.RecoveryServices/vaults/replicationRecoveryPlans",
            "apiVersion": API,
            "name": format!("[format('{{0}}/{{1}}', parameters('vaultName'), '{}')]", plan.name.text),
            "properties": {
                "primaryFabricId": format!("[resourceId('{FABRIC}', parameters('vaultName'), parameters('primaryFabricName'))]"),
                "recoveryFabricId": recovery,
                "failoverDeploymentModel": if azure { "ResourceManager" } else { "NotApplicable" },
                "groups": groups.all,
            },
        }],
    })
}

/// The id of a protected item, by the name of its machine.
pub(crate) fn item_id(machine: &str) -> String {
    format!(
        "[resourceId('{ITEM}', parameters('vaultName'), parameters('primaryFabricName'), parameters('containerName'), '{machine}')]"
    )
}

/// The id of the runbook that does what a hook does.
pub(crate) fn runbook_id(hook: &str) -> String {
    format!(
        "[resourceId('Microsoft.Automation/automationAccounts/runbooks', parameters('automationAccountName'), '{hook}')]"
    )
}
