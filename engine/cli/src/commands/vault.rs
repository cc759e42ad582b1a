//! `vault init|info` and `inventory pull`.

use super::open;
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use muster_control::{INVENTORY_FILE, Project, Request, StatusAnswer, write_inventory};
use muster_ports::{Clock, Failure, Result, Site, SystemClock, SystemRandom};
use muster_runsheet::SiteInventory;
use muster_vault::{KeySource, Vault};

pub async fn init(common: &Common) -> Result<Exit> {
    let project = Project::load(&common.plans).ok();
    let url = open::vault_url(common, project.as_ref())?;
    let key = common.key()?;
    if let KeySource::File(path) = &key
        && !path.exists()
    {
        KeySource::generate_file(path, &SystemRandom)?;
        output::say(format!("key file made: {}", path.display()));
    }
    let vault = Vault::init(&url, &key, &SystemRandom).await?;
    output::say(format!("vault {} made at {url}", vault.id()));
    output::say(format!("keep copies of the key {key} away from here: whoever loses every key loses the vault"));
    Ok(Exit::Done)
}

pub async fn info(common: &Common) -> Result<Exit> {
    let project = Project::load(&common.plans).ok();
    let url = open::vault_url(common, project.as_ref())?;
    let vault = Vault::open(&url, &common.key()?).await?;
    let facts = vault.info().await?;
    let segments = vault.segments().await?;
    let lock = vault.place().bucket_lock().await.map(|lock| lock.to_string());
    let stored: u64 = segments.iter().map(|segment| segment.stored_bytes).sum();
    let access = open::reading(common, project.as_ref()).await?;
    let status: StatusAnswer = access.ask(&Request::Status, common).await?;
    access.close().await;
    if common.json {
        output::json(&serde_json::json!({
            "url": facts.url, "id": facts.id, "format": facts.format, "keys": facts.slots.len(), "segments": segments.len(), "stored_bytes": stored,
            "groups": status.groups, "holder": status.holder, "bucket_lock": lock,
        }));
        return Ok(Exit::Done);
    }
    output::data(format!(
        "vault     {}\nurl       {}\nformat    {}\nkeys      {}\nsegments  {}\nstored    {}\ngroups    {}\nheld by   {}\nlock      {}\n",
        facts.id,
        facts.url,
        facts.format,
        facts.slots.len(),
        segments.len(),
        output::bytes(stored),
        status.groups.len(),
        status.holder.as_deref().unwrap_or("nobody"),
        lock.as_deref().unwrap_or("the store cannot be asked"),
    ));
    Ok(Exit::Done)
}

/// Asks every site. One that does not answer is named, and its old entry stays.
pub async fn pull_inventory(common: &Common) -> Result<Exit> {
    let project = Project::load(&common.plans)?;
    let sites = &project.checked.estate.sites;
    if sites.is_empty() {
        return Err(Failure::permanent("the plans declare no site").help("see `site` in the book, or `muster check`"));
    }
    let caller = common.caller()?;
    let mut pulled = Vec::new();
    let mut silent = None;
    for (name, sheet) in sites {
        let site = muster_agent::RemoteSite::new(name.clone(), sheet.agent.clone()).called_as(caller.clone());
        let asked = async { Ok::<_, Failure>((site.facts().await?, site.inventory().await?)) };
        match asked.await {
            Ok((facts, machines)) => {
                output::say(format!("{name}: {} machines, {}", machines.len(), facts.detail));
                let entry = SiteInventory {
                    pulled_at: SystemClock.now().0,
                    provider: facts.provider,
                    capabilities: facts.capabilities,
                    machines,
                    aliases: Default::default(),
                };
                pulled.push((name.clone(), entry));
            }
            Err(failure) => {
                output::failure(&failure);
                silent = Some(failure);
            }
        }
    }
    let path = write_inventory(&common.plans, pulled)?;
    output::say(format!("written: {}", path.display()));
    match silent {
        Some(failure) => Err(failure.help(format!("what other sites said is in {INVENTORY_FILE}"))),
        None => Ok(Exit::Done),
    }
}
