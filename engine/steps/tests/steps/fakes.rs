//! A site, replication and a journal that record what is done to them.

use async_trait::async_trait;
use muster_executor::{StepContext, StepRunner};
use muster_hooks::HookHost;
use muster_journal::{Answer, CallJournal, CallRecord, MemoryStore, StepOutput};
use muster_ports::*;
use muster_replication::{PointKind, PointSummary, Recovery};
use muster_runsheet::*;
use muster_steps::Steps;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration as Span;

pub(crate) const NOW: u64 = 1_800_000_000_000;

/// Sleeping moves it.
#[derive(Debug)]
pub(crate) struct Hands(pub(crate) AtomicU64);

#[async_trait]
impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
    async fn sleep_until(&self, due: Timestamp) {
        self.0.fetch_max(due.0, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
}

#[derive(Debug, Default)]
pub(crate) struct FakeSite {
    pub(crate) name: String,
    pub(crate) can: Mutex<Capabilities>,
    pub(crate) instances: Mutex<BTreeMap<InstanceName, InstanceState>>,
    pub(crate) bubbles: Mutex<BTreeSet<BubbleId>>,
    /// Effects only, and only those that changed something.
    pub(crate) effects: Mutex<Vec<String>>,
    pub(crate) landed: Mutex<Vec<LandOrder>>,
    pub(crate) probes: Mutex<Vec<(NetworkScope, Probe)>>,
    /// Answers to probes, guests and commands, in order; the last one stays.
    pub(crate) answers: Mutex<Vec<Result<u16>>>,
    /// Files on disks.
    pub(crate) files: Mutex<BTreeMap<(InstanceName, String), String>>,
    pub(crate) down: AtomicBool,
    /// Something answers at its address, and is not believed.
    pub(crate) strange: AtomicBool,
    /// The effect happens, its answer does not arrive.
    pub(crate) reply_lost: AtomicBool,
    pub(crate) stubborn: AtomicBool,
}

pub(crate) fn state(instance: &InstanceName, machine: &str, power: Power) -> InstanceState {
    InstanceState {
        instance: instance.clone(),
        machine: machine.into(),
        power,
        fenced: false,
        tied: false,
        scope: NetworkScope::Live,
        nics: vec![],
        labels: BTreeMap::new(),
    }
}

impl FakeSite {
    pub(crate) fn add(&self, name: &str, power: Power) {
        let instance = InstanceName::from(name);
        let state = state(&instance, name.split('~').next().unwrap(), power);
        self.instances.lock().unwrap().insert(instance, state);
    }
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut InstanceState)) {
        change(self.instances.lock().unwrap().get_mut(name).unwrap());
    }
    pub(crate) fn get(&self, name: &str) -> Option<InstanceState> {
        self.instances.lock().unwrap().get(name).cloned()
    }
    pub(crate) fn effects(&self) -> Vec<String> {
        self.effects.lock().unwrap().clone()
    }
    fn up(&self) -> Result<()> {
        if self.strange.load(Ordering::SeqCst) {
            return Err(Failure::permanent("this side does not believe what answers there"));
        }
        if self.down.load(Ordering::SeqCst) { Err(Failure::transient("connection refused")) } else { Ok(()) }
    }
    fn effect(&self, what: String) -> Result<()> {
        self.effects.lock().unwrap().push(what);
        self.reply()
    }
    fn reply(&self) -> Result<()> {
        match self.reply_lost.swap(false, Ordering::SeqCst) {
            true => Err(Failure::transient("connection reset")),
            false => Ok(()),
        }
    }
    fn answer(&self) -> Result<u16> {
        self.up()?;
        let mut answers = self.answers.lock().unwrap();
        if answers.len() > 1 { answers.remove(0) } else { answers.first().cloned().unwrap_or(Ok(200)) }
    }
    fn power(&self, instance: &InstanceName, power: Power, word: &str) -> Result<()> {
        self.up()?;
        {
            let mut instances = self.instances.lock().unwrap();
            let state = instances.get_mut(instance).ok_or_else(|| Failure::permanent("no such machine"))?;
            if state.power == power {
                return Ok(());
            }
            state.power = power;
        }
        self.effect(format!("{word} {instance}"))
    }
    fn set_fence(&self, instance: &InstanceName, fenced: bool) -> Result<()> {
        self.up()?;
        {
            let mut instances = self.instances.lock().unwrap();
            let known =
                instances.entry(instance.clone()).or_insert_with(|| state(instance, instance.as_str(), Power::Off));
            if known.fenced == fenced {
                return Ok(());
            }
            known.fenced = fenced;
            known.power = if fenced { Power::Off } else { known.power };
        }
        self.effect(format!("{} {instance}", if fenced { "fence" } else { "unfence" }))
    }
}

#[async_trait]
impl Site for FakeSite {
    async fn facts(&self) -> Result<SiteFacts> {
        self.up()?;
        let capabilities = self.can.lock().unwrap().clone();
        Ok(SiteFacts { site: self.name.as_str().into(), provider: "fake".into(), detail: "fake".into(), capabilities })
    }
    async fn inventory(&self) -> Result<Vec<MachineFacts>> {
        Ok(vec![])
    }
    async fn instances(&self) -> Result<Vec<InstanceState>> {
        self.up()?;
        Ok(self.instances.lock().unwrap().values().cloned().collect())
    }
    async fn undefine(&self, instance: &InstanceName, disks: bool) -> Result<()> {
        self.up()?;
        let Some(state) = self.get(instance.as_str()) else { return Ok(()) };
        assert_eq!(state.power, Power::Off, "only machines that are off are removed");
        self.instances.lock().unwrap().remove(instance);
        self.effect(format!("undefine {instance}{}", if disks { " with disks" } else { "" }))
    }
    async fn start(&self, instance: &InstanceName) -> Result<()> {
        self.power(instance, Power::On, "start")
    }
    async fn stop(&self, instance: &InstanceName, mode: StopMode) -> Result<()> {
        match mode {
            StopMode::Hard => self.power(instance, Power::Off, "cut"),
            StopMode::Orderly { .. } if self.stubborn.load(Ordering::SeqCst) => Err(Failure::timeout("still on")),
            StopMode::Orderly { .. } => self.power(instance, Power::Off, "stop"),
        }
    }
    async fn fence(&self, instance: &InstanceName) -> Result<()> {
        self.set_fence(instance, true)
    }
    async fn unfence(&self, instance: &InstanceName) -> Result<()> {
        self.set_fence(instance, false)
    }
    async fn ensure_networks(&self, networks: &[NetworkShape]) -> Result<()> {
        assert!(!networks.is_empty());
        Ok(())
    }
    async fn create_bubble(&self, bubble: &BubbleShape) -> Result<()> {
        self.up()?;
        assert_eq!(bubble.labels["muster.run"], bubble.bubble.as_str());
        match self.bubbles.lock().unwrap().insert(bubble.bubble.clone()) {
            true => self.effect(format!("bubble {}", bubble.bubble)),
            false => Ok(()),
        }
    }
    async fn discard_bubble(&self, bubble: &BubbleId) -> Result<()> {
        self.up()?;
        match self.bubbles.lock().unwrap().remove(bubble) {
            true => self.effect(format!("discard bubble {bubble}")),
            false => Ok(()),
        }
    }
    async fn bubbles(&self) -> Result<Vec<BubbleId>> {
        self.up()?;
        Ok(self.bubbles.lock().unwrap().iter().cloned().collect())
    }
    async fn probe(&self, scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer> {
        self.probes.lock().unwrap().push((scope.clone(), probe.clone()));
        Ok(ProbeAnswer { status: self.answer()?, body: "ready\nmore".into() })
    }
    async fn guest_ping(&self, _: &InstanceName) -> Result<()> {
        self.answer().map(|_| ())
    }
    async fn guest_exec(&self, instance: &InstanceName, command: &GuestCommand) -> Result<GuestOutput> {
        let code = i32::from(self.answer()? != 200);
        Ok(GuestOutput { code, out: format!("{} in {instance}", command.program), err: String::new() })
    }
    async fn guest_shell(&self, _: &NetworkScope, order: &ShellOrder) -> Result<GuestOutput> {
        let code = i32::from(self.answer()? != 200);
        self.effect(format!("ssh {}@{}:{} {}", order.user, order.ip, order.port, order.command.program))?;
        Ok(GuestOutput { code, out: "out".into(), err: String::new() })
    }
    async fn disk_read(&self, instance: &InstanceName, path: &str) -> Result<Option<String>> {
        self.up()?;
        Ok(self.files.lock().unwrap().get(&(instance.clone(), path.to_owned())).cloned())
    }
    async fn disk_write(&self, instance: &InstanceName, path: &str, text: &Concealed) -> Result<()> {
        self.up()?;
        self.files.lock().unwrap().insert((instance.clone(), path.to_owned()), text.reveal().to_owned());
        self.effect(format!("write {instance}:{path}"))
    }
    async fn console(&self, _: &InstanceName, _: u64) -> Result<String> {
        Ok(String::new())
    }
    async fn cut(&self, _: &CutOrder) -> Result<CutReport> {
        Err(Failure::permanent("not for steps"))
    }
    async fn ship(&self, _: &ShipOrder, _: &dyn Progress) -> Result<ShippedDisk> {
        Err(Failure::permanent("not for steps"))
    }
    async fn settle(&self, _: &BarrierId, _: CutOutcome) -> Result<()> {
        Err(Failure::permanent("not for steps"))
    }
    async fn untrack(&self, _: &InstanceName) -> Result<()> {
        Err(Failure::permanent("not for steps"))
    }
    async fn land(&self, order: &LandOrder, _: &dyn Progress) -> Result<LandReport> {
        self.up()?;
        let shape = &order.shape;
        if self.get(shape.instance.as_str()).is_some_and(|found| found.labels == shape.labels) {
            return Ok(LandReport::default());
        }
        let fenced = self.get(shape.instance.as_str()).is_some_and(|found| found.fenced);
        let landed = InstanceState {
            fenced,
            tied: order.mode == LandMode::Instant,
            scope: shape.scope.clone(),
            labels: shape.labels.clone(),
            ..state(&shape.instance, shape.machine.as_str(), Power::Off)
        };
        self.instances.lock().unwrap().insert(shape.instance.clone(), landed);
        self.landed.lock().unwrap().push(order.clone());
        self.effect(format!("land {} {:?}", shape.instance, order.mode))?;
        Ok(LandReport { fetched_bytes: 10, ..LandReport::default() })
    }
    async fn hydrate(&self, instance: &InstanceName, _: &dyn Progress) -> Result<()> {
        self.change(instance.as_str(), |state| state.tied = false);
        self.effect(format!("hydrate {instance}"))
    }
}

#[derive(Debug)]
pub(crate) struct FakeRecovery {
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) points: Mutex<u32>,
    /// Taken by the next look at a lag; zero afterwards.
    pub(crate) lags: Mutex<Vec<Span>>,
}

impl Default for FakeRecovery {
    fn default() -> Self {
        Self { calls: Mutex::default(), points: Mutex::new(3), lags: Mutex::default() }
    }
}

impl FakeRecovery {
    fn log(&self, call: String) {
        let mut calls = self.calls.lock().unwrap();
        if !calls.contains(&call) {
            calls.push(call);
        }
    }
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

fn summary(id: &str, group: &GroupName) -> PointSummary {
    let machines = vec!["db".into()];
    PointSummary { id: id.into(), group: group.clone(), at: Timestamp(NOW - 90_000), kind: PointKind::Crash, machines }
}

#[async_trait]
impl Recovery for FakeRecovery {
    async fn sync_final(&self, group: &GroupName, key: &EffectKey, _: &dyn Progress) -> Result<PointSummary> {
        self.log(format!("final {group} {key}"));
        Ok(summary("p-final", group))
    }
    async fn pick(&self, group: &GroupName, choice: &PointChoice) -> Result<PointSummary> {
        self.log(format!("pick {group} {choice:?}"));
        Ok(summary("p-picked", group))
    }
    async fn point(&self, point: &PointId) -> Result<PointSummary> {
        Ok(summary(point.as_str(), &"dbs".into()))
    }
    async fn images(&self, point: &PointId, _: &MachineName) -> Result<Vec<(DiskName, ReplicaImage)>> {
        let image =
            ReplicaImage { vault: "file:///v".into(), point: point.clone(), size_bytes: 4096, segments: vec![] };
        Ok(vec![("root".into(), image)])
    }
    async fn hold(&self, point: &PointId, run: &RunId) -> Result<()> {
        self.log(format!("hold {point} {run}"));
        Ok(())
    }
    async fn release(&self, run: &RunId) -> Result<()> {
        self.log(format!("release {run}"));
        Ok(())
    }
    async fn suspend(&self, group: &GroupName, run: &RunId) -> Result<()> {
        self.log(format!("suspend {group} {run}"));
        Ok(())
    }
    async fn restore(&self, group: &GroupName, run: &RunId) -> Result<()> {
        self.log(format!("restore {group} {run}"));
        Ok(())
    }
    async fn reverse(&self, group: &GroupName, source: &SiteName, target: &SiteName, point: &PointId) -> Result<()> {
        self.log(format!("reverse {group} {source} {target} {point}"));
        Ok(())
    }
    async fn cycle(&self, group: &GroupName, _: &dyn Progress) -> Result<PointSummary> {
        self.log(format!("cycle {group}"));
        Ok(summary("p-cycle", group))
    }
    async fn lag(&self, _: &GroupName) -> Result<Option<Span>> {
        let mut lags = self.lags.lock().unwrap();
        Ok(Some(if lags.is_empty() { Span::ZERO } else { lags.remove(0) }))
    }
    async fn drop_before(&self, group: &GroupName, keep: &PointId) -> Result<()> {
        self.log(format!("drop {group} before {keep}"));
        Ok(())
    }
    async fn points_since(&self, _: &GroupName, _: Timestamp) -> Result<u32> {
        Ok(*self.points.lock().unwrap())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) records: Mutex<Vec<CallRecord>>,
    pub(crate) undoes: Mutex<Vec<CallRecord>>,
    pub(crate) notes: Mutex<Vec<String>>,
}

#[async_trait]
impl CallJournal for Journal {
    fn recorded(&self) -> Vec<CallRecord> {
        self.records.lock().unwrap().clone()
    }
    async fn intend(&self, number: u32, operation: &str, arguments: &str) -> Result<()> {
        let record = CallRecord { number, operation: operation.into(), arguments: arguments.into(), result: None };
        self.records.lock().unwrap().push(record);
        Ok(())
    }
    async fn done(&self, number: u32, result: serde_json::Value) -> Result<()> {
        self.records.lock().unwrap()[number as usize].result = Some(result);
        Ok(())
    }
    async fn note(&self, text: &str) -> Result<()> {
        self.notes.lock().unwrap().push(text.to_owned());
        Ok(())
    }
    fn undoes(&self) -> Vec<CallRecord> {
        self.undoes.lock().unwrap().clone()
    }
}

/// Two sites, a machine `db` in group `dbs`, and one step of a plan at a time.
pub(crate) struct Bench {
    pub(crate) hq: Arc<FakeSite>,
    pub(crate) dr: Arc<FakeSite>,
    pub(crate) recovery: Arc<FakeRecovery>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<Hands>,
    pub(crate) steps: Steps,
    pub(crate) sheet: Runsheet,
    pub(crate) journal: Journal,
    pub(crate) outputs: muster_journal::Outputs,
    pub(crate) answer: Option<Answer>,
    pub(crate) run: RunId,
    pub(crate) key: EffectKey,
    pub(crate) deadline: Timestamp,
}

impl Bench {
    pub(crate) fn new(kind: Kind, action: Action) -> Self {
        let site = |name: &str| {
            let site = FakeSite { name: name.into(), ..FakeSite::default() };
            *site.can.lock().unwrap() = Capabilities {
                planned_shutdown: true,
                power_fencing: true,
                host_tracking: true,
                app_consistency: true,
                instant_recovery: true,
                bubbles: true,
                test_networks: false,
                guest_ssh: true,
                disk_files: true,
            };
            Arc::new(site)
        };
        let (hq, dr) = (site("hq"), site("dr"));
        let clock = Arc::new(Hands(AtomicU64::new(NOW)));
        let (recovery, store) = (Arc::new(FakeRecovery::default()), Arc::new(MemoryStore::new()));
        let sites: BTreeMap<SiteName, Arc<dyn Site>> =
            BTreeMap::from([("hq".into(), hq.clone() as Arc<dyn Site>), ("dr".into(), dr.clone() as Arc<dyn Site>)]);
        let hooks = HookHost::new(Arc::new(SystemClock), Arc::new(SystemRandom));
        let steps = Steps::new(sites, recovery.clone(), store.clone(), hooks, clock.clone());
        let point = StepOutput::Point {
            group: "dbs".into(),
            point: "p1".into(),
            at: Timestamp(NOW - 90_000),
            loss_millis: 90_500,
        };
        Self {
            hq,
            dr,
            recovery,
            store,
            clock,
            steps,
            sheet: sheet(kind, action),
            journal: Journal::default(),
            outputs: [("pick/dbs".into(), point)].into(),
            answer: None,
            run: "r1".into(),
            key: "key1".into(),
            deadline: Timestamp(NOW + 60_000),
        }
    }
    pub(crate) fn cx(&self) -> StepContext<'_> {
        StepContext {
            run: &self.run,
            sheet: &self.sheet,
            node: &self.sheet.nodes[0],
            key: &self.key,
            attempt: 1,
            deadline: self.deadline,
            outputs: &self.outputs,
            answer: self.answer.as_ref(),
            calls: &self.journal,
            progress: &Silent,
        }
    }
    pub(crate) async fn observe(&self) -> muster_executor::Observation {
        self.steps.observe(self.cx()).await.unwrap()
    }
    pub(crate) async fn try_act(&self) -> Result<StepOutput> {
        match self.steps.act(self.cx()).await? {
            muster_executor::Acted::Done(output) => Ok(output),
            muster_executor::Acted::Ask(question) => panic!("asked: {}", question.text),
        }
    }
    pub(crate) async fn act(&self) -> StepOutput {
        self.try_act().await.unwrap()
    }
    pub(crate) async fn fails(&self) -> Failure {
        let failure = self.try_act().await.unwrap_err();
        assert!(failure.help.is_some(), "every failure says what to do: {failure}");
        failure
    }
    /// As the executor calls it: with the calls of the act at hand.
    pub(crate) async fn undo(&self) {
        let act = std::mem::take(&mut *self.journal.records.lock().unwrap());
        self.journal.undoes.lock().unwrap().extend(act);
        self.steps.undo(self.cx()).await.unwrap();
    }
    pub(crate) async fn stored<T: serde::de::DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.store.get(key).await.unwrap().map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }
    pub(crate) async fn store<T: serde::Serialize>(&self, key: &str, value: &T) {
        self.store.write(vec![Write::put(key, serde_json::to_vec(value).unwrap())]).await.unwrap();
    }
}

pub(crate) fn node(action: Action, phase: SheetPhase) -> Node {
    Node {
        id: "step".into(),
        kind: NodeKind::Act,
        phase,
        stage: Some("db".into()),
        action,
        made_by: "shop.plan:3".into(),
        within: Duration::from_secs(60),
        usually: None,
        retry: None,
        otherwise: Otherwise::Pause,
        after_no_return: false,
        locks: vec![],
    }
}

pub(crate) fn nic(ip: &str) -> NicShape {
    NicShape { network: "data".into(), mac: "52:54:00:00:00:01".into(), ip: Some(ip.parse().unwrap()) }
}

fn sheet(kind: Kind, action: Action) -> Runsheet {
    let facts = MachineFacts {
        name: "db".into(),
        cpus: 2,
        memory_bytes: 1 << 30,
        disks: vec![DiskFacts { name: "root".into(), size_bytes: 4096 }],
        nics: vec![nic("10.10.0.5")],
        power: Power::On,
        guest_agent: true,
        churn_bytes_per_second: 0,
        churn: None,
        containers: BTreeMap::new(),
        tags: Vec::new(),
    };
    let network = NetworkShape { name: "data".into(), cidr: "10.60.0.0/24".into() };
    let site = |name: &str| SiteSheet {
        name: name.into(),
        provider: "fake".into(),
        agent: String::new(),
        networks: vec![network.clone()],
        endpoint: None,
        login: None,
        labels: BTreeMap::new(),
    };
    let group = GroupSheet {
        name: "dbs".into(),
        policy: Some("gold".into()),
        machines: vec!["db".into()],
        together: true,
        home: Some("hq".into()),
        away: Some("dr".into()),
        query: None,
    };
    Runsheet {
        format: RUNSHEET_FORMAT.into(),
        plan: "shop".into(),
        operation: Operation { kind, direction: Direction::Out },
        source: "hq".into(),
        target: "dr".into(),
        rto: None,
        rpo: None,
        owner: Some("dr-leads".into()),
        keep: None,
        vault: "file:///v".into(),
        carriers: Carriers::default(),
        resolvers: Vec::new(),
        test_networks: Vec::new(),
        teams: BTreeMap::new(),
        inventory: Hash::of(""),
        sites: BTreeMap::from([("hq".into(), site("hq")), ("dr".into(), site("dr"))]),
        groups: BTreeMap::from([("dbs".into(), group)]),
        machines: BTreeMap::from([(
            "db".into(),
            MachineSheet {
                facts,
                home: "hq".into(),
                group: Some("dbs".into()),
                known_as: None,
                places: BTreeMap::new(),
            },
        )]),
        hooks: BTreeMap::new(),
        assumptions: vec![],
        nodes: vec![node(action, SheetPhase::Rise)],
        edges: vec![],
        left_out: vec![],
    }
}
