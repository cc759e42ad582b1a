//! Machines made of nothing but their sockets: a monitor and a guest agent that do as they are told, well or badly.
//!
//! As with the real ones each socket serves one client at a time, and a guest agent works off what it has heard in
//! order, whoever said it.

use muster_ports::{Clock, SystemClock};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

const DISK_BYTES: u64 = 1 << 20;

/// How a guest takes the word to freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    Works,
    /// It answers when that time has passed.
    Slow(Duration),
    /// The connection breaks, nobody is heard for that time, and then it is frozen.
    Late(Duration),
    /// It never answers, and is not frozen.
    Never,
}

#[derive(Clone, Debug)]
pub struct State {
    /// In QEMU's words: `running`, `paused`.
    pub status: &'static str,
    pub frozen: bool,
    pub freeze: Freeze,
    /// So many times thawing is answered with an error.
    pub thaws_refused: u32,
    /// Somebody in the guest thaws it as soon as the transaction is done.
    pub thawed_early: bool,
    /// The monitor never answers `stop`, though it does it.
    pub stop_unanswered: bool,
    /// What was done, and when.
    pub log: Vec<(u64, &'static str)>,
    deaf_until: u64,
}

impl State {
    fn did(&mut self, what: &'static str) {
        self.log.push((now(), what));
    }
    pub fn count(&self, what: &str) -> usize {
        self.log.iter().filter(|(_, did)| *did == what).count()
    }
    /// When it was first done.
    pub fn when(&self, what: &str) -> Option<u64> {
        self.log.iter().find(|(_, did)| *did == what).map(|(at, _)| *at)
    }
}

fn now() -> u64 {
    SystemClock.now().0
}

/// A machine that is on as long as the test's process runs, whose process number it has.
pub struct Fake {
    state: Arc<Mutex<State>>,
    pub home: PathBuf,
    _tasks: JoinSet<()>,
}

impl Fake {
    /// In the folder of a site.
    pub fn new(site: &Path, name: &str) -> Self {
        let home = site.join("machines").join(name);
        std::fs::create_dir_all(&home).unwrap();
        let record = json!({
            "format": "muster.qemu-machine/1", "instance": name, "machine": name, "cpus": 1, "memory_bytes": 1 << 28,
            "disks": [{ "name": "data", "size_bytes": DISK_BYTES, "file": "data.qcow2" }],
            "nics": [], "scope": { "scope": "live" },
        });
        std::fs::write(home.join("machine.json"), record.to_string()).unwrap();
        let image = std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "data.qcow2", &DISK_BYTES.to_string()])
            .current_dir(&home)
            .status();
        let image = image.unwrap_or_else(|error| panic!("`qemu-img`: {error}; apt-get install qemu-utils"));
        assert!(image.success());
        let me = std::process::id();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let start: u64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
        std::fs::write(home.join("qemu.pid"), json!({ "pid": me, "start": start }).to_string()).unwrap();
        let state = Arc::new(Mutex::new(State {
            status: "running",
            frozen: false,
            freeze: Freeze::Works,
            thaws_refused: 0,
            thawed_early: false,
            stop_unanswered: false,
            log: Vec::new(),
            deaf_until: 0,
        }));
        let mut tasks = JoinSet::new();
        for (socket, guest) in [("qmp.sock", false), ("watch.sock", false), ("qga.sock", true)] {
            let _ = std::fs::remove_file(home.join(socket));
            let listener = UnixListener::bind(home.join(socket)).unwrap();
            tasks.spawn(serve(listener, state.clone(), guest));
        }
        Self { state, home, _tasks: tasks }
    }

    /// To give it new orders. For looking there is [`seen`](Self::seen): two guards in one expression wait for ever.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
    pub fn seen(&self) -> State {
        self.state().clone()
    }
    pub fn is_free(&self) -> bool {
        let state = self.state();
        !state.frozen && state.status == "running"
    }
    pub fn is_noted_as_held(&self) -> bool {
        self.home.join("hold.json").exists()
    }
}

async fn serve(listener: UnixListener, state: Arc<Mutex<State>>, guest: bool) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        // A client that hangs up in the middle is no concern of the next one.
        let _ = if guest { agent(stream, &state).await } else { monitor(stream, &state).await };
    }
}

async fn monitor(stream: UnixStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"{\"QMP\":{}}\n").await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let asked: Value = serde_json::from_str(&line)?;
        line.clear();
        let command = asked["execute"].as_str().unwrap_or_default();
        let answer = obey(&mut state.lock().unwrap(), command);
        if let Some(answer) = answer {
            let answer = format!("{}\n", json!({ "return": answer }));
            stream.write_all(answer.as_bytes()).await?;
        }
    }
    Ok(())
}

fn obey(state: &mut State, command: &str) -> Option<Value> {
    match command {
        "query-status" => return Some(json!({ "status": state.status, "running": state.status == "running" })),
        "query-named-block-nodes" => {
            return Some(json!([{ "node-name": "disk0", "image": { "virtual-size": DISK_BYTES } }]));
        }
        "query-block-exports" | "query-block-jobs" => return Some(json!([])),
        "stop" => {
            state.status = "paused";
            state.did("stop");
            if state.stop_unanswered {
                return None;
            }
        }
        "cont" => {
            state.status = "running";
            state.did("cont");
        }
        "transaction" => {
            state.did("transaction");
            if state.thawed_early {
                state.frozen = false;
            }
        }
        _ => {}
    }
    Some(json!({}))
}

async fn agent(stream: UnixStream, state: &Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        if state.lock().unwrap().deaf_until > now() {
            return Ok(());
        }
        let asked: Value = serde_json::from_slice(line.strip_prefix(b"\xff").unwrap_or(&line))?;
        line.clear();
        let command = asked["execute"].as_str().unwrap_or_default();
        let answer = match command {
            "guest-sync-delimited" => {
                stream.write_all(b"\xff").await?;
                json!({ "return": asked["arguments"]["id"] })
            }
            "guest-fsfreeze-status" => {
                json!({ "return": if state.lock().unwrap().frozen { "frozen" } else { "thawed" } })
            }
            "guest-fsfreeze-freeze" => {
                let how = state.lock().unwrap().freeze;
                match how {
                    Freeze::Works => {}
                    Freeze::Slow(time) => tokio::time::sleep(time).await,
                    Freeze::Late(time) => {
                        state.lock().unwrap().deaf_until = now() + u64::try_from(time.as_millis()).unwrap();
                        // The stream breaks now; the guest gets to it later.
                        let state = state.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(time).await;
                            freeze(&state);
                        });
                        return Ok(());
                    }
                    Freeze::Never => {
                        state.lock().unwrap().did("freeze-heard");
                        continue;
                    }
                }
                freeze(state);
                json!({ "return": 2 })
            }
            "guest-fsfreeze-thaw" => thaw(&mut state.lock().unwrap()),
            _ => json!({ "return": {} }),
        };
        stream.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

fn freeze(state: &Mutex<State>) {
    let mut state = state.lock().unwrap();
    state.frozen = true;
    state.did("freeze");
}

fn thaw(state: &mut State) -> Value {
    state.did("thaw");
    if state.thaws_refused > 0 {
        state.thaws_refused -= 1;
        return json!({ "error": { "class": "GenericError", "desc": "the guest has other worries" } });
    }
    let count = if state.frozen { 2 } else { 0 };
    state.frozen = false;
    json!({ "return": count })
}
