//! A plan's time objective against what its operations take.

use crate::Checked;
use crate::context::Context;
use crate::model::PlanModel;
use muster_diagnostics::{Diagnostic, Span};
use muster_forecast::{Dice, Forecast, written_time};
use muster_runsheet::{Action, Duration, Operation, Runsheet};

/// The same plans always get the same answer.
const DICE: Dice = Dice::new(2026);

/// What 95 of 100 trials of an operation take, above the promise.
pub(crate) type Late = (Duration, Operation);

/// What the plan itself says takes longer than it promises (E0403); a question may stay open longer (E0411). Answers
/// whether it may, by its own words, be late.
pub(crate) fn check(cx: &Context<'_>, plan: &PlanModel, sheet: &Runsheet) -> Option<Late> {
    let (rto, span) = plan.rto.filter(|_| sheet.operation.kind.is_live())?;
    let written = written_time(sheet, rto, DICE);
    if written.least > rto {
        cx.push(
            Diagnostic::error(
                403,
                format!("plan `{}` cannot keep its {rto} promise", plan.name),
                span,
                "promised here",
            )
            .note(format!(
                "the waits and `usually` it names take {} by themselves in {}",
                written.least, sheet.operation
            ))
            .help("promise more time, or take a wait off the longest way"),
        );
    }
    for node in &sheet.nodes {
        if matches!(node.action, Action::Approve { .. }) && node.within > rto {
            cx.push(
                Diagnostic::warning(
                    411,
                    format!("`{}` may stay open for {}", node.id, node.within),
                    span,
                    "longer than this promise",
                )
                .help("give the approval a shorter `within`"),
            );
        }
    }
    written.p95_above.filter(|_| written.least <= rto).map(|p95| (p95, sheet.operation))
}

/// One warning a plan, about the operation that is latest: E0404.
pub(crate) fn warn(cx: &Context<'_>, plan: &PlanModel, late: &[Late]) {
    let Some((rto, span)) = plan.rto else { return };
    if let Some((p95, operation)) = late.iter().max_by_key(|(p95, _)| *p95) {
        let note = format!(
            "in 5 of 100 trials `{operation}` takes more than {}, by the waits and `usually` of the plan alone",
            seconds(*p95)
        );
        cx.push(may_miss(&plan.name, rto, *operation, span).note(note));
    }
}

fn may_miss(plan: &str, rto: Duration, operation: Operation, span: Span) -> Diagnostic {
    Diagnostic::warning(404, format!("plan `{plan}` may miss its {rto} promise"), span, "promised here")
        .help(format!("`muster dry-run {plan} {operation}` shows the longest way: shorten it, or promise more time"))
}

fn seconds(duration: Duration) -> Duration {
    Duration(duration.0.div_ceil(1_000) * 1_000)
}

impl Checked {
    /// What a forecast means for the promise of its plan: it may be missed (E0404), or nobody knows (E0412).
    pub fn objections(&self, forecast: &Forecast<'_>) -> Vec<Diagnostic> {
        let sheet = forecast.sheet;
        let promise = self.program.plans.get(sheet.plan.as_str()).and_then(|(plan, _)| plan.rto);
        let Some((rto, span)) = promise.filter(|_| sheet.operation.kind.is_live()) else { return Vec::new() };
        let estimate = &forecast.estimate;
        if estimate.no_evidence {
            return vec![
                Diagnostic::info(
                    412,
                    format!("nothing is known of how long `{} {}` takes", sheet.plan, sheet.operation),
                    span,
                    "promised here",
                )
                .note("no step on its longest way was ever measured, and the plan names no `usually`")
                .help(format!("run a drill (`muster drill {}`), or write `usually` where you know", sheet.plan)),
            ];
        }
        match estimate.trials.p95.filter(|p95| *p95 > rto) {
            Some(p95) => {
                let met = estimate.trials.met.unwrap_or(0.0) * 100.0;
                let note = format!(
                    "in 5 of 100 trials `{}` takes more than {}; it is in time in {met:.0}%",
                    sheet.operation,
                    seconds(p95)
                );
                vec![may_miss(sheet.plan.as_str(), rto, sheet.operation, span).note(note)]
            }
            None => Vec::new(),
        }
    }
}
