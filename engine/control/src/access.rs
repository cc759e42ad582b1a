//! How a command gets at a vault: through its holder on this host, by becoming the holder, or by only reading.

use crate::answers::StatusAnswer;
use crate::dossier;
use crate::history::evidence;
use crate::repoint;
use crate::request::{Event, Request, Sink};
use crate::service::{self, Control, Parts};
use crate::sites::Sites;
use crate::socket::{self, CallError, Client};
use crate::upkeep::STATE;
use muster_agent::Token;
use muster_executor::TakenOver;
use muster_journal::{Owner, Signed, SlateReader, SlateStore, TakeOver};
use muster_ports::*;
use muster_replication::Replicator;
use muster_runsheet::{Estate, SiteSheet};
use muster_tls::Caller;
use muster_vault::{KeySource, Vault};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Which vault, with which key, for what.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// URL.
    pub vault: String,
    /// What opens it.
    pub key: KeySource,
    /// From the plans; the vault's own record of the estate adds to them.
    pub sites: BTreeMap<SiteName, SiteSheet>,
    /// Who this side is to the agents of the sites; without it only those on this machine are called.
    pub caller: Option<Caller>,
    /// Shown to whoever finds the vault in use.
    pub purpose: String,
    /// Become the writer although another one seems alive.
    pub steal: bool,
}

/// A vault within reach.
#[derive(Debug)]
pub enum Access {
    /// Another process on this host holds it and does the work.
    Remote(Box<Remote>),
    /// This process holds it.
    Local(Box<Holder>),
    /// Nobody on this host holds it, and it is only read.
    Reader(Box<Reader>),
}

#[derive(Debug)]
pub struct Remote {
    client: Client,
    /// To look for the next holder when this one ends before it takes a request.
    options: OpenOptions,
    reading: bool,
}

#[derive(Debug)]
pub struct Holder {
    control: Arc<Control>,
    store: Arc<SlateStore>,
    socket: PathBuf,
    server: JoinHandle<()>,
    /// Held as long as this process is the holder.
    _seat: Option<File>,
}

/// How long a command waits for another one on this host that is just becoming the holder, or just ending.
const SEAT_LIMIT: Duration = Duration::from_secs(15);
const SEAT_LOOK: Duration = Duration::from_millis(50);

enum Seat {
    /// Another process on this host is the holder and answers.
    Taken(Client),
    /// This process may become it. `None` when the lock of another one was passed over (`--steal`, or it hangs: the
    /// lease in the vault then has the last word).
    Mine(Option<File>),
}

/// Two commands that start at the same moment on one host must not fence each other: a file lock beside the socket
/// lets one open the vault, and the other finds its socket.
async fn take_seat(socket: &Path, steal: bool, clock: &dyn Clock) -> Result<Seat> {
    let path = socket.with_extension("lock");
    let file =
        File::create(&path).map_err(|error| Failure::from(error).during(format!("open `{}`", path.display())))?;
    let give_up = clock.now().plus(SEAT_LIMIT);
    loop {
        if !steal && let Some(client) = socket::connect(socket).await {
            return Ok(Seat::Taken(client));
        }
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(Seat::Mine(Some(file)));
        }
        if steal || clock.now() >= give_up {
            return Ok(Seat::Mine(None));
        }
        clock.sleep(SEAT_LOOK).await;
    }
}

#[derive(Debug)]
pub struct Reader {
    store: Arc<dyn StateStore>,
    replicator: Replicator,
    slate: Arc<SlateReader>,
    clock: Arc<dyn Clock>,
}

impl Access {
    /// The holder on this host when there is one; else this process becomes the holder.
    pub async fn for_writing(options: OpenOptions) -> Result<Self> {
        let socket = socket::socket_path(&options.vault)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let seat = match take_seat(&socket, options.steal, clock.as_ref()).await? {
            Seat::Taken(client) => return Ok(Self::Remote(Box::new(Remote { client, options, reading: false }))),
            Seat::Mine(lock) => lock,
        };
        let vault = open_vault(&options).await?;
        let owner = Owner::this_process(&options.purpose);
        let name = owner.to_string();
        let take_over = if options.steal { TakeOver::Steal } else { TakeOver::WhenStale };
        let prefix = state_prefix(&vault);
        let store = Arc::new(SlateStore::open(vault.control_store(), &prefix, owner, take_over, clock.clone()).await?);
        let sites = all_sites(store.as_ref(), &options).await?;
        let writer = Token { vault: vault.id().to_string(), epoch: store.epoch() };
        let control = Control::new(Parts {
            name,
            vault_url: vault.url().to_owned(),
            store: store.clone(),
            sites: Sites::behind_agents(&sites, options.caller.as_ref(), &writer),
            clock,
            random: Arc::new(SystemRandom),
        });
        control.fold_with(Arc::new(vault.clone()));
        let serving = socket::serve(control.clone(), socket.clone());
        let server = tokio::spawn(async move {
            if let Err(failure) = serving.await {
                tracing::warn!(%failure, "other commands on this host cannot reach this process");
            }
        });
        Ok(Self::Local(Box::new(Holder { control, store, socket, server, _seat: seat })))
    }

    /// The holder on this host when there is one; else a reader that disturbs nobody.
    pub async fn for_reading(options: OpenOptions) -> Result<Self> {
        let socket = socket::socket_path(&options.vault)?;
        if let Some(client) = socket::connect(&socket).await {
            return Ok(Self::Remote(Box::new(Remote { client, options, reading: true })));
        }
        let vault = open_vault(&options).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let slate = Arc::new(SlateStore::open_reader(vault.control_store(), &state_prefix(&vault)).await?);
        let store: Arc<dyn StateStore> = slate.clone();
        let sites = BTreeMap::new();
        let url = vault.url().to_owned();
        let replicator = Replicator::new(store.clone(), sites, url, clock.clone(), Arc::new(SystemRandom));
        Ok(Self::Reader(Box::new(Reader { store, replicator, slate, clock })))
    }

    pub async fn call(&self, request: &Request, sink: Arc<dyn Sink>) -> Result<Value> {
        match self {
            Self::Remote(remote) => remote.call(request, sink).await,
            Self::Local(holder) => holder.control.handle(request.clone(), sink).await,
            Self::Reader(reader) => reader.answer(request).await,
        }
    }

    /// Who seemed alive and was pushed aside when this process became the holder.
    pub fn pushed_aside(&self) -> Option<String> {
        match self {
            Self::Local(holder) => holder.store.replaced().map(|lease| lease.owner.to_string()),
            Self::Remote(_) | Self::Reader(_) => None,
        }
    }

    /// Records who had this process push another one aside, and why; every run taken up from that one says it too.
    pub async fn took_over(&self, by: Signed) -> Result<()> {
        let Self::Local(holder) = self else { return Ok(()) };
        let Some(lease) = holder.store.replaced() else { return Ok(()) };
        let taken = TakenOver { from: lease.owner.to_string(), epoch: lease.epoch, by };
        holder.control.took_over(taken).await
    }

    /// Runs the replication schedule in this process; another holder does so anyway.
    pub fn keep_replicating(&self) {
        if let Self::Local(holder) = self {
            holder.control.keep_replicating();
        }
    }

    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    /// Why this process had to stop being the holder, if it had to.
    pub fn lost(&self) -> Option<Failure> {
        match self {
            Self::Local(holder) => holder.control.lost(),
            Self::Remote(_) | Self::Reader(_) => None,
        }
    }

    /// Gives the vault back, once no other command works through this process.
    pub async fn close(self) {
        match self {
            Self::Remote(_) => {}
            Self::Local(holder) => {
                if !holder.store.is_fenced() {
                    holder.control.quiet().await;
                }
                holder.control.stop();
                holder.server.abort();
                // It may learn only now that it was fenced.
                let closed = holder.store.close().await;
                if holder.store.is_fenced() {
                    // Socket and lease are another one's already.
                    return;
                }
                // The next holder makes a socket of its own.
                let _ = std::fs::remove_file(&holder.socket);
                if let Err(error) = closed {
                    tracing::warn!(%error, "the vault could not be given back in good order; its lease runs out by itself");
                }
            }
            Self::Reader(reader) => reader.slate.close().await,
        }
    }
}

impl Remote {
    async fn call(&self, request: &Request, sink: Arc<dyn Sink>) -> Result<Value> {
        let tell = |event: Event| sink.tell(event);
        match self.client.call(request, &tell).await {
            Ok(answer) => Ok(answer),
            Err(CallError::Failed(failure)) => Err(failure),
            Err(CallError::NotTaken) => {
                let options = self.options.clone();
                let again = if self.reading {
                    Access::for_reading(options).await?
                } else {
                    Access::for_writing(options).await?
                };
                let answer = Box::pin(again.call(request, sink.clone())).await;
                again.close().await;
                answer
            }
        }
    }
}

impl Reader {
    async fn answer(&self, request: &Request) -> Result<Value> {
        match request {
            Request::Status => {
                let mut status: StatusAnswer = service::status(&self.store, &self.replicator).await?;
                let lease = self.slate.lease().await?;
                status.holder =
                    lease.filter(|lease| lease.is_alive(self.clock.now())).map(|lease| lease.owner.to_string());
                service::answer(&status)
            }
            Request::Points { group } => service::answer(&service::points(&self.replicator, group.clone()).await?),
            Request::RepointSheet { plan, point } => {
                service::answer(&repoint::planned(&self.store, &self.replicator, plan, point).await?)
            }
            Request::CleanupSheet { plan } => service::answer(&service::cleanup_sheet(&self.store, plan).await?),
            Request::Image { point, machine } => {
                service::answer(&service::image(&self.replicator, point, machine).await?)
            }
            Request::Runs => service::answer(&service::newest_first(&self.store).await?),
            Request::Evidence { plan } => {
                let now = self.clock.now();
                service::answer(&evidence(&self.store, &self.replicator, plan, now).await?)
            }
            Request::Log { run, after } => service::answer(&service::log(&self.store, run.clone(), *after).await?),
            Request::Dossier { run } => {
                service::answer(&dossier::dossier(&self.store, &self.replicator, run.clone()).await?)
            }
            Request::Catalogue => service::answer(&dossier::catalogue(&self.store).await?),
            other => Err(Failure::permanent(format!("{other:?} cannot be answered by a reader of the vault"))),
        }
    }
}

fn state_prefix(vault: &Vault) -> String {
    vault.prefix().clone().join(STATE).to_string()
}

async fn open_vault(options: &OpenOptions) -> Result<Vault> {
    Ok(Vault::open(&options.vault, &options.key).await?)
}

/// The plans' sites, and those the vault remembers: with the plans gone, a run still finds its way.
async fn all_sites(store: &dyn StateStore, options: &OpenOptions) -> Result<BTreeMap<SiteName, SiteSheet>> {
    let mut sites = BTreeMap::new();
    if let Some(bytes) = store.get("estate").await? {
        let estate: Estate = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::diverged(format!("the vault's record of the estate does not read back: {error}"))
        })?;
        sites = estate.sites;
    }
    sites.extend(options.sites.clone());
    Ok(sites)
}
