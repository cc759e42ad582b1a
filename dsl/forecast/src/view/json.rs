//! The sheet and its forecast as one JSON object: `muster.runsheet/1`.
//!
//! All fields of the sheet stand at the top level, so that the text is a runsheet that can be run; `hash` and `forecast`
//! stand beside them and are no part of its identity.

use crate::forecast::Forecast;
use serde::Serialize;

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    sheet: &'a muster_runsheet::Runsheet,
    hash: muster_runsheet::Hash,
    forecast: &'a Forecast<'a>,
}

/// Ends without a line break.
pub fn json(forecast: &Forecast<'_>) -> String {
    let shown = Shown { sheet: forecast.sheet, hash: forecast.sheet.hash(), forecast };
    serde_json::to_string_pretty(&shown).unwrap_or_default()
}
