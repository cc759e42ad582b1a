//! `import` and `export`: plans of other systems as `.plan` text, and back. Text only: no site and no vault is touched.

use crate::arguments::{Common, ExportCommand, ImportCommand};
use crate::commands::plans::load;
use crate::exit::Exit;
use crate::output;
use muster_control::write_whole;
use muster_import::{Members, Note, Refusal, Source, asr, export_asr, srm};
use muster_ports::{Failure, Result};
use serde::Serialize;
use std::path::Path;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    format: &'static str,
    /// The plan, or the template.
    text: &'a str,
    notes: &'a [Note],
}

pub fn import(common: &Common, command: ImportCommand) -> Result<Exit> {
    let (files, to, read): (_, _, fn(&[Source]) -> _) = match command {
        ImportCommand::Asr { files, output } => (files, output, asr),
        ImportCommand::Srm { files, output } => (files, output, srm),
    };
    let sources: Vec<Source> = files.iter().map(|file| source(file)).collect::<Result<_>>()?;
    let imported = read(&sources).map_err(refused)?;
    show(common, "muster.import/1", &imported.text, &imported.notes, to.as_deref())
}

pub fn export(common: &Common, command: ExportCommand) -> Result<Exit> {
    let ExportCommand::Asr { plan, output: to } = command;
    let project = match load(common)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    let machines = |group: &muster_runsheet::GroupSheet| group.machines.iter().map(ToString::to_string).collect();
    let groups = project.checked.estate.groups.iter();
    let members: Members = groups.map(|(name, group)| (name.to_string(), machines(group))).collect();
    let sources = project.checked.sources.iter().filter(|(_, file)| file.path.ends_with(".plan"));
    let exported = sources
        .map(|(_, file)| Source::new(file.path.clone(), file.text.to_string()))
        .find_map(|source| export_asr(&source, Some(&plan), &members).ok());
    let Some(exported) = exported else {
        let names: Vec<String> = project.checked.plan_names().iter().map(ToString::to_string).collect();
        return Err(
            Failure::permanent(format!("there is no plan `{plan}`")).help(format!("plans are {}", names.join(", ")))
        );
    };
    show(common, "muster.export/1", &exported.text, &exported.notes, to.as_deref())
}

fn source(path: &Path) -> Result<Source> {
    let bytes =
        std::fs::read(path).map_err(|error| Failure::from(error).during(format!("read `{}`", path.display())))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::permanent(format!("`{}` is not UTF-8: byte {at} is none of its characters", path.display()))
            .help("save it as UTF-8; tools of Windows may have written UTF-16")
    })?;
    Ok(Source::new(path.display().to_string(), text))
}

fn refused(refusal: Refusal) -> Failure {
    Failure::permanent(refusal.to_string()).help(refusal.help)
}

/// The text to stdout or a file, the notes to stderr.
fn show(common: &Common, format: &'static str, text: &str, notes: &[Note], to: Option<&Path>) -> Result<Exit> {
    if let Some(path) = to {
        write_whole(path, text.as_bytes())?;
        output::say(format!("written to {}", path.display()));
    }
    if common.json {
        output::json(&Report { format, text, notes });
        return Ok(Exit::Done);
    }
    if to.is_none() {
        output::data(text);
    }
    if !notes.is_empty() {
        output::say(format!("\nwhat could not be said, or had to be assumed ({}):", notes.len()));
    }
    for note in notes {
        let place: Vec<&str> =
            [note.file.as_str(), note.path.as_str()].into_iter().filter(|part| !part.is_empty()).collect();
        output::say(format!("  {}\n    {}", place.join(" "), note.text));
    }
    Ok(Exit::Done)
}
