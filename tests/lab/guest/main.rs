//! What runs inside the lab's machines: a small database, an app that follows it, a web page that shows the app.
//!
//! ```text
//!   web :80 --GET /status--> app :8080 --LAST--> db :7000 --fsync--> /data/orders.log
//!                             `--fsync--> /var/lib/app/seen.log      (only numbers db has acknowledged)
//! ```
//!
//! The app is the causal writer: it holds number n only after the database has promised n. A cut of both machines that
//! shows n in the app and not in the database is no cut.
//!
//! Not here: any crate. `rustc` alone builds this, static, so that the guest needs no library.

mod record;

use record::{Record, Tally};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, io, process, thread};

const DATABASE_PORT: u16 = 7000;
const APP_PORT: u16 = 8080;
const WEB_PORT: u16 = 80;
const DATABASE_LOG: &str = "/data/orders.log";
const APP_LOG: &str = "/var/lib/app/seen.log";
const DATABASE_ADDRESS: &str = "/etc/db-host";
const APP_ADDRESS: &str = "/etc/app-host";
/// How long one answer of a neighbour may take: several times a slow fsync of an emulated disk.
const NEIGHBOUR_LIMIT: Duration = Duration::from_secs(3);
/// An app that has not heard of its database for so long is not ready.
const STALE_AFTER: Duration = Duration::from_secs(10);
/// Records one APPEND may ask for.
const APPEND_MAX: u64 = 100_000;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["db", interval] => database(milliseconds(interval)),
        ["app", interval] => app(milliseconds(interval)),
        ["web"] => web(),
        ["set-host", file, address] => set_host(file, address),
        _ => Err(io::Error::other("usage: guest db MS | app MS | web | set-host FILE IP")),
    };
    if let Err(error) = outcome {
        eprintln!("guest {}: {error}", words.join(" "));
        process::exit(1);
    }
}

fn milliseconds(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap_or(200))
}

fn nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn say(line: &str) {
    if let Ok(mut console) = OpenOptions::new().write(true).open("/dev/console") {
        let _ = writeln!(console, "{line}");
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A file of records, each on stable storage before its number is told to anybody.
struct Log {
    file: File,
    tally: Tally,
    host: String,
    boot: u64,
}

impl Log {
    /// Opens, counts, and cuts off what a power cut left of a write that was never acknowledged.
    fn open(path: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let tally = Tally::of(&bytes);
        if tally.torn && tally.bad == 0 {
            file.set_len(tally.good_bytes)?;
        }
        file.seek(SeekFrom::End(0))?;
        if let Some(folder) = std::path::Path::new(path).parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { file, tally, host: host(), boot: nanos() })
    }

    fn append(&mut self, sequence: u64) -> io::Result<()> {
        let record = Record { sequence, nanos: nanos(), boot: self.boot, host: self.host.clone() };
        self.file.write_all(&record.encode())?;
        self.file.sync_data()?;
        self.tally.last = sequence;
        self.tally.records += 1;
        Ok(())
    }
}

fn status(log: &Log) -> String {
    format!("host={} last={} gaps={} bad={}\n", log.host, log.tally.last, log.tally.gaps, log.tally.bad)
}

fn database(interval: Duration) -> io::Result<()> {
    let log = Log::open(DATABASE_LOG)?;
    say(&format!("MUSTER-READY db {}", status(&log).trim()));
    let log = Arc::new(Mutex::new(log));
    let listener = TcpListener::bind(("0.0.0.0", DATABASE_PORT))?;
    let shared = Arc::clone(&log);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = Arc::clone(&shared);
            thread::spawn(move || converse(stream, &log));
        }
    });
    loop {
        thread::sleep(interval);
        let mut log = locked(&log);
        let next = log.tally.last + 1;
        log.append(next)?;
    }
}

fn converse(stream: TcpStream, log: &Mutex<Log>) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    writer.write_all(status(&locked(log)).as_bytes())?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let answer = match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => continue,
            ["LAST"] => format!("last={}\n", locked(log).tally.last),
            ["APPEND", count] => match count.parse::<u64>() {
                Ok(count) if count <= APPEND_MAX => {
                    let mut log = locked(log);
                    for _ in 0..count {
                        let next = log.tally.last + 1;
                        log.append(next)?;
                    }
                    format!("last={}\n", log.tally.last)
                }
                _ => format!("error APPEND takes a number up to {APPEND_MAX}\n"),
            },
            ["QUIT"] => return Ok(()),
            _ => "error commands are LAST, APPEND n, QUIT\n".to_owned(),
        };
        writer.write_all(answer.as_bytes())?;
    }
    Ok(())
}

struct Seen {
    log: Log,
    database: u64,
    heard: Option<Instant>,
    trouble: String,
}

fn app(interval: Duration) -> io::Result<()> {
    fs::create_dir_all("/var/lib/app")?;
    let log = Log::open(APP_LOG)?;
    say(&format!("MUSTER-READY app host={} seen={}", log.host, log.tally.last));
    let seen = Arc::new(Mutex::new(Seen { log, database: 0, heard: None, trouble: "has not asked yet".to_owned() }));
    let shared = Arc::clone(&seen);
    thread::spawn(move || {
        loop {
            if let Err(error) = follow(&shared, interval) {
                locked(&shared).trouble = error.to_string();
            }
            thread::sleep(interval);
        }
    });
    serve(APP_PORT, move |path| app_page(&seen, path))
}

/// Asks the database again and again over one connection; ends when the connection or the address changes.
fn follow(seen: &Mutex<Seen>, interval: Duration) -> io::Result<()> {
    let address = read_host(DATABASE_ADDRESS)?;
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, DATABASE_PORT), NEIGHBOUR_LIMIT)?;
    stream.set_read_timeout(Some(NEIGHBOUR_LIMIT))?;
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    lines.next().transpose()?;
    while read_host(DATABASE_ADDRESS)? == address {
        writer.write_all(b"LAST\n")?;
        let line = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        let last = line.strip_prefix("last=").and_then(|number| number.parse::<u64>().ok());
        let last = last.ok_or_else(|| io::Error::other(format!("the database said `{line}`")))?;
        let mut seen = locked(seen);
        if last > seen.log.tally.last {
            seen.log.append(last)?;
        }
        seen.database = last;
        seen.heard = Some(Instant::now());
        drop(seen);
        thread::sleep(interval);
    }
    Ok(())
}

fn app_page(seen: &Mutex<Seen>, path: &str) -> (u16, String) {
    let seen = locked(seen);
    let fresh = seen.heard.is_some_and(|heard| heard.elapsed() < STALE_AFTER);
    let held = seen.log.tally.last;
    let trouble = if !fresh {
        Some(format!("no answer of the database: {}", seen.trouble))
    } else if held > seen.database {
        Some(format!("the database is at {} but had acknowledged {held}", seen.database))
    } else {
        None
    };
    let code = if trouble.is_some() { 503 } else { 200 };
    match path {
        "/ready" => (code, trouble.map_or_else(|| "ready\n".to_owned(), |trouble| format!("not ready: {trouble}\n"))),
        "/status" => {
            let state = trouble.map_or_else(|| "ok".to_owned(), |trouble| format!("trouble: {trouble}"));
            (code, format!("orders {held}\ndatabase {}\nhost {}\n{state}\n", seen.database, seen.log.host))
        }
        _ => (404, "paths are /ready and /status\n".to_owned()),
    }
}

fn web() -> io::Result<()> {
    say(&format!("MUSTER-READY web host={}", host()));
    serve(WEB_PORT, |path| match path {
        "/" => match ask_app() {
            Ok((200, page)) => (200, page),
            Ok((code, page)) => (503, format!("the app answers {code}\n{page}")),
            Err(error) => (503, format!("the app does not answer: {error}\n")),
        },
        _ => (404, "there is one page: /\n".to_owned()),
    })
}

fn ask_app() -> io::Result<(u16, String)> {
    let address = SocketAddr::new(read_host(APP_ADDRESS)?, APP_PORT);
    let mut stream = TcpStream::connect_timeout(&address, NEIGHBOUR_LIMIT)?;
    stream.set_read_timeout(Some(NEIGHBOUR_LIMIT))?;
    stream.write_all(b"GET /status HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 << 10).read_to_string(&mut answer)?;
    let code = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(502);
    Ok((code, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())))
}

fn serve(port: u16, page: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> io::Result<()> {
    let page = Arc::new(page);
    for stream in TcpListener::bind(("0.0.0.0", port))?.incoming().flatten() {
        let page = Arc::clone(&page);
        thread::spawn(move || answer(stream, &*page));
    }
    Ok(())
}

fn answer(stream: TcpStream, page: &dyn Fn(&str) -> (u16, String)) -> io::Result<()> {
    stream.set_read_timeout(Some(NEIGHBOUR_LIMIT))?;
    let mut writer = stream.try_clone()?;
    let mut lines = BufReader::new(stream.take(16 << 10)).lines();
    let request = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let (code, body) = page(request.split_whitespace().nth(1).unwrap_or("/"));
    let reason = if code == 200 { "OK" } else { "Not Now" };
    let length = body.len();
    write!(
        writer,
        "HTTP/1.0 {code} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn read_host(file: &str) -> io::Result<IpAddr> {
    let text = fs::read_to_string(file).map_err(|error| io::Error::other(format!("{file}: {error}")))?;
    text.trim().parse().map_err(|_| io::Error::other(format!("{file} holds `{}`, which is no address", text.trim())))
}

/// Remembered across power cuts: written beside, synced, renamed.
fn set_host(file: &str, address: &str) -> io::Result<()> {
    let address: IpAddr =
        address.trim().parse().map_err(|_| io::Error::other(format!("`{address}` is no IP address")))?;
    let beside = format!("{file}.new");
    let mut new = File::create(&beside)?;
    writeln!(new, "{address}")?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    File::open("/etc")?.sync_all()
}
