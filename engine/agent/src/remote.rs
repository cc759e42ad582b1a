//! A site elsewhere, over TCP.

use crate::connection::Connection;
use crate::epochs::Token;
use crate::protocol::{Answer, Call};
use async_trait::async_trait;
use muster_ports::*;
use muster_tls::Caller;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Connects when first needed, shares one connection among all callers, and connects anew after it has broken. A call
/// that was under way then fails as `Transient`: whether its effect happened has to be observed.
#[derive(Debug)]
pub struct RemoteSite {
    site: SiteName,
    address: String,
    token: Option<Token>,
    caller: Option<Caller>,
    connection: Mutex<Option<Arc<Connection>>>,
}

impl RemoteSite {
    /// `address` is `host:port` of the site agent.
    pub fn new(site: SiteName, address: impl Into<String>) -> Self {
        Self { site, address: address.into(), token: None, caller: None, connection: Mutex::new(None) }
    }

    /// Every order says that this writer gave it: once a later one has been heard, the site refuses it.
    pub fn commanded_by(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Who this side is. Without it only an agent on this machine is called.
    pub fn called_as(mut self, caller: Option<Caller>) -> Self {
        self.caller = caller;
        self
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    async fn connection(&self) -> Result<Arc<Connection>> {
        // Held while connecting, which has a limit: callers share one attempt instead of making one each.
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = Arc::new(Connection::open(&self.site, &self.address, self.caller.as_ref()).await?);
        *slot = Some(connection.clone());
        Ok(connection)
    }

    async fn call(&self, call: Call, progress: &dyn Progress) -> Result<Answer> {
        self.connection().await?.call(call, self.token.clone(), progress).await
    }

    fn unexpected(&self) -> Failure {
        let message = format!("the agent of site `{}` answered another question than was asked", self.site);
        Failure::permanent(message).help("run the same version of muster on both sides")
    }
}

/// `ask!(self, call => pattern => value)`
macro_rules! ask {
    ($self:ident, $call:expr => $pattern:pat => $value:expr) => {
        ask!($self, $call, &Silent => $pattern => $value)
    };
    ($self:ident, $call:expr, $progress:expr => $pattern:pat => $value:expr) => {
        match $self.call($call, $progress).await? {
            $pattern => Ok($value),
            _ => Err($self.unexpected()),
        }
    };
}

#[async_trait]
impl Site for RemoteSite {
    async fn facts(&self) -> Result<SiteFacts> {
        ask!(self, Call::Facts => Answer::Facts(facts) => facts)
    }
    async fn inventory(&self) -> Result<Vec<MachineFacts>> {
        ask!(self, Call::Inventory => Answer::Inventory(machines) => machines)
    }
    async fn instances(&self) -> Result<Vec<InstanceState>> {
        ask!(self, Call::Instances => Answer::Instances(instances) => instances)
    }
    async fn instance(&self, instance: &InstanceName) -> Result<Option<InstanceState>> {
        ask!(self, Call::Instance { instance: instance.clone() } => Answer::Instance(instance) => instance)
    }
    async fn undefine(&self, instance: &InstanceName, disks: bool) -> Result<()> {
        ask!(self, Call::Undefine { instance: instance.clone(), disks } => Answer::Done => ())
    }
    async fn start(&self, instance: &InstanceName) -> Result<()> {
        ask!(self, Call::Start { instance: instance.clone() } => Answer::Done => ())
    }
    async fn stop(&self, instance: &InstanceName, mode: StopMode) -> Result<()> {
        ask!(self, Call::Stop { instance: instance.clone(), mode } => Answer::Done => ())
    }
    async fn fence(&self, instance: &InstanceName) -> Result<()> {
        ask!(self, Call::Fence { instance: instance.clone() } => Answer::Done => ())
    }
    async fn unfence(&self, instance: &InstanceName) -> Result<()> {
        ask!(self, Call::Unfence { instance: instance.clone() } => Answer::Done => ())
    }
    async fn ensure_networks(&self, networks: &[NetworkShape]) -> Result<()> {
        ask!(self, Call::EnsureNetworks { networks: networks.to_vec() } => Answer::Done => ())
    }
    async fn create_bubble(&self, bubble: &BubbleShape) -> Result<()> {
        ask!(self, Call::CreateBubble { bubble: bubble.clone() } => Answer::Done => ())
    }
    async fn discard_bubble(&self, bubble: &BubbleId) -> Result<()> {
        ask!(self, Call::DiscardBubble { bubble: bubble.clone() } => Answer::Done => ())
    }
    async fn bubbles(&self) -> Result<Vec<BubbleId>> {
        ask!(self, Call::Bubbles => Answer::Bubbles(bubbles) => bubbles)
    }
    async fn probe(&self, scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer> {
        let call = Call::Probe { scope: scope.clone(), probe: probe.clone() };
        ask!(self, call => Answer::Probe(answer) => answer)
    }
    async fn guest_ping(&self, instance: &InstanceName) -> Result<()> {
        ask!(self, Call::GuestPing { instance: instance.clone() } => Answer::Done => ())
    }
    async fn guest_exec(&self, instance: &InstanceName, command: &GuestCommand) -> Result<GuestOutput> {
        let call = Call::GuestExec { instance: instance.clone(), command: command.clone() };
        ask!(self, call => Answer::GuestOutput(output) => output)
    }
    async fn guest_shell(&self, scope: &NetworkScope, order: &ShellOrder) -> Result<GuestOutput> {
        let call = Call::GuestShell { scope: scope.clone(), order: Box::new(order.clone()) };
        ask!(self, call => Answer::GuestOutput(output) => output)
    }
    async fn disk_read(&self, instance: &InstanceName, path: &str) -> Result<Option<String>> {
        let call = Call::DiskRead { instance: instance.clone(), path: path.to_owned() };
        ask!(self, call => Answer::DiskText(text) => text)
    }
    async fn disk_write(&self, instance: &InstanceName, path: &str, text: &Concealed) -> Result<()> {
        let call = Call::DiskWrite { instance: instance.clone(), path: path.to_owned(), text: text.clone() };
        ask!(self, call => Answer::Done => ())
    }
    async fn console(&self, instance: &InstanceName, bytes: u64) -> Result<String> {
        ask!(self, Call::Console { instance: instance.clone(), bytes } => Answer::Console(text) => text)
    }
    async fn cut(&self, order: &CutOrder) -> Result<CutReport> {
        ask!(self, Call::Cut { order: order.clone() } => Answer::Cut(report) => report)
    }
    async fn ship(&self, order: &ShipOrder, progress: &dyn Progress) -> Result<ShippedDisk> {
        ask!(self, Call::Ship { order: order.clone() }, progress => Answer::Shipped(shipped) => shipped)
    }
    async fn settle(&self, barrier: &BarrierId, outcome: CutOutcome) -> Result<()> {
        ask!(self, Call::Settle { barrier: barrier.clone(), outcome } => Answer::Done => ())
    }
    async fn untrack(&self, instance: &InstanceName) -> Result<()> {
        ask!(self, Call::Untrack { instance: instance.clone() } => Answer::Done => ())
    }
    async fn land(&self, order: &LandOrder, progress: &dyn Progress) -> Result<LandReport> {
        ask!(self, Call::Land { order: order.clone() }, progress => Answer::Landed(report) => report)
    }
    async fn hydrate(&self, instance: &InstanceName, progress: &dyn Progress) -> Result<()> {
        ask!(self, Call::Hydrate { instance: instance.clone() }, progress => Answer::Done => ())
    }
}
