//! The report as Markdown, and the rows that every rendering shows.

use crate::report::*;
use crate::words::{clock, markdown, moment, span};
use std::fmt::Write;

pub(crate) const LOSS_HEAD: [&str; 6] = ["group", "lost", "promised", "recovery point", "of", "consistency"];
pub(crate) const WORD_HEAD: [&str; 5] = ["at", "who", "what", "step", "why"];
pub(crate) const EXCEPTION_HEAD: [&str; 4] = ["step", "how", "by", "why"];
pub(crate) const CALL_HEAD: [&str; 6] = ["at", "step", "hook", "call", "arguments", "answered"];

/// The numbers at the head: name, words, and whether they are bad news.
pub(crate) fn figures(report: &Report) -> Vec<(&'static str, String, bool)> {
    let time = &report.clock;
    let mut figures = Vec::new();
    if let Some(done) = time.failover_done_millis {
        figures.push(("failover done after", span(done), false));
    }
    if let Some(healthy) = time.healthy_millis {
        figures.push(("application healthy after", span(healthy), time.kept() == Some(false)));
    }
    if let Some(promised) = time.promised_millis {
        let verdict = match time.kept() {
            Some(true) => "kept",
            Some(false) => "missed",
            None => "not shown",
        };
        figures.push(("promised (rto)", format!("{} · {verdict}", span(promised)), time.kept() != Some(true)));
    }
    if let Some(estimated) = time.estimated_millis {
        figures.push(("estimated", span(estimated), false));
    }
    if let Some(whole) = time.whole_millis {
        figures.push(("whole run", span(whole), false));
    }
    figures
}

pub(crate) fn loss_rows(report: &Report) -> Vec<Vec<String>> {
    let row = |loss: &Loss| {
        vec![
            loss.group.clone(),
            span(loss.loss_millis),
            loss.promised_millis.map_or_else(|| "–".to_owned(), span),
            loss.point.clone(),
            moment(loss.at),
            loss.consistency.clone().unwrap_or_else(|| "no longer in the vault".to_owned()),
        ]
    };
    report.losses.iter().map(row).collect()
}

pub(crate) fn word_rows(report: &Report) -> Vec<Vec<String>> {
    let row = |word: &Word| {
        let step = word.step.as_ref().map(ToString::to_string).unwrap_or_default();
        vec![moment(word.at), word.who.clone(), word.what.clone(), step, word.why.clone()]
    };
    report.words.iter().map(row).collect()
}

pub(crate) fn exception_rows(report: &Report) -> Vec<Vec<String>> {
    let row = |exception: &Exception| {
        let who = exception.who.clone().unwrap_or_default();
        vec![exception.step.to_string(), exception.how.clone(), who, exception.why.clone()]
    };
    report.exceptions.iter().map(row).collect()
}

pub(crate) fn call_rows(report: &Report) -> Vec<Vec<String>> {
    let row = |call: &Call| {
        let undo = if call.undo { " (undo)" } else { "" };
        vec![
            moment(call.at),
            call.step.to_string(),
            format!("{}{undo}", call.hook),
            format!("{}: {}", call.number, call.operation),
            call.arguments.clone(),
            if call.answered { "yes" } else { "not recorded" }.to_owned(),
        ]
    };
    report.calls.iter().map(row).collect()
}

fn step_rows(report: &Report) -> Vec<Vec<String>> {
    let row = |step: &Step| {
        let number = |value: Option<u64>, words: fn(u64) -> String| value.map_or_else(|| "–".to_owned(), words);
        let assumed = if step.estimate_from == "assumed" { "about " } else { "" };
        let tries = if step.attempts > 1 { format!(", {} attempts", step.attempts) } else { String::new() };
        vec![
            number(step.began_millis, clock),
            number(step.took_millis, span),
            format!("{assumed}{}", number(step.estimate_millis, span)),
            step.id.to_string(),
            step.what.clone(),
            format!("{}{tries}", step.fate.word()),
            step.note.clone(),
        ]
    };
    report.steps.iter().map(row).collect()
}

fn table(out: &mut String, title: &str, head: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(out, "\n## {title}\n\n| {} |\n|{}", head.join(" | "), " --- |".repeat(head.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| markdown(cell)).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
}

/// The report as text.
pub(crate) fn text(report: &Report) -> String {
    let mut out = String::new();
    let head = format!("{} · {} · run {}", report.plan, report.operation, report.run);
    let _ = writeln!(out, "# {}\n", markdown(&head));
    let ended = report.closed.map_or_else(|| "not ended".to_owned(), moment);
    let why = if report.why.is_empty() { String::new() } else { format!(": {}", report.why) };
    let degraded = if report.degraded { ", degraded" } else { "" };
    let _ = writeln!(out, "- {} → {}", markdown(&report.source), markdown(&report.target));
    let _ = writeln!(out, "- asked for by {}", markdown(&format!("{}{why}", report.who)));
    let _ = writeln!(out, "- {} to {ended}: **{}{degraded}**", moment(report.opened), markdown(&report.status));
    for (name, words, bad) in figures(report) {
        let mark = if bad { "**" } else { "" };
        let _ = writeln!(out, "- {name}: {mark}{}{mark}", markdown(&words));
    }
    let from = format!("the clock began at {} with {}", moment(report.clock.from), report.clock.began_with);
    let _ = writeln!(out, "- {}", markdown(&from));
    if let Some(step) = &report.clock.not_shown {
        let _ = writeln!(out, "- **that the application is healthy was not shown: {}**", markdown(step));
    }
    table(&mut out, "Loss and recovery points", &LOSS_HEAD, loss_rows(report));
    table(&mut out, "Decisions and signatures", &WORD_HEAD, word_rows(report));
    table(&mut out, "Not by the runsheet", &EXCEPTION_HEAD, exception_rows(report));
    table(&mut out, "Steps", &["began", "took", "estimate", "step", "what", "how", "note"], step_rows(report));
    table(&mut out, "Calls of hooks", &CALL_HEAD, call_rows(report));
    let journal = &report.journal;
    let _ = writeln!(
        out,
        "\n## Journal\n\n- {} records of {}\n- carried out by {}\n- head `{}`\n- runsheet `{}`",
        journal.records,
        markdown(&journal.format),
        markdown(&journal.engines.join(", then ")),
        markdown(&journal.head.0),
        markdown(&journal.sheet.0)
    );
    out
}
