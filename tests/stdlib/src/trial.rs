//! A folder of plans, checked as the user's command does, and how its findings are read in a test.

use muster_compiler::{Checked, World};
use muster_diagnostics::Diagnostic;
use muster_runsheet::{Direction, Kind, Operation, Runsheet};
use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files below one folder.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl World for Folder {
    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(path)).ok()
    }
    fn folder(&self) -> Option<String> {
        Some(self.0.display().to_string())
    }
}

/// Operations that every plan is compiled for.
const KINDS: [Kind; 6] = [Kind::Test, Kind::Planned, Kind::Unplanned, Kind::Commit, Kind::Reprotect, Kind::Cancel];

/// Some files of a folder, checked.
#[derive(Debug)]
pub struct Trial {
    pub checked: Checked,
}

impl Trial {
    pub fn of(folder: &Path, files: &[&str]) -> Self {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        Self { checked: muster_compiler::check(&Folder(folder.to_owned()), &files) }
    }

    /// Everything the check has said, one line each: `shop.plan:12 E0301 there is no machine`.
    pub fn said(&self) -> Vec<String> {
        self.checked.diagnostics.iter().map(|found| self.line(found)).collect()
    }

    fn line(&self, found: &Diagnostic) -> String {
        let place = self.checked.sources.get(found.primary.span.file).map_or_else(String::new, |file| {
            let before = file.text.get(..found.primary.span.start as usize).unwrap_or_default();
            format!("{}:{}", file.path, before.matches('\n').count() + 1)
        });
        let help = found.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{place} {} {}{help}", found.code, found.message)
    }

    /// Every operation of every plan, in both directions.
    ///
    /// # Errors
    /// What the compiler says about an operation that does not compile.
    pub fn sheets(&self) -> Result<Vec<Runsheet>, String> {
        let mut sheets = Vec::new();
        for plan in &self.checked.plans {
            for kind in KINDS {
                for direction in [Direction::Out, Direction::Back] {
                    let operation = Operation { kind, direction };
                    let sheet = self.checked.compile(plan.name.as_str(), operation, Default::default());
                    sheets.push(sheet.map_err(|found| {
                        let lines: Vec<String> = found.iter().map(|found| self.line(found)).collect();
                        format!("{} {operation}: {}", plan.name, lines.join("; "))
                    })?);
                }
            }
        }
        Ok(sheets)
    }
}
