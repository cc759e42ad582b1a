//! `fmt`, `explain`, and how a command that needs the plans reads them: text only, no site and no vault is touched.

use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use muster_control::{Project, plan_files, write_whole};
use muster_diagnostics::{Diagnostic, RenderOptions, SourceMap, explain as page, render};
use muster_ports::{Failure, Result};
use std::path::PathBuf;

/// Columns a diagnostic is folded to.
const WIDTH: usize = 120;

/// Loads the plans and says what is wrong with them. `Err` with the exit code when they have errors.
pub fn load(common: &Common) -> Result<std::result::Result<Project, Exit>> {
    let project = Project::load(&common.plans)?;
    if !project.has_errors() {
        return Ok(Ok(project));
    }
    print(common, &project.checked.diagnostics, &project.checked.sources);
    Ok(Err(Exit::PlansHaveErrors))
}

/// Diagnostics for a person, on stderr.
pub fn print(common: &Common, diagnostics: &[Diagnostic], sources: &SourceMap) {
    let options = RenderOptions { color: output::color_on_stderr(common), width: WIDTH };
    let text = render(diagnostics, sources, options);
    if !text.is_empty() {
        output::say(text.trim_end());
    }
}

pub fn fmt(common: &Common, files: &[PathBuf], check_only: bool) -> Result<Exit> {
    let files: Vec<PathBuf> = if files.is_empty() {
        plan_files(&common.plans)?.into_iter().map(|file| common.plans.join(file)).collect()
    } else {
        files.to_vec()
    };
    let mut exit = Exit::Done;
    for path in files {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::from(error).during(format!("read `{}`", path.display())))?;
        match muster_editor::format(&text) {
            Ok(formatted) if formatted == text => {}
            Ok(_) if check_only => {
                output::data(path.display().to_string());
                exit = Exit::Failed;
            }
            Ok(formatted) => {
                write_whole(&path, formatted.as_bytes())?;
                output::say(format!("formatted {}", path.display()));
            }
            Err(diagnostics) => {
                let mut sources = SourceMap::default();
                // The formatter numbers the one text it got as the first file.
                sources.add(path.display().to_string(), text);
                print(common, &diagnostics, &sources);
                exit = Exit::PlansHaveErrors;
            }
        }
    }
    Ok(exit)
}

pub fn explain(code: &str) -> Result<Exit> {
    let number = code.trim_start_matches(['E', 'e']).parse::<u16>().ok();
    match number.and_then(|number| page(muster_diagnostics::Code(number))) {
        Some(page) => {
            output::data(page);
            Ok(Exit::Done)
        }
        None => Err(Failure::permanent(format!("there is no page for the code `{code}`"))
            .help("codes look like `E0301`; the message they come with names them")),
    }
}
