//! The agent as a process.

use crate::epochs::Epochs;
use crate::limits::*;
use crate::local::LocalSite;
use crate::server::serve_until;
use crate::wire::refuse_open_address;
use muster_ports::*;
use muster_tls::TlsAcceptor;
use muster_vault::KeySource;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, lookup_host};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// How one site's agent is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOptions {
    pub site: SiteName,
    /// The site's folder, shared with its provider; made if it is not there. Short, for the sockets in it.
    pub folder: PathBuf,
    /// Where to listen, `host:port`. Without certificates a loopback address.
    pub listen: String,
    /// Who this side is, and whom it believes: a folder as `muster_tls` reads it.
    pub certificates: Option<PathBuf>,
    /// What opens the vaults. Read when a vault is first needed.
    pub key: KeySource,
}

/// Serves the site until SIGINT or SIGTERM. Prints nothing; tells `tracing` what happens. Nothing is started by itself:
/// machines stay as they are when the agent comes and goes.
pub async fn run_agent(provider: Arc<dyn Provider>, options: AgentOptions) -> Result<()> {
    let AgentOptions { site: name, folder, listen, certificates, key } = options;
    let what = format!("start the agent of site `{name}`");
    let acceptor =
        certificates.as_deref().map(muster_tls::acceptor).transpose().map_err(|failure| failure.during(&what))?;
    let addresses = addresses(&listen, acceptor.as_ref()).await.map_err(|failure| failure.during(&what))?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::from(error).during(format!("{what}: make `{}`", folder.display())))?;
    let epochs = Epochs::open(&folder).map_err(|failure| failure.during(&what))?;
    let site = Arc::new(LocalSite::new(provider, name.clone(), folder, key, &SystemRandom));
    // Before the port opens, so that two agents never share a folder.
    let failures = site.resume().await.map_err(|failure| failure.during(&what))?;
    let listener = TcpListener::bind(&addresses[..])
        .await
        .map_err(|error| Failure::from(error).during(format!("{what}: listen on {listen}")))?;
    tracing::info!(site = %name, %listen, "the site agent serves");
    let resuming = tokio::spawn(keep_resuming(site.clone(), failures));
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("the site agent stops");
    };
    let served = serve_until(listener, acceptor, name, site, epochs, stop).await;
    resuming.abort();
    served
}

/// What to listen on, none of it open to everybody.
async fn addresses(listen: &str, acceptor: Option<&TlsAcceptor>) -> Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = lookup_host(listen)
        .await
        .map_err(|error| {
            Failure::permanent(format!("`{listen}` is no address to listen on: {error}"))
                .help("give it as host and port, for example `127.0.0.1:7300`")
        })?
        .collect();
    for address in &found {
        refuse_open_address(*address, acceptor)?;
    }
    Ok(found)
}

/// Tries again until every tied instance is served: a vault may come back later than its site.
async fn keep_resuming(site: Arc<LocalSite>, mut failures: Vec<Failure>) {
    let mut told = None;
    while !failures.is_empty() {
        if told.as_ref() != Some(&failures) {
            for failure in &failures {
                tracing::warn!(%failure, "machines landed here cannot reach their replica");
            }
            told = Some(failures);
        }
        sleep(RESUME_EVERY).await;
        failures = site.resume().await.unwrap_or_else(|failure| vec![failure]);
    }
}
