//! The smallest agent of a site: makes one cut, or boots one machine, and ends. With it both can be tried by hand, and
//! disturbed by tests.
//!
//! ```text
//!   qemu-site cut SITE FOLDER < ORDER.json    the report goes to stdout
//!   qemu-site boot SITE FOLDER MACHINE        until its guest agent answers; how machines run here goes to stdout
//!   qemu-site watch                           what the above starts beside itself
//! ```

use muster_ports::{Clock, CutOrder, Failure, InstanceName, Provider, Result, SiteName, SystemClock};
use muster_provider_qemu::{QemuProvider, Watchdog, keep_watch};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// An emulated machine on a loaded host; alone it takes five seconds.
const BOOT: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["watch"] => keep_watch().await,
        ["cut", site, folder] => cut(SiteName::new(site), PathBuf::from(folder)).await,
        ["boot", site, folder, machine] => boot(SiteName::new(site), PathBuf::from(folder), machine).await,
        _ => {
            Err(Failure::permanent("use it as `qemu-site cut SITE FOLDER < ORDER.json` or `boot SITE FOLDER MACHINE`"))
        }
    }
}

async fn cut(site: SiteName, folder: PathBuf) -> Result<()> {
    let order: CutOrder = serde_json::from_reader(std::io::stdin())
        .map_err(|error| Failure::permanent(format!("the order does not read: {error}")))?;
    let provider = QemuProvider::open(site, folder, Arc::new(SystemClock), Watchdog::this_program(&["watch"]))?;
    let report = provider.cut(&order).await?;
    let report = serde_json::to_string_pretty(&report).map_err(|error| Failure::permanent(error.to_string()))?;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

async fn boot(site: SiteName, folder: PathBuf, machine: &str) -> Result<()> {
    let provider = QemuProvider::open(site, folder, Arc::new(SystemClock), Watchdog::this_program(&["watch"]))?;
    let instance = InstanceName::new(machine);
    provider.start(&instance).await?;
    let deadline = SystemClock.now().plus(BOOT);
    while let Err(failure) = provider.guest_ping(&instance).await {
        if SystemClock.now() >= deadline {
            return Err(failure.during(format!("`{machine}` has not booted within {} s", BOOT.as_secs())));
        }
        SystemClock.sleep(Duration::from_millis(200)).await;
    }
    writeln!(std::io::stdout(), "{}", provider.facts().await?.detail)?;
    Ok(())
}
