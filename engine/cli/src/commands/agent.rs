//! `agent`: the process beside a site's machines.

use crate::arguments::{Common, ProviderWord};
use crate::exit::Exit;
use muster_ports::{Clock, Provider, Result, SiteName, SystemClock, SystemRandom};
use muster_provider_qemu::Watchdog;
use std::path::PathBuf;
use std::sync::Arc;

/// The command that the agent starts for every cut that makes guests wait: `Command::CutWatchdog`.
const WATCHDOG: &str = "cut-watchdog";

/// Lets guests go when the agent that started it cannot.
pub async fn cut_watchdog() -> Result<Exit> {
    muster_provider_qemu::keep_watch().await?;
    Ok(Exit::Done)
}

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
        ProviderWord::Qemu => {
            let watchdog = Watchdog::this_program(&[WATCHDOG]);
            muster_provider_qemu::QemuProvider::open(site.clone(), folder.clone(), clock, watchdog)?
        }
        ProviderWord::Simulated => {
            let random = Arc::new(SystemRandom);
            Arc::new(muster_provider_simulated::SimulatedProvider::open(site.clone(), &folder, clock, random)?)
        }
    };
    let options = muster_agent::AgentOptions {
        site,
        folder,
        listen,
        certificates: common.certificates.clone(),
        key: common.key()?,
    };
    muster_agent::run_agent(provider, options).await?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    #[test]
    fn the_agent_and_the_command_line_mean_the_same_watchdog() {
        let arguments = Arguments::try_parse_from(["muster", WATCHDOG]).unwrap();
        assert!(matches!(arguments.command, Command::CutWatchdog));
    }
}
