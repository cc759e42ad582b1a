//! Whether a reviewed sheet still fits the world: each assumption it was approved with, against the plans beside it and
//! the sites themselves.
//!
//! What cannot be asked proves nothing: a sheet runs without its plans, and the failover path needs no dead site.

use super::drift;
use crate::arguments::Common;
use crate::output;
use muster_compiler::CompileOptions;
use muster_control::Project;
use muster_ports::{Failure, Result};
use muster_runsheet::{Broken, Estate, Inventory, Kind, Runsheet};
use std::time::Duration;

/// How long the sites may take to say what they have. In a disaster nobody waits for them.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const ANSWER_LIMIT_UNPLANNED: Duration = Duration::from_secs(2);

/// Refuses a drill or an orderly move whose sheet is stale, and warns before anything else.
pub async fn check(common: &Common, sheet: &Runsheet) -> Result<()> {
    if let Some(hook) = sheet.tampered_hooks().first() {
        return Err(Failure::refused(format!(
            "hook `{hook}` of the sheet is not the text it was approved with (E0905)"
        ))
        .help("somebody has edited the file by hand: write it anew with `muster dry-run … -o FILE`, and review it"));
    }
    let mut broken = by_the_plans(common, sheet);
    for found in by_the_sites(common, sheet).await? {
        if broken.iter().all(|known| known.about != found.about) {
            broken.push(found);
        }
    }
    let Some(first) = broken.first() else { return Ok(()) };
    let code = if broken.iter().all(Broken::is_hook) { "E0905" } else { "E0903" };
    if !matches!(sheet.operation.kind, Kind::Test | Kind::Planned) {
        for one in &broken {
            output::say(format!("\x1b[33mwarning\x1b[0m: this sheet is stale ({code}): {}", one.words()));
        }
        return Ok(());
    }
    for one in broken.iter().skip(1) {
        output::say(format!("this sheet is stale: {}", one.words()));
    }
    Err(Failure::refused(format!("this sheet is stale ({code}): {}", first.words())).help(format!(
        "write it anew with `muster dry-run {} {} -o FILE`; `muster diff FILE` shows what changes",
        sheet.plan,
        sheet.operation.kind.word()
    )))
}

/// What the plans of the folder would take for granted now; nothing when there are none, or they have errors.
fn by_the_plans(common: &Common, sheet: &Runsheet) -> Vec<Broken> {
    let Ok(project) = Project::load(&common.plans) else {
        output::say("the plans are not here: the sheet is not compared with them");
        return Vec::new();
    };
    if sheet.operation.kind == Kind::Cleanup {
        return Vec::new();
    }
    let options = CompileOptions::default();
    match project.checked.compile(sheet.plan.as_str(), sheet.operation, options) {
        Ok(now) => sheet.broken_by(&now.assumptions),
        Err(_) => {
            output::say("the plans here do not compile: the sheet is not compared with them");
            Vec::new()
        }
    }
}

/// What the sites that answer say of the machines at home there.
async fn by_the_sites(common: &Common, sheet: &Runsheet) -> Result<Vec<Broken>> {
    let limit = if sheet.operation.kind == Kind::Unplanned { ANSWER_LIMIT_UNPLANNED } else { ANSWER_LIMIT };
    let estate = Estate { sites: sheet.sites.clone(), ..Estate::default() };
    let now = drift::ask(common, &estate, limit).await?;
    let mut found = sheet.broken_by(&as_found(sheet, &now).taken_for_granted());
    // Only machines were asked for.
    found.retain(|broken| broken.about.starts_with("machine:"));
    Ok(found)
}

/// The sheet with its machines as their home sites have them; those that are gone are left out.
fn as_found(sheet: &Runsheet, now: &Inventory) -> Runsheet {
    let mut fresh = sheet.clone();
    fresh.machines.retain(|name, machine| {
        let Some(site) = now.sites.get(&machine.home) else { return true };
        let found = site.machines.iter().find(|facts| facts.name.as_str() == machine.called(name)).cloned();
        let there = found.is_some();
        if let Some(facts) = found {
            machine.facts = facts;
        }
        there
    });
    fresh
}
