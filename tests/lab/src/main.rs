//! `muster-lab packages` lists what to install; `muster-lab prepare` makes the images and says where they are.

use muster_lab::{Images, LabDir, packages};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let word = std::env::args().nth(1).unwrap_or_default();
    let said = match word.as_str() {
        "packages" => Ok(packages().join("\n")),
        "prepare" => Images::prepare(&LabDir::shared())
            .map(|images| format!("{}\n{}", images.root_disk().display(), images.data_disk().display()))
            .map_err(|error| error.to_string()),
        _ => Err("usage: muster-lab packages | prepare".to_owned()),
    };
    match said {
        Ok(text) => {
            // A reader that has gone away needs no more words.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
