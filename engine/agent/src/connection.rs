//! One connection of a client to a site agent: many calls in flight, one task that reads, one that writes, one that pings.

use crate::epochs::Token;
use crate::frame::{self, FrameError};
use crate::limits::*;
use crate::progress::News;
use crate::protocol::{Answer, Call, FromAgent, PROTOCOL, ToAgent};
use crate::wire::{self, Line};
use bytes::Bytes;
use muster_ports::*;
use muster_tls::Caller;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, BufReader};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Result<Answer>>,
    news: watch::Sender<News>,
}

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<u64, Waiting>,
    next_id: u64,
    closed: Option<Failure>,
}

/// Calls under way, shared by callers and the reading task.
#[derive(Debug)]
struct Calls {
    /// `site `dr` does not answer at 10.77.0.3:7300`
    unreachable: String,
    table: Mutex<Table>,
}

impl Calls {
    // A panic while the lock is held cannot leave the table half changed: every change is one map operation.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, failure: Failure) {
        let waiting = {
            let mut table = self.table();
            table.closed.get_or_insert_with(|| failure.clone());
            std::mem::take(&mut table.waiting)
        };
        for waiting in waiting.into_values() {
            // A caller that has gone away needs no answer.
            let _ = waiting.answer.send(Err(failure.clone()));
        }
    }

    fn fail(&self, error: &FrameError) {
        self.close(Failure::transient(format!("{}: {error}", self.unreachable)));
    }
}

/// A greeted connection. Dropping it hangs up; calls that the agent has begun it carries to their end.
#[derive(Debug)]
pub(crate) struct Connection {
    calls: Arc<Calls>,
    outgoing: mpsc::Sender<Bytes>,
    _tasks: JoinSet<()>,
}

impl Connection {
    pub(crate) async fn open(site: &SiteName, address: &str, caller: Option<&Caller>) -> Result<Self> {
        if address.is_empty() {
            return Err(Failure::permanent(format!("the plans name no agent for site `{site}`")).help(
                "run `muster agent` where its manager can be reached, and add `agent = \"host:port\"` to the site",
            ));
        }
        let unreachable = format!("site `{site}` does not answer at {address}");
        let opening = async {
            let mut line = match wire::call(site, address, caller).await? {
                Ok(line) => line,
                Err(failure) => return Ok(Err(failure)),
            };
            let hello = frame::encode(&ToAgent::Hello { protocol: PROTOCOL, site: site.clone() });
            let hello = match hello {
                Ok(hello) => hello,
                Err(failure) => return Ok(Err(failure)),
            };
            frame::write_frame(&mut line, &hello).await?;
            Ok::<_, FrameError>(match frame::read_frame::<FromAgent>(&mut line).await? {
                FromAgent::Hello { protocol: PROTOCOL, site: named } if named == *site => Ok(line),
                FromAgent::Refuse { failure } => Err(failure),
                _ => Err(Failure::permanent(format!("{address} does not greet like the agent of site `{site}`"))),
            })
        };
        match timeout(CONNECT_LIMIT, opening).await {
            Ok(Ok(greeted)) => Ok(Self::over(greeted?, unreachable)),
            Ok(Err(error @ (FrameError::Malformed(_) | FrameError::TooLong { .. }))) => {
                let message = format!("what listens at {address} is not the agent of site `{site}`: {error}");
                Err(Failure::permanent(message)
                    .help("correct the address of the site's agent, or give this side its certificates"))
            }
            // A server that refuses a certificate says so when it is first read from.
            Ok(Err(FrameError::Io(error))) if wire::is_disbelief(&error) => {
                Err(wire::disbelieved(site, address, &error))
            }
            Ok(Err(error)) => Err(Failure::transient(format!("{unreachable}: {error}"))),
            Err(_) => {
                Err(Failure::transient(format!("{unreachable}: no greeting within {} s", CONNECT_LIMIT.as_secs())))
            }
        }
    }

    fn over(line: Line, unreachable: String) -> Self {
        let (reader, writer) = tokio::io::split(line);
        let calls = Arc::new(Calls { unreachable, table: Mutex::default() });
        let (outgoing, queue) = mpsc::channel(QUEUE_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(read_answers(BufReader::new(reader), calls.clone()));
        tasks.spawn(ping(outgoing.clone()));
        let writing = calls.clone();
        tasks.spawn(async move {
            if let Err(error) = frame::write_queue(writer, queue).await {
                writing.fail(&error);
            }
        });
        Self { calls, outgoing, _tasks: tasks }
    }

    /// Can no longer be used.
    pub(crate) fn is_closed(&self) -> bool {
        self.calls.table().closed.is_some()
    }

    pub(crate) async fn call(&self, call: Call, token: Option<Token>, progress: &dyn Progress) -> Result<Answer> {
        let (answer, mut answered) = oneshot::channel();
        let (news_sender, mut news) = watch::channel(None);
        let id = {
            let mut table = self.calls.table();
            if let Some(failure) = &table.closed {
                return Err(failure.clone());
            }
            let id = table.next_id;
            table.next_id += 1;
            table.waiting.insert(id, Waiting { answer, news: news_sender });
            id
        };
        let _forget = Forget { calls: &self.calls, id };
        let message = frame::encode(&ToAgent::Call { id, token, call: Box::new(call) })?;
        let lost = || Failure::transient(format!("{}: the connection was closed", self.calls.unreachable));
        let mut sending = std::pin::pin!(self.outgoing.send(message));
        let mut sent = false;
        loop {
            tokio::select! {
                biased;
                Ok(()) = news.changed() => {
                    if let Some((done, total)) = *news.borrow_and_update() {
                        progress.report(done, total);
                    }
                }
                answer = &mut answered => return answer.unwrap_or_else(|_| Err(lost())),
                queued = &mut sending, if !sent => {
                    queued.map_err(|_| lost())?;
                    sent = true;
                }
            }
        }
    }
}

/// Takes a call off the table when its caller goes away.
struct Forget<'a> {
    calls: &'a Calls,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.calls.table().waiting.remove(&self.id);
    }
}

async fn ping(outgoing: mpsc::Sender<Bytes>) {
    let Ok(message) = frame::encode(&ToAgent::Ping) else { return };
    let mut ticks = interval(PING_EVERY);
    loop {
        ticks.tick().await;
        if outgoing.send(message.clone()).await.is_err() {
            return;
        }
    }
}

async fn read_answers(mut reader: impl AsyncRead + Unpin, calls: Arc<Calls>) {
    loop {
        match frame::read_frame(&mut reader).await {
            Ok(FromAgent::Pong | FromAgent::Hello { .. }) => {}
            Ok(FromAgent::Progress { id, done, total }) => {
                if let Some(waiting) = calls.table().waiting.get(&id) {
                    waiting.news.send_replace(Some((done, total)));
                }
            }
            Ok(FromAgent::Answer { id, result }) => {
                let waiting = calls.table().waiting.remove(&id);
                // Nobody waits when the caller has gone away.
                if let Some(waiting) = waiting {
                    let _ = waiting.answer.send(result);
                }
            }
            Ok(FromAgent::Refuse { failure }) => return calls.close(failure),
            Err(error) => return calls.fail(&error),
        }
    }
}
