//! Runs in a store: legal transitions, and a chain in which every change is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // also in the helpers of tests

use bytes::Bytes;
use muster_journal::*;
use muster_ports::{Failure, RunId, StateStore, StepId, StoreError, Timestamp};
use muster_runsheet::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn sheet(ids: &[&str]) -> Runsheet {
    let node = |id: &&str| Node {
        id: StepId::from(*id),
        kind: NodeKind::Act,
        phase: SheetPhase::Rise,
        stage: None,
        action: Action::Report,
        made_by: "a test".into(),
        within: Duration::from_mins(5),
        usually: None,
        retry: None,
        otherwise: Otherwise::Pause,
        after_no_return: false,
        locks: vec![],
    };
    Runsheet {
        format: RUNSHEET_FORMAT.into(),
        plan: "shop".into(),
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
        teams: std::collections::BTreeMap::new(),
        inventory: Hash::of("none"),
        sites: Default::default(),
        groups: Default::default(),
        machines: Default::default(),
        hooks: Default::default(),
        assumptions: vec![],
        nodes: ids.iter().map(node).collect(),
        edges: vec![],
        left_out: vec![],
    }
}

fn started(node: &str, attempt: u32) -> Event {
    let (node, deadline) = (StepId::from(node), Timestamp(9_000_000));
    Event::AttemptStarted { key: effect_key(&"r1".into(), &node, 0), node, attempt, deadline }
}
fn done(node: &str) -> Event {
    Event::NodeSucceeded { node: node.into(), output: StepOutput::None, adopted: false }
}

async fn opened(store: &Arc<MemoryStore>, ids: &[&str]) -> (RunStore, RunJournal) {
    let runs = RunStore::new(store.clone());
    let opening = Opening { who: "anna".into(), why: "drill".into(), incident: None, signed: None };
    runs.create(&"r1".into(), &sheet(ids), &opening, Timestamp(1_000)).await.unwrap();
    let journal = runs.journal(&"r1".into()).await.unwrap();
    (runs, journal)
}

#[tokio::test]
async fn what_was_appended_is_what_is_loaded() {
    let store = Arc::new(MemoryStore::new());
    let (runs, mut journal) = opened(&store, &["a", "b"]).await;
    journal.append(vec![started("a", 1), done("a")], Timestamp(2_000)).await.unwrap();
    journal.append(vec![started("b", 1)], Timestamp(3_000)).await.unwrap();

    let loaded = runs.load(&"r1".into()).await.unwrap();
    assert_eq!(loaded.records.len(), 4);
    assert_eq!(&loaded.state, &**journal.state());
    assert_eq!(loaded.state.node(&"a".into()).unwrap().stand, Stand::Succeeded);
    assert_eq!(loaded.state.node(&"b".into()).unwrap().stand, Stand::Running);
    let list = runs.list().await.unwrap();
    assert_eq!((list.len(), list[0].status, list[0].seq), (1, RunStatus::Open, 3));
    assert!(matches!(runs.load(&"r2".into()).await, Err(JournalError::NoSuchRun(_))));
}

/// Shows the head as it was, so many times, as a reader meets it beside a writer that goes on.
#[derive(Debug)]
struct Behind {
    store: Arc<MemoryStore>,
    head: Bytes,
    times: AtomicU32,
}

#[async_trait::async_trait]
impl StateStore for Behind {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let late = |times: u32| times.checked_sub(1);
        if key.starts_with("runs/") && self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, late).is_ok() {
            return Ok(Some(self.head.clone()));
        }
        self.store.get(key).await
    }
    async fn scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.store.scan(prefix).await
    }
    async fn write(&self, _: Vec<muster_ports::Write>) -> Result<(), StoreError> {
        Err(StoreError::Fenced)
    }
    fn epoch(&self) -> muster_ports::Epoch {
        self.store.epoch()
    }
}

#[tokio::test]
async fn a_reader_beside_a_writer_sees_the_journal_as_it_was_and_no_damage() {
    let store = Arc::new(MemoryStore::new());
    let (_, mut journal) = opened(&store, &["a", "b"]).await;
    journal.append(vec![started("a", 1)], Timestamp(2_000)).await.unwrap();
    let head = store.get("runs/r1").await.unwrap().unwrap();
    journal.append(vec![done("a"), started("b", 1)], Timestamp(3_000)).await.unwrap();

    let behind = |times| {
        let (store, head) = (store.clone(), head.clone());
        RunStore::new(Arc::new(Behind { store, head, times: AtomicU32::new(times) }))
    };
    assert_eq!(behind(1).load(&"r1".into()).await.unwrap().records.len(), 2);
    // A head that does not move with its records is damage.
    let error = behind(u32::MAX).load(&"r1".into()).await.unwrap_err();
    assert!(matches!(error, JournalError::Damaged { seq: 1, .. }), "{error}");
}

/// Counts what is handed over.
#[derive(Debug)]
struct Counted {
    store: Arc<MemoryStore>,
    pairs: AtomicU32,
}

#[async_trait::async_trait]
impl StateStore for Counted {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.store.get(key).await
    }
    async fn scan(&self, _: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        panic!("all of it is read");
    }
    async fn scan_from(&self, prefix: &str, from: &str, limit: usize) -> Result<Vec<(String, Bytes)>, StoreError> {
        let found = self.store.scan_from(prefix, from, limit).await?;
        self.pairs.fetch_add(u32::try_from(found.len()).unwrap(), Ordering::SeqCst);
        Ok(found)
    }
    async fn write(&self, _: Vec<muster_ports::Write>) -> Result<(), StoreError> {
        Err(StoreError::Fenced)
    }
    fn epoch(&self) -> muster_ports::Epoch {
        self.store.epoch()
    }
}

#[tokio::test]
async fn who_has_a_record_reads_those_after_it_and_no_other() {
    let store = Arc::new(MemoryStore::new());
    let (runs, mut journal) = opened(&store, &["a", "b"]).await;
    for at in 0..40 {
        let note = Event::Noted { node: "a".into(), text: format!("note {at}") };
        journal.append(vec![note], Timestamp(2_000)).await.unwrap();
    }
    let run = RunId::from("r1");
    let all = runs.load(&run).await.unwrap().records;
    let counted = Arc::new(Counted { store: store.clone(), pairs: AtomicU32::new(0) });
    let tail = RunStore::new(counted.clone());
    assert_eq!(tail.records_after(&run, 37).await.unwrap(), all[38..]);
    // The one that is known, twice: for its link, and as the first of the page.
    assert_eq!(counted.pairs.swap(0, Ordering::SeqCst), 5);
    assert_eq!(tail.records_after(&run, 40).await.unwrap(), []);
    assert_eq!(counted.pairs.load(Ordering::SeqCst), 2);
    assert_eq!(tail.records_after(&run, 0).await.unwrap(), all[1..]);

    // Beside a writer that goes on, as far as the head that was read.
    let head = store.get("runs/r1").await.unwrap().unwrap();
    journal.append(vec![started("b", 1)], Timestamp(3_000)).await.unwrap();
    let behind = RunStore::new(Arc::new(Behind { store: store.clone(), head, times: AtomicU32::new(1) }));
    assert_eq!(behind.records_after(&run, 39).await.unwrap(), all[40..]);

    // What was changed or lost is found there too.
    assert!(runs.records_after(&run, 99).await.is_err());
    let key = format!("run/r1/event/{:010}", 40);
    let changed = store.get(&key).await.unwrap().unwrap().to_vec();
    let changed = String::from_utf8(changed).unwrap().replace("note 39", "note 38");
    store.tamper(&key, Some(Bytes::from(changed)));
    assert!(matches!(runs.records_after(&run, 37).await, Err(JournalError::Damaged { seq: 41, .. })));
    store.tamper(&key, None);
    assert!(matches!(runs.records_after(&run, 37).await, Err(JournalError::Damaged { seq: 40, .. })));
}

#[tokio::test]
async fn an_illegal_event_names_both_states_and_writes_nothing() {
    let store = Arc::new(MemoryStore::new());
    let (runs, mut journal) = opened(&store, &["a"]).await;
    let writes = store.writes();
    let failed = Event::AttemptFailed { node: "a".into(), attempt: 1, failure: Failure::permanent("no") };
    let error = journal.append(vec![failed], Timestamp(2_000)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "record 1: `attempt-failed` cannot follow for step `a`: it is waiting, which does not lead to failed"
    );
    // A batch is all or nothing: the legal first half is not kept either.
    assert!(journal.append(vec![started("a", 1), done("a"), done("a")], Timestamp(2_000)).await.is_err());
    assert!(journal.append(vec![started("ghost", 1)], Timestamp(2_000)).await.is_err());
    assert_eq!(store.writes(), writes);
    assert_eq!(runs.load(&"r1".into()).await.unwrap().records.len(), 1);
    journal.append(vec![started("a", 1), done("a")], Timestamp(2_000)).await.unwrap();
}

#[tokio::test]
async fn after_no_return_nothing_is_undone_and_after_the_end_nothing_follows() {
    let store = Arc::new(MemoryStore::new());
    let (_, mut journal) = opened(&store, &["a"]).await;
    journal.append(vec![done("a"), Event::NoReturn { node: "a".into() }], Timestamp(2_000)).await.unwrap();
    let undo = Event::UndoBegun { by: None, why: "late".into() };
    let error = journal.append(vec![undo], Timestamp(3_000)).await.unwrap_err();
    assert!(error.to_string().contains("point of no return"), "{error}");
    let closed = Event::RunClosed { status: RunStatus::Done, took_millis: 2, degraded: vec![], losses: vec![] };
    journal.append(vec![closed], Timestamp(3_000)).await.unwrap();
    let error = journal.append(vec![Event::EngineReleased], Timestamp(4_000)).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
}

#[tokio::test]
async fn a_second_writer_fences_the_first() {
    let store = Arc::new(MemoryStore::new());
    let (_, mut old) = opened(&store, &["a"]).await;
    let newer = Arc::new(store.reopen());
    let runs = RunStore::new(newer.clone());
    let mut new = runs.journal(&"r1".into()).await.unwrap();
    let error = old.append(vec![started("a", 1)], Timestamp(2_000)).await.unwrap_err();
    assert!(matches!(error, JournalError::Store(StoreError::Fenced)), "{error}");
    new.append(vec![started("a", 1)], Timestamp(2_000)).await.unwrap();
    assert_eq!(runs.load(&"r1".into()).await.unwrap().records[1].epoch, newer.epoch());
}

#[test]
fn downtime_counts_for_acts_and_not_for_checks() {
    let mut sheet = sheet(&["act", "check"]);
    sheet.nodes[1].kind = NodeKind::Check;
    let run = RunId::from("r1");
    let mut records = Vec::new();
    let mut push = |time: u64, event: Event| {
        let seq = records.len() as u64;
        records.push(Record { seq, time: Timestamp(time), epoch: Default::default(), prev_hash: Hash::of(""), event });
    };
    push(
        0,
        Event::RunOpened {
            format: RUN_FORMAT.into(),
            sheet: sheet.hash(),
            plan: "shop".into(),
            operation: sheet.operation,
            who: "anna".into(),
            why: String::new(),
            incident: None,
            signed: None,
        },
    );
    push(1_000, started("act", 1));
    push(1_000, started("check", 1));
    push(61_000, Event::EngineClaimed { engine: "later".into() });
    let state = fold(&run, &sheet, &records).unwrap();
    assert_eq!(state.node(&"act".into()).unwrap().deadline, Some(Timestamp(9_000_000)));
    assert_eq!(state.node(&"check".into()).unwrap().deadline, Some(Timestamp(9_060_000)));
    assert!(state.node(&"act".into()).unwrap().orphaned(state.claim_seq));
}

/// Every bit of every record and of the head, bits of the sheet, and every value as a whole.
#[tokio::test]
async fn any_change_is_found() {
    let store = Arc::new(MemoryStore::new());
    let (runs, mut journal) = opened(&store, &["a", "b"]).await;
    for node in ["a", "b"] {
        journal.append(vec![started(node, 1)], Timestamp(2_000)).await.unwrap();
        let note = Event::Noted { node: node.into(), text: "x".into() };
        journal.append(vec![note, done(node)], Timestamp(2_000)).await.unwrap();
    }
    let run = RunId::from("r1");
    let right = runs.load(&run).await.unwrap();
    // What a list shows besides the chain is not protected: it is rewritten with the next record.
    let shown = |bytes: &[u8]| serde_json::from_slice::<RunSummary>(bytes).map(|head| (head.seq, head.hash)).ok();
    let mut keys = vec!["run/r1/sheet".to_owned(), "runs/r1".to_owned()];
    keys.extend((0..7).map(|seq| format!("run/r1/event/{seq:010}")));
    for key in &keys {
        let value = store.get(key).await.unwrap().unwrap();
        // One hash is over all of a sheet.
        let step = if key.ends_with("/sheet") { 13 } else { 1 };
        for bit in (0..value.len() * 8).step_by(step) {
            let mut changed = value.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            if key == "runs/r1" && shown(&changed) == shown(&value) {
                continue;
            }
            store.tamper(key, Some(Bytes::from(changed)));
            assert_found(runs.load(&run).await, &format!("bit {bit} of {key}"));
        }
        store.tamper(key, None);
        assert_found(runs.load(&run).await, &format!("{key} is lost"));
        store.tamper(key, Some(value));
    }
    assert_eq!(runs.load(&run).await.unwrap().records, right.records);
}

fn assert_found(loaded: Result<LoadedRun, JournalError>, change: &str) {
    let error = loaded.expect_err(change);
    assert!(matches!(error, JournalError::Damaged { .. } | JournalError::NoSuchRun(_)), "{change}: {error:?}");
}
