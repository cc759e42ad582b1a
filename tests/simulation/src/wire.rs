//! What lies between one life of the engine and a site: requests and answers that come late or never.
//!
//! A call that was sent is carried out to its end whether or not the engine that sent it lives: so does a site agent. A
//! dead engine sends nothing more.

use crate::life::LifeLine;
use crate::tally;
use async_trait::async_trait;
use muster_ports::*;
use muster_provider_simulated::SeededRandom;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How bad the line is, in a thousand calls each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    pub lost_request: u64,
    pub lost_answer: u64,
    pub late: u64,
    pub late_by: Duration,
}

/// One site as one engine reaches it.
#[derive(Debug)]
pub struct Wire {
    site: Arc<dyn Site>,
    line: Line,
    clock: Arc<dyn Clock>,
    random: Arc<SeededRandom>,
    life: Arc<LifeLine>,
}

impl Wire {
    pub fn new(
        site: Arc<dyn Site>,
        line: Line,
        clock: Arc<dyn Clock>,
        random: Arc<SeededRandom>,
        life: Arc<LifeLine>,
    ) -> Self {
        Self { site, line, clock, random, life }
    }

    async fn delay(&self) {
        if self.random.below(1000) < self.line.late {
            self.life.tally().note(tally::LATE);
            let most = u64::try_from(self.line.late_by.as_millis()).unwrap_or(u64::MAX);
            self.clock.sleep(Duration::from_millis(self.random.below(most))).await;
        }
    }

    async fn call<T, F, W>(&self, effect: bool, work: W) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
        W: FnOnce(Arc<dyn Site>) -> F + Send,
    {
        self.delay().await;
        if effect {
            self.life.before_effect();
        }
        if self.life.is_dead() {
            return Err(Failure::transient("the engine is dead (simulated)"));
        }
        if self.random.below(1000) < self.line.lost_request {
            self.life.tally().note(tally::REQUEST_LOST);
            return Err(Failure::timeout("the request was lost on the way (simulated)"));
        }
        let sent = tokio::spawn(work(self.site.clone()));
        let answer = sent.await.map_err(|error| Failure::permanent(format!("the site broke off: {error}")))?;
        if effect {
            self.life.after_effect();
        }
        self.delay().await;
        if self.random.below(1000) < self.line.lost_answer {
            self.life.tally().note(tally::ANSWER_LOST);
            return Err(Failure::timeout("the answer was lost on the way (simulated)"));
        }
        answer
    }
}

#[async_trait]
impl Site for Wire {
    async fn facts(&self) -> Result<SiteFacts> {
        self.call(false, |site| async move { site.facts().await }).await
    }
    async fn inventory(&self) -> Result<Vec<MachineFacts>> {
        self.call(false, |site| async move { site.inventory().await }).await
    }
    async fn instances(&self) -> Result<Vec<InstanceState>> {
        self.call(false, |site| async move { site.instances().await }).await
    }
    async fn undefine(&self, instance: &InstanceName, disks: bool) -> Result<()> {
        let instance = instance.clone();
        self.call(true, move |site| async move { site.undefine(&instance, disks).await }).await
    }
    async fn start(&self, instance: &InstanceName) -> Result<()> {
        let instance = instance.clone();
        self.call(true, move |site| async move { site.start(&instance).await }).await
    }
    async fn stop(&self, instance: &InstanceName, mode: StopMode) -> Result<()> {
        let instance = instance.clone();
        self.call(true, move |site| async move { site.stop(&instance, mode).await }).await
    }
    async fn fence(&self, instance: &InstanceName) -> Result<()> {
        let instance = instance.clone();
        self.call(true, move |site| async move { site.fence(&instance).await }).await
    }
    async fn unfence(&self, instance: &InstanceName) -> Result<()> {
        let instance = instance.clone();
        self.call(true, move |site| async move { site.unfence(&instance).await }).await
    }
    async fn ensure_networks(&self, networks: &[NetworkShape]) -> Result<()> {
        let networks = networks.to_vec();
        self.call(true, move |site| async move { site.ensure_networks(&networks).await }).await
    }
    async fn create_bubble(&self, bubble: &BubbleShape) -> Result<()> {
        let bubble = bubble.clone();
        self.call(true, move |site| async move { site.create_bubble(&bubble).await }).await
    }
    async fn discard_bubble(&self, bubble: &BubbleId) -> Result<()> {
        let bubble = bubble.clone();
        self.call(true, move |site| async move { site.discard_bubble(&bubble).await }).await
    }
    async fn bubbles(&self) -> Result<Vec<BubbleId>> {
        self.call(false, |site| async move { site.bubbles().await }).await
    }
    async fn probe(&self, scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer> {
        let (scope, probe) = (scope.clone(), probe.clone());
        self.call(false, move |site| async move { site.probe(&scope, &probe).await }).await
    }
    async fn guest_ping(&self, instance: &InstanceName) -> Result<()> {
        let instance = instance.clone();
        self.call(false, move |site| async move { site.guest_ping(&instance).await }).await
    }
    async fn guest_exec(&self, instance: &InstanceName, command: &GuestCommand) -> Result<GuestOutput> {
        let (instance, command) = (instance.clone(), command.clone());
        self.call(true, move |site| async move { site.guest_exec(&instance, &command).await }).await
    }
    async fn guest_shell(&self, scope: &NetworkScope, order: &ShellOrder) -> Result<GuestOutput> {
        let (scope, order) = (scope.clone(), order.clone());
        self.call(true, move |site| async move { site.guest_shell(&scope, &order).await }).await
    }
    async fn disk_read(&self, instance: &InstanceName, path: &str) -> Result<Option<String>> {
        let (instance, path) = (instance.clone(), path.to_owned());
        self.call(false, move |site| async move { site.disk_read(&instance, &path).await }).await
    }
    async fn disk_write(&self, instance: &InstanceName, path: &str, text: &Concealed) -> Result<()> {
        let (instance, path, text) = (instance.clone(), path.to_owned(), text.clone());
        self.call(true, move |site| async move { site.disk_write(&instance, &path, &text).await }).await
    }
    async fn console(&self, instance: &InstanceName, bytes: u64) -> Result<String> {
        let instance = instance.clone();
        self.call(false, move |site| async move { site.console(&instance, bytes).await }).await
    }
    async fn cut(&self, order: &CutOrder) -> Result<CutReport> {
        let order = order.clone();
        self.call(true, move |site| async move { site.cut(&order).await }).await
    }
    async fn ship(&self, order: &ShipOrder, _progress: &dyn Progress) -> Result<ShippedDisk> {
        let order = order.clone();
        self.call(true, move |site| async move { site.ship(&order, &Silent).await }).await
    }
    async fn settle(&self, barrier: &BarrierId, outcome: CutOutcome) -> Result<()> {
        let barrier = barrier.clone();
        self.call(true, move |site| async move { site.settle(&barrier, outcome).await }).await
    }
    async fn untrack(&self, instance: &InstanceName) -> Result<()> {
        let instance = instance.clone();
        self.call(true, move |site| async move { site.untrack(&instance).await }).await
    }
    async fn land(&self, order: &LandOrder, _progress: &dyn Progress) -> Result<LandReport> {
        let order = order.clone();
        self.call(true, move |site| async move { site.land(&order, &Silent).await }).await
    }
    async fn hydrate(&self, instance: &InstanceName, _progress: &dyn Progress) -> Result<()> {
        let instance = instance.clone();
        self.call(true, move |site| async move { site.hydrate(&instance, &Silent).await }).await
    }
}
