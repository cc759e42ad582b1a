//! What past runs of a plan have taken: their journals, folded to samples for the forecast of the next one.
//!
//! Only an attempt that began and succeeded while one engine was alive is a duration; what a person decided, what was
//! found done already and what a crash lies in is not.

use muster_forecast::{Evidence, History, LastDrill, Sample, what_of};
use muster_journal::{Event, Record, RunStatus, RunStore, RunSummary};
use muster_ports::{PlanName, Result, StateStore, Timestamp};
use muster_replication::Replicator;
use muster_runsheet::{Action, Duration, Kind, Node, NodeKind, Runsheet, StepId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Newest runs of a plan that are read: years of monthly drills, and a bound on the time a dry-run takes.
const RUNS_MAX: usize = 100;

/// Everything a vault knows that helps to forecast an operation of a plan.
pub(crate) async fn evidence(
    store: &Arc<dyn StateStore>,
    replicator: &Replicator,
    plan: &PlanName,
    now: Timestamp,
) -> Result<Evidence> {
    let lags = replicator.status().await?.into_iter();
    let lags = lags.filter_map(|status| Some((status.group, Duration(status.lag_millis?)))).collect();
    Ok(Evidence { history: Some(history(store, plan, now).await?), lags: Some(lags), inventory_age: None })
}

async fn history(store: &Arc<dyn StateStore>, plan: &PlanName, now: Timestamp) -> Result<History> {
    let runs = RunStore::new(store.clone());
    let mut all: Vec<RunSummary> = runs.list().await?.into_iter().filter(|run| run.plan == *plan).collect();
    all.sort_by(|a, b| b.id.cmp(&a.id));
    let mut history = History::default();
    for summary in all.into_iter().take(RUNS_MAX) {
        let loaded = match runs.load(&summary.id).await {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::warn!(run = %summary.id, %error, "the estimate does without the journal of this run");
                continue;
            }
        };
        history.runs += 1;
        history.samples.extend(samples(&loaded.sheet, &loaded.records, now));
        if let (None, Kind::Test, Some(ended)) = (&history.last_drill, summary.operation.kind, summary.ended) {
            let passed = summary.status == RunStatus::Done && loaded.state.degraded().is_empty();
            let age = Duration::from(now.since(ended));
            history.last_drill = Some(LastDrill { run: summary.id.to_string(), age, passed });
        }
    }
    Ok(history)
}

/// A step between its first record and its end.
#[derive(Default)]
struct Begun {
    /// When what runs now began; `None` when nothing does, or nobody knows how long it took.
    since: Option<Timestamp>,
    failed: Vec<Duration>,
    /// A crash or a person lies in it.
    spoilt: bool,
}

/// The durations of one run. Records of steps that the sheet does not have are no part of it.
pub fn samples(sheet: &Runsheet, records: &[Record], now: Timestamp) -> Vec<Sample> {
    let nodes: BTreeMap<&StepId, &Node> = sheet.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut begun: BTreeMap<&StepId, Begun> = BTreeMap::new();
    let mut samples = Vec::new();
    for record in records {
        match &record.event {
            Event::UndoBegun { .. } => break,
            Event::EngineClaimed { .. } => {
                for step in begun.values_mut().filter(|step| step.since.is_some()) {
                    (step.since, step.spoilt) = (None, true);
                }
            }
            event => {
                let Some(node) = event.node().and_then(|id| nodes.get(id)) else { continue };
                let step = begun.entry(&node.id).or_default();
                if let Some(took) = step.take(event, record.time)
                    && is_told(node)
                {
                    let failed = std::mem::take(&mut step.failed);
                    samples.push(Sample {
                        what: what_of(node),
                        machine: node.action.machine().cloned(),
                        operation: sheet.operation,
                        phase: node.phase,
                        took,
                        failed,
                        age: Duration::from(now.since(record.time)),
                    });
                }
            }
        }
    }
    samples
}

/// Barriers take no time, and a wait as long as it says.
fn is_told(node: &Node) -> bool {
    node.kind != NodeKind::Barrier && !matches!(node.action, Action::Wait { .. })
}

impl Begun {
    /// The next record of the step. `Some` when it ends something worth a sample: with how long that took, or without
    /// when it failed for good.
    fn take(&mut self, event: &Event, time: Timestamp) -> Option<Option<Duration>> {
        let took = |since: Option<Timestamp>| since.map(|since| Duration::from(time.since(since)));
        match event {
            Event::AttemptStarted { .. } | Event::Asked { .. } if self.since.is_none() => {
                // A question that is put again after a crash counts from the first time, which is not known here.
                self.since = (!self.spoilt || matches!(event, Event::AttemptStarted { .. })).then_some(time);
                None
            }
            Event::AttemptFailed { .. } => {
                self.failed.extend(took(self.since.take()));
                None
            }
            Event::NodeSucceeded { adopted, .. } => took(self.since.take()).filter(|_| !adopted).map(Some),
            Event::NodeDegraded { .. } | Event::Paused { .. } if !self.failed.is_empty() => {
                self.since = None;
                Some(None)
            }
            Event::Decided { .. } | Event::AnswerExpired { .. } => {
                *self = Self { spoilt: true, ..Self::default() };
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use muster_journal::{Decision, StepOutput};
    use muster_ports::{EffectKey, Epoch, Failure};
    use muster_runsheet::Hash;

    fn sheet() -> Runsheet {
        let node = |id: &str, verb: serde_json::Value| {
            serde_json::json!({
                "id": id, "kind": "act", "phase": "rise", "stage": "s", "action": verb, "made_by": "shop.plan:1",
                "within": "5m", "usually": null, "retry": null, "otherwise": "pause", "after_no_return": true, "locks": [],
            })
        };
        let start = |machine: &str| serde_json::json!({ "verb": "start", "machine": machine, "site": "dr" });
        let text = serde_json::json!({
            "format": "muster.runsheet/1", "plan": "shop", "operation": { "kind": "test", "direction": "out" },
            "source": "hq", "target": "dr", "rto": null, "rpo": null, "owner": null, "keep": null, "vault": "file:///v",
            "inventory": "0", "sites": {}, "groups": {}, "machines": {}, "hooks": {}, "assumptions": [], "edges": [],
            "left_out": [],
            "nodes": [
                node("s.start/db", start("db")), node("s.start/app", start("app")),
                node("s.wait", serde_json::json!({ "verb": "wait", "duration": "10s" })),
            ],
        });
        Runsheet::from_json(&text.to_string()).unwrap()
    }

    fn told(events: Vec<(u64, Event)>) -> Vec<(String, Option<u64>, Vec<u64>, u64)> {
        let records: Vec<Record> = (0..)
            .zip(events)
            .map(|(seq, (second, event))| Record {
                seq,
                time: Timestamp(second * 1_000),
                epoch: Epoch(1),
                prev_hash: Hash::of(""),
                event,
            })
            .collect();
        let seconds = |duration: Duration| duration.0 / 1_000;
        samples(&sheet(), &records, Timestamp(100_000))
            .into_iter()
            .map(|sample| {
                let failed = sample.failed.into_iter().map(seconds).collect();
                (sample.machine.unwrap().to_string(), sample.took.map(seconds), failed, seconds(sample.age))
            })
            .collect()
    }

    fn started(step: &str) -> Event {
        let key = EffectKey::from("k");
        Event::AttemptStarted { node: step.into(), attempt: 1, key, deadline: Timestamp(0) }
    }
    fn failed(step: &str) -> Event {
        Event::AttemptFailed { node: step.into(), attempt: 1, failure: Failure::transient("no") }
    }
    fn done(step: &str, adopted: bool) -> Event {
        Event::NodeSucceeded { node: step.into(), output: StepOutput::None, adopted }
    }
    fn claimed() -> Event {
        Event::EngineClaimed { engine: "e".into() }
    }

    #[test]
    fn attempts_become_durations_and_failures() {
        let found = told(vec![
            (0, claimed()),
            (1, started("s.start/db")),
            (4, failed("s.start/db")),
            (9, started("s.start/db")),
            (10, started("s.start/app")),
            (16, done("s.start/db", false)),
            (20, done("s.start/app", false)),
        ]);
        assert_eq!(found, [("db".into(), Some(7), vec![3], 84), ("app".into(), Some(10), vec![], 80)]);
    }

    #[test]
    fn what_a_crash_a_person_or_an_adoption_lies_in_is_no_duration() {
        let decided = Event::Decided {
            node: "s.start/app".into(),
            decision: Decision::Retry,
            who: "anna".into(),
            why: String::new(),
        };
        let paused = Event::Paused { node: "s.start/app".into(), why: Failure::transient("no") };
        let found = told(vec![
            (0, claimed()),
            (1, started("s.start/db")),
            (50, claimed()),
            (51, done("s.start/db", true)),
            (52, started("s.start/app")),
            (54, failed("s.start/app")),
            (54, paused),
            (90, decided),
            (91, started("s.start/app")),
            (95, done("s.start/app", false)),
        ]);
        assert_eq!(found, [("app".into(), None, vec![2], 46), ("app".into(), Some(4), vec![], 5)]);
    }

    #[test]
    fn waits_and_what_is_taken_back_tell_nothing() {
        let undo = Event::UndoBegun { by: None, why: String::new() };
        let found = told(vec![
            (1, started("s.wait")),
            (11, done("s.wait", false)),
            (12, undo),
            (13, started("s.start/db")),
            (14, done("s.start/db", false)),
        ]);
        assert_eq!(found, []);
    }
}
