//! Checks a hook's text with the very settings it will run under.

use crate::sandbox;
use crate::script::Line;
use muster_runsheet::HookSheet;
use rhai::Map;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookProblem {
    /// From 1, within the text of the hook.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
}

/// Compiles the text and looks for the function its contract promises. Host calls are not matched against `needs` here:
/// a script's words are known only when it runs.
pub fn check(sheet: &HookSheet) -> Vec<HookProblem> {
    let engine = sandbox::engine(&Line::closed(), Map::new());
    sandbox::compile(&engine, sheet).err().into_iter().collect()
}
