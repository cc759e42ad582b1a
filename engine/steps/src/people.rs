//! What is written for people: notes and the report.

use crate::Steps;
use crate::context::put;
use muster_executor::{Observation, StepContext};
use muster_journal::StepOutput;
use muster_ports::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The summary of a run, as stored under `run/<id>/report`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    format: String,
    run: RunId,
    plan: PlanName,
    operation: String,
    source: SiteName,
    target: SiteName,
    at: Timestamp,
    sheet: Hash,
    rto: Option<muster_runsheet::Duration>,
    rpo: Option<muster_runsheet::Duration>,
    points: Vec<ReportPoint>,
    fences: Vec<String>,
    /// Bytes moved while landing.
    fetched_bytes: u64,
    compared_bytes: u64,
    written_bytes: u64,
    /// What each step left behind for people.
    steps: BTreeMap<StepId, StepOutput>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ReportPoint {
    group: String,
    point: PointId,
    at: Timestamp,
    loss_millis: u64,
}

const REPORT_FORMAT: &str = "muster.report/1";

fn report_key(run: &RunId) -> String {
    format!("run/{run}/report")
}

impl Steps {
    /// Carried out as a line in the run's log; channels beyond it are not there yet, and the line says for whom it is.
    pub(crate) async fn act_notify(&self, cx: StepContext<'_>, to: &str, text: &str) -> Result<StepOutput> {
        let text = filled(cx, text);
        cx.calls.note(&format!("notify {to}: {text}")).await?;
        Ok(StepOutput::Text { text })
    }

    pub(crate) async fn observe_report(&self, cx: StepContext<'_>) -> Result<Observation> {
        let found: Option<Report> = self.read(&report_key(cx.run)).await?;
        Ok(found.map_or(Observation::DoesNotHold, |_| Observation::Holds(StepOutput::None)))
    }

    pub(crate) async fn act_report(&self, cx: StepContext<'_>) -> Result<StepOutput> {
        let sheet = cx.sheet;
        let mut report = Report {
            format: REPORT_FORMAT.to_owned(),
            run: cx.run.clone(),
            plan: sheet.plan.clone(),
            operation: sheet.operation.to_string(),
            source: sheet.source.clone(),
            target: sheet.target.clone(),
            at: self.clock.now(),
            sheet: sheet.hash(),
            rto: sheet.rto,
            rpo: sheet.rpo,
            points: Vec::new(),
            fences: Vec::new(),
            fetched_bytes: 0,
            compared_bytes: 0,
            written_bytes: 0,
            steps: cx.outputs.iter().map(|(step, output)| (step.clone(), output.clone())).collect(),
        };
        for output in cx.outputs.values() {
            match output {
                StepOutput::Point { group, point, at, loss_millis } => report.points.push(ReportPoint {
                    group: group.clone(),
                    point: point.clone(),
                    at: *at,
                    loss_millis: *loss_millis,
                }),
                StepOutput::Fence { how } => report.fences.push(how.clone()),
                StepOutput::Bytes { fetched, compared, written, .. } => {
                    report.fetched_bytes = report.fetched_bytes.saturating_add(*fetched);
                    report.compared_bytes = report.compared_bytes.saturating_add(*compared);
                    report.written_bytes = report.written_bytes.saturating_add(*written);
                }
                StepOutput::None | StepOutput::Text { .. } => {}
            }
        }
        // Final and pick may both name the same point.
        report.points.dedup_by(|left, right| left == right);
        report.steps.retain(|_, output| *output != StepOutput::None);
        self.store.write(vec![put(report_key(cx.run), &report)?]).await?;
        Ok(StepOutput::None)
    }
}

/// Fills in what only the run knows. What it does not know stays as written.
fn filled(cx: StepContext<'_>, text: &str) -> String {
    let points = || {
        cx.outputs.values().filter_map(|output| match output {
            StepOutput::Point { at, loss_millis, .. } => Some((*at, *loss_millis)),
            _ => None,
        })
    };
    let mut text = text
        .replace("{source}", cx.sheet.source.as_str())
        .replace("{target}", cx.sheet.target.as_str())
        .replace("{plan}", cx.sheet.plan.as_str())
        .replace("{operation}", &cx.sheet.operation.to_string())
        .replace("{run}", cx.run.as_str());
    if let Some(at) = points().map(|(at, _)| at).min() {
        text = text.replace("{point.at}", &muster_executor::moment(at));
    }
    if let Some(loss) = points().map(|(_, loss)| loss).max() {
        text = text.replace("{loss}", &muster_runsheet::Duration(loss - loss % 1_000).to_string());
    }
    text
}
