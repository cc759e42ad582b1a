//! Faults, durations and the log of effects: everything between a call and the world.

use crate::random::SeededRandom;
use muster_ports::{EffectKey, Failure, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Calls of a provider, by what a fault in them means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallClass {
    /// facts, inventory, instances, bubbles, console
    Look,
    Define,
    Undefine,
    Start,
    Stop,
    Fence,
    Unfence,
    /// networks and bubbles
    Network,
    Probe,
    Guest,
    Cut,
    OpenCut,
    Settle,
    Untrack,
    OpenDisk,
    Hydrate,
}

impl CallClass {
    pub const ALL: [Self; 16] = [
        Self::Look,
        Self::Define,
        Self::Undefine,
        Self::Start,
        Self::Stop,
        Self::Fence,
        Self::Unfence,
        Self::Network,
        Self::Probe,
        Self::Guest,
        Self::Cut,
        Self::OpenCut,
        Self::Settle,
        Self::Untrack,
        Self::OpenDisk,
        Self::Hydrate,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing is done; may pass.
    Transient,
    /// Nothing is done, and the caller cannot know.
    Timeout,
    /// Nothing is done, and it will fail again.
    Permanent,
    /// It is done, and the answer is lost.
    LostReply,
    /// It takes [`FaultPlan::slow_by`] longer.
    Slow,
    /// Nothing is done: the storage of the host has no room. May pass, when somebody makes room.
    Full,
}

/// Faults of one class of calls, each in a thousand calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRates {
    pub transient: u16,
    pub timeout: u16,
    pub permanent: u16,
    pub lost_reply: u16,
    pub slow: u16,
    pub full: u16,
}

/// Which calls fail, by seed. The same plan and the same order of calls give the same faults.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    pub seed: u64,
    pub rates: BTreeMap<CallClass, FaultRates>,
    pub slow_by: Duration,
    /// Faults in all; afterwards everything works, so that a test can end.
    pub at_most: u32,
}

impl FaultPlan {
    pub fn none() -> Self {
        Self { seed: 0, rates: BTreeMap::new(), slow_by: Duration::ZERO, at_most: 0 }
    }
    /// The same rates for every class.
    pub fn everywhere(seed: u64, rates: FaultRates, at_most: u32) -> Self {
        let rates = CallClass::ALL.into_iter().map(|class| (class, rates)).collect();
        Self { seed, rates, slow_by: Duration::from_secs(30), at_most }
    }
}

/// How long calls take. Zero everywhere but where time is the point.
#[derive(Clone, Debug)]
pub struct Timing {
    /// By class; a class that is not there takes none.
    pub calls: BTreeMap<CallClass, Duration>,
    /// From power to a guest that answers.
    pub boot: Duration,
    /// How long a guest takes to shut down in an orderly way.
    pub shutdown: Duration,
    /// Between the cuts of two machines of one order.
    pub transaction: Duration,
}

impl Default for Timing {
    /// Calls take no time; cutting one machine takes 5 ms.
    fn default() -> Self {
        Self {
            calls: BTreeMap::new(),
            boot: Duration::ZERO,
            shutdown: Duration::ZERO,
            transaction: Duration::from_millis(5),
        }
    }
}

impl Timing {
    /// As small virtual machines were measured: 2 s to power, 20 s to boot, 8 s to shut down.
    pub fn realistic() -> Self {
        let calls = BTreeMap::from([
            (CallClass::Start, Duration::from_secs(2)),
            (CallClass::Define, Duration::from_secs(1)),
            (CallClass::Network, Duration::from_millis(500)),
        ]);
        Self {
            calls,
            boot: Duration::from_secs(20),
            shutdown: Duration::from_secs(8),
            transaction: Duration::from_millis(50),
        }
    }
}

/// One effect, as the world saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    pub at: Timestamp,
    pub class: CallClass,
    /// Instance, bubble or barrier.
    pub subject: String,
    /// The `muster.key` of the instance or bubble, where it has one.
    pub key: Option<EffectKey>,
    /// False when the world was already as asked.
    pub changed: bool,
}

/// Draws faults.
#[derive(Debug)]
pub(crate) struct Chance {
    plan: FaultPlan,
    random: SeededRandom,
    drawn: u32,
    /// By all plans so far.
    counts: BTreeMap<Fault, u64>,
    /// Explicit faults, first in, first out.
    queued: BTreeMap<CallClass, Vec<Fault>>,
}

impl Chance {
    pub(crate) fn new(plan: FaultPlan) -> Self {
        let random = SeededRandom::new(plan.seed);
        Self { plan, random, drawn: 0, counts: BTreeMap::new(), queued: BTreeMap::new() }
    }

    pub(crate) fn queue(&mut self, class: CallClass, fault: Fault) {
        self.queued.entry(class).or_default().push(fault);
    }

    pub(crate) fn replace(&mut self, plan: FaultPlan) {
        let (queued, counts) = (std::mem::take(&mut self.queued), std::mem::take(&mut self.counts));
        *self = Self { queued, counts, ..Self::new(plan) };
    }

    pub(crate) fn counts(&self) -> &BTreeMap<Fault, u64> {
        &self.counts
    }

    pub(crate) fn slow_by(&self) -> Duration {
        self.plan.slow_by
    }

    pub(crate) fn draw(&mut self, class: CallClass) -> Option<Fault> {
        if let Some(queued) = self.queued.get_mut(&class)
            && !queued.is_empty()
        {
            return Some(queued.remove(0));
        }
        let rates = self.plan.rates.get(&class).copied().unwrap_or_default();
        let mut dice = u16::try_from(self.random.below(1000)).unwrap_or(0);
        if self.drawn >= self.plan.at_most {
            return None;
        }
        for (rate, fault) in [
            (rates.transient, Fault::Transient),
            (rates.timeout, Fault::Timeout),
            (rates.permanent, Fault::Permanent),
            (rates.lost_reply, Fault::LostReply),
            (rates.slow, Fault::Slow),
            (rates.full, Fault::Full),
        ] {
            if dice < rate {
                self.drawn += 1;
                *self.counts.entry(fault).or_default() += 1;
                return Some(fault);
            }
            dice -= rate;
        }
        None
    }
}

impl Fault {
    /// The failure of a call that did nothing; `None` when the call is done.
    pub(crate) fn before(self, class: CallClass) -> Option<Failure> {
        match self {
            Self::Transient => Some(Failure::transient(format!("the hypervisor was busy (injected fault, {class:?})"))),
            Self::Timeout => Some(Failure::timeout(format!("no answer in time (injected fault, {class:?})"))),
            Self::Permanent => Some(Failure::permanent(format!("the hypervisor said no (injected fault, {class:?})"))),
            Self::Full => {
                let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
                Some(Failure::from(full).during(format!("write to the host's storage (injected fault, {class:?})")))
            }
            Self::LostReply | Self::Slow => None,
        }
    }
}
