//! Servers for the tests: real ones from Debian's packages as processes of the test, and two small receivers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A process that ends with the test.
#[derive(Debug)]
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server in the foreground; what it says goes to a file.
///
/// # Panics
/// When the program is not there: the message names the file with the packages.
pub fn start(program: &str, arguments: &[&str], log: &Path) -> Server {
    let output = std::fs::File::create(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    let errors = output.try_clone().unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
    Server(
        child.unwrap_or_else(|error| panic!("`{program}`: {error}; `cargo verify` installs tests/stdlib/packages.txt")),
    )
}

/// Runs a program to its end and returns what it printed.
///
/// # Panics
/// When it is not there, or fails.
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).current_dir("/").output();
    let output = output
        .unwrap_or_else(|error| panic!("`{program}`: {error}; `cargo verify` installs tests/stdlib/packages.txt"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {} {}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("no free port: {error}"));
    listener.local_addr().map(|address| address.port()).unwrap_or_default()
}

/// Waits until something holds, for at most half a minute.
///
/// # Panics
/// When it does not.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..300 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} has not come true within 30 s");
}

/// Requests or messages that a receiver got, in their order.
pub type Received = Arc<Mutex<Vec<String>>>;

/// An HTTP server that answers every request with the next of these statuses, the last one for ever.
///
/// # Panics
/// When this machine has no loopback.
pub fn webhook(statuses: &[u16]) -> (u16, Received) {
    let (listener, received, port) = receiver();
    let (statuses, seen) = (statuses.to_vec(), received.clone());
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let status = statuses.get(number).or(statuses.last()).copied().unwrap_or(200);
            // A client that goes away has been seen as far as it spoke.
            let _ = answer_http(stream, status, &seen);
        }
    });
    (port, received)
}

fn receiver() -> (TcpListener, Received, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("no loopback: {error}"));
    let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
    (listener, Received::default(), port)
}

fn push(received: &Received, text: String) {
    received.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text);
}

fn answer_http(stream: TcpStream, status: u16, received: &Received) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0usize);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    push(received, format!("{head}\r\n{}", String::from_utf8_lossy(&body)));
    let reply = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    reader.get_mut().write_all(reply.as_bytes())
}

/// A mail server that takes what it is sent, but answers `refused` to recipients of that domain.
///
/// # Panics
/// When this machine has no loopback.
pub fn mail_sink(refused: &'static str, code: u16) -> (u16, Received) {
    let (listener, received, port) = receiver();
    let seen = received.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer_mail(stream, refused, code, &seen);
        }
    });
    (port, received)
}

fn answer_mail(stream: TcpStream, refused: &str, code: u16, received: &Received) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    reader.get_mut().write_all(b"220 sink ESMTP\r\n")?;
    let mut talk = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        talk.push_str(&line);
        let reply = match line.get(..4).unwrap_or_default() {
            "EHLO" => "250-sink\r\n250 8BITMIME\r\n".to_owned(),
            "RCPT" if line.contains(refused) => format!("{code} not here\r\n"),
            "DATA" => {
                reader.get_mut().write_all(b"354 go\r\n")?;
                let mut message = String::new();
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line)? == 0 || line == ".\r\n" {
                        break;
                    }
                    message.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                push(received, format!("{talk}{message}"));
                "250 taken\r\n".to_owned()
            }
            "QUIT" => return reader.get_mut().write_all(b"221 bye\r\n"),
            _ => "250 ok\r\n".to_owned(),
        };
        reader.get_mut().write_all(reply.as_bytes())?;
    }
}
