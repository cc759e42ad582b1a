//! `dry-run`: what an operation would do and how long it would take. Changes nothing.

use super::foresee::{Asked, prepare};
use crate::arguments::{Common, View};
use crate::exit::Exit;
use crate::output;
use muster_control::write_whole;
use muster_forecast::Conditions;
use muster_forecast::view::{self, Looks};
use muster_ports::Result;
use std::path::PathBuf;

pub async fn dry_run(common: &Common, asked: &Asked, file: Option<PathBuf>, shown: View) -> Result<Exit> {
    let prepared = match prepare(common, asked).await? {
        Ok(prepared) => prepared,
        Err(exit) => return Ok(exit),
    };
    let sheet = &prepared.sheet;
    if let Some(file) = file {
        write_whole(&file, sheet.to_json().as_bytes())?;
        output::say(format!("runsheet {} written to {}", sheet.hash().short(), file.display()));
    }
    let plain = Conditions::default();
    let forecast = prepared.forecast(&plain);
    match (shown, common.json) {
        (View::Json, _) | (View::Table, true) => output::data(view::json(&forecast)),
        (View::Table, false) => {
            output::data(view::table(&forecast, Looks { color: output::color_on_stdout(common), beside: None }));
        }
        (View::Mermaid, _) => output::data(view::mermaid(sheet)),
        (View::Dot, _) => output::data(view::dot(sheet)),
        (View::Svg, _) => output::data(view::svg(&forecast)),
    }
    prepared.object(common, &forecast);
    Ok(Exit::Done)
}
