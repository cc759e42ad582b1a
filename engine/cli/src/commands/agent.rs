//! `agent`: the process beside a site's machines.

use crate::arguments::{Common, ProviderWord};
use crate::exit::Exit;
use muster_ports::{Clock, Provider, Result, SiteName, SystemClock, SystemRandom};
use std::path::PathBuf;
use std::sync::Arc;

pub async fn agent(
    common: &Common,
    provider: ProviderWord,
    site: String,
    folder: PathBuf,
    listen: String,
) -> Result<Exit> {
    let site = SiteName::new(site);
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let provider: Arc<dyn Provider> = match provider {
        ProviderWord::Qemu => muster_provider_qemu::QemuProvider::open(site.clone(), folder.clone(), clock)?,
        ProviderWord::Simulated => {
            let random = Arc::new(SystemRandom);
            Arc::new(muster_provider_simulated::SimulatedProvider::open(site.clone(), &folder, clock, random)?)
        }
    };
    let options = muster_agent::AgentOptions { site, folder, listen, key_file: common.key_file.clone() };
    muster_agent::run_agent(provider, options).await?;
    Ok(Exit::Done)
}
