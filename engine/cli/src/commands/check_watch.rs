//! `muster check --watch`: checks again whenever a file changes that the last check read, or looked for.
//!
//! ```text
//! look at all files (time, length, number) -> something differs -> Session::check -> print -> wait -> look …
//! ```
//!
//! Looking costs one `stat` a file and works on every file system, remote and mounted ones too, of which many tell nobody
//! about changes that others make.

use crate::arguments::Common;
use crate::commands::check::summary;
use crate::commands::plans::print;
use crate::commands::replicate::interrupted;
use crate::exit::Exit;
use crate::output;
use muster_compiler::{Session, World};
use muster_control::{FolderWorld, plan_files};
use muster_diagnostics::CheckReport;
use muster_ports::{Clock, Failure, Result, SystemClock};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

/// Between two looks at the files: short for a person who has just saved one, long for the processor.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A report, and how long it took to make. Milliseconds.
#[derive(Debug, serde::Serialize)]
struct Checked<'r> {
    #[serde(flatten)]
    report: &'r CheckReport,
    took_milliseconds: u64,
}

/// Runs until SIGINT or SIGTERM, or until nobody reads what it prints.
pub async fn watch(common: &Common) -> Result<Exit> {
    if plan_files(&common.plans)?.is_empty() {
        return Err(Failure::permanent(format!("no `.plan` file in `{}`", common.plans.display()))
            .help("name the folder of the plans with `-C FOLDER`"));
    }
    let world = Recording { inner: FolderWorld::new(&common.plans), folder: &common.plans, read: RefCell::default() };
    let mut session = Session::default();
    let mut seen: Option<(Vec<String>, Look)> = None;
    let mut end = pin!(interrupted());
    loop {
        let files = plan_files(&common.plans)?;
        let same = seen.as_ref().is_some_and(|(known, look)| *known == files && still(&common.plans, look));
        if !same {
            let started = SystemClock.now();
            let checked = session.check(&world, &files);
            let took = SystemClock.now().as_millis().saturating_sub(started.as_millis());
            let plans = checked.plan_names().iter().map(ToString::to_string).collect();
            let report = CheckReport::new(plans, files.len(), &checked.diagnostics, &checked.sources);
            if common.json {
                if !line(&Checked { report: &report, took_milliseconds: took }) {
                    return Ok(Exit::Done);
                }
            } else {
                print(common, &checked.diagnostics, &checked.sources);
                output::say(format!("{}; took {took} ms", summary(&report)));
            }
            seen = Some((files, world.read.take()));
        }
        tokio::select! {
            biased;
            () = &mut end => return Ok(Exit::Done),
            () = SystemClock.sleep(LOOK_EVERY) => {}
        }
    }
}

/// Modified (seconds and nanoseconds), length and number of a file; `None` where there is none.
type Stamp = Option<(i64, i64, u64, u64)>;
type Look = BTreeMap<String, Stamp>;

fn stamp(folder: &Path, path: &str) -> Stamp {
    let found = std::fs::metadata(folder.join(path)).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.len(), found.ino()))
}

fn still(folder: &Path, look: &Look) -> bool {
    look.iter().all(|(path, known)| stamp(folder, path) == *known)
}

/// One document, one line. False when nobody reads any more.
fn line(value: &impl serde::Serialize) -> bool {
    let text = serde_json::to_string(value).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// The folder, and which of its files a check asked for.
struct Recording<'f> {
    inner: FolderWorld,
    folder: &'f Path,
    read: RefCell<Look>,
}

impl World for Recording<'_> {
    fn read(&self, path: &str) -> Option<String> {
        // Looked at before it is read: what is written meanwhile differs at the next look.
        let stamp = stamp(self.folder, path);
        self.read.borrow_mut().entry(path.to_owned()).or_insert(stamp);
        self.inner.read(path)
    }
    fn folder(&self) -> Option<String> {
        self.inner.folder()
    }
}
