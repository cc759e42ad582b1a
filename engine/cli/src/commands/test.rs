//! `muster test`: the tests that stand beside the plans, compiled and carried out in memory. No site, no vault, no
//! network is touched, and hours of a run pass in moments.

use crate::arguments::Common;
use crate::commands::plans::print;
use crate::exit::Exit;
use crate::output;
use clap::Args;
use muster_compiler::tests::PlanTest;
use muster_control::{FolderWorld, Project};
use muster_diagnostics::{Diagnostic, RenderOptions, SourceMap, render};
use muster_ports::{Clock, Failure, Result, SystemClock};
use muster_rehearsal::{Entry, TestResult, run_test, table};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Columns of a rendered message.
const WIDTH: usize = 100;
/// For tests that name no seed.
const SEED: u64 = 1;
const FORMAT: &str = "muster.test/1";

/// Which tests, and where their results go.
#[derive(Clone, Debug, Args)]
pub struct TestOptions {
    /// Files with tests, or folders of plans; the folder of the plans when none is given.
    pub paths: Vec<PathBuf>,
    /// Only tests whose title, or file, has this text in it.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// What is left to chance in simulations of tests that name no seed of their own.
    #[arg(long, value_name = "NUMBER", default_value_t = SEED)]
    pub seed: u64,
    /// Also write the results to this file as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// One test with its result, as text where it is to be printed.
struct Done {
    folder: PathBuf,
    line: u32,
    result: TestResult,
    /// Each failure as people read it.
    rendered: Vec<String>,
    failures: Vec<FailureReport>,
    took: Duration,
}

pub fn test(common: &Common, options: &TestOptions) -> Result<Exit> {
    let mut done = Vec::new();
    for (folder, files) in projects(common, &options.paths)? {
        let project = Project::load(&folder)?;
        if project.has_errors() {
            print(common, &project.checked.diagnostics, &project.checked.sources);
            output::say(format!("the plans in `{}` have errors; nothing was tested", folder.display()));
            return Ok(Exit::PlansHaveErrors);
        }
        let chosen = |test: &&PlanTest| {
            let named = files.is_empty() || files.contains(&test.file);
            let fits = |text: &String| test.title.contains(text.as_str()) || test.file.contains(text.as_str());
            named && options.filter.as_ref().is_none_or(fits)
        };
        let tests: Vec<&PlanTest> = project.checked.tests.iter().filter(chosen).collect();
        for (test, (result, took)) in tests.iter().zip(carry_out(&project, &tests, options.seed)) {
            done.push(tell(common, &project, test, result, took));
        }
    }
    if done.is_empty() {
        return Err(Failure::permanent("there is no test to carry out")
            .help("write one in a `.test.plan` file; `--filter` chooses by title"));
    }
    if let Some(path) = &options.junit {
        muster_control::write_whole(path, junit(&done).as_bytes())?;
    }
    if common.json {
        output::json(&Report::of(&done));
    }
    let failed = done.iter().filter(|done| !done.result.passed()).count();
    let count = done.len();
    let tests = if count == 1 { "test" } else { "tests" };
    output::say(format!("{count} {tests}: {} passed, {failed} failed", count - failed));
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}

/// On as many threads as there are cores; the results in the order of the tests.
fn carry_out(project: &Project, tests: &[&PlanTest], seed: u64) -> Vec<(TestResult, Duration)> {
    let world = FolderWorld::new(&project.folder);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some((at, test)) = Some(next.fetch_add(1, Ordering::SeqCst)).and_then(|at| Some((at, tests.get(at)?)))
        {
            let begun = SystemClock.now();
            let result = run_test(&project.checked, &world, test, seed);
            let took = SystemClock.now().since(begun);
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, (result, took));
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(tests.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// A folder is a project of its own; files are tests of the folder of the plans.
fn projects(common: &Common, paths: &[PathBuf]) -> Result<Vec<(PathBuf, BTreeSet<String>)>> {
    let mut projects = Vec::new();
    let mut files = BTreeSet::new();
    for path in paths {
        if path.is_dir() {
            projects.push((path.clone(), BTreeSet::new()));
        } else {
            files.insert(inside(&common.plans, path)?);
        }
    }
    if !files.is_empty() || projects.is_empty() {
        projects.insert(0, (common.plans.clone(), files));
    }
    Ok(projects)
}

/// A file as the folder of the plans calls it.
fn inside(folder: &Path, file: &Path) -> Result<String> {
    let whole = |path: &Path| {
        path.canonicalize().map_err(|error| Failure::from(error).during(format!("find `{}`", path.display())))
    };
    let (folder, found) = (whole(folder)?, whole(file)?);
    let relative = found.strip_prefix(&folder).map_err(|_| {
        Failure::permanent(format!("`{}` is not in the folder of the plans, `{}`", file.display(), folder.display()))
            .help("name that folder with `-C FOLDER`")
    })?;
    Ok(relative.to_string_lossy().replace('\\', "/"))
}

/// Prints one line, and each failure below it.
fn tell(common: &Common, project: &Project, test: &PlanTest, result: TestResult, took: Duration) -> Done {
    let sources = &project.checked.sources;
    let line = sources.position(test.span.file, test.span.start).0;
    let texts = |color: bool| -> Vec<String> {
        let failures = result.failures.iter();
        failures.map(|failed| rendered(&failed.diagnostic, &failed.timeline, sources, color)).collect()
    };
    let failures = result.failures.iter().map(|failed| FailureReport::of(failed, sources)).collect();
    if !common.json {
        let word = if result.passed() { "pass" } else { "FAIL" };
        let mut about = Vec::new();
        about.extend(result.elapsed.map(|elapsed| output::duration(elapsed.0)));
        about.extend(result.seed.map(|seed| format!("seed {seed}")));
        let about = if about.is_empty() { String::new() } else { format!("  ({})", about.join(", ")) };
        let mut text = format!("{word}  {}:{line}  {}{about}\n", result.file, result.title);
        for failure in texts(output::color_on_stdout(common)) {
            let _ = writeln!(text, "\n{failure}");
        }
        output::data(text);
    }
    let rendered = texts(false);
    Done { folder: project.folder.clone(), line: u32::try_from(line).unwrap_or(0), result, rendered, failures, took }
}

fn rendered(diagnostic: &Diagnostic, timeline: &[Entry], sources: &SourceMap, color: bool) -> String {
    let mut text = render(std::slice::from_ref(diagnostic), sources, RenderOptions { color, width: WIDTH });
    if !timeline.is_empty() {
        let _ = write!(text, "\n  on the clock of the run:\n{}", table(timeline));
    }
    text.trim_end().to_owned()
}

#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    passed: usize,
    failed: usize,
    tests: Vec<TestReport<'a>>,
}

#[derive(Serialize)]
struct TestReport<'a> {
    title: &'a str,
    file: &'a str,
    line: u32,
    passed: bool,
    seed: Option<u64>,
    /// In virtual time.
    elapsed_millis: Option<u64>,
    failures: &'a [FailureReport],
    assumed: &'a BTreeSet<String>,
}

#[derive(Serialize)]
struct FailureReport {
    code: String,
    message: String,
    line: u32,
    label: String,
    notes: Vec<String>,
    timeline: Vec<Entry>,
}

impl FailureReport {
    fn of(failed: &muster_rehearsal::TestFailure, sources: &SourceMap) -> Self {
        let primary = &failed.diagnostic.primary;
        Self {
            code: failed.diagnostic.code.to_string(),
            message: failed.diagnostic.message.clone(),
            line: u32::try_from(sources.position(primary.span.file, primary.span.start).0).unwrap_or(0),
            label: primary.text.clone(),
            notes: failed.diagnostic.notes.clone(),
            timeline: failed.timeline.clone(),
        }
    }
}

impl<'a> Report<'a> {
    fn of(done: &'a [Done]) -> Self {
        let test = |done: &'a Done| TestReport {
            title: &done.result.title,
            file: &done.result.file,
            line: done.line,
            passed: done.result.passed(),
            seed: done.result.seed,
            elapsed_millis: done.result.elapsed.map(|elapsed| elapsed.0),
            failures: &done.failures,
            assumed: &done.result.assumed,
        };
        let passed = done.iter().filter(|done| done.result.passed()).count();
        Self { format: FORMAT, passed, failed: done.len() - passed, tests: done.iter().map(test).collect() }
    }
}

/// As continuous integration reads it: a suite for each file.
fn junit(done: &[Done]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    let suites: BTreeSet<(&Path, &str)> =
        done.iter().map(|done| (done.folder.as_path(), done.result.file.as_str())).collect();
    for (folder, file) in suites {
        let mine = || done.iter().filter(move |done| done.folder == folder && done.result.file == file);
        let failed = mine().filter(|done| !done.result.passed()).count();
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\">",
            escaped(file),
            mine().count()
        );
        for done in mine() {
            let seconds = done.took.as_secs_f64();
            let title = escaped(&done.result.title);
            let _ =
                write!(text, "    <testcase classname=\"{}\" name=\"{title}\" time=\"{seconds:.3}\"", escaped(file));
            if done.result.passed() {
                text.push_str("/>\n");
                continue;
            }
            text.push_str(">\n");
            for (failure, rendered) in done.failures.iter().zip(&done.rendered) {
                let message = escaped(&failure.message);
                let _ = writeln!(text, "      <failure message=\"{message}\">{}</failure>", escaped(rendered));
            }
            text.push_str("    </testcase>\n");
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

/// As content or attribute of XML: marks escaped, and what XML cannot hold left out.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}
