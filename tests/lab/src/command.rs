//! Running the tools of the host, with their own words in the error.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where tools are; some shells of root leave out the `sbin` folders.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:{PATH}").split(':').map(|folder| Path::new(folder).join(program)).find(|file| file.is_file())
}

pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| PathBuf::from(program)));
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:{PATH}")).stdin(Stdio::null());
    command
}

/// Runs a command whose failure is an error; answers with what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        return Err(failed(command, &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let program = PathBuf::from(command.get_program());
    command.output().map_err(Error::file(program))
}

pub(crate) fn failed(command: &Command, output: &Output) -> Error {
    let said = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
    Error::Command {
        command: format!("{command:?}"),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&said).trim().chars().take(2000).collect(),
    }
}
