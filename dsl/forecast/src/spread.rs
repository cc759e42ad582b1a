//! How long one step takes: measured, written or assumed, and how far that can be off.

use crate::evidence::{History, what_of};
use crate::quantile::Weighted;
use muster_runsheet::{Action, Duration, Node, NodeKind, Operation, Otherwise, ProbeCall};
use serde::Serialize;

/// Where the duration of a step comes from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It takes no time: a barrier.
    None,
    /// The plan says it: `wait`.
    Exact,
    /// Past runs of this step.
    Measured,
    /// `usually` in the plan.
    Written,
    /// Past runs of the same step of other machines.
    Others,
    /// The table of the standard library.
    Assumed,
}

/// Samples below which their own spread says little, so that the spread of a written time is laid over them.
const FEW: usize = 5;
/// How far a time that a person has written is off, as factors at shares of all cases: a guess, leaning to the slow side.
const WRITTEN: [(f64, f64); 4] = [(0.0, 0.75), (0.5, 1.0), (0.95, 1.5), (1.0, 2.0)];
/// The same for a time that nobody has looked at.
const ASSUMED: [(f64, f64); 4] = [(0.0, 0.5), (0.5, 1.0), (0.95, 2.0), (1.0, 3.0)];

/// The durations a step may have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spread {
    pub origin: Origin,
    /// Past runs it rests on.
    pub samples: usize,
    took: Weighted,
    factors: Option<&'static [(f64, f64); 4]>,
    limit: u64,
    /// Share of attempts that fail.
    pub failing: f64,
    failed: Weighted,
}

impl Spread {
    pub(crate) fn of(node: &Node, operation: Operation, history: Option<&History>) -> Self {
        if node.kind == NodeKind::Barrier {
            return Self::fixed(Origin::None, Duration::ZERO, None, node.within);
        }
        if let Action::Wait { duration } = &node.action {
            return Self::fixed(Origin::Exact, *duration, None, Duration(u64::MAX));
        }
        if let Some(spread) = history.and_then(|history| Self::measured(node, operation, history, true)) {
            return spread;
        }
        if let Some(usually) = node.usually {
            return Self::fixed(Origin::Written, usually, Some(&WRITTEN), node.within);
        }
        if let Some(spread) = history.and_then(|history| Self::measured(node, operation, history, false)) {
            return spread;
        }
        let line = muster_stdlib::timing(timing_key(node));
        let took: Duration = line.and_then(|line| line.assumed.parse().ok()).unwrap_or_default();
        let origin = if took == Duration::ZERO { Origin::None } else { Origin::Assumed };
        Self::fixed(origin, took, Some(&ASSUMED), node.within)
    }

    /// By the plan alone: what it does not say takes no time.
    pub(crate) fn written(node: &Node) -> Self {
        match (&node.action, node.usually) {
            (Action::Wait { duration }, _) => Self::fixed(Origin::Exact, *duration, None, Duration(u64::MAX)),
            (_, Some(usually)) => Self::fixed(Origin::Written, usually, Some(&WRITTEN), node.within),
            (_, None) => Self::fixed(Origin::None, Duration::ZERO, None, node.within),
        }
    }

    fn fixed(origin: Origin, took: Duration, factors: Option<&'static [(f64, f64); 4]>, limit: Duration) -> Self {
        Self {
            origin,
            samples: 0,
            took: Weighted::one(took.0),
            factors,
            limit: limit.0,
            failing: 0.0,
            failed: Weighted::default(),
        }
    }

    /// From the same step of past runs; with `own` only of the same machine.
    fn measured(node: &Node, operation: Operation, history: &History, own: bool) -> Option<Self> {
        let (what, machine) = (what_of(node), node.action.machine());
        if !own && machine.is_none() {
            return None;
        }
        let alike = |sample: &&crate::Sample| {
            sample.what == what && (!own || sample.machine.as_ref() == machine) && sample.tells_of(node, operation)
        };
        let samples: Vec<_> = history.samples.iter().filter(alike).collect();
        let took = Weighted::new(samples.iter().filter_map(|sample| Some((sample.took?.0, sample.weight()))));
        if took.is_empty() {
            return None;
        }
        let failed: Vec<(u64, f64)> =
            samples.iter().flat_map(|sample| sample.failed.iter().map(|took| (took.0, sample.weight()))).collect();
        let bad: f64 = failed.iter().map(|(_, weight)| weight).sum();
        let good: f64 = samples.iter().filter(|sample| sample.took.is_some()).map(|sample| sample.weight()).sum();
        Some(Self {
            origin: if own { Origin::Measured } else { Origin::Others },
            samples: took.len(),
            factors: (took.len() < FEW).then_some(&WRITTEN),
            took,
            limit: node.within.0,
            failing: bad / (bad + good),
            failed: Weighted::new(failed),
        })
    }

    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let factor = self.factors.map_or(1.0, |factors| at(factors, share));
        Duration(self.scaled(self.took.at(share), factor))
    }
    /// `which` and `how` are numbers in `0.0..1.0`.
    pub(crate) fn draw(&self, which: f64, how: f64) -> u64 {
        self.scaled(self.took.at(which), self.factors.map_or(1.0, |factors| at(factors, how)))
    }
    /// A failed attempt; as long as a good one where none was seen.
    pub(crate) fn draw_failed(&self, which: f64) -> u64 {
        if self.failed.is_empty() { self.quantile(0.5).0 } else { self.failed.at(which).min(self.limit) }
    }
    fn scaled(&self, took: u64, factor: f64) -> u64 {
        ((took as f64 * factor) as u64).min(self.limit)
    }
}

/// Straight lines between the shares.
fn at(factors: &[(f64, f64); 4], share: f64) -> f64 {
    let place = factors.partition_point(|(sum, _)| *sum < share).clamp(1, factors.len() - 1);
    let ((low, from), (high, to)) = (factors[place - 1], factors[place]);
    from + (to - from) * ((share - low) / (high - low)).clamp(0.0, 1.0)
}

/// A stop of which nobody knows whether it is possible has a line of its own; a probe hook takes as long as a check.
fn timing_key(node: &Node) -> &'static str {
    match (&node.action, node.otherwise) {
        (Action::Stop { .. }, Otherwise::Continue) => "stop-budget",
        (Action::Check { probe: ProbeCall::Hook { .. }, .. }, _) => "check",
        (action, _) => action.verb(),
    }
}
