//! What a step costs the engine, as ratios within one run: `cargo run --release -p muster-simulation --bin engine-bench`.
//!
//! Absolute numbers depend on the machine and its load; the ratios compare the engine with its own store, and with what a
//! disk, SQLite and a bare scheduler do at the same moment. `--full` goes up to 100,000 steps; a word (`bookkeeping`,
//! `beside`, `durable`, `growth`, `resume`) measures that part alone.
//!
//! Every promise is a line with its bound and whether it is kept. Bookkeeping without a store is bound by its processor
//! time: on a machine that others use too, the clock on the wall measures them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use async_trait::async_trait;
use bytes::Bytes;
use muster_executor::*;
use muster_journal::*;
use muster_ports::*;
use muster_runsheet::{
    Action, Carriers, Direction, Duration, Edge, EdgeKind, Hash, Kind, Node, NodeKind, Operation, Otherwise,
    RUNSHEET_FORMAT, Runsheet, SheetPhase,
};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;

/// Does nothing, at once.
#[derive(Debug)]
struct Idle;

#[async_trait]
impl StepRunner for Idle {
    async fn observe(&self, _: StepContext<'_>) -> Result<Observation> {
        Ok(Observation::DoesNotHold)
    }
    async fn act(&self, _: StepContext<'_>) -> Result<Acted> {
        Ok(Acted::Done(StepOutput::None))
    }
    async fn undo(&self, _: StepContext<'_>) -> Result<()> {
        Ok(())
    }
}

/// Forgets everything but what opening a run needs.
#[derive(Debug)]
struct Forgetful(MemoryStore);

#[async_trait]
impl StateStore for Forgetful {
    async fn get(&self, key: &str) -> std::result::Result<Option<Bytes>, StoreError> {
        self.0.get(key).await
    }
    async fn scan(&self, prefix: &str) -> std::result::Result<Vec<(String, Bytes)>, StoreError> {
        self.0.scan(prefix).await
    }
    async fn write(&self, batch: Vec<Write>) -> std::result::Result<(), StoreError> {
        let opens = batch.iter().any(|write| matches!(write, Write::Put { key, .. } if key.ends_with("/sheet")));
        if opens { self.0.write(batch).await } else { Ok(()) }
    }
    fn epoch(&self) -> Epoch {
        self.0.epoch()
    }
}

fn check(at: usize) -> Node {
    Node {
        id: format!("s{at:06}").as_str().into(),
        kind: NodeKind::Check,
        phase: SheetPhase::Rise,
        stage: None,
        action: Action::Start { machine: format!("m{at}").as_str().into(), site: "dr".into() },
        made_by: "a bench".into(),
        within: Duration::from_mins(15),
        usually: None,
        retry: None,
        otherwise: Otherwise::Pause,
        after_no_return: false,
        locks: Vec::new(),
    }
}

/// Layers of `width` steps; each step needs the one above it.
fn sheet(steps: usize, width: usize) -> Runsheet {
    let nodes: Vec<Node> = (0..steps).map(check).collect();
    let edge = |at: usize| Edge { from: nodes[at - width].id.clone(), to: nodes[at].id.clone(), kind: EdgeKind::Needs };
    let edges = (width..steps).map(edge).collect();
    Runsheet {
        format: RUNSHEET_FORMAT.into(),
        plan: "bench".into(),
        operation: Operation { kind: Kind::Planned, direction: Direction::Out },
        source: "hq".into(),
        target: "dr".into(),
        rto: None,
        rpo: None,
        owner: None,
        keep: None,
        vault: "file:///vault".into(),
        carriers: Carriers::default(),
        resolvers: Vec::new(),
        test_networks: Vec::new(),
        teams: BTreeMap::new(),
        inventory: Hash::of("none"),
        sites: Default::default(),
        groups: Default::default(),
        machines: Default::default(),
        hooks: Default::default(),
        assumptions: vec![],
        nodes,
        edges,
        left_out: vec![],
    }
}

/// Time on the wall and time of the processor since the start.
struct Watch(Timestamp, f64);

impl Watch {
    fn start() -> Self {
        Self(SystemClock.now(), processor_seconds())
    }
    fn seconds(&self) -> f64 {
        SystemClock.now().since(self.0).as_secs_f64().max(0.001)
    }
    fn processor_seconds(&self) -> f64 {
        (processor_seconds() - self.1).max(0.000_001)
    }
}

/// Of all threads of this process that are alive; the runtime's stay so.
fn processor_seconds() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("this bench needs Linux's /proc");
    let nanoseconds = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<u64>() as f64 / 1e9
}

/// One promise: what was measured, and what it may be.
fn bound(what: &str, measured: f64, unit: &str, most: f64) {
    let kept = if measured <= most { "kept" } else { "NOT KEPT" };
    println!("  {what:<66} {measured:>9.2} {unit:<5} at most {most:<6} {kept}");
}

fn floor(what: &str, measured: f64, unit: &str, least: f64) {
    let kept = if measured >= least { "kept" } else { "NOT KEPT" };
    println!("  {what:<66} {measured:>9.2} {unit:<5} at least {least:<5} {kept}");
}

fn executor(store: Arc<dyn StateStore>) -> Executor {
    Executor::new(store, Arc::new(Idle), Arc::new(SystemClock), Arc::new(SystemRandom))
}

/// A whole run, on a task of its own as the control service has it.
async fn run(store: Arc<dyn StateStore>, sheet: &Runsheet) -> (f64, f64, RunId) {
    let executor = executor(store);
    let opening = Opening { who: "bench".into(), why: String::new(), incident: None, signed: None };
    let run = executor.open_run(sheet, opening).await.unwrap();
    let watch = Watch::start();
    let (_sender, receiver) = commands();
    let driven = run.clone();
    let drive = async move { executor.drive(&driven, receiver, Arc::new(Unwatched), OnPause::Return).await };
    let end = tokio::spawn(drive).await.unwrap().unwrap();
    let (wall, processor) = (watch.seconds(), watch.processor_seconds());
    assert_eq!(end, RunEnd::Done { degraded: vec![] });
    (wall, processor, run)
}

async fn slate(folder: &Path) -> Arc<SlateStore> {
    std::fs::create_dir_all(folder).unwrap();
    let objects = object_store::local::LocalFileSystem::new_with_prefix(folder).unwrap().with_fsync(true);
    let owner = Owner::this_process("bench");
    let opened = SlateStore::open(Arc::new(objects), "state", owner, TakeOver::Steal, Arc::new(SystemClock)).await;
    Arc::new(opened.unwrap())
}

/// Writes a second of the store alone: so many writers, each batch as large as a step's.
async fn store_rate(store: &Arc<SlateStore>, writers: usize, writes: usize, bytes: usize) -> f64 {
    let watch = Watch::start();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            for at in 0..writes / writers {
                let record = Write::put(format!("bench/{writer:05}/{at:08}"), vec![b'x'; bytes / 2]);
                let head = Write::put(format!("head/{writer:05}"), vec![b'y'; bytes / 2]);
                store.write(vec![record, head]).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    (writes / writers * writers) as f64 / watch.seconds()
}

fn line(what: &str, rate: f64, unit: &str) {
    println!("{what:<62} {rate:>12.1} {unit}");
}

/// Most memory this process ever held.
fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}

async fn durable(folder: &Path, full: bool) {
    let store = slate(folder).await;
    let steps = if full { 1_000 } else { 200 };
    let (seconds, _, run_id) = run(store.clone(), &sheet(steps, 1)).await;
    let stored = store.scan(&format!("run/{run_id}/event/")).await.unwrap();
    // A batch is a record and the head of the run.
    let bytes = 2 * stored.iter().map(|(_, value)| value.len()).sum::<usize>() / stored.len();
    let per_step = seconds / steps as f64;
    let alone = 2.0 / store_rate(&store, 1, 2 * steps, bytes).await;
    line("a durable step, one after the other", per_step * 1e6, "us");
    line("two durable writes of the same bytes to the same store", alone * 1e6, "us");
    bound("a durable step by two durable writes", per_step / alone, "x", 1.5);
    for width in [64, 1_024] {
        let steps = width * if full { 8 } else { 2 };
        let (seconds, _, _) = run(store.clone(), &sheet(steps, width)).await;
        let records = 2.0 * steps as f64 / seconds;
        let alone = store_rate(&store, width, 2 * steps, bytes).await;
        line(&format!("{width} steps wide"), records, "records/s");
        line(&format!("the store alone with {width} writers"), alone, "writes/s");
        floor(&format!("{width} wide by the store alone"), records / alone, "x", 0.5);
    }
    store.close().await.unwrap();
}

/// Large runs on a store: the last step costs what the first one does.
async fn durable_growth(folder: &Path, sizes: &[usize]) {
    let mut first = None;
    for &steps in sizes {
        let store = slate(&folder.join(format!("of-{steps}"))).await;
        let (seconds, processor, _) = run(store.clone(), &sheet(steps, 64)).await;
        store.close().await.unwrap();
        let per_step = seconds * 1e6 / steps as f64;
        line(&format!("{steps} durable steps, 64 wide"), per_step, "us/step");
        let first = *first.get_or_insert(processor / steps as f64);
        bound(&format!("processor time of each, by {}", sizes[0]), processor / steps as f64 / first, "x", FLAT);
    }
}

async fn resume(folder: &Path, steps: usize) {
    let store = slate(folder).await;
    let mut sheet = sheet(steps, 1_000.min(steps));
    // The last step waits for a person: the run is left open and taken up again.
    let last = sheet.nodes.last_mut().unwrap();
    last.kind = NodeKind::Gate;
    last.action = Action::Approve { text: "go on?".into(), by: "anyone".into() };
    let executor = executor(store.clone());
    let opening = Opening { who: "bench".into(), why: String::new(), incident: None, signed: None };
    let run = executor.open_run(&sheet, opening).await.unwrap();
    let (_sender, receiver) = commands();
    executor.drive(&run, receiver, Arc::new(Unwatched), OnPause::Return).await.unwrap();
    store.close().await.unwrap();
    let watch = Watch::start();
    let store = slate(folder).await;
    let executor = self::executor(store.clone());
    let (_sender, receiver) = commands();
    let end = executor.drive(&run, receiver, Arc::new(Unwatched), OnPause::Return).await.unwrap();
    assert!(matches!(end, RunEnd::Paused { .. }), "{end:?}");
    bound(&format!("a run of {steps} steps opened and resumed"), watch.seconds(), "s", 2.0);
    store.close().await.unwrap();
}

/// Growth of a step's cost over a hundred times the steps that counts as none: caches hold a run of 1,000 and not one of
/// 100,000, and the database merges tables that a small run never fills. What grows with the run grows a hundredfold.
const FLAT: f64 = 2.0;
/// Processor time of a step without the store, in microseconds.
const BOOKKEEPING_MICROSECONDS: f64 = 20.0;
const MEMORY_MIB: f64 = 600.0;

async fn bookkeeping(sizes: &[usize]) {
    for width in [1, 64] {
        let mut first = None;
        for &steps in sizes {
            let (seconds, processor, _) = run(Arc::new(Forgetful(MemoryStore::new())), &sheet(steps, width)).await;
            line(&format!("{steps} steps, {width} wide, without a store"), seconds * 1e6 / steps as f64, "us/step");
            let per_step = processor * 1e6 / steps as f64;
            bound("processor time of each", per_step, "us", BOOKKEEPING_MICROSECONDS);
            let first = *first.get_or_insert(per_step);
            bound(&format!("the same by {} steps", sizes[0]), per_step / first, "x", FLAT);
        }
    }
    bound("memory of the process so far", memory_mib() as f64, "MiB", MEMORY_MIB);
}

/// As fast as a graph can be walked with a task for each step, and nothing else.
async fn ceiling(steps: usize) {
    let mut graph = petgraph::graph::DiGraph::<(), ()>::new();
    let nodes: Vec<_> = (0..steps).map(|_| graph.add_node(())).collect();
    for at in 64..steps {
        graph.add_edge(nodes[at - 64], nodes[at], ());
    }
    let watch = Watch::start();
    let mut missing: Vec<usize> =
        nodes.iter().map(|node| graph.neighbors_directed(*node, petgraph::Incoming).count()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    nodes
        .iter()
        .filter(|node| missing[node.index()] == 0)
        .for_each(|node| drop(tasks.spawn(std::future::ready(*node))));
    while let Some(done) = tasks.join_next().await {
        for next in graph.neighbors(done.unwrap()) {
            missing[next.index()] -= 1;
            if missing[next.index()] == 0 {
                tasks.spawn(std::future::ready(next));
            }
        }
    }
    line(&format!("tokio and petgraph alone, {steps} steps"), steps as f64 / watch.seconds(), "steps/s");
}

fn fdatasync(folder: &Path) {
    let mut file = std::fs::File::create(folder.join("raw")).unwrap();
    let watch = Watch::start();
    for _ in 0..500 {
        file.write_all(&[b'x'; 512]).unwrap();
        file.sync_data().unwrap();
    }
    line("fdatasync alone, one after the other", 500.0 / watch.seconds(), "/s");
}

/// SQLite as it is in every Python.
fn sqlite(folder: &Path) {
    const SCRIPT: &str = "import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('pragma journal_mode=wal'); db.execute('pragma synchronous=full')
db.execute('create table r(k integer primary key, v blob)')
begin = time.monotonic()
for n in range(500): db.execute('insert into r(v) values (?)', (b'x' * 512,))
print(500 / (time.monotonic() - begin))";
    let output = Process::new("python3").args(["-c", SCRIPT]).arg(folder.join("peer.db")).output();
    let rate = output.ok().and_then(|output| String::from_utf8_lossy(&output.stdout).trim().parse::<f64>().ok());
    match rate {
        Some(rate) => line("SQLite, WAL, FULL, one commit a record", rate, "/s"),
        None => println!("SQLite: no python3 with sqlite3 here"),
    }
}

/// The database below, without what is added to it here: one write and one flush after the other.
async fn slatedb(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let objects = object_store::local::LocalFileSystem::new_with_prefix(folder).unwrap().with_fsync(true);
    let db = slatedb::Db::open("alone", Arc::new(objects)).await.unwrap();
    let watch = Watch::start();
    for at in 0..500u32 {
        db.put(at.to_be_bytes(), [b'x'; 512]).await.unwrap();
        db.flush().await.unwrap();
    }
    line("SlateDB alone, one flush a record", 500.0 / watch.seconds(), "/s");
    db.close().await.unwrap();
}

fn main() {
    let full = std::env::args().any(|argument| argument == "--full");
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let is_asked = |section: &str| only.as_deref().is_none_or(|only| only == section);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir_in(".").unwrap();
    let sizes: &[usize] = if full { &[1_000, 10_000, 100_000] } else { &[500, 1_000, 2_000] };
    runtime.block_on(async {
        // First, while the process holds nothing else.
        if is_asked("bookkeeping") {
            bookkeeping(sizes).await;
        }
        if is_asked("beside") {
            fdatasync(folder.path());
            sqlite(folder.path());
            slatedb(&folder.path().join("slatedb")).await;
            ceiling(*sizes.last().unwrap()).await;
        }
        if is_asked("durable") {
            durable(folder.path(), full).await;
        }
        if is_asked("growth") {
            durable_growth(folder.path(), sizes).await;
        }
        if is_asked("resume") {
            resume(&folder.path().join("resumed"), if full { 10_000 } else { 1_000 }).await;
        }
    });
}
