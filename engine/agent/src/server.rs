//! A site behind a TCP port.
//!
//! Whoever it lets in commands the site: with certificates whom their authority has signed, without them whoever is on this
//! machine; any address but a loopback one is refused then.

use crate::epochs::{Epochs, Token};
use crate::frame::{self, FrameError};
use crate::limits::*;
use crate::progress::Newest;
use crate::protocol::{Call, FromAgent, PROTOCOL, ToAgent};
use crate::wire::{self, Line};
use bytes::Bytes;
use muster_ports::*;
use muster_tls::TlsAcceptor;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep, timeout};

/// Serves `site` for ever. Fails at once when the address is open to everybody or the site does not know its name. Which
/// writers have been heard is forgotten with the process.
pub async fn serve(listener: TcpListener, site: Arc<dyn Site>) -> Result<()> {
    serve_remembering(listener, site, Epochs::in_memory()).await
}

/// As [`serve`], with a memory of the writers that were heard.
pub async fn serve_remembering(listener: TcpListener, site: Arc<dyn Site>, epochs: Epochs) -> Result<()> {
    let name = site.facts().await?.site;
    serve_until(listener, None, name, site, epochs, std::future::pending()).await
}

/// Serves until `stop` is ready; then hangs up and waits for the effects under way, as long as the drain limit.
pub(crate) async fn serve_until(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    name: SiteName,
    site: Arc<dyn Site>,
    epochs: Epochs,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    wire::refuse_open_address(listener.local_addr()?, acceptor.as_ref())?;
    let calls = Arc::new(Semaphore::new(CALLS_MAX as usize));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let agent = Agent { name, site, epochs: Arc::new(epochs), calls: calls.clone() };
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = next_client(&listener, &room) => {
                let Some((stream, peer, permit)) = accepted else { continue };
                let (agent, acceptor) = (agent.clone(), acceptor.clone());
                connections.spawn(async move {
                    let conversing = async {
                        // Who is slow to say who it is holds nobody up but itself, and not for ever.
                        let line = timeout(CONNECT_LIMIT, wire::answer(stream, acceptor.as_ref())).await;
                        agent.converse(line.map_err(|_| FrameError::Silence)??).await
                    };
                    if let Err(error) = conversing.await {
                        tracing::debug!(%peer, %error, "a client of the site agent has left");
                    }
                    drop(permit);
                });
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
    if timeout(DRAIN_LIMIT, calls.acquire_many(CALLS_MAX)).await.is_err() {
        tracing::warn!("the site agent stops with effects under way; they are taken up again when they are asked for");
    }
    Ok(())
}

async fn next_client(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!(%error, "a client of the site agent could not be accepted");
            // Out of file descriptors: others have to end first, and asking again at once would only burn a core.
            sleep(std::time::Duration::from_millis(100)).await;
            None
        }
    }
}

#[derive(Clone, Debug)]
struct Agent {
    name: SiteName,
    site: Arc<dyn Site>,
    epochs: Arc<Epochs>,
    /// One permit for each call under way, over all connections.
    calls: Arc<Semaphore>,
}

impl Agent {
    async fn converse(&self, line: Line) -> Result<(), FrameError> {
        let (reader, writer) = tokio::io::split(line);
        let mut reader = BufReader::new(reader);
        let (outgoing, queue) = mpsc::channel(QUEUE_MAX);
        let writing = tokio::spawn(frame::write_queue(writer, queue));
        let ended = tokio::select! {
            ended = self.listen(&mut reader, &outgoing) => ended,
            () = beat(&outgoing) => Err(FrameError::Closed),
        };
        if let Err(error @ (FrameError::Malformed(_) | FrameError::TooLong { .. })) = &ended {
            let failure = Failure::permanent(format!("the site agent got {error}"))
                .help("run the same version of muster on both sides");
            send(&outgoing, &FromAgent::Refuse { failure }).await;
        }
        // Calls under way hold the queue open, so that their answers still go out to a client that only closed its half.
        drop(outgoing);
        match &ended {
            Err(FrameError::Closed) | Ok(()) => writing.await.unwrap_or(Ok(()))?,
            Err(_) => {
                // Nobody listens any more: say the last word, if it can be said, and hang up.
                if timeout(WRITE_LIMIT, writing).await.is_err() {
                    return Err(FrameError::Stuck);
                }
            }
        }
        ended
    }

    async fn listen(
        &self,
        reader: &mut (impl tokio::io::AsyncRead + Unpin),
        outgoing: &mpsc::Sender<Bytes>,
    ) -> Result<(), FrameError> {
        let ToAgent::Hello { protocol, site } = frame::read_frame(reader).await? else {
            let failure = Failure::permanent("the first message to a site agent is a greeting");
            send(outgoing, &FromAgent::Refuse { failure }).await;
            return Ok(());
        };
        if let Some(failure) = self.misfit(protocol, &site) {
            send(outgoing, &FromAgent::Refuse { failure }).await;
            return Ok(());
        }
        send(outgoing, &FromAgent::Hello { protocol: PROTOCOL, site: self.name.clone() }).await;
        loop {
            if outgoing.is_closed() {
                return Err(FrameError::Closed);
            }
            match frame::read_frame(reader).await? {
                // Having been heard is all that a ping is for.
                ToAgent::Ping | ToAgent::Hello { .. } => {}
                ToAgent::Call { id, token, call } => self.begin(id, token, *call, outgoing).await,
            }
        }
    }

    fn misfit(&self, protocol: u32, site: &SiteName) -> Option<Failure> {
        if protocol != PROTOCOL {
            let message =
                format!("the agent of site `{}` speaks protocol {PROTOCOL}, the engine {protocol}", self.name);
            return Some(Failure::permanent(message).help("run the same version of muster on both sides"));
        }
        if *site != self.name {
            let message = format!("this is the agent of site `{}`, not of `{site}`", self.name);
            return Some(Failure::permanent(message).help("correct the address of the site's agent in the plans"));
        }
        None
    }

    /// Starts a call in a task of its own, which outlives the connection.
    async fn begin(&self, id: u64, token: Option<Token>, call: Call, outgoing: &mpsc::Sender<Bytes>) {
        let Ok(permit) = self.calls.clone().try_acquire_owned() else {
            let message = format!("the agent of site `{}` is at work on {CALLS_MAX} calls", self.name);
            send(outgoing, &FromAgent::Answer { id, result: Err(Failure::transient(message)) }).await;
            return;
        };
        let (agent, outgoing) = (self.clone(), outgoing.clone());
        tokio::spawn(async move {
            // A task of its own: a provider that panics must not leave the client without an answer.
            let told = outgoing.clone();
            let working = async move {
                if let Some(token) = &token {
                    agent.epochs.admit(&agent.name, token).await?;
                }
                work(id, call, &*agent.site, &told).await
            };
            let result = tokio::spawn(working).await.unwrap_or_else(|_| {
                tracing::error!("a call ended in a panic; this is a bug");
                Err(Failure::diverged("the site agent failed inside; its log says where"))
            });
            send(&outgoing, &FromAgent::Answer { id, result }).await;
            drop(permit);
        });
    }
}

/// Tells the client all along that the agent is there, also while a long message of the client is on its way. Returns
/// when nothing can be sent any more.
async fn beat(outgoing: &mpsc::Sender<Bytes>) {
    let Ok(pong) = frame::encode(&FromAgent::Pong) else { return };
    // Not before the greeting, which is the first thing to be said.
    let mut ticks = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    loop {
        ticks.tick().await;
        match outgoing.try_send(pong.clone()) {
            // With a full queue the client hears enough from this side.
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
    }
}

/// Carries a call out and tells its progress.
async fn work(id: u64, call: Call, site: &dyn Site, outgoing: &mpsc::Sender<Bytes>) -> Result<crate::protocol::Answer> {
    let (newest, mut news) = watch::channel(None);
    let newest = Newest(newest);
    let performing = call.perform(site, &newest);
    tokio::pin!(performing);
    let mut ticks = interval(PROGRESS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let result = tokio::select! {
            result = &mut performing => Some(result),
            _ = ticks.tick() => None,
        };
        if news.has_changed().unwrap_or(false)
            && let Some((done, total)) = *news.borrow_and_update()
            && let Ok(message) = frame::encode(&FromAgent::Progress { id, done, total })
        {
            // Progress is told when there is room for it.
            let _ = outgoing.try_send(message);
        }
        if let Some(result) = result {
            return result;
        }
    }
}

/// Sends a frame if there is still somebody to send it to. An answer too large to send becomes a failure that says so.
async fn send(outgoing: &mpsc::Sender<Bytes>, message: &FromAgent) {
    let encoded = frame::encode(message).or_else(|failure| match message {
        FromAgent::Answer { id, .. } => frame::encode(&FromAgent::Answer { id: *id, result: Err(failure) }),
        _ => Err(failure),
    });
    match encoded {
        // The client may have gone; the effect is done all the same.
        Ok(bytes) => drop(outgoing.send(bytes).await),
        Err(failure) => tracing::error!(%failure, "a message of the site agent could not be written"),
    }
}
