//! Everything that goes wrong in one run, drawn from one seed.

use crate::people::{Manner, Meddling};
use crate::wire::Line;
use muster_ports::SiteName;
use muster_provider_simulated::{CallClass, FaultPlan, FaultRates, SeededRandom};
use std::collections::BTreeMap;
use std::time::Duration;

/// When a process dies. Numbers count from its own beginning, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    BeforeWrite(u64),
    /// It is durable, and nobody was told.
    AfterWrite(u64),
    BeforeEffect(u64),
    AfterEffect(u64),
    At(Duration),
}

/// The disk below the control state, in a thousand writes each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk {
    pub slow: u64,
    pub slow_by: Duration,
    pub full: u64,
}

/// A site that cannot be reached; its machines run on.
#[derive(Clone, Debug)]
pub struct Outage {
    pub site: SiteName,
    pub from: Duration,
    pub lasts: Duration,
}

/// The engine's clock is set.
#[derive(Clone, Copy, Debug)]
pub struct Jump {
    pub at: Duration,
    pub millis: i64,
}

#[derive(Clone, Debug, Default)]
pub struct Storm {
    pub seed: u64,
    /// One for each life, in order; later ones live until the calm.
    pub deaths: Vec<Death>,
    pub line: Line,
    pub disk: Disk,
    /// Of the providers, with how many in all at each site.
    pub faults: BTreeMap<CallClass, FaultRates>,
    pub faults_max: u32,
    /// Of the world beyond the sites, in a thousand calls.
    pub beyond: u64,
    pub outages: Vec<Outage>,
    pub jumps: Vec<Jump>,
    /// A second engine takes the lease while the first one works.
    pub thefts: Vec<Duration>,
    pub people: Manner,
    /// Longest time a step takes by itself.
    pub pace: Duration,
    /// Replication goes on beside the run.
    pub cycles: bool,
    /// When every fault is gone.
    pub lasts: Duration,
}

struct Dice(SeededRandom);

impl Dice {
    fn chance(&self, percent: u64) -> bool {
        self.0.below(100) < percent
    }
    fn seconds(&self, most: u64) -> Duration {
        Duration::from_millis(self.0.below(most * 1000) + 1)
    }
    /// So many, in so many percent of the storms.
    fn some(&self, percent: u64, most: u64) -> u64 {
        if self.chance(percent) { 1 + self.0.below(most) } else { 0 }
    }
}

impl Storm {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self { people: Manner::calm(), lasts: Duration::from_secs(48 * 3600), ..Self::default() }
    }

    /// One death, and nothing else.
    pub fn death(death: Death) -> Self {
        Self { deaths: vec![death], ..Self::none() }
    }

    /// Of a run with about so many durable writes and effects.
    pub fn from_seed(seed: u64, sites: &[SiteName], writes: u64) -> Self {
        let dice = Dice(SeededRandom::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(17)));
        let below = |most: u64| dice.0.below(most.max(1));
        let lasts = Duration::from_secs(600 + below(7200));
        let within = lasts.as_secs();
        let death = |_| match below(5) {
            0 => Death::BeforeWrite(1 + below(writes)),
            1 => Death::AfterWrite(1 + below(writes)),
            2 => Death::BeforeEffect(1 + below(writes / 3)),
            3 => Death::AfterEffect(1 + below(writes / 3)),
            _ => Death::At(dice.seconds(900)),
        };
        let rate = |most: u64| u16::try_from(below(most)).unwrap_or(0);
        let rates = |_: &CallClass| FaultRates {
            transient: rate(120),
            timeout: rate(80),
            permanent: rate(25),
            lost_reply: rate(80),
            slow: rate(60),
            full: rate(40),
        };
        let faulty = dice.chance(60);
        let outage = |_| Outage {
            site: sites[usize::try_from(below(sites.len() as u64)).unwrap_or(0)].clone(),
            from: dice.seconds(within),
            lasts: dice.seconds(1800),
        };
        let jump = |_| {
            let millis = i64::try_from(below(7_200_000)).unwrap_or(0);
            Jump { at: dice.seconds(within), millis: if dice.chance(50) { millis } else { -millis } }
        };
        Self {
            seed,
            deaths: (0..dice.some(70, 4)).map(death).collect(),
            line: Line {
                lost_request: dice.some(40, 60),
                lost_answer: dice.some(40, 60),
                late: dice.some(40, 200),
                late_by: dice.seconds(90),
            },
            disk: Disk { slow: dice.some(30, 300), slow_by: dice.seconds(20), full: dice.some(15, 30) },
            faults: if faulty {
                CallClass::ALL.iter().map(|class| (*class, rates(class))).collect()
            } else {
                BTreeMap::new()
            },
            faults_max: u32::try_from(5 + below(60)).unwrap_or(0),
            beyond: dice.some(50, 200),
            outages: (0..dice.some(40, 3)).map(outage).collect(),
            jumps: (0..dice.some(30, 3)).map(jump).collect(),
            thefts: (0..dice.some(25, 2)).map(|_| dice.seconds(within)).collect(),
            people: Manner {
                delay: dice.seconds(1200),
                late: dice.some(20, 400),
                never: dice.some(20, 400),
                no: dice.some(15, 300),
                odd: dice.some(30, 300),
                abort: dice.some(15, 200),
                meddling: match below(12) {
                    0 => Some((dice.seconds(within), Meddling::Pause)),
                    1 => Some((dice.seconds(within), Meddling::Cancel)),
                    _ => None,
                },
            },
            pace: dice.seconds(60),
            cycles: dice.chance(3),
            lasts,
        }
    }

    pub fn faults_of(&self, site: usize) -> FaultPlan {
        let seed = self.seed.wrapping_add(1000 + site as u64);
        FaultPlan { seed, rates: self.faults.clone(), slow_by: Duration::from_secs(90), at_most: self.faults_max }
    }
}
