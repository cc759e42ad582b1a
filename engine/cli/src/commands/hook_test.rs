//! `muster hook test`: the four tests that every hook gets without being asked.

use super::hook::{case_of, fakes_of, sound_plans};
use super::test::escaped;
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use clap::Args;
use muster_control::{Project, write_whole};
use muster_ports::{Clock, Failure, Result, SystemClock};
use muster_rehearsal::hooks::{HookCase, HookTrial, HookVerdict, hook_cases, test_hook};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FORMAT: &str = "muster.hook-test/1";
/// Texts of these hooks come with muster.
const LIBRARY: &str = "std/";

/// Which hooks, who answers them, and where the results go.
#[derive(Clone, Debug, Args)]
pub struct TestOptions {
    /// Names of hooks or probes.
    names: Vec<String>,
    /// A file that says what calls are answered (format `muster.fakes/1`); before those beside the plans.
    #[arg(long, value_name = "FILE")]
    fakes: Vec<PathBuf>,
    /// Also write the results to this file as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    passed: usize,
    failed: usize,
    hooks: Vec<&'a HookTrial>,
}

pub fn test(common: &Common, options: &TestOptions) -> Result<Exit> {
    let project = match sound_plans(common)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    let fakes = fakes_of(common, &options.fakes)?;
    let cases = if options.names.is_empty() {
        all_cases(&project, &fakes)?
    } else {
        let case = |name: &String| case_of(&project, &fakes, name, &BTreeMap::new());
        options.names.iter().map(case).collect::<Result<_>>()?
    };
    if cases.is_empty() {
        return Err(
            Failure::permanent("the plans have no hook").help("the book's page on hooks shows how to write one")
        );
    }
    let done = carry_out(&cases, |case| test_hook(case, &fakes))?;
    if let Some(path) = &options.junit {
        write_whole(path, junit(&done).as_bytes())?;
    }
    let failed = done.iter().filter(|(trial, _)| !trial.passed()).count();
    let passed = done.len() - failed;
    if common.json {
        let hooks = done.iter().map(|(trial, _)| trial).collect();
        output::json(&Report { format: FORMAT, passed, failed, hooks });
    } else {
        output::data(text(&done));
    }
    let hooks = if done.len() == 1 { "hook" } else { "hooks" };
    output::say(format!("{} {hooks}: {passed} passed, {failed} failed", done.len()));
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}

/// What the plans declare, and what they use of the library.
fn all_cases(project: &Project, fakes: &muster_rehearsal::hooks::Fakes) -> Result<Vec<HookCase>> {
    let mut cases = hook_cases(&project.checked)?;
    for hook in project.checked.hooks() {
        let name = &hook.sheet.name;
        if !cases.contains_key(name) && !hook.sheet.origin.starts_with(LIBRARY) {
            let case = HookCase::alone(&project.checked, &hook, &fakes.arguments(name.as_str()))?;
            cases.insert(name.clone(), case);
        }
    }
    Ok(cases.into_values().collect())
}

/// On as many threads as there are cores; the results in the order of the hooks.
fn carry_out(
    cases: &[HookCase],
    test: impl Fn(&HookCase) -> Result<HookTrial> + Sync,
) -> Result<Vec<(HookTrial, Duration)>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some((at, case)) = Some(next.fetch_add(1, Ordering::SeqCst)).and_then(|at| Some((at, cases.get(at)?)))
        {
            let begun = SystemClock.now();
            let trial = test(case).map(|trial| (trial, SystemClock.now().since(begun)));
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, trial);
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(cases.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

fn text(done: &[(HookTrial, Duration)]) -> String {
    let word = |verdict: &HookVerdict| match verdict {
        HookVerdict::Passed => "pass",
        HookVerdict::Nothing(_) => "-",
        HookVerdict::Failed(_) => "FAIL",
    };
    let row = |(trial, _): &(HookTrial, Duration)| {
        let mut row = vec![trial.hook.to_string(), trial.calls.to_string()];
        row.extend(trial.all().map(|(_, verdict)| word(verdict).to_owned()));
        row
    };
    let rows: Vec<Vec<String>> = done.iter().map(row).collect();
    let mut text = output::table(&["hook", "calls", "twice", "crash", "undo", "budget"], &rows);
    for (trial, _) in done {
        // One reason may stand behind all four.
        let mut said = None;
        for (test, verdict) in trial.all() {
            if let HookVerdict::Failed(why) = verdict
                && said != Some(why)
            {
                let _ = write!(text, "\n{} {test}: {why}\n", trial.hook);
                said = Some(why);
            }
        }
    }
    text
}

/// As continuous integration reads it: a suite for each hook.
fn junit(done: &[(HookTrial, Duration)]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (trial, took) in done {
        let failed = trial.all().iter().filter(|(_, verdict)| matches!(verdict, HookVerdict::Failed(_))).count();
        let hook = escaped(trial.hook.as_str());
        let seconds = took.as_secs_f64();
        let _ = writeln!(text, "  <testsuite name=\"{hook}\" tests=\"4\" failures=\"{failed}\" time=\"{seconds:.3}\">");
        for (test, verdict) in trial.all() {
            let _ = write!(text, "    <testcase classname=\"{hook}\" name=\"{test}\"");
            let _ = match verdict {
                HookVerdict::Passed => writeln!(text, "/>"),
                HookVerdict::Nothing(why) => writeln!(text, "><skipped message=\"{}\"/></testcase>", escaped(why)),
                HookVerdict::Failed(why) => writeln!(text, "><failure message=\"{}\"/></testcase>", escaped(why)),
            };
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}
