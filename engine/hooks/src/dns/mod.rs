//! DNS for hooks: questions and dynamic updates (RFC 2136), signed with TSIG (RFC 8945), to one declared server.
//!
//! Written here and not taken from a resolver library: a hook needs two messages and one signature, over one TCP
//! connection to a server that the contract names. No recursion, no cache, no resolver configuration of this machine.
//!
//! ```text
//!   lookup  --> question(name, kind)              --> answer: ttl, values
//!   replace --> update(zone: drop set, add values) --> rcode; request and reply signed with one key
//! ```

mod message;
mod tsig;

pub(crate) use message::{Kind, read_lookup, read_update, write_question, write_update};
pub(crate) use tsig::Key;

use crate::limits::DNS_MESSAGE_BYTES_MAX;
use muster_ports::{Failure, Result};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DNS_PORT: u16 = 53;

/// The host and the port of `host`, `host:port`, `[address]:port` or a bare address.
pub(crate) fn host_and_port(server: &str, default_port: u16) -> Result<(String, u16)> {
    let wrong = || {
        Failure::permanent(format!("`{server}` is not a server"))
            .help("write `name`, `name:port`, an address, or `[address]:port`")
    };
    if server.parse::<std::net::IpAddr>().is_ok() {
        return Ok((server.to_owned(), default_port));
    }
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?),
        None => (server, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    if host.is_empty() || !host.chars().all(good) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

/// Sends one message over TCP and returns the reply to it.
pub(crate) async fn exchange(server: &str, message: &[u8], within: Duration) -> Result<Vec<u8>> {
    let (host, port) = host_and_port(server, DNS_PORT)?;
    let late = |_| {
        Failure::timeout(format!("name server `{server}` has not answered within {}s", within.as_secs()))
            .help("see whether it answers on TCP port 53 from where the engine runs")
    };
    tokio::time::timeout(within, talk(&host, port, message)).await.map_err(late)?.map_err(|error| {
        Failure::transient(format!("name server `{server}`: {error}"))
            .help("see whether it answers on TCP port 53 from where the engine runs")
    })
}

async fn talk(host: &str, port: u16, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length)).min(DNS_MESSAGE_BYTES_MAX)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn servers_are_names_or_addresses() {
        let read = |server: &str| host_and_port(server, 53).ok();
        assert_eq!(read("ns.example.com"), Some(("ns.example.com".into(), 53)));
        assert_eq!(read("10.0.0.53:5353"), Some(("10.0.0.53".into(), 5353)));
        assert_eq!(read("fd00::53"), Some(("fd00::53".into(), 53)));
        assert_eq!(read("[fd00::53]:5353"), Some(("fd00::53".into(), 5353)));
        for wrong in ["", ":53", "a b", "ns:0", "ns:99999", "ns/zone"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
