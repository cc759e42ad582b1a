//! `muster hook trace`: what a hook did in a run, told from the journal of the run.

use super::hook::{answer_words, cut};
use super::open;
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use muster_control::{DossierAnswer, Request};
use muster_ports::{Result, RunId};
use muster_rehearsal::hooks::{HookTrace, TracedCall, trace_hook};
use serde::Serialize;

const FORMAT: &str = "muster.hook-trace/1";

#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    #[serde(flatten)]
    trace: &'a HookTrace,
}

pub async fn trace(common: &Common, run: &str, step: &str) -> Result<Exit> {
    let access = open::reading(common, None).await?;
    let dossier: Result<DossierAnswer> = access.ask(&Request::Dossier { run: Some(RunId::new(run)) }, common).await;
    access.close().await;
    let DossierAnswer { run, sheet, records, .. } = dossier?;
    let trace = trace_hook(&sheet, &run, &records, step)?;
    if common.json {
        output::json(&Report { format: FORMAT, trace: &trace });
        return Ok(Exit::Done);
    }
    output::data(text(&trace));
    if let Some(why) = &trace.unread {
        output::say(format!("from there on the arguments cannot be read, only the record: {why}"));
    }
    Ok(Exit::Done)
}

fn text(trace: &HookTrace) -> String {
    let mut text = format!("{} in step {} of run {}\n\n", trace.hook, trace.step, trace.run);
    for attempt in &trace.attempts {
        let what = if attempt.undo { "undo, attempt" } else { "attempt" };
        let end = match (&attempt.end, attempt.ended_at) {
            (Some(end), Some(at)) => format!("{end}, {}", output::date_time(at.0)),
            _ => "has no end yet: it runs, or its engine died".to_owned(),
        };
        text.push_str(&format!("{what} {}  {}  {end}\n", attempt.attempt, output::date_time(attempt.at.0)));
    }
    if trace.calls.is_empty() {
        return text + "\nit has asked for nothing\n";
    }
    let rows: Vec<Vec<String>> = trace.calls.iter().map(row).collect();
    text.push('\n');
    text.push_str(&output::table(&["#", "time", "call", "answer", "after", "made", "from the record"], &rows));
    text
}

fn row(call: &TracedCall) -> Vec<String> {
    let arguments = match &call.arguments {
        Some(arguments) => call_words(call, arguments),
        None => format!("{} (arguments {}…)", call.operation, call.hash.get(..8).unwrap_or(&call.hash)),
    };
    let list = |numbers: &[u32]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut made = format!("in {}", call.attempt);
    if !call.repeated_in.is_empty() {
        made.push_str(&format!(", again in {}", list(&call.repeated_in)));
    }
    let replayed = if call.replayed_in.is_empty() { "-".to_owned() } else { format!("in {}", list(&call.replayed_in)) };
    let after = call.answered_at.map_or_else(|| "-".to_owned(), |at| millis(at.since(call.at)));
    let answer = call.answer.as_ref().map_or_else(|| "none yet".to_owned(), answer_words);
    let number = if call.undo { format!("undo {}", call.number) } else { call.number.to_string() };
    vec![number, output::clock_time(call.at.0), cut(&arguments), cut(&answer), after, made, replayed]
}

fn call_words(call: &TracedCall, arguments: &serde_json::Value) -> String {
    muster_rehearsal::hooks::call_line(&call.operation, &call.to, arguments)
}

fn millis(span: std::time::Duration) -> String {
    format!("{} ms", span.as_millis())
}
