//! What happened, line by line, on the clock of the run.

use muster_journal::{Event, Record, SkippedBy, StepOutput};
use muster_ports::Timestamp;
use muster_runsheet::{Duration, NodeKind, Runsheet, StepId};
use serde::Serialize;
use std::fmt::Write as _;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Since the run was opened.
    pub at: Duration,
    pub step: Option<StepId>,
    /// The name of the event in the journal: `node-succeeded`.
    pub event: &'static str,
    /// In words: `done`, `failed: ...`.
    pub text: String,
}

/// The records of a run as lines. Barriers, and what only the engine cares about, are left out.
pub(crate) fn timeline(sheet: &Runsheet, records: &[Record]) -> Vec<Entry> {
    let opened = records.first().map_or(Timestamp::default(), |record| record.time);
    let barrier = |step: &StepId| sheet.node(step).is_some_and(|node| node.kind == NodeKind::Barrier);
    let mut claims = 0;
    let mut released = false;
    let mut entries = Vec::new();
    for record in records {
        let step = record.event.node();
        if step.is_some_and(barrier) {
            continue;
        }
        let text = match &record.event {
            Event::EngineClaimed { .. } => {
                claims += 1;
                // One that lets go in order and comes back is the same; nobody need know.
                let died = claims > 1 && !std::mem::take(&mut released);
                died.then(|| "the engine has died; another one takes over".to_owned())
            }
            Event::EngineReleased => {
                released = true;
                None
            }
            event => words(event),
        };
        // Two deaths with nothing between them are one line.
        let again = |entry: &Entry| record.event.node().is_none() && Some(&entry.text) == text.as_ref();
        if entries.last().is_some_and(again) {
            continue;
        }
        if let Some(text) = text {
            let at = Duration::from(record.time.since(opened));
            entries.push(Entry { at, step: step.cloned(), event: record.event.word(), text });
        }
    }
    entries
}

fn words(event: &Event) -> Option<String> {
    Some(match event {
        Event::RunOpened { plan, operation, .. } => format!("{plan} {operation} begins"),
        Event::AttemptStarted { attempt: 1, .. } => "begins".to_owned(),
        Event::AttemptStarted { attempt, .. } => format!("begins again, attempt {attempt}"),
        Event::AttemptFailed { failure, .. } => format!("failed: {failure}"),
        Event::NodeSucceeded { output, adopted, .. } => {
            let done = if *adopted { "found done" } else { "done" };
            match said(output) {
                Some(said) => format!("{done}: {said}"),
                None => done.to_owned(),
            }
        }
        Event::NodeDegraded { why, .. } => format!("left out: {why}"),
        Event::NodeSkipped { skipped: SkippedBy::Rule { needs }, .. } => format!("skipped: it needs `{needs}`"),
        Event::NodeSkipped { why, .. } => format!("skipped: {why}"),
        Event::FenceProven { how, .. } => format!("fenced: {how}"),
        Event::NoReturn { .. } => "no return from here".to_owned(),
        Event::Asked { question, .. } => format!("asks {}: {}", question.to, question.text),
        Event::Answered { answer, .. } => {
            format!("{} answers {}", answer.who, if answer.yes { "yes" } else { "no" })
        }
        Event::AnswerExpired { why, .. } => format!("is asked again: {why}"),
        Event::TimerSet { .. } => "waits".to_owned(),
        Event::Noted { text, .. } => text.clone(),
        Event::Paused { why, .. } => format!("waits for a person: {why}"),
        Event::UndoBegun { why, .. } => format!("everything is taken back: {why}"),
        Event::UndoStarted { .. } => "is taken back".to_owned(),
        Event::UndoDone { .. } => "taken back".to_owned(),
        Event::UndoFailed { failure, .. } => format!("cannot be taken back: {failure}"),
        Event::RunClosed { status, degraded, .. } if degraded.is_empty() => format!("ends: {status}"),
        Event::RunClosed { status, degraded, .. } => {
            let steps: Vec<&str> = degraded.iter().map(StepId::as_str).collect();
            format!("ends: {status}, without {}", steps.join(", "))
        }
        _ => return None,
    })
}

fn said(output: &StepOutput) -> Option<String> {
    match output {
        StepOutput::Point { group, loss_millis, .. } => {
            Some(format!("{group} loses {}", Duration(loss_millis - loss_millis % 1_000)))
        }
        StepOutput::Text { text } if !text.is_empty() => Some(text.clone()),
        StepOutput::Fence { how } => Some(how.clone()),
        _ => None,
    }
}

/// The lines as a table of plain text, the time column first.
pub fn table(entries: &[Entry]) -> String {
    let mut text = String::new();
    let width = entries.iter().filter_map(|entry| entry.step.as_ref()).map(|step| step.as_str().chars().count());
    let width = width.max().unwrap_or(0);
    for entry in entries {
        let step = entry.step.as_ref().map_or("", StepId::as_str);
        // Writing to a text does not fail.
        let _ = writeln!(text, "{:>8}  {step:<width$}  {}", clock(entry.at), entry.text);
    }
    text
}

/// `0:05`, `12:40`, `1:02:03`.
fn clock(at: Duration) -> String {
    let seconds = at.0 / 1_000;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}
