//! How a command gets at the vault: through the process that holds it, or by holding it itself.

use crate::arguments::{Common, RunOptions, Signature};
use crate::output::{self, Watcher};
use muster_control::{Access, OpenOptions, Project, Request};
use muster_journal::Signed;
use muster_ports::{Failure, Result, SiteName};
use muster_runsheet::{Runsheet, SiteSheet};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A vault within reach.
#[derive(Debug)]
pub struct Opened(Access);

impl Opened {
    /// Sends a request, shows its events, and reads the answer.
    pub async fn ask<T: DeserializeOwned>(&self, request: &Request, common: &Common) -> Result<T> {
        let watcher = Arc::new(Watcher::new(common));
        let tell = {
            let watcher = watcher.clone();
            move |event| watcher.tell(event)
        };
        let answer = self.0.call(request, Arc::new(tell)).await?;
        serde_json::from_value(answer)
            .map_err(|error| Failure::diverged(format!("the answer of the vault's holder is not understood: {error}")))
    }
    pub fn access(&self) -> &Access {
        &self.0
    }
    pub async fn close(self) {
        self.0.close().await;
    }
}

/// For looking: never takes the vault away from anybody.
pub async fn reading(common: &Common, project: Option<&Project>) -> Result<Opened> {
    let (vault, sites) = vault_and_sites(common, project)?;
    Access::for_reading(options(common, vault, sites, "look", false)?).await.map(Opened)
}

/// For working. With no project loaded yet, the plans of the folder say where the vault is, unless `--vault` does.
pub async fn writing(common: &Common, project: Option<&Project>, purpose: &str, run: &RunOptions) -> Result<Opened> {
    let (vault, sites) = vault_and_sites(common, project)?;
    hold(common, options(common, vault, sites, purpose, run.steal)?, &run.signature).await
}

/// For running a sheet: it names vault and sites itself.
pub async fn writing_sheet(
    common: &Common,
    project: Option<&Project>,
    sheet: &Runsheet,
    purpose: &str,
    run: &RunOptions,
) -> Result<Opened> {
    let vault = common.vault.clone().unwrap_or_else(|| sheet.vault.clone());
    let mut sites = project.map(|project| project.checked.estate.sites.clone()).unwrap_or_default();
    sites.extend(sheet.sites.clone());
    hold(common, options(common, vault, sites, purpose, run.steal)?, &run.signature).await
}

/// Opens for working. Whoever pushes another muster aside says who they are and why, before anything happens.
async fn hold(common: &Common, mut options: OpenOptions, signature: &Signature) -> Result<Opened> {
    // Only here: whoever just looks calls no site, and must not be stopped by a bad certificate.
    options.caller = common.caller()?;
    let steal = options.steal;
    let named = signature.who.as_ref().is_some_and(|who| !who.trim().is_empty());
    if steal && (!named || signature.why.trim().is_empty()) {
        return Err(Failure::refused("`--steal` asks for a name and a reason").help(
            "say `--steal --by NAME --why TEXT`: the other muster is pushed aside, and the journal tells by whom",
        ));
    }
    let access = Access::for_writing(options).await?;
    if let Some(other) = access.pushed_aside() {
        output::say(format!("taken over from {other}, which can write nothing more"));
        access.took_over(Signed { who: who(signature), why: signature.why.clone() }).await?;
    }
    Ok(Opened(access))
}

fn options(
    common: &Common,
    vault: String,
    sites: BTreeMap<SiteName, SiteSheet>,
    purpose: &str,
    steal: bool,
) -> Result<OpenOptions> {
    Ok(OpenOptions { vault, key: common.key()?, sites, caller: None, purpose: purpose.to_owned(), steal })
}

/// The one vault the plans name, and their sites. With `--vault` the plans may be missing altogether: the vault's own
/// record of the estate then names the sites.
fn vault_and_sites(common: &Common, project: Option<&Project>) -> Result<(String, BTreeMap<SiteName, SiteSheet>)> {
    let loaded;
    let project = match project {
        Some(project) => Some(project),
        None => {
            loaded = Project::load(&common.plans);
            match (&loaded, &common.vault) {
                (Ok(project), _) => Some(project),
                (Err(_), Some(_)) => None,
                (Err(failure), None) => return Err(failure.clone()),
            }
        }
    };
    let sites = project.map(|project| project.checked.estate.sites.clone()).unwrap_or_default();
    if let Some(vault) = &common.vault {
        return Ok((vault.clone(), sites));
    }
    let mut vaults: Vec<&String> =
        project.iter().flat_map(|project| project.checked.estate.routes.iter().map(|route| &route.vault)).collect();
    vaults.sort();
    vaults.dedup();
    match vaults.as_slice() {
        [vault] => Ok(((*vault).clone(), sites)),
        [] => Err(Failure::permanent("no route of the plans names a vault")
            .help("add `vault = \"file:///...\"` to the route, or say `--vault URL`")),
        several => {
            let list: Vec<&str> = several.iter().map(|vault| vault.as_str()).collect();
            Err(Failure::permanent(format!("the plans name several vaults: {}", list.join(", ")))
                .help("say which one with `--vault URL`"))
        }
    }
}

/// The vault that `--vault` or the plans name.
pub fn vault_url(common: &Common, project: Option<&Project>) -> Result<String> {
    vault_and_sites(common, project).map(|(vault, _)| vault)
}

/// Who is signing: `--by`, or the user of the terminal.
pub fn who(signature: &Signature) -> String {
    let from = |name: &str| std::env::var(name).ok().filter(|name| !name.is_empty());
    signature.who.clone().or_else(|| from("SUDO_USER")).or_else(|| from("USER")).unwrap_or_else(|| "unnamed".to_owned())
}
