//! The executor and the reference agree, on random sheets, steps and people, and however often the engine dies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use async_trait::async_trait;
use muster_executor::testing::VirtualClock;
use muster_executor::*;
use muster_journal::*;
use muster_ports::*;
use muster_provider_simulated::SeededRandom;
use muster_runsheet::{
    Action, Carriers, Direction, Duration, Edge, EdgeKind, FenceProof, Hash, Kind, Node, NodeKind, Operation,
    Otherwise, RUNSHEET_FORMAT, RetrySheet, Runsheet, SheetPhase,
};
use muster_simulation::model::{Ending, Meaning, Reply, Script, meaning};
use muster_simulation::play::in_virtual_time;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What the steps do, beyond all lives of the engine.
#[derive(Debug, Default)]
struct World {
    scripts: BTreeMap<String, Script>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    /// How often each effect was done, by step and key.
    done: BTreeMap<(String, String), u32>,
    standing: BTreeSet<String>,
    stumbled: BTreeMap<String, u32>,
    /// Decisions to try again that the journal knows: what was broken has been mended so often.
    mended: BTreeMap<String, u32>,
    unstuck: BTreeMap<String, u32>,
}

#[derive(Debug)]
struct Steps(Arc<World>);

#[async_trait]
impl StepRunner for Steps {
    async fn observe(&self, cx: StepContext<'_>) -> Result<Observation> {
        let holds = self.0.now.lock().unwrap().standing.contains(cx.node.id.as_str());
        Ok(if holds { Observation::Holds(StepOutput::None) } else { Observation::DoesNotHold })
    }
    async fn act(&self, cx: StepContext<'_>) -> Result<Acted> {
        let id = cx.node.id.to_string();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let script = self.0.scripts[&id].clone();
        let mut now = self.0.now.lock().unwrap();
        let mended = now.mended.get(&id).copied().unwrap_or(0);
        if let Some((class, times)) = script.broken
            && mended < times
        {
            return Err(Failure::new(class, "it is broken"));
        }
        let stumbled = now.stumbled.entry(id.clone()).or_default();
        if *stumbled < script.stumbles {
            *stumbled += 1;
            return Err(Failure::transient("it stumbled"));
        }
        if matches!(cx.node.kind, NodeKind::Act | NodeKind::Hook) {
            // The outside knows the key.
            let key = (id.clone(), cx.key.to_string());
            if cx.node.kind == NodeKind::Act || !now.done.contains_key(&key) {
                *now.done.entry(key).or_default() += 1;
            }
            now.standing.insert(id);
        }
        let fence = matches!(cx.node.action, Action::Fence { .. });
        Ok(Acted::Done(if fence { StepOutput::Fence { how: "off".into() } } else { StepOutput::None }))
    }
    async fn undo(&self, cx: StepContext<'_>) -> Result<()> {
        let id = cx.node.id.to_string();
        let mut now = self.0.now.lock().unwrap();
        if now.unstuck.get(&id).copied().unwrap_or(0) < self.0.scripts[&id].sticks {
            return Err(Failure::permanent("it will not go"));
        }
        now.standing.remove(&id);
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Shape {
    kind: u8,
    otherwise: u8,
    retries: u32,
    script: Script,
    from: u16,
    ends: u16,
    no_return: bool,
}

fn script() -> impl Strategy<Value = Script> {
    let class = prop_oneof![
        Just(FailureClass::Transient),
        Just(FailureClass::Timeout),
        Just(FailureClass::Permanent),
        Just(FailureClass::Refused),
        Just(FailureClass::Diverged),
    ];
    let broken = prop_oneof![3 => Just(None), 2 => (class, 1u32..3).prop_map(Some)];
    let decision = prop_oneof![
        3 => Just(Decision::Retry),
        1 => Just(Decision::Redo),
        1 => Just(Decision::Skip),
        1 => Just(Decision::DoneByHand),
        1 => Just(Decision::Abort),
    ];
    let stuck = prop_oneof![2 => Just(Decision::Retry), 1 => Just(Decision::Skip), 1 => Just(Decision::DoneByHand)];
    let reply = prop_oneof![2 => Just(Reply::Yes), 1 => Just(Reply::No), 1 => Just(Reply::Nothing)];
    let many = prop::collection::vec(decision, 0..3);
    let rest = (prop::collection::vec(reply, 0..3), prop::collection::vec(stuck, 0..2), 0u32..4);
    (broken, 0u32..3, many, rest).prop_map(|(broken, stumbles, decisions, (replies, stuck, sticks))| Script {
        broken,
        stumbles,
        replies,
        decisions,
        sticks: sticks.saturating_sub(2),
        stuck,
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    (0u8..12, 0u8..6, 0u32..3, script(), any::<u16>(), any::<u16>(), prop::bool::weighted(0.1)).prop_map(
        |(kind, otherwise, retries, script, from, ends, no_return)| Shape {
            kind,
            otherwise,
            retries,
            script,
            from,
            ends,
            no_return,
        },
    )
}

fn node(at: usize, shape: &Shape, after_no_return: bool, may_undo: bool) -> Node {
    let id = format!("s{at}");
    let (kind, action) = match shape.kind {
        0 => (NodeKind::Barrier, Action::Barrier),
        1 => (NodeKind::Timer, Action::Wait { duration: Duration::from_mins(10) }),
        2 | 3 => (NodeKind::Hook, Action::Run { hook: "swing".into(), arguments: BTreeMap::new() }),
        4 => (NodeKind::Note, Action::Notify { to: "ops".into(), text: "hello".into() }),
        5 | 6 => (NodeKind::Gate, Action::Approve { text: "go?".into(), by: "leads".into() }),
        7 => {
            let fence = Action::Fence { site: "hq".into(), machines: vec![], proof: FenceProof::PowerOffOrSignature };
            (NodeKind::Gate, fence)
        }
        8 => (NodeKind::Check, Action::Start { machine: id.as_str().into(), site: "dr".into() }),
        _ => (NodeKind::Act, Action::Start { machine: id.as_str().into(), site: "dr".into() }),
    };
    // A plan has one point of no return.
    let no_return = shape.no_return && may_undo && !after_no_return;
    let (kind, action) = if no_return { (NodeKind::Barrier, Action::NoReturn) } else { (kind, action) };
    Node {
        id: id.as_str().into(),
        kind,
        phase: SheetPhase::Rise,
        stage: None,
        action,
        made_by: "a test".into(),
        // Questions are answered when nothing else moves.
        within: Duration::from_mins(if matches!(kind, NodeKind::Gate) { 14_400 } else { 15 }),
        usually: None,
        retry: (shape.retries > 0).then(|| RetrySheet {
            count: shape.retries,
            delay: Duration::from_secs(20),
            factor: 2,
            each: None,
        }),
        otherwise: match shape.otherwise {
            0 | 1 => Otherwise::Continue,
            2 if may_undo => Otherwise::Undo,
            _ => Otherwise::Pause,
        },
        after_no_return,
        locks: vec![format!("machine:m{}", at % 3)],
    }
}

/// `chain`: one step after the other, so that it is known what has begun when a run is taken back.
fn built(shapes: &[Shape], chain: bool) -> (Runsheet, BTreeMap<String, Script>) {
    let (mut nodes, mut edges, mut scripts) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut after_no_return = false;
    for (at, shape) in shapes.iter().enumerate() {
        let node = node(at, shape, after_no_return, chain);
        after_no_return |= matches!(node.action, Action::NoReturn);
        let before: Vec<usize> = match chain {
            true => at.checked_sub(1).into_iter().collect(),
            false => (0..at).filter(|from| shape.from >> from & 1 == 1).collect(),
        };
        for from in before {
            let kind = if shape.ends >> from & 1 == 1 { EdgeKind::Ends } else { EdgeKind::Needs };
            edges.push(Edge { from: nodes_id(from), to: node.id.clone(), kind });
        }
        let mut script = shape.script.clone();
        script.stumbles = script.stumbles.min(shape.retries);
        if !chain {
            script.decisions.retain(|decision| *decision != Decision::Abort);
        }
        scripts.insert(node.id.to_string(), script);
        nodes.push(node);
    }
    (sheet(nodes, edges), scripts)
}

fn nodes_id(at: usize) -> StepId {
    format!("s{at}").as_str().into()
}

fn sheet(nodes: Vec<Node>, edges: Vec<Edge>) -> Runsheet {
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

struct Bench {
    world: Arc<World>,
    store: Arc<MemoryStore>,
    run: RunId,
    clock: Arc<VirtualClock>,
}

impl Bench {
    fn executor(&self) -> Executor {
        let random = Arc::new(SeededRandom::new(7));
        Executor::new(self.store.clone(), Arc::new(Steps(self.world.clone())), self.clock.clone(), random)
    }

    /// Tells the world what the journal knows of people, and gives the records.
    async fn read(&self) -> Vec<Record> {
        let records = self.executor().runs().load(&self.run).await.expect("a journal that verifies").records;
        let mut now = self.world.now.lock().unwrap();
        (now.mended, now.unstuck) = Default::default();
        let mut undoing = false;
        for record in &records {
            undoing |= matches!(record.event, Event::UndoBegun { .. });
            if let Event::Decided { node, decision: Decision::Retry | Decision::Redo, .. } = &record.event {
                let now = &mut *now;
                let tries = if undoing { &mut now.unstuck } else { &mut now.mended };
                *tries.entry(node.to_string()).or_default() += 1;
            }
        }
        records
    }

    /// What people say to one thing that waits, and what if that is refused; nothing, when they let it wait.
    fn word(&self, records: &[Record], waits: &Waiting) -> Option<Vec<Command>> {
        let decided = |id: &StepId, undo: bool| {
            let begun = records.iter().position(|record| matches!(record.event, Event::UndoBegun { .. }));
            let part = match (undo, begun) {
                (true, Some(begun)) => &records[begun..],
                (false, Some(begun)) => &records[..begun],
                _ => records,
            };
            part.iter().filter(|record| matches!(&record.event, Event::Decided { node, .. } if node == id)).count()
        };
        let decide = |node: &StepId, decision| Command::Decide {
            node: node.clone(),
            decision,
            who: "anna".into(),
            why: String::new(),
        };
        match waits {
            Waiting::Question { node, .. } => {
                // By what came of it: a yes that grew too old is asked for again, and is a yes again.
                let failed =
                    |record: &&Record| matches!(&record.event, Event::AttemptFailed { node: of, .. } if of == node);
                let failed = records.iter().filter(failed).count();
                let reply = self.world.scripts[node.as_str()].replies.get(failed).copied().unwrap_or(Reply::Yes);
                let answer = |yes| Answer { yes, who: "anna".into(), why: String::new() };
                match reply {
                    Reply::Nothing => None,
                    reply => Some(vec![Command::Answer { node: node.clone(), answer: answer(reply == Reply::Yes) }]),
                }
            }
            Waiting::Decision { node, .. } => {
                let word = self.world.scripts[node.as_str()].decisions.get(decided(node, false));
                let wanted = word.copied().unwrap_or(Decision::Retry);
                Some(vec![decide(node, wanted), decide(node, Decision::Retry)])
            }
            Waiting::Stuck { node, .. } => {
                let word = self.world.scripts[node.as_str()].stuck.get(decided(node, true));
                Some(vec![decide(node, word.copied().unwrap_or(Decision::Retry))])
            }
            Waiting::Run { .. } => panic!("nobody paused the run"),
        }
    }

    /// Lives until the run has ended. Each fault hits a life of its own.
    async fn live(&mut self, faults: &[Fault]) -> RunEnd {
        let mut faults = faults.iter();
        for _ in 0..500 {
            self.store = Arc::new(self.store.reopen());
            self.store.inject(faults.next().map(|fault| match *fault {
                Fault::DieBefore(n) => Fault::DieBefore(self.store.writes() + n),
                Fault::DieAfter(n) => Fault::DieAfter(self.store.writes() + n),
            }));
            let mut patience = None;
            for turn in 0.. {
                assert!(turn < 200, "people say the same again and again");
                self.read().await;
                // Nobody speaks while it is driven. A question that is let wait runs out of its time, and the engine dies
                // soon after, before another one does.
                let (_, receiver) = commands();
                let on_pause = if patience.is_some() { OnPause::Wait } else { OnPause::Return };
                let executor = self.executor();
                let driven = tokio::select! {
                    biased;
                    driven = executor.drive(&self.run, receiver, Arc::new(Unwatched), on_pause) => driven,
                    () = self.clock.sleep_until(patience.unwrap_or(Timestamp(u64::MAX))), if patience.is_some() => {
                        patience = None;
                        continue;
                    }
                };
                let waiting = match driven {
                    Ok(RunEnd::Paused { waiting }) => waiting,
                    Ok(end) => return end,
                    Err(ExecutorError::Journal(JournalError::Store(StoreError::Unavailable(_)))) => break,
                    Err(error) => panic!("{error}"),
                };
                let records = self.read().await;
                let words = waiting.iter().find_map(|waits| self.word(&records, waits));
                let times_out = |waits: &Waiting| match waits {
                    Waiting::Question { until, .. } => *until,
                    _ => None,
                };
                // Claiming the run again does not take of the time of a question.
                let first = waiting.iter().filter_map(times_out).min();
                patience = first.filter(|_| words.is_none()).map(|first| first.plus(std::time::Duration::from_secs(1)));
                // What is refused is not possible now; the second word is then said.
                for word in words.unwrap_or_default() {
                    match self.executor().decide_offline(&self.run, &word).await {
                        Err(ExecutorError::Refused(_)) => continue,
                        _ => break,
                    }
                }
            }
        }
        panic!("500 lives were not enough");
    }
}

fn check(shapes: &[Shape], chain: bool, faults: &[Fault]) {
    let (sheet, scripts) = built(shapes, chain);
    let expected = meaning(&sheet, &scripts);
    in_virtual_time(async {
        let world = Arc::new(World { scripts, now: Mutex::default() });
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(VirtualClock::default()));
        let mut bench = Bench { world, store, run: RunId::new(""), clock };
        let opening = Opening { who: "anna".into(), why: String::new(), incident: None, signed: None };
        bench.run = bench.executor().open_run(&sheet, opening).await.unwrap();
        let end = bench.live(faults).await;
        let loaded = bench.executor().runs().load(&bench.run).await.unwrap();
        let ending = match end {
            RunEnd::Done { .. } => Ending::Done,
            RunEnd::Undone { .. } => Ending::Undone,
            RunEnd::Aborted { .. } => Ending::Aborted,
            RunEnd::Failed { .. } => Ending::Failed,
            RunEnd::Paused { .. } => panic!("it has not ended"),
        };
        let stands = loaded.state.nodes().map(|node| (node.id.to_string(), node.stand)).collect();
        let now = bench.world.now.lock().unwrap();
        let found = Meaning { ending, stands, standing: now.standing.clone() };
        assert_eq!(found, expected);
        for (effect, times) in &now.done {
            assert_eq!(*times, 1, "{effect:?} was done {times} times");
        }
        let wrong = muster_simulation::audit::audit(&loaded);
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![(1u64..30).prop_map(Fault::DieBefore), (1u64..30).prop_map(Fault::DieAfter)];
    prop::collection::vec(fault, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, max_shrink_iters: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn chains_mean_what_the_reference_says(shapes in prop::collection::vec(shape(), 1..8), faults in faults()) {
        check(&shapes, true, &faults);
    }

    #[test]
    fn graphs_mean_what_the_reference_says(shapes in prop::collection::vec(shape(), 1..10), faults in faults()) {
        check(&shapes, false, &faults);
    }
}
