//! `muster check`: what is wrong with the plans, for people, for programs and for code hosts; with `--fix`, what is
//! certain is corrected first.
//!
//! Text only: no site and no vault is touched. Files are changed as wholes, and only when every fix of one fits.

use crate::arguments::Common;
use crate::commands::plans::print;
use crate::exit::Exit;
use crate::output;
use muster_compiler::Checked;
use muster_control::{INVENTORY_FILE, Project, write_whole};
use muster_diagnostics::{CheckReport, Fix, LocatedFix, SourceFile, SourceMap, fixes, sarif};
use muster_ports::{Failure, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rounds of fixing: a fix may bring to light what another one can mend. Real texts need two; a chain longer than this
/// is a loop.
const ROUNDS_MAX: usize = 8;

/// How the outcome is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckOptions {
    /// Correct what is certain before.
    pub fix: bool,
    /// SARIF 2.1.0 on stdout.
    pub sarif: bool,
}

/// Files that are named: of these alone something is said, whatever else is read to check them.
#[derive(Debug)]
struct Named {
    folder: PathBuf,
    /// As the project calls them; all when there is none.
    files: BTreeSet<String>,
}

impl Named {
    fn find(plans: &Path, files: &[PathBuf]) -> Result<Self> {
        let real = |path: &Path| {
            path.canonicalize().map_err(|error| Failure::from(error).during(format!("read `{}`", path.display())))
        };
        let Some(first) = files.first() else { return Ok(Self { folder: plans.to_owned(), files: BTreeSet::new() }) };
        let folder = match first.parent() {
            Some(parent) if !is_project(plans) => if_empty(parent).to_owned(),
            _ => plans.to_owned(),
        };
        let root = real(&folder)?;
        let within = |path: &PathBuf| {
            let found = real(path)?;
            let inside = found.strip_prefix(&root).ok().filter(|_| found.is_file());
            let inside = inside.filter(|path| path.extension().is_some_and(|ending| ending == "plan"));
            inside.map(|path| path.to_string_lossy().replace('\\', "/")).ok_or_else(|| {
                Failure::permanent(format!("`{}` is no `.plan` file below `{}`", path.display(), folder.display()))
                    .help("name files of one folder of plans, and that folder with `-C FOLDER`")
            })
        };
        let files = files.iter().map(within).collect::<Result<_>>()?;
        Ok(Self { folder, files })
    }

    fn has(&self, path: &str) -> bool {
        self.files.is_empty() || self.files.contains(path)
    }

    fn only(&self, project: &mut Project) {
        let Checked { sources, diagnostics, .. } = &mut project.checked;
        diagnostics.retain(|found| sources.get(found.primary.span.file).is_none_or(|file| self.has(&file.path)));
        if !self.files.is_empty() {
            project.files.retain(|file| self.has(file));
        }
    }

    fn load(&self) -> Result<Project> {
        let mut project = Project::load(&self.folder)?;
        self.only(&mut project);
        Ok(project)
    }
}

/// It holds a plan or an inventory itself.
fn is_project(folder: &Path) -> bool {
    let is_one = |name: &Path| name == Path::new(INVENTORY_FILE) || name.extension().is_some_and(|end| end == "plan");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| is_one(Path::new(&entry.file_name())))
}

fn if_empty(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

pub fn check(common: &Common, files: &[PathBuf], options: CheckOptions) -> Result<Exit> {
    let named = Named::find(&common.plans, files)?;
    let mut project = named.load()?;
    let mut fixed = Vec::new();
    if options.fix {
        for _ in 0..ROUNDS_MAX {
            let round = fix_once(&project)?;
            if round.is_empty() {
                break;
            }
            fixed.extend(round);
            project = named.load()?;
        }
    }
    let checked = &project.checked;
    let plans = checked.plan_names().iter().map(ToString::to_string).collect();
    let mut report = CheckReport::new(plans, project.files.len(), &checked.diagnostics, &checked.sources);
    report.fixed = fixed;
    if options.sarif {
        let folder = named.folder.to_string_lossy().replace('\\', "/");
        let folder = if named.folder.is_absolute() { String::new() } else { folder };
        output::json(&sarif::sarif(&checked.diagnostics, &checked.sources, &folder, env!("CARGO_PKG_VERSION")));
    } else if common.json {
        output::json(&report);
    } else {
        print(common, &checked.diagnostics, &checked.sources);
        output::say(summary(&report));
    }
    Ok(if project.has_errors() { Exit::PlansHaveErrors } else { Exit::Done })
}

/// `2 plans, 5 files: 0 errors, 1 warning`.
pub fn summary(report: &CheckReport) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    format!(
        "{}, {}: {}, {}",
        count(report.plans.len(), "plan"),
        count(report.files, "file"),
        count(report.errors, "error"),
        count(report.warnings, "warning"),
    )
}

/// Applies the certain fixes of every file, and says each. A file whose fixes meet, or that is not what was read, stays
/// as it is.
fn fix_once(project: &Project) -> Result<Vec<LocatedFix>> {
    let sources = &project.checked.sources;
    let mut done = Vec::new();
    for (id, fixes) in fixes::certain(&project.checked.diagnostics) {
        let Some(file) = sources.get(id) else { continue };
        let path = project.folder.join(&file.path);
        // The standard library has no file here; a text that was not UTF-8 is not the file's text.
        if std::fs::read(&path).ok().as_deref() != Some(file.text.as_bytes()) {
            continue;
        }
        match fixes::apply(&file.text, &fixes) {
            Ok(text) if *text != *file.text => {
                write_whole(&path, text.as_bytes())
                    .map_err(|failure| Failure { help: Some("nothing in this file was changed".into()), ..failure })?;
                for fix in &fixes {
                    output::say(line(fix, file, sources));
                    done.push(LocatedFix::new(fix, sources));
                }
            }
            Ok(_) => {}
            Err(overlap) => {
                let (line, _) = sources.position(id, overlap.second.span.start);
                output::say(format!("{}:{line}: two fixes of one place; this file is left as it is", file.path));
            }
        }
    }
    Ok(done)
}

/// ``fixed shop.plan:12: `strat` -> `start` ``.
fn line(fix: &Fix, file: &SourceFile, sources: &SourceMap) -> String {
    let (line, _) = sources.position(fix.span.file, fix.span.start);
    let was = file.text.get(fix.span.start as usize..fix.span.end as usize).unwrap_or("").trim();
    let now = fix.replacement.trim();
    let what = match (was.is_empty(), now.is_empty()) {
        (true, _) => format!("added `{now}`"),
        (_, true) => format!("removed `{was}`"),
        _ => format!("`{was}` -> `{now}`"),
    };
    format!("fixed {}:{line}: {what}", file.path)
}
