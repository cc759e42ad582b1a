//! `machines` and `power`: what runs where, and the switch a person may need when nothing else is left.

use crate::arguments::{Common, PowerWord};
use crate::exit::Exit;
use crate::output;
use muster_agent::RemoteSite;
use muster_control::Project;
use muster_ports::{Failure, InstanceName, InstanceState, NetworkScope, Power, Result, Site, SiteName, StopMode};
use std::time::Duration;

/// How long an orderly shutdown may take before a person is asked to decide.
const ORDERLY_LIMIT: Duration = Duration::from_secs(120);

#[derive(serde::Serialize)]
struct Answer {
    instances: Vec<(SiteName, InstanceState)>,
    /// Sites that do not answer.
    silent: Vec<SiteName>,
}

/// Every instance at every site, clones of drills included.
pub async fn machines(common: &Common) -> Result<Exit> {
    let project = Project::load(&common.plans)?;
    let caller = common.caller()?;
    let mut answer = Answer { instances: Vec::new(), silent: Vec::new() };
    for (name, sheet) in &project.checked.estate.sites {
        match RemoteSite::new(name.clone(), sheet.agent.clone()).called_as(caller.clone()).instances().await {
            Ok(instances) => answer.instances.extend(instances.into_iter().map(|found| (name.clone(), found))),
            Err(failure) => {
                output::say(&failure.message);
                answer.silent.push(name.clone());
            }
        }
    }
    if common.json {
        output::json(&answer);
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = answer.instances.iter().map(|(site, state)| row(site, state)).collect();
    output::data(output::table(&["site", "instance", "power", "network", "addresses", ""], &rows));
    Ok(Exit::Done)
}

fn row(site: &SiteName, state: &InstanceState) -> Vec<String> {
    let addresses: Vec<String> = state.nics.iter().filter_map(|nic| nic.ip).map(|ip| ip.to_string()).collect();
    let mut marks = Vec::new();
    if state.fenced {
        marks.push("fenced");
    }
    if state.tied {
        marks.push("still reads from the vault");
    }
    vec![
        site.to_string(),
        state.instance.to_string(),
        if state.power == Power::On { "on" } else { "off" }.to_owned(),
        match &state.scope {
            NetworkScope::Live => "live".to_owned(),
            NetworkScope::Bubble { bubble } => format!("bubble {bubble}"),
        },
        addresses.join(" "),
        marks.join(", "),
    ]
}

/// Switches one machine on, or asks it to shut down. A fenced machine stays off: that is what the fence is for.
pub async fn power(common: &Common, word: PowerWord, site: String, machine: String) -> Result<Exit> {
    let project = Project::load(&common.plans)?;
    let sites = &project.checked.estate.sites;
    let name = SiteName::new(site);
    let Some(sheet) = sites.get(&name) else {
        let known: Vec<&str> = sites.keys().map(|site| site.as_str()).collect();
        return Err(Failure::permanent(format!("there is no site `{name}` in the plans"))
            .help(format!("the sites there: {}", known.join(", "))));
    };
    let site = RemoteSite::new(name, sheet.agent.clone()).called_as(common.caller()?);
    let instance = InstanceName::new(machine);
    match word {
        PowerWord::On => site.start(&instance).await?,
        PowerWord::Off => site.stop(&instance, StopMode::Orderly { within: ORDERLY_LIMIT }).await?,
    }
    Ok(Exit::Done)
}
