//! Fakes: a journal in memory, a world that records, a fuse that blows at a chosen moment.

use async_trait::async_trait;
use muster_hooks::*;
use muster_journal::{CallJournal, CallRecord};
use muster_ports::*;
use muster_runsheet::{Hash, HookSheet, Need, Value};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Fails everything once it has been passed `n` times: the engine is dead from that moment on.
#[derive(Debug)]
pub(crate) struct Fuse(AtomicI64);

impl Fuse {
    pub(crate) fn after(moments: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(moments)))
    }
    pub(crate) fn never() -> Arc<Self> {
        Self::after(i64::MAX)
    }
    fn pass(&self) -> Result<()> {
        if self.0.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(Failure::transient("the engine is dead")) }
    }
}

#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) records: Arc<Mutex<Vec<CallRecord>>>,
    pub(crate) notes: Mutex<Vec<String>>,
    fuse: Arc<Fuse>,
    undoes: Vec<CallRecord>,
}

impl Journal {
    pub(crate) fn new(records: &Arc<Mutex<Vec<CallRecord>>>, fuse: &Arc<Fuse>) -> Self {
        Self { records: records.clone(), notes: Mutex::default(), fuse: fuse.clone(), undoes: Vec::new() }
    }
}

#[async_trait]
impl CallJournal for Journal {
    fn recorded(&self) -> Vec<CallRecord> {
        self.records.lock().unwrap().clone()
    }
    async fn intend(&self, number: u32, operation: &str, arguments: &str) -> Result<()> {
        self.fuse.pass()?;
        let mut records = self.records.lock().unwrap();
        assert_eq!(records.len() as u32, number, "numbers follow each other");
        records.push(CallRecord { number, operation: operation.into(), arguments: arguments.into(), result: None });
        self.fuse.pass()
    }
    async fn done(&self, number: u32, result: serde_json::Value) -> Result<()> {
        self.fuse.pass()?;
        self.records.lock().unwrap()[number as usize].result = Some(result);
        self.fuse.pass()
    }
    fn undoes(&self) -> Vec<CallRecord> {
        self.undoes.clone()
    }
    async fn note(&self, text: &str) -> Result<()> {
        self.notes.lock().unwrap().push(text.to_owned());
        Ok(())
    }
}

/// Records effects; answers as told.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) effects: Arc<Mutex<Vec<(String, String)>>>,
    pub(crate) statuses: Mutex<Vec<u16>>,
    pub(crate) execs: Mutex<Vec<GuestCommand>>,
    pub(crate) probes: Mutex<Vec<Probe>>,
    pub(crate) requests: Mutex<Vec<HttpRequest>>,
    pub(crate) mails: Mutex<Vec<MailOrder>>,
    pub(crate) questions: Mutex<Vec<(String, Vec<u8>)>>,
    /// Sent back in place of the usual body.
    pub(crate) body: Option<String>,
    pub(crate) open: bool,
    pub(crate) slow: Duration,
    pub(crate) fuse: Arc<Fuse>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            effects: Arc::default(),
            statuses: Mutex::default(),
            execs: Mutex::default(),
            probes: Mutex::default(),
            requests: Mutex::default(),
            mails: Mutex::default(),
            questions: Mutex::default(),
            body: None,
            open: true,
            slow: Duration::ZERO,
            fuse: Fuse::never(),
        }
    }
}

#[async_trait]
impl World for Fake {
    async fn http(&self, request: &HttpRequest) -> Result<HttpReply> {
        self.fuse.pass()?;
        tokio::time::sleep(self.slow).await;
        if let Some(key) = &request.idempotency_key {
            let what = format!("{} {} {}", request.method, request.url, request.body.clone().unwrap_or_default());
            self.effects.lock().unwrap().push((key.clone(), what));
        }
        self.fuse.pass()?;
        let mut statuses = self.statuses.lock().unwrap();
        let status = if statuses.is_empty() { 200 } else { statuses.remove(0) };
        self.requests.lock().unwrap().push(request.clone());
        let body = self.body.clone().unwrap_or_else(|| r#"{"address":"10.0.0.1","ttl":60}"#.to_owned());
        Ok(HttpReply { status, headers: BTreeMap::new(), body, cut: false })
    }
    async fn dns(&self, server: &str, message: &[u8], _within: Duration) -> Result<Vec<u8>> {
        self.questions.lock().unwrap().push((server.to_owned(), message.to_vec()));
        // The question comes back as a reply that knows nothing.
        let mut reply = message.to_vec();
        reply[2] |= 0x80;
        Ok(reply)
    }
    async fn mail(&self, order: &MailOrder) -> Result<()> {
        self.mails.lock().unwrap().push(order.clone());
        Ok(())
    }
    async fn secret(&self, key: &str) -> Result<Hidden> {
        Ok(Hidden::new(format!("value-of-{key}")))
    }
    async fn exec(&self, machine: &HookMachine, command: &GuestCommand) -> Result<GuestOutput> {
        self.execs.lock().unwrap().push(command.clone());
        Ok(GuestOutput { code: 3, out: format!("on {}", machine.instance), err: String::new() })
    }
    async fn probe(&self, probe: &Probe) -> Result<ProbeAnswer> {
        self.probes.lock().unwrap().push(probe.clone());
        if !self.open {
            return Err(Failure::transient("connection refused"));
        }
        Ok(ProbeAnswer { status: 200, body: "ready".into() })
    }
}

pub(crate) fn sheet(function: &str, parameters: &[&str], needs: Vec<Need>, text: &str) -> HookSheet {
    HookSheet {
        name: function.replace('_', "-").into(),
        function: function.into(),
        probe: false,
        parameters: parameters.iter().map(|name| ((*name).to_owned(), "text".to_owned())).collect(),
        needs,
        undo: None,
        origin: "hooks/test.rhai".into(),
        text: text.into(),
        hash: Hash::of(text),
    }
}

pub(crate) fn http_need(origin: &str) -> Vec<Need> {
    vec![Need::Http { origin: origin.to_owned() }]
}

pub(crate) struct Bench {
    pub(crate) records: Arc<Mutex<Vec<CallRecord>>>,
    pub(crate) notes: Mutex<Vec<String>>,
    pub(crate) undoes: Vec<CallRecord>,
    pub(crate) world: Fake,
    pub(crate) arguments: BTreeMap<String, Value>,
    pub(crate) within: Duration,
    pub(crate) attempt: u32,
    pub(crate) undo: bool,
    pub(crate) drill: bool,
    pub(crate) cancel: Cancel,
}

impl Default for Bench {
    fn default() -> Self {
        Self {
            records: Arc::default(),
            notes: Mutex::default(),
            undoes: Vec::new(),
            world: Fake::default(),
            arguments: BTreeMap::new(),
            within: Duration::from_secs(60),
            attempt: 1,
            undo: false,
            drill: false,
            cancel: Cancel::default(),
        }
    }
}

impl Bench {
    pub(crate) fn with(arguments: &[(&str, Value)]) -> Self {
        let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Self { arguments, ..Self::default() }
    }
    pub(crate) async fn run(&self, sheet: &HookSheet) -> Result<HookEnd> {
        self.run_with(sheet, &self.world, &Fuse::never()).await
    }
    pub(crate) async fn run_with(&self, sheet: &HookSheet, world: &dyn World, fuse: &Arc<Fuse>) -> Result<HookEnd> {
        let journal = Journal { undoes: self.undoes.clone(), ..Journal::new(&self.records, fuse) };
        let host = HookHost::new(Arc::new(SystemClock), Arc::new(SystemRandom));
        let machine = HookMachine {
            name: "db".into(),
            site: "dr".into(),
            instance: "db~r1".into(),
            ip: Some("10.60.0.5".parse().unwrap()),
            source_ip: Some("10.10.0.5".parse().unwrap()),
        };
        let order = HookOrder {
            sheet,
            arguments: &self.arguments,
            facts: RunFacts {
                run: "r1".into(),
                operation: if self.drill { "test" } else { "unplanned" }.into(),
                plan: "shop".into(),
                stage: Some("db".into()),
                attempt: self.attempt,
                key: "key1".into(),
                source: "hq".into(),
                target: "dr".into(),
                is_drill: self.drill,
            },
            machines: vec![machine],
            groups: BTreeMap::from([("dbs".into(), vec!["db".into()])]),
            deadline: SystemClock.now().plus(self.within),
            calls: &journal,
            world,
            undo: self.undo,
        };
        let end = host.run(order, &self.cancel).await;
        self.notes.lock().unwrap().extend(journal.notes.lock().unwrap().drain(..));
        end
    }
    pub(crate) fn effects(&self) -> Vec<(String, String)> {
        self.world.effects.lock().unwrap().clone()
    }
}
