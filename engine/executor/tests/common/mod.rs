//! A world that counts what is done to it, and sheets small enough to think about.
#![allow(dead_code, unreachable_pub)]

use async_trait::async_trait;
use muster_executor::testing::VirtualClock;
use muster_executor::*;
use muster_journal::*;
use muster_ports::*;
use muster_runsheet::{
    Action, Carriers, Direction, Duration, Edge, EdgeKind, FenceProof, Hash, Kind, Node, NodeKind, Operation,
    Otherwise, RUNSHEET_FORMAT, RetrySheet, Runsheet, SheetPhase,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How a step behaves, by its id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    Works,
    /// Fails this many times in a way that passes, then works.
    Transient(u32),
    Permanent,
    /// The effect happens, but the first answer is lost.
    AnswerLost,
    /// Never answers.
    Hangs,
    /// Asks a person first.
    Asks,
    /// Works, and cannot be taken back this many times.
    UndoFails(u32),
    /// What the world says of it cannot be told.
    Dark,
    Diverged,
}

#[derive(Debug, Default)]
pub struct World {
    pub behaviour: BTreeMap<String, Behaviour>,
    inner: Mutex<Inner>,
    /// Boundaries of effects so far: before and after each.
    boundaries: AtomicU64,
    /// At this boundary the engine dies.
    die_at: AtomicU64,
    /// The store that dies with it.
    store: Mutex<Option<Arc<MemoryStore>>>,
}

#[derive(Debug, Default, Clone)]
struct Inner {
    /// How often each effect really happened. By step for acts, by step and call for hooks.
    effects: BTreeMap<String, u32>,
    undone: BTreeMap<String, u32>,
    acts: BTreeMap<String, u32>,
    undos: BTreeMap<String, u32>,
    fails: BTreeMap<String, u32>,
    order: Vec<String>,
    running: BTreeMap<String, u32>,
    most_running: BTreeMap<String, u32>,
}

impl World {
    pub fn new(behaviour: &[(&str, Behaviour)]) -> Self {
        let behaviour = behaviour.iter().map(|(step, how)| ((*step).to_owned(), *how)).collect();
        Self { behaviour, die_at: AtomicU64::new(u64::MAX), ..Self::default() }
    }
    pub fn effects(&self) -> BTreeMap<String, u32> {
        self.inner.lock().unwrap().effects.clone()
    }
    /// These hold before anything is done.
    pub fn already(&self, steps: &[&str]) {
        let mut inner = self.inner.lock().unwrap();
        inner.effects.extend(steps.iter().map(|step| ((*step).to_owned(), 1)));
    }
    /// Effects that stand: done and not taken back.
    pub fn standing(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        inner.effects.keys().filter(|step| !inner.undone.contains_key(*step)).cloned().collect()
    }
    pub fn acts(&self, step: &str) -> u32 {
        self.inner.lock().unwrap().acts.get(step).copied().unwrap_or(0)
    }
    pub fn order(&self) -> Vec<String> {
        self.inner.lock().unwrap().order.clone()
    }
    pub fn most_running(&self, lock: &str) -> u32 {
        self.inner.lock().unwrap().most_running.get(lock).copied().unwrap_or(0)
    }
    pub fn boundaries(&self) -> u64 {
        self.boundaries.load(Ordering::SeqCst)
    }
    pub fn die_at(&self, boundary: u64, store: &Arc<MemoryStore>) {
        self.die_at.store(boundary, Ordering::SeqCst);
        *self.store.lock().unwrap() = Some(store.clone());
    }
    pub fn live_on(&self) {
        self.die_at.store(u64::MAX, Ordering::SeqCst);
    }
    fn how(&self, step: &StepId) -> Behaviour {
        self.behaviour.get(step.as_str()).copied().unwrap_or(Behaviour::Works)
    }
    fn boundary(&self) -> Result<()> {
        let at = self.boundaries.fetch_add(1, Ordering::SeqCst) + 1;
        let die_at = self.die_at.load(Ordering::SeqCst);
        if at >= die_at {
            if let Some(store) = &*self.store.lock().unwrap() {
                store.kill();
            }
            return Err(Failure::transient("the engine is dead"));
        }
        Ok(())
    }
    fn effect(&self, name: String) -> Result<()> {
        self.boundary()?;
        {
            let mut inner = self.inner.lock().unwrap();
            *inner.effects.entry(name.clone()).or_default() += 1;
            inner.order.push(name);
        }
        self.boundary()
    }
    fn fails(&self, step: &StepId, times: u32) -> bool {
        let mut inner = self.inner.lock().unwrap();
        let fails = inner.fails.entry(step.to_string()).or_default();
        *fails += 1;
        *fails <= times
    }
    /// A script with two calls, as the hook host would run it.
    async fn hook(&self, cx: &StepContext<'_>) -> Result<()> {
        for number in 0..2 {
            let recorded = cx.calls.recorded();
            if recorded.iter().any(|call| call.number == number && call.result.is_some()) {
                continue;
            }
            cx.calls.intend(number, "http.put", "0000").await?;
            let name = format!("{}#{number}", cx.node.id);
            // The outside knows the key: a repeated call has no second effect.
            if self.effects().contains_key(&name) {
                self.boundary()?;
            } else {
                self.effect(name)?;
            }
            cx.calls.done(number, serde_json::json!({"status": 200})).await?;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct Runner(pub Arc<World>);

struct Holding<'a>(&'a World, Vec<String>);

impl<'a> Holding<'a> {
    fn new(world: &'a World, locks: &[String]) -> Self {
        let mut inner = world.inner.lock().unwrap();
        for lock in locks {
            let running = inner.running.entry(lock.clone()).or_default();
            *running += 1;
            let now = *running;
            let most = inner.most_running.entry(lock.clone()).or_default();
            *most = (*most).max(now);
        }
        drop(inner);
        Self(world, locks.to_vec())
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock().unwrap();
        for lock in &self.1 {
            *inner.running.get_mut(lock).unwrap() -= 1;
        }
    }
}

#[async_trait]
impl StepRunner for Runner {
    async fn observe(&self, cx: StepContext<'_>) -> Result<Observation> {
        if self.0.how(&cx.node.id) == Behaviour::Dark {
            return Ok(Observation::CannotTell("the site does not answer".into()));
        }
        Ok(if self.0.standing().contains(&cx.node.id.to_string()) {
            Observation::Holds(StepOutput::None)
        } else {
            Observation::DoesNotHold
        })
    }

    async fn act(&self, cx: StepContext<'_>) -> Result<Acted> {
        let world = &self.0;
        let step = &cx.node.id;
        let _holding = Holding::new(world, &cx.node.locks);
        *world.inner.lock().unwrap().acts.entry(step.to_string()).or_default() += 1;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        match world.how(step) {
            Behaviour::Permanent => return Err(Failure::permanent("no such image")),
            Behaviour::Diverged => return Err(Failure::diverged("another machine is there")),
            Behaviour::Hangs => std::future::pending().await,
            Behaviour::Transient(times) if world.fails(step, times) => return Err(Failure::transient("busy")),
            Behaviour::Asks if cx.answer.is_none() => {
                let (text, to) = ("sign for split-brain?".to_owned(), "anyone".to_owned());
                return Ok(Acted::Ask(Question { text, to, kind: QuestionKind::SplitBrain }));
            }
            Behaviour::Asks if cx.answer.is_some_and(|answer| !answer.yes) => {
                return Err(Failure::refused("nobody signed"));
            }
            _ => {}
        }
        match cx.node.kind {
            NodeKind::Act => world.effect(step.to_string())?,
            NodeKind::Hook => world.hook(&cx).await?,
            _ => {}
        }
        if world.how(step) == Behaviour::AnswerLost && world.fails(step, 1) {
            return Err(Failure::timeout("no answer"));
        }
        Ok(Acted::Done(match &cx.node.action {
            Action::Fence { .. } => StepOutput::Fence { how: "powered off".into() },
            _ => StepOutput::None,
        }))
    }

    async fn undo(&self, cx: StepContext<'_>) -> Result<()> {
        let world = &self.0;
        let step = cx.node.id.to_string();
        *world.inner.lock().unwrap().undos.entry(step.clone()).or_default() += 1;
        if let Behaviour::UndoFails(times) = world.how(&cx.node.id)
            && world.fails(&cx.node.id, times)
        {
            return Err(Failure::permanent("it will not go"));
        }
        world.boundary()?;
        {
            let mut inner = world.inner.lock().unwrap();
            let names: Vec<_> = inner
                .effects
                .keys()
                .filter(|name| **name == step || name.starts_with(&format!("{step}#")))
                .cloned()
                .collect();
            for name in names {
                *inner.undone.entry(name.clone()).or_default() += 1;
                inner.order.push(format!("undo {name}"));
            }
        }
        world.boundary()
    }
}

#[derive(Debug)]
pub struct Seeded(AtomicU64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            // A step of splitmix64.
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z ^ (z >> 31)) as u8;
        }
    }
}

pub fn node(id: &str, kind: NodeKind) -> Node {
    let action = match kind {
        NodeKind::Barrier => Action::Barrier,
        NodeKind::Timer => Action::Wait { duration: Duration::from_mins(10) },
        NodeKind::Hook => Action::Run { hook: "swing".into(), arguments: BTreeMap::new() },
        NodeKind::Note => Action::Notify { to: "ops".into(), text: "hello".into() },
        NodeKind::Gate => Action::Approve { text: "go to {target}?".into(), by: "leads".into() },
        NodeKind::Act | NodeKind::Check => Action::Start { machine: id.into(), site: "dr".into() },
    };
    Node {
        id: id.into(),
        kind,
        phase: SheetPhase::Rise,
        stage: None,
        action,
        made_by: "a test".into(),
        within: Duration::from_mins(15),
        usually: None,
        retry: None,
        otherwise: Otherwise::Pause,
        after_no_return: false,
        locks: vec![],
    }
}
pub fn act(id: &str) -> Node {
    node(id, NodeKind::Act)
}
pub fn no_return(id: &str) -> Node {
    Node { action: Action::NoReturn, ..node(id, NodeKind::Barrier) }
}
pub fn fence(id: &str) -> Node {
    let action = Action::Fence { site: "hq".into(), machines: vec![], proof: FenceProof::PowerOffOrSignature };
    Node { action, ..node(id, NodeKind::Gate) }
}
pub fn retry(count: u32) -> Option<RetrySheet> {
    Some(RetrySheet { count, delay: Duration::from_secs(20), factor: 2, each: None })
}

/// Edges as text: `a>b` needs, `a~b` ends.
pub fn sheet(nodes: Vec<Node>, edges: &str) -> Runsheet {
    let edge = |text: &str| {
        let (kind, sign) = if text.contains('>') { (EdgeKind::Needs, '>') } else { (EdgeKind::Ends, '~') };
        let (from, to) = text.split_once(sign).unwrap();
        Edge { from: from.into(), to: to.into(), kind }
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
        teams: BTreeMap::new(),
        inventory: Hash::of("none"),
        sites: Default::default(),
        groups: Default::default(),
        machines: Default::default(),
        hooks: Default::default(),
        assumptions: vec![],
        nodes,
        edges: edges.split_whitespace().map(edge).collect(),
        left_out: vec![],
    }
}

/// What people say when something waits: by step.
#[derive(Clone, Debug)]
pub enum Say {
    Yes,
    No,
    Decide(Decision),
}

pub struct Bench {
    pub world: Arc<World>,
    pub store: Arc<MemoryStore>,
    pub run: RunId,
    pub clock: Arc<VirtualClock>,
    pub people: BTreeMap<String, Say>,
}

pub const WHO: &str = "anna";

pub fn opening() -> Opening {
    Opening { who: WHO.into(), why: "test".into(), incident: None, signed: None }
}

impl Bench {
    pub async fn new(sheet: &Runsheet, behaviour: &[(&str, Behaviour)], people: &[(&str, Say)]) -> Self {
        Self::opened(sheet, behaviour, people, opening()).await
    }
    pub async fn opened(
        sheet: &Runsheet,
        behaviour: &[(&str, Behaviour)],
        people: &[(&str, Say)],
        opening: Opening,
    ) -> Self {
        let world = Arc::new(World::new(behaviour));
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(VirtualClock::default());
        let people = people.iter().map(|(step, say)| ((*step).to_owned(), say.clone())).collect();
        let mut bench = Self { world, store, run: RunId::new(""), clock, people };
        bench.run = bench.executor().open_run(sheet, opening).await.unwrap();
        bench
    }
    pub fn executor(&self) -> Executor {
        let random = Arc::new(Seeded::new(7));
        Executor::new(self.store.clone(), Arc::new(Runner(self.world.clone())), self.clock.clone(), random)
    }
    pub async fn drive(&self) -> Result<RunEnd, ExecutorError> {
        let (_sender, receiver) = commands();
        self.executor().drive(&self.run, receiver, Arc::new(Unwatched), OnPause::Return).await
    }
    pub async fn say(&self, command: Command) -> Result<(), ExecutorError> {
        self.executor().decide_offline(&self.run, &command).await.map(|_| ())
    }
    pub async fn state(&self) -> RunState {
        self.executor().runs().load(&self.run).await.unwrap().state
    }
    pub async fn stand(&self, step: &str) -> Stand {
        self.state().await.node(&step.into()).unwrap().stand
    }
    /// What people would say to the first thing that waits.
    fn word(&self, waiting: &[Waiting]) -> Option<Command> {
        let answer = |yes| Answer { yes, who: WHO.into(), why: String::new() };
        waiting.iter().find_map(|waits| match waits {
            Waiting::Question { node, .. } => match self.people.get(node.as_str())? {
                Say::Yes => Some(Command::Answer { node: node.clone(), answer: answer(true) }),
                Say::No => Some(Command::Answer { node: node.clone(), answer: answer(false) }),
                Say::Decide(_) => None,
            },
            Waiting::Decision { node, .. } | Waiting::Stuck { node, .. } => match self.people.get(node.as_str())? {
                Say::Decide(decision) => Some(Command::Decide {
                    node: node.clone(),
                    decision: *decision,
                    who: WHO.into(),
                    why: String::new(),
                }),
                Say::Yes | Say::No => None,
            },
            Waiting::Run { .. } => None,
        })
    }
    /// Drives, with people answering, and a new engine after every death, until nothing moves any more.
    pub async fn drive_out(&mut self) -> RunEnd {
        for _ in 0..100 {
            let dead = match self.drive().await {
                Ok(RunEnd::Paused { waiting }) => match self.word(&waiting) {
                    Some(command) => self.say(command).await.is_err(),
                    None => return RunEnd::Paused { waiting },
                },
                Ok(end) => return end,
                Err(_) => true,
            };
            if dead {
                self.world.live_on();
                self.store = Arc::new(self.store.reopen());
            }
        }
        panic!("the run does not come to an end");
    }
    pub async fn stands(&self) -> Vec<(String, Stand)> {
        self.state().await.nodes().map(|node| (node.id.to_string(), node.stand)).collect()
    }
}
