//! A line between the engine and a site agent: mutual TLS, or plain on this very machine. Nothing goes plain between
//! machines: keys of guests and whoever commands a site pass here.

use crate::frame::FrameError;
use muster_ports::*;
use muster_tls::{Caller, TlsAcceptor};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Both ways of it.
pub(crate) type Line = Box<dyn Stream>;

const HOW: &str = "give both sides a folder that `muster certificate issue` wrote: `--certificates FOLDER`, or \
                   MUSTER_CERTIFICATES";

/// Calls a site's agent at `host:port`.
pub(crate) async fn call(site: &SiteName, address: &str, caller: Option<&Caller>) -> Result<Result<Line>, FrameError> {
    let stream = TcpStream::connect(address).await.map_err(FrameError::Io)?;
    stream.set_nodelay(true)?;
    let Some(caller) = caller else {
        if stream.peer_addr()?.ip().to_canonical().is_loopback() {
            return Ok(Ok(Box::new(stream)));
        }
        let message = format!("site `{site}` at {address} is on another machine, and this side has no certificates");
        return Ok(Err(Failure::refused(message).help(HOW)));
    };
    match caller.call(host(address), stream).await {
        Ok(stream) => Ok(Ok(Box::new(stream))),
        Err(error) if is_disbelief(&error) => Ok(Err(disbelieved(site, address, &error))),
        Err(error) => Err(error.into()),
    }
}

/// What is wrong with a certificate, or with TLS itself; the network is not to blame.
pub(crate) fn is_disbelief(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput)
}

pub(crate) fn disbelieved(site: &SiteName, address: &str, error: &std::io::Error) -> Failure {
    Failure::permanent(format!("site `{site}` at {address} and this side do not believe each other: {error}")).help(
        "both need certificates of one authority, the agent's for the address in the plans; the agent has to be started \
         with `--certificates` too",
    )
}

/// `[::1]:7300` and `dr.example.com:7300` without brackets and port.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The line to a client that has called.
pub(crate) async fn answer(stream: TcpStream, acceptor: Option<&TlsAcceptor>) -> Result<Line, FrameError> {
    stream.set_nodelay(true)?;
    Ok(match acceptor {
        Some(acceptor) => Box::new(acceptor.accept(stream).await?),
        None => Box::new(stream),
    })
}

/// Without certificates an agent listens where only its own machine reaches it.
pub(crate) fn refuse_open_address(address: SocketAddr, acceptor: Option<&TlsAcceptor>) -> Result<()> {
    if acceptor.is_some() || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let message =
        format!("the site agent does not listen on {address}: everybody who reaches it would command the site");
    Err(Failure::refused(message).help(format!("listen on a loopback address, or {HOW}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_cut_out_of_addresses() {
        for (address, expected) in [("10.77.1.2:7300", "10.77.1.2"), ("[fd00::2]:7300", "fd00::2"), ("dr:1", "dr")] {
            assert_eq!(host(address), expected);
        }
    }
}
