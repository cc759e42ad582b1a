//! Questions asked from inside a network.
//!
//! A namespace belongs to a thread: each probe gets a thread of its own, which enters the namespace, asks, and ends.
//! Nothing of the runtime is ever moved.

use crate::limits;
use crate::process::Namespace;
use muster_ports::{Failure, Probe, ProbeAnswer, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) async fn ask(namespace: Namespace, probe: Probe) -> Result<ProbeAnswer> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let asking = move || {
        let answer = enter(namespace).and_then(|()| ask_here(&probe));
        // The caller may have given up; nobody is left to be told.
        let _ = sender.send(answer);
    };
    std::thread::Builder::new()
        .name("probe".to_owned())
        .spawn(asking)
        .map_err(|error| Failure::transient(format!("no thread for a probe: {error}")))?;
    receiver.await.map_err(|_| Failure::transient("the probe ended without an answer"))?
}

fn enter(namespace: Namespace) -> Result<()> {
    let Namespace::Of(keeper) = namespace else { return Ok(()) };
    let path = keeper.namespace_file();
    let file = File::open(&path).map_err(|error| crate::folder::at(&path, &error))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| Failure::permanent(format!("the bubble's network cannot be entered: {error}")))
}

/// A connection with a deadline for everything done over it.
struct Conversation {
    stream: TcpStream,
    address: SocketAddr,
    deadline: Instant,
    within: Duration,
}

fn ask_here(probe: &Probe) -> Result<ProbeAnswer> {
    match probe {
        Probe::Tcp { ip, port, within } => {
            Conversation::open(*ip, *port, *within)?;
            Ok(ProbeAnswer { status: 0, body: String::new() })
        }
        Probe::Talk { ip, port, send, within } => {
            let mut peer = Conversation::open(*ip, *port, *within)?;
            peer.say(send.as_bytes())?;
            // Done talking: a peer that reads to the end closes now.
            let _ = peer.stream.shutdown(Shutdown::Write);
            let body = peer.hear()?;
            Ok(ProbeAnswer { status: 0, body: String::from_utf8_lossy(&body).into_owned() })
        }
        Probe::Http { ip, port, path, within } => http(*ip, *port, path, *within),
    }
}

fn http(ip: IpAddr, port: u16, path: &str, within: Duration) -> Result<ProbeAnswer> {
    if !path.starts_with('/') || path.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Failure::permanent(format!("`{path}` is no path for an HTTP check")).help("begin it with `/`"));
    }
    let mut peer = Conversation::open(ip, port, within)?;
    let address = peer.address;
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: muster\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    peer.say(request.as_bytes())?;
    let answer = peer.hear()?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").or_else(|| text.split_once("\n\n")).unwrap_or((&text, ""));
    let status: Option<u16> = head
        .strip_prefix("HTTP/")
        .and_then(|rest| rest.split_whitespace().nth(1))
        .and_then(|status| status.parse().ok())
        .filter(|status| (100..=599).contains(status));
    match status {
        None => Err(Failure::transient(format!("http://{address}{path} does not answer in HTTP"))),
        Some(status) if status >= 400 => {
            let start: String = body.trim().chars().take(200).collect();
            Err(Failure::transient(format!("http://{address}{path} answers {status}: {start}")))
        }
        Some(status) => Ok(ProbeAnswer { status, body: body.to_owned() }),
    }
}

impl Conversation {
    fn open(ip: IpAddr, port: u16, within: Duration) -> Result<Self> {
        let address = SocketAddr::new(ip, port);
        let deadline = Instant::now() + within;
        let stream = TcpStream::connect_timeout(&address, within.max(Duration::from_millis(1)))
            .map_err(|error| trouble(address, within, &error))?;
        Ok(Self { stream, address, deadline, within })
    }

    fn left(&self) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(trouble(self.address, self.within, &ErrorKind::TimedOut.into()));
        }
        Ok(left)
    }

    fn say(&mut self, bytes: &[u8]) -> Result<()> {
        let limit = Some(self.left()?);
        self.stream
            .set_write_timeout(limit)
            .and_then(|()| self.stream.write_all(bytes))
            .map_err(|error| trouble(self.address, self.within, &error))
    }

    /// Everything until the peer closes, or the first bytes of it.
    fn hear(&mut self) -> Result<Vec<u8>> {
        let mut heard = Vec::new();
        let mut chunk = [0u8; 4096];
        while heard.len() < limits::PROBE_BODY_BYTES {
            let limit = Some(self.left()?);
            let read = self.stream.set_read_timeout(limit).and_then(|()| self.stream.read(&mut chunk));
            match read {
                Ok(0) => break,
                Ok(count) => heard.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(trouble(self.address, self.within, &error)),
            }
        }
        heard.truncate(limits::PROBE_BODY_BYTES);
        Ok(heard)
    }
}

fn trouble(address: SocketAddr, within: Duration, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            Failure::timeout(format!("{address} does not answer within {} ms", within.as_millis()))
        }
        // The service may be on its way up.
        _ => Failure::transient(format!("{address} cannot be talked to: {error}")),
    }
}
