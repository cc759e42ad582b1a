//! Records and runsheet -> report. A fold of its own, not the engine's: it keeps what people ask for afterwards, and a
//! record that it does not know leaves no trace but in the journal's hash.

use crate::measure;
use crate::report::*;
use muster_forecast::{Conditions, Dice, Estimate, Evidence, Forecast, Origin, Question, Span};
use muster_journal::{Decision, Event, Record, RunStatus, SkippedBy, StepOutput};
use muster_ports::{RunId, Timestamp};
use muster_runsheet::{Action, Estate, Hash, Node, NodeKind, Runsheet, StepId, view};
use std::collections::BTreeMap;

/// An estimate from the sheet alone needs no luck; these dice are thrown for it all the same.
const DICE: Dice = Dice::new(2026);

/// What a report is told from.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    pub run: &'a RunId,
    /// The one in force at the end.
    pub sheet: &'a Runsheet,
    /// All of them, their chain checked.
    pub records: &'a [Record],
    /// Hash of the newest record.
    pub head: &'a Hash,
    /// Kind of each recovery point that is still in the vault.
    pub kinds: &'a BTreeMap<String, String>,
}

/// One step while the records are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub(crate) began: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    attempts: u32,
    pub(crate) fate: Option<Fate>,
    note: String,
    question: String,
}

/// Everything the records say, by subject.
#[derive(Debug, Default)]
pub(crate) struct Tale {
    pub(crate) lines: BTreeMap<StepId, Line>,
    pub(crate) opened: Timestamp,
    pub(crate) incident: Option<Timestamp>,
    who: String,
    why: String,
    format: String,
    sheet: Option<Hash>,
    status: Option<RunStatus>,
    closed: Option<Timestamp>,
    degraded: bool,
    engines: Vec<String>,
    words: Vec<Word>,
    calls: Vec<Call>,
    exceptions: Vec<Exception>,
    points: BTreeMap<String, Loss>,
}

/// The report of a run, finished or not.
pub fn report(told: Told<'_>) -> Report {
    let mut tale = Tale::default();
    for record in told.records {
        tale.take(record);
    }
    let estimate = of_sheet(told.sheet);
    let steps = steps(told.sheet, &tale, &estimate);
    let clock = measure::clock(told.sheet, &tale, &estimate);
    let mut exceptions = tale.exceptions;
    let left = told.sheet.left_out.iter().map(|left| Exception {
        step: left.step.clone(),
        how: "left out of this operation by the plan".to_owned(),
        who: None,
        why: left.why.clone(),
    });
    exceptions.extend(left);
    let hook_of = |step: &StepId| told.sheet.node(step).and_then(hook).unwrap_or_default();
    let mut calls = tale.calls;
    for call in &mut calls {
        call.hook = hook_of(&call.step);
    }
    let mut losses: Vec<Loss> = tale.points.into_values().collect();
    for loss in &mut losses {
        loss.consistency = told.kinds.get(&loss.point).cloned();
        loss.promised_millis = told.sheet.rpo.map(|rpo| rpo.0);
    }
    Report {
        format: REPORT_FORMAT.to_owned(),
        run: told.run.clone(),
        plan: told.sheet.plan.clone(),
        operation: told.sheet.operation.to_string(),
        source: told.sheet.source.to_string(),
        target: told.sheet.target.to_string(),
        who: tale.who,
        why: tale.why,
        opened: tale.opened,
        closed: tale.closed,
        status: tale.status.unwrap_or(RunStatus::Open).word().to_owned(),
        degraded: tale.degraded,
        clock,
        losses,
        steps,
        words: tale.words,
        calls,
        exceptions,
        journal: Journal {
            format: tale.format,
            records: told.records.len() as u64,
            head: told.head.clone(),
            sheet: tale.sheet.unwrap_or_else(|| told.sheet.hash()),
            engines: tale.engines,
        },
    }
}

/// What the sheet alone lets expect: `usually` and what the standard library assumes. Past runs are left out, since this
/// run would be among them.
fn of_sheet(sheet: &Runsheet) -> Estimate {
    let (estate, evidence, conditions) = (Estate::default(), Evidence::default(), Conditions::default());
    let question = Question { sheet, estate: &estate, evidence: &evidence, conditions: &conditions, dice: DICE };
    Forecast::of(question).estimate
}

fn hook(node: &Node) -> Option<String> {
    match &node.action {
        Action::Run { hook, .. } => Some(hook.to_string()),
        Action::Check { probe: muster_runsheet::ProbeCall::Hook { hook, .. }, .. } => Some(hook.to_string()),
        _ => None,
    }
}

fn steps(sheet: &Runsheet, tale: &Tale, estimate: &Estimate) -> Vec<Step> {
    let spans: BTreeMap<&StepId, &Span> = estimate.steps.iter().map(|span| (&span.id, span)).collect();
    let end = tale.closed;
    let shown = sheet.nodes.iter().filter(|node| node.kind != NodeKind::Barrier);
    shown
        .map(|node| {
            let line = tale.lines.get(&node.id).cloned().unwrap_or_default();
            let span = spans.get(&node.id);
            let since = |at: Timestamp| millis(at, tale.opened);
            Step {
                id: node.id.clone(),
                what: view::words(&node.action),
                made_by: node.made_by.clone(),
                phase: format!("{:?}", node.phase).to_lowercase(),
                began_millis: line.began.map(since),
                took_millis: line.began.and_then(|began| Some(millis(line.ended.or(end)?, began))),
                estimate_began_millis: span.and_then(|span| span.start).map(|start| start.0),
                estimate_millis: span.filter(|span| span.start.is_some()).map(|span| span.took.0),
                estimate_from: origin(span.map_or(Origin::None, |span| span.origin)).to_owned(),
                attempts: line.attempts,
                fate: line.fate.unwrap_or(Fate::NotBegun),
                note: line.note,
            }
        })
        .collect()
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Exact | Origin::Written => "plan",
        Origin::Measured | Origin::Others => "measured",
        Origin::Assumed => "assumed",
        Origin::None => "",
    }
}

/// Never negative: a clock may have been set back between two records.
pub(crate) fn millis(at: Timestamp, since: Timestamp) -> u64 {
    at.0.saturating_sub(since.0)
}

impl Tale {
    fn take(&mut self, record: &Record) {
        let at = record.time;
        match &record.event {
            Event::RunOpened { .. }
            | Event::EngineClaimed { .. }
            | Event::TakenOver { .. }
            | Event::Amended { .. }
            | Event::LeftOpen { .. }
            | Event::RunPaused { .. }
            | Event::RunResumed { .. }
            | Event::UndoBegun { .. }
            | Event::RunClosed { .. } => self.take_run(at, &record.event),
            Event::Asked { .. }
            | Event::Answered { .. }
            | Event::AnswerExpired { .. }
            | Event::Paused { .. }
            | Event::Decided { .. }
            | Event::FenceProven { .. }
            | Event::NoReturn { .. } => self.take_word(at, &record.event),
            Event::EffectIntended { .. } | Event::EffectDone { .. } => self.take_call(at, &record.event),
            event => self.take_step(at, event),
        }
    }

    fn take_run(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::RunOpened { format, sheet, who, why, incident, signed, .. } => {
                self.opened = at;
                self.incident = *incident;
                self.format.clone_from(format);
                self.sheet = Some(sheet.clone());
                self.who.clone_from(who);
                self.why.clone_from(why);
                self.word(at, None, who, "asks for the run", why);
                if let Some(signed) = signed {
                    self.word(at, None, &signed.who, "signs in advance that both sides may run at once", &signed.why);
                }
            }
            Event::EngineClaimed { engine } => self.engines.push(engine.clone()),
            Event::TakenOver { from, who, why } => {
                self.word(at, None, who, &format!("takes the vault over from {from}"), why);
            }
            Event::Amended { changes, who, why, .. } => {
                self.word(at, None, who, &format!("amends the runsheet: {}", changes.join("; ")), why);
            }
            Event::LeftOpen { who, why } => self.word(at, None, who, "leaves the run as it stands", why),
            Event::RunPaused { who, why } => self.word(at, None, who, "pauses the run", why),
            Event::RunResumed { who, why } => self.word(at, None, who, "resumes the run", why),
            Event::UndoBegun { by, why } => {
                let who = by.as_ref().map_or("the plan (`else undo`)", |by| by.who.as_str());
                self.word(at, None, who, "has everything taken back", why);
            }
            Event::RunClosed { status, degraded, .. } => {
                self.status = Some(*status);
                self.closed = Some(at);
                self.degraded = !degraded.is_empty();
            }
            _ => {}
        }
    }

    fn take_word(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Asked { node, question, .. } => {
                let line = self.line(node);
                line.began.get_or_insert(at);
                line.fate = Some(Fate::Waiting);
                line.question.clone_from(&question.text);
                self.word(at, Some(node), &question.to, &format!("is asked: {}", question.text), "");
            }
            Event::Answered { node, answer } => {
                let question = self.line(node).question.clone();
                let what = format!("says {} to: {question}", if answer.yes { "yes" } else { "no" });
                self.word(at, Some(node), &answer.who, &what, &answer.why);
            }
            Event::AnswerExpired { node, why } => self.word(at, Some(node), "-", "the answer is too old", why),
            Event::Paused { node, why } => {
                let line = self.line(node);
                line.fate = Some(Fate::Waiting);
                line.note.clone_from(&why.message);
            }
            Event::Decided { node, decision, who, why } => self.decided(at, node, *decision, who, why),
            Event::FenceProven { node, how } => {
                self.word(at, Some(node), "-", &format!("the fence is proven: {how}"), "");
            }
            Event::NoReturn { node } => self.word(at, Some(node), "-", "the point of no return", ""),
            _ => {}
        }
    }

    fn decided(&mut self, at: Timestamp, node: &StepId, decision: Decision, who: &str, why: &str) {
        self.word(at, Some(node), who, &format!("decides: {decision}"), why);
        let line = self.line(node);
        match decision {
            Decision::Retry | Decision::Redo => {
                line.fate = Some(Fate::NotBegun);
                line.ended = None;
            }
            Decision::Skip => {
                line.fate = Some(Fate::Skipped);
                line.ended = Some(at);
                self.exception(node, "skipped", Some(who), why);
            }
            Decision::DoneByHand => {
                line.fate = Some(Fate::ByHand);
                line.ended = Some(at);
                self.exception(node, "done by hand", Some(who), why);
            }
            Decision::Abort => {}
        }
    }

    fn take_call(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::EffectIntended { node, undo, call, operation, arguments, .. } => self.calls.push(Call {
                at,
                step: node.clone(),
                hook: String::new(),
                undo: *undo,
                number: *call,
                operation: operation.clone(),
                arguments: arguments.clone(),
                answered: false,
            }),
            Event::EffectDone { node, undo, call, .. } => {
                let same = |known: &&mut Call| known.step == *node && known.undo == *undo && known.number == *call;
                if let Some(known) = self.calls.iter_mut().rev().find(same) {
                    known.answered = true;
                }
            }
            _ => {}
        }
    }

    fn take_step(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::AttemptStarted { node, .. } => {
                let line = self.line(node);
                line.began.get_or_insert(at);
                line.attempts += 1;
                line.fate = Some(Fate::Running);
            }
            Event::TimerSet { node, .. } => {
                let line = self.line(node);
                line.began.get_or_insert(at);
                line.fate = Some(Fate::Running);
            }
            Event::Noted { node, text } => self.line(node).note.clone_from(text),
            Event::AttemptFailed { node, failure, .. } => self.line(node).note.clone_from(&failure.message),
            Event::NodeSucceeded { node, output, adopted } => self.succeeded(at, node, output, *adopted),
            Event::NodeDegraded { node, why } => {
                let line = self.line(node);
                line.fate = Some(Fate::Degraded);
                line.ended = Some(at);
                line.note.clone_from(why);
                self.exception(node, "failed, and the plan goes on without it", None, why);
            }
            Event::NodeSkipped { node, skipped, why } => self.skipped(at, node, skipped, why),
            Event::PointChosen { group, point, at, loss_millis, .. } => {
                let loss = Loss {
                    group: group.clone(),
                    point: point.to_string(),
                    at: *at,
                    consistency: None,
                    loss_millis: *loss_millis,
                    promised_millis: None,
                };
                self.points.insert(group.clone(), loss);
            }
            Event::UndoDone { node } => {
                self.line(node).fate = Some(Fate::Undone);
                self.exception(node, "taken back", None, "");
            }
            Event::UndoFailed { node, failure, .. } => {
                let line = self.line(node);
                line.fate = Some(Fate::NotUndone);
                line.note.clone_from(&failure.message);
            }
            _ => {}
        }
    }

    fn succeeded(&mut self, at: Timestamp, node: &StepId, output: &StepOutput, adopted: bool) {
        let line = self.line(node);
        line.began.get_or_insert(at);
        line.ended = Some(at);
        line.fate = Some(if adopted { Fate::FoundDone } else { Fate::Done });
        line.note = match output {
            StepOutput::None => String::new(),
            StepOutput::Point { group, point, .. } => format!("{group}: {point}"),
            StepOutput::Fence { how } => how.clone(),
            StepOutput::Text { text } => text.lines().next().unwrap_or_default().to_owned(),
            StepOutput::Bytes { fetched, written, .. } => format!("fetched {fetched} bytes, wrote {written}"),
        };
        if adopted {
            self.exception(node, "found done", None, "its effect held before it was tried");
        }
    }

    fn skipped(&mut self, at: Timestamp, node: &StepId, skipped: &SkippedBy, why: &str) {
        let line = self.line(node);
        line.fate = Some(Fate::Skipped);
        line.ended = line.began.map(|_| at);
        match skipped {
            SkippedBy::Rule { needs } => {
                self.exception(node, "skipped", None, &format!("needs {needs}, which did not succeed"));
            }
            SkippedBy::Person { who } => self.exception(node, "skipped", Some(who), why),
        }
    }

    /// When the run was closed.
    pub(crate) fn ended(&self) -> Option<Timestamp> {
        self.closed
    }

    fn line(&mut self, node: &StepId) -> &mut Line {
        self.lines.entry(node.clone()).or_default()
    }

    fn word(&mut self, at: Timestamp, step: Option<&StepId>, who: &str, what: &str, why: &str) {
        let (who, what, why) = (who.to_owned(), what.to_owned(), why.to_owned());
        self.words.push(Word { at, step: step.cloned(), who, what, why });
    }

    /// Once for each step and way: a decision to skip is followed by the skipping.
    fn exception(&mut self, step: &StepId, how: &str, who: Option<&str>, why: &str) {
        if !self.exceptions.iter().any(|known| known.step == *step && known.how == how) {
            let (who, why) = (who.map(str::to_owned), why.to_owned());
            self.exceptions.push(Exception { step: step.clone(), how: how.to_owned(), who, why });
        }
    }
}
