//! `diff`: what changed between two runsheets, or between one and what the plans would give now.

use super::{foresee, operate, plans};
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use muster_forecast::{SheetDiff, diff as difference};
use muster_ports::{Failure, Result};
use muster_runsheet::{Kind, Runsheet};
use serde::Serialize;
use std::path::Path;

/// Version of the JSON of this command.
const FORMAT: &str = "muster.diff/1";

#[derive(Serialize)]
struct Answer<'a> {
    format: &'static str,
    same: bool,
    #[serde(flatten)]
    diff: &'a SheetDiff,
}

/// Ends with 1 when they differ.
pub async fn diff(common: &Common, before: &Path, after: Option<&Path>) -> Result<Exit> {
    let first = operate::read_sheet(before)?;
    let second = match after {
        Some(file) => operate::read_sheet(file)?,
        None => match now(common, &first)? {
            Ok(sheet) => sheet,
            Err(exit) => return Ok(exit),
        },
    };
    let found = difference(&first, &second, foresee::dice());
    let same = found.is_empty();
    if common.json {
        output::json(&Answer { format: FORMAT, same, diff: &found });
    } else if !same {
        output::data(found.table());
    }
    let short = |sheet: &Runsheet| sheet.hash().short().to_owned();
    let verdict = if same { "do the same" } else { "differ" };
    output::say(format!("sheets {} and {} {verdict}", short(&first), short(&second)));
    Ok(if same { Exit::Done } else { Exit::Failed })
}

/// The same operation of the same plan, compiled from the folder as it is.
fn now(common: &Common, sheet: &Runsheet) -> Result<std::result::Result<Runsheet, Exit>> {
    if sheet.operation.kind == Kind::Cleanup {
        return Err(Failure::permanent("a cleanup is made from the journal of its drill, not from the plans")
            .help("name the other sheet: `muster diff A B`"));
    }
    let project = match plans::load(common)? {
        Ok(project) => project,
        Err(exit) => return Ok(Err(exit)),
    };
    let point = operate::named_point(sheet);
    operate::compile(common, &project, sheet.plan.as_str(), sheet.operation, point, operate::drilled_after(sheet))
}
