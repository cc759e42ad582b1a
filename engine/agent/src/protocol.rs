//! The wire contract between engine and site agent. Change it here and nowhere else.
//!
//! One TCP port. Each side sends frames: a length (4 bytes, big-endian, at most
//! [`FRAME_BYTES_MAX`](crate::limits::FRAME_BYTES_MAX)) and that many bytes of JSON.
//!
//! ```text
//!   client: Hello ------------> agent                  first, within the connect limit
//!   client: <------------------ Hello | Refuse
//!   client: Call{1} Call{2} --> agent                  any number in flight
//!   client: <-- Progress{1} Answer{2} Answer{1}        in any order
//!   client: Ping -------------> agent                  every few seconds, and Pong the other way, each on its own;
//!                                                      silence beyond the idle limit ends the connection
//! ```
//!
//! A call is carried out to its end even when its client has gone; calls are convergent, so asking again is safe.

use crate::epochs::Token;
use muster_ports::*;
use serde::{Deserialize, Serialize};

/// The versions there have been; a peer of another version is refused with a message that says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProtocolVersion {
    /// The first.
    V1 = 1,
    /// Calls say which writer of which vault gave them, so that a replaced one is refused;
    /// commands over SSH, files on disks.
    V2 = 2,
}

/// What this build speaks.
pub const PROTOCOL: u32 = ProtocolVersion::V2 as u32;

/// From the engine to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "kebab-case")]
pub enum ToAgent {
    /// Who the client believes to talk to.
    Hello {
        protocol: u32,
        site: SiteName,
    },
    /// `id` is chosen by the client and not used again on this connection.
    Call {
        id: u64,
        /// By whom; `None` from a person who asks without the control state.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Token>,
        call: Box<Call>,
    },
    Ping,
}

/// From the agent to the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "kebab-case")]
pub enum FromAgent {
    Hello {
        protocol: u32,
        site: SiteName,
    },
    /// The connection ends: what the client is or sent is not acceptable.
    Refuse {
        failure: Failure,
    },
    /// Only the newest counts; some may be left out.
    Progress {
        id: u64,
        done: u64,
        total: Option<u64>,
    },
    Answer {
        id: u64,
        result: Result<Answer>,
    },
    Pong,
}

/// One variant for each method of [`Site`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case")]
pub enum Call {
    Facts,
    Inventory,
    Instances,
    Instance { instance: InstanceName },
    Undefine { instance: InstanceName, disks: bool },
    Start { instance: InstanceName },
    Stop { instance: InstanceName, mode: StopMode },
    Fence { instance: InstanceName },
    Unfence { instance: InstanceName },
    EnsureNetworks { networks: Vec<NetworkShape> },
    CreateBubble { bubble: BubbleShape },
    DiscardBubble { bubble: BubbleId },
    Bubbles,
    Probe { scope: NetworkScope, probe: Probe },
    GuestPing { instance: InstanceName },
    GuestExec { instance: InstanceName, command: GuestCommand },
    GuestShell { scope: NetworkScope, order: Box<ShellOrder> },
    DiskRead { instance: InstanceName, path: String },
    DiskWrite { instance: InstanceName, path: String, text: Concealed },
    Console { instance: InstanceName, bytes: u64 },
    Cut { order: CutOrder },
    Ship { order: ShipOrder },
    Settle { barrier: BarrierId, outcome: CutOutcome },
    Untrack { instance: InstanceName },
    Land { order: LandOrder },
    Hydrate { instance: InstanceName },
}

/// What a call answers when it succeeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "value", rename_all = "kebab-case")]
pub enum Answer {
    Done,
    Facts(SiteFacts),
    Inventory(Vec<MachineFacts>),
    Instances(Vec<InstanceState>),
    Instance(Option<InstanceState>),
    Bubbles(Vec<BubbleId>),
    Probe(ProbeAnswer),
    GuestOutput(GuestOutput),
    DiskText(Option<String>),
    Console(String),
    Cut(CutReport),
    Shipped(ShippedDisk),
    Landed(LandReport),
}

impl Call {
    /// Carries the call out on a site.
    pub async fn perform(self, site: &dyn Site, progress: &dyn Progress) -> Result<Answer> {
        Ok(match self {
            Self::Facts => Answer::Facts(site.facts().await?),
            Self::Inventory => Answer::Inventory(site.inventory().await?),
            Self::Instances => Answer::Instances(site.instances().await?),
            Self::Instance { instance } => Answer::Instance(site.instance(&instance).await?),
            Self::Undefine { instance, disks } => done(site.undefine(&instance, disks).await?),
            Self::Start { instance } => done(site.start(&instance).await?),
            Self::Stop { instance, mode } => done(site.stop(&instance, mode).await?),
            Self::Fence { instance } => done(site.fence(&instance).await?),
            Self::Unfence { instance } => done(site.unfence(&instance).await?),
            Self::EnsureNetworks { networks } => done(site.ensure_networks(&networks).await?),
            Self::CreateBubble { bubble } => done(site.create_bubble(&bubble).await?),
            Self::DiscardBubble { bubble } => done(site.discard_bubble(&bubble).await?),
            Self::Bubbles => Answer::Bubbles(site.bubbles().await?),
            Self::Probe { scope, probe } => Answer::Probe(site.probe(&scope, &probe).await?),
            Self::GuestPing { instance } => done(site.guest_ping(&instance).await?),
            Self::GuestExec { instance, command } => Answer::GuestOutput(site.guest_exec(&instance, &command).await?),
            Self::GuestShell { scope, order } => Answer::GuestOutput(site.guest_shell(&scope, &order).await?),
            Self::DiskRead { instance, path } => Answer::DiskText(site.disk_read(&instance, &path).await?),
            Self::DiskWrite { instance, path, text } => done(site.disk_write(&instance, &path, &text).await?),
            Self::Console { instance, bytes } => Answer::Console(site.console(&instance, bytes).await?),
            Self::Cut { order } => Answer::Cut(site.cut(&order).await?),
            Self::Ship { order } => Answer::Shipped(site.ship(&order, progress).await?),
            Self::Settle { barrier, outcome } => done(site.settle(&barrier, outcome).await?),
            Self::Untrack { instance } => done(site.untrack(&instance).await?),
            Self::Land { order } => Answer::Landed(site.land(&order, progress).await?),
            Self::Hydrate { instance } => done(site.hydrate(&instance, progress).await?),
        })
    }
}

fn done((): ()) -> Answer {
    Answer::Done
}
