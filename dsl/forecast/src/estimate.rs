//! How long a sheet takes: one course on medians for the table, two thousand drawn ones for the chance to be in time.

use crate::TRIALS;
use crate::chance::{Dice, name_hash};
use crate::chart::Chart;
use crate::conditions::{Blow, Conditions, freight};
use crate::course::{Course, Play};
use crate::evidence::Evidence;
use crate::quantile::nearest_rank;
use crate::spread::{Origin, Spread};
use muster_runsheet::{
    Action, Duration, Estate, GroupName, Kind, Node, Otherwise, PolicySheet, Rate, Runsheet, SheetPhase, StepId,
};
use serde::Serialize;

/// How a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    Done,
    /// Nothing answers, and the fence behind it decides.
    Waived,
    /// It fails, and the run goes on without it.
    Degraded,
    /// It fails, and a person has to decide (or, with `else undo`, everything is taken back).
    Stuck,
    /// It never begins.
    Never,
}

/// A step on the clock of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    pub id: StepId,
    /// `None` when it never begins.
    pub start: Option<Duration>,
    /// With all its attempts.
    pub took: Duration,
    pub p95: Duration,
    pub origin: Origin,
    /// Past runs the duration rests on.
    pub samples: usize,
    /// Attempts before the one that counts.
    pub failures: u32,
    pub fate: Fate,
    /// Any delay of it delays the end.
    pub critical: bool,
}

impl Span {
    pub fn end(&self) -> Option<Duration> {
        self.start.map(|start| Duration(start.0.saturating_add(self.took.0)))
    }
    pub fn assumed(&self) -> bool {
        self.origin == Origin::Assumed
    }
}

/// What the drawn courses say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trials {
    pub count: u32,
    /// Of those that reach the end by themselves; `None` when none does.
    pub p50: Option<Duration>,
    pub p95: Option<Duration>,
    /// Share of all trials that are in time; `None` without a promise.
    pub met: Option<f64>,
    /// Trials in which a step fails for good and a person has to decide.
    pub stuck: u32,
}

/// When each step runs, as far as can be known before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// In the order of the sheet.
    pub steps: Vec<Span>,
    /// Until the last step that production waits for, on the run's clock: what runs in `settle` behind it is not
    /// counted. `None` when a step before it fails for good.
    pub total: Option<Duration>,
    /// Until everything has ended.
    pub whole: Option<Duration>,
    /// When the clock of the promise starts: with the run, or with the first stop of an orderly one.
    pub clock_from: Duration,
    /// By the clock of the promise.
    pub objective: Option<Duration>,
    pub trials: Trials,
    /// Part of the longest way rests on assumptions.
    pub assumed: bool,
    /// Nothing on the longest way was measured or is written in the plan.
    pub no_evidence: bool,
}

/// How long the plan's own words take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenTime {
    /// Waits and `usually` on the longest way, with no semaphore ever taken: faster than that it cannot be.
    pub least: Duration,
    /// In 95 of 100 trials no more than this, when that is above the promise; `usually` is no exact time.
    pub p95_above: Option<Duration>,
}

/// By what the plan itself says, waits and `usually`, against its promise; everything else takes no time.
pub fn written_time(sheet: &Runsheet, promise: Duration, dice: Dice) -> WrittenTime {
    let says = |node: &Node| node.usually.is_some() || matches!(node.action, Action::Wait { .. });
    if !sheet.nodes.iter().any(says) {
        return WrittenTime { least: Duration::ZERO, p95_above: None };
    }
    let mut chart = Chart::new(sheet, &Conditions::default());
    let mut course = Course::default();
    let mut total = |chart: &Chart, plays: &[Play]| {
        course.run(chart, plays);
        let total = course.healthy(chart, plays).unwrap_or_default();
        Duration(total.saturating_sub(clock_from(sheet, &course)))
    };
    let spreads: Vec<Spread> = sheet.nodes.iter().map(Spread::written).collect();
    let plays = |share: f64| spreads.iter().map(|spread| Play::Ends(spread.quantile(share).0)).collect::<Vec<_>>();
    // All of them as slow as they ever are, and still in time: no trial can miss by more than an anomaly of scheduling.
    if total(&chart, &plays(1.0)) <= promise {
        return WrittenTime { least: least(&mut chart, &plays(0.5), &mut total), p95_above: None };
    }
    let mut took: Vec<u64> = Vec::with_capacity(TRIALS as usize);
    let hashes: Vec<u64> = sheet.nodes.iter().map(|node| name_hash(node.id.as_str())).collect();
    for trial in 0..TRIALS {
        let draw = |(spread, hash): (&Spread, &u64)| {
            Play::Ends(spread.draw(dice.draw(trial, *hash, 0), dice.draw(trial, *hash, 1)))
        };
        let plays: Vec<Play> = spreads.iter().zip(&hashes).map(draw).collect();
        took.push(total(&chart, &plays).0);
    }
    took.sort_unstable();
    let p95 = nearest_rank(&took, 0.95).map(Duration).filter(|p95| *p95 > promise);
    WrittenTime { least: least(&mut chart, &plays(0.5), &mut total), p95_above: p95 }
}

fn least(chart: &mut Chart, plays: &[Play], total: &mut impl FnMut(&Chart, &[Play]) -> Duration) -> Duration {
    chart.locks.iter_mut().for_each(Vec::clear);
    total(chart, plays)
}

/// A planned move is measured from the moment production stops.
fn clock_from(sheet: &Runsheet, course: &Course) -> u64 {
    if sheet.operation.kind != Kind::Planned {
        return 0;
    }
    let leaves = |at: &usize| {
        let node = &sheet.nodes[*at];
        node.phase == SheetPhase::Leave && matches!(node.action, Action::Stop { .. } | Action::Run { .. })
    };
    (0..sheet.nodes.len()).filter(leaves).filter_map(|at| course.start(at)).min().unwrap_or(0)
}

/// Everything that is the same in every trial.
struct Model<'a> {
    sheet: &'a Runsheet,
    conditions: &'a Conditions,
    chart: Chart,
    spreads: Vec<Spread>,
    hashes: Vec<u64>,
    blows: Vec<Blow>,
    /// Milliseconds below which the link does not let a step end.
    floors: Vec<u64>,
}

impl<'a> Model<'a> {
    fn new(sheet: &'a Runsheet, estate: &Estate, evidence: &Evidence, conditions: &'a Conditions) -> Self {
        let spread = |node: &Node| Spread::of(node, sheet.operation, evidence.history.as_ref());
        let spreads: Vec<Spread> = sheet.nodes.iter().map(spread).collect();
        let floors: Vec<u64> = sheet.nodes.iter().map(|node| floor(sheet, estate, conditions, node)).collect();
        let mut chart = Chart::new(sheet, conditions);
        if conditions.rate(&sheet.source, &sheet.target).is_some() {
            // A slow link is shared: copies that it holds up end as if they went over it one by one.
            let held = |at: &usize| floors[*at] > spreads[*at].quantile(0.5).0;
            let copies: Vec<usize> = (0..sheet.nodes.len()).filter(held).collect();
            chart.share(&copies);
        }
        Self {
            sheet,
            conditions,
            chart,
            spreads,
            hashes: sheet.nodes.iter().map(|node| name_hash(node.id.as_str())).collect(),
            blows: sheet.nodes.iter().map(|node| conditions.blow(sheet, node)).collect(),
            floors,
        }
    }

    /// How the step goes when attempts take what `draw` says and this many of them fail.
    fn play(&self, at: usize, failures: u32, took: u64, failed: impl Fn(u32) -> u64) -> (Play, Fate) {
        let node = &self.sheet.nodes[at];
        let lost = |after: u64| match node.otherwise {
            Otherwise::Continue => (Play::Ends(after), Fate::Degraded),
            Otherwise::Pause | Otherwise::Undo => (Play::Sticks(after), Fate::Stuck),
        };
        let took = match self.blows[at] {
            Blow::None => took.max(self.floors[at]),
            // Nobody knows how long a dead site is waited for but for the limit.
            Blow::Fails => return lost(node.within.0),
            Blow::Waived => return (Play::Ends(node.within.0), Fate::Waived),
            Blow::Signature => took.max(signature()),
        };
        let retry = node.retry.map_or(0, |retry| retry.count);
        let mut sum = 0_u64;
        for attempt in 0..failures {
            sum = sum.saturating_add(failed(attempt));
            if attempt >= retry || sum >= node.within.0 {
                return lost(sum.min(node.within.0));
            }
            if let Some(retry) = node.retry {
                let delay = retry.delay.0.saturating_mul(u64::from(retry.factor.max(1)).saturating_pow(attempt));
                sum = sum.saturating_add(delay);
            }
        }
        let sum = sum.saturating_add(took);
        // A wait has no limit of its own.
        if sum > node.within.0 && !matches!(node.action, Action::Wait { .. }) {
            return lost(node.within.0);
        }
        (Play::Ends(sum), Fate::Done)
    }

    fn forced(&self, at: usize) -> u32 {
        self.conditions.fail.get(&self.sheet.nodes[at].id).copied().unwrap_or(0)
    }

    /// Medians, and only the failures that the conditions name.
    fn typical(&self, at: usize) -> (Play, Fate) {
        let median = self.spreads[at].quantile(0.5).0;
        self.play(at, self.forced(at), median, |_| self.spreads[at].draw_failed(0.5))
    }

    fn drawn(&self, at: usize, dice: Dice, trial: u32) -> Play {
        let (spread, hash) = (&self.spreads[at], self.hashes[at]);
        if spread.origin == Origin::None && self.blows[at] == Blow::None && self.forced(at) == 0 {
            return Play::Ends(self.floors[at]);
        }
        let mut failures = self.forced(at);
        let retries = self.sheet.nodes[at].retry.map_or(0, |retry| retry.count);
        while failures <= retries && spread.failing > 0.0 && dice.draw(trial, hash, 8 + failures) < spread.failing {
            failures += 1;
        }
        let took = spread.draw(dice.draw(trial, hash, 0), dice.draw(trial, hash, 1));
        self.play(at, failures, took, |attempt| spread.draw_failed(dice.draw(trial, hash, 1_000 + attempt))).0
    }

    fn trials(&self, dice: Dice) -> Trials {
        let (mut course, mut plays) = (Course::default(), vec![Play::Ends(0); self.chart.len()]);
        let count = trials_of(self.chart.len());
        let mut took: Vec<u64> = Vec::with_capacity(count as usize);
        for trial in 0..count {
            for (at, play) in plays.iter_mut().enumerate() {
                *play = self.drawn(at, dice, trial);
            }
            course.run(&self.chart, &plays);
            if let Some(total) = course.healthy(&self.chart, &plays) {
                took.push(total.saturating_sub(clock_from(self.sheet, &course)));
            }
        }
        took.sort_unstable();
        let promise = self.sheet.rto.filter(|_| self.sheet.operation.kind.is_live());
        let met = promise.map(|rto| took.partition_point(|total| *total <= rto.0) as f64 / f64::from(count));
        Trials {
            count,
            p50: nearest_rank(&took, 0.50).map(Duration),
            p95: nearest_rank(&took, 0.95).map(Duration),
            met,
            stuck: count - took.len() as u32,
        }
    }
}

/// Steps drawn in all trials together: beyond this a forecast would take seconds.
const DRAWS_MAX: usize = 4_000_000;
/// Below this a p95 says nothing.
const TRIALS_MIN: usize = 200;

/// Very large sheets are drawn less often; the table says how often.
fn trials_of(steps: usize) -> u32 {
    (DRAWS_MAX / steps.max(1)).clamp(TRIALS_MIN, TRIALS as usize) as u32
}

/// One attempt of each step, in the order of the sheet: the middle of what is known of it, and no less than its link
/// lets through. For whoever plays a run in virtual time.
pub fn attempt_times(sheet: &Runsheet, estate: &Estate, evidence: &Evidence, conditions: &Conditions) -> Vec<Duration> {
    let time = |node: &Node| {
        let median = Spread::of(node, sheet.operation, evidence.history.as_ref()).quantile(0.5);
        median.max(Duration(floor(sheet, estate, conditions, node)))
    };
    sheet.nodes.iter().map(time).collect()
}

/// How long it takes to find a person who signs that a site is dead.
pub fn signature_time() -> Duration {
    Duration(signature())
}

/// What it takes to find a person who signs that a site is dead.
fn signature() -> u64 {
    let line = muster_stdlib::timing("approve");
    line.and_then(|line| line.assumed.parse::<Duration>().ok()).unwrap_or_default().0
}

fn policy<'a>(sheet: &Runsheet, estate: &'a Estate, group: &GroupName) -> Option<&'a PolicySheet> {
    estate.policies.get(sheet.groups.get(group)?.policy.as_ref()?)
}

fn floor(sheet: &Runsheet, estate: &Estate, conditions: &Conditions, node: &Node) -> u64 {
    let cycle = |group: &GroupName| policy(sheet, estate, group).map(|policy| policy.cycle);
    let bytes = freight(sheet, node, &cycle);
    if bytes == 0 {
        return 0;
    }
    let group = match &node.action {
        Action::SyncFinal { group } => Some(group),
        action => action.machine().and_then(|machine| sheet.machines.get(machine)?.group.as_ref()),
    };
    let allowed = group.and_then(|group| policy(sheet, estate, group)).and_then(slowest);
    let link = conditions.rate(&sheet.source, &sheet.target);
    let Some(rate) = allowed.into_iter().chain(link).min() else { return 0 };
    u64::try_from(u128::from(bytes) * 8_000 / u128::from(rate.0.max(1))).unwrap_or(u64::MAX)
}

/// The least that a policy ever lets through; `None` is without limit.
pub(crate) fn slowest(policy: &PolicySheet) -> Option<Rate> {
    policy.bandwidth_windows.iter().map(|(_, rate)| *rate).chain(policy.bandwidth).min()
}

impl Estimate {
    /// The same sheet, evidence, conditions and dice give the same estimate.
    pub fn of(sheet: &Runsheet, estate: &Estate, evidence: &Evidence, conditions: &Conditions, dice: Dice) -> Self {
        Self::with_chart(sheet, estate, evidence, conditions, dice).0
    }

    /// With the graph it was made on.
    pub(crate) fn with_chart(
        sheet: &Runsheet,
        estate: &Estate,
        evidence: &Evidence,
        conditions: &Conditions,
        dice: Dice,
    ) -> (Self, Chart) {
        let model = Model::new(sheet, estate, evidence, conditions);
        let mut estimate = Self::typical(&model);
        estimate.trials = model.trials(dice);
        (estimate, model.chart)
    }

    fn typical(model: &Model<'_>) -> Self {
        let (sheet, chart) = (model.sheet, &model.chart);
        let (plays, fates): (Vec<Play>, Vec<Fate>) = (0..chart.len()).map(|at| model.typical(at)).unzip();
        let mut course = Course::default();
        course.run(chart, &plays);
        let total = course.healthy(chart, &plays);
        let critical = course.critical(chart, total.unwrap_or(0));
        let span = |(at, node): (usize, &Node)| Span {
            id: node.id.clone(),
            start: course.start(at).map(Duration),
            took: Duration(plays[at].took()),
            p95: model.spreads[at].quantile(0.95),
            origin: if model.blows[at] == Blow::Signature { Origin::Assumed } else { model.spreads[at].origin },
            samples: model.spreads[at].samples,
            failures: model.forced(at),
            fate: if course.start(at).is_some() { fates[at] } else { Fate::Never },
            critical: critical[at],
        };
        let steps: Vec<Span> = sheet.nodes.iter().enumerate().map(span).collect();
        let from = clock_from(sheet, &course);
        let on_the_way = || steps.iter().filter(|span| span.critical && span.took != Duration::ZERO);
        Self {
            total: total.map(Duration),
            whole: course.whole(chart, &plays).map(Duration),
            clock_from: Duration(from),
            objective: total.map(|total| Duration(total.saturating_sub(from))),
            trials: Trials { count: 0, p50: None, p95: None, met: None, stuck: 0 },
            assumed: on_the_way().any(Span::assumed),
            no_evidence: on_the_way().next().is_some()
                && on_the_way().all(|span| matches!(span.origin, Origin::Assumed | Origin::None)),
            steps,
        }
    }

    pub fn span(&self, id: &StepId) -> Option<&Span> {
        self.steps.iter().find(|span| span.id == *id)
    }
}
