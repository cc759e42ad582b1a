//! Records of a journal in words, for the person who watches.

use muster_journal::{Event, Record, SkippedBy, StepOutput};
use muster_ports::StepId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// An attempt began, a timer was set.
    Detail,
    Info,
    /// Needs attention: a failed attempt, a degraded step.
    Warning,
    /// Waits for a person.
    Question,
}

/// One line about a record: how loud, which step, what.
pub fn line(record: &Record) -> (Level, Option<&StepId>, String) {
    let (level, text) = said(&record.event);
    (level, record.event.node(), text)
}

fn said(event: &Event) -> (Level, String) {
    use Level::*;
    match event {
        Event::RunOpened { plan, operation, who, why, signed, .. } => {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            let signed = if signed.is_some() { "; both sides running is signed for in advance" } else { "" };
            (Info, format!("{plan} · {operation}, by {who}{why}{signed}"))
        }
        Event::EngineClaimed { engine } => (Detail, format!("carried out by {engine}")),
        Event::EngineReleased => (Detail, "waits; `muster resume` goes on".into()),
        Event::TakenOver { from, who, why } => {
            (Warning, format!("taken over from {from}, which is fenced, by {who}: {why}"))
        }
        Event::Amended { after, changes, who, why, .. } => {
            (Warning, format!("amended to sheet {} by {who}: {why} ({})", after.short(), changes.join(", ")))
        }
        Event::LeftOpen { who, why } => {
            (Warning, format!("left as it stands by {who}, for another run to go on: {why}"))
        }
        Event::LocksTaken { machines, .. } => (Detail, format!("holds {}", machines.join(", "))),
        Event::LocksFreed { machines, .. } => (Detail, format!("frees {}", machines.join(", "))),
        Event::AttemptStarted { attempt: 1, .. } => (Detail, "begins".into()),
        Event::AttemptStarted { attempt, .. } => (Info, format!("attempt {attempt}")),
        Event::EffectIntended { call, operation, .. } => (Detail, format!("call {call}: {operation}")),
        Event::EffectDone { call, .. } => (Detail, format!("call {call} done")),
        Event::Noted { text, .. } => (Info, text.clone()),
        Event::AttemptFailed { failure, .. } => (Warning, failure.message.clone()),
        Event::NodeSucceeded { output, adopted, .. } => {
            let found = if *adopted { " (found done)" } else { "" };
            (Info, format!("ok{found}{}", output_words(output)))
        }
        Event::NodeDegraded { why, .. } => (Warning, format!("goes on without: {why}")),
        Event::NodeSkipped { skipped: SkippedBy::Rule { needs }, .. } => (Warning, format!("left out: needs {needs}")),
        Event::NodeSkipped { skipped: SkippedBy::Person { who }, why, .. } => {
            (Warning, format!("left out by {who}: {why}"))
        }
        Event::PointChosen { group, point, loss_millis, .. } => {
            (Info, format!("{group}: point {point}, loss {:.1}s", *loss_millis as f64 / 1000.0))
        }
        Event::FenceProven { how, .. } => (Info, how.clone()),
        Event::NoReturn { .. } => (Info, "───────── no return ─────────".into()),
        Event::Asked { question, .. } => (Question, format!("asks {}: {}", question.to, question.text)),
        Event::Answered { answer, .. } => {
            let word = if answer.yes { "yes" } else { "no" };
            let why = if answer.why.is_empty() { String::new() } else { format!(": {}", answer.why) };
            (Info, format!("{} says {word}{why}", answer.who))
        }
        Event::AnswerExpired { why, .. } => (Warning, format!("will be asked again: {why}")),
        Event::TimerSet { .. } => (Detail, "waits".into()),
        Event::TimerFired { .. } => (Detail, "time is up".into()),
        Event::Paused { why, .. } => {
            let help = why.help.as_ref().map(|help| format!(" (help: {help})")).unwrap_or_default();
            (Question, format!("paused: {}{help}", why.message))
        }
        Event::Decided { decision, who, why, .. } => (Info, format!("{who} decides {decision}: {why}")),
        Event::RunPaused { who, why } => (Question, format!("paused by {who}: {why}")),
        Event::RunResumed { who, why } => (Info, format!("resumed by {who}: {why}")),
        Event::UndoBegun { why, .. } => (Warning, format!("everything is taken back: {why}")),
        Event::UndoStarted { .. } => (Detail, "is taken back".into()),
        Event::UndoDone { .. } => (Info, "taken back".into()),
        Event::UndoFailed { failure, .. } => (Warning, format!("could not be taken back: {}", failure.message)),
        Event::RunClosed { status, took_millis, .. } => {
            (Info, format!("{status} after {:.1}s", *took_millis as f64 / 1000.0))
        }
    }
}

fn output_words(output: &StepOutput) -> String {
    match output {
        StepOutput::None => String::new(),
        StepOutput::Point { group, point, loss_millis, .. } => {
            format!(": {group} at {point}, loss {:.1}s", *loss_millis as f64 / 1000.0)
        }
        StepOutput::Fence { how } => format!(": {how}"),
        StepOutput::Text { text } => {
            let first = text.lines().next().unwrap_or("");
            if first.is_empty() { String::new() } else { format!(": {first}") }
        }
        StepOutput::Bytes { fetched: 0, compared: 0, written: 0, notes } if !notes.is_empty() => {
            format!(": {}", notes.join("; "))
        }
        StepOutput::Bytes { fetched, compared, written, notes } => {
            let mib = |bytes: &u64| *bytes as f64 / f64::from(1 << 20);
            let mut text = format!(
                ": fetched {:.1} MiB, compared {:.1} MiB, wrote {:.1} MiB",
                mib(fetched),
                mib(compared),
                mib(written)
            );
            for note in notes {
                text.push_str("; ");
                text.push_str(note);
            }
            text
        }
    }
}
