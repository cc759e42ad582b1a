//! Mail for hooks: one message to one declared server over SMTP (RFC 5321), with STARTTLS or TLS from the first byte.
//!
//! A few hundred lines instead of a mail library: a hook sends a short text and wants to know whether the server took it.
//! No queue, no attachments, no delivery to other people's servers.

use crate::dns::host_and_port;
use crate::limits::{MAIL_LINE_BYTES_MAX, MAIL_REPLY_LINES_MAX};
use crate::secret::Hidden;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_ports::{Failure, Result, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

const SUBMISSION_PORT: u16 = 587;

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// Begins in the clear and must become TLS before anything is said.
    StartTls,
    /// From the first byte.
    Tls,
    /// Not at all: for a relay on the same machine or in the same rack. Takes no password.
    None,
}

/// One message, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailOrder {
    /// `host` or `host:port`; 587 when no port is named.
    pub server: String,
    pub tls: MailTls,
    pub login: Option<(String, Hidden)>,
    /// As PEM: what the server's certificate is held against; `None` is the public authorities.
    pub authorities: Option<String>,
    pub from: String,
    pub to: Vec<String>,
    /// Headers and body with CRLF, not yet dot-stuffed.
    pub message: String,
    pub within: Duration,
}

/// What a script says about its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) subject: String,
    pub(crate) text: String,
}

impl Letter {
    /// The message as RFC 5322 wants it. `id` is the same for every repetition of the same call.
    pub(crate) fn compose(&self, at: Timestamp, id: &str) -> Result<String> {
        for address in self.to.iter().chain([&self.from]) {
            check_address(address)?;
        }
        if self.to.is_empty() {
            return Err(Failure::permanent("a mail needs somebody to go to"));
        }
        let domain = self.from.rsplit('@').next().unwrap_or("muster");
        let moment =
            i64::try_from(at.as_millis()).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        let date = moment
            .and_then(|moment| jiff::fmt::rfc2822::to_string(&moment.to_zoned(jiff::tz::TimeZone::UTC)).ok())
            .ok_or_else(|| Failure::permanent("the clock is beyond the dates of mails"))?;
        let (encoding, body) = encode(&self.text);
        Ok(format!(
            "From: {}\r\nTo: {}\r\nSubject: {}\r\nDate: {date}\r\nMessage-ID: <{id}@{domain}>\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\
             Auto-Submitted: auto-generated\r\n\r\n{body}",
            self.from,
            self.to.join(", "),
            subject(&self.subject),
        ))
    }
}

fn check_address(address: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | ',' | ';' | '(' | ')' | '\\');
    match address.split_once('@') {
        Some((name, domain))
            if !name.is_empty() && !domain.is_empty() && !domain.contains('@') && address.chars().all(good) =>
        {
            Ok(())
        }
        _ => Err(Failure::permanent(format!("`{address}` is not a mail address"))),
    }
}

/// One line; what is not plain ASCII is encoded (RFC 2047).
fn subject(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let is_plain = line.chars().all(|c| c == ' ' || c.is_ascii_graphic()) && line.len() <= 200;
    if is_plain {
        return line;
    }
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for letter in line.chars() {
        // An encoded word has 75 characters at most: 45 bytes, and 12 around them.
        if word.len() + letter.len_utf8() > 45 {
            words.push(std::mem::take(&mut word));
        }
        word.push(letter);
    }
    words.push(word);
    let words: Vec<String> = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word))).collect();
    words.join("\r\n ")
}

/// Short ASCII lines travel as they are, anything else as base64.
fn encode(text: &str) -> (&'static str, String) {
    let lines: Vec<&str> = text.lines().collect();
    let plain = |line: &&str| line.len() <= 900 && line.chars().all(|c| c == '\t' || c == ' ' || c.is_ascii_graphic());
    if lines.iter().all(plain) {
        return ("7bit", lines.iter().map(|line| format!("{line}\r\n")).collect());
    }
    let encoded = STANDARD.encode(lines.join("\r\n"));
    let rows: Vec<&str> =
        encoded.as_bytes().chunks(76).map(|row| std::str::from_utf8(row).unwrap_or_default()).collect();
    ("base64", format!("{}\r\n", rows.join("\r\n")))
}

pub(crate) async fn send(order: &MailOrder) -> Result<()> {
    let (order, within) = (order.clone(), order.within);
    let server = order.server.clone();
    let work = tokio::task::spawn_blocking(move || send_blocking(&order));
    match tokio::time::timeout(within, work).await {
        Ok(Ok(sent)) => sent,
        Ok(Err(error)) => Err(Failure::transient(format!("sending the mail was broken off: {error}"))),
        Err(_) => Err(Failure::timeout(format!(
            "mail server `{server}` has not taken the message within {}s",
            within.as_secs()
        ))),
    }
}

/// The first address of the server that answers. One of them being closed (IPv6 on a host that listens on IPv4 alone) says nothing
/// about the next.
fn connect(order: &MailOrder, host: &str, port: u16) -> Result<TcpStream> {
    let server = &order.server;
    let addresses: Vec<_> = (host, port)
        .to_socket_addrs()
        .map_err(|error| Failure::transient(format!("mail server `{server}`: {error}")))?
        .collect();
    // Every address gets its share of the time, so that a silent one does not take it all.
    let share = order.within / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut refused = Failure::transient(format!("mail server `{server}` has no address"));
    for address in addresses {
        match TcpStream::connect_timeout(&address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = Failure::from(error).during(format!("mail server `{server}` at {address}")),
        }
    }
    Err(refused)
}

fn send_blocking(order: &MailOrder) -> Result<()> {
    let (host, port) = host_and_port(&order.server, SUBMISSION_PORT)?;
    let during = |error: std::io::Error| Failure::from(error).during(format!("mail server `{}`", order.server));
    let stream = connect(order, &host, port)?;
    stream.set_read_timeout(Some(order.within)).map_err(during)?;
    stream.set_write_timeout(Some(order.within)).map_err(during)?;
    match order.tls {
        MailTls::None => {
            let mut talk = Talk::new(stream, order);
            talk.greeting()?;
            talk.hello()?;
            talk.letter()
        }
        MailTls::StartTls => {
            let mut talk = Talk::new(stream, order);
            talk.greeting()?;
            let offers = talk.hello()?;
            if !offers.iter().any(|offer| offer.eq_ignore_ascii_case("STARTTLS")) {
                return Err(Failure::refused(format!("mail server `{}` offers no STARTTLS", order.server))
                    .help("use port 465 with `tls: \"tls\"`, or `tls: \"none\"` for a relay beside the engine"));
            }
            talk.say("STARTTLS", &[220])?;
            let mut talk = Talk::new(encrypted(&host, order.authorities.as_deref(), talk.stream.into_inner())?, order);
            talk.hello()?;
            talk.letter()
        }
        MailTls::Tls => {
            let mut talk = Talk::new(encrypted(&host, order.authorities.as_deref(), stream)?, order);
            talk.greeting()?;
            talk.hello()?;
            talk.letter()
        }
    }
}

type Encrypted = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

fn encrypted(host: &str, authorities: Option<&str>, stream: TcpStream) -> Result<Encrypted> {
    let bug = |error: rustls::Error| Failure::permanent(format!("no TLS to mail server `{host}`: {error}"));
    let mut roots = rustls::RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| error.to_string());
                let added = certificate.and_then(|it| roots.add(it).map_err(|error| error.to_string()));
                added
                    .map_err(|error| Failure::permanent(format!("an authority of this hook does not read: {error}")))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(bug)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::permanent(format!("`{host}` cannot be the name in a certificate")))?;
    let connection = rustls::ClientConnection::new(Arc::new(config), name).map_err(bug)?;
    Ok(rustls::StreamOwned::new(connection, stream))
}

/// The conversation with the server.
struct Talk<'a, S: Read + Write> {
    stream: BufReader<S>,
    order: &'a MailOrder,
}

impl<'a, S: Read + Write> Talk<'a, S> {
    fn new(stream: S, order: &'a MailOrder) -> Self {
        Self { stream: BufReader::new(stream), order }
    }

    fn lost(&self, error: std::io::Error) -> Failure {
        // A certificate that does not verify arrives as invalid data, and stays so.
        Failure::from(error).during(format!("mail server `{}`", self.order.server))
    }

    /// The code and the lines of one reply.
    fn reply(&mut self) -> Result<(u16, Vec<String>)> {
        let mut lines = Vec::new();
        for _ in 0..MAIL_REPLY_LINES_MAX {
            let mut line = Vec::new();
            let read = (&mut self.stream).take(MAIL_LINE_BYTES_MAX).read_until(b'\n', &mut line);
            read.map_err(|error| self.lost(error))?;
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let Some(code) = code else {
                return Err(Failure::transient(format!("mail server `{}` broke off", self.order.server)));
            };
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok((code, lines));
            }
        }
        Err(Failure::permanent(format!("mail server `{}` does not stop talking", self.order.server)))
    }

    fn expect(&mut self, wanted: &[u16], about: &str) -> Result<Vec<String>> {
        let (code, lines) = self.reply()?;
        if wanted.contains(&code) {
            return Ok(lines);
        }
        let text = format!("mail server `{}` answered {code} to {about}: {}", self.order.server, lines.join(" "));
        Err(match code {
            400..=499 => Failure::transient(text),
            530 | 534 | 535 | 550 | 553 | 554 => Failure::refused(text),
            _ => Failure::permanent(text),
        })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let stream = self.stream.get_mut();
        let sent = stream.write_all(bytes).and_then(|()| stream.flush());
        sent.map_err(|error| self.lost(error))
    }

    fn say(&mut self, line: &str, wanted: &[u16]) -> Result<Vec<String>> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.expect(wanted, line.split([' ', ':']).next().unwrap_or_default())
    }

    fn greeting(&mut self) -> Result<()> {
        self.expect(&[220], "the connection").map(|_| ())
    }

    /// What the server offers.
    fn hello(&mut self) -> Result<Vec<String>> {
        let domain = self.order.from.rsplit('@').next().unwrap_or("localhost").to_owned();
        self.say(&format!("EHLO {domain}"), &[250])
    }

    fn letter(&mut self) -> Result<()> {
        let order = self.order;
        if let Some((user, password)) = &order.login {
            if order.tls == MailTls::None {
                return Err(Failure::permanent("a password is not sent without TLS")
                    .help("use `tls: \"starttls\"` or `tls: \"tls\"`, or leave `user` and `password` out"));
            }
            let login = zeroize::Zeroizing::new(format!("\0{user}\0{}", password.reveal()));
            let line = zeroize::Zeroizing::new(format!("AUTH PLAIN {}", STANDARD.encode(login.as_bytes())));
            self.say(&line, &[235])?;
        }
        self.say(&format!("MAIL FROM:<{}>", order.from), &[250])?;
        for to in &order.to {
            self.say(&format!("RCPT TO:<{to}>"), &[250, 251])?;
        }
        self.say("DATA", &[354])?;
        let mut stuffed = String::with_capacity(order.message.len() + 8);
        for line in order.message.split_inclusive("\r\n") {
            if line.starts_with('.') {
                stuffed.push('.');
            }
            stuffed.push_str(line);
        }
        stuffed.push_str(".\r\n");
        self.send(stuffed.as_bytes())?;
        self.expect(&[250], "the message")?;
        // The message is taken; how the connection ends changes nothing.
        let _ = self.send(b"QUIT\r\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(subject: &str, text: &str) -> Letter {
        let (from, to) = ("dr@example.com".into(), vec!["ops@example.com".into()]);
        Letter { from, to, subject: subject.into(), text: text.into() }
    }

    #[test]
    fn a_letter_has_its_headers() {
        let message =
            letter("shop moved", "It runs at dr.\n.dot").compose(Timestamp(1_700_000_000_000), "k-1").unwrap();
        let expected = "From: dr@example.com\r\nTo: ops@example.com\r\nSubject: shop moved\r\n\
            Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <k-1@example.com>\r\nMIME-Version: 1.0\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\
            Auto-Submitted: auto-generated\r\n\r\nIt runs at dr.\r\n.dot\r\n";
        assert_eq!(message, expected);
    }

    #[test]
    fn other_letters_are_encoded_and_no_header_can_be_smuggled_in() {
        let message = letter("läuft\r\nBcc: x@example.com", "läuft").compose(Timestamp(0), "k").unwrap();
        assert!(!message.contains("\nBcc"), "{message}");
        assert!(message.contains("Subject: =?utf-8?B?"), "{message}");
        assert!(message.ends_with("bMOkdWZ0\r\n"), "{message}");
        let mut wrong = letter("a", "b");
        wrong.to = vec!["ops@example.com>\r\nRCPT TO:<x@example.com".into()];
        assert!(wrong.compose(Timestamp(0), "k").is_err());
    }
}
