//! The smallest agent of a site: makes one cut and ends. With it a cut can be tried by hand, and killed by tests.
//!
//! ```text
//!   qemu-site cut SITE FOLDER < ORDER.json    the report goes to stdout
//!   qemu-site watch                           what the above starts beside itself
//! ```

use muster_ports::{CutOrder, Failure, Provider, Result, SiteName, SystemClock};
use muster_provider_qemu::{QemuProvider, Watchdog, keep_watch};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["watch"] => keep_watch().await,
        ["cut", site, folder] => cut(SiteName::new(site), PathBuf::from(folder)).await,
        _ => Err(Failure::permanent("use it as `qemu-site cut SITE FOLDER < ORDER.json`")),
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
