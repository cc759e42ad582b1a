//! `dry-run`: what an operation would do and how long it would take; `show`: the same of a reviewed sheet. They change
//! nothing.

use super::foresee::{Asked, Prepared, of_file, prepare};
use super::{open, operate};
use crate::arguments::{Common, View};
use crate::exit::Exit;
use crate::output;
use muster_control::{Request, write_whole};
use muster_forecast::Conditions;
use muster_forecast::view::{self, Looks};
use muster_ports::{PlanName, Result};
use muster_runsheet::{Runsheet, seal};
use std::path::{Path, PathBuf};

pub async fn dry_run(common: &Common, asked: &Asked, file: Option<PathBuf>, shown: View) -> Result<Exit> {
    let prepared = match prepare(common, asked).await? {
        Ok(prepared) => prepared,
        Err(exit) => return Ok(exit),
    };
    let sheet = &prepared.sheet;
    if let Some(file) = file {
        write_whole(&file, seal(sheet).as_bytes())?;
        output::say(format!("runsheet {} written to {}", sheet.hash().short(), file.display()));
    }
    print(common, &prepared, shown, false)?;
    Ok(Exit::Done)
}

/// What landing the plan's failover again would do. Asked is a reader: whoever holds the vault goes on undisturbed.
pub async fn repoint(common: &Common, plan: String, point: String) -> Result<Exit> {
    let access = open::reading(common, None).await?;
    let sheet: Result<Runsheet> = access.ask(&Request::RepointSheet { plan: PlanName::new(plan), point }, common).await;
    access.close().await;
    print(common, &of_file(common, sheet?).await, View::Table, false)?;
    Ok(Exit::Done)
}

/// A reviewed sheet as it was written, with what it takes for granted. What is known of it comes from the plans and the
/// vault, where they are there.
pub async fn show(common: &Common, file: &Path, shown: View) -> Result<Exit> {
    let prepared = of_file(common, operate::read_sheet(file)?).await;
    print(common, &prepared, shown, true)?;
    Ok(Exit::Done)
}

fn print(common: &Common, prepared: &Prepared, shown: View, reviewed: bool) -> Result<()> {
    let sheet = &prepared.sheet;
    let plain = Conditions::default();
    let mut forecast = prepared.forecast(&plain);
    if matches!(shown, View::Json | View::Table) {
        forecast.effects = Some(muster_rehearsal::effects(sheet)?);
    }
    match (shown, common.json) {
        (View::Json, _) | (View::Table, true) => output::data(view::json(&forecast)),
        (View::Table, false) => {
            let mut text = view::table(&forecast, Looks { color: output::color_on_stdout(common), beside: None });
            if reviewed {
                text.push_str(&format!("\n{}", view::assumptions(sheet)));
            }
            output::data(text);
        }
        (View::Mermaid, _) => output::data(view::mermaid(sheet)),
        (View::Dot, _) => output::data(view::dot(sheet)),
        (View::Svg, _) => output::data(view::svg(&forecast)),
    }
    prepared.object(common, &forecast);
    Ok(())
}
