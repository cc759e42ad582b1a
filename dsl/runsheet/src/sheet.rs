//! The runsheet and its graph.

use crate::assumption::Assumption;
use crate::estate::*;
use crate::inventory::*;
use crate::names::*;
use crate::operation::*;
use crate::units::Duration;
use crate::value::Value;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

pub const RUNSHEET_FORMAT: &str = "muster.runsheet/1";

/// A plan compiled for one operation against one inventory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Runsheet {
    /// [`RUNSHEET_FORMAT`].
    pub format: String,
    pub plan: PlanName,
    pub operation: Operation,
    /// Where production is now (or was).
    pub source: SiteName,
    pub target: SiteName,
    pub rto: Option<Duration>,
    pub rpo: Option<Duration>,
    pub owner: Option<String>,
    /// How long a drill may stand.
    pub keep: Option<Duration>,
    pub vault: String,
    /// Who carries data from the source to the target.
    #[serde(default)]
    pub carriers: Carriers,
    /// Name servers: the one asked at the source, and the one that is to be asked at the target.
    #[serde(default)]
    pub resolvers: Vec<(std::net::IpAddr, std::net::IpAddr)>,
    /// Networks of the target, made for tests, that a drill's machines are plugged into beside its bubble.
    #[serde(default)]
    pub test_networks: Vec<NetworkName>,
    /// The teams that steps ask, and the owner.
    #[serde(default)]
    pub teams: BTreeMap<String, TeamSheet>,
    pub inventory: Hash,
    pub sites: BTreeMap<SiteName, SiteSheet>,
    pub groups: BTreeMap<GroupName, GroupSheet>,
    pub machines: BTreeMap<MachineName, MachineSheet>,
    pub hooks: BTreeMap<HookName, HookSheet>,
    /// What has to be so for this sheet to be right; a broken one is named.
    pub assumptions: Vec<Assumption>,
    /// In an order in which each could run: every edge points forward.
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
    /// Steps of the plan that this operation leaves out, and why.
    pub left_out: Vec<LeftOut>,
}

pub type Graph<'a> = StableDiGraph<&'a Node, EdgeKind>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    pub step: StepId,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub id: StepId,
    pub kind: NodeKind,
    pub phase: SheetPhase,
    pub stage: Option<StageName>,
    pub action: Action,
    /// Where it comes from: `shop.plan:24` or the rule that made it.
    pub made_by: String,
    /// Covers all attempts. Every step has one.
    pub within: Duration,
    pub usually: Option<Duration>,
    pub retry: Option<RetrySheet>,
    pub otherwise: Otherwise,
    /// Runs after the point of no return.
    pub after_no_return: bool,
    /// Semaphores it holds while it runs: `machine:db`, `boots@dr`.
    pub locks: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SheetPhase {
    Ready,
    Leave,
    Point,
    Land,
    Rise,
    Settle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// Joins, no effect.
    Barrier,
    /// Asks and waits.
    Gate,
    /// An effect at a site, convergent.
    Act,
    /// Reads until true or time is up.
    Check,
    Hook,
    Timer,
    /// An effect whose loss is harmless.
    Note,
}

/// `retry 3 every 20s each 2m`: at most `count` further attempts, the first after `delay`, growing by `factor`; none of
/// them, nor the first of all, takes longer than `each`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrySheet {
    pub count: u32,
    pub delay: Duration,
    pub factor: u32,
    /// What is left of `within`, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Duration>,
}

/// What a failed step leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Otherwise {
    #[default]
    Pause,
    /// The run goes on, degraded.
    Continue,
    /// Everything done so far is undone in reverse; only before no return.
    Undo,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub from: StepId,
    pub to: StepId,
    pub kind: EdgeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeKind {
    /// The target runs only if the source succeeded.
    Needs,
    /// The target runs when the source has ended, well or not.
    Ends,
}

/// What a node does. People write the first ten verbs; only the compiler writes the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Action {
    Start {
        machine: MachineName,
        site: SiteName,
    },
    Stop {
        machine: MachineName,
        site: SiteName,
    },
    Create {
        machine: MachineName,
        site: SiteName,
        from: String,
    },
    Check {
        machine: MachineName,
        site: SiteName,
        probe: ProbeCall,
    },
    Run {
        hook: HookName,
        arguments: BTreeMap<String, Value>,
    },
    Approve {
        text: String,
        by: String,
    },
    Manual {
        text: String,
        by: String,
    },
    Wait {
        duration: Duration,
    },
    Notify {
        to: String,
        text: String,
    },

    /// Ends of phases, stages and `parallel` blocks.
    Barrier,
    /// The sites answer, can do what is needed, and the plan is in a state that allows this.
    Verify {
        required: Vec<SiteName>,
        probed: Vec<SiteName>,
    },
    /// Takes the machines for this run.
    Lock {
        machines: Vec<MachineName>,
        drill: bool,
    },
    /// The last cycle, with the machines off: a `final` point, lag 0.
    SyncFinal {
        group: GroupName,
    },
    /// Chooses the recovery point of a group; the output names it and the loss.
    PickPoint {
        group: GroupName,
        choice: PointChoice,
    },
    /// From here on there is no undoing, only forward, repoint or cancel.
    NoReturn,
    /// Proves that the machines cannot run at the site, or asks a person to sign for it.
    Fence {
        site: SiteName,
        machines: Vec<MachineName>,
        proof: FenceProof,
    },
    Unfence {
        site: SiteName,
        machines: Vec<MachineName>,
    },
    /// Makes the isolated networks of a drill.
    Bubble {
        site: SiteName,
        networks: Vec<NetworkShape>,
    },
    /// Lands a machine in the bubble, on an overlay that is thrown away. Attaches its disks and cards.
    Clone {
        machine: MachineName,
        site: SiteName,
        nics: Vec<NicShape>,
    },
    /// Lands a machine for production. Attaches its disks and cards, with the addresses of the site.
    Promote {
        machine: MachineName,
        site: SiteName,
        nics: Vec<NicShape>,
        differences: bool,
    },
    /// Copies the rest of the replica below a running machine and cuts the tie to the vault.
    Hydrate {
        machine: MachineName,
        site: SiteName,
    },
    /// Removes a machine from a site: a drill's clone, or what a cancelled failover made. `drill` names the drill's run.
    /// A clone's power is cut first: nothing in it is to be kept. (So `Stop` always means the live machine.)
    Discard {
        machine: MachineName,
        site: SiteName,
        drill: Option<String>,
    },
    DiscardBubble {
        site: SiteName,
        drill: String,
    },
    /// Drops the points that lead back before the failover.
    DropPoints {
        group: GroupName,
    },
    /// Turns the direction of replication of a group; `source` is where it now runs.
    Reverse {
        group: GroupName,
        source: SiteName,
        target: SiteName,
    },
    /// Sends what has changed since the landing (or everything that differs, when that is not known).
    Resync {
        group: GroupName,
    },
    /// Waits until the group's newest point is at most this old.
    AwaitLag {
        group: GroupName,
        at_most: Duration,
    },
    /// Replication went on while a drill stood.
    AssertReplicating {
        group: GroupName,
    },
    /// Frees the machines and records where the plan now stands.
    Unlock {
        machines: Vec<MachineName>,
        state: PlanState,
    },
    /// Writes the report.
    Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FenceProof {
    /// The machines are off and may not be started: anything else fails.
    PowerOff,
    /// The same, or else a person's signature for split-brain.
    PowerOffOrSignature,
    /// They are found off, or not there at all, and barred from starting. One that is on is not cut off: what it has
    /// written is nowhere else, and a person saves it first.
    FoundOff,
    /// The same, or else a person's signature that the site is gone: nothing will ever come back to it.
    FoundOffOrSignature,
}

impl FenceProof {
    /// Machines are found off; none is cut off.
    pub fn is_found(self) -> bool {
        matches!(self, Self::FoundOff | Self::FoundOffOrSignature)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "choice", rename_all = "kebab-case")]
pub enum PointChoice {
    Latest,
    LatestApp,
    /// The newest that needs no further work before it can be used.
    LatestProcessed,
    /// The point made after an orderly shutdown in this run.
    Final,
    /// One a person chose.
    Named {
        point: String,
    },
}

/// A check of a machine, from inside the network it has landed in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "probe", rename_all = "kebab-case")]
pub enum ProbeCall {
    /// `tcp(5432)`
    Tcp { port: u16 },
    /// `http(":8080/ready")`
    Http { port: u16, path: String },
    /// `guest()`: the guest agent answers.
    Guest,
    /// `command("/usr/bin/healthy", ...)`: exit code 0 in the guest.
    Command { program: String, arguments: Vec<String> },
    /// A `probe` hook.
    Hook { hook: HookName, arguments: BTreeMap<String, Value> },
}

/// A hook with its contract and text. The text is stored, so that a run needs no file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookSheet {
    pub name: HookName,
    /// The rhai function: the name in snake case. It is always in `text`, with the parameters in this order.
    pub function: String,
    pub probe: bool,
    /// Name as in the plan (the rhai parameter is the same in snake case) and type as written: `list(machine)`.
    /// The arguments of a step are keyed by the name as in the plan.
    pub parameters: Vec<(String, String)>,
    pub needs: Vec<Need>,
    pub undo: Option<HookName>,
    /// `hooks/dns.rhai` or `shop.plan:12`.
    pub origin: String,
    /// Rhai source. An inline `body` is wrapped by the compiler: `fn set_db_host(app, host) {`, the body from the
    /// second line on, `}`.
    pub text: String,
    /// Of `text`.
    pub hash: Hash,
}

/// What a hook may touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "need", rename_all = "kebab-case")]
pub enum Need {
    /// Commands and files in the guest, through its agent.
    Guest,
    /// Commands in the guest over SSH, by its address in the landing network.
    Ssh,
    /// Files on the landed disk before boot.
    Disk,
    /// Sockets inside the landing network.
    Bubble,
    /// One origin of the outside world. Here and below `{name}` stands for the argument of that name.
    Http { origin: String },
    /// Questions and dynamic updates to one name server, `host` or `host:port`.
    Dns { server: String },
    /// Messages through one mail server, `host` or `host:port`.
    Mail { server: String },
    /// A secret of the plans, by its name there and by its key in the keyring.
    Secret { name: String, key: String },
    /// Certificates, as PEM, that TLS connections of this hook are held against, in place of the public authorities.
    Authority { pem: String },
}

impl Need {
    /// Whether it can reach beyond a drill's bubble. A secret alone reaches nothing: every door has a need of its own.
    pub fn is_outside(&self) -> bool {
        matches!(self, Self::Http { .. } | Self::Dns { .. } | Self::Mail { .. })
    }

    /// The need of one step: with the arguments of that step in place of `{name}`.
    pub fn filled(&self, arguments: &BTreeMap<String, Value>) -> Self {
        let fill = |text: &String| {
            arguments.iter().fold(text.clone(), |text, (name, value)| match value {
                Value::Text(value) => text.replace(&format!("{{{name}}}"), value),
                Value::Ip(value) => text.replace(&format!("{{{name}}}"), &value.to_string()),
                Value::Port(value) => text.replace(&format!("{{{name}}}"), &value.to_string()),
                _ => text,
            })
        };
        match self {
            Self::Http { origin } => Self::Http { origin: fill(origin) },
            Self::Dns { server } => Self::Dns { server: fill(server) },
            Self::Mail { server } => Self::Mail { server: fill(server) },
            other => other.clone(),
        }
    }
}

/// A runsheet that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SheetError {
    #[error("the runsheet has format `{found}`, this muster reads `{RUNSHEET_FORMAT}`")]
    Format { found: String },
    #[error("the runsheet is damaged: {0}")]
    Damaged(String),
    /// The file is not byte for byte what was written and reviewed.
    #[error("the runsheet is not what was written: {0}")]
    Altered(String),
}

impl Action {
    /// The word for it, as in JSON and in the table of timings.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Create { .. } => "create",
            Self::Check { .. } => "check",
            Self::Run { .. } => "run",
            Self::Approve { .. } => "approve",
            Self::Manual { .. } => "manual",
            Self::Wait { .. } => "wait",
            Self::Notify { .. } => "notify",
            Self::Barrier => "barrier",
            Self::Verify { .. } => "verify",
            Self::Lock { .. } => "lock",
            Self::SyncFinal { .. } => "sync-final",
            Self::PickPoint { .. } => "pick-point",
            Self::NoReturn => "no-return",
            Self::Fence { .. } => "fence",
            Self::Unfence { .. } => "unfence",
            Self::Bubble { .. } => "bubble",
            Self::Clone { .. } => "clone",
            Self::Promote { .. } => "promote",
            Self::Hydrate { .. } => "hydrate",
            Self::Discard { .. } => "discard",
            Self::DiscardBubble { .. } => "discard-bubble",
            Self::DropPoints { .. } => "drop-points",
            Self::Reverse { .. } => "reverse",
            Self::Resync { .. } => "resync",
            Self::AwaitLag { .. } => "await-lag",
            Self::AssertReplicating { .. } => "assert-replicating",
            Self::Unlock { .. } => "unlock",
            Self::Report => "report",
        }
    }
    /// The machine a single-machine action is about.
    pub fn machine(&self) -> Option<&MachineName> {
        match self {
            Self::Start { machine, .. }
            | Self::Stop { machine, .. }
            | Self::Create { machine, .. }
            | Self::Check { machine, .. }
            | Self::Clone { machine, .. }
            | Self::Promote { machine, .. }
            | Self::Hydrate { machine, .. }
            | Self::Discard { machine, .. } => Some(machine),
            _ => None,
        }
    }
}

impl Runsheet {
    /// The identity people approve: of everything in it.
    pub fn hash(&self) -> Hash {
        Hash::of(serde_json::to_vec(self).unwrap_or_default())
    }
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
    /// Reads and checks: format, unique ids, edges that end at nodes, no cycle.
    pub fn from_json(text: &str) -> Result<Self, SheetError> {
        /// What is read of a sheet of any format.
        #[derive(Deserialize)]
        struct Versioned {
            #[serde(default)]
            format: serde_json::Value,
        }
        let damaged = |error: serde_json::Error| SheetError::Damaged(error.to_string());
        // Read as what it should be: a sheet may be large, and is looked at once more only where that fails.
        let sheet: Self = match serde_json::from_str(text) {
            Ok(sheet) => sheet,
            Err(error) => {
                let versioned: Versioned = serde_json::from_str(text).map_err(damaged)?;
                return Err(match versioned.format.as_str() {
                    Some(RUNSHEET_FORMAT) => damaged(error),
                    other => SheetError::Format { found: other.unwrap_or("none").to_owned() },
                });
            }
        };
        if sheet.format != RUNSHEET_FORMAT {
            return Err(SheetError::Format { found: sheet.format });
        }
        sheet.graph()?;
        Ok(sheet)
    }
    pub fn node(&self, id: &StepId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == *id)
    }
    /// The graph with an index by id. Fails on duplicate ids, dangling edges and cycles.
    pub fn graph(&self) -> Result<(Graph<'_>, HashMap<&StepId, NodeIndex>), SheetError> {
        let mut graph = Graph::with_capacity(self.nodes.len(), self.edges.len());
        let mut index = HashMap::with_capacity(self.nodes.len());
        for node in &self.nodes {
            if index.insert(&node.id, graph.add_node(node)).is_some() {
                return Err(SheetError::Damaged(format!("two steps are called `{}`", node.id)));
            }
        }
        for edge in &self.edges {
            let end = |id: &StepId| {
                index.get(id).copied().ok_or_else(|| SheetError::Damaged(format!("no step `{id}` for an edge")))
            };
            graph.add_edge(end(&edge.from)?, end(&edge.to)?, edge.kind);
        }
        if let Err(cycle) = petgraph::algo::toposort(&graph, None) {
            let id = &graph[cycle.node_id()].id;
            return Err(SheetError::Damaged(format!("step `{id}` waits for itself")));
        }
        Ok((graph, index))
    }
}
