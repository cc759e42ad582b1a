//! `muster hook`: hooks tried out by themselves. Nothing is touched but what somebody names after `--live`.

use super::{hook_test, hook_trace, plans};
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use clap::{Args, Subcommand};
use muster_control::{Project, plan_files_named, write_whole};
use muster_ports::{Failure, Result};
use muster_rehearsal::hooks::*;
use muster_runsheet::Value;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FORMAT: &str = "muster.hook-run/1";
/// How files with answers for hooks end.
const FAKES_ENDING: &str = ".fakes.json";
/// Columns of a call and of its answer in a table.
const CELL_CHARS: usize = 64;

/// Hooks by themselves.
#[derive(Clone, Debug, Subcommand)]
pub enum HookCommand {
    /// Run a hook once against a recording host, and show its calls, their answers and what it used.
    ///
    /// Arguments are those of the first step that runs it, of `--step`, or `name=value`. What the world answers is said by
    /// `*.fakes.json` files beside the plans, by `--fakes` or by `--cassette`; where they are silent a healthy estate
    /// answers, and a question that nobody can answer ends the hook. Exits with 1 when the hook fails. With `--json` the
    /// report has the format `muster.hook-run/1`.
    Run(RunOptions),
    /// Test hooks: run twice, killed at every call, done and undone, over budget. Touches nothing.
    ///
    /// Without names: the hooks of the plans, and those of the standard library that they use. Exits with 1 when one fails.
    /// With `--json` the report has the format `muster.hook-test/1`.
    Test(hook_test::TestOptions),
    /// Show each call that a hook made in a run: when, with what, what it was answered, and whether an attempt made it or
    /// heard it from the record. While the run goes on, and afterwards.
    ///
    /// With `--json` the report has the format `muster.hook-trace/1`.
    Trace {
        /// The run; `muster runs` lists them.
        run: String,
        /// The step that runs the hook, as `muster log` names it.
        step: String,
    },
}

/// Which hook, with what, and who answers it.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// Name of the hook or probe.
    name: String,
    /// Arguments in words, in place of those of the step: `zone=shop.example.com`, lists with commas.
    #[arg(value_name = "NAME=VALUE")]
    arguments: Vec<String>,
    /// Take arguments, machines and limit from this step; the first that runs the hook when none is named.
    #[arg(long)]
    step: Option<String>,
    /// As in a drill: nothing beyond the bubble is allowed.
    #[arg(long)]
    drill: bool,
    /// Afterwards run what takes it back.
    #[arg(long)]
    undo: bool,
    /// A file that says what calls are answered (format `muster.fakes/1`); before those beside the plans.
    #[arg(long, value_name = "FILE")]
    fakes: Vec<PathBuf>,
    /// Write calls and answers to this file, secrets by name.
    #[arg(long, value_name = "FILE", conflicts_with = "undo")]
    record: Option<PathBuf>,
    /// Answer from a recording; a call that is not the recorded one ends the hook.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["live", "fakes", "undo"])]
    cassette: Option<PathBuf>,
    /// Really make the calls to this origin, name server or mail server, as the contract names it:
    /// `https://dns.example.com`. All others are answered as before. Its secrets are those of the keyring.
    #[arg(long, value_name = "ORIGIN")]
    live: Vec<String>,
}

pub async fn hook(common: &Common, command: HookCommand) -> Result<Exit> {
    match command {
        HookCommand::Run(options) => run(common, &options).await,
        HookCommand::Test(options) => hook_test::test(common, &options),
        HookCommand::Trace { run, step } => hook_trace::trace(common, &run, &step).await,
    }
}

/// The fakes of the standard library, of the folder of the plans, and of files; those named last come first.
pub fn fakes_of(common: &Common, files: &[PathBuf]) -> Result<Fakes> {
    let mut all = Fakes::default();
    for file in files {
        all.extend(read_fakes(file)?);
    }
    for file in plan_files_named(&common.plans, FAKES_ENDING)? {
        all.extend(read_fakes(&common.plans.join(file))?);
    }
    all.extend(Fakes::of_library()?);
    Ok(all)
}

fn read_fakes(file: &Path) -> Result<Fakes> {
    Fakes::parse(&file.display().to_string(), &read_text(file)?)
}

fn read_text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| Failure::from(error).during(format!("read `{}`", file.display())))
}

/// The plans, when they have no errors.
pub fn sound_plans(common: &Common) -> Result<std::result::Result<Project, Exit>> {
    let project = match plans::load(common)? {
        Ok(project) => project,
        Err(exit) => return Ok(Err(exit)),
    };
    Ok(if project.has_errors() { Err(Exit::PlansHaveErrors) } else { Ok(project) })
}

/// The hook of a name as plans run it, or by itself with the arguments of the fakes and those that were said.
pub fn case_of(project: &Project, fakes: &Fakes, name: &str, said: &BTreeMap<String, String>) -> Result<HookCase> {
    let known = hook_cases(&project.checked)?.remove(name);
    if let Some(mut case) = known {
        case.give(&project.checked, said)?;
        return Ok(case);
    }
    let hooks = project.checked.hooks();
    let Some(hook) = hooks.iter().find(|hook| hook.sheet.name.as_str() == name) else {
        let names: Vec<&str> = hooks.iter().map(|hook| hook.sheet.name.as_str()).collect();
        return Err(Failure::permanent(format!("the plans have no hook `{name}`"))
            .help(format!("they know {}", names.join(", "))));
    };
    let mut words = fakes.arguments(name);
    words.extend(said.clone());
    HookCase::alone(&project.checked, hook, &words)
}

async fn run(common: &Common, options: &RunOptions) -> Result<Exit> {
    let project = match sound_plans(common)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    let said = said(&options.arguments)?;
    let fakes = fakes_of(common, &options.fakes)?;
    let mut case = match &options.step {
        Some(step) => hook_case_of_step(&project.checked, &options.name, step)?,
        None => case_of(&project, &fakes, &options.name, &BTreeMap::new()).or_else(|failure| {
            // What is missing may be among what was said.
            if said.is_empty() { Err(failure) } else { case_of(&project, &fakes, &options.name, &said) }
        })?,
    };
    case.give(&project.checked, &said)?;
    if options.drill {
        case = case.in_drill();
    }
    let cassette = match &options.cassette {
        Some(file) => Some(cassette_of(file, &options.name)?),
        None => None,
    };
    let world = HookWorld { fakes, cassette, live: options.live.clone() };
    let runs = run_hook(&case, &world, options.undo).await?;
    if let (Some(file), Some(last)) = (&options.record, runs.last()) {
        write_whole(file, Cassette::of(&options.name, &last.calls).text().as_bytes())?;
        output::say(format!("recorded to {}", file.display()));
    }
    tell(common, &case, &runs);
    let failed = runs.iter().find_map(|run| run.end.as_ref().err());
    if let Some(failure) = failed {
        output::failure(failure);
    }
    Ok(if failed.is_some() { Exit::Failed } else { Exit::Done })
}

fn said(arguments: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Failure::permanent(format!("`{text}` is no argument")).help("write `name=value`, for example `to=10.0.0.1`")
        })?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    arguments.iter().map(pair).collect()
}

fn cassette_of(file: &Path, hook: &str) -> Result<Cassette> {
    let cassette = Cassette::parse(&file.display().to_string(), &read_text(file)?)?;
    if cassette.hook != hook {
        let (file, of) = (file.display(), &cassette.hook);
        return Err(Failure::permanent(format!("`{file}` is a recording of hook `{of}`, not of `{hook}`")));
    }
    Ok(cassette)
}

#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    hook: &'a str,
    step: Option<&'a str>,
    arguments: &'a BTreeMap<String, Value>,
    runs: Vec<RunReport<'a>>,
}

#[derive(Serialize)]
struct RunReport<'a> {
    returned: Option<&'a serde_json::Value>,
    skipped: Option<&'a str>,
    failure: Option<&'a Failure>,
    calls: &'a [BenchCall],
    notes: &'a [String],
    operations: u64,
    host_calls: u32,
    journal_bytes: u64,
    took_millis: u64,
}

impl<'a> RunReport<'a> {
    fn of(run: &'a HookRun) -> Self {
        let end = run.end.as_ref().ok();
        Self {
            returned: end.map(|end| &end.value),
            skipped: end.and_then(|end| end.skipped.as_deref()),
            failure: run.end.as_ref().err(),
            calls: &run.calls,
            notes: &run.notes,
            operations: run.used.operations,
            host_calls: run.used.host_calls,
            journal_bytes: run.used.journal_bytes,
            took_millis: run.took_millis,
        }
    }
}

fn tell(common: &Common, case: &HookCase, runs: &[HookRun]) {
    if common.json {
        return output::json(&Report {
            format: FORMAT,
            hook: case.sheet.name.as_str(),
            step: case.step.as_ref().map(|step| step.as_str()),
            arguments: &case.arguments,
            runs: runs.iter().map(RunReport::of).collect(),
        });
    }
    let from = case.step.as_ref().map_or_else(|| "by itself".to_owned(), |step| format!("as in {step}"));
    let mut text = format!("{}, {from}, {} of plan {}\n", case.sheet.name, case.facts.operation, case.facts.plan);
    for (name, _) in &case.sheet.parameters {
        if let Some(value) = case.arguments.get(name) {
            text.push_str(&format!("  {name} = {}\n", value_words(value)));
        }
    }
    for run in runs {
        text.push('\n');
        text.push_str(&run_text(case, run));
    }
    output::data(text);
}

fn run_text(case: &HookCase, run: &HookRun) -> String {
    let row = |call: &BenchCall| {
        let answer = match (&call.answer, &call.failure) {
            (_, Some(failure)) => format!("! {}", failure.message),
            (Some(answer), None) => answer_words(answer),
            (None, None) => "-".to_owned(),
        };
        let at = output::duration(call.at_millis);
        vec![call.number.to_string(), at, cut(&call.line()), cut(&answer), call.by.word().to_owned()]
    };
    let rows: Vec<Vec<String>> = run.calls.iter().map(row).collect();
    let mut text = output::table(&["#", "at", "call", "answer", "by"], &rows);
    text.push('\n');
    text.push_str(&match &run.end {
        Ok(end) => match &end.skipped {
            Some(why) => format!("skipped itself: {why}\n"),
            None => format!("returned {}\n", answer_words(&end.value)),
        },
        Err(failure) => format!("failed: {}\n", failure.message),
    });
    let most = muster_rehearsal::hooks::limits();
    text.push_str(&format!(
        "used {} of {} host calls, {} of {} operations, {} of {} in the journal, {} of {}\n",
        run.used.host_calls,
        most.host_calls,
        run.used.operations,
        most.operations,
        output::bytes(run.used.journal_bytes),
        output::bytes(most.journal_bytes),
        output::duration(run.took_millis),
        output::duration(u64::try_from(case.within.as_millis()).unwrap_or(u64::MAX)),
    ));
    text
}

/// An answer on one line; what a command printed, where it succeeded.
pub fn answer_words(answer: &serde_json::Value) -> String {
    match answer {
        serde_json::Value::Null => "nothing".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => {
            let text = |field: &str| other.get(field).and_then(serde_json::Value::as_str).unwrap_or_default();
            match (other.get("code"), other.get("status")) {
                (Some(code), _) => format!("exit {code} {}{}", text("out"), text("err")),
                (_, Some(status)) => format!("{status} {}", text("body")),
                _ => other.to_string(),
            }
        }
    }
}

/// On one line, and no longer than a column.
pub fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(CELL_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn value_words(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("\"{text}\""),
        Value::Int(number) | Value::Percent(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Duration(duration) => duration.to_string(),
        Value::Size(size) => size.to_string(),
        Value::Rate(rate) => rate.to_string(),
        Value::Ip(ip) => ip.to_string(),
        Value::Port(port) => port.to_string(),
        Value::Machine(name) => name.to_string(),
        Value::Group(name) => name.to_string(),
        Value::Site(name) => name.to_string(),
        Value::Network(name) => name.to_string(),
        Value::Secret { name, .. } => format!("secret {name}"),
        Value::List(items) => items.iter().map(value_words).collect::<Vec<_>>().join(", "),
    }
}
