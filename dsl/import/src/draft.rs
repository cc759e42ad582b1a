//! What an importer has understood, before it is text. Names in here are final: unique, and names of the language.

use std::net::Ipv4Addr;

/// A range of addresses, aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub base: u32,
    pub prefix: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct NetworkDraft {
    pub name: String,
    pub range: Range,
    /// What its site calls it.
    pub label: Option<String>,
    /// The source does not say its addresses.
    pub assumed: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct SiteDraft {
    pub name: String,
    /// `vsphere("vc.example.com", login = hq-login)`.
    pub provider: String,
    /// The word it begins with.
    pub word: &'static str,
    /// What it was called where it comes from.
    pub was: String,
    /// Secret and its key.
    pub login: Option<(String, String)>,
    pub networks: Vec<NetworkDraft>,
}

#[derive(Clone, Debug)]
pub(crate) struct RouteDraft {
    pub left: String,
    pub right: String,
    pub vault: String,
    pub pairs: Vec<(String, String)>,
    pub addresses: Vec<(Ipv4Addr, Ipv4Addr)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct MachineDraft {
    pub name: String,
    /// What it was called where it comes from, when that is not its name.
    pub was: Option<String>,
    pub site: String,
    /// Where it is recovered.
    pub to: String,
    pub disks: Vec<(String, Option<u64>)>,
    /// What its site calls its network.
    pub label: Option<String>,
    /// The network's name, once it has one.
    pub network: String,
    pub ip: Option<Ipv4Addr>,
    /// The network and the address it gets at the other site.
    pub label_there: Option<String>,
    pub ip_there: Option<Ipv4Addr>,
    /// `size = "Standard_D4s_v5"`: what it becomes at the other site.
    pub place: Vec<(&'static str, String)>,
    /// Its place in the source, for notes.
    pub file: String,
    pub path: String,
}

#[derive(Clone, Debug)]
pub(crate) struct PolicyDraft {
    pub name: String,
    pub was: String,
    /// Facts in their order: `rpo`, `15m`.
    pub facts: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug)]
pub(crate) struct GroupDraft {
    pub name: String,
    pub policy: String,
    pub machines: Vec<String>,
    pub together: bool,
}

/// A script that was called, as a contract to fill in.
#[derive(Clone, Debug)]
pub(crate) struct HookDraft {
    pub name: String,
    /// `Automation runbook …/switch-dns`.
    pub was: String,
    /// Why it does nothing yet, for the failure it throws.
    pub todo: String,
    /// Takes the machines of its stage.
    pub machines: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    Back,
}

/// When a step runs: kinds of operation, in one direction or in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct When {
    pub test: bool,
    pub planned: bool,
    pub unplanned: bool,
    pub way: Option<Way>,
}

impl When {
    pub(crate) const ALWAYS: Self = Self { test: true, planned: true, unplanned: true, way: None };
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Manual(String),
    Approve(String),
    Run { hook: String, machines: bool },
    Wait { seconds: u64 },
}

#[derive(Clone, Debug)]
pub(crate) struct ActionDraft {
    pub label: String,
    pub deed: Deed,
    pub when: When,
    pub within_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct StageDraft {
    pub name: String,
    pub after: Vec<String>,
    pub before: Vec<ActionDraft>,
    pub starts: Vec<StartDraft>,
    pub behind: Vec<ActionDraft>,
    /// On the way down: before anything of this stage is stopped, and after it.
    pub down_before: Vec<ActionDraft>,
    pub down_behind: Vec<ActionDraft>,
}

/// One `start`, with what stands right before and behind it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartDraft {
    pub machines: Vec<String>,
    pub in_turn: bool,
    pub within_seconds: Option<u64>,
    pub before: Vec<ActionDraft>,
    pub behind: Vec<ActionDraft>,
}

impl StageDraft {
    pub(crate) fn machines(&self) -> Vec<String> {
        self.starts.iter().flat_map(|start| start.machines.iter().cloned()).collect()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct PlanDraft {
    pub name: String,
    pub was: String,
    pub from: String,
    pub to: String,
    pub stages: Vec<StageDraft>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    /// Where it comes from, for the first line.
    pub origin: &'static str,
    pub sites: Vec<SiteDraft>,
    pub routes: Vec<RouteDraft>,
    pub machines: Vec<MachineDraft>,
    pub policies: Vec<PolicyDraft>,
    pub groups: Vec<GroupDraft>,
    pub hooks: Vec<HookDraft>,
    pub plans: Vec<PlanDraft>,
}
