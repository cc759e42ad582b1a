//! `drift`: whether the sites are still what the plans were compiled against. For a nightly job.

use super::plans;
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use muster_agent::RemoteSite;
use muster_control::{INVENTORY_FILE, Project};
use muster_forecast::{Drift, drift as compare};
use muster_ports::{Clock, Failure, FailureClass, Result, Site, SystemClock};
use muster_runsheet::{Estate, Inventory, SiteInventory};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Version of the JSON of this command.
const FORMAT: &str = "muster.drift/1";
/// How long a site may take to say what it has, before it counts as silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

#[derive(Serialize)]
struct Answer {
    format: &'static str,
    drift: Vec<Drift>,
}

/// Ends with 1 when anything drifted, a site that does not answer included.
pub async fn drift(common: &Common, given: Option<&Path>) -> Result<Exit> {
    let project = match plans::load(common)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    let before = known(&project)?;
    let now = match given {
        Some(file) => read(file)?,
        None => ask(common, &project.checked.estate, ANSWER_LIMIT).await?,
    };
    let found = compare(&project.checked.estate, &before, &now);
    let exit = if found.is_empty() { Exit::Done } else { Exit::Failed };
    if common.json {
        output::json(&Answer { format: FORMAT, drift: found });
        return Ok(exit);
    }
    for one in &found {
        output::data(one.words());
    }
    match found.len() {
        0 => output::say("no drift: the sites are what the plans were compiled against"),
        _ => output::say(format!(
            "{} drifted; `muster inventory pull`, then `muster check`, tells what that means for the plans",
            found.len()
        )),
    }
    Ok(exit)
}

/// The inventory beside the plans; an empty one where all machines are declared in the text.
fn known(project: &Project) -> Result<Inventory> {
    let path = project.folder.join(INVENTORY_FILE);
    if path.exists() { read(&path) } else { Ok(Inventory::default()) }
}

fn read(path: &Path) -> Result<Inventory> {
    let during = || format!("read `{}`", path.display());
    let bytes = std::fs::read(path).map_err(|error| Failure::from(error).during(during()))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::permanent(format!("`{}` is no inventory: {error}", path.display()))
            .help("`muster inventory pull` writes one")
    })
}

/// What the sites have now, all asked at once; those that do not answer in time are missing.
pub async fn ask(common: &Common, estate: &Estate, limit: Duration) -> Result<Inventory> {
    let caller = common.caller()?;
    let mut asked = Vec::new();
    for (name, sheet) in &estate.sites {
        let site = RemoteSite::new(name.clone(), sheet.agent.clone()).called_as(caller.clone());
        let name = name.clone();
        asked.push(tokio::spawn(async move {
            let both = async { Ok::<_, Failure>((site.facts().await?, site.inventory().await?)) };
            match tokio::time::timeout(limit, both).await {
                Ok(Ok((facts, machines))) => Some((name, facts, machines)),
                Ok(Err(failure)) => {
                    // A site that is down is drift; certificates that are not there are not.
                    if failure.class != FailureClass::Transient {
                        output::failure(&failure);
                    }
                    tracing::debug!(site = %name, %failure, "the site does not answer");
                    None
                }
                Err(_) => None,
            }
        }));
    }
    let mut sites = BTreeMap::new();
    for answer in asked {
        let Ok(Some((name, facts, machines))) = answer.await else { continue };
        let site = SiteInventory {
            pulled_at: SystemClock.now().0,
            provider: facts.provider,
            capabilities: facts.capabilities,
            machines,
            aliases: BTreeMap::new(),
        };
        sites.insert(name, site);
    }
    Ok(Inventory { sites, ..Inventory::default() })
}
